"""Quality of a light curve: how much it scatters, from point to point and over hours.

Two sets of numbers: `header_metrics` computes the keywords as the operational pipeline (DRP 14.1.3)
does, odd as some are, so that files compare; `noise_metrics` says what the points that are not
flagged really show.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.arrays import FloatArray
from schemas.errors import NoScienceDataError
from schemas.flags import EVENT_COSMIC_RAYS, UNUSABLE, Quality
from schemas.light_curves import DEFAULT_RADIUS, FIXED, LIGHT_CURVES, OPTIMAL, PSF, RADII
from schemas.payloads import (
    Apertures,
    Background,
    Bias,
    Corrected,
    Dark,
    Defects,
    Events,
    Flat,
    Gain,
    Look,
    Pointing,
    Position,
    PsfFit,
    QualityTerm,
    Smearing,
)
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.writer import NewHdu
from tasks.photometry.apertures import edge_variance, flat_variance, flux_error, flux_variances
from tasks.photometry.noise import curve_metrics, noise_metrics
from tasks.visit.images import open_images
from tasks.visit.terms import term_column, term_image


@step("quality", "LC_QUAL", version="5", payload=QualityTerm, leaves=["TERM_QUALITY"])
def assess_quality(
    corrected: Corrected,
    events: Events,
    bias: Bias,
    gain: Gain,
    dark: Dark,
    flat: Flat,
    pointing: Pointing,
    look: Look,
    background: Background,
    position: Position,
    smearing: Smearing,
    defects: Defects,
    apertures: Apertures,
    psf_fit: PsfFit,
) -> Leaves:
    """Give every point its error and flags, and every light curve its metrics."""
    with open_images(corrected.products["SCI_COR_SubArray"]) as images:
        nexp, duration = images.nexp, images.nexp * images.exposure_time
        pixels = int(np.isfinite(images.take(0)).sum()) or images.shape[0] * images.shape[1]
        missing = missing_images(images.metadata.column("CE_COUNTER"))
        offset = images.x_offset, images.y_offset
    mjd, bjd, event, flags = term_column(
        events.product, "TERM_EVENTS", "MJD_TIME", "BJD_TIME", "EVENT", "QUALITY"
    )
    light_time, light_rate = term_column(
        events.product, "TERM_EVENTS", "SAT_LIGHT_TIME", "SAT_LIGHT_RATE"
    )
    quality = flags.copy()
    for term in (bias, gain, pointing, look, background, position):
        quality |= term_column(term.product, term.product.extname, "QUALITY")[0]
    if ((quality & int(UNUSABLE)) != 0).all():
        raise NoScienceDataError(
            f"every one of {len(mjd)} images is occulted, in the SAA or unusable: nothing is "
            f"left to measure"
        )
    flux, areas, fixed, fixed_area = term_column(
        apertures.product, "TERM_APERTURES", "FLUX", "AREA", "FIXED", "FIXED_AREA"
    )
    thermal, smeared, hot = term_column(
        apertures.product, "TERM_APERTURES", "DARK", "SMEARING", "HOT"
    )
    level, level_error = term_column(background.product, "TERM_BACKGROUND", "LEVEL", "LEVEL_ERR")
    (ron,) = term_column(bias.product, "TERM_BIAS", "RON")
    (gains,) = term_column(gain.product, "TERM_GAIN", "GAIN")
    inside, everywhere, doubt = term_column(
        defects.product, "TERM_DEFECTS_IMAGES", "INSIDE", "ALL", "DOUBT"
    )
    electrons = float(np.median(ron / gains))
    sky = areas * level[:, None]
    variances = flux_variances(
        flux, sky, thermal, hot, smeared, areas, nexp, electrons, level_error[:, None]
    )
    used_smearing = {k: float(smearing.used[k]) for k in ("SMEAR_T", "SMEAR_TE")}
    share = (
        used_smearing["SMEAR_TE"] / used_smearing["SMEAR_T"]
        if used_smearing["SMEAR_T"] > 0
        else 0.0
    )
    # a wrong time of a shift makes all points wrong alike: what counts is how the smeared light
    # varies
    variances["SMEARING"] = np.square(share * (smeared - np.nanmedian(smeared, axis=0)))
    (gain_error,) = term_column(gain.product, "TERM_GAIN", "GAIN_ERR")
    variances["GAIN"] = np.square(flux * (gain_error / gains)[:, None])
    place = float(position.used["POS_X"]) - offset[0], float(position.used["POS_Y"]) - offset[1]
    motion = float(position.used["POS_STDX"]), float(position.used["POS_STDY"])
    star, flat_error = (
        term_image(look.product, "TERM_LOOK_STATIC"),
        term_image(flat.product, "TERM_FLAT_ERROR"),
    )
    variances["FLAT"] = np.broadcast_to(
        flat_variance(star, flat_error, *place, motion, RADII), flux.shape
    ).copy()
    variances["DARK_MAP"] = np.broadcast_to(
        edge_variance(nexp * term_image(dark.product, "TERM_DARK_ERROR"), *place, motion, RADII),
        flux.shape,
    ).copy()
    # doubtful states are known for 25 pixels; telegraphic pixels are spread evenly
    variances["STATES"] = doubt[:, None] * np.square(np.array(RADII) / DEFAULT_RADIUS)
    error = np.sqrt(sum(variances.values(), np.float64(0)))
    as_drp = flux_error(flux, sky, thermal, RADII, nexp, electrons)
    event = event + EVENT_COSMIC_RAYS * cosmic_digit(inside, everywhere, pixels)
    quality |= np.where(event >= EVENT_COSMIC_RAYS, int(Quality.COSMIC_RAYS), 0)
    psf_flux, psf_error, held = term_column(
        psf_fit.product, "TERM_PSF_FIT", "FLUX", "FLUXERR", "SHARE"
    )
    flagged = (event != 0) | (quality != 0)
    usual = RADII.index(DEFAULT_RADIUS)
    scale = median_ratio(flux[:, usual], psf_flux, ~flagged)
    made_up = make_up_losses(flux, held, ~flagged)
    best = best_radius(mjd, made_up, error, flagged)
    curves = {
        name: (flux[:, RADII.index(r)], error[:, RADII.index(r)], r)
        for name, r in LIGHT_CURVES.items()
    }
    curves[OPTIMAL] = made_up[:, best], error[:, best], RADII[best]
    curves[FIXED] = (
        fixed,
        error[:, usual] * np.sqrt(fixed_area / np.maximum(areas[:, usual], 1.0)),
        DEFAULT_RADIUS,
    )
    by_psf = scale * psf_flux, scale * psf_error
    if np.isfinite(psf_flux).any():
        curves[PSF] = *by_psf, DEFAULT_RADIUS
    rows = [
        curve_metrics(name, r, mjd, f, e, event, quality, duration)
        for name, (f, e, r) in curves.items()
    ]
    columns = {
        "MJD_TIME": mjd,
        "BJD_TIME": bjd,
        "EVENT": event,
        "STATUS": (event != 0).astype(np.int32),
        "QUALITY": quality,
        "SAT_LIGHT_TIME": light_time,
        "SAT_LIGHT_RATE": light_rate,
        "FLUXERR": error,
        "OPT_FLUX": curves[OPTIMAL][0],
        "OPT_ERR": curves[OPTIMAL][1],
        "FIXED_ERR": curves[FIXED][1],
        "PSF_FLUX": by_psf[0],
        "PSF_ERR": by_psf[1],
    }
    with np.errstate(invalid="ignore", divide="ignore"):
        drp_ppm = (
            float(np.nan_to_num(np.nanmedian((1e6 * as_drp / flux)[~flagged, usual])))
            if (~flagged).any()
            else 0.0
        )
    used = {
        "RON_E": electrons,
        "AP_OPT": RADII[best],
        "LOST_SAA": share_of(quality, Quality.SAA),
        "LOST_OCC": share_of(quality, Quality.OCCULTED),
        "LOST_STR": share_of(quality, Quality.STRAY_LIGHT),
        "N_GAP": missing,
        "DRP_PPM": drp_ppm,
    }
    table = NewHdu(TERMS["TERM_QUALITY"], used, columns=columns)
    metrics = {
        c.name: np.array([row[c.name] for row in rows]) for c in TERMS["TERM_METRICS"].columns
    }
    errors = NewHdu(
        TERMS["TERM_ERRORS"], columns={"MJD_TIME": mjd, **variances, "DRP": np.square(as_drp)}
    )
    return Leaves(
        {"TERM_QUALITY": [table, NewHdu(TERMS["TERM_METRICS"], columns=metrics), errors]}, used=used
    )


def share_of(quality: NDArray[np.int32], flag: Quality) -> float:
    """Return the share of images with a flag."""
    return float(np.mean((quality & int(flag)) != 0))


def missing_images(counter: NDArray[np.int64]) -> int:
    """Return how many images between the first and the last are missing, by the counter of the
    telemetry (16 bits).
    """
    steps = np.mod(np.diff(counter.astype(np.int64)), 65536)
    return int(np.maximum(steps - 1, 0).sum())


def cosmic_digit(
    inside: NDArray[np.int32], everywhere: NDArray[np.int32], pixels: int
) -> NDArray[np.int32]:
    """Return the digit of cosmic rays: 1 where more than 1 % of the aperture R25 is hit, 2 where
    more than 5 % of the image.
    """
    aperture = np.pi * DEFAULT_RADIUS**2
    return np.where(everywhere > 0.05 * pixels, 2, np.where(inside > 0.01 * aperture, 1, 0)).astype(
        np.int32
    )


def median_ratio(first: FloatArray, second: FloatArray, good: NDArray[np.bool_]) -> float:
    """Return the median of first / second over the good points with positive values; 1 where there
    are none.
    """
    used = good & (first > 0) & (second > 0)
    return float(np.median(first[used] / second[used])) if used.any() else 1.0


def make_up_losses(flux: FloatArray, share: FloatArray, good: NDArray[np.bool_]) -> FloatArray:
    """Return fluxes within apertures, freed of the variation of the share of light that they hold.

    Parameters
    ----------
    flux, share : ndarray, shape (n, k)
        Flux [electron], and the model's share of the light within each radius; where it is not
        known the flux stays.
    good : ndarray of bool, shape (n,)
        Points whose median share is the one that all are brought to.
    """
    known = np.isfinite(share).all(axis=1) & (share > 0).all(axis=1)
    if not (known & good).any():
        return flux.copy()
    usual = np.median(share[known & good], axis=0)
    factor = np.ones_like(flux)
    factor[known] = usual / share[known]
    return flux * factor


def best_radius(
    time_days: FloatArray, flux: FloatArray, error: FloatArray, flagged: NDArray[np.bool_]
) -> int:
    """Return the index of the radius with the least noise.

    The noise model proposes the radii whose formal error is within a tenth of the least; of these
    the least measured noise (the mean of scatter and point-to-point scatter, each the mean over a
    radius and its neighbours) decides.
    """
    good = ~flagged
    with np.errstate(invalid="ignore", divide="ignore"):
        formal = np.array(
            [
                np.median((error[:, k] / flux[:, k])[good]) if good.any() else np.nan
                for k in range(flux.shape[1])
            ]
        )
    formal = np.where(np.isfinite(formal) & (formal > 0), formal, np.inf)
    if not np.isfinite(formal).any():
        return RADII.index(DEFAULT_RADIUS)
    measured = []
    for k in range(flux.shape[1]):
        noise = noise_metrics(time_days, flux[:, k], flagged)
        measured.append((noise.scatter + noise.point_to_point) / 2)
    padded = np.pad(np.array(measured), 1, mode="edge")
    smooth = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    smooth = np.where((formal <= 1.1 * formal.min()) & np.isfinite(smooth), smooth, np.inf)
    return int(np.argmin(smooth)) if np.isfinite(smooth).any() else int(np.argmin(formal))
