"""Spikes: sudden stray light, from a glint or from something bright that passes outside the field.

They occur at random, last 10 to 120 s at constant brightness, and raise the sky by a factor of 3 to
47 (the largest factor seen in flight), uniform in the logarithm. Each comes from a direction of its
own, towards which its light increases by up to a half in 100 pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SHORTEST, LONGEST = 10.0, 120.0  # [s]
LEAST, MOST = 3.0, 47.0  # factor by which the sky is brighter
STEEPEST = 0.5  # relative increase of the light in 100 pixels


class Spike(NamedTuple):
    """Stray light for a limited time."""

    start: float  # [s]
    end: float
    light: float  # at the target [electron/s/pixel]
    slope: tuple[float, float]  # along x and y, relative [1/pixel]


class SpikeLight(NamedTuple):
    """Mean light of the spikes during an exposure."""

    light: float  # at the target [electron/s/pixel]
    slope_x: float  # [electron/s/pixel per pixel]
    slope_y: float


def draw_spikes(rng: np.random.Generator, an_hour: float, end: float, sky: float) -> list[Spike]:
    """Draw the spikes of a visit up to `end` [s], over a sky of `sky` [electron/s/pixel]."""
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
