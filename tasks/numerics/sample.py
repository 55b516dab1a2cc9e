"""Samples of a series."""

from __future__ import annotations

import numpy as np

from schemas.arrays import IntArray


def spread_evenly(count: int, most: int) -> IntArray:
    """Return at most `most` indices of `count`, evenly spread, the first and the last among them.

    All of them, if there are no more than that.
    """
    return np.linspace(0, max(count - 1, 0), min(count, most)).round().astype(np.int64)
