"""The third stage: from corrected images to light curves."""

from __future__ import annotations

from schemas.payloads import CalibratedVisit, CorrectedVisit, Fluxes, MeasuredVisit, Photometry
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
    """Measure the target, assess the quality of the points, and write the light curves."""
    c, images, scene, removed = corrected, corrected.subarray, corrected.scene, corrected.removed
    events, detector, readout = calibrated.events, calibrated.detector, calibrated.readout
    circles = settings.apertures
    apertures = measure_apertures(
        images, c.position, c.smearing, c.defects, calibrated.dark, circles
    )
    psf_fit = fit_psf(images, scene, readout, removed, circles)
    contamination = estimate_contamination(images, scene, apertures, removed.background)
    fluxes = Fluxes(apertures=apertures, psf_fit=psf_fit, contamination=contamination)
    quality = assess_quality(images, events, detector, scene, removed, fluxes, settings.optimal)
    upstream = (*calibrated.terms(), *c.terms())
    photometry = Photometry(**dict(fluxes), quality=quality)
    light_curves = write_light_curves(
        images, upstream, c.pointing, c.background, c.position, photometry, settings.detrend
    )
    imagettes = curves = unmeasured = None
    if c.imagettes is not None:
        small, chosen = c.imagettes, settings.imagettes
        imagettes = measure_imagettes(small, images, scene, detector, removed, quality, chosen)
        if imagettes.used.get("IMAG_N") == 0:
            imagettes, unmeasured = None, imagettes
        else:
            curves = write_imagette_light_curves(
                small, images, (*upstream, small), imagettes, settings.detrend
            )
    return MeasuredVisit(
        **dict(photometry),
        light_curves=light_curves,
        imagettes=imagettes,
        imagette_light_curves=curves,
        unmeasured=unmeasured,
    )
