"""The sky: flux of a star from its magnitude, the stars around the target, a planet's transit, background light.

Flux: F = 0.94 F0 10^(-0.4 m), F0 = 1.8347e9 electron/s at magnitude 0 in the CHEOPS band (REF_APP_FluxConversion
V0104) and 0.94 the ratio of observed to predicted flux; m = G + (CHEOPS - G)(Teff).

Transit: circular orbit, quadratic limb darkening I(r) = 1 - u1 (1 - m) - u2 (1 - m)^2, m = sqrt(1 - r^2). The hidden
light is the integral of I over the arcs that the planet's disc cuts out of circles round the star's centre, by Gauss-
Legendre quadrature.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

ELECTRONS_AT_ZERO_MAGNITUDE = 1.8347e9
OBSERVED_TO_PREDICTED = 0.94
FIELD_RADIUS = 551.0  # [arcsec]
COLOUR_TEFF = np.array([2300, 2900, 3500, 4100, 4700, 5300, 5900, 6500, 7100, 8300, 9500, 11900, 20300, 39500], float)
COLOUR = np.array([20, 26, 15, 3, -4, -6, -6, -5, -5, -1, 4, 14, 44, 99], float) / 1000


def cheops_magnitude(g_magnitude: ArrayLike, teff: ArrayLike) -> Floats:
    """Return the magnitude in the CHEOPS band from Gaia G and the effective temperature [K]."""
    return np.asarray(np.asarray(g_magnitude) + np.interp(np.asarray(teff), COLOUR_TEFF, COLOUR))


def star_flux(g_magnitude: ArrayLike, teff: ArrayLike) -> Floats:
    """Return the flux that the detector sees [electron/s]."""
    return np.asarray(OBSERVED_TO_PREDICTED * ELECTRONS_AT_ZERO_MAGNITUDE * 10 ** (-0.4 * cheops_magnitude(g_magnitude, teff)))


@dataclass(frozen=True)
class Field:
    """Stars, the target first; positions are standard coordinates about it [arcsec], xi East, eta North."""

    xi: Floats
    eta: Floats
    g_magnitude: Floats
    teff: Floats

    @property
    def flux(self) -> Floats:
        """Flux of each star [electron/s]."""
        return star_flux(self.g_magnitude, self.teff)


def draw_field(rng: np.random.Generator, g_magnitude: float, teff: float, near: int, far: int) -> Field:
    """Draw the stars round the target: `near` of them 30-110 arcsec away, `far` of them up to the edge of the field.

    Magnitudes follow counts that double each magnitude, from 2.5 magnitudes below the target to G = 18.
    """
    distance = np.concatenate([rng.uniform(30, 110, near), FIELD_RADIUS * np.sqrt(rng.uniform(0.04, 1, far))])
    angle = rng.uniform(0, 2 * np.pi, near + far)
    brightest = min(g_magnitude + 2.5, 17.5)
    g_field = brightest + np.log2(1 + rng.uniform(0, 1, near + far) * (2 ** (18 - brightest) - 1))
    return Field(
        np.concatenate([[0.0], distance * np.sin(angle)]),
        np.concatenate([[0.0], distance * np.cos(angle)]),
        np.concatenate([[g_magnitude], g_field]),
        np.concatenate([[teff], rng.uniform(3600, 7200, near + far).round()]),
    )


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
        """Radius of the orbit in radii of the star, from Kepler's third law: a^3 = G rho P^2 / (3 pi)."""
        seconds = 86400 * self.period
        return float((6.6743e-8 * self.stellar_density * seconds**2 / (3 * np.pi)) ** (1 / 3))

    def light_curve(self, time: ArrayLike) -> Floats:
        """Return the relative flux at `time` [day] after mid-transit."""
        phase = 2 * np.pi * np.atleast_1d(np.asarray(time, float)) / self.period
        sine, cosine = self.distance * np.sin(phase), self.impact * np.cos(phase)
        separation = np.where(np.cos(phase) > 0, np.hypot(sine, cosine), np.inf)
        return 1 - hidden_light(separation, self.radius_ratio, self.u1, self.u2)


def hidden_light(separation: Floats, radius_ratio: float, u1: float, u2: float) -> Floats:
    """Return the fraction of the star's light that a dark disc hides at each separation of the centres [star radius].

    With the planet's radius k at distance z the circle of radius r is hidden over the angle
    2 arccos((r^2 + z^2 - k^2) / (2 r z)), circles with r < k - z are hidden whole. Nodes are spread by
    r = z - k cos(theta), which takes the square roots out of both ends; 60 of them leave less than 1e-6 of the depth.
    """
    hidden = np.zeros(separation.size)
    node, weight = np.polynomial.legendre.leggauss(60)
    for i in np.flatnonzero(separation < 1 + radius_ratio):
        z = max(float(separation[i]), 1e-9)
        first, last = max(z - radius_ratio, radius_ratio - z), min(z + radius_ratio, 1.0)
        if first < last:
            ends = np.arccos(np.clip((z - np.array([first, last])) / radius_ratio, -1, 1))
            theta = ends[0] + (ends[1] - ends[0]) * (node + 1) / 2
            r = z - radius_ratio * np.cos(theta)
            arc = 2 * np.arccos(np.clip((r**2 + z**2 - radius_ratio**2) / (2 * r * z), -1, 1))
            slope = radius_ratio * np.sin(theta) * (ends[1] - ends[0]) / 2
            hidden[i] = np.sum(weight * slope * r * arc * _brightness(r, u1, u2))
        if radius_ratio > z:
            hidden[i] += _disc(min(radius_ratio - z, 1.0), u1, u2)
    return hidden / _disc(1.0, u1, u2)


def _brightness(r: Floats, u1: float, u2: float) -> Floats:
    edge = 1 - np.sqrt(np.clip(1 - r**2, 0, None))
    return np.asarray(1 - u1 * edge - u2 * edge**2)


def _disc(radius: float, u1: float, u2: float) -> float:
    """Light inside `radius`, with m = sqrt(1 - r^2): 2 pi times the integral of I m dm from m(radius) to 1."""
    low = np.sqrt(1 - radius**2)
    terms = (1 - u1 - u2, u1 + 2 * u2, -u2)  # I = c0 + c1 m + c2 m^2
    return float(2 * np.pi * sum(c * (1 - low ** (n + 2)) / (n + 2) for n, c in enumerate(terms)))


def stray_light(limb_angle: ArrayLike, at_limb: float) -> Floats:
    """Return the stray light [electron/s/pixel] at an angle to the Earth's limb [deg]: it falls by e in 6 deg."""
    return np.asarray(at_limb * np.exp(-np.clip(limb_angle, 0, None) / 6.0))
