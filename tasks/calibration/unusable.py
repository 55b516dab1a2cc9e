"""Images without usable pixels, and images with the same time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from schemas.arrays import BoolArray, FloatArray, WordArray
from schemas.constants import DAY
from tasks.files.byte_order import from_big_endian
from tasks.numerics.orbit import CLOCK
from tasks.visit.raw import Exposures, by_image

FULL_SCALE = 65535  # ADU of one exposure


def flag_unusable(lowest: npt.ArrayLike, highest: npt.ArrayLike, exposures: int) -> BoolArray:
    """Flag the raw images without data: 0 throughout, or full scale throughout.

    Parameters
    ----------
    lowest, highest : array_like, shape (n,)
        Lowest and highest pixel of each image, within the circle of a circular window [ADU].
    exposures : int
        Exposures in a stack; full scale is 65535 ADU each.

    Returns
    -------
    ndarray of bool, shape (n,)
        True where the image is unusable.

    Raises
    ------
    ValueError
        If `exposures` is less than 1.
    """
    if exposures < 1:
        raise ValueError(f"NEXP is {exposures}, expected 1 or more")
    bottom, top = np.asarray(lowest, dtype=np.float64), np.asarray(highest, dtype=np.float64)
    return ~(top > 0) | ~(bottom < exposures * FULL_SCALE)


def flag_repeated_times(mjd: npt.ArrayLike, tolerance: float = CLOCK) -> BoolArray:
    """Flag the images that have the time of the image before.

    Parameters
    ----------
    mjd : array_like, shape (n,)
        Times [MJD].
    tolerance : float
        Longest difference between times that count as equal [s].

    Returns
    -------
    ndarray of bool, shape (n,)
        True for the second and later images of one time.

    Raises
    ------
    ValueError
        If a time is not finite or earlier than the one before; names the rows, counted from 1.
    """
    times = np.asarray(mjd, dtype=np.float64)
    if not np.isfinite(times).all():
        raise ValueError(f"time is missing in row {_rows(~np.isfinite(times), 1)}")
    step = np.diff(times) * DAY
    if (step < -CLOCK).any():
        raise ValueError(f"time is earlier than in the row before in row {_rows(step < -CLOCK, 2)}")
    return np.concatenate([np.zeros(min(times.size, 1), dtype=np.bool_), step <= tolerance])


def _rows(where: BoolArray, first: int) -> str:
    """Return the numbers of the first few rows where a flag is set, as text."""
    rows = np.flatnonzero(where) + first
    return ", ".join(str(row) for row in rows[:5]) + (
        f" and {rows.size - 5} more" if rows.size > 5 else ""
    )


@njit(cache=True)
def pixel_extremes(words: WordArray, inside: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Return the lowest and the highest pixel of every image, among those `inside` the window.

    Parameters
    ----------
    words : ndarray of uint32, shape (n, ny, nx)
        Raw images as big-endian words of 32-bit integers with the offset 2^31 not yet added.
    inside : ndarray of bool, shape (ny, nx)
        Pixels of the window; the others are 0 in every image.

    Returns
    -------
    lowest, highest : ndarray, shape (n,)
        [ADU].
    """
    lowest, highest = np.empty(words.shape[0]), np.empty(words.shape[0])
    for i in range(words.shape[0]):
        low, high = np.uint32(0xFFFFFFFF), np.uint32(0)
        for y in range(words.shape[1]):
            for x in range(words.shape[2]):
                if inside[y, x]:
                    v = from_big_endian(words[i, y, x]) ^ np.uint32(0x80000000)
                    low, high = min(low, v), max(high, v)
        lowest[i], highest[i] = low, high
    return lowest, highest


def unusable_images(raw: Exposures) -> BoolArray:
    """Flag the raw images without a usable pixel, shape (n,)."""
    inside = window_pixels(raw)
    extremes = by_image(raw, lambda words: pixel_extremes(words, inside))
    lowest, highest = (np.concatenate([e[k] for e in extremes]) for k in (0, 1))
    return flag_unusable(lowest, highest, raw.coadded)


def window_pixels(raw: Exposures) -> BoolArray:
    """Return the pixels of the window, shape (ny, nx): a circular one excludes the corners."""
    ny, nx = raw.shape
    if raw.image.header.get("SHAPE") != "circular":
        return np.ones((ny, nx), dtype=bool)
    # pixels that are 0 in each of a few images spread over the visit lie outside
    sampled = np.unique(np.linspace(0, raw.count - 1, 5).astype(int))
    zero = np.uint32(0x80000000).byteswap()
    outside = np.all([raw.words(i, i + 1)[0] == zero for i in sampled], axis=0)
    return ~outside if not outside.all() else np.ones((ny, nx), dtype=bool)
