"""The light curves against the truth.

Noise over the photon floor, stated errors, transits, red noise, and correlations.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from schemas.arrays import FloatArray, IntArray
from tasks.validation.claims import Measure
from tasks.validation.files import DETRENDED, AbsentError, Curve, Part
from tasks.validation.statistics import (
    Averaged,
    averages,
    linear_fit,
    root_mean_square,
    scatter,
    scatter_of_differences,
    within_windows,
)

PPM = 1e6
CIRCLES = range(15, 41)
CURVES = ("DEFAULT", "OPTIMAL", "PSF", DETRENDED)
OUTLIER = 5.0  # [errors]
FEW = 4  # points that give a scatter, though with a large error
DEEP = 500.0  # a deeper transit must be right to a percent [ppm]
SUBPIXELS = 10
# a star this bright must reach 20 ppm in 6 h, or 85 ppm in 3 h: length [h], faintest G
PRECISION = ((6, 9.0), (3, 12.0))


def overlap(shape: tuple[int, int], x: float, y: float, radius: float) -> FloatArray:
    """Return the share of every pixel within a circle, from 10 x 10 subpixels of each.

    The centre is at x, y, where pixel i spans [i, i+1).
    """
    fine = (np.arange(SUBPIXELS) + 0.5) / SUBPIXELS
    across = (np.arange(shape[1])[:, None] + fine).ravel() - x
    up = (np.arange(shape[0])[:, None] + fine).ravel() - y
    inside = across**2 + up[:, None] ** 2 < radius**2
    return np.asarray(inside.reshape(shape[0], SUBPIXELS, shape[1], SUBPIXELS).mean(axis=(1, 3)))


def photon_floor(
    target: FloatArray, sky: FloatArray, dark: float, read_out: float, nexp: int, radius: float
) -> FloatArray:
    """Return the relative noise of the flux in a circle due to light and read-out alone.

    ``sqrt(F + pi R^2 (sky + n RON^2) + dark) / F``

    Parameters
    ----------
    target : ndarray, shape (n,)
        Electrons of the star within the circle, F.
    sky : ndarray, shape (n,)
        Background [electron/pixel].
    dark : float
        Thermal charge within the circle [electron].
    read_out : float
        Read-out noise of one exposure, RON [electron].
    nexp : int
        Exposures in a point, n.
    radius : float
        Radius of the circle, R [pixel].
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
    """Return the photon floor of every point of a light curve of stacks, shape (n,).

    The star's share of light in the circle is the measured one.
    """
    target = part.truth.stacks["TARGET"]
    held = np.median((curve.flux / np.maximum(target, 1.0))[curve.used & part.truth.good])
    try:
        dark = dark_within(part, curve.radius, part.nexp)
    except AbsentError:  # early versions of the truth have no dark image
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
    """A light curve over its truth: the used points, about their median."""

    def __init__(self, part: Part, curve: Curve) -> None:
        self.part, self.curve = part, curve
        target = part.truth.stacks["TARGET"]
        self.used = curve.used & (target > 0)
        check_points(curve.name, int(self.used.sum()))
        ratio = curve.flux[self.used] / target[self.used]
        self.level = float(np.median(ratio))
        self.relative: FloatArray = np.asarray(ratio / self.level - 1)
        self.error: FloatArray = np.asarray(
            curve.table["FLUXERR"][self.used] / (self.level * target[self.used]), float
        )
        self.hours: FloatArray = np.asarray(24 * curve.table["MJD_TIME"][self.used], float)
        self.step: float = 24 * float(np.median(np.diff(curve.table["MJD_TIME"])))
        self.near = np.abs(self.relative) < OUTLIER * max(scatter(self.relative), 1e-12)

    def clipped(self) -> tuple[FloatArray, FloatArray]:
        """Return hours and residuals [ppm] without outliers."""
        inliers = self.relative[self.near]
        return self.hours[self.near], PPM * (inliers - inliers.mean())

    def of_stacks(self, name: str) -> FloatArray:
        """Return a column of the truth at the used points."""
        return np.asarray(self.part.truth.stacks[name][self.used], float)


def check_points(name: str, used: int) -> None:
    """Raise AbsentError if a light curve has too few used points for a scatter."""
    if used < FEW:
        raise AbsentError(f"{name} has {used} used points, expected at least {FEW}")


