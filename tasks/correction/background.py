"""Background: sky and stray light, the same for all pixels of an image, from a ring around the target.

Stars, cosmic rays and hot pixels in the ring are left out by clipping around its median; the error is that of the mean.
"""

from __future__ import annotations

import numpy as np

from schemas.flags import Quality
from schemas.payloads import Background, Look, Product
from schemas.settings import BackgroundSettings
from schemas.terms import TERMS
from tasks.exposures import term_column
from tasks.fits_writer import NewHdu
from tasks.level1 import open_images
from tasks.robust import ring_statistics, robust_scatter
from tasks.step import Leaves, step

HIGH = 300.0  # electron per pixel and exposure: above it the detector's response is no longer trusted
SPIKE_FACTOR, SPIKE_SIGMA = 3.0, 10.0


@step("background", "BKGSL_W", version="1", payload=Background, leaves=["TERM_BACKGROUND"])
def estimate_background(calibrated: Product, look: Look, settings: BackgroundSettings) -> Leaves:
    """Estimate the background of every image from the ring around the target."""
    if settings.outer <= settings.inner:
        from schemas.errors import ConfigurationError

        raise ConfigurationError(f"background.outer {settings.outer} is not above background.inner {settings.inner}")
    x, y = term_column(look.product, "TERM_LOOK", "CENTROID_X", "CENTROID_Y")
    with open_images(calibrated) as images:
        # one place for all images: a ring that moves with the star would see other stars and hot pixels in each
        centre = [np.nanmedian(v) if np.isfinite(v).any() else np.nan for v in (x - images.x_offset, y - images.y_offset)]
        middle = [images.shape[1] / 2, images.shape[0] / 2]
        place = [np.full(images.count, c if np.isfinite(c) else m) for c, m in zip(centre, middle, strict=True)]
        found = np.empty((images.count, 4))
        for block, pixels in images.blocks():
            px, py = place[0][block], place[1][block]
            ring_statistics(pixels, px, py, settings.inner, settings.outer, settings.clip, found[block])
        mjd, nexp = images.mjd, images.nexp
    level, error = found[:, 1], found[:, 2] / np.sqrt(np.maximum(found[:, 3], 1.0))
    good = np.isfinite(level)
    warnings = []
    if not good.all():
        warnings.append(f"the ring of {(~good).sum()} images holds no pixel: background 0")
        level, error = np.where(good, level, 0.0), np.where(good, error, 0.0)
    median = float(np.median(level[good])) if good.any() else 0.0
    usual = np.maximum(SPIKE_FACTOR * median, median + SPIKE_SIGMA * robust_scatter(level[good]))
    spike = (level > HIGH * nexp) | (level > usual)
    used = {"RING_IN": settings.inner, "RING_OUT": settings.outer, "BKG_AVG": median, "BKG_ERR": float(np.median(error))}
    quality = np.where(spike, int(Quality.BACKGROUND), 0) | np.where(good, 0, int(Quality.UNUSABLE_IMAGE))
    columns = {"MJD_TIME": mjd, "LEVEL": level, "LEVEL_ERR": error, "QUALITY": quality}
    return Leaves({"TERM_BACKGROUND": [NewHdu(TERMS["TERM_BACKGROUND"], used, columns=columns)]}, used=used, warnings=warnings)
