"""The linearity curve, which applies to all charge read by the amplifier: image and margins."""

from __future__ import annotations

import numpy as np
from numba import njit

from schemas.arrays import FloatArray


@njit(cache=True, inline="always", error_model="numpy")
def linearised(signal: float, boundary: FloatArray, coefficients: FloatArray) -> float:
    """Return the corrected signal [electron] of one exposure.

    `boundary` (m,) holds the starts of the pieces, `coefficients` (m, 4) their cubics in (signal -
    boundary); see `terms.Curve`. Below the first boundary the curve continues along its tangent.
    """
    if signal < boundary[0]:
        return float(coefficients[0, 0] + coefficients[0, 1] * (signal - boundary[0]))
    piece = boundary.size - 1
    while signal < boundary[piece]:
        piece -= 1
    d = signal - boundary[piece]
    cubic = coefficients[piece]
    return float(cubic[0] + d * (cubic[1] + d * (cubic[2] + d * cubic[3])))


@njit(cache=True, inline="always", error_model="numpy")
def bend(signal: float, boundary: FloatArray, coefficients: FloatArray) -> float:
    """Return the second derivative of the linearity curve [1/electron]; see `linearised`."""
    if signal < boundary[0]:
        return 0.0
    piece = boundary.size - 1
    while signal < boundary[piece]:
        piece -= 1
    return float(
        2.0 * coefficients[piece, 2] + 6.0 * coefficients[piece, 3] * (signal - boundary[piece])
    )


@njit(cache=True)
def linearise(signal: FloatArray, boundary: FloatArray, coefficients: FloatArray) -> FloatArray:
    """Return the corrected signals [electron] of one exposure, shape (n,); see `linearised`."""
    corrected = np.empty_like(signal)
    for i in range(signal.size):
        corrected[i] = linearised(signal[i], boundary, coefficients)
    return corrected
