"""Writer of declared FITS products.

Files are complete or absent, the same content gives the same bytes, and every HDU has its sums.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import CannotCreateError
from schemas.products import BITPIX, PER_RADIUS, STORED, Column, Keyword, Structure, soc_structure
from schemas.terms import TERMS
from schemas.ucds import ucd_of
from tasks.files import disk
from tasks.files.cards import card, close_header, history_cards, set_cards, sum_header
from tasks.files.hdu import Hdu, Value
from tasks.files.reader import scan
from tasks.files.structure import BLOCK
from tasks.files.sums import folded, ones_complement_sum

# Values that publication fills in; until then neutral, so that a product that is computed again has
# the same bytes.
PUBLICATION: dict[str, Value] = {
    "DATE": "1970-01-01T00:00:00",
    "STAMP": "N/A",
    "PIPE_VER": "N/A",
    "ARCH_REV": 0,
    "PROC_NUM": 0,
    "ORIGIN": "SOC",  # the default of the definition
    "BASELINE": "N/A",
}

Card = tuple[str, Value, str]  # keyword, value, comment

_COMMENTS = {"DATE": "time of publication, UTC", "STAMP": "program and version"}

BASELINE_IS = "digest of software, references, settings"

# levels of the products that are published with a baseline
_PUBLISHED = ("L1", "L2", "QL")

# What the standard of time in FITS says of a column: scale, reference position. The other columns
# hold days since other zero points than that of TIME (JDREF), so that they are mere numbers to a
# reader of times; TIMESYS and their meanings give their scales.
_TIMES = {"TIME": ("TDB", "BARYCENTER"), "UTC_TIME": ("UTC", "")}

_CONTROL = bytes(c if 32 <= c <= 126 else ord("?") for c in range(256))


@dataclass
class NewHdu:
    """An HDU to write: its declaration, keyword values, and data (image, or columns by name)."""

    declared: Structure
    keywords: Mapping[str, Value] = field(default_factory=dict)
    pixels: npt.NDArray[Any] | None = None
    columns: Mapping[str, npt.NDArray[Any]] | None = None
    shape: tuple[int, ...] = ()  # of an image whose pixels are streamed
    primary: tuple[Card, ...] = ()  # of the primary HDU, if this HDU comes first
    history: tuple[str, ...] = ()  # lines for HISTORY cards

    def __post_init__(self) -> None:
        """Give the columns with one element per radius of the visit their size."""
        wide = [c.name for c in self.declared.columns if c.size == PER_RADIUS]
        shapes = [np.shape(self.columns[n]) for n in wide] if self.columns is not None else []
        if shapes and (any(len(s) != 2 for s in shapes) or len({s[1] for s in shapes}) > 1):
            raise ValueError(
                f"{self.declared.extname}: columns have the shapes {sorted(set(shapes))}, expected "
                f"(rows, radii)"
            )
        self.declared = self.declared.for_radii(shapes[0][1]) if shapes else self.declared


def _comment(keyword: Keyword) -> str:
    return f"[{keyword.unit}] {keyword.meaning}" if keyword.unit else keyword.meaning


def _typed(keyword: Keyword, value: Value) -> Value:
    """Return the value as the declared type; ValueError if it cannot be of that type."""
    if keyword.type in ("string", "utc"):
        return str(value)
    if keyword.type == "boolean" and value in (False, True):
        return bool(value)
    if (
        keyword.type in ("real", "mjd", "bjd")
        and not isinstance(value, str)
        and math.isfinite(value)
    ):
        return float(value)
    if (
        keyword.type in ("integer", "unsigned", "obt")
        and not isinstance(value, str)
        and float(value).is_integer()
    ):
        return int(value)
    raise ValueError(f"keyword {keyword.name} is {value!r}, expected type {keyword.type}")


def _table_cards(s: Structure, rows: int) -> list[Card]:
    width = sum(c.stored.itemsize for c in s.columns)
    ours = s.level in _PUBLISHED or s.extname in TERMS
    cards: list[Card] = [
        ("XTENSION", "BINTABLE", "binary table"),
        ("BITPIX", 8, "bytes"),
        ("NAXIS", 2, "axes"),
        ("NAXIS1", width, "bytes of a row"),
        ("NAXIS2", rows, "rows"),
        ("PCOUNT", 0, "no heap"),
        ("GCOUNT", 1, "one group"),
        ("TFIELDS", len(s.columns), "columns"),
    ]
    for i, c in enumerate(s.columns, 1):
        cards += [(f"TTYPE{i}", c.name, c.meaning), (f"TFORM{i}", c.tform, "")]
        cards += [(f"TUNIT{i}", c.unit, "")] if c.unit else []
        # the comment of TTYPE may be cut; TOPCAT shows TCOMM
        cards += [(f"TCOMM{i}", c.meaning, "")] if c.meaning else []
        cards += [(f"TUCD{i}", ucd, "")] if ours and (ucd := ucd_of(c)) else []
        scale, position = _TIMES.get(c.name, ("", "")) if ours else ("", "")
        cards += [(f"TCTYP{i}", scale, "time scale")] if scale else []
        cards += [(f"TRPOS{i}", position, "where the time is that of a clock")] if position else []
        cards += [(f"TZERO{i}", c.tzero, ""), (f"TSCAL{i}", 1, "")] if c.tzero else []
        cards += [(f"TNULL{i}", c.null - c.tzero, "")] if c.null is not None else []
    if ours and any(c.type in ("mjd", "utc") for c in s.columns):
        cards += [("TREFPOS", "TOPOCENTER", "times are those at the satellite")]
        if "TIMESYS" not in s.keywords:
            cards.append(("TIMESYS", "TT", "time scale of MJD values"))
    return cards


def _image_cards(hdu: NewHdu) -> list[Card]:
    s, shape = hdu.declared, _image_shape(hdu)
    cards: list[Card] = [
        ("XTENSION", "IMAGE", "image"),
        ("BITPIX", BITPIX[s.image], s.image),
        ("NAXIS", len(shape), "axes"),
    ]
    cards += [(f"NAXIS{i}", n, "") for i, n in enumerate(reversed(shape), 1)]
    cards += [("PCOUNT", 0, "no heap"), ("GCOUNT", 1, "one group")]
    if zero := STORED[s.image][2]:
        cards += [("BZERO", zero, "makes the integers unsigned"), ("BSCALE", 1, "")]
    return cards


def _image_shape(hdu: NewHdu) -> tuple[int, ...]:
    shape = hdu.shape or (hdu.pixels.shape if hdu.pixels is not None else ())
    axes = hdu.declared.axes[::-1]
    if len(shape) != len(axes) or any(n != m and m for n, m in zip(shape, axes, strict=True)):
        raise ValueError(
            f"{hdu.declared.extname}: image has the shape {shape}, expected {axes}, 0 for any"
        )
    return shape


def compose_header(hdu: NewHdu, rows: int) -> bytes:
    """Return the header of `hdu` as bytes, without values of CHECKSUM and DATASUM."""
    s = hdu.declared
    structural = _table_cards(s, rows) if s.is_table else _image_cards(hdu)
    cards = [card(*c) for c in structural]
    cards += [card(name, PUBLICATION[name], comment) for name, comment in _COMMENTS.items()]
    if s.level in _PUBLISHED:
        cards.append(card("BASELINE", PUBLICATION["BASELINE"], BASELINE_IS))
    cards += [
        card("SVN_REV", "N/A", "revision of the source"),
        card("EXTNAME", s.extname, "type of this HDU"),
    ]
    if len(s.extname) <= 64:
        cards.append(card("SCHEMA", f"{s.extname}.fsd"))
    if unknown := sorted(set(hdu.keywords) - set(s.keywords)):
        raise KeyError(f"{s.extname} declares no keyword {unknown[0]}")
    for keyword in s.keywords.values():
        value = PUBLICATION.get(keyword.name, hdu.keywords.get(keyword.name, keyword.default))
        if value is None:
            raise KeyError(f"{s.extname}: no value for keyword {keyword.name}")
        cards.append(card(keyword.name, _typed(keyword, value), _comment(keyword)))
    if s.image and s.null is not None:
        cards.append(card("BLANK", s.null - STORED[s.image][2], "stored value of no data"))
    return close_header([*cards, *(part for line in hdu.history for part in history_cards(line))])


def table_bytes(declared: Structure, columns: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Return the rows of a table as stored in the file."""
    dtype = np.dtype([(c.name, c.stored) for c in declared.columns])
    rows = len(next(iter(columns.values())))
    table = np.zeros(rows, dtype)
    for c in declared.columns:
        values = np.asarray(columns[c.name])
        if len(values) != rows:
            raise ValueError(
                f"{declared.extname}: column {c.name} has {len(values)} rows, the first has {rows}"
            )
        table[c.name] = _to_stored(values, c)
    return table.tobytes()


