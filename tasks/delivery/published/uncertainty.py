"""The uncertainty of a calibrated pixel: the errors of all calibration terms, carried through what
`calibrate` does.

Variance is a function of signal and terms, and is stored nowhere: `calibrated_variances` gives it
for any image. Of a stack of n exposures, N = n (e - h Q) / F with thermal charge h Q and response
F,

    photons           (F max(N, 0) + n h Q) / F^2
    read-out          n (RON / g F)^2
    bias level        (n sigma_l / g F)^2                      common to all pixels of the image
    gain              (N sigma_g / g)^2                        common to all pixels of the image
    dark current      (n h sigma_Q / F)^2 + (n h Q sigma_h / F)^2      the same in all images
    flat field        (N sigma_F / F)^2                        the same in all images

The slope of the linearity curve, within 2 % of 1, is left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.arrays import FloatArray

MEANINGS = {
    "PHOTONS": "photon noise and shot noise of what was collected",
    "READ_OUT": "read-out noise",
    "BIAS": "error of the bias level, common to the pixels of an image",
    "GAIN": "error of the gain, common to the pixels of an image",
    "DARK": "error of the dark current, the same in all images",
    "FLAT": "error of the flat field, the same in all images",
}


class ReadOutErrors(NamedTuple):
    """Read-out of one exposure: its noise [ADU], the gain [ADU/electron], and the errors of bias
    level and gain.
    """

    ron: float
    level_error: float
    gain: float
    gain_error: float


class ThermalErrors(NamedTuple):
    """Thermal charge of one exposure at the temperature of an image, its error [electron], and the
    relative error of the factor that all of it was scaled by.
    """

    charge: npt.ArrayLike
    error: npt.ArrayLike
    scale_error: float


class FlatErrors(NamedTuple):
    """Relative response, and its error."""

    response: npt.ArrayLike
    error: npt.ArrayLike


def calibrated_variances(
    electrons: npt.ArrayLike,
    exposures: int,
    readout: ReadOutErrors,
    thermal: ThermalErrors,
    flat: FlatErrors,
) -> dict[str, FloatArray]:
    """Return the variance of the pixels of a calibrated stack, term by term.

    Parameters
    ----------
    electrons : array_like, shape (ny, nx) or any
        The calibrated stack [electron].
    exposures : int
        Exposures in it.
    readout, thermal, flat
        The terms and their errors; arrays are broadcast to `electrons`.

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
