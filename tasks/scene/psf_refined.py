"""The PSF of the visit, second round: from images that are freed of field stars, hot pixels, cosmic rays and background."""

from __future__ import annotations

import numpy as np

from schemas.payloads import Background, Bias, Defects, Gain, Look, Pointing, Prior, Product, Psf, Smearing, Stars
from schemas.settings import PsfSettings
from tasks.clean import read_effects
from tasks.exposures import term_column
from tasks.level1 import open_images
from tasks.scene.prior import read_reference_psf
from tasks.scene.psf import alternate, make_stars, pixel_floor, psf_leaves, read_psf, read_track, reference_psf
from tasks.scene.residuals import Residuals
from tasks.scene.stars import read_field
from tasks.step import Leaves, step


@step("psf", "PSF_FIT", version="4", payload=Psf, leaves=["TERM_PSF"])
def estimate_psf(
    calibrated: Product, look: Look, pointing: Pointing, bias: Bias, gain: Gain, first: Psf, stars: Stars, smearing: Smearing,
    defects: Defects, background: Background, known: Prior, settings: PsfSettings,
) -> Leaves:  # fmt: skip
    """Estimate the super-resolved PSF again, from a sample of images that hold nothing but the target.

    The level of a stamp is known to be 0 within the error of the background: a free one would take the light that moves
    between the wings as the telescope breathes.
    """
    x, y, flux, sampled = term_column(look.product, "TERM_LOOK", "CENTROID_X", "CENTROID_Y", "FLUX", "SAMPLED")
    (level_error,) = term_column(background.product, "TERM_BACKGROUND", "LEVEL_ERR")
    model, track = read_psf(first, settings.radius), read_track(pointing)
    chosen = np.flatnonzero(sampled & np.isfinite(x) & np.isfinite(y) & np.isfinite(flux))
    used = {**first.used}
    if int(used["PSF_N"]) < settings.fewest or not len(chosen):
        return psf_leaves("TERM_PSF", model.psf, model.scale, model.where, used, list(first.warnings))
    with open_images(calibrated) as images:
        floor = pixel_floor(background, bias, gain, images.nexp)
        effects, field = read_effects(images, background, smearing, defects), read_field(stars, model, track)
        rest = Residuals(images, model, track, x, y, flux, effects, floor, field)
        seen = make_stars(images, chosen, model.where, x, y, flux, rest.without_field, floor, track, model.lag, rest.warmth)
        for star, error in zip(seen, level_error[chosen], strict=True):
            star.level_error = float(error) if error > 0 else np.inf
        middle = float(np.median(rest.x[chosen])), float(np.median(rest.y[chosen]))
    prior = reference_psf(read_reference_psf(known), settings.size)
    psf, scale, rounds = alternate(seen, model.where, middle, settings, prior, model, model.warm.spread > 0)
    used |= {"PSF_ITER": int(used["PSF_ITER"]) + rounds, "PSF_EXC": float(np.median(scale))}
    return psf_leaves("TERM_PSF", psf, scale, model.where, used, list(first.warnings))
