"""Dark current: the thermal charge collected during exposure and read-out.

Q(x, y, t) = s h(T(t)) D(x, y) (t_exp + t_read(x, y)). After the exposure the charge waits in the shielded half of the CCD until
its row is shifted into the serial register and read pixel by pixel; it goes on collecting dark current meanwhile. Read modes
that read the whole frame make the last row wait 11 s at 100 kHz; others read the rows of the window only.

D is interpolated between the dark frames that bracket the visit; a pixel that differs from the others by no more than its error
explains is drawn to them, so that the noise of the map does not get into the images. The frames do not say how warm they were.
How much dark current there is in this visit is told by the columns beside the exposed area, which see no light: s is what they
hold over what the frames have there, and 1 where it cannot be told from 1. Within the visit the CCD's temperature decides:
h(T) is in proportion to T^3 exp(-9080 K / T), the law of this CCD (e2v 47-20), a sixth for one degree.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from schemas.inputs import DARK_FRAME, READ_OUT
from schemas.payloads import Bias, Dark, Gain, Linearity, Product, Reference
from schemas.settings import DarkSettings
from schemas.terms import TERMS
from tasks.amplifier import linearise, read_linearity
from tasks.calibration.bias import BiasReference, clipped_mean, margin_mean, read_bias_reference
from tasks.calibration.drift import slow
from tasks.calibration.gain import fill_gaps
from tasks.exposures import Exposures, open_exposures, term_column
from tasks.fits import Value, open_declared
from tasks.fits_writer import NewHdu
from tasks.robust import MAD_TO_SIGMA
from tasks.step import Leaves, step
from tasks.store import require
from tasks.times import utc_to_mjd

FloatArray = npt.NDArray[np.float64]
ROW_PIXELS = 1076  # 4 overscan, 8 blank, 16 dark, 1024 exposed, 16 dark, 8 blank
LEADING_PIXELS = 28  # read before the first exposed one
ROW_SHIFT = 30e-6  # [s]
SIDES = {"DarkLeft": 12, "DarkRight": 1052}  # first pixel of a row that lies in the dark columns
ZERO_CELSIUS = 273.15
ACTIVATION = 9080.0  # [K]
COLDEST, WARMEST = -100.0, 30.0  # what the CCD's temperature can be [deg C]
HOT = 5.0  # dark pixels with more than this times the usual charge do not tell the scale
FAR = 4.0  # pixels further from the usual dark current are not of the bulk [sigma]
FEWEST_PIXELS = 32
MOST_IMAGES = 256  # of which the dark columns are averaged
OFFSET = 0.1  # what bias level and structure of the dark columns are missed by together [ADU]
SMOOTH = 30.0 / 1440.0  # window that smooths the CCD's temperature [day]
OLD = 30.0  # a single dark frame that far away is worth a warning [day]
UNUSUAL = 0.2  # dark frames that are wrong by more are worth a warning
PLAUSIBLE = 0.02, 50.0  # 25 degrees colder or warmer
FULL_READ_SCRIPTS = frozenset((1, 2, 3, 4, 31, 32))  # full frame, and the faint mode: all rows are read


def dark_charge(rate: FloatArray, exposure_time: float, read_time: FloatArray) -> FloatArray:
    """Return the thermal charge of one exposure.

    Parameters
    ----------
    rate : ndarray, shape (ny, nx)
        Dark current [electron/s].
    exposure_time : float
        Exposure time [s].
    read_time : ndarray, shape (ny, nx)
        Time each pixel waits between the end of the exposure and its read-out [s].

    Returns
    -------
    ndarray, shape (ny, nx)
        Charge [electron].

    Raises
    ------
    ValueError
        If `rate` and `read_time` differ in shape.
    """
    if rate.shape != read_time.shape:
        raise ValueError(f"dark current is {rate.shape} pixels, read-out time is {read_time.shape}")
    return rate * (exposure_time + read_time)


def read_times(
    shape: tuple[int, int], first_row: int, first_column: int, frequency: float, row_time: float | None = None
) -> FloatArray:
    """Return how long each pixel waits for its read-out.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx) of the window.
    first_row, first_column : int
        Rows that are read before the window's first, and exposed columns before its first.
    frequency : float
        Pixels read in a second [Hz].
    row_time : float, optional
        Time of one row [s]; by default that of 1076 pixels and one row shift.

    Returns
    -------
    ndarray, shape (ny, nx)
        Time [s].
    """
    row = ROW_PIXELS / frequency + ROW_SHIFT if row_time is None else row_time
    rows = first_row + np.arange(shape[0])
    columns = LEADING_PIXELS + first_column + np.arange(shape[1])
    return rows[:, None] * row + ROW_SHIFT + columns[None, :] / frequency


def interpolate_frames(time: float, times: FloatArray, frames: FloatArray, errors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return dark current and error at `time`, between one or two frames (k, ny, nx); held constant outside of them."""
    if len(times) == 1 or times[1] == times[0]:
        return frames[0], errors[0]
    w = float(np.clip((time - times[0]) / (times[1] - times[0]), 0.0, 1.0))
    return (1 - w) * frames[0] + w * frames[1], np.hypot((1 - w) * errors[0], w * errors[1])


