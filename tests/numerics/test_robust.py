"""Robust statistics against those of numpy and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.numerics.robust import (
    MAD_TO_SIGMA,
    median_of,
    middle_and_scatter,
    select,
    sort_values,
)


def test_middle_and_scatter_are_median_and_scaled_deviation() -> None:
    values = np.random.default_rng(12).normal(3.0, 2.0, 1001)
    middle, scatter = middle_and_scatter(values)
    assert middle == np.median(values)
    assert scatter == MAD_TO_SIGMA * np.median(np.abs(values - middle))


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_medians_and_sorted_values_are_those_of_numpy(values: list[float]) -> None:
    array = np.array(values)
    assert median_of(array.copy()) == np.median(array)
    ordered = array.copy()
    sort_values(ordered)
    np.testing.assert_array_equal(ordered, np.sort(array))
    k = len(values) // 3
    assert select(array.copy(), k) == ordered[k]


@pytest.mark.parametrize("size", [2047, 2048, 5001, 20000])
@pytest.mark.parametrize("kind", ["noise", "rising", "two values", "periodic", "one value"])
def test_the_median_of_many_values_is_that_of_numpy(size: int, kind: str) -> None:
    # a sample of them brackets the median; of those with a period, the sample is not like the rest
    rng, k = np.random.default_rng(size), np.arange(size)
    values = {
        "noise": rng.normal(size=size),
        "rising": np.exp(k / size),
        "two values": np.where(k < size // 2, 1.0, 2.0),
        "periodic": np.where(k % max(size // 512, 1) == 0, 1e3 + k, -k.astype(float)),
        "one value": np.full(size, 3.0),
    }[kind]
    assert median_of(values.copy()) == np.median(values)
