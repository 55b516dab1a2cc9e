"""A writer of SOC products, whole or image by image; the same content gives the same bytes.

Headers follow the declarations in `schemas.products`. DATASUM is the 32-bit ones' complement sum of
the data, CHECKSUM its complement over the HDU in 16 ASCII characters (FITS standard 4.0, section
4.4.2.7 and appendix J). Both are accumulated while the data pass, so the memory does not grow with
the length of a cube.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from astropy.io import fits
from numpy.typing import ArrayLike

from schemas.arrays import AnyArray
from schemas.constants import SIMULATED
from schemas.products import BITPIX, STORED, Column, Keyword, Structure, soc_structure

BLOCK = 2880


@dataclass
class Part:
    """One HDU to be written; without `data`, its planes follow later by `Stream.put`."""

    structure: Structure
    keywords: Mapping[str, Any]
    shape: tuple[int, ...]
    date: str
    data: AnyArray | None = None
    header: fits.Header = field(init=False)
    offset: int = 0
    total: int = 0  # sum of the 32-bit words written so far

    def __post_init__(self) -> None:
        self.header = _header(self)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a pixel, or of a row of the table, in the file."""
        if self.structure.is_table:
            return row_type(self.structure)
        return np.dtype(STORED[self.structure.image][1])

    @property
    def size(self) -> int:
        """Bytes of the data unit without its padding."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def row_type(structure: Structure) -> np.dtype[Any]:
    """Return the type of a row of a declared table in the file."""
    return np.dtype([(column.name, column.stored) for column in structure.columns])


def table(
    extname: str,
    keywords: Mapping[str, Any],
    columns: Mapping[str, ArrayLike],
    rows: int,
    date: str,
) -> Part:
    """Return the table `extname`; `columns` has one value or one array for each column."""
    return encode_table(soc_structure(extname), keywords, columns, rows, date)


def encode_table(
    structure: Structure,
    keywords: Mapping[str, Any],
    columns: Mapping[str, ArrayLike],
    rows: int,
    date: str,
) -> Part:
    """Return a table with its declaration.

    Raises
    ------
    KeyError
        If a column is not declared, or a declared column has no value.
    """
    unknown = set(columns) - {column.name for column in structure.columns}
    if unknown:
        raise KeyError(f"{structure.extname} declares no column {', '.join(sorted(unknown))}")
    data = np.zeros(rows, row_type(structure))
    for column in structure.columns:
        if column.name not in columns:
            raise KeyError(f"column {column.name} of {structure.extname} has no value")
        data[column.name] = _stored(column, np.asarray(columns[column.name]))
    return Part(structure, keywords, data.shape, date, data)


def image(extname: str, keywords: Mapping[str, Any], data: AnyArray, date: str) -> Part:
    """Return the image or cube `extname` with its pixels."""
    return Part(soc_structure(extname), keywords, data.shape, date, data)


def cube(extname: str, keywords: Mapping[str, Any], shape: tuple[int, ...], date: str) -> Part:
    """Return the cube `extname`, whose planes are written one by one."""
    return Part(soc_structure(extname), keywords, shape, date)


def write(path: Path, parts: Sequence[Part]) -> Path:
    """Write a file whose parts all have their data."""
    with Stream(path, parts):
        return path


class Stream:
    """A FITS file under construction: allocated at once, filled in any order, sealed at the end."""

    def __init__(self, path: Path, parts: Sequence[Part]) -> None:
        self.parts = list(parts)
        primary = fits.Header([("SIMPLE", True), ("BITPIX", 16), ("NAXIS", 0), ("EXTEND", True)])
        text = primary.tostring().encode("ascii")
        position = len(text)
        for part in self.parts:
            part.offset = position + len(part.header.tostring())
            position = part.offset + -(-part.size // BLOCK) * BLOCK
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("xb", buffering=0)
        self._file.truncate(position)
        os.pwrite(self._file.fileno(), text, 0)
        for part in self.parts:
            if part.data is not None:
                self._put_bytes(part, 0, _pixels(part, part.data).tobytes())

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            for part in self.parts:
                self._seal(part)
        self._file.close()

    def put(self, index: int, row: int, values: AnyArray) -> None:
        """Write plane `row` of the cube that is part number `index`."""
        part = self.parts[index]
        raw = _pixels(part, values).tobytes()
        if len(raw) % 4 or len(raw) * part.shape[0] != part.size:
            raise ValueError(
                f"plane of {part.structure.extname} has shape {values.shape}, expected "
                f"{part.shape[1:]}"
            )
        self._put_bytes(part, row * len(raw), raw)

    def update(self, index: int) -> None:
        """Write the data of a part again, after a change."""
        part = self.parts[index]
        if part.data is None:
            raise ValueError(f"{part.structure.extname} has no data")
        part.total = 0
        self._put_bytes(part, 0, _pixels(part, part.data).tobytes())

    def _put_bytes(self, part: Part, start: int, raw: bytes) -> None:
        padded = raw + bytes(-len(raw) % 4)
        part.total += int(np.frombuffer(padded, ">u4").sum(dtype=np.uint64))
        view = memoryview(raw)
        while view:  # one call writes at most 2 GB
            done = os.pwrite(self._file.fileno(), view, part.offset + start)
            view, start = view[done:], start + done

    def _seal(self, part: Part) -> None:
        header = part.header
        datasum = _fold(part.total)
        header["DATASUM"] = str(datasum)
        text = header.tostring().encode("ascii")
        header["CHECKSUM"] = _ascii(
            _fold(int(np.frombuffer(text, ">u4").sum(dtype=np.uint64)) + datasum)
        )
        text = header.tostring().encode("ascii")
        os.pwrite(self._file.fileno(), text, part.offset - len(text))


def _fold(total: int) -> int:
    """Return the ones' complement sum: bits beyond 32 are added at the low end."""
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def _ascii(total: int) -> str:
    """Return the complement of `total` in the encoding of CHECKSUM."""
    forbidden = [*range(0x3A, 0x41), *range(0x5B, 0x61)]
    letters = [0] * 16
    for i, byte in enumerate((0xFFFFFFFF - total).to_bytes(4, "big")):
        quarter, remainder = divmod(byte, 4)
        four = [quarter + remainder + 48, quarter + 48, quarter + 48, quarter + 48]
        while any(letter in forbidden for letter in four):
            for j in (0, 2):
                if four[j] in forbidden or four[j + 1] in forbidden:
                    four[j], four[j + 1] = four[j] + 1, four[j + 1] - 1
        letters[i::4] = four
    return bytes(letters[-1:] + letters[:-1]).decode("ascii")


