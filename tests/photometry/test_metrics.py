"""Metrics of light curves: the keywords of the operational pipeline, and honest ones."""

from __future__ import annotations

import warnings
from dataclasses import asdict

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.photometry.noise import (
    cdpp,
    clip_once,
    filtered_scatter,
    header_metrics,
    noise_metrics,
    point_to_point,
    robust_std,
)
from tests.support.outside import SHARED

Floats = NDArray[np.float64]

FLIGHT = SHARED / "real" / "flight"

needs_flight = pytest.mark.skipif(not FLIGHT.is_dir(), reason="the real light curves are not here")

VISITS = ["PR110047", "PR130057", "PR149000", "PR300024"]

MINUTE = 1 / 1440


def real(name: str) -> tuple[Floats, Floats, NDArray[np.int64], dict[str, float]]:
    """Return time [day], flux [electron], EVENT and header of a real light curve."""
    path = next(FLIGHT.glob(f"CH_{name}_*SCI_COR_Lightcurve-DEFAULT_V0300.fits"))
    with (
        warnings.catch_warnings(action="ignore"),
        fits.open(path) as file,
    ):  # units of the SOC are not FITS units
        table = file[1].data
        time, flux = table["BJD_TIME"].astype(float), table["FLUX"].astype(float)
        return time, flux, table["EVENT"].astype(np.int64), dict(file[1].header)


def white(n: int, sigma_ppm: float = 300.0, seed: int = 5) -> tuple[Floats, Floats]:
    noise = np.random.default_rng(seed).normal(size=n)
    return np.arange(n, dtype=np.float64) * MINUTE, 1e6 + sigma_ppm * noise


# ---- keywords of the operational pipeline


@needs_flight
@pytest.mark.parametrize("name", VISITS)
def test_the_header_of_real_light_curves_is_reproduced(name: str) -> None:
    time, flux, event, header = real(name)
    ours = header_metrics(time, flux, event, header["TEXPTIME"])
    assert ours.robmean == header["ROBMEAN"]
    assert ours.median == header["MEDIAN"]
    for keyword in ("ROBSTD", "MAD", "P2PSTD", "CDPP2_5", "CDPP6_5"):
        # 1e-11: headers hold 15 digits, differences of neighbours lose some to cancellation.
        assert getattr(ours, keyword.lower()) == pytest.approx(header[keyword], rel=1e-11), keyword


@needs_flight
def test_the_report_of_a_real_visit_is_reproduced_on_points_without_event() -> None:
    time, flux, event, _ = real("PR149000")
    good = event == 0
    # Table 2 of its report prints CDPP3h 119, CDPP6h 104 and MAD 803 ppm (a plain median deviation
    # there).
    assert cdpp(time[good], flux[good], 3, as_drp=True) == pytest.approx(119, abs=0.5)
    assert cdpp(time[good], flux[good], 6, as_drp=True) == pytest.approx(104, abs=0.5)
    scatter = noise_metrics(time, flux, ~good).scatter
    assert scatter / 1.4826 == pytest.approx(
        803, abs=0.6
    )  # the last digit, and median against mean as the unit


def test_header_metrics_leave_out_the_saa_and_nothing_else() -> None:
    time, flux = white(500)
    event = np.zeros(500, dtype=int)
    event[::7], event[3::7] = 100_901, 900
    flux_in_saa = flux.copy()
    flux_in_saa[::7] = 0.0
    kept = event != 100_901
    assert header_metrics(time, flux_in_saa, event, 60.0) == header_metrics(
        time[kept], flux[kept], event[kept], 60.0
    )


def test_header_metrics_of_a_ramp_worked_by_hand() -> None:
    # 1..9 e-: median and mean 5, deviations 4 3 2 1 0 1 2 3 4 of median 2, all differences alike.
    ours = header_metrics(np.arange(9.0), np.arange(1.0, 10.0), np.zeros(9, dtype=int), 2.0)
    assert (ours.robmean, ours.median) == (2, 2)  # 2.5 e-/s, cut
    assert ours.robstd == pytest.approx(1e6 * 1.482602218505602 * 2 / 5, rel=1e-14)  # rounding
    assert np.isnan([ours.mad, ours.p2pstd]).all()


def test_an_exposure_without_length_is_refused() -> None:
    with pytest.raises(ValueError, match="TEXPTIME is 0 s"):
        header_metrics([0, 1, 2], [1, 2, 3], [0, 0, 0], 0)


def test_events_of_other_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) events for \(3,\) fluxes"):
        header_metrics([0, 1, 2], [1, 2, 3], [0, 0], 60.0)


# ---- kernels


