"""Pointing: where the satellite looked during every image, from its attitude at 1 Hz.

Roll is the circular mean over the exposure (it falls with time). The motion within an exposure
blurs the star: its rms is that of the offsets between line of sight and their mean, in pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from schemas.arrays import BoolArray, FloatArray
from schemas.constants import DAY
from schemas.errors import MissingInputError
from schemas.flags import Quality
from schemas.inputs import VISITS
from schemas.payloads import Pointing, Product, Reference
from schemas.settings import PointingSettings
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.disk import require
from tasks.files.reader import open_declared
from tasks.files.writer import NewHdu
from tasks.numerics.geometry import mean_angle
from tasks.visit.attitude import (
    Attitude,
    interval_moments,
    pixel_scale,
    read_attitude,
    target_track,
)
from tasks.visit.raw import Exposures, open_exposures


def intended_place(planned: Product | None, raw: Exposures) -> tuple[float, float]:
    """Return where the target was planned to be on the CCD [pixel]; the middle of the window where
    nothing tells.
    """
    middle = raw.x_offset + raw.shape[1] / 2, raw.y_offset + raw.shape[0] / 2
    if planned is None:
        return middle
    with open_declared(require(planned.path), VISITS) as file:
        table = file["MPS_PRE_Visits"]
        x, y = (float(table.column(f"TARGET_LOCATION_{c}")[0]) for c in "XY")
    inside = 0 <= x - raw.x_offset <= raw.shape[1] and 0 <= y - raw.y_offset <= raw.shape[0]
    return (x, y) if inside else middle


@step("pointing", "JITTER", version="3", payload=Pointing, leaves=["TERM_POINTING"])
def estimate_pointing(
    raw: Product,
    attitude: Product,
    planned: Product | None,
    scale: Reference | None,
    settings: PointingSettings,
) -> Leaves:
    """Average the attitude over every image, and say where the target was meant to be."""
    with open_exposures(raw) as exposures:
        place, repetition = intended_place(planned, exposures), exposures.repetition
        target = exposures.image.number("RA_TARG"), exposures.image.number("DEC_TARG")
        mjd, duration, stacked = exposures.mjd, exposures.span / DAY, exposures.nexp > 1
    looked, arcsec = read_attitude(attitude), pixel_scale(scale)
    means = average(looked, mjd, duration, arcsec)
    check_coverage(looked, mjd, means.missing, settings)
    warnings = []
    if stacked and not repetition:
        warnings.append(
            "REPETIT does not tell the time between exposures of a stack: one is taken to "
            "follow the other"
        )
    if means.missing.any():
        warnings.append(f"{means.missing.sum()} images have no attitude: flagged")
    used = {
        **pointing_values(means, arcsec),
        "LOC_X": place[0],
        "LOC_Y": place[1],
        "PIX_SCAL": arcsec,
        "REPETIT": repetition,
    }
    columns = {
        "MJD_TIME": mjd,
        "ROLL_ANGLE": means.roll,
        "SC_RA": means.ra % 360.0,
        "SC_DEC": means.dec,
        "BLUR": means.blur,
        "QUALITY": np.where(means.missing, int(Quality.POINTING), 0),
    }
    hdus = [
        NewHdu(TERMS["TERM_POINTING"], used, columns=columns),
        track_table(looked, target, arcsec),
    ]
    return Leaves({"TERM_POINTING": hdus}, used=used, warnings=warnings)


class Means(NamedTuple):
    """Attitude averaged over every image, shape (n,)."""

    ra: FloatArray  # without a jump at 0 [deg]
    dec: FloatArray
    roll: FloatArray
    blur: FloatArray  # rms motion of one axis [pixel]
    missing: BoolArray  # the attitude does not cover the image


def average(looked: Attitude, mjd: FloatArray, duration: float, arcsec: float) -> Means:
    """Average the attitude over images of some `duration` [day]; a pixel has an angle [arcsec]."""
    time, ra = looked.time, looked.ra
    # an exposure shorter than the time between two rows still has rows on both sides
    start, stop = mjd - max(duration, 2.0 / DAY) / 2, mjd + max(duration, 2.0 / DAY) / 2
    # a right ascension near 0 must not be averaged across the jump
    near = ra[0] + (ra - ra[0] + 180.0) % 360.0 - 180.0
    mean_ra, var_ra = interval_moments(time, near, start, stop)
    mean_dec, var_dec = interval_moments(time, looked.dec, start, stop)
    angle = mean_angle(time, looked.roll, start, stop)
    cosine = np.cos(np.radians(mean_dec))
    blur = 3600.0 / arcsec * np.sqrt((var_ra * cosine**2 + var_dec) / 2)
    missing = ~np.isfinite(mean_ra) | ~np.isfinite(angle)
    missing |= (start < time[0] - 2 / DAY) | (stop > time[-1] + 2 / DAY)
    return Means(mean_ra, mean_dec, angle, blur, missing)


def check_coverage(
    looked: Attitude, mjd: FloatArray, missing: BoolArray, settings: PointingSettings
) -> None:
    """Refuse an attitude that covers no image, or not all of them unless the settings allow it."""
    if missing.all() or (missing.any() and not settings.partial):
        which = np.flatnonzero(missing)
        raise MissingInputError(
            f"{looked.path}: attitude covers MJD {looked.time[0]:.5f} to {looked.time[-1]:.5f}; "
            f"{missing.sum()} of {len(mjd)} images lie "
            f"outside, MJD {mjd[which[0]]:.5f} to {mjd[which[-1]]:.5f} (setting "
            f"pointing.partial lets them pass flagged)"
        )


def pointing_values(means: Means, arcsec: float) -> dict[str, float]:
    """Return the used values of the motion: roll [deg], jitter and blur [pixel]."""
    cosine = np.cos(np.radians(means.dec))
    scatter = np.nanvar(means.ra * np.nanmean(cosine)) + np.nanvar(means.dec)
    known = means.roll[~means.missing]
    return {
        "ROLL_0": float(known[0]),
        "ROLL_RNG": float(np.ptp(np.unwrap(known, period=360.0))),
        "JIT_STD": float(3600.0 / arcsec * np.sqrt(scatter / 2)),
        "BLUR_AVG": float(np.nanmean(means.blur)),
    }


def track_table(looked: Attitude, target: tuple[float, float], arcsec: float) -> NewHdu:
    """Return TERM_TRACK: where the attitude has the target on the CCD, and the roll."""
    x, y = target_track(looked, target, arcsec)
    columns = {"MJD_TIME": looked.time, "X": x, "Y": y, "ROLL_ANGLE": looked.roll}
    return NewHdu(TERMS["TERM_TRACK"], columns=columns)
