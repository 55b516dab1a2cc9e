"""Points and quantities with one value per image, and their statistics."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.arrays import BoolArray, FloatArray
from schemas.flags import EARTH_OCCULTED, EVENT_EARTH, EVENT_SAA
from tasks.delivery.report.verdict import FEWEST_POINTS
from tasks.numerics.robust import MAD_TO_SIGMA


@dataclass(frozen=True)
class Points:
    """Points of the DEFAULT light curve: hours since the first, flux [electron] and flags."""

    hours: FloatArray
    flux: FloatArray
    event: npt.NDArray[np.int64]
    quality: npt.NDArray[np.int64]

    @property
    def count(self) -> int:
        """The number of points."""
        return len(self.flux)

    @property
    def duration(self) -> float:
        """The time from the first to the last point [h]."""
        known_hours = self.hours[np.isfinite(self.hours)]
        return float(np.ptp(known_hours)) if known_hours.size else 0.0

    @property
    def good(self) -> BoolArray:
        """The unflagged points with time and flux."""
        measured = np.isfinite(self.hours) & np.isfinite(self.flux) & (self.flux > 0)
        return np.asarray((self.event == 0) & (self.quality == 0) & measured)

    @property
    def in_saa(self) -> BoolArray:
        """The points in the SAA."""
        return np.asarray(self.event // EVENT_SAA % 10 != 0)

    @property
    def occulted(self) -> BoolArray:
        """The points with the star behind the Earth."""
        return np.asarray(self.event // EVENT_EARTH % 10 == EARTH_OCCULTED)

    @property
    def stray_light(self) -> BoolArray:
        """The points with stray light above its threshold, or near the Earth's limb."""
        return np.asarray((self.event // EVENT_EARTH % 10 != 0) & ~self.occulted)


def relative_flux(flux: FloatArray, good: BoolArray) -> FloatArray:
    """Return fluxes relative to the median of the good ones, or of all if none is good [ppm]."""
    kept = flux[good] if good.any() else flux[np.isfinite(flux)]
    middle = float(np.median(kept)) if kept.size else np.nan
    return 1e6 * (flux / middle - 1) if middle > 0 else np.full_like(flux, np.nan)


def bin_medians(
    hours: FloatArray, values: FloatArray, width: float
) -> tuple[FloatArray, FloatArray]:
    """Return centres and medians of bins of some `width` [h].

    Bins with too few points are NaN, which breaks a line through the medians.
    """
    place = np.floor(hours / width).astype(np.int64)
    bins, counts = np.unique(place, return_counts=True)
    groups = np.split(values[np.argsort(place, kind="stable")], np.cumsum(counts)[:-1])
    medians = {
        int(b): float(np.median(g))
        for b, g in zip(bins, groups, strict=False)
        if len(g) >= FEWEST_POINTS
    }
    ends = {b + 1: math.nan for b in medians}
    line = sorted({**ends, **medians}.items())
    return np.array([(b + 0.5) * width for b, _ in line]), np.array([m for _, m in line])


def axis_limits(values: FloatArray) -> tuple[float, float]:
    """Return the limits of an axis for some values [ppm].

    They hold the running median of three points, so that single spikes do not stretch the axis, and
    a margin.
    """
    if values.size < FEWEST_POINTS:
        middle = float(values.mean()) if values.size else 0.0
        return middle - 1000.0, middle + 1000.0
    calm = np.median(np.stack([values[:-2], values[1:-1], values[2:]]), axis=0)
    sigma = MAD_TO_SIGMA * float(np.median(np.abs(np.diff(values)))) / math.sqrt(2)
    margin = max(4 * sigma, 0.08 * float(np.ptp(calm))) or 1.0
    return float(calm.min()) - margin, float(calm.max()) + margin


def to_scale(points: Points) -> tuple[FloatArray, float, float]:
    """Return relative fluxes and the limits of an axis that suits the good points [ppm]."""
    relative = relative_flux(points.flux, points.good)
    return relative, *axis_limits(
        relative[points.good if points.good.any() else np.isfinite(relative)]
    )


@dataclass(frozen=True)
class Relation:
    """The correlation of two quantities; NaN if it cannot be measured."""

    pearson: float
    spearman: float
    slope: float
    slope_error: float


def relation(x: FloatArray, y: FloatArray) -> Relation:
    """Measure the correlation of `y` with `x`, both finite, shape (n,), and fit a straight line.

    The error of the slope assumes that the scatter about the line is noise of independent points.
    All values are NaN for fewer than three points, or if one quantity is constant.
    """
    n = len(x)
    if n < FEWEST_POINTS or not (varies(x) and varies(y)):
        return Relation(*[math.nan] * 4)
    size = float(np.abs(x - x.mean()).max())
    dx, dy = (x - x.mean()) / size, y - y.mean()  # squares of small numbers would underflow
    spread = float((dx**2).sum())
    slope = float((dx * dy).sum()) / spread
    residual = float(((dy - slope * dx) ** 2).sum())
    error = math.sqrt(residual / max(n - 2, 1) / spread)
    return Relation(_pearson(x, y), _pearson(ranks(x), ranks(y)), slope / size, error / size)


@dataclass(frozen=True)
class Curve:
    """A curve over the roll angle: coefficients of 1, cos, sin, cos 2, sin 2 ..., and amplitude.

    The amplitude is half the range of the curve; `error` is its error.
    """

    coefficients: FloatArray
    amplitude: float
    error: float

    def at(self, angle: FloatArray) -> FloatArray:
        """Evaluate the curve at some angles [deg]."""
        return np.asarray(_waves(angle, len(self.coefficients) // 2) @ self.coefficients)


def harmonics(angle: FloatArray, y: FloatArray, count: int = 3) -> Curve:
    """Fit a curve of some harmonics to points, both arrays shape (n,); NaN for too few points.

    The range is that over the angles of the points. White noise sigma alone gives a curve of
    k = 2 count coefficients an rms of sigma sqrt(k / n). This is the error: a curve of that size is
    not significant.
    """
    n, k = len(y), 2 * count
    if n < 10 * count or not varies(angle):
        return Curve(np.full(k + 1, math.nan), math.nan, math.nan)
    waves = _waves(angle, count)
    coefficients = np.asarray(np.linalg.lstsq(waves, y, rcond=None)[0], dtype=np.float64)
    curve = waves @ coefficients
    sigma = math.sqrt(float(((y - curve) ** 2).sum()) / (n - k - 1))
    return Curve(coefficients, float(np.ptp(curve)) / 2, sigma * math.sqrt(k / n))


def _waves(angle: FloatArray, count: int) -> FloatArray:
    turn = np.radians(angle)
    return np.stack(
        [
            np.ones(len(turn)),
            *(wave(j * turn) for j in range(1, count + 1) for wave in (np.cos, np.sin)),
        ],
        axis=1,
    )


def removed_variance(
    before: FloatArray, after: FloatArray, clip: float = 5.0
) -> tuple[float, float]:
    """Measure how much the variance of the same quantities falls between two stages.

    Parameters
    ----------
    before, after : ndarray, shape (n,)
        The quantities; each array is taken relative to its own median.
    clip : float
        Quantities beyond this many robust sigma, before or after, are excluded.

    Returns
    -------
    removed, error : float
        Mean of before^2 - after^2, and its error for independent quantities. Unlike the difference
        of two scatters, it is free of the noise that both stages share. NaN for fewer than three
        quantities.
    """
    pair = np.stack([before, after])
    pair = pair[:, np.isfinite(pair).all(axis=0)]
    if pair.shape[1] < FEWEST_POINTS:
        return math.nan, math.nan
    pair = pair - np.median(pair, axis=1, keepdims=True)
    spread = MAD_TO_SIGMA * np.median(np.abs(pair), axis=1, keepdims=True)
    kept = (np.abs(pair) <= np.where(spread > 0, clip * spread, np.inf)).all(axis=0)
    change = pair[0, kept] ** 2 - pair[1, kept] ** 2
    return float(change.mean()), float(change.std() / math.sqrt(len(change)))


def varies(values: FloatArray) -> bool:
    """Return whether values differ by more than rounding errors."""
    return bool(values.size and float(np.ptp(values)) > 1e-9 * float(np.abs(values).max()))


def _pearson(x: FloatArray, y: FloatArray) -> float:
    dx, dy = (
        (v - v.mean()) / np.abs(v - v.mean()).max() for v in (x, y)
    )  # squares of small numbers would underflow
    return float((dx * dy).sum() / math.sqrt(float((dx**2).sum()) * float((dy**2).sum())))


def ranks(values: FloatArray) -> FloatArray:
    """Rank values from 1; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse], dtype=np.float64)


def running_median(x: FloatArray, y: FloatArray, bins: int = 12) -> tuple[FloatArray, FloatArray]:
    """Return medians of `x` and `y` in bins along `x` with equal numbers of points."""
    order = np.argsort(x, kind="stable")
    groups = [g for g in np.array_split(order, bins) if len(g) >= FEWEST_POINTS]
    return np.array([np.median(x[g]) for g in groups]), np.array([np.median(y[g]) for g in groups])
