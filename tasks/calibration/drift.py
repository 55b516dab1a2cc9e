"""Slow changes over a visit, separated from the noise of the values.

The values are fitted with a smooth curve in time, harmonics of the orbit and housekeeping that they
may depend on. The Bayesian information criterion decides how many of these terms are used, so that
a constant costs one parameter. The residuals are smoothed over a window and added to the extent
that their scatter exceeds the errors of the values (the positive-part estimator of James and
Stein): steps and drifts of other kinds are followed, noise is not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import BSpline

from schemas.arrays import BoolArray, FloatArray
from tasks.numerics.orbit import PERIOD
from tasks.numerics.robust import MAD_TO_SIGMA

HARMONICS = (0, 1, 2, 3)
KNOTS = 3 * PERIOD  # spacing of the knots of the curve in time
CLIP = 4.0  # larger residuals are ignored [sigma]
ROUNDS = 4


def smooth_in_time(
    time: FloatArray, values: FloatArray, errors: FloatArray, width: float
) -> tuple[FloatArray, FloatArray]:
    """Return the weighted running mean of a series, and its error.

    Gaps wider than the window are interpolated. NaN if all values are NaN.

    Parameters
    ----------
    time, values, errors : ndarray, shape (n,)
        Increasing times, and values with their errors; NaN for missing values.
    width : float
        Full width of the window, in the unit of `time`; 0 leaves the values as they are.
    """
    good = np.isfinite(values) & (errors > 0)
    if not good.any():
        return np.full_like(values, np.nan), np.full_like(values, np.nan)
    weight = np.where(good, 1.0 / np.where(good, errors, 1.0) ** 2, 0.0)
    w = np.concatenate([[0.0], np.cumsum(weight)])
    # subtract the mean first: sums of large offsets lose digits
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
    """Return the slow part of a series, and its error.

    Parameters
    ----------
    time : ndarray, shape (n,)
        Increasing times [day].
    values, errors : ndarray, shape (n,)
        Values and their noise; NaN for missing values.
    width : float
        Full width of the window in which the residuals of the fit are smoothed [day].
    others : sequence of ndarray, shape (n,)
        Housekeeping that the values may depend on; columns that are constant or not finite
        everywhere are ignored.

    Returns
    -------
    slow, error : ndarray, shape (n,)
        In the unit of the values; NaN if all values are NaN.
    """
    good = np.isfinite(values) & (errors > 0)
    if good.sum() < 2:
        return smooth_in_time(time, values, errors, width)
    usable = [o for o in others if np.isfinite(o).all() and np.ptp(o[good]) > 0]
    fits = [_fit(basis, values, errors, good) for basis in _bases(time, usable, int(good.sum()))]
    _, slow, error, kept = min(fits, key=lambda fit: fit[0])
    residual = np.where(kept, values - slow, np.nan)
    smooth, smooth_error = smooth_in_time(time, residual, errors, width)
    windows = max(float(np.ptp(time[good])) / max(width, 1e-9), 1.0)
    expected = float(np.mean(smooth_error[good] ** 2))
    measured = float(np.mean(smooth[good] ** 2))
    # sqrt(2 / windows) is the scatter of a variance: residuals within 3 of it are noise
    if measured > expected * (1.0 + 3.0 * np.sqrt(2.0 / windows)):
        share = 1.0 - expected / measured
        slow, error = slow + share * smooth, np.hypot(error, share * smooth_error)
    return slow, error


def slow(time: FloatArray, values: FloatArray, width: float) -> tuple[FloatArray, FloatArray]:
    """Return the slow part of housekeeping, and its error.

    The noise is measured by the differences of neighbours. Values without noise are returned as
    they are, and so are fewer than four.

    Parameters
    ----------
    time, values : ndarray, shape (n,)
        Increasing times [day]; finite values.
    width : float
        As in `follow`; 0 leaves the values as they are.
    """
    noise = (
        MAD_TO_SIGMA * float(np.median(np.abs(np.diff(values)))) / np.sqrt(2)
        if len(values) > 3
        else 0.0
    )
    error = np.full_like(values, noise)
    return (values, error) if noise == 0.0 or width == 0.0 else follow(time, values, error, width)


def _bases(time: FloatArray, others: Sequence[FloatArray], count: int) -> list[FloatArray]:
    """Return the sets of columns (n, p) to try.

    Sets of more than one column have at most a quarter as many columns as there are values.
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
            for harmonics in HARMONICS if span > 0.5 * PERIOD else (0,):
                phase = 2 * np.pi * np.outer(time - time[0], np.arange(1, harmonics + 1)) / PERIOD
                waves = np.concatenate([np.cos(phase), np.sin(phase)], axis=1)
                # waves whose amplitude grows also fit a slightly different period
                for turning in ([waves], [waves, u[:, None] * waves]) if harmonics else ([],):
                    basis = np.concatenate([curve, *[e[:, None] for e in extra], *turning], axis=1)
                    if basis.shape[1] == 1 or 4 * basis.shape[1] <= count:
                        bases.append(basis)
    return bases


def _fit(
    basis: FloatArray, values: FloatArray, errors: FloatArray, good: BoolArray
) -> tuple[float, FloatArray, FloatArray, BoolArray]:
    """Fit one set of columns.

    Returns
    -------
    criterion : float
        Bayesian information criterion.
    fit, error : ndarray, shape (n,)
        In the unit of the values.
    kept : ndarray of bool, shape (n,)
        False for values that were clipped.
    """
    offset = float(np.median(values[good]))
    weight = np.where(good, 1.0 / np.where(good, errors, 1.0), 0.0)
    scaled, target = basis * weight[:, None], weight * np.where(good, values - offset, 0.0)
    kept = good.copy()
    for _ in range(ROUNDS):
        rows = scaled[kept]
        # the pseudo-inverse shares the effect of degenerate columns among them
        inverse = np.linalg.pinv(rows.T @ rows, rcond=1e-10, hermitian=True)
        coefficients = inverse @ (rows.T @ target[kept])
        pull = scaled @ coefficients - target
        size = max(MAD_TO_SIGMA * float(np.median(np.abs(pull[good]))), 1.0)
        within = good & (np.abs(pull) <= CLIP * size)
        if (within == kept).all() or within.sum() < 2 * basis.shape[1]:
            break
        kept = within
    misfit = float(np.sum(np.minimum(pull[good] ** 2, CLIP**2)))
    spread = max(float(np.mean(pull[kept] ** 2)), 1.0)
    error = np.sqrt(spread * np.einsum("ij,jk,ik->i", basis, inverse, basis))
    return misfit + basis.shape[1] * np.log(good.sum()), offset + basis @ coefficients, error, kept
