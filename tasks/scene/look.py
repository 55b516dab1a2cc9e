"""First look: coarse position, ring level and flux of every calibrated image, and a median image.

None of this enters a light curve. It gives later steps a starting point, and people an overview of
the visit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.arrays import BoolArray, Float32Array, FloatArray, Int32Array, IntArray
from schemas.errors import NoScienceDataError
from schemas.flags import UNUSABLE, Quality
from schemas.light_curves import DEFAULT_RADIUS
from schemas.payloads import Events, Look, Pointing, Prior, Product
from schemas.settings import BackgroundSettings, LookSettings
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.writer import NewHdu
from tasks.numerics.geometry import circle_overlap
from tasks.numerics.robust import MAD_TO_SIGMA, median_of_known, ring_statistics, robust_scatter
from tasks.numerics.sample import spread_evenly
from tasks.scene.blend import Blend, read_blend
from tasks.scene.light import centre_of_light
from tasks.scene.ring import fit_ring, window_of
from tasks.scene.stars import Field
from tasks.scene.track import Track
from tasks.visit.images import Images, open_images
from tasks.visit.terms import count_saturated, read_events, read_image_flags

# radii of the two windows that find the target [pixel]: one reaches a target that is off its
# intended place, the other omits most neighbours. No settings: they give a first guess, which step
# position refines in the window of its own setting
WIDE, NARROW = 40.0, 25.0
MOVES = 10  # of a window that finds the target
STAYS = 0.05  # pixel; a target that moves by less leaves its neighbours' share of the light alone
# pixel; if centres of light scatter more about the attitude's places, the attitude is not used
FOLLOWS = 0.5
SEEN = 5.0  # sigma; a star is detected above it
# of the usual flux; with less it is not the star. No eclipse of a star is as deep.
LEAST_LIGHT = 0.1
BLOCK = 8  # pixel
FEWEST_USUAL = 12  # images; needed to recognise an unusual one
# unusual share of the sky, above that of the other images, in an image crossed by a satellite
CROSSED = 0.05
NEGLIGIBLE = 1e-4  # of the star's light; a trail may add as much to the aperture
FAR = 10.0  # pixel; a target this far from its intended place causes a warning


def steady(clear: BoolArray, uncertain: BoolArray) -> BoolArray:
    """Return which images show a PSF: those whose motion is known.

    If these are few, the others are used as well, unless they are the majority: a PSF of few images
    suffers more from a missing image than from a blur that is slightly wrong.
    """
    known = clear & ~uncertain
    few = known.sum() < FEWEST_USUAL and 2 * known.sum() >= clear.sum()
    return clear if few else known


def sample_indices(usable: BoolArray, size: int) -> IntArray:
    """Return at most `size` of the usable images, evenly spread."""
    indices = np.flatnonzero(usable)
    return np.asarray(indices[spread_evenly(len(indices), size)])


@step("look", version="14", payload=Look, leaves=["TERM_LOOK"])
def take_look(
    calibrated: Product,
    events: Events,
    pointing: Pointing,
    prior: Prior,
    ring: BackgroundSettings,
    settings: LookSettings,
    stamp: int,
) -> Leaves:
    """Measure coarse position, ring and flux of every image, and the median of a sample.

    Catalogued neighbours are drawn with the reference PSF, in stamps of side `stamp` [pixel], and
    do not contribute to position and flux (see `blend.py`).
    """
    flags = read_events(events).quality
    intended = float(pointing.used["LOC_X"]), float(pointing.used["LOC_Y"])
    with open_images(calibrated) as images:
        place = intended[0] - images.x_offset, intended[1] - images.y_offset
        ring = fit_ring(ring, window_of(images), *place)
        seen = first_sight(images, intended, ring)
        blend, field = read_blend(prior, seen.flux, pointing, stamp), None
        if blend is not None:
            separate(blend, images, seen, ring)
            follow(blend.target.track, images, seen)
            field = blend.scaled(seen.usual_flux())
        usable = shows_star(seen, flags, intended)
        uncertain = read_image_flags(pointing) != 0
        clear = steady(usable & (flags == 0), uncertain)
        chosen = sample_indices(clear if clear.any() else usable, settings.sample)
        sample = cut_sample(images, chosen, field, seen)
        static = median_image(sample)
        # images crossed by a satellite are not needed, as there are enough others
        chosen = chosen[~crossed_in_sample(sample, chosen, seen, ring.inner)]
        limit = saturation_limits(images, count_saturated(events), flags)
        mjd, offset = images.mjd, (images.x_offset, images.y_offset)
    x, y = seen.places[:, 0] + offset[0], seen.places[:, 1] + offset[1]
    sampled = np.zeros(len(mjd), dtype=bool)
    sampled[chosen] = True
    columns = {
        "MJD_TIME": mjd,
        "CENTROID_X": np.where(usable, x, np.nan),
        "CENTROID_Y": np.where(usable, y, np.nan),
        "RING": seen.rings[:, 0],
        "FLUX": seen.flux,
        "SAMPLED": sampled,
        "QUALITY": np.where(usable, 0, int(Quality.UNUSABLE_IMAGE)),
    }
    corner = {"X_WINOFF": offset[0], "Y_WINOFF": offset[1]}
    hdus = [
        NewHdu(TERMS["TERM_LOOK"], columns=columns),
        NewHdu(TERMS["TERM_LOOK_STATIC"], corner, pixels=static),
        NewHdu(TERMS["TERM_LOOK_LIMIT"], corner, pixels=limit),
    ]
    lost = ~usable & (flags & int(UNUSABLE) == 0)
    usual = [float(np.median(seen.places[usable, k]) + offset[k]) for k in range(2)]
    warnings = look_warnings(int(lost.sum()), (usual[0], usual[1]), intended)
    warnings += blur_warnings(int((sampled & uncertain).sum()), int(sampled.sum()))
    return Leaves({"TERM_LOOK": hdus}, warnings=warnings)


def saturation_limits(images: Images, count: IntArray, flags: Int32Array) -> FloatArray:
    """Return the values from which on the pixels are saturated, shape (ny, nx); 0: they never are.

    Raw images show in how many of them a pixel is saturated. These are the ones in which its
    calibrated value is largest.
    """
    limit, bright = np.zeros(images.shape), count > 0
    if not bright.any():
        return limit
    values = np.concatenate([pixels[:, bright] for _, pixels in images.blocks()])
    values = np.where(np.isfinite(values), values, -np.inf)[flags & int(UNUSABLE) == 0]
    ordered, times = np.sort(values, axis=0)[::-1], np.minimum(count[bright], len(values))
    limit[bright] = ordered[times - 1, np.arange(len(times))]
    return np.where(np.isfinite(limit), limit, 0.0)


@dataclass
class Seen:
    """The target in every image, refined in place."""

    intended: tuple[FloatArray, FloatArray]  # (n,) place in the images where the ring is centred
    rings: FloatArray  # (n, 4) see `ring_statistics`
    places: FloatArray  # (n, 5) in the images, see `centre_of_light`
    flux: FloatArray  # (n,) within the default aperture [electron]

    def subtract_ring(
        self, pixels: FloatArray, block: slice, ring: BackgroundSettings
    ) -> FloatArray:
        """Subtract the ring's level from a block of images; return the variance of its pixels."""
        x, y = (v[block] for v in self.intended)
        ring_statistics(pixels, x, y, ring.inner, ring.outer, ring.clip, self.rings[block])
        pixels -= self.rings[block, 0][:, None, None]
        floor: FloatArray = np.maximum(self.rings[block, 2], 1.0) ** 2
        return floor

    def find_centre(
        self, pixels: FloatArray, block: slice, floor: FloatArray, radius: float
    ) -> None:
        """Move the places in a block of images to the centre of light in a circular window."""
        places = self.places[block]
        x, y = places[:, 0].copy(), places[:, 1].copy()
        centre_of_light(pixels, x, y, radius, MOVES, floor, places)

    def usual_flux(self) -> float:
        """Return the median flux of the images that show light, 0 without any [electron]."""
        bright = self.flux[np.isfinite(self.flux) & (self.flux > 0)]
        return float(np.median(bright)) if bright.size else 0.0

    def sum_light(self, pixels: FloatArray, block: slice) -> None:
        """Sum the light within the default aperture in images without their ring's level."""
        for i, image in enumerate(pixels, block.start):
            x, y = self.places[i, :2]
            if np.isfinite(self.places[i, :2]).all():
                share = circle_overlap(image.shape, x, y, DEFAULT_RADIUS)
                self.flux[i] = float((np.where(np.isfinite(image), image, 0.0) * share).sum())


