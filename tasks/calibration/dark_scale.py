"""The factor by which the dark frames are scaled, from the dark columns of the margins."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from schemas.arrays import FloatArray
from schemas.payloads import Linearity, ReadOut, Reference
from tasks.calibration.bias import clipped_mean, margin_mean, read_bias_reference
from tasks.numerics.robust import MAD_TO_SIGMA
from tasks.numerics.sample import spread_evenly
from tasks.visit.linearity_curve import linearise
from tasks.visit.raw import Exposures
from tasks.visit.terms import read_bias, read_gain, read_linearity

SIDES = {"DarkLeft": 12, "DarkRight": 1052}  # first pixel of a row that lies in the dark columns
HOT = 5.0  # pixels with more than this many times the usual charge are left out
FEWEST_PIXELS = 32
MOST_IMAGES = 256  # whose dark columns are averaged
OFFSET = 0.1  # combined error of bias level and structure in the dark columns [ADU]


class DarkScale(NamedTuple):
    """Dark current of the visit over that of the dark frames."""

    factor: float
    error: float
    source: str  # the dark columns it was measured in, or why it was not measured


def ratio_of_sums(measured: FloatArray, expected: FloatArray) -> tuple[float, float]:
    """Return the ratio of two sets of proportional values, and its error.

    It is the ratio of the sums of most pixels: noise of the expected values would bias a slope low.
    Hot pixels and outliers are left out. NaN if fewer than 32 pixels are left.

    Parameters
    ----------
    measured, expected : ndarray, shape (n,)
        Charge of dark pixels, and that predicted by the dark frames [electron].
    """
    # hot pixels vary on their own, and would dominate the sums
    known = np.isfinite(measured) & np.isfinite(expected)
    known &= expected < HOT * float(np.median(expected[known])) if known.any() else False
    if known.sum() < FEWEST_PIXELS or not float(np.sum(expected[known])) > 0:
        return np.nan, np.nan
    factor = 1.0
    for _ in range(10):
        residual = measured - factor * expected
        middle = float(np.median(residual[known]))
        sigma = MAD_TO_SIGMA * float(np.median(np.abs(residual[known] - middle)))
        chosen = known & (np.abs(residual - middle) <= 4.0 * max(sigma, 1e-9))
        improved = float(np.sum(measured[chosen]) / np.sum(expected[chosen]))
        if abs(improved - factor) < 1e-6:
            break
        factor = improved
    scatter = float(np.std(residual[chosen])) * np.sqrt(float(chosen.sum()))
    return factor, scatter / float(np.sum(expected[chosen]))


def noisy_median(charge: FloatArray, noise: FloatArray) -> FloatArray:
    """Return the expected median of pixels that are measured with noise, shape (k, 1).

    Noise does not move the median of a symmetric distribution, but that of the dark columns has a
    tail of hot pixels. The median m solves sum_i Phi((m - q_i) / sigma_i) = number of pixels / 2.

    Parameters
    ----------
    charge : ndarray, shape (k, m)
        Charge q of the pixels [electron]; each row has one median.
    noise : ndarray, shape (k, m)
        Noise sigma of each pixel [electron].
    """
    low, high = charge.min(axis=1, keepdims=True), charge.max(axis=1, keepdims=True)
    for _ in range(60):  # halves the range down to the last digit of a double
        middle = 0.5 * (low + high)
        below = ndtr((middle - charge) / noise).mean(axis=1, keepdims=True) < 0.5
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray(0.5 * (low + high))


def ratio_of_totals(
    measured: FloatArray, errors: FloatArray, expected: FloatArray
) -> tuple[float, float]:
    """Return the ratio of a few proportional values, and its error; NaN if nothing is expected.

    With too few values to measure their scatter, the error combines the errors of the values with
    half the range of their individual ratios.

    Parameters
    ----------
    measured, errors, expected : ndarray, shape (n,)
        Charge of a dark pixel of each side, its error, and the charge that the dark frames predict
        [electron].
    """
    total = float(np.sum(expected))
    if not (np.isfinite(measured).all() and np.isfinite(errors).all() and (expected > 0).all()):
        return np.nan, np.nan
    apart = float(np.ptp(measured / expected)) / 2
    return float(np.sum(measured)) / total, float(
        np.hypot(np.sqrt(np.sum(errors**2)) / total, apart)
    )


class _Columns(NamedTuple):
    """Dark columns of one side in one exposure: k pixels, or medians of groups of m pixels."""

    charge: FloatArray  # mean over the images, linear, shape (k,) [electron]
    error: FloatArray  # of the mean, shape (k,) [electron]
    expected: FloatArray  # charge of the pixels, shape (k, m); m is 1 where no medians were taken


def _measure_columns(
    raw: Exposures,
    readout: ReadOut,
    linearity: Linearity,
    bias_frame: Reference,
    expected: dict[str, FloatArray],
) -> dict[str, _Columns]:
    """Measure the charge in the dark columns of each side that a prediction exists for."""
    bias, gain, curve = (
        read_bias(readout.bias),
        read_gain(readout.gain).gain,
        read_linearity(linearity),
    )
    reference = read_bias_reference(bias_frame.product, raw.frequency, raw.hardware)
    chosen = spread_evenly(raw.count, MOST_IMAGES)
    columns = {}
    for side, charge in expected.items():
        adu = margin_mean(raw, side, reference, chosen)
        if adu is None:
            continue
        electrons = (adu - bias.level[chosen, None, None]) / gain[chosen, None, None]
        electrons = linearise(electrons.ravel(), *curve).reshape(electrons.shape)
        mean, sigma, number = clipped_mean(electrons.reshape(len(chosen), -1).T.copy(), 4.0)
        error = sigma / np.sqrt(np.maximum(number, 1))
        columns[side] = _Columns(mean, error, charge.reshape(len(mean), -1))
    return columns


def measure_scale(
    raw: Exposures,
    readout: ReadOut,
    linearity: Linearity,
    bias_frame: Reference,
    expected: dict[str, FloatArray],
) -> DarkScale:
    """Measure the charge in the dark columns over the charge predicted by the dark frames.

    `expected` is the predicted charge of one exposure by side, shape (ny, 16) [electron].
    """
    columns = _measure_columns(raw, readout, linearity, bias_frame, expected)
    if not expected:
        return _unmeasured("the dark frames have no dark columns")
    if not columns:
        return _unmeasured("the visit has no dark columns with pixels or medians")
    ron, gain = read_bias(readout.bias).ron, read_gain(readout.gain).gain
    usual_gain = float(np.median(gain))
    read_out = float(np.median(ron)) / usual_gain
    measured = np.concatenate([side.charge for side in columns.values()])
    errors = np.concatenate([side.error for side in columns.values()])
    groups = [side.expected for side in columns.values()]
    factor, error, reference = 1.0, np.nan, measured
    for _ in range(10):  # medians of noisy pixels depend slightly on the factor
        reference = np.concatenate([usual_charge(q, factor, read_out, raw.nexp) for q in groups])
        before, (factor, error) = factor, _ratio(measured, errors, reference)
        if not factor > 0 or abs(factor - before) < 1e-4:
            break
    usual = float(np.median(reference))
    if not (np.isfinite(factor) and usual > 0):
        return _unmeasured("too few dark pixels hold charge")
    offset = OFFSET
    if any(q.shape[1] > 1 for q in groups):  # medians of integers come in steps of half
        offset = float(np.hypot(OFFSET, 1.0 / np.sqrt(12.0) / raw.coadded))
    error = float(np.hypot(error, offset / usual_gain / usual))
    return DarkScale(factor, error, "+".join(columns))


def _unmeasured(reason: str) -> DarkScale:
    return DarkScale(np.nan, np.nan, f"not measured: {reason}")


def usual_charge(charge: FloatArray, factor: float, read_out: float, nexp: int) -> FloatArray:
    """Return the predicted value of each group of pixels (k, m), divided by `factor`, shape (k,).

    The value of a group of several pixels is their median in the mean of `nexp` exposures, in which
    they hold `factor` times their charge [electron].
    """
    if charge.shape[1] == 1:
        return charge[:, 0]
    held = factor * charge
    return noisy_median(held, np.sqrt((read_out**2 + np.maximum(held, 0.0)) / nexp))[:, 0] / factor


def _ratio(measured: FloatArray, errors: FloatArray, expected: FloatArray) -> tuple[float, float]:
    few = len(measured) <= len(SIDES)
    return ratio_of_totals(measured, errors, expected) if few else ratio_of_sums(measured, expected)
