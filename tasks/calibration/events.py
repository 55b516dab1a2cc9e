"""Events: where the satellite was and what it looked at while an image was taken, as the digits of EVENT."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from schemas.errors import BadInputError, NoScienceDataError
from schemas.flags import (
    EARTH_OCCULTED,
    EARTH_STRAY_LIGHT,
    EVENT_DIGITS,
    UNUSABLE,
    Quality,
)
from schemas.inputs import CONSTRAINTS, HOUSEKEEPING_LIMITS, ORBIT, SAA_MAP, VISIT_LIMITS, VISITS
from schemas.payloads import Events, Product, Reference
from schemas.settings import EventSettings
from schemas.terms import TERMS
from tasks.exposures import Exposures, by_image, open_exposures
from tasks.fits import open_declared
from tasks.fits_writer import NewHdu
from tasks.step import Leaves, step
from tasks.store import require
from tasks.times import after_leap_second_expiry, bjd_tdb, satellite_light_time, utc_to_mjd
from tasks.words import from_big_endian

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int32]

DAY = 86400.0  # s
# The mean radius: with it the limb angles of the mission's own tools come out (the equatorial one is 0.15 deg off).
EARTH_RADIUS = 6371.0  # km
ATMOSPHERE = 100.0  # km, opaque
FULL_SCALE = 65535  # ADU of one exposure
CLOCK = 1e-3  # s: times closer than this are the same


class EventDigits(NamedTuple):
    """The digits of EVENT, each an array of one value an image."""

    saa: Integers
    temperature: Integers
    earth: Integers
    moon: Integers
    sun: Integers
    cosmic_rays: Integers


_PLACES = EventDigits(*(np.array(place, dtype=np.int32) for place in EVENT_DIGITS))


# ---- South Atlantic anomaly


def _axis(values: Floats, name: str) -> tuple[float, float, int]:
    """Return first value, step and number of the values of a regular axis."""
    axis = np.unique(values)
    if len(axis) < 2 or not np.allclose(np.diff(axis), axis[1] - axis[0]):
        raise ValueError(f"{name} of the SAA map is not in even steps")
    return float(axis[0]), float(axis[1] - axis[0]), len(axis)


def flag_saa(
    map_latitude: npt.ArrayLike,
    map_longitude: npt.ArrayLike,
    map_flag: npt.ArrayLike,
    latitude: npt.ArrayLike,
    longitude: npt.ArrayLike,
) -> tuple[Flags, Flags]:
    """Look up in the SAA map, at the nearest cell, whether the satellite was inside.

    Assumes that the map goes once around the Earth; where it has both -180 and 180 deg, either may flag.

    Parameters
    ----------
    map_latitude, map_longitude : array_like, shape (m,)
        Centre of each cell, all pairs of evenly spaced values, in any order [deg].
    map_flag : array_like of bool, shape (m,)
        True where a cell is inside.
    latitude, longitude : array_like, shape (n,)
        Place of the satellite; any turn of longitude [deg].

    Returns
    -------
    flagged : ndarray of bool, shape (n,)
        True inside; False where the place is unknown.
    known : ndarray of bool, shape (n,)
        False where latitude or longitude is not finite.

    Raises
    ------
    ValueError
        If the map is not a full grid, each cell once, all around the Earth.
    """
    rows, columns = np.asarray(map_latitude, dtype=np.float64), np.asarray(map_longitude, dtype=np.float64)
    (south, height, ny), (west, width, nx) = _axis(rows, "LATITUDE"), _axis(columns, "LONGITUDE")
    turn = round(360 / width)
    if nx not in (turn, turn + 1) or abs(turn * width - 360) > 1e-6 * width:
        raise ValueError(f"SAA map spans {nx} longitudes of {width:g} deg, wanted 360 deg")
    count = np.zeros((ny, nx), dtype=np.int32)
    grid = np.zeros((ny, turn), dtype=np.bool_)
    i, j = np.rint((rows - south) / height).astype(int), np.rint((columns - west) / width).astype(int)
    np.add.at(count, (i, j), 1)
    if (count != 1).any():
        raise ValueError(f"SAA map has {rows.size} rows, wanted each of {ny} x {nx} cells once")
    np.logical_or.at(grid, (i, j % turn), np.asarray(map_flag, dtype=np.bool_))
    y, x = np.asarray(latitude, dtype=np.float64), np.asarray(longitude, dtype=np.float64)
    known = np.isfinite(y) & np.isfinite(x)
    i = np.rint((np.where(known, y, south) - south) / height).astype(int).clip(0, ny - 1)
    j = np.rint((np.where(known, x, west) - west) / width).astype(int) % turn
    return grid[i, j] & known, known


# ---- orbit


def _increasing(times: npt.ArrayLike, table: str) -> Floats:
    """Return the times of a table's rows; ValueError unless each is later than the one before."""
    mjd = np.asarray(times, dtype=np.float64)
    wrong = np.flatnonzero(~(np.diff(mjd) > 0)) + 2
    if mjd.size == 0 or not np.isfinite(mjd).all() or wrong.size:
        raise ValueError(f"times of the {table} do not increase, at row {wrong[0] if wrong.size else 1}")
    return mjd


