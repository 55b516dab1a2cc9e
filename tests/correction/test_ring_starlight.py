"""Tests of the field stars' light that counts as background, and of the level it is part of."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from schemas.arrays import FloatArray
from schemas.settings import BackgroundSettings
from tasks.correction.background import HALO, Surroundings
from tasks.correction.ring import cells, ring_around
from tasks.correction.ring_starlight import starlight_in_level
from tasks.scene.optics import FINE
from tasks.scene.stars import Field
from tasks.scene.track import Track

SIDE, PLACE, SIZE, SMALL = 200, (100.0, 100.0), 200, 128
RING = BackgroundSettings()
THE_RING = ring_around(PLACE, (RING.inner, RING.outer), np.zeros((SIDE, SIDE), dtype=bool))
STILL = Track(np.array([-60.0, 60.0]), *np.zeros((3, 2)), 0.0)


def psf_of(size: int) -> FloatArray:
    """Return a PSF with wide wings on the fine grid of a stamp, not normalised."""
    samples = np.arange(FINE * size) - size
    away = np.hypot(samples[:, None], samples) / FINE
    return np.asarray(np.exp(-(away**2) / 50) + 0.02 / (1 + (away / 20) ** 2))


def rest_of(field: Field | None, floor: float = 900.0) -> Any:
    """Return images without effects, with the target in the middle."""
    images = SimpleNamespace(shape=(SIDE, SIDE), count=1, mjd=np.zeros(1))
    x, y = (np.array([place]) for place in PLACE)
    return SimpleNamespace(images=images, field=field, x=x, y=y, span=10.0, floor=np.array([floor]))


def star_at(distance: float, flux: float) -> Field:
    """Return a field of one star to the east of the target [pixel], drawn to 20 pixels."""
    psf = psf_of(SMALL)
    values = [np.array([v]) for v in (distance, 0.0, flux, 20.0)]
    return Field(*values, psf / psf.sum(), 1.0, 0.0, STILL, 0.0)


@pytest.mark.parametrize("distance", [0.0, 60.0, 130.0])
def test_wings_that_are_not_drawn_are_part_of_the_level(distance: float) -> None:
    field, whole = star_at(distance, 1e5), psf_of(SIZE)
    plane = whole[::FINE, ::FINE]
    found = starlight_in_level(rest_of(field), plane, THE_RING, RING.clip, np.zeros(1, int))
    # the same light by another way: the wings at the pixels of the ring, in units of the core's
    # light, outside of the square of the star's drawing and within the plane
    dx, dy = THE_RING.dx + distance, THE_RING.dy  # at roll 0 East is towards -x
    away = np.hypot(dx, dy)
    light = map_coordinates(whole, [SIZE + FINE * dy, SIZE + FINE * dx], order=1)
    unit = 1e5 * FINE**2 / psf_of(SMALL).sum()
    drawn = np.maximum(np.abs(dx), np.abs(dy)) < 20
    missing = np.where(~drawn & (away < SIZE / 2), unit * light, 0.0)
    # pixels on the border of the circles
    assert found == pytest.approx(missing.mean(), rel=0.02)
    assert found > 0.02


def test_without_field_stars_or_images_there_is_none() -> None:
    some = np.zeros(1, int)
    assert starlight_in_level(rest_of(None), None, THE_RING, RING.clip, some) == 0.0
    field = star_at(60.0, 1e5)
    assert starlight_in_level(rest_of(field), None, THE_RING, RING.clip, some[:0]) == 0.0


def test_bright_cores_are_clipped_as_they_are_in_the_level() -> None:
    """A star that is not drawn at all is as bright in the ring as if no catalogue had it."""
    field = star_at(60.0, 1e6)
    field.radius[:] = 0.0
    some = np.zeros(1, int)
    clipped, all_of_it = (
        starlight_in_level(rest_of(field), None, THE_RING, clip, some) for clip in (3.0, 1e9)
    )
    assert 0 < clipped < 0.5 * all_of_it


def surroundings(frames: FloatArray, steady: FloatArray, warmth: FloatArray) -> Surroundings:
    """Return the surroundings of a target of 1e7 electrons, in images with a known first level."""
    sky, count = object.__new__(Surroundings), len(frames)
    warm = SimpleNamespace(spread=0.5)
    sky.rest = SimpleNamespace(  # type: ignore[assignment]
        effects=SimpleNamespace(background=np.full(count, 200.0), slope=np.zeros((count, 2))),
        images=SimpleNamespace(count=count),
        without_field=lambda i: frames[i],
        model=SimpleNamespace(warm=warm),
        warmth=warmth,
        flux=np.full(count, 1e7),
    )
    sky.ring, sky.turn, sky.steady = THE_RING, np.zeros(count), steady
    sky.area = np.pi * (RING.outer**2 - RING.inner**2)
    return sky


@pytest.mark.parametrize("skew", [0.0, -60.0])
def test_the_level_does_not_depend_on_that_of_the_median_image(skew: float) -> None:
    """In a crowded field, the median of rotating stars is lower than their mean."""
    rng = np.random.default_rng(3)
    frames = 40.0 + rng.normal(0, 8, (4, SIDE, SIDE))
    steady = skew + rng.normal(0, 1, (SIDE, SIDE))
    windows = np.ones(cells(RING), dtype=bool)
    found, _ = surroundings(frames, steady, np.zeros(4)).measure(windows, RING.clip, np.ones(4))
    # 23 000 pixels of 8 electron
    np.testing.assert_allclose(found[:, 0], 240.0, atol=4 * 8 / np.sqrt(23_000))
    np.testing.assert_allclose(found[:, 1], 8 / np.sqrt(23_000), rtol=0.1)


def test_light_that_warmth_moves_into_the_ring_is_an_error_of_the_level() -> None:
    frames = np.random.default_rng(4).normal(0, 1, (3, SIDE, SIDE))
    warmth = np.array([0.0, -2.0, 4.0])  # of half a degree each
    windows = np.ones(cells(RING), dtype=bool)
    sky = surroundings(frames, np.zeros((SIDE, SIDE)), warmth)
    error = sky.measure(windows, RING.clip, np.ones(3))[0][:, 1]
    moved = HALO * 0.5 * np.abs(warmth) * 1e7 / sky.area
    np.testing.assert_allclose(error**2, error[0] ** 2 + moved**2, rtol=0.05)
    assert moved[2] > 5 * error[0]
