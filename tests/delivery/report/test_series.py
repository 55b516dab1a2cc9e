"""Statistics of points and quantities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.delivery.report.series import (
    axis_limits,
    bin_medians,
    harmonics,
    ranks,
    relation,
    relative_flux,
    removed_variance,
)


def test_flux_is_relative_to_the_median_of_good_points() -> None:
    relative = relative_flux(
        np.array([1.0, 2.0, 3.0, 1e9, np.nan]), np.array([True, True, True, False, False])
    )
    np.testing.assert_allclose(relative[:3], [-5e5, 0, 5e5])
    assert relative[3] > 1e14
    assert np.isnan(relative_flux(np.array([-1.0, -2.0]), np.array([True, True]))).all()


def test_bins_hold_medians_and_break_the_line_where_points_are_missing() -> None:
    hours = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 2.0, 2.1, 2.2])
    middles, medians = bin_medians(hours, np.array([1.0, 9.0, 2.0, 5.0, 6.0, 7.0, 8.0, 30.0]), 0.25)
    np.testing.assert_array_equal(middles, [0.125, 0.375, 2.125, 2.375])
    np.testing.assert_array_equal(
        medians, [2.0, np.nan, 8.0, np.nan]
    )  # [0.25, 0.5) holds only two points
    assert bin_medians(np.empty(0), np.empty(0), 0.25)[0].size == 0


def test_a_single_spike_does_not_stretch_the_axis_but_a_transit_does() -> None:
    noise = 100 * np.random.default_rng(1).normal(size=500)
    spike, transit = noise.copy(), noise.copy()
    spike[100] = 1e5
    transit[200:300] -= 1e4
    low, high = axis_limits(spike)
    assert high < 2000
    assert low > -2000
    assert axis_limits(transit)[0] < -1e4


def test_coefficients_and_slope_of_four_points_worked_by_hand() -> None:
    # dx = -1.5, -0.5, 0.5, 1.5; dy = -2, 0, -1, 3: sums of products 7, of squares 5 and 14;
    # residual 14 - 49 / 5
    found = relation(np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0, 6.0]))
    assert found.pearson == pytest.approx(7 / np.sqrt(70))
    assert found.spearman == pytest.approx(0.8)
    assert found.slope == pytest.approx(1.4)
    assert found.slope_error == pytest.approx(np.sqrt(4.2 / 2 / 5))


def test_a_quantity_whose_squares_underflow_still_has_a_slope() -> None:
    found = relation(1e-200 * np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0, 6.0]))
    assert found.slope == pytest.approx(1.4e200)
    assert found.pearson == pytest.approx(7 / np.sqrt(70))


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    np.testing.assert_array_equal(ranks(np.array([5.0, 1.0, 5.0, 9.0])), [2.5, 1.0, 2.5, 4.0])


def test_removed_variance_is_free_of_the_noise_that_both_stages_share() -> None:
    rng = np.random.default_rng(6)
    star, cosmic = 1000 * rng.normal(size=400), 30 * rng.normal(size=400)
    removed, error = removed_variance(star + cosmic, star)
    # 900 beside a shared variance of 1e6, of which two independent samples would differ by 1e5
    assert abs(removed - 900) < 4 * error
    assert 500 < error < 5000  # 2 x 30 x 1000 / sqrt(400) = 3000
    assert removed_variance(star, star + cosmic) == (-removed, error)
    assert removed_variance(star + 8, star) == pytest.approx(
        (0.0, 0.0), abs=1e-6
    )  # rounding of squares of 1e6


def test_a_single_outlier_does_not_count_as_removed_variance_nor_do_two_points() -> None:
    noise = np.random.default_rng(7).normal(size=100)
    hit = noise.copy()
    hit[50] = 1e6
    assert removed_variance(hit, noise)[0] == 0.0
    assert np.isnan(removed_variance(np.array([1.0, 2.0]), np.array([1.0, 2.0]))).all()


def test_three_harmonics_are_found_with_half_of_their_range() -> None:
    angle = np.linspace(0, 359, 200)
    curve = harmonics(
        angle, 5 + 100 * np.cos(np.radians(angle)) + 10 * np.sin(np.radians(3 * angle))
    )
    np.testing.assert_allclose(curve.coefficients, [5, 100, 0, 0, 0, 0, 10], atol=1e-9)
    assert curve.amplitude == pytest.approx(100, abs=10)
    assert curve.error < 1e-9
    assert curve.at(np.array([0.0]))[0] == pytest.approx(105)
    assert np.isnan(harmonics(angle[:20], angle[:20]).amplitude)


def test_noise_alone_makes_a_curve_of_the_size_of_its_error() -> None:
    rng = np.random.default_rng(9)
    angle = rng.uniform(0, 360, 600)
    found = [harmonics(angle, 50 * rng.normal(size=600)) for _ in range(40)]
    rms = [np.std(curve.at(angle)) for curve in found]
    # the mean square of a curve is sigma^2 k / n, known from 40 curves of six coefficients to 9
    # percent
    assert np.sqrt(np.mean(np.square(rms))) == pytest.approx(
        np.mean([c.error for c in found]), rel=0.3
    )


@pytest.mark.parametrize(
    ("x", "y"),
    [([1.0, 2.0], [1.0, 2.0]), ([1.0] * 9, range(9)), (range(9), [3.0] * 9), ([], [])],
    ids=["two points", "constant x", "constant y", "none"],
)
def test_a_constant_quantity_has_no_correlation(x: Any, y: Any) -> None:
    assert np.isnan(relation(np.array(x, dtype=float), np.array(y, dtype=float)).pearson)


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=3, max_size=30))
def test_a_coefficient_lies_between_minus_and_plus_one_and_changes_sign_with_a_quantity(
    pairs: list[tuple[float, float]],
) -> None:
    x, y = np.array(pairs).T
    found, turned = relation(x, y), relation(-x, y)
    if np.isfinite(found.pearson):
        assert abs(found.pearson) <= 1 + 1e-6
        assert abs(found.spearman) <= 1 + 1e-6
        assert turned.pearson == pytest.approx(-found.pearson, abs=1e-6)
