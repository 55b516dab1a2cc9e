"""First look: which images tell later steps what is usual."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from schemas.errors import NoScienceDataError
from tasks.scene.look import Seen, blur_warnings, crossed, follow, median_image, shows_star
from tasks.scene.track import Track

SHAPE = 200, 200

PLACE = np.array([100.0, 100.0])

NOISE = 12.0  # electron


def sky(count: int, seed: int) -> np.ndarray:
    """Return images of noise, with a hot pixel in a hundred, shape (count, 200, 200)."""
    rng = np.random.default_rng(seed)
    hot = np.where(rng.random(SHAPE) < 0.01, 500.0, 0.0)
    return (hot + rng.normal(0, NOISE, (count, *SHAPE))).astype(np.float32)


def trail(strength: float, offset: float = 20.0, width: float = 12.0) -> np.ndarray:
    """Return a trail as wide as the PSF across the window, `strength` electrons a pixel in its
    middle.
    """
    j, i = np.indices(SHAPE)
    away = (j - i) / np.sqrt(2) - offset
    return np.asarray(strength * np.exp(-((away / width) ** 2) / 2))


@pytest.mark.parametrize(
    "strength", [NOISE, 100 * NOISE]
)  # the fainter one is never three sigma above its surroundings
def test_an_image_crossed_by_a_satellite_is_found(strength: float) -> None:
    sample = sky(30, 1)
    sample[[4, 17]] += trail(strength).astype(np.float32)
    assert np.flatnonzero(crossed(sample, PLACE, 45.0, 1.0)).tolist() == [4, 17]


def test_noise_and_cosmic_rays_make_no_image_special() -> None:
    sample = sky(30, 2)
    rng = np.random.default_rng(3)
    for image in sample:
        image[rng.integers(0, 200, 100), rng.integers(0, 200, 100)] += 5000.0
    assert not crossed(sample, PLACE, 45.0, 1.0).any()


def test_stars_that_turn_with_the_field_make_no_image_special() -> None:
    sample = sky(36, 4)
    j, i = np.indices(SHAPE)
    rng = np.random.default_rng(5)
    for radius, phase in zip(rng.uniform(55, 95, 20), rng.uniform(0, 2 * np.pi, 20), strict=True):
        for k, image in enumerate(sample):
            angle = phase + 2 * np.pi * k / len(sample)
            x, y = PLACE[0] + radius * np.cos(angle), PLACE[1] + radius * np.sin(angle)
            image += (300.0 * np.exp(-((i - x) ** 2 + (j - y) ** 2) / 200.0)).astype(np.float32)
    assert not crossed(sample, PLACE, 45.0, 1.0).any()


def test_negligible_deviations_are_ignored() -> None:
    sample = np.zeros((20, *SHAPE), np.float32)  # without noise anything stands out
    sample[3] += trail(0.5).astype(np.float32)
    assert not crossed(sample, PLACE, 45.0, 1.0).any()
    assert np.flatnonzero(crossed(sample, PLACE, 45.0, 0.1)).tolist() == [3]


def test_few_images_do_not_define_the_usual_sky() -> None:
    sample = sky(11, 6)
    sample[3] += trail(100 * NOISE).astype(np.float32)
    assert not crossed(sample, PLACE, 45.0, 1.0).any()


def seen(flux: list[float]) -> Seen:
    """Return the target in images with a ring of unit noise; 5 sigma are 222 electrons."""
    count = len(flux)
    rings = np.tile([0.0, 0.0, 1.0, 1e4], (count, 1))
    return Seen((np.zeros(count), np.zeros(count)), rings, np.zeros((count, 5)), np.array(flux))


def test_images_without_the_star_have_little_of_its_light_or_none() -> None:
    # a deep transit; noise; what a neighbour leaves; nothing
    flux = [1e6, 0.5e6, 1e6, 200.0, 0.05e6, np.nan, 1e6]
    flags = np.zeros(len(flux), np.int32)
    expected = [True, True, True, False, False, False, True]
    assert shows_star(seen(flux), flags, (1.0, 2.0)).tolist() == expected


def test_a_star_that_shows_in_no_image_is_no_science_data() -> None:
    with pytest.raises(NoScienceDataError, match=r"outside of the window, or is much fainter"):
        shows_star(seen([100.0, 200.0]), np.zeros(2, np.int32), (1.0, 2.0))


def test_a_pixel_lost_in_one_image_does_not_darken_the_median_image() -> None:
    sample = np.full((3, 2, 2), 5.0, np.float32)
    sample[1, 0, 0], sample[:, 1, 1] = np.nan, np.nan
    assert median_image(sample).tolist() == [[5.0, 5.0], [5.0, 0.0]]


def test_images_without_light_do_not_move_the_usual_place() -> None:
    still = np.zeros(1000)
    track = Track(np.arange(1000.0), still, still, still, 59000.0)
    images: Any = SimpleNamespace(
        nexp=1, exposure_time=60.0, mjd=59000.0 + np.arange(5) * 100.0 / 86400.0 + 1e-3
    )
    places = np.full((5, 5), 10.0)  # the first guess of the image without light is the last
    places[:4, 0] += 0.1, 0.2, 0.3, 0.4
    flux = np.array([1e6, 1e6, 1e6, 1e6, 0.0])
    nothing = np.zeros(5)
    seen = Seen((nothing, nothing), np.zeros((5, 4)), places, flux)
    follow(track, images, seen)
    assert seen.places[:4, 0] == pytest.approx(10.25)
    assert seen.places[4, 0] == 10.0


def test_motion_that_is_unknown_in_a_part_of_the_sample_is_named() -> None:
    (warning,) = blur_warnings(2, 5)
    assert warning.startswith("the motion in 2 of the 5 images that show the PSF is unknown: ")
    assert blur_warnings(0, 5) == blur_warnings(5, 5) == []
