"""An image as corrected so far: what every estimator and the second writing pass see of a
calibrated image.

Background, smeared light, what stands still on the detector, and the cosmic rays of the image are
taken away; each further term enters here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from schemas.arrays import FloatArray, IntArray
from schemas.inputs import term_input
from schemas.payloads import Background, Defects, Smearing
from tasks.files.disk import require
from tasks.files.reader import open_declared
from tasks.visit.images import Images
from tasks.visit.terms import term_image


@dataclass(frozen=True)
class Hits:
    """Pixels of single images that hold too much, in order of the image; those of image i are
    first[i] to first[i + 1].
    """

    first: IntArray  # (n + 1,)
    pixel: IntArray  # (m,) y * nx + x
    amount: FloatArray  # (m,) [electron]


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
    images: FloatArray,
    background: FloatArray,
    slope: FloatArray,
    centre: tuple[float, float],
    smearing: FloatArray,
    static: FloatArray,
    first: IntArray,
    pixel: IntArray,
    amount: FloatArray,
) -> None:
    """Take the known effects out of a block of calibrated images, in place.

    Parameters
    ----------
    images : ndarray, shape (n, ny, nx)
        Calibrated images [electron per stack].
    background : ndarray, shape (n,)
        Sky and stray light of a pixel at the centre [electron per stack].
    slope : ndarray, shape (n, 2)
        Its change along x and y [electron per stack and pixel].
    centre : tuple of float
        Where the background has its level, index (x, y).
    smearing : ndarray, shape (n, nx)
        Smeared light of every column [electron per stack].
    static : ndarray, shape (ny, nx)
        What every image holds too much [electron per stack].
    first, pixel, amount : ndarray, shape (n + 1,), (m,), (m,)
        Hits of the images of the block, see `Hits`.
    """
    ny, nx = images.shape[1:]
    for i in range(images.shape[0]):
        for y in range(ny):
            row = background[i] + slope[i, 1] * (y - centre[1])
            for x in range(nx):
                images[i, y, x] -= (
                    row + slope[i, 0] * (x - centre[0]) + smearing[i, x] + static[y, x]
                )
        for k in range(first[i], first[i + 1]):
            images[i, pixel[k] // nx, pixel[k] % nx] -= amount[k]


@dataclass(frozen=True)
class Effects:
    """What is known of the effects in the images of a visit; None where a step has not looked
    yet.
    """

    background: FloatArray  # (n,)
    smearing: FloatArray | None = None  # (n, nx)
    static: FloatArray | None = None  # (ny, nx)
    hits: Hits | None = None
    slope: FloatArray | None = None  # (n, 2)
    centre: tuple[float, float] = (0.0, 0.0)  # index (x, y) where the background has its level


def clean_block(images: FloatArray, block: slice, effects: Effects) -> None:
    """Take the known effects out of the images `block` of a visit, in place."""
    n, ny, nx = images.shape
    smearing = effects.smearing[block] if effects.smearing is not None else np.zeros((n, nx))
    static = effects.static if effects.static is not None else np.zeros((ny, nx))
    slope = effects.slope[block] if effects.slope is not None else np.zeros((n, 2))
    if smearing.shape != (n, nx) or static.shape != (ny, nx):
        raise ValueError(
            f"smearing {smearing.shape}, static excess {static.shape}: wanted {(n, nx)} and "
            f"{(ny, nx)}"
        )
    if effects.hits is None:
        first, pixel, amount = np.zeros(n + 1, np.int64), np.zeros(0, np.int64), np.zeros(0)
    else:
        first, pixel, amount = (
            effects.hits.first[block.start : block.stop + 1],
            effects.hits.pixel,
            effects.hits.amount,
        )
    clean(
        images,
        effects.background[block],
        slope,
        effects.centre,
        smearing,
        static,
        first,
        pixel,
        amount,
    )


def read_effects(
    images: Images,
    background: Background,
    smearing: Smearing | None = None,
    defects: Defects | None = None,
) -> Effects:
    """Return the effects that some terms hold, of the images that they were estimated from.

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
    smeared = None if smearing is None else term_image(smearing.product, "TERM_SMEARING")
    static, hits = (
        (None, None) if defects is None else read_defects(defects, images.count, images.shape)
    )
    return Effects(level, smeared, static, hits, slope, centre)


def read_defects(term: Defects, count: int, shape: tuple[int, int]) -> tuple[FloatArray, Hits]:
    """Return what stands still, and the pixels of single images that hold too much or too
    little.
    """
    extname = term.product.extname
    with open_declared(require(term.product.path), term_input(extname)) as file:
        table = file[extname]
        image, x, y = (table.column(c).astype(np.int64) for c in ("IMAGE_INDEX", "X", "Y"))
        amount = table.finite_column("AMOUNT")
        static = file["TERM_DEFECTS_STATIC"].finite_image()
    if static.shape != shape or (
        len(image) and (image.max() >= count or x.max() >= shape[1] or y.max() >= shape[0])
    ):
        raise table.refuse(f"does not belong to {count} images of {shape[1]} x {shape[0]} pixels")
    return static, hits_of(count, shape, image, x, y, amount)


def read_flags(term: Defects) -> IntArray:
    """Return the flags of the pixels (`PixelFlag`), shape (ny, nx)."""
    return term_image(term.product, "TERM_DEFECTS_FLAGS").astype(np.int64)


@dataclass(frozen=True)
class Cleaned:
    """Gives single images without the known effects."""

    images: Images
    effects: Effects

    def image(self, i: int) -> FloatArray:
        """Return image `i`, shape (ny, nx)."""
        image = self.images.take(i)[None]
        clean_block(image, slice(i, i + 1), self.effects)
        cleaned: FloatArray = image[0]
        return cleaned
