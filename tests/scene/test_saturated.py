"""Saturated pixels, and companions that are brighter than the target."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from astropy.io import fits

from schemas.arrays import BoolArray, FloatArray
from schemas.flags import Quality
from schemas.payloads import Published
from tasks.scene.look import saturation_limits
from tasks.scene.optics import FINE, to_spectrum
from tasks.scene.psf import CORE, UNLIKE, doubts, share_within
from tasks.scene.residuals import BLEEDS, CORRECTED, Residuals
from tasks.scene.star_model import EDGE, Shape, Star, unlike
from tasks.simulation.case import Case
from tasks.simulation.visit import simulate_visit
from tests.support.runs import Bench

STILL = np.zeros(1), np.zeros(1)


class Cube(NamedTuple):
    """Calibrated images in memory."""

    pixels: FloatArray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.pixels.shape[1], self.pixels.shape[2]

    def blocks(self) -> Iterator[tuple[slice, FloatArray]]:
        """Yield two blocks."""
        for part in (slice(0, 2), slice(2, len(self.pixels))):
            yield part, self.pixels[part]


def test_the_limit_of_a_pixel_is_its_faintest_saturated_value() -> None:
    pixels = np.zeros((5, 3, 4))
    pixels[:, 1, 2] = [5.0, 9.0, 7.0, 99.0, 8.0]  # the fourth image is not usable
    pixels[:, 0, 0] = [np.nan, 3.0, 1.0, 2.0, 2.0]
    count = np.zeros((3, 4), np.int64)
    count[1, 2], count[0, 0] = 2, 4
    flags = np.array([0, 0, 0, int(Quality.UNUSABLE_IMAGE), 0], np.int32)
    cube: Any = Cube(pixels)
    limit = saturation_limits(cube, count, flags)
    assert limit[1, 2] == 8.0
    assert limit[0, 0] == 0.0  # more often saturated than seen: the limit is not known
    limit[1, 2] = limit[0, 0] = 0.0
    assert not limit.any()
    assert not saturation_limits(cube, np.zeros_like(count), flags).any()


def test_pixels_are_blind_only_in_the_images_in_which_they_saturate() -> None:
    limit = np.full((9, 9), np.inf)
    limit[4, 4] = 100.0
    rest: Any = SimpleNamespace(limit=CORRECTED * limit, x=np.full(1, 4.5), y=np.full(1, 4.5))
    image = np.zeros((9, 9))
    image[4, 4] = 97.0
    assert Residuals.blind(rest, 0, image) is None
    image[4, 4] = 99.0  # what corrections leave of it
    blind = Residuals.blind(rest, 0, image)
    assert blind is not None
    rows, columns = np.indices(blind.shape) - 4
    assert np.array_equal(blind, np.abs(rows) + np.abs(columns) <= BLEEDS)
    rest.limit = None
    assert Residuals.blind(rest, 0, image) is None


def test_a_target_that_is_saturated_itself_is_used_as_it_is() -> None:
    limit = np.full((64, 64), 100.0)
    rest: Any = SimpleNamespace(limit=limit, x=np.full(1, 32.0), y=np.full(1, 32.0))
    rows, columns = np.indices(limit.shape) + 0.5

    def burnt(x: float, radius: float) -> FloatArray:
        return np.where(np.hypot(columns - x, rows - 32) < radius, 200.0, 0.0)

    assert Residuals.blind(rest, 0, burnt(32.0, 4.0)) is not None
    assert Residuals.blind(rest, 0, burnt(32.0, 9.0)) is None
    assert Residuals.blind(rest, 0, burnt(52.0, 9.0)) is not None  # a companion


def test_the_model_of_a_blend_holds_where_all_its_stars_have_wings() -> None:
    rows, columns = np.indices((64, 64))

    def within(x: float, y: float) -> BoolArray:
        return np.asarray(np.hypot(columns - x, rows - y) <= 32 - EDGE)

    alone = unlike(64, (31.0, 32.0), np.zeros((0, 2)))
    assert np.array_equal(alone, ~within(31.0, 32.0))
    blend = unlike(64, (31.0, 32.0), np.array([[20.0, -3.0]]))
    assert np.array_equal(blend, ~(within(31.0, 32.0) & within(51.0, 29.0)))


def wide(width: float) -> FloatArray:
    """Return a round PSF on the fine grid for stamps of 64 pixels, sum 1."""
    j, i = np.mgrid[-64:64, -64:64] / FINE
    grid = np.exp(-(i**2 + j**2) / (2 * width**2))
    return np.asarray(grid / grid.sum())


def seen(**changes: Any) -> Star:
    """Return a star."""
    return Star(np.ones((64, 64)), 100.0, 32.0, 32.0, 1e6, STILL, **changes)


def test_a_psf_that_is_not_that_of_a_star_is_doubted() -> None:
    prior, noise = to_spectrum(wide(5.0)), wide(11.0)
    assert share_within(wide(5.0), CORE) - share_within(noise, CORE) > UNLIKE
    assert "of the reference PSF" in doubts(Shape(to_spectrum(noise)), prior, [seen()])
    # as the tube breathes
    assert doubts(Shape(to_spectrum(wide(5.3))), prior, [seen()]) == ""
    blind, light = np.zeros((64, 64), bool), np.zeros((128, 65), complex)
    assert doubts(Shape(prior), prior, [seen(saturated=blind)]) == ""
    blended = seen(saturated=blind, companions=light)
    assert "saturated" in doubts(Shape(prior), prior, [blended])


def reduced(folder: Path, library: Path, star: list[float]) -> Published:
    """Simulate and reduce ten images of a star of G = 9 with a companion."""
    settings = {
        "images": 10,
        "saa": "never",
        "near_stars": 0,
        "stars": 5,
        "transit": False,
        "more_stars": [star] if star else [],
        "streaks": 0,
    }
    simulate_visit(folder / "visit", Case.model_validate(settings), 7)
    bench = Bench(folder / "visit", (library,), folder / "work", folder / "products")
    published, _ = bench.reduce()
    assert published is not None
    return published


def curve(published: Published, name: str) -> fits.FITS_rec:
    """Return a light curve."""
    (path,) = Path(published.folder).glob(f"*Lightcurve-{name}_V*.fits")
    return fits.getdata(path, 1)


@pytest.fixture(scope="module")
def lone(library: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Return the flux of the star without a companion, by light curve."""
    published = reduced(tmp_path_factory.mktemp("lone"), library, [])
    names = ("DEFAULT", "PSF")
    return {name: float(np.nanmedian(curve(published, name)["FLUX"])) for name in names}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("star", "psf"),
    [
        ([-8.0, 0.0, 8.0, 5900.0], 0.02),
        ([1.0, 0.0, 9.0, 5900.0], None),  # one star to all but the catalogue
        ([20.0, 0.0, 7.0, 5900.0], 0.07),  # saturated: the PSF is the reference's
    ],
    ids=["8 arcsec, 1 mag brighter", "1 arcsec, equal", "20 arcsec, 2 mag brighter"],
)
def test_a_target_with_a_companion_has_its_own_light(
    star: list[float],
    psf: float | None,
    library: Path,
    lone: dict[str, float],
    tmp_path: Path,
) -> None:
    published = reduced(tmp_path, library, star)
    table = curve(published, "DEFAULT")
    assert np.isfinite(table["FLUX"]).all()
    own = table["FLUX"] / (1.0 + table["CONTA_LC"])
    doubt = float(np.median(table["CONTA_LC_ERR"] / (1.0 + table["CONTA_LC"])))
    # goals of such a blend: 1 %, or three stated errors
    assert float(np.median(own)) == pytest.approx(lone["DEFAULT"], rel=max(0.01, 3 * doubt))
    if psf is not None:
        flux = curve(published, "PSF")["FLUX"]
        assert float(np.nanmedian(flux)) == pytest.approx(lone["PSF"], rel=psf)
        # saturated companions move with the star: 600 ppm remain
        assert float(np.nanstd(flux)) / lone["PSF"] < 2e-3
