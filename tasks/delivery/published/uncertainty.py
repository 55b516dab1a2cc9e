"""The uncertainty of a calibrated pixel, from the errors of all terms of the calibration.

Variances follow from signal and terms and are not stored: `calibrated_variances` returns them for
any image. For a stack of n exposures, N = n (e - h Q) / F with thermal charge h Q and response F,
they are

    photons           (F max(N, 0) + n h Q) / F^2
    read-out          n (RON / g F)^2
    bias level        (n sigma_l / g F)^2                      common to all pixels of the image
    gain              (N sigma_g / g)^2                        common to all pixels of the image
    dark current      (n h sigma_Q / F)^2 + (n h Q sigma_h / F)^2      the same in all images
    flat field        (N sigma_F / F)^2                        the same in all images

The slope of the linearity curve, within 2 % of 1, is neglected.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.arrays import FloatArray

MEANINGS = {
    "PHOTONS": "photon noise, and shot noise of the thermal charge",
    "READ_OUT": "read-out noise",
    "BIAS": "error of the bias level, common to the pixels of an image",
    "GAIN": "error of the gain, common to the pixels of an image",
    "DARK": "error of the dark current, the same in all images",
    "FLAT": "error of the flat field, the same in all images",
}


class ReadOutErrors(NamedTuple):
    """Read-out of one exposure."""

    ron: float  # read-out noise [ADU]
    level_error: float  # of the bias [ADU]
    gain: float  # [ADU/electron]
    gain_error: float


class ThermalErrors(NamedTuple):
    """Thermal charge of one exposure at the temperature of the image."""

    charge: npt.ArrayLike  # [electron]
    error: npt.ArrayLike  # [electron]
    scale_error: float  # relative error of the scale common to all pixels


class FlatErrors(NamedTuple):
    """Relative response of the pixels."""

    response: npt.ArrayLike
    error: npt.ArrayLike


def calibrated_variances(
    electrons: npt.ArrayLike,
    exposures: int,
    readout: ReadOutErrors,
    thermal: ThermalErrors,
    flat: FlatErrors,
) -> dict[str, FloatArray]:
    """Return the variances of the pixels of a calibrated stack, term by term.

    Parameters
    ----------
    electrons : array_like, shape (ny, nx) or any
        The calibrated stack [electron].
    exposures : int
        Exposures in the stack.
    readout, thermal, flat
        The terms and their errors; arrays are broadcast against `electrons`.

    Returns
    -------
    dict of ndarray
        Keys as in `MEANINGS` [electron^2]. Negative charge is noise and adds none.
    """
    number, charge, response = (
        np.asarray(v, dtype=np.float64) for v in (electrons, thermal.charge, flat.response)
    )
    none = np.zeros(np.broadcast_shapes(number.shape, charge.shape, response.shape))
    collected = np.maximum(number, 0.0) * response + exposures * np.maximum(charge, 0.0)
    of_charge = np.square(np.asarray(thermal.error)) + np.square(charge * thermal.scale_error)
    gain = readout.gain
    return {
        "PHOTONS": none + collected / response**2,
        "READ_OUT": none + exposures * np.square(readout.ron / gain / response),
        "BIAS": none + np.square(exposures * readout.level_error / gain / response),
        "GAIN": none + np.square(number * readout.gain_error / gain),
        "DARK": none + np.square(exposures / response) * of_charge,
        "FLAT": none + np.square(number * np.asarray(flat.error) / response),
    }
