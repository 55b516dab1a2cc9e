"""Smearing: where stars stand as charge passes them, and the time of a row shift."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.correction.smearing import columns_passed, fit_time


def test_stars_above_count_where_an_exposure_began_and_those_below_where_it_ended() -> None:
    start = np.array([[10.0], [20.0], [30.0]]), np.array([[400.0], [100.0], [-300.0]])
    end = np.array([[13.0], [22.0], [33.0]]), np.array([[401.0], [101.0], [-299.0]])
    columns, rows = columns_passed(start, end, 200)
    np.testing.assert_array_equal(columns, [[10, 10], [20, 22], [33, 33]])
    np.testing.assert_array_equal(rows, [[400, 400], [100, 101], [-299, -299]])


def test_a_star_that_crosses_in_few_images_gives_the_time_of_a_shift() -> None:
    rng = np.random.default_rng(1)
    column, tau, noise = np.arange(200.0), 25e-6, 3.0
    model = np.zeros((100, 200))
    for k in range(5):  # of a hundred images
        model[k] = 5e6 * np.exp(-(((column - 40 * k) / 12) ** 2) / 2)
    measured = 7.0 + tau * model + rng.normal(0, noise, model.shape)
    measured[rng.integers(0, 100, 300), rng.integers(0, 200, 300)] += 500.0  # cosmic rays
    found, error = fit_time(measured, model)
    assert abs(found - tau) < 4 * error
    # hand-worked: noise over the root of the sum of squares; without the constant's part
    assert error == pytest.approx(noise / np.sqrt(np.sum((model - model.mean()) ** 2)), rel=0.1)


def test_images_without_smeared_light_give_no_time() -> None:
    assert fit_time(np.ones((3, 20)), np.zeros((3, 20))) == (0.0, float("inf"))
