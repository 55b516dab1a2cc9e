"""Charge in the CCD: full wells bleed, transfers lose and trail it, the frame transfer smears it.

Full well: charge above 125 000 electrons flows into the pixels above and below, half each, until it
finds room.

Transfer (CTI): of I ADU in a pixel, the fraction e = min(0.0016 y (I / 10^4)^-0.65, 0.0333) is
trapped on the way through the column, y years after December 2019 (a law found by PSF photometry of
flight data), in proportion to the rows passed. It is released into the pixels that follow, with an
e-folding length of 100 rows.

Smearing: after the exposure the image moves through all rows below into the store, and before it
each row came from above, at 25 microseconds per row. With the rates r of the first and the last
second, the pixel in row y receives s(y) = t (sum_{y' < y} r_last + sum_{y' >= y} r_first), which is
one value per column if the star does not move.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from schemas.arrays import FloatArray

FULL_WELL = 125_000.0  # [electron]
CTI_BIRTH = 58_830.0  # no loss before this date [MJD]
CTI_YEAR, CTI_POWER, CTI_MOST, CTI_LENGTH = 0.0016, -0.65, 0.0333, 100.0


@njit(cache=True, nogil=True)
def bleed(charge: FloatArray) -> None:
    """Let charge above the full well flow along the columns, in place.

    Charge that leaves the window is lost.
    """
    height, width = charge.shape
    for i in range(width):
        for j in range(height):
            excess = charge[j, i] - FULL_WELL
            if excess <= 0:
                continue
            charge[j, i] = FULL_WELL
            for step in (-1, 1):
                remaining, k = excess / 2, j + step
                while remaining > 0 and 0 <= k < height:
                    room = max(FULL_WELL - charge[k, i], 0.0)
                    moved = min(room, remaining)
                    charge[k, i] += moved
                    remaining -= moved
                    k += step


def cti_strength(mjd: float) -> float:
    """Return the fraction of 10^4 ADU that is lost over a whole column at a date [MJD]."""
    return CTI_YEAR * max(mjd - CTI_BIRTH, 0.0) / 365.25


@njit(cache=True, nogil=True)
def transfer(charge: FloatArray, bottom: int, strength: float, gain: float) -> None:
    """Move charge down its column, in place: pixels lose charge, and later ones gain it.

    Parameters
    ----------
    charge : ndarray, shape (ny, nx)
        Charge of each pixel [electron].
    bottom : int
        Rows between the window and the register; 1024 make up a full passage.
    strength : float
        Fraction of 10^4 ADU that is lost over 1024 rows.
    gain : float
        [ADU/electron].
    """
    height, width = charge.shape
    free = 1 - np.exp(-1 / CTI_LENGTH)
    for i in range(width):
        # the rows below the window hold about the sky of its lowest row: trapping and release
        # balance there
        caught = _loss(charge[0, i], strength, gain) * (bottom + 0.5) / 1024 / free
        for j in range(height):
            lost = _loss(charge[j, i], strength, gain) * (bottom + j + 0.5) / 1024
            released = free * caught
            charge[j, i] += released - lost
            caught += lost - released


@njit(cache=True, nogil=True)
def _loss(charge: float, strength: float, gain: float) -> float:
    level = max(charge * gain, 1.0)
    return float(max(charge, 0.0) * min(strength * (level / 1e4) ** CTI_POWER, CTI_MOST))


def smear(
    first: FloatArray, last: FloatArray, above: FloatArray, below: FloatArray, time: float
) -> FloatArray:
    """Return the charge that the frame transfer adds.

    Parameters
    ----------
    first, last : ndarray, shape (ny, nx)
        Rates of the window in the first and the last second of the exposure [electron/s].
    above, below : ndarray, shape (nx,)
        Sum of the rates of all rows above the window in the first second, and below it in the last
        [electron/s].
    time : float
        Time per row of the transfer [s].

    Returns
    -------
    ndarray, shape (ny, nx)
        [electron].
    """
    passed = np.cumsum(last, axis=0) - last
    to_come = first[::-1].cumsum(axis=0)[::-1]
    return np.asarray(time * (below + passed + to_come + above))
