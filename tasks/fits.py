"""Strict reader and writer of declared FITS products: the gate through which every file passes.

Reading has two levels. *Damage* (truncation, a wrong sum, an impossible shape, a needed HDU, column or keyword missing or of
the wrong type) raises BadInputError. *Deviation* from the definition (absent checksum, other EXT_VER, missing TUNIT) is
accepted and listed in `FitsFile.deviations`. Nothing is allocated before the sizes in the headers were checked against the
length of the file.

FITS standard 4.0 (2018): sections 3 (organisation), 4.4.2.7 and appendix J (CHECKSUM, DATASUM), 7.3 (binary tables).
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from astropy.io import fits as afits
from astropy.io.fits.verify import VerifyError

from schemas.errors import BadInputError
from schemas.inputs import Input, Use
from schemas.products import BITPIX, STORED, Column, Keyword, Structure, soc_structure
from tasks import disk

BLOCK = 2880
MAX_HEADER = 256 * BLOCK  # 0.7 MB; real headers need 8 to 20 kB
MAX_HDUS = 64
Value = str | int | float | bool
FloatArray = npt.NDArray[np.float64]

_MAGIC = {b"\x1f\x8b": "gzip", b"PK\x03": "a zip archive", b"\x89PNG": "a PNG picture", b"%PDF": "a PDF", b"<": "HTML or XML"}
_TFORM = re.compile(r"^(\d*)([LXBIJKAEDCMPQ])")
_WIDTH = {"L": 1, "B": 1, "I": 2, "J": 4, "K": 8, "A": 1, "E": 4, "D": 8, "C": 8, "M": 16}
_SYNONYMS = {"UTC": "TIMESYS=UTC"}


def ones_complement_sum(data: bytes | memoryview, start: int = 0) -> int:
    """Return the 32-bit ones'-complement sum of big-endian words (FITS 4.0, appendix J). Length a multiple of 4."""
    total = start + int(np.frombuffer(data, dtype=">u4").sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def encode_checksum(total: int) -> str:
    """Return the 16 characters that make an HDU with sum `total` add up to all ones (FITS 4.0, appendix J.2)."""
    value = 0xFFFFFFFF - total
    characters = np.zeros((4, 4), dtype=int)
    for byte in range(4):
        quotient, remainder = divmod((value >> (24 - 8 * byte)) & 0xFF, 4)
        four = np.full(4, quotient + 48)
        four[0] += remainder
        while any(58 <= c <= 64 or 91 <= c <= 96 for c in four):
            for i in (0, 2):
                if any(58 <= c <= 64 or 91 <= c <= 96 for c in four[i : i + 2]):
                    four[i] += 1
                    four[i + 1] -= 1
        characters[:, byte] = four
    text = "".join(chr(c) for c in characters.ravel())
    return text[-1] + text[:-1]


# ---------------------------------------------------------------------------------------------------------------- reading


@dataclass
class Hdu:
    """One HDU of a file that passed the gate. `declared` is its definition, None for an HDU that is not used."""

    file: FitsFile
    index: int
    header: afits.Header
    header_start: int
    data_start: int
    data_size: int
    declared: Structure | None = None

    @property
    def extname(self) -> str:
        """EXTNAME, or PRIMARY."""
        return "PRIMARY" if self.index == 0 else str(self.header.get("EXTNAME", "")).strip()

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

    def keyword(self, name: str) -> Value:
        """Return the value of a declared keyword, checked for its type."""
        if self.declared is None or name not in self.declared.keywords:
            raise KeyError(f"{self.extname} declares no keyword {name}")
        return self._value(self.declared.keywords[name])

    def _value(self, keyword: Keyword) -> Value:
        if keyword.name not in self.header:
            raise self.refuse(f"keyword {keyword.name} is missing")
        try:
            value = self.header[keyword.name]
        except (VerifyError, ValueError) as error:
            raise self.refuse(f"keyword {keyword.name} cannot be read") from error
        wanted: dict[str, tuple[type, ...]] = {"string": (str,), "utc": (str,), "boolean": (bool, np.bool_)}
        numbers = (int,) if keyword.type in ("integer", "unsigned", "obt") else (int, float)
        allowed = wanted.get(keyword.type, numbers)
        if not isinstance(value, allowed) or (isinstance(value, bool) and keyword.type != "boolean"):
            raise self.refuse(f"keyword {keyword.name} is {value!r}, which is not of type {keyword.type}")
        if isinstance(value, float) and not math.isfinite(value):
            raise self.refuse(f"keyword {keyword.name} is {value}, which is not a finite number")
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
        buffer = bytearray(size)
        self.file.read_at(self.data_start + start, memoryview(buffer))
        return buffer

    def stored(self, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Return the image as it lies in the file, or planes `start` to `stop` of a cube: big-endian, offset not added."""
        shape = self.shape
        dtype = np.dtype({8: "u1", 16: ">i2", 32: ">i4", -32: ">f4", -64: ">f8"}[int(self.header["BITPIX"])])
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
        """Return a declared column in native byte order; strings and UTC as str, unsigned integers as declared."""
        if self.declared is None:
            raise KeyError(f"{self.extname} is not declared")
        declared = self.declared.column(name)
        field_name = f"f{self.present()[name]}"
        cells = np.frombuffer(self._table_bytes(), self._row_dtype())[field_name]
        return self._convert(_native(cells, declared), declared)

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
        """Return the columns that the table has: name and number."""
        return {str(self.header.get(f"TTYPE{i}", "")).strip(): i for i in range(1, int(self.header["TFIELDS"]) + 1)}

    def _row_dtype(self) -> np.dtype[Any]:
        formats = []
        for i in range(1, int(self.header["TFIELDS"]) + 1):
            repeat, letter = _tform(str(self.header.get(f"TFORM{i}", "")))
            formats.append((f"f{i}", f"V{repeat * _WIDTH[letter]}"))
        return np.dtype(formats)

    def _convert(self, values: npt.NDArray[Any], declared: Column) -> npt.NDArray[Any]:
        factor, offset = self.file.unit_changes.get((self.extname, declared.name), (1.0, 0.0))
        return values if (factor, offset) == (1.0, 0.0) else values * factor + offset


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
            os.close(self._fd)
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


def _tform(text: str) -> tuple[int, str]:
    match = _TFORM.match(text.strip())
    return (int(match[1] or 1), match[2]) if match else (0, "?")


def _native(cells: npt.NDArray[Any], declared: Column) -> npt.NDArray[Any]:
    if declared.letter == "A":
        raw = np.ascontiguousarray(cells).view(f"S{cells.dtype.itemsize}")
        return np.array([c.split(b"\0")[0].decode("ascii", "replace").strip() for c in raw.tolist()], dtype=str)
    if declared.letter == "L":
        return np.ascontiguousarray(cells).view("S1") == b"T"
    base = np.dtype(STORED[declared.type][1])
    values = np.ascontiguousarray(cells).view(base)
    if declared.size > 1:
        values = values.reshape(len(cells), declared.size)
    values = values.astype(base.newbyteorder("="))
    if declared.tzero > 0:
        unsigned = np.dtype(f"u{base.itemsize}")
        return values.view(unsigned) ^ np.array(declared.tzero, unsigned)
    return values.astype(np.int16) + declared.tzero if declared.tzero else values


def scan(path: Path) -> FitsFile:
    """Open `path` and read its headers; sizes are checked against the file's length before anything is allocated."""
    fd = disk.open_to_read(path)
    file = FitsFile(path, _fd=fd)
    try:
        length = os.fstat(fd).st_size
        if length == 0:
            raise BadInputError(f"{path}: is empty (0 bytes)")
        offset = 0
        while offset < length:
            if file.hdus and len(file.hdus) >= MAX_HDUS:
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
    where = f"{file.path}: HDU {index}"
    text = _header_text(file, offset, length, where)
    start = b"SIMPLE  =" if index == 0 else b"XTENSION="
    if not text.startswith(start):
        raise BadInputError(f"{where}: does not begin with {start.decode().rstrip(' =')}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = afits.Header.fromstring(text.decode("ascii"))
            size = _data_size(header, where)
        except (VerifyError, ValueError, TypeError, KeyError) as error:
            raise BadInputError(f"{where}: header cannot be read ({error})") from error
    hdu = Hdu(file, index, header, offset, offset + len(text), size)
    if index == 0 and size:
        raise BadInputError(f"{where} PRIMARY: holds data, it must be empty")
    end = hdu.data_start + -(-size // BLOCK) * BLOCK
    if end > length:
        raise BadInputError(f"{hdu.where}: truncated, {end - length} bytes are missing")
    file.hdus.append(hdu)
    return end


def _header_text(file: FitsFile, offset: int, length: int, where: str) -> bytes:
    text = bytearray()
    while True:
        if offset + len(text) + BLOCK > length:
            rest = length - offset - len(text)
            if len(file.hdus) > 1 and not text and rest < BLOCK:
                raise BadInputError(f"{file.path}: {rest} bytes after the last HDU")
            if not file.hdus and not text:
                raise BadInputError(f"{file.path}: is not a FITS file")
            raise BadInputError(f"{where}: truncated in its header, {BLOCK - max(rest, 0)} bytes are missing")
        block = bytearray(BLOCK)
        file.read_at(offset + len(text), memoryview(block))
        if not file.hdus and not text and not block.startswith(b"SIMPLE  ="):
            kind = next((k for m, k in _MAGIC.items() if block.startswith(m)), None)
            raise BadInputError(f"{file.path}: is not a FITS file" + (f", it looks like {kind}" if kind else ""))
        if file.hdus and not text and not block.startswith(b"XTENSION"):
            raise BadInputError(f"{file.path}: {length - offset} bytes after the last HDU ({file.hdus[-1].extname})")
        if odd := next((i for i, c in enumerate(block) if not 32 <= c <= 126), None):
            raise BadInputError(f"{where}: byte {offset + len(text) + odd} of the header is not printable ASCII")
        text += block
        for card in range(0, BLOCK, 80):
            if block[card : card + 8] == b"END     ":
                if block[card + 3 :].strip():
                    raise BadInputError(f"{where}: something stands behind END in the header")
                return bytes(text)
        if len(text) >= MAX_HEADER:
            raise BadInputError(f"{where}: header is larger than {MAX_HEADER} bytes")


def _data_size(header: afits.Header, where: str) -> int:
    naxis = header["NAXIS"]
    if type(naxis) is not int or not 0 <= naxis <= 4:
        raise BadInputError(f"{where}: NAXIS is {naxis!r}")
    axes = [header[f"NAXIS{i}"] for i in range(1, naxis + 1)]
    if any(type(n) is not int or not 0 <= n < 1 << 40 for n in axes):
        raise BadInputError(f"{where}: impossible axes {axes}")
    if header["BITPIX"] not in (8, 16, 32, 64, -32, -64):
        raise BadInputError(f"{where}: impossible BITPIX {header['BITPIX']!r}")
    if header.get("PCOUNT", 0) != 0 or header.get("GCOUNT", 1) != 1:
        raise BadInputError(f"{where}: has a heap (PCOUNT {header.get('PCOUNT')}), which no declared product has")
    if header.get("ZIMAGE") or header.get("ZTABLE"):
        raise BadInputError(f"{where}: is compressed, which no declared product is")
    scale, zero = header.get("BSCALE", 1), header.get("BZERO", 0)
    if scale != 1 or zero not in (0, 1 << 15, 1 << 31, 1 << 63, -128):
        raise BadInputError(f"{where}: BSCALE {scale} and BZERO {zero} are not those of an integer type")
    if header.get("XTENSION", "").strip() == "BINTABLE":
        _check_row_width(header, axes, where)
    return abs(int(header["BITPIX"])) // 8 * math.prod(axes) if axes else 0


def _check_row_width(header: afits.Header, axes: Sequence[int], where: str) -> None:
    fields = header["TFIELDS"]
    if type(fields) is not int or not 0 <= fields <= 999:
        raise BadInputError(f"{where}: TFIELDS is {fields!r}")
    width = 0
    for i in range(1, fields + 1):
        repeat, letter = _tform(str(header.get(f"TFORM{i}", "")))
        if letter not in _WIDTH:
            raise BadInputError(f"{where}: column {header.get(f'TTYPE{i}', i)} has the format {header.get(f'TFORM{i}')}")
        width += repeat * _WIDTH[letter]
    if len(axes) != 2 or width != axes[0]:
        raise BadInputError(f"{where}: columns need {width} bytes a row, NAXIS1 says {axes[:1]}")


def verify_sums(file: FitsFile) -> None:
    """Check CHECKSUM and DATASUM of every HDU over its raw bytes; absent ones are deviations."""
    for hdu in file.hdus:
        stored = {k: hdu.header.get(k) for k in ("CHECKSUM", "DATASUM")}
        end = hdu.data_start + -(-hdu.data_size // BLOCK) * BLOCK
        missing = [k for k, v in stored.items() if v is None]
        if missing and hdu.index > 0:
            file.deviations.append(f"HDU {hdu.index} {hdu.extname}: no {' and no '.join(missing)}")
        padding = bytearray(end - hdu.data_start - hdu.data_size)
        file.read_at(hdu.data_start + hdu.data_size, memoryview(padding))
        if any(padding) and "CHECKSUM" in missing:
            raise hdu.refuse("the padding behind the data is not zero")
        if len(missing) == 2:
            continue
        data = _sum_bytes(file, hdu.data_start, end)
        if "DATASUM" not in missing and str(stored["DATASUM"]).strip() != str(data):
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
        Which HDUs, keywords and columns are used. HDUs that are not used are not looked at beyond their size.
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
        for name in set(names):
            if names.count(name) > 1 and name in declared.hdus:
                raise BadInputError(f"{path}: HDU {name} stands there {names.count(name)} times")
        if names[0] not in declared.first:
            raise BadInputError(f"{path}: HDU 1 is {names[0] or '(no EXTNAME)'}, wanted {' or '.join(declared.first)}")
        for extname, use in declared.hdus.items():
            if extname in file:
                _check_hdu(file[extname], use)
            elif not use.optional:
                raise BadInputError(f"{path}: HDU {extname} is missing")
        return file
    except BaseException:
        file.close()
        raise


def _check_hdu(hdu: Hdu, use: Use) -> None:
    structure = use.structure
    hdu.declared = structure
    for name, allowed in use.keywords.items():
        value = hdu._value(structure.keywords[name])
        if allowed is not None and not allowed.permits(value):
            raise hdu.refuse(f"keyword {name} is {value!r}, allowed is {allowed}")
    version = hdu.header.get("EXT_VER")
    if structure.version and version != structure.version:
        hdu.file.deviations.append(f"HDU {hdu.index} {hdu.extname}: EXT_VER {version}, defined {structure.version}")
    for name in structure.keywords:
        if name not in hdu.header:
            hdu.file.deviations.append(f"HDU {hdu.index} {hdu.extname}: keyword {name} is missing")
    is_table = str(hdu.header.get("XTENSION", "")).strip() == "BINTABLE"
    if is_table != structure.is_table:
        raise hdu.refuse(f"is {'a table' if is_table else 'an image'}, wanted {'a table' if structure.is_table else 'an image'}")
    if structure.is_table:
        _check_columns(hdu, use, structure)
    else:
        _check_pixels(hdu, use, structure)


def _check_pixels(hdu: Hdu, use: Use, structure: Structure) -> None:
    found = (int(hdu.header["BITPIX"]), int(hdu.header.get("BZERO", 0)))
    wanted = (BITPIX[structure.image], STORED[structure.image][2])
    shape, free = hdu.shape[::-1], structure.axes
    if found != wanted:
        raise hdu.refuse(f"pixels have BITPIX {found[0]} and BZERO {found[1]}, wanted {structure.image} ({wanted[0]}, {wanted[1]})")
    if len(shape) != len(free):
        raise hdu.refuse(f"has {len(shape)} axes {shape}, wanted {len(free)}")
    if any(n != m and m for n, m in zip(shape, free, strict=True)):
        if use.shape_matters:
            raise hdu.refuse(f"has the shape {shape} (NAXIS1, NAXIS2, ...), wanted {free} with 0 for free")
        hdu.file.deviations.append(f"HDU {hdu.index} {hdu.extname}: shape {shape}, defined {free}")
    if 0 in shape:
        raise hdu.refuse(f"is empty, its shape is {shape}")


def _check_columns(hdu: Hdu, use: Use, structure: Structure) -> None:
    present = hdu.present()
    for column in structure.columns:
        needed = column.name in use.columns
        if column.name not in present:
            if needed:
                raise hdu.refuse(f"column {column.name} is missing")
            hdu.file.deviations.append(f"HDU {hdu.index} {hdu.extname}: column {column.name} is missing")
            continue
        i = present[column.name]
        found = _tform(str(hdu.header[f"TFORM{i}"])), int(hdu.header.get(f"TZERO{i}", 0)), hdu.header.get(f"TSCAL{i}", 1)
        if found != ((column.repeat, column.letter), column.tzero, 1):
            text = f"column {column.name} has TFORM {hdu.header[f'TFORM{i}']} TZERO {found[1]}, wanted {column.tform} {column.tzero}"
            if needed:
                raise hdu.refuse(text)
            hdu.file.deviations.append(f"HDU {hdu.index} {hdu.extname}: {text}")
        _check_unit(hdu, column, str(hdu.header.get(f"TUNIT{i}", "")).strip(), needed)


def _check_unit(hdu: Hdu, column: Column, unit: str, needed: bool) -> None:
    if unit == column.unit:
        return
    change = None
    if needed and unit and column.letter not in "AL" and column.unit:
        change = unit_change(unit, column.unit)
        if change is None:
            raise hdu.refuse(f"column {column.name} is in {unit}, which cannot be converted to {column.unit}")
        hdu.file.unit_changes[hdu.extname, column.name] = change
    hdu.file.deviations.append(f"HDU {hdu.index} {hdu.extname}: column {column.name} has the unit {unit!r}, defined {column.unit!r}")


def unit_change(found: str, wanted: str) -> tuple[float, float] | None:
    """Return (factor, offset) that turns values in unit `found` into `wanted`; None if that cannot be done."""
    from astropy import units

    names = {"degC": "deg_C", "Kelvin": "K", "sec": "s", "days": "d"}
    found, wanted = _SYNONYMS.get(found, found), _SYNONYMS.get(wanted, wanted)
    if found == wanted:
        return 1.0, 0.0
    try:
        source, target = (units.Unit(names.get(u, u)) for u in (found, wanted))
        zero, one = (float((x * source).to_value(target, units.temperature())) for x in (0.0, 1.0))
    except (ValueError, TypeError, units.UnitConversionError):
        return None
    return one - zero, zero


# ---------------------------------------------------------------------------------------------------------------- writing

# What publication fills in; until then each stands for nothing, so that a product made again has the same bytes.
PUBLICATION = {"DATE": "1970-01-01T00:00:00", "STAMP": "N/A", "PIPE_VER": "N/A", "ARCH_REV": 0, "PROC_NUM": 0}


@dataclass
class NewHdu:
    """An HDU to be written: its declaration, keyword values, and data (image, or columns by name)."""

    declared: Structure
    keywords: Mapping[str, Value] = field(default_factory=dict)
    pixels: npt.NDArray[Any] | None = None
    columns: Mapping[str, npt.NDArray[Any]] | None = None
    shape: tuple[int, ...] = ()  # of an image whose pixels are streamed


def _card(keyword: Keyword, value: Value) -> afits.Card:
    comment = f"[{keyword.unit}] {keyword.meaning}" if keyword.unit else keyword.meaning
    if keyword.type in ("real", "mjd", "bjd"):
        value = float(value)
    if isinstance(value, str):
        value = value[:68].rstrip()
        room = 80 - 10 - max(len(value.replace("'", "''")), 8) - 2 - 3
        while len(value.replace("'", "''")) > 68:
            value = value[:-1]
        return afits.Card(keyword.name, value, comment[: max(room, 0)] if room > 3 else "")
    return afits.Card(keyword.name, value, comment[:47])


def _structural_cards(hdu: NewHdu, rows: int) -> list[tuple[str, Value, str]]:
    s = hdu.declared
    if s.is_table:
        width = sum(c.stored.itemsize for c in s.columns)
        cards: list[tuple[str, Value, str]] = [
            ("XTENSION", "BINTABLE", "binary table"), ("BITPIX", 8, "bytes"), ("NAXIS", 2, "axes"),
            ("NAXIS1", width, "bytes of a row"), ("NAXIS2", rows, "rows"), ("PCOUNT", 0, "no heap"), ("GCOUNT", 1, "one group"),
            ("TFIELDS", len(s.columns), "columns"),
        ]  # fmt: skip
        for i, c in enumerate(s.columns, 1):
            cards += [(f"TTYPE{i}", c.name, c.meaning[: 80 - 10 - max(len(c.name), 8) - 5]), (f"TFORM{i}", c.tform, "")]
            cards += [(f"TUNIT{i}", c.unit, "")] if c.unit else []
            cards += [(f"TZERO{i}", c.tzero, ""), (f"TSCAL{i}", 1, "")] if c.tzero else []
            cards += [(f"TNULL{i}", c.null - c.tzero, "")] if c.null is not None else []
        return cards
    shape = hdu.shape or (hdu.pixels.shape if hdu.pixels is not None else ())
    cards = [("XTENSION", "IMAGE", "image"), ("BITPIX", BITPIX[s.image], s.image), ("NAXIS", len(shape), "axes")]
    cards += [(f"NAXIS{i}", n, "") for i, n in enumerate(reversed(shape), 1)]
    cards += [("PCOUNT", 0, "no heap"), ("GCOUNT", 1, "one group")]
    if zero := STORED[s.image][2]:
        cards += [("BZERO", zero, "makes the integers unsigned"), ("BSCALE", 1, "")]
    return cards


def compose_header(hdu: NewHdu, rows: int) -> bytes:
    """Return the header of `hdu` as bytes, CHECKSUM and DATASUM not yet filled in."""
    s = hdu.declared
    header = afits.Header()
    for name, value, comment in _structural_cards(hdu, rows):
        header.append(afits.Card(name, value, comment))
    for name in ("DATE", "STAMP"):
        header.append(afits.Card(name, PUBLICATION[name], {"DATE": "time of publication, UTC", "STAMP": "program and version"}[name]))
    header.append(afits.Card("SVN_REV", "N/A", "revision of the source"))
    header.append(afits.Card("EXTNAME", s.extname, "what this HDU holds"))
    if len(s.extname) <= 64:
        header.append(afits.Card("SCHEMA", f"{s.extname}.fsd", ""))
    if unknown := sorted(set(hdu.keywords) - set(s.keywords)):
        raise KeyError(f"{s.extname} declares no keyword {unknown[0]}")
    for keyword in s.keywords.values():
        value = PUBLICATION.get(keyword.name, hdu.keywords.get(keyword.name, keyword.default))
        if value is None:
            raise KeyError(f"{s.extname}: no value for keyword {keyword.name}")
        header.append(_card(keyword, value))
    if s.image and s.null is not None:
        header.append(afits.Card("BLANK", s.null - STORED[s.image][2], "stored value of no data"))
    header.append(afits.Card("CHECKSUM", "0" * 16, "HDU checksum"))
    header.append(afits.Card("DATASUM", "0".ljust(10), "data checksum"))
    return header.tostring().encode("ascii")


def set_cards(header: bytes, values: Mapping[str, Value], declared: Structure | None = None) -> bytes:
    """Return a header with the values of some of its cards replaced; absent cards are left out.

    Comments are kept; those of declared keywords are made anew, since one that had to be cut could not come back.
    """
    cards = [header[i : i + 80] for i in range(0, len(header), 80)]
    for i, card in enumerate(cards):
        name = card[:8].decode("ascii").strip()
        if name in values:
            if declared is not None and name in declared.keywords:
                new = _card(declared.keywords[name], values[name])
            else:
                new = afits.Card(name, values[name], afits.Card.fromstring(card).comment)
            cards[i] = str(new).ljust(80)[:80].encode("ascii")
    return b"".join(cards)


def sum_header(header: bytes, data_sum: int) -> bytes:
    """Return the header with DATASUM and CHECKSUM filled in for data that sum up to `data_sum`."""
    header = set_cards(header, {"DATASUM": str(data_sum).ljust(10), "CHECKSUM": "0" * 16})
    return set_cards(header, {"CHECKSUM": encode_checksum(ones_complement_sum(header, data_sum))})


def table_bytes(declared: Structure, columns: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Return the rows of a table as they stand in the file."""
    dtype = np.dtype([(c.name, c.stored) for c in declared.columns])
    rows = len(next(iter(columns.values())))
    table = np.zeros(rows, dtype)
    for c in declared.columns:
        values = np.asarray(columns[c.name])
        if len(values) != rows:
            raise ValueError(f"{declared.extname}: column {c.name} has {len(values)} rows, the first has {rows}")
        table[c.name] = _to_stored(values, c)
    return table.tobytes()


def _to_stored(values: npt.NDArray[Any], c: Column) -> npt.NDArray[Any]:
    if c.letter == "A":
        return np.char.encode(values.astype(str), "ascii", "replace") if values.dtype.kind != "S" else values
    if c.letter == "L":
        return np.where(values, b"T", b"F")
    if c.letter in "BIJK":
        numbers = np.asarray(values)
        info = np.iinfo(c.stored.base)
        whole = numbers.astype(object) - c.tzero if c.type == "uint64" else numbers.astype(np.int64) - c.tzero
        if len(numbers) and (np.min(whole) < info.min or np.max(whole) > info.max):
            raise ValueError(f"column {c.name}: values do not fit {c.type}")
        return whole.astype(c.stored.base)
    return values


class FitsWriter:
    """Writes a product HDU by HDU under a temporary name; the file appears under its own name on `finish`.

    Pixels of a cube may be streamed: `begin_cube`, then `write_block` with the bytes of some planes and their sum, `end_cube`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        disk.remove(self.partial)
        self._fd = disk.create(self.partial)
        primary = afits.Header([("SIMPLE", True, "FITS"), ("BITPIX", 16, ""), ("NAXIS", 0, "no data"), ("EXTEND", True, "")])
        text = primary.tostring().encode("ascii")
        disk.write_at(self._fd, 0, text, self.partial)
        self._end = len(text)
        self._header = b""
        self._data_start = 0
        self._written = 0
        self._sum = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.finish()
        else:
            self.abandon()

    def begin_cube(self, hdu: NewHdu) -> None:
        """Start an image HDU of `hdu.shape` whose planes follow in blocks."""
        self._header = compose_header(hdu, hdu.shape[0])
        self._data_start = self._end + len(self._header)
        self._written = 0
        self._sum = 0

    def write_block(self, data: bytes | memoryview, data_sum: int | None = None) -> None:
        """Append bytes of the image; `data_sum` is their ones'-complement sum where it is already known."""
        disk.write_at(self._fd, self._data_start + self._written, data, self.partial)
        self._written += memoryview(data).nbytes
        self._sum = ones_complement_sum(data) + self._sum if data_sum is None else data_sum + self._sum

    def end_cube(self) -> None:
        """Close the HDU: padding, DATASUM and CHECKSUM."""
        padding = bytes(-self._written % BLOCK)
        if padding:
            disk.write_at(self._fd, self._data_start + self._written, padding, self.partial)
        total = self._sum
        while total >> 32:
            total = (total & 0xFFFFFFFF) + (total >> 32)
        disk.write_at(self._fd, self._end, sum_header(self._header, total), self.partial)
        self._end = self._data_start + self._written + len(padding)

    def write(self, hdu: NewHdu) -> None:
        """Write a whole HDU."""
        s = hdu.declared
        if s.is_table:
            if hdu.columns is None:
                raise ValueError(f"{s.extname}: a table needs columns")
            data = table_bytes(s, hdu.columns)
            rows = len(next(iter(hdu.columns.values())))
        else:
            if hdu.pixels is None:
                raise ValueError(f"{s.extname}: an image needs pixels")
            _, stored, zero = STORED[s.image]
            pixels = hdu.pixels.astype(np.int64) - zero if zero else hdu.pixels
            data, rows = np.ascontiguousarray(pixels.astype(stored)).tobytes(), 0
        self._header = compose_header(hdu, rows)
        self._data_start = self._end + len(self._header)
        self._written = 0
        padded = data + bytes(-len(data) % BLOCK)
        disk.write_at(self._fd, self._end, sum_header(self._header, ones_complement_sum(padded)) + padded, self.partial)
        self._end = self._data_start + len(padded)

    def finish(self) -> None:
        """Force the file to the disk and give it its name."""
        fd, self._fd = self._fd, -1
        try:
            disk.sync_and_close(fd, self.partial)
            disk.rename(self.partial, self.path)
        except BaseException:
            self.abandon()
            raise
        disk.sync_folder(self.path.parent)

    def abandon(self) -> None:
        """Leave nothing behind."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self.partial.unlink(missing_ok=True)


def write_fits(path: Path, hdus: Iterable[NewHdu]) -> None:
    """Write a product of some whole HDUs, atomically."""
    with FitsWriter(path) as writer:
        for hdu in hdus:
            writer.write(hdu)


def blocks(rows: int, row_bytes: int, size: int = 1 << 23) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of blocks of planes that together fill about `size` bytes."""
    step = max(1, size // max(row_bytes, 1))
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def restamp(source: Path, target: Path, values: Mapping[str, Value]) -> None:
    """Copy a product with some header values replaced in every HDU, its CHECKSUMs made anew; data stay as they are."""
    disk.copy_file(source, target)
    with scan(target) as file:
        fd = os.open(target, os.O_RDWR)
        try:
            for hdu in file.hdus[1:]:
                text = bytearray(hdu.data_start - hdu.header_start)
                file.read_at(hdu.header_start, memoryview(text))
                header = set_cards(bytes(text), values, structure_of(hdu.extname))
                header = sum_header(header, int(hdu.header["DATASUM"]))
                disk.write_at(fd, hdu.header_start, header, target)
        finally:
            disk.sync_and_close(fd, target)


def structure_of(extname: str) -> Structure:
    """Return the declaration of an HDU, the SOC's or ours."""
    from schemas.terms import TERMS

    return TERMS[extname] if extname in TERMS else soc_structure(extname)
