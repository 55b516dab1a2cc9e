"""What each correction does to the light curve: the electrons in one circle around the star, effect by effect.

The effects are taken away by the function that writes the corrected images, one at a time. Nothing but the report reads this.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.payloads import Background, CorrectionStages, Defects, Look, Product, Smearing
from schemas.terms import CORRECTION_STAGES, DEFAULT_RADIUS, TERMS
from tasks.clean import Effects, clean_block
from tasks.correction.defects import read_defects
from tasks.exposures import look_places, term_column, term_image
from tasks.fits_writer import NewHdu
from tasks.geometry import circle_sums
from tasks.level1 import open_images
from tasks.step import Leaves, step

FloatArray = npt.NDArray[np.float64]
# What is taken away, in this order, and the column that says what is left.
ORDER = {"smearing": "SMEARING", "static": "STATIC", "hits": "COSMIC_RAYS", "background": "BACKGROUND"}


def one_by_one(effects: Effects) -> list[Effects]:
    """Return effects one at a time, in the order in which they are taken away; those not known as ones that do nothing."""
    none = np.zeros_like(effects.background)
    return [Effects(**{"background": none, name: getattr(effects, name)}) for name in ORDER]


def stages(images: FloatArray, block: slice, effects: Effects, x: FloatArray, y: FloatArray, radius: float) -> FloatArray:
    """Return the sums of a block of images within a circle, as they are and after each effect is taken away, shape (n, k + 1).

    Parameters
    ----------
    images : ndarray, shape (n, ny, nx)
        Calibrated images; they are corrected in place [electron per stack].
    block : slice
        Which images of the visit these are.
    effects : Effects
        What is known of the effects in all images of the visit.
    x, y : ndarray, shape (n,)
        Centres in the window, pixel i spans [i, i+1) [pixel].
    radius : float
        Radius of the circle [pixel].
    """
    sums = [circle_sums(images, x, y, radius)]
    for effect in one_by_one(effects):
        clean_block(images, block, effect)
        sums.append(circle_sums(images, x, y, radius))
    return np.stack(sums, axis=1)


@step("correction_stages", version="1", payload=CorrectionStages, leaves=["TERM_COR_STAGES"])
def measure_correction_stages(
    calibrated: Product, look: Look, background: Background, smearing: Smearing, defects: Defects
) -> Leaves:
    """Measure the light curve within one circle after each correction."""
    (level,) = term_column(background.product, "TERM_BACKGROUND", "LEVEL")
    x, y = look_places(look)
    with open_images(calibrated) as images:
        smeared = term_image(smearing.product, "TERM_SMEARING")
        effects = Effects(level, smeared, *read_defects(defects, images.count, images.shape))
        sums = np.empty((images.count, len(CORRECTION_STAGES)))
        for block, pixels in images.blocks():
            places = x[block] - images.x_offset, y[block] - images.y_offset
            sums[block] = stages(pixels, block, effects, *places, DEFAULT_RADIUS)
        columns = {"MJD_TIME": images.mjd, **dict(zip(CORRECTION_STAGES, sums.T, strict=True))}
    return Leaves({"TERM_COR_STAGES": [NewHdu(TERMS["TERM_COR_STAGES"], columns=columns)]})
