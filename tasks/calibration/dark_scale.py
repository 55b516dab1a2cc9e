"""By which factor the dark frames are scaled: what the dark columns of the margins show."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from schemas.arrays import FloatArray
from schemas.payloads import Bias, Gain, Linearity
from tasks.calibration.bias import BiasReference, clipped_mean, margin_mean
from tasks.numerics.robust import MAD_TO_SIGMA
from tasks.visit.linearity_curve import linearise, read_linearity
from tasks.visit.raw import Exposures
from tasks.visit.terms import term_column

SIDES = {"DarkLeft": 12, "DarkRight": 1052}  # first pixel of a row that lies in the dark columns

HOT = 5.0  # dark pixels with more than this times the usual charge do not tell the scale

FEWEST_PIXELS = 32

MOST_IMAGES = 256  # of which the dark columns are averaged

OFFSET = 0.1  # what bias level and structure of the dark columns are missed by together [ADU]


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


def measured_scale(
    raw: Exposures,
    bias: Bias,
    gain: Gain,
    linearity: Linearity,
    structure: BiasReference,
    expected: dict[str, FloatArray],
) -> tuple[float, float, str]:
    """Return the dark current that the dark columns show over the expected one, its error, and
    which columns told it.

    NaN where they do not tell, with the reason in the place of the columns. `expected` (ny, 16) is
    the charge of one exposure in the columns of each side [electron].
    """
    level, ron = term_column(bias.product, "TERM_BIAS", "LEVEL", "RON")
    (gains,) = term_column(gain.product, "TERM_GAIN", "GAIN")
    curve = read_linearity(linearity)
    usual_gain, read_out = float(np.median(gains)), float(np.median(ron)) / float(np.median(gains))
    chosen = np.unique(np.linspace(0, raw.count - 1, MOST_IMAGES).round().astype(np.int64))
    found: dict[str, tuple[FloatArray, FloatArray]] = {}
    groups: list[
        FloatArray
    ] = []  # the pixels of which a value is the median; (pixels, 1) where each is told
    offset = OFFSET
    for side, charge in expected.items():
        adu = margin_mean(raw, side, structure, chosen)
        if adu is None:
            continue
        electrons = (adu - level[chosen, None, None]) / gains[chosen, None, None]
        electrons = linearise(electrons.ravel(), *curve).reshape(electrons.shape)
        mean, sigma, number = clipped_mean(electrons.reshape(len(chosen), -1).T.copy(), 4.0)
        found[side] = mean, sigma / np.sqrt(np.maximum(number, 1))
        groups.append(charge.reshape(len(mean), -1))
        if (
            groups[-1].shape[1] > 1
        ):  # collapsed on board; medians of whole numbers come in steps of half a count
            offset = float(np.hypot(OFFSET, 1.0 / np.sqrt(12.0) / raw.coadded))
    if not expected:
        return np.nan, np.nan, "not measured: the dark frames have no dark columns"
    if not found:
        return np.nan, np.nan, "not measured: the visit has no dark columns with pixels or medians"
    measured, errors = (np.concatenate(v) for v in zip(*found.values(), strict=True))
    factor, error, wanted = 1.0, np.nan, measured
    for _ in range(10):  # the median under noise depends a little on the factor
        wanted = np.concatenate([usual_charge(q, factor, read_out, raw.nexp) for q in groups])
        before, (factor, error) = factor, _ratio(measured, errors, wanted)
        if not factor > 0 or abs(factor - before) < 1e-4:
            break
    usual = float(np.median(wanted))
    if not (np.isfinite(factor) and usual > 0):
        return np.nan, np.nan, "not measured: too few dark pixels hold charge"
    return factor, float(np.hypot(error, offset / usual_gain / usual)), "+".join(found)


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
