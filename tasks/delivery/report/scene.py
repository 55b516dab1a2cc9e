"""The model of the scene in one image: the target, its field stars, and the residual."""

from __future__ import annotations

import numpy as np

from schemas.arrays import FloatArray
from schemas.payloads import CalibratedVisit, CorrectedVisit
from tasks.scene.psf import pixel_floor
from tasks.scene.residuals import Residuals
from tasks.scene.star_model import read_psf
from tasks.scene.stars import read_field
from tasks.scene.track import read_track
from tasks.visit.clean import Effects
from tasks.visit.images import Images
from tasks.visit.terms import term_column

FEWEST = 3  # images from which the PSF must have been measured

ROUNDS = 2  # of the fit, as in PSF photometry


def scene_of(
    calibrated: CalibratedVisit, corrected: CorrectedVisit, images: Images, i: int
) -> tuple[FloatArray, FloatArray, FloatArray] | None:
    """Model target and field stars in one corrected image.

    Parameters
    ----------
    calibrated, corrected : CalibratedVisit, CorrectedVisit
        Their terms hold position, PSF, stars and noise.
    images : Images
        Corrected images.
    i : int
        Index of the image.

    Returns
    -------
    target, field, pull : ndarray, shape (ny, nx)
        Models [electron], and the residual (image - target - field) / noise, with the noise of
        star, sky and read-out. None if the target was not found in the image, or if the visit has
        no PSF of its own.
    """
    leaves = (
        corrected.psf,
        corrected.pointing,
        corrected.position,
        corrected.stars,
        corrected.look,
        calibrated.bias,
    )
    if (
        not all(leaf.products for leaf in leaves)
        or int(corrected.psf.used.get("PSF_N", 0)) < FEWEST
    ):
        return None
    x, y = term_column(corrected.position.product, "TERM_POSITION", "X", "Y")
    (flux,) = term_column(corrected.look.product, "TERM_LOOK", "FLUX")
    if not (np.isfinite(x[i]) and np.isfinite(y[i]) and flux[i] > 0):
        return None
    floor = pixel_floor(corrected.background, calibrated.bias, calibrated.gain, images.nexp)
    model, track = read_psf(corrected.psf), read_track(corrected.pointing)
    nothing = Effects(np.zeros(images.count))  # the images are free of all effects
    rest = Residuals(
        images, model, track, x, y, flux, nothing, floor, read_field(corrected.stars, model, track)
    )
    image, target, field = rest.take(i, ROUNDS)
    noise = np.sqrt(np.maximum(target + field, 0.0) + floor[i])
    return target, field, (image - target - field) / noise
