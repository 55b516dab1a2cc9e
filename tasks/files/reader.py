"""Strict reader of declared FITS products: the gate through which every file passes.

Reading has two levels. *Damage* (truncation, a wrong sum, an impossible shape, a needed HDU, column
or keyword missing or of the wrong type) raises BadInputError. *Deviation* from the definition
(absent checksum, other EXT_VER, missing TUNIT) is accepted and listed in `FitsFile.deviations`.
Nothing is allocated before the sizes in the headers were checked against the length of the file.

FITS standard 4.0 (2018): sections 3 (organisation), 4.4.2.7 and appendix J (CHECKSUM, DATASUM), 7.3
(binary tables).
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from schemas.arrays import FloatArray
from schemas.errors import BadInputError, BusyError
from schemas.inputs import Input, Use
from schemas.products import BITPIX, STORED, Column, Keyword, Structure, soc_extnames, soc_structure
from tasks.files import disk
from tasks.files.header import Cards, parse_cards
from tasks.files.units import unit_change


@contextmanager
def read_from(path: Path | str, table: str) -> Iterator[None]:
    """Let what a kernel says of values that cannot be end as an error that names their file."""
    try:
        yield
    except ValueError as error:
        raise BadInputError(f"{path}: {table}: {error}") from error


BLOCK = 2880

MAX_HEADER = 256 * BLOCK  # 0.7 MB; real headers need 8 to 20 kB

MAX_HDUS = 64

MAX_ROW = 1 << 24  # bytes; real rows need some hundred

Value = str | int | float | bool


_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"PK\x03": "a zip archive",
    b"\x89PNG": "a PNG picture",
    b"%PDF": "a PDF",
    b"<": "HTML or XML",
}

_PRINTABLE = bytes(range(32, 127))

_TFORM = re.compile(r"(\d*)([LXBIJKAEDCMPQ])")

_WIDTH = {"L": 1, "B": 1, "I": 2, "J": 4, "K": 8, "A": 1, "E": 4, "D": 8, "C": 8, "M": 16}

_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z?")


def ones_complement_sum(data: bytes | memoryview, start: int = 0) -> int:
    """Return the 32-bit ones'-complement sum of big-endian words (FITS 4.0, appendix J). Length a
    multiple of 4.
    """
    return folded(start + int(np.frombuffer(data, dtype=">u4").sum(dtype=np.uint64)))


def folded(total: int) -> int:
    """Return a sum of words with its carries added at the low end, as ones'-complement arithmetic
    wants.
    """
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


@dataclass
class Hdu:
    """One HDU of a file that passed the gate. `declared` is its definition, None for an HDU that is
    not used.
    """

    file: FitsFile
    index: int
    header: Cards
    header_start: int
    data_start: int
    data_size: int
    declared: Structure | None = None
    unreadable: frozenset[str] = (
        frozenset()
    )  # keywords whose cards can't be parsed; they are no longer in `header`
    unused: set[str] = field(default_factory=set)  # columns that deviate so that they can't be read

    @property
    def extname(self) -> str:
        """EXTNAME, or PRIMARY."""
        return "PRIMARY" if self.index == 0 else _text(self.header, "EXTNAME")

    @property
    def where(self) -> str:
        """How messages name this HDU."""
        return f"{self.file.path}: HDU {self.index} {self.extname or '(no EXTNAME)'}"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in numpy order; for a table (rows, bytes of a row)."""
        return tuple(int(self.header[f"NAXIS{i}"]) for i in range(int(self.header["NAXIS"]), 0, -1))

    @property
    def rows(self) -> int:
        """Number of rows of a table, or of planes of a cube."""
        return self.shape[0]

    def refuse(self, text: str) -> BadInputError:
        """Return the error that says `text` of this HDU."""
        return BadInputError(f"{self.where}: {text}")

    def deviates(self, text: str) -> None:
        """Note that this HDU is not as it is defined."""
        self.file.deviations.append(f"HDU {self.index} {self.extname}: {text}")

    def keyword(self, name: str) -> Value:
        """Return the value of a declared keyword, checked for its type."""
        if self.declared is None or name not in self.declared.keywords:
            raise KeyError(f"{self.extname} declares no keyword {name}")
        return self._value(self.declared.keywords[name])

    def _value(self, keyword: Keyword) -> Value:
        name = keyword.name
        if name in self.unreadable:
            raise self.refuse(f"keyword {name} cannot be read")
        if name not in self.header:
            raise self.refuse(f"keyword {name} is missing")
        if self.header.times[name] > 1:
            raise self.refuse(f"keyword {name} stands there {self.header.times[name]} times")
        value = self.header[name]
        wanted: dict[str, tuple[type, ...]] = {"string": (str,), "utc": (str,), "boolean": (bool,)}
        numbers = (int,) if keyword.type in ("integer", "unsigned", "obt") else (int, float)
        allowed = wanted.get(keyword.type, numbers)
        right: bool = isinstance(value, allowed) and (keyword.type == "boolean") == isinstance(
            value, bool
        )
        if not right:
            shown = "empty" if value is None else repr(value)
            raise self.refuse(f"keyword {name} is {shown}, which is not of type {keyword.type}")
        if isinstance(value, float) and not math.isfinite(value):
            raise self.refuse(f"keyword {name} is {value}, which is not a finite number")
        if keyword.type == "utc" and not _UTC.fullmatch(value):
            raise self.refuse(f"keyword {name} is {value!r}, wanted a time yyyy-mm-ddThh:mm:ss")
        return value  # type: ignore[no-any-return]

    def text(self, name: str) -> str:
        """Return a string keyword."""
        return str(self.keyword(name))

    def number(self, name: str) -> float:
        """Return a numeric keyword as float."""
        return float(self.keyword(name))

    def integer(self, name: str) -> int:
        """Return an integer keyword."""
        return int(self.keyword(name))

    def read(self, start: int = 0, count: int | None = None) -> bytearray:
        """Return `count` bytes of the data from byte `start` on."""
        size = self.data_size - start if count is None else count
        try:
            buffer = bytearray(size)
        except MemoryError as error:
            raise BusyError(f"{self.where}: needs {size / 1e6:.0f} MB of memory") from error
        self.file.read_at(self.data_start + start, memoryview(buffer))
        return buffer

    def stored(self, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Return the image as it lies in the file, or planes `start` to `stop` of a cube:
        big-endian, offset not added.
        """
        shape = self.shape
        dtype = np.dtype(
            {8: "u1", 16: ">i2", 32: ">i4", -32: ">f4", -64: ">f8"}[int(self.header["BITPIX"])]
        )
        plane = math.prod(shape[1:]) * dtype.itemsize
        stop = shape[0] if stop is None else stop
        raw = self.read(start * plane, (stop - start) * plane)
        return np.frombuffer(raw, dtype).reshape(stop - start, *shape[1:])

    def image(self, start: int = 0, stop: int | None = None) -> FloatArray:
        """Return the image, or planes of a cube, as float64 with the offset added."""
        return self.stored(start, stop).astype(np.float64) + float(self.header.get("BZERO", 0.0))

    def finite_image(self, start: int = 0, stop: int | None = None) -> FloatArray:
        """Return the image like `image`; NaN or infinite pixels are refused and counted."""
        pixels = self.image(start, stop)
        if bad := int(np.count_nonzero(~np.isfinite(pixels))):
            raise self.refuse(f"{bad} pixels are not finite numbers")
        return pixels

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a declared column in native byte order: strings and UTC as str, integers as
        declared.

        Values that the file holds in another unit come in the declared one, as float64.
        """
        if self.declared is None:
            raise KeyError(f"{self.extname} is not declared")
        declared = self.declared.column(name)
        number = self.present().get(name)
        if number is None:
            raise self.refuse(
                f"column {name} {'cannot be used' if name in self.unused else 'is missing'}"
            )
        widths = [_width(self.header, i) for i in range(1, number + 1)]
        rows, row = self.shape
        table = np.frombuffer(self._table_bytes(), np.uint8).reshape(rows, row)
        values = _native(table[:, sum(widths[:-1]) : sum(widths)], declared)
        if (change := self.file.unit_changes.get((self.extname, name), (1.0, 0.0))) != (1.0, 0.0):
            values = values.astype(np.float64) * change[0] + change[1]
        return values

    def finite_column(self, name: str) -> FloatArray:
        """Return a numeric column as float64; NaN or infinite cells are refused and counted."""
        values = self.column(name).astype(np.float64)
        if bad := int(np.count_nonzero(~np.isfinite(values))):
            raise self.refuse(f"column {name}: {bad} values are not finite numbers")
        return values

    def _table_bytes(self) -> bytearray:
        if self.extname not in self.file.tables:
            self.file.tables[self.extname] = self.read()
        return self.file.tables[self.extname]

    def present(self) -> dict[str, int]:
        """Return the columns that the table has and that can be read: name and number."""
        return {name: i for i, name in enumerate(_names(self.header), 1) if name not in self.unused}


@dataclass
class FitsFile:
    """An open FITS file whose structure was checked."""

    path: Path
    hdus: list[Hdu] = field(default_factory=list)
    deviations: list[str] = field(default_factory=list)
    tables: dict[str, bytearray] = field(default_factory=dict)
    unit_changes: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    _fd: int = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            disk.close(self._fd)
            self._fd = -1

    def __getitem__(self, extname: str) -> Hdu:
        for hdu in self.hdus[1:]:
            if hdu.extname == extname:
                return hdu
        raise BadInputError(f"{self.path}: HDU {extname} is missing")

    def __contains__(self, extname: str) -> bool:
        return any(hdu.extname == extname for hdu in self.hdus[1:])

    def read_at(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from byte `offset` of the file."""
        disk.read_at(self._fd, offset, buffer, self.path)

    @property
    def extname(self) -> str:
        """The type of the file: EXTNAME of HDU 1."""
        return self.hdus[1].extname


def _text(header: Cards, name: str) -> str:
    value = header.get(name)
    return "" if value is None else str(value).strip()


def _names(header: Cards) -> list[str]:
    return [_text(header, f"TTYPE{i}") for i in range(1, int(header["TFIELDS"]) + 1)]


def _tform(header: Cards, i: int) -> tuple[int, str]:
    match = _TFORM.match(_text(header, f"TFORM{i}"))
    return (int(match[1] or 1), match[2]) if match else (0, "?")


def _width(header: Cards, i: int) -> int:
    repeat, letter = _tform(header, i)
    return repeat * _WIDTH[letter]


def _native(cells: npt.NDArray[np.uint8], declared: Column) -> npt.NDArray[Any]:
    """Return the values of one column from the bytes of its cells, shape (rows, bytes of a
    cell).
    """
    rows, width = cells.shape
    cells = np.ascontiguousarray(cells).reshape(-1)
    if declared.letter == "A":
        raw = cells.view(f"S{width}").tolist()
        return np.array(
            [c.split(b"\0")[0].decode("ascii", "replace").strip() for c in raw], dtype=str
        )
    shape = (rows, declared.size) if declared.size > 1 else (rows,)
    if declared.letter == "L":
        return np.equal(cells, ord("T")).reshape(shape)
    base = np.dtype(STORED[declared.type][1])
    values: npt.NDArray[Any] = cells.view(base).reshape(shape).astype(base.newbyteorder("="))
    if declared.tzero > 0:
        unsigned = np.dtype(f"u{base.itemsize}")
        values = np.bitwise_xor(values.view(unsigned), np.array(declared.tzero, unsigned))
    elif declared.tzero < 0:
        values = np.add(values, declared.tzero, dtype=np.int16)
    return values


def scan(path: Path) -> FitsFile:
    """Open `path` and read its headers; sizes are checked against the file's length before anything
    is allocated.
    """
    fd = disk.open_to_read(path)
    file = FitsFile(path, _fd=fd)
    try:
        length = os.fstat(fd).st_size
        if length == 0:
            raise BadInputError(f"{path}: is empty (0 bytes)")
        offset = 0
        while offset < length:
            if len(file.hdus) >= MAX_HDUS:
                raise BadInputError(f"{path}: more than {MAX_HDUS} HDUs")
            offset = _scan_hdu(file, offset, length)
        if len(file.hdus) < 2:
            raise BadInputError(f"{path}: has no extension")
        return file
    except BaseException:
        file.close()
        raise


def _scan_hdu(file: FitsFile, offset: int, length: int) -> int:
    index = len(file.hdus)
    text = _header_text(file, offset, length)
    header, unreadable = parse_cards(text.decode("ascii"), f"{file.path}: HDU {index}")
    hdu = Hdu(file, index, header, offset, offset + len(text), 0, unreadable=unreadable)
    hdu.data_size = _data_size(hdu)
    if index == 0 and hdu.data_size:
        raise hdu.refuse("holds data, it must be empty")
    end = hdu.data_start + -(-hdu.data_size // BLOCK) * BLOCK
    if end > length:
        raise hdu.refuse(f"truncated, {end - length} bytes are missing")
    for name in sorted(unreadable):
        hdu.deviates(f"keyword {name} cannot be read")
    file.hdus.append(hdu)
    return end


def _header_text(file: FitsFile, offset: int, length: int) -> bytes:
    where = f"{file.path}: HDU {len(file.hdus)}"
    text = bytearray()
    while True:
        start = offset + len(text)
        block = bytearray(min(BLOCK, length - start))
        file.read_at(start, memoryview(block))
        if not text:
            _check_start(file, block, length - offset)
        if odd := block.translate(None, _PRINTABLE):
            raise BadInputError(
                f"{where}: byte {start + block.index(odd[0])} of the header is not printable ASCII"
            )
        if len(block) < BLOCK:
            raise BadInputError(
                f"{where}: truncated in its header, {BLOCK - len(block)} bytes are missing"
            )
        text += block
        for card in range(0, BLOCK, 80):
            if block[card : card + 8] == b"END     ":
                if block[card + 3 :].strip():
                    raise BadInputError(f"{where}: something stands behind END in the header")
                return bytes(text)
        if len(text) >= MAX_HEADER:
            raise BadInputError(f"{where}: header is larger than {MAX_HEADER} bytes")


def _check_start(file: FitsFile, block: bytearray, rest: int) -> None:
    wanted = b"XTENSION= " if file.hdus else b"SIMPLE  = "
    if block[: len(wanted)] == wanted[: len(block)]:
        return
    if file.hdus:
        raise BadInputError(
            f"{file.path}: {rest} bytes after the last HDU ({file.hdus[-1].index} "
            f"{file.hdus[-1].extname})"
        )
    kind = next((k for m, k in _MAGIC.items() if block.startswith(m)), None)
    raise BadInputError(
        f"{file.path}: is not a FITS file" + (f", it looks like {kind}" if kind else "")
    )


def _data_size(hdu: Hdu) -> int:
    header = hdu.header
    if hdu.index == 0 and header.get("SIMPLE") is not True:
        raise hdu.refuse(f"keyword SIMPLE is {header.get('SIMPLE')!r}, wanted T")
    naxis = _structural(hdu, "NAXIS", 0, 4)
    axes = [_structural(hdu, f"NAXIS{i}", 0, (1 << 40) - 1) for i in range(1, naxis + 1)]
    bitpix = _structural(hdu, "BITPIX", -64, 64)
    if bitpix not in (8, 16, 32, 64, -32, -64):
        raise hdu.refuse(f"keyword BITPIX is {bitpix}, which is impossible")
    if header.get("PCOUNT", 0) != 0 or header.get("GCOUNT", 1) != 1:
        counts = f"PCOUNT {header.get('PCOUNT', 0)}, GCOUNT {header.get('GCOUNT', 1)}"
        raise hdu.refuse(f"has a heap or groups ({counts}), which no declared product has")
    if header.get("ZIMAGE") or header.get("ZTABLE"):
        raise hdu.refuse("is compressed, which no declared product is")
    scale, zero = header.get("BSCALE", 1), header.get("BZERO", 0)
    if scale != 1 or zero not in (0, 1 << 15, 1 << 31, 1 << 63, -128):
        raise hdu.refuse(f"BSCALE {scale} and BZERO {zero} are not those of an integer type")
    if _kind(hdu) == "BINTABLE":
        _check_row_width(hdu, axes)
    return abs(bitpix) // 8 * math.prod(axes) if axes else 0


def _structural(hdu: Hdu, name: str, low: int, high: int) -> int:
    value = hdu.header.get(name)
    if type(value) is not int or not low <= value <= high:
        found = "missing" if value is None else repr(value)
        raise hdu.refuse(f"keyword {name} is {found}, wanted an integer from {low} to {high}")
    return value


def _kind(hdu: Hdu) -> str:
    """Return IMAGE, BINTABLE or another kind of extension."""
    return _text(hdu.header, "XTENSION")


def _check_row_width(hdu: Hdu, axes: Sequence[int]) -> None:
    width = 0
    for i in range(1, _structural(hdu, "TFIELDS", 0, 999) + 1):
        if _tform(hdu.header, i)[1] not in _WIDTH:
            raise hdu.refuse(
                f"column {hdu.header.get(f'TTYPE{i}', i)} has the format "
                f"{hdu.header.get(f'TFORM{i}')}"
            )
        width += _width(hdu.header, i)
    if len(axes) != 2 or width != axes[0]:
        raise hdu.refuse(f"columns need {width} bytes a row, NAXIS1 says {axes[:1]}")
    if width > MAX_ROW:
        raise hdu.refuse(f"a row of {width} bytes is longer than {MAX_ROW}")


def verify_sums(file: FitsFile) -> None:
    """Check CHECKSUM and DATASUM of every HDU over its raw bytes; absent ones are deviations."""
    for hdu in file.hdus:
        stored = {k: _text(hdu.header, k) for k in ("CHECKSUM", "DATASUM")}
        end = hdu.data_start + -(-hdu.data_size // BLOCK) * BLOCK
        missing = [k for k, v in stored.items() if not v]
        if missing and hdu.index > 0:
            hdu.deviates(f"no {' and no '.join(missing)}")
        padding = bytearray(end - hdu.data_start - hdu.data_size)
        file.read_at(hdu.data_start + hdu.data_size, memoryview(padding))
        if "CHECKSUM" in missing and padding.strip(b" " if _kind(hdu) == "TABLE" else b"\0"):
            raise hdu.refuse("the padding behind the data is not zero")
        if len(missing) == 2:
            continue
        data = _sum_bytes(file, hdu.data_start, end)
        if "DATASUM" not in missing and stored["DATASUM"].lstrip("0") != str(data).lstrip("0"):
            raise hdu.refuse(f"checksum: DATASUM is {stored['DATASUM']}, the data give {data}")
        total = _sum_bytes(file, hdu.header_start, hdu.data_start, data)
        if "CHECKSUM" not in missing and total not in (0, 0xFFFFFFFF):
            raise hdu.refuse("checksum: CHECKSUM does not fit the bytes of this HDU")


def _sum_bytes(file: FitsFile, start: int, end: int, total: int = 0) -> int:
    buffer = memoryview(bytearray(min(end - start, disk.CHUNK // BLOCK * BLOCK)))
    while start < end:
        part = buffer[: min(len(buffer), end - start)]
        file.read_at(start, part)
        total = ones_complement_sum(part, total)
        start += len(part)
    return total


def open_declared(path: Path, declared: Input, sums: bool = False) -> FitsFile:
    """Open `path` and hold it against what is declared of it.

    Parameters
    ----------
    path : Path
        The file.
    declared : Input
        Which HDUs, keywords and columns are used. HDUs that are not used are not looked at beyond
        their size.
    sums : bool
        Check CHECKSUM and DATASUM too, which reads the whole file.

    Raises
    ------
    BadInputError
        If the file is damaged or lacks what is needed.
    """
    file = scan(path)
    try:
        if sums:
            verify_sums(file)
        names = [hdu.extname for hdu in file.hdus[1:]]
        for name in declared.hdus:
            if names.count(name) > 1:
                raise BadInputError(f"{path}: HDU {name} stands there {names.count(name)} times")
        if names[0] not in declared.first:
            raise BadInputError(
                f"{path}: HDU 1 is {names[0] or '(no EXTNAME)'}, wanted "
                f"{' or '.join(declared.first)}"
            )
        for extname, use in declared.hdus.items():
            if extname in file:
                _check_hdu(file[extname], use)
            elif not use.optional:
                raise BadInputError(f"{path}: HDU {extname} is missing")
        return file
    except BaseException:
        file.close()
        raise


def note_unused(file: FitsFile) -> None:
    """Add to the deviations of an open file what differs from its definition in those HDUs that no
    step uses.
    """
    for hdu in file.hdus[1:]:
        if hdu.declared is None and hdu.extname in soc_extnames():
            try:
                _check_hdu(hdu, Use(soc_structure(hdu.extname), shape_matters=False))
            except BadInputError as error:
                file.deviations.append(str(error).removeprefix(f"{file.path}: "))


def _check_hdu(hdu: Hdu, use: Use) -> None:
    structure = use.structure
    hdu.declared = structure
    names = {"IMAGE": "an image", "BINTABLE": "a table"}
    found, wanted = (
        names.get(_kind(hdu), f"a {_kind(hdu)}"),
        names["BINTABLE" if structure.is_table else "IMAGE"],
    )
    if found != wanted:
        raise hdu.refuse(f"is {found}, wanted {wanted}")
    for name, allowed in use.keywords.items():
        value = hdu._value(structure.keywords[name])
        if allowed is not None and not allowed.permits(value):
            raise hdu.refuse(f"keyword {name} is {value!r}, allowed is {allowed}")
    version = hdu.header.get("EXT_VER")
    if structure.version and version != structure.version:
        hdu.deviates(f"EXT_VER {version}, defined {structure.version}")
    for name in structure.keywords:
        if name not in hdu.header and name not in hdu.unreadable:
            hdu.deviates(f"keyword {name} is missing")
    if structure.is_table:
        _check_columns(hdu, use, structure)
    else:
        _check_pixels(hdu, use, structure)


def _check_pixels(hdu: Hdu, use: Use, structure: Structure) -> None:
    found = (int(hdu.header["BITPIX"]), int(hdu.header.get("BZERO", 0)))
    wanted = (BITPIX[structure.image], STORED[structure.image][2])
    shape, free = hdu.shape[::-1], structure.axes
    if found != wanted:
        raise hdu.refuse(f"pixels have BITPIX and BZERO {found}, wanted {structure.image} {wanted}")
    if len(shape) != len(free):
        raise hdu.refuse(f"has {len(shape)} axes {shape}, wanted {len(free)}")
    if any(n != m and m for n, m in zip(shape, free, strict=True)):
        if use.shape_matters:
            raise hdu.refuse(
                f"has the shape {shape} (NAXIS1, NAXIS2, ...), wanted {free} with 0 for free"
            )
        hdu.deviates(f"shape {shape}, defined {free}")
    if 0 in shape:
        raise hdu.refuse(f"is empty, its shape is {shape}")


def _check_columns(hdu: Hdu, use: Use, structure: Structure) -> None:
    if use.columns and not (use.optional or use.may_be_empty) and hdu.rows == 0:
        raise hdu.refuse("has no rows")
    present = hdu.present()
    times = Counter(_names(hdu.header))
    for column in structure.columns:
        text = None
        if column.name not in present:
            text = f"column {column.name} is missing"
        elif times[column.name] > 1:
            text = f"column {column.name} stands there {times[column.name]} times"
        else:
            text = _format_fault(hdu, column, present[column.name]) or _unit_fault(
                hdu, column, present[column.name]
            )
        if text and column.name in use.columns:
            raise hdu.refuse(text)
        if text:
            hdu.deviates(text)
            hdu.unused.add(column.name)


def _format_fault(hdu: Hdu, column: Column, i: int) -> str | None:
    header = hdu.header
    zero, scale = header.get(f"TZERO{i}", 0), header.get(f"TSCAL{i}", 1)
    if (_tform(header, i), zero, scale) == ((column.repeat, column.letter), column.tzero, 1):
        return None
    found = f"TFORM {header[f'TFORM{i}']} TZERO {zero} TSCAL {scale}"
    return f"column {column.name} has {found}, wanted {column.tform} {column.tzero} 1"


def _unit_fault(hdu: Hdu, column: Column, i: int) -> str | None:
    """Return what is wrong with a column's unit, or note the change that makes it the declared
    one.
    """
    unit = _text(hdu.header, f"TUNIT{i}")
    if unit == column.unit:
        return None
    if unit and column.letter not in "AL" and column.unit:
        change = unit_change(unit, column.unit)
        if change is None:
            return f"column {column.name} is in {unit}, which cannot be converted to {column.unit}"
        hdu.file.unit_changes[hdu.extname, column.name] = change
    hdu.deviates(f"column {column.name} has the unit {unit!r}, defined {column.unit!r}")
    return None


def blocks(rows: int, row_bytes: int, size: int = 1 << 23) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of blocks of planes that together fill about `size` bytes."""
    step = max(1, size // max(row_bytes, 1))
    for start in range(0, rows, step):
        yield start, min(start + step, rows)
