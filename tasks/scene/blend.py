"""The target among its neighbours, before the visit has a PSF of its own.

A companion may be as bright as the target, or brighter. The centre of light is then somewhere
between the two, and an aperture holds the light of both. Target and neighbours are drawn with the
reference PSF and the catalogue's flux ratios: the centre of light of the image is as far from the
target as that of the drawing, and the shares of the drawn stars divide the light of the aperture.
Nothing is iterated, which would diverge for a companion as bright as the target.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from schemas.arrays import FloatArray
from schemas.light_curves import DEFAULT_RADIUS
from schemas.payloads import Pointing, Prior
from tasks.scene.light import centre_of_light
from tasks.scene.stars import Field, light_radius, light_within, neighbours_by_reference

MOVES = 10  # of a window that finds the centre of light


@dataclass(frozen=True)
class Blend:
    """The target and its neighbours, for some flux of the target."""

    target: Field
    neighbours: Field

    def scaled(self, flux: float) -> Field:
        """Return the neighbours for a flux of the target within the default aperture [electron]."""
        factor = flux / light_within(self.target.psf, DEFAULT_RADIUS) / float(self.target.flux[0])
        fluxes = factor * self.neighbours.flux
        radius = light_radius(fluxes, self.neighbours.psf)
        return replace(self.neighbours, flux=fluxes, radius=radius)

    def offset(self, drawn: FloatArray, place: FloatArray, radii: tuple[float, ...]) -> FloatArray:
        """Return the centre of light of a drawing of all stars relative to the target [pixel].

        Parameters
        ----------
        drawn : ndarray, shape (ny, nx)
            Target and neighbours.
        place : ndarray, shape (2,)
            Place of the target, where the windows start [pixel].
        radii : tuple of float
            Radii of the windows that find the centre, one after the other [pixel].
        """
        found, floor = np.array([[*place, 0.0, 0.0, 0.0]]), np.ones(1)
        for radius in radii:
            x, y = found[:, 0].copy(), found[:, 1].copy()
            centre_of_light(drawn[None], x, y, radius, MOVES, floor, found)
        return np.asarray(found[0, :2] - place)


def read_blend(prior: Prior, flux: FloatArray, pointing: Pointing, size: int) -> Blend | None:
    """Return the target and its neighbours, or None without relevant neighbours.

    Parameters are those of `neighbours_by_reference`; `flux` may include the neighbours.
    """
    field = neighbours_by_reference(prior, flux, pointing, size)
    if field is None:
        return None
    bright = flux[np.isfinite(flux) & (flux > 0)]
    total = np.array([float(np.median(bright)) / light_within(field.psf, DEFAULT_RADIUS)])
    nowhere, radius = np.zeros(1), light_radius(total, field.psf)
    return Blend(replace(field, xi=nowhere, eta=nowhere, flux=total, radius=radius), field)
