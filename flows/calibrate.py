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
from schemas.payloads import Calibrated, CalibratedVisit, Inventory, Product, Reference
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
def calibrate_visit(found: Inventory, settings: PipelineSettings) -> CalibratedVisit:
    """Flag events, estimate what the detector does, and undo it."""
    raw, reference = found.subarray, found.references
    tables = tuple(p for p in (found.constraints, found.planned) if p is not None)
    limits, housekeeping = reference.get(VISIT_LIMITS.kind), reference.get(HOUSEKEEPING_LIMITS.kind)
    events = flag_events(
        raw, tables, found.orbit, reference.get(SAA_MAP.kind), limits, housekeeping, settings.events
    )
    checked = judge_housekeeping(raw, housekeeping)
    bias = estimate_bias(raw, reference[BIAS_FRAME.kind], settings.bias)
    gain = estimate_gain(raw, reference[GAIN_CORRECTION.kind], settings.gain)
    linearity = estimate_linearity(raw, reference.get(LINEARISATION.kind), settings.linearity)
    spread = estimate_spread(
        raw, found.imagettes, found.attitude, reference.get(PIXEL_SCALE.kind), settings.spread
    )
    dark = estimate_dark(
        raw,
        bias,
        gain,
        linearity,
        reference[BIAS_FRAME.kind],
        found.dark_frames,
        reference.get(READ_OUT.kind),
        settings.dark,
    )
    flat = estimate_flat(raw, reference.get(FLAT_FIELD.kind), built_from(found), settings.flat)
    flat_field = write_flat_field(
        raw, flat, reference.get(FLAT_FIELD.kind), built_from(found), settings.flat
    )
    subarray = calibrate_subarray(
        raw, found.imagettes, events, bias, gain, linearity, spread, dark, flat
    )
    imagettes = full_array = None
    if found.imagettes is not None:
        imagettes = calibrate_imagettes(
            found.imagettes, raw, bias, gain, linearity, spread, dark, flat
        )
    if found.full_array is not None:
        full_array = calibrate_whole_ccd(found.full_array, found, settings)
    return CalibratedVisit(
        events=events,
        bias=bias,
        gain=gain,
        linearity=linearity,
        spread=spread,
        dark=dark,
        flat=flat,
        flat_field=flat_field,
        subarray=subarray,
        imagettes=imagettes,
        full_array=full_array,
        housekeeping=checked,
    )


def built_from(found: Inventory) -> tuple[Reference, ...]:
    """Return the references that a flat field is built from, none where it is not to be built."""
    given = (found.references.get(declared.kind) for declared in BY_WAVELENGTH)
    return tuple(r for r in given if r is not None)


def calibrate_whole_ccd(raw: Product, found: Inventory, settings: PipelineSettings) -> Calibrated:
    """Calibrate the full array by the same steps, with its own margins, housekeeping and read-out
    mode.
    """
    reference = found.references
    bias = estimate_bias(raw, reference[BIAS_FRAME.kind], settings.bias)
    gain = estimate_gain(raw, reference[GAIN_CORRECTION.kind], settings.gain)
    linearity = estimate_linearity(raw, reference.get(LINEARISATION.kind), settings.linearity)
    dark = estimate_dark(
        raw,
        bias,
        gain,
        linearity,
        reference[BIAS_FRAME.kind],
        found.dark_frames,
        reference.get(READ_OUT.kind),
        settings.dark,
    )
    flat = estimate_flat(raw, reference.get(FLAT_FIELD.kind), built_from(found), settings.flat)
    return calibrate_full_array(raw, bias, gain, linearity, dark, flat)
