"""Medians of the squares around pixels."""

from itertools import product

import numpy as np
import pytest
from scipy.ndimage import median_filter

from tasks.numerics.squares import median_network, median_of_squares


def middle_of(values: list[float]) -> float:
    """Return what a network puts in the middle, comparator by comparator."""
    for a, b, smaller, larger in median_network(len(values)):
        low, high = sorted((values[a], values[b]))
        values[a] = low if smaller else np.nan
        values[b] = high if larger else np.nan
    return values[len(values) // 2]


def test_a_network_finds_the_median_of_nine_zeros_and_ones_in_any_order() -> None:
    # a network of comparators that sorts all of these sorts any values (Knuth's 0-1 principle)
    for values in product((0.0, 1.0), repeat=9):
        assert middle_of(list(values)) == float(sum(values) > 4)


@pytest.mark.parametrize("n", [1, 3, 25, 49, 81])
def test_a_network_finds_the_median_of_any_values(n: int) -> None:
    values = np.random.default_rng(n).normal(size=(200, n))
    assert [middle_of(list(row)) for row in values] == np.median(values, axis=1).tolist()


@pytest.mark.parametrize("side", [1, 3, 5, 7, 9])
@pytest.mark.parametrize("shape", [(1, 1), (4, 3), (16, 40), (33, 17)])
def test_squares_have_the_medians_of_scipy_to_the_last_bit(
    side: int, shape: tuple[int, int]
) -> None:
    image = np.random.default_rng(side).normal(size=shape).round(1)
    expected = median_filter(image, side, mode="nearest")
    assert np.array_equal(median_of_squares(image, side), expected)


def test_a_hot_pixel_does_not_change_the_median_of_a_plane() -> None:
    plane = np.add.outer(np.arange(9.0), 10.0 * np.arange(9.0))
    image = plane.copy()
    image[4, 4] = 1e6
    # 33 34 35 43 45 53 54 55 and the hot pixel: the fifth is 45
    assert median_of_squares(image, 3)[4, 4] == 45.0
    assert median_of_squares(plane, 3)[4, 4] == plane[4, 4]


def test_the_image_itself_is_not_changed() -> None:
    image = np.random.default_rng(0).normal(size=(20, 20))
    before = image.copy()
    median_of_squares(image, 5)
    assert np.array_equal(image, before)


def test_a_square_without_a_pixel_in_its_middle_is_rejected() -> None:
    with pytest.raises(ValueError, match="a square of 4 pixels a side has no pixel in its middle"):
        median_of_squares(np.zeros((8, 8)), 4)
