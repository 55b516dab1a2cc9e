"""Non-linearity of the amplifier: a spline from measured to true charge.

The curves deviate from a line by 1 % up to 100 000 electrons and end at the amplifier's full scale.
They are smooth versions of those measured on ground, with a slight difference between the read-out
frequencies. Margins without charge are not affected.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from schemas.arrays import FloatArray


@dataclass(frozen=True)
class Spline:
    """Linearisation: corrected = c0 + c1 d + c2 d^2 with d = measured - boundary [electron]."""

    boundary: FloatArray
    c0: FloatArray
    c1: FloatArray
    c2: FloatArray
    end: float  # the full well

    @classmethod
    def smooth(
        cls, boundary: tuple[float, ...], slope: float, curvature: tuple[float, ...]
    ) -> Spline:
        """Return the curve through the origin that is continuous and has a continuous slope.

        Parameters
        ----------
        boundary : tuple of float
            Boundaries of the pieces; the last is the end of the curve [electron].
        slope : float
            At the origin.
        curvature : tuple of float
            Of each piece [1/electron].
        """
        step = np.diff(boundary)
        c2 = np.array(curvature)
        c1 = slope + np.concatenate([[0.0], np.cumsum(2 * c2 * step)[:-1]])
        c0 = np.concatenate([[0.0], np.cumsum(c1 * step + c2 * step**2)[:-1]])
        return cls(np.array(boundary[:-1]), c0, c1, c2, boundary[-1])

    def correct(self, measured: FloatArray) -> FloatArray:
        """Return the true charge for a measured charge, the inverse of `measure` [electron]."""
        n = np.clip(np.searchsorted(self.boundary, measured, "right") - 1, 0, None)
        d = np.minimum(measured, self.end) - self.boundary[n]
        return np.asarray(self.c0[n] + d * (self.c1[n] + d * self.c2[n]))

    def measure(self, true: FloatArray) -> FloatArray:
        """Return the measured charge for a true charge, clipped at the full well [electron]."""
        measured = self._invert(true, 0)
        bright = true > self.c0[1]
        if bright.any():
            n = np.searchsorted(self.c0, true[bright], "right") - 1
            measured[bright] = np.minimum(self._invert(true[bright], n), self.end)
        return measured

    def _invert(self, true: FloatArray, n: int | NDArray[np.intp]) -> FloatArray:
        above, c1, c2 = true - self.c0[n], self.c1[n], self.c2[n]
        root = np.sqrt(np.maximum(c1**2 + 4 * c2 * above, 0))
        return np.asarray(self.boundary[n] + 2 * above / (c1 + root))


# boundaries, slope at the origin, curvatures of the pieces
LINEARITY = {
    100_000: (
        (0, 28e3, 63e3, 97.5e3, 111e3, 117.5e3, 121.5e3),
        0.9920,
        (6.4e-8, 1.0e-7, 9.0e-8, 9.5e-8, 7.0e-6, 2.0e-4),
    ),
    230_000: (
        (0, 7e3, 28e3, 62e3, 96e3, 114e3, 120e3, 122.5e3),
        0.9976,
        (-1.8e-7, 3e-8, 8.2e-8, 7e-8, 2.4e-7, 2e-5, 1.2e-3),
    ),
}


@cache
def linearisation(frequency: int) -> Spline:
    """Return the linearisation curve at a read-out frequency [Hz]."""
    return Spline.smooth(*LINEARITY[frequency])


def scaled(spline: Spline, factor: float) -> Spline:
    """Return a curve with `factor` times the deviation from a straight line, and the same end."""
    line = 1 - factor
    return Spline(
        spline.boundary,
        line * spline.boundary + factor * spline.c0,
        line + factor * spline.c1,
        factor * spline.c2,
        spline.end,
    )
