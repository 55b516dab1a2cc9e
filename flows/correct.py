"""The second stage: everything that is not the star is measured and taken away."""

from __future__ import annotations

from schemas.inputs import PIXEL_SCALE
from schemas.payloads import CalibratedVisit, CorrectedVisit, Inventory
from schemas.settings import PipelineSettings
from tasks.correction.apply import correct_subarray
from tasks.correction.background import estimate_background
from tasks.correction.defects import find_defects
from tasks.correction.imagettes import correct_imagettes
from tasks.correction.smearing import estimate_smearing
from tasks.scene.look import take_look
from tasks.scene.pointing import estimate_pointing
from tasks.scene.position import estimate_position
from tasks.scene.psf import estimate_psf
from tasks.scene.stars import find_stars
from tasks.step import recipe


@recipe(CorrectedVisit, "correct")
def correct_visit(found: Inventory, calibrated: CalibratedVisit, settings: PipelineSettings) -> CorrectedVisit:
    """Estimate pointing, background, PSF, stars, position, smearing and defects, and correct the images."""
    images, scale = calibrated.subarray.product, found.references.get(PIXEL_SCALE.kind)
    pointing = estimate_pointing(found.subarray, found.attitude, found.planned, scale, settings.pointing)
    look = take_look(images, calibrated.events, pointing, settings.background, settings.look)
    background = estimate_background(images, look, settings.background)
    bias, gain = calibrated.bias, calibrated.gain
    psf = estimate_psf(images, look, pointing, background, bias, gain, settings.psf)
    stars = find_stars(found.stars, look, psf)
    position = estimate_position(images, look, pointing, background, bias, gain, psf, settings.position)
    smearing = estimate_smearing(found.subarray, look, pointing, bias, gain, psf, stars, position, settings.smearing)
    defects = find_defects(images, look, pointing, background, bias, gain, psf, stars, position, smearing, settings.defects)
    corrected = correct_subarray(
        calibrated.subarray, calibrated.terms(), pointing, look, background, psf, stars, position, smearing, defects
    )
    imagettes = None
    if calibrated.imagettes is not None:
        imagettes = correct_imagettes(
            calibrated.imagettes, calibrated.subarray, calibrated.terms(), pointing, background, bias, gain, psf, stars,
            position, smearing, defects, settings.defects,
        )  # fmt: skip
    return CorrectedVisit(
        pointing=pointing, look=look, background=background, psf=psf, stars=stars, position=position, smearing=smearing,
        defects=defects, subarray=corrected, imagettes=imagettes,
    )  # fmt: skip
