"""Satellites that cross the field in a fraction of a second: straight lines as wide as the PSF.

They cross at random, with random direction and distance from the target. Their light is 3000
electrons per pixel of the path, with a scatter of a factor e; over the width of the PSF these are
some hundred electrons per pixel.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from schemas.arrays import FloatArray

CHARGE = 3000.0  # per pixel of the path [electron]
FURTHEST = 80.0  # largest distance of a path from the centre of the window [pixel]
POINTS = 2  # per pixel of the path


class Streak(NamedTuple):
    """A satellite: the time of its crossing, and its light as points."""

    second: float  # since the start of the visit
    x: FloatArray  # [pixel]
    y: FloatArray
    charge: FloatArray  # [electron]


def draw_streaks(
    rng: np.random.Generator, an_hour: float, end: float, middle: tuple[float, float], length: float
) -> list[Streak]:
    """Draw the satellites of a visit.

    Parameters
    ----------
    rng : Generator
        Draws times and paths.
    an_hour : float
        Mean number of satellites per hour.
    end : float
        End of the visit [s].
    middle : tuple of float
        Centre of the window [pixel].
    length : float
        Length of the paths [pixel].
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