@given(st.floats(0.01, 1e6), st.floats(-1e6, 1e6))
def test_robust_scatter_follows_the_scale_and_ignores_the_level(scale: float, level: float) -> None:
    values = np.random.default_rng(1).normal(size=101)
    # 1e-5: a level of 1e6 leaves 1e-10 of rounding on a scatter of 0.01.
    assert robust_std(level + scale * values) == pytest.approx(scale * robust_std(values), rel=1e-5)


def test_a_wild_point_does_not_move_the_robust_scatter() -> None:
    _, flux = white(1001)
    spiked = flux.copy()
    spiked[500] = 1e12
    # The median deviation moves by one rank of 1001, some 0.1 %.
    assert robust_std(spiked) == pytest.approx(robust_std(flux), rel=0.01)


def test_point_to_point_noise_of_white_noise_is_its_sigma_and_blind_to_a_slope() -> None:
    _, flux = white(20_001)
    # The median of 2e4 differences scatters by 1 %.
    assert point_to_point(flux) == pytest.approx(300, rel=0.03)
    # A slope of 1 e- a point under noise of 300 e-.
    assert point_to_point(flux + np.arange(flux.size)) == pytest.approx(
        point_to_point(flux), rel=0.01
    )


def test_point_to_point_noise_worked_by_hand() -> None:
    # Differences 1, -2, 4: median size 2.
    assert point_to_point([0.0, 1.0, -1.0, 3.0]) == pytest.approx(
        1.482602218505602 * 2 / np.sqrt(2), rel=1e-14
    )  # rounding


def test_clipping_goes_one_round_only() -> None:
    # Median 3, median deviation 1, limit 4.45 (twice round: 2 and 0.., which would take the 7 too).
    np.testing.assert_array_equal(
        clip_once(np.array([2.0, 3.0, 3.0, 4.0, 2.0, 7.0, 1e3])), [2, 3, 3, 4, 2, 7]
    )


@pytest.mark.parametrize("hours", [0.5, 2.5, 3.0, 6.0])
@pytest.mark.parametrize("as_drp", [True, False])
def test_cdpp_of_white_noise_falls_with_the_root_of_the_window(hours: float, as_drp: bool) -> None:
    time, flux = white(20_000)
    # 2 %: the variance of 2e4 points is known to 1 %, its root to 0.5 %.
    assert cdpp(time, flux, hours, as_drp=as_drp) == pytest.approx(
        300 / np.sqrt(60 * hours), rel=0.02
    )


@settings(deadline=None)  # the first call may compile
@given(st.integers(0, 1000))
def test_cdpp_does_not_depend_on_the_order_of_points_or_the_unit_of_flux(seed: int) -> None:
    time, flux = white(200)
    shuffled = np.random.default_rng(seed).permutation(200)
    # 1e-9: the sum of the clipped mean runs in another order and is then taken from values near to
    # it.
    assert cdpp(time[shuffled], 7 * flux[shuffled], 0.5) == pytest.approx(
        cdpp(time, flux, 0.5), rel=1e-9
    )


def test_cdpp_worked_by_hand() -> None:
    # 1.1, 0.9, 1.0, 1.0 at steps of 1 h: windows of 2 have variances 0.02, 0.005, 0: sqrt(0.025 / 3
    # / 2).
    assert cdpp(np.arange(4) / 24, [1.1, 0.9, 1.0, 1.0], 2.0) == pytest.approx(
        1e6 * np.sqrt(0.025 / 6), rel=1e-12
    )


def test_only_our_cdpp_sees_the_hours_after_a_gap() -> None:
    minute = np.arange(4000)
    time, flux = white(4000)
    noisy_end = np.where(minute > 3500, 1e6 + 10 * (flux - 1e6), flux)
    kept = (minute < 1000) | (minute >= 2500)
    drp, ours = (cdpp(time[kept], noisy_end[kept], 0.5, as_drp=flag) for flag in (True, False))
    # 2500 points: the last window of the DRP ends at minute 2500, long before the noise starts at
    # 3501.
    assert drp == pytest.approx(
        300 / np.sqrt(30), rel=0.07
    )  # the root variance of 1000 points is known to 2.2 %
    assert ours > 2 * drp


def test_cdpp_over_more_than_the_visit_is_unknown_but_the_operational_pipeline_gives_a_number() -> (
    None
):
    time, flux = white(100)
    assert np.isnan(cdpp(time, flux, 2.5))
    assert cdpp(time, flux, 3, as_drp=True) == cdpp(time, flux, 6, as_drp=True) > 0


def test_a_garbled_time_does_not_fill_the_memory() -> None:
    time, flux = white(100)
    time[-1] = 1e9
    assert np.isnan(cdpp(time, flux, 0.5))


def test_cdpp_of_unequal_columns_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3,\) times for \(2,\) fluxes"):
        cdpp([0, 1, 2], [1, 1], 3)


