"""The spacecraft: clock, orbit, attitude, angles to Sun, Moon and Earth, SAA, and housekeeping.

Orbit: circular, 700 km, Sun-synchronous (inclination 98.19 deg, ascending node at 6 h local time),
period 2 pi sqrt(a^3 / mu) = 98.77 min. The target is `tilt` degrees north of the orbit's pole,
which points away from the Sun. The angle to the Earth's limb (with 100 km of air) is 90 deg -
angle(target, zenith) + arccos((R_E + 100 km) / r); below zero the target is occulted. The
spacecraft turns once per orbit and keeps the nadir at a fixed position in the field, so the roll
angle is the nadir's position angle plus a constant: it decreases with time. Sun, Moon, precession
and the rotation of the Earth come from ERFA; UT1 is approximated by UTC (0.9 s, 0.004 deg).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import accumulate

import erfa
import numpy as np
from numpy.typing import ArrayLike

from schemas.arrays import BoolArray, BytesArray, FloatArray, IntArray
from schemas.constants import DAY
from tasks.simulation import gain, layout

EARTH_RADIUS = 6378.137  # [km]
ATMOSPHERE = 100.0  # [km]
ORBIT_RADIUS = EARTH_RADIUS + 700.0  # [km]
GRAVITY = 398600.4418  # [km^3/s^2]
PERIOD = 2 * np.pi * float(np.sqrt(ORBIT_RADIUS**3 / GRAVITY))  # [s]
INCLINATION = float(np.deg2rad(98.19))
NADIR = 0.0  # direction of the nadir on the CCD, from +x to +y [rad]
TELESCOPE_TEMPERATURE = -12.0  # usual temperature of the front of the tube [degC]

# South Atlantic Anomaly at 700 km, an ellipse: centre, half axes in latitude and longitude [deg]
SAA_CENTRE, SAA_HALF_AXES = (-26.0, -22.0), (29.0, 62.0)


class Clock:
    """Time scales of a visit; times are seconds since its start, leap seconds included.

    `start` is a UTC date.
    """

    def __init__(self, start: str) -> None:
        with warnings.catch_warnings():
            # beyond its table ERFA assumes no further leap seconds, which are unknown anyway
            warnings.simplefilter("ignore", erfa.ErfaWarning)
            date, _, clock = start.partition("T")
            year, month, day = map(int, date.split("-"))
            hour, minute, second = clock.split(":")
            utc = erfa.dtf2d("UTC", year, month, day, int(hour), int(minute), float(second))
            self._day, self._fraction = (float(value) for value in erfa.utctai(*utc))

    def tai(self, seconds: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return TAI as a Julian date in two parts."""
        return np.full(np.shape(seconds), self._day), self._fraction + np.asarray(
            seconds, float
        ) / DAY

    def tt(self, seconds: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return TT = TAI + 32.184 s as a Julian date in two parts."""
        day, fraction = self.tai(seconds)
        return day, fraction + 32.184 / DAY

    def utc(self, seconds: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return UTC as ERFA's quasi-Julian date in two parts."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", erfa.ErfaWarning)
            day, fraction = erfa.taiutc(*self.tai(seconds))
        return np.asarray(day), np.asarray(fraction)

    def mjd(self, seconds: ArrayLike) -> FloatArray:
        """Return the modified Julian date in TT."""
        day, fraction = self.tt(seconds)
        return np.asarray((day - 2400000.5) + fraction)

    def obt(self, seconds: ArrayLike) -> IntArray:
        """Return on-board time: units of 1/65536 s since 2000, lowest bit set (synchronised)."""
        day, fraction = self.tai(seconds)
        ticks = np.rint(((day - 2451544.5) + fraction) * DAY * 65536).astype(np.int64)
        return np.asarray(ticks | 1)

    def text(self, seconds: ArrayLike) -> BytesArray:
        """Return UTC as ``yyyy-mm-ddThh:mm:ss.ffffff``; a leap second is second 60."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", erfa.ErfaWarning)
            year, month, day, hms = erfa.d2dtf(
                "UTC", 6, *self.utc(np.atleast_1d(np.asarray(seconds, float)))
            )
        digits = np.full((year.size, 26), ord("0"), np.uint8)
        fields = (
            (year, 0, 4),
            (month, 5, 2),
            (day, 8, 2),
            (hms["h"], 11, 2),
            (hms["m"], 14, 2),
            (hms["s"], 17, 2),
            (hms["f"], 20, 6),
        )
        for value, start, width in fields:
            for i in range(width):
                digits[:, start + i] += (value // 10 ** (width - 1 - i) % 10).astype(np.uint8)
        for position, sign in zip((4, 7, 10, 13, 16, 19), b"--T::.", strict=True):
            digits[:, position] = sign
        return digits.view("S26").reshape(np.shape(seconds))

    def stamp(self, seconds: float) -> str:
        """Return one UTC date as text."""
        return bytes(self.text(seconds)[()]).decode("ascii")

    def barycentric(self, seconds: ArrayLike, ra: float, dec: float) -> FloatArray:
        """Return the barycentric Julian date: TT plus the light travel time to the Earth's centre.

        The direction is given by right ascension and declination [deg].
        """
        day, fraction = self.tt(seconds)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", erfa.ErfaWarning)
            earth = erfa.epv00(day, fraction)[1]["p"]
        delay = earth @ unit_vector(ra, dec) * 499.004784 / DAY
        return np.asarray(day + (fraction + delay))


def unit_vector(ra: ArrayLike, dec: ArrayLike) -> FloatArray:
    """Return the unit vector of a right ascension and declination [deg], shape (..., 3)."""
    a, d = np.deg2rad(ra), np.deg2rad(dec)
    return np.stack(
        np.broadcast_arrays(np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)), axis=-1
    )


