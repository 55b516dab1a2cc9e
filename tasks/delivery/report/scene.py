"""The scene in one image, for the report: models of target and field stars, and the residual."""

from __future__ import annotations

import numpy as np

from schemas.arrays import FloatArray
from schemas.payloads import CalibratedVisit, CorrectedVisit
from tasks.scene.residuals import Residuals
from tasks.visit.images import Images


def scene_of(
    calibrated: CalibratedVisit, corrected: CorrectedVisit, images: Images, i: int
) -> tuple[FloatArray, FloatArray, FloatArray] | None:
    """Return models of target and field stars, and the residual, of a corrected image.

    Parameters
    ----------
    calibrated, corrected : CalibratedVisit, CorrectedVisit
        Terms of position, PSF, stars and noise.
    images : Images
        Corrected images.
    i : int
        Index of the image.

    Returns
    -------
    target, field, pull : ndarray, shape (ny, nx)
        Models [electron], and (image - target - field) / noise, with the noise of star, sky and
        read-out. None if the target was not found in the image, or the visit has no PSF.
    """
    readout = calibrated.readout
    leaves = (
        corrected.psf,
        corrected.pointing,
        corrected.position,
        corrected.stars,
        corrected.look,
        calibrated.bias,
    )
    scene, removed = corrected.scene, corrected.removed
    if not all(leaf.products for leaf in leaves) or not scene.has_psf:
        return None
    residuals = Residuals.of(images, scene, readout, removed, corrected=True)
    place = residuals.x[i], residuals.y[i]
    if not (np.isfinite(place).all() and residuals.flux[i] > 0):
        return None
    image, target, field = residuals.take(i)
    noise = np.sqrt(np.maximum(target + field, 0.0) + residuals.floor[i])
    return target, field, (image - target - field) / noise
