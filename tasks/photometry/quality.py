"""Quality of the light curves: errors and flags of every point, and noise metrics of every curve.

There are two sets of metrics (`noise.py`). `header_metrics` reproduces the keywords of the
operational pipeline (DRP 14.1.3), peculiarities included, so that files can be compared;
`noise_metrics` measures the noise of the unflagged points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from schemas.arrays import AnyArray, BoolArray, FloatArray, Int32Array, IntArray
from schemas.errors import NoScienceDataError
from schemas.flags import EVENT_COSMIC_RAYS, UNUSABLE, Quality
from schemas.light_curves import DEFAULT_RADIUS, FIXED, OPTIMAL, PSF, RADII, Radii, circles
from schemas.payloads import (
    Corrected,
    Detector,
    Events,
    Fluxes,
    QualityTerm,
    ReadOut,
    Removed,
    Scene,
    Smearing,
)
from schemas.settings import OptimalSettings
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.reader import Value
from tasks.files.writer import NewHdu
from tasks.photometry.apertures import (
    Collected,
    edge_variance,
    flat_variance,
    flux_error,
    flux_variances,
    is_cut,
)
from tasks.photometry.noise import PPM, Points, curve_metrics, metrics_table
from tasks.photometry.optimal import Candidate, choose, list_candidates
from tasks.scene.psf import read_out_noise
from tasks.visit.images import open_images
from tasks.visit.terms import (
    AperturesTerm,
    EventsTerm,
    PsfFitTerm,
    read_apertures,
    read_background,
    read_contamination,
    read_dark,
    read_defect_counts,
    read_events,
    read_flat,
    read_gain,
    read_image_flags,
    read_psf_fit,
    read_static,
)

# of the usual flux; a point beyond is not that of the star
LEAST_LIGHT, MOST_LIGHT = 0.1, 10.0
MOST_REPLACED = 0.05  # of the default aperture; a track of a cosmic ray replaces 0.015


@step("quality", "LC_QUAL", version="11", payload=QualityTerm, leaves=["TERM_QUALITY"])
def assess_quality(
    corrected: Corrected,
    events: Events,
    detector: Detector,
    scene: Scene,
    removed: Removed,
    fluxes: Fluxes,
    settings: OptimalSettings,
) -> Leaves:
    """Assign errors and flags to every point, and metrics to every light curve."""
    facts, sums, rows = read_facts(corrected), read_apertures(fluxes.apertures), read_events(events)
    points, warnings = judge_points(rows, sums, facts, detector.readout, scene, removed)
    variances = variance_budget(sums, facts, detector, scene, removed)
    error = np.sqrt(sum(variances.values(), np.float64(0)))
    psf = read_psf_fit(fluxes.psf_fit, sums.radii)
    always = [sums.radii.index(radius) for radius in RADII]
    loss = light_lost(psf.share, points.good, always)
    curves = make_curves(points, sums, error, psf)
    ratio = read_contamination(fluxes.contamination, sums.radii)
    candidates = list_candidates(
        sums.flux[:, always],
        make_up(sums.flux, loss)[:, always],
        error[:, always],
        ratio[:, always],
        curves[PSF][:2],
        settings,
    )
    best, noise = choose(candidates, points.mjd, points.good)
    curves[OPTIMAL] = LightCurve(best.flux, best.error, best.radius)
    as_drp = drp_error(sums, facts, detector.readout, removed)
    usual = sums.radii.index(DEFAULT_RADIUS)
    columns = {
        **point_columns(points),
        "BJD_TIME": rows.bjd,
        "SAT_LIGHT_TIME": rows.light_time,
        "SAT_LIGHT_RATE": rows.light_rate,
        "FLUXERR": error,
        **curve_columns(curves),
        "LOSS": loss,
    }
    used: dict[str, Value] = {
        "RON_E": electron_noise(detector.readout),
        "AP_OPT": best.radius,
        "OPT_WAY": str(best.way),
        "LOST_SAA": share_of(points.quality, Quality.SAA),
        "LOST_OCC": share_of(points.quality, Quality.OCCULTED),
        "LOST_STR": share_of(points.quality, Quality.STRAY_LIGHT),
        "N_GAP": facts.missing,
        "DRP_PPM": usual_ppm(as_drp[:, usual], sums.flux[:, usual], points.good),
    }
    budget = {"MJD_TIME": points.mjd, **variances, "DRP": np.square(as_drp)}
    hdus = [
        NewHdu(TERMS["TERM_QUALITY"], used, columns=columns),
        metrics_of(curves, points),
        candidates_table(candidates, noise),
        NewHdu(TERMS["TERM_ERRORS"], columns=budget),
    ]
    return Leaves({"TERM_QUALITY": hdus}, used=used, warnings=warnings)


def judge_points(
    rows: EventsTerm,
    sums: AperturesTerm,
    facts: Facts,
    readout: ReadOut,
    scene: Scene,
    removed: Removed,
) -> tuple[Points, list[str]]:
    """Return times, events and flags of the points, and warnings about those that stand out."""
    assert removed.defects is not None
    counts = read_defect_counts(removed.defects)
    quality = join_flags(rows.quality, readout, scene, removed)
    hits = cosmic_digit(counts.inside, counts.everywhere, facts.pixels)
    event = rows.event + EVENT_COSMIC_RAYS * hits
    quality |= np.where(event >= EVENT_COSMIC_RAYS, int(Quality.COSMIC_RAYS), 0)
    require_flux(sums, quality)
    modelled = counts.replaced > MOST_REPLACED
    quality |= np.where(is_cut(sums.area, sums.radii) | modelled, int(Quality.APERTURE), 0)
    odd = unlike_star(sums.flux[:, sums.radii.index(DEFAULT_RADIUS)], quality)
    quality |= np.where(odd, int(Quality.UNUSABLE_IMAGE), 0)
    warnings = point_warnings(modelled & (quality & int(UNUSABLE) == 0), odd)
    return Points(rows.mjd, event, quality, facts.duration), warnings


def unlike_star(flux: FloatArray, quality: Int32Array) -> BoolArray:
    """Return which of the usable points have a flux that is far from the usual one, shape (n,)."""
    usable = np.isfinite(flux) & (quality & int(UNUSABLE) == 0)
    if not usable.any():
        return np.asarray(usable)
    usual = float(np.median(flux[usable]))
    return np.asarray(usable & ~((flux > LEAST_LIGHT * usual) & (flux < MOST_LIGHT * usual)))


def point_warnings(modelled: BoolArray, odd: BoolArray) -> list[str]:
    """Return warnings about points whose light is in part that of the model, or not the star's."""
    warnings = []
    if modelled.any():
        warnings.append(
            f"defects and cosmic rays cover more than {MOST_REPLACED:.0%} of the aperture R25 of "
            f"{modelled.sum()} images, where their light is that of the model: flagged"
        )
    if odd.any():
        warnings.append(
            f"the flux of {odd.sum()} images is less than {LEAST_LIGHT:g} or more than "
            f"{MOST_LIGHT:g} times the usual: flagged"
        )
    return warnings


