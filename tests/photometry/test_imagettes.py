"""Imagettes: what is taken over from the stacks, the circle, light beyond the window, and a star
that comes out whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from schemas.settings import DefectSettings
from tasks.correction.imagettes import COLUMNS, Stage
from tasks.photometry.imagettes import SMALLEST, Circle, fitting_radius, free_radii
from tasks.scene.imagettes import (
    Companions,
    ImagetteFits,
    ImagetteModel,
    between_stacks,
    free_radius,
    nearest_stack,
    part_of,
)
from tasks.scene.optics import render
from tasks.scene.star_model import Shape, Stamps, StarModel, Warmth
from tasks.scene.track import Track
from tasks.visit.clean import Effects
from tasks.visit.images import Imagettes
from tests.support.lobed_star import SIZE, solve_psf, star, visit

SIDE, CORNER, FLUX = 31, (412, 400), 1e6

LEVEL, SMEARED, EXCESS = 30.0, 12.0, 200.0

SLOPE = np.array([0.3, -0.2])  # electron per pixel, about the index (100, 100) of the sub-array


@pytest.fixture(scope="module")
def psf() -> StarModel:
    shape = Shape(solve_psf(visit(40), SIZE, 1e-8))
    return StarModel(
        shape, Warmth(0.0, 0.0), Stamps((68, 68), SIZE), np.ones((SIZE, SIZE)), 0.0, 40.0
    )


def stage(psf: StarModel, pixels: np.ndarray, place: tuple[float, float]) -> Stage:
    """Return the stage of one imagette at (90, 85) of the sub-array, with a stack of three
    exposures.
    """
    source: Any = None  # headers are not asked for
    imagettes = Imagettes(
        source,
        source,
        1,
        pixels.shape,
        np.ones(1),
        20.0,
        np.array([CORNER[0] + 90]),
        np.array([CORNER[1] + 85]),
        np.zeros(1),
    )
    static = np.zeros((200, 200))
    static[85 + 3, 90 + 4] = 3 * EXCESS
    x, y = np.array([CORNER[0] + 90 + place[0]]), np.array([CORNER[1] + 85 + place[1]])
    one = np.ones(1)
    effects = Effects(
        3 * LEVEL * one,
        np.full((1, 200), 3 * SMEARED),
        static,
        None,
        3 * SLOPE[None],
        (100.0, 100.0),
    )
    known = Companions(
        np.zeros(1, int),
        np.ones(1, bool),
        one / 3,
        20 * one,
        LEVEL * one,
        0.1 * one,
        (LEVEL + 50) * one,
        0 * one,
        x,
        y,
        0 * one,
        effects,
        CORNER,
    )
    pad = (64 - SIDE) // 2
    model = ImagetteModel(psf.resized(64, (-pad, -pad)), np.ones((200, 200)), CORNER)
    track = Track(np.arange(-30.0, 30.0), np.zeros(60), np.zeros(60), np.zeros(60), 0.0)
    unsteady = np.zeros((200, 200), bool)
    unsteady[85 + 8, 90 + 20] = True
    fits = ImagetteFits(imagettes, known, model, None, track)
    return Stage(imagettes, known, unsteady, fits, DefectSettings())


def model_of(done: Stage) -> ImagetteModel:
    assert done.fits is not None
    return done.fits.model


def test_known_effects_and_a_cosmic_ray_are_removed_from_an_imagette(psf: StarModel) -> None:
    truth = FLUX * star(16.2, 14.9, SIDE)
    rows, columns = np.mgrid[85 : 85 + SIDE, 90 : 90 + SIDE]
    image = truth + LEVEL + SMEARED + SLOPE[0] * (columns - 100) + SLOPE[1] * (rows - 100)
    image[8, 20] -= 2000.0  # a pixel that is known to jump
    image[3, 4] += EXCESS
    image[20, 15] += 3000.0
    image[0, 0] = np.nan
    # the expected place is half a pixel off: the fit must find the star
    done = stage(psf, image, (16.4, 15.0))
    found = dict(zip(COLUMNS, done.clean(0, image), strict=True))
    assert (found["HITS"], found["VALIDITY"]) == (1, 0)
    # Newton steps stop below 1e-4 pixel; the hit pixel, taken for star at first, pulls by less
    assert found["X"] == pytest.approx(CORNER[0] + 90 + 16.7, abs=1e-3)
    assert found["Y"] == pytest.approx(CORNER[1] + 85 + 15.4, abs=1e-3)
    assert found["FLUX"] == pytest.approx(FLUX, rel=1e-4)
    assert np.isnan(image[0, 0])
    image[0, 0] = truth[0, 0]
    # the brightest pixel holds 7e3 electrons, and 1e-3 pixel of a lobe of 2.5 pixels are 2e-4 of it
    assert np.abs(image - truth).max() < 3.0


def test_a_circle_cut_by_the_window_is_filled_by_the_model(psf: StarModel) -> None:
    whole = FLUX * star(15.0, 15.0, SIDE)
    image = whole.copy()
    image[:, :3] = np.nan
    done = stage(psf, image, (15.5, 15.5))
    circle = Circle(done.imagettes, done.known, model_of(done), 14.0)
    total, area, share, flux, error, chi2 = circle.measure(
        0, image, 15.5, 15.5, (np.zeros(1), np.zeros(1)), np.zeros((SIDE, SIDE))
    )
    full, _ = circle.sum(whole, 15.5, 15.5)
    # the model is good to 1e-7 (prior and lobes beyond the stamp), its part of the circle small
    assert total == pytest.approx(full, rel=1e-6)
    assert area < np.pi * 14.0**2 - 10
    assert share == pytest.approx(full / FLUX, rel=1e-6)
    assert flux == pytest.approx(FLUX, rel=1e-6)
    assert 0 < error < np.sqrt(2 * FLUX)
    assert chi2 < 1e-3  # there is no noise


def test_a_smaller_stamp_shows_the_same_star(psf: StarModel) -> None:
    small = psf.resized(48, (76, 76))
    still = np.zeros(1), np.zeros(1)
    images = []
    for model in (psf, small):
        star_image = model.star(np.zeros((200, 200)), 100.3, 99.8, 1.0, 1.0, still)
        images.append(render(model.psf.mean, star_image.transfer(model.where.size)))
    # what the cut takes away, the lobes' light beyond 24 pixels, is 1e-6 of the star
    assert np.abs(images[0][8:56, 8:56] - images[1])[6:-6, 6:-6].max() < 1e-7


def test_the_free_radius_ends_at_the_nearest_missing_pixel_or_edge() -> None:
    missing = np.zeros((11, 11), bool)
    assert free_radius(missing, 5.5, 5.0) == 5.0
    missing[5, 9] = True  # spans 9 to 10 in x and 5 to 6 in y
    assert free_radius(missing, 5.5, 5.5) == 3.5
    assert free_radius(missing, 9.5, 5.5) == 0
    assert free_radius(missing, -3.0, 5.5) == 0


def test_an_imagette_belongs_to_the_nearest_stack_in_any_order() -> None:
    assert nearest_stack(np.array([0.2, 0.9, 2.6, 9.0]), np.array([3.0, 0.0, 1.0])).tolist() == [
        1,
        2,
        0,
        0,
    ]


def test_imagettes_beside_a_damaged_stack_have_the_background_of_the_sound_ones() -> None:
    # in any order; the middle stack is damaged, and its background 0
    stacks, values = np.array([3.0, 2.0, 1.0]), np.array([120.0, 0.0, 100.0])
    known = np.array([True, False, True])
    between = between_stacks(np.array([0.5, 1.5, 2.0, 3.5]), stacks, values, known)
    assert between == pytest.approx([100, 105, 110, 120], rel=1e-12)
    # without any there is nothing else
    nothing = between_stacks(np.array([1.5]), stacks, values, np.zeros(3, dtype=bool))
    assert nothing == pytest.approx([50], rel=1e-12)


def test_the_radius_fits_in_the_given_share_of_the_imagettes() -> None:
    free = np.array([12.9, 14.3, 14.4, 14.6, 15.0, np.nan])
    assert fitting_radius(free, 1.0) == 12.5
    assert fitting_radius(free, 0.75) == 14.0


def test_damaged_imagettes_do_not_lower_the_radius_of_the_others() -> None:
    images = np.ones((12, SIDE, SIDE))
    images[[2, 5, 6]] = np.nan

    class Small:
        count = 12

        def blocks(self) -> Any:
            yield slice(0, 12), images

    place = np.full(12, 15.5)
    imagettes: Any = Small()
    free = free_radii(imagettes, place, place)
    assert np.flatnonzero(np.isnan(free)).tolist() == [2, 5, 6]
    assert fitting_radius(free, 0.99) == 15.5


def test_without_a_star_in_any_imagette_the_radius_is_the_smallest() -> None:
    assert fitting_radius(np.array([np.nan]), 0.9) == SMALLEST
    assert fitting_radius(np.zeros(0), 0.9) == SMALLEST


def test_an_imagette_holds_its_share_of_a_stack_and_lies_inside_of_it() -> None:
    stack = np.arange(30.0).reshape(5, 6)
    assert part_of(stack, 0.5, 2, 1, (2, 3)).tolist() == [[4, 4.5, 5], [7, 7.5, 8]]
    with pytest.raises(
        ValueError,
        match=r"imagettes of 3 x 2 pixels at \(4, 1\) leave the sub-array of \(6, 5\) pixels",
    ):
        part_of(stack, 0.5, 4, 1, (2, 3))