def _pixels(part: Part, values: AnyArray) -> AnyArray:
    """Return values as stored in the file; unsigned integers are shifted by half their range."""
    if part.structure.is_table:
        return values
    _, stored, zero = STORED[part.structure.image]
    if zero:
        unsigned = np.dtype(stored.replace("i", "u"))
        native = unsigned.newbyteorder("=")
        return np.asarray((values.astype(native) ^ np.array(zero, native)).astype(unsigned))
    return values.astype(stored)


def _stored(column: Column, values: AnyArray) -> AnyArray:
    """Return the values of a column as stored in the file."""
    if column.type == "bool":
        return np.where(values, b"T", b"F")
    if column.letter == "A":
        return values if values.dtype.kind == "S" else np.char.encode(values.astype(str), "ascii")
    return values - column.tzero if column.tzero else values


def _header(part: Part) -> fits.Header:
    structure = part.structure
    unknown = set(part.keywords) - set(structure.keywords)
    if unknown:
        raise KeyError(f"{structure.extname} declares no keyword {', '.join(sorted(unknown))}")
    cards = _table_cards(part) if structure.is_table else _image_cards(part)
    cards += [("DATE", part.date), ("STAMP", SIMULATED), ("SVN_REV", "N/A")]
    header = fits.Header(
        [*cards, ("EXTNAME", structure.extname), ("SCHEMA", f"{structure.extname}.fsd")]
    )
    for name, keyword in structure.keywords.items():
        value = _value(keyword, part)
        comment = f"[{keyword.unit}] {keyword.meaning}".strip() if keyword.unit else keyword.meaning
        length = max(20, len(value) + 2) if isinstance(value, str) else 20
        header[name] = (value, comment[: max(0, 80 - 13 - length)])
    header["CHECKSUM"] = ("0" * 16, "HDU checksum")
    header["DATASUM"] = ("0" * 10, "data unit checksum")
    return header


def _table_cards(part: Part) -> list[tuple[str, Any]]:
    columns = part.structure.columns
    return [
        ("XTENSION", "BINTABLE"),
        ("BITPIX", 8),
        ("NAXIS", 2),
        ("NAXIS1", part.dtype.itemsize),
        ("NAXIS2", part.shape[0]),
        ("PCOUNT", 0),
        ("GCOUNT", 1),
        ("TFIELDS", len(columns)),
        *(card for n, column in enumerate(columns, 1) for card in _column_cards(n, column)),
    ]


def _image_cards(part: Part) -> list[tuple[str, Any]]:
    structure = part.structure
    cards: list[tuple[str, Any]] = [
        ("XTENSION", "IMAGE"),
        ("BITPIX", BITPIX[structure.image]),
        ("NAXIS", len(part.shape)),
        *((f"NAXIS{i}", size) for i, size in enumerate(reversed(part.shape), 1)),
        ("PCOUNT", 0),
        ("GCOUNT", 1),
    ]
    zero = STORED[structure.image][2]
    if zero:
        cards += [("BZERO", zero), ("BSCALE", 1)]
    if structure.null is not None:
        cards.append(("BLANK", structure.null - zero))
    return cards


def _column_cards(number: int, column: Column) -> list[tuple[str, Any]]:
    cards: list[tuple[str, Any]] = [
        (f"TTYPE{number}", column.name),
        (f"TFORM{number}", column.tform),
    ]
    if column.unit:
        cards.append((f"TUNIT{number}", column.unit))
    if column.tzero:
        cards += [(f"TSCAL{number}", 1), (f"TZERO{number}", column.tzero)]
    if column.null is not None:
        cards.append((f"TNULL{number}", column.null - column.tzero))
    return cards


def _value(keyword: Keyword, part: Part) -> str | int | float | bool:
    value = part.keywords.get(keyword.name, keyword.default)
    if value is None:
        raise KeyError(f"keyword {keyword.name} of {part.structure.extname} has no value")
    if keyword.type in ("real", "mjd", "bjd"):
        return float(value)
    if keyword.type in ("integer", "unsigned", "obt"):
        return int(value)
    return bool(value) if keyword.type == "boolean" else str(value)
