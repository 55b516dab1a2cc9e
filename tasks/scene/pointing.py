"""Pointing: where the satellite looked during every image, from its attitude at 1 Hz.

The roll angle is the circular mean over the exposure; it decreases with time. Motion within an
exposure blurs the star: the blur is the rms offset of the line of sight from its mean, in pixels.
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

MOST_NAMED = 3  # gaps in a warning


def intended_place(
    planned: Product | None, raw: Exposures, warnings: list[str]
) -> tuple[float, float]:
    """Return the planned place of the target on the CCD [pixel].

    This is the middle of the window if no place was planned, or, with a warning, one outside of the
    window.
    """
    middle = raw.x_offset + raw.shape[1] / 2, raw.y_offset + raw.shape[0] / 2
    if planned is None:
        return middle
    with open_declared(require(planned.path), VISITS) as file:
        table = file["MPS_PRE_Visits"]
        x, y = (float(table.column(f"TARGET_LOCATION_{c}")[0]) for c in "XY")
    inside = 0 <= x - raw.x_offset <= raw.shape[1] and 0 <= y - raw.y_offset <= raw.shape[0]
    if not inside:
        warnings.append(
            f"the planned place of the target ({x:.1f}, {y:.1f}) lies outside of the window: its "
            f"middle is used"
        )
    return (x, y) if inside else middle


@step("pointing", "JITTER", version="7", payload=Pointing, leaves=["TERM_POINTING"])
def estimate_pointing(
    raw: Product,
    attitude: Product,
    planned: Product | None,
    scale: Reference | None,
    settings: PointingSettings,
) -> Leaves:
    """Average the attitude over every image, and read the intended place of the target."""
    warnings: list[str] = []
    with open_exposures(raw) as exposures:
        place = intended_place(planned, exposures, warnings)
        repetition = exposures.repetition
        target = exposures.image.number("RA_TARG"), exposures.image.number("DEC_TARG")
        mjd, duration, stacked = exposures.mjd, exposures.span / DAY, exposures.nexp > 1
    rows, arcsec = read_attitude(attitude), pixel_scale(scale)
    means = average(rows, mjd, duration, arcsec)
    check_coverage(rows, mjd, outside(rows, mjd, duration), settings)
    warnings += row_warnings(rows)
    uncertain = touch_gaps(rows, mjd, duration, settings, warnings) | rows.frozen
    if stacked and not repetition:
        warnings.append(
            "REPETIT does not give the time between the exposures of a stack: they are assumed "
            "to be contiguous"
        )
    if means.missing.any():
        warnings.append(f"{means.missing.sum()} images have no attitude data: flagged")
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
        "QUALITY": np.where(means.missing | uncertain, int(Quality.POINTING), 0),
    }
    hdus = [
        NewHdu(TERMS["TERM_POINTING"], used, columns=columns),
        track_table(rows, target, arcsec),
    ]
    return Leaves({"TERM_POINTING": hdus}, used=used, warnings=warnings)


class Means(NamedTuple):
    """Attitude averaged over every image, shape (n,)."""

    ra: FloatArray  # without a jump at 0 [deg]
    dec: FloatArray
    roll: FloatArray
    blur: FloatArray  # rms motion of one axis [pixel]
    missing: BoolArray  # not covered by the attitude


def average(rows: Attitude, mjd: FloatArray, duration: float, arcsec: float) -> Means:
    """Average the attitude over images of a `duration` [day], with a pixel scale [arcsec]."""
    time, ra = rows.time, rows.ra
    # an exposure shorter than the time between two rows needs a row on either side
    start, stop = mjd - max(duration, 2.0 / DAY) / 2, mjd + max(duration, 2.0 / DAY) / 2
    # a right ascension near 0 must not be averaged across the jump
    near = ra[0] + (ra - ra[0] + 180.0) % 360.0 - 180.0
    mean_ra, var_ra = interval_moments(time, near, start, stop)
    mean_dec, var_dec = interval_moments(time, rows.dec, start, stop)
    angle = mean_angle(time, rows.roll, start, stop)
    cosine = np.cos(np.radians(mean_dec))
    blur = 3600.0 / arcsec * np.sqrt((var_ra * cosine**2 + var_dec) / 2)
    missing = ~np.isfinite(mean_ra) | ~np.isfinite(angle) | outside(rows, mjd, duration)
    return Means(mean_ra, mean_dec, angle, blur, missing)


def outside(rows: Attitude, mjd: FloatArray, duration: float) -> BoolArray:
    """Return which images begin before the attitude or end after it."""
    half = max(duration, 2.0 / DAY) / 2
    return np.asarray(
        (mjd - half < rows.time[0] - 2 / DAY) | (mjd + half > rows.time[-1] + 2 / DAY)
    )


def row_warnings(rows: Attitude) -> list[str]:
    """Return warnings about rows of the attitude that are not used."""
    warnings = []
    if rows.counts:
        found = ", ".join(f"{n} {reason}" for reason, n in rows.counts.items())
        warnings.append(f"rows of the attitude that are not used: {found}")
    if rows.frozen:
        warnings.append("the attitude does not change at all: all images are flagged")
    return warnings


def touch_gaps(
    rows: Attitude,
    mjd: FloatArray,
    duration: float,
    settings: PointingSettings,
    warnings: list[str],
) -> BoolArray:
    """Return which images are flagged for gaps of the attitude, which are interpolated.

    They touch a gap that is long or in which rows were left out, or all gaps together hide too much
    of them.

    Parameters
    ----------
    rows : Attitude
        The attitude.
    mjd : ndarray, shape (n,)
        Middle of the images [MJD].
    duration : float
        From the start to the end of an image [day].
    settings : PointingSettings
        Which gaps are long, and how much they may hide.
    warnings : list of str
        Receives a warning that names the gaps.
    """
    first, last = mjd - duration / 2, mjd + duration / 2
    long = ((rows.gaps[:, 1] - rows.gaps[:, 0]) * DAY > settings.gap) | rows.left_out
    touched, hidden = np.zeros(len(mjd), dtype=np.bool_), np.zeros(len(mjd))
    # a row stands for half of the usual interval on either side
    half = float(np.median(np.diff(rows.time))) / 2
    for (start, stop), counts in zip(rows.gaps, long, strict=True):
        touched |= counts & (last > start) & (first < stop)
        hidden += np.maximum(np.minimum(last, stop - half) - np.maximum(first, start + half), 0.0)
    much = hidden > settings.share * duration
    named = [
        f"{(stop - start) * DAY:.0f} s from MJD {start:.5f} to {stop:.5f}"
        for (start, stop), counts in zip(rows.gaps, long, strict=True)
        if ((touched if counts else much) & (last > start) & (first < stop)).any()
    ]
    touched |= much
    if named:
        more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
        warnings.append(
            f"gaps in the attitude of {touched.sum()} images, which are flagged: "
            f"{'; '.join(named[:MOST_NAMED])}{more}: interpolated"
        )
    return touched


def check_coverage(
    rows: Attitude, mjd: FloatArray, missing: BoolArray, settings: PointingSettings
) -> None:
    """Reject an attitude that covers no image, or only some unless the settings allow it."""
    if missing.all() or (missing.any() and not settings.partial):
        which = np.flatnonzero(missing)
        raise MissingInputError(
            f"{rows.path}: attitude covers MJD {rows.time[0]:.5f} to {rows.time[-1]:.5f}; "
            f"{missing.sum()} of {len(mjd)} images lie "
            f"outside, MJD {mjd[which[0]]:.5f} to {mjd[which[-1]]:.5f} (set "
            f"pointing.partial to accept and flag them)"
        )


def pointing_values(means: Means, arcsec: float) -> dict[str, float]:
    """Return roll [deg], jitter and blur [pixel] of the visit by keyword."""
    cosine = np.cos(np.radians(means.dec))
    scatter = np.nanvar(means.ra * np.nanmean(cosine)) + np.nanvar(means.dec)
    known = means.roll[~means.missing]
    return {
        "ROLL_0": float(known[0]),
        "ROLL_RNG": float(np.ptp(np.unwrap(known, period=360.0))),
        "JIT_STD": float(3600.0 / arcsec * np.sqrt(scatter / 2)),
        "BLUR_AVG": float(np.nanmean(means.blur)),
    }


def track_table(rows: Attitude, target: tuple[float, float], arcsec: float) -> NewHdu:
    """Return TERM_TRACK: place of the target on the CCD and roll angle, by the attitude."""
    x, y = target_track(rows, target, arcsec)
    columns = {"MJD_TIME": rows.time, "X": x, "Y": y, "ROLL_ANGLE": rows.roll}
    return NewHdu(TERMS["TERM_TRACK"], columns=columns)
