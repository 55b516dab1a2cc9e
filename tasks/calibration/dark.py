"""Dark current: the thermal charge collected during exposure and read-out.

Q(x, y) = D(x, y) (t_exp + t_read(x, y)). After the exposure the charge waits in the shielded half of the CCD until its row is
shifted into the serial register and read pixel by pixel; it goes on collecting dark current meanwhile. Read modes that read
the whole frame make the last row wait 11 s at 100 kHz; others read the rows of the window only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.inputs import DARK_FRAME, READ_OUT
from schemas.payloads import Dark, Product, Reference
from schemas.settings import DarkSettings
from schemas.terms import TERMS
from tasks.exposures import Exposures, open_exposures
from tasks.fits import open_declared
from tasks.fits_writer import NewHdu
from tasks.step import Leaves, step
from tasks.store import require
from tasks.times import utc_to_mjd

FloatArray = npt.NDArray[np.float64]
ROW_PIXELS = 1076  # 4 overscan, 8 blank, 16 dark, 1024 exposed, 16 dark, 8 blank
LEADING_PIXELS = 28  # read before the first exposed one
ROW_SHIFT = 30e-6  # [s]
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


def row_time_of(reference: Reference | None, exposures: Exposures) -> float | None:
    """Return the time of one row [s] of the visit's read-out script, None where the reference does not tell."""
    if reference is None:
        return None
    with open_declared(require(reference.product.path), READ_OUT) as file:
        hdu = file["REF_APP_ReadOut"]
        rows = hdu.column("RO_SCRPT") == exposures.image.header.get("RO_SCRPT")
        times = hdu.finite_column("ROW_READ_OUT")[rows]
    return float(times[0]) / 1000.0 if len(times) and 0 < times[0] < 1000 else None


@step("dark", "DARK", version="1", payload=Dark, leaves=["TERM_DARK"])
def estimate_dark(raw: Product, frames: tuple[Reference, ...], timing: Reference | None, settings: DarkSettings) -> Leaves:
    """Estimate the thermal charge of one exposure from the dark frames that bracket the visit."""
    warnings: list[str] = []
    with open_exposures(raw) as exposures:
        window, shape = exposures.window, exposures.shape
        full = exposures.image.header.get("RO_SCRPT") in FULL_READ_SCRIPTS or shape == (1024, 1024)
        first_row = exposures.y_offset if full else 0
        waits = read_times(shape, first_row, exposures.x_offset, exposures.frequency, row_time_of(timing, exposures))
        middle, exposure_time = float(np.median(exposures.mjd)), exposures.exposure_time
        offsets = {"X_WINOFF": exposures.x_offset, "Y_WINOFF": exposures.y_offset}
    if settings.skip or not frames:
        rate, error, age = np.zeros(shape), np.zeros(shape), 0.0
    else:
        times = utc_to_mjd(np.array([f.valid_from for f in frames]))
        planes = [_read_frame(f.product, window) for f in frames]
        rate, error = interpolate_frames(middle, times, np.stack([p[0] for p in planes]), np.stack([p[1] for p in planes]))
        age = float(np.min(np.abs(times - middle)))
        if len(frames) == 1:
            warnings += [] if age < 30 else [f"only one dark frame, {age:.0f} days from the visit"]
    used = {"DARK_AVG": float(rate.mean()), "DARK_RDT": float(waits.mean()), "DARK_AGE": age}
    charge = NewHdu(TERMS["TERM_DARK"], {**offsets, **used}, pixels=dark_charge(rate, exposure_time, waits))
    charge_error = NewHdu(TERMS["TERM_DARK_ERROR"], offsets, pixels=dark_charge(error, exposure_time, waits))
    return Leaves({"TERM_DARK": [charge, charge_error]}, used=used, warnings=warnings, skipped=settings.skip)


def _read_frame(product: Product, window: tuple[slice, slice]) -> tuple[FloatArray, FloatArray]:
    with open_declared(require(product.path), DARK_FRAME) as file:
        rate, error = file["REF_APP_DarkFrame"].finite_image()
    return rate[window], error[window]
