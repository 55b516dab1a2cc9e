"""Pointing: where the satellite looked during every image, from its attitude at 1 Hz.

Roll is the circular mean over the exposure (it falls with time). The motion within an exposure
blurs the star: its rms is that of the offsets between line of sight and their mean, in pixels.
"""

from __future__ import annotations

import numpy as np

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
from tasks.visit.attitude import interval_moments, pixel_scale, read_attitude, target_track
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
        place, repetition, stacked = (
            intended_place(planned, exposures),
            exposures.repetition,
            exposures.nexp > 1,
        )
        target = exposures.image.number("RA_TARG"), exposures.image.number("DEC_TARG")
        mjd, duration = exposures.mjd, exposures.span / DAY
    looked = read_attitude(attitude)
    time, ra, dec, roll = looked.time, looked.ra, looked.dec, looked.roll
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
    missing = (
        ~np.isfinite(mean_ra)
        | ~np.isfinite(angle)
        | (start < time[0] - 2 / DAY)
        | (stop > time[-1] + 2 / DAY)
    )
    warnings = []
    if stacked and not repetition:
        warnings.append(
            "REPETIT does not tell the time between exposures of a stack: one is taken to "
            "follow the other"
        )
    if missing.all() or (missing.any() and not settings.partial):
        which = np.flatnonzero(missing)
        raise MissingInputError(
            f"{looked.path}: attitude covers MJD {time[0]:.5f} to {time[-1]:.5f}; "
            f"{missing.sum()} of {len(mjd)} images lie "
            f"outside, MJD {mjd[which[0]]:.5f} to {mjd[which[-1]]:.5f} (setting "
            f"pointing.partial lets them pass flagged)"
        )
    if missing.any():
        warnings.append(f"{missing.sum()} images have no attitude: flagged")
    jitter = to_pixel * np.sqrt((np.nanvar(mean_ra * np.nanmean(cosine)) + np.nanvar(mean_dec)) / 2)
    unwrapped = np.unwrap(angle[~missing], period=360.0)
    used = {
        "ROLL_0": float(angle[~missing][0]),
        "ROLL_RNG": float(np.ptp(unwrapped)),
        "JIT_STD": float(jitter),
        "BLUR_AVG": float(np.nanmean(blur)),
        "LOC_X": place[0],
        "LOC_Y": place[1],
        "PIX_SCAL": arcsec,
        "REPETIT": repetition,
    }
    columns = {
        "MJD_TIME": mjd,
        "ROLL_ANGLE": angle,
        "SC_RA": mean_ra % 360.0,
        "SC_DEC": mean_dec,
        "BLUR": blur,
        "QUALITY": np.where(missing, int(Quality.POINTING), 0),
    }
    track_x, track_y = target_track(looked, target, arcsec)
    track = NewHdu(
        TERMS["TERM_TRACK"],
        columns={"MJD_TIME": time, "X": track_x, "Y": track_y, "ROLL_ANGLE": roll},
    )
    means = NewHdu(TERMS["TERM_POINTING"], used, columns=columns)
    return Leaves({"TERM_POINTING": [means, track]}, used=used, warnings=warnings)
