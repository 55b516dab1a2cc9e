"""First look: a coarse position, ring level and flux of every calibrated image, and what stands still in them.

Nothing here enters a light curve; it tells the later steps where to begin, and a person what the visit looks like.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.errors import NoScienceDataError
from schemas.flags import UNUSABLE, Quality
from schemas.payloads import Events, Look, Pointing, Prior, Product
from schemas.settings import BackgroundSettings, LookSettings
from schemas.terms import TERMS
from tasks.exposures import term_column
from tasks.fits_writer import NewHdu
from tasks.geometry import circle_overlap
from tasks.level1 import Images, open_images
from tasks.robust import ring_statistics, robust_scatter
from tasks.scene.light import centre_of_light
from tasks.scene.psf import Track
from tasks.scene.stars import Field, neighbours_by_reference
from tasks.step import Leaves, step

FloatArray = npt.NDArray[np.float64]
FLUX_RADIUS = 25.0
WIDE, NARROW = 40.0, 25.0  # radii of the two windows that find the target [pixel]
TWICE = 2  # neighbours change the place at which they are drawn, and the flux to which theirs is relative
FOLLOWS = 0.5  # pixel; where centres of light scatter more about the attitude's places, it does not tell
SEEN = 5.0  # a flux below this many sigma of its noise is no star
FAR = 10.0  # a target further than this from its intended place is worth a warning [pixel]


def sample_indices(usable: npt.NDArray[np.bool_], size: int) -> npt.NDArray[np.int64]:
    """Return at most `size` of the usable images, evenly spread."""
    indices = np.flatnonzero(usable)
    if len(indices) <= size:
        return indices
    return np.asarray(indices[np.unique(np.linspace(0, len(indices) - 1, size).round().astype(int))])


@step("look", version="3", payload=Look, leaves=["TERM_LOOK"])
def take_look(
    calibrated: Product, events: Events, pointing: Pointing, prior: Prior, ring: BackgroundSettings, settings: LookSettings
) -> Leaves:
    """Measure coarse position, ring and flux of every image, and the median of a sample.

    Neighbours that the catalogue has are drawn with the reference PSF and don't count for position and flux.
    """
    (flags,) = term_column(events.product, "TERM_EVENTS", "QUALITY")
    with open_images(calibrated) as images:
        n = images.count
        place = float(pointing.used["LOC_X"]), float(pointing.used["LOC_Y"])
        x, y = np.full(n, place[0] - images.x_offset), np.full(n, place[1] - images.y_offset)
        rings, found, flux = np.empty((n, 4)), np.empty((n, 5)), np.full(n, np.nan)
        for block, pixels in images.blocks():
            ring_statistics(pixels, x[block], y[block], ring.inner, ring.outer, ring.clip, rings[block])
            pixels -= rings[block, 0][:, None, None]
            floor = np.maximum(rings[block, 2], 1.0) ** 2
            centre_of_light(pixels, x[block], y[block], WIDE, 10, floor, found[block])
            centre_of_light(pixels, found[block, 0], found[block, 1], NARROW, 10, floor, found[block])
            _sum_light(pixels, block, found, flux)
        for _ in range(TWICE):
            field = neighbours_by_reference(prior, flux, pointing)
            if field is not None:
                _look_without(field, images, (x, y), ring, rings, found, flux)
                _follow(field.track, images, found)
        noise = np.maximum(rings[:, 2], 1.0) * np.sqrt(np.pi) * FLUX_RADIUS
        usable = np.isfinite(flux) & (flux > SEEN * noise) & (flags & int(Quality.UNUSABLE_IMAGE) == 0)
        if not usable.any():
            raise NoScienceDataError(
                f"no star stands out within {WIDE:.0f} pixels of the intended place ({place[0]:.1f}, {place[1]:.1f}) "
                f"in any of {n} images"
            )
        chosen = sample_indices(usable & (flags == 0) if (usable & (flags == 0)).any() else usable, settings.sample)
        static = _median(images, chosen, rings[:, 0], field, found)
        mjd, offsets = images.mjd, {"X_WINOFF": images.x_offset, "Y_WINOFF": images.y_offset}
    warnings = []
    lost = ~usable & (flags & int(UNUSABLE) == 0)
    if lost.any():
        warnings.append(f"no star stands out in {lost.sum()} images: flagged")
    away = np.hypot(*(np.median(found[usable, i]) + offsets[k] - place[i] for i, k in enumerate(("X_WINOFF", "Y_WINOFF"))))
    if away > FAR:
        warnings.append(f"the target lies {away:.1f} pixels from its intended place ({place[0]:.1f}, {place[1]:.1f})")
    sampled = np.zeros(n, dtype=bool)
    sampled[chosen] = True
    columns = {
        "MJD_TIME": mjd, "CENTROID_X": np.where(usable, found[:, 0] + offsets["X_WINOFF"], np.nan),
        "CENTROID_Y": np.where(usable, found[:, 1] + offsets["Y_WINOFF"], np.nan), "RING": rings[:, 0], "FLUX": flux,
        "SAMPLED": sampled, "QUALITY": np.where(usable, 0, int(Quality.UNUSABLE_IMAGE)),
    }  # fmt: skip
    table = NewHdu(TERMS["TERM_LOOK"], columns=columns)
    image = NewHdu(TERMS["TERM_LOOK_STATIC"], offsets, pixels=static)
    return Leaves({"TERM_LOOK": [table, image]}, warnings=warnings)


def _sum_light(pixels: FloatArray, block: slice, found: FloatArray, flux: FloatArray) -> None:
    """Sum the light within 25 pixels of the places found, of images without their ring's level."""
    for i, image in enumerate(pixels, block.start):
        if np.isfinite(found[i, :2]).all():
            share = circle_overlap(image.shape, found[i, 0], found[i, 1], FLUX_RADIUS)
            flux[i] = float((np.where(np.isfinite(image), image, 0.0) * share).sum())


