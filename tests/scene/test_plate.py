"""The full array: its sky, stars on it, the plate solution, and what is left out. Frames and sky
are made here, by astropy.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from schemas.settings import DefectSettings, PlateSettings
from tasks.correction.full_array import specks, subtract_sky
from tasks.numerics.geometry import sky_to_tangent
from tasks.scene.plate import (
    centre_stars,
    find_spots,
    fit_similarity,
    is_lost,
    match_stars,
    moved_places,
    sky_surface,
)
from tasks.scene.stars import field_places
from tasks.simulation.psf import flight_like_psf
from tests.conftest import raw_file
from tests.support.star_field import NOMINAL, ROLL, SCALE, SIDE, TARGET, TURN, Sky

WINDOW = PlateSettings().window


def test_roll_and_scale_come_out_of_the_stars(sky: Sky) -> None:
    spots = find_spots(sky.frame - sky_surface(sky.frame)[0], 8.0, WINDOW)
    xi, eta = sky_to_tangent(sky.ra, sky.dec, *TARGET)
    px, py = (
        v[:, 0] for v in field_places(xi, eta, np.array([ROLL]), np.zeros(1), np.zeros(1), NOMINAL)
    )
    target = int(np.argmin(np.hypot(spots.x - 512, spots.y - 512)))
    solution = match_stars(spots, px, py, target, PlateSettings())
    assert solution is not None
    assert len(solution.star) > 40
    # what is asked of it; 50 stars of 0.05 pixel on arms of 400 pixels give 0.001 deg and 2e-5
    assert solution.roll == pytest.approx(TURN, abs=0.01)
    assert NOMINAL / solution.stretch == pytest.approx(SCALE, rel=1e-4)
    x, y = moved_places(px, py, (solution.x, solution.y, solution.roll, solution.stretch))
    # all stars, the faint ones too, stand where they are but for a common offset, by which windows
    # cut the lobes
    away = np.hypot(x - sky.x - np.median(x - sky.x), y - sky.y - np.median(y - sky.y))
    assert away.max() < 0.1
    assert solution.rms < 0.2


def test_only_stars_are_found_and_nearly_all_of_them(sky: Sky) -> None:
    spots = find_spots(sky.frame - sky_surface(sky.frame)[0], 8.0, WINDOW)
    distance = np.hypot(spots.x[:, None] - sky.x, spots.y[:, None] - sky.y)
    # two of 70 stars on 1024 x 1024 pixels may be too close together to be resolved
    assert (distance.min(axis=1) < 8).all()
    assert len(spots.x) > 0.85 * len(sky.x)
    assert spots.flux[0] == spots.flux.max()


def test_a_bright_star_as_wide_as_the_window_is_found_wherever_it_is_within_a_pixel() -> None:
    # the image of a real star is flat within the window: its centre of light needs up to a hundred
    # moves
    rng = np.random.default_rng(6)
    for x, y in 128 + rng.uniform(0, 1, (8, 2)):
        frame = flight_like_psf().image(x, y, 5e6, 0, 0, 256, 256) + rng.normal(0, 15, (256, 256))
        spots = find_spots(frame, 8.0, WINDOW)
        # the centre of light of a lopsided image
        assert np.hypot(spots.x[0] - x, spots.y[0] - y) < 2


def test_a_frame_without_stars_has_none_and_matches_nothing(sky: Sky) -> None:
    rng = np.random.default_rng(3)
    empty = rng.normal(0, 15, (SIDE, SIDE))
    empty[tuple(rng.integers(0, SIDE, (2, 2000)))] += 1e4
    spots = find_spots(empty, 8.0, WINDOW)
    assert len(spots.x) == 0
    few = find_spots(sky.frame - sky_surface(sky.frame)[0], 8.0, WINDOW)
    rng = np.random.default_rng(4)
    # stars of another field: some will be near spots by chance, none agree
    assert match_stars(few, *rng.uniform(-500, 500, (2, 70)), 0, PlateSettings()) is None
    assert match_stars(few, np.zeros(1), np.zeros(1), 0, PlateSettings()) is None


def test_two_stars_fix_roll_and_scale_and_one_does_not() -> None:
    px, py = np.array([0.0, 10.0]), np.array([0.0, 0.0])
    # hand-worked: roll grows by 90 deg, what lay to the right lies below, twice as far
    found = fit_similarity(px, py, np.array([5.0, 5.0]), np.array([7.0, -13.0]), np.ones(2))
    np.testing.assert_allclose(found, (5, 7, 90, 2), atol=1e-9)
    np.testing.assert_allclose(moved_places(px, py, found), [[5, 5], [7, -13]], atol=1e-9)
    with pytest.raises(ValueError, match="roll and scale need two stars, not 1"):
        fit_similarity(px[:1], py[:1], px[:1], py[:1], np.ones(1))


def test_the_sky_is_a_quadratic_surface_that_stars_do_not_lift(sky: Sky) -> None:
    j, i = np.mgrid[:SIDE, :SIDE]
    truth = 120.0 + 0.03 * i - 0.02 * j + 2e-5 * (i - 500.0) ** 2
    surface, scatter = sky_surface(sky.frame)
    # medians of 1024 pixels of noise 18 are good to 0.7; hot and hit pixels, and wings of stars,
    # lift them by as much
    assert np.abs(surface - truth).max() < 3.0
    assert scatter < 2.0
    with pytest.raises(
        ValueError, match="4 boxes of 32 x 32 pixels hold numbers: too few for a surface"
    ):
        sky_surface(np.zeros((64, 64)))


def test_a_frame_of_which_few_boxes_hold_numbers_is_lost_and_left_as_it_is() -> None:
    frame = np.full((320, 320), np.nan)
    frame[:32] = 5.0  # ten boxes of a hundred
    assert is_lost(frame)
    assert subtract_sky(frame, DefectSettings()) == {"FA_SKY": 0.0, "FA_SLOPE": 0.0, "FA_BAD": 0}
    assert (frame[:32] == 5.0).all()
    frame[:96] = 5.0
    assert not is_lost(frame)


def test_a_clump_of_hot_pixels_is_no_star() -> None:
    rng = np.random.default_rng(8)
    frame = rng.normal(0, 15, (256, 256))
    frame[120:132, 120:132] += 1e6  # a square of side a has the rms size a / sqrt(6): 4.9 pixels
    frame[60:66, 60:66] += 1e6  # 2.4 pixels, less than NARROWEST
    spots = find_spots(frame, 8.0, WINDOW)
    assert len(spots.x) == 1
    assert np.hypot(spots.x[0] - 126, spots.y[0] - 126) < 0.1


def test_a_star_settles_at_its_centre_of_light() -> None:
    j, i = np.mgrid[:96, :96]
    star = 1e6 * np.exp(-((i - 47.3) ** 2 + (j - 50.8) ** 2) / (2 * 4.0**2))
    x, y = centre_stars(star, np.array([44.0, 10.0]), np.array([54.0, 10.0]), 14.0)
    # round, and all but 0.2 % of it within the window: the centre of light is the star's; the
    # other place has no star within reach
    np.testing.assert_allclose([x, y], [[47.3], [50.8]], atol=0.02)


def test_the_window_holds_the_core_of_the_psf_wherever_on_the_ccd_it_is() -> None:
    frames = [
        flight_like_psf((u, v)).image(64.3, 64.6, 5e6, 0, 0, 128, 128)
        for u in (-0.8, 0.0, 0.8)
        for v in (-0.8, 0.0, 0.8)
    ]

    def spread(window: float) -> float:
        start = np.array([63.0]), np.array([63.0])
        places = np.array([np.ravel(centre_stars(frame, *start, window)) for frame in frames])
        return float(np.hypot(*places.std(axis=0)))

    # a window that cuts the core moves with the shape of the PSF, as if scale and roll were wrong:
    # 0.35 pixel, and 0.10 with the default
    assert spread(WINDOW) < 0.15
    assert spread(14.0) > 0.3


def test_hot_pixels_are_marked_where_it_is_dark_and_never_in_a_star(sky: Sky) -> None:
    frame = sky.frame - sky_surface(sky.frame)[0]
    marked = specks(frame, 6.0, 3.0)
    j, i = np.mgrid[:SIDE, :SIDE]
    assert not marked[np.hypot(i - sky.x[0], j - sky.y[0]) < 8].any()
    # 800 pixels, exponential about 5000 electrons, 20 of noise: 98 % stand out; and 200 tracks
    assert 3000 < marked.sum() < 5000
    assert not specks(np.zeros((64, 64)), 6.0, 3.0).any()


def test_stars_of_the_real_full_frame_are_found(shared: Path) -> None:
    with fits.open(raw_file(shared / "real" / "flight", "SCI_RAW_FullArray")) as hdus:
        frame = hdus[1].data.astype(float)
    spots = find_spots(1.946 * (frame - sky_surface(frame)[0]), 8.0, WINDOW)
    # KELT-20, 12 s; the brightest star, whose peak is at (820, 289) of the array; its photocentre
    # is a few pixels off the peak
    assert np.hypot(spots.x[0] - 281, spots.y[0] - 825) < 5
    # counted by eye at this contrast; 2000 hot pixels and cosmic rays are not among them
    assert 40 < len(spots.x) < 90
    assert np.median(spots.error) < 0.1
