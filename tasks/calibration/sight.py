"""The line of sight: occultation, stray light and SAA from the visit constraints or the orbit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.arrays import BoolArray, FloatArray
from schemas.constants import DAY
from schemas.inputs import CONSTRAINTS, ORBIT, VISITS
from schemas.payloads import Product, Reference
from schemas.settings import EventSettings
from tasks.calibration.saa import saa_from_map
from tasks.files.disk import require
from tasks.files.reader import Hdu, open_declared, read_from
from tasks.numerics.orbit import CLOCK, covered, earth_limb_angle, increasing, interpolate_orbit
from tasks.numerics.times import satellite_light_time, utc_to_mjd
from tasks.visit.raw import Exposures


def flag_from_rows(
    row_mjd: npt.ArrayLike,
    row_flag: npt.ArrayLike,
    mjd: npt.ArrayLike,
    duration: float,
    cadence: float = 60.0,
) -> tuple[BoolArray, BoolArray]:
    """Flag the images that overlap, or lie nearest to, a flagged row of a table.

    Parameters
    ----------
    row_mjd : array_like, shape (m,)
        Times of the rows, increasing [MJD].
    row_flag : array_like of bool, shape (m,)
        Flag of each row.
    mjd : array_like, shape (n,)
        Middle of the images [MJD].
    duration : float
        Time from the start of an image's first exposure to the end of its last [s].
    cadence : float
        Time between rows; a row holds for as long before and after itself [s].

    Returns
    -------
    flagged : ndarray of bool, shape (n,)
        True where a row between start and end of the image, both included, or a row nearest to
        its middle is flagged. False where the table does not cover the image.
    known : ndarray of bool, shape (n,)
        True where the table covers the image from start to end.

    Raises
    ------
    ValueError
        If there are no rows, their times do not increase, or flags and rows differ in number.
    """
    rows, flag = increasing(row_mjd, "constraints"), np.asarray(row_flag, dtype=np.bool_)
    if flag.shape != rows.shape:
        raise ValueError(f"constraints have {rows.size} times and {flag.size} flags")
    middle, half, clock = np.asarray(mjd, dtype=np.float64), duration / 2 / DAY, CLOCK / DAY
    known = covered(rows, middle - half, middle + half, 2 * cadence, cadence)
    flagged_before = np.r_[0, np.cumsum(flag)]
    first = np.searchsorted(rows, middle - half - clock, side="left")
    last = np.searchsorted(rows, middle + half + clock, side="right")
    after = np.searchsorted(rows, middle).clip(0, rows.size - 1)
    before = (after - 1).clip(0)
    to_after, to_before = np.abs(rows[after] - middle), np.abs(rows[before] - middle)
    nearest = flag[after] & (to_after <= to_before + clock) | flag[before] & (
        to_before <= to_after + clock
    )
    return ((flagged_before[last] > flagged_before[first]) | nearest) & known, known


class Sight(NamedTuple):
    """The line of sight during every image, shape (n,); NaN and False where nothing is known."""

    saa: BoolArray
    occulted: BoolArray
    stray_light: BoolArray
    limb: FloatArray  # angle of the target above the Earth's limb [deg]


class Orbit(NamedTuple):
    """Geometry of every image from the orbit, shape (n,); NaN where the orbit does not cover it."""

    limb: FloatArray  # angle of the target above the Earth's limb [deg]
    light_time: FloatArray  # by which the satellite is nearer to the target than the geocentre [s]
    light_rate: FloatArray  # change of `light_time` with time during the image


UNLIKE = 0.05  # of the distance or the speed


class _Constraints(NamedTuple):
    """Rows of visit constraints: times [MJD] and flags, shape (m,)."""

    mjd: FloatArray
    saa: BoolArray
    occulted: BoolArray
    stray_light: BoolArray


def _read_constraints(product: Product, warnings: list[str]) -> _Constraints | None:
    """Return the rows of visit constraints with known flags, None if there are none."""
    if product.extname == "AUX_RES_VisitConstraints":
        with open_declared(require(product.path), CONSTRAINTS) as file:
            return _defined_rows(file[product.extname], None, warnings)
    with open_declared(require(product.path), VISITS) as file:
        if "MPS_PRE_VisitConstraints" not in file:
            return None
        table = file["MPS_PRE_VisitConstraints"]
        if not table.rows:
            return None
        threshold = float(file["MPS_PRE_Visits"].column("STRAY_LIGHT_THRESHOLD")[0])
        return _defined_rows(table, threshold, warnings)


def _defined_rows(table: Hdu, threshold: float | None, warnings: list[str]) -> _Constraints | None:
    """Return the rows whose flags are defined; None if there are none.

    Stray light is flagged above the `threshold`; a table without it has none.
    """
    mjd = table.column("MJD_TIME").astype(np.float64)
    saa, occulted = table.column("SAA_FLAG"), table.column("EARTH_OCCULTATION")
    undefined = table.undefined("SAA_FLAG") | table.undefined("EARTH_OCCULTATION")
    if undefined.any():
        warnings.append(
            f"{table.extname}: SAA_FLAG or EARTH_OCCULTATION is undefined in {undefined.sum()} of "
            f"{len(mjd)} rows, which are not used"
        )
    stray = np.zeros_like(saa)
    if threshold is not None and not np.isfinite(threshold):
        warnings.append(
            "MPS_PRE_Visits: STRAY_LIGHT_THRESHOLD is missing or out of range: no image is flagged "
            "for stray light"
        )
    elif threshold is not None:
        light = table.column("STRAY_LIGHT")
        stray = light > threshold
        if unknown := int((~np.isfinite(light)).sum()):
            warnings.append(
                f"{table.extname}: STRAY_LIGHT is not known in {unknown} of {len(mjd)} rows: "
                f"treated as below the threshold"
            )
    timeless = ~np.isfinite(mjd)
    if timeless.any():
        warnings.append(
            f"{table.extname}: MJD_TIME is missing or out of range in {timeless.sum()} of "
            f"{len(mjd)} rows, which are not used"
        )
    good = ~undefined & ~timeless
    if not good.any():
        return None
    return _Constraints(mjd[good], saa[good], occulted[good], stray[good])


def _read_orbit(product: Product, warnings: list[str]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return times [MJD], positions [km] and velocities [km/s] of an orbit.

    Rows with missing or impossible values are left out, with a warning.

    Raises
    ------
    BadInputError
        If most rows are.
    """
    with open_declared(require(product.path), ORBIT) as file:
        table = file["AUX_RES_Orbit"]
        with read_from(file.path, "AUX_RES_Orbit: column EPOCH"):
            epoch = utc_to_mjd(table.column("EPOCH"))
        position = np.stack([table.column(c).astype(np.float64) for c in "XYZ"], axis=1)
        velocity = np.stack([table.column(f"{c}_DOT").astype(np.float64) for c in "XYZ"], axis=1)
        good = possible_rows(position, velocity)
        if 2 * good.sum() <= len(good):
            # an orbit in other units is refused with its numbers, where it is interpolated
            good = ~np.isnan(position.sum(axis=1) + velocity.sum(axis=1))
        if 2 * good.sum() <= len(good):
            raise table.refuse(
                f"of {len(good)} rows, {len(good) - good.sum()} have positions or velocities that "
                f"are missing or out of range"
            )
    if not good.all():
        first = int(np.argmin(good))
        warnings.append(
            f"the orbit has impossible values in {len(good) - good.sum()} of {len(good)} rows, the "
            f"first in row {first + 1}: interpolated"
        )
    return epoch[good], position[good], velocity[good]