class Facts(NamedTuple):
    """Properties of the corrected images as a whole."""

    nexp: int
    duration: float  # exposure time of a stack [s]
    pixels: int  # with a value in an image
    missing: int  # images missing between the first and the last
    offset: tuple[int, int]  # of index [0, 0] on the CCD, x and y


def read_facts(corrected: Corrected) -> Facts:
    """Read the properties of the corrected images as a whole."""
    with open_images(corrected.products["SCI_COR_SubArray"]) as images:
        return Facts(
            images.nexp,
            images.nexp * images.exposure_time,
            int(np.isfinite(images.take(0)).sum()) or images.shape[0] * images.shape[1],
            missing_images(images.metadata.column("CE_COUNTER")),
            (images.x_offset, images.y_offset),
        )


def join_flags(flags: Int32Array, readout: ReadOut, scene: Scene, removed: Removed) -> Int32Array:
    """Combine the flags of every image from all terms.

    Raises
    ------
    NoScienceDataError
        If no image is usable.
    """
    assert scene.position is not None
    quality = flags.copy()
    terms = (readout.bias, readout.gain, scene.pointing, scene.look, removed.background)
    for term in (*terms, scene.position):
        quality |= read_image_flags(term)
    if ((quality & int(UNUSABLE)) != 0).all():
        raise NoScienceDataError(
            f"every one of {len(quality)} images is occulted, in the SAA or unusable: nothing is "
            f"left to measure"
        )
    return quality


def require_flux(sums: AperturesTerm, quality: Int32Array) -> None:
    """Reject a visit without a single flux.

    Raises
    ------
    NoScienceDataError
        If no aperture of any image has a flux.
    """
    if not np.isfinite(sums.flux[:, np.isin(sums.radii, RADII)]).any():
        saturated = int(((quality & int(Quality.SATURATED)) != 0).sum())
        raise NoScienceDataError(
            f"the star has a flux in none of {len(quality)} images: it has no position, or lies "
            f"on pixels without data; it is saturated in {saturated} of them"
        )


