"""PSF photometry: the flux that the visit's PSF, moved and blurred as the satellite moved, has in
every corrected image.

Flux, place and level are fitted together, with weights from the model (weights from the data would
pull the flux down), and the level is known to be 0 within the error of the background. Field stars
are taken away before. The same model tells which share of the light each aperture holds in each
image, which varies as the motion within a stack does.
"""

from __future__ import annotations

import numpy as np

from schemas.light_curves import RADII
from schemas.payloads import (
    Background,
    Bias,
    Corrected,
    Gain,
    Look,
    Pointing,
    Position,
    Psf,
    PsfFit,
    Stars,
)
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.writer import NewHdu
from tasks.photometry.apertures import aperture_sums
from tasks.scene.psf import pixel_floor
from tasks.scene.star_model import circle, read_psf
from tasks.scene.stars import read_field
from tasks.scene.track import read_track
from tasks.visit.images import open_images
from tasks.visit.terms import term_column

FEWEST = 3  # images that must have made the PSF


@step("psf_fit", "PSF_FIT", version="2", payload=PsfFit, leaves=["TERM_PSF_FIT"])
def fit_psf(
    corrected: Corrected,
    look: Look,
    pointing: Pointing,
    background: Background,
    bias: Bias,
    gain: Gain,
    psf: Psf,
    stars: Stars,
    position: Position,
) -> Leaves:
    """Fit the PSF to every corrected image, without its neighbours."""
    x, y = term_column(position.product, "TERM_POSITION", "X", "Y")
    (level_error,) = term_column(background.product, "TERM_BACKGROUND", "LEVEL_ERR")
    (rough,) = term_column(look.product, "TERM_LOOK", "FLUX")
    track = read_track(pointing)
    model = read_psf(psf)
    warnings = []
    with open_images(corrected.products["SCI_COR_SubArray"]) as images:
        n = images.count
        floor = pixel_floor(background, bias, gain, images.nexp)
        flux, error, level, chi2 = (np.full(n, np.nan) for _ in range(4))
        share = np.full((n, len(RADII)), np.nan)
        usable = np.isfinite(x) & np.isfinite(y) & (rough > 0)
        if int(psf.used.get("PSF_N", 0)) < FEWEST:
            usable[:] = False
            warnings.append("there is no PSF of the visit: no PSF photometry")
        duration, warmth = (
            track.span(images.nexp, images.exposure_time),
            model.warm.parameter(images),
        )
        field = read_field(stars, model, track)
        for block, pixels in images.blocks():
            for i in np.flatnonzero(usable[block]) + block.start:
                motion = track.during(float(images.mjd[i]), duration, model.lag)
                px, py = float(x[i]) - images.x_offset, float(y[i]) - images.y_offset
                alone = pixels[i - block.start] - field.image(
                    images.shape, px, py, float(images.mjd[i]), duration
                )
                star = model.star(
                    alone, px, py, float(rough[i]), float(floor[i]), motion, float(warmth[i])
                )
                star.level_error = float(level_error[i]) if level_error[i] > 0 else np.inf
                image, errors = model.fit(star, rounds=2)
                if not star.flux > 0:
                    continue
                flux[i], error[i], level[i] = star.flux, errors[0], star.level
                inside = circle(model.where.size, star.x, star.y, model.radius) & np.isfinite(
                    star.stamp
                )
                pull = (star.stamp - image - star.level)[inside] ** 2 / (
                    np.maximum(image[inside], 0) + floor[i]
                )
                chi2[i] = float(pull.mean())
                sums, _ = aperture_sums(image[None], [star.x + 0.5], [star.y + 0.5])
                share[i] = sums[0] / star.flux
        mjd = images.mjd
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
