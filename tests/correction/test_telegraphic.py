"""Telegraphic pixels: found, told from smooth changes and cosmic rays, and followed from state to
state.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from schemas.arrays import FloatArray
from tasks.correction.telegraphic import find_telegraphic, split_levels, states

N = 128


def telegraph(
    rng: np.random.Generator, gap: float, dwell: float = 9.0, n: int = N
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Return a two-state signal of which each state lasts for `dwell` images on average, and where
    it is high.
    """
    flips = rng.random(n) < 1 / dwell
    high = (np.cumsum(flips) + rng.integers(2)) % 2 == 1
    return gap * high, high


def find(series: FloatArray, noise: float = 1.0) -> bool:
    found = np.zeros((1, 1), dtype=bool)
    cube = series.astype(np.float32)[:, None, None]
    find_telegraphic(cube, np.full((1, 1), noise), 4.0, 4.5, 7, found)
    return bool(found[0, 0])


def test_two_levels_are_split_where_the_scatter_within_them_is_least() -> None:
    # hand-worked: {1, 3} and {10, 14}: means 2 and 12, squares 1 + 1 + 4 + 4 = 10 of 4 values;
    # about one mean of 7: 110
    assert split_levels(np.array([14.0, 1.0, 10.0, 3.0])) == pytest.approx(
        (2.0, 12.0, 2.5, 27.5, 2)
    )


def test_pixels_that_jump_are_found() -> None:
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(200):
        signal, high = telegraph(rng, 6.0)
        if 7 <= high.sum() <= N - 7:
            found += find(signal + rng.normal(0, 1, N))
        else:
            found += 1  # one that stays in a state for nearly all of the visit cannot be known
    # wanted is completeness 0.9 at a gap of 4 sigma or more
    assert found >= 190


def test_a_cosmic_ray_does_not_hide_the_levels() -> None:
    rng = np.random.default_rng(2)
    signal, _ = telegraph(rng, 8.0)
    signal += rng.normal(0, 1, N)
    signal[17] += 500.0
    assert find(signal)


@pytest.mark.parametrize("what", ["noise", "hot", "cosmic rays", "sine", "drift"])
def test_pixels_without_jumps_are_not_telegraphic(what: str) -> None:
    rng = np.random.default_rng(3)
    found = 0
    for _ in range(300):
        series = rng.normal(0, 1, N)
        if what == "hot":
            series += 300.0
        elif what == "cosmic rays":
            series[rng.choice(N, 4, replace=False)] += rng.uniform(5, 500, 4)
        elif what == "sine":
            series += 20.0 * np.sin(2 * np.pi * (np.arange(N) / 90 + rng.random()))
        elif what == "drift":
            series += 30.0 * np.linspace(0, 1, N)
        found += find(series)
    assert found == 0


def test_states_and_levels_are_recovered() -> None:
    rng = np.random.default_rng(4)
    signal, truth = telegraph(rng, 5.0, n=600)
    series, high = 100.0 + signal + rng.normal(0, 1, 600), np.empty(600)
    low, top, chance = states(series, np.ones(600), high)
    # some 300 values in each level: errors of 0.06; 600 / 9 = 67 changes: 12 %
    assert low == pytest.approx(100.0, abs=0.25)
    assert top == pytest.approx(105.0, abs=0.25)
    assert chance == pytest.approx(1 / 9, rel=0.4)
    # 5 sigma apart, half a gap is 2.5 sigma: 0.6 % of values are nearer to the other level;
    # neighbours correct most
    assert np.mean((high > 0.5) != truth) < 0.01


def test_the_subtraction_does_not_change_the_noise() -> None:
    rng = np.random.default_rng(5)
    signal, _ = telegraph(rng, 10.0, n=600)
    noise = rng.normal(0, 1, 600)
    high = np.empty(600)
    low, top, _ = states(signal + noise, np.ones(600), high)
    left = signal + noise - low - high * (top - low)
    # the noise comes through unchanged: its scatter is known to 3 %
    assert np.std(left) == pytest.approx(np.std(noise), rel=0.03)


def test_missing_values_are_bridged() -> None:
    rng = np.random.default_rng(6)
    series = np.where(np.arange(100) < 50, 0.0, 20.0) + rng.normal(0, 1, 100)
    series[[10, 70]] = np.nan
    high = np.empty(100)
    states(series, np.ones(100), high)
    assert high[10] < 0.01
    assert high[70] > 0.99
