"""The ring of the background in windows of all sizes."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.settings import BackgroundSettings
from tasks.numerics.robust import median_of_known, ring_statistics
from tasks.scene.ring import FEWEST_PIXELS, fit_ring

RING = BackgroundSettings()


def window(side: int) -> np.ndarray:
    return np.ones((side, side), dtype=bool)


def test_a_window_with_enough_of_the_ring_keeps_it() -> None:
    assert fit_ring(RING, window(200), 100.0, 100.0) == RING
    # a target at the edge has enough sky on one side
    assert fit_ring(RING, window(200), 3.0, 100.0) == RING


@pytest.mark.parametrize(("side", "place"), [(60, 30.0), (60, 10.0), (30, 15.0), (10, 5.0)])
def test_in_a_small_window_the_outermost_pixels_show_the_background(
    side: int, place: float
) -> None:
    ring = fit_ring(RING, window(side), place, side / 2)
    out = np.empty((1, 4))
    image = np.full((1, side, side), 7.0)
    centre = np.array([place]), np.array([side / 2])
    ring_statistics(image, *centre, ring.inner, ring.outer, ring.clip, out)
    assert out[0, 1] == 7.0
    assert out[0, 3] >= min(FEWEST_PIXELS, side**2)
    assert ring.outer > ring.inner


def test_a_window_without_pixels_keeps_the_ring() -> None:
    assert fit_ring(RING, ~window(60), 30.0, 30.0) == RING


def test_a_median_ignores_what_is_missing() -> None:
    values = np.arange(12.0).reshape(3, 2, 2)
    assert np.array_equal(median_of_known(values), np.median(values, axis=0))
    values[0, 0, 0] = np.nan  # 4 and 8 are left
    values[:, 1, 1] = np.inf
    median = median_of_known(values.astype(np.float32))
    assert median.tolist()[0] == [6.0, 5.0]
    assert np.isnan(median[1, 1])
    assert median.dtype == np.float32