def first_sight(images: Images, intended: tuple[float, float], ring: BackgroundSettings) -> Seen:
    """Find the target near its intended place on the CCD, in a wide and then a narrow window."""
    n = images.count
    x = np.full(n, intended[0] - images.x_offset)
    y = np.full(n, intended[1] - images.y_offset)
    seen = Seen((x, y), np.empty((n, 4)), np.empty((n, 5)), np.full(n, np.nan))
    seen.places[:, 0], seen.places[:, 1] = x, y
    for block, pixels in images.blocks():
        floor = seen.subtract_ring(pixels, block, ring)
        seen.find_centre(pixels, block, floor, WIDE)
        seen.find_centre(pixels, block, floor, NARROW)
        seen.sum_light(pixels, block)
    return seen


def separate(blend: Blend, images: Images, seen: Seen, ring: BackgroundSettings) -> None:
    """Place the target within its blend, and divide the light of the aperture."""
    track = blend.neighbours.track
    duration = track.span(images.nexp, images.exposure_time)
    offset = np.zeros(2)  # of the centre of light; similar in the next image
    for block, pixels in images.blocks():
        pixels -= seen.rings[block, 0][:, None, None]
        levels = seen.rings[block, :2].copy()
        totals, ratios = np.full(len(pixels), np.nan), np.zeros(len(pixels))
        for k, i in enumerate(range(block.start, block.stop)):
            light, when = seen.places[i, :2], (float(images.mjd[i]), duration)
            if not np.isfinite(light).all():
                continue
            place, expected = light - offset, offset
            target, others = blend_images(blend, images.shape, place, *when)
            offset = blend.offset(target + others, place, (WIDE, NARROW))
            if np.hypot(*(offset - expected)) > STAYS:
                target, others = blend_images(blend, images.shape, light - offset, *when)
            seen.places[i, :2] = place = light - offset
            share = circle_overlap(images.shape, float(place[0]), float(place[1]), DEFAULT_RADIUS)
            own = float((target * share).sum())
            ratios[k] = float((others * share).sum()) / own if own > 0 else 0.0
            total = float((np.where(np.isfinite(pixels[k]), pixels[k], 0.0) * share).sum())
            totals[k] = total * ratios[k] / (1.0 + ratios[k])
            if own > 0:
                pixels[k] -= others * total / (own * (1.0 + ratios[k]))
        # the ring without neighbours, whose light is divided once more
        seen.subtract_ring(pixels, block, ring)
        seen.rings[block, :2] += levels
        seen.sum_light(pixels, block)
        seen.flux[block] = (seen.flux[block] + totals) / (1.0 + ratios)


