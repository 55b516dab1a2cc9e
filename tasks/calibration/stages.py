"""The effect of each operation of the calibration on the light curve of one circle.

The operations are those of `apply`, in the same order, on the pixels of the circle only. Stages
before the gain are divided by the visit's median gain, so that all are in electrons. The product
also contains one raw image, since raw images are not published. Only the report reads it.
"""

from __future__ import annotations

from math import ceil, floor
from typing import NamedTuple

import numpy as np
from numba import njit

from schemas.arrays import FloatArray, WordArray
from schemas.light_curves import CALIBRATION_STAGES, DEFAULT_RADIUS
from schemas.payloads import CalibrationStages, Detector, Look, Product
from schemas.terms import TERMS
from tasks.calibration.detector import (
    PerImage,
    Response,
    measure_stack,
    pixel_charge,
    read_detector,
)
from tasks.calibration.motion import BlockMotion, Motion
from tasks.engine.step import Leaves, step
from tasks.files.byte_order import from_big_endian
from tasks.files.reader import blocks
from tasks.files.writer import NewHdu
from tasks.numerics.geometry import pixel_overlap
from tasks.visit.raw import Exposures, maybe_exposures, open_exposures
from tasks.visit.terms import Curve, first_sampled, look_places

STAGES = len(CALIBRATION_STAGES)


class Circle(NamedTuple):
    """Circles in the window, one per image; pixel i spans [i, i+1)."""

    x: FloatArray  # of the centres, shape (n,), NaN for none [pixel]
    y: FloatArray
    radius: float  # [pixel]


@njit(cache=True, nogil=True, error_model="numpy")
def sum_stages(
    words: WordArray,
    images: PerImage,
    usual_gain: float,
    response: Response,
    curve: Curve,
    motion: BlockMotion,
    circle: Circle,
) -> FloatArray:
    """Sum a block of raw images within a circle after each operation of the calibration.

    Parameters
    ----------
    words : ndarray of uint32, shape (n, ny, nx)
        Raw images as big-endian words of 32-bit integers, offset 2^31 not yet added [ADU].
    images, response, curve, motion
        The detector, as for `apply.calibrate_images`.
    usual_gain : float
        Gain of the stages before the gain is applied [ADU/electron].
    circle : Circle
        Where to sum.

    Returns
    -------
    ndarray, shape (n, 6)
        Sums of the raw image, then without bias, with each image's gain, linearised, without
        thermal charge, and at uniform response [electron per stack]. Pixels without data or outside
        the window are left out; NaN without a centre.
    """
    sums = np.zeros((words.shape[0], STAGES))
    structure, dark, flat = response
    boundary, coefficients = curve
    signal, variance = np.empty(words.shape[1:]), np.empty(words.shape[1:])
    for i in range(words.shape[0]):
        x, y, radius = circle.x[i], circle.y[i], circle.radius
        if not (np.isfinite(x) and np.isfinite(y)):
            sums[i] = np.nan
            continue
        measure_stack(words, i, images, structure, motion, signal, variance)
        exposures, scale, level = images.exposures[i], images.scale[i], images.level[i]
        for row in range(max(floor(y - radius), 0), min(ceil(y + radius), words.shape[1])):
            for column in range(max(floor(x - radius), 0), min(ceil(x + radius), words.shape[2])):
                value = from_big_endian(words[i, row, column]) ^ np.uint32(0x80000000)
                share = exposures * pixel_overlap(column - x, row - y, radius)
                if not np.isfinite(signal[row, column]) or share == 0.0:
                    continue
                measured = value / scale
                above, thermal = signal[row, column], images.thermal[i] * dark[row, column]
                linear, charge = pixel_charge(
                    above, variance[row, column], thermal, boundary, coefficients
                )
                sums[i, 0] += share * measured / usual_gain
                sums[i, 1] += share * (measured - level - structure[row, column]) / usual_gain
                sums[i, 2] += share * above
                sums[i, 3] += share * linear
                sums[i, 4] += share * charge
                sums[i, 5] += share * charge / flat[row, column]
    return sums


def _sum_visit(
    raw: Exposures, motion: Motion, detector: Detector, x: FloatArray, y: FloatArray
) -> FloatArray:
    """Return the sums of all images within circles around (x, y) on the CCD, shape (n, 6)."""
    terms = read_detector(detector)
    ny, nx = raw.shape
    if len(x) != raw.count or any(term.shape != (ny, nx) for term in terms.response):
        raise ValueError(f"the terms do not match {raw.count} images of {ny} x {nx} pixels")
    images, usual_gain = terms.of_stacks(raw.nexp, raw.coadded), float(np.median(terms.gain))
    sums = np.empty((raw.count, STAGES))
    for a, b in blocks(raw.count, ny * nx * 4):
        words = raw.words(a, b)
        sums[a:b] = sum_stages(
            words,
            images.block(a, b),
            usual_gain,
            terms.response,
            terms.curve,
            motion.block(a, b, words),
            Circle(x[a:b] - raw.x_offset, y[a:b] - raw.y_offset, DEFAULT_RADIUS),
        )
    return sums


@step("calibration_stages", version="5", payload=CalibrationStages, leaves=["TERM_CAL_STAGES"])
def measure_calibration_stages(
    raw: Product, imagettes: Product | None, look: Look, detector: Detector
) -> Leaves:
    """Measure the light curve within one circle after each operation of the calibration."""
    x, y = look_places(look)
    with open_exposures(raw) as exposures, maybe_exposures(imagettes) as single:
        sums = _sum_visit(exposures, Motion(detector.spread, exposures, single), detector, x, y)
        first = first_sampled(look)
        (adu,) = exposures.words(first, first + 1).byteswap() ^ np.uint32(0x80000000)
        corner = {"X_WINOFF": exposures.x_offset, "Y_WINOFF": exposures.y_offset}
        columns = {"MJD_TIME": exposures.mjd, **dict(zip(CALIBRATION_STAGES, sums.T, strict=True))}
    image = NewHdu(TERMS["TERM_RAW_IMAGE"], corner, pixels=adu.astype(np.float64))
    return Leaves({"TERM_CAL_STAGES": [NewHdu(TERMS["TERM_CAL_STAGES"], columns=columns), image]})
