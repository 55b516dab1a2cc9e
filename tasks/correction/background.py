"""Background: sky and stray light, level and slope of every image.

The first round takes the clipped mean of a ring around the target, and a plane where the background
is much brighter on one side. The second knows the scene: known stars, smeared light, hot pixels,
cosmic rays and the median of the sample (in which the target's far wings stand still) are taken
away; the images of the sample are turned back so that the sky stands still and averaged, and what
stands out there (stars that no catalogue has, halos that the PSF lacks) is masked. What is left of
the ring are the windows, cells of distance and position angle. In them a plane is fitted to every
image about the target, clipped; the slope is kept where it says more than chance would (Bayesian
information criterion). A level at the target that is fitted together with a slope does not depend
on which side of the ring is masked. Level and slope are those above the usual image, whose mean
over the ring is part of the level, as in the first round.

Images are flagged that have far more background than others, or suddenly more, and those where it
is much brighter on one side.
"""

from __future__ import annotations

import numpy as np

from schemas.arrays import BoolArray, FloatArray
from schemas.errors import ConfigurationError
from schemas.flags import PixelFlag, Quality
from schemas.payloads import (
    Background,
    Bias,
    Defects,
    Gain,
    Look,
    Pointing,
    Prior,
    Product,
    Psf,
    Smearing,
    Stars,
)
from schemas.settings import BackgroundSettings
from schemas.terms import TERMS
from tasks.correction.ring import (
    SECTORS,
    add_to_field,
    cells,
    crowded,
    excess,
    fit_plane,
    free_windows,
    sector_means,
    window_gain,
)
from tasks.engine.step import Leaves, step
from tasks.files.writer import NewHdu
from tasks.numerics.robust import ring_statistics, robust_scatter
from tasks.scene.psf import pixel_floor
from tasks.scene.residuals import Residuals
from tasks.scene.star_model import read_psf
from tasks.scene.stars import neighbours_by_reference, read_field
from tasks.scene.track import read_track
from tasks.visit.clean import read_effects, read_flags
from tasks.visit.images import Images, open_images
from tasks.visit.terms import term_column, term_image

UNSTEADY = (
    PixelFlag.TELEGRAPHIC
    | PixelFlag.DEAD
    | PixelFlag.MAP_TELEGRAPHIC
    | PixelFlag.MAP_DEAD
    | PixelFlag.OUTSIDE
)

HIGH = (
    300.0  # electron per pixel and exposure: above it the detector's response is no longer trusted
)

SPIKE_FACTOR, SPIKE_SIGMA = 3.0, 10.0

SUDDEN = 1.0  # of the usual background: an image that is so much above its neighbours is a spike

# electrons of a count of the converter, about: pixels of the first round are not taken to scatter
# by less
COUNT = 2.0

NEIGHBOURS = 5  # before and behind an image

STEEP = 1.0  # of the usual background, across the ring


def check_ring(settings: BackgroundSettings) -> None:
    """Refuse a ring that is none."""
    if settings.outer <= settings.inner:
        raise ConfigurationError(
            f"background.outer {settings.outer} is not above background.inner {settings.inner}"
        )


def spikes(level: FloatArray, good: BoolArray, nexp: int) -> BoolArray:
    """Return which images have far more background than the others, or more than the detector's
    response is known for.
    """
    if not good.any():
        return np.zeros(len(level), dtype=bool)
    usual = float(np.median(level[good]))
    # differences of neighbours: stray light that comes and goes within an orbit is no noise
    noise = robust_scatter(np.diff(level[good])) / np.sqrt(2)
    limit = usual + max((SPIKE_FACTOR - 1) * abs(usual), SPIKE_SIGMA * noise)
    around = running_median(np.where(good, level, np.nan), NEIGHBOURS)
    sudden = level - around > max(SUDDEN * abs(usual), SPIKE_SIGMA * noise)
    return np.asarray((level > HIGH * nexp) | (level > limit) | sudden)


def running_median(values: FloatArray, reach: int) -> FloatArray:
    """Return the median of each value and up to `reach` on either side; NaN have no say, and where
    there is nothing else.
    """
    ends = np.full(reach, np.nan)
    rows = np.lib.stride_tricks.sliding_window_view(
        np.concatenate([ends, values, ends]), 2 * reach + 1
    )
    known = np.isfinite(rows).any(axis=1)
    middle = np.full(len(values), np.nan)
    middle[known] = np.nanmedian(rows[known], axis=1)
    return middle


def steep(level: FloatArray, slope: FloatArray, good: BoolArray, outer: float) -> BoolArray:
    """Return in which images the background changes across the ring by more than the usual
    background.

    Slopes that are no more than noise are 0 already (Bayesian information criterion).

    Parameters
    ----------
    level : ndarray, shape (n,)
        Background [electron].
    slope : ndarray, shape (n, 2)
        Its change along x and y [electron/pixel].
    good : ndarray of bool, shape (n,)
        Images of which it is known.
    outer : float
        Outer radius of the ring [pixel].
    """
    if not good.any():
        return np.zeros(len(level), dtype=bool)
    usual = abs(float(np.median(level[good])))
    return np.asarray(good & (2 * outer * np.hypot(slope[:, 0], slope[:, 1]) > STEEP * usual))


