"""Series of values in time: those that cannot be right, and gaps."""

from __future__ import annotations

import numpy as np

from schemas.arrays import BoolArray, FloatArray, IntArray
from tasks.numerics.robust import MAD_TO_SIGMA

REACH = 4  # neighbours on either side that a value is compared with
FAR = 10.0  # a value this far from most of its neighbours is an outlier [robust sigma]
SAME_PIECE = 12.0  # neighbours later than this lie beyond a gap [usual intervals]
FEWEST = 4  # with fewer values nobody can say which one is wrong


def fill_gaps(time: FloatArray, values: FloatArray) -> FloatArray:
    """Interpolate values that are not finite in time; if all are missing, they stay so."""
    good = np.isfinite(values)
    return values if good.all() or not good.any() else np.interp(time, time[good], values[good])


def _neighbours(count: int) -> IntArray:
    """Return the indices of the nearest neighbours of each of `count` values, shape (n, k)."""
    width = min(2 * REACH + 1, count)
    first = np.clip(np.arange(count) - REACH, 0, count - width)
    nearest = first[:, None] + np.arange(width)
    others: IntArray = nearest[nearest != np.arange(count)[:, None]].reshape(count, width - 1)
    return others


def far_from_neighbours(
    time: FloatArray, values: FloatArray, least: float, far: float = FAR
) -> BoolArray:
    """Return which values are further from most of their neighbours than these from each other.

    The limit is `far` times the usual difference of two neighbours, and grows with the time between
    them beyond the usual interval. Neighbours beyond a gap have no say unless there are no others.
    A step is no outlier, since half of the neighbours are on its side.

    Parameters
    ----------
    time : ndarray, shape (n,)
        Increasing times.
    values : ndarray, shape (n,) or (n, k)
        Values, or points whose distances count; NaN is never an outlier.
    least : float
        Differences below it never count.
    far : float
        Limit in units of the robust standard deviation between neighbours.
    """
    points = values.reshape(len(values), -1)
    outliers = np.zeros(len(points), dtype=np.bool_)
    known = np.flatnonzero(np.isfinite(points).all(axis=1))
    if len(known) < FEWEST:
        return outliers
    near = _neighbours(len(known))
    at, place = time[known], points[known]
    apart = np.sqrt(sum(np.square(axis[near] - axis[:, None]) for axis in place.T))
    usual = np.median(np.diff(at))
    later = np.abs(at[near] - at[:, None]) / usual if usual > 0 else np.ones_like(apart)
    # of an even number the smaller middle one: in four values one may be wrong
    middle = float(np.quantile(apart, 0.5, method="lower"))
    limit = max(far * MAD_TO_SIGMA / np.sqrt(2) * middle, least)
    asked = later <= SAME_PIECE
    asked |= asked.sum(axis=1, keepdims=True) < 2
    against = asked & (apart > limit * np.maximum(later / REACH, 1.0))
    outliers[known] = against.sum(axis=1) > asked.sum(axis=1) / 2
    return outliers
