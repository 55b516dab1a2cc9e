"""Smearing: where stars stand as charge passes them, and the time of a row shift."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.correction.smearing import SCATTER, column_profile, columns_passed, fit_time


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
    found, error, scattered = fit_time(measured, model, np.zeros(model.shape), tau)
    assert abs(found - tau) < 4 * error
    assert scattered == 0.0
    # hand-worked: noise over the root of the sum of squares; without the constant's part
    assert error == pytest.approx(noise / np.sqrt(np.sum((model - model.mean()) ** 2)), rel=0.1)


def test_images_without_smeared_light_give_no_time() -> None:
    dark = np.zeros((3, 20))
    assert fit_time(np.ones((3, 20)), dark, dark, 25e-6) == (0.0, float("inf"), 0.0)


@pytest.mark.parametrize(("light", "limit"), [(3e8, 0.005), (1e4, 0.05)])
def test_scattered_light_is_measured_beside_a_bright_star_only(light: float, limit: float) -> None:
    rng, tau, share = np.random.default_rng(2), 25e-6, 0.04
    away = np.arange(200.0) - np.linspace(-50, 250, 60)[:, None]  # the star crosses the window
    core = light * np.exp(-((away / 8) ** 2) / 2) / (8 * np.sqrt(2 * np.pi))
    wide = light * SCATTER / np.pi / (away**2 + SCATTER**2)
    measured = tau * (core + share * wide) + rng.normal(0, 3.0, away.shape)
    found = fit_time(measured, core, wide, tau)
    # with a faint star, the prior of 0 +- 0.05 remains
    assert abs(found.scattered - (share if light > 1e6 else 0.0)) < limit
    if light > 1e6:
        assert abs(found.time - tau) < 4 * found.error


def test_the_reference_extends_the_column_profile_beyond_the_stamp() -> None:
    # light that falls with the cube of the distance, on 40 x 40 pixels, and its middle 16 x 16
    j, i = np.mgrid[-20:20, -20:20] + 0.5
    plane = (1.0 + i**2 + j**2) ** -1.5
    fine = np.mgrid[-16:16, -16:16] / 2
    grid = (1.0 + (fine**2).sum(axis=0)) ** -1.5
    grid /= grid.sum()
    offsets, profile = column_profile(grid, plane)
    inside = plane[12:28, 12:28].sum()
    at = [int(np.flatnonzero(offsets == x)[0]) for x in (-15.5, 15.5)]
    # whole columns beside the stamp
    np.testing.assert_allclose(profile[at], plane.sum(axis=0)[[4, 35]] / inside, rtol=1e-12)
    above = plane[:, 20].sum() - plane[12:28, 20].sum()
    middle = int(np.flatnonzero(offsets == 0.5)[0])
    assert profile[middle] == pytest.approx(grid.sum(axis=0)[17] * 2 + above / inside)
    dark = column_profile(grid, np.zeros((40, 40)))
    for got, expected in zip(dark, column_profile(grid), strict=True):
        np.testing.assert_array_equal(got, expected)
