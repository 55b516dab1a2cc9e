"""Headers and metadata that calibrated and corrected products take over from the raw ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from astropy.io.fits.verify import VerifyError

from schemas.errors import BadInputError
from schemas.inputs import LEVEL1, level1_input
from schemas.payloads import Leaf, Product
from schemas.products import Column, Structure, soc_structure
from tasks.exposures import Exposures
from tasks.fits import Hdu, NewHdu, Value, blocks, open_declared
from tasks.store import require
from tasks.times import bjd_tdb

# What stands in a header where the raw file does not say: text, number of the type.
_NOTHING: Mapping[str, Value] = {"string": "N/A", "utc": "1970-01-01T00:00:00.000000", "boolean": False}


def visit_keywords(raw: Exposures, declared: Structure, source: Hdu | None = None) -> dict[str, Value]:
    """Return values of the declared keywords as the raw product has them; those it lacks get a neutral value."""
    header = (source or raw.image).header
    bjd = bjd_tdb(raw.mjd[[0, -1]], *target_position(raw))
    values: dict[str, Value] = {"PROC_CHN": "data reduction", "T_STRT_B": float(bjd[0]), "T_STOP_B": float(bjd[1])}
    for k in declared.keywords.values():
        if k.name in values or k.name in ("EXT_VER", "DATA_LVL", "BUNIT"):
            continue
        try:
            value = header.get(k.name, raw.image.header.get(k.name))
        except (VerifyError, ValueError):
            value = None
        if isinstance(value, np.generic):
            value = value.item()
        if k.type in ("integer", "unsigned", "obt"):
            fits = isinstance(value, int) and not isinstance(value, bool) and (value >= 0 or k.type != "unsigned")
        elif k.type in ("real", "mjd", "bjd"):
            fits = isinstance(value, int | float) and not isinstance(value, bool)
        else:
            fits = isinstance(value, bool if k.type == "boolean" else str)
        if fits:
            values[k.name] = value
        elif k.default is None:
            values[k.name] = _NOTHING.get(k.type, 0 if k.type in ("integer", "unsigned", "obt") else 0.0)
    return {name: value for name, value in values.items() if name in declared.keywords}


def target_position(raw: Exposures) -> tuple[float, float]:
    """Return right ascension and declination of the target [deg]."""
    header = raw.image.header
    return float(header.get("RA_TARG", 0.0)), float(header.get("DEC_TARG", 0.0))


def step_keywords(leaves: Iterable[Leaf]) -> dict[str, Value]:
    """Return the state of every step keyword; of two steps that share one, the worse."""
    order = ("N/A", "completed", "skipped", "warning")
    states: dict[str, Value] = {}
    for leaf in leaves:
        for keyword, state in leaf.status.items():
            states[keyword] = max(str(states.get(keyword, "N/A")), str(state), key=order.index)
    return states


def image_metadata(raw: Exposures, extname: str, columns: Mapping[str, npt.NDArray[np.float64]]) -> NewHdu:
    """Return the metadata table of a level 1 product: `columns`, and what the raw metadata hold under the same names."""
    declared = soc_structure(extname)
    present = raw.metadata.present()
    declared_raw = {c.name for c in soc_structure(raw.metadata.extname).columns}
    values: dict[str, npt.NDArray[np.generic]] = {"BJD_TIME": bjd_tdb(raw.mjd, *target_position(raw)), **columns}
    for c in declared.columns:
        if c.name not in values:
            known = c.name in present and c.name in declared_raw
            values[c.name] = raw.metadata.column(c.name) if known else nothing(c, raw.count)
    return NewHdu(declared, visit_keywords(raw, declared), columns=values)


def nothing(column: Column, rows: int) -> npt.NDArray[np.generic]:
    """Return what stands in a column of which nothing is known."""
    if column.letter in "ED":
        return np.full(rows, np.nan)
    if column.letter == "A":
        return np.full(rows, "")
    return np.zeros(rows, dtype=np.int64)


@dataclass(frozen=True)
class Images:
    """An open calibrated or corrected cube. `x_offset` and `y_offset` place index [0, 0] on the exposed CCD area."""

    hdu: Hdu
    count: int
    shape: tuple[int, int]
    nexp: int
    exposure_time: float
    x_offset: int
    y_offset: int
    mjd: npt.NDArray[np.float64]

    def blocks(self, size: int = 1 << 23) -> Iterator[tuple[slice, npt.NDArray[np.float64]]]:
        """Yield slices and native float64 images, block by block."""
        ny, nx = self.shape
        for a, b in blocks(self.count, ny * nx * 8, size):
            yield slice(a, b), self.hdu.stored(a, b).astype(np.float64)

    def take(self, index: int) -> npt.NDArray[np.float64]:
        """Return one image."""
        return self.hdu.stored(index, index + 1)[0].astype(np.float64)


@contextmanager
def open_images(product: Product) -> Iterator[Images]:
    """Open a calibrated or corrected sub-array.

    Raises
    ------
    BadInputError
        If counts differ, or most pixels of an image hold no finite number.
    """
    with open_declared(require(product.path), level1_input(product.extname)) as file:
        hdu, table = file[product.extname], file[LEVEL1[product.extname]]
        n, ny, nx = hdu.shape
        if table.rows != n:
            raise BadInputError(f"{file.path}: {hdu.extname} has {n} images, {table.extname} {table.rows} rows")
        offsets = hdu.integer("X_WINOFF"), hdu.integer("Y_WINOFF")
        yield Images(hdu, n, (ny, nx), hdu.integer("NEXP"), hdu.number("EXPTIME"), *offsets, table.finite_column("MJD_TIME"))
