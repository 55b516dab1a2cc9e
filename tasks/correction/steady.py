"""Static defects of the detector: hot, warm and dead pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.ndimage

from schemas.arrays import BoolArray, Float32Array, FloatArray, IntArray
from schemas.flags import PixelFlag
from schemas.settings import DefectSettings
from tasks.correction.telegraphic import find_telegraphic
from tasks.numerics.robust import MAD_TO_SIGMA, median_of_known
from tasks.numerics.squares import median_of_squares
from tasks.scene.residuals import Residuals

MANY = 4  # images; over fewer, the scatter of a pixel is mostly chance

RARELY = 0.06  # of the images; a level seen more rarely may be cosmic rays

DARKER = 0.5  # of the star's light; a pixel with less is dead

LEAST_NOISE = 1e-6  # electron; images without any noise are simulated

ALIKE = 5  # pixel; side of the square in which the star's model is equally wrong

NEIGHBOURHOOD = 7  # pixel; side of the square around a pixel whose median is the reference


def static_excess(
    median: FloatArray, error: FloatArray, star: FloatArray, significance: float, share: float
) -> FloatArray:
    """Return the steady excess to subtract, shape (ny, nx) [electron].

    It must be significant, and larger than the error of the star's model.

    Parameters
    ----------
    median, error : ndarray, shape (ny, nx)
        Median residual over the sample, above that of the neighbourhood, and its error [electron].
    star : ndarray, shape (ny, nx)
        Mean of the star's model over the sample [electron].
    significance, share : float
        Smallest excess in units of its error, and of the star's light in the pixel.
    """
    steady = (median > significance * error) & (median > share * star)
    return np.where(steady, median, 0.0)


@dataclass
class Sample:
    """Statistics of every pixel over images spread over the visit, shape (ny, nx)."""

    median: FloatArray  # median residual [electron]
    scatter: FloatArray  # robust scatter of the residual [electron]
    usual: FloatArray  # expected scatter, which chance hardly affects [electron]
    star: FloatArray  # mean of the target's model [electron]
    noise: FloatArray  # of one image: model, sky, read-out, steady excess [electron]
    telegraphic: BoolArray
    outside: BoolArray  # outside of the window


def sample_statistics(
    rest: Residuals, chosen: IntArray, likely: BoolArray, settings: DefectSettings
) -> Sample:
    """Return the statistics of residuals over a sample of images.

    `likely` are telegraphic pixels of the reference map.
    """
    residuals = np.empty((len(chosen), *rest.images.shape), np.float32)
    total, field_light = np.zeros(rest.images.shape), np.zeros(rest.images.shape)
    for k, i in enumerate(chosen):
        image, target, others = rest.take(int(i))
        residuals[k] = image - target - others
        total += target
        field_light += others
    missing = ~np.isfinite(residuals)
    outside = np.asarray(missing.all(axis=0))
    residuals[:, outside] = 0.0
    known = median_of_known(residuals)
    # a pixel that is lost in a few images is the usual one there
    np.copyto(residuals, known, where=missing)
    median = known.astype(np.float64)
    star, light = total / len(chosen), (total + field_light) / len(chosen)
    noise = np.sqrt(
        np.maximum(light, 0.0) + float(np.median(rest.floor[chosen])) + np.maximum(median, 0.0)
    )
    telegraphic = np.zeros(median.shape, dtype=bool)
    if len(chosen) < MANY:
        return Sample(median, np.zeros_like(median), noise, star, noise, telegraphic, outside)
    away = residuals - median.astype(np.float32)
    np.abs(away, out=away)
    # copies of the sample would be a tenth of the memory of a reduction
    middle = np.median(away, axis=0, overwrite_input=True)
    del away
    scatter = MAD_TO_SIGMA * middle.astype(np.float64)
    usual = usual_scatter(scatter, noise, len(chosen))
    sample = Sample(median, scatter, usual, star, noise, telegraphic, outside)
    mark_telegraphic(residuals, sample, likely, settings)
    return sample


def usual_scatter(scatter: FloatArray, noise: FloatArray, count: int) -> FloatArray:
    """Return the expected scatter of every pixel, at least its noise, shape (ny, nx) [electron].

    Errors of the star's model affect neighbouring pixels alike, and only chance affects a single
    one: the scatter over `count` images, from the median deviation, has an error of 1.17 /
    sqrt(count). It is therefore that of the surroundings, relative to the noise. A pixel has its
    own scatter as far as it exceeds two errors.
    """
    ratio = scatter / np.maximum(noise, LEAST_NOISE)
    around = median_of_squares(ratio, ALIKE)
    own = ratio / (1.0 + 2.0 * 1.17 / np.sqrt(count))
    return np.asarray(noise * np.maximum(np.maximum(around, own), 1.0))


def mark_telegraphic(
    residuals: Float32Array, sample: Sample, likely: BoolArray, settings: DefectSettings
) -> None:
    """Mark the telegraphic pixels of a sample, in place.

    For `likely` ones smaller jumps are accepted.
    """
    # a jump must exceed the error of the star's model, which is proportional to its light
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
    """Return an image minus the median around each pixel, shape (ny, nx).

    The star's far wings and errors of its PSF cancel. Pixels outside of the window are ignored, and
    have no excess.
    """
    usual = median_of_squares(median, NEIGHBOURHOOD)
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
    """Return which pixels have significantly less than half of the expected light, (ny, nx).

    The light of pixels that are dark in the flat field has been restored, so these do not count.
    Without sufficient light, no pixel is dead.
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
