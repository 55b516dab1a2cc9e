"""Slow changes of a visit out of noisy values: what goes with time, with the orbit and with
housekeeping, freed of the noise.

The values are fitted by a smooth curve in time, harmonics of the orbit and other columns that may
go with them; how much of each is needed is decided by the Bayesian information criterion, so that a
value that stands still costs one parameter. What the fit leaves is smoothed over a window and added
as far as its scatter is more than the values' errors explain (the positive-part estimator of James
and Stein): a step or a drift of no known kind is followed, noise is not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.interpolate import BSpline

from schemas.arrays import FloatArray
from tasks.numerics.robust import MAD_TO_SIGMA

ORBIT = 98.77 / 1440.0  # period of the satellite [day]
HARMONICS = (0, 1, 2, 3)
KNOTS = 3 * ORBIT  # distance of the knots of the curve in time
CLIP = 4.0  # residuals further out have no say [sigma]
ROUNDS = 4


def smooth_in_time(
    time: FloatArray, values: FloatArray, errors: FloatArray, width: float
) -> tuple[FloatArray, FloatArray]:
    """Return the weighted mean of the values within `width` of each time, and its error; NaN values
    are bridged.

    Parameters
    ----------
    time, values, errors : ndarray, shape (n,)
        Rising times; values with errors in the same unit; NaN where there is none.
    width : float
        Full width of the window, in the unit of `time`; 0 leaves each value as it is.
    """
    good = np.isfinite(values) & (errors > 0)
    if not good.any():
        return np.full_like(values, np.nan), np.full_like(values, np.nan)
    weight = np.where(good, 1.0 / np.where(good, errors, 1.0) ** 2, 0.0)
    w = np.concatenate([[0.0], np.cumsum(weight)])
    # the mean is taken away first: sums of large offsets would cost digits
    offset = np.average(values[good], weights=weight[good])
    v = np.concatenate([[0.0], np.cumsum(weight * np.where(good, values - offset, 0.0))])
    first = np.searchsorted(time, time - width / 2, "left")
    last = np.searchsorted(time, time + width / 2, "right")
    total = w[last] - w[first]
    empty = total <= 1e-12 * weight[good].max()
    safe = np.where(empty, 1.0, total)
    mean = offset + (v[last] - v[first]) / safe
    error = 1.0 / np.sqrt(safe)
    mean[empty] = np.interp(time[empty], time[good], values[good])
    error[empty] = np.interp(time[empty], time[good], errors[good])
    return mean, error


def follow(
    time: FloatArray,
    values: FloatArray,
    errors: FloatArray,
    width: float,
    others: Sequence[FloatArray] = (),
) -> tuple[FloatArray, FloatArray]:
    """Return the slow part of a series and its error.

    Parameters
    ----------
    time : ndarray, shape (n,)
        Rising times [day].
    values, errors : ndarray, shape (n,)
        Values with the errors of their noise; NaN where there is none.
    width : float
        Full width of the window in which the rest is smoothed [day].
    others : sequence of ndarray, shape (n,)
        Housekeeping that the values may go with; a column that is not finite everywhere or stands
        still is left out.

    Returns
    -------
    slow, error : ndarray, shape (n,)
        In the unit of the values; NaN if there are none.
    """
    good = np.isfinite(values) & (errors > 0)
    if good.sum() < 2:
        return smooth_in_time(time, values, errors, width)
    steady = [o for o in others if np.isfinite(o).all() and np.ptp(o[good]) > 0]
    fits = [_fit(basis, values, errors, good) for basis in _bases(time, steady, int(good.sum()))]
    _, slow, error, kept = min(fits, key=lambda fit: fit[0])
    rest = np.where(kept, values - slow, np.nan)
    smooth, smooth_error = smooth_in_time(time, rest, errors, width)
    windows = max(float(np.ptp(time[good])) / max(width, 1e-9), 1.0)
    expected = float(np.mean(smooth_error[good] ** 2))
    found = float(np.mean(smooth[good] ** 2))
    # the scatter of a variance of so many windows: a rest that is no more than 3 of it is noise
    if found > expected * (1.0 + 3.0 * np.sqrt(2.0 / windows)):
        share = 1.0 - expected / found
        slow, error = slow + share * smooth, np.hypot(error, share * smooth_error)
    return slow, error


def slow(time: FloatArray, values: FloatArray, width: float) -> tuple[FloatArray, FloatArray]:
    """Return the slow part of housekeeping whose noise is that of differences of neighbours, and
    its error.

    Values that show no noise, and fewer than four, stay as they are.

    Parameters
    ----------
    time, values : ndarray, shape (n,)
        Rising times [day]; finite values.
    width : float
        As in `follow`; 0 leaves each value as it is.
    """
    noise = (
        MAD_TO_SIGMA * float(np.median(np.abs(np.diff(values)))) / np.sqrt(2)
        if len(values) > 3
        else 0.0
    )
    error = np.full_like(values, noise)
    return (values, error) if noise == 0.0 or width == 0.0 else follow(time, values, error, width)


def _bases(time: FloatArray, others: Sequence[FloatArray], count: int) -> list[FloatArray]:
    """Return the sets of columns (n, p) that are tried: none but the first has more than a quarter
    of the number of values.
    """
    span = float(np.ptp(time))
    u = (time - time[0]) / span if span > 0 else np.zeros_like(time)
    curves = [np.ones((len(time), 1)), np.stack([np.ones_like(u), u], axis=1)]
    knots = round(span / KNOTS)
    if knots > 1:
        inner = np.linspace(0, 1, knots + 1)
        t = np.concatenate([[0.0] * 3, inner, [1.0] * 3])
        curves.append(BSpline.design_matrix(np.clip(u, 0, 1), t, 3).toarray())
    columns: list[list[FloatArray]] = [[]]
    if others:
        columns.append([(o - o.mean()) / o.std() for o in others])
    bases = []
    for curve in curves:
        for extra in columns:
            for harmonics in HARMONICS if span > 0.5 * ORBIT else (0,):
                phase = 2 * np.pi * np.outer(time - time[0], np.arange(1, harmonics + 1)) / ORBIT
                waves = np.concatenate([np.cos(phase), np.sin(phase)], axis=1)
                # waves that grow are waves of another period too
                for turning in ([waves], [waves, u[:, None] * waves]) if harmonics else ([],):
                    basis = np.concatenate([curve, *[e[:, None] for e in extra], *turning], axis=1)
                    if basis.shape[1] == 1 or 4 * basis.shape[1] <= count:
                        bases.append(basis)
    return bases


def _fit(
    basis: FloatArray, values: FloatArray, errors: FloatArray, good: npt.NDArray[np.bool_]
) -> tuple[float, FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    """Return information criterion, fit and error (n,) of one set of columns, and which values had
    a say.
    """
    offset = float(np.median(values[good]))
    weight = np.where(good, 1.0 / np.where(good, errors, 1.0), 0.0)
    scaled, wanted = basis * weight[:, None], weight * np.where(good, values - offset, 0.0)
    kept = good.copy()
    for _ in range(ROUNDS):
        rows = scaled[kept]
        # columns that say the same share what they say
        inverse = np.linalg.pinv(rows.T @ rows, rcond=1e-10, hermitian=True)
        coefficients = inverse @ (rows.T @ wanted[kept])
        pull = scaled @ coefficients - wanted
        size = max(MAD_TO_SIGMA * float(np.median(np.abs(pull[good]))), 1.0)
        again = good & (np.abs(pull) <= CLIP * size)
        if (again == kept).all() or again.sum() < 2 * basis.shape[1]:
            break
        kept = again
    misfit = float(np.sum(np.minimum(pull[good] ** 2, CLIP**2)))
    spread = max(float(np.mean(pull[kept] ** 2)), 1.0)
    error = np.sqrt(spread * np.einsum("ij,jk,ik->i", basis, inverse, basis))
    return misfit + basis.shape[1] * np.log(good.sum()), offset + basis @ coefficients, error, kept
