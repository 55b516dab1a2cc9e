"""Background: level and slope of sky and stray light in every image.

The first round uses the clipped mean of a ring around the target, or a plane if the background is
much brighter on one side. The second round subtracts the scene: known stars, smeared light, hot
pixels, cosmic rays and the median of the sample, which contains the target's far wings. The sampled
images are derotated and averaged, and bright cells (stars missing from the catalogue, halos missing
from the PSF) are masked. The remaining cells of the ring, in distance and position angle, are the
windows. In these a plane about the target is fitted to every image, with clipping; the slope is
kept if it is significant (Bayesian information criterion). With a slope, the level at the target
does not depend on which side of the ring is masked. Level and slope are relative to the median
image, whose mean over the ring is part of the level, as in the first round.

Images with far more background than the others, or suddenly more, are flagged, as are those with a
background that is much brighter on one side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.arrays import BoolArray, FloatArray, IntArray
from schemas.errors import ConfigurationError
from schemas.flags import PixelFlag, Quality
from schemas.payloads import Background, FirstScene, Product, ReadOut, Removed, Scene
from schemas.settings import BackgroundSettings
from schemas.terms import TERMS
from tasks.correction.ring import (
    SECTORS,
    Plane,
    add_to_field,
    cells,
    crowded,
    excess,
    fit_planes,
    free_windows,
    ring_around,
    sector_means,
    slope_gain,
    used_pixels,
)
from tasks.correction.ring_starlight import starlight_in_level
from tasks.engine.step import Leaves, step
from tasks.files.writer import NewHdu
from tasks.numerics.robust import ring_statistics, robust_scatter
from tasks.scene.prior import read_reference_psf
from tasks.scene.residuals import Residuals
from tasks.scene.ring import fit_ring, window_of
from tasks.scene.stars import Field, neighbours_by_reference
from tasks.visit.clean import read_flags
from tasks.visit.images import Images, open_images
from tasks.visit.terms import LookTerm, read_gain, read_look, read_roll, read_static

UNSTEADY = (
    PixelFlag.TELEGRAPHIC
    | PixelFlag.DEAD
    | PixelFlag.MAP_TELEGRAPHIC
    | PixelFlag.MAP_DEAD
    | PixelFlag.OUTSIDE
)

# electron per pixel and exposure; above it the response of the detector is not trusted
HIGH = 300.0

SPIKE_FACTOR, SPIKE_SIGMA = 3.0, 10.0

# of the target's light, which moves from near wings into the ring per degree of the telescope. In
# flight a circle of 40 pixels loses 4e-4, of which about half stays within the ring
HALO = 2e-4
SUDDEN = 1.0  # of the usual background; excess over neighbouring images of a spike

# electron; about a count of the converter, the smallest scatter assumed in the first round
COUNT = 2.0

NEIGHBOURS = 5  # images before and after an image

STEEP = 1.0  # of the usual background; change across the ring


def check_ring(settings: BackgroundSettings) -> None:
    """Reject an empty ring."""
    if settings.outer <= settings.inner:
        raise ConfigurationError(
            f"background.outer {settings.outer} is not above background.inner {settings.inner}"
        )


def spikes(level: FloatArray, good: BoolArray, nexp: int) -> BoolArray:
    """Return which images have an exceptional background.

    It is far above that of the other images or of their neighbours, or beyond the trusted range of
    the detector.
    """
    if not good.any():
        return np.zeros(len(level), dtype=bool)
    usual = float(np.median(level[good]))
    # from differences of neighbours, since orbital variations of stray light are not noise
    noise = robust_scatter(np.diff(level[good])) / np.sqrt(2)
    limit = usual + max((SPIKE_FACTOR - 1) * abs(usual), SPIKE_SIGMA * noise)
    around = running_median(np.where(good, level, np.nan), NEIGHBOURS)
    sudden = level - around > max(SUDDEN * abs(usual), SPIKE_SIGMA * noise)
    return np.asarray((level > HIGH * nexp) | (level > limit) | sudden)


def running_median(values: FloatArray, reach: int) -> FloatArray:
    """Return the median of each value and up to `reach` values on either side, ignoring NaN."""
    ends = np.full(reach, np.nan)
    rows = np.lib.stride_tricks.sliding_window_view(
        np.concatenate([ends, values, ends]), 2 * reach + 1
    )
    known = np.isfinite(rows).any(axis=1)
    middle = np.full(len(values), np.nan)
    middle[known] = np.nanmedian(rows[known], axis=1)
    return middle


def steep(level: FloatArray, slope: FloatArray, good: BoolArray, outer: float) -> BoolArray:
    """Return in which images the change across the ring exceeds the usual background.

    Insignificant slopes are 0 already (Bayesian information criterion).

    Parameters
    ----------
    level : ndarray, shape (n,)
        Background [electron].
    slope : ndarray, shape (n, 2)
        Its change along x and y [electron/pixel].
    good : ndarray of bool, shape (n,)
        Images with a background.
    outer : float
        Outer radius of the ring [pixel].
    """
    if not good.any():
        return np.zeros(len(level), dtype=bool)
    usual = abs(float(np.median(level[good])))
    return np.asarray(good & (2 * outer * np.hypot(slope[:, 0], slope[:, 1]) > STEEP * usual))


@dataclass(frozen=True)
class Measured:
    """Background of every image of a visit."""

    mjd: FloatArray  # (n,)
    nexp: int
    found: FloatArray  # (n, 3) level and its error [electron], and number of pixels
    slope: FloatArray  # (n, 2) [electron/pixel]
    centre: tuple[float, float]  # where the background has its level, on the CCD [pixel]
    in_wings: bool = False  # the window is too small for the ring
    empty: BoolArray | None = None  # (n,) images without any pixel
    stars: float = 0.0  # light of field stars that is part of the level [electron]


def background_leaves(
    extname: str,
    measured: Measured,
    field: FloatArray,
    windows: BoolArray,
    settings: BackgroundSettings,
    warnings: list[str],
) -> Leaves:
    """Return the term of the background, with the averaged field and its windows."""
    found, slope = measured.found, measured.slope
    good = np.isfinite(found[:, 0])
    lost = ~good if measured.empty is None else ~good & ~measured.empty
    if lost.any():
        warnings.append(
            f"the background ring of {lost.sum()} images has too few pixels: background 0, flagged"
        )
    if measured.in_wings:
        warnings.append(
            f"the window is too small for the background ring: measured between "
            f"{settings.inner:.0f} and {settings.outer:.0f} pixels, in the wings of the star; all "
            f"images flagged"
        )
    level, error = np.where(good, found[:, 0], 0.0), np.where(good, found[:, 1], 0.0)
    used = {
        "RING_IN": settings.inner,
        "RING_OUT": settings.outer,
        "BKG_X": measured.centre[0],
        "BKG_Y": measured.centre[1],
        "BKG_AVG": float(np.median(level[good])) if good.any() else 0.0,
        "BKG_ERR": float(np.median(error)),
        "BKG_GRAD": float(np.median(np.hypot(slope[:, 0], slope[:, 1]))),
        "BKG_WIN": float(windows.mean()),
        "BKG_STAR": measured.stars,
    }
    columns = {
        "MJD_TIME": measured.mjd,
        "LEVEL": level,
        "LEVEL_ERR": error,
        "SLOPE_X": np.where(good, slope[:, 0], 0.0),
        "SLOPE_Y": np.where(good, slope[:, 1], 0.0),
        "PIXELS": found[:, 2].astype(np.int32),
        "QUALITY": background_flags(measured, level, good, settings.outer),
    }
    nowhere = {"X_WINOFF": 0, "Y_WINOFF": 0}
    mask = windows.astype(np.float64)
    hdus = [
        NewHdu(TERMS[extname], used, columns=columns),
        NewHdu(TERMS["TERM_BACKGROUND_SKY"], nowhere, pixels=field),
        NewHdu(TERMS["TERM_BACKGROUND_WINDOWS"], nowhere, pixels=mask),
    ]
    return Leaves({extname: hdus}, used=used, warnings=warnings)


def background_flags(
    measured: Measured, level: FloatArray, good: BoolArray, outer: float
) -> IntArray:
    """Return the flags of every image; `good` images have a background."""
    bright, slanted = spikes(level, good, measured.nexp), steep(level, measured.slope, good, outer)
    quality = np.where(bright, int(Quality.BACKGROUND), 0)
    quality |= np.where(good, 0, int(Quality.UNUSABLE_IMAGE))
    quality |= np.where(slanted, int(Quality.GRADIENT), 0)
    quality |= int(Quality.BACKGROUND) if measured.in_wings else 0
    return quality


def usual_place(look: LookTerm, images: Images) -> tuple[float, float]:
    """Return the median place of the target in the images, pixel i spans [i, i+1) [pixel].

    This is the middle of the images if the target is not seen.
    """
    places = []
    for values, side in (
        (look.x - images.x_offset, images.shape[1]),
        (look.y - images.y_offset, images.shape[0]),
    ):
        good = values[np.isfinite(values)]
        places.append(float(np.median(good)) if good.size else side / 2)
    return places[0], places[1]


@step("background_1", version="10", payload=Background, leaves=["TERM_BACKGROUND_1"])
def estimate_background_1(
    calibrated: Product, first: FirstScene, settings: BackgroundSettings, stamp: int
) -> Leaves:
    """Estimate the background of every image from the whole ring around the target.

    Known neighbours are drawn with the reference PSF, in stamps of side `stamp` [pixel], and
    subtracted.
    """
    check_ring(settings)
    look = read_look(first.look)
    field = neighbours_by_reference(first.prior, look.flux, first.pointing, stamp)
    with open_images(calibrated) as images:
        # one place for all images: a ring that follows the star would have other stars and hot
        # pixels in each
        x, y = usual_place(look, images)
        intended, settings = settings, fit_ring(settings, window_of(images), x, y)
        everywhere = np.ones(cells(settings), dtype=bool)
        ring = ring_around((x, y), radii_of(settings), np.zeros(images.shape, dtype=bool))
        rings, planes = np.empty((images.count, 4)), np.empty((images.count, 6))
        for block, pixels in images.blocks():
            if field is not None:
                subtract_neighbours(pixels, block, field, images, look)
            measure_rings(pixels, (x, y), settings, rings[block])
            for i, image in enumerate(pixels, block.start):
                used = used_pixels(image, ring, 0.0, everywhere)
                planes[i] = fit_planes(used, ring.outer, settings.clip, COUNT)[1]
        found, slope = choose_slopes(rings, planes, settings.outer)
        centre = x + images.x_offset, y + images.y_offset
        small, empty = settings != intended, ~np.isfinite(look.flux)
        measured = Measured(images.mjd, images.nexp, found, slope, centre, small, empty)
    nothing = np.zeros(cells(settings))
    return background_leaves("TERM_BACKGROUND_1", measured, nothing, everywhere, settings, [])


def subtract_neighbours(
    pixels: FloatArray, block: slice, field: Field, images: Images, look: LookTerm
) -> None:
    """Subtract the target's neighbours from a block of images, in place."""
    span = field.track.span(images.nexp, images.exposure_time)
    for i, image in enumerate(pixels, block.start):
        star = float(look.x[i]) - images.x_offset, float(look.y[i]) - images.y_offset
        image -= field.image(images.shape, *star, float(images.mjd[i]), span)


