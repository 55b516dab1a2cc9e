"""Position of the target in every image, by its PSF.

The PSF of the visit, shifted and blurred by the motion of the satellite, is fitted to each image
for flux, place and level. Without a PSF, the position is the centre of light. Positions are on the
exposed CCD area, pixel i spans [i, i+1).
"""

from __future__ import annotations

import numpy as np

from schemas.arrays import BoolArray, FloatArray
from schemas.flags import Quality
from schemas.payloads import Position, Product, ReadOut, Removed, Scene
from schemas.settings import PositionSettings
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.writer import NewHdu
from tasks.numerics.robust import robust_scatter
from tasks.scene.light import centre_of_light
from tasks.scene.residuals import Residuals, corrected_look
from tasks.visit.clean import clean_block
from tasks.visit.images import open_images
from tasks.visit.terms import LookTerm


def middle_of(values: FloatArray) -> float:
    """Return the median of the finite values, or 0 without any."""
    good = values[np.isfinite(values)]
    return float(np.median(good)) if good.size else 0.0


@step("position", "WCS", version="11", payload=Position, leaves=["TERM_POSITION"])
def estimate_position(
    calibrated: Product,
    scene: Scene,
    readout: ReadOut,
    removed: Removed,
    settings: PositionSettings,
) -> Leaves:
    """Estimate the position of the target in every image, by its PSF or its centre of light."""
    with open_images(calibrated) as images:
        place = first_guess(corrected_look(scene))
        residuals = Residuals.of(images, scene, readout, removed, place)
        found = measure_places(residuals, settings)
        mjd, offset = images.mjd, np.array([images.x_offset, images.y_offset])
    good = found[:, 4] == 1
    x, y = found[:, 0] + offset[0], found[:, 1] + offset[1]
    drop_strays(x, y, good)
    warnings = []
    if not good.all():
        warnings.append(
            f"the position could not be measured in {(~good).sum()} images: "
            f"{'interpolated' if good.any() else 'that of the first look'} and flagged"
        )
        if good.any():
            interpolate(mjd, x, y, good)
        else:
            x, y = place
    errors = np.where(good[:, None], found[:, 2:4], np.nan)
    used = position_values(x, y, settings.radius)
    columns = {
        "MJD_TIME": mjd,
        "X": x,
        "Y": y,
        "X_ERR": errors[:, 0],
        "Y_ERR": errors[:, 1],
        "FLUX": np.where(good, found[:, 5], np.nan),
        "LEVEL": np.where(good, found[:, 6], np.nan),
        "VALIDITY": (~good).astype(np.uint8),
        "QUALITY": np.where(good, 0, int(Quality.CENTROID)),
    }
    return Leaves(
        {"TERM_POSITION": [NewHdu(TERMS["TERM_POSITION"], used, columns=columns)]},
        used=used,
        warnings=warnings,
    )


def first_guess(look: LookTerm) -> tuple[FloatArray, FloatArray]:
    """Return the places of the first look on the CCD, or their median where it has none."""
    x, y = (np.where(np.isfinite(v), v, middle_of(v)) for v in (look.x, look.y))
    return x, y


def measure_places(residuals: Residuals, settings: PositionSettings) -> FloatArray:
    """Measure the target in every image: x, y, their errors, 1 if found, flux and level, (n, 7).

    Places are those in the images [pixel]; flux and level are NaN without a fit [electron].
    """
    images = residuals.images
    found = np.full((images.count, 7), np.nan)
    for block, pixels in images.blocks():
        blind = [residuals.blind(i, image) for i, image in enumerate(pixels, block.start)]
        clean_block(pixels, block, residuals.effects)
        field = np.empty_like(pixels)
        for k, i in enumerate(range(block.start, block.stop)):
            if (saturated := blind[k]) is not None:
                pixels[k][saturated] = np.nan
            residuals.settle(i, pixels[k])
            field[k] = residuals.field_image(i)
            pixels[k] -= field[k]
        centre_of_light(
            pixels,
            residuals.x[block],
            residuals.y[block],
            settings.radius,
            settings.iterations,
            residuals.floor[block],
            found[block],
        )
        for i, image in enumerate(pixels, block.start):
            seen = found[i, 4] == 1 or residuals.blended(i)
            if residuals.model is not None and seen and residuals.flux[i] > 0:
                found[i] = residuals.place(i, image, found[i], field[i - block.start])
    return found


def drop_strays(x: FloatArray, y: FloatArray, good: BoolArray) -> None:
    """Mark places far from those in the other images as bad, in place.

    These are places of something else, such as a cosmic ray in an empty image.
    """
    if good.any():
        for values in (x, y):
            spread = max(robust_scatter(values[good]), 0.05)
            good &= np.abs(values - np.median(values[good])) < 20 * spread


def interpolate(mjd: FloatArray, x: FloatArray, y: FloatArray, good: BoolArray) -> None:
    """Interpolate bad places from the good ones, in place."""
    for values in (x, y):
        values[~good] = np.interp(mjd[~good], mjd[good], values[good])


def position_values(x: FloatArray, y: FloatArray, radius: float) -> dict[str, float]:
    """Return median place, scatter, and radius of the window by keyword [pixel]."""
    used = {
        "POS_X": float(np.median(x)),
        "POS_Y": float(np.median(y)),
        "POS_STDX": robust_scatter(x),
        "POS_STDY": robust_scatter(y),
        "POS_RAD": radius,
    }
    return {k: v if np.isfinite(v) else 0.0 for k, v in used.items()}
