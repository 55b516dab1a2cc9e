"""Pixels of references that cannot be right, and what replaces them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schemas.arrays import FloatArray
from tasks.numerics.robust import MAD_TO_SIGMA

# The bias of a pixel differs from the level by some ADU; bad columns by tens [ADU].
STRUCTURE = -500.0, 500.0
# A hot pixel fills within a second; noise makes cold ones slightly negative [electron/s].
DARK = -100.0, 1e5
# 0.01 electron/s at launch, 1 in 2024; twenty degrees warmer, 20 [electron/s].
USUAL_DARK = -1.0, 50.0
# The dark columns are of the same silicon and age as the pixels. In the frames of both
# simulators their median is that of the window to 1 %.
LIKE_COLUMNS = 0.5, 2.0
# Further apart, dividing would make pixels out of noise.
COMPARABLE = 0.1, 10.0
MEDIAN_NOISE = 1.25  # of a median, in units of that of a mean
# Dust and vignetting take some per cent of the light; dead pixels are found by their light.
RESPONSE = 0.05, 5.0
# Planes are normalised to a mean of 1 over the CCD, to 0.9917 in flight; a window differs from
# that by per cent.
MEAN_OF_CCD = 0.97, 1.03
MEAN_RESPONSE = 0.8, 1.25
# The bias frame has the level of its BIAS_OFFSET: in flight the two differ by 0.1 [ADU].
USUAL_STRUCTURE = 5.0


def replace_outside(
    pixels: FloatArray, limits: tuple[float, float], value: float, words: str, warnings: list[str]
) -> FloatArray:
    """Return an image in which pixels outside of some limits have another value, with a warning.

    Parameters
    ----------
    pixels : ndarray, shape (ny, nx)
        The image.
    limits : tuple of float
        Smallest and largest plausible value.
    value : float
        Replaces others.
    words : str
        The quantity, for the warning.
    warnings : list of str
        Receives the warning.
    """
    outside = ~((pixels >= limits[0]) & (pixels <= limits[1]))
    if not outside.any():
        return pixels
    y, x = (int(i[0]) for i in np.nonzero(outside))
    warnings.append(
        f"{words}: {outside.sum()} of {pixels.size} pixels of the window are outside of "
        f"{limits[0]:g} to {limits[1]:g} (the first, {pixels[y, x]:.4g}, at x = {x}, y = {y}): "
        f"{value:.4g} is used"
    )
    return np.where(outside, value, pixels)


def plausible_dark(
    rate: FloatArray, error: FloatArray, warnings: list[str]
) -> tuple[FloatArray, FloatArray]:
    """Return a map of the dark current without impossible pixels, and its error [electron/s].

    A map whose median is impossible is replaced by 0.
    """
    usual = float(np.median(rate[np.isfinite(rate)]))
    if not rate.any():
        warnings.append("the dark frames are 0 throughout: no dark current is subtracted")
        return rate, error
    if not USUAL_DARK[0] <= usual <= USUAL_DARK[1]:
        warnings.append(
            f"the dark frames have a median of {usual:.4g} electron/s, expected {USUAL_DARK[0]:g} "
            f"to {USUAL_DARK[1]:g}: no dark current is subtracted"
        )
        return np.zeros_like(rate), np.zeros_like(error)
    kept = replace_outside(rate, DARK, usual, "dark frames", warnings)
    errors = np.where((kept == rate) & (error >= 0) & (error <= DARK[1]), error, np.median(error))
    return kept, errors


def like_columns(
    rate: FloatArray, error: FloatArray, columns: Sequence[FloatArray], warnings: list[str]
) -> tuple[FloatArray, FloatArray]:
    """Return a map of the dark current, and its error, that agrees with the frames' dark columns.

    The visit's dark columns give the scale of the frames (`dark_scale.py`), so a map that does not
    belong to the columns of its own frame is wrong by the ratio of the two, and is divided by it.
    Ratios beyond `COMPARABLE` are named only. So few electrons in the columns that their noise
    hides them prove nothing.

    Parameters
    ----------
    rate, error : ndarray, shape (ny, nx)
        Map and its error [electron/s].
    columns : sequence of ndarray
        Dark columns of the sides that the frames have, in the rows of the window [electron/s].
    warnings : list of str
        Receives a warning.
    """
    pixels = np.concatenate([c.ravel() for c in columns]) if columns else np.zeros(0)
    if not pixels.size or not rate.any():
        return rate, error
    usual, beside = float(np.median(rate)), float(np.median(pixels))
    scatter = MAD_TO_SIGMA * float(np.median(np.abs(pixels - beside)))
    if not beside > 5 * MEDIAN_NOISE * scatter / np.sqrt(pixels.size):
        return rate, error
    ratio = usual / beside
    if LIKE_COLUMNS[0] <= ratio <= LIKE_COLUMNS[1]:
        return rate, error
    divided = COMPARABLE[0] <= ratio <= COMPARABLE[1]
    warnings.append(
        f"the dark frames have a median of {usual:.4g} electron/s in the window, but of "
        f"{beside:.4g} in their own dark columns (ratio {ratio:.3g}): "
        f"{'the map is divided by the ratio' if divided else 'they are used as they are'}"
    )
    return (rate / ratio, error / ratio) if divided else (rate, error)


def plausible_response(
    response: FloatArray, error: FloatArray, warnings: list[str]
) -> tuple[FloatArray, FloatArray]:
    """Return a flat field without impossible pixels, and its error.

    A flat field with an impossible mean is divided by it; one with mostly impossible pixels is
    replaced by 1.
    """
    good = (response >= RESPONSE[0]) & (response <= RESPONSE[1])
    if 2 * good.sum() < good.size:
        warnings.append(
            f"flat field: {good.sum()} of {good.size} pixels of the window are between "
            f"{RESPONSE[0]:g} and {RESPONSE[1]:g}: the images are not divided by it"
        )
        return np.ones_like(response), np.zeros_like(error)
    mean = float(response[good].mean())
    kept = replace_outside(response, RESPONSE, mean, "flat field", warnings)
    errors = np.where(good & (error >= 0) & (error <= 1), error, float(np.median(error)))
    if not MEAN_RESPONSE[0] <= mean <= MEAN_RESPONSE[1]:
        warnings.append(
            f"the flat field has a mean of {mean:.4g} in the window, expected {MEAN_RESPONSE[0]:g} "
            f"to {MEAN_RESPONSE[1]:g}: it is divided by its mean"
        )
        return kept / mean, errors / mean
    return kept, errors


def plausible_mean(
    response: FloatArray, error: FloatArray, warnings: list[str]
) -> tuple[FloatArray, FloatArray]:
    """Return a flat field of the whole CCD, and its error, divided by a mean that cannot be right.

    Unlike in a window, the mean is known to a few per cent. Impossible pixels do not count.
    """
    good = (response >= RESPONSE[0]) & (response <= RESPONSE[1])
    if 2 * good.sum() < good.size:
        return response, error
    mean = float(response[good].mean())
    if MEAN_OF_CCD[0] <= mean <= MEAN_OF_CCD[1]:
        return response, error
    warnings.append(
        f"the flat field has a mean of {mean:.4g} over the CCD, expected {MEAN_OF_CCD[0]:g} to "
        f"{MEAN_OF_CCD[1]:g}: it is divided by its mean"
    )
    return response / mean, error / mean


def plausible_structure(structure: FloatArray, warnings: list[str]) -> FloatArray:
    """Return the structure of the bias without impossible pixels or an impossible level [ADU]."""
    kept = replace_outside(structure, STRUCTURE, 0.0, "bias frame", warnings)
    level = float(np.median(kept))
    if abs(level) <= USUAL_STRUCTURE:
        return kept
    warnings.append(
        f"the bias frame is usually {level:.4g} ADU above its BIAS_OFFSET, expected "
        f"{-USUAL_STRUCTURE:g} to {USUAL_STRUCTURE:g}: that is subtracted from it"
    )
    return kept - level
