"""Robust statistics against those of numpy and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from tasks.numerics.robust import MAD_TO_SIGMA, median_around, middle_and_scatter


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