def _to_stored(values: npt.NDArray[Any], c: Column) -> npt.NDArray[Any]:
    if c.letter == "A":
        text = (
            values
            if values.dtype.kind == "S"
            else np.char.encode(values.astype(str), "ascii", "replace")
        )
        return np.array([t.translate(_CONTROL) for t in text.tolist()], text.dtype)
    if c.letter == "L":
        return np.where(values, b"T", b"F")
    if c.letter in "BIJK":
        return _integers(
            values, c.stored.base, c.tzero, f"column {c.name}: values do not fit {c.type}"
        )
    return values


def _integers(
    values: npt.NDArray[Any], stored: np.dtype[Any], zero: int, fault: str
) -> npt.NDArray[Any]:
    """Return integers as stored, `zero` subtracted; ValueError with `fault` if some do not fit."""
    if values.dtype.kind not in "biu" and not (
        np.isfinite(values).all() and (values == np.floor(values)).all()
    ):
        raise ValueError(fault)
    info = np.iinfo(stored)
    if values.size and not (
        info.min + zero <= int(values.min()) and int(values.max()) <= info.max + zero
    ):
        raise ValueError(fault)
    if zero == 1 << 63:
        return (values.astype(np.uint64) ^ np.uint64(zero)).view(np.int64).astype(stored)
    return (values.astype(np.int64) - zero).astype(stored)


