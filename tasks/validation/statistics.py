"""Scatter and its error, noise of means, and linear fits, independent of the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from schemas.arrays import FloatArray

Statistic = Callable[[FloatArray], float]

# standard deviation of a normal distribution over its median deviation
MAD = 1.482602218505602
RESAMPLES = 200


class Estimate(NamedTuple):
    """A number and its statistical error."""

    value: float
    error: float


def scatter(values: FloatArray) -> float:
    """Return the standard deviation of the bulk of `values`, shape (n,), from the MAD."""
    return float(MAD * np.median(np.abs(values - np.median(values))))


def scatter_of_differences(differences: FloatArray) -> float:
    """Return the noise of a point from the differences of neighbours, shape (n,)."""
    return float(MAD * np.median(np.abs(differences)) / np.sqrt(2))


def root_mean_square(values: FloatArray) -> float:
    """Return the root mean square of `values`, shape (n,), about their mean."""
    return float(np.sqrt(np.mean(np.square(values - values.mean()))))


def bootstrapped(values: FloatArray, statistic: Statistic, seed: int = 1) -> Estimate:
    """Return a statistic of a series and its error, by a block bootstrap.

    Blocks of n^(1/3) points keep neighbours together, so that correlated noise is included.

    Parameters
    ----------
    values : ndarray, shape (n,) or (n, k)
        Series in order of time; rows are drawn as a whole.
    statistic : callable
        Function of such a series.
    seed : int
        Seed of the draws: the same series gives the same error.

    Returns
    -------
    Estimate
        NaN and NaN for fewer than four points.
    """
    n = len(values)
    if n < 4:
        return Estimate(np.nan, np.nan)
    rng, length = np.random.default_rng(seed), max(1, round(n ** (1 / 3)))
    drawn = []
    for _ in range(RESAMPLES):
        begins = rng.integers(0, n - length + 1, -(-n // length))
        rows = (begins[:, None] + np.arange(length)).ravel()[:n]
        drawn.append(statistic(values[rows]))
    return Estimate(statistic(values), float(np.std(drawn, ddof=1)))


def share(hits: int, of: int) -> Estimate:
    """Return a share and its error, ``sqrt(p (1 - p) / n)`` with ``p = (h + 1) / (n + 2)``.

    The error does not vanish for none or all of a small number.
    """
    if of == 0:
        return Estimate(np.nan, np.nan)
    p = (hits + 1) / (of + 2)
    return Estimate(hits / of, float(np.sqrt(p * (1 - p) / of)))


class Fit(NamedTuple):
    """A linear fit: coefficients, their covariance, and residuals."""

    coefficients: FloatArray
    covariance: FloatArray
    residual: FloatArray


def linear_fit(columns: list[FloatArray], values: FloatArray) -> Fit:
    """Fit `values`, shape (n,), with a sum of columns of the same shape.

    The errors follow from the residuals.

    Raises
    ------
    ValueError
        If there are not more points than columns, or the columns are linearly dependent.
    """
    design = np.stack(columns, axis=1)
    if len(values) <= design.shape[1]:
        raise ValueError(
            f"a fit of {design.shape[1]} coefficients has {len(values)} points, expected more"
        )
    scale = np.linalg.norm(design, axis=0)
    if not (scale > 0).all():
        raise ValueError("a column of the fit is zero everywhere")
    scaled = design / scale
    if np.linalg.cond(scaled) > 1e8:
        raise ValueError("the columns of the fit are linearly dependent")
    coefficients = np.linalg.lstsq(scaled, values, rcond=None)[0]
    residual = values - scaled @ coefficients
    variance = float(residual @ residual) / (len(values) - design.shape[1])
    covariance = variance * np.linalg.inv(scaled.T @ scaled) / np.outer(scale, scale)
    return Fit(coefficients / scale, covariance, residual)


class Averaged(NamedTuple):
    """Noise of means over a length of time, as sums that can be added over visits."""

    hours: float
    squares: float  # of the means, about the mean of the visit
    freedom: float  # number of means minus one
    white: float  # expected squares if the noise of single points were independent

    @property
    def ratio(self) -> Estimate:
        """Noise of the means relative to independent points: the factor beta."""
        if not (self.freedom > 0 and self.white > 0):
            return Estimate(np.nan, np.nan)
        value = np.sqrt(self.squares / self.white)
        return Estimate(float(value), float(value / np.sqrt(2 * self.freedom)))

    @property
    def noise(self) -> Estimate:
        """Noise of the means."""
        if not self.freedom > 0:
            return Estimate(np.nan, np.nan)
        value = np.sqrt(self.squares / self.freedom)
        return Estimate(float(value), float(value / np.sqrt(2 * self.freedom)))


FEWEST_MEANS = 3
HOURS = (1.0, 3.0, 6.0)


def averages(hours: FloatArray, residual: FloatArray, step: float) -> list[Averaged]:
    """Return the noise of means over 1, 2, 4 ... points, and over 1, 3 and 6 hours.

    A mean counts if at least half of its points exist.

    Parameters
    ----------
    hours : ndarray, shape (n,)
        Times, ascending [h].
    residual : ndarray, shape (n,)
        Residuals of the light curve, with mean zero.
    step : float
        Time between neighbouring points [h].
    """
    if len(hours) < 2 * FEWEST_MEANS:
        return []
    place = np.round((hours - hours[0]) / step).astype(int)
    whole_hours = {round(h / step) for h in HOURS}
    doubled = (1 << k for k in range(int(place[-1] + 1).bit_length()))
    sizes = whole_hours | {
        size for size in doubled if not any(0.75 < size / w < 1.33 for w in whole_hours if w)
    }
    variance = float(np.var(residual, ddof=1))
    averaged = []
    for size in sorted(s for s in sizes if s >= 1):
        count = np.bincount(place // size)
        full = 2 * count >= size
        if full.sum() < FEWEST_MEANS:
            continue
        total = np.bincount(place // size, weights=residual)
        means = total[full] / count[full]
        freedom = float(full.sum() - 1)
        white = freedom * variance * float(np.mean(1 / count[full]))
        averaged.append(
            Averaged(size * step, float(np.sum(np.square(means - means.mean()))), freedom, white)
        )
    return averaged


def within_windows(hours: FloatArray, residual: FloatArray, step: float, window: float) -> float:
    """Return the noise of means over `window` hours, if points were independent (CDPP).

    It is the root of the mean variance within windows, over the root of the number of points in a
    full window.

    Returns
    -------
    float
        In the unit of `residual`; NaN if the series is shorter than the window.
    """
    size = round(window / step)
    place = np.round((hours - hours[0]) / step).astype(int) if len(hours) else np.zeros(0, int)
    if size < 2 or not len(place) or place[-1] + 1 < size:
        return float("nan")
    sums = [
        np.concatenate([[0.0], np.cumsum(np.bincount(place, weights=w))])
        for w in (place * 0 + 1.0, residual, residual**2)
    ]
    count, first, second = (s[size:] - s[:-size] for s in sums)
    enough = count >= 2
    variance = (second[enough] - first[enough] ** 2 / count[enough]) / (count[enough] - 1)
    return float(np.sqrt(variance.mean() / size)) if enough.any() else float("nan")
