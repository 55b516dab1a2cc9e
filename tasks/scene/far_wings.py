"""Far wings of the PSF, from the reference.

The visit's images do not separate the far wings from the level of the sky, and end too early: the
visit's PSF is too low by a pedestal, and is 0 outside of its stamp. The reference PSF is neither.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from schemas.arrays import FloatArray
from schemas.light_curves import DEFAULT_RADIUS
from tasks.scene.optics import FINE, to_grid
from tasks.scene.psf import CORE, UNLIKE, reference_psf
from tasks.scene.stars import Field, light_within

BLEND = 25.0, 35.0  # pixel; from the PSF of the visit to the wings of the reference


def with_far_wings(psf: FloatArray, plane: FloatArray | None) -> FloatArray:
    """Return a PSF with the far wings of the reference, for the same light within 25 pixels.

    Parameters
    ----------
    psf : ndarray, shape (k, k)
        PSF of the visit on the fine grid, its centre at index k // 2.
    plane : ndarray or None, shape (ny, nx)
        Reference PSF, sampled by whole pixels. Without it, if it is no larger, or if its core is
        not like the visit's, the PSF is returned.
    """
    size = 0 if plane is None else min(plane.shape) // 2 * 2  # pixels
    edge = size - psf.shape[0] // FINE  # samples by which the reference is larger, on either side
    spectrum = reference_psf(plane, size) if edge > 0 else None
    if spectrum is None:
        return psf
    reference = to_grid(spectrum)
    (own, its), (core, its_core) = (
        [light_within(p, radius) for p in (psf, reference)] for radius in (DEFAULT_RADIUS, CORE)
    )
    if not (own > 0 and its > 0 and abs(core / own - its_core / its) < UNLIKE):
        return psf
    samples = np.arange(FINE * size) - size
    away = np.hypot(samples[:, None], samples) / FINE
    far = np.clip((away - BLEND[0]) / (BLEND[1] - BLEND[0]), 0.0, 1.0)
    # the corners of the plane, further out than its edges, would come and go with the roll angle
    whole = np.where(away < size / 2, far * reference * (own / its), 0.0)
    inner = slice(edge, edge + psf.shape[0])
    whole[inner, inner] += (1.0 - far[inner, inner]) * psf
    return np.asarray(whole)


def far_field(field: Field, plane: FloatArray | None) -> Field:
    """Return the field with far wings, each star to be drawn to their end.

    `plane` is the reference PSF, shape (ny, nx), or None.
    """
    psf = with_far_wings(field.psf, plane)
    reach = np.where(field.flux > 0, psf.shape[0] / (2 * FINE) - 1.0, 0.0)
    return replace(field, psf=psf, radius=reach, transforms={})