def covered(row_mjd: npt.ArrayLike, start: npt.ArrayLike, stop: npt.ArrayLike, max_gap: float, reach: float = 0.0) -> Flags:
    """Tell which spans of time the rows of a table cover without a gap.

    Parameters
    ----------
    row_mjd : array_like, shape (m,)
        Times of the rows, increasing [MJD].
    start, stop : array_like, shape (n,)
        Begin and end of the spans, equal for a moment [MJD].
    max_gap : float
        Longest time between two rows that is no gap [s].
    reach : float
        How long a row is good before and after itself at the ends of the table and at gaps [s].

    Returns
    -------
    ndarray of bool, shape (n,)
        True where the whole span is covered; False where it is NaN.

    Raises
    ------
    ValueError
        If there are no rows or their times do not increase.
    """
    mjd = _increasing(row_mjd, "table")
    gap = np.diff(mjd) > (max_gap + CLOCK) / DAY
    opens = mjd[np.r_[True, gap]] - (reach + CLOCK) / DAY
    closes = mjd[np.r_[gap, True]] + (reach + CLOCK) / DAY
    piece = np.searchsorted(opens, np.asarray(start, dtype=np.float64), side="right") - 1
    return np.asarray((piece >= 0) & (np.asarray(stop, dtype=np.float64) <= closes[piece]))


def interpolate_orbit(
    row_mjd: npt.ArrayLike,
    row_position: npt.ArrayLike,
    row_velocity: npt.ArrayLike | None,
    mjd: npt.ArrayLike,
    max_gap: float = 600.0,
) -> Floats:
    """Return the place of the satellite between the rows of an orbit.

    Cubic Hermite, or straight lines where there are no velocities. For rows 300 s apart at 700 km altitude the cubic
    is good to 0.2 km; straight lines are up to 90 km too low.

    Parameters
    ----------
    row_mjd : array_like, shape (m,)
        Times of the rows, increasing [MJD].
    row_position : array_like, shape (m, 3)
        Place from the geocentre [km].
    row_velocity : array_like, shape (m, 3), or None
        Velocity [km/s]; None for straight lines.
    mjd : array_like, shape (n,)
        Times wanted, on the scale of `row_mjd` [MJD].
    max_gap : float
        Longest time between two rows that is bridged [s].

    Returns
    -------
    ndarray, shape (n, 3)
        Place from the geocentre [km]; NaN where the orbit does not cover the time.

    Raises
    ------
    ValueError
        If the times do not increase, or positions and velocities are not three coordinates a row.
    """
    rows, times = _increasing(row_mjd, "orbit"), np.asarray(mjd, dtype=np.float64)
    position = np.asarray(row_position, dtype=np.float64)
    velocity = None if row_velocity is None else np.asarray(row_velocity, dtype=np.float64)
    for name, table in (("positions", position), ("velocities", velocity)):
        if table is not None and table.shape != (rows.size, 3):
            raise ValueError(f"{name} of the orbit have shape {table.shape}, wanted {(rows.size, 3)}")
    seconds = (rows - rows[0]) * DAY
    at = ((times - rows[0]) * DAY).clip(0, seconds[-1])
    if velocity is None or rows.size == 1:
        place = np.stack([np.interp(at, seconds, axis) for axis in position.T], axis=-1)
    else:
        from scipy.interpolate import CubicHermiteSpline  # late, like all that takes long to import and is rarely needed

        place = CubicHermiteSpline(seconds, position, velocity)(at)
    return np.where(covered(rows, times, times, max_gap)[..., np.newaxis], place, np.nan)


