"""An image as corrected so far: what every estimator and the second writing pass see of a calibrated image.

Background, smeared light, what stands still on the detector, and the cosmic rays of the image are taken away; each further term
enters here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Hits:
    """Pixels of single images that hold too much, in order of the image; those of image i are first[i] to first[i + 1]."""

    first: IntArray  # (n + 1,)
    pixel: IntArray  # (m,) y * nx + x
    amount: FloatArray  # (m,) [electron]


def hits_of(count: int, shape: tuple[int, int], image: IntArray, x: IntArray, y: IntArray, amount: FloatArray) -> Hits:
    """Return the hits of `count` images from a list in any order."""
    order = np.argsort(image, kind="stable")
    first = np.searchsorted(image[order], np.arange(count + 1))
    return Hits(first.astype(np.int64), (y[order] * shape[1] + x[order]).astype(np.int64), amount[order])


@njit(cache=True, nogil=True, error_model="numpy")
def clean(
    images: FloatArray,
    background: FloatArray,
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
        Sky and stray light of a pixel [electron per stack].
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
            for x in range(nx):
                images[i, y, x] -= background[i] + smearing[i, x] + static[y, x]
        for k in range(first[i], first[i + 1]):
            images[i, pixel[k] // nx, pixel[k] % nx] -= amount[k]


@dataclass(frozen=True)
class Effects:
    """What is known of the effects in the images of a visit; None where a step has not looked yet."""

    background: FloatArray  # (n,)
    smearing: FloatArray | None = None  # (n, nx)
    static: FloatArray | None = None  # (ny, nx)
    hits: Hits | None = None


def clean_block(images: FloatArray, block: slice, effects: Effects) -> None:
    """Take the known effects out of the images `block` of a visit, in place."""
    n, ny, nx = images.shape
    smearing = effects.smearing[block] if effects.smearing is not None else np.zeros((n, nx))
    static = effects.static if effects.static is not None else np.zeros((ny, nx))
    if smearing.shape != (n, nx) or static.shape != (ny, nx):
        raise ValueError(f"smearing {smearing.shape}, static excess {static.shape}: wanted {(n, nx)} and {(ny, nx)}")
    if effects.hits is None:
        first, pixel, amount = np.zeros(n + 1, np.int64), np.zeros(0, np.int64), np.zeros(0)
    else:
        first, pixel, amount = effects.hits.first[block.start : block.stop + 1], effects.hits.pixel, effects.hits.amount
    clean(images, effects.background[block], smearing, static, first, pixel, amount)
