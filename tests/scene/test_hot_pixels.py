"""Hot pixels that the dark frame lacks, as bright as the star."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from schemas.arrays import BoolArray, FloatArray
from schemas.settings import PsfSettings
from tasks.scene.hot_pixels import (
    HARMFUL,
    alternate_without_hot,
    find_hot,
    is_harmed,
)
from tasks.scene.optics import to_grid, to_spectrum
from tasks.scene.psf import CORE, UNLIKE, alternate, share_within
from tasks.scene.star_model import Shape, Star, circle
from tasks.simulation.case import Case
from tasks.simulation.visit import simulate_visit
from tests.support.lobed_star import SIZE, star
from tests.support.runs import Bench

MIDDLE = SIZE / 2, SIZE / 2
SETTINGS = PsfSettings(size=SIZE, radius=25.0)
FLUX, FLOOR, COUNT = 4e6, 500.0, 24
RNG = np.random.default_rng(11)
PLACES = SIZE / 2 + RNG.normal(0, 0.25, (COUNT, 2))
HOT = np.where(RNG.uniform(size=(SIZE, SIZE)) < 0.09, RNG.exponential(27e3, (SIZE, SIZE)), 0.0)
INSIDE = circle(SIZE, *MIDDLE, 25.0)


def seen(hot: FloatArray) -> list[Star]:
    """Return a star in some images of a CCD with hot pixels, as the first look finds it."""
    stars = []
    for x, y in PLACES:
        image = FLUX * star(x, y) + hot
        image = RNG.normal(image, np.sqrt(image + FLOOR))
        light = float(image[INSIDE].sum())
        still = np.zeros(1), np.zeros(1)
        # hot pixels draw the centre of light aside
        stars.append(Star(image, FLOOR, x + 0.4, y - 0.6, light, still))
    return stars


def reference() -> FloatArray:
    """Return the PSF that is known in advance, on the fine grid: wider than that of the visit."""
    fine = alternate(seen(0 * HOT), MIDDLE, SETTINGS, None, None, False)[0]
    grid = to_grid(fine.mean)
    wider = grid + np.roll(grid, 1, 0) + np.roll(grid, -1, 0) + np.roll(grid, 1, 1)
    return np.asarray(np.maximum(wider, 0) / np.maximum(wider, 0).sum())


@pytest.fixture(scope="module")
def prior() -> FloatArray:
    """Return the reference PSF."""
    return reference()


def recovered(found: BoolArray) -> float:
    """Return the share of the bright hot pixels near the star that was found."""
    bright = INSIDE & (HOT > 5000)
    return float((found & bright).sum() / bright.sum())


def test_a_ccd_with_hardly_a_hot_pixel_harms_no_psf(prior: FloatArray) -> None:
    assert not is_harmed(seen(0 * HOT), to_spectrum(prior), MIDDLE, 25.0)
    few = np.where(RNG.uniform(size=HOT.shape) < 0.02, HOT, 0.0) * 0.1
    assert few[INSIDE].sum() < HARMFUL * FLUX
    assert not is_harmed(seen(few), to_spectrum(prior), MIDDLE, 25.0)
    assert is_harmed(seen(HOT), to_spectrum(prior), MIDDLE, 25.0)


def test_the_psf_is_found_among_hot_pixels(prior: FloatArray) -> None:
    spectrum, core = to_spectrum(prior), share_within(prior, CORE)
    blind, _, _ = alternate(seen(HOT), MIDDLE, SETTINGS, spectrum, None, False)
    assert abs(share_within(to_grid(blind.mean), CORE) - core) > UNLIKE
    stars = seen(HOT)
    psf, _, _ = alternate_without_hot(stars, MIDDLE, SETTINGS, spectrum, None)
    assert share_within(to_grid(psf.mean), CORE) == pytest.approx(core, abs=0.02)
    # noise of star and hot pixels: 0.1 % an image
    assert np.array([s.flux for s in stars]) == pytest.approx(FLUX, rel=0.01)
    places = np.array([(s.x, s.y) for s in stars])
    assert np.std(places - PLACES, axis=0).max() < 0.02
    raw = seen(HOT)
    for one, (x, y) in zip(raw, PLACES, strict=True):
        one.x, one.y, one.flux = x, y, FLUX
    assert recovered(find_hot(raw, psf, INSIDE, 0.03).pixels) > 0.9


def test_nothing_is_hot_without_light(prior: FloatArray) -> None:
    dark = [Star(np.full((SIZE, SIZE), np.nan), FLOOR, *MIDDLE, 0.0, (np.zeros(1), np.zeros(1)))]
    hot = find_hot(dark, Shape(to_spectrum(prior)), INSIDE, 0.5)
    assert not hot.pixels.any()
    assert hot.share == 0.0


@pytest.mark.slow
def test_a_star_on_an_aged_ccd_without_a_dark_frame_of_it(library: Path, tmp_path: Path) -> None:
    settings = {
        "start": "2024-03-10T08:00:00",
        "images": 30,
        "nexp": 1,
        "exptime": 60.0,
        "magnitude": 11.0,
        "transit": False,
        "saa": "never",
        "hot": 50.0,  # times the current that the dark frame knows
    }
    simulate_visit(tmp_path / "visit", Case.model_validate(settings), 3)
    bench = Bench(tmp_path / "visit", (library,), tmp_path / "work", tmp_path / "products")
    published, _ = bench.reduce()
    assert published is not None
    truth = fits.getdata(tmp_path / "visit" / "truth" / "truth.fits", "TRUTH_STACKS")
    for name in ("DEFAULT", "PSF"):
        (path,) = Path(published.folder).glob(f"*Lightcurve-{name}_V*.fits")
        table = fits.getdata(path, 1)
        good = (table["QUALITY"] == 0) & (table["EVENT"] == 0)
        assert good.sum() >= 25, name
        ratio = (table["FLUX"] / truth["TARGET"])[good]
        # without hot pixels 0.913 to 0.916 of the light are in the aperture
        assert np.median(ratio) == pytest.approx(0.9145, abs=0.01), name
        # 30 points: the scatter of honest errors is known to 13 %
        formal = np.median(table["FLUXERR"][good] / table["FLUX"][good])
        assert np.std(ratio) / np.median(ratio) < 1.5 * formal, name
