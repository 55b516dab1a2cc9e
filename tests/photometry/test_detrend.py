"""The trend of a light curve: what is taken, what never is, and that transits keep their depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest

from schemas.arrays import BoolArray, FloatArray
from tasks.photometry.detrend import TURN, Conditions, Trend, estimate_trend, objection
from tasks.photometry.dips import outside_of_dips

NOISE = 200e-6


class Visit(NamedTuple):
    """A visit of one point a minute, of which the Earth hides a part of every orbit."""

    hours: FloatArray
    good: BoolArray
    conditions: Conditions
    noise: FloatArray

    def trend_of(self, relative: FloatArray, transits: Sequence[tuple[float, float]] = ()) -> Trend:
        """Return the trend of a flux of one million electrons, changed by so much."""
        flux = 1e6 * (1.0 + relative) * (1.0 + self.noise)
        return estimate_trend(self.hours, flux, self.good, self.conditions, transits)


def visit(seed: int, hours: float = 6.5) -> Visit:
    """Make a visit whose temperature, background and smearing follow the orbit, each its way."""
    rng = np.random.default_rng(seed)
    time = np.arange(0.0, hours, 1 / 60)
    phase = 2 * np.pi * time / TURN + rng.uniform(0, 6)
    n = len(time)
    conditions = Conditions(
        temperature=-10.0 + 0.3 * np.cos(phase + 1.0) + 0.1 * time / hours,
        roll=np.degrees(-phase) % 360.0,
        background=2e4 * (1.0 + np.maximum(np.cos(phase), 0.0) ** 4) + rng.normal(0, 50, n),
        x=512.0 + rng.normal(0, 0.3, n),
        y=500.0 + rng.normal(0, 0.3, n),
        smearing=500.0 + 20 * np.cos(2 * phase + 0.7),
        contamination=1e-3 * (1.0 + 0.02 * np.cos(2 * phase)),
    )
    good = np.cos(phase + 2.0) > -0.8
    return Visit(time, np.asarray(good), conditions, rng.normal(0, NOISE, n))


def warmth(v: Visit) -> FloatArray:
    """Return the temperature about its mean [deg C]."""
    return np.asarray(v.conditions.temperature - v.conditions.temperature.mean())


def total(trend: Trend, count: int) -> FloatArray:
    """Return the sum of all parts of a trend, shape (n,)."""
    return sum(trend.taken.values(), np.zeros(count))


def test_what_follows_the_temperature_is_taken() -> None:
    """The slopes of 12 visits are right on average, and what is left is nearer to the truth."""
    slopes, before, after, others = [], [], [], []
    for seed in range(12):
        v = visit(seed)
        effect = -500e-6 * warmth(v)
        trend = v.trend_of(effect)
        others.append(len(trend.taken) - 1)
        slopes.append(trend.slopes["temperature"])
        left = effect - total(trend, len(effect))
        before.append(effect.std())
        after.append(left.std())
    # of 300 points with 200 ppm each slope is good to 60 ppm/degC
    assert np.mean(slopes) == pytest.approx(-500e-6, abs=3 * 60e-6 / np.sqrt(12))
    assert np.mean(others) < 0.2  # by chance
    assert np.mean(after) < 0.35 * np.mean(before)


def test_light_of_field_stars_is_taken_at_its_known_size() -> None:
    v = visit(1)
    stars = 50.0 * v.conditions.contamination
    v = v._replace(conditions=v.conditions._replace(contamination=stars))
    trend = v.trend_of(stars)
    assert trend.slopes == {"contamination": 1.0}
    usual = 1.0 + np.median(stars[v.good])
    np.testing.assert_allclose(trend.taken["contamination"], (1.0 + stars) / usual - 1.0)


def test_noise_alone_gives_no_trend_that_matters() -> None:
    """Of 100 visits without an effect some 2 have a trend; none adds a percent of noise."""
    trends = []
    for seed in range(100):
        v = visit(seed)
        trend = v.trend_of(np.zeros(len(v.hours)))
        flux = (1.0 + v.noise) / (1.0 + total(trend, len(v.hours)))
        assert flux[v.good].std() < 1.01 * v.noise[v.good].std()
        trends.append(bool(trend.taken))
    assert np.mean(trends) < 0.06


def transit(hours: FloatArray, middle: float, duration: float) -> FloatArray:
    """Return a transit with sloping edges and a depth of 1, shape (n,)."""
    return np.clip((0.5 * duration - np.abs(hours - middle)) / (0.1 * duration), 0.0, 1.0)


def depth(v: Visit, flux: FloatArray, shape: FloatArray) -> tuple[float, float]:
    """Return the depth of a transit of known shape, with a straight line, and its error."""
    line = [np.ones_like(v.hours), v.hours - v.hours.mean()]
    design = np.stack([*line, -shape], axis=1)[v.good]
    fit, squares, *_ = np.linalg.lstsq(design, flux[v.good], rcond=None)
    variance = squares[0] / (v.good.sum() - 3) * np.linalg.inv(design.T @ design)[2, 2]
    return float(fit[2] / fit[0]), float(np.sqrt(variance) / fit[0])


@pytest.mark.parametrize("given", [False, True])
def test_transits_keep_their_depth(given: bool) -> None:
    """Transits of 300 to 5000 ppm: the mean bias is a part of the error of one depth."""
    rng = np.random.default_rng(5)
    bias: dict[float, list[float]] = {}
    share = []
    for seed in range(5 if given else 20):
        v = visit(seed, rng.choice([5.0, 6.5, 9.0]))
        effect = -400e-6 * warmth(v)
        for deep in (300e-6, 500e-6, 1e-3, 2e-3, 5e-3):
            for _ in range(2):
                length, middle = rng.uniform(1.0, 3.0), rng.uniform(0.5, v.hours[-1] - 0.5)
                shape = transit(v.hours, middle, length)
                if (shape[v.good] > 0.5).sum() < 20 or (shape[v.good] == 0).sum() < 60:
                    continue
                ends = (middle - length / 2, middle + length / 2)
                trend = v.trend_of(effect - deep * shape, transits=[ends] if given else [])
                taken = total(trend, len(shape))
                # the same without noise: the difference is due to the transit alone
                pure, _ = depth(v, (1.0 + effect - deep * shape) / (1.0 + taken), shape)
                _, error = depth(v, (1.0 + effect - deep * shape) * (1.0 + v.noise), shape)
                bias.setdefault(deep, []).append((pure - deep) / error)
                share.append((deep, (pure - deep) / deep))
    assert sum(map(len, bias.values())) > (40 if given else 160)
    for deep, values in bias.items():
        assert abs(np.mean(values)) < 0.3, deep
    assert abs(np.mean([s for deep, s in share if deep == 5e-3])) < 0.005


def test_points_that_are_not_good_have_no_say() -> None:
    v = visit(2)
    effect = -500e-6 * warmth(v)
    wild = np.where(v.good, 0.0, 30.0)
    strange = v.conditions._replace(background=v.conditions.background * (1.0 + wild))
    quiet, loud = v.trend_of(effect), v._replace(conditions=strange).trend_of(effect + wild)
    assert loud.slopes == quiet.slopes
    assert np.abs(total(loud, len(wild))).max() < 2e-3  # conditions count as far as those fitted


def test_the_order_of_the_points_does_not_matter() -> None:
    v = visit(3)
    effect = -500e-6 * warmth(v)
    order = np.random.default_rng(1).permutation(len(effect))
    mixed = Visit(
        v.hours[order],
        v.good[order],
        Conditions(*(values[order] for values in v.conditions)),
        v.noise[order],
    )
    a, b = v.trend_of(effect), mixed.trend_of(effect[order])
    # sums run over the points in the same order, except for means of the conditions
    np.testing.assert_allclose(total(b, len(order)), total(a, len(order))[order], atol=1e-12)


@pytest.mark.parametrize(
    "name",
    ["no points", "three points", "all NaN", "constant", "zero", "negative", "short", "two equal"],
)
def test_without_a_design_nothing_is_taken(name: str) -> None:
    v = visit(4, 2.9 if name == "short" else 6.5)
    n = len(v.hours)
    flux = {
        "all NaN": np.full(n, np.nan),
        "constant": np.full(n, 1e6),
        "zero": np.zeros(n),
        "negative": -1e6 * (1.0 + v.noise),
    }.get(name, 1e6 * (1.0 + v.noise - 500e-6 * warmth(v)))
    few = {"no points": 0, "three points": 3}.get(name, n)
    hours = np.where(np.arange(n) > 1, v.hours[0], v.hours) if name == "two equal" else v.hours
    trend = estimate_trend(
        hours[:few], flux[:few], v.good[:few], Conditions(*(c[:few] for c in v.conditions))
    )
    assert trend.taken == {}
    assert trend.reason


@pytest.mark.parametrize("value", [-10.0, np.nan, np.inf, 0.0])
def test_conditions_that_do_not_vary_or_are_unknown_are_not_used(value: float) -> None:
    v = visit(5)
    n = len(v.hours)
    conditions = Conditions(*[np.full(n, value)] * len(v.conditions))
    trend = v._replace(conditions=conditions).trend_of(-500e-6 * warmth(v))
    assert (trend.taken, trend.slopes) == ({}, {})
    assert trend.reason


def test_harmonics_of_the_roll_angle_need_three_turns() -> None:
    """In 4 h the angle turns 2.4 times; in 6.5 h, 3.9 times."""
    for hours, wanted in ((4.0, set()), (6.5, {"roll"})):
        v = visit(6, hours)
        angle = np.radians(v.conditions.roll)
        n = len(v.hours)
        alone = Conditions(*[np.full(n, 1.0)] * len(v.conditions))._replace(roll=v.conditions.roll)
        trend = v._replace(conditions=alone).trend_of(300e-6 * np.cos(2 * angle))
        assert set(trend.taken) == wanted


def test_dips_are_found_and_left_out_up_to_their_ends() -> None:
    v = visit(7, 9.0)
    shape = transit(v.hours, 4.0, 2.0)
    relative = v.noise - 2e-3 * shape
    outside = outside_of_dips(v.hours, relative, [], NOISE)
    assert not outside[shape > 0].any()
    assert outside[np.abs(v.hours - 4.0) > 2.0].all()


@pytest.mark.parametrize(
    ("size", "scatter", "words"), [(0.2, 0.0, "10%"), (0.0, 1e-4, "noise grows"), (1e-3, 0.0, "")]
)
def test_trends_that_are_large_or_noisy_are_not_taken(
    size: float, scatter: float, words: str
) -> None:
    v = visit(8)
    noise = np.random.default_rng(1).normal(0, 1.0, len(v.hours))
    reason = objection(v.noise, size * warmth(v) / np.abs(warmth(v)).max() + scatter * noise)
    assert words in reason
    assert bool(words) == bool(reason)


def wild(rng: np.random.Generator, n: int) -> FloatArray:
    """Return values of any size, or with infinities, or all the same."""
    kind = rng.integers(4)
    if kind == 0:
        return np.full(n, rng.choice([0.0, -1.0, 1e308, np.nan, -np.inf]))
    if kind == 1:
        return rng.choice([0.0, 1.0, np.nan, np.inf, -np.inf, 5e-324], n)
    if kind == 2:
        return np.asarray(10.0 ** rng.uniform(-300, 300, n))
    return np.asarray(rng.normal(0, 1, n) * 10.0 ** rng.uniform(-300, 300))


def test_no_value_whatever_is_an_error() -> None:
    """Flux and conditions of any size: no warning of numpy, and all that is taken is finite."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        n = int(rng.choice([0, 1, 2, 21, 50, 300]))
        hours = np.arange(n) / rng.choice([60.0, 10.0]) if rng.random() < 0.7 else wild(rng, n)
        flux = 1e6 * (1 + rng.normal(0, 1e-4, n)) if rng.random() < 0.5 else wild(rng, n)
        conditions = Conditions(*(wild(rng, n) for _ in Conditions._fields))
        trend = estimate_trend(hours, flux, rng.random(n) < 0.9, conditions)
        assert all(np.isfinite(part).all() for part in trend.taken.values())
        assert all(np.isfinite(slope) for slope in trend.slopes.values())
