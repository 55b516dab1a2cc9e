"""The point spread function: defocused, three-lobed, a ring with a halo, integrated exactly over each pixel.

The PSF is a sum of round Gaussians, P(x, y) = sum_k w_k N(x - x_k, s_k) N(y - y_k, s_k) with sum_k w_k = 1. Its
integral over the pixel [i, i+1) x [j, j+1) is exact, sum_k w_k D_k(i) D_k(j), where D_k is the difference of the
normal distribution function at the pixel's edges; so is its integral along a whole column. The shape follows what is
known of the flight PSF (three lobes, 90 % of the light within 16 px, 0.3 % in the brightest pixel); the numbers are
chosen, not fitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

Floats = NDArray[np.float64]

RING_RADIUS = 10.3  # [pixel]
CORE_SIGMA = 3.0  # widest Gaussian of the core [pixel]
CORE_RADIUS = 36  # where the core is less than 1e-12 [pixel]


@dataclass(frozen=True)
class Psf:
    """Components of the PSF: weight, offset from the photocentre and width [pixel]."""

    weight: Floats
    x: Floats
    y: Floats
    sigma: Floats

    def image(self, x: ArrayLike, y: ArrayLike, flux: float, left: int, bottom: int, width: int, height: int) -> Floats:
        """Return the exact pixel sums of one star that spends equal times at each of the given positions.

        The halo, far wider than any motion within an exposure, is drawn at the mean position.

        Parameters
        ----------
        x, y : array_like, shape (n,)
            Positions; pixel i spans [i, i+1) [pixel].
        flux : float
            Flux of the star [any unit].
        left, bottom, width, height : int
            The pixels wanted.

        Returns
        -------
        ndarray, shape (height, width)
            Flux in each pixel, in the unit of `flux`.
        """
        x, y = np.asarray(x, float), np.asarray(y, float)
        halo = self.sigma > 2 * CORE_SIGMA
        picture = flux * self._draw(x.mean(keepdims=True), y.mean(keepdims=True), halo, left, bottom, width, height)
        first_x, last_x = _overlap(x, left, width)
        first_y, last_y = _overlap(y, bottom, height)
        if first_x < last_x and first_y < last_y:
            stamp = picture[first_y - bottom : last_y - bottom, first_x - left : last_x - left]
            stamp += flux * self._draw(x, y, ~halo, first_x, first_y, last_x - first_x, last_y - first_y)
        return picture

    def _draw(self, x: Floats, y: Floats, parts: NDArray[np.bool_], left: int, bottom: int, width: int, height: int) -> Floats:
        along_x = self._profile(x, self.x[parts], self.sigma[parts], left, width)
        along_y = self._profile(y, self.y[parts], self.sigma[parts], bottom, height)
        weight = np.tile(self.weight[parts], x.size) / x.size
        return np.asarray((along_y * weight[:, None]).T @ along_x)

    def columns(self, x: ArrayLike, y: ArrayLike, flux: ArrayLike, left: int, width: int, height: int) -> Floats:
        """Return the flux of point sources in each column, summed over the rows 0 to `height`; shape (width,)."""
        sigma = np.tile(self.sigma, np.size(y))
        centre = (np.asarray(y, float)[:, None] + self.y).ravel()
        inside = ndtr((height - centre) / sigma) - ndtr(-centre / sigma)
        weight = (np.asarray(flux)[:, None] * self.weight).ravel() * inside
        return np.asarray(weight @ self._profile(np.asarray(x, float), self.x, self.sigma, left, width))

    @staticmethod
    def _profile(position: Floats, offset: Floats, sigma: Floats, first: int, count: int) -> Floats:
        """Return the share of each component in each of `count` pixels along an axis; shape (n x components, count)."""
        edges = np.arange(first, first + count + 1)
        below = ndtr((edges - (position[:, None] + offset)[..., None]) / sigma[:, None])
        return np.asarray(np.diff(below).reshape(-1, count))


def _overlap(position: Floats, first: int, count: int) -> tuple[int, int]:
    """Return the pixels from `first` on that the core of the PSF can reach."""
    low = int(np.floor(position.min())) - CORE_RADIUS
    high = int(np.ceil(position.max())) + CORE_RADIUS
    return max(low, first), min(high, first + count)


@cache
def flight_like_psf(ring_radius: float = RING_RADIUS) -> Psf:
    """Return the simulator's PSF; another radius of the ring [pixel] stands for another state of the telescope."""
    angle = np.deg2rad(np.arange(0, 360, 18))
    lobed = 1 + 0.45 * np.cos(3 * (angle - 0.3)) + 0.08 * np.cos(angle - 1.0)
    lobe = np.deg2rad([17.0, 137.0, 257.0])
    groups = [  # weight, radius, angle, sigma
        (0.59 * lobed / lobed.sum(), np.full(angle.size, ring_radius), angle, 2.5),
        (np.array([0.065, 0.055, 0.060]), np.full(3, 1.38 * ring_radius), lobe, 2.2),
        (np.full(3, 0.042), np.full(3, 0.45 * ring_radius), lobe + np.pi / 3, 2.6),
        (np.array([0.045]), np.zeros(1), np.zeros(1), 10.0),
        (np.array([0.055]), np.zeros(1), np.zeros(1), 32.0),
    ]
    weight = np.concatenate([group[0] for group in groups])
    weight /= weight.sum()
    x = np.concatenate([group[1] * np.cos(group[2]) for group in groups])
    y = np.concatenate([group[1] * np.sin(group[2]) for group in groups])
    sigma = np.concatenate([np.full(group[0].size, group[3]) for group in groups])
    return Psf(weight, x - weight @ x, y - weight @ y, sigma)
