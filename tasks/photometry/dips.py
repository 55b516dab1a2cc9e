"""Dips of a light curve, which must not be taken for a trend.

A dip is a box below everything that conditions can explain. Its depth and error follow from a fit
of the box together with all conditions, each of which is expected to change the flux by some 300
ppm: a transit of a percent cannot hide behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from schemas.arrays import BoolArray, FloatArray

# of the boxes [h]
LENGTHS = (0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0)
LONGEST = 0.9  # of the whole time; the level outside of a longer box is unknown
SIGNIFICANT = 4.0  # errors by which a dip stands out
MARGIN = 0.25  # hours on either side: a transit is longer than the box that fits best
EXPECTED = 300e-6  # change of the flux with the scatter of a condition
MOST_DIPS = 4
MOST_STARTS = 400  # of the boxes of one length
FEWEST = 4  # points in a box
LEAST_OWN = 0.02  # share of a box that conditions cannot imitate


class Box(NamedTuple):
    """A dip: begin and end [h], and its depth in units of the error."""

    begin: float
    end: float
    significance: float


def outside_of_dips(
    hours: FloatArray, relative: FloatArray, conditions: Sequence[FloatArray], noise: float
) -> BoolArray:
    """Return which points lie outside of all dips, shape (n,).

    Parameters
    ----------
    hours : ndarray, shape (n,)
        Times, ascending [h].
    relative : ndarray, shape (n,)
        Flux over its median, minus 1.
    conditions : sequence of ndarray, shape (n,)
        What changes the flux, in units of its scatter.
    noise : float
        Noise of a point, of `relative`.
    """
    outside = np.ones(len(hours), dtype=np.bool_)
    for _ in range(MOST_DIPS):
        columns = [values[outside] for values in conditions]
        box = deepest_box(hours[outside], relative[outside], columns, noise)
        if box is None or box.significance < SIGNIFICANT:
            break
        outside &= ~((hours > box.begin - MARGIN) & (hours < box.end + MARGIN))
        if outside.sum() < FEWEST:
            break
    return outside


def deepest_box(
    hours: FloatArray, relative: FloatArray, conditions: Sequence[FloatArray], noise: float
) -> Box | None:
    """Return the most significant dip, or None if there is none.

    With the box b, the conditions and a straight line X, their prior variance S and noise s, the
    depth in units of its error is ``-b M f / (s sqrt(b M b))``, ``M = 1 - X (X X + s2 / S)^-1 X``.
    Arguments are those of `outside_of_dips`.
    """
    span = float(hours[-1] - hours[0]) if len(hours) else 0.0
    lengths = [length for length in LENGTHS if length <= LONGEST * span]
    if not lengths:
        return None
    line = [np.ones_like(hours), (hours - hours.mean()) / span]
    design = np.stack([*line, *conditions], axis=1)
    prior = np.r_[0.0, 0.0, np.full(len(conditions), (noise / EXPECTED) ** 2)]
    small = 1e-9 * len(hours)  # of a condition that others make up
    inverse = np.linalg.inv(design.T @ design + np.diag(prior + small))
    left = relative - design @ (inverse @ (design.T @ relative))
    starts = hours[:: -(-len(hours) // MOST_STARTS)]
    begins = np.concatenate([starts] * len(lengths))
    ends = begins + np.repeat(lengths, len(starts))
    first, last = np.searchsorted(hours, begins), np.searchsorted(hours, ends)
    sums, totals = summed(left), summed(design)
    within = totals[last] - totals[first]
    own = last - first - ((within @ inverse) * within).sum(axis=1)
    possible = (last - first >= FEWEST) & (own > LEAST_OWN * (last - first))
    if not possible.any():
        return None
    depth = (sums[first] - sums[last]) / np.sqrt(np.where(possible, own, 1.0))
    best = int(np.argmax(np.where(possible, depth, -np.inf)))
    return Box(float(begins[best]), float(ends[best]), float(depth[best]) / noise)


def summed(values: FloatArray) -> FloatArray:
    """Return the sums of the first 0, 1, 2 ... n rows."""
    return np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
