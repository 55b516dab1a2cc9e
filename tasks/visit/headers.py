"""Keywords of the visit and its steps in the headers of products."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from schemas.payloads import Leaf
from schemas.products import Column, Structure, soc_structure
from tasks.files.reader import Hdu, Value
from tasks.files.writer import NewHdu
from tasks.numerics.times import bjd_tdb

# What stands in a header where the raw file does not say: text, number of the type.
_NOTHING: Mapping[str, Value] = {
    "string": "N/A",
    "utc": "1970-01-01T00:00:00.000000",
    "boolean": False,
}


class Source(Protocol):
    """A cube with its metadata from which headers are taken over: raw exposures, or images of level
    1.
    """

    @property
    def image(self) -> Hdu:
        """The HDU of the images."""

    @property
    def metadata(self) -> Hdu:
        """The table with one row an image."""

    @property
    def count(self) -> int:
        """Number of images."""

    @property
    def mjd(self) -> npt.NDArray[np.float64]:
        """Middle of every image, TT."""


def visit_keywords(source: Source, declared: Structure, hdu: Hdu | None = None) -> dict[str, Value]:
    """Return values of the declared keywords as the source has them; those it lacks get a neutral
    value.
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
        if k.type in ("integer", "unsigned", "obt"):
            fits = (
                isinstance(value, int)
                and not isinstance(value, bool)
                and (value >= 0 or k.type != "unsigned")
            )
        elif k.type in ("real", "mjd", "bjd"):
            fits = isinstance(value, int | float) and not isinstance(value, bool)
        else:
            fits = isinstance(value, bool if k.type == "boolean" else str)
        if fits:
            values[k.name] = value
        elif k.default is None:
            values[k.name] = _NOTHING.get(
                k.type, 0 if k.type in ("integer", "unsigned", "obt") else 0.0
            )
    return {name: value for name, value in values.items() if name in declared.keywords}


def target_position(source: Source) -> tuple[float, float]:
    """Return right ascension and declination of the target [deg]."""
    header = source.image.header
    return float(header.get("RA_TARG", 0.0)), float(header.get("DEC_TARG", 0.0))


def step_keywords(leaves: Iterable[Leaf]) -> dict[str, Value]:
    """Return the state of every step keyword; of two steps that share one, the worse."""
    order = ("N/A", "completed", "skipped", "warning")
    states: dict[str, Value] = {}
    for leaf in leaves:
        for keyword, state in leaf.status.items():
            states[keyword] = max(str(states.get(keyword, "N/A")), str(state), key=order.index)
    return states


def image_metadata(source: Source, extname: str, columns: Mapping[str, npt.NDArray[Any]]) -> NewHdu:
    """Return the metadata table of a product: `columns`, and what the source's metadata hold under
    the same names.
    """
    declared = soc_structure(extname)
    table = source.metadata
    known = table.present().keys() & {c.name for c in soc_structure(table.extname).columns}
    values: dict[str, npt.NDArray[Any]] = {
        "BJD_TIME": bjd_tdb(source.mjd, *target_position(source)),
        **columns,
    }
    for c in declared.columns:
        if c.name not in values:
            values[c.name] = table.column(c.name) if c.name in known else nothing(c, source.count)
    return NewHdu(declared, visit_keywords(source, declared), columns=values)


def nothing(column: Column, rows: int) -> npt.NDArray[Any]:
    """Return what stands in a column of which nothing is known."""
    if column.letter in "ED":
        return np.full(rows, np.nan)
    if column.letter == "A":
        return np.full(rows, "")
    return np.zeros(rows, dtype=np.int64)
