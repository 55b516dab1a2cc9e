"""Keywords of the visit and of its steps in the headers of products."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from schemas.arrays import AnyArray, FloatArray
from schemas.payloads import Leaf
from schemas.products import Column, KeywordType, Structure, soc_structure
from tasks.files.reader import Hdu, Value
from tasks.files.writer import NewHdu
from tasks.numerics.times import bjd_tdb

_WHOLE = ("integer", "unsigned", "obt")

_REAL = ("real", "mjd", "bjd")

# values of keywords that the raw file lacks
_NEUTRAL: Mapping[str, Value] = {
    "string": "N/A",
    "utc": "1970-01-01T00:00:00.000000",
    "boolean": False,
    **dict.fromkeys(_WHOLE, 0),
    **dict.fromkeys(_REAL, 0.0),
}


class Source(Protocol):
    """A cube with its metadata, raw or of level 1, whose headers a product inherits."""

    @property
    def image(self) -> Hdu:
        """The HDU of the images."""

    @property
    def metadata(self) -> Hdu:
        """The table with one row per image."""

    @property
    def count(self) -> int:
        """Number of images."""

    @property
    def mjd(self) -> FloatArray:
        """Middle of every image [MJD, TT]."""


def visit_keywords(source: Source, declared: Structure, hdu: Hdu | None = None) -> dict[str, Value]:
    """Return the values of the declared keywords in the source.

    A keyword that it lacks, or has with another type, gets its default or a neutral value.
    """
    header = (hdu or source.image).header
    bjd = bjd_tdb(source.mjd[[0, -1]], *target_position(source))
    values: dict[str, Value] = {
        "PROC_CHN": "data reduction",
        "T_STRT_B": float(bjd[0]),
        "T_STOP_B": float(bjd[1]),
    }
    for k in declared.keywords.values():
        if k.name in values or k.name in ("EXT_VER", "DATA_LVL", "BUNIT"):
            continue
        value: Any = header.get(k.name, source.image.header.get(k.name))
        if _has_type(value, k.type):
            values[k.name] = value
        elif k.default is None:
            values[k.name] = _NEUTRAL[k.type]
    return {name: value for name, value in values.items() if name in declared.keywords}


def _has_type(value: object, declared: KeywordType) -> bool:
    if declared in ("string", "utc"):
        return isinstance(value, str)
    if isinstance(value, bool) or declared == "boolean":
        return isinstance(value, bool) and declared == "boolean"
    if declared in _REAL:
        return isinstance(value, int | float)
    return isinstance(value, int) and (value >= 0 or declared != "unsigned")


def target_position(source: Source) -> tuple[float, float]:
    """Return right ascension and declination of the target [deg]."""
    header = source.image.header
    return float(header.get("RA_TARG", 0.0)), float(header.get("DEC_TARG", 0.0))


def step_keywords(leaves: Iterable[Leaf]) -> dict[str, Value]:
    """Return the state of every step keyword, the worse of two steps that share one."""
    order = ("N/A", "completed", "skipped", "warning")
    states: dict[str, Value] = {}
    for leaf in leaves:
        for keyword, state in leaf.status.items():
            states[keyword] = max(str(states.get(keyword, "N/A")), str(state), key=order.index)
    return states


def image_metadata(source: Source, extname: str, columns: Mapping[str, AnyArray]) -> NewHdu:
    """Return the metadata table of a product.

    Columns that are not in `columns` are copied from the metadata of the source, so far as it has
    them.
    """
    declared = soc_structure(extname)
    table = source.metadata
    known = table.present().keys() & {c.name for c in soc_structure(table.extname).columns}
    values: dict[str, AnyArray] = {
        "BJD_TIME": bjd_tdb(source.mjd, *target_position(source)),
        **columns,
    }
    for c in declared.columns:
        if c.name not in values:
            values[c.name] = table.column(c.name) if c.name in known else nothing(c, source.count)
    return NewHdu(declared, visit_keywords(source, declared), columns=values)


def nothing(column: Column, rows: int) -> AnyArray:
    """Return the values of a column without data: NaN, empty text, or 0."""
    if column.letter in "ED":
        return np.full(rows, np.nan)
    if column.letter == "A":
        return np.full(rows, "")
    return np.zeros(rows, dtype=np.int64)
