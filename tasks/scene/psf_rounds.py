"""The PSF of the visit, first round: from a sample of images as they are, but for the neighbours of
the target.

Stars that the catalogue has near the target turn about it. They are drawn with the reference PSF at
first, then with the PSF that was found last, with fluxes that are fitted each time, and taken out
of the images.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse

from schemas.arrays import FloatArray
from schemas.payloads import (
    Background,
    Bias,
    Defects,
    Gain,
    Look,
    Pointing,
    Prior,
    Product,
    Psf,
    Smearing,
    Stars,
)
from schemas.settings import PsfSettings
from tasks.engine.step import Leaves, step
from tasks.scene.field_fluxes import fit_factors
from tasks.scene.optics import render, to_grid, to_spectrum
from tasks.scene.prior import read_reference_psf, read_stars
from tasks.scene.psf import (
    WORST_LAG_ERROR,
    alternate,
    make_stars,
    pixel_floor,
    psf_leaves,
    reference_psf,
)
from tasks.scene.residuals import Residuals
from tasks.scene.star_model import (
    Shape,
    Star,
    circle,
    read_psf,
    stamps_around,
    telescope_temperature,
)
from tasks.scene.stars import Field, light_radius, neighbours, read_field
from tasks.scene.track import estimate_lag, read_track
from tasks.visit.clean import Cleaned, read_effects
from tasks.visit.images import open_images
from tasks.visit.terms import term_column

CATALOGUE_ERROR = 0.3  # relative error of a flux that the catalogue gives

BRIGHTEST = 8  # neighbours whose fluxes are fitted; of others the catalogue's are taken

RING = 45.0  # pixel; sky begins here

SHARED = 32  # images that fit them


@step("psf_1", version="3", payload=Psf, leaves=["TERM_PSF_1"])
def estimate_psf_1(
    calibrated: Product,
    look: Look,
    pointing: Pointing,
    background: Background,
    bias: Bias,
    gain: Gain,
    known: Prior,
    settings: PsfSettings,
) -> Leaves:
    """Estimate the super-resolved PSF of the visit from a sample of its images."""
    x, y, flux, sampled = term_column(
        look.product, "TERM_LOOK", "CENTROID_X", "CENTROID_Y", "FLUX", "SAMPLED"
    )
    track = read_track(pointing)
    warnings = []
    with open_images(calibrated) as images:
        duration = track.span(images.nexp, images.exposure_time)
        good = np.isfinite(x) & np.isfinite(y) & np.isfinite(flux)
        lag, lag_error = estimate_lag(track, images.mjd[good], duration, x[good], y[good])
        if settings.lag is not None:
            lag, lag_error = settings.lag, 0.0
        elif lag_error > WORST_LAG_ERROR:
            lag = 0.0
            warnings.append(
                "the lag of the attitude cannot be told from so few or so quiet images: 0 s is used"
            )
        chosen = np.flatnonzero(sampled & good)
        middle_x, middle_y = (
            float(np.median(v[chosen])) if len(chosen) else 0.0
            for v in (x - images.x_offset, y - images.y_offset)
        )
        where = stamps_around(middle_x, middle_y, settings.size)
        floor = pixel_floor(background, bias, gain, images.nexp)
        rest = Cleaned(images, read_effects(images, background))
        warm = telescope_temperature(images, chosen)
        stars = make_stars(
            images, chosen, where, x, y, flux, rest.image, floor, track, lag, warm.parameter(images)
        )
        mjd = images.mjd[chosen]
    if len(stars) < settings.fewest:
        warnings.append(
            f"only {len(stars)} images show the star well: its PSF is not super-resolved"
        )
    prior = reference_psf(read_reference_psf(known), settings.size)
    if stars:
        others = None
        if prior is not None:
            usual = float(np.median([s.flux for s in stars]))
            field = neighbours(
                read_stars(known), prior, usual, float(pointing.used["PIX_SCAL"]), track, lag
            )
            if field is not None:
                others = Neighbours(stars, mjd, duration, field)
                others(Shape(prior))
        psf, scale, rounds = alternate(
            stars, where, (middle_x, middle_y), settings, prior, None, warm.spread > 0, others
        )
        if others is not None and settings.lag is None:
            # the first look followed the attitude; the places found now do not
            found_x, found_y = np.array([(s.x, s.y) for s in stars]).T
            late, late_error = estimate_lag(track, mjd, duration, found_x, found_y)
            if late_error <= WORST_LAG_ERROR:
                lag, lag_error = late, late_error
    else:
        grid = np.zeros((2 * settings.size,) * 2)
        grid[settings.size, settings.size] = 1.0
        psf, scale, rounds = Shape(to_spectrum(grid)), np.ones((settings.size,) * 2), 0
    used = {
        "PSF_TEMP": warm.middle,
        "PSF_TSTD": warm.spread,
        "PSF_LAG": lag,
        "PSF_LAGE": min(lag_error, 99.0),
        "PSF_N": len(stars),
        "PSF_ITER": rounds,
        "PSF_EXC": float(np.median(scale)),
    }
    return psf_leaves("TERM_PSF_1", psf, scale, where, used, warnings)


class Neighbours:
    """Takes the neighbours of the target out of the stamps of a sample of stars, as a PSF shows
    them.

    Parameters
    ----------
    stars : list of Star
        The target in a sample of images; their stamps are replaced by ones without neighbours.
    mjd : ndarray, shape (n,)
        Mid-times of these images.
    duration : float
        Of an image [s].
    field : Field
        The neighbours, with the fluxes that are expected [electron].
    """

    def __init__(self, stars: list[Star], mjd: FloatArray, duration: float, field: Field) -> None:
        self.stars, self.mjd, self.duration, self.field = stars, mjd, duration, field
        self.factors = np.ones(len(field.flux))
        self.fitted = np.argsort(-field.flux, kind="stable")[:BRIGHTEST]
        size = stars[0].stamp.shape[0]
        self.ring = ~circle(size, size / 2, size / 2, RING) & circle(
            size, size / 2, size / 2, size / 2
        )
        for star in stars:
            star.raw = star.stamp

    def __call__(self, psf: Shape) -> None:
        """Draw the neighbours with a PSF, fit their fluxes, and renew the stamps."""
        grid = to_grid(psf.mean)
        field = replace(
            self.field, psf=grid, radius=light_radius(self.field.flux, grid), transforms={}
        )
        few = np.unique(
            np.linspace(0, len(self.stars) - 1, min(SHARED, len(self.stars))).round().astype(int)
        )
        residuals, drawings, variances = [], [], []
        rest = replace(
            field, flux=np.where(np.isin(np.arange(len(field.flux)), self.fitted), 0.0, field.flux)
        )
        for k in few:
            star = self.stars[k]
            target = star.flux * render(psf.at(star.warmth), star.transfer(star.stamp.shape[0]))
            alone = [self._draw(field.only(np.array([n])), k).reshape(-1, 1) for n in self.fitted]
            raw = np.asarray(star.raw)
            residuals.append((raw - target - star.level - self._draw(rest, k)).ravel())
            drawings.append(scipy.sparse.csc_matrix(np.hstack(alone)))
            light = np.maximum(target, 0.0)
            variances.append((light + star.floor + (0.03 * light) ** 2).ravel())
        self.factors[self.fitted], _ = fit_factors(residuals, drawings, variances, CATALOGUE_ERROR)
        measured = replace(field, flux=field.flux * np.maximum(self.factors, 0.0))
        for k, star in enumerate(self.stars):
            freed = np.asarray(star.raw) - self._draw(measured, k)
            # the sky under the images was measured with the neighbours in it
            sky = freed[self.ring & np.isfinite(freed)]
            star.stamp = freed - (float(np.median(sky)) if sky.size else 0.0)

    def _draw(self, field: Field, k: int) -> FloatArray:
        """Draw stars into the stamp of image `k` of the sample; places are those of its target, as
        indices.
        """
        star = self.stars[k]
        return field.image(
            star.stamp.shape, star.x + 0.5, star.y + 0.5, float(self.mjd[k]), self.duration
        )


@step("psf", "PSF_FIT", version="4", payload=Psf, leaves=["TERM_PSF"])
def estimate_psf(
    calibrated: Product,
    look: Look,
    pointing: Pointing,
    bias: Bias,
    gain: Gain,
    first: Psf,
    stars: Stars,
    smearing: Smearing,
    defects: Defects,
    background: Background,
    known: Prior,
    settings: PsfSettings,
) -> Leaves:
    """Estimate the super-resolved PSF again, from a sample of images that hold nothing but the
    target.

    The level of a stamp is known to be 0 within the error of the background: a free one would take
    the light that moves between the wings as the telescope breathes.
    """
    x, y, flux, sampled = term_column(
        look.product, "TERM_LOOK", "CENTROID_X", "CENTROID_Y", "FLUX", "SAMPLED"
    )
    (level_error,) = term_column(background.product, "TERM_BACKGROUND", "LEVEL_ERR")
    model, track = read_psf(first, settings.radius), read_track(pointing)
    chosen = np.flatnonzero(sampled & np.isfinite(x) & np.isfinite(y) & np.isfinite(flux))
    used = {**first.used}
    if int(used["PSF_N"]) < settings.fewest or not len(chosen):
        return psf_leaves(
            "TERM_PSF", model.psf, model.scale, model.where, used, list(first.warnings)
        )
    with open_images(calibrated) as images:
        floor = pixel_floor(background, bias, gain, images.nexp)
        effects, field = (
            read_effects(images, background, smearing, defects),
            read_field(stars, model, track),
        )
        rest = Residuals(images, model, track, x, y, flux, effects, floor, field)
        seen = make_stars(
            images,
            chosen,
            model.where,
            x,
            y,
            flux,
            rest.without_field,
            floor,
            track,
            model.lag,
            rest.warmth,
        )
        for star, error in zip(seen, level_error[chosen], strict=True):
            star.level_error = float(error) if error > 0 else np.inf
        middle = float(np.median(rest.x[chosen])), float(np.median(rest.y[chosen]))
    prior = reference_psf(read_reference_psf(known), settings.size)
    psf, scale, rounds = alternate(
        seen, model.where, middle, settings, prior, model, model.warm.spread > 0
    )
    used |= {"PSF_ITER": int(used["PSF_ITER"]) + rounds, "PSF_EXC": float(np.median(scale))}
    return psf_leaves("TERM_PSF", psf, scale, model.where, used, list(first.warnings))