def _pixel_bytes(s: Structure, pixels: npt.NDArray[Any]) -> bytes:
    _, name, zero = STORED[s.image]
    stored = np.dtype(name)
    if stored.kind != "f":
        pixels = _integers(pixels, stored, zero, f"{s.extname}: pixels do not fit {s.image}")
    return np.ascontiguousarray(pixels, stored).tobytes()


class FitsWriter:
    """Writes a product HDU by HDU under a temporary name, until `finish` gives it its own.

    Pixels of a cube may be streamed: `begin_cube`, `write_block` with the bytes of some planes and
    their sum, `end_cube`.
    """

    def __init__(self, path: Path, primary: Iterable[Card] = ()) -> None:
        self.path = path
        self._fd, self.partial = disk.create_partial(path)
        self._end = 0
        self._header = b""  # of the cube that is being streamed
        self._size = 0
        self._written = 0
        self._sum = 0
        try:
            needed = [
                ("SIMPLE", True, "FITS"),
                ("BITPIX", 16, ""),
                ("NAXIS", 0, "no data"),
                ("EXTEND", True, ""),
            ]
            self._append(close_header([card(*c) for c in (*needed, *primary)]), b"")
        except BaseException:
            self.abandon()
            raise

    def __enter__(self) -> FitsWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.finish()
        else:
            self.abandon()

    def _append(self, header: bytes, data: bytes) -> None:
        padded = data + bytes(-len(data) % BLOCK)
        disk.write_at(
            self._fd, self._end, sum_header(header, ones_complement_sum(padded)) + padded, self.path
        )
        self._end += len(header) + len(padded)

    def begin_cube(self, hdu: NewHdu) -> None:
        """Start an image HDU of `hdu.shape` whose planes follow in blocks."""
        self._refuse_open_cube()
        self._header = compose_header(hdu, 0)
        self._size = math.prod(_image_shape(hdu)) * abs(BITPIX[hdu.declared.image]) // 8
        self._written = 0
        self._sum = 0

    def write_block(self, data: bytes | memoryview, data_sum: int | None = None) -> None:
        """Append bytes of the image; `data_sum` is their ones'-complement sum, if known."""
        place = self._end + len(self._header) + self._written
        disk.write_at(self._fd, place, data, self.path)
        phase = self._written % 4
        if data_sum is None or phase:
            whole = bytes(phase) + bytes(data) if phase else data
            tail = bytes(-memoryview(whole).nbytes % 4)
            data_sum = ones_complement_sum(bytes(whole) + tail if tail else whole)
        self._written += memoryview(data).nbytes
        self._sum = folded(self._sum + data_sum)

    def end_cube(self) -> None:
        """Close the HDU: padding, DATASUM and CHECKSUM."""
        if self._written != self._size:
            raise ValueError(
                f"{self.path}: a cube has {self._written} bytes, expected {self._size}"
            )
        start = self._end + len(self._header)
        padding = bytes(-self._written % BLOCK)
        disk.write_at(self._fd, start + self._written, padding, self.path)
        disk.write_at(self._fd, self._end, sum_header(self._header, self._sum), self.path)
        self._end = start + self._written + len(padding)
        self._header = b""

    def write(self, hdu: NewHdu) -> None:
        """Write a whole HDU."""
        self._refuse_open_cube()
        s = hdu.declared
        if s.is_table:
            if hdu.columns is None:
                raise ValueError(f"{s.extname}: a table needs columns")
            data = table_bytes(s, hdu.columns)
            rows = len(next(iter(hdu.columns.values())))
        else:
            if hdu.pixels is None:
                raise ValueError(f"{s.extname}: an image needs pixels")
            data, rows = _pixel_bytes(s, hdu.pixels), 0
        self._append(compose_header(hdu, rows), data)

    def _refuse_open_cube(self) -> None:
        if self._header:
            raise ValueError(f"{self.path}: a cube was not ended")

    def finish(self) -> None:
        """Force the file to the disk and give it its name."""
        try:
            self._refuse_open_cube()
            fd, self._fd = self._fd, -1
            disk.sync_and_close(fd, self.path)
            disk.put_in_place(self.partial, self.path)
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Remove the incomplete file."""
        if self._fd >= 0:
            disk.close(self._fd)
            self._fd = -1
        disk.discard(self.partial)


def write_fits(path: Path, hdus: Iterable[NewHdu]) -> None:
    """Write a product of complete HDUs, atomically."""
    hdus = list(hdus)
    with FitsWriter(path, hdus[0].primary if hdus else ()) as writer:
        for hdu in hdus:
            writer.write(hdu)


def restamp(source: Path, target: Path, values: Mapping[str, Value]) -> None:
    """Copy a product with some header values replaced in every HDU, and new CHECKSUMs.

    The copy has the bytes that the writer would have given the product with these values, so that
    restoring the old values restores the old bytes.
    """
    if disk.exists(target):
        raise CannotCreateError(f"{target}: already exists")
    fd, partial = disk.create_partial(target)
    try:
        with disk.written(fd, target), scan(source) as file:
            disk.copy_into(source, fd, target)
            for hdu in file.hdus[1:]:
                disk.write_at(fd, hdu.header_start, _restamped(hdu, values), target)
        disk.put_in_place(partial, target)
    except BaseException:
        disk.discard(partial)
        raise


def _restamped(hdu: Hdu, values: Mapping[str, Value]) -> bytes:
    """Return the header of `hdu` with some values replaced, and the sums to match."""
    header = bytearray(hdu.data_start - hdu.header_start)
    hdu.file.read_at(hdu.header_start, memoryview(header))
    data_sum = str(hdu.header.get("DATASUM", ""))
    if not data_sum.isdecimal() or int(data_sum) >> 32 or "CHECKSUM" not in hdu.header:
        raise hdu.refuse("has no CHECKSUM or no DATASUM")
    declared = {k.name: _comment(k) for k in _keywords(hdu.extname)}
    comments = {**_COMMENTS, "BASELINE": BASELINE_IS, **declared}
    return sum_header(set_cards(bytes(header), values, comments), int(data_sum))


def _keywords(extname: str) -> Iterable[Keyword]:
    try:
        return structure_of(extname).keywords.values()
    except KeyError:
        return ()


def structure_of(extname: str) -> Structure:
    """Return the declaration of an HDU, from the SOC or from our terms."""
    return TERMS[extname] if extname in TERMS else soc_structure(extname)
