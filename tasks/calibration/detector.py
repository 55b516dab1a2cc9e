"""The detector and the operations that undo it.

`apply` performs them on all pixels, `stages` on those of a circle. For a stack of n exposures with
value S,

    m = (S / n - level(t) - structure(x, y)) / gain(t)    one exposure above its bias [electron]
    e = f(m) + 1/2 f''(m) V(x, y, t)                      its charge, linearised; V: its variance
                                                          within the stack [electron]
    N = n (e - Q(x, y) h(t)) / flat(x, y)                 the stack without thermal charge, at
                                                          uniform response [electron]

The second order of the expansion is limited to 1 % of the signal: near the full well the curve
bends so sharply that an expansion does not describe it.

A raw 0 is no data (the corners of a circular window) and becomes NaN, as does a value beyond the
range of the converter.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from schemas.arrays import FloatArray, IntArray, WordArray
from schemas.payloads import Detector, Leaf
from tasks.calibration.damage import FULL_SCALE
from tasks.calibration.motion import BlockMotion, stack_variances
from tasks.files.byte_order import from_big_endian
from tasks.numerics.inner import inner_njit
from tasks.visit.linearity_curve import bend, linearised
from tasks.visit.terms import (
    BiasTerm,
    Curve,
    read_bias,
    read_bias_structure,
    read_dark,
    read_flat,
    read_gain,
    read_linearity,
)

MOST_SECOND = 0.01  # of the signal; the second-order term of the linearity


class PerImage(NamedTuple):
    """Numbers of n images, arrays of shape (n,)."""

    exposures: FloatArray  # in each stack
    scale: FloatArray  # how many of them a pixel is the sum of
    level: FloatArray  # bias level [ADU]
    gain: FloatArray  # [ADU/electron]
    thermal: FloatArray  # thermal charge over `Response.dark`
    x0: IntArray  # position of the index [0, 0] in the images of `Response`
    y0: IntArray

    def block(self, start: int, stop: int) -> PerImage:
        """Return the numbers of images `start` to `stop`."""
        return PerImage._make(values[start:stop] for values in self)


class Response(NamedTuple):
    """Properties of the pixels, shape (ny, nx)."""

    structure: FloatArray  # bias minus its level [ADU]
    dark: FloatArray  # thermal charge of one exposure [electron]
    flat: FloatArray  # relative response


class DetectorTerms(NamedTuple):
    """The terms of a `Detector` as arrays, except its motion: see `motion.Motion`."""

    bias: BiasTerm
    gain: FloatArray  # of every image, shape (n,) [ADU/electron]
    thermal: FloatArray  # thermal charge of every image over `Response.dark`, shape (n,)
    response: Response
    curve: Curve

    def of_stacks(self, exposures: int, scale: int) -> PerImage:
        """Return the numbers of the images that the terms were estimated for.

        Parameters
        ----------
        exposures, scale : int
            Exposures in each stack; how many of them a pixel is the sum of.
        """
        count = len(self.gain)
        return PerImage(
            np.full(count, float(exposures)),
            np.full(count, float(scale)),
            self.bias.level,
            self.gain,
            self.thermal,
            np.zeros(count, np.int64),
            np.zeros(count, np.int64),
        )


def read_detector(detector: Detector) -> DetectorTerms:
    """Read all terms of a detector except the motion."""
    bias, dark = detector.readout.bias, read_dark(detector.dark)
    structure, flat = read_bias_structure(bias), read_flat(detector.flat).response
    return DetectorTerms(
        read_bias(bias),
        read_gain(detector.readout.gain).gain,
        dark.scale,
        Response(structure, dark.charge, flat),
        read_linearity(detector.linearity),
    )


def payloads_of(detector: Detector) -> list[Leaf]:
    """Return the payloads of a detector in the order in which the steps ran."""
    bias, gain = detector.readout.bias, detector.readout.gain
    terms = (bias, gain, detector.linearity, detector.spread, detector.dark, detector.flat)
    return [term for term in terms if term is not None]


@inner_njit(cache=True, nogil=True, error_model="numpy")
def mean_exposure(
    words: WordArray, i: int, images: PerImage, structure: FloatArray, signal: FloatArray
) -> None:
    """Measure the mean exposure of stack `i` above its bias.

    Parameters
    ----------
    words : ndarray of uint32, shape (ny, nx)
        Raw values of the stack as big-endian words of 32-bit integers, offset 2^31 not yet added.
    i : int
        Index of the stack in `images`.
    images, structure
        See `PerImage` and `Response`.
    signal : ndarray, shape (ny, nx)
        Receives the signal [electron]; NaN where the raw value is 0 or impossible.
    """
    per_exposure, per_gain = 1.0 / images.scale[i], 1.0 / images.gain[i]
    level, x0, y0 = images.level[i], images.x0[i], images.y0[i]
    highest = FULL_SCALE * images.scale[i]
    for y in range(words.shape[0]):
        for x in range(words.shape[1]):
            value = from_big_endian(words[y, x]) ^ np.uint32(0x80000000)
            above = (value * per_exposure - level - structure[y + y0, x + x0]) * per_gain
            signal[y, x] = above if 0 < value <= highest else np.nan


@inner_njit(cache=True, nogil=True, error_model="numpy")
def measure_stack(
    words: WordArray,
    i: int,
    images: PerImage,
    structure: FloatArray,
    motion: BlockMotion,
    signal: FloatArray,
    variance: FloatArray,
) -> None:
    """Measure mean and variance of the exposures of stack `i` above its bias.

    Parameters
    ----------
    words : ndarray of uint32, shape (n, ny, nx)
        Raw values of n stacks, as for `mean_exposure`.
    i, images, structure, motion
        Index of the stack, and the detector.
    signal, variance : ndarray, shape (ny, nx)
        Receive the mean exposure [electron] and the variance of its charge [electron^2].
    """
    mean_exposure(words[i], i, images, structure, signal)
    stack_variances(
        signal, motion.offsets[i], motion.core[i], motion.corner, images.gain[i], variance
    )


@njit(cache=True, inline="always", error_model="numpy")
def pixel_charge(
    signal: float,
    variance: float,
    thermal: float,
    boundary: FloatArray,
    coefficients: FloatArray,
) -> tuple[float, float]:
    """Return the linearised charge of one exposure, with and without thermal charge [electron].

    `boundary` and `coefficients` are those of a `Curve`; see the formula of the module.
    """
    second = 0.5 * bend(signal, boundary, coefficients) * variance
    most = MOST_SECOND * abs(signal)
    charge = linearised(signal, boundary, coefficients) + min(max(second, -most), most)
    return charge, charge - thermal