def residual(part: Part, name: str) -> Residual:
    """Return a light curve of the products over its truth."""
    return Residual(part, part.products.curve(name))


def measure_noise(part: Part, name: str) -> list[Measure]:
    """Measure the scatter over the photon floor, and in units of the stated errors."""
    r = residual(part, name)
    over = r.relative / floor_of(part, r.curve)[r.used]
    outliers = int((np.abs(r.relative) > OUTLIER * r.error).sum())
    measures = [
        Measure.of_series("noise", over, scatter, name),
        Measure.of_series("noise_neighbours", np.diff(over), scatter_of_differences, name),
        Measure.of_share("outliers", outliers, len(over), name),
        Measure.of_series("honesty", r.relative / r.error, scatter, name),
    ]
    soft = (r.relative / r.error)[r.curve.soft[r.used]]
    if len(soft) >= FEW:
        measures.append(Measure.of_series("honesty_soft", soft, mean_square_root, name))
    return measures


def measure_level(part: Part, name: str) -> list[Measure]:
    """Measure the mean flux over the true electrons of the target within the circle.

    The light in the circle is that of the true PSF, which the light curve of the PSF refers to too.
    """
    curve = part.products.curve(name)
    target, psf = part.truth.stacks["TARGET"], part.truth.table("TRUTH_PSF").data.astype(float)
    used = curve.used & part.truth.good & (target > 0)
    check_points(name, int(used.sum()))
    middle = psf.shape[1] / 2, psf.shape[0] / 2
    inside = overlap((psf.shape[0], psf.shape[1]), *middle, curve.radius)
    ratio = curve.flux[used] / (target[used] * float((inside * psf).sum()))
    return [Measure.of_series("flux_level", ratio, mean, name)]


def mean(values: FloatArray) -> float:
    """Return the mean of `values`, shape (n,)."""
    return float(values.mean())


def mean_square_root(values: FloatArray) -> float:
    """Return the root of the mean square of `values`, shape (n,), without subtracting the mean."""
    return float(np.sqrt(np.mean(np.square(values))))


def measure_used(part: Part, name: str) -> list[Measure]:
    """Measure the share of the good stacks without sudden stray light that are used.

    It is zero if the light curve does not exist.
    """
    good, stacks = part.truth.good, part.truth.stacks
    if "SPIKE" in stacks.columns:
        good = good & ~(stacks["SPIKE"] > 0)
    try:
        kept = int((part.products.curve(name).used & good).sum())
    except AbsentError:
        kept = 0
    return [Measure.of_share("used", kept, int(good.sum()), name)]


def measure_choice(part: Part) -> list[Measure]:
    """Measure the scatter of OPTIMAL over that of the quietest light curve, and of DEFAULT.

    Standard deviations without the outliers of either, at the same points: robust scatters of some
    hundred points differ by several per cent by chance.
    """
    optimal = residual(part, "OPTIMAL")
    series = {"DEFAULT": pairs_of(optimal, residual(part, "DEFAULT"))}
    for name in ("PSF", *(f"R{radius}" for radius in CIRCLES)):
        try:
            series[name] = pairs_of(optimal, residual(part, name))
        except AbsentError:
            continue
    best = max(series, key=lambda name: excess(series[name]))
    return [
        Measure.of_series("optimal", series[best], excess),
        Measure.of_series("optimal_default", series["DEFAULT"], excess),
    ]


def pairs_of(one: Residual, other: Residual) -> FloatArray:
    """Return the residuals of two light curves at the same points, without outliers, (n, 2)."""
    both = one.used & other.used
    pairs = [r.relative[both[r.used]] for r in (one, other)]
    near = np.all([r.near[both[r.used]] for r in (one, other)], axis=0)
    return np.stack(pairs, axis=1)[near]


def measure_detrended(part: Part) -> list[Measure]:
    """Measure the scatter of the detrended OPTIMAL over that of OPTIMAL, as in `measure_choice`."""
    pairs = pairs_of(residual(part, DETRENDED), residual(part, "OPTIMAL"))
    return [Measure.of_series("detrended", pairs, excess)]


def excess(pairs: FloatArray) -> float:
    """Return the scatter of the first of two series over that of the second, shape (n, 2)."""
    return float(pairs[:, 0].std() / pairs[:, 1].std())


