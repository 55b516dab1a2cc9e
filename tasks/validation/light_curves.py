"""What the light curves are worth: noise over the photon floor, honest errors, transits, red noise,
what they go with.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.arrays import FloatArray
from tasks.validation.claims import Measure
from tasks.validation.files import AbsentError, Curve, Part
from tasks.validation.statistics import (
    Averaged,
    averages,
    bootstrapped,
    linear_fit,
    root_mean_square,
    scatter,
    scatter_of_differences,
    share,
    within_windows,
)

PPM = 1e6
CIRCLES = range(15, 41)
CURVES = ("DEFAULT", "OPTIMAL", "PSF")
WILD = 5.0  # [errors]
FEW = 4  # points that tell a scatter, though with a large error
DEEP = 500.0  # a transit of which the depth must be right to a percent [ppm]
SUBPIXELS = 10


def overlap(shape: tuple[int, int], x: float, y: float, radius: float) -> FloatArray:
    """Return the share of every pixel within a circle about x, y (pixel i spans [i, i+1)), by 10 x
    10 parts of each.
    """
    fine = (np.arange(SUBPIXELS) + 0.5) / SUBPIXELS
    across = (np.arange(shape[1])[:, None] + fine).ravel() - x
    up = (np.arange(shape[0])[:, None] + fine).ravel() - y
    inside = across**2 + up[:, None] ** 2 < radius**2
    return np.asarray(inside.reshape(shape[0], SUBPIXELS, shape[1], SUBPIXELS).mean(axis=(1, 3)))


def photon_floor(
    target: FloatArray, sky: FloatArray, dark: float, read_out: float, nexp: int, radius: float
) -> FloatArray:
    """Return the relative noise of the flux in a circle that light and read-out alone make.

    ``sqrt(F + pi R^2 (sky + n RON^2) + dark) / F``

    Parameters
    ----------
    target : ndarray, shape (n,)
        The star's electrons within the circle, F.
    sky : ndarray, shape (n,)
        Background [electron/pixel].
    dark : float
        Thermal charge within the circle [electron].
    read_out : float
        Read-out noise of one exposure, RON [electron].
    nexp : int
        Exposures in a point, n.
    radius : float
        Of the circle, R [pixel].
    """
    return np.asarray(
        np.sqrt(target + np.pi * radius**2 * (sky + nexp * read_out**2) + dark) / target
    )


def read_out_electrons(part: Part) -> float:
    """Return the true read-out noise of an exposure [electron]."""
    return float(part.facts.read_out_noise / np.median(part.truth.stacks["GAIN"]))


def dark_within(part: Part, radius: float, nexp: int) -> float:
    """Return the true thermal charge within a circle about the star [electron]."""
    rate = part.truth.table("TRUTH_DARK").data.astype(float)
    return float(
        nexp * (overlap(rate.shape, *part.place, radius) * rate * part.facts.dark_seconds).sum()
    )


def floor_of(part: Part, curve: Curve) -> FloatArray:
    """Return the floor of every point of a light curve of stacks; the star's share in the circle is
    the measured one.
    """
    target = part.truth.stacks["TARGET"]
    held = np.median((curve.flux / np.maximum(target, 1.0))[curve.used & part.truth.good])
    try:
        dark = dark_within(part, curve.radius, part.nexp)
    except AbsentError:  # the truth had no image of it at first
        dark = float(np.median(curve.table["DARK"]))
    return photon_floor(
        held * np.maximum(target, 1.0),
        part.truth.stacks["BACKGROUND"],
        dark,
        read_out_electrons(part),
        part.nexp,
        curve.radius,
    )


class Residual:
    """A light curve over its truth: the points that are used, about their median."""

    def __init__(self, part: Part, curve: Curve) -> None:
        self.part, self.curve = part, curve
        target = part.truth.stacks["TARGET"]
        self.used = curve.used & (target > 0)
        if self.used.sum() < FEW:
            raise AbsentError(f"{curve.name} has {int(self.used.sum())} points that are used")
        ratio = curve.flux[self.used] / target[self.used]
        self.level = float(np.median(ratio))
        self.relative: FloatArray = np.asarray(ratio / self.level - 1)
        self.error: FloatArray = np.asarray(
            curve.table["FLUXERR"][self.used] / (self.level * target[self.used]), float
        )
        self.hours: FloatArray = np.asarray(24 * curve.table["MJD_TIME"][self.used], float)
        self.step: float = 24 * float(np.median(np.diff(curve.table["MJD_TIME"])))

    def clipped(self) -> tuple[FloatArray, FloatArray]:
        """Return hours and residuals [ppm] without wild points."""
        near = np.abs(self.relative) < WILD * max(scatter(self.relative), 1e-12)
        return self.hours[near], PPM * (self.relative[near] - self.relative[near].mean())

    def of_stacks(self, name: str) -> FloatArray:
        """Return a column of the truth at the points that are used."""
        return np.asarray(self.part.truth.stacks[name][self.used], float)


def residual(part: Part, name: str) -> Residual:
    """Return a light curve of the products over its truth."""
    return Residual(part, part.products.curve(name))


def measure_noise(part: Part, name: str) -> list[Measure]:
    """Scatter over the photon floor, from point to point too, and in units of the stated errors."""
    r = residual(part, name)
    over = r.relative / floor_of(part, r.curve)[r.used]
    n = len(over)
    wild = int((np.abs(r.relative) > WILD * r.error).sum())
    soft = (r.relative / r.error)[r.curve.soft[r.used]]
    return [
        Measure("noise", name, *bootstrapped(over, scatter), n),
        Measure(
            "noise_neighbours", name, *bootstrapped(np.diff(over), scatter_of_differences), n - 1
        ),
        Measure("outliers", name, *share(wild, n), n),
        Measure("honesty", name, *bootstrapped(r.relative / r.error, scatter), n),
        *(
            [Measure("honesty_soft", name, *bootstrapped(soft, from_the_rest), len(soft))]
            if len(soft) >= FEW
            else []
        ),
    ]


def from_the_rest(values: FloatArray) -> float:
    """Return the root of the mean square of `values`, shape (n,), their mean included."""
    return float(np.sqrt(np.mean(np.square(values))))


def measure_used(part: Part, name: str) -> list[Measure]:
    """Share of the good stacks without sudden stray light that are used; where there is no light
    curve none is.
    """
    good, stacks = part.truth.good, part.truth.stacks
    if "SPIKE" in stacks.columns:
        good = good & ~(stacks["SPIKE"] > 0)
    try:
        kept = int((part.products.curve(name).used & good).sum())
    except AbsentError:
        kept = 0
    n = int(good.sum())
    return [Measure("used", name, *share(kept, n), n)]


def measure_best_circle(part: Part) -> list[Measure]:
    """Scatter over the photon floor in the circle in which the light curve scatters least."""
    known = {}
    for radius in CIRCLES:
        try:
            known[f"R{radius}"] = residual(part, f"R{radius}")
        except AbsentError:
            continue
    if not known:
        raise AbsentError("there are no light curves R15 to R40")
    name = min(known, key=lambda n: scatter(known[n].relative))
    over = known[name].relative / floor_of(part, known[name].curve)[known[name].used]
    return [Measure("noise_best", "R15 to R40", *bootstrapped(over, scatter), len(over))]


def measure_long_noise(part: Part, name: str) -> list[Measure]:
    """Noise over hours, and how far it exceeds that of independent points."""
    r = residual(part, name)
    hours, ppm = r.clipped()
    measures = []
    for a in averaging(r):
        measures += [
            Measure(f"beta_{h}h", name, *a.ratio, int(a.freedom))
            for h in (1, 6)
            if spans(a, h, r.step)
        ]
    # a star of G = 9 or brighter must reach 20 ppm in 6 h, one of G = 12 or brighter 85 ppm in 3 h
    magnitude = float(part.case["magnitude"])
    for length, faintest in ((6, 9.0), (3, 12.0)):
        if magnitude > faintest:
            continue
        noise = within_windows(hours, ppm, r.step, length)
        if np.isfinite(noise):
            measures.append(
                Measure(f"windows_{length}h", name, noise, noise / np.sqrt(2 * len(ppm)), len(ppm))
            )
        long = [a for a in averaging(r) if spans(a, length, r.step)]
        measures += [Measure(f"means_{length}h", name, *a.noise, int(a.freedom)) for a in long]
    return measures


def spans(a: Averaged, hours: float, step: float) -> bool:
    """Return whether means are over so many hours, to the nearest point."""
    return round(a.hours / step) == round(hours / step)


def averaging(r: Residual) -> list[Averaged]:
    """Return the noise of means of a light curve [ppm]."""
    return averages(*r.clipped(), r.step)


def measure_depth(part: Part, name: str) -> list[Measure]:
    """Depth of the transit over the true one: the true shape fitted to the light curve, with a
    slope.
    """
    r = residual(part, name)
    shape = r.of_stacks("FLUX")
    depth = PPM * float(part.case["radius_ratio"]) ** 2
    if np.ptp(shape) < 0.3e-6 * depth:
        raise AbsentError("the transit lies outside of the points that are used")
    time = r.hours - r.hours.mean()
    flux = (1 + r.relative) * shape / np.median(shape)
    fit = linear_fit([np.ones_like(time), time, shape - 1], flux)
    value = float(fit.coefficients[2] / fit.coefficients[0])
    # noise that goes on from point to point makes the error larger
    long = [a.ratio.value for a in averaging(r) if abs(a.hours - 1) < 0.5]
    error = float(np.sqrt(fit.covariance[2, 2])) * max([1.0, *long])
    return [Measure("depth" if depth >= DEEP else "shallow", name, value, error, len(flux))]


def measure_exactness(part: Part, name: str) -> list[Measure]:
    """Scatter about the truth of a visit without noise."""
    r = residual(part, name)
    return [
        Measure("exact", name, *bootstrapped(PPM * r.relative, root_mean_square), len(r.relative))
    ]


def measure_correlations(part: Part, name: str) -> list[Measure]:
    """Measure what goes with roll, place, background, temperature and blur: squares freed of their
    noise.
    """
    r = residual(part, name)
    near = np.abs(r.relative) < WILD * max(scatter(r.relative), 1e-12)
    values, hours = PPM * r.relative[near], r.hours[near]
    stacks = part.truth.stacks
    phase = np.radians(r.of_stacks("ROLL_ANGLE")[near])
    groups: dict[str, list[FloatArray]] = {
        f"roll_{k}": [np.cos(k * phase), np.sin(k * phase)] for k in (1, 2, 3)
    }
    if np.ptp(np.unwrap(phase)) < 2 * np.pi:  # harmonics of part of a turn depend on each other
        groups = {}
    wanted = {
        "with_position": ("CENTROID_X", "CENTROID_Y"),
        "with_background": ("BACKGROUND",),
        "with_temperature": ("TELESCOPE",),
        "with_blur": ("BLUR",),
    }
    for claim, names in wanted.items():
        if all(n in stacks.columns for n in names):
            columns = [r.of_stacks(n)[near] for n in names]
            if all(np.ptp(c) > 1e-9 * max(np.abs(c).max(), 1e-9) for c in columns):
                groups[claim] = [(c - c.mean()) / c.std() for c in columns]
    time = (hours - hours.mean()) / max(np.ptp(hours), 1e-9)
    measures = []
    for claim, columns in groups.items():
        # one at a time: background, temperature and roll go with each other, together none would be
        # told
        fit = linear_fit([np.ones_like(time), time, *columns], values)
        found, variance = fit.coefficients[2:], np.diag(fit.covariance)[2:]
        power = float((found**2 - variance).sum())
        error = float(
            np.sqrt((2 * variance**2 + 4 * variance * np.maximum(found**2 - variance, 0)).sum())
        )
        measures.append(Measure(claim, name, power, error, len(values)))
    return measures


def measure_imagettes(part: Part, name: str) -> list[Measure]:
    """Scatter of imagettes over their photon floor."""
    curve = part.products.curve(name)
    group = int(part.case["imagette_nexp"])
    exposures = part.truth.table("TRUTH_EXPOSURES")
    time = exposures["MJD_TIME"].reshape(-1, group).mean(axis=1)
    electrons = exposures["TARGET"].reshape(-1, group).sum(axis=1)
    row = nearest(time, curve.table["MJD_TIME"])
    target = electrons[row]
    used = curve.used & (target > 0)
    if used.sum() < FEW:
        raise AbsentError(f"{name} has {int(used.sum())} points that are used")
    ratio = curve.flux[used] / target[used]
    level = float(np.median(ratio))
    stack = row * group // part.nexp
    sky = part.truth.stacks["BACKGROUND"][stack][used] * group / part.nexp
    dark = float(np.median(curve.table["DARK"]))
    floor = photon_floor(
        level * target[used], sky, dark, read_out_electrons(part), group, curve.radius
    )
    over = (ratio / level - 1) / floor
    return [Measure("imagettes", name, *bootstrapped(over, scatter), len(over))]


def nearest(ascending: FloatArray, values: FloatArray) -> NDArray[np.intp]:
    """Return where in an ascending series the nearest to each value stands."""
    after = np.clip(np.searchsorted(ascending, values), 1, len(ascending) - 1)
    return np.asarray(after - (values - ascending[after - 1] < ascending[after] - values))


def noise_ratio(part: Part, quiet: Part, name: str) -> list[Measure]:
    """Noise of a light curve over that of another visit of the same star and seed, in the same
    stacks.
    """
    one, other = residual(part, name), residual(quiet, name)
    both = one.used & other.used
    pairs = np.stack([one.relative[both[one.used]], other.relative[both[other.used]]], axis=1)
    found = bootstrapped(pairs, lambda p: scatter(p[:, 0]) / scatter(p[:, 1]))
    return [Measure("telegraphic_noise", name, *found, len(pairs))]


Score = Callable[[Part], list[Measure]]


def scores(case: dict[str, Any]) -> dict[str, Score]:
    """Return what is measured of the light curves of a case, by a name that tells it."""
    wanted: dict[str, Score] = {}
    for name in CURVES:
        wanted[f"points of {name}"] = partial(measure_used, name=name)
        if not case["noise"]:
            wanted[f"exactness of {name}"] = partial(measure_exactness, name=name)
        else:
            wanted[f"noise of {name}"] = partial(measure_noise, name=name)
            wanted[f"noise of {name} over hours"] = partial(measure_long_noise, name=name)
            if case["transit"] and case["light_curve"] is None:
                wanted[f"transit in {name}"] = partial(measure_depth, name=name)
        wanted[f"correlations of {name}"] = partial(measure_correlations, name=name)
    if case["noise"]:
        wanted["noise in the best circle"] = measure_best_circle
    if case["imagettes"] and case["noise"]:
        for name in ("IMAGETTE", "IMAGETTE_PSF"):
            wanted[f"noise of {name}"] = partial(measure_imagettes, name=name)
    return wanted


def curve_points(part: Part, name: str) -> dict[str, Any]:
    """Return the averaging curve of a light curve in JSON's types."""
    return {"of": name, "curve": [a._asdict() for a in averaging(residual(part, name))]}
