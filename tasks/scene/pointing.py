"""Pointing: where the satellite looked during every image, from its attitude at 1 Hz.

Roll is the circular mean over the exposure (it falls with time). The motion within an exposure blurs the star: its rms is that
of the offsets between line of sight and their mean, in pixels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.errors import MissingInputError
from schemas.flags import Quality
from schemas.inputs import ATTITUDE, PIXEL_SCALE, VISITS
from schemas.payloads import Pointing, Product, Reference
from schemas.settings import PointingSettings
from schemas.terms import TERMS
from tasks.exposures import Exposures, open_exposures
from tasks.fits import open_declared
from tasks.fits_writer import NewHdu
from tasks.geometry import mean_angle
from tasks.step import Leaves, step
from tasks.store import require

FloatArray = npt.NDArray[np.float64]
DAY = 86400.0
DEFAULT_SCALE = 1.01  # arcsec per pixel, where no reference tells


def interval_moments(
    time: FloatArray, values: FloatArray, start: FloatArray, stop: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return mean and variance of the samples with start <= time < stop; NaN where there are none.

    Parameters
    ----------
    time, values : ndarray, shape (m,)
        Samples in rising order of time.
    start, stop : ndarray, shape (n,)
        Intervals.
    """
    offset = float(values.mean()) if len(values) else 0.0
    v = values - offset
    first, last = np.searchsorted(time, start, "left"), np.searchsorted(time, stop, "left")
    count = (last - first).astype(np.float64)
    count[count <= 0] = np.nan
    one, two = (np.concatenate([[0.0], np.cumsum(p)]) for p in (v, v * v))
    mean = (one[last] - one[first]) / count
    variance = np.maximum((two[last] - two[first]) / count - mean**2, 0.0)
    return mean + offset, variance


def pixel_scale(reference: Reference | None) -> float:
    """Return the scale of a pixel [arcsec]."""
    if reference is None:
        return DEFAULT_SCALE
    with open_declared(require(reference.product.path), PIXEL_SCALE) as file:
        scale = float(file["REF_APP_PixelScale"].finite_column("PIXEL_SCALE")[0])
        if not 0.1 < scale < 10:
            raise file["REF_APP_PixelScale"].refuse(f"column PIXEL_SCALE is {scale} arcsec")
        return scale


def intended_place(planned: Product | None, raw: Exposures) -> tuple[float, float]:
    """Return where the target was planned to be on the CCD [pixel]; the middle of the window where nothing tells."""
    middle = raw.x_offset + raw.shape[1] / 2, raw.y_offset + raw.shape[0] / 2
    if planned is None:
        return middle
    with open_declared(require(planned.path), VISITS) as file:
        table = file["MPS_PRE_Visits"]
        x, y = (float(table.column(f"TARGET_LOCATION_{c}")[0]) for c in "XY")
    inside = 0 <= x - raw.x_offset <= raw.shape[1] and 0 <= y - raw.y_offset <= raw.shape[0]
    return (x, y) if inside else middle


def target_track(
    ra: FloatArray, dec: FloatArray, roll: FloatArray, target: tuple[float, float], arcsec: float
) -> tuple[FloatArray, FloatArray]:
    """Return where the target is on the CCD, up to a constant, for some attitudes.

    Parameters
    ----------
    ra, dec, roll : ndarray, shape (m,)
        Line of sight and roll angle [deg].
    target : tuple of float
        Right ascension and declination of the target [deg].
    arcsec : float
        Scale of a pixel [arcsec].

    Returns
    -------
    x, y : ndarray, shape (m,)
        [pixel]. At roll 0 North is up and East to the left; North turns to the right as roll grows.
    """
    east = (target[0] - ra + 180.0) % 360.0 - 180.0
    xi, eta = 3600.0 * east * np.cos(np.radians(target[1])), 3600.0 * (target[1] - dec)
    sine, cosine = np.sin(np.radians(roll)), np.cos(np.radians(roll))
    return (-xi * cosine + eta * sine) / arcsec, (eta * cosine + xi * sine) / arcsec