def _angle(a: FloatArray, b: FloatArray) -> FloatArray:
    cosine = np.sum(a * b, axis=-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return np.asarray(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))


@dataclass(frozen=True)
class Surroundings:
    """The surroundings of the spacecraft at a series of times."""

    position: FloatArray  # shape (n, 3), J2000 [km]
    velocity: FloatArray  # shape (n, 3) [km/s]
    latitude: FloatArray  # geocentric [deg]
    longitude: FloatArray  # East [deg]
    sun: FloatArray  # angles to the line of sight [deg]
    moon: FloatArray
    limb: FloatArray

    @property
    def in_saa(self) -> BoolArray:
        """Whether the spacecraft is in the South Atlantic Anomaly."""
        return in_saa(self.latitude, self.longitude)

    @property
    def occulted(self) -> BoolArray:
        """Whether the Earth hides the target."""
        return self.limb < 0


class Orbit:
    """The orbit of a visit, and its target: `tilt` [deg] north of the pole of the orbit."""

    def __init__(self, clock: Clock, tilt: float) -> None:
        self.clock = clock
        sun = self._sun(np.zeros(1))[0]
        node = np.arctan2(sun[1], sun[0]) - np.pi / 2
        self._towards_node = np.array([np.cos(node), np.sin(node), 0.0])
        self._pole = np.array(
            [
                np.sin(INCLINATION) * np.sin(node),
                -np.sin(INCLINATION) * np.cos(node),
                np.cos(INCLINATION),
            ]
        )
        self.ra = float(np.rad2deg(np.arctan2(self._pole[1], self._pole[0])) % 360)
        self.dec = float(np.rad2deg(np.arcsin(self._pole[2])) + tilt)

    def at(self, seconds: ArrayLike) -> Surroundings:
        """Return the surroundings of the spacecraft at each time, shape (n,) [s]."""
        t = np.atleast_1d(np.asarray(seconds, float))
        position = self._position(t)
        velocity = 2 * np.pi / PERIOD * np.cross(self._pole, position)
        latitude, longitude = self._geographic(t, position)
        target = unit_vector(self.ra, self.dec)
        limb = self.limb_angle(t)
        sun, moon = _angle(self._sun(t), target), _angle(self._moon(t) - position, target)
        return Surroundings(position, velocity, latitude, longitude, sun, moon, limb)

    def limb_angle(self, seconds: ArrayLike) -> FloatArray:
        """Return the angle between the line of sight and the Earth's limb, shape (n,) [deg]."""
        position = self._position(np.atleast_1d(np.asarray(seconds, float)))
        dip = np.rad2deg(np.arccos((EARTH_RADIUS + ATMOSPHERE) / ORBIT_RADIUS))
        return np.asarray(90 - _angle(position, unit_vector(self.ra, self.dec)) + dip)

    def _position(self, t: FloatArray) -> FloatArray:
        argument = (2 * np.pi * t / PERIOD)[:, None]
        ahead = np.cross(self._pole, self._towards_node)
        return np.asarray(
            ORBIT_RADIUS * (np.cos(argument) * self._towards_node + np.sin(argument) * ahead)
        )

    def roll(self, seconds: FloatArray) -> FloatArray:
        """Return SC_ROLL_ANGLE at each time, shape (n,), without jumps of 360 deg."""
        position = self._position(seconds)
        a, d = np.deg2rad(self.ra), np.deg2rad(self.dec)
        east = np.array([-np.sin(a), np.cos(a), 0.0])
        north = np.array([-np.sin(d) * np.cos(a), -np.sin(d) * np.sin(a), np.cos(d)])
        nadir = np.arctan2(-position @ east, -position @ north)
        return np.asarray(np.rad2deg(np.unwrap(nadir + np.pi / 2 - NADIR)))

    def _geographic(self, t: FloatArray, position: FloatArray) -> tuple[FloatArray, FloatArray]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", erfa.ErfaWarning)
            rotation = erfa.era00(*self.clock.utc(t))
            x, y, z = (erfa.c2i06a(*self.clock.tt(t[t.size // 2])) @ position.T)[:]
        longitude = np.rad2deg(np.arctan2(y, x) - rotation)
        return np.rad2deg(np.arcsin(z / ORBIT_RADIUS)), (longitude + 180) % 360 - 180

    def _sun(self, t: FloatArray) -> FloatArray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", erfa.ErfaWarning)
            return np.asarray(-erfa.epv00(*self.clock.tt(t))[0]["p"])

    def _moon(self, t: FloatArray) -> FloatArray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", erfa.ErfaWarning)
            return np.asarray(erfa.moon98(*self.clock.tt(t))["p"] * 149597870.7)


def in_saa(latitude: ArrayLike, longitude: ArrayLike) -> BoolArray:
    """Return whether a position [deg] is in the South Atlantic Anomaly."""
    x = (np.asarray(longitude) - SAA_CENTRE[1]) / SAA_HALF_AXES[1]
    y = (np.asarray(latitude) - SAA_CENTRE[0]) / SAA_HALF_AXES[0]
    return np.asarray(x**2 + y**2 < 1)


@dataclass(frozen=True)
class Attitude:
    """Samples of the pointing, which is linear between them."""

    time: FloatArray  # [s]
    roll: FloatArray  # SC_ROLL_ANGLE without jumps [deg]
    x: FloatArray  # shift of the target from its intended position [pixel]
    y: FloatArray

    def at(self, seconds: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return roll [deg] and shift x, y [pixel] at each time."""
        roll, x, y = (
            np.interp(seconds, self.time, values) for values in (self.roll, self.x, self.y)
        )
        return roll, x, y


def draw_attitude(
    rng: np.random.Generator, orbit: Orbit, time: FloatArray, jitter: float, correlation: float
) -> Attitude:
    """Draw a pointing history with autoregressive errors.

    Parameters
    ----------
    rng : Generator
        Draws the errors.
    orbit : Orbit
        Gives the roll angle.
    time : ndarray, shape (n,)
        Times of the samples, equally spaced [s].
    jitter : float
        Error in each axis [pixel rms].
    correlation : float
        Time in which the correlation of the error falls by e [s].
    """
    if time.size < 2:
        raise ValueError(f"attitude has {time.size} samples, expected at least 2")
    keep = float(np.exp(-(time[1] - time[0]) / correlation))
    step = rng.normal(size=(2, time.size)) * np.sqrt(1 - keep**2)
    step[:, 0] /= np.sqrt(1 - keep**2)
    x, y = (
        jitter * np.array(list(accumulate(axis, lambda error, new: keep * error + new)))
        for axis in step.tolist()
    )
    return Attitude(time, orbit.roll(time), x, y)


def on_ccd(
    xi: ArrayLike, eta: ArrayLike, roll: ArrayLike, scale: float
) -> tuple[FloatArray, FloatArray]:
    """Return the position of a star relative to the target [pixel].

    At SC_ROLL_ANGLE 0 North is +y and East is -x; North turns towards +x as the roll increases.

    Parameters
    ----------
    xi, eta : array_like
        Standard coordinates [arcsec].
    roll : array_like
        SC_ROLL_ANGLE [deg].
    scale : float
        Size of a pixel [arcsec].
    """
    phi = np.deg2rad(roll)
    x = (-np.asarray(xi) * np.cos(phi) + np.asarray(eta) * np.sin(phi)) / scale
    y = (np.asarray(eta) * np.cos(phi) + np.asarray(xi) * np.sin(phi)) / scale
    return x, y


def line_of_sight(orbit: Orbit, attitude: Attitude, scale: float) -> tuple[FloatArray, FloatArray]:
    """Return the sky direction [deg] of the target's intended position, for each sample."""
    phi = np.deg2rad(attitude.roll)
    xi = scale * (-attitude.x * np.cos(phi) + attitude.y * np.sin(phi))
    eta = scale * (attitude.x * np.sin(phi) + attitude.y * np.cos(phi))
    return from_standard(-xi, -eta, orbit.ra, orbit.dec)


def from_standard(
    xi: ArrayLike, eta: ArrayLike, ra: float, dec: float
) -> tuple[FloatArray, FloatArray]:
    """Return the right ascension and declination [deg] of standard coordinates [arcsec].

    This is the inverse gnomonic projection about the centre `ra`, `dec` [deg].
    """
    x, y = np.deg2rad(np.asarray(xi) / 3600), np.deg2rad(np.asarray(eta) / 3600)
    d = np.deg2rad(dec)
    depth = np.cos(d) - y * np.sin(d)
    declination = np.arctan2(np.sin(d) + y * np.cos(d), np.hypot(x, depth))
    return (ra + np.rad2deg(np.arctan2(x, depth))) % 360, np.rad2deg(declination)


@dataclass(frozen=True)
class Housekeeping:
    """Voltages [V], temperatures [degC] and gain at a series of times."""

    true: dict[str, FloatArray]
    measured: dict[str, FloatArray]  # as transmitted
    gain: FloatArray  # [ADU/electron]


VOLTAGE_NOISE = {"VOD": 21.8e-6, "VRD": 16.2e-6, "VOG": 11.6e-6, "VSS": 6.6e-6}  # [V]
VOLTAGE_DRIFT = {"VOD": 28.4e-6, "VRD": -2.2e-6, "VOG": -3.1e-6, "VSS": 11.1e-6}  # [V/day]


def draw_housekeeping(
    rng: np.random.Generator, time: FloatArray, drift: float, warmer: float = 0.0
) -> Housekeeping:
    """Draw the housekeeping at each time.

    The true values drift and follow the orbit; the telemetry adds noise. The telescope's tube warms
    and cools by half a degree during an orbit, and settles after the slew to the target.

    Parameters
    ----------
    rng : Generator
        Draws the noise.
    time : ndarray, shape (n,)
        Times since the start of the visit [s].
    drift : float
        Scale of the drift of the voltages.
    warmer : float
        Temperature of the CCD relative to the usual one [degC].
    """
    days, orbit = time / DAY, 2 * np.pi * time / PERIOD
    true = {
        name: gain.VOLTAGES[name] + drift * VOLTAGE_DRIFT[name] * days for name in VOLTAGE_NOISE
    }
    true["CCD"] = np.full(time.size, layout.CCD_TEMPERATURE + warmer)
    true["ADC"] = -8.0 + 0.001 * np.sin(orbit)
    true["BIAS"] = -10.0 + 0.001 * np.cos(orbit)
    tube = 0.5 * np.sin(orbit) + 0.4 * np.exp(-days / 0.1)
    for i in range(1, 5):
        true[f"thermFront_{i}"] = TELESCOPE_TEMPERATURE - 0.2 + 0.1 * i + tube
        true[f"thermAft_{i}"] = TELESCOPE_TEMPERATURE + 0.8 + 0.1 * i + 0.8 * tube
    noise = dict(VOLTAGE_NOISE, CCD=1.1e-3, ADC=1e-4, BIAS=2e-4)
    measured = {
        name: values + noise.get(name, 0.0) * rng.normal(size=time.size)
        for name, values in true.items()
    }
    measured["ADC_N5V"] = np.full(time.size, -5.121)
    measured["ADC_TEMP1"] = 21.0 + np.sin(orbit)
    value = gain.gain(*(true[name] for name in ("VSS", "VOD", "VRD", "VOG", "CCD")))
    return Housekeeping(true, measured, value)
