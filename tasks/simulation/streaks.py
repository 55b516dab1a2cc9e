"""Satellites that cross the field within a fraction of a second: straight, as wide as the PSF.

They come at random, with random direction and distance from the target; their light is 3000
electrons a pixel of the path with a scatter of a factor e, which in the width of the PSF is some
hundred electrons a pixel.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from schemas.arrays import FloatArray

CHARGE = 3000.0  # a pixel of the path [electron]
FURTHEST = 80.0  # distance of the path from the middle of the window [pixel]
POINTS = 2  # a pixel of the path


class Streak(NamedTuple):
    """A satellite: when it crosses, and its light as points."""

    second: float
    x: FloatArray  # [pixel]
    y: FloatArray
    charge: FloatArray  # [electron]


def draw_streaks(
    rng: np.random.Generator, an_hour: float, end: float, middle: tuple[float, float], length: float
) -> list[Streak]:
    """Draw the satellites of a visit up to `end` [s]; their paths are `length` pixels long about a
    point near `middle`.
    """
    streaks = []
    for _ in range(int(rng.poisson(an_hour * end / 3600))):
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-FURTHEST, FURTHEST)
        along = np.arange(-length / 2, length / 2, 1 / POINTS)
        x = middle[0] + along * np.cos(angle) - offset * np.sin(angle)
        y = middle[1] + along * np.sin(angle) + offset * np.cos(angle)
        charge = CHARGE * np.exp(rng.normal()) / POINTS
        streaks.append(Streak(float(rng.uniform(0, end)), x, y, np.full(along.size, charge)))
    return streaks
