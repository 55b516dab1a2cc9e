"""The factor by which the dark frames are scaled, from the dark columns of the margins."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from schemas.arrays import FloatArray
from schemas.payloads import Linearity, ReadOut, Reference
from tasks.calibration.bias import clipped_mean, margin_mean, read_bias_reference
from tasks.numerics.robust import MAD_TO_SIGMA
from tasks.visit.linearity_curve import linearise
from tasks.visit.raw import Exposures
from tasks.visit.terms import read_bias, read_gain, read_linearity

SIDES = {"DarkLeft": 12, "DarkRight": 1052}  # first pixel of a row that lies in the dark columns
HOT = 5.0  # times the usual charge: pixels with more are no measure of the scale
FEWEST_PIXELS = 32
MOST_IMAGES = 256  # whose dark columns are averaged
OFFSET = 0.1  # error of bias level and structure of the dark columns together [ADU]


class DarkScale(NamedTuple):
    """Dark current over that of the frames, its error, and the columns that it was measured in or
    the reason why it was not.
    """

    factor: float
    error: float
    source: str


def ratio_of_sums(measured: FloatArray, expected: FloatArray) -> tuple[float, float]:
    """Return the factor between two sets of values that are in proportion, and its error; pixels of
    another kind are left out.

    The factor is that of the sums, so that the noise of what is expected does not make it small, as
    it would a slope.

    Parameters
    ----------
    measured, expected : ndarray, shape (n,)
        Charge that dark pixels hold and the charge that the dark frames give for them [electron].
    """
    # hot pixels have a life of their own, and would decide alone
    known = np.isfinite(measured) & np.isfinite(expected)
    known &= expected < HOT * float(np.median(expected[known])) if known.any() else False
    if known.sum() < FEWEST_PIXELS or not float(np.sum(expected[known])) > 0:
        return np.nan, np.nan
    factor = 1.0
    for _ in range(10):
        rest = measured - factor * expected
        middle = float(np.median(rest[known]))
        wide = MAD_TO_SIGMA * float(np.median(np.abs(rest[known] - middle)))
        chosen = known & (np.abs(rest - middle) <= 4.0 * max(wide, 1e-9))
        again = float(np.sum(measured[chosen]) / np.sum(expected[chosen]))
        if abs(again - factor) < 1e-6:
            break
        factor = again
    scatter = float(np.std(rest[chosen])) * np.sqrt(float(chosen.sum()))
    return factor, scatter / float(np.sum(expected[chosen]))


def noisy_median(charge: FloatArray, noise: FloatArray) -> FloatArray:
    """Return the median that pixels of some charge have when each is measured with noise, shape (k,
    1).

    Noise does not move the median of an even distribution, but a tail of hot pixels makes the dark
    columns' uneven. It is where sum_i Phi((m - q_i) / sigma_i) is half the number of pixels.

    Parameters
    ----------
    charge : ndarray, shape (k, m)
        Charge q of the pixels [electron]; a median is made of each row.
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
    """Return the factor between a few values that are in proportion, and its error; NaN where
    nothing is expected.

    They are too few for a scatter to be told: the error is that of the values, and half the range
    of the factors that each of them gives alone.

    Parameters
    ----------
    measured, errors, expected : ndarray, shape (n,)
        Charge of a dark pixel of each side, its error, and the charge that the dark frames give for
        it [electron].
    """
    total = float(np.sum(expected))
    if not (np.isfinite(measured).all() and np.isfinite(errors).all() and (expected > 0).all()):
        return np.nan, np.nan
    apart = float(np.ptp(measured / expected)) / 2
    return float(np.sum(measured)) / total, float(
        np.hypot(np.sqrt(np.sum(errors**2)) / total, apart)
    )


class _Columns(NamedTuple):
    """Dark columns of one side, freed of bias and in linear electrons of one exposure."""

    charge: FloatArray  # mean over the images, shape (k,)
    error: FloatArray  # of the mean
    expected: FloatArray  # of the pixels whose median a value is, shape (k, m); m is 1 for pixels


def _measure_columns(
    raw: Exposures,
    readout: ReadOut,
    linearity: Linearity,
    bias_frame: Reference,
    expected: dict[str, FloatArray],
) -> dict[str, _Columns]:
    """Measure the charge of the dark columns of each side whose charge is expected."""
    bias, gain, curve = (
        read_bias(readout.bias),
        read_gain(readout.gain).gain,
        read_linearity(linearity),
    )
    reference = read_bias_reference(bias_frame.product, raw.frequency, raw.hardware)
    chosen = np.unique(np.linspace(0, raw.count - 1, MOST_IMAGES).round().astype(np.int64))
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
    """Measure the dark current of the dark columns over the expected one.

    `expected` (ny, 16) is the charge of one exposure in the columns of each side [electron].
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
    for _ in range(10):  # the median under noise depends a little on the factor
        reference = np.concatenate([usual_charge(q, factor, read_out, raw.nexp) for q in groups])
        before, (factor, error) = factor, _ratio(measured, errors, reference)
        if not factor > 0 or abs(factor - before) < 1e-4:
            break
    usual = float(np.median(reference))
    if not (np.isfinite(factor) and usual > 0):
        return _unmeasured("too few dark pixels hold charge")
    offset = OFFSET
    if any(q.shape[1] > 1 for q in groups):  # medians of whole numbers come in half counts
        offset = float(np.hypot(OFFSET, 1.0 / np.sqrt(12.0) / raw.coadded))
    error = float(np.hypot(error, offset / usual_gain / usual))
    return DarkScale(factor, error, "+".join(columns))


def _unmeasured(reason: str) -> DarkScale:
    return DarkScale(np.nan, np.nan, f"not measured: {reason}")


def usual_charge(charge: FloatArray, factor: float, read_out: float, nexp: int) -> FloatArray:
    """Return what a value made of each group of pixels (k, m) shows over `factor`, shape (k,)
    [electron].

    Of more than one pixel it is their median in the mean of `nexp` exposures, where they hold
    `factor` times the charge.
    """
    if charge.shape[1] == 1:
        return charge[:, 0]
    held = factor * charge
    return noisy_median(held, np.sqrt((read_out**2 + np.maximum(held, 0.0)) / nexp))[:, 0] / factor


def _ratio(measured: FloatArray, errors: FloatArray, expected: FloatArray) -> tuple[float, float]:
    few = len(measured) <= len(SIDES)
    return ratio_of_totals(measured, errors, expected) if few else ratio_of_sums(measured, expected)
