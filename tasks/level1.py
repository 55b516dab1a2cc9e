"""Headers and metadata that calibrated and corrected products take over from the raw ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from schemas.errors import BadInputError
from schemas.inputs import LEVEL1, level1_input
from schemas.payloads import Leaf, Product
from schemas.products import Column, Structure, soc_structure
from tasks.fits import Hdu, Value, blocks, open_declared
from tasks.fits_writer import NewHdu
from tasks.store import require
from tasks.times import bjd_tdb

# What stands in a header where the raw file does not say: text, number of the type.
_NOTHING: Mapping[str, Value] = {"string": "N/A", "utc": "1970-01-01T00:00:00.000000", "boolean": False}


class Source(Protocol):
    """A cube with its metadata from which headers are taken over: raw exposures, or images of level 1."""

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
    """Return values of the declared keywords as the source has them; those it lacks get a neutral value."""
    header = (hdu or source.image).header
    bjd = bjd_tdb(source.mjd[[0, -1]], *target_position(source))
    values: dict[str, Value] = {"PROC_CHN": "data reduction", "T_STRT_B": float(bjd[0]), "T_STOP_B": float(bjd[1])}
    for k in declared.keywords.values():
        if k.name in values or k.name in ("EXT_VER", "DATA_LVL", "BUNIT"):
            continue
        value: Any = header.get(k.name, source.image.header.get(k.name))
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
    """Return the metadata table of a product: `columns`, and what the source's metadata hold under the same names."""
    declared = soc_structure(extname)
    table = source.metadata
    known = table.present().keys() & {c.name for c in soc_structure(table.extname).columns}
    values: dict[str, npt.NDArray[Any]] = {"BJD_TIME": bjd_tdb(source.mjd, *target_position(source)), **columns}
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


@dataclass(frozen=True)
class Images:
    """An open calibrated or corrected cube. `x_offset` and `y_offset` place index [0, 0] on the exposed CCD area."""

    image: Hdu
    metadata: Hdu
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
            yield slice(a, b), self.image.stored(a, b).astype(np.float64)

    def take(self, index: int) -> npt.NDArray[np.float64]:
        """Return one image."""
        image: npt.NDArray[np.float64] = self.image.stored(index, index + 1)[0].astype(np.float64)
        return image


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
        yield Images(
            hdu, table, n, (ny, nx), hdu.integer("NEXP"), hdu.number("EXPTIME"), *offsets, table.finite_column("MJD_TIME")
        )


@contextmanager
def open_frame(product: Product) -> Iterator[tuple[Images, npt.NDArray[np.float64]]]:
    """Open a calibrated or corrected full array; yield it with its pixels, shape (ny, nx)."""
    with open_declared(require(product.path), level1_input(product.extname)) as file:
        hdu, table = file[product.extname], file[LEVEL1[product.extname]]
        if table.rows != 1:
            raise BadInputError(f"{file.path}: {hdu.extname} is one image, {table.extname} has {table.rows} rows")
        ny, nx = hdu.shape
        frame = Images(
            hdu, table, 1, (ny, nx), hdu.integer("NEXP"), hdu.number("EXPTIME"), 0, 0, table.finite_column("MJD_TIME")
        )  # fmt: skip
        yield frame, hdu.stored().astype(np.float64)


@dataclass(frozen=True)
class Imagettes:
    """An open calibrated or corrected cube of imagettes, each with its own place and number of exposures.

    `x_offset` and `y_offset`, shape (n,), place index [0, 0] of each imagette on the exposed CCD area.
    """

    image: Hdu
    metadata: Hdu
    count: int
    shape: tuple[int, int]
    nexp: npt.NDArray[np.float64]
    exposure_time: float
    x_offset: npt.NDArray[np.int64]
    y_offset: npt.NDArray[np.int64]
    mjd: npt.NDArray[np.float64]

    @property
    def duration(self) -> npt.NDArray[np.float64]:
        """Exposure time of every imagette [s]."""
        return self.nexp * self.exposure_time

    def blocks(self, size: int = 1 << 23) -> Iterator[tuple[slice, npt.NDArray[np.float64]]]:
        """Yield slices and native float64 imagettes, block by block."""
        ny, nx = self.shape
        for a, b in blocks(self.count, ny * nx * 8, size):
            yield slice(a, b), self.image.stored(a, b).astype(np.float64)


@contextmanager
def open_imagettes(product: Product) -> Iterator[Imagettes]:
    """Open calibrated or corrected imagettes.

    Raises
    ------
    BadInputError
        If counts differ, or an imagette holds no exposure.
    """
    with open_declared(require(product.path), level1_input(product.extname)) as file:
        hdu, table = file[product.extname], file[LEVEL1[product.extname]]
        n, ny, nx = hdu.shape
        if table.rows != n:
            raise BadInputError(f"{file.path}: {hdu.extname} has {n} imagettes, {table.extname} {table.rows} rows")
        stacked = table.column("NEXP").astype(np.float64)
        if (stacked < 1).any():
            raise table.refuse("column NEXP holds 0")
        x, y = (table.column(f"{c}_OFF_FULL_ARRAY").astype(np.int64) for c in "XY")
        mjd = table.finite_column("MJD_TIME")
        yield Imagettes(hdu, table, n, (ny, nx), stacked, hdu.number("EXPTIME"), x, y, mjd)
