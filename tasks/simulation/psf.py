"""The point spread function: defocused, three-lobed and speckled, a sum of round Gaussians.

P(x, y) = sum_k w_k N(x - x_k, s_k) N(y - y_k, s_k) with sum_k w_k = 1. Its integral over the pixel
[i, i+1) x [j, j+1) is exact: sum_k w_k D_k(i) D_k(j), where D_k is the difference of the normal
distribution function between the edges of the pixel.

The core consists of `KNOTS` knots as wide as a pixel. They fill a disc of 18 pixels with a surface
brightness that falls as the inverse radius, like the defocused image of a telescope with a central
obstruction, and is brighter towards three lobes. Their strengths are drawn once, from a fixed seed:
they are the telescope. Scatter and width of the knots reproduce the encircled energy, the
three-fold amplitude and the roughness of nine in-flight images (see the tests); no image is fitted.
The wings are five wide Gaussians; 8 % of the light is beyond 25 pixels.

The shape changes with the position in the field (strengths by some ten percent over the CCD, and a
coma-like shift of the knots) and breathes with the temperature of the telescope: 0.2 % in size and
0.5 % in each strength per degree. Light moves from the near wings to the far ones, so that 22.5,
25, 30 and 40 pixels lose 1.5, 1.9, 2.6 and 3.6e-4 per degree (in flight 1.4, 2.0, 3.3 and 4.0e-4).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from schemas.arrays import BoolArray, FloatArray

KNOTS = 260
CORE_RADIUS = 18.5  # of the disc of knots [pixel]
# radius [pixel], strength of a knot at this radius
PROFILE = ((0, 4, 8, 11, 13, 15, 18.5), (0, 0.32, 0.8, 1.05, 1.1, 0.8, 0.4))
SCATTER = 0.88  # of the logarithm of the strengths
REACH = 24  # half width of the square that contains the core [pixel]
SIZE_CHANGE = 0.002  # per degree of telescope temperature
STRENGTH_CHANGE = 0.005  # of each knot per degree [rms]
PLACE_CHANGE = 0.10  # of the strength of each knot from the centre of the CCD to its edge [rms]
COMA = 0.25  # shift of the outer knots from the centre of the CCD to its edge [pixel]
WINGS = (  # share of the light, its change per degree, sigma [pixel]
    (0.130, 0.0, 9.0),
    (0.020, 0.0, 14.0),
    (0.040, -6.3e-4, 22.0),
    (0.034, 0.0, 40.0),
    (0.026, 5.5e-4, 75.0),
)
NARROWEST_WING = 9.0  # [pixel]


@dataclass(frozen=True)
class Psf:
    """Components of the PSF: weight, offset from the position of the star and width [pixel]."""

    weight: FloatArray
    x: FloatArray
    y: FloatArray
    sigma: FloatArray

    def part(self, chosen: BoolArray) -> Psf:
        """Return some of the components; the sum of their weights is less than one."""
        return Psf(self.weight[chosen], self.x[chosen], self.y[chosen], self.sigma[chosen])

    @property
    def core(self) -> Psf:
        """The components that are not wings."""
        return self.part(self.sigma < NARROWEST_WING)

    def image(
        self, x: float, y: float, flux: float, left: int, bottom: int, width: int, height: int
    ) -> FloatArray:
        """Return the exact integrals over pixels of a star at rest.

        Parameters
        ----------
        x, y : float
            Position of the star; pixel i spans [i, i+1) [pixel].
        flux : float
            Flux of the star [any unit].
        left, bottom, width, height : int
            The pixels of the image.

        Returns
        -------
        ndarray, shape (height, width)
            Flux in each pixel, in the unit of `flux`.
        """
        edges_x = np.arange(left, left + width + 1, dtype=float) - x
        edges_y = np.arange(bottom, bottom + height + 1, dtype=float) - y
        return flux * self.integral(edges_x, edges_y)

    def integral(
        self, edges_x: FloatArray, edges_y: FloatArray, blur: tuple[float, float] = (0.0, 0.0)
    ) -> FloatArray:
        """Return the integral between edges, shape (edges_y - 1, edges_x - 1).

        The edges are relative to the star, `blur` is the rms of a Gaussian motion in x and y; all
        are in pixels.
        """
        rows, columns = self._share(edges_y, self.y, blur[1]), self._share(edges_x, self.x, blur[0])
        return np.asarray((rows * self.weight[:, None]).T @ columns)

    def _share(self, edges: ArrayLike, offset: FloatArray, blur: float = 0.0) -> FloatArray:
        return np.diff(
            ndtr((np.asarray(edges) - offset[:, None]) / np.hypot(self.sigma, blur)[:, None]),
            axis=1,
        )


@dataclass(frozen=True)
class _Telescope:
    """The knots at the centre of the CCD, and how they change."""

    radius: FloatArray  # [pixel]
    angle: FloatArray
    sigma: FloatArray
    strength: FloatArray
    warm: FloatArray  # relative change of the strength per degree
    along_x: FloatArray  # the same, from the centre of the CCD to its edge
    along_y: FloatArray


@cache
def _telescope() -> _Telescope:
    rng = np.random.default_rng(20191219)
    radius = CORE_RADIUS * (np.arange(KNOTS) + rng.uniform(0, 1, KNOTS)) / KNOTS
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(KNOTS)  # the golden angle covers the disc evenly
    sigma = rng.uniform(0.8, 1.2, KNOTS)
    lobes = (
        1
        + 0.4 * np.cos(3 * (angle - 0.3)) * np.clip(radius / 10, 0, 1.2)
        + 0.08 * np.cos(angle - 1.0)
    )
    strength = (
        np.clip(lobes, 0.05, None)
        * np.interp(radius, *PROFILE)
        * np.exp(SCATTER * rng.normal(size=KNOTS))
    )
    normal = rng.normal(size=(3, KNOTS))
    return _Telescope(
        radius,
        angle,
        sigma,
        strength,
        STRENGTH_CHANGE * normal[0],
        PLACE_CHANGE * normal[1],
        PLACE_CHANGE * normal[2],
    )


def flight_like_psf(
    place: tuple[float, float] = (0.0, 0.0), temperature: float = 0.0, size: float = 1.0
) -> Psf:
    """Return the simulator's PSF.

    Parameters
    ----------
    place : tuple of float
        Position of the star relative to the centre of the CCD, in halves of its size: x and y from
        -1 to 1.
    temperature : float
        Of the telescope, relative to the usual one [degC].
    size : float
        Scale of the core.

    Returns
    -------
    Psf
        With a sum of one; for the nominal telescope its photocentre is the position of the star.
    """
    t, (u, v) = _telescope(), place
    strength = (
        t.strength
        * np.clip(1 + u * t.along_x + v * t.along_y, 0.05, None)
        * np.clip(1 + temperature * t.warm, 0, None)
    )
    scale = size * (1 + SIZE_CHANGE * temperature)
    outward = (t.radius / CORE_RADIUS) ** 2
    x = scale * t.radius * np.cos(t.angle) + COMA * outward * u
    y = scale * t.radius * np.sin(t.angle) + COMA * outward * v
    centre = (
        t.strength @ (t.radius * np.cos(t.angle)),
        t.strength @ (t.radius * np.sin(t.angle)),
    ) / t.strength.sum()
    far = wings(temperature)
    return Psf(
        np.concatenate([(1 - far.weight.sum()) * strength / strength.sum(), far.weight]),
        np.concatenate([x - centre[0], far.x]),
        np.concatenate([y - centre[1], far.y]),
        np.concatenate([scale * t.sigma, far.sigma]),
    )


def wings(temperature: float = 0.0) -> Psf:
    """Return the wide components, which are the same everywhere.

    `temperature` is that of the telescope relative to the usual one [degC].
    """
    share, warm, wide = np.array(WINGS).T
    centred = np.zeros(share.size)
    return Psf(np.clip(share + temperature * warm, 0, None), centred, centred, wide)
