"""Big-endian words, as FITS stores numbers, decoded and encoded within kernels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit


@njit(cache=True, inline="always")
def from_big_endian(w: np.uint32) -> np.uint32:
    """Return a 32-bit word with its bytes in reverse order."""
    return (
        ((w & np.uint32(0xFF)) << np.uint32(24))
        | ((w & np.uint32(0xFF00)) << np.uint32(8))
        | ((w >> np.uint32(8)) & np.uint32(0xFF00))
        | (w >> np.uint32(24))
    )


@njit(cache=True, nogil=True)
def to_big_endian(values: npt.NDArray[np.uint64]) -> np.uint64:
    """Reverse the bytes of 64-bit words in place, and return the sum of their 32-bit halves.

    Parameters
    ----------
    values : ndarray of uint64, any shape, contiguous
        Bit patterns of native float64; big-endian ones afterwards.

    Returns
    -------
    int
        Sum for DATASUM, not yet folded; exact up to 2^31 values.
    """
    flat = values.reshape(-1)
    total = np.uint64(0)
    for i in range(flat.size):
        v = flat[i]
        total += (v >> np.uint64(32)) + (v & np.uint64(0xFFFFFFFF))
        v = ((v & np.uint64(0x00FF00FF00FF00FF)) << np.uint64(8)) | (
            (v >> np.uint64(8)) & np.uint64(0x00FF00FF00FF00FF)
        )
        v = ((v & np.uint64(0x0000FFFF0000FFFF)) << np.uint64(16)) | (
            (v >> np.uint64(16)) & np.uint64(0x0000FFFF0000FFFF)
        )
        flat[i] = (v << np.uint64(32)) | (v >> np.uint64(32))
    return total
