"""Bias: an offset for each read-out frequency, with a structure of columns, rows and pixels."""

from __future__ import annotations

from functools import cache

import numpy as np

from schemas.arrays import Float32Array
from tasks.simulation.layout import COLUMNS, EXPOSED, ROWS, SIZE

BIAS = {100_000: 627.6, 230_000: 565.8}  # in flight [ADU]
READ_OUT_NOISE = {100_000: 3.5, 230_000: 7.2}  # [ADU]
SCALE = {100_000: 0.12, 230_000: 0.2}  # scatter of the columns [ADU]


@cache
def structure(frequency: int) -> Float32Array:
    """Return the structure about the offset, shape (ROWS, COLUMNS) [ADU].

    Its mean over the exposed pixels is zero.
    """
    rng, scale = np.random.default_rng((20191218, frequency)), SCALE[frequency]
    columns = scale * rng.normal(size=COLUMNS)
    rows = 2 * scale * np.linspace(-1, 1, ROWS) ** 3
    values = columns + rows[:, None] + 0.3 * scale * rng.normal(size=(ROWS, COLUMNS))
    return np.asarray(values - values[:SIZE, EXPOSED].mean(), np.float32)
