"""The second stage: everything that is not the star is measured and taken away."""

from __future__ import annotations

from schemas.inputs import BAD_PIXEL_MAP, FLUX_CONVERSION, PIXEL_SCALE, WHITE_PSF
from schemas.payloads import CalibratedVisit, CorrectedVisit, Inventory
from schemas.settings import PipelineSettings
from tasks.calibration.stages import measure_calibration_stages
from tasks.correction.apply import correct_subarray, write_corrections
from tasks.correction.background import estimate_background, estimate_background_1
from tasks.correction.defects import find_defects, find_defects_1
from tasks.correction.full_array import correct_full_array
from tasks.correction.imagettes import correct_imagettes
from tasks.correction.smearing import estimate_smearing
from tasks.correction.stages import measure_correction_stages
from tasks.engine.step import recipe
from tasks.scene.field_fluxes import measure_stars
from tasks.scene.look import take_look
from tasks.scene.plate import solve_plate
from tasks.scene.pointing import estimate_pointing
from tasks.scene.position import estimate_position
from tasks.scene.prior import read_prior
from tasks.scene.psf_rounds import estimate_psf, estimate_psf_1
from tasks.scene.stars import find_stars


@recipe(CorrectedVisit, "correct")
def correct_visit(
    found: Inventory, calibrated: CalibratedVisit, settings: PipelineSettings
) -> CorrectedVisit:
    """Estimate the scene and what is not the star, background, PSF and defects in two rounds, and
    correct the images.
    """
    images, bias, gain = calibrated.subarray.product, calibrated.bias, calibrated.gain
    reference = found.references
    scale, white, bad = (
        reference.get(kind.kind) for kind in (PIXEL_SCALE, WHITE_PSF, BAD_PIXEL_MAP)
    )
    pointing = estimate_pointing(
        found.subarray, found.attitude, found.planned, scale, settings.pointing
    )
    prior = read_prior(found.subarray, white, bad, found.stars, reference.get(FLUX_CONVERSION.kind))
    look = take_look(images, calibrated.events, pointing, prior, settings.background, settings.look)
    calibration_stages = measure_calibration_stages(
        found.subarray, found.imagettes, look, calibrated.detector
    )
    first_background = estimate_background_1(images, look, pointing, prior, settings.background)
    first_psf = estimate_psf_1(
        images, look, pointing, first_background, bias, gain, prior, settings.psf
    )
    plate = None
    if calibrated.full_array is not None:
        plate = solve_plate(calibrated.full_array, found.stars, pointing, first_psf, settings.plate)
    first_stars = find_stars(prior, look, pointing, first_psf, plate)
    smearing = estimate_smearing(
        found.subarray,
        look,
        pointing,
        bias,
        gain,
        calibrated.linearity,
        first_psf,
        first_stars,
        settings.smearing,
    )
    stars = measure_stars(
        images,
        look,
        pointing,
        first_background,
        bias,
        gain,
        first_psf,
        first_stars,
        smearing,
        settings.stars,
    )
    first_defects = find_defects_1(
        images,
        look,
        pointing,
        first_background,
        bias,
        gain,
        first_psf,
        stars,
        smearing,
        prior,
        settings.defects,
    )
    background = estimate_background(
        images,
        look,
        pointing,
        bias,
        gain,
        first_background,
        first_psf,
        stars,
        smearing,
        first_defects,
        settings.background,
    )
    psf = estimate_psf(
        images,
        look,
        pointing,
        bias,
        gain,
        first_psf,
        stars,
        smearing,
        first_defects,
        background,
        prior,
        settings.psf,
    )
    position = estimate_position(
        images,
        look,
        pointing,
        background,
        bias,
        gain,
        psf,
        stars,
        smearing,
        first_defects,
        settings.position,
    )
    defects = find_defects(
        images,
        look,
        pointing,
        background,
        bias,
        gain,
        psf,
        stars,
        position,
        smearing,
        prior,
        settings.defects,
    )
    correction_stages = measure_correction_stages(images, look, background, smearing, defects)
    corrected = correct_subarray(
        calibrated.subarray,
        calibrated.terms(),
        pointing,
        look,
        background,
        psf,
        stars,
        position,
        smearing,
        defects,
    )
    corrections = write_corrections(calibrated.subarray, background, defects)
    imagettes = full_array = None
    if calibrated.imagettes is not None:
        imagettes = correct_imagettes(
            calibrated.imagettes,
            calibrated.subarray,
            calibrated.terms(),
            pointing,
            background,
            bias,
            gain,
            psf,
            stars,
            position,
            smearing,
            defects,
            settings.defects,
        )
    if calibrated.full_array is not None and plate is not None:
        full_array = correct_full_array(
            calibrated.full_array,
            calibrated.subarray,
            pointing,
            psf,
            stars,
            smearing,
            plate,
            settings.defects,
        )
    return CorrectedVisit(
        pointing=pointing,
        prior=prior,
        look=look,
        calibration_stages=calibration_stages,
        first_background=first_background,
        first_psf=first_psf,
        first_stars=first_stars,
        smearing=smearing,
        stars=stars,
        first_defects=first_defects,
        background=background,
        psf=psf,
        position=position,
        defects=defects,
        correction_stages=correction_stages,
        subarray=corrected,
        corrections=corrections,
        imagettes=imagettes,
        plate=plate,
        full_array=full_array,
    )
