"""Any SOC product, with neutral values: for tests that need a file of a kind."""

from __future__ import annotations

import numpy as np

from schemas.products import Structure, soc_structure
from tasks.files.writer import NewHdu


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


def some_table(extname: str, rows: int) -> NewHdu:
    structure = soc_structure(extname)
    shapes = {
        c.name: (rows, c.size) if c.size > 1 and c.letter != "A" else (rows,)
        for c in structure.columns
    }
    columns = {
        c.name: np.full(shapes[c.name], "x" if c.letter == "A" else 0) for c in structure.columns
    }
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
