"""Light of field stars in the ring of the background that counts as sky.

Stars are subtracted from the ring as far as the visit's PSF reaches, and where they matter. Their
far wings are part of the level, and are subtracted from the target with the sky.
"""

from __future__ import annotations

import numpy as np

from schemas.arrays import FloatArray, IntArray
from tasks.correction.ring import Ring
from tasks.numerics.sample import spread_evenly
from tasks.scene.far_wings import far_field
from tasks.scene.residuals import Residuals

ENOUGH = 8  # images; as the field turns about the target, the light in the ring hardly changes


def starlight_in_level(
    rest: Residuals, plane: FloatArray | None, ring: Ring, clip: float, sampled: IntArray
) -> float:
    """Return the light of field stars in the level of a pixel [electron per stack].

    It is what far wings add to the stars as they are drawn.

    Parameters
    ----------
    rest : Residuals
        The images and their field stars.
    plane : ndarray or None, shape (ny, nx)
        Reference PSF, which has the far wings.
    ring : Ring
        The ring of the background.
    clip : float
        Pixels that stand out by more are not part of the level [sigma].
    sampled : ndarray of int
        Images to choose from.
    """
    if rest.field is None or not len(sampled) or not len(rest.field.flux):
        return 0.0
    whole, levels = far_field(rest.field, plane), []
    for i in sampled[spread_evenly(len(sampled), ENOUGH)]:
        when = float(rest.x[i]), float(rest.y[i]), float(rest.images.mjd[i]), rest.span
        far = whole.image(rest.images.shape, *when) - rest.field.image(rest.images.shape, *when)
        light = far[ring.row, ring.column]
        common = np.abs(light - np.median(light)) < clip * np.sqrt(rest.floor[i])
        levels.append(float(light[common].mean()) if common.any() else 0.0)
    return float(np.median(levels))
