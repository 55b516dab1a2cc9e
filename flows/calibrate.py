"""The first stage: raw images to electrons."""

from __future__ import annotations

from schemas.inputs import (
    BIAS_FRAME,
    BY_WAVELENGTH,
    FLAT_FIELD,
    GAIN_CORRECTION,
    HOUSEKEEPING_LIMITS,
    LINEARISATION,
    PIXEL_SCALE,
    READ_OUT,
    SAA_MAP,
    VISIT_LIMITS,
)
from schemas.payloads import (
    CalibratedVisit,
    Detector,
    Events,
    Inventory,
    Product,
    ReadOut,
    Reference,
)
from schemas.settings import PipelineSettings
from tasks.calibration.apply import calibrate_full_array, calibrate_imagettes, calibrate_subarray
from tasks.calibration.bias import estimate_bias
from tasks.calibration.dark import estimate_dark
from tasks.calibration.events import flag_events
from tasks.calibration.flat import estimate_flat, write_flat_field
from tasks.calibration.gain import estimate_gain
from tasks.calibration.housekeeping import judge_housekeeping
from tasks.calibration.linearity import estimate_linearity
from tasks.calibration.spread import estimate_spread
from tasks.engine.step import recipe


@recipe(CalibratedVisit, "calibrate")
def calibrate_visit(inventory: Inventory, settings: PipelineSettings) -> CalibratedVisit:
    """Flag events, estimate the effects of the detector, and undo them."""
    raw, flats = inventory.subarray, flat_references(inventory)
    events = flag_visit(inventory, settings)
    limits = inventory.references.get(HOUSEKEEPING_LIMITS.kind)
    housekeeping = judge_housekeeping(raw, limits)
    detector = estimate_detector(raw, inventory, settings)
    assert detector.spread is not None  # None only for the full array
    flat_field = write_flat_field(raw, detector.flat, *flats, settings.flat)
    subarray = calibrate_subarray(raw, inventory.imagettes, events, detector)
    imagettes = full_array = None
    if inventory.imagettes is not None:
        imagettes = calibrate_imagettes(inventory.imagettes, raw, detector)
    if (whole := inventory.full_array) is not None:
        full_array = calibrate_full_array(whole, estimate_detector(whole, inventory, settings))
    return CalibratedVisit(
        events=events,
        bias=detector.readout.bias,
        gain=detector.readout.gain,
        linearity=detector.linearity,
        spread=detector.spread,
        dark=detector.dark,
        flat=detector.flat,
        flat_field=flat_field,
        subarray=subarray,
        imagettes=imagettes,
        full_array=full_array,
        housekeeping=housekeeping,
    )


def flag_visit(inventory: Inventory, settings: PipelineSettings) -> Events:
    """Flag the images of the sub-array."""
    reference = inventory.references.get
    return flag_events(
        inventory.subarray,
        tuple(p for p in (inventory.constraints, inventory.planned) if p is not None),
        inventory.orbit,
        reference(SAA_MAP.kind),
        reference(VISIT_LIMITS.kind),
        reference(HOUSEKEEPING_LIMITS.kind),
        settings.events,
    )


def estimate_detector(raw: Product, inventory: Inventory, settings: PipelineSettings) -> Detector:
    """Estimate the effects of the detector on the sub-array or the full array.

    Each has margins, housekeeping and a read-out mode of its own.
    """
    reference = inventory.references
    bias_frame, timing = reference[BIAS_FRAME.kind], reference.get(READ_OUT.kind)
    bias = estimate_bias(raw, bias_frame, settings.bias)
    gain = estimate_gain(raw, reference[GAIN_CORRECTION.kind], settings.gain)
    readout = ReadOut(bias=bias, gain=gain)
    linearity = estimate_linearity(raw, reference.get(LINEARISATION.kind), settings.linearity)
    spread = None
    if raw is inventory.subarray:  # the full array is a single exposure
        scale, attitude = reference.get(PIXEL_SCALE.kind), inventory.attitude
        spread = estimate_spread(raw, inventory.imagettes, attitude, scale, settings.spread)
    frames = inventory.dark_frames
    dark = estimate_dark(raw, readout, linearity, bias_frame, frames, timing, settings.dark)
    flat = estimate_flat(raw, *flat_references(inventory), settings.flat)
    return Detector(readout=readout, linearity=linearity, spread=spread, dark=dark, flat=flat)


def flat_references(inventory: Inventory) -> tuple[Reference | None, tuple[Reference, ...]]:
    """Return the reference flat field, and the references to build one from; either is empty."""
    by_wavelength = (inventory.references.get(declared.kind) for declared in BY_WAVELENGTH)
    parts = tuple(reference for reference in by_wavelength if reference is not None)
    return inventory.references.get(FLAT_FIELD.kind), parts
