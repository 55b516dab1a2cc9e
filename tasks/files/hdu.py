"""An open FITS file and its HDUs: keywords, images and columns as their declared types."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Self

import numpy as np

from schemas.arrays import AnyArray, BoolArray, FloatArray
from schemas.errors import BadInputError, BusyError
from schemas.products import Keyword, Structure, soc_extnames
from schemas.ranges import Allowed
from schemas.terms import TERMS
from tasks.files import disk
from tasks.files.columns import column_names, column_width, to_native
from tasks.files.header import Cards, times_in_words

Value = str | int | float | bool

# types of keywords other than real numbers, which may be written as integers
_PYTHON_TYPES: dict[str, type] = {
    "string": str,
    "utc": str,
    "boolean": bool,
    "integer": int,
    "unsigned": int,
    "obt": int,
}

_PIXEL_TYPES = {8: "u1", 16: ">i2", 32: ">i4", -32: ">f4", -64: ">f8"}

_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z?")


@dataclass
class Hdu:
    """One HDU of a checked file; `declared` is its definition, None for an HDU that is not used."""

    file: FitsFile
    index: int
    header: Cards
    header_start: int
    data_start: int
    data_size: int
    declared: Structure | None = None
    # keywords whose cards cannot be parsed; they are not in `header`
    unreadable: frozenset[str] = frozenset()
    # columns that deviate too much to be read
    unused: set[str] = field(default_factory=set)
    # what the values of columns may be
    ranges: Mapping[str, Allowed] = field(default_factory=dict)

    @property
    def extname(self) -> str:
        """EXTNAME, or PRIMARY; in the spelling of its definition, as FITS ignores case."""
        if self.index == 0:
            return "PRIMARY"
        text = self.header.text("EXTNAME")
        return _definition_names().get(text.upper(), text)

    @property
    def where(self) -> str:
        """Name of this HDU in messages."""
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
        """Return an error with `text` about this HDU."""
        return BadInputError(f"{self.where}: {text}")

    def deviates(self, text: str) -> None:
        """Note a deviation of this HDU from its definition."""
        self.file.deviations.append(f"HDU {self.index} {self.extname}: {text}")

    def keyword(self, name: str) -> Value:
        """Return the value of a declared keyword, checked for its type."""
        if self.declared is None or name not in self.declared.keywords:
            raise KeyError(f"{self.extname} declares no keyword {name}")
        keyword = self.declared.keywords[name]
        if name in self.unreadable:
            raise self.refuse(f"keyword {name} cannot be read")
        if name not in self.header:
            raise self.refuse(f"keyword {name} is missing")
        if self.header.times[name] > 1:
            raise self.refuse(f"keyword {name} occurs {times_in_words(self.header.times[name])}")
        value: Value = self.header[name]
        if fault := _value_fault(keyword, value):
            raise self.refuse(f"keyword {name} is {fault}")
        return value

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
        """Return `count` bytes of the data, or all from byte `start` on."""
        size = self.data_size - start if count is None else count
        try:
            buffer = bytearray(size)
        except MemoryError as error:
            raise BusyError(f"{self.where}: needs {size / 1e6:.0f} MB of memory") from error
        self.file.read_at(self.data_start + start, memoryview(buffer))
        return buffer

    def stored(self, start: int = 0, stop: int | None = None) -> AnyArray:
        """Return the image as stored, or planes `start` to `stop` of a cube.

        Values are big-endian, and the offset is not added.
        """
        shape = self.shape
        dtype = np.dtype(_PIXEL_TYPES[int(self.header["BITPIX"])])
        plane = math.prod(shape[1:]) * dtype.itemsize
        stop = shape[0] if stop is None else stop
        raw = self.read(start * plane, (stop - start) * plane)
        return np.frombuffer(raw, dtype).reshape(stop - start, *shape[1:])

    def image(self, start: int = 0, stop: int | None = None) -> FloatArray:
        """Return the image, or planes of a cube, as float64 with the offset added."""
        return self.stored(start, stop).astype(np.float64) + float(self.header.get("BZERO", 0.0))

    def finite_image(self, start: int = 0, stop: int | None = None) -> FloatArray:
        """Return the image like `image`; reject NaN and infinite pixels, with their number."""
        pixels = self.image(start, stop)
        if bad := int(np.count_nonzero(~np.isfinite(pixels))):
            raise self.refuse(f"{bad} of {pixels.size} pixels are NaN or infinite")
        return pixels

    def column(self, name: str) -> AnyArray:
        """Return a declared column in native byte order.

        Strings and UTC are str, integers have the declared type. Values that the file holds in
        another unit are converted to the declared one, as float64. Values out of range are
        rejected, or NaN if they count as missing; `implausible` finds the latter.
        """
        values, outside = self._within_range(name)
        return np.where(outside, values.dtype.type(np.nan), values) if outside.any() else values

    def undefined(self, name: str) -> BoolArray:
        """Return the rows of a logical column whose value is undefined; `column` has False there.

        FITS stores an undefined value as a byte 0 (standard 4.0, section 7.3.3.1).
        """
        unknown = np.asarray(self._bytes(name) == 0)
        return unknown[:, 0] if unknown.shape[1] == 1 else np.asarray(unknown.any(axis=1))

    def implausible(self, name: str) -> BoolArray:
        """Return the rows of a column with values out of range, which count as missing."""
        outside = self._within_range(name)[1]
        return np.asarray(outside if outside.ndim == 1 else outside.any(axis=1))

    def implausible_values(self, *names: str) -> list[str]:
        """Return a line about each of these columns that has values out of range."""
        lines = []
        for name in names:
            outside = self._within_range(name)[1]
            if outside.any():
                lines.append(f"{self._fault_of_range(name, outside)}; they count as missing")
        return lines

    def _within_range(self, name: str) -> tuple[AnyArray, BoolArray]:
        """Return a column, and where its values are out of range but only count as missing."""
        values = self._cells(name)
        allowed = self.ranges.get(name)
        if allowed is None or values.dtype.kind not in "iuf":
            return values, np.zeros(values.shape, np.bool_)
        outside = allowed.outside(values)
        null = self.declared.column(name).null if self.declared else None
        if null is not None:
            outside &= values != null
        if not allowed.missing:
            outside &= np.isfinite(values)  # steps say what NaN and infinity mean
        if outside.any() and not allowed.missing:
            raise self.refuse(self._fault_of_range(name, outside))
        return values, outside

    def _fault_of_range(self, name: str, outside: BoolArray) -> str:
        row = int(np.argwhere(outside)[0][0])
        first = self._cells(name)[outside][0]
        rows = int((outside if outside.ndim == 1 else outside.any(axis=1)).sum())
        return (
            f"column {name}: {rows} of {len(outside)} values are out of range, expected "
            f"{self.ranges[name]}; the first is {first:.10g} in row {row + 1}"
        )

    def _cells(self, name: str) -> AnyArray:
        """Return a declared column as `column` does, whatever its values are."""
        cells = self._bytes(name)
        assert self.declared is not None
        declared = self.declared.column(name)
        if declared.letter == "L":
            self._check_logical(name, cells)
        values = to_native(cells, declared)
        if (change := self.file.unit_changes.get((self.extname, name), (1.0, 0.0))) != (1.0, 0.0):
            values = values.astype(np.float64) * change[0] + change[1]
        return values

    def _check_logical(self, name: str, cells: AnyArray) -> None:
        """Reject bytes other than T, F and the undefined 0: a 1 would read as False."""
        wrong = ~np.isin(cells, [ord("T"), ord("F"), 0])
        if wrong.any():
            row = int(np.argwhere(wrong)[0][0])
            raise self.refuse(
                f"column {name}: {int(wrong.sum())} of {wrong.size} logical values are neither T "
                f"nor F nor undefined; the first is byte {int(cells[wrong][0])} in row {row + 1}"
            )

    def _bytes(self, name: str) -> AnyArray:
        """Return the bytes of a declared column, shape (rows, bytes of a cell)."""
        if self.declared is None:
            raise KeyError(f"{self.extname} is not declared")
        self.declared.column(name)  # KeyError for one that is not declared
        number = self.present().get(name)
        if number is None:
            raise self.refuse(
                f"column {name} {'cannot be used' if name in self.unused else 'is missing'}"
            )
        widths = [column_width(self.header, i) for i in range(1, number + 1)]
        rows, row = self.shape
        table = np.frombuffer(self._table_bytes(), np.uint8).reshape(rows, row)
        return table[:, sum(widths[:-1]) : sum(widths)]

    def finite_column(self, name: str) -> FloatArray:
        """Return a numeric column as float64; reject NaN and infinite cells, with their number."""
        values = self.column(name).astype(np.float64)
        if bad := int(np.count_nonzero(~np.isfinite(values))):
            raise self.refuse(f"column {name}: {bad} of {values.size} values are NaN or infinite")
        return values

    def _table_bytes(self) -> bytearray:
        if self.extname not in self.file.tables:
            self.file.tables[self.extname] = self.read()
        return self.file.tables[self.extname]

    def present(self) -> dict[str, int]:
        """Return the names of the readable columns of the table, with their numbers."""
        names = enumerate(self.column_names(), 1)
        return {name: i for i, name in names if name not in self.unused}

    def column_names(self) -> list[str]:
        """Return the names of all columns, in the spelling of their definition.

        Names that differ in case only are the same (FITS standard 4.0, section 7.3.2).
        """
        declared = self.declared.columns if self.declared else ()
        spelling = {column.name.upper(): column.name for column in declared}
        return [spelling.get(name.upper(), name) for name in column_names(self.header)]


@cache
def _definition_names() -> dict[str, str]:
    """Return the EXTNAMEs of all definitions by their upper-case spelling."""
    return {name.upper(): name for name in (*soc_extnames(), *TERMS)}


def _value_fault(keyword: Keyword, value: Value | None) -> str | None:
    """Return the fault of a keyword's value, or None if it has the declared type."""
    if not isinstance(value, _PYTHON_TYPES.get(keyword.type, (int, float))) or (
        isinstance(value, bool) and keyword.type != "boolean"
    ):
        return f"{'empty' if value is None else repr(value)}, expected type {keyword.type}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value}, expected a finite number"
    if keyword.type == "utc" and not _UTC.fullmatch(str(value)):
        return f"{value!r}, expected a time yyyy-mm-ddThh:mm:ss"
    return None


@dataclass
class FitsFile:
    """An open FITS file with a checked structure."""

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
        """Type of the file: EXTNAME of HDU 1."""
        return self.hdus[1].extname
