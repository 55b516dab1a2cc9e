"""Noise metrics of light curves: scatter, point to point, CDPP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from schemas.arrays import BoolArray, FloatArray, Int32Array
from schemas.terms import TERMS
from tasks.files.writer import NewHdu
from tasks.numerics.robust import MAD_TO_SIGMA

PPM = 1e6

FEWEST_POINTS = 3

# A grid with this many steps per point is not a visit, but has garbled times.
LONGEST_GRID = 1000


def robust_std(values: ArrayLike) -> float:
    """Return the standard deviation of the bulk of `values`: ``1.4826 median|v - median v|``.

    Parameters
    ----------
    values : array_like, shape (n,)
        Any quantity; points that are not finite are ignored.

    Returns
    -------
    float
        Scatter, in the unit of `values`; NaN for fewer than three points, or if more than half of
        them are equal.
    """
    v = _finite(values)
    if v.size < FEWEST_POINTS:
        return np.nan
    return _or_nan(MAD_TO_SIGMA * float(np.median(np.abs(v - np.median(v)))))


def point_to_point(flux: ArrayLike) -> float:
    """Return the noise of a point from consecutive differences, ``1.4826 median|d| / sqrt 2``.

    Parameters
    ----------
    flux : array_like, shape (n,)
        Flux in chronological order; points that are not finite are ignored.

    Returns
    -------
    float
        Noise, in the unit of `flux`, insensitive to slow changes; NaN for fewer than three points
        or a constant flux.
    """
    difference = np.diff(_finite(flux))
    if difference.size < FEWEST_POINTS - 1:
        return np.nan
    return _or_nan(MAD_TO_SIGMA * float(np.median(np.abs(difference))) / np.sqrt(2))


def clip_once(flux: FloatArray) -> FloatArray:
    """Return the values within 3 robust sigma of the median, in one round like the DRP."""
    distance = np.abs(flux - np.median(flux))
    return np.asarray(flux[distance <= 3 * MAD_TO_SIGMA * np.median(distance)])


def cdpp(
    time_days: ArrayLike, flux: ArrayLike, window_hours: float, *, as_drp: bool = False
) -> float:
    """Return the noise of means over a time window (combined differential photometric precision).

    This is the root of the mean variance within windows, over the root of their number of points.

    Parameters
    ----------
    time_days : array_like, shape (n,)
        Times in any order [day].
    flux : array_like, shape (n,)
        Flux, any unit, normalised by the mean of `clip_once`; points that are not finite are
        ignored.
    window_hours : float
        Length of the window [h].
    as_drp : bool
        Like the operational pipeline, use as many windows as points, which with gaps ignores the
        last hours, and for a visit shorter than the window use its own length. Otherwise use all
        windows, and return NaN without any.

    Returns
    -------
    float
        Noise [ppm]; NaN if it cannot be computed.

    Raises
    ------
    ValueError
        If times and fluxes differ in number, or the window has no length.

    Notes
    -----
    Points are placed on a grid of the median time step. A window starts at each grid point, and
    counts as ``w = window / step`` points, filled or not. White noise sigma gives ``sigma /
    sqrt(w)``. Without detrending, a slope inside the window counts as noise, but noise on longer
    scales does not.
    """
    time, signal = np.asarray(time_days, dtype=np.float64), np.asarray(flux, dtype=np.float64)
    if time.shape != signal.shape:
        raise ValueError(f"{time.shape} times for {signal.shape} fluxes")
    if not window_hours > 0:
        raise ValueError(f"a window of {window_hours} h has no length")
    good = np.isfinite(time) & np.isfinite(signal)
    order = np.argsort(time[good], kind="stable")
    time, signal = time[good][order], signal[good][order]
    if time.size < FEWEST_POINTS:
        return np.nan
    step, mean = float(np.median(np.diff(time))), float(np.mean(clip_once(signal)))
    if step <= 0 or mean <= 0 or (time[-1] - time[0]) / step > LONGEST_GRID * time.size:
        return np.nan
    place = np.round((time - time[0]) / step).astype(np.int64)
    grid = np.full(place[-1] + 1, np.nan)
    grid[place] = PPM * (signal / mean - 1)
    width = round(window_hours / 24 / step)
    if as_drp:
        places = min(max(width, 2), time.size)
        return _or_nan(
            np.sqrt(
                _mean_variance(grid, places, time.size - places + 1) / min(max(width, 1), time.size)
            )
        )
    if not 2 <= width <= grid.size:
        return np.nan
    return _or_nan(np.sqrt(_mean_variance(grid, width, grid.size - width + 1) / width))


@njit(cache=True, nogil=True)
def _mean_variance(grid: FloatArray, width: int, count: int) -> float:
    """Return the mean variance (n - 1) of finite values in the first `count` windows.

    It is NaN if no window has two values.
    """
    total, windows = 0.0, 0
    for start in range(count):
        points, mean, squares = 0, 0.0, 0.0
        for value in grid[start : start + width]:
            if np.isfinite(value):
                points += 1
                mean += value
        if points < 2:
            continue
        mean /= points
        for value in grid[start : start + width]:
            if np.isfinite(value):
                squares += (value - mean) ** 2
        total += squares / (points - 1)
        windows += 1
    return total / windows if windows else np.nan


def filtered_scatter(hours: FloatArray, flux: FloatArray, window_hours: float) -> float:
    """Return the robust scatter of good points about the running median of their neighbours.

    Variations much longer than the window, such as the bottom of a transit, do not count.

    Parameters
    ----------
    hours : ndarray, shape (n,)
        Times [h], finite.
    flux : ndarray, shape (n,)
        Fluxes of the good points, finite.
    window_hours : float
        Width of the window centred on each point [h].

    Returns
    -------
    float
        Scatter [ppm]; NaN with fewer than three points that have three neighbours each.

    Notes
    -----
    The median of n neighbours has the variance ``pi / (2 n)`` times that of a point (for many
    normal ones), so that each difference is divided by ``sqrt(1 + pi / (2 n))``.
    """
    order = np.argsort(hours, kind="stable")
    time, signal = hours[order], flux[order]
    first = np.searchsorted(time, time - window_hours / 2, "left")
    last = np.searchsorted(time, time + window_hours / 2, "right")
    differences = [
        (signal[i] - np.median(np.delete(signal[a:b], i - a)))
        / np.sqrt(1 + np.pi / (2 * (b - a - 1)))
        for i, (a, b) in enumerate(zip(first, last, strict=True))
        if b - a > FEWEST_POINTS
    ]
    middle = float(np.median(signal)) if signal.size else np.nan
    if len(differences) < FEWEST_POINTS or not middle > 0:
        return np.nan
    return float(PPM * MAD_TO_SIGMA * np.median(np.abs(differences)) / middle)


@dataclass(frozen=True, slots=True)
class HeaderMetrics:
    """Metrics in the header of a light curve, as computed by the operational pipeline.

    They are NaN with too few points.

    Attributes
    ----------
    robmean, median : float
        Mean and median of the clipped flux, truncated to integers [electron/s].
    robstd : float
        Robust scatter of the flux [ppm; the header says ppt].
    mad : float
        Robust point-to-point noise, not the deviation from a median flux [ppm; the header says
        ppt].
    p2pstd : float
        Standard deviation of consecutive differences, including outliers [ppm; the header says
        ppt].
    cdpp2_5, cdpp6_5 : float
        CDPP over 3 h and 6 h, in spite of the names [ppm].
    """

    robmean: float
    median: float
    robstd: float
    mad: float
    p2pstd: float
    cdpp2_5: float
    cdpp6_5: float


def header_metrics(
    time_days: ArrayLike, flux: ArrayLike, event: ArrayLike, exposure_time: float
) -> HeaderMetrics:
    """Compute the header metrics exactly as the operational pipeline does.

    Parameters
    ----------
    time_days : array_like, shape (n,)
        Times [day].
    flux : array_like, shape (n,)
        Flux of a stack [electron].
    event : array_like of int, shape (n,)
        EVENT; only points in the SAA are ignored, but not occulted ones or cosmic rays.
    exposure_time : float
        TEXPTIME, exposure time of a stack [s].

    Returns
    -------
    HeaderMetrics
        Reproduces the headers of four real files to 1e-12.

    Raises
    ------
    ValueError
        If the exposure time is not positive, or the arrays differ in shape.
    """
    time, signal, events = (
        np.asarray(time_days, np.float64),
        np.asarray(flux, np.float64),
        np.asarray(event),
    )
    if not exposure_time > 0:
        raise ValueError(f"TEXPTIME is {exposure_time} s, it must be positive")
    if not time.shape == signal.shape == events.shape:
        raise ValueError(f"{time.shape} times and {events.shape} events for {signal.shape} fluxes")
    kept = (events % 10 != 1) & np.isfinite(signal) & np.isfinite(time)
    time, signal = time[kept], signal[kept]
    clipped = clip_once(signal) if signal.size >= FEWEST_POINTS else signal[:0]
    mean = float(np.mean(clipped)) if clipped.size else np.nan
    if not mean > 0:
        return HeaderMetrics(*[np.nan] * 7)
    steps = np.diff(signal) / mean
    return HeaderMetrics(
        robmean=float(np.trunc(mean / exposure_time)),
        median=float(np.trunc(np.median(clipped) / exposure_time)),
        robstd=PPM * robust_std(signal) / mean,
        mad=PPM * robust_std(steps) / np.sqrt(2),
        p2pstd=_or_nan(PPM * float(np.std(steps))),
        cdpp2_5=cdpp(time, signal, 3.0, as_drp=True),
        cdpp6_5=cdpp(time, signal, 6.0, as_drp=True),
    )


@dataclass(frozen=True, slots=True)
class NoiseMetrics:
    """Noise of the unflagged points of a light curve; NaN, never 0, if it cannot be computed.

    Attributes
    ----------
    scatter : float
        Robust standard deviation over the median flux [ppm].
    point_to_point : float
        Noise of a point from consecutive differences, over the median flux [ppm].
    cdpp_30min, cdpp_2_5h, cdpp_3h, cdpp_6h : float
        Noise of means over these windows [ppm].
    valid_fraction : float
        Finite unflagged points, of all points [percent].
    """

    scatter: float
    point_to_point: float
    cdpp_30min: float
    cdpp_2_5h: float
    cdpp_3h: float
    cdpp_6h: float
    valid_fraction: float


def noise_metrics(time_days: ArrayLike, flux: ArrayLike, flagged: ArrayLike) -> NoiseMetrics:
    """Measure the noise of the unflagged points of a light curve.

    Parameters
    ----------
    time_days : array_like, shape (n,)
        Times [day].
    flux : array_like, shape (n,)
        Flux, any unit.
    flagged : array_like of bool, shape (n,)
        True for points to ignore, such as those with STATUS not 0.

    Returns
    -------
    NoiseMetrics
        In ppm of the median flux, and percent.

    Raises
    ------
    ValueError
        If the arrays differ in shape.
    """
    time, signal, flags = (
        np.asarray(time_days, np.float64),
        np.asarray(flux, np.float64),
        np.asarray(flagged, np.bool_),
    )
    if not time.shape == signal.shape == flags.shape:
        raise ValueError(f"{time.shape} times and {flags.shape} flags for {signal.shape} fluxes")
    kept = ~flags & np.isfinite(signal) & np.isfinite(time)
    valid = 100.0 * float(np.mean(kept)) if kept.size else np.nan
    time, signal = time[kept], signal[kept]
    median = float(np.median(signal)) if signal.size else np.nan
    ppm = PPM / median if median > 0 else np.nan
    return NoiseMetrics(
        scatter=ppm * robust_std(signal),
        point_to_point=ppm * point_to_point(signal),
        cdpp_30min=cdpp(time, signal, 0.5),
        cdpp_2_5h=cdpp(time, signal, 2.5),
        cdpp_3h=cdpp(time, signal, 3.0),
        cdpp_6h=cdpp(time, signal, 6.0),
        valid_fraction=valid,
    )


def _finite(values: ArrayLike) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]


def _or_nan(scatter: float) -> float:
    """Return `scatter`, or NaN for 0: points without scatter give no noise."""
    return float(scatter) if scatter > 0 else np.nan


class Points(NamedTuple):
    """The points of a visit's light curves, arrays of shape (n,)."""

    mjd: FloatArray
    event: Int32Array
    quality: Int32Array
    duration: float  # exposure time of a point [s]

    @property
    def good(self) -> BoolArray:
        """Mask of the unflagged points."""
        return np.asarray((self.event == 0) & (self.quality == 0))


