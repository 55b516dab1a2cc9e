"""Light of field stars within circles about the target, from a table of what a circle holds.

What a circle holds of a star depends on the star's place alone. It is the PSF convolved with the
circle, which is smooth, and is tabulated on the PSF's fine grid. A star's whole light counts, to
the edge of the PSF, at a fraction of the cost of drawing it.

Stars outside of a circle contribute by their wings (see `far_wings.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numba import njit

from schemas.arrays import Float32Array, FloatArray
from schemas.light_curves import LARGEST_RADIUS
from tasks.numerics.geometry import pixel_overlap
from tasks.scene.far_wings import with_far_wings
from tasks.scene.optics import FINE
from tasks.scene.stars import Field, along_arc, field_places

# Relative error of what a circle holds of a star by its wings, or of what it lacks, with the wings
# of the reference PSF and without. In the case demo, seed 1, the light of the whole field was wrong
# by 2.8 % with them, and by 20 % without.
WING_ERROR, VISIT_WING_ERROR = 0.03, 0.2


@dataclass(frozen=True)
class Circles:
    """Circles about the target.

    Attributes
    ----------
    radii : ndarray, shape (r,)
        Radii [pixel].
    shares : ndarray, shape (l, l, r)
        Share of a star's light within each circle, on the fine grid of the star's place about
        the centre, which is at index l // 2. It is 0 beyond.
    wing_error : float
        Relative error of the light in the wings of the PSF.
    """

    radii: FloatArray
    shares: Float32Array
    wing_error: float

    @classmethod
    def of(cls, psf: FloatArray, reference: FloatArray | None, radii: Sequence[float]) -> Circles:
        """Tabulate the light within circles.

        Parameters
        ----------
        psf : ndarray, shape (k, k)
            PSF of the visit, on the fine grid, its centre at index k // 2.
        reference : ndarray or None, shape (ny, nx)
            Reference PSF, sampled by whole pixels.
        radii : sequence of float
            Radii, of length r [pixel].
        """
        whole = with_far_wings(psf, reference)
        error = VISIT_WING_ERROR if whole is psf else WING_ERROR
        return cls(np.asarray(radii, np.float64), circle_shares(whole, radii), error)

    def light(
        self, field: Field, errors: FloatArray, mjd: float, duration: float, subtracted: float = 0.0
    ) -> tuple[FloatArray, FloatArray]:
        """Return the light of field stars within the circles, and its error, (r,) [electron].

        Errors of stars are added, since all colours, or the wings of all, may be wrong in the same
        way.

        Parameters
        ----------
        field : Field
            The field stars.
        errors : ndarray, shape (k,)
            Errors of their fluxes [electron].
        mjd : float
            Middle of the image.
        duration : float
            From the start to the end of the image [s].
        subtracted : float
            Light of field stars in each pixel that was subtracted as background [electron].
        """
        sums = np.zeros((3, len(self.radii)))
        near = np.flatnonzero(field.away < self.shares.shape[0] / (2 * FINE))
        if len(near):
            x, y, roll = field.track.path(mjd, duration, field.lag)
            few = along_arc(roll, float(field.away[near].max()))
            path = roll[few] + field.turn, x[few], y[few]
            places = field_places(field.xi[near], field.eta[near], *path, field.scale)
            add_shares(sums, *places, field.flux[near], errors[near], self.shares)
        light = sums[0] - np.pi * self.radii**2 * subtracted
        return light, np.hypot(sums[1], self.wing_error * sums[2])


def circle_shares(psf: FloatArray, radii: Sequence[float]) -> Float32Array:
    """Return the share of a star's light within circles by its place, as `Circles` has it.

    `psf` is on the fine grid, shape (k, k), with its centre at index k // 2. The size of the table
    does not depend on the radii, so that a circle has the same shares beside any others.
    """
    half = psf.shape[0] // 2
    reach = FINE * (LARGEST_RADIUS + 1)  # of a circle, in samples
    size = 2 * (half + reach) + 1
    grid = scipy.fft.next_fast_len(size, real=True)
    # a place d of the star sees the circle at u where its PSF is sampled at u - d
    spectrum = scipy.fft.rfft2(psf[::-1, ::-1], (grid, grid))
    shares = np.empty((size, size, len(radii)), np.float32)
    for k, radius in enumerate(radii):
        areas = overlaps(reach, float(radius))
        held = scipy.fft.irfft2(scipy.fft.rfft2(areas, (grid, grid)) * spectrum, (grid, grid))
        # index of the place 0: that of the circle's centre, and of the reversed PSF's
        first = reach + (psf.shape[0] - 1 - half) - size // 2
        rows = np.arange(first, first + size) % grid
        shares[:, :, k] = held[rows[:, None], rows]
    shares[[0, -1]] = 0.0
    shares[:, [0, -1]] = 0.0
    return shares


@njit(cache=True, nogil=True)
def overlaps(reach: int, radius: float) -> FloatArray:
    """Return the areas of pixels on the fine grid in a circle, shape (2 reach + 1,) twice."""
    areas = np.empty((2 * reach + 1, 2 * reach + 1))
    for row in range(areas.shape[0]):
        for column in range(areas.shape[1]):
            y, x = (row - reach) / FINE, (column - reach) / FINE
            areas[row, column] = pixel_overlap(x - 0.5, y - 0.5, radius)
    return areas


@njit(cache=True, nogil=True, error_model="numpy")
def cubic_weights(part: float, out: FloatArray) -> None:
    """Write the weights of four samples for a place between the middle two, 0 <= part < 1.

    They are those of Keys (1981, IEEE Trans. ASSP 29, 1153), exact for a parabola.
    """
    t, u = part, 1.0 - part
    out[0], out[3] = -0.5 * t * u * u, -0.5 * u * t * t
    out[1] = 1.0 - 2.5 * t * t + 1.5 * t * t * t
    out[2] = 1.0 - 2.5 * u * u + 1.5 * u * u * u


@njit(cache=True, nogil=True, error_model="numpy")
def add_shares(
    sums: FloatArray,
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
    error: FloatArray,
    shares: Float32Array,
) -> None:
    """Add what circles hold of stars on their paths.

    Parameters
    ----------
    sums : ndarray, shape (3, r)
        Light within the circles, to which is added, the same of the errors, and the light that is
        there by wings, or absent because of wings [electron].
    x, y : ndarray, shape (k, m)
        Places of the stars about the centre of the circles at m times [pixel].
    flux, error : ndarray, shape (k,)
        Fluxes of the stars and their errors [electron].
    shares : ndarray, shape (l, l, r)
        Table of the circles (see `Circles`).
    """
    size = shares.shape[0]
    across, along, held = np.empty(4), np.empty(4), np.empty(shares.shape[2])
    for k in range(x.shape[0]):
        held[:] = 0.0
        for t in range(x.shape[1]):
            u, v = size // 2 + FINE * x[k, t], size // 2 + FINE * y[k, t]
            # compared before they become integers, which hold neither NaN nor 1e30
            if not (1.0 <= u < size - 2 and 1.0 <= v < size - 2):
                continue
            i, j = int(u), int(v)
            cubic_weights(u - i, across)
            cubic_weights(v - j, along)
            for n in range(4):
                for m in range(4):
                    weight = along[n] * across[m] / x.shape[1]
                    here = shares[j - 1 + n, i - 1 + m]
                    for r in range(len(held)):
                        held[r] += weight * here[r]
        for r in range(len(held)):
            sums[0, r] += flux[k] * held[r]
            sums[1, r] += error[k] * held[r]
            sums[2, r] += flux[k] * max(min(held[r], 1.0 - held[r]), 0.0)
