"""Dark current: the thermal charge collected during exposure and read-out.

Q(x, y, t) = s h(T(t)) D(x, y) (t_exp + t_read(x, y)). After the exposure the charge waits in the
shielded half of the CCD until its row is shifted into the serial register and read pixel by pixel;
it goes on collecting dark current meanwhile. Read modes that read the whole frame make the last row
wait 11 s at 100 kHz; others read the rows of the window only.

D is interpolated between the dark frames that bracket the visit; a pixel that differs from the
others by no more than its error explains is drawn to them, so that the noise of the map does not
get into the images. The frames do not say how warm they were. How much dark current there is in
this visit is told by the columns beside the exposed area, which see no light: s is what they hold
over what the frames have there, and 1 where it cannot be told from 1. Within the visit the CCD's
temperature decides: h(T) is in proportion to T^3 exp(-9080 K / T), the law of this CCD (e2v 47-20),
a sixth for one degree.
"""

from __future__ import annotations

import numpy as np

from schemas.arrays import FloatArray
from schemas.inputs import DARK_FRAME, READ_OUT
from schemas.payloads import Bias, Dark, Gain, Linearity, Product, Reference
from schemas.settings import DarkSettings
from schemas.terms import TERMS
from tasks.calibration.bias import read_bias_reference
from tasks.calibration.dark_scale import SIDES, measured_scale
from tasks.calibration.drift import slow
from tasks.calibration.gain import fill_gaps
from tasks.engine.step import Leaves, step
from tasks.files.disk import require
from tasks.files.reader import Value, open_declared
from tasks.files.writer import NewHdu
from tasks.numerics.robust import MAD_TO_SIGMA
from tasks.numerics.times import utc_to_mjd
from tasks.visit.raw import Exposures, open_exposures

ROW_PIXELS = 1076  # 4 overscan, 8 blank, 16 dark, 1024 exposed, 16 dark, 8 blank

LEADING_PIXELS = 28  # read before the first exposed one

ROW_SHIFT = 30e-6  # [s]

ZERO_CELSIUS = 273.15

ACTIVATION = 9080.0  # [K]

COLDEST, WARMEST = -100.0, 30.0  # what the CCD's temperature can be [deg C]

FAR = 4.0  # pixels further from the usual dark current are not of the bulk [sigma]

SMOOTH = 30.0 / 1440.0  # window that smooths the CCD's temperature [day]

OLD = 30.0  # a single dark frame that far away is worth a warning [day]

UNUSUAL = 0.2  # dark frames that are wrong by more are worth a warning

PLAUSIBLE = 0.02, 50.0  # 25 degrees colder or warmer

FULL_READ_SCRIPTS = frozenset(
    (1, 2, 3, 4, 31, 32)
)  # full frame, and the faint mode: all rows are read


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
    shape: tuple[int, int],
    first_row: int,
    first_column: int,
    frequency: float,
    row_time: float | None = None,
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


