"""Slow changes are followed, noise is not; the dark current from dark columns and temperature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.simulate import simulate_into
from tasks.calibration.dark import temperature_factor
from tasks.calibration.dark_frames import shrink
from tasks.calibration.dark_scale import noisy_median, ratio_of_sums, ratio_of_totals
from tasks.calibration.drift import follow, slow
from tasks.correction.smearing import weighted_mean
from tasks.numerics.orbit import PERIOD
from tests.support.faults import put_together, take_apart
from tests.support.runs import Bench

HALF_HOUR = 0.5 / 24


def orbit_times(count: int) -> Any:
    """Return times of exposures of a minute, seen in 62 % of each orbit [day]."""
    time = np.arange(4 * count) / 1440
    return time[(time / PERIOD) % 1 < 0.62][:count]


def errors_of(truth: Any, time: Any, noise: float, seeds: int = 20) -> tuple[float, float]:
    """Return the rms of the actual and of the stated errors over some draws."""
    found = []
    for seed in range(seeds):
        values = truth + np.random.default_rng(seed).normal(0, noise, time.size)
        level, error = follow(time, values, np.full(time.size, noise), HALF_HOUR)
        found.append((np.mean((level - truth) ** 2), np.mean(error**2)))
    square, stated = np.mean(found, axis=0)
    return float(np.sqrt(square)), float(np.sqrt(stated))


@pytest.mark.parametrize("count", [12, 60, 300, 2000])
def test_a_constant_costs_one_parameter(count: int) -> None:
    time = orbit_times(count)
    reached, stated = errors_of(np.full(count, 627.6), time, 0.055)
    # a mean is good to noise / sqrt(n); a curve that was not needed is chosen in one draw of twenty
    # or so, of five parameters
    assert reached < 1.6 * 0.055 / np.sqrt(count)
    assert stated == pytest.approx(0.055 / np.sqrt(count), rel=0.3)


def test_a_drift_over_the_orbit_is_followed_to_a_hundredth_of_a_count() -> None:
    # half a count from peak to peak; the noise is that of 4000 margin pixels of 3.5 ADU
    time = orbit_times(300)
    phase = 2 * np.pi * time / PERIOD
    truth = 627.6 + 0.25 * np.sin(phase + 1) + 0.05 * np.cos(2 * phase)
    reached, stated = errors_of(truth, time, 0.055)
    # six parameters of 300 points: 0.055 sqrt(6 / 300) = 0.008; choosing among sets of columns
    # costs some more
    assert reached < 0.012
    assert 0.6 < reached / stated < 1.4


@pytest.mark.parametrize("period", [0.99 * PERIOD, 1.005 * PERIOD])
def test_an_orbit_of_another_length_is_followed_too(period: float) -> None:
    time = orbit_times(1500)
    reached, _ = errors_of(0.25 * np.sin(2 * np.pi * time / period), time, 0.055, 5)
    assert reached < 0.02  # a mean over half an hour: 0.03 to 0.05


def test_what_goes_with_a_temperature_is_followed_by_it() -> None:
    time = orbit_times(300)
    temperature = np.random.default_rng(5).normal(-10, 0.2, 300)  # goes with neither time nor orbit
    truth = 627.6 + 0.5 * temperature
    values = truth + np.random.default_rng(6).normal(0, 0.055, 300)
    level, _ = follow(
        time,
        values,
        np.full(300, 0.055),
        HALF_HOUR,
        [temperature, np.full(300, np.nan), np.ones(300)],
    )
    assert (
        np.std(level - truth) < 0.012
    )  # two parameters of 300 points: 0.0045; 0.1 without the temperature


def test_a_step_is_followed_as_far_as_the_window_lets() -> None:
    time = orbit_times(300)
    truth = np.where(time > time[130], 0.5, 0.0)
    level, _ = follow(
        time, truth + np.random.default_rng(1).normal(0, 0.055, 300), np.full(300, 0.055), HALF_HOUR
    )
    away = np.abs(time - time[130]) > HALF_HOUR
    assert (
        np.abs(level - truth)[away].max() < 0.1
    )  # the window's mean is good to 0.01; waves of the curve come on top


def test_outliers_are_ignored() -> None:
    time = orbit_times(300)
    values = np.random.default_rng(2).normal(0, 0.055, 300)
    values[::25] += 5.0
    level, _ = follow(time, values, np.full(300, 0.055), HALF_HOUR)
    assert np.abs(level).max() < 0.02


def test_missing_values_are_interpolated_unless_all_are_missing() -> None:
    time = orbit_times(100)
    values = np.where(np.arange(100) % 3 == 0, np.nan, 7.0)
    level, error = follow(time, values, np.full(100, 0.1), HALF_HOUR)
    assert np.allclose(level, 7.0, rtol=1e-12)
    assert np.isfinite(error).all()
    level, error = follow(time, np.full(100, np.nan), np.full(100, 0.1), HALF_HOUR)
    assert np.isnan(level).all()
    level, _ = follow(time[:1], np.array([3.0]), np.array([0.1]), HALF_HOUR)
    assert level.tolist() == [3.0]


def test_a_gain_that_drifts_by_a_millivolt_a_day_is_recovered_without_its_noise() -> None:
    # voltages scatter by some 20 microvolt, of which one volt is 3 % of the gain: 0.6 ppm of noise;
    # 1 mV a day is 30 ppm
    time = np.arange(0, 1, 1 / 1440)
    truth = 0.514 * (1 + 30e-6 * time)
    gain = truth * (1 + np.random.default_rng(3).normal(0, 0.6e-6, time.size))
    found, error = slow(time, gain, HALF_HOUR)
    slope = np.polyfit(time, found / truth[0], 1)[0]
    assert slope == pytest.approx(
        30e-6, rel=0.01
    )  # the fit of 1440 points is good to 0.05 ppm a day
    assert np.std(found / truth) < 0.05e-6
    assert 0 < np.mean(error / truth) < 0.05e-6


def test_constant_housekeeping_is_left_alone() -> None:
    still = np.full(50, 0.514)
    found, error = slow(np.arange(50.0), still, HALF_HOUR)
    assert found is still
    assert (error == 0).all()


def test_a_smooth_curve_through_gains_that_jump_can_leave_their_range() -> None:
    """This is why the gain is checked again after smoothing: no image has less than 0.001."""
    time = orbit_times(300)
    gain = np.where((time / PERIOD) % 1 < 0.5, 0.5, 0.001) * np.random.default_rng(1).uniform(
        0.999, 1.001, time.size
    )
    smooth, _ = slow(time, gain, HALF_HOUR)
    assert gain.min() > 0.0009
    assert smooth.min() < 0


# ---- dark current


def test_the_law_of_temperature_is_the_one_of_this_ccd() -> None:
    # by hand: (231.15 / 228.15)^3 exp(9080 / 228.15 - 9080 / 231.15) = 1.0400 x 1.6761
    assert temperature_factor(np.array([-42.0, -45.0]), -45.0) == pytest.approx(
        [1.7431, 1.0], rel=1e-4
    )


def test_a_map_that_is_all_noise_becomes_flat_and_hot_pixels_stay() -> None:
    rng = np.random.default_rng(1)
    error = np.full((200, 200), 0.02)
    map_ = 0.3 + rng.normal(0, 0.02, (200, 200))
    map_[::10, ::10] += 5.0
    cold = map_ < 1
    rate, left = shrink(map_, error)
    # no pixel differs truly: the rms is what the few that lie beyond their error keep
    assert np.std(rate[cold] - 0.3) < 0.2 * 0.02
    assert rate[::10, ::10] == pytest.approx(map_[::10, ::10], abs=0.001)  # 5 (1 - 0.02^2 / 5^2)
    assert (left <= error).all()


@pytest.mark.parametrize("spread", [0.0, 0.005, 0.02, 0.1])
def test_noise_of_the_map_is_never_injected(spread: float) -> None:
    rng = np.random.default_rng(2)
    truth = (
        0.3
        + spread * rng.normal(size=(200, 200))
        + np.where(rng.uniform(size=(200, 200)) < 0.05, 4.0, 0.0)
    )
    error = np.hypot(0.02, 0.01 * truth)
    rate, _ = shrink(truth + error * rng.normal(size=truth.shape), error)
    left = float(np.std(rate - truth))
    # the noise of the map, and (nothing taken from the map but its median) the truth itself, are
    # both worse
    assert left < min(np.sqrt(np.mean(error**2)), np.std(truth)) * 1.02


def test_a_map_without_errors_is_used_as_it_is() -> None:
    map_ = np.random.default_rng(3).uniform(0, 1, (20, 20))
    rate, error = shrink(map_, np.zeros((20, 20)))
    assert np.allclose(rate, map_, rtol=1e-15)
    assert (error == 0).all()


def test_the_scale_of_the_dark_current_is_that_of_most_pixels() -> None:
    rng = np.random.default_rng(4)
    rate = 20 * np.exp(0.2 * rng.normal(size=6400))
    expected = rate + rng.normal(
        0, 0.5, 6400
    )  # the map is noisy: a slope would come out low by 1.5 %
    measured = 1.3 * rate + rng.normal(0, 1.5, 6400)
    measured[::50] += rng.uniform(20, 4000, 128)  # hot since
    expected[::40], measured[::40] = 900.0, 2.0  # a hot pixel that went
    factor, error = ratio_of_sums(measured, expected)
    assert error == pytest.approx(1.6 / 20.4 / np.sqrt(6400), rel=0.15)
    # clipping at four sigma of a sample with a tail costs some tenths of a sigma more
    assert factor == pytest.approx(1.3, abs=5 * error)


def test_columns_without_charge_give_no_scale() -> None:
    assert np.isnan(ratio_of_sums(np.ones(100), np.zeros(100))).all()
    assert np.isnan(ratio_of_sums(np.full(100, np.nan), np.ones(100))).all()
    assert np.isnan(ratio_of_sums(np.ones(3), np.ones(3))).all()


def test_the_margin_and_the_clock_are_weighed_by_their_errors() -> None:
    # weights 4 and 1
    assert weighted_mean((25.0, 0.5), (30.0, 1.0)) == pytest.approx((26.0, 5**-0.5))
    assert weighted_mean((7.0, float("inf")), (25.0, 0.5)) == (25.0, 0.5)


def test_the_factor_of_one_value_a_side_is_that_of_their_sums_and_its_error_their_difference() -> (
    None
):
    factor, error = ratio_of_totals(
        np.array([13.0, 27.0]), np.array([0.3, 0.4]), np.array([10.0, 20.0])
    )
    # by hand: 40 / 30; errors 0.5 / 30, and half of 1.35 - 1.30
    assert factor == pytest.approx(4 / 3, rel=1e-15)
    assert error == pytest.approx(np.hypot(0.5 / 30, 0.025), rel=1e-12)
    for expected in ([10.0, 0.0], [10.0, -1.0]):
        assert np.isnan(
            ratio_of_totals(np.array([1.0, 2.0]), np.zeros(2), np.array(expected))
        ).all()
    assert np.isnan(ratio_of_totals(np.array([1.0, np.nan]), np.zeros(2), np.ones(2))).all()


def test_the_median_of_pixels_with_a_hot_tail_moves_when_they_are_noisy() -> None:
    rng = np.random.default_rng(5)
    charge = 48 * np.exp(0.2 * rng.normal(size=(2, 3200)))
    charge[:, :300] += rng.uniform(100, 4000, (2, 300))
    noise = np.sqrt(49 + charge)
    found = noisy_median(charge, noise)[:, 0]
    drawn = np.array(
        [np.median(charge + noise * rng.normal(size=charge.shape), axis=1) for _ in range(400)]
    )
    # the median of 3200 values scatters by 1.25 sigma / sqrt(3200) = 0.3 electron; of 400 such the
    # mean is good to 0.015
    assert found == pytest.approx(drawn.mean(axis=0), abs=4 * 0.015)
    assert (found - np.median(charge, axis=1) > 0.3).all()  # it is not the median without noise
    even = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]])
    assert noisy_median(even, np.full((1, 5), 2.0)) == pytest.approx(3.0, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("margins", ["image", "reduced", "total collapsed"])
def test_the_dark_columns_measure_how_warm_the_ccd_is(tmp_path: Path, margins: str) -> None:
    case = tmp_path / "warm.toml"
    case.write_text(
        'start = "2024-03-10T08:00:00"\nimages = 12\nnexp = 1\nexptime = 60.0\nmagnitude = '
        "11.0\nteff = 5200\n"
        f'transit = false\nccd_warmer = 3.0\nfull_frame = false\nmargins = "{margins}"\n'
    )
    simulate_into(tmp_path / "visit", str(case), None, 1, None)
    bench = Bench(tmp_path / "visit", (), tmp_path / "work", tmp_path / "products")
    _, run = bench.reduce(until="dark")
    (used,) = [report.leaf.used for report in run.reports if report.step == "dark"]
    scale, error = float(used["DARK_SCL"]), float(used["DARK_SCE"])
    assert scale == pytest.approx(
        float(temperature_factor(np.array([-42.0]), -45.0)[0]), abs=4 * error
    )
    # 0.1 count of bias is 0.5 % of the 40 electrons that a dark pixel holds; the rounding of a
    # median three times that
    assert error < (0.01 if margins == "image" else 0.02)
    assert used["DARK_SRC"] == "DarkLeft+DarkRight"
    # a factor in the settings is used whatever its value, without measuring the columns
    _, run = bench.reduce(until="dark", settings={"dark": {"scale": 0.0}})
    (leaf,) = [report.leaf for report in run.reports if report.step == "dark"]
    assert (leaf.used["DARK_SCL"], leaf.used["DARK_AVG"], leaf.warnings) == (0.0, 0.0, ())
    assert leaf.used["DARK_SRC"] == "setting"


def test_the_reason_why_the_dark_scale_was_not_measured_is_recorded(
    visit: Path, references: Path, tmp_path: Path
) -> None:
    bench = Bench(visit, (references,), tmp_path / "work", tmp_path / "products")

    def measure(**settings: bool) -> tuple[Any, ...]:
        _, run = bench.reduce(until="dark", settings={"dark": settings})
        (used,) = [report.leaf.used for report in run.reports if report.step == "dark"]
        return used["DARK_SRC"], used["DARK_SCL"], used["DARK_SCE"]

    assert measure(skip=True) == ("not measured: no dark current is subtracted", 1.0, 0.0)
    (path,) = visit.rglob("*SCI_RAW_SubArray*")
    whole = take_apart(path)
    put_together(path, [p for p in whole if not p.extname.startswith("SCI_RAW_Dark")])
    assert measure() == (
        "not measured: the visit has no dark columns with pixels or medians",
        1.0,
        0.0,
    )
    put_together(path, whole)
    for frame in references.rglob("*REF_APP_DarkFrame*"):
        put_together(
            frame, [p for p in take_apart(frame) if not p.extname.endswith(("Left", "Right"))]
        )
    assert measure() == ("not measured: the dark frames have no dark columns", 1.0, 0.0)
