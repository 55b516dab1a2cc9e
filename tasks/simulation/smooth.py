"""Smooth random maps, as large structures of a detector are."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from schemas.arrays import FloatArray
from tasks.simulation.layout import SIZE


def smooth_map(rng: np.random.Generator, scale: float) -> FloatArray:
    """Return a smooth random map of unit rms, shape (SIZE, SIZE); it is drawn on a coarse grid and
    enlarged.
    """
    coarse = gaussian_filter(rng.normal(size=(SIZE // 4, SIZE // 4)), scale / 4, mode="wrap")
    fine = gaussian_filter(np.kron(coarse, np.ones((4, 4))), 2, mode="wrap")
    return np.asarray((fine - fine.mean()) / fine.std())
