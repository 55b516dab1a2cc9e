"""Dark current: the thermal charge collected during exposure and read-out.

Q(x, y, t) = s h(T(t)) D(x, y) (t_exp + t_read(x, y)). After the exposure the charge waits in the
shielded half of the CCD until its row is shifted into the serial register and read pixel by pixel,
and collects more dark current meanwhile. Modes that read the whole frame make the last row wait
11 s at 100 kHz; others read only the rows of the window.

D is interpolated between the dark frames that bracket the visit. A pixel that differs from the
others by no more than its error explains is drawn towards them, which keeps the noise of the map
out of the images. The frames do not record their temperature, so their overall scale s is measured
in the columns beside the exposed area, which see no light: s is the charge found there over the
charge expected from the frames, and 1 if the two agree within the errors. Within the visit the
dark current follows the CCD's temperature: h(T) is proportional to T^3 exp(-9080 K / T), the law of
this CCD (e2v 47-20), a sixth per degree.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from schemas.arrays import FloatArray
from schemas.inputs import READ_OUT
from schemas.payloads import Dark, Linearity, Product, ReadOut, Reference
from schemas.settings import DarkSettings
from schemas.terms import TERMS
from tasks.calibration.dark_frames import DarkFrames, shrink
from tasks.calibration.dark_scale import SIDES, DarkScale, measure_scale
from tasks.calibration.drift import slow
from tasks.calibration.plausible import like_columns, plausible_dark
from tasks.engine.step import Leaves, step
from tasks.files.disk import require
from tasks.files.reader import Value, open_declared
from tasks.files.writer import NewHdu
from tasks.visit.housekeeping import repair
from tasks.visit.raw import Exposures, open_exposures

ROW_PIXELS = 1076  # 4 overscan, 8 blank, 16 dark, 1024 exposed, 16 dark, 8 blank
LEADING_PIXELS = 28  # read before the first exposed one
ROW_SHIFT = 30e-6  # [s]
FULL_READ_SCRIPTS = frozenset((1, 2, 3, 4, 31, 32))  # all rows are read: full frame, faint mode

UNLIKE = 10.0  # factor from the nominal time of a row beyond which a reference is not used

ZERO_CELSIUS = 273.15
ACTIVATION = 9080.0  # [K]
SMOOTH = 30.0 / 1440.0  # window that smooths the CCD's temperature [day]

OLD = 30.0  # age of a single dark frame that deserves a warning [day]
UNUSUAL = 0.2  # difference of the scale from 1 that deserves a warning
PLAUSIBLE = 0.02, 50.0  # scales of frames 25 degrees colder or warmer


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
        raise ValueError(
            f"dark current has the shape {rate.shape}, read-out time {read_time.shape}"
        )
    return rate * (exposure_time + read_time)


def read_times(
    shape: tuple[int, int],
    first_row: int,
    first_column: int,
    frequency: float,
    row_time: float | None = None,
) -> FloatArray:
    """Return the time that each pixel waits for its read-out.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx) of the window.
    first_row, first_column : int
        Rows that are read before the window's first, and exposed columns before its first.
    frequency : float
        Pixels read per second [Hz].
    row_time : float, optional
        Time per row [s]; by default that of 1076 pixels and one row shift.

    Returns
    -------
    ndarray, shape (ny, nx)
        Time [s].
    """
    row = ROW_PIXELS / frequency + ROW_SHIFT if row_time is None else row_time
    rows = first_row + np.arange(shape[0])
    columns = LEADING_PIXELS + first_column + np.arange(shape[1])
    return rows[:, None] * row + ROW_SHIFT + columns[None, :] / frequency


def temperature_factor(temperature: FloatArray, usual: float) -> FloatArray:
    """Return the dark current at some temperatures over that at the usual one [deg C]."""
    kelvin, middle = temperature + ZERO_CELSIUS, usual + ZERO_CELSIUS
    factor: FloatArray = (kelvin / middle) ** 3 * np.exp(ACTIVATION / middle - ACTIVATION / kelvin)
    return factor


class ReadOutTiming(NamedTuple):
    """Order and speed of the read-out of a window."""

    first_row: int  # rows that are read before the window's first
    frequency: float  # pixels read per second [Hz]
    row_time: float | None  # time per row, None if the reference lacks the read-out script [s]

    def waits(self, shape: tuple[int, int], first_column: int) -> FloatArray:
        """Return the time that the pixels of some columns of the window wait; see `read_times`."""
        return read_times(shape, self.first_row, first_column, self.frequency, self.row_time)


def plausible_row_time(
    row_time: float | None, frequency: float, warnings: list[str]
) -> float | None:
    """Return the time per row, or None, with a warning, unless the pixels of a row explain it."""
    nominal = ROW_PIXELS / frequency + ROW_SHIFT
    if row_time is None or 1 / UNLIKE <= row_time / nominal <= UNLIKE:
        return row_time
    warnings.append(
        f"read-out timing: a row takes {1000 * row_time:.4g} ms, expected about "
        f"{1000 * nominal:.4g} ms: nominal clock times are used"
    )
    return None


def read_timing(
    exposures: Exposures, reference: Reference | None, warnings: list[str]
) -> ReadOutTiming:
    """Return the timing of the visit's read-out script."""
    script = exposures.image.header.get("RO_SCRPT")
    full = script in FULL_READ_SCRIPTS or exposures.shape == (1024, 1024)
    row_time = None if reference is None else _read_row_time(reference, script)
    row_time = plausible_row_time(row_time, exposures.frequency, warnings)
    return ReadOutTiming(exposures.y_offset if full else 0, exposures.frequency, row_time)


