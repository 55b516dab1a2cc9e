"""Tests of the light of field stars within circles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tasks.photometry.apertures import aperture_sums
from tasks.scene.circles import (
    VISIT_WING_ERROR,
    WING_ERROR,
    Circles,
    add_shares,
    circle_shares,
    cubic_weights,
)
from tasks.scene.optics import FINE
from tasks.scene.stars import draw_stars, phases

RADII = (15.0, 25.0, 40.0)


def three_lobes(size: int, end: float = np.inf) -> Any:
    """Return a wide PSF of `size` pixels on the fine grid, with wings out to `end` pixels."""
    y, x = (np.mgrid[: FINE * size, : FINE * size] - size) / FINE
    lobes = sum(
        np.exp(-((x - 6 * np.cos(a)) ** 2 + (y - 6 * np.sin(a)) ** 2) / (2 * 3.0**2))
        for a in (0.3, 2.4, 4.5)
    )
    away = np.hypot(x, y)
    psf = lobes + 0.1 * np.exp(-(away**2) / (2 * 22.0**2)) + 0.02 / (1 + (away / 20) ** 2)
    return np.where(away < end, psf, 0.0) / psf.sum()


@pytest.mark.parametrize(
    "place", [(0.0, 0.0), (3.3, -2.2), (20.1, 4.4), (33.3, 21.7), (-70.2, 10.4), (0.0, 98.0)]
)
def test_table_agrees_with_stars_that_are_drawn_and_summed(place: tuple[float, float]) -> None:
    psf, centre = three_lobes(128, end=60.0), (200.37, 199.81)
    image = np.zeros((400, 400))
    x, y = (np.array([[c - 0.5 + d]]) for c, d in zip(centre, place, strict=True))
    draw_stars(image, x, y, np.ones(1), phases(psf), np.array([63.0]))
    drawn, _ = aperture_sums(image[None], [centre[0]], [centre[1]], RADII)
    sums = np.zeros((3, len(RADII)))
    x, y = (np.array([[d]]) for d in place)
    add_shares(sums, x, y, np.ones(1), np.full(1, 0.1), circle_shares(psf, RADII))
    # drawing interpolates the PSF linearly, which moves 1e-4 of the light of lobes of 3 pixels
    np.testing.assert_allclose(sums[0], drawn[0], atol=1e-4)
    np.testing.assert_allclose(sums[1], 0.1 * sums[0])
    # of a star far outside rounding holds less than nothing
    np.testing.assert_allclose(sums[2], np.minimum(sums[0], 1 - sums[0]), atol=1e-15)


def test_path_of_a_star_counts_by_its_mean() -> None:
    shares = circle_shares(three_lobes(64), RADII)
    path = np.linspace(-30.0, 30.0, 7)[None]
    along, each = np.zeros((3, len(RADII))), np.zeros((3, len(RADII)))
    add_shares(along, path, 0.5 * path, np.ones(1), np.ones(1), shares)
    for x in path[0]:
        add_shares(each, *np.array([[[x]], [[0.5 * x]]]), np.ones(1) / 7, np.ones(1) / 7, shares)
    np.testing.assert_allclose(along[:2], each[:2], rtol=1e-12)


@pytest.mark.parametrize("place", [np.nan, np.inf, 1e30, -1e30, 1e3])
def test_places_outside_the_table_hold_no_light(place: float) -> None:
    sums = np.zeros((3, len(RADII)))
    shares = circle_shares(three_lobes(64), RADII)
    add_shares(sums, *np.array([[[place]], [[0.0]]]), np.ones(1), np.ones(1), shares)
    assert not sums.any()


def test_shares_fall_to_nothing_at_the_edge_of_the_table() -> None:
    shares = circle_shares(three_lobes(64), RADII)
    for edge in (shares[0], shares[-1], shares[:, 0], shares[:, -1]):
        assert not edge.any()
    assert shares.min() > -1e-6  # single precision of the transform


def test_weights_are_exact_for_a_parabola() -> None:
    weights = np.empty(4)
    for part in (0.0, 0.2, 0.5, 0.9):
        cubic_weights(part, weights)
        assert weights @ np.array([1.0, 0.0, 1.0, 4.0]) == pytest.approx(part**2)


def test_a_circle_holds_the_same_beside_any_others() -> None:
    psf = three_lobes(64)
    alone, beside = circle_shares(psf, [25.0]), circle_shares(psf, [12.5, 25.0, 50.0])
    np.testing.assert_array_equal(alone[..., 0], beside[..., 1])


def test_wings_that_the_reference_does_not_give_are_less_certain() -> None:
    psf = three_lobes(64)
    plane = three_lobes(100).reshape(100, 2, 100, 2).sum(axis=(1, 3))
    assert Circles.of(psf, None, RADII).wing_error == VISIT_WING_ERROR
    assert Circles.of(psf, plane, RADII).wing_error == WING_ERROR < VISIT_WING_ERROR
