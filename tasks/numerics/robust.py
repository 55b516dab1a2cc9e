"""Robust statistics that several steps use."""

from __future__ import annotations

import numpy as np
from numba import njit

from schemas.arrays import FloatArray

MAD_TO_SIGMA = 1.482602218505602  # of a normal distribution

MOST_ROUNDS = 50

RESTS = 1e-4  # of the clipping limit; a centre that moves less rests


def robust_scatter(values: FloatArray) -> float:
    """Return 1.4826 times the median distance from the median of the finite values; 0 if there are
    none.
    """
    good = values[np.isfinite(values)]
    return float(MAD_TO_SIGMA * np.median(np.abs(good - np.median(good)))) if good.size else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def ring_statistics(
    images: FloatArray,
    x: FloatArray,
    y: FloatArray,
    inner: float,
    outer: float,
    clip: float,
    out: FloatArray,
) -> None:
    """Measure the ring around a place in every image.

    Parameters
    ----------
    images : ndarray, shape (n, ny, nx)
        Images; pixels that are no numbers are left out.
    x, y : ndarray, shape (n,)
        Centre, in the image's own axes, pixel i spans [i, i+1) [pixel].
    inner, outer : float
        Radii [pixel]; pixels whose centres lie between them are used.
    clip : float
        Pixels further than this from the centre are left out [robust sigma of the ring]. The centre
        begins at the median and becomes the mean of the kept pixels, until it rests.
    out : ndarray, shape (n, 4)
        Receives median of all pixels, mean, standard deviation and number of the kept; NaN, NaN,
        NaN, 0 without pixels.
    """
    ny, nx = images.shape[1:]
    values = np.empty(ny * nx)
    for i in range(images.shape[0]):
        count = 0
        for row in range(max(int(y[i] - outer) - 1, 0), min(int(y[i] + outer) + 2, ny)):
            for col in range(max(int(x[i] - outer) - 1, 0), min(int(x[i] + outer) + 2, nx)):
                d2 = (col + 0.5 - x[i]) ** 2 + (row + 0.5 - y[i]) ** 2
                if inner * inner <= d2 <= outer * outer and np.isfinite(images[i, row, col]):
                    values[count] = images[i, row, col]
                    count += 1
        if count == 0:
            out[i] = np.nan, np.nan, np.nan, 0.0
            continue
        ring = values[:count]
        centre = np.median(ring)
        limit = clip * MAD_TO_SIGMA * np.median(np.abs(ring - centre))
        out[i, 0] = centre
        for _ in range(MOST_ROUNDS):
            number, total, squares = 0, 0.0, 0.0
            for value in ring:
                d = value - centre
                if np.abs(d) <= limit:
                    number += 1
                    total += d
                    squares += d * d
            shift = total / number
            out[i, 1], out[i, 2], out[i, 3] = (
                centre + shift,
                np.sqrt(max(squares / number - shift * shift, 0.0)),
                number,
            )
            centre += shift
            if np.abs(shift) <= RESTS * limit:
                break