def interpolate_ground_track(
    row_mjd: npt.ArrayLike,
    row_position: npt.ArrayLike,
    row_latitude: npt.ArrayLike,
    row_longitude: npt.ArrayLike,
    mjd: npt.ArrayLike,
    position: npt.ArrayLike,
) -> tuple[Floats, Floats]:
    """Return latitude and longitude below the satellite between the rows of an orbit.

    Only the difference to the place on the sky is interpolated: the turn of the Earth, which is even, and the
    difference of geodetic and geocentric latitude, where the orbit gives the former.

    Parameters
    ----------
    row_mjd : array_like, shape (m,)
        Times of the rows, increasing, less than a quarter of a day apart [MJD].
    row_position : array_like, shape (m, 3)
        Place from the geocentre, EME2000 [km].
    row_latitude, row_longitude : array_like, shape (m,)
        Place on the Earth [deg].
    mjd : array_like, shape (n,)
        Times wanted [MJD].
    position : array_like, shape (n, 3)
        Place from the geocentre at those times, from `interpolate_orbit` [km].

    Returns
    -------
    latitude, longitude : ndarray, shape (n,)
        Place on the Earth, longitude from -180 to 180 [deg]. NaN where `position` is.

    Raises
    ------
    ValueError
        If the times do not increase.
    """
    rows, times = _increasing(row_mjd, "orbit"), np.asarray(mjd, dtype=np.float64)
    declination, right_ascension = _sky(np.asarray(row_position, dtype=np.float64))
    flattening = np.asarray(row_latitude, dtype=np.float64) - declination
    turn = np.unwrap(np.asarray(row_longitude, dtype=np.float64) - right_ascension, period=360)
    declination, right_ascension = _sky(np.asarray(position, dtype=np.float64))
    longitude = right_ascension + np.interp(times, rows, turn)
    return declination + np.interp(times, rows, flattening), (longitude + 180) % 360 - 180


def _sky(position: Floats) -> tuple[Floats, Floats]:
    """Return declination and right ascension of places (n, 3), as seen from the geocentre [deg]."""
    x, y, z = np.moveaxis(position, -1, 0)
    return np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x))


def earth_limb_angle(
    position: npt.ArrayLike,
    right_ascension: npt.ArrayLike,
    declination: npt.ArrayLike,
    earth_radius: float = EARTH_RADIUS,
    atmosphere: float = ATMOSPHERE,
) -> Floats:
    """Return the angle from the line of sight to the nearest point of the Earth's limb.

    angle = 90 deg - (angle of line of sight and zenith) + arccos((R + h) / r), for a round Earth of radius R with an
    opaque atmosphere of height h. The star is occulted where the angle is negative.

    Parameters
    ----------
    position : array_like, shape (n, 3)
        Place of the satellite from the geocentre, EME2000 [km].
    right_ascension, declination : array_like, shape (n,) or scalar
        Line of sight, ICRS [deg].
    earth_radius, atmosphere : float
        R and h [km].

    Returns
    -------
    ndarray, shape (n,)
        Angle [deg]; NaN where an input is NaN.

    Raises
    ------
    ValueError
        If a position lies inside the atmosphere: its unit may not be km.
    """
    place = np.asarray(position, dtype=np.float64)
    radius = np.linalg.norm(place, axis=-1)
    if (radius < earth_radius + atmosphere).any():
        raise ValueError(f"satellite is {np.nanmin(radius):.6g} km from the geocentre, inside the atmosphere")
    ra, dec = np.radians(np.asarray(right_ascension)), np.radians(np.asarray(declination))
    star = np.stack(np.broadcast_arrays(np.cos(ra) * np.cos(dec), np.sin(ra) * np.cos(dec), np.sin(dec)), axis=-1)
    elevation = np.arcsin(((place * star).sum(axis=-1) / radius).clip(-1, 1))
    return np.asarray(np.degrees(elevation + np.arccos((earth_radius + atmosphere) / radius)))


# ---- tables of constraints


