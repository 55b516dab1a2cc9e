"""Cosmic rays and steady excesses: what is marked, what is taken away, and that it comes out
again.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from schemas.arrays import BoolArray, FloatArray
from schemas.settings import DefectSettings
from tasks.correction.defects import Known, Outcome, search
from tasks.correction.hits import Found, Search, field_doubt, find_hits, hit_shares
from tasks.correction.steady import (
    Sample,
    above_neighbours,
    sample_statistics,
    static_excess,
    usual_scatter,
)
from tasks.numerics.robust import MAD_TO_SIGMA
from tasks.visit.clean import Effects, clean_block, hits_of
from tests.support.runs import Bench


def test_a_seed_takes_its_neighbours_along_and_nothing_else() -> None:
    pull = np.zeros((9, 9))
    pull[4, 4], pull[5, 5], pull[6, 6], pull[8, 0] = 7.0, 3.5, 3.2, 4.0
    hit = np.zeros((9, 9), dtype=bool)
    assert find_hits(pull, 6.0, 3.0, hit) == 3
    assert hit[4, 4]
    assert hit[5, 5]
    assert hit[6, 6]
    assert not hit[8, 0]  # above the limit of a neighbour, but touching nothing


def test_pixels_without_a_number_are_never_hits() -> None:
    pull = np.full((5, 5), np.nan)
    hit = np.zeros((5, 5), dtype=bool)
    assert find_hits(pull, 6.0, 3.0, hit) == 0
    assert not hit.any()


def test_the_share_of_a_hit_rises_about_the_limit_and_is_half_of_it_there() -> None:
    pull = np.zeros((9, 40))
    pull[4, 5:40:5] = 3.9, 4.25, 4.5, 4.75, 5.1, np.nan, 20.0
    shares = hit_shares(pull, 0 * pull, 4.5, 2.5)
    np.testing.assert_allclose(shares[4, 5:40:5], [0, 0.25, 0.5, 0.75, 1, 0, 1])
    assert np.count_nonzero(shares) == 5


def test_pixels_beside_a_hit_have_shares_about_their_own_limit() -> None:
    pull = np.zeros((9, 9))
    pull[4, 4], pull[4, 5], pull[3, 3], pull[5, 4], pull[8, 8] = 20.0, 2.75, 2.25, 1.9, 3.0
    shares = hit_shares(pull, 0 * pull, 4.5, 2.5)
    np.testing.assert_allclose(
        [shares[4, 4], shares[4, 5], shares[3, 3], shares[5, 4]], [1, 0.75, 0.25, 0]
    )
    assert shares[8, 8] == 0.0


def test_a_track_is_found_whose_brightest_pixel_is_below_the_limit() -> None:
    pull = np.zeros((20, 20))
    pull[np.arange(4, 14), np.arange(4, 14)] = 3.2
    pull[6, 6] = 4.1
    shares = hit_shares(pull, 0 * pull, 4.5, 2.5)
    # by hand: (9 x 3.2 + 4.1)^2 / 10 - 9 x 2 ln 7 = 73, 8.5 sigma; at most 4.1 + 1 count
    assert shares[np.arange(4, 14), np.arange(4, 14)].min() == 1.0
    pull[6, 6] = 3.2  # without any brighter pixel it may be an error of the star's model
    assert 0 < hit_shares(pull, 0 * pull, 4.5, 2.5).max() < 0.25


def test_noise_forms_few_groups() -> None:
    pull = np.random.default_rng(8).normal(size=(1000, 1000))
    shares = hit_shares(pull, 0 * pull, 4.5, 2.5)
    # 3.4 single pixels in a million are above 4.5 sigma; groups may be as many, and double them
    assert np.count_nonzero(shares >= 0.5) < 20


def test_a_small_change_of_the_noise_changes_little_of_a_hit() -> None:
    pull = np.zeros((9, 9))
    for peak in np.arange(3.5, 6.0, 0.05):
        pull[4, 4:7] = peak, 0.7 * peak, 0.6 * peak
        change = hit_shares(1.02 * pull, 0 * pull, 4.5, 2.5) - hit_shares(pull, 0 * pull, 4.5, 2.5)
        # 2 % of 5 sigma is a tenth of the width of the rise, of group and pixel
        assert np.abs(change).max() < 0.25


def test_a_group_counts_less_where_its_pixels_err_together() -> None:
    # four pixels, none of which is bright enough by itself
    pull = np.zeros((9, 9))
    pull[3:5, 3:5] = 3.8
    apart = hit_shares(pull, np.zeros((9, 9)), 4.5, 2.5)
    # of hand-worked significance: 7.6, without the chance of such a group 6.8, at most 4.8
    assert apart[3:5, 3:5] == pytest.approx(0.8)
    assert not hit_shares(pull, np.full((9, 9), 0.9), 4.5, 2.5).any()


@pytest.mark.parametrize("length", [3, 12])
def test_beside_the_tracks_of_a_heavily_hit_aperture_the_model_replaces_pixels(
    length: int,
) -> None:
    # a track with charge beside it that is too faint to be seen; noise of 10 electrons a pixel
    shape, nothing = (41, 41), np.zeros((41, 41))
    image = nothing.copy()
    image[19:22, 14 : 14 + length] = 15.0
    image[20, 14 : 14 + length] = 100.0
    y, x = np.mgrid[:41, :41] - 20.0
    near = np.hypot(x, y) < 12  # 441 pixels, of which 1 % is 4
    rest: Any = SimpleNamespace(
        take=lambda _: (image, nothing, nothing), floor=[100.0], uncertain=[False]
    )
    never, noise = np.zeros(shape, bool), np.full(shape, 10.0)
    sample = Sample(nothing, noise, noise, nothing, noise, never, never)
    found = Found(1)
    search = Search(
        rest, sample, nothing, never, near, DefectSettings(), np.zeros(1, int), found, never
    )
    search.image(0)
    removed = sum(float(amount.sum()) for *_, amount, _ in found.entries)
    beside = 2 * 15.0 * length
    assert removed == pytest.approx(image.sum() - (beside if length == 3 else 0.0))
    assert search.hits.sum() == length


def test_the_expected_scatter_is_that_of_the_surroundings() -> None:
    rng = np.random.default_rng(9)
    noise = np.full((60, 60), 10.0)
    wrong = np.where(np.arange(60) < 30, 1.0, 2.0)  # the star's model, in one half
    scatter = MAD_TO_SIGMA * np.median(np.abs(rng.normal(0, noise * wrong, (30, 60, 60))), axis=0)
    scatter[10, 10] = 80.0  # flickers
    usual = usual_scatter(scatter, noise, 30)
    # a median of 25 values of which each has an error of 1.17 / sqrt(30) = 21 %: 5 %, and the
    # largest of some hundred; single pixels differ by up to 60 %
    assert usual[:, :27].max() < 80.0
    ordinary = np.delete(usual[:, :27].ravel(), 10 * 27 + 10)
    assert np.median(ordinary) < 10.5
    assert np.quantile(ordinary, 0.99) < 12.0
    assert np.median(usual[:, 33:]) == pytest.approx(20.0, rel=0.05)
    assert usual[10, 10] == pytest.approx(80.0 / 1.427, rel=1e-3)
    assert (usual >= noise).all()


def test_a_steady_excess_must_be_significant_and_more_than_the_star_s_model_may_err() -> None:
    median = np.array([[50.0, 50.0, 5.0]])
    error, light = np.array([[1.0, 1.0, 1.0]]), np.array([[0.0, 1e5, 0.0]])
    np.testing.assert_array_equal(
        static_excess(median, error, light, 8.0, 0.003), [[50.0, 0.0, 0.0]]
    )


def test_a_deficit_at_the_edge_of_the_window_makes_no_hot_pixel() -> None:
    y, x = np.mgrid[:41, :41] - 20.0
    outside = np.hypot(x, y) > 19
    median = np.where(
        outside, 0.0, -100.0
    )  # the level of the ring is missed by so much, as by that of a bright star's halo
    median[3, 20] += 60.0  # a hot pixel two pixels from the edge
    excess = above_neighbours(median, outside)
    assert excess[3, 20] == 60.0
    excess[3, 20] = 0.0
    np.testing.assert_array_equal(excess, 0.0)


def field_stars(
    rng: np.random.Generator, *doubts: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return residual, noise and model of field stars, one a tile, of which each pixel is wrong by
    a share of its light.
    """
    y, x = np.mgrid[:20, :20] - 9.5
    others = np.hstack([5e4 * np.exp(-(x**2 + y**2) / (2 * 6.0**2))] * len(doubts))
    noise = np.sqrt(others + 200.0)
    return (
        rng.normal(0, noise) + np.repeat(doubts, 20) * others * rng.normal(size=others.shape),
        noise,
        others,
    )


