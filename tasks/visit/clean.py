"""Calibrated images without the effects that are known so far.

Every estimator and the writers of the corrected images subtract background, smeared light, the
steady excess of pixels and the cosmic rays of single images here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from schemas.arrays import FloatArray, IntArray
from schemas.inputs import term_input
from schemas.payloads import Background, Defects, Smearing
from tasks.files.disk import require
from tasks.files.reader import open_declared
from tasks.visit.images import Images
from tasks.visit.terms import read_smearing, term_image


class Hits(NamedTuple):
    """Pixels of single images with excess charge, in order of the image.

    Those of image i are first[i] to first[i + 1].
    """

    first: IntArray  # (n + 1,)
    pixel: IntArray  # (m,) y * nx + x
    amount: FloatArray  # (m,) [electron]


class Sky(NamedTuple):
    """Sky and stray light of some images."""

    level: FloatArray  # (n,) of a pixel at the centre [electron per stack]
    slope: FloatArray  # (n, 2) change along x and y [electron per stack and pixel]
    centre: tuple[float, float]  # index (x, y)


def hits_of(
    count: int,
    shape: tuple[int, int],
    image: IntArray,
    x: IntArray,
    y: IntArray,
    amount: FloatArray,
) -> Hits:
    """Return the hits of `count` images from a list in any order."""
    order = np.argsort(image, kind="stable")
    first = np.searchsorted(image[order], np.arange(count + 1))
    return Hits(
        first.astype(np.int64), (y[order] * shape[1] + x[order]).astype(np.int64), amount[order]
    )


@njit(cache=True, nogil=True, error_model="numpy")
def clean(
    images: FloatArray, sky: Sky, smearing: FloatArray, static: FloatArray, hits: Hits
) -> None:
    """Subtract the known effects from a block of calibrated images, in place.

    Parameters
    ----------
    images : ndarray, shape (n, ny, nx)
        Calibrated images [electron per stack].
    sky : Sky
        Background of these images.
    smearing : ndarray, shape (n, nx)
        Smeared light of every column [electron per stack].
    static : ndarray, shape (ny, nx)
        Steady excess of every pixel [electron per stack].
    hits : Hits
        Pixels of these images with excess charge.
    """
    ny, nx = images.shape[1:]
    for i in range(images.shape[0]):
        for y in range(ny):
            row = sky.level[i] + sky.slope[i, 1] * (y - sky.centre[1])
            for x in range(nx):
                images[i, y, x] -= (
                    row + sky.slope[i, 0] * (x - sky.centre[0]) + smearing[i, x] + static[y, x]
                )
        for k in range(hits.first[i], hits.first[i + 1]):
            images[i, hits.pixel[k] // nx, hits.pixel[k] % nx] -= hits.amount[k]


@dataclass(frozen=True)
class Effects:
    """Known effects in the images of a visit; None for those that are not estimated yet."""

    background: FloatArray  # (n,)
    smearing: FloatArray | None = None  # (n, nx)
    static: FloatArray | None = None  # (ny, nx)
    hits: Hits | None = None
    slope: FloatArray | None = None  # (n, 2)
    centre: tuple[float, float] = (0.0, 0.0)  # index (x, y) where the background has its level

    def sky(self, block: slice) -> Sky:
        """Return the background of the images `block`."""
        level = self.background[block]
        slope = self.slope[block] if self.slope is not None else np.zeros((len(level), 2))
        return Sky(level, slope, self.centre)

    def hits_in(self, block: slice) -> Hits:
        """Return the hits of the images `block`."""
        if self.hits is None:
            count = block.stop - block.start
            return Hits(np.zeros(count + 1, np.int64), np.zeros(0, np.int64), np.zeros(0))
        return self.hits._replace(first=self.hits.first[block.start : block.stop + 1])


def clean_block(images: FloatArray, block: slice, effects: Effects) -> None:
    """Subtract the known effects from the images `block` of a visit, in place."""
    n, ny, nx = images.shape
    smearing = effects.smearing[block] if effects.smearing is not None else np.zeros((n, nx))
    static = effects.static if effects.static is not None else np.zeros((ny, nx))
    if smearing.shape != (n, nx) or static.shape != (ny, nx):
        raise ValueError(
            f"smearing {smearing.shape}, static excess {static.shape}: expected {(n, nx)} and "
            f"{(ny, nx)}"
        )
    clean(images, effects.sky(block), smearing, static, effects.hits_in(block))


def read_effects(
    images: Images,
    background: Background,
    smearing: Smearing | None = None,
    defects: Defects | None = None,
) -> Effects:
    """Read the effects from the terms that were estimated from some images.

    Raises
    ------
    BadInputError
        If a term does not belong to these images.
    """
    extname = background.product.extname
    with open_declared(require(background.product.path), term_input(extname)) as file:
        table = file[extname]
        centre = (
            table.number("BKG_X") - images.x_offset - 0.5,
            table.number("BKG_Y") - images.y_offset - 0.5,
        )
        slope = np.stack([table.finite_column("SLOPE_X"), table.finite_column("SLOPE_Y")], axis=1)
        level = table.finite_column("LEVEL")
    smeared = None if smearing is None else read_smearing(smearing)
    static, hits = (
        (None, None) if defects is None else read_defects(defects, images.count, images.shape)
    )
    return Effects(level, smeared, static, hits, slope, centre)


def read_defects(term: Defects, count: int, shape: tuple[int, int]) -> tuple[FloatArray, Hits]:
    """Return the steady excess, shape (ny, nx), and the corrected pixels of single images."""
    extname = term.product.extname
    with open_declared(require(term.product.path), term_input(extname)) as file:
        table = file[extname]
        image, x, y = (table.column(c).astype(np.int64) for c in ("IMAGE_INDEX", "X", "Y"))
        amount = table.finite_column("AMOUNT")
        static = file["TERM_DEFECTS_STATIC"].finite_image()
    if static.shape != shape or (
        len(image)
        and (
            image.max() >= count
            or x.max() >= shape[1]
            or y.max() >= shape[0]
            or min(image.min(), x.min(), y.min()) < 0
        )
    ):
        raise table.refuse(f"does not belong to {count} images of {shape[1]} x {shape[0]} pixels")
    return static, hits_of(count, shape, image, x, y, amount)


def read_flags(term: Defects) -> IntArray:
    """Return the flags of the pixels (`PixelFlag`), shape (ny, nx)."""
    return term_image(term.product, "TERM_DEFECTS_FLAGS").astype(np.int64)