def blend_images(
    blend: Blend, shape: tuple[int, int], place: FloatArray, mjd: float, duration: float
) -> tuple[FloatArray, FloatArray]:
    """Draw target and neighbours of a blend with the target at a place, shape (ny, nx) each."""
    x, y = float(place[0]), float(place[1])
    target, others = (f.image(shape, x, y, mjd, duration) for f in (blend.target, blend.neighbours))
    return target, others


def shows_star(seen: Seen, flags: Int32Array, intended: tuple[float, float]) -> BoolArray:
    """Return in which images the star is detected.

    Raises
    ------
    NoScienceDataError
        If it is detected in none.
    """
    noise = np.maximum(seen.rings[:, 2], 1.0) * np.sqrt(np.pi) * DEFAULT_RADIUS
    bright = np.isfinite(seen.flux) & (seen.flux > SEEN * noise)
    if bright.any():
        # what remains where the star is missing: neighbours, hot pixels
        bright &= seen.flux > LEAST_LIGHT * float(np.median(seen.flux[bright]))
    usable = bright & (flags & int(Quality.UNUSABLE_IMAGE) == 0)
    if not usable.any():
        raise NoScienceDataError(
            f"no star stands out within {WIDE:.0f} pixels of the intended place "
            f"({intended[0]:.1f}, {intended[1]:.1f}) "
            f"in any of {len(flags)} images: the target lies outside of the window, or is much "
            f"fainter than expected"
        )
    return np.asarray(usable)


def crossed_in_sample(
    sample: Float32Array, chosen: IntArray, seen: Seen, radius: float
) -> BoolArray:
    """Return which sampled images were crossed by a satellite, outside of `radius` [pixel]."""
    negligible = NEGLIGIBLE * float(np.median(seen.flux[chosen])) / (np.pi * DEFAULT_RADIUS**2)
    return crossed(sample, np.median(seen.places[chosen, :2], axis=0), radius, negligible)


