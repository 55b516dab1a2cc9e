"""PSF photometry: the flux that the visit's PSF, moved and blurred as the satellite moved, has in
every corrected image.

Flux, place and level are fitted together, with weights from the model (weights from the data would
pull the flux down), and the level is known to be 0 within the error of the background. Field stars
are taken away before. The same model tells which share of the light each aperture holds in each
image, which varies as the motion within a stack does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.arrays import FloatArray
from schemas.light_curves import RADII
from schemas.payloads import Corrected, PsfFit, ReadOut, Removed, Scene
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.writer import NewHdu
from tasks.photometry.apertures import aperture_sums
from tasks.scene.residuals import ROUNDS, Residuals
from tasks.scene.star_model import circle
from tasks.visit.images import open_images
from tasks.visit.terms import read_background


@dataclass(frozen=True)
class Fit:
    """The target by PSF in one image."""

    flux: float  # [electron]
    error: float
    level: float  # [electron]
    chi2: float
    share: FloatArray  # (radii,) of the light within each aperture


def fit_image(residuals: Residuals, i: int, level_error: float) -> Fit | None:
    """Fit the PSF to corrected image `i` without its field stars; None where it finds no light.

    `level_error` is that of the background [electron]; 0: not known.
    """
    model = residuals.model
    assert model is not None
    star = residuals.star(i, residuals.without_field(i))
    star.level_error = level_error if level_error > 0 else np.inf
    image, errors = model.fit(star, rounds=ROUNDS)
    if not star.flux > 0:
        return None
    inside = circle(model.where.size, star.x, star.y, model.radius) & np.isfinite(star.stamp)
    pull = (star.stamp - image - star.level)[inside] ** 2 / (
        np.maximum(image[inside], 0) + residuals.floor[i]
    )
    sums, _ = aperture_sums(image[None], [star.x + 0.5], [star.y + 0.5])
    return Fit(star.flux, float(errors[0]), star.level, float(pull.mean()), sums[0] / star.flux)


@step("psf_fit", "PSF_FIT", version="2", payload=PsfFit, leaves=["TERM_PSF_FIT"])
def fit_psf(corrected: Corrected, scene: Scene, readout: ReadOut, removed: Removed) -> Leaves:
    """Fit the PSF to every corrected image, without its neighbours."""
    level_error, warnings = read_background(removed.background).error, []
    with open_images(corrected.products["SCI_COR_SubArray"]) as images:
        n, mjd = images.count, images.mjd
        flux, error, level, chi2 = (np.full(n, np.nan) for _ in range(4))
        share = np.full((n, len(RADII)), np.nan)
        residuals = Residuals.of(images, scene, readout, removed, corrected=True)
        usable = np.isfinite(residuals.x) & np.isfinite(residuals.y) & (residuals.flux > 0)
        if residuals.model is None:
            usable[:] = False
            warnings.append("there is no PSF of the visit: no PSF photometry")
        for i in np.flatnonzero(usable):
            fit = fit_image(residuals, int(i), float(level_error[i]))
            if fit is not None:
                flux[i], error[i], level[i], chi2[i] = fit.flux, fit.error, fit.level, fit.chi2
                share[i] = fit.share
    columns = {
        "MJD_TIME": mjd,
        "FLUX": flux,
        "FLUXERR": error,
        "LEVEL": level,
        "CHI2": chi2,
        "SHARE": share,
    }
    return Leaves(
        {"TERM_PSF_FIT": [NewHdu(TERMS["TERM_PSF_FIT"], columns=columns)]}, warnings=warnings
    )