def possible_rows(position: FloatArray, velocity: FloatArray) -> BoolArray:
    """Return which rows of an orbit, (m, 3) in km and km/s, are alike in distance and speed.

    The orbit is a circle within a per cent; a row further than `UNLIKE` from the median has a
    wrong value.
    """
    distance, speed = (np.linalg.norm(v, axis=1) for v in (position, velocity))
    good: BoolArray = np.asarray(np.isfinite(distance) & np.isfinite(speed), np.bool_)
    for values in (distance, speed):
        usual = float(np.median(values[good])) if good.any() else 0.0
        good = np.asarray(good & (np.abs(values - usual) <= UNLIKE * usual), np.bool_)
    return good


def along_orbit(
    raw: Exposures, orbit: Product | None, settings: EventSettings, warnings: list[str]
) -> Orbit:
    """Return the geometry of every image from the orbit file; NaN without one."""
    if orbit is None:
        nothing = np.full(raw.count, np.nan)
        return Orbit(nothing, nothing, nothing)
    rows = _read_orbit(orbit, warnings)
    star = raw.image.number("RA_TARG"), raw.image.number("DEC_TARG")
    half = raw.span / 2 / DAY
    with read_from(orbit.path, orbit.extname):
        middle, begin, end = (
            interpolate_orbit(*rows, raw.mjd + shift) for shift in (0.0, -half, half)
        )
        limb = earth_limb_angle(middle, *star, atmosphere=settings.atmosphere)
    light_time = satellite_light_time(middle, *star) * DAY
    if lost := int((~np.isfinite(light_time)).sum()):
        warnings.append(
            f"the orbit does not cover {lost} of {raw.count} images: the satellite's own light "
            f"time is unknown for them"
        )
    change = satellite_light_time(end, *star) - satellite_light_time(begin, *star)
    return Orbit(limb, light_time, change / (2 * half))


def sight_of(
    raw: Exposures,
    tables: tuple[Product, ...],
    orbit_limb: FloatArray,
    saa_map: Reference | None,
    warnings: list[str],
) -> Sight:
    """Return the line of sight during every image.

    The first of the visit constraints that cover an image decide; if there are none, the angle to
    the limb and the map of the SAA.

    Parameters
    ----------
    raw : Exposures
        The images; their metadata replace `orbit_limb` where it is NaN.
    tables : tuple of Product
        Visit constraints, the most trusted first.
    orbit_limb : ndarray, shape (n,)
        Angle to the Earth's limb from the orbit [deg].
    saa_map : Reference or None
        Map of the SAA.
    warnings : list of str
        Receives a warning for images about which nothing is known.
    """
    saa, occulted, stray, known = (np.zeros(raw.count, dtype=bool) for _ in range(4))
    for product in tables:
        name = product.extname.replace("Visits", "VisitConstraints")
        rows = _read_constraints(product, warnings)
        if rows is None:
            continue
        with read_from(product.path, f"{name}: column MJD_TIME"):
            (a, covered_by), (b, _), (c, _) = (
                flag_from_rows(rows.mjd, flag, raw.mjd, raw.span)
                for flag in (rows.saa, rows.occulted, rows.stray_light)
            )
        fresh = covered_by & ~known
        saa[fresh], occulted[fresh], stray[fresh] = a[fresh], b[fresh], c[fresh]
        known |= covered_by
    limb = raw.metadata.column("LOS_TO_EARTH_ANGLE").astype(np.float64)
    limb = np.where(np.isfinite(orbit_limb), orbit_limb, limb)
    unseen = ~known
    if unseen.any():
        occulted[unseen] = (limb < 0)[unseen]
        if lost := int((unseen & ~np.isfinite(limb)).sum()):
            warnings.append(
                f"occultation of {lost} of {raw.count} images is unknown: treated as not occulted"
            )
        saa[unseen] = saa_from_map(raw, saa_map, unseen, warnings)[unseen]
    return Sight(saa, occulted, stray, limb)