def background_leaves(
    extname: str,
    mjd: FloatArray,
    nexp: int,
    found: FloatArray,
    slope: FloatArray,
    centre: tuple[float, float],
    field: FloatArray,
    windows: BoolArray,
    settings: BackgroundSettings,
    warnings: list[str],
) -> Leaves:
    """Return the term from level, error and number of pixels, shape (n, 3), and slope, shape (n,
    2), of every image.
    """
    good = np.isfinite(found[:, 0])
    if not good.all():
        warnings.append(f"the ring of {(~good).sum()} images holds too few pixels: background 0")
    level, error = np.where(good, found[:, 0], 0.0), np.where(good, found[:, 1], 0.0)
    used = {
        "RING_IN": settings.inner,
        "RING_OUT": settings.outer,
        "BKG_X": centre[0],
        "BKG_Y": centre[1],
        "BKG_AVG": float(np.median(level[good])) if good.any() else 0.0,
        "BKG_ERR": float(np.median(error)),
        "BKG_GRAD": float(np.median(np.hypot(slope[:, 0], slope[:, 1]))),
        "BKG_WIN": float(windows.mean()),
    }
    quality = np.where(spikes(level, good, nexp), int(Quality.BACKGROUND), 0) | np.where(
        good, 0, int(Quality.UNUSABLE_IMAGE)
    )
    quality |= np.where(steep(level, slope, good, settings.outer), int(Quality.GRADIENT), 0)
    columns = {
        "MJD_TIME": mjd,
        "LEVEL": level,
        "LEVEL_ERR": error,
        "SLOPE_X": np.where(good, slope[:, 0], 0.0),
        "SLOPE_Y": np.where(good, slope[:, 1], 0.0),
        "PIXELS": found[:, 2].astype(np.int32),
        "QUALITY": quality,
    }
    nowhere = {"X_WINOFF": 0, "Y_WINOFF": 0}
    return Leaves(
        {
            extname: [
                NewHdu(TERMS[extname], used, columns=columns),
                NewHdu(TERMS["TERM_BACKGROUND_SKY"], nowhere, pixels=field),
                NewHdu(
                    TERMS["TERM_BACKGROUND_WINDOWS"], nowhere, pixels=windows.astype(np.float64)
                ),
            ]
        },
        used=used,
        warnings=warnings,
    )


def usual_place(look: Look, images: Images) -> tuple[float, float]:
    """Return the median place of the target in the images (pixel i spans [i, i+1)); the middle
    where nothing tells.
    """
    x, y = term_column(look.product, "TERM_LOOK", "CENTROID_X", "CENTROID_Y")
    places = []
    for values, side in (
        (x - images.x_offset, images.shape[1]),
        (y - images.y_offset, images.shape[0]),
    ):
        good = values[np.isfinite(values)]
        places.append(float(np.median(good)) if good.size else side / 2)
    return places[0], places[1]


@step("background_1", version="3", payload=Background, leaves=["TERM_BACKGROUND_1"])
def estimate_background_1(
    calibrated: Product, look: Look, pointing: Pointing, prior: Prior, settings: BackgroundSettings
) -> Leaves:
    """Estimate the background of every image from the whole ring around the target, without the
    neighbours that are known.
    """
    check_ring(settings)
    with open_images(calibrated) as images:
        # one place for all images: a ring that moves with the star would see other stars and hot
        # pixels in each
        place = usual_place(look, images)
        x, y = (np.full(images.count, p) for p in place)
        rings, planes = np.empty((images.count, 4)), np.empty((images.count, 6))
        nothing, everywhere = (
            np.zeros(images.shape, dtype=bool),
            np.ones(cells(settings), dtype=bool),
        )
        at_x, at_y, flux = term_column(
            look.product, "TERM_LOOK", "CENTROID_X", "CENTROID_Y", "FLUX"
        )
        field = neighbours_by_reference(prior, flux, pointing)
        for block, pixels in images.blocks():
            if field is not None:
                for i, image in enumerate(pixels, block.start):
                    star = float(at_x[i]) - images.x_offset, float(at_y[i]) - images.y_offset
                    span = field.track.span(images.nexp, images.exposure_time)
                    image -= field.image(images.shape, *star, float(images.mjd[i]), span)
            ring_statistics(
                pixels,
                x[block],
                y[block],
                settings.inner,
                settings.outer,
                settings.clip,
                rings[block],
            )
            for i, image in enumerate(pixels, block.start):
                planes[i] = fit_plane(
                    image,
                    nothing,
                    everywhere,
                    *place,
                    0.0,
                    settings.inner,
                    settings.outer,
                    settings.clip,
                    COUNT,
                    True,
                )
        found = np.stack(
            [rings[:, 1], rings[:, 2] / np.sqrt(np.maximum(rings[:, 3], 1.0)), rings[:, 3]], axis=1
        )
        # a slope that is left in the images would pass for cosmic rays on their bright side; small
        # ones wait for the windows
        good = np.isfinite(found[:, 0]) & np.isfinite(planes[:, 0])
        slanted = steep(found[:, 0], planes[:, 2:4], good, settings.outer)
        found[slanted] = planes[slanted][:, [0, 1, 4]]
        slope = np.where(slanted[:, None], planes[:, 2:4], 0.0)
        centre = place[0] + images.x_offset, place[1] + images.y_offset
        return background_leaves(
            "TERM_BACKGROUND_1",
            images.mjd,
            images.nexp,
            found,
            slope,
            centre,
            np.zeros(cells(settings)),
            everywhere,
            settings,
            [],
        )


