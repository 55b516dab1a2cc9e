"""Robust statistics against those of numpy and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st

from tasks.numerics.robust import (
    MAD_TO_SIGMA,
    median_around,
    median_of,
    middle_and_scatter,
    select,
    sort_values,
)


@pytest.mark.parametrize("side", [3, 5, 9])
def test_the_median_around_every_pixel_is_that_of_scipy(side: int) -> None:
    image = np.rint(np.random.default_rng(11).normal(0, 3, (20, 30)))  # many equal values
    wanted = scipy.ndimage.median_filter(image, side, mode="nearest")
    np.testing.assert_array_equal(median_around(image, side), wanted)


def test_an_image_of_nan_has_medians_of_nan() -> None:
    assert np.isnan(median_around(np.full((4, 4), np.nan), 3)).all()


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