def electron_noise(readout: ReadOut) -> float:
    """Return the median read-out noise of one exposure [electron]."""
    return float(np.median(read_out_noise(readout)))


def variance_budget(
    sums: AperturesTerm, facts: Facts, detector: Detector, scene: Scene, removed: Removed
) -> dict[str, FloatArray]:
    """Return the variance of the flux in every aperture by source, (n, radii) [electron^2]."""
    assert removed.defects is not None
    sky, doubt = read_background(removed.background), read_defect_counts(removed.defects).doubt
    gain, gain_error = read_gain(detector.readout.gain)
    collected = Collected(
        sums.flux, sums.area * sky.level[:, None], sums.dark, sums.hot, sums.smearing
    )
    noise = electron_noise(detector.readout)
    budget = flux_variances(collected, sums.area, facts.nexp, noise, sky.error[:, None])
    budget["SMEARING"] = smearing_variance(removed.smearing, sums.smearing)
    budget["GAIN"] = np.square(sums.flux * (gain_error / gain)[:, None])
    for name, variance in motion_variances(facts, detector, scene, sums.radii).items():
        budget[name] = np.broadcast_to(variance, sums.flux.shape).copy()
    # uncertain states are known for the default aperture; telegraphic pixels are spread evenly
    budget["STATES"] = doubt[:, None] * np.square(np.array(sums.radii) / DEFAULT_RADIUS)
    return budget


def smearing_variance(smearing: Smearing, smeared: FloatArray) -> FloatArray:
    """Return the variance caused by the error of the shift time.

    An error of the shift time is common to all points, so only variations of the smeared light
    contribute.
    """
    time, error = (float(smearing.used[k]) for k in ("SMEAR_T", "SMEAR_TE"))
    share = error / time if time > 0 else 0.0
    return np.square(share * (smeared - np.nanmedian(smeared, axis=0)))


def motion_variances(
    facts: Facts, detector: Detector, scene: Scene, radii: Radii
) -> dict[str, FloatArray]:
    """Return the variances caused by errors of flat and dark under a moving star, (radii,)."""
    assert scene.position is not None
    used, offset = scene.position.used, facts.offset
    place = float(used["POS_X"]) - offset[0], float(used["POS_Y"]) - offset[1]
    motion = float(used["POS_STDX"]), float(used["POS_STDY"])
    flat_error = read_flat(detector.flat).error
    dark_error = facts.nexp * read_dark(detector.dark).error
    return {
        "FLAT": flat_variance(read_static(scene.look), flat_error, *place, motion, radii),
        "DARK_MAP": edge_variance(dark_error, *place, motion, radii),
    }


def drp_error(sums: AperturesTerm, facts: Facts, readout: ReadOut, removed: Removed) -> FloatArray:
    """Return the error by the operational pipeline's formula, shape (n, radii) [electron]."""
    sky = sums.area * read_background(removed.background).level[:, None]
    return flux_error(sums.flux, sky, sums.dark, sums.radii, facts.nexp, electron_noise(readout))


def usual_ppm(error: FloatArray, flux: FloatArray, good: BoolArray) -> float:
    """Return the median error of the good points of a light curve [ppm], or 0 without any."""
    if not good.any():
        return 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = (PPM * error / flux)[good]
        return float(np.nan_to_num(np.nanmedian(relative)))


class LightCurve(NamedTuple):
    """A light curve: flux and error, shape (n,) [electron], and its nominal radius [pixel]."""

    flux: FloatArray
    error: FloatArray
    radius: float


def make_curves(
    points: Points, sums: AperturesTerm, error: FloatArray, psf: PsfFitTerm
) -> dict[str, LightCurve]:
    """Return all light curves of the sub-array by name, without OPTIMAL."""
    places = {radius: k for k, radius in enumerate(sums.radii)}
    curves = {
        name: LightCurve(sums.flux[:, places[r]], error[:, places[r]], r)
        for name, r in circles(sums.radii).items()
    }
    usual = places[DEFAULT_RADIUS]
    fixed_error = error[:, usual] * np.sqrt(sums.fixed_area / np.maximum(sums.area[:, usual], 1.0))
    curves[FIXED] = LightCurve(sums.fixed, fixed_error, DEFAULT_RADIUS)
    scale = median_share(psf.share[:, usual], points.good)
    curves[PSF] = LightCurve(scale * psf.flux, scale * psf.error, DEFAULT_RADIUS)
    return curves


