"""Any SOC product, with neutral values: for tests that need a file of a kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from schemas.products import Structure, soc_structure
from schemas.ranges import column_ranges
from tasks.files.columns import column_width
from tasks.files.reader import scan
from tasks.files.writer import NewHdu

# the lowest MJD allowed, in UTC
UTC = "1999-12-31T23:58:55.816"


def neutral(
    structure: Structure, **values: str | int | float | bool
) -> dict[str, str | int | float | bool]:
    """Return a value of the right type for every keyword."""
    nothing: dict[str, str | int | float | bool] = {
        "string": "x",
        "utc": "2020-01-01T00:00:00",
        "boolean": False,
        "real": 1.0,
        "mjd": 1.0,
        "bjd": 1.0,
    }
    return {k.name: values.get(k.name, nothing.get(k.type, 1)) for k in structure.keywords.values()}


def some_table(extname: str, rows: int, **given: Any) -> NewHdu:
    """Return a table with the `given` columns; other numbers are 0, or the lowest allowed."""
    structure, ranges = soc_structure(extname), column_ranges(extname)
    columns = {}
    for c in structure.columns:
        shape = (rows, c.size) if c.size > 1 and c.letter != "A" else (rows,)
        allowed = ranges.get(c.name)
        number = 0 if c.letter == "L" or allowed is None or allowed.permits(0) else allowed.low
        fill = UTC if c.type == "utc" else "x" if c.letter == "A" else number
        columns[c.name] = np.asarray(given.get(c.name, np.full(shape, fill)))
    return NewHdu(structure, neutral(structure), columns=columns)


def some_image(extname: str, shape: tuple[int, ...], **values: str | int | float | bool) -> NewHdu:
    structure = soc_structure(extname)
    return NewHdu(structure, neutral(structure, **values), pixels=np.ones(shape))


RAW_VALUES: dict[str, str | int | float | bool] = {
    "STACKING": "coadd",
    "RO_HW": "main",
    "RO_FREQU": 100_000,
    "SHAPE": "rectangular",
}


def set_logical(path: Path, column: str, rows: Sequence[int], byte: int = 0) -> None:
    """Put a byte, undefined by default, into a logical column of the first table of a file."""
    with scan(path) as file:
        hdu = next(h for h in file.hdus[1:] if column in h.column_names())
        number = hdu.column_names().index(column) + 1
        offset = sum(column_width(hdu.header, i) for i in range(1, number))
        places = [hdu.data_start + row * hdu.shape[1] + offset for row in rows]
    data = bytearray(path.read_bytes())
    for place in places:
        data[place] = byte
    path.write_bytes(data.replace(b"CHECKSUM=", b"CHECKSUX=").replace(b"DATASUM =", b"DATASUX ="))
