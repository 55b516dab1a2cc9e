"""Times: UTC, MJD in TT, barycentric dates."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import erfa
import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline

from schemas.constants import DAY
from tasks.numerics import times
from tasks.numerics.times import (
    after_leap_second_expiry,
    bjd_tdb,
    leap_second_expiry,
    satellite_light_time,
    utc_to_mjd,
)
from tests.conftest import raw_file
from tests.support.outside import outside
from tests.support.runs import Bench

FLIGHT = ["PR110047_TG000401", "PR130057_TG003742", "PR149000_TG008901", "PR300024_TG000101"]

MICROSECOND = 1e-6 / DAY


def light_curve(visit: str) -> tuple[Any, float, float]:
    """Return the rows of a real light curve and the place of its star."""
    path = next(outside("real/flight").glob(f"CH_{visit}_*_SCI_COR_Lightcurve-DEFAULT_*.fits"))
    with fits.open(path, memmap=False) as hdus:
        return hdus[1].data, hdus[1].header["RA_TARG"], hdus[1].header["DEC_TARG"]


def to_utc(mjd_tt: Any) -> Any:
    """Return the UTC texts of dates, rounded to a microsecond."""
    mjd = np.atleast_1d(mjd_tt)
    day = np.floor(mjd)
    tai1, tai2, _ = erfa.ufunc.tttai(times.MJD_ZERO + day, mjd - day)
    utc1, utc2, _ = erfa.ufunc.taiutc(tai1, tai2)
    years, months, days, clocks, _ = erfa.ufunc.d2dtf(b"UTC", 6, utc1, utc2)
    return [
        f"{y:04d}-{m:02d}-{d:02d}T{c['h']:02d}:{c['m']:02d}:{c['s']:02d}.{c['f']:06d}"
        for y, m, d, c in zip(years, months, days, clocks, strict=True)
    ]


# Sun/planet mass ratios (Jupiter to Neptune) of DE200 and of DE405, to which erfa's series are
# fitted. The two barycentres lie about 1000 km apart, nearly all of it due to the mass of Neptune.
DE200 = {5: 1047.350, 6: 3498.0, 7: 22960.0, 8: 19314.0}

DE405 = {5: 1047.3486, 6: 3497.898, 7: 22902.98, 8: 19412.24}


def de200_light_time(mjd_tt: Any, right_ascension: float, declination: float) -> Any:
    """Return what to add to `bjd_tdb` [day] to refer to the barycentre of DE200, as the operational
    light curves do: the sum over the giant planets of (change of mass) x (heliocentric place).
    """
    ra, dec = np.radians(right_ascension), np.radians(declination)
    star = np.array([np.cos(ra) * np.cos(dec), np.sin(ra) * np.cos(dec), np.sin(dec)])
    mjd = np.asarray(mjd_tt, dtype=np.float64)
    shift = np.zeros((*mjd.shape, 3))
    for planet, ratio in DE200.items():
        place, _ = erfa.ufunc.plan94(times.MJD_ZERO, mjd, planet)
        shift -= (1 / ratio - 1 / DE405[planet]) * place["p"]
    return shift @ star * (times.AU / times.SPEED_OF_LIGHT / DAY)


# ---- UTC and MJD


@given(st.datetimes(min_value=datetime(1972, 1, 1), max_value=datetime(2037, 12, 31)))
def test_a_utc_survives_the_way_to_mjd_and_back(date: Any) -> None:
    text = date.isoformat(timespec="microseconds")
    # Exact: until MJD 65536 half a unit in the last place of a double is 0.31 microseconds, below
    # half a digit.
    assert to_utc(utc_to_mjd([text])) == [text]


def test_tt_is_69_184_seconds_ahead_of_utc_in_2020() -> None:
    # 37 leap seconds and 32.184 s by hand; MJD 59094 is 2020-09-02. Tolerance: one unit in the last
    # place.
    assert utc_to_mjd("2020-09-02T05:30:00.000000")[0] == pytest.approx(
        59094 + (5.5 * 3600 + 69.184) / DAY, abs=8e-12, rel=0
    )


def test_texts_bytes_and_left_out_decimals_mean_the_same() -> None:
    forms = ["2020-09-02T05:30:00.500000", "2020-09-02T05:30:00.5", "2020-09-02T05:30:00.500   "]
    mjd = [utc_to_mjd(form)[0] for form in forms] + [utc_to_mjd(forms[0].encode())[0]]
    assert len(set(mjd)) == 1
    assert utc_to_mjd("2020-09-02T05:30:00") == utc_to_mjd("2020-09-02T05:30:00.000000")


def test_tdb_runs_on_through_the_leap_second_of_2016() -> None:
    utc = [f"2016-12-31T23:59:{s:09.6f}" for s in np.arange(57, 61, 0.25)]
    utc += [f"2017-01-01T00:00:{s:09.6f}" for s in np.arange(0, 3, 0.25)]
    mjd = utc_to_mjd(utc)
    # Two roundings to 0.63 microseconds lie between neighbours.
    np.testing.assert_allclose(np.diff(mjd) * DAY, 0.25, atol=1.3e-6, rtol=0)
    # The Earth's motion makes a barycentric second at most 1.0001 s; a full Julian date is rounded
    # to 40 microseconds.
    np.testing.assert_allclose(
        np.diff(bjd_tdb(mjd, 10.0, 10.0)) * DAY, 0.25, atol=2.5e-5 + 8.1e-5, rtol=0
    )
    assert to_utc(mjd) == utc


def test_the_null_of_the_definitions_is_nan() -> None:
    assert np.isnan(utc_to_mjd(["1970-01-01T00:00:00.000000"])).all()


def test_no_rows_give_no_times() -> None:
    assert utc_to_mjd(np.array([], dtype="S26")).shape == (0,)
    assert bjd_tdb([], 10.0, 10.0).shape == (0,)


@pytest.mark.parametrize(
    "text",
    [
        "2020-09-02 05:30:00.000000",
        "2020-9-2T05:30:00.000000",
        "2020-09-02",
        "",
        "2020-09-02T05:30:00.0000001",
        "2020-09-02T05:30:00.0 1",
        "２020-09-02T05:30:00",
    ],
)
def test_a_text_of_another_form_is_refused_with_its_row(text: Any) -> None:
    with pytest.raises(ValueError, match=r"row 2: .* is not a UTC like"):
        utc_to_mjd(["2020-09-02T05:30:00.000000", text])


@pytest.mark.parametrize(
    "text",
    [
        "2020-02-30T00:00:00",
        "2020-13-01T00:00:00",
        "2020-01-01T24:00:00",
        "2017-12-31T23:59:60",
        "2016-12-31T12:00:60",
    ],
)
def test_a_time_that_does_not_exist_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match=f"row 1: '{text}' does not exist as date and time"):
        utc_to_mjd(text)


@pytest.mark.parametrize("visit", FLIGHT)
def test_the_times_of_real_light_curves_come_out_again(visit: Any) -> None:
    rows, _, _ = light_curve(visit)
    # One unit in the last place of the file's MJD.
    np.testing.assert_allclose(
        utc_to_mjd(rows["UTC_TIME"]), rows["MJD_TIME"], atol=MICROSECOND, rtol=0
    )


# ---- leap seconds


def test_a_date_of_2031_is_after_the_expiry_of_the_leap_seconds_and_still_converted() -> None:
    mjd = utc_to_mjd(["2020-09-02T05:30:00", "2100-01-01T00:00:00"])
    assert after_leap_second_expiry([*mjd, np.nan]).tolist() == [False, True, False]
    assert to_utc(mjd) == ["2020-09-02T05:30:00.000000", "2100-01-01T00:00:00.000000"]


def test_the_bundled_table_reaches_beyond_that_of_erfa_and_agrees_with_it() -> None:
    # 57754 is 2017-01-01, the last leap second known to the erfa that is pinned here.
    assert leap_second_expiry() > 57754
    assert float(erfa.dat(2016, 12, 31, 0.0)) == 36
    assert float(erfa.dat(2017, 1, 1, 0.0)) == 37


def test_a_leap_second_file_without_expiry_is_refused(tmp_path: Any, monkeypatch: Any) -> None:
    path = tmp_path / "Leap_Second.dat"
    path.write_text("41317.0    1  1 1972       10\n")
    monkeypatch.setattr(times, "IERS_LEAP_SECOND_FILE", str(path))
    with pytest.raises(ValueError, match="has no expiry date"):
        leap_second_expiry.__wrapped__()


# ---- barycentric dates

right_ascensions = st.floats(0, 360)

declinations = st.floats(-90, 90)


@given(st.floats(50000, 65000), right_ascensions, declinations)
def test_stars_on_opposite_sides_see_opposite_light_times(
    mjd: Any, right_ascension: Any, declination: Any
) -> None:
    here, there = (
        bjd_tdb(mjd, right_ascension, declination),
        bjd_tdb(mjd, right_ascension + 180, -declination),
    )
    tdb = 2400000.5 + mjd
    # Both dates rounded to 40 microseconds, and TDB - TT is at most 1.7 ms.
    assert abs((here - tdb) + (there - tdb)) * DAY < 2 * 0.0017 + 1e-4
    # The geocentre is at most 1.017 AU from the Sun and the Sun 0.0102 AU from the barycentre: 1.03
    # x 499.005 s.
    assert abs(here - tdb) * DAY < 1.03 * 499.005


def test_light_of_a_star_opposite_the_sun_is_8_minutes_early_at_the_barycentre() -> None:
    # At the equinox of 2020-03-20 03:50 UTC the Earth lies at RA 180: a star there is nearer by 1
    # AU to the Earth than to the Sun: + 499.005 s x 0.996 (distance at that date) = 497.0 s.
    # Tolerance: the Sun is up to 5 s from the barycentre.
    mjd = utc_to_mjd("2020-03-20T03:50:00")
    assert (bjd_tdb(mjd, 180.0, 0.0) - 2400000.5 - mjd)[0] * DAY == pytest.approx(497.0, abs=5)


@pytest.mark.parametrize("visit", FLIGHT)
def test_barycentric_dates_agree_with_real_light_curves(visit: Any) -> None:
    rows, right_ascension, declination = light_curve(visit)
    mjd, operational = rows["MJD_TIME"].astype(float), rows["BJD_TIME"].astype(float)
    ours = bjd_tdb(mjd, right_ascension, declination)
    # The operational barycentre is that of DE200, 1000 km off (old mass of Neptune): 3.1 ms at most
    # on these visits.
    assert np.abs(ours - operational).max() * DAY < 3.2e-3
    # With it, what is left is the rounding of two full Julian dates (40 microseconds each) and less
    # than that.
    moved = ours + de200_light_time(mjd, right_ascension, declination)
    assert np.abs(moved - operational).max() * DAY < 1.5e-4


def test_an_unknown_time_stays_unknown() -> None:
    assert np.isnan(bjd_tdb([np.nan, 59000.0], 10.0, 10.0)).tolist() == [True, False]


@pytest.mark.parametrize("place", [(10.0, 90.1), (10.0, np.nan), (np.nan, 10.0), (np.inf, 10.0)])
def test_a_star_that_is_nowhere_is_refused(place: Any) -> None:
    with pytest.raises(ValueError, match=r"deg is not a position on the sky"):
        bjd_tdb([59000.0], *place)


@given(st.floats(50000, 65000), right_ascensions, declinations)
def test_the_barycentre_of_de200_is_a_thousand_kilometres_away(
    mjd: Any, right_ascension: Any, declination: Any
) -> None:
    # Masses x distances by hand: Neptune 1190 km, Uranus 326 km, Saturn 13 km, Jupiter 1 km; all in
    # a line 5.1 ms.
    assert abs(de200_light_time(mjd, right_ascension, declination)) * DAY < 5.1e-3


def test_a_satellite_7071_km_towards_the_star_sees_it_23_6_milliseconds_early() -> None:
    x = 7071.0 * np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0]])
    # 7071 / 299792.458 = 0.0235863 s; tolerance: the digits written here.
    np.testing.assert_allclose(
        satellite_light_time(x, 0.0, 0.0) * DAY, [0.0235863, -0.0235863, 0], atol=5e-8
    )


def astropy_light_time(mjd: Any, position: Any, right_ascension: float, declination: float) -> Any:
    """Return by astropy how much later light passes the barycentre for a satellite than for the
    geocentre [s].
    """
    from astropy import units
    from astropy.coordinates import GCRS, ITRS, CartesianRepresentation, EarthLocation, SkyCoord
    from astropy.time import Time
    from astropy.utils import iers

    with iers.conf.set_temp("auto_download", False):
        when = Time(mjd, format="mjd", scale="tt")
        place = GCRS(CartesianRepresentation(*(np.asarray(position).T * units.km)), obstime=when)
        ground = place.transform_to(ITRS(obstime=when)).cartesian
        site = EarthLocation.from_geocentric(ground.x, ground.y, ground.z)
        star = SkyCoord(right_ascension, declination, unit="deg")
        centre = EarthLocation.from_geocentric(0, 0, 0, unit="m")
        there, here = (
            when.light_travel_time(star, "barycentric", location=x, ephemeris="builtin")
            for x in (site, centre)
        )
        return (there - here).to_value("s")


@given(
    mjd=st.floats(58500, 60000),
    right_ascension=st.floats(0, 360, exclude_max=True),
    declination=st.floats(-90, 90),
    angles=st.tuples(st.floats(0, 2 * np.pi), st.floats(-1, 1)),
)
@settings(max_examples=25)
def test_the_light_time_of_the_satellite_is_that_of_astropy(
    mjd: float, right_ascension: float, declination: float, angles: tuple[float, float]
) -> None:
    around, up = angles
    flat = np.sqrt(1 - up**2)
    place = 7078.0 * np.array([[flat * np.cos(around), flat * np.sin(around), up]])
    expected = astropy_light_time(np.array([mjd]), place, right_ascension, declination)
    # astropy turns the satellite's place as if it were a direction, by the aberration: 1e-4 of 24
    # ms
    np.testing.assert_allclose(
        satellite_light_time(place, right_ascension, declination) * DAY,
        expected,
        rtol=0,
        atol=2.6e-6,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tolerance"), [("DEFAULT", 2.6e-6), ("R40", 2.6e-6), ("IMAGETTE", 2e-5)]
)
def test_every_light_curve_holds_the_light_time_of_the_satellite(
    reduced: Bench, name: str, tolerance: float
) -> None:
    (folder,) = reduced.published()
    with fits.open(raw_file(folder, f"Lightcurve-{name}_V"), memmap=False) as hdus:
        rows, star = hdus[1].data, (hdus[1].header["RA_TARG"], hdus[1].header["DEC_TARG"])
        assert hdus[1].columns["SAT_LIGHT_TIME"].unit == "s"
    with fits.open(raw_file(reduced.visit, "AUX_RES_Orbit"), memmap=False) as hdus:
        orbit = hdus[1].data
    # the orbit has a row every minute: a cubic through four of them is good to some metres
    epoch = utc_to_mjd(orbit["EPOCH"])
    seconds = (rows["MJD_TIME"] - epoch[0]) * DAY
    axes = [CubicSpline((epoch - epoch[0]) * DAY, orbit[axis])(seconds) for axis in "XYZ"]
    expected = astropy_light_time(rows["MJD_TIME"], np.stack(axes, axis=1), *star)
    assert np.ptp(expected) > 1e-4
    np.testing.assert_allclose(rows["SAT_LIGHT_TIME"], expected, rtol=0, atol=tolerance)
    # BJD_TIME stays that of the geocentre, to what a double holds
    np.testing.assert_allclose(
        rows["BJD_TIME"], bjd_tdb(rows["MJD_TIME"], *star), rtol=0, atol=1e-9
    )


def test_a_position_of_two_coordinates_is_refused() -> None:
    with pytest.raises(ValueError, match=r"positions have shape \(5, 2\), expected \(n, 3\)"):
        satellite_light_time(np.zeros((5, 2)), 0.0, 0.0)
