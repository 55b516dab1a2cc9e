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


def calibrated_variances(
    electrons: npt.ArrayLike,
    exposures: int,
    ron: float,
    level_error: float,
    gain: float,
    gain_error: float,
    thermal: npt.ArrayLike,
    thermal_error: npt.ArrayLike,
    scale_error: float,
    flat: npt.ArrayLike,
    flat_error: npt.ArrayLike,
) -> dict[str, FloatArray]:
    """Return the variance of the pixels of a calibrated stack, term by term.

    Parameters
    ----------
    electrons : array_like, shape (ny, nx) or any
        The calibrated stack [electron].
    exposures : int
        Exposures in it.
    ron, level_error : float
        Read-out noise, and error of the bias level, of one exposure [ADU].
    gain, gain_error : float
        Gain and its error [ADU/electron].
    thermal, thermal_error : array_like, broadcast to `electrons`
        Thermal charge of one exposure at the temperature of this image, and its error [electron].
    scale_error : float
        Relative error of what all thermal charge was scaled by.
    flat, flat_error : array_like, broadcast to `electrons`
        Response and its error.

    Returns
    -------
    dict of ndarray
        Keys as in `MEANINGS` [electron^2]. Negative charge is noise and adds none.
    """
    number, charge, response = (np.asarray(v, dtype=np.float64) for v in (electrons, thermal, flat))
    none = np.zeros(np.broadcast_shapes(number.shape, charge.shape, response.shape))
    collected = np.maximum(number, 0.0) * response + exposures * np.maximum(charge, 0.0)
    known = np.square(np.asarray(thermal_error)) + np.square(charge * scale_error)
    return {
        "PHOTONS": none + collected / response**2,
        "READ_OUT": none + exposures * np.square(ron / gain / response),
        "BIAS": none + np.square(exposures * level_error / gain / response),
        "GAIN": none + np.square(number * gain_error / gain),
        "DARK": none + np.square(exposures / response) * known,
        "FLAT": none + np.square(number * np.asarray(flat_error) / response),
    }