def test_a_window_without_length_is_refused() -> None:
    with pytest.raises(ValueError, match="window of 0 h"):
        cdpp([0, 1, 2], [1, 2, 1], 0)


# ---- honest metrics


def test_noise_metrics_are_in_ppm_of_the_points_that_are_not_flagged() -> None:
    time, flux = white(2000)
    flagged = np.arange(2000) % 4 == 0
    flux[flagged] = 0.0
    flux[1] = np.nan
    ours = noise_metrics(time, flux, flagged)
    assert ours.valid_fraction == 100 * 1499 / 2000
    # The median deviation of 1499 points scatters by 3 %, the median difference by 4 %: three times
    # that.
    assert ours.scatter == pytest.approx(300, rel=0.10)
    assert ours.point_to_point == pytest.approx(300, rel=0.12)
    # 30 min hold 30 places, 22.5 of them filled; the definition credits all 30. 1500 points: 2 %.
    assert ours.cdpp_30min == pytest.approx(300 / np.sqrt(30), rel=0.06)
    assert ours.cdpp_6h == pytest.approx(300 / np.sqrt(360), rel=0.06)


@needs_flight
def test_noise_metrics_of_a_real_visit_are_near_those_published() -> None:
    time, flux, event, _ = real("PR149000")
    ours = noise_metrics(time, flux, event != 0)
    # Published: point to point 718, robust scatter 1181 ppm, with the one flagged point and other
    # units of flux.
    assert ours.point_to_point == pytest.approx(718, rel=0.03)
    assert ours.scatter == pytest.approx(1181, rel=0.01)


@pytest.mark.parametrize(
    "flux",
    [
        [],
        [1e6],
        [1e6, 1.1e6],
        [np.nan] * 50,
        [1e6] * 50,
        [np.nan, np.inf, 1e6, 1.1e6],
        [-1e6, -1.1e6, -1.3e6],
    ],
    ids=["nothing", "one point", "two points", "all NaN", "constant", "two finite", "negative"],
)
def test_too_little_to_measure_gives_nan_without_a_warning(flux: list[float]) -> None:
    time, none = np.arange(len(flux)) * MINUTE, np.zeros(len(flux), dtype=int)
    ours = asdict(noise_metrics(time, flux, none))
    ours.pop("valid_fraction")
    header = asdict(header_metrics(time, flux, none, 60.0))
    if (
        len(set(flux)) == 1 and len(flux) > 2 and np.isfinite(flux).all()
    ):  # a level it has, but no noise
        assert (header.pop("robmean"), header.pop("median")) == (16_666, 16_666)
    assert np.isnan([*ours.values(), *header.values(), cdpp(time, flux, 0.5)]).all()
    if not (np.asarray(flux) < 0).any():
        assert np.isnan([robust_std(flux), point_to_point(flux)]).all()


def test_simultaneous_points_have_no_time_step() -> None:
    assert np.isnan(cdpp(np.zeros(10), white(10)[1], 0.5))


def test_flags_of_other_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) flags for \(3,\) fluxes"):
        noise_metrics([0, 1, 2], [1, 2, 3], [False, False])


def transit(depth: float, sigma: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ten hours of minutes with gaps, and a transit of three hours with ingress of 20 min."""
    rng = np.random.default_rng(5)
    hours = np.arange(600) / 60
    hours = hours[(hours % 1.6) < 1.0]
    shape = np.clip((1.5 - np.abs(hours - 5)) / 0.33, 0, 1)
    return hours, 1e6 * (1 - depth * shape + rng.normal(0, sigma, hours.size))


def test_the_filtered_scatter_is_that_of_the_noise_whatever_the_transit() -> None:
    hours, flux = transit(depth=0.01, sigma=1e-4)
    # 375 points: 4 % for the error of a MAD, and the ingress is not filtered out
    assert filtered_scatter(hours, flux, 0.5) == pytest.approx(100, rel=0.15)
    # a third of the points are in the transit
    assert noise_metrics(hours / 24, flux, np.zeros(hours.size, bool)).scatter > 140
    hours, flux = transit(depth=0.0, sigma=1e-4)
    assert filtered_scatter(hours, flux, 0.5) == pytest.approx(100, rel=0.1)


def test_the_filtered_scatter_does_not_depend_on_order_and_needs_neighbours() -> None:
    hours, flux = transit(depth=0.01, sigma=1e-4)
    mixed = np.random.default_rng(1).permutation(hours.size)
    assert filtered_scatter(hours[mixed], flux[mixed], 0.5) == filtered_scatter(hours, flux, 0.5)
    assert np.isnan(filtered_scatter(hours * 100, flux, 0.5))
    assert np.isnan(filtered_scatter(hours[:0], flux[:0], 0.5))
    assert np.isnan(filtered_scatter(hours, np.zeros_like(flux), 0.5))
