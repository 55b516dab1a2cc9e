"""Tables of the noise: by light curve, by term of the error, and before and after each step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from schemas.arrays import FloatArray
from schemas.light_curves import DEFAULT_RADIUS, OPTIMAL, PSF, Way
from schemas.terms import TERMS
from tasks.delivery.report.findings import Findings
from tasks.delivery.report.series import removed_variance
from tasks.delivery.report.tables import Table, stage_name
from tasks.delivery.report.wording import DASH, format_number, format_ppm
from tasks.photometry.noise import point_to_point, robust_std

CURVE_NOISE = ("ROB_PPM", "P2P_PPM", "CDPP_30M", "CDPP_3H", "CDPP_6H", "FORM_PPM")


def curves_table(findings: Findings) -> Table:
    """Tabulate the noise of all light curves."""
    note = (
        "Radius in pixels, median flux in electron/s, all noise in ppm from unflagged points: "
        "robust scatter, robust point-to-point scatter (p2p), CDPP for three windows, median "
        "formal error. Ratio is p2p over formal. DEFAULT is R25, RSUP is R30, RINF a circle of "
        f"22.5 pixels; R25_Fixed does not follow the target. {OPTIMAL} is the way to measure the "
        f"target that has the least noise here: {describe_optimal(findings)}. Detrended is its "
        "column FLUX_DETRENDED, the same if no trend was found. A dash: too few points, or a visit "
        "shorter than the window."
    )
    head = (
        "light curve",
        "radius",
        "median",
        "robust",
        "p2p",
        "30 min",
        "3 h",
        "6 h",
        "formal",
        "ratio",
        "good",
    )
    rows = tuple(
        curve_row(name, metrics)
        for name, metrics in with_detrended(findings).items()
        if name not in ("RINF", "RSUP", "DEFAULT")
    )
    return Table(head=head, rows=rows, numbers=(False, *[True] * 10), note=note)


def with_detrended(findings: Findings) -> dict[str, Mapping[str, float]]:
    """Return the metrics of all light curves, with those of the detrended OPTIMAL after OPTIMAL."""
    metrics: dict[str, Mapping[str, float]] = {}
    for name, values in findings.metrics.items():
        metrics[name] = values
        if name == OPTIMAL and findings.detrended:
            metrics[f"{OPTIMAL}, detrended"] = findings.detrended
    return metrics


def optimal_circle(findings: Findings) -> str:
    """Return the radius of the light curve OPTIMAL, or PSF if it has none."""
    return PSF if findings.way is Way.PSF else f"{findings.curves[OPTIMAL][1]:g} pixels"


def describe_optimal(findings: Findings) -> str:
    """Describe how the light curve OPTIMAL is measured."""
    circle = f"the circle of {optimal_circle(findings)}"
    return {
        Way.CIRCLE: circle,
        Way.CORRECTED: f"{circle}, corrected for the light that blur moves across its border",
        Way.PSF: "the fit of the PSF",
    }[findings.way]


def curve_row(name: str, metrics: Mapping[str, float]) -> tuple[str, ...]:
    """Return radius, flux and noise of one light curve."""
    formal = metrics["FORM_PPM"]
    ratio = metrics["P2P_PPM"] / formal if formal > 0 else math.nan
    return (
        name,
        format_number(metrics["RADIUS"]),
        format_number(metrics["MEDIAN"], ".0f"),
        *(format_ppm(metrics[column]) for column in CURVE_NOISE),
        format_number(ratio, ".2f"),
        str(int(metrics["N_GOOD"])),
    )


BUDGET_RADII = (15.0, 20.0, DEFAULT_RADIUS, 30.0, 35.0, 40.0)


def error_terms(findings: Findings) -> dict[str, FloatArray]:
    """Return the median error of unflagged points by term, within each radius [ppm].

    Unknown errors are NaN.
    """
    good = findings.points.good
    light = np.where(findings.fluxes > 0, findings.fluxes, np.nan)[good]
    return {
        name: medians(1e6 * np.sqrt(values[good]) / light)
        for name, values in findings.all_variances.items()
    }


def medians(values: FloatArray) -> FloatArray:
    """Return the medians of the finite values of each column, NaN for columns without any."""
    finite = [column[np.isfinite(column)] for column in values.T]
    return np.array([float(np.median(column)) if column.size else math.nan for column in finite])


def budget_table(findings: Findings) -> Table:
    """Tabulate the terms of the formal error by radius."""
    meanings = {c.name: c.meaning for c in TERMS["TERM_ERRORS"].columns}
    terms = error_terms(findings)
    as_drp = terms.pop("DRP")
    total = root_of_sum(list(terms.values()))
    middle = float(total[findings.default])
    named = [
        *((name.lower().replace("_", "-"), meanings[name], v) for name, v in terms.items()),
        ("total", "quadratic sum: FLUXERR", total),
        ("for comparison", "FLUXERR as the operational pipeline computes it", as_drp),
    ]
    shares = [share(float(v[findings.default]), middle) for _, _, v in named[:-1]]
    places = [findings.radii.index(radius) for radius in BUDGET_RADII]
    rows = [
        (name, meaning, *(format_ppm(float(values[k])) for k in places), part)
        for (name, meaning, values), part in zip(named, [*shares, ""], strict=True)
    ]
    note = (
        "Medians over unflagged points, in ppm of the flux within that radius; variance for R25 in "
        "percent of the total."
    )
    head = ("term", "meaning", *(f"R{radius:g}" for radius in BUDGET_RADII), "variance [%]")
    return Table(
        head=head, rows=tuple(rows), numbers=(False, False, *[True] * (len(head) - 2)), note=note
    )


def root_of_sum(errors: Sequence[FloatArray]) -> FloatArray:
    """Add errors in quadrature within each radius; NaN if none is known."""
    known = [values for values in errors if np.isfinite(values).any()]
    if not known:
        return np.full_like(errors[0], math.nan)
    return np.asarray(np.sqrt(np.sum([np.nan_to_num(values) ** 2 for values in known], axis=0)))


def share(error: float, total: float) -> str:
    """Return the contribution of an error to a variance [%]."""
    return format_number(100 * (error / total) ** 2, ".1f") if total > 0 else DASH


def stages_table(findings: Findings) -> Table:
    """Tabulate the noise of the light curve before and after each step, and of the change."""
    good = findings.points.good
    final = findings.levels[-1].values[good]
    middle = float(np.median(final)) if final.size else math.nan
    factor = 1e6 / middle if middle > 0 else math.nan
    rows = tuple(
        stage_row(stage_name(stage.name), stage.before[good], stage.after[good], factor)
        for stage in findings.stages
    )
    noises = (
        "p2p before",
        "after",
        "removed",
        "of change",
        "robust before",
        "after",
        "removed",
        "of change",
    )
    note = (
        "Flux within 25 pixels of the first-look position, unflagged points only, in ppm of the "
        f"final median, {format_number(middle, '.5g')} electron. Change is the median difference; "
        "p2p is the robust point-to-point scatter, robust the robust scatter. Removed is the root "
        "of the mean difference between the squares of the same points before and after, without "
        "those beyond 5 sigma: negative where a step adds noise, an upper limit where chance could "
        "do as much. Where a step leaves more than half of the points unchanged, the robust "
        "scatter of the change is 0."
    )
    return Table(
        head=("step", "change", *noises), rows=rows, numbers=(False, *[True] * 9), note=note
    )


def stage_row(name: str, before: FloatArray, after: FloatArray, factor: float) -> tuple[str, ...]:
    """Return the noise of good points before and after a step, and of their change.

    `factor` converts fluxes to ppm.
    """
    change = after - before
    shift = factor * float(np.median(change)) if change.size else math.nan
    still = bool(change.size) and bool((change == 0).all())
    steps = [np.diff(values) / math.sqrt(2) for values in (before, after)]
    columns: list[str] = []
    for measure, (first, last) in ((point_to_point, steps), (robust_std, (before, after))):
        noise = [factor * measure(v) for v in (before, after, change)]
        if still or (change.size > 2 and not math.isfinite(noise[2])):
            noise[2] = 0.0
        columns += [
            format_ppm(noise[0]),
            format_ppm(noise[1]),
            removed_text(first, last, still, factor),
            format_ppm(noise[2]),
        ]
    return (name, format_ppm(shift), *columns)


def removed_text(before: FloatArray, after: FloatArray, still: bool, factor: float) -> str:
    """Return the noise that a step removed, or an upper limit; a dash if it changed nothing.

    `factor` converts fluxes to ppm.
    """
    removed, error = removed_variance(before, after)
    if still or not math.isfinite(removed):
        return DASH
    if abs(removed) < 2 * error:
        return f"< {format_ppm(factor * math.sqrt(2 * error))}"
    return format_ppm(math.copysign(factor * math.sqrt(abs(removed)), removed))
