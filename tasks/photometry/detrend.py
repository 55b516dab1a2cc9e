"""Detrending: what a light curve owes to temperature, roll, background, place and other light.

The slopes come from points and conditions without what is slower than an orbit, so that the star's
own slow changes are not taken for a trend. Points in a transit stay out of the fit: in one whose
time is given, or in any dip that stands out. A term counts if the evidence speaks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from schemas.arrays import BoolArray, FloatArray, IntArray
from tasks.numerics.orbit import PERIOD
from tasks.numerics.robust import robust_scatter
from tasks.photometry.dips import outside_of_dips, summed

TURN = 24.0 * PERIOD  # of the satellite, and of the roll angle [h]
SHORTEST = 3.0  # hours; in a shorter visit, a transit and a trend are alike
TURNS = 3.0  # in fewer, harmonics of the roll angle can imitate a transit
FEWEST = 20  # points of a fit
PER_SLOPE = 5  # points for each slope, beyond half of FEWEST
OUTSIDE = 0.4  # least share of the points outside of dips
KNOWN = 0.9  # least share of the points at which a condition is known
STEADY = 1e-9  # relative to its largest value; a condition that varies by less is constant
CLIP = 4.0  # robust sigma; points further out do not enter the fit
LOUDER = 1.01  # a result with this much more noise than the flux is not used
MOST_LIGHT = 10.0  # of the usual flux; a point beyond is not that of the star
HUGE = 1e150  # values beyond, of which squares are not finite, count as unknown
LARGEST = 0.1  # of the flux; a change by more is no trend

TEMPERATURE, ROLL, BACKGROUND = "temperature", "roll", "background"
PLACE, SMEARING, CONTAMINATION = "place", "smearing", "contamination"
TERMS = (TEMPERATURE, ROLL, BACKGROUND, PLACE, SMEARING, CONTAMINATION)


class Conditions(NamedTuple):
    """The conditions of every point, shape (n,); NaN where unknown."""

    temperature: FloatArray  # of the telescope [deg C]
    roll: FloatArray  # [deg]
    background: FloatArray  # within the aperture [electron]
    x: FloatArray  # [pixel]
    y: FloatArray
    smearing: FloatArray  # within the aperture [electron]
    contamination: FloatArray  # light of field stars relative to the target's


class Trend(NamedTuple):
    """The trend of a light curve.

    Attributes
    ----------
    taken : dict of ndarray, shape (n,)
        Its parts relative to the detrended flux, by term; empty without a trend.
    slopes : dict of float
        Change of the relative flux per unit of a condition, by its name.
    reason : str
        Why there is no trend; empty if there is one.
    left_out : int
        Good points in a transit or dip, which did not enter the fit.
    """

    taken: dict[str, FloatArray]
    slopes: dict[str, float]
    reason: str = ""
    left_out: int = 0


class Group(NamedTuple):
    """Conditions that are chosen together, each about its median and over its scatter."""

    term: str
    names: tuple[str, ...]
    scales: tuple[float, ...]  # scatter of each
    columns: tuple[FloatArray, ...]  # shape (n,); 0 where unknown


def estimate_trend(
    hours: FloatArray,
    flux: FloatArray,
    good: BoolArray,
    conditions: Conditions,
    transits: Sequence[tuple[float, float]] = (),
) -> Trend:
    """Estimate the trend of a light curve.

    Parameters
    ----------
    hours : ndarray, shape (n,)
        Times [h].
    flux : ndarray, shape (n,)
        Flux, any unit.
    good : ndarray of bool, shape (n,)
        Points that may enter the fit.
    conditions : Conditions
        The conditions of all points.
    transits : sequence of (float, float)
        Begin and end of known transits [h]; without any, dips are searched for.
    """
    used = np.flatnonzero(good & (np.abs(flux) < HUGE) & (np.abs(hours) < HUGE))
    used = used[np.argsort(hours[used], kind="stable")]
    middle = float(np.median(flux[used])) if len(used) else 0.0
    used = used[np.abs(flux[used]) / MOST_LIGHT < max(middle, 0.0)]
    time = hours[used]
    span = float(time[-1] - time[0]) if len(used) else 0.0
    if len(used) < FEWEST or span < SHORTEST:
        return Trend({}, {}, f"fewer than {FEWEST} good points in more than {SHORTEST:g} h")
    relative = flux[used] / middle - 1.0
    noise = robust_scatter(np.diff(relative)) / np.sqrt(2.0)
    if not noise > 0:
        return Trend({}, {}, "the flux does not vary")
    groups = list_groups(conditions, used, span >= TURNS * TURN)
    stars = field_light(conditions.contamination, used, time, relative)
    rest = relative - stars[used]
    columns = [[column[used] for column in group.columns] for group in groups]
    if transits:
        outside = ~np.any([(time > a) & (time < b) for a, b in transits], axis=0)
    else:
        outside = outside_of_dips(time, rest, [c for group in columns for c in group], noise)
    few = bool(outside.sum() < max(FEWEST, OUTSIDE * len(used)))
    found = [] if few else fit_groups(time, rest, columns, outside)
    taken, slopes = collect(groups[: len(found)], found, stars)
    trend = sum((part[used] for part in taken.values()), np.zeros(len(used)))
    if taken:
        reason = objection(relative[outside], trend[outside])
    else:
        reason = "too few points outside of transits" if few else "no term stands out"
    left_out = int((~outside).sum())
    return Trend({}, {}, reason, left_out) if reason else Trend(taken, slopes, "", left_out)


def list_groups(conditions: Conditions, used: IntArray, turns: bool) -> list[Group]:
    """Return the conditions that vary; those of the roll angle only after some `turns`."""
    roll = np.radians(np.where(np.isfinite(conditions.roll), conditions.roll, np.nan))
    candidates = [
        (TEMPERATURE, {"temperature": conditions.temperature}),
        (BACKGROUND, {"background": conditions.background}),
        (PLACE, {"x": conditions.x, "y": conditions.y}),
        (SMEARING, {"smearing": conditions.smearing}),
    ]
    if turns:
        candidates += [
            (ROLL, {f"cos {k}": np.cos(k * roll), f"sin {k}": np.sin(k * roll)}) for k in (1, 2)
        ]
    groups = []
    for term, columns in candidates:
        scales, values = zip(*(normalise(c, used) for c in columns.values()), strict=True)
        if all(scale > 0 for scale in scales):
            groups.append(Group(term, tuple(columns), scales, values))
    return groups


def normalise(values: FloatArray, used: IntArray) -> tuple[float, FloatArray]:
    """Return the scatter of a condition, and its values about the median over it, shape (n,).

    The scatter is 0 for one that is constant or mostly unknown. Points that are not used count with
    at most the extremes of those that are.
    """
    known = values[used][np.abs(values[used]) < HUGE]
    if len(known) < KNOWN * len(used):
        return 0.0, values
    largest = float(np.abs(known).max())
    scale = float(np.std(known / largest)) * largest if largest > 0 else 0.0
    if not (np.isfinite(scale) and scale > STEADY * largest):
        return 0.0, values
    about = (np.clip(values, known.min(), known.max()) - np.median(known)) / scale
    return scale, np.where(np.isfinite(about), about, 0.0)


def field_light(
    contamination: FloatArray, used: IntArray, time: FloatArray, relative: FloatArray
) -> FloatArray:
    """Return how far the light of field stars raises the flux above its median, shape (n,).

    It is known, not fitted, and 0 if the flux scatters less with it than without.
    """
    known = contamination[used][np.abs(contamination[used]) < HUGE]
    if not len(known) or not np.median(known) > -1.0:
        return np.zeros(len(contamination))
    within = np.clip(contamination, -HUGE, HUGE)
    raised = (1.0 + within) / (1.0 + np.median(known)) - 1.0
    raised = np.clip(np.where(np.isfinite(raised), raised, 0.0), -LARGEST, LARGEST)
    everywhere = np.ones(len(used), dtype=np.bool_)
    before, after = (without_slow(time, f, everywhere) for f in (relative, relative - raised[used]))
    near = np.abs(after) <= CLIP * robust_scatter(after)
    gain = _gain(float(before[near] @ before[near]), float(after[near] @ after[near]), near.sum())
    return raised if gain > np.log(near.sum()) else np.zeros(len(contamination))


def _gain(before: float, after: float, points: int) -> float:
    """Return twice the gain of likelihood for sums of squares with unknown noise."""
    return points * float(np.log(before / after)) if before > 0 and after > 0 else 0.0


def without_slow(time: FloatArray, values: FloatArray, counted: BoolArray) -> FloatArray:
    """Return values minus the mean of the counted ones within half an orbit, shape (n,).

    `time` is ascending [h].
    """
    first = np.searchsorted(time, time - TURN / 2, "left")
    last = np.searchsorted(time, time + TURN / 2, "right")
    number = summed(counted.astype(np.float64))
    total = summed(np.where(counted, values, 0.0))
    count = number[last] - number[first]
    return np.asarray(values - (total[last] - total[first]) / np.maximum(count, 1.0))


def fit_groups(
    time: FloatArray, rest: FloatArray, columns: Sequence[Sequence[FloatArray]], outside: BoolArray
) -> list[FloatArray]:
    """Return the slopes of each group of conditions, 0 for those that do not stand out.

    Groups are added as long as the Bayesian information criterion improves, the best first; each
    pays for the choice among all of them, too (Chen & Chen 2008, Biometrika 95, 759). The
    slopes of a group are then shortened by 1 - p / F, with their number p and the chi squares F
    that the group explains, since the largest of several slopes is too large by chance.

    Parameters
    ----------
    time, rest : ndarray, shape (m,)
        Times, ascending [h], and relative flux.
    columns : sequence of sequences of ndarray, shape (m,)
        The conditions of each group.
    outside : ndarray of bool, shape (m,)
        Points that may enter the fit.
    """
    fast = without_slow(time, rest, outside)
    near = outside & (np.abs(fast) <= CLIP * robust_scatter(fast[outside]))
    edges = np.r_[0, np.cumsum([len(group) for group in columns])].astype(int)
    parts = [slice(a, b) for a, b in pairwise(edges)]
    flat = [without_slow(time, c, outside)[near] for group in columns for c in group]
    slopes = [np.zeros(len(group)) for group in columns]
    if not flat:
        return slopes
    fit = Fit(np.stack(flat, axis=1), fast[near], parts)
    chosen = fit.choose()
    if chosen:
        best, squares = fit.solve(chosen)
        variance = squares / (near.sum() - len(best))
        widths = [len(columns[k]) for k in chosen]
        for k, values in zip(chosen, np.split(best, np.cumsum(widths)[:-1]), strict=True):
            explained = (fit.solve([j for j in chosen if j != k])[1] - squares) / variance
            slopes[k] = values * max(1.0 - len(values) / explained, 0.0)
    return slopes


class Fit:
    """Least squares for any choice of groups of columns."""

    def __init__(self, design: FloatArray, values: FloatArray, parts: Sequence[slice]) -> None:
        self.parts, self.points = parts, len(values)
        self.square = design.T @ design + 1e-9 * len(values) * np.eye(design.shape[1])
        self.product, self.total = design.T @ values, float(values @ values)

    def solve(self, chosen: Sequence[int]) -> tuple[FloatArray, float]:
        """Return the slopes of the chosen groups, and the sum of the squares of the residuals."""
        if not chosen:
            return np.empty(0), self.total
        rows = np.concatenate([np.arange(self.parts[k].start, self.parts[k].stop) for k in chosen])
        slopes = np.linalg.solve(self.square[np.ix_(rows, rows)], self.product[rows])
        return slopes, self.total - float(slopes @ self.product[rows])

    def choose(self) -> list[int]:
        """Return the groups for which the evidence speaks, the best first."""
        chosen: list[int] = []
        squares, choices = self.total, 2.0 * np.log(len(self.parts))
        while True:
            gains = {}
            for k, part in enumerate(self.parts):
                if k in chosen:
                    continue
                slopes, left = self.solve([*chosen, k])
                if self.points >= FEWEST / 2 + PER_SLOPE * len(slopes):
                    cost = (part.stop - part.start) * np.log(self.points) + choices
                    gains[k] = _gain(squares, left, self.points) - cost
            if not gains or max(gains.values()) <= 0:
                return chosen
            chosen.append(max(gains, key=lambda k: gains[k]))
            squares = self.solve(chosen)[1]


def collect(
    groups: Sequence[Group], found: Sequence[FloatArray], stars: FloatArray
) -> tuple[dict[str, FloatArray], dict[str, float]]:
    """Return the parts of the trend by term, shape (n,), and the slope per unit of a condition."""
    taken: dict[str, FloatArray] = {}
    slopes: dict[str, float] = {}
    if stars.any():
        taken[CONTAMINATION], slopes[CONTAMINATION] = stars, 1.0
    for group, per_scatter in zip(groups, found, strict=True):
        if not per_scatter.any():
            continue
        part = sum((s * c for s, c in zip(per_scatter, group.columns, strict=True)), 0.0 * stars)
        taken[group.term] = taken.get(group.term, 0.0 * stars) + part
        for name, slope, scale in zip(group.names, per_scatter, group.scales, strict=True):
            slopes[name] = float(slope) / scale
    return taken, slopes


def objection(relative: FloatArray, trend: FloatArray) -> str:
    """Return why a trend is not to be taken, or nothing, from points outside of transits.

    The noise from point to point must not grow, as it would with noisy conditions.
    """
    if not (np.abs(trend) < LARGEST).all():
        return f"a trend of more than {LARGEST:.0%} of the flux"
    steps = np.diff([relative, (1.0 + relative) / (1.0 + trend) - 1.0])
    limits = [[CLIP * robust_scatter(values)] for values in steps]
    near = (np.abs(steps) <= limits).all(axis=0)
    if near.sum() < FEWEST / 2:
        return "the flux does not vary"
    before, after = steps[:, near].std(axis=1)
    return "the noise grows without the trend" if after > LOUDER * before else ""