def _read_row_time(reference: Reference, script: Value | None) -> float | None:
    """Return the time per row of a read-out script [s], None if the reference lacks it."""
    with open_declared(require(reference.product.path), READ_OUT) as file:
        hdu = file["REF_APP_ReadOut"]
        rows = hdu.column("RO_SCRPT") == script
        times = hdu.finite_column("ROW_READ_OUT")[rows]
    return float(times[0]) / 1000.0 if len(times) and 0 < times[0] < 1000 else None


def _expect_columns(
    exposures: Exposures, frames: DarkFrames, timing: ReadOutTiming
) -> dict[str, FloatArray]:
    """Return the charge of one exposure that the frames predict for the dark columns, by side.

    Arrays have the shape (ny, 16) [electron]; sides that the frames lack are left out.
    """
    expected = {}
    for side, first in SIDES.items():
        rate = frames.read_columns(side, exposures.window[0])
        if rate is not None:
            wait = timing.waits((exposures.shape[0], 16), first - LEADING_PIXELS)
            expected[side] = dark_charge(rate, exposures.exposure_time, wait)
    return expected


def _accept_scale(measured: DarkScale, warnings: list[str]) -> DarkScale:
    """Return the scale to apply: 1 where the measured one is not significant or not plausible."""
    factor, error, source = measured
    if not (np.isfinite(factor) and abs(factor - 1.0) > 3.0 * error):
        factor = 1.0
    if not PLAUSIBLE[0] <= factor <= PLAUSIBLE[1]:
        warnings.append(
            f"the dark columns show {factor:.3g} times the dark current of the dark frames: "
            f"the frames are used unscaled"
        )
        factor = 1.0
    elif abs(factor - 1.0) > UNUSUAL:
        warnings.append(f"the dark frames are scaled by {factor:.3f}")
    return DarkScale(factor, error if np.isfinite(error) else 0.0, source)


@step("dark", "DARK", version="8", payload=Dark, leaves=["TERM_DARK"])
def estimate_dark(
    raw: Product,
    readout: ReadOut,
    linearity: Linearity,
    bias_frame: Reference,
    frames: tuple[Reference, ...],
    timing: Reference | None,
    settings: DarkSettings,
) -> Leaves:
    """Estimate the thermal charge of one exposure.

    The dark frames that bracket the visit give its map, the dark columns of the visit its scale.
    """
    warnings: list[str] = []
    with open_exposures(raw) as exposures:
        read_out = read_timing(exposures, timing, warnings)
        rate, error, age = np.zeros(exposures.shape), np.zeros(exposures.shape), 0.0
        scale = DarkScale(1.0, 0.0, "not measured: no dark current is subtracted")
        if frames and not settings.skip:
            bracket = DarkFrames.of(frames, exposures.mjd)
            rate, error = plausible_dark(*bracket.read_rate(exposures.window), warnings)
            beside = [bracket.read_columns(side, exposures.window[0]) for side in SIDES]
            rate, error = like_columns(rate, error, [c for c in beside if c is not None], warnings)
            age = bracket.age
            if len(frames) == 1 and age >= OLD:
                warnings.append(f"only one dark frame, {age:.0f} days from the visit")
            if settings.scale is None:
                expected = _expect_columns(exposures, bracket, read_out)
                measured = measure_scale(exposures, readout, linearity, bias_frame, expected)
                scale = _accept_scale(measured, warnings)
            else:
                scale = DarkScale(settings.scale, 0.0, "setting")
            if settings.shrink:
                rate, error = shrink(rate, error)
        factor = temperature_factors(exposures, warnings)
        waits = read_out.waits(exposures.shape, exposures.x_offset)
        rate, error = scale.factor * rate, scale.factor * error
        used: dict[str, Value] = {
            "DARK_AVG": float(rate.mean()),
            "DARK_RDT": float(waits.mean()),
            "DARK_AGE": age,
            "DARK_SCL": scale.factor,
            "DARK_SRC": scale.source,
            "DARK_SCE": scale.error,
            "DARK_TVR": float(np.ptp(factor)),
        }
        charges = [dark_charge(r, exposures.exposure_time, waits) for r in (rate, error)]
        hdus = _tabulate(exposures, used, charges, factor)
    return Leaves({"TERM_DARK": hdus}, used=used, warnings=warnings, skipped=settings.skip)


def _tabulate(
    exposures: Exposures,
    used: dict[str, Value],
    charges: list[FloatArray],
    factor: FloatArray,
) -> list[NewHdu]:
    offsets = {"X_WINOFF": exposures.x_offset, "Y_WINOFF": exposures.y_offset}
    charge, error = charges
    return [
        NewHdu(TERMS["TERM_DARK"], {**offsets, **used}, pixels=charge),
        NewHdu(TERMS["TERM_DARK_ERROR"], offsets, pixels=error),
        NewHdu(TERMS["TERM_DARK_SCALE"], columns={"MJD_TIME": exposures.mjd, "SCALE": factor}),
    ]


def temperature_factors(exposures: Exposures, warnings: list[str]) -> FloatArray:
    """Return the dark current of every image over that at the visit's median temperature, (n,)."""
    # the step gain warns about single values
    column = repair(exposures.metadata, "HK_TEMP_FEE_CCD", exposures.mjd, [])
    if column.unknown:
        warnings.append("the CCD's temperature is unknown: the dark current is assumed constant")
        return np.ones(exposures.count)
    temperature = column.values
    temperature, _ = slow(exposures.mjd, temperature, SMOOTH)
    return temperature_factor(temperature, float(np.median(temperature)))