def test_the_error_of_a_field_star_s_model_follows_from_its_scatter_and_not_from_hits() -> None:
    doubts = 0.02, 0.05, 0.1
    excess, noise, others = field_stars(np.random.default_rng(3), *doubts)
    excess[10, 25:35] += 1e4  # a track
    excess[0, 0] = np.nan
    # all 400 pixels are bright: the scatter by the median deviation is known to 1.17 / sqrt(400) =
    # 6 %; three times that, and where the error is small half of the scatter is noise
    found = field_doubt(excess, noise, others)[10, [10, 30, 50]]
    for got, true, tolerance in zip(found, doubts, (0.27, 0.18, 0.18), strict=True):
        assert got == pytest.approx(true, rel=tolerance)


def test_a_field_star_as_its_model_has_it_and_a_sky_without_stars_are_not_doubted() -> None:
    excess, noise, others = field_stars(np.random.default_rng(3), 0.0)
    # a scatter that is 6 % too large by chance looks like an error of 35 % of the noise: 0.2 % of
    # the light at the peak, and 2 % of it at the edge of the tile
    assert field_doubt(excess, noise, others).max() < 0.02
    assert not field_doubt(0.5 * excess, noise, others).any()
    assert not field_doubt(excess, noise, 0.0 * others).any()