def flag_from_rows(
    row_mjd: npt.ArrayLike,
    row_flag: npt.ArrayLike,
    mjd: npt.ArrayLike,
    duration: float,
    cadence: float = 60.0,
) -> tuple[Flags, Flags]:
    """Flag the images during which, or nearest to which, a row of a table is flagged.

    Parameters
    ----------
    row_mjd : array_like, shape (m,)
        Times of the rows, increasing [MJD].
    row_flag : array_like of bool, shape (m,)
        The flag of each row.
    mjd : array_like, shape (n,)
        Middle of the images [MJD].
    duration : float
        Time from begin to end of an image, all its exposures [s].
    cadence : float
        Time between rows; a row is good for as long before and after itself [s].

    Returns
    -------
    flagged : ndarray of bool, shape (n,)
        True where a row from begin to end of the image, both included, or a row nearest to its middle is flagged.
        False where the table does not cover the image.
    known : ndarray of bool, shape (n,)
        True where the table covers the image from begin to end.

    Raises
    ------
    ValueError
        If there are no rows, their times do not increase, or there are more or fewer flags than rows.
    """
    rows, flag = _increasing(row_mjd, "constraints"), np.asarray(row_flag, dtype=np.bool_)
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
    nearest = flag[after] & (to_after <= to_before + clock) | flag[before] & (to_before <= to_after + clock)
    return ((flagged_before[last] > flagged_before[first]) | nearest) & known, known


# ---- digits


def angle_digit(angle: npt.ArrayLike, limits: npt.ArrayLike | None) -> Integers:
    """Return the digit of an angle to Sun, Moon or Earth: 1 below the soft limit, 2 below the hard limit.

    Parameters
    ----------
    angle : array_like, shape (n,)
        Angle from the line of sight [deg]. NaN gives 0.
    limits : array_like, shape (2,), or None
        Smallest allowed angle, soft and hard [deg]. None, and NaN for either, is no limit.

    Returns
    -------
    ndarray of int32, shape (n,)
        0, 1 or 2.

    Raises
    ------
    ValueError
        If there are not two limits, or the hard one is above the soft one.
    """
    return limit_digit(angle, limits, None)


def limit_digit(value: npt.ArrayLike, lower: npt.ArrayLike | None, upper: npt.ArrayLike | None) -> Integers:
    """Return the digit of a value with lower and upper limits: 1 beyond the soft limit, 2 beyond the hard limit.

    Parameters
    ----------
    value : array_like, shape (n,)
        Value, for example a temperature [deg C]. NaN gives 0.
    lower, upper : array_like, shape (2,), or None
        Soft and hard limit, in the unit of `value`. None, and NaN for either, is no limit.

    Returns
    -------
    ndarray of int32, shape (n,)
        0, 1 or 2.

    Raises
    ------
    ValueError
        If there are not two limits on a side, or the hard one is nearer than the soft one.
    """
    values = np.asarray(value, dtype=np.float64)
    digit = np.zeros(values.shape, dtype=np.int32)
    for limits, sign in ((lower, -1), (upper, 1)):
        if limits is None:
            continue
        pair = np.asarray(limits, dtype=np.float64)
        if pair.shape != (2,) or sign * pair[1] < sign * pair[0]:
            raise ValueError(f"limits are {pair.tolist()}, wanted a soft one and a hard one beyond it")
        for level in (1, 2):
            digit = np.where(sign * values > sign * pair[level - 1], np.maximum(digit, level), digit)
    return np.asarray(digit, dtype=np.int32)


def earth_digit(limb: npt.ArrayLike, stray_light: npt.ArrayLike, occulted: npt.ArrayLike) -> Integers:
    """Join what the Earth does to an image into one digit, the worst winning.

    Parameters
    ----------
    limb : array_like of int, shape (n,)
        Digit of the angle to the limb, from `angle_digit`.
    stray_light : array_like of bool, shape (n,)
        True where the predicted stray light is above its threshold.
    occulted : array_like of bool, shape (n,)
        True where the Earth covers the star.

    Returns
    -------
    ndarray of int32, shape (n,)
        0; 1 stray light or below the soft limit; 2 below the hard limit; 9 occulted.

    Raises
    ------
    ValueError
        If a digit of `limb` is not 0, 1 or 2.
    """
    digit = np.asarray(limb)
    if not np.isin(digit, (0, 1, 2)).all():
        raise ValueError(f"digits of the limb angle are {np.unique(digit).tolist()}, wanted 0, 1 or 2")
    digit = np.where(np.asarray(stray_light, dtype=np.bool_), np.maximum(digit, EARTH_STRAY_LIGHT), digit)
    return np.where(np.asarray(occulted, dtype=np.bool_), EARTH_OCCULTED, digit).astype(np.int32)


