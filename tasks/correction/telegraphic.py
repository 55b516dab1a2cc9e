"""Telegraphic pixels: their dark current jumps between two levels at random times.

A pixel is telegraphic if two levels describe its residual to the scene far better than one: the
variance within the levels is small against the variance about one mean, and the levels lie several
sigma apart with images in both. A slow or smooth change (the trail of a field star, an error of the
PSF under a moving target) fills the space between, and fails the first test: a pure sine, split at
its mean, keeps a fifth of its variance.

The states follow from a hidden Markov model of two levels with Gaussian noise and an equal chance
to change between neighbouring images (Rabiner 1989, Proc. IEEE 77, 257): forward-backward
probabilities, then levels and chance again from these. What is taken away from an image is the
posterior mean of the high state, so that where the state is doubtful only part of the gap is.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from schemas.arrays import BoolArray, Float32Array, FloatArray

WIDE = 8.0  # sigma; a gap this wide leaves no doubt of two levels
ROUNDS = 6  # of levels and states; they rest after some three


@njit(cache=True, nogil=True, error_model="numpy")
def split_levels(values: FloatArray) -> tuple[float, float, float, float, int]:
    """Split values in two levels so that the scatter within them is least.

    Parameters
    ----------
    values : ndarray, shape (n,)
        At least two values.

    Returns
    -------
    low, high, within, total, fewer
        Means of the two levels, variance about them, variance about one mean, and the number of
        values in the smaller group.
    """
    ordered = np.sort(values)
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
    """Mark pixels whose residuals jump between two levels.

    Parameters
    ----------
    residuals : ndarray, shape (n, ny, nx)
        Images minus the scene, in order of time [electron].
    noise : ndarray, shape (ny, nx)
        Noise of a pixel, as far as it is understood [electron].
    gap : float
        Least distance of the levels, in units of the noise and of the scatter within the levels.
    contrast : float
        Least ratio of the variance about one mean to that within the levels; half as much again for
        wide gaps.
    fewest : int
        Least number of images in each level.
    found : ndarray of bool, shape (ny, nx)
        Receives the marks.
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
            # two levels of equal shares, `gap` sigma apart, add gap^2 / 4 to the variance; uneven
            # ones down to a third of that
            if not squares / n - (total / n) ** 2 > noise[y, x] ** 2 * (1.0 + gap * gap / 12.0):
                continue
            low, high, within, about_one, fewer = _split_without_hits(series, fewest)
            sigma = max(noise[y, x], np.sqrt(within))
            # a smooth change well above the noise comes to a contrast of 5.3 (sine) at most, two
            # levels then to far more
            needed = contrast if high - low < WIDE * noise[y, x] else 1.5 * contrast
            found[y, x] = (
                fewer >= fewest and high - low > gap * sigma and about_one > needed * within
            )


@njit(cache=True, nogil=True, error_model="numpy")
def _split_without_hits(series: FloatArray, fewest: int) -> tuple[float, float, float, float, int]:
    """Split values in two levels as `split_levels` does, without cosmic rays.

    Some cosmic rays make a group of their own: without them the levels show.
    """
    kept = np.sort(series)
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
        Residuals in order of time; NaN where there is none [electron].
    sigma : ndarray, shape (n,)
        Their noise [electron].
    high : ndarray, shape (n,)
        Receives the probability of the high state.

    Returns
    -------
    low, high, chance
        The levels [electron] and the chance to change between neighbouring images.
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


@njit(cache=True, nogil=True, error_model="numpy")
def _emit(
    series: FloatArray,
    sigma: FloatArray,
    levels: tuple[float, float, float],
    emission: FloatArray,
) -> None:
    """Set the likelihood of every value in each state, shape (n, 2), the larger one to 1.

    `levels` are the low one, the high one, and the scatter about them [electron].
    """
    low_level, high_level, spread = levels
    for i in range(series.size):
        if not np.isfinite(series[i]):
            emission[i] = 1.0
            continue
        s = max(sigma[i], spread)
        a, b = (series[i] - low_level) / s, (series[i] - high_level) / s
        # a value far from both levels, as of a change within the image, must not decide by its
        # last digit
        a, b = min(0.5 * a * a, 50.0), min(0.5 * b * b, 50.0)
        m = min(a, b)
        emission[i, 0], emission[i, 1] = np.exp(m - a), np.exp(m - b)


@njit(cache=True, nogil=True, error_model="numpy")
def _pass_forward(emission: FloatArray, chance: float, forward: FloatArray) -> None:
    """Set the probability of each state from all values up to an image, shape (n, 2)."""
    p = emission[0] * 0.5
    forward[0] = p / p.sum()
    for i in range(1, len(emission)):
        stay0 = forward[i - 1, 0] * (1 - chance) + forward[i - 1, 1] * chance
        stay1 = forward[i - 1, 1] * (1 - chance) + forward[i - 1, 0] * chance
        p0, p1 = stay0 * emission[i, 0], stay1 * emission[i, 1]
        forward[i, 0], forward[i, 1] = p0 / (p0 + p1), p1 / (p0 + p1)


@njit(cache=True, nogil=True, error_model="numpy")
def _pass_backward(
    emission: FloatArray, forward: FloatArray, chance: float, high: FloatArray
) -> float:
    """Set the probability of the high state from all values; return the expected changes."""
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