def _look_without(
    field: Field, images: Images, place: tuple[FloatArray, FloatArray], ring: BackgroundSettings, rings: FloatArray,
    found: FloatArray, flux: FloatArray,
) -> None:  # fmt: skip
    """Measure ring, place and light of the target once more, in place, without its neighbours, drawn where it was found."""
    duration = images.nexp * images.exposure_time
    for block, pixels in images.blocks():
        for i, image in enumerate(pixels, block.start):
            image -= field.image(images.shape, float(found[i, 0]), float(found[i, 1]), float(images.mjd[i]), duration)
        ring_statistics(pixels, place[0][block], place[1][block], ring.inner, ring.outer, ring.clip, rings[block])
        pixels -= rings[block, 0][:, None, None]
        floor = np.maximum(rings[block, 2], 1.0) ** 2
        centre_of_light(pixels, found[block, 0], found[block, 1], NARROW, 10, floor, found[block])
        _sum_light(pixels, block, found, flux)


def _follow(track: Track, images: Images, found: FloatArray) -> None:
    """Put the target where the attitude has it about its usual place, in place, if that is near where it was found.

    What is left of neighbours pulls at the centre of light, differently in every image, but not at the attitude.
    """
    duration = images.nexp * images.exposure_time
    means = np.array([track.mean(float(mjd), duration, 0.0) for mjd in images.mjd])
    away = found[:, :2] - means
    good = np.isfinite(away).all(axis=1)
    if good.any() and robust_scatter((away[good] - np.median(away[good], axis=0)).ravel()) < FOLLOWS:
        found[good, :2] = means[good] + np.median(away[good], axis=0)


def _median(
    images: Images, chosen: npt.NDArray[np.int64], level: FloatArray, field: Field | None, found: FloatArray
) -> FloatArray:
    """Return the median of some images above their rings' level, without the target's neighbours."""
    if not len(chosen):
        return np.zeros(images.shape)
    sample = np.empty((len(chosen), *images.shape), np.float32)
    for k, i in enumerate(chosen):
        sample[k] = images.take(int(i)) - level[i]
        if field is not None:
            place = float(found[i, 0]), float(found[i, 1])
            sample[k] -= field.image(images.shape, *place, float(images.mjd[i]), images.nexp * images.exposure_time)
    median: FloatArray = np.median(sample, axis=0).astype(np.float64)
    return np.where(np.isfinite(median), median, 0.0)