def radii_of(settings: BackgroundSettings) -> tuple[float, float]:
    """Return the radii of the ring [pixel]."""
    return settings.inner, settings.outer


def measure_rings(
    pixels: FloatArray,
    place: tuple[float, float],
    settings: BackgroundSettings,
    out: FloatArray,
) -> None:
    """Measure the ring in every image of a block, into `out` (see `ring_statistics`)."""
    x, y = (np.full(len(pixels), c) for c in place)
    ring_statistics(pixels, x, y, *radii_of(settings), settings.clip, out)


def choose_slopes(
    rings: FloatArray, planes: FloatArray, outer: float
) -> tuple[FloatArray, FloatArray]:
    """Return level, error and pixels, shape (n, 3), and slope, shape (n, 2), of every image.

    They are those of the plane if it is steep, since a remaining slope would look like cosmic rays
    on the bright side, and otherwise those of the ring. Smaller slopes are left to the windows.
    """
    error = rings[:, 2] / np.sqrt(np.maximum(rings[:, 3], 1.0))
    found = np.stack([rings[:, 1], error, rings[:, 3]], axis=1)
    good = np.isfinite(found[:, 0]) & np.isfinite(planes[:, 0])
    slanted = steep(found[:, 0], planes[:, 2:4], good, outer)
    found[slanted] = planes[slanted][:, [0, 1, 4]]
    return found, np.where(slanted[:, None], planes[:, 2:4], 0.0)


