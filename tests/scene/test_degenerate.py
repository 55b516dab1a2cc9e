"""The scene with hardly anything in it: one to three images, no pixels, no light, a flat core."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from schemas.arrays import FloatArray
from schemas.light_curves import DEFAULT_RADIUS, RADII, Way
from schemas.settings import OptimalSettings, PsfSettings
from tasks.correction.background import spikes, steep
from tasks.correction.hits import field_doubt
from tasks.correction.smearing import fit_time
from tasks.photometry.apertures import aperture_sums, is_cut
from tasks.photometry.optimal import choose, list_candidates
from tasks.photometry.quality import light_lost, make_up, median_share
from tasks.scene.field_fluxes import fit_factors
from tasks.scene.light import centre_of_light
from tasks.scene.look import crossed
from tasks.scene.optics import fit_star, to_grid, to_spectrum
from tasks.scene.psf import alternate, point_source, prior_scale, reference_psf, weigh
from tasks.scene.residuals import Residuals
from tasks.scene.star_model import Shape, Stamps, Star, StarModel, Warmth
from tasks.scene.track import Track, estimate_lag
from tests.support.lobed_star import SIZE, star

MIDDLE = SIZE / 2, SIZE / 2
STILL = np.zeros(1), np.zeros(1)
SETTINGS = PsfSettings(size=SIZE, radius=25.0)


def seen(stamp: FloatArray, flux: float = 1e6) -> Star:
    """Return a star at rest in the middle of a stamp."""
    return Star(stamp, 100.0, *MIDDLE, flux, STILL)


def lobed(level: float = 1e6) -> FloatArray:
    """Return the stamp of a star of a million electrons, cut off at a level."""
    return np.minimum(1e6 * star(*MIDDLE), level)


def model(psf: FloatArray) -> StarModel:
    """Return a model from a PSF on the fine grid."""
    scale, where = np.ones((SIZE, SIZE)), Stamps((0, 0), SIZE)
    return StarModel(Shape(to_spectrum(psf)), Warmth(0.0, 0.0), where, scale, 0.0, 25.0)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("level", [1e6, 2000.0], ids=["sound", "saturated"])
def test_one_to_three_images_give_a_psf_of_unit_light(count: int, level: float) -> None:
    stars = [seen(lobed(level)) for _ in range(count)]
    psf, scale, rounds = alternate(stars, MIDDLE, SETTINGS, None, None, False)
    grid = to_grid(psf.mean)
    assert rounds == SETTINGS.rounds
    assert np.isfinite(grid).all()
    assert grid.sum() == pytest.approx(1.0)
    assert (scale >= 1).all()
    # a flat core has less light than the star, and the fit shows it; without a reference PSF the
    # prior, which weighs as much as one image, weakens the PSF by a tenth
    light = lobed(level).sum()
    assert all(s.flux == pytest.approx(light, rel=0.2) for s in stars)


@pytest.mark.parametrize("empty", [np.nan, 0.0])
def test_stars_without_pixels_or_light_leave_the_psf_to_the_others(empty: float) -> None:
    alone = [seen(lobed())]
    with_empty = [seen(lobed()), seen(np.full((SIZE, SIZE), empty), 0.0 if empty == 0 else 1e6)]
    assert (weigh(with_empty) > 0).tolist() == [True, False]
    settings = SETTINGS.model_copy(update={"rounds": 1, "enough": 4})
    grids = [
        to_grid(alternate(stars, MIDDLE, settings, None, None, False)[0].mean)
        for stars in (alone, with_empty)
    ]
    # the prior is weaker for two images than for one
    assert np.allclose(*grids, atol=0.1 * grids[0].max())


def test_without_any_light_the_psf_stays_as_it_was() -> None:
    stars = [seen(np.full((SIZE, SIZE), np.nan)) for _ in range(3)]
    psf, _, _ = alternate(stars, MIDDLE, SETTINGS, None, None, False)
    assert np.allclose(to_grid(psf.mean), point_source(SIZE))
    begin = model(point_source(SIZE))
    psf, _, _ = alternate(stars, MIDDLE, SETTINGS, None, begin, False)
    assert psf is begin.psf


@pytest.mark.parametrize("pixels", [0, 1, 3])
def test_a_star_on_too_few_pixels_has_no_flux_and_no_error(pixels: int) -> None:
    stamp = np.full((SIZE, SIZE), np.nan)
    stamp[32, 32 : 32 + pixels] = 100.0
    fitted = seen(stamp)
    fine = point_source(SIZE)
    image, errors = model(fine).fit(fitted)
    assert fitted.flux == 0.0
    assert (fitted.x, fitted.y) == MIDDLE
    assert np.isinf(errors).all()
    assert not image.any()
    # the caller keeps its guess
    guess = np.array([32.5, 32.5, 0.1, 0.1, 1.0])
    image: Any = SimpleNamespace(
        compact=model(fine),
        blended=lambda _: False,
        x=np.zeros(1),
        y=np.zeros(1),
        star=lambda *_: seen(stamp),
    )
    assert np.array_equal(Residuals.place(image, 0, stamp, guess, np.zeros_like(stamp)), guess)


def test_pixels_that_do_not_determine_a_fit_are_no_exception() -> None:
    flat = np.ones((4, 4))
    values, errors = fit_star(flat, np.array([flat, 0 * flat, 0 * flat]), flat)
    assert not values.any()
    assert np.isinf(errors).all()


def test_a_dark_reference_psf_is_none_and_scatter_without_pixels_is_that_of_noise() -> None:
    assert reference_psf(np.zeros((50, 50)), SIZE) is None
    nothing = [seen(np.full((SIZE, SIZE), np.nan))] * 2
    assert np.array_equal(prior_scale(nothing, [lobed()] * 2), np.ones((SIZE, SIZE)))


def test_the_scatter_of_a_pixel_is_that_of_its_surroundings_unless_it_is_much_larger() -> None:
    rng, one = np.random.default_rng(6), 20 * SIZE + 30
    stamps = rng.normal(0.0, 20.0, (30, SIZE, SIZE))  # twice the noise of a floor of 100
    stamps[:, 20, 30] *= 8.0
    stars, dark = [seen(stamp) for stamp in stamps], [np.zeros((SIZE, SIZE))] * 30
    scale = prior_scale(stars, dark).ravel()
    error = 1.17 / np.sqrt(30)  # of the scatter of a single pixel
    assert scale[one] == pytest.approx(16.0, rel=3 * error)
    usual = np.delete(scale, one)
    assert usual.mean() == pytest.approx(2.0, rel=0.02)
    assert usual.std() / usual.mean() < error / 3
    # an image less changes it by 3.0 % rms; a scatter of its own, by 5.4 %
    change = np.delete(prior_scale(stars[1:], dark[1:]).ravel(), one) / usual - 1
    assert np.sqrt(np.mean(change**2)) < 0.04


def test_an_image_without_pixels_has_no_centre_of_light() -> None:
    out = np.empty((2, 5))
    images = np.stack([np.full((40, 40), np.nan), np.zeros((40, 40))])
    centre_of_light(images, np.full(2, 20.0), np.full(2, 20.0), 10.0, 20, np.ones(2), out)
    assert out[:, 4].tolist() == [0, 0]
    assert out[:, 0].tolist() == [20, 20]


def test_a_lag_needs_images_that_move() -> None:
    time = np.arange(100.0)
    track = Track(time, 0 * time, 0 * time, 0 * time, 59000.0)
    for count in (0, 1, 3):
        mjd, nan = 59000.0 + np.arange(count) * 1e-4, np.full(count, np.nan)
        assert estimate_lag(track, mjd, 10.0, nan, nan) == (0.0, np.inf)


def test_fluxes_of_field_stars_without_pixels_are_those_of_the_catalogue() -> None:
    drawing = scipy.sparse.csc_matrix(np.ones((9, 2)))
    factors, errors = fit_factors([np.full(9, np.nan)], [drawing], [np.ones(9)], 0.3)
    assert factors.tolist() == [1.0, 1.0]
    assert np.allclose(errors, 0.3)


def test_statistics_of_visits_without_good_images() -> None:
    none = np.zeros(3, dtype=bool)
    level = np.full(3, np.nan)
    assert not spikes(level, none, 3).any()
    assert not steep(level, np.zeros((3, 2)), none, 97.0).any()
    assert not crossed(
        np.full((3, 40, 40), np.nan, np.float32), np.array([20.0, 20.0]), 9.0, 1.0
    ).any()
    assert not field_doubt(np.full((40, 40), np.nan), np.ones((40, 40)), np.zeros((40, 40))).any()
    lost, lit = np.full((3, 20), np.nan), np.ones((3, 20))
    assert fit_time(lost, lit, lit, 25e-6) == (0.0, np.inf, 0.0)


def test_photometry_of_images_without_pixels() -> None:
    images = np.full((2, 60, 60), np.nan)
    sums, areas = aperture_sums(images, [30.0, np.nan], [30.0, 30.0], RADII)
    assert np.isnan(sums).all()
    assert not areas.any()
    assert is_cut(areas, RADII).all()
    none: Any = np.zeros(2, dtype=bool)
    loss = light_lost(sums, none)
    assert np.isnan(loss).all()
    assert np.array_equal(make_up(sums, loss), sums, equal_nan=True)
    assert median_share(sums[:, 0], ~none) == 1.0
    by_psf = np.full(2, np.nan), np.full(2, np.nan)
    candidates = list_candidates(sums, sums, sums, np.zeros_like(sums), by_psf, OptimalSettings())
    for good in (none, ~none):
        best, noise = choose(candidates, np.arange(2.0), good)
        assert (best.way, best.radius) == (Way.CIRCLE, DEFAULT_RADIUS)
        assert np.isnan(noise).all()
