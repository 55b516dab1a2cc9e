"""Background in windows: level and slope against planes that are known, star-free cells, and
refusals.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from schemas.arrays import BoolArray, FloatArray
from schemas.errors import ConfigurationError
from schemas.flags import Quality
from schemas.settings import BackgroundSettings
from tasks.correction.apply import background_planes
from tasks.correction.background import check_ring, running_median, spikes, steep
from tasks.correction.ring import (
    ANGLES,
    SECTORS,
    Pixels,
    add_to_field,
    cells,
    excess,
    fit_planes,
    free_windows,
    position_cell,
    ring_around,
    sector_means,
    used_pixels,
)
from tasks.simulation.case import Case
from tasks.simulation.visit import simulate_visit
from tasks.visit.clean import Effects
from tests.support.runs import Bench

SIDE, X, Y = 200, 100.3, 99.6

RING = BackgroundSettings()

SHAPE = cells(RING)

ALL = np.ones(SHAPE, dtype=bool)

NONE_BAD = np.zeros((SIDE, SIDE), dtype=bool)


def plane(level: float, gx: float, gy: float) -> FloatArray:
    """Return a background with its level at (X, Y), pixel i spans [i, i + 1)."""
    j, i = np.mgrid[:SIDE, :SIDE]
    return level + gx * (i + 0.5 - X) + gy * (j + 0.5 - Y)


THE_RING = ring_around((X, Y), (RING.inner, RING.outer), NONE_BAD)


def fit(image: FloatArray, windows: BoolArray = ALL, sloped: bool = True) -> tuple[float, ...]:
    pixels = used_pixels(image, THE_RING, 30.0, windows)
    fitted: tuple[float, ...] = fit_planes(pixels, RING.outer, RING.clip, 2.0)[int(sloped)]
    return fitted


def test_a_plane_is_found_and_stars_and_cosmic_rays_are_clipped() -> None:
    rng = np.random.default_rng(1)
    image = plane(60.0, 0.05, -0.08) + rng.normal(0, 8, (SIDE, SIDE))
    image[rng.random((SIDE, SIDE)) < 0.01] += 5000.0
    level, error, gx, gy, pixels, sigma = fit(image)
    assert abs(level - 60.0) < 4 * error
    # 23 000 pixels of 8 electron: 8 / sqrt(23000); clipping at 3 sigma leaves 99 % of them
    assert error == pytest.approx(8 / np.sqrt(23_000), rel=0.03)
    # error of a slope: sigma / sqrt(sum of x^2) = 8 / sqrt(23000 * 53^2)
    assert gx == pytest.approx(0.05, abs=4 * 0.001)
    assert gy == pytest.approx(-0.08, abs=4 * 0.001)
    assert sigma == pytest.approx(8.0, rel=0.03)
    assert 22_000 < pixels < 23_500


@pytest.mark.parametrize(("clip", "tails"), [(3.0, 0.0), (2.0, 0.0), (1.5, 0.0), (3.0, 0.2)])
def test_error_of_a_level_is_the_scatter_of_clipped_levels(clip: float, tails: float) -> None:
    """With tails, a fifth of the pixels scatters three times as much: warm pixels of an old CCD."""
    rng = np.random.default_rng(12)
    levels, errors = [], []
    for _ in range(200):
        sigma = np.where(rng.random(3_000) < tails, 24.0, 8.0)
        value = rng.normal(0.0, sigma)
        pixels = Pixels(*rng.uniform(-90, 90, (2, 3_000)), np.zeros(3_000, np.int64), value)
        level, error, *_ = fit_planes(pixels, RING.outer, clip, 2.0)[0]
        levels.append(level)
        errors.append(error)
    # the scatter of 200 levels is known to 5 %, three times that is allowed
    assert np.std(levels) / np.mean(errors) == pytest.approx(1.0, abs=0.15)


def test_with_half_of_the_ring_masked_the_level_at_the_target_stays() -> None:
    windows = ALL.copy()
    windows[:, : ANGLES // 2] = False
    image = plane(60.0, 0.5, 0.3) + np.random.default_rng(2).normal(0, 1, (SIDE, SIDE))
    level, error, *_ = fit(image, windows)
    assert abs(level - 60.0) < 4 * error
    # a mere level is that of the middle of the half, some 40 pixels away
    assert abs(fit(image, windows, sloped=False)[0] - 60.0) > 5


def test_too_few_pixels_are_no_background() -> None:
    image = np.full((SIDE, SIDE), np.nan)
    image[5, 80:120] = 5.0
    level, _, _, _, pixels, _ = fit(image)
    assert np.isnan(level)
    assert pixels == 0


def test_the_sky_stands_still_in_the_cells() -> None:
    # North turns towards +x as the roll grows: at roll 90 a star in the North is to the right
    assert position_cell(0.0, 0.0) == position_cell(90.0, 90.0) == 0
    # East is to the left at roll 0, position angle 90
    assert position_cell(-90.1, 0.0) == int(90 / (360 / ANGLES))
    north = np.flatnonzero((THE_RING.row == 149) & (THE_RING.column == 99))
    assert THE_RING.distance[north] == int((49.9 - RING.inner) / 4)


def test_a_star_that_no_catalogue_has_is_masked_and_nothing_else() -> None:
    rng = np.random.default_rng(3)
    sums = np.zeros((*SHAPE, 2))
    for roll in np.arange(0.0, 360.0, 5.0):
        image = rng.normal(0, 8, (SIDE, SIDE))
        # at 70 pixels, position angle 40: x = r sin(roll - angle), y = r cos(roll - angle)
        x, y = (X + 70 * np.sin(np.radians(roll - 40)), Y + 70 * np.cos(np.radians(roll - 40)))
        j, i = np.mgrid[:SIDE, :SIDE]
        image += 15.0 * np.exp(-((i + 0.5 - x) ** 2 + (j + 0.5 - y) ** 2) / 8.0)
        add_to_field(image, THE_RING, roll, 8.0, sums)
    mean, free = free_windows(sums)
    r, a = int((70 - RING.inner) / 4), int(40 / (360 / ANGLES))
    assert mean[r, a] > 0.2
    assert not free[r, a]
    # some cells about the star, of a thousand
    assert 0.95 < free.mean() < 1.0


def test_where_stars_are_everywhere_all_is_used() -> None:
    sums = np.ones((*SHAPE, 2)) * 100.0
    sums[..., 0] = np.random.default_rng(4).choice([0.0, 4000.0], SHAPE)
    assert free_windows(sums)[1].all()


def test_spikes_are_images_far_above_the_others_or_beyond_trust() -> None:
    level = np.array([50.0, 51.0, 49.0, 50.5, 49.5, 400.0, 1e4])
    good = np.ones(7, dtype=bool)
    np.testing.assert_array_equal(spikes(level, good, 1), [False] * 5 + [True, True])
    # 300 electron a pixel in each of ten exposures
    np.testing.assert_array_equal(spikes(np.full(4, 2999.0), good[:4], 10), [False] * 4)
    np.testing.assert_array_equal(spikes(np.full(4, 3001.0), good[:4], 10), [True] * 4)


def test_a_spike_among_neighbours_is_seen_where_the_sky_comes_and_goes_with_the_orbit() -> None:
    time = np.arange(600.0)
    level = (
        200 + 190 * np.sin(2 * np.pi * time / 99) + np.random.default_rng(7).normal(0, 0.5, 600)
    )  # 10 to 390 electrons
    good = np.ones(600, dtype=bool)
    assert not spikes(level, good, 3).any()  # neither three times the usual nor sudden
    level[[40, 300]] += 450.0
    level[410:412] += 250.0
    wanted = np.isin(np.arange(600), (40, 300, 410, 411))
    np.testing.assert_array_equal(spikes(level, good, 3), wanted)
    # three times the usual for a quarter of each orbit is too much, as often as it comes
    level = 100 + 400 * (time % 99 < 25) + np.random.default_rng(8).normal(0, 0.5, 600)
    np.testing.assert_array_equal(spikes(level, good, 3), time % 99 < 25)


def test_noise_is_no_spike_however_little_sky_there_is() -> None:
    # 2000 values, the largest of which lie at 3.5 sigma; ten are asked for
    assert not spikes(
        np.random.default_rng(9).normal(0.0, 3.0, 2000), np.ones(2000, dtype=bool), 1
    ).any()


def test_a_running_median_ignores_nan() -> None:
    values = np.array([1.0, 2.0, 9.0, np.nan, 4.0, 5.0])
    # by hand: medians of (1, 2), (1, 2, 9), (2, 9), (9, 4), (4, 5), (4, 5)
    np.testing.assert_array_equal(running_median(values, 1), [1.5, 2.0, 5.5, 6.5, 4.5, 4.5])
    assert np.isnan(running_median(np.full(3, np.nan), 2)).all()


def test_a_gradient_is_steep_when_it_changes_the_ring_by_more_than_its_usual_level() -> None:
    level, good = np.full(5, 97.0), np.array([True, True, True, True, False])
    slope = np.array([[0.0, 0.0], [0.3, -0.3], [0.4, 0.4], [-0.51, 0.0], [9.0, 9.0]])
    # 194 pixels from side to side: 0, 82, 110 and 99 electrons, and one of which the level is not
    # known
    np.testing.assert_array_equal(
        steep(level, slope, good, 97.0), [False, False, True, True, False]
    )
    assert not steep(level, slope, np.zeros(5, dtype=bool), 97.0).any()


def test_sudden_stray_light_is_flagged_and_its_gradient_subtracted(tmp_path: Path) -> None:
    case = Case(
        images=24,
        nexp=1,
        exptime=60.0,
        magnitude=10.7,
        teff=5200,
        transit=False,
        saa="never",
        occultation="never",
        spikes=14.0,
        stars=0,
        near_stars=0,
    )
    simulate_visit(tmp_path / "visit", case, seed=3)
    bench = Bench(tmp_path / "visit", (), tmp_path / "work", tmp_path / "products")
    _, run = bench.reduce(until="background")
    (path,) = (r.leaf.product.path for r in run.reports if r.step == "background")
    term, stacks = (
        fits.getdata(path, 1),
        fits.getdata(tmp_path / "visit/truth/truth.fits", "TRUTH_STACKS"),
    )
    sky, sudden = stacks["BACKGROUND"], stacks["SPIKE"] > 0
    much = sky > 3 * np.median(sky[~sudden])
    across = 194 * np.hypot(stacks["SLOPE_X"], stacks["SLOPE_Y"])
    usual = np.median(term["LEVEL"])
    flagged, one_sided = (
        term["QUALITY"] & int(bit) != 0 for bit in (Quality.BACKGROUND, Quality.GRADIENT)
    )
    assert 4 <= much.sum() <= 12
    assert flagged[much].all()
    assert not flagged[~sudden].any()
    # of gradients near the limit noise and the star's halo in the ring, some per cent of the sky,
    # may decide
    assert (across > 1.2 * usual).sum() >= 3
    assert one_sided[across > 1.2 * usual].all()
    assert not one_sided[across < 0.8 * usual].any()
    # the light is found again to a thousandth (non-linearity and its error, 1 % of a curve of some
    # 1 %) and ten errors, the star's halo apart, which is in every image; taken for cosmic rays on
    # its bright side, the slope was half of what it is
    halo = np.median((term["LEVEL"] - sky)[~sudden])
    assert np.abs(term["LEVEL"] - halo - sky) == pytest.approx(
        0, abs=1e-3 * sky.max() + 10 * term["LEVEL_ERR"].max()
    )
    for axis in "XY":
        error = (term[f"SLOPE_{axis}"] - stacks[f"SLOPE_{axis}"])[one_sided]
        assert (
            np.abs(error).max()
            < 0.02 * np.hypot(stacks["SLOPE_X"], stacks["SLOPE_Y"])[one_sided].max()
        )


def test_the_delivered_background_is_the_subtracted_one() -> None:
    from tasks.visit.clean import clean_block

    slope, centre = np.array([[0.1, -0.2], [0.0, 0.3]]), (3.0, 2.5)
    effects = Effects(np.array([10.0, 20.0]), slope=slope, centre=centre)
    images = np.zeros((2, 6, 8))
    clean_block(images, slice(0, 2), effects)
    np.testing.assert_allclose(background_planes(effects, slice(0, 2), (6, 8)), -images, atol=1e-12)


def test_a_ring_without_width_is_refused() -> None:
    with pytest.raises(
        ConfigurationError, match=r"background\.outer 50\.0 is not above background\.inner 60\.0"
    ):
        check_ring(BackgroundSettings(inner=60.0, outer=50.0))


@pytest.mark.parametrize("level", [60.2, 60.9, 61.5])
def test_a_sky_that_scatters_by_less_than_a_count_is_averaged_all_the_same(level: float) -> None:
    # the converter leaves multiples of 2 electron; a scatter of half a count smears its steps to
    # 1e-2 of a count
    image = 2.0 * np.rint(
        (plane(level, 0.0, 0.0) + np.random.default_rng(5).normal(0, 1.0, (SIDE, SIDE))) / 2.0
    )
    found, error, *_ = fit(image, sloped=False)
    assert found == pytest.approx(level, abs=4 * error + 0.02)
    assert error == pytest.approx(np.hypot(1.0, 2 / np.sqrt(12)) / np.sqrt(23_000), rel=0.05)
    assert fit(np.full((SIDE, SIDE), 62.0))[0] == 62.0


def sectors(images: list[FloatArray], sigma: float) -> FloatArray:
    """Return what a level of 0 leaves in the sectors of some images."""
    means = np.zeros((len(images), SECTORS, 2))
    for image, out in zip(images, means, strict=True):
        sector_means(used_pixels(image, THE_RING, 30.0, ALL), 3 * sigma, np.zeros(3), out)
    return means


def test_sectors_of_independent_pixels_show_no_excess() -> None:
    rng = np.random.default_rng(6)
    # a wing that stands still is no error of the differences
    wing = plane(0.0, 0.02, 0.0)
    means = sectors([wing + rng.normal(0, 8, (SIDE, SIDE)) for _ in range(40)], 8.0)
    assert means[..., 1].sum(axis=1) == pytest.approx(23_000, rel=0.03)
    # of 320 sectors, less their medians: a robust scatter is good to 1.17 / sqrt(320) = 7 %
    assert excess(means, np.full(40, 8.0)) < 1 + 4 * 0.07


def test_light_that_turns_makes_the_error_of_the_level_as_large_as_it_is() -> None:
    rng = np.random.default_rng(7)
    images = [
        plane(0.0, *(0.01 * rng.normal(size=2))) + rng.normal(0, 8, (SIDE, SIDE)) for _ in range(40)
    ]
    # at 73 pixels a slope of 0.01 is 0.7 electron, less within a sector; a sector's mean is good to
    # 8 / sqrt(2900) = 0.15
    assert 2.0 < excess(sectors(images, 8.0), np.full(40, 8.0)) < 5.0


def test_too_few_sectors_give_no_excess() -> None:
    assert excess(np.zeros((3, SECTORS, 2)), np.full(3, 8.0)) == 1.0
    assert excess(np.full((40, SECTORS, 2), 100.0), np.full(40, np.nan)) == 1.0
