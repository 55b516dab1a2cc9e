"""What each step of the calibration does to the light curve: the electrons in one circle around the
star, stage by stage.

The operations are those of `apply`, in its order, on the pixels of the circle only. A stage without
bias or gain is brought to electrons by the visit's median gain, so that all stages have one scale.
One raw image goes with it, since raw images are not published. Nothing but the report reads this.
"""

from __future__ import annotations

from math import ceil, floor

import numpy as np
import numpy.typing as npt
from numba import njit

from schemas.arrays import FloatArray
from schemas.light_curves import CALIBRATION_STAGES, DEFAULT_RADIUS
from schemas.payloads import (
    Bias,
    CalibrationStages,
    Dark,
    Flat,
    Gain,
    Linearity,
    Look,
    Product,
    Spread,
)
from schemas.terms import TERMS
from tasks.calibration.apply import mean_exposure
from tasks.calibration.spread import Motion, stack_variances
from tasks.engine.step import Leaves, step
from tasks.files.byte_order import from_big_endian
from tasks.files.reader import blocks
from tasks.files.writer import NewHdu
from tasks.numerics.geometry import pixel_overlap
from tasks.visit.linearity_curve import bend, linearised, read_linearity
from tasks.visit.raw import maybe_exposures, open_exposures
from tasks.visit.terms import first_sampled, look_places, term_column, term_image


@njit(cache=True, nogil=True, error_model="numpy")
def sum_stages(
    words: npt.NDArray[np.uint32],
    exposures: float,
    scale: float,
    level: FloatArray,
    gain: FloatArray,
    thermal: FloatArray,
    usual_gain: float,
    structure: FloatArray,
    dark: FloatArray,
    flat: FloatArray,
    boundary: FloatArray,
    coefficients: FloatArray,
    offsets: FloatArray,
    core: FloatArray,
    corner: tuple[int, int],
    x: FloatArray,
    y: FloatArray,
    radius: float,
    sums: FloatArray,
) -> None:
    """Sum a block of raw images within a circle after each operation of the calibration.

    Parameters
    ----------
    words : ndarray of uint32, shape (n, ny, nx)
        Raw images as big-endian words of 32-bit integers, offset 2^31 not yet added [ADU].
    exposures, scale : float
        Exposures in each stack; how many of them a pixel is the sum of.
    level, gain, thermal : ndarray, shape (n,)
        Bias level [ADU], gain [ADU/electron] and thermal charge over that of `dark` of each image.
    usual_gain : float
        Gain of the stages before the gain is applied [ADU/electron].
    structure, dark, flat : ndarray, shape (ny, nx)
        Bias structure [ADU], thermal charge of one exposure [electron], relative response.
    boundary, coefficients : ndarray, shape (m,) and (m, 4)
        Linearity curve [electron].
    offsets, core, corner
        Of the motion within the stacks, as for `apply.calibrate_images`.
    x, y : ndarray, shape (n,)
        Centres in the window, pixel i spans [i, i+1) [pixel].
    radius : float
        Radius of the circle [pixel].
    sums : ndarray, shape (n, 6)
        Receives the sums: raw, then without bias, with each image's gain, linear, without thermal
        charge, at uniform response [electron per stack]. Pixels without data and what lies outside
        of the window are left out; NaN without a centre.
    """
    ny, nx = words.shape[1:]
    electrons, variance = np.empty((ny, nx)), np.empty((ny, nx))
    for i in range(words.shape[0]):
        if not (np.isfinite(x[i]) and np.isfinite(y[i])):
            sums[i] = np.nan
            continue
        sums[i] = 0.0
        mean_exposure(words[i], scale, level[i], structure, 0, 0, gain[i], electrons)
        stack_variances(electrons, offsets[i], core[i], corner, gain[i], variance)
        for row in range(max(floor(y[i] - radius), 0), min(ceil(y[i] + radius), ny)):
            for column in range(max(floor(x[i] - radius), 0), min(ceil(x[i] + radius), nx)):
                value = from_big_endian(words[i, row, column]) ^ np.uint32(0x80000000)
                share = exposures * pixel_overlap(column - x[i], row - y[i], radius)
                if value == 0 or share == 0.0:
                    continue
                measured = value / scale
                signal = measured - level[i] - structure[row, column]
                above = electrons[row, column]
                charge = linearised(above, boundary, coefficients)
                charge += 0.5 * bend(above, boundary, coefficients) * variance[row, column]
                sums[i, 0] += share * measured / usual_gain
                sums[i, 1] += share * signal / usual_gain
                sums[i, 2] += share * above
                sums[i, 3] += share * charge
                sums[i, 4] += share * (charge - thermal[i] * dark[row, column])
                sums[i, 5] += share * (charge - thermal[i] * dark[row, column]) / flat[row, column]


@step("calibration_stages", version="3", payload=CalibrationStages, leaves=["TERM_CAL_STAGES"])
def measure_calibration_stages(
    raw: Product,
    unstacked: Product | None,
    look: Look,
    bias: Bias,
    gain: Gain,
    linearity: Linearity,
    spread: Spread,
    dark: Dark,
    flat: Flat,
) -> Leaves:
    """Measure the light curve within one circle after each operation of the calibration."""
    (level,) = term_column(bias.product, "TERM_BIAS", "LEVEL")
    (gains,) = term_column(gain.product, "TERM_GAIN", "GAIN")
    (thermal,) = term_column(dark.product, "TERM_DARK_SCALE", "SCALE")
    curve = read_linearity(linearity)
    structure = term_image(bias.product, "TERM_BIAS_STRUCTURE")
    charge, response = term_image(dark.product, "TERM_DARK"), term_image(flat.product, "TERM_FLAT")
    x, y = look_places(look)
    with open_exposures(raw) as exposures, maybe_exposures(unstacked) as single:
        motion = Motion(spread, exposures, single)
        ny, nx = exposures.shape
        if len(x) != exposures.count or any(
            term.shape != (ny, nx) for term in (structure, charge, response)
        ):
            raise ValueError(f"the terms are not of {exposures.count} images of {ny} x {nx} pixels")
        sums = np.empty((exposures.count, len(CALIBRATION_STAGES)))
        for a, b in blocks(exposures.count, ny * nx * 4):
            words = exposures.words(a, b)
            sum_stages(
                words,
                float(exposures.nexp),
                float(exposures.coadded),
                level[a:b],
                gains[a:b],
                thermal[a:b],
                float(np.median(gains)),
                structure,
                charge,
                response,
                *curve,
                *motion.block(a, b, words),
                motion.corner,
                x[a:b] - exposures.x_offset,
                y[a:b] - exposures.y_offset,
                DEFAULT_RADIUS,
                sums[a:b],
            )
        first = first_sampled(look)
        (adu,) = exposures.words(first, first + 1).byteswap() ^ np.uint32(0x80000000)
        corner = {"X_WINOFF": exposures.x_offset, "Y_WINOFF": exposures.y_offset}
        columns = {"MJD_TIME": exposures.mjd, **dict(zip(CALIBRATION_STAGES, sums.T, strict=True))}
    image = NewHdu(TERMS["TERM_RAW_IMAGE"], corner, pixels=adu.astype(np.float64))
    return Leaves({"TERM_CAL_STAGES": [NewHdu(TERMS["TERM_CAL_STAGES"], columns=columns), image]})
