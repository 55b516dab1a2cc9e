"""Values that are far from their neighbours, and gaps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.numerics.series import far_from_neighbours


def noise(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(30.8, 1e-5, count)


@given(st.integers(4, 60), st.data())
def test_a_single_value_far_from_the_others_is_found_and_no_other(
    count: int, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, count - 1))
    size = data.draw(st.sampled_from([-31.0, -1.0, 1e-3, 0.5, 1e30]))
    values = noise(count, data.draw(st.integers(0, 99)))
    values[at] += size
    # 1 mV is a hundred times the noise; the noise of four values is not known well
    assert far_from_neighbours(np.arange(count), values, 3e-4).nonzero()[0].tolist() == [at]


@pytest.mark.parametrize("count", [5, 30, 1000])
def test_noise_drift_steps_and_gaps_are_no_outliers(count: int) -> None:
    time = np.arange(count, dtype=float)
    time[count // 2 :] += 40
    for values in (
        noise(count),
        noise(count) + 0.01 * time,
        noise(count) + (time >= time[count // 2]),
        10 * np.sin(time / 15.7),
        np.full(count, 30.8),
    ):
        assert not far_from_neighbours(time, values, 3e-4).any()


def test_a_glitch_beside_a_gap_is_found() -> None:
    time = np.r_[np.arange(20.0), 100 + np.arange(3.0), 200 + np.arange(20.0)]
    for at in (19, 20, 22, 23, 42):
        values = noise(time.size)
        values[at] += 0.01
        assert np.flatnonzero(far_from_neighbours(time, values, 3e-4)).tolist() == [at]


def test_differences_below_the_least_and_missing_values_are_no_outliers() -> None:
    values = np.full(20, 30.8)
    values[[3, 7]] = 30.8002, np.nan
    assert not far_from_neighbours(np.arange(20.0), values, 3e-4).any()
    assert far_from_neighbours(np.arange(20.0), values, 1e-4).tolist().index(True) == 3


def test_points_are_compared_by_their_distance() -> None:
    points = np.random.default_rng(2).normal(0, 1e-3, (50, 3))
    points[30] += 0.1 / np.sqrt(3)
    assert np.flatnonzero(far_from_neighbours(np.arange(50.0), points, 0.0)).tolist() == [30]


def test_three_values_decide_nothing() -> None:
    assert not far_from_neighbours(np.arange(3.0), np.array([1.0, 9e9, 1.0]), 0.1).any()
