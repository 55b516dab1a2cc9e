"""The background ring as far as the window permits it."""

from __future__ import annotations

import numpy as np

from schemas.arrays import BoolArray
from schemas.settings import BackgroundSettings
from tasks.numerics.sample import spread_evenly
from tasks.visit.images import Images

FEWEST_PIXELS = 400  # of the ring; a plane through it needs 200 after clipping and masking

OUTERMOST = 0.1  # of the window; with a smaller ring its outermost pixels are used

SAMPLED = 5  # images spread over the visit that show the window


def window_of(images: Images) -> BoolArray:
    """Return the pixels with a value in any of five images spread over the visit, (ny, nx)."""
    inside = np.zeros(images.shape, dtype=bool)
    for i in spread_evenly(images.count, SAMPLED):
        inside |= np.isfinite(images.take(int(i)))
    return inside


def fit_ring(
    settings: BackgroundSettings, inside: BoolArray, x: float, y: float
) -> BackgroundSettings:
    """Return settings whose ring has enough pixels, the same ones if it has.

    In a window too small for the ring the background is measured in the outermost pixels, which
    contain some of the star's light.

    Parameters
    ----------
    settings : BackgroundSettings
        The intended ring.
    inside : ndarray of bool, shape (ny, nx)
        Pixels of the window.
    x, y : float
        Place of the target, pixel i spans [i, i+1) [pixel].
    """
    rows, columns = np.nonzero(inside)
    away = np.sort(np.hypot(columns + 0.5 - x, rows + 0.5 - y))
    in_ring = np.count_nonzero((away >= settings.inner) & (away < settings.outer))
    if in_ring >= FEWEST_PIXELS or not away.size:
        return settings
    used = min(max(FEWEST_PIXELS, int(OUTERMOST * away.size)), away.size)
    inner, outer = float(np.floor(away[-used])), float(np.ceil(away[-1])) + 1.0
    return settings.model_copy(update={"inner": inner, "outer": outer})
