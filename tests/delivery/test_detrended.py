"""The detrended companion of a light curve, as columns and keywords."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.arrays import AnyArray
from tasks.delivery.detrended import COLUMNS, KEYWORDS, TAKEN, at_times, detrended

N = 400


def light_curve(warm: float = -5e-4) -> tuple[dict[str, AnyArray], AnyArray]:
    """Return the columns of a light curve of 6.7 h, and the temperature that it follows."""
    rng = np.random.default_rng(2)
    hours = np.arange(N) / 60
    temperature = -10.0 + 0.4 * np.cos(2 * np.pi * hours / 1.646)
    flux = 1e6 * (1.0 + warm * (temperature + 10.0) + rng.normal(0, 2e-4, N))
    flux[7] = np.nan
    constant = {
        name: np.full(N, 3.0)
        for name in ("BACKGROUND", "CENTROID_X", "CENTROID_Y", "SMEARING_LC", "CONTA_LC")
    }
    flags = {name: np.zeros(N, np.int32) for name in ("EVENT", "QUALITY")}
    roll = (-360 * hours / 1.646) % 360
    bjd = 2459000.5 + hours / 24
    return {"FLUX": flux, "BJD_TIME": bjd, "ROLL_ANGLE": roll, **constant, **flags}, temperature


def test_flux_is_the_sum_of_the_companion_and_what_was_taken() -> None:
    columns, temperature = light_curve()
    made, keywords = detrended(columns, temperature, ())
    assert list(made) == [c.name for c in COLUMNS]
    assert set(keywords) == set(KEYWORDS)
    total = sum(made.values())
    np.testing.assert_allclose(total, columns["FLUX"], rtol=1e-14)
    assert np.flatnonzero(np.isnan(made["FLUX_DETRENDED"])).tolist() == [7]
    assert keywords["DET_TERM"] == "temperature"
    # 400 points of 200 ppm and 0.28 deg C: 35 ppm/degC
    assert keywords["DET_TEMP"] == pytest.approx(-500, abs=3 * 35)
    assert keywords["DET_PPM"] == pytest.approx(200, rel=0.15)
    assert keywords["DET_P2P"] == pytest.approx(200, rel=0.15)


def test_without_a_trend_the_companion_is_the_flux() -> None:
    columns, temperature = light_curve(0.0)
    made, keywords = detrended(columns, np.full_like(temperature, np.nan), ())
    np.testing.assert_array_equal(made["FLUX_DETRENDED"], columns["FLUX"])
    assert not any(made[column.name][8:].any() for column in TAKEN.values())
    assert keywords["DET_TERM"] == "none: no term stands out"
    assert keywords["DET_TEMP"] == 0.0


def test_no_keyword_is_nan_without_a_single_point() -> None:
    columns, temperature = light_curve()
    nothing = {**columns, "FLUX": np.full(N, np.nan), "BJD_TIME": np.full(N, np.nan)}
    made, keywords = detrended(nothing, temperature, ((2459000.6, 2.0),))
    assert np.isnan(made["FLUX_DETRENDED"]).all()
    assert all(np.isfinite(v) for v in keywords.values() if not isinstance(v, str))
    assert str(keywords["DET_TERM"]).startswith("none: fewer than")


def test_points_in_a_given_transit_do_not_enter_the_fit() -> None:
    """The transit is at 3 h and 1 h long: its 60 points may have any flux, and are counted."""
    columns, temperature = light_curve()
    middle = float(columns["BJD_TIME"][0]) + 3.0 / 24
    inside = np.abs(np.arange(N) / 60 - 3.0) < 0.5 - 1e-4
    other = {**columns, "FLUX": np.where(inside, 0.5 * columns["FLUX"], columns["FLUX"])}
    slopes = []
    for one in (columns, other):
        _, keywords = detrended(one, temperature, ((middle, 1.0),))
        assert (keywords["DET_TRAN"], keywords["DET_OUT"]) == (1, 59)
        slopes.append(keywords["DET_TEMP"])
    assert slopes[1] == pytest.approx(slopes[0], rel=0.02)  # through the median flux only


def test_temperatures_are_interpolated_between_images_out_of_order() -> None:
    mjd = np.array([3.0, 1.0, 2.0])
    values = np.array([30.0, 10.0, np.nan])
    np.testing.assert_allclose(at_times(mjd, values, np.array([1.5, 2.5])), [15.0, 25.0])
    assert np.isnan(at_times(mjd, np.full(3, np.nan), np.array([1.5]))).all()