def curve_metrics(
    name: str, radius: float, flux: FloatArray, error: FloatArray, points: Points
) -> dict[str, str | float]:
    """Return the row of TERM_METRICS of a light curve."""
    header = header_metrics(points.mjd, flux, points.event, points.duration)
    noise = noise_metrics(points.mjd, flux, ~points.good)
    good = points.good & np.isfinite(flux) & (flux > 0)
    formal = float(PPM * np.median(error[good] / flux[good])) if good.any() else float("nan")
    return {
        "DATANAME": name,
        "RADIUS": radius,
        "ROBMEAN": header.robmean,
        "MEDIAN": header.median,
        "ROBSTD": header.robstd,
        "MAD": header.mad,
        "P2PSTD": header.p2pstd,
        "CDPP2_5": header.cdpp2_5,
        "CDPP6_5": header.cdpp6_5,
        "VALIDPTS": noise.valid_fraction,
        "N_GOOD": int(good.sum()),
        "ROB_PPM": noise.scatter,
        "P2P_PPM": noise.point_to_point,
        "CDPP_30M": noise.cdpp_30min,
        "CDPP_3H": noise.cdpp_3h,
        "CDPP_6H": noise.cdpp_6h,
        "FORM_PPM": formal,
    }


def metrics_table(rows: Sequence[Mapping[str, str | float]]) -> NewHdu:
    """Return TERM_METRICS from its rows."""
    names = [column.name for column in TERMS["TERM_METRICS"].columns]
    return NewHdu(
        TERMS["TERM_METRICS"],
        columns={name: np.array([row[name] for row in rows]) for name in names},
    )