def look_warnings(
    lost: int, place: tuple[float, float], intended: tuple[float, float]
) -> list[str]:
    """Return warnings about images without a star, and a target far from its intended place."""
    warnings = []
    if lost:
        warnings.append(f"no star stands out in {lost} images: flagged")
    away = np.hypot(place[0] - intended[0], place[1] - intended[1])
    if away > FAR:
        warnings.append(
            f"the target lies {away:.1f} pixels from its intended place ({intended[0]:.1f}, "
            f"{intended[1]:.1f})"
        )
    return warnings


def blur_warnings(unknown: int, sampled: int) -> list[str]:
    """Return a warning if the motion in some of few sampled images is unknown.

    An attitude that flags all images is named by `pointing`.
    """
    if not 0 < unknown < sampled:
        return []
    return [
        f"the motion in {unknown} of the {sampled} images that show the PSF is unknown: fewer "
        f"cosmic rays are found, and images without a flag may be off by as much as their noise"
    ]


def follow(track: Track, images: Images, seen: Seen) -> None:
    """Replace the places by those of the attitude about the usual place, if these agree.

    Residuals of neighbours displace the centre of light, differently in every image, but not the
    attitude.
    """
    duration = track.span(images.nexp, images.exposure_time)
    means = np.array([track.mean(float(mjd), duration, 0.0) for mjd in images.mjd])
    away = seen.places[:, :2] - means
    # without light there is no place but the first guess
    good = np.isfinite(away).all(axis=1) & (seen.flux > 0)
    if (
        good.any()
        and robust_scatter((away[good] - np.median(away[good], axis=0)).ravel()) < FOLLOWS
    ):
        seen.places[good, :2] = means[good] + np.median(away[good], axis=0)


def cut_sample(images: Images, chosen: IntArray, field: Field | None, seen: Seen) -> Float32Array:
    """Return some images without ring level and the target's neighbours, shape (k, ny, nx)."""
    sample = np.empty((len(chosen), *images.shape), np.float32)
    for k, i in enumerate(chosen):
        sample[k] = images.take(int(i)) - seen.rings[i, 0]
        if field is not None:
            duration = field.track.span(images.nexp, images.exposure_time)
            place = float(seen.places[i, 0]), float(seen.places[i, 1])
            sample[k] -= field.image(images.shape, *place, float(images.mjd[i]), duration)
    return sample


def median_image(sample: Float32Array) -> FloatArray:
    """Return the median of some images; 0 where all of them are NaN."""
    if not len(sample):
        return np.zeros(sample.shape[1:])
    median = median_of_known(sample).astype(np.float64)
    return np.where(np.isfinite(median), median, 0.0)


def crossed(sample: Float32Array, place: FloatArray, radius: float, negligible: float) -> BoolArray:
    """Return in which images much of the sky is unusual, by a satellite's trail or stray light.

    A trail is as wide as the PSF, and its edges are too faint for single pixels. The medians of
    blocks of pixels show it, and are insensitive to cosmic rays. Rotating field stars affect all
    images, and do not make any of them unusual.

    Parameters
    ----------
    sample : ndarray of float32, shape (k, ny, nx)
        Images without their sky level [electron].
    place : ndarray, shape (2,)
        Usual place x, y of the target; pixel i spans [i, i+1).
    radius : float
        Blocks closer to it show the target, and are ignored [pixel].
    negligible : float
        Blocks that deviate by less are ignored too [electron].
    """
    k, ny, nx = sample.shape
    rows, columns = ny // BLOCK, nx // BLOCK
    if k < FEWEST_USUAL or not rows * columns:
        return np.zeros(k, dtype=bool)
    blocks = sample[:, : rows * BLOCK, : columns * BLOCK].reshape(k, rows, BLOCK, columns, BLOCK)
    values = np.median(blocks.transpose(0, 1, 3, 2, 4).reshape(k, rows, columns, -1), axis=-1)
    j, i = (np.indices((rows, columns)) + 0.5) * BLOCK
    sky = np.isfinite(values).all(axis=0) & (np.hypot(i - place[0], j - place[1]) > radius + BLOCK)
    if not sky.any():
        return np.zeros(k, dtype=bool)
    away = np.abs(values[:, sky] - np.median(values[:, sky], axis=0))
    limit = np.maximum(SEEN * MAD_TO_SIGMA * np.median(away, axis=0), negligible)
    share = np.mean(away > limit, axis=1)
    return np.asarray(share > np.median(share) + CROSSED)