@step("background", "BKGSL_W", version="12", payload=Background, leaves=["TERM_BACKGROUND"])
def estimate_background(
    calibrated: Product,
    scene: Scene,
    readout: ReadOut,
    removed: Removed,
    settings: BackgroundSettings,
) -> Leaves:
    """Estimate level and slope of the background in clean windows of the ring."""
    check_ring(settings)
    with open_images(calibrated) as images:
        # the first background is subtracted here, and added again at the end
        rest = Residuals.of(images, scene, readout, removed)
        look = read_look(scene.look)
        place = usual_place(look, images)
        intended, settings = settings, fit_ring(settings, window_of(images), *place)
        sky = Surroundings(rest, scene, removed, settings)
        sums = sky.average(settings)
        mean, windows = free_windows(sums)
        found, slope = sky.measure(windows, settings.clip, read_gain(readout.gain).gain)
        plane = read_reference_psf(scene.prior)
        stars = starlight_in_level(rest, plane, sky.ring, settings.clip, sky.sampled)
        centre = sky.place[0] + images.x_offset, sky.place[1] + images.y_offset
        small, empty = settings != intended, ~np.isfinite(look.flux)
        measured = Measured(images.mjd, images.nexp, found, slope, centre, small, empty, stars)
    warnings = []
    if windows.all() and (sums[..., 1] > 0).any() and crowded(sums):
        warnings.append(
            "hardly any of the background ring is free of stars: all of it is used, with clipping"
        )
    field = float(np.median(np.sqrt(rest.floor))) * mean
    return background_leaves("TERM_BACKGROUND", measured, field, windows, settings, warnings)


