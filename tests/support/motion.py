"""Motion within stacks: none, and the variances that some motion causes."""

from __future__ import annotations

import numpy as np

from schemas.arrays import FloatArray
from tasks.calibration.motion import POINTS, BlockMotion, motion_variances


def at_rest(count: int) -> BlockMotion:
    """Return the motion of stacks within which nothing moves."""
    return BlockMotion(np.zeros((count, 2, POINTS)), np.empty((count, 0, 0)), (0, 0))


def variances(image: FloatArray, offsets: FloatArray) -> FloatArray:
    """Return the variance of each pixel of a stack whose exposures are offset."""
    out = np.full(image.shape, -1.0)
    motion_variances(image, offsets, out)
    return out
