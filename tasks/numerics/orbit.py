"""The satellite along its orbit: position, angles to the limb of the Earth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.arrays import BoolArray, FloatArray
from schemas.constants import DAY

# The mean radius, which reproduces the limb angles of the mission's own tools; with the equatorial
# radius they are 0.15 deg off.
EARTH_RADIUS = 6371.0  # km

PERIOD = 98.77 / 1440.0  # of the satellite [day]

ATMOSPHERE = 100.0  # km, opaque

CLOCK = 1e-3  # s; times closer than this are equal


def increasing(times: npt.ArrayLike, table: str) -> FloatArray:
    """Return the times of a table's rows; ValueError unless they are finite and increase."""
    mjd = np.asarray(times, dtype=np.float64)
    wrong = np.flatnonzero(~(np.diff(mjd) > 0)) + 2
    if mjd.size == 0 or not np.isfinite(mjd).all() or wrong.size:
        raise ValueError(
            f"times of the {table} do not increase at row {wrong[0] if wrong.size else 1}"
        )
    return mjd


def covered(
    row_mjd: npt.ArrayLike,
    start: npt.ArrayLike,
    stop: npt.ArrayLike,
    max_gap: float,
    reach: float = 0.0,
) -> BoolArray:
    """Return which spans of time the rows of a table cover without a gap.

    Parameters
    ----------
    row_mjd : array_like, shape (m,)
        Times of the rows, increasing [MJD].
    start, stop : array_like, shape (n,)
        Start and end of the spans, equal for a moment [MJD].
    max_gap : float
        Longest time between two rows that does not count as a gap [s].
    reach : float
        How long a row is valid before and after its time, at the ends of the table and at gaps [s].

    Returns
    -------
    ndarray of bool, shape (n,)
        True where the whole span is covered; False for NaN.

    Raises
    ------
    ValueError
        If there are no rows or their times do not increase.
    """
    mjd = increasing(row_mjd, "table")
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
) -> FloatArray:
    """Interpolate the position of the satellite between the rows of an orbit.

    The interpolation is cubic Hermite, or linear without velocities. For rows 300 s apart at 700 km
    altitude the cubic is accurate to 0.2 km; linear interpolation is up to 90 km too low.

    Parameters
    ----------
    row_mjd : array_like, shape (m,)
        Times of the rows, increasing [MJD].
    row_position : array_like, shape (m, 3)
        Position relative to the geocentre [km].
    row_velocity : array_like, shape (m, 3), or None
        Velocity [km/s]; None for linear interpolation.
    mjd : array_like, shape (n,)
        Times, on the scale of `row_mjd` [MJD].
    max_gap : float
        Longest time between two rows that is bridged [s].

    Returns
    -------
    ndarray, shape (n, 3)
        Position relative to the geocentre [km]; NaN where the orbit does not cover the time.

    Raises
    ------
    ValueError
        If the times do not increase, or positions or velocities do not have three coordinates.
    """
    rows, times = increasing(row_mjd, "orbit"), np.asarray(mjd, dtype=np.float64)
    position = np.asarray(row_position, dtype=np.float64)
    velocity = None if row_velocity is None else np.asarray(row_velocity, dtype=np.float64)
    for name, table in (("positions", position), ("velocities", velocity)):
        if table is not None and table.shape != (rows.size, 3):
            raise ValueError(
                f"{name} of the orbit have shape {table.shape}, expected {(rows.size, 3)}"
            )
    seconds = (rows - rows[0]) * DAY
    at = ((times - rows[0]) * DAY).clip(0, seconds[-1])
    if velocity is None or rows.size == 1:
        satellite = np.stack([np.interp(at, seconds, axis) for axis in position.T], axis=-1)
    else:
        # imported late, as it is slow and rarely needed
        from scipy.interpolate import CubicHermiteSpline

        satellite = CubicHermiteSpline(seconds, position, velocity)(at)
    return np.where(covered(rows, times, times, max_gap)[..., np.newaxis], satellite, np.nan)


def earth_limb_angle(
    position: npt.ArrayLike,
    right_ascension: npt.ArrayLike,
    declination: npt.ArrayLike,
    earth_radius: float = EARTH_RADIUS,
    atmosphere: float = ATMOSPHERE,
) -> FloatArray:
    """Return the angle from the line of sight to the nearest point of the Earth's limb.

    angle = 90 deg - (angle of line of sight and zenith) + arccos((R + h) / r), for a round Earth of
    radius R with an opaque atmosphere of height h. The star is occulted if the angle is
    negative.

    Parameters
    ----------
    position : array_like, shape (n, 3)
        Position of the satellite relative to the geocentre, EME2000 [km].
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
    satellite = np.asarray(position, dtype=np.float64)
    radius = np.linalg.norm(satellite, axis=-1)
    if (radius < earth_radius + atmosphere).any():
        raise ValueError(
            f"satellite is {np.nanmin(radius):.6g} km from the geocentre, inside the atmosphere"
        )
    ra, dec = np.radians(np.asarray(right_ascension)), np.radians(np.asarray(declination))
    star = np.stack(
        np.broadcast_arrays(np.cos(ra) * np.cos(dec), np.sin(ra) * np.cos(dec), np.sin(dec)),
        axis=-1,
    )
    elevation = np.arcsin(((satellite * star).sum(axis=-1) / radius).clip(-1, 1))
    return np.asarray(np.degrees(elevation + np.arccos((earth_radius + atmosphere) / radius)))