def measure_best_circle(part: Part) -> list[Measure]:
    """Measure the scatter over the photon floor of the light curve that scatters least."""
    residuals = {}
    for radius in CIRCLES:
        try:
            residuals[f"R{radius}"] = residual(part, f"R{radius}")
        except AbsentError:
            continue
    if not residuals:
        raise AbsentError("there are no light curves R15 to R40")
    best = min(residuals.values(), key=lambda r: scatter(r.relative))
    over = best.relative / floor_of(part, best.curve)[best.used]
    return [Measure.of_series("noise_best", over, scatter, "R15 to R40")]


def measure_long_noise(part: Part, name: str) -> list[Measure]:
    """Measure the noise over hours, and its excess over that of independent points."""
    r = residual(part, name)
    curve = averaging(r)
    measures = [
        Measure(f"beta_{hours}h", name, *a.ratio, int(a.freedom))
        for a in curve
        for hours in (1, 6)
        if spans(a, hours, r.step)
    ]
    times, ppm = r.clipped()
    for length, faintest in PRECISION:
        if float(part.case["magnitude"]) > faintest:
            continue
        noise = within_windows(times, ppm, r.step, length)
        if np.isfinite(noise):
            measures.append(
                Measure(f"windows_{length}h", name, noise, noise / np.sqrt(2 * len(ppm)), len(ppm))
            )
        measures += [
            Measure(f"means_{length}h", name, *a.noise, int(a.freedom))
            for a in curve
            if spans(a, length, r.step)
        ]
    return measures


def spans(a: Averaged, hours: float, step: float) -> bool:
    """Return whether means are over so many hours, to the nearest point."""
    return round(a.hours / step) == round(hours / step)


def averaging(r: Residual) -> list[Averaged]:
    """Return the noise of means of a light curve [ppm]."""
    return averages(*r.clipped(), r.step)


def measure_depth(part: Part, name: str) -> list[Measure]:
    """Measure the depth of the transit over the true one, from a fit of the true shape."""
    r = residual(part, name)
    shape = r.of_stacks("FLUX")
    depth = PPM * float(part.case["radius_ratio"]) ** 2
    if np.ptp(shape) < 0.3e-6 * depth:
        raise AbsentError("the transit lies outside the used points")
    time = r.hours - r.hours.mean()
    flux = (1 + r.relative) * shape / np.median(shape)
    fit = linear_fit([np.ones_like(time), time, shape - 1], flux)
    value = float(fit.coefficients[2] / fit.coefficients[0])
    # correlated noise makes the error larger
    long = [a.ratio.value for a in averaging(r) if abs(a.hours - 1) < 0.5]
    error = float(np.sqrt(fit.covariance[2, 2])) * max([1.0, *long])
    return [Measure("depth" if depth >= DEEP else "shallow", name, value, error, len(flux))]


def measure_exactness(part: Part, name: str) -> list[Measure]:
    """Measure the scatter about the truth of a visit without noise."""
    ppm = PPM * residual(part, name).relative
    return [Measure.of_series("exact", ppm, root_mean_square, name)]


def measure_correlations(part: Part, name: str) -> list[Measure]:
    """Measure correlations with roll, position, background, temperature and blur.

    Each is a squared amplitude from which the expectation of its noise is subtracted.
    """
    r = residual(part, name)
    hours, values = r.hours[r.near], PPM * r.relative[r.near]
    time = (hours - hours.mean()) / max(np.ptp(hours), 1e-9)
    measures = []
    for claim, columns in (_roll_columns(r) | _truth_columns(r)).items():
        # one at a time: background, temperature and roll are correlated, so that a common fit would
        # determine none of them
        fit = linear_fit([np.ones_like(time), time, *columns], values)
        amplitude, variance = fit.coefficients[2:], np.diag(fit.covariance)[2:]
        excess = amplitude**2 - variance
        error = np.sqrt((2 * variance**2 + 4 * variance * np.maximum(excess, 0)).sum())
        measures.append(Measure(claim, name, float(excess.sum()), float(error), len(values)))
    return measures


def _roll_columns(r: Residual) -> dict[str, list[FloatArray]]:
    """Return harmonics of the roll angle at the inliers; none for less than one turn."""
    phase = np.radians(r.of_stacks("ROLL_ANGLE")[r.near])
    if np.ptp(np.unwrap(phase)) < 2 * np.pi:  # harmonics of a part of a turn are not independent
        return {}
    return {f"roll_{k}": [np.cos(k * phase), np.sin(k * phase)] for k in (1, 2, 3)}


