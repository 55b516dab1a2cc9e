"""The second stage: estimate and subtract everything but the star."""

from __future__ import annotations

from schemas.inputs import BAD_PIXEL_MAP, FLUX_CONVERSION, PIXEL_SCALE, WHITE_PSF
from schemas.payloads import (
    CalibratedVisit,
    CorrectedVisit,
    FirstScene,
    Inventory,
    Removed,
    Scene,
)
from schemas.settings import PipelineSettings, PsfUse
from tasks.calibration.stages import measure_calibration_stages
from tasks.correction.apply import correct_subarray, write_corrections
from tasks.correction.background import estimate_background, estimate_background_1
from tasks.correction.defects import find_defects, find_defects_1
from tasks.correction.full_array import correct_full_array
from tasks.correction.imagette_hits import find_imagette_hits
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
    """Model the scene, estimate the effects in the images in two rounds, and subtract them."""
    raw, stacks, full_array = found.subarray, calibrated.subarray, calibrated.full_array
    readout, detector, terms = calibrated.readout, calibrated.detector, calibrated.terms()
    images, events, linearity = stacks.product, calibrated.events, calibrated.linearity
    ring, limits, stamp = settings.background, settings.defects, settings.psf.size
    psf_use, star_error = PsfUse.of(settings.psf), settings.stars.prior
    kinds = (PIXEL_SCALE, WHITE_PSF, BAD_PIXEL_MAP, FLUX_CONVERSION)
    scale, white, bad, conversion = (found.references.get(kind.kind) for kind in kinds)

    # before the visit has a PSF
    pointing = estimate_pointing(raw, found.attitude, found.planned, scale, settings.pointing)
    prior = read_prior(raw, white, bad, found.stars, conversion)
    look = take_look(images, events, pointing, prior, ring, settings.look, stamp)
    calibration_stages = measure_calibration_stages(raw, found.imagettes, look, detector)
    first = FirstScene(look=look, pointing=pointing, prior=prior)

    # first round: background, PSF, stars, smearing, and defects of sampled images
    background_1 = estimate_background_1(images, first, ring, stamp)
    psf_1 = estimate_psf_1(images, first, background_1, readout, settings.psf, star_error)
    plate = None
    if full_array is not None:
        plate = solve_plate(full_array, found.stars, pointing, psf_1, settings.plate)
    stars_1 = find_stars(first, psf_1, plate, psf_use)
    scene = Scene(**dict(first), psf=psf_1, stars=stars_1, psf_use=psf_use)
    smearing = estimate_smearing(raw, scene, readout, linearity, settings.smearing)
    removed = Removed(background=background_1, smearing=smearing)
    stars = measure_stars(images, scene, readout, removed, settings.stars)
    scene = Scene(**dict(first), psf=psf_1, stars=stars, psf_use=psf_use)
    defects_1 = find_defects_1(images, events, scene, readout, removed, limits)

    # second round: background, PSF, position and defects, with the results of the first
    removed = removed.with_defects(defects_1)
    background = estimate_background(images, scene, readout, removed, ring)
    smooth = Removed(background=background, smearing=smearing)
    removed = smooth.with_defects(defects_1)
    psf = estimate_psf(images, scene, readout, removed, settings.psf)
    scene = Scene(**dict(first), psf=psf, stars=stars, psf_use=psf_use)
    position = estimate_position(images, scene, readout, removed, settings.position)
    placed = scene.placed(position)
    small, hits = calibrated.imagettes, None
    if small is not None:
        hits = find_imagette_hits(small, images, placed, readout, removed, limits)
    defects = find_defects(images, events, placed, readout, smooth, hits, limits)
    removed = smooth.with_defects(defects)

    # the corrected images
    correction_stages = measure_correction_stages(images, look, removed)
    corrected = correct_subarray(stacks, terms, placed, removed)
    corrections = write_corrections(stacks, background, defects)
    imagettes = frame = None
    if small is not None:
        imagettes = correct_imagettes(small, stacks, terms, placed, readout, removed, limits)
    if full_array is not None and plate is not None:
        frame = correct_full_array(full_array, stacks, scene, smearing, plate, limits)

    return CorrectedVisit(
        **dict(placed),
        **dict(removed),
        calibration_stages=calibration_stages,
        first_background=background_1,
        first_psf=psf_1,
        first_stars=stars_1,
        first_defects=defects_1,
        correction_stages=correction_stages,
        subarray=corrected,
        corrections=corrections,
        imagette_hits=hits,
        imagettes=imagettes,
        plate=plate,
        full_array=frame,
    )
