"""Light of field stars in the ring of the background that counts as sky.

Stars are subtracted from the ring as far as the visit's PSF reaches, and where they matter. Their
far wings are part of the level, and are subtracted from the target with the sky.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from schemas.arrays import IntArray
from schemas.payloads import Scene
from tasks.correction.ring import Ring
from tasks.scene.circles import reference_grid, with_far_wings
from tasks.scene.optics import FINE
from tasks.scene.prior import read_reference_psf
from tasks.scene.residuals import Residuals
from tasks.scene.stars import Field

ENOUGH = 8  # images; as the field turns about the target, the light in the ring hardly changes


def starlight_in_level(
    rest: Residuals, scene: Scene, ring: Ring, clip: float, sampled: IntArray
) -> float:
    """Return the light of field stars in the level of a pixel [electron per stack].

    It is what far wings add to the stars as they are drawn.

    Parameters
    ----------
    rest : Residuals
        The images and their field stars.
    scene : Scene
        The scene, whose prior has the far wings.
    ring : Ring
        The ring of the background.
    clip : float
        Pixels that stand out by more are not part of the level [sigma].
    sampled : ndarray of int
        Images to choose from.
    """
    if rest.field is None or not len(sampled) or not len(rest.field.flux):
        return 0.0
    whole, levels = far_field(rest.field, scene), []
    for i in sampled[np.unique(np.linspace(0, len(sampled) - 1, ENOUGH).astype(int))]:
        when = float(rest.x[i]), float(rest.y[i]), float(rest.images.mjd[i]), rest.span
        far = whole.image(rest.images.shape, *when) - rest.field.image(rest.images.shape, *when)
        light = far[ring.row, ring.column]
        common = np.abs(light - np.median(light)) < clip * np.sqrt(rest.floor[i])
        levels.append(float(light[common].mean()) if common.any() else 0.0)
    return float(np.median(levels))


def far_field(field: Field, scene: Scene) -> Field:
    """Return the field with the far wings of the reference PSF, to be drawn to their end."""
    psf = with_far_wings(field.psf, reference_grid(read_reference_psf(scene.prior)))
    reach = np.where(field.flux > 0, psf.shape[0] / (2 * FINE) - 1.0, 0.0)
    return replace(field, psf=psf, radius=reach, transforms={})