def _truth_columns(r: Residual) -> dict[str, list[FloatArray]]:
    """Return normalised columns of the truth at the inliers, where they vary."""
    groups = {
        "with_position": ("CENTROID_X", "CENTROID_Y"),
        "with_background": ("BACKGROUND",),
        "with_temperature": ("TELESCOPE",),
        "with_blur": ("BLUR",),
    }
    normalised = {}
    for claim, names in groups.items():
        if all(n in r.part.truth.stacks.columns for n in names):
            columns = [r.of_stacks(n)[r.near] for n in names]
            if all(np.ptp(c) > 1e-9 * max(np.abs(c).max(), 1e-9) for c in columns):
                normalised[claim] = [(c - c.mean()) / c.std() for c in columns]
    return normalised


def measure_imagettes(part: Part, name: str) -> list[Measure]:
    """Measure the scatter of imagettes over their photon floor."""
    curve = part.products.curve(name)
    group = int(part.case["imagette_nexp"])
    exposures = part.truth.table("TRUTH_EXPOSURES")
    time = exposures["MJD_TIME"].reshape(-1, group).mean(axis=1)
    row = nearest(time, curve.table["MJD_TIME"])
    target = exposures["TARGET"].reshape(-1, group).sum(axis=1)[row]
    used = curve.used & (target > 0)
    check_points(name, int(used.sum()))
    ratio = curve.flux[used] / target[used]
    level = float(np.median(ratio))
    stack = row * group // part.nexp
    sky = part.truth.stacks["BACKGROUND"][stack][used] * group / part.nexp
    dark = float(np.median(curve.table["DARK"]))
    floor = photon_floor(
        level * target[used], sky, dark, read_out_electrons(part), group, curve.radius
    )
    return [Measure.of_series("imagettes", (ratio / level - 1) / floor, scatter, name)]


def nearest(ascending: FloatArray, values: FloatArray) -> IntArray:
    """Return the index of the nearest element of an ascending series to each value, shape (n,)."""
    after = np.clip(np.searchsorted(ascending, values), 1, len(ascending) - 1)
    return np.asarray(after - (values - ascending[after - 1] < ascending[after] - values))


def noise_ratio(part: Part, quiet: Part, name: str) -> list[Measure]:
    """Measure the noise of a light curve over that of a quieter visit, in the same stacks.

    The other visit has the same star and seed.
    """
    one, other = residual(part, name), residual(quiet, name)
    both = one.used & other.used
    pairs = np.stack([one.relative[both[one.used]], other.relative[both[other.used]]], axis=1)
    return [
        Measure.of_series(
            "telegraphic_noise", pairs, lambda p: scatter(p[:, 0]) / scatter(p[:, 1]), name
        )
    ]


Score = Callable[[Part], list[Measure]]


def scores(case: dict[str, Any]) -> dict[str, Score]:
    """Return the measurements of the light curves that apply to a case, by name."""
    applicable: dict[str, Score] = {}
    for name in CURVES:
        applicable[f"points of {name}"] = partial(measure_used, name=name)
        if name != DETRENDED:
            applicable[f"level of {name}"] = partial(measure_level, name=name)
        if not case["noise"]:
            applicable[f"exactness of {name}"] = partial(measure_exactness, name=name)
        else:
            applicable[f"noise of {name}"] = partial(measure_noise, name=name)
            applicable[f"noise of {name} over hours"] = partial(measure_long_noise, name=name)
            if case["transit"] and case["light_curve"] is None:
                applicable[f"transit in {name}"] = partial(measure_depth, name=name)
        applicable[f"correlations of {name}"] = partial(measure_correlations, name=name)
    if case["noise"]:
        applicable["noise in the best circle"] = measure_best_circle
        applicable["choice of OPTIMAL"] = measure_choice
        applicable["trends of OPTIMAL"] = measure_detrended
    if case["imagettes"] and case["noise"]:
        for name in ("IMAGETTE", "IMAGETTE_PSF"):
            applicable[f"noise of {name}"] = partial(measure_imagettes, name=name)
    return applicable


def curve_points(part: Part, name: str) -> dict[str, Any]:
    """Return the averaging curve of a light curve in JSON's types."""
    return {"of": name, "curve": [a._asdict() for a in averaging(residual(part, name))]}
