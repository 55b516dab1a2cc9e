"""An image as corrected so far: what every estimator and the second writing pass see of a calibrated image.

So far the background is taken away; each further term enters here and nowhere else.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

FloatArray = npt.NDArray[np.float64]


@njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def clean(images: FloatArray, background: FloatArray) -> None:
    """Take the known effects out of a block of calibrated images, in place.

    Parameters
    ----------
    images : ndarray, shape (n, ny, nx)
        Calibrated images [electron per stack].
    background : ndarray, shape (n,)
        Sky and stray light of a pixel [electron per stack].
    """
    for i in range(images.shape[0]):
        for y in range(images.shape[1]):
            for x in range(images.shape[2]):
                images[i, y, x] -= background[i]
