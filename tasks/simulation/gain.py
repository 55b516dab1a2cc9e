"""Gain: a polynomial of the CCD's voltages and temperature.

gain = GAIN_NOMINAL (1 + sum_n f_n VSS^a (VOD - VSS)^b (VRD - VSS)^c (VOG - VSS)^d T^e), each value
relative to its offset, as in REF_APP_GainCorrection. The factors are chosen so that the in-flight
voltages give 0.514 ADU/electron.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from schemas.arrays import FloatArray

VOLTAGES = {"VSS": 8.8002, "VOD": 30.8004, "VRD": 17.8008, "VOG": 3.0523}  # [V]
GAIN_NOMINAL = 0.5111  # [ADU/electron]
# [V, degC]; VOD, VRD and VOG relative to VSS
GAIN_OFFSETS = {"VSS": 8.8, "VOD": 22.0, "VRD": 9.0, "VOG": -5.75, "TEMP": -40.0}
GAIN_TERMS = (  # factor, exponents of VSS, VOD, VRD, VOG, TEMP
    (-0.0290, 1, 0, 0, 0, 0),
    (0.0304, 0, 1, 0, 0, 0),
    (-0.0084, 0, 2, 0, 0, 0),
    (0.0053, 0, 0, 1, 0, 0),
    (-0.0069, 0, 0, 2, 0, 0),
    (-0.0112, 0, 0, 0, 1, 0),
    (0.0016, 0, 0, 0, 3, 0),
    (0.0140, 0, 1, 1, 0, 0),
    (-0.0011, 0, 0, 0, 0, 1),
)


def gain(
    vss: ArrayLike, vod: ArrayLike, vrd: ArrayLike, vog: ArrayLike, temperature: ArrayLike
) -> FloatArray:
    """Return the gain [ADU/electron] for the voltages [V] and the temperature of the CCD [degC]."""
    vss = np.asarray(vss)
    values = (
        vss - GAIN_OFFSETS["VSS"],
        vod - vss - GAIN_OFFSETS["VOD"],
        vrd - vss - GAIN_OFFSETS["VRD"],
        vog - vss - GAIN_OFFSETS["VOG"],
        np.asarray(temperature) - GAIN_OFFSETS["TEMP"],
    )
    change = np.zeros(vss.shape)
    for factor, *powers in GAIN_TERMS:
        term = np.full(vss.shape, factor)
        for value, power in zip(values, powers, strict=True):
            term = term * value**power
        change = change + term
    return GAIN_NOMINAL * (1 + change)