@step("background", "BKGSL_W", version="4", payload=Background, leaves=["TERM_BACKGROUND"])
def estimate_background(
    calibrated: Product,
    look: Look,
    pointing: Pointing,
    bias: Bias,
    gain: Gain,
    first: Background,
    psf: Psf,
    stars: Stars,
    smearing: Smearing,
    defects: Defects,
    settings: BackgroundSettings,
) -> Leaves:
    """Estimate level and slope of the background in windows of the ring that are free of stars and
    defects.
    """
    check_ring(settings)
    x, y, flux, sampled = term_column(
        look.product, "TERM_LOOK", "CENTROID_X", "CENTROID_Y", "FLUX", "SAMPLED"
    )
    (roll,) = term_column(pointing.product, "TERM_POINTING", "ROLL_ANGLE")
    with open_images(calibrated) as images:
        n = images.count
        model = read_psf(psf) if int(psf.used.get("PSF_N", 0)) >= 3 else None
        track = read_track(pointing)
        # the first level is taken away and comes back at the end
        effects = read_effects(images, first, smearing, defects)
        assert effects.slope is not None
        bad = (read_flags(defects) & int(UNSTEADY)) != 0
        steady = term_image(look.product, "TERM_LOOK_STATIC") - (
            0.0 if effects.static is None else effects.static
        )
        field = read_field(stars, model, track) if model is not None else None
        floor = pixel_floor(first, bias, gain, images.nexp)
        rest = Residuals(images, model, track, x, y, flux, effects, floor, field)
        place = usual_place(look, images)
        turn = np.where(np.isfinite(roll), roll, 0.0)
        sums = np.zeros((*cells(settings), 2))
        for k in np.flatnonzero(sampled & np.isfinite(roll)):
            image = rest.without_field(int(k)) - steady
            ring = settings.inner, settings.outer
            add_to_field(
                image, bad, *place, float(turn[k]), *ring, 0.0, float(np.sqrt(floor[k])), sums
            )
        mean, windows = free_windows(sums)
        found, slope = np.full((n, 3), np.nan), np.zeros((n, 2))
        scatter, means = np.full(n, np.nan), np.zeros((n, SECTORS, 2))
        (gains,) = term_column(gain.product, "TERM_GAIN", "GAIN")
        for i in range(n):
            image = rest.without_field(i) - steady
            ring_and_clip = settings.inner, settings.outer, settings.clip, 1.0 / float(gains[i])
            flat = fit_plane(image, bad, windows, *place, float(turn[i]), *ring_and_clip, False)
            plane = fit_plane(image, bad, windows, *place, float(turn[i]), *ring_and_clip, True)
            # two more parameters must lower the log likelihood by more than ln n (BIC)
            taken = plane if window_gain(flat, plane) > 2 * np.log(max(flat[4], 2)) else flat
            found[i] = taken[0] + effects.background[i], taken[1], taken[4]
            slope[i], scatter[i] = effects.slope[i] + taken[2:4], taken[5]
            if np.isfinite(taken[0]):
                around = *place, float(turn[i]), settings.inner, settings.outer
                level_and_slope = np.array([taken[0], taken[2], taken[3]])
                sector_means(
                    image,
                    bad,
                    windows,
                    *around,
                    settings.clip * taken[5],
                    level_and_slope,
                    means[i],
                )
        found[:, 1] *= excess(means, scatter)
        centre = place[0] + images.x_offset, place[1] + images.y_offset
        warnings = []
        if windows.all() and (sums[..., 1] > 0).any() and crowded(sums):
            warnings.append(
                "hardly any part of the ring is free of stars: all of it is used, and clipped"
            )
        usual = float(np.median(np.sqrt(floor)))
        return background_leaves(
            "TERM_BACKGROUND",
            images.mjd,
            images.nexp,
            found,
            slope,
            centre,
            usual * mean,
            windows,
            settings,
            warnings,
        )
