"""The third stage: corrected images to light curves."""

from __future__ import annotations

from schemas.payloads import CalibratedVisit, CorrectedVisit, MeasuredVisit
from tasks.delivery.light_curves import write_light_curves
from tasks.photometry.apertures import measure_apertures
from tasks.photometry.quality import assess_quality
from tasks.step import recipe


@recipe(MeasuredVisit, "photometry")
def measure_visit(calibrated: CalibratedVisit, corrected: CorrectedVisit) -> MeasuredVisit:
    """Measure the target, judge the points, and write the light curves."""
    c, k = calibrated, corrected
    apertures = measure_apertures(k.subarray, k.position, c.dark)
    quality = assess_quality(
        k.subarray, c.events, c.bias, c.gain, k.pointing, k.look, k.background, k.position, apertures
    )
    upstream = (*c.terms(), *k.terms())
    light_curves = write_light_curves(k.subarray, upstream, k.pointing, k.background, k.position, apertures, quality)
    return MeasuredVisit(apertures=apertures, quality=quality, light_curves=light_curves)
