"""Robust statistics against those of numpy and scipy."""

from __future__ import annotations

import numpy as np
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
