"""Calibrated and corrected cubes, opened: their images with times and places."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from schemas.arrays import FloatArray, IntArray
from schemas.errors import BadInputError
from schemas.inputs import LEVEL1, level1_input
from schemas.payloads import Product
from tasks.files.disk import require
from tasks.files.reader import Hdu, blocks, open_declared


@dataclass(frozen=True)
class Images:
    """An open calibrated or corrected cube.

    `x_offset` and `y_offset` are the position of index [0, 0] on the exposed area of the CCD.
    """

    image: Hdu
    metadata: Hdu
    count: int
    shape: tuple[int, int]
    nexp: int
    exposure_time: float
    x_offset: int
    y_offset: int
    mjd: FloatArray

    def blocks(self, size: int = 1 << 23) -> Iterator[tuple[slice, FloatArray]]:
        """Yield slices and native float64 images, block by block."""
        ny, nx = self.shape
        for a, b in blocks(self.count, ny * nx * 8, size):
            yield slice(a, b), self.image.stored(a, b).astype(np.float64)

    def take(self, index: int) -> FloatArray:
        """Return one image."""
        image: FloatArray = self.image.stored(index, index + 1)[0].astype(np.float64)
        return image


@contextmanager
def open_images(product: Product) -> Iterator[Images]:
    """Open a calibrated or corrected sub-array.

    Raises
    ------
    BadInputError
        If image and table differ in the number of images, or a time is not finite.
    """
    with open_declared(require(product.path), level1_input(product.extname)) as file:
        hdu, table = file[product.extname], file[LEVEL1[product.extname]]
        n, ny, nx = hdu.shape
        if table.rows != n:
            raise BadInputError(
                f"{file.path}: {hdu.extname} has {n} images, {table.extname} has {table.rows} rows"
            )
        exposure = hdu.integer("NEXP"), hdu.number("EXPTIME")
        offset = hdu.integer("X_WINOFF"), hdu.integer("Y_WINOFF")
        mjd = table.finite_column("MJD_TIME")
        yield Images(hdu, table, n, (ny, nx), *exposure, *offset, mjd)


@contextmanager
def open_frame(product: Product) -> Iterator[tuple[Images, FloatArray]]:
    """Open a calibrated or corrected full array; yield it with its pixels, shape (ny, nx)."""
    with open_declared(require(product.path), level1_input(product.extname)) as file:
        hdu, table = file[product.extname], file[LEVEL1[product.extname]]
        if table.rows != 1:
            raise BadInputError(
                f"{file.path}: {hdu.extname} has 1 image, {table.extname} has {table.rows} rows"
            )
        ny, nx = hdu.shape
        exposure = hdu.integer("NEXP"), hdu.number("EXPTIME")
        mjd = table.finite_column("MJD_TIME")
        yield Images(hdu, table, 1, (ny, nx), *exposure, 0, 0, mjd), hdu.stored().astype(np.float64)


@dataclass(frozen=True)
class Imagettes:
    """An open calibrated or corrected cube of imagettes.

    Each has its own position and number of exposures: `x_offset` and `y_offset`, shape (n,), are
    the position of index [0, 0] on the exposed area of the CCD.
    """

    image: Hdu
    metadata: Hdu
    count: int
    shape: tuple[int, int]
    nexp: FloatArray
    exposure_time: float
    x_offset: IntArray
    y_offset: IntArray
    mjd: FloatArray

    @property
    def duration(self) -> FloatArray:
        """Exposure time of every imagette [s]."""
        return self.nexp * self.exposure_time

    def blocks(self, size: int = 1 << 23) -> Iterator[tuple[slice, FloatArray]]:
        """Yield slices and native float64 imagettes, block by block."""
        ny, nx = self.shape
        for a, b in blocks(self.count, ny * nx * 8, size):
            yield slice(a, b), self.image.stored(a, b).astype(np.float64)

    def take(self, index: int) -> FloatArray:
        """Return one imagette."""
        image: FloatArray = self.image.stored(index, index + 1)[0].astype(np.float64)
        return image


@contextmanager
def open_imagettes(product: Product) -> Iterator[Imagettes]:
    """Open calibrated or corrected imagettes.

    Raises
    ------
    BadInputError
        If image and table differ in the number of imagettes, a time is not finite, or an imagette
        holds no exposure.
    """
    with open_declared(require(product.path), level1_input(product.extname)) as file:
        hdu, table = file[product.extname], file[LEVEL1[product.extname]]
        n, ny, nx = hdu.shape
        if table.rows != n:
            raise BadInputError(
                f"{file.path}: {hdu.extname} has {n} imagettes, {table.extname} has "
                f"{table.rows} rows"
            )
        stacked = table.column("NEXP").astype(np.float64)
        if (stacked < 1).any():
            raise table.refuse("column NEXP contains 0, expected at least 1")
        x, y = (table.column(f"{c}_OFF_FULL_ARRAY").astype(np.int64) for c in "XY")
        mjd = table.finite_column("MJD_TIME")
        yield Imagettes(hdu, table, n, (ny, nx), stacked, hdu.number("EXPTIME"), x, y, mjd)
