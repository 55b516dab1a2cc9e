"""Cosmic rays: straight tracks through the silicon.

10.8 hits per minute in 200 x 200 pixels, in random directions, through 15 micrometres of silicon
with pixels of 13 micrometres. The charge is 650 electrons for a perpendicular passage and
proportional to the path, with a Landau (Moyal) spread of 150, between 50 and 50 000 electrons. A
pixel collects them during the exposure and until it is read.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from schemas.arrays import FloatArray, IntArray

RATE = 10.8 / 60 / 200**2  # hits per second and pixel
SAA_FACTOR = 100.0


class Hits(NamedTuple):
    """The pixels that were hit, each listed once, in order."""

    row: IntArray
    column: IntArray
    charge: FloatArray  # [electron]

    def add_to(self, image: FloatArray) -> None:
        """Add the charge to an image."""
        image[self.row, self.column] += self.charge


NONE = Hits(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


def draw_hits(
    rng: np.random.Generator, seconds: float, height: int, width: int, factor: float = 1.0
) -> Hits:
    """Draw the hits of so many seconds; `factor` multiplies their rate."""
    hits = int(rng.poisson(RATE * seconds * height * width * factor))
    if hits == 0:
        return NONE
    azimuth, polar = rng.uniform(0, 2 * np.pi, hits), rng.uniform(0, np.pi / 2, hits)
    length = np.minimum(15 / 13 * np.tan(polar), 60)
    moyal = -np.log(np.clip(rng.normal(size=hits) ** 2, 1e-12, None))
    total = np.clip(650 / np.cos(np.arctan(length * 13 / 15)) + 150 * moyal, 50, 50_000)
    x, y = rng.uniform(0, width, hits), rng.uniform(0, height, hits)
    steps = 1 + (5 * length).astype(int)
    hit = np.repeat(np.arange(hits), steps)
    along = (
        (np.arange(hit.size) - np.repeat(np.cumsum(steps) - steps, steps) + 0.5)
        / steps[hit]
        * length[hit]
    )
    row = np.floor(y[hit] + along * np.sin(azimuth[hit])).astype(np.int64)
    column = np.floor(x[hit] + along * np.cos(azimuth[hit])).astype(np.int64)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    pixel, place = np.unique(row[inside] * width + column[inside], return_inverse=True)
    charge = np.asarray(np.bincount(place, (total / steps)[hit[inside]], pixel.size), float)
    return Hits(pixel // width, pixel % width, charge)
