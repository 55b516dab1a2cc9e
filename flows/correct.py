"""The second stage: everything that is not the star is measured and taken away."""

from __future__ import annotations

from schemas.inputs import PIXEL_SCALE
from schemas.payloads import CalibratedVisit, CorrectedVisit, Inventory
from schemas.settings import PipelineSettings
from tasks.correction.apply import correct_subarray
from tasks.correction.background import estimate_background
from tasks.scene.look import take_look
from tasks.scene.pointing import estimate_pointing
from tasks.scene.position import estimate_position
from tasks.step import recipe


@recipe(CorrectedVisit, "correct")
def correct_visit(found: Inventory, calibrated: CalibratedVisit, settings: PipelineSettings) -> CorrectedVisit:
    """Estimate pointing, background and position, and correct the images."""
    images, scale = calibrated.subarray.product, found.references.get(PIXEL_SCALE.kind)
    pointing = estimate_pointing(found.subarray, found.attitude, found.planned, scale, settings.pointing)
    look = take_look(images, calibrated.events, pointing, settings.background, settings.look)
    background = estimate_background(images, look, settings.background)
    position = estimate_position(images, look, background, calibrated.bias, calibrated.gain, settings.position)
    corrected = correct_subarray(calibrated.subarray, calibrated.terms(), pointing, look, background, position)
    return CorrectedVisit(pointing=pointing, look=look, background=background, position=position, subarray=corrected)