def compose_event(
    saa: npt.ArrayLike,
    temperature: npt.ArrayLike,
    earth: npt.ArrayLike,
    moon: npt.ArrayLike,
    sun: npt.ArrayLike,
    cosmic_rays: npt.ArrayLike,
) -> Integers:
    """Return EVENT from its digits: 901 is occulted by the Earth and in the SAA.

    Parameters
    ----------
    saa, temperature, earth, moon, sun, cosmic_rays : array_like of int or bool, shape (n,) or scalar
        The digits, lowest first.

    Returns
    -------
    ndarray of int32, shape (n,)
        EVENT.

    Raises
    ------
    ValueError
        If a digit is not 0 to 9.
    """
    event = np.zeros((), dtype=np.int32)
    digits = (saa, temperature, earth, moon, sun, cosmic_rays)
    for name, place, given in zip(EventDigits._fields, _PLACES, digits, strict=True):
        digit = np.asarray(given)
        if ((digit < 0) | (digit > 9)).any():
            raise ValueError(f"digit {name} of EVENT is {digit.min()} to {digit.max()}, wanted 0 to 9")
        event = event + place * digit.astype(np.int32)
    return np.asarray(event, dtype=np.int32)


def decompose_event(event: npt.ArrayLike) -> EventDigits:
    """Return the digits of EVENT.

    Parameters
    ----------
    event : array_like of int, shape (n,)
        EVENT.

    Returns
    -------
    EventDigits
        Six arrays of int32, shape (n,).

    Raises
    ------
    ValueError
        If EVENT is negative or has more than six digits.
    """
    given = np.asarray(event)
    if ((given < 0) | (given > 999_999)).any():
        raise ValueError(f"EVENT is {given.min()} to {given.max()}, wanted six digits")
    return EventDigits(*(np.asarray(given // place % 10, dtype=np.int32) for place in _PLACES))


def measurement_status(event: npt.ArrayLike) -> Integers:
    """Return STATUS: 1 where EVENT is not 0, as in the operational light curves.

    Parameters
    ----------
    event : array_like of int, shape (n,)
        EVENT.

    Returns
    -------
    ndarray of int32, shape (n,)
        STATUS.
    """
    return np.asarray(np.asarray(event) != 0, dtype=np.int32)


def event_quality(event: npt.ArrayLike) -> Integers:
    """Return the bits of QUALITY that EVENT implies.

    Parameters
    ----------
    event : array_like of int, shape (n,)
        EVENT.

    Returns
    -------
    ndarray of int32, shape (n,)
        Sum of bits of `Quality`.

    Raises
    ------
    ValueError
        If EVENT is negative or has more than six digits.
    """
    digit = decompose_event(event)
    occulted = digit.earth == EARTH_OCCULTED
    quality = np.zeros(digit.earth.shape, dtype=np.int32)
    for bit, where in (
        (Quality.SAA, digit.saa > 0),
        (Quality.OCCULTED, occulted),
        (Quality.STRAY_LIGHT, (digit.earth > 0) & ~occulted),
        (Quality.TEMPERATURE, digit.temperature > 0),
        (Quality.SUN_OR_MOON, (digit.sun > 0) | (digit.moon > 0)),
        (Quality.COSMIC_RAYS, digit.cosmic_rays > 0),
    ):
        quality |= np.where(where, np.int32(bit), np.int32(0))
    return quality


# ---- unusable images


def flag_unusable(lowest: npt.ArrayLike, highest: npt.ArrayLike, exposures: int) -> Flags:
    """Flag the raw images that hold nothing: 0 throughout, or full scale throughout.

    Parameters
    ----------
    lowest, highest : array_like, shape (n,)
        Lowest and highest pixel of each image; of a circular window only inside the circle [ADU].
    exposures : int
        Exposures in a stack: full scale is 65535 times as much.

    Returns
    -------
    ndarray of bool, shape (n,)
        True where the image is unusable.

    Raises
    ------
    ValueError
        If there is no exposure in a stack.
    """
    if exposures < 1:
        raise ValueError(f"NEXP is {exposures}, wanted 1 or more")
    bottom, top = np.asarray(lowest, dtype=np.float64), np.asarray(highest, dtype=np.float64)
    return ~(top > 0) | ~(bottom < exposures * FULL_SCALE)


def flag_repeated_times(mjd: npt.ArrayLike, tolerance: float = CLOCK) -> Flags:
    """Flag the images that have the time of an image before.

    Parameters
    ----------
    mjd : array_like, shape (n,)
        Times [MJD].
    tolerance : float
        Times that are no further apart are the same [s].

    Returns
    -------
    ndarray of bool, shape (n,)
        True for the second and later images of one time.

    Raises
    ------
    ValueError
        If a time is not finite or earlier than the one before; names the rows, the first is 1.
    """
    times = np.asarray(mjd, dtype=np.float64)
    if not np.isfinite(times).all():
        raise ValueError(f"time is missing in row {_rows(~np.isfinite(times), 1)}")
    step = np.diff(times) * DAY
    if (step < -CLOCK).any():
        raise ValueError(f"time does not increase from the row before to row {_rows(step < -CLOCK, 2)}")
    return np.concatenate([np.zeros(min(times.size, 1), dtype=np.bool_), step <= tolerance])


def _rows(where: Flags, first: int) -> str:
    """Return the first few row numbers where a flag is set, as text."""
    rows = np.flatnonzero(where) + first
    return ", ".join(str(row) for row in rows[:5]) + (f" and {rows.size - 5} more" if rows.size > 5 else "")


@njit(cache=True)
def pixel_extremes(words: npt.NDArray[np.uint32], inside: Flags) -> tuple[Floats, Floats]:
    """Return smallest and largest value of the pixels `inside` the window, for every image.

    Parameters
    ----------
    words : ndarray of uint32, shape (n, ny, nx)
        Raw images as big-endian words of 32-bit integers with the offset 2^31 not yet added.
    inside : ndarray of bool, shape (ny, nx)
        Pixels that the window holds; those outside are 0 in every image.

    Returns
    -------
    lowest, highest : ndarray, shape (n,)
        [ADU].
    """
    lowest, highest = np.empty(words.shape[0]), np.empty(words.shape[0])
    for i in range(words.shape[0]):
        low, high = np.uint32(0xFFFFFFFF), np.uint32(0)
        for y in range(words.shape[1]):
            for x in range(words.shape[2]):
                if inside[y, x]:
                    v = from_big_endian(words[i, y, x]) ^ np.uint32(0x80000000)
                    low, high = min(low, v), max(high, v)
        lowest[i], highest[i] = low, high
    return lowest, highest


@contextmanager
def _read_from(path: Path | str, table: str) -> Iterator[None]:
    """Let what a kernel says of values that cannot be end as an error that names their file."""
    try:
        yield
    except ValueError as error:
        raise BadInputError(f"{path}: {table}: {error}") from error


class Sight(NamedTuple):
    """What the line of sight met during every image; NaN and False where nothing is known."""

    saa: Flags
    occulted: Flags
    stray_light: Flags
    limb: Floats


def _rows_of(product: Product) -> tuple[Floats, Flags, Flags, Flags] | None:
    """Return time, SAA, occultation and too much stray light of the rows of visit constraints, None where there are none."""
    if product.extname == "AUX_RES_VisitConstraints":
        with open_declared(require(product.path), CONSTRAINTS) as file:
            table = file[product.extname]
            saa, occulted = table.column("SAA_FLAG"), table.column("EARTH_OCCULTATION")
            return table.finite_column("MJD_TIME"), saa, occulted, np.zeros_like(saa)
    with open_declared(require(product.path), VISITS) as file:
        if "MPS_PRE_VisitConstraints" not in file:
            return None
        table = file["MPS_PRE_VisitConstraints"]
        if not table.rows:
            return None
        threshold = float(file["MPS_PRE_Visits"].column("STRAY_LIGHT_THRESHOLD")[0])
        stray = table.column("STRAY_LIGHT") > threshold
        return table.finite_column("MJD_TIME"), table.column("SAA_FLAG"), table.column("EARTH_OCCULTATION"), stray


class Orbit(NamedTuple):
    """What the orbit tells of every image; NaN where it does not cover it."""

    limb: Floats  # angle of the target above the Earth's limb [deg]
    light_time: Floats  # of the way that the satellite is nearer to the target than the geocentre [s]
    light_rate: Floats  # its change with time during the image


def _along_orbit(raw: Exposures, orbit: Product | None, settings: EventSettings, warnings: list[str]) -> Orbit:
    nothing = np.full(raw.count, np.nan)
    if orbit is None:
        return Orbit(nothing, nothing, nothing)
    with open_declared(require(orbit.path), ORBIT) as file:
        table = file["AUX_RES_Orbit"]
        with _read_from(file.path, "AUX_RES_Orbit: column EPOCH"):
            epoch = utc_to_mjd(table.column("EPOCH"))
        rows = np.stack([table.finite_column(c) for c in "XYZ"], axis=1)
        speed = np.stack([table.finite_column(f"{c}_DOT") for c in "XYZ"], axis=1)
    star = raw.image.number("RA_TARG"), raw.image.number("DEC_TARG")
    half = raw.span / 2 / DAY
    with _read_from(orbit.path, orbit.extname):
        place, begin, end = (interpolate_orbit(epoch, rows, speed, raw.mjd + shift) for shift in (0.0, -half, half))
        limb = earth_limb_angle(place, *star, atmosphere=settings.atmosphere)
    light_time = satellite_light_time(place, *star) * DAY
    if lost := int((~np.isfinite(light_time)).sum()):
        warnings.append(f"the orbit does not cover {lost} images: the satellite's own light time is not known for them")
    return Orbit(limb, light_time, (satellite_light_time(end, *star) - satellite_light_time(begin, *star)) / (2 * half))


def _sight(
    raw: Exposures, tables: tuple[Product, ...], seen: Floats, saa_map: Reference | None, warnings: list[str]
) -> Sight:  # fmt: skip
    n, duration = raw.count, raw.span
    saa, occulted, stray, known = (np.zeros(n, dtype=bool) for _ in range(4))
    limb = raw.metadata.column("LOS_TO_EARTH_ANGLE").astype(np.float64)
    for product in tables:
        name = product.extname.replace("Visits", "VisitConstraints")
        rows = _rows_of(product)
        if rows is None:
            continue
        mjd, *flags = rows
        with _read_from(product.path, f"{name}: column MJD_TIME"):
            (a, new), (b, _), (c, _) = (flag_from_rows(mjd, f, raw.mjd, duration) for f in flags)
        fresh = new & ~known
        saa[fresh], occulted[fresh], stray[fresh] = a[fresh], b[fresh], c[fresh]
        known |= new
    limb = np.where(np.isfinite(seen), seen, limb)
    unseen = ~known
    if unseen.any():
        occulted[unseen] = (limb < 0)[unseen]
        if (unseen & ~np.isfinite(limb)).any():
            warnings.append(f"nothing tells whether {(unseen & ~np.isfinite(limb)).sum()} images are occulted: taken as not")
        _saa_from_map(raw, saa_map, saa, unseen, warnings)
    return Sight(saa, occulted, stray, limb)


def _saa_from_map(raw: Exposures, saa_map: Reference | None, saa: Flags, unseen: Flags, warnings: list[str]) -> None:
    if saa_map is None:
        warnings.append(f"no visit constraints and no SAA map for {unseen.sum()} images: taken as outside of the SAA")
        return
    with open_declared(require(saa_map.product.path), SAA_MAP) as file:
        table = file["EXT_APP_SAAMap"]
        cells = table.finite_column("LATITUDE"), table.finite_column("LONGITUDE"), table.column("SAA_FLAG")
    latitude, longitude = (raw.metadata.column(c).astype(np.float64) for c in ("LATITUDE", "LONGITUDE"))
    with _read_from(saa_map.product.path, "EXT_APP_SAAMap"):
        flagged, known = flag_saa(*cells, latitude, longitude)
    saa[unseen] = flagged[unseen]
    if lost := int((unseen & ~known).sum()):
        warnings.append(f"the place of the satellite is not known for {lost} images: taken as outside of the SAA")


def _temperature_digit(raw: Exposures, limits: Reference | None) -> Integers:
    digit = np.zeros(raw.count, dtype=np.int32)
    if limits is None:
        return digit
    with open_declared(require(limits.product.path), HOUSEKEEPING_LIMITS) as file:
        table = file["REF_APP_Limits"]
        names, active = table.column("PARAM_NAME"), table.column("ACTIVE").astype(bool)
        upper, lower = table.column("UPPER_LIMIT"), table.column("LOWER_LIMIT")
    for name in ("HK_TEMP_FEE_CCD", "HK_TEMP_FEE_BIAS", "HK_TEMP_FEE_ADC"):
        for row in np.flatnonzero(active & np.isin(names, (name, name.removeprefix("HK_")))):
            if name in raw.metadata.present():
                with _read_from(limits.product.path, f"REF_APP_Limits: {name}"):
                    found = limit_digit(raw.metadata.column(name), lower[row], upper[row])
                digit = np.maximum(digit, found)
    return digit


@step("events", "FLAGGING", version="3", payload=Events, leaves=["TERM_EVENTS"])
def flag_events(
    raw: Product,
    tables: tuple[Product, ...],
    orbit: Product | None,
    saa_map: Reference | None,
    limits: Reference | None,
    housekeeping: Reference | None,
    settings: EventSettings,
) -> Leaves:
    """Flag the conditions of every image, and images that cannot be used."""
    warnings: list[str] = []
    with open_exposures(raw) as exposures:
        mjd, meta = exposures.mjd, exposures.metadata
        with _read_from(exposures.file.path, f"{meta.extname}: column MJD_TIME"):
            repeated = flag_repeated_times(mjd, settings.duplicate_tolerance)
        along = _along_orbit(exposures, orbit, settings, warnings)
        sight = _sight(exposures, tables, along.limb, saa_map, warnings)
        angles = {n: meta.column(f"LOS_TO_{n}_ANGLE").astype(np.float64) for n in ("SUN", "MOON")}
        bounds = _angle_limits(limits)
        with _read_from(limits.product.path if limits else "", "REF_APP_VisitConstraints"):
            limb, moon, sun = (
                angle_digit(angle, bounds[name])
                for angle, name in ((sight.limb, "EARTH"), (angles["MOON"], "MOON"), (angles["SUN"], "SUN"))
            )
        event = compose_event(
            sight.saa,
            _temperature_digit(exposures, housekeeping),
            earth_digit(limb, sight.stray_light, sight.occulted),
            moon,
            sun,
            np.zeros(len(mjd)),
        )
        unusable = _unusable(exposures)
        unusable |= meta.column("CE_INTEGRITY") != 0
        bjd = bjd_tdb(mjd, exposures.image.number("RA_TARG"), exposures.image.number("DEC_TARG"))
    if limits is None:
        warnings.append("no limits of angles are given: the Sun, Moon and Earth-limb digits stay 0 but for occultation")
    if housekeeping is None:
        warnings.append("no limits of housekeeping are given: the temperature digit stays 0")
    if repeated.any():
        warnings.append(f"{repeated.sum()} images repeat the time of another one: flagged")
    if after_leap_second_expiry(mjd).any():
        warnings.append("the visit is later than the known leap seconds: its times may be off by seconds")
    quality = event_quality(event)
    quality |= np.where(unusable, int(Quality.UNUSABLE_IMAGE), 0) | np.where(repeated, int(Quality.DUPLICATE_TIME), 0)
    if ((quality & int(UNUSABLE)) != 0).all():
        raise NoScienceDataError(
            f"none of {len(mjd)} images can be used: {unusable.sum()} are all zero, saturated throughout or marked as damaged, "
            f"{sight.occulted.sum()} are occulted by the Earth, {sight.saa.sum()} were taken in the SAA"
        )
    used = {"N_SAA": int(sight.saa.sum()), "N_OCCULT": int(sight.occulted.sum()), "N_BADIMG": int(unusable.sum())}
    columns: dict[str, npt.NDArray[Any]] = {
        "MJD_TIME": mjd,
        "BJD_TIME": bjd,
        "EVENT": event,
        "QUALITY": quality,
        "EARTH_LIMB": sight.limb,
        "SAT_LIGHT_TIME": along.light_time,
        "SAT_LIGHT_RATE": along.light_rate,
    }
    return Leaves({"TERM_EVENTS": [NewHdu(TERMS["TERM_EVENTS"], used, columns=columns)]}, used=used, warnings=warnings)


def _angle_limits(limits: Reference | None) -> dict[str, Floats | None]:
    if limits is None:
        return dict.fromkeys(("SUN", "MOON", "EARTH"))
    with open_declared(require(limits.product.path), VISIT_LIMITS) as file:
        table = file["REF_APP_VisitConstraints"]
        return {n: table.finite_column(f"MIN_LOS_TO_{n}_ANGLE")[0] for n in ("SUN", "MOON", "EARTH")}


def _unusable(raw: Exposures) -> Flags:
    inside = window_pixels(raw)
    extremes = by_image(raw, lambda words: pixel_extremes(words, inside))
    lowest, highest = (np.concatenate([e[k] for e in extremes]) for k in (0, 1))
    return flag_unusable(lowest, highest, raw.coadded)


def window_pixels(raw: Exposures) -> Flags:
    """Return which pixels the window holds, shape (ny, nx): a circular one leaves out those far from its centre."""
    ny, nx = raw.shape
    if raw.image.header.get("SHAPE") != "circular":
        return np.ones((ny, nx), dtype=bool)
    # what is 0 in each of some images spread over the visit lies outside
    some = np.unique(np.linspace(0, raw.count - 1, 5).astype(int))
    zero = np.uint32(0x80000000).byteswap()
    outside = np.all([raw.words(i, i + 1)[0] == zero for i in some], axis=0)
    return ~outside if not outside.all() else np.ones((ny, nx), dtype=bool)