def interpolate_frames(
    time: float, times: FloatArray, frames: FloatArray, errors: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return dark current and error at `time`, between one or two frames (k, ny, nx); held constant
    outside of them.
    """
    if len(times) == 1 or times[1] == times[0]:
        return frames[0], errors[0]
    w = float(np.clip((time - times[0]) / (times[1] - times[0]), 0.0, 1.0))
    return (1 - w) * frames[0] + w * frames[1], np.hypot((1 - w) * errors[0], w * errors[1])


def shrink(rate: FloatArray, error: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return dark current without the noise of its map, and the error of that.

    A pixel is the usual one plus a difference d. The differences of most pixels have the variance V
    that their scatter shows beyond the errors e; hot ones, further out than most pixels and noise
    together go, have d^2 - e^2. Each difference is multiplied by v / (v + e^2), with v the one
    variance or the other (empirical Bayes).

    Parameters
    ----------
    rate, error : ndarray, shape (ny, nx)
        Map and its error [electron/s].
    """
    usual = float(np.median(rate))
    difference = rate - usual
    noise = np.square(error)
    spread = max(
        float(MAD_TO_SIGMA * np.median(np.abs(difference))) ** 2 - float(np.median(noise)), 0.0
    )
    variance = np.where(
        np.square(difference) > FAR**2 * (spread + noise), np.square(difference) - noise, spread
    )
    share = np.divide(variance, variance + noise, out=np.ones_like(rate), where=noise > 0)
    return usual + share * difference, error * np.sqrt(share)


def temperature_factor(temperature: FloatArray, usual: float) -> FloatArray:
    """Return the dark current at some temperatures in units of that at the usual one, all in
    degrees Celsius.
    """
    kelvin, middle = temperature + ZERO_CELSIUS, usual + ZERO_CELSIUS
    factor: FloatArray = (kelvin / middle) ** 3 * np.exp(ACTIVATION / middle - ACTIVATION / kelvin)
    return factor


def row_time_of(reference: Reference | None, exposures: Exposures) -> float | None:
    """Return the time of one row [s] of the visit's read-out script, None where the reference does
    not tell.
    """
    if reference is None:
        return None
    with open_declared(require(reference.product.path), READ_OUT) as file:
        hdu = file["REF_APP_ReadOut"]
        rows = hdu.column("RO_SCRPT") == exposures.image.header.get("RO_SCRPT")
        times = hdu.finite_column("ROW_READ_OUT")[rows]
    return float(times[0]) / 1000.0 if len(times) and 0 < times[0] < 1000 else None


@step("dark", "DARK", version="3", payload=Dark, leaves=["TERM_DARK"])
def estimate_dark(
    raw: Product,
    bias: Bias,
    gain: Gain,
    linearity: Linearity,
    bias_frame: Reference,
    frames: tuple[Reference, ...],
    timing: Reference | None,
    settings: DarkSettings,
) -> Leaves:
    """Estimate the thermal charge of one exposure from the dark frames that bracket the visit and
    its dark columns.
    """
    warnings: list[str] = []
    with open_exposures(raw) as exposures:
        window, shape = exposures.window, exposures.shape
        full = exposures.image.header.get("RO_SCRPT") in FULL_READ_SCRIPTS or shape == (1024, 1024)
        first_row = exposures.y_offset if full else 0
        row_time = row_time_of(timing, exposures)
        waits = read_times(shape, first_row, exposures.x_offset, exposures.frequency, row_time)
        mjd, exposure_time = exposures.mjd, exposures.exposure_time
        offsets = {"X_WINOFF": exposures.x_offset, "Y_WINOFF": exposures.y_offset}
        scale, scale_error, age, source = (
            1.0,
            0.0,
            0.0,
            "not measured: no dark current is subtracted",
        )
        rate, error = np.zeros(shape), np.zeros(shape)
        if frames and not settings.skip:
            times = utc_to_mjd(np.array([f.valid_from for f in frames]))
            middle = float(np.median(mjd))
            age = float(np.min(np.abs(times - middle)))
            planes = [_read_frame(f.product, window) for f in frames]
            rate, error = interpolate_frames(
                middle, times, *(np.stack(p) for p in zip(*planes, strict=True))
            )
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
                        current, _ = interpolate_frames(
                            middle, times, *(np.stack(p) for p in zip(*known, strict=True))
                        )
                        wait = read_times(
                            (shape[0], 16),
                            first_row,
                            first - LEADING_PIXELS,
                            exposures.frequency,
                            row_time,
                        )
                        expected[side] = dark_charge(current, exposure_time, wait)
                reference = read_bias_reference(
                    bias_frame.product, exposures.frequency, exposures.hardware
                )
                found, scale_error, source = measured_scale(
                    exposures, bias, gain, linearity, reference, expected
                )
                if np.isfinite(found) and abs(found - 1.0) > 3.0 * scale_error:
                    scale = found
                scale_error = scale_error if np.isfinite(scale_error) else 0.0
            if settings.scale is None and not PLAUSIBLE[0] <= scale <= PLAUSIBLE[1]:
                warnings.append(
                    f"the dark columns show {scale:.3g} times the dark current of the frames: "
                    f"the frames are used"
                )
                scale = 1.0
            elif settings.scale is None and abs(scale - 1.0) > UNUSUAL:
                warnings.append(f"the dark frames are scaled by {scale:.3f}")
            if settings.shrink:
                rate, error = shrink(rate, error)
        factor = _factors(exposures, warnings)
    rate, error = scale * rate, scale * error
    used: dict[str, Value] = {
        "DARK_AVG": float(rate.mean()),
        "DARK_RDT": float(waits.mean()),
        "DARK_AGE": age,
        "DARK_SCL": scale,
        "DARK_SRC": source,
        "DARK_SCE": scale_error,
        "DARK_TVR": float(np.ptp(factor)),
    }
    charge = NewHdu(
        TERMS["TERM_DARK"], {**offsets, **used}, pixels=dark_charge(rate, exposure_time, waits)
    )
    charge_error = NewHdu(
        TERMS["TERM_DARK_ERROR"], offsets, pixels=dark_charge(error, exposure_time, waits)
    )
    factors = NewHdu(TERMS["TERM_DARK_SCALE"], columns={"MJD_TIME": mjd, "SCALE": factor})
    return Leaves(
        {"TERM_DARK": [charge, charge_error, factors]},
        used=used,
        warnings=warnings,
        skipped=settings.skip,
    )


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
    """Return dark current and error of the dark columns of one side, (ny, 16) [electron/s]; None
    where they are missing.
    """
    extname = f"REF_APP_DarkFrame{side.removeprefix('Dark')}"
    with open_declared(require(product.path), DARK_FRAME) as file:
        if extname not in file or file[extname].shape != (2, 1024, 16):
            return None
        rate, error = file[extname].finite_image()
    return rate[rows], error[rows]
