"""PSF photometry: flux of the visit's PSF, shifted and blurred by motion, in every corrected image.

Flux, place and level are fitted together after subtraction of the field stars. Weights are from the
model, since weights from the data would bias the flux low, and the level is 0 within the error of
the background. The model also gives the share of the light in each aperture, which varies with the
motion within a stack.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.arrays import FloatArray
from schemas.light_curves import RADII, Radii
from schemas.payloads import Corrected, PsfFit, ReadOut, Removed, Scene
from schemas.settings import ApertureSettings
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.writer import NewHdu
from tasks.photometry.apertures import MOST_MISSING, aperture_sums, masked_fraction
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


def fit_image(residuals: Residuals, i: int, level_error: float, radii: Radii) -> Fit | None:
    """Fit the PSF to corrected image `i` without field stars; return None if the flux is negative.

    `level_error` is the error of the background [electron], or 0 if it is unknown.
    """
    model = residuals.compact
    assert model is not None
    corrected, field = residuals.taken_apart(i)
    star = residuals.star(i, corrected - field, field, model)
    star.level_error = level_error if level_error > 0 else np.inf
    image, errors = model.fit(star, rounds=ROUNDS)
    if not star.flux > 0:
        return None
    inside = circle(model.where.size, star.x, star.y, model.radius) & np.isfinite(star.stamp)
    light = image if star.others is None else image + star.others
    pull = (star.stamp - image - star.level)[inside] ** 2 / (
        np.maximum(light[inside], 0) + residuals.floor[i]
    )
    share = light_shares(image, (star.x + 0.5, star.y + 0.5), radii) / star.flux
    return Fit(star.flux, float(errors[0]), star.level, float(pull.mean()), share)


def light_shares(stamp: FloatArray, place: tuple[float, float], radii: Radii) -> FloatArray:
    """Return the light of a model within circles about a place of its stamp, shape (k,) [electron].

    It is not known in a circle beyond those of every visit that leaves the stamp: NaN.
    """
    sums, areas = aperture_sums(stamp[None], [place[0]], [place[1]], radii)
    unknown = (masked_fraction(areas, radii)[0] > MOST_MISSING) & ~np.isin(radii, RADII)
    return np.where(unknown, np.nan, sums[0])


@step("psf_fit", "PSF_FIT", version="8", payload=PsfFit, leaves=["TERM_PSF_FIT"])
def fit_psf(
    corrected: Corrected,
    scene: Scene,
    readout: ReadOut,
    removed: Removed,
    settings: ApertureSettings,
) -> Leaves:
    """Fit the PSF to every corrected image without field stars."""
    radii = settings.all_radii
    level_error, warnings = read_background(removed.background).error, []
    with open_images(corrected.products["SCI_COR_SubArray"]) as images:
        n, mjd = images.count, images.mjd
        flux, error, level, chi2 = (np.full(n, np.nan) for _ in range(4))
        share = np.full((n, len(radii)), np.nan)
        residuals = Residuals.of(images, scene, readout, removed, corrected=True)
        usable = np.isfinite(residuals.x) & np.isfinite(residuals.y) & (residuals.flux > 0)
        if residuals.model is None:
            usable[:] = False
            warnings.append("there is no PSF of the visit: no PSF photometry")
        for i in np.flatnonzero(usable):
            fit = fit_image(residuals, int(i), float(level_error[i]), radii)
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