def test_clean_takes_background_static_and_hits_of_the_right_image_away() -> None:
    images = np.full((3, 4, 5), 100.0)
    images[1, 2, 3] += 40.0
    images[:, 0, 1] += 7.0
    static = np.zeros((4, 5))
    static[0, 1] = 7.0
    hits = hits_of(6, (4, 5), np.array([4]), np.array([3]), np.array([2]), np.array([40.0]))
    background = np.array([0.0, 0.0, 0.0, 99.0, 98.0, 97.0])
    clean_block(images, slice(3, 6), Effects(background, None, static, hits))
    np.testing.assert_array_equal(images[0], np.full((4, 5), 1.0))
    np.testing.assert_array_equal(images[1], np.full((4, 5), 2.0))
    np.testing.assert_array_equal(images[2], np.full((4, 5), 3.0))


def test_effects_that_are_not_known_yet_are_left_alone() -> None:
    images = np.full((2, 3, 3), 10.0)
    clean_block(images, slice(0, 2), Effects(np.array([1.0, 2.0])))
    assert images[0, 0, 0] == 9.0
    assert images[1, 2, 2] == 8.0


@pytest.mark.slow
class Scene:
    """Images without a star, as `Residuals` gives them: noise, and some pixels with more."""

    def __init__(self, pixels: FloatArray) -> None:
        self.pixels, self.duration, self.floor = pixels, 60.0, np.full(len(pixels), 100.0)
        self.uncertain = np.zeros(len(pixels), dtype=bool)
        self.images = type("Images", (), {"count": len(pixels), "shape": pixels.shape[1:]})

    def take(self, i: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        nothing = np.zeros(self.images.shape)
        return self.pixels[i].copy(), nothing, nothing


def searched(pixels: FloatArray, spared: BoolArray) -> Outcome:
    """Return the defects of some images."""
    scene: Any = Scene(pixels)
    every, codes = np.arange(len(pixels)), np.zeros(spared.shape, np.int64)
    known = Known(codes, spared)
    return search(scene, every, every, known, np.ones_like(spared), DefectSettings())


def test_saturated_pixels_have_no_defects_and_others_do() -> None:
    pixels = np.random.default_rng(4).normal(0, 10, (20, 30, 30))
    for x in (5, 20):
        pixels[:, 10, x] += 5000.0  # hot
        pixels[::2, 15, x] += 3000.0  # jumps
        pixels[7, 20, x] += 4000.0  # hit
    spared = np.zeros((30, 30), dtype=bool)
    spared[:, 15:] = True
    outcome = searched(pixels, spared)
    assert outcome.static[10, 5] == pytest.approx(5000.0, abs=15.0)
    assert not outcome.flags[:, 15:].any()
    assert not outcome.static[:, 15:].any()
    columns = outcome.found.table()
    assert (columns["X"] < 15).all()
    assert [
        (i, x)
        for i, y, x in zip(*(columns[c] for c in ("IMAGE_INDEX", "Y", "X")), strict=True)
        if y == 20
    ] == [(7, 5)]


def test_a_pixel_lost_in_one_image_has_the_statistics_of_the_others() -> None:
    pixels = np.random.default_rng(6).normal(0, 10, (20, 30, 30))
    pixels[:, 10, 10] += 5000.0
    pixels[3, 10, 10] = np.nan
    pixels[:, 0, 0] = np.nan
    scene: Any = Scene(pixels)
    likely = np.zeros((30, 30), dtype=bool)
    sample = sample_statistics(scene, np.arange(20), likely, DefectSettings())
    assert sample.median[10, 10] == pytest.approx(np.nanmedian(pixels[:, 10, 10]), rel=1e-6)
    assert np.argwhere(sample.outside).tolist() == [[0, 0]]
    assert not sample.telegraphic.any()


def test_the_limit_of_hot_pixels_changes_no_image(reduced: Bench, tmp_path: Path) -> None:
    def found(hot: float) -> tuple[int, bytes]:
        bench = reduced.copy(tmp_path / str(hot))
        _, run = bench.reduce(until="defects", settings={"defects": {"hot": hot, "static": 3.0}})
        (leaf,) = [report.leaf for report in run.reports if report.step == "defects"]
        with fits.open(leaf.product.path) as hdus:
            return int(leaf.used["HOT_PIX"]), hdus["TERM_DEFECTS_STATIC"].data.tobytes()

    (every, plane), (none, same) = found(0.0), found(1000.0)
    assert every > 0
    assert none == 0
    assert plane == same
