"""Smooth random maps, for the large-scale structure of a detector."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from schemas.arrays import FloatArray
from tasks.simulation.layout import SIZE


def smooth_map(rng: np.random.Generator, scale: float) -> FloatArray:
    """Draw a smooth random map of mean zero and unit rms, shape (SIZE, SIZE).

    It is drawn on a coarse grid and enlarged; `scale` is its correlation length [pixel].
    """
    coarse = gaussian_filter(rng.normal(size=(SIZE // 4, SIZE // 4)), scale / 4, mode="wrap")
    fine = gaussian_filter(np.kron(coarse, np.ones((4, 4))), 2, mode="wrap")
    return np.asarray((fine - fine.mean()) / fine.std())