def metrics_of(curves: Mapping[str, LightCurve], points: Points) -> NewHdu:
    """Return the table of the metrics of all light curves; PSF is left out if it has no flux."""
    rows = [
        curve_metrics(name, curve.radius, curve.flux, curve.error, points)
        for name, curve in curves.items()
        if name != PSF or np.isfinite(curve.flux).any()
    ]
    return metrics_table(rows)


def candidates_table(candidates: Sequence[Candidate], noise: FloatArray) -> NewHdu:
    """Return the table of the candidates of OPTIMAL."""
    columns = {
        "WAY": np.array([str(c.way) for c in candidates]),
        "RADIUS": np.array([c.radius for c in candidates]),
        "NOISE": noise,
    }
    return NewHdu(TERMS["TERM_CANDIDATES"], columns=columns)


def point_columns(points: Points) -> dict[str, AnyArray]:
    """Return the columns of times and flags of the points.

    STATUS is 1 where EVENT is not 0, as in the operational pipeline, and for unusable images.
    """
    unusable = (points.quality & int(Quality.UNUSABLE_IMAGE)) != 0
    return {
        "MJD_TIME": points.mjd,
        "EVENT": points.event,
        "STATUS": ((points.event != 0) | unusable).astype(np.int32),
        "QUALITY": points.quality,
    }


def curve_columns(curves: Mapping[str, LightCurve]) -> dict[str, FloatArray]:
    """Return the columns of the light curves that are not simple sums within a circle."""
    return {
        "OPT_FLUX": curves[OPTIMAL].flux,
        "OPT_ERR": curves[OPTIMAL].error,
        "FIXED_ERR": curves[FIXED].error,
        "PSF_FLUX": curves[PSF].flux,
        "PSF_ERR": curves[PSF].error,
    }


def share_of(quality: Int32Array, flag: Quality) -> float:
    """Return the fraction of images with a flag."""
    return float(np.mean((quality & int(flag)) != 0))


def missing_images(counter: IntArray) -> int:
    """Return the number of missing images, by the 16-bit counter of the telemetry."""
    steps = np.mod(np.diff(counter.astype(np.int64)), 65536)
    return int(np.maximum(steps - 1, 0).sum())


def cosmic_digit(inside: Int32Array, everywhere: Int32Array, pixels: int) -> Int32Array:
    """Return the EVENT digit of cosmic rays.

    It is 1 if more than 1 % of the aperture R25 is hit, and 2 if more than 5 % of the image is.
    """
    aperture = np.pi * DEFAULT_RADIUS**2
    return np.where(everywhere > 0.05 * pixels, 2, np.where(inside > 0.01 * aperture, 1, 0)).astype(
        np.int32
    )


def median_share(share: FloatArray, good: BoolArray) -> float:
    """Return the median share of a PSF's light within a circle over good points, 1 without any."""
    used = good & (share > 0)
    return float(np.median(share[used])) if used.any() else 1.0


def light_lost(
    share: FloatArray, good: BoolArray, always: Sequence[int] | None = None
) -> FloatArray:
    """Return the light that blur and changes of the PSF took out of each circle, shape (n, k).

    It is relative to what the circle usually holds, and negative where it holds more; NaN where the
    PSF was not fitted. A flux over 1 minus it is corrected.

    Parameters
    ----------
    share : ndarray, shape (n, k)
        The model's share of the light within each radius.
    good : ndarray of bool, shape (n,)
        Points whose median share is the reference.
    always : sequence of int, optional
        Indices of radii whose shares are known together, or not at all. The default is all; the
        share in any other circle may be unknown on its own.
    """
    lit = np.isfinite(share) & (share > 0)
    known = lit & (lit if always is None else lit[:, always]).all(axis=1, keepdims=True)
    loss = np.full(share.shape, np.nan)
    for k, seen in enumerate(known.T):
        if (seen & good).any():
            loss[seen, k] = 1.0 - share[seen, k] / np.median(share[seen & good, k])
    return loss


def make_up(flux: FloatArray, loss: FloatArray) -> FloatArray:
    """Return a flux without its loss, of the same shape; where that is unknown it is unchanged."""
    return np.asarray(flux / (1.0 - np.nan_to_num(loss)))
