"""Columns of binary tables: names and formats in a header, values in the bytes of the cells.

FITS standard 4.0 (2018), section 7.3.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from schemas.arrays import AnyArray
from schemas.products import STORED, Column
from tasks.files.header import Cards

MAX_ROW = 1 << 24  # bytes; real rows need some hundred

# a repeat count of more digits is no format that is read
_TFORM = re.compile(r"([0-9]{0,9})([LXBIJKAEDCMPQ])")

# bytes of one element; formats without an entry (bits, arrays of variable length) are not read
_WIDTH = {"L": 1, "B": 1, "I": 2, "J": 4, "K": 8, "A": 1, "E": 4, "D": 8, "C": 8, "M": 16}


def column_names(header: Cards) -> list[str]:
    """Return the names of all columns, in order."""
    return [header.text(f"TTYPE{i}") for i in range(1, int(header["TFIELDS"]) + 1)]


def column_format(header: Cards, number: int) -> tuple[int, str]:
    """Return repeat count and letter of a column's format, or (0, "?") if there is none."""
    match = _TFORM.match(header.text(f"TFORM{number}"))
    return (int(match[1] or 1), match[2]) if match else (0, "?")


def column_width(header: Cards, number: int) -> int:
    """Return the bytes of one cell of a column; KeyError if its format is not read."""
    repeat, letter = column_format(header, number)
    return repeat * _WIDTH[letter]


def row_width(header: Cards, columns: int) -> int:
    """Return the bytes of a row; ValueError if a column has a format that is not read."""
    width = 0
    for i in range(1, columns + 1):
        if column_format(header, i)[1] not in _WIDTH:
            raise ValueError(
                f"column {header.get(f'TTYPE{i}', i)} has the format {header.get(f'TFORM{i}')}"
            )
        width += column_width(header, i)
    return width


def to_native(cells: npt.NDArray[np.uint8], declared: Column) -> AnyArray:
    """Return the values of a column from its bytes.

    Parameters
    ----------
    cells : ndarray of uint8, shape (rows, bytes of a cell)
        The column as it lies in the file.
    declared : Column
        Its definition, which the format in the header matches.

    Returns
    -------
    ndarray, shape (rows,) or (rows, elements)
        Strings and UTC as str, booleans as bool, numbers in native byte order, offset added.
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
    values: AnyArray = cells.view(base).reshape(shape).astype(base.newbyteorder("="))
    if declared.tzero > 0:
        unsigned = np.dtype(f"u{base.itemsize}")
        values = np.bitwise_xor(values.view(unsigned), np.array(declared.tzero, unsigned))
    elif declared.tzero < 0:
        values = np.add(values, declared.tzero, dtype=np.int16)
    return values
