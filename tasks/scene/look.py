"""First look: a coarse position, ring level and flux of every calibrated image, and what stands
still in them.

Nothing here enters a light curve; it tells the later steps where to begin, and a person what the
visit looks like.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.arrays import FloatArray
from schemas.errors import NoScienceDataError
from schemas.flags import UNUSABLE, Quality
from schemas.payloads import Events, Look, Pointing, Prior, Product
from schemas.settings import BackgroundSettings, LookSettings
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.writer import NewHdu
from tasks.numerics.geometry import circle_overlap
from tasks.numerics.robust import MAD_TO_SIGMA, ring_statistics, robust_scatter
from tasks.scene.light import centre_of_light
from tasks.scene.stars import Field, neighbours_by_reference
from tasks.scene.track import Track
from tasks.visit.images import Images, open_images
from tasks.visit.terms import term_column

FLUX_RADIUS = 25.0
WIDE, NARROW = 40.0, 25.0  # radii of the two windows that find the target [pixel]
# neighbours change the place at which they are drawn, and the flux to which theirs is relative
TWICE = 2
FOLLOWS = (
    0.5  # pixel; where centres of light scatter more about the attitude's places, it does not tell
)
SEEN = 5.0  # a flux below this many sigma of its noise is no star
BLOCK = 8  # pixel
FEWEST_USUAL = 12  # images; fewer do not tell what is usual
# share of the sky that is unusual, above that of the other images, where a satellite crossed the
# image
CROSSED = 0.05
NEGLIGIBLE = 1e-4  # light in the aperture that a trail may bring, of the star's
FAR = 10.0  # a target further than this from its intended place is worth a warning [pixel]


def sample_indices(usable: npt.NDArray[np.bool_], size: int) -> npt.NDArray[np.int64]:
    """Return at most `size` of the usable images, evenly spread."""
    indices = np.flatnonzero(usable)
    if len(indices) <= size:
        return indices
    return np.asarray(
        indices[np.unique(np.linspace(0, len(indices) - 1, size).round().astype(int))]
    )


@step("look", version="4", payload=Look, leaves=["TERM_LOOK"])
def take_look(
    calibrated: Product,
    events: Events,
    pointing: Pointing,
    prior: Prior,
    ring: BackgroundSettings,
    settings: LookSettings,
) -> Leaves:
    """Measure coarse position, ring and flux of every image, and the median of a sample.

    Neighbours that the catalogue has are drawn with the reference PSF and don't count for position
    and flux.
    """
    (flags,) = term_column(events.product, "TERM_EVENTS", "QUALITY")
    with open_images(calibrated) as images:
        n = images.count
        place = float(pointing.used["LOC_X"]), float(pointing.used["LOC_Y"])
        x, y = np.full(n, place[0] - images.x_offset), np.full(n, place[1] - images.y_offset)
        rings, found, flux = np.empty((n, 4)), np.empty((n, 5)), np.full(n, np.nan)
        for block, pixels in images.blocks():
            ring_statistics(
                pixels, x[block], y[block], ring.inner, ring.outer, ring.clip, rings[block]
            )
            pixels -= rings[block, 0][:, None, None]
            floor = np.maximum(rings[block, 2], 1.0) ** 2
            centre_of_light(pixels, x[block], y[block], WIDE, 10, floor, found[block])
            centre_of_light(
                pixels, found[block, 0], found[block, 1], NARROW, 10, floor, found[block]
            )
            _sum_light(pixels, block, found, flux)
        for _ in range(TWICE):
            field = neighbours_by_reference(prior, flux, pointing)
            if field is not None:
                _look_without(field, images, (x, y), ring, rings, found, flux)
                _follow(field.track, images, found)
        noise = np.maximum(rings[:, 2], 1.0) * np.sqrt(np.pi) * FLUX_RADIUS
        usable = (
            np.isfinite(flux) & (flux > SEEN * noise) & (flags & int(Quality.UNUSABLE_IMAGE) == 0)
        )
        if not usable.any():
            raise NoScienceDataError(
                f"no star stands out within {WIDE:.0f} pixels of the intended place "
                f"({place[0]:.1f}, {place[1]:.1f}) "
                f"in any of {n} images"
            )
        chosen = sample_indices(
            usable & (flags == 0) if (usable & (flags == 0)).any() else usable, settings.sample
        )
        sample = _sample(images, chosen, rings[:, 0], field, found)
        static = _median(sample)
        # they tell nothing of the star that the others do not tell better
        negligible = NEGLIGIBLE * float(np.median(flux[chosen])) / (np.pi * FLUX_RADIUS**2)
        chosen = chosen[
            ~crossed(sample, np.median(found[chosen, :2], axis=0), ring.inner, negligible)
        ]
        mjd, offsets = images.mjd, {"X_WINOFF": images.x_offset, "Y_WINOFF": images.y_offset}
    warnings = []
    lost = ~usable & (flags & int(UNUSABLE) == 0)
    if lost.any():
        warnings.append(f"no star stands out in {lost.sum()} images: flagged")
    away = np.hypot(
        *(
            np.median(found[usable, i]) + offsets[k] - place[i]
            for i, k in enumerate(("X_WINOFF", "Y_WINOFF"))
        )
    )
    if away > FAR:
        warnings.append(
            f"the target lies {away:.1f} pixels from its intended place ({place[0]:.1f}, "
            f"{place[1]:.1f})"
        )
    sampled = np.zeros(n, dtype=bool)
    sampled[chosen] = True
    columns = {
        "MJD_TIME": mjd,
        "CENTROID_X": np.where(usable, found[:, 0] + offsets["X_WINOFF"], np.nan),
        "CENTROID_Y": np.where(usable, found[:, 1] + offsets["Y_WINOFF"], np.nan),
        "RING": rings[:, 0],
        "FLUX": flux,
        "SAMPLED": sampled,
        "QUALITY": np.where(usable, 0, int(Quality.UNUSABLE_IMAGE)),
    }
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
    field: Field,
    images: Images,
    place: tuple[FloatArray, FloatArray],
    ring: BackgroundSettings,
    rings: FloatArray,
    found: FloatArray,
    flux: FloatArray,
) -> None:
    """Measure ring, place and light of the target once more, in place, without its neighbours,
    drawn where it was found.
    """
    duration = field.track.span(images.nexp, images.exposure_time)
    for block, pixels in images.blocks():
        for i, image in enumerate(pixels, block.start):
            image -= field.image(
                images.shape, float(found[i, 0]), float(found[i, 1]), float(images.mjd[i]), duration
            )
        ring_statistics(
            pixels,
            place[0][block],
            place[1][block],
            ring.inner,
            ring.outer,
            ring.clip,
            rings[block],
        )
        pixels -= rings[block, 0][:, None, None]
        floor = np.maximum(rings[block, 2], 1.0) ** 2
        centre_of_light(pixels, found[block, 0], found[block, 1], NARROW, 10, floor, found[block])
        _sum_light(pixels, block, found, flux)


def _follow(track: Track, images: Images, found: FloatArray) -> None:
    """Put the target where the attitude has it about its usual place, in place, if that is near
    where it was found.

    What is left of neighbours pulls at the centre of light, differently in every image, but not at
    the attitude.
    """
    duration = track.span(images.nexp, images.exposure_time)
    means = np.array([track.mean(float(mjd), duration, 0.0) for mjd in images.mjd])
    away = found[:, :2] - means
    good = np.isfinite(away).all(axis=1)
    if (
        good.any()
        and robust_scatter((away[good] - np.median(away[good], axis=0)).ravel()) < FOLLOWS
    ):
        found[good, :2] = means[good] + np.median(away[good], axis=0)


def _sample(
    images: Images,
    chosen: npt.NDArray[np.int64],
    level: FloatArray,
    field: Field | None,
    found: FloatArray,
) -> npt.NDArray[np.float32]:
    """Return some images above their rings' level, without the target's neighbours, shape (k, ny,
    nx).
    """
    sample = np.empty((len(chosen), *images.shape), np.float32)
    for k, i in enumerate(chosen):
        sample[k] = images.take(int(i)) - level[i]
        if field is not None:
            place = float(found[i, 0]), float(found[i, 1])
            sample[k] -= field.image(
                images.shape,
                *place,
                float(images.mjd[i]),
                field.track.span(images.nexp, images.exposure_time),
            )
    return sample


def _median(sample: npt.NDArray[np.float32]) -> FloatArray:
    """Return the median of some images, 0 where one of them has no number."""
    if not len(sample):
        return np.zeros(sample.shape[1:])
    median: FloatArray = np.median(sample, axis=0).astype(np.float64)
    return np.where(np.isfinite(median), median, 0.0)


def crossed(
    sample: npt.NDArray[np.float32], place: FloatArray, radius: float, negligible: float
) -> npt.NDArray[np.bool_]:
    """Return in which images much of the sky is not as usual: a satellite crossed them, or light
    came in.

    A trail is as wide as the PSF, and its edges are too faint to be seen in single pixels: medians
    of blocks of pixels show them, which cosmic rays do not move. What turning field stars do in all
    images makes none of these special.

    Parameters
    ----------
    sample : ndarray of float32, shape (k, ny, nx)
        Images without the level of their sky [electron].
    place : ndarray, shape (2,)
        Usual place x, y of the target; pixel i spans [i, i+1).
    radius : float
        Blocks that are nearer to it [pixel] show the target, and do not count.
    negligible : float
        Blocks that are off by less [electron] do not count either.
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