class Surroundings:
    """The target's surroundings in every image, without known stars and effects."""

    def __init__(
        self, rest: Residuals, scene: Scene, removed: Removed, settings: BackgroundSettings
    ) -> None:
        assert removed.defects is not None
        look, roll = read_look(scene.look), read_roll(scene.pointing)
        static = rest.effects.static
        self.rest = rest
        self.place = usual_place(look, rest.images)
        self.turn = np.where(np.isfinite(roll), roll, 0.0)
        self.sampled = np.flatnonzero(look.sampled & np.isfinite(roll))
        bad = (read_flags(removed.defects) & int(UNSTEADY)) != 0
        self.area = np.pi * (settings.outer**2 - settings.inner**2)
        self.ring = ring_around(self.place, radii_of(settings), bad)
        self.steady = read_static(scene.look) - (0.0 if static is None else static)

    def image(self, i: int) -> FloatArray:
        """Return image `i` without known effects, field stars, and the median image."""
        return self.rest.without_field(i) - self.steady

    def average(self, settings: BackgroundSettings) -> FloatArray:
        """Sum the derotated sampled images; return sums and numbers of pixels by cell."""
        sums = np.zeros((*cells(settings), 2))
        for k in self.sampled:
            noise, roll = float(np.sqrt(self.rest.floor[k])), float(self.turn[k])
            add_to_field(self.image(int(k)), self.ring, roll, noise, sums)
        return sums

    def measure(
        self, windows: BoolArray, clip: float, gains: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return level, error and number of pixels, (n, 3), and slope, (n, 2), of every image."""
        effects, n = self.rest.effects, self.rest.images.count
        assert effects.slope is not None
        found, slope = np.full((n, 3), np.nan), np.zeros((n, 2))
        scatter, means = np.full(n, np.nan), np.zeros((n, SECTORS, 2))
        for i in range(n):
            pixels = used_pixels(self.image(i), self.ring, float(self.turn[i]), windows)
            flat, sloped = fit_planes(pixels, self.ring.outer, clip, 1.0 / float(gains[i]))
            plane = better_plane(flat, sloped)
            found[i] = plane.level, plane.error, plane.pixels
            slope[i] = effects.slope[i] + np.array([plane.slope_x, plane.slope_y])
            scatter[i] = plane.sigma
            if np.isfinite(plane.level):
                known = np.array([plane.level, plane.slope_x, plane.slope_y])
                sector_means(pixels, clip * plane.sigma, known, means[i])
        found[:, 0] += effects.background + self.usual_level(np.ones_like(windows), clip)
        found[:, 1] = np.hypot(found[:, 1] * excess(means, scatter), self.halo())
        return found, slope

    def usual_level(self, everywhere: BoolArray, clip: float) -> float:
        """Return the level of the median image, which is not 0 where stars are everywhere."""
        pixels = used_pixels(self.steady, self.ring, 0.0, everywhere)
        level = fit_planes(pixels, self.ring.outer, clip, COUNT)[0].level
        return level if np.isfinite(level) else 0.0

    def halo(self) -> FloatArray:
        """Return how much light the telescope's temperature moves into the ring, (n,) [electron].

        It is that of a pixel, and has the sign of the temperature, but is not known to better than
        its own size.
        """
        rest = self.rest
        if rest.model is None:
            return np.zeros(rest.images.count)
        degrees = rest.model.warm.spread * np.abs(rest.warmth)
        return np.asarray(HALO * degrees * np.maximum(rest.flux, 0.0) / self.area)


def better_plane(flat: Plane, sloped: Plane) -> Plane:
    """Return the plane with a slope if that is significant, otherwise the level."""
    # two more parameters must lower -2 ln L by more than 2 ln n (Bayesian information criterion)
    better = slope_gain(flat, sloped) > 2 * np.log(max(flat.pixels, 2))
    return sloped if better else flat
