"""Position of the target in every image, by its PSF.

The PSF of the visit, moved and blurred as the satellite moved, is fitted to each image for flux,
place and level. Where there is no PSF, the place is the centre of light. Positions are on the
exposed CCD area, pixel i spans [i, i+1).
"""

from __future__ import annotations

import numpy as np

from schemas.arrays import FloatArray
from schemas.flags import Quality
from schemas.payloads import (
    Background,
    Bias,
    Defects,
    Gain,
    Look,
    Pointing,
    Position,
    Product,
    Psf,
    Smearing,
    Stars,
)
from schemas.settings import PositionSettings
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.writer import NewHdu
from tasks.numerics.robust import robust_scatter
from tasks.scene.light import centre_of_light
from tasks.scene.psf import pixel_floor
from tasks.scene.residuals import Residuals
from tasks.scene.star_model import read_psf
from tasks.scene.stars import read_field
from tasks.scene.track import read_track
from tasks.visit.clean import clean_block, read_effects
from tasks.visit.images import open_images
from tasks.visit.terms import term_column

FEWEST = 3  # images that must have made the PSF before it is trusted with positions


def middle_of(values: FloatArray) -> float:
    """Return the median of the finite values, 0 without any."""
    good = values[np.isfinite(values)]
    return float(np.median(good)) if good.size else 0.0


@step("position", "WCS", version="4", payload=Position, leaves=["TERM_POSITION"])
def estimate_position(
    calibrated: Product,
    look: Look,
    pointing: Pointing,
    background: Background,
    bias: Bias,
    gain: Gain,
    psf: Psf,
    stars: Stars,
    smearing: Smearing,
    defects: Defects,
    settings: PositionSettings,
) -> Leaves:
    """Estimate the position of the target in every image: by its PSF, or by its centre of light
    where there is none.
    """
    x0, y0, flux = term_column(look.product, "TERM_LOOK", "CENTROID_X", "CENTROID_Y", "FLUX")
    track = read_track(pointing)
    model = read_psf(psf) if int(psf.used.get("PSF_N", 0)) >= FEWEST else None
    with open_images(calibrated) as images:
        n = images.count
        found = np.empty((n, 5))
        floor = pixel_floor(background, bias, gain, images.nexp)
        guess_x = np.where(np.isfinite(x0), x0, middle_of(x0)) - images.x_offset
        guess_y = np.where(np.isfinite(y0), y0, middle_of(y0)) - images.y_offset
        effects = read_effects(images, background, smearing, defects)
        field = read_field(stars, model, track) if model is not None else None
        guess = guess_x + images.x_offset, guess_y + images.y_offset
        rest = Residuals(images, model, track, *guess, flux, effects, floor, field)
        for block, pixels in images.blocks():
            clean_block(pixels, block, effects)
            for i in range(block.start, block.stop):
                pixels[i - block.start] -= rest.field_image(i)
            centre_of_light(
                pixels,
                guess_x[block],
                guess_y[block],
                settings.radius,
                settings.iterations,
                floor[block],
                found[block],
            )
            if model is not None:
                for i in range(block.start, block.stop):
                    if found[i, 4] == 1 and flux[i] > 0:
                        motion = track.during(
                            float(images.mjd[i]),
                            track.span(images.nexp, images.exposure_time),
                            model.lag,
                        )
                        image, warmth = pixels[i - block.start], float(rest.warmth[i])
                        found[i] = model.place(
                            image, found[i], float(flux[i]), float(floor[i]), motion, warmth
                        )
        mjd, offset = images.mjd, np.array([images.x_offset, images.y_offset])
    good = found[:, 4] == 1
    x, y = found[:, 0] + offset[0], found[:, 1] + offset[1]
    # a place far from where the target is in the other images is another thing: a cosmic ray, an
    # empty image
    if good.any():
        for values in (x, y):
            spread = max(robust_scatter(values[good]), 0.05)
            good &= np.abs(values - np.median(values[good])) < 20 * spread
    warnings = []
    if not good.all():
        warnings.append(
            f"no position could be measured in {(~good).sum()} images: interpolated and flagged"
        )
        for values in (x, y):
            values[~good] = np.interp(mjd[~good], mjd[good], values[good]) if good.any() else np.nan
    errors = np.where(good[:, None], found[:, 2:4], np.nan)
    used = {
        "POS_X": float(np.median(x)),
        "POS_Y": float(np.median(y)),
        "POS_STDX": robust_scatter(x),
        "POS_STDY": robust_scatter(y),
        "POS_RAD": settings.radius,
    }
    used = {k: v if np.isfinite(v) else 0.0 for k, v in used.items()}
    columns = {
        "MJD_TIME": mjd,
        "X": x,
        "Y": y,
        "X_ERR": errors[:, 0],
        "Y_ERR": errors[:, 1],
        "VALIDITY": (~good).astype(np.uint8),
        "QUALITY": np.where(good, 0, int(Quality.CENTROID)),
    }
    return Leaves(
        {"TERM_POSITION": [NewHdu(TERMS["TERM_POSITION"], used, columns=columns)]},
        used=used,
        warnings=warnings,
    )
