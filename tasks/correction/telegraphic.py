"""Telegraphic pixels, whose dark current jumps between two levels at random times.

A pixel is telegraphic if two levels describe its residuals much better than one: the variance about
the levels is small compared with that about a single mean, and the levels are several sigma apart
with images in both. A smooth change (the trail of a field star, an error of the PSF under a moving
target) fills the gap and fails the first test: a pure sine, split at its mean, keeps a fifth of its
variance.

States follow from a hidden Markov model of two levels with Gaussian noise and equal probabilities
of change between consecutive images (Rabiner 1989, Proc. IEEE 77, 257): forward-backward
probabilities, then levels and the probability of change from these. The posterior mean of the level
is subtracted, so that only part of the gap is if the state is uncertain.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from schemas.arrays import BoolArray, Float32Array, FloatArray
from tasks.numerics.inner import inner_njit
from tasks.numerics.robust import sort_values

WIDE = 8.0  # sigma; two levels this far apart are beyond doubt
ROUNDS = 6  # of levels and states, which converge after about three


@njit(cache=True, nogil=True, error_model="numpy")
def split_levels(values: FloatArray) -> tuple[float, float, float, float, int]:
    """Split values into two levels with the least scatter about them.

    Parameters
    ----------
    values : ndarray, shape (n,)
        At least two values.

    Returns
    -------
    low, high, within, total, fewer
        Means of the two levels, variance about them, variance about a single mean, and number of
        values in the smaller group.
    """
    ordered = values.copy()
    sort_values(ordered)
    n = ordered.size
    offset = ordered[n // 2]
    total, squares = 0.0, 0.0
    for v in ordered:
        total += v - offset
        squares += (v - offset) ** 2
    about_one = squares - total * total / n
    best, where, low, high = about_one, 0, total / n, total / n
    first = 0.0
    for k in range(1, n):
        first += ordered[k - 1] - offset
        gain = first * first / k + (total - first) ** 2 / (n - k)
        if squares - gain < best:
            best, where, low, high = squares - gain, k, first / k, (total - first) / (n - k)
    return offset + low, offset + high, max(best, 0.0) / n, about_one / n, min(where, n - where)


@njit(cache=True, nogil=True, error_model="numpy")
def find_telegraphic(
    residuals: Float32Array,
    noise: FloatArray,
    gap: float,
    contrast: float,
    fewest: int,
    found: BoolArray,
) -> None:
    """Mark the pixels whose residuals jump between two levels.

    Parameters
    ----------
    residuals : ndarray, shape (n, ny, nx)
        Images minus the scene, in chronological order [electron].
    noise : ndarray, shape (ny, nx)
        Expected noise of a pixel; NaN pixels are skipped [electron].
    gap : float
        Smallest distance of the levels, in units of the noise and of the scatter about them.
    contrast : float
        Smallest ratio of the variance about a single mean to that about the levels; 1.5 times as
        much for wide gaps.
    fewest : int
        Smallest number of images in each level.
    found : ndarray of bool, shape (ny, nx)
        Output mask.
    """
    n, ny, nx = residuals.shape
    series = np.empty(n)
    for y in range(ny):
        for x in range(nx):
            found[y, x] = False
            if not np.isfinite(noise[y, x]):
                continue
            total, squares = 0.0, 0.0
            for i in range(n):
                series[i] = residuals[i, y, x]
                total += series[i]
                squares += series[i] * series[i]
            # equally populated levels, `gap` sigma apart, add gap^2 / 4 to the variance; uneven
            # ones at least a third of that
            if not squares / n - (total / n) ** 2 > noise[y, x] ** 2 * (1.0 + gap * gap / 12.0):
                continue
            low, high, within, about_one, fewer = _split_without_hits(series, fewest)
            sigma = max(noise[y, x], np.sqrt(within))
            # a smooth change well above the noise has a contrast of at most 5.3 (sine), two levels
            # then have much more
            needed = contrast if high - low < WIDE * noise[y, x] else 1.5 * contrast
            found[y, x] = (
                fewer >= fewest and high - low > gap * sigma and about_one > needed * within
            )


@inner_njit(cache=True, nogil=True, error_model="numpy")
def _split_without_hits(series: FloatArray, fewest: int) -> tuple[float, float, float, float, int]:
    """Split values into two levels (see `split_levels`), without cosmic rays.

    A few cosmic rays form a group of their own, and are removed.
    """
    kept = series.copy()
    sort_values(kept)
    low, high, within, about_one, fewer = split_levels(kept)
    for _ in range(3):
        if fewer >= fewest or fewer == 0 or high <= kept[-1 - fewer]:
            break
        if kept.size < 2 * fewest + fewer:
            break
        kept = kept[: kept.size - fewer]
        low, high, within, about_one, fewer = split_levels(kept)
    return low, high, within, about_one, fewer


@njit(cache=True, nogil=True, error_model="numpy")
def states(series: FloatArray, sigma: FloatArray, high: FloatArray) -> tuple[float, float, float]:
    """Estimate levels and states of one pixel.

    Parameters
    ----------
    series : ndarray, shape (n,)
        Residuals in chronological order; NaN is ignored [electron].
    sigma : ndarray, shape (n,)
        Their noise [electron].
    high : ndarray, shape (n,)
        Output: probability of the high state.

    Returns
    -------
    low, high, chance
        The levels [electron], and the probability of a change between consecutive images.
    """
    n = series.size
    low_level, high_level, within, _, _ = split_levels(series[np.isfinite(series)])
    spread = np.sqrt(within)
    chance = 0.2
    forward = np.empty((n, 2))
    emission = np.empty((n, 2))
    for _ in range(ROUNDS):
        _emit(series, sigma, (low_level, high_level, spread), emission)
        _pass_forward(emission, chance, forward)
        changes = _pass_backward(emission, forward, chance, high)
        w0 = w1 = s0 = s1 = 0.0
        for i in range(n):
            if np.isfinite(series[i]):
                w0 += 1 - high[i]
                w1 += high[i]
                s0 += (1 - high[i]) * series[i]
                s1 += high[i] * series[i]
        if w0 < 0.5 or w1 < 0.5:
            break
        low_level, high_level = s0 / w0, s1 / w1
        chance = min(max(changes / max(n - 1, 1), 0.5 / n), 0.5)
    return low_level, high_level, chance


@inner_njit(cache=True, nogil=True, error_model="numpy")
def _emit(
    series: FloatArray,
    sigma: FloatArray,
    levels: tuple[float, float, float],
    emission: FloatArray,
) -> None:
    """Set the likelihood of every value in each state, (n, 2), with a maximum of 1.

    `levels` are the low level, the high level, and the scatter about them [electron].
    """
    low_level, high_level, spread = levels
    for i in range(series.size):
        if not np.isfinite(series[i]):
            emission[i] = 1.0
            continue
        s = max(sigma[i], spread)
        a, b = (series[i] - low_level) / s, (series[i] - high_level) / s
        # for a value far from both levels, as in an image with a change, rounding must not decide
        a, b = min(0.5 * a * a, 50.0), min(0.5 * b * b, 50.0)
        m = min(a, b)
        emission[i, 0], emission[i, 1] = np.exp(m - a), np.exp(m - b)


@inner_njit(cache=True, nogil=True, error_model="numpy")
def _pass_forward(emission: FloatArray, chance: float, forward: FloatArray) -> None:
    """Set the probability of each state given the values up to an image, shape (n, 2)."""
    p0, p1 = emission[0, 0] * 0.5, emission[0, 1] * 0.5
    forward[0, 0], forward[0, 1] = p0 / (p0 + p1), p1 / (p0 + p1)
    for i in range(1, len(emission)):
        stay0 = forward[i - 1, 0] * (1 - chance) + forward[i - 1, 1] * chance
        stay1 = forward[i - 1, 1] * (1 - chance) + forward[i - 1, 0] * chance
        p0, p1 = stay0 * emission[i, 0], stay1 * emission[i, 1]
        forward[i, 0], forward[i, 1] = p0 / (p0 + p1), p1 / (p0 + p1)


@inner_njit(cache=True, nogil=True, error_model="numpy")
def _pass_backward(
    emission: FloatArray, forward: FloatArray, chance: float, high: FloatArray
) -> float:
    """Set the probability of the high state given all values; return the expected changes."""
    n = len(emission)
    b0, b1 = 1.0, 1.0
    changes = 0.0
    high[n - 1] = forward[n - 1, 1]
    for i in range(n - 2, -1, -1):
        e0, e1 = emission[i + 1, 0] * b0, emission[i + 1, 1] * b1
        changed = chance * (forward[i, 0] * e1 + forward[i, 1] * e0)
        same = (1 - chance) * (forward[i, 0] * e0 + forward[i, 1] * e1)
        changes += changed / (changed + same)
        n0, n1 = (1 - chance) * e0 + chance * e1, (1 - chance) * e1 + chance * e0
        b0, b1 = n0 / (n0 + n1), n1 / (n0 + n1)
        p0, p1 = forward[i, 0] * b0, forward[i, 1] * b1
        high[i] = p1 / (p0 + p1)
    return changes
