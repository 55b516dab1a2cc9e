"""Times: UTC as written in the files, MJD in TT, and the full barycentric Julian date in TDB.

Nothing here uses the network: leap seconds come from the package astropy-iers-data.
"""

from __future__ import annotations

import os
import re
import time
from functools import cache
from pathlib import Path

import erfa
import numpy as np
import numpy.typing as npt
from astropy_iers_data import IERS_LEAP_SECOND_FILE  # type: ignore[import-untyped]

from schemas.arrays import BoolArray, BytesArray, FloatArray
from schemas.constants import DAY
from schemas.errors import ConfigurationError

MJD_ZERO = 2400000.5  # JD of MJD 0

SPEED_OF_LIGHT = 299792.458  # km/s

AU = 149597870.7  # km

NO_UTC = b"1970-01-01T00:00:00.000000"  # "no time" of the definitions; NaN as MJD

_YEAR_10000 = 253402300800.0  # seconds since 1970

_TEMPLATE = np.frombuffer(b"0000-00-00T00:00:00.000000", dtype=np.uint8)

_DIGIT = ord("0")

_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def now() -> str:
    """Return the present UTC as yyyy-mm-ddThh:mm:ss, or SOURCE_DATE_EPOCH [s since 1970] if set.

    Raises
    ------
    ConfigurationError
        If that is later than the year 9999.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    seconds = float(epoch) if epoch.isdecimal() else time.time()
    if seconds >= _YEAR_10000:
        raise ConfigurationError(f"SOURCE_DATE_EPOCH is {epoch[:40]}, expected seconds since 1970")
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


@cache
def leap_second_expiry() -> float:
    """Give erfa the bundled leap seconds, and return the date until which they are complete.

    Returns
    -------
    float
        Expiry date [MJD].

    Raises
    ------
    ValueError
        If the bundled file names no expiry date.
    """
    text = Path(IERS_LEAP_SECOND_FILE).read_text(encoding="ascii")
    found = re.search(r"expires on (\d+) (\w{3})\w* (\d{4})", text)
    if found is None:
        raise ValueError(f"{IERS_LEAP_SECOND_FILE} has no expiry date")
    rows = np.loadtxt(text.splitlines(), usecols=(3, 2, 4))
    erfa.leap_seconds.update(np.array([tuple(r) for r in rows], dtype=erfa.dt_eraLEAPSECOND))
    month = _MONTHS.index(found[2]) + 1
    return float(erfa.cal2jd(int(found[3]), month, int(found[1]))[1])


def after_leap_second_expiry(mjd: npt.ArrayLike) -> BoolArray:
    """Return which dates are after the expiry of the leap seconds: their UTC may be 1 s off.

    Parameters
    ----------
    mjd : array_like, shape (n,)
        Dates [MJD].

    Returns
    -------
    ndarray of bool, shape (n,)
        True where a leap second may be missing. False where `mjd` is NaN.
    """
    return np.asarray(np.asarray(mjd, dtype=np.float64) > leap_second_expiry())


def _texts(utc: npt.ArrayLike) -> BytesArray:
    """Return texts as bytes, shape (n,)."""
    given = np.atleast_1d(np.asarray(utc))
    return (
        np.char.encode(given, "ascii", "replace")
        if given.dtype.kind == "U"
        else given.astype(np.bytes_)
    )


def _digits(text: BytesArray) -> npt.NDArray[np.int64]:
    """Return the digits of each text, missing decimals as 0, shape (n, 26); reject bad rows."""
    width = max(26, text.dtype.itemsize)
    codes = np.frombuffer(text.astype(f"S{width}").tobytes(), dtype=np.uint8).reshape(-1, width)
    blank = np.logical_and.accumulate(((codes == 0) | (codes == ord(" ")))[:, ::-1], axis=1)[
        :, ::-1
    ]
    full = np.where(blank[:, :26] & (np.arange(26) >= 19), _TEMPLATE, codes[:, :26])
    right = np.where(
        _TEMPLATE == _DIGIT, (full >= _DIGIT) & (full <= _DIGIT + 9), full == _TEMPLATE
    )
    wrong = ~np.concatenate([right, blank[:, 26:]], axis=1)
    _refuse(np.asarray(wrong.any(axis=1)), text, "is not a UTC like 2020-09-02T05:30:00.000000")
    return full.astype(np.int64) - _DIGIT


def _refuse(bad: BoolArray, text: BytesArray, why: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"row {row + 1}: {text[row].decode('ascii', 'replace')!r} {why}")


def utc_to_mjd(utc: npt.ArrayLike) -> FloatArray:
    """Convert UTC texts to MJD in TT.

    A double resolves 0.6 microseconds at these dates: until 2038 the text can be recovered from the
    result.

    Parameters
    ----------
    utc : array_like of str or bytes, shape (n,)
        Dates as yyyy-mm-ddThh:mm:ss.ffffff, with up to 6 decimals. The second may be 60 where a
        leap second is.

    Returns
    -------
    ndarray, shape (n,)
        Dates [MJD, TT]. NaN where the text is the definitions' null, 1970-01-01T00:00:00.

    Raises
    ------
    ValueError
        If a text has another form, or the date or time does not exist; names the row.
    """
    leap_second_expiry()
    text = _texts(utc)
    digit = _digits(text)

    def number(start: int, stop: int) -> npt.NDArray[np.int32]:
        places: npt.NDArray[np.int64] = 10 ** np.arange(stop - start - 1, -1, -1)
        return (digit[:, start:stop] @ places).astype(np.int32)

    second = number(17, 19) + number(20, 26) / 1e6
    date = [number(*place) for place in ((0, 4), (5, 7), (8, 10), (11, 13), (14, 16))]
    # The ufuncs return a status where erfa's functions warn: 1 is a date beyond the leap seconds.
    utc1, utc2, status = erfa.ufunc.dtf2d(b"UTC", *date, second)
    _refuse((status < 0) | (status > 1), text, "does not exist as date and time")
    tai1, tai2, _ = erfa.ufunc.utctai(utc1, utc2)
    tt1, tt2, _ = erfa.ufunc.taitt(tai1, tai2)
    return np.where(np.char.startswith(text, NO_UTC[:19]), np.nan, (tt1 - MJD_ZERO) + tt2)


def _direction(right_ascension: float, declination: float) -> FloatArray:
    """Return the unit vector (3,) to a position on the sky [deg]."""
    if not (np.isfinite(right_ascension) and -90 <= declination <= 90):
        raise ValueError(
            f"right ascension {right_ascension}, declination {declination} deg is not a position "
            f"on the sky"
        )
    ra, dec = np.radians(right_ascension), np.radians(declination)
    return np.array([np.cos(ra) * np.cos(dec), np.sin(ra) * np.cos(dec), np.sin(dec)])


def bjd_tdb(mjd_tt: npt.ArrayLike, right_ascension: float, declination: float) -> FloatArray:
    """Return the barycentric date of light that reaches the geocentre at `mjd_tt`.

    BJD = JD(TDB) + r.n / c, with the barycentric position r of the geocentre and the direction n of
    the star.

    Neglected are the position of the satellite (`satellite_light_time`, up to 24 ms, a column of
    its own in light curves), the Shapiro delay (0.01 ms away from the Sun), and parallax and proper
    motion of the star. The operational light curves refer to the barycentre of DE200 and differ by
    up to 4 ms. A double resolves 0.04 ms here.

    Parameters
    ----------
    mjd_tt : array_like, shape (n,)
        Dates at the geocentre [MJD, TT].
    right_ascension, declination : float
        Position of the star, ICRS [deg].

    Returns
    -------
    ndarray, shape (n,)
        Dates at the barycentre [full Julian date, TDB]. NaN where `mjd_tt` is NaN.

    Raises
    ------
    ValueError
        If the position is not finite or the declination beyond 90 deg.
    """
    star = _direction(right_ascension, declination)
    mjd = np.asarray(mjd_tt, dtype=np.float64)
    tdb_minus_tt = erfa.ufunc.dtdb(MJD_ZERO, mjd, 0.0, 0.0, 0.0, 0.0) / DAY
    with np.errstate(invalid="ignore"):  # NaN in, NaN out
        _, earth, _ = erfa.ufunc.epv00(MJD_ZERO, mjd + tdb_minus_tt)
    light_time = earth["p"] @ star * (AU / SPEED_OF_LIGHT / DAY)
    return np.asarray(MJD_ZERO + (mjd + (tdb_minus_tt + light_time)))


def satellite_light_time(
    position: npt.ArrayLike, right_ascension: float, declination: float
) -> FloatArray:
    """Return the light time from the satellite to the geocentre, to add to `bjd_tdb`.

    Parameters
    ----------
    position : array_like, shape (n, 3)
        Position of the satellite relative to the geocentre, EME2000 [km].
    right_ascension, declination : float
        Position of the star, ICRS [deg].

    Returns
    -------
    ndarray, shape (n,)
        Light travel time [day]; positive where the satellite is nearer to the star than the
        geocentre.

    Raises
    ------
    ValueError
        If `position` does not have three coordinates, or the star's position is invalid.
    """
    place = np.asarray(position, dtype=np.float64)
    if place.ndim != 2 or place.shape[1] != 3:
        raise ValueError(f"positions have shape {place.shape}, expected (n, 3)")
    return np.asarray(place @ _direction(right_ascension, declination) / SPEED_OF_LIGHT / DAY)
