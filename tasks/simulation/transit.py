"""A planet's transit.

The orbit is circular, the limb darkening quadratic, I(r) = 1 - u1 (1 - m) - u2 (1 - m)^2 with m =
sqrt(1 - r^2). The hidden light is the integral of I over the arcs that the planet's disc cuts out
of circles about the star's centre, by Gauss-Legendre quadrature.

The limb darkening by effective temperature interpolates (with monotone cubics) rounded values of
model atmospheres for dwarfs in the CHEOPS band. From K5 to M0 the published coefficients jump
between two grids of models; here the transition is smooth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import PchipInterpolator

from schemas.arrays import FloatArray
from schemas.constants import DAY

GRAVITY = 6.6743e-8  # [cm^3/g/s^2]
NODES = 60
_NODE, _WEIGHT = np.polynomial.legendre.leggauss(NODES)
_THETA = np.pi * (_NODE + 1) / 2
_LIMB = (  # effective temperature [K], u1, u2
    (2300, 0.29, 0.39),
    (3550, 0.28, 0.39),
    (3850, 0.38, 0.32),
    (4150, 0.54, 0.18),
    (4500, 0.64, 0.09),
    (4900, 0.60, 0.12),
    (5300, 0.51, 0.19),
    (5800, 0.41, 0.26),
    (6300, 0.34, 0.30),
    (7000, 0.28, 0.33),
    (7800, 0.28, 0.33),
    (8800, 0.29, 0.31),
    (40000, 0.29, 0.31),
)


def limb_darkening(teff: float) -> tuple[float, float]:
    """Return the quadratic coefficients u1, u2 for an effective temperature [K]."""
    temperature, *coefficients = np.array(_LIMB).T
    u1, u2 = (float(PchipInterpolator(temperature, values)(teff)) for values in coefficients)
    return u1, u2


@dataclass(frozen=True)
class Planet:
    """A transiting planet on a circular orbit."""

    radius_ratio: float = 0.0354  # Neptune and the Sun
    period: float = 2.0  # [day]
    impact: float = 0.3  # [radius of the star]
    stellar_density: float = 1.41  # [g/cm^3]
    u1: float = 0.36
    u2: float = 0.22

    @property
    def distance(self) -> float:
        """Radius of the orbit [stellar radius], by Kepler's law a^3 = G rho P^2 / (3 pi)."""
        seconds = DAY * self.period
        return float((GRAVITY * self.stellar_density * seconds**2 / (3 * np.pi)) ** (1 / 3))

    def light_curve(self, time: ArrayLike) -> FloatArray:
        """Return the relative flux at times since mid-transit [day], shape (n,)."""
        phase = 2 * np.pi * np.atleast_1d(np.asarray(time, float)) / self.period
        sine, cosine = self.distance * np.sin(phase), self.impact * np.cos(phase)
        separation = np.where(np.cos(phase) > 0, np.hypot(sine, cosine), np.inf)
        return 1 - hidden_light(separation, self.radius_ratio, self.u1, self.u2)


def hidden_light(separation: FloatArray, radius_ratio: float, u1: float, u2: float) -> FloatArray:
    """Return the fraction of the star's light hidden by a dark disc, shape (n,).

    With the planet's radius k and distance z, the circle of radius r is hidden over the angle 2
    arccos((r^2 + z^2 - k^2) / (2 r z)), for r from |z - k| to z + k or the star's edge; circles
    with r < k - z are hidden completely. The substitution r = middle - half cos(theta) removes the
    square roots at both ends.

    Parameters
    ----------
    separation : ndarray, shape (n,)
        Distance between the centres [stellar radius].
    radius_ratio : float
        Radius of the planet [stellar radius].
    u1, u2 : float
        Coefficients of the limb darkening.
    """
    hidden = np.zeros(separation.shape)
    touched = np.flatnonzero(separation < 1 + radius_ratio)
    for part in np.array_split(touched, touched.size // 4096 + 1):
        z = np.maximum(separation[part], 1e-9)[:, None]
        first = np.minimum(np.abs(z - radius_ratio), 1.0)
        last = np.minimum(z + radius_ratio, 1.0)
        half = (last - first) / 2
        r = (first + last) / 2 - half * np.cos(_THETA)
        arc = 2 * np.arccos(np.clip((r**2 + z**2 - radius_ratio**2) / (2 * r * z), -1, 1))
        ring = (r * arc * _brightness(r, u1, u2) * half * np.sin(_THETA)) @ _WEIGHT * np.pi / 2
        hidden[part] = ring + _disc(np.clip(radius_ratio - z[:, 0], 0.0, 1.0), u1, u2)
    return np.asarray(hidden / _disc(np.ones(1), u1, u2))


def _brightness(r: FloatArray, u1: float, u2: float) -> FloatArray:
    edge = 1 - np.sqrt(np.clip(1 - r**2, 0, None))
    return np.asarray(1 - u1 * edge - u2 * edge**2)


def _disc(radius: FloatArray, u1: float, u2: float) -> FloatArray:
    """Return the light inside a radius: 2 pi times the integral of I m dm from m(radius) to 1."""
    low = np.sqrt(1 - radius**2)
    terms = (1 - u1 - u2, u1 + 2 * u2, -u2)  # I = c0 + c1 m + c2 m^2
    light = np.sum([c * (1 - low ** (n + 2)) / (n + 2) for n, c in enumerate(terms)], axis=0)
    return np.asarray(2 * np.pi * light)
