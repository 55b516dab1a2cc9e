"""Spikes: sudden stray light that no orbit foretells (a glint, something bright that passes outside
of the field).

They come at random, last 10 to 120 s with the same light throughout, and make the sky 3 to 47 times
what it is, the largest factor seen in flight, evenly in its logarithm. Each comes from a direction
of its own: its light grows towards there by up to a half in 100 pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SHORTEST, LONGEST = 10.0, 120.0  # [s]
LEAST, MOST = 3.0, 47.0  # what the sky becomes, of what it is
STEEPEST = 0.5  # growth of the light in 100 pixels


class Spike(NamedTuple):
    """Stray light for a while."""

    start: float  # [s]
    end: float
    light: float  # at the target [electron/s/pixel]
    slope: tuple[float, float]  # along x and y, relative, a pixel


class SpikeLight(NamedTuple):
    """Mean light of the spikes during an exposure."""

    light: float  # at the target [electron/s/pixel]
    slope_x: float  # [electron/s/pixel per pixel]
    slope_y: float


def draw_spikes(rng: np.random.Generator, an_hour: float, end: float, sky: float) -> list[Spike]:
    """Draw the spikes of a visit up to `end` [s] over a sky of so much light [electron/s/pixel]."""
    spikes = []
    for start in rng.uniform(0, end, int(rng.poisson(an_hour * end / 3600))):
        length, factor = (
            rng.uniform(SHORTEST, LONGEST),
            np.exp(rng.uniform(np.log(LEAST), np.log(MOST))),
        )
        direction, steepness = rng.uniform(0, 2 * np.pi), rng.uniform(0, STEEPEST) / 100
        slope = steepness * np.cos(direction), steepness * np.sin(direction)
        spikes.append(Spike(float(start), float(start + length), float(sky * (factor - 1)), slope))
    return spikes


def mean_light(spikes: list[Spike], start: float, end: float) -> SpikeLight:
    """Return the mean light of the spikes between two times [s]."""
    light, x, y = 0.0, 0.0, 0.0
    for spike in spikes:
        share = max(min(spike.end, end) - max(spike.start, start), 0.0) / (end - start)
        light += share * spike.light
        x += share * spike.light * spike.slope[0]
        y += share * spike.light * spike.slope[1]
    return SpikeLight(light, x, y)