def shrink(rate: FloatArray, error: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return dark current without the noise of its map, and the error of that.

    A pixel is the usual one plus a difference d. The differences of most pixels have the variance V that their scatter shows
    beyond the errors e; hot ones, further out than most pixels and noise together go, have d^2 - e^2. Each difference is
    multiplied by v / (v + e^2), with v the one variance or the other (empirical Bayes).

    Parameters
    ----------
    rate, error : ndarray, shape (ny, nx)
        Map and its error [electron/s].
    """
    usual = float(np.median(rate))
    difference = rate - usual
    noise = np.square(error)
    spread = max(float(MAD_TO_SIGMA * np.median(np.abs(difference))) ** 2 - float(np.median(noise)), 0.0)
    variance = np.where(np.square(difference) > FAR**2 * (spread + noise), np.square(difference) - noise, spread)
    share = np.divide(variance, variance + noise, out=np.ones_like(rate), where=noise > 0)
    return usual + share * difference, error * np.sqrt(share)


def temperature_factor(temperature: FloatArray, usual: float) -> FloatArray:
    """Return the dark current at some temperatures in units of that at the usual one, all in degrees Celsius."""
    kelvin, middle = temperature + ZERO_CELSIUS, usual + ZERO_CELSIUS
    factor: FloatArray = (kelvin / middle) ** 3 * np.exp(ACTIVATION / middle - ACTIVATION / kelvin)
    return factor


def ratio_of_sums(measured: FloatArray, expected: FloatArray) -> tuple[float, float]:
    """Return the factor between two sets of values that are in proportion, and its error; pixels of another kind are left out.

    The factor is that of the sums, so that the noise of what is expected does not make it small, as it would a slope.

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
    """Return the median that pixels of some charge have when each is measured with noise, shape (k, 1).

    Noise does not move the median of an even distribution, but a tail of hot pixels makes the dark columns' uneven. It is
    where sum_i Phi((m - q_i) / sigma_i) is half the number of pixels.

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


def ratio_of_totals(measured: FloatArray, errors: FloatArray, expected: FloatArray) -> tuple[float, float]:
    """Return the factor between a few values that are in proportion, and its error; NaN where nothing is expected.

    They are too few for a scatter to be told: the error is that of the values, and half the range of the factors that each
    of them gives alone.

    Parameters
    ----------
    measured, errors, expected : ndarray, shape (n,)
        Charge of a dark pixel of each side, its error, and the charge that the dark frames give for it [electron].
    """
    total = float(np.sum(expected))
    if not (np.isfinite(measured).all() and np.isfinite(errors).all() and (expected > 0).all()):
        return np.nan, np.nan
    apart = float(np.ptp(measured / expected)) / 2
    return float(np.sum(measured)) / total, float(np.hypot(np.sqrt(np.sum(errors**2)) / total, apart))


def measured_scale(
    raw: Exposures,
    bias: Bias,
    gain: Gain,
    linearity: Linearity,
    structure: BiasReference,
    expected: dict[str, FloatArray],
) -> tuple[float, float, str]:
    """Return the dark current that the dark columns show over the expected one, its error, and which columns told it.

    NaN where they do not tell, with the reason in the place of the columns. `expected` (ny, 16) is the charge of one exposure
    in the columns of each side [electron].
    """  # fmt: skip
    level, ron = term_column(bias.product, "TERM_BIAS", "LEVEL", "RON")
    (gains,) = term_column(gain.product, "TERM_GAIN", "GAIN")
    curve = read_linearity(linearity)
    usual_gain, read_out = float(np.median(gains)), float(np.median(ron)) / float(np.median(gains))
    chosen = np.unique(np.linspace(0, raw.count - 1, MOST_IMAGES).round().astype(np.int64))
    found: dict[str, tuple[FloatArray, FloatArray]] = {}
    groups: list[FloatArray] = []  # the pixels of which a value is the median; (pixels, 1) where each is told
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
        if groups[-1].shape[1] > 1:  # collapsed on board; medians of whole numbers come in steps of half a count
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
    """Return what a value made of each group of pixels (k, m) shows over `factor`, shape (k,) [electron].

    Of more than one pixel it is their median in the mean of `nexp` exposures, where they hold `factor` times the charge.
    """
    if charge.shape[1] == 1:
        return charge[:, 0]
    held = factor * charge
    return noisy_median(held, np.sqrt((read_out**2 + np.maximum(held, 0.0)) / nexp))[:, 0] / factor


def _ratio(measured: FloatArray, errors: FloatArray, expected: FloatArray) -> tuple[float, float]:
    few = len(measured) <= len(SIDES)
    return ratio_of_totals(measured, errors, expected) if few else ratio_of_sums(measured, expected)


def row_time_of(reference: Reference | None, exposures: Exposures) -> float | None:
    """Return the time of one row [s] of the visit's read-out script, None where the reference does not tell."""
    if reference is None:
        return None
    with open_declared(require(reference.product.path), READ_OUT) as file:
        hdu = file["REF_APP_ReadOut"]
        rows = hdu.column("RO_SCRPT") == exposures.image.header.get("RO_SCRPT")
        times = hdu.finite_column("ROW_READ_OUT")[rows]
    return float(times[0]) / 1000.0 if len(times) and 0 < times[0] < 1000 else None


@step("dark", "DARK", version="3", payload=Dark, leaves=["TERM_DARK"])
def estimate_dark(
    raw: Product, bias: Bias, gain: Gain, linearity: Linearity, bias_frame: Reference, frames: tuple[Reference, ...],
    timing: Reference | None, settings: DarkSettings,
) -> Leaves:  # fmt: skip
    """Estimate the thermal charge of one exposure from the dark frames that bracket the visit and its dark columns."""
    warnings: list[str] = []
    with open_exposures(raw) as exposures:
        window, shape = exposures.window, exposures.shape
        full = exposures.image.header.get("RO_SCRPT") in FULL_READ_SCRIPTS or shape == (1024, 1024)
        first_row = exposures.y_offset if full else 0
        row_time = row_time_of(timing, exposures)
        waits = read_times(shape, first_row, exposures.x_offset, exposures.frequency, row_time)
        mjd, exposure_time = exposures.mjd, exposures.exposure_time
        offsets = {"X_WINOFF": exposures.x_offset, "Y_WINOFF": exposures.y_offset}
        scale, scale_error, age, source = 1.0, 0.0, 0.0, "not measured: no dark current is subtracted"
        rate, error = np.zeros(shape), np.zeros(shape)
        if frames and not settings.skip:
            times = utc_to_mjd(np.array([f.valid_from for f in frames]))
            middle = float(np.median(mjd))
            age = float(np.min(np.abs(times - middle)))
            planes = [_read_frame(f.product, window) for f in frames]
            rate, error = interpolate_frames(middle, times, *(np.stack(p) for p in zip(*planes, strict=True)))
            if len(frames) == 1 and age >= OLD:
                warnings.append(f"only one dark frame, {age:.0f} days from the visit")
            if settings.scale is not None:
                scale, source = settings.scale, "setting"
            else:
                expected = {}
                for side, first in SIDES.items():
                    columns = [_read_columns(f.product, side, window[0]) for f in frames]
                    known = [c for c in columns if c is not None]
                    if len(known) == len(frames):
                        current, _ = interpolate_frames(middle, times, *(np.stack(p) for p in zip(*known, strict=True)))
                        wait = read_times((shape[0], 16), first_row, first - LEADING_PIXELS, exposures.frequency, row_time)
                        expected[side] = dark_charge(current, exposure_time, wait)
                reference = read_bias_reference(bias_frame.product, exposures.frequency, exposures.hardware)
                found, scale_error, source = measured_scale(exposures, bias, gain, linearity, reference, expected)
                if np.isfinite(found) and abs(found - 1.0) > 3.0 * scale_error:
                    scale = found
                scale_error = scale_error if np.isfinite(scale_error) else 0.0
            if settings.scale is None and not PLAUSIBLE[0] <= scale <= PLAUSIBLE[1]:
                warnings.append(f"the dark columns show {scale:.3g} times the dark current of the frames: the frames are used")
                scale = 1.0
            elif settings.scale is None and abs(scale - 1.0) > UNUSUAL:
                warnings.append(f"the dark frames are scaled by {scale:.3f}")
            if settings.shrink:
                rate, error = shrink(rate, error)
        factor = _factors(exposures, warnings)
    rate, error = scale * rate, scale * error
    used: dict[str, Value] = {
        "DARK_AVG": float(rate.mean()), "DARK_RDT": float(waits.mean()), "DARK_AGE": age, "DARK_SCL": scale,
        "DARK_SRC": source, "DARK_SCE": scale_error, "DARK_TVR": float(np.ptp(factor)),
    }  # fmt: skip
    charge = NewHdu(TERMS["TERM_DARK"], {**offsets, **used}, pixels=dark_charge(rate, exposure_time, waits))
    charge_error = NewHdu(TERMS["TERM_DARK_ERROR"], offsets, pixels=dark_charge(error, exposure_time, waits))
    factors = NewHdu(TERMS["TERM_DARK_SCALE"], columns={"MJD_TIME": mjd, "SCALE": factor})
    return Leaves({"TERM_DARK": [charge, charge_error, factors]}, used=used, warnings=warnings, skipped=settings.skip)


def _factors(exposures: Exposures, warnings: list[str]) -> FloatArray:
    """Return the dark current of every image over that at the median temperature of the visit."""
    temperature = exposures.metadata.column("HK_TEMP_FEE_CCD").astype(np.float64)
    temperature[(temperature < COLDEST) | (temperature > WARMEST)] = np.nan
    temperature = fill_gaps(exposures.mjd, temperature)
    if not np.isfinite(temperature).all():
        warnings.append("the CCD's temperature is not known: the dark current does not follow it")
        return np.ones(exposures.count)
    temperature, _ = slow(exposures.mjd, temperature, SMOOTH)
    return temperature_factor(temperature, float(np.median(temperature)))


def _read_frame(product: Product, window: tuple[slice, slice]) -> tuple[FloatArray, FloatArray]:
    with open_declared(require(product.path), DARK_FRAME) as file:
        rate, error = file["REF_APP_DarkFrame"].finite_image()
    return rate[window], error[window]


def _read_columns(product: Product, side: str, rows: slice) -> tuple[FloatArray, FloatArray] | None:
    """Return dark current and error of the dark columns of one side, (ny, 16) [electron/s]; None where they are missing."""
    extname = f"REF_APP_DarkFrame{side.removeprefix('Dark')}"
    with open_declared(require(product.path), DARK_FRAME) as file:
        if extname not in file or file[extname].shape != (2, 1024, 16):
            return None
        rate, error = file[extname].finite_image()
    return rate[rows], error[rows]
