"""Calibration of images: raw ADU to electrons, with all terms applied in one loop over the pixels.

See `detector` for the formula. Images are read and written in blocks, so that memory does not grow
with their number; the sum for DATASUM is computed in the same pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from schemas.arrays import BoolArray, FloatArray, WordArray
from schemas.flags import Quality
from schemas.payloads import Calibrated, Detector, Events, Leaf, Product
from schemas.products import soc_structure
from schemas.used import with_keywords
from tasks.calibration.damage import FULL_SCALE, assess_images, cause_warnings
from tasks.calibration.detector import (
    DetectorTerms,
    PerImage,
    Response,
    measure_stack,
    payloads_of,
    pixel_charge,
    read_detector,
)
from tasks.calibration.motion import BlockMotion, Corners, Motion, imagette_corners
from tasks.engine.run import new_file
from tasks.engine.step import Leaves, history, step
from tasks.files.byte_order import to_big_endian
from tasks.files.reader import blocks
from tasks.files.writer import FitsWriter, NewHdu
from tasks.visit.headers import image_metadata, step_keywords, visit_keywords
from tasks.visit.raw import Exposures, maybe_exposures, open_exposures
from tasks.visit.terms import Curve, read_events


@njit(cache=True, nogil=True, error_model="numpy")
def calibrate_images(
    words: WordArray,
    images: PerImage,
    response: Response,
    curve: Curve,
    motion: BlockMotion,
    out: FloatArray,
) -> None:
    """Calibrate a block of images.

    Parameters
    ----------
    words : ndarray of uint32, shape (n, ny, nx)
        Raw images as big-endian words of 32-bit integers, offset 2^31 not yet added [ADU].
    images, response, curve, motion
        The detector.
    out : ndarray, shape (n, ny, nx)
        Receives the calibrated images [electron per stack]; NaN where the raw value is 0 or
        impossible.
    """
    ny, nx = words.shape[1:]
    structure, dark, flat = response
    boundary, coefficients = curve
    signal, variance = np.empty((ny, nx)), np.empty((ny, nx))
    for i in range(words.shape[0]):
        measure_stack(words, i, images, structure, motion, signal, variance)
        exposures, thermal = images.exposures[i], images.thermal[i]
        x0, y0 = images.x0[i], images.y0[i]
        for y in range(ny):
            for x in range(nx):
                _, charge = pixel_charge(
                    signal[y, x],
                    variance[y, x],
                    thermal * dark[y + y0, x + x0],
                    boundary,
                    coefficients,
                )
                out[i, y, x] = exposures * charge / flat[y + y0, x + x0]


def _declare_cube(raw: Exposures, extname: str, steps: Sequence[Leaf]) -> NewHdu:
    """Return the HDU of calibrated images without its pixels; `steps` go into its header."""
    used = {name: value for leaf in steps for name, value in leaf.used.items()}
    declared = with_keywords(soc_structure(extname), used)
    keywords = {
        **visit_keywords(raw, declared),
        **step_keywords(steps),
        **used,
        "BUNIT": "electrons",
    }
    shape = (raw.count, *raw.shape) if len(declared.axes) == 3 else raw.shape
    return NewHdu(declared, keywords, shape=shape, history=history(steps))


def _write_calibrated(
    raw: Exposures,
    cube: NewHdu,
    images: PerImage,
    terms: DetectorTerms,
    motion: Motion,
    others: Sequence[NewHdu],
    unusable: BoolArray | None = None,
) -> None:
    """Calibrate all images, and write them, followed by some other HDUs.

    Pixels of `unusable` images are NaN, so that nothing is learned from them.
    """
    ny, nx = raw.shape
    with FitsWriter(new_file(cube.declared.extname)) as writer:
        writer.begin_cube(cube)
        for a, b in blocks(raw.count, ny * nx * 8):
            words, out = raw.words(a, b), np.empty((b - a, ny, nx))
            calibrate_images(
                words,
                images.block(a, b),
                terms.response,
                terms.curve,
                motion.block(a, b, words),
                out,
            )
            if unusable is not None:
                out[unusable[a:b]] = np.nan
            total = to_big_endian(out.view(np.uint64))
            writer.write_block(out.data.cast("B"), int(total))
        writer.end_cube()
        for hdu in others:
            writer.write(hdu)


@step("calibrate", version="6", payload=Calibrated, leaves=["SCI_CAL_SubArray"])
def calibrate_subarray(
    raw: Product, imagettes: Product | None, events: Events, detector: Detector
) -> Leaves:
    """Write the calibrated images of the sub-array."""
    terms = read_detector(detector)
    with open_exposures(raw) as exposures, maybe_exposures(imagettes) as single:
        columns = {"BIAS": terms.bias.level, "RON": terms.bias.ron}
        _write_calibrated(
            exposures,
            _declare_cube(exposures, "SCI_CAL_SubArray", [events, *payloads_of(detector)]),
            terms.of_stacks(exposures.nexp, exposures.coadded),
            terms,
            Motion(detector.spread, exposures, single),
            [image_metadata(exposures, "SCI_CAL_ImageMetadata", columns)],
            (read_events(events).quality & int(Quality.UNUSABLE_IMAGE)) != 0,
        )
    return Leaves(written={"SCI_CAL_SubArray": "SCI_CAL_SubArray"})


@step("calibrate_full_array", version="6", payload=Calibrated, leaves=["SCI_CAL_FullArray"])
def calibrate_full_array(raw: Product, detector: Detector) -> Leaves:
    """Write the calibrated image of the whole CCD."""
    terms = read_detector(detector)
    with open_exposures(raw) as exposures:
        columns = {"BIAS": terms.bias.level, "RON": terms.bias.ron}
        metadata = image_metadata(exposures, "SCI_CAL_ImageMetadata", columns)
        _write_calibrated(
            exposures,
            _declare_cube(exposures, "SCI_CAL_FullArray", payloads_of(detector)),
            terms.of_stacks(1, 1),
            terms,
            Motion(detector.spread, exposures, None),
            [metadata, *_calibrate_margins(exposures, terms)],
        )
    return Leaves(written={"SCI_CAL_FullArray": "SCI_CAL_FullArray"})


@step("calibrate_imagettes", version="7", payload=Calibrated, leaves=["SCI_CAL_Imagette"])
def calibrate_imagettes(imagettes: Product, raw: Product, detector: Detector) -> Leaves:
    """Write the calibrated imagettes, with the terms of the sub-array at their times."""
    terms = read_detector(detector)
    with open_exposures(raw) as stacks, open_exposures(imagettes) as exposures:
        corners = imagette_corners(exposures, stacks)
        numbers = _at_imagettes(terms, exposures, corners)
        damage = assess_images(exposures, numbers.scale, FULL_SCALE)
        damage.causes["by their metadata they lie outside of the sub-array"] = corners.outside
        places = {
            "X_OFF_FULL_ARRAY": corners.x + stacks.x_offset,
            "Y_OFF_FULL_ARRAY": corners.y + stacks.y_offset,
        }
        _write_calibrated(
            exposures,
            _declare_cube(exposures, "SCI_CAL_Imagette", payloads_of(detector)),
            numbers,
            terms,
            Motion(detector.spread, exposures, None, "TERM_SPREAD_IMAGETTES"),
            [image_metadata(exposures, "SCI_CAL_ImagetteMetadata", places)],
            damage.unusable,
        )
    warnings = [f"imagettes: {text}" for text in cause_warnings(damage)]
    return Leaves(written={"SCI_CAL_Imagette": "SCI_CAL_Imagette"}, warnings=warnings)


def _at_imagettes(terms: DetectorTerms, imagettes: Exposures, corners: Corners) -> PerImage:
    """Interpolate the numbers of imagettes between those of the stacks."""
    stacked = imagettes.metadata.column("NEXP").astype(np.float64)
    if (stacked < 1).any():
        raise imagettes.metadata.refuse("column NEXP has values below 1")
    level, gain, thermal = (
        np.interp(imagettes.mjd, terms.bias.mjd, values)
        for values in (terms.bias.level, terms.gain, terms.thermal)
    )
    return PerImage(stacked, stacked, level, gain, thermal, corners.x, corners.y)


def _calibrate_margins(raw: Exposures, terms: DetectorTerms) -> list[NewHdu]:
    """Return the margins of the full array above the bias level [electron]."""
    level, gain = (values[:, None, None] for values in (terms.bias.level, terms.gain))
    hdus = []
    for hdu in raw.file.hdus[2:]:
        if hdu.declared is not None and hdu.declared.image:
            declared = soc_structure(hdu.extname.replace("SCI_RAW_", "SCI_CAL_"))
            keywords = {**visit_keywords(raw, declared, hdu), "BUNIT": "electrons"}
            hdus.append(NewHdu(declared, keywords, pixels=(hdu.image() - level) / gain))
    return hdus
