"""The third stage: corrected images to light curves."""

from __future__ import annotations

from schemas.payloads import CalibratedVisit, CorrectedVisit, MeasuredVisit, Photometry
from schemas.settings import PipelineSettings
from tasks.delivery.light_curves import write_imagette_light_curves, write_light_curves
from tasks.engine.step import recipe
from tasks.photometry.apertures import measure_apertures
from tasks.photometry.contamination import estimate_contamination
from tasks.photometry.imagettes import measure_imagettes
from tasks.photometry.psf_fit import fit_psf
from tasks.photometry.quality import assess_quality


@recipe(MeasuredVisit, "photometry")
def measure_visit(
    calibrated: CalibratedVisit, corrected: CorrectedVisit, settings: PipelineSettings
) -> MeasuredVisit:
    """Measure the target, judge the points, and write the light curves."""
    c, k = calibrated, corrected
    apertures = measure_apertures(k.subarray, k.position, k.smearing, k.defects, c.dark)
    psf_fit = fit_psf(
        k.subarray, k.look, k.pointing, k.background, c.bias, c.gain, k.psf, k.stars, k.position
    )
    contamination = estimate_contamination(
        k.subarray, k.pointing, k.psf, k.stars, k.position, apertures
    )
    quality = assess_quality(
        k.subarray,
        c.events,
        c.bias,
        c.gain,
        c.dark,
        c.flat,
        k.pointing,
        k.look,
        k.background,
        k.position,
        k.smearing,
        k.defects,
        apertures,
        psf_fit,
    )
    upstream = (*c.terms(), *k.terms())
    photometry = Photometry(
        apertures=apertures, psf_fit=psf_fit, contamination=contamination, quality=quality
    )
    light_curves = write_light_curves(
        k.subarray, upstream, k.pointing, k.background, k.position, photometry
    )
    imagettes = curves = None
    if k.imagettes is not None:
        imagettes = measure_imagettes(
            k.imagettes,
            k.subarray,
            k.pointing,
            k.background,
            c.bias,
            c.gain,
            c.dark,
            k.psf,
            k.stars,
            k.position,
            k.smearing,
            k.defects,
            quality,
            settings.imagettes,
        )
        curves = write_imagette_light_curves(
            k.imagettes, k.subarray, (*upstream, k.imagettes), imagettes
        )
    return MeasuredVisit(
        apertures=apertures,
        psf_fit=psf_fit,
        contamination=contamination,
        quality=quality,
        light_curves=light_curves,
        imagettes=imagettes,
        imagette_light_curves=curves,
    )