@step("pointing", "JITTER", version="3", payload=Pointing, leaves=["TERM_POINTING"])
def estimate_pointing(
    raw: Product, attitude: Product, planned: Product | None, scale: Reference | None, settings: PointingSettings
) -> Leaves:
    """Average the attitude over every image, and say where the target was meant to be."""
    with open_exposures(raw) as exposures:
        place, repetition, stacked = intended_place(planned, exposures), exposures.repetition, exposures.nexp > 1
        target = exposures.image.number("RA_TARG"), exposures.image.number("DEC_TARG")
        mjd, duration = exposures.mjd, exposures.span / DAY
    with open_declared(require(attitude.path), ATTITUDE) as file:
        table = file["SCI_RAW_Attitude"]
        time = table.finite_column("MJD_TIME")
        ra, dec, roll = (table.finite_column(c) for c in ("SC_RA", "SC_DEC", "SC_ROLL_ANGLE"))
        if (np.diff(time) <= 0).any():
            raise table.refuse(f"column MJD_TIME does not rise at row {int(np.argmax(np.diff(time) <= 0)) + 2}")
        path = file.path
    # an exposure shorter than the time between two rows still has rows on both sides
    start, stop = mjd - max(duration, 2.0 / DAY) / 2, mjd + max(duration, 2.0 / DAY) / 2
    # a right ascension near 0 must not be averaged across the jump
    near = ra[0] + (ra - ra[0] + 180.0) % 360.0 - 180.0
    mean_ra, var_ra = interval_moments(time, near, start, stop)
    mean_dec, var_dec = interval_moments(time, dec, start, stop)
    angle = mean_angle(time, roll, start, stop)
    arcsec = pixel_scale(scale)
    to_pixel = 3600.0 / arcsec
    cosine = np.cos(np.radians(mean_dec))
    blur = to_pixel * np.sqrt((var_ra * cosine**2 + var_dec) / 2)
    missing = ~np.isfinite(mean_ra) | ~np.isfinite(angle) | (start < time[0] - 2 / DAY) | (stop > time[-1] + 2 / DAY)
    warnings = []
    if stacked and not repetition:
        warnings.append("REPETIT does not tell the time between exposures of a stack: one is taken to follow the other")
    if missing.all() or (missing.any() and not settings.partial):
        which = np.flatnonzero(missing)
        raise MissingInputError(
            f"{path}: attitude covers MJD {time[0]:.5f} to {time[-1]:.5f}; {missing.sum()} of {len(mjd)} images lie outside, "
            f"MJD {mjd[which[0]]:.5f} to {mjd[which[-1]]:.5f} (setting pointing.partial lets them pass flagged)"
        )
    if missing.any():
        warnings.append(f"{missing.sum()} images have no attitude: flagged")
    jitter = to_pixel * np.sqrt((np.nanvar(mean_ra * np.nanmean(cosine)) + np.nanvar(mean_dec)) / 2)
    unwrapped = np.unwrap(angle[~missing], period=360.0)
    used = {
        "ROLL_0": float(angle[~missing][0]), "ROLL_RNG": float(np.ptp(unwrapped)), "JIT_STD": float(jitter),
        "BLUR_AVG": float(np.nanmean(blur)), "LOC_X": place[0], "LOC_Y": place[1], "PIX_SCAL": arcsec,
        "REPETIT": repetition,
    }  # fmt: skip
    columns = {
        "MJD_TIME": mjd, "ROLL_ANGLE": angle, "SC_RA": mean_ra % 360.0, "SC_DEC": mean_dec, "BLUR": blur,
        "QUALITY": np.where(missing, int(Quality.POINTING), 0),
    }  # fmt: skip
    track_x, track_y = target_track(ra, dec, roll, target, arcsec)
    track = NewHdu(TERMS["TERM_TRACK"], columns={"MJD_TIME": time, "X": track_x, "Y": track_y, "ROLL_ANGLE": roll})
    means = NewHdu(TERMS["TERM_POINTING"], used, columns=columns)
    return Leaves({"TERM_POINTING": [means, track]}, used=used, warnings=warnings)
