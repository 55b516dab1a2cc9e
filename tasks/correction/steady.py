"""What stands still on the detector: hot, dead and warm pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.ndimage

from schemas.arrays import BoolArray, Float32Array, FloatArray, IntArray
from schemas.flags import PixelFlag
from schemas.settings import DefectSettings
from tasks.correction.telegraphic import find_telegraphic
from tasks.numerics.robust import MAD_TO_SIGMA
from tasks.scene.residuals import Residuals

MANY = 4  # images; the scatter of a pixel over fewer says more of chance than of the pixel

RARELY = 0.06  # a level that is met in a smaller share of the images may be cosmic rays

DARKER = 0.5  # a pixel that shows less of the star's light than this is dead

NEIGHBOURHOOD = 7  # pixel; side of the square that tells what the surroundings of a pixel show


def static_excess(
    median: FloatArray, error: FloatArray, star: FloatArray, significance: float, share: float
) -> FloatArray:
    """Return the steady excess that is taken away: where it is significant, and more than the
    star's model may err.

    Parameters
    ----------
    median, error : ndarray, shape (ny, nx)
        Median residual over the sample, above that of the neighbourhood, and its error [electron].
    star : ndarray, shape (ny, nx)
        Mean of the star's model over the sample [electron].
    significance, share : float
        Smallest excess in units of its error, and of the star's light on the pixel.
    """
    taken = (median > significance * error) & (median > share * star)
    return np.where(taken, median, 0.0)


@dataclass
class Sample:
    """What some images, spread over the visit, tell of every pixel; shapes (ny, nx)."""

    median: FloatArray  # median residual [electron]
    scatter: FloatArray  # robust scatter of the residual [electron]
    star: FloatArray  # mean of the target's model [electron]
    noise: FloatArray  # of one image: model, sky, read-out, steady excess [electron]
    telegraphic: BoolArray
    outside: BoolArray  # of the window, or without a value in one of the images


def sample_statistics(
    rest: Residuals, chosen: IntArray, likely: BoolArray, settings: DefectSettings
) -> Sample:
    """Return what the residuals of a sample tell of the pixels.

    `likely` are pixels that the reference map says jump between two levels.
    """
    residuals = np.empty((len(chosen), *rest.images.shape), np.float32)
    total, field_light = np.zeros(rest.images.shape), np.zeros(rest.images.shape)
    for k, i in enumerate(chosen):
        image, target, others = rest.take(int(i))
        residuals[k] = image - target - others
        total += target
        field_light += others
    outside = np.asarray(~np.isfinite(residuals).all(axis=0))
    residuals[:, outside] = 0.0
    median = np.median(residuals, axis=0).astype(np.float64)
    star, light = total / len(chosen), (total + field_light) / len(chosen)
    noise = np.sqrt(
        np.maximum(light, 0.0) + float(np.median(rest.floor[chosen])) + np.maximum(median, 0.0)
    )
    telegraphic = np.zeros(median.shape, dtype=bool)
    if len(chosen) < MANY:
        return Sample(median, np.zeros_like(median), star, noise, telegraphic, outside)
    scatter = MAD_TO_SIGMA * np.median(
        np.abs(residuals - median.astype(np.float32)), axis=0
    ).astype(np.float64)
    sample = Sample(median, scatter, star, noise, telegraphic, outside)
    mark_telegraphic(residuals, sample, likely, settings)
    return sample


def mark_telegraphic(
    residuals: Float32Array, sample: Sample, likely: BoolArray, settings: DefectSettings
) -> None:
    """Mark the pixels of a sample that jump between two levels, in place.

    Smaller jumps are believed of pixels that are `likely` to.
    """
    # where the star is bright its model errs by a share of its light: a jump must be larger than
    # that
    understood = np.sqrt(sample.noise**2 + (settings.share * sample.star) ** 2)
    understood[sample.outside] = np.nan
    gap, contrast, fewest = settings.gap, settings.contrast, max(4, int(RARELY * len(residuals)))
    find_telegraphic(residuals, understood, gap, contrast, fewest, sample.telegraphic)
    if likely.any():
        known = np.zeros_like(sample.telegraphic)
        understood[~likely] = np.nan
        find_telegraphic(residuals, understood, 0.6 * gap, 0.6 * contrast, 3, known)
        sample.telegraphic |= known


def above_neighbours(median: FloatArray, outside: BoolArray) -> FloatArray:
    """Return an image minus the median of each pixel's neighbourhood: the star's far wings and
    errors of its PSF cancel.

    Pixels outside of the window tell nothing of those within it, and have no excess.
    """
    usual: FloatArray = scipy.ndimage.median_filter(median, NEIGHBOURHOOD, mode="nearest")
    edge = ~outside & scipy.ndimage.maximum_filter(outside, NEIGHBOURHOOD, mode="nearest")
    if edge.any():
        around = np.pad(
            np.where(outside, np.nan, median), NEIGHBOURHOOD // 2, constant_values=np.nan
        )
        squares = np.lib.stride_tricks.sliding_window_view(around, (NEIGHBOURHOOD, NEIGHBOURHOOD))[
            edge
        ]
        usual[edge] = np.nanmedian(squares, axis=(1, 2))
    return np.where(outside, 0.0, median - usual)


def dead_pixels(
    median: FloatArray, error: FloatArray, star: FloatArray, significance: float
) -> BoolArray:
    """Return which pixels show less than half of the light that they should, significantly, shape
    (ny, nx).

    A pixel of the flat field that is known to be dark has its light multiplied up again, and is
    none of these. Where there is next to no light nothing can be missing.
    """
    return np.asarray((median < -DARKER * star) & (DARKER * star > significance * error))


def map_flags(codes: IntArray) -> IntArray:
    """Return the codes of the reference map as `PixelFlag` bits."""
    flags = np.zeros(codes.shape, np.int64)
    for code, bit in (
        (1, PixelFlag.MAP_HOT),
        (3, PixelFlag.MAP_TELEGRAPHIC),
        (-2, PixelFlag.MAP_DEAD),
        (-1, PixelFlag.MAP_PARTIALLY_DEAD),
        (2, PixelFlag.MAP_SATURATED),
    ):
        flags[codes == code] |= int(bit)
    return flags
