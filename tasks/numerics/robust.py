"""Robust statistics."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from numba import njit

from schemas.arrays import Float32Array, FloatArray
from tasks.numerics.inner import inner_njit

AnyFloat = TypeVar("AnyFloat", FloatArray, Float32Array)

MAD_TO_SIGMA = 1.482602218505602  # of a normal distribution

MOST_ROUNDS = 50

# number of values from which on a sample of them brackets the median, size of the sample, and its
# ranks on either side of the middle: four standard deviations of that of the median
MANY, SAMPLE, MARGIN = 2048, 512, 45

RESTS = 1e-4  # of the clipping limit; a level that moves less has converged


def robust_scatter(values: FloatArray) -> float:
    """Return the robust standard deviation of the finite values: ``1.4826 median|v - median v|``.

    Without finite values it is 0.
    """
    good = values[np.isfinite(values)]
    return float(MAD_TO_SIGMA * np.median(np.abs(good - np.median(good)))) if good.size else 0.0


def median_of_known(values: AnyFloat) -> AnyFloat:
    """Return the median of the finite values along the first axis; NaN where there are none.

    Much faster than nanmedian if few values are missing.
    """
    median = np.median(values, axis=0)
    some = ~np.isfinite(median)
    if some.any():
        column = values[:, some]
        column[~np.isfinite(column)] = np.nan
        known = np.asarray(np.isfinite(column).any(axis=0))
        usual = np.full(len(known), np.nan)
        usual[known] = np.nanmedian(column[:, known], axis=0)
        median[some] = usual
    return median


@njit(cache=True, nogil=True, error_model="numpy")
def select(values: FloatArray, k: int) -> float:
    """Return the value that sorting would bring to place `k`; none before it is larger afterwards.

    This and the functions below exist because those of numpy take seconds to compile.
    """
    low, high = 0, values.size - 1
    while low < high:  # Hoare's selection
        pivot, i, j = values[k], low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while pivot < values[j]:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if j < k:
            low = i
        if k < i:
            high = j
    return float(values[k])


@njit(cache=True, nogil=True, error_model="numpy")
def median_of(values: FloatArray) -> float:
    """Return the median of finite values, shape (n,), n > 0, and change their order."""
    n = values.size
    if n >= MANY:
        near = np.empty(n)
        count, below = _near_median(values, near)
        if below < n // 2 + n % 2 and n // 2 < below + count:
            return _middle(near[:count], n // 2 - below, n % 2 == 0)
    return _middle(values, n // 2, n % 2 == 0)


@inner_njit(cache=True, nogil=True, error_model="numpy")
def _near_median(values: FloatArray, near: FloatArray) -> tuple[int, int]:
    """Copy the values between two quantiles of a sample, about its median, to `near`.

    Returns their number, and how many values are smaller. One pass over the values is several times
    faster than to select among all of them. The median is hardly ever outside of the two.
    """
    sample, step = np.empty(SAMPLE), values.size // SAMPLE
    for i in range(SAMPLE):
        sample[i] = values[i * step]
    low, high = select(sample, SAMPLE // 2 - MARGIN), select(sample, SAMPLE // 2 + MARGIN)
    count = below = 0
    for value in values:
        near[count] = value  # kept if the count goes up
        count += int(low <= value) * int(value <= high)
        below += int(value < low)
    return count, below


@inner_njit(cache=True, nogil=True, error_model="numpy")
def _middle(values: FloatArray, half: int, even: bool) -> float:
    """Return the value at place `half` in order or, if `even`, its mean with the one before."""
    upper = select(values, half)
    if not even:
        return float(upper)
    lower = values[0]
    for i in range(1, half):
        lower = max(lower, values[i])
    return float((lower + upper) / 2)


@njit(cache=True, nogil=True, error_model="numpy")
def sort_values(values: npt.NDArray[Any]) -> None:
    """Sort values in place, by heap."""
    n = values.size
    for step in range(n // 2 + n):
        if step < n // 2:
            top, size = n // 2 - 1 - step, n
        else:
            top, size = 0, n + n // 2 - 1 - step
            values[0], values[size] = values[size], values[0]
        while 2 * top + 1 < size:
            child = 2 * top + 1
            if child + 1 < size and values[child] < values[child + 1]:
                child += 1
            if not values[top] < values[child]:
                break
            values[top], values[child] = values[child], values[top]
            top = child


@njit(cache=True, nogil=True, error_model="numpy")
def middle_and_scatter(values: FloatArray) -> tuple[float, float]:
    """Return median and robust standard deviation of finite values, shape (n,), n > 0."""
    away = values.copy()
    middle = median_of(away)
    for i in range(values.size):  # an array expression takes seconds to compile
        away[i] = np.abs(values[i] - middle)
    return middle, MAD_TO_SIGMA * median_of(away)


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
    """Measure the level of a ring around a position in every image.

    Parameters
    ----------
    images : ndarray, shape (n, ny, nx)
        Images; pixels that are not finite are left out.
    x, y : ndarray, shape (n,)
        Centre, in the axes of the image, pixel i spans [i, i+1) [pixel].
    inner, outer : float
        Radii [pixel]; pixels whose centres lie between them are used.
    clip : float
        Pixels further than this from the level are left out [robust sigma of the ring]. The level
        starts at the median and becomes the mean of the kept pixels, until it stops moving.
    out : ndarray, shape (n, 4)
        Receives the median of all pixels, and mean, standard deviation and number of the kept
        ones; NaN, NaN, NaN, 0 without pixels.
    """
    values = np.empty(images.shape[1] * images.shape[2])
    for i in range(images.shape[0]):
        count = _collect_ring(images[i], x[i], y[i], inner, outer, values)
        if count == 0:
            out[i, 0] = out[i, 1] = out[i, 2] = np.nan
            out[i, 3] = 0.0
        else:
            _measure_level(values[:count], clip, out[i])


@inner_njit(cache=True, nogil=True, error_model="numpy")
def _collect_ring(
    image: FloatArray, x: float, y: float, inner: float, outer: float, values: FloatArray
) -> int:
    """Copy the finite pixels of a ring to `values`, and return their number."""
    ny, nx = image.shape
    count = 0
    if not (-outer <= x <= nx + outer and -outer <= y <= ny + outer):
        return 0
    for row in range(max(int(y - outer) - 1, 0), min(int(y + outer) + 2, ny)):
        for col in range(max(int(x - outer) - 1, 0), min(int(x + outer) + 2, nx)):
            d2 = (col + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2
            if inner * inner <= d2 <= outer * outer and np.isfinite(image[row, col]):
                values[count] = image[row, col]
                count += 1
    return count


@inner_njit(cache=True, nogil=True, error_model="numpy")
def _measure_level(ring: FloatArray, clip: float, out: FloatArray) -> None:
    """Write median, clipped mean, standard deviation and number of the kept pixels to `out`."""
    centre, sigma = middle_and_scatter(ring)
    limit = clip * sigma
    out[0] = centre
    for _ in range(MOST_ROUNDS):
        number, total, squares = 0, 0.0, 0.0
        for value in ring:
            d = value - centre
            kept = int(np.abs(d) <= limit)  # faster than a branch
            number += kept
            total += kept * d
            squares += kept * d * d
        shift = total / number
        out[1] = centre + shift
        out[2] = np.sqrt(max(squares / number - shift * shift, 0.0))
        out[3] = number
        centre += shift
        if np.abs(shift) <= RESTS * limit:
            break
