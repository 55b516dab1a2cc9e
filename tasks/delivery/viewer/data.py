"""The data of the viewer, packed: each series as integers, in as few bytes as possible.

A series is rounded to a decimal place far below its noise. The page thus shows and exports the
values of the FITS files to a stated number of digits, and thousands of points in all apertures fit
into less than a megabyte.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from schemas.arrays import AnyArray, FloatArray, IntArray
from schemas.flags import Quality
from schemas.light_curves import DEFAULT_RADIUS, FIXED, IMAGETTE, IMAGETTE_PSF, OPTIMAL, PSF
from schemas.payloads import MeasuredVisit, Product
from schemas.terms import TERMS
from tasks.delivery.light_curves import read_curve_metrics
from tasks.delivery.report.findings import Findings, Quantity
from tasks.delivery.report.noise_tables import medians
from tasks.delivery.report.tables import BIT_WORDS, EVENT_DIGITS, bit_name, stage_name
from tasks.numerics.sample import spread_evenly
from tasks.visit.terms import term_column

Json = dict[str, Any]

WIDTHS = (1, 2, 3, 4, 6)  # bytes per integer; a double holds six bytes exactly

# rounding steps: of fluxes relative to the median flux, of errors relative to the median error
FLUX_STEP, ERROR_STEP, TERM_STEP = 1e-7, 1e-2, 1e-3

TIME_STEP = 1e-8  # day; about a millisecond

STEPS_OF = {
    "roll": 1e-3,
    "x": 1e-4,
    "y": 1e-4,
    "background": 1e-2,
    "contamination": 1e-1,
    "smearing": 1.0,
    "temperature": 1e-3,
    "bias": 1e-3,
    "ron": 1e-3,
    "gain": 1e-6,
    "cosmics": 1.0,
    "cosmics_in": 1.0,
}


def pack(values: FloatArray, step: float) -> Json:
    """Return a series as integers n, where a value is (first + n) / 10**digits.

    Parameters
    ----------
    values : ndarray, shape (n,)
        The series; NaN and infinite values are kept as missing.
    step : float
        Values are rounded to the largest power of ten that does not exceed it.

    Returns
    -------
    dict
        ``first``, ``digits``, ``width`` of an integer in bytes, and ``data``, the little-endian
        integers in base64. The largest integer marks a missing value. If the span exceeds six
        bytes, values are rounded to fewer digits.
    """
    finite = np.isfinite(values)
    integers, digits = round_to_step(values[finite], step)
    first = float(integers.min()) if finite.any() else 0.0
    span = float(integers.max()) - first if finite.any() else 0.0
    width = next(w for w in WIDTHS if span < 256.0**w - 1)
    numbers = np.full(len(values), 256.0**width - 1)
    numbers[finite] = integers - first
    octets = np.ascontiguousarray(numbers.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :width])
    return {
        "first": int(first),
        "digits": digits,
        "width": width,
        "data": base64.b64encode(octets.tobytes()).decode("ascii"),
    }


def round_to_step(values: FloatArray, step: float) -> tuple[FloatArray, int]:
    """Return finite values as integer multiples of 10**-digits, and digits.

    There are fewer digits than `step` asks for if a double, or the widest integer, cannot hold
    them.
    """
    if not values.size:
        return values, decimal_digits(step, 0.0)
    digits = decimal_digits(step, float(np.abs(values).max()))
    integers = np.rint(scaled(values, digits))
    while float(np.ptp(integers)) >= 256.0 ** WIDTHS[-1] - 1:
        digits -= 1
        integers = np.rint(scaled(values, digits))
    return integers, digits


def decimal_digits(step: float, largest: float) -> int:
    """Return the decimal digits that `step` asks for, or that a double of this size can hold."""
    digits = -math.floor(math.log10(step) + 1e-9) if step > 0 and math.isfinite(step) else 0
    return min(digits, 15, 14 - (math.floor(math.log10(largest)) if largest > 1 else 0))


def scaled(values: FloatArray, digits: int) -> FloatArray:
    """Return values times 10**digits, always scaled by a power of ten that is exact."""
    return values * 10.0**digits if digits >= 0 else values / 10.0**-digits


class Curve(NamedTuple):
    """A light curve with its error [electron], and the radius of its aperture [pixel]."""

    flux: FloatArray
    error: FloatArray
    radius: float


@dataclass(frozen=True)
class PointSet:
    """A set of points with common times: their flags, light curves and conditions."""

    label: str
    bjd: FloatArray
    event: AnyArray
    quality: AnyArray
    curves: Mapping[str, Curve]
    metrics: Mapping[str, Mapping[str, float]]
    quantities: Sequence[Quantity]


def image_points(findings: Findings, measured: MeasuredVisit, most: int) -> Json:
    """Return light curves, conditions and budget of the stacked images, packed.

    Of more than `most` points, an evenly spaced subset is kept.
    """
    product = measured.quality.product
    bjd, errors, *own_errors = term_column(
        product, "TERM_QUALITY", "BJD_TIME", "FLUXERR", "OPT_ERR", "FIXED_ERR", "PSF_ERR"
    )
    single = dict(zip((OPTIMAL, FIXED, PSF), own_errors, strict=True))
    points = PointSet(
        "stacked images",
        bjd,
        findings.points.event,
        findings.points.quality,
        {
            name: Curve(
                flux,
                single[name] if name in single else errors[:, findings.radii.index(radius)],
                radius,
            )
            for name, (flux, radius) in findings.curves.items()
            if np.isfinite(flux).any()
        },
        findings.metrics,
        [q for name, q in findings.quantities.items() if name != "time"],
    )
    kept = spread_evenly(findings.points.count, most)
    return {**pack_points(points, kept), "budget": pack_budget(findings, kept)}


def imagette_points(term: Product, most: int) -> Json:
    """Return light curves and conditions of the imagettes, packed.

    Of more than `most` points, an evenly spaced subset is kept.
    """
    names = [c.name for c in TERMS["TERM_IMAGETTES"].columns]
    values = dict(zip(names, term_column(term, "TERM_IMAGETTES", *names), strict=True))
    radius = float(np.median(values["RADIUS"]))
    points = PointSet(
        "imagettes",
        values["BJD_TIME"],
        values["EVENT"],
        values["QUALITY"],
        {
            IMAGETTE: Curve(values["FLUX"], values["FLUXERR"], radius),
            IMAGETTE_PSF: Curve(values["PSF_FLUX"], values["PSF_ERR"], radius),
        },
        read_curve_metrics(term),
        (
            Quantity("roll", "roll angle", "deg", values["ROLL_ANGLE"]),
            Quantity("x", "x", "pixel", values["X"]),
            Quantity("y", "y", "pixel", values["Y"]),
            Quantity("background", "background", "electron/pixel", values["LEVEL"]),
            Quantity("contamination", "contamination", "ppm", 1e6 * values["CONTA"]),
            Quantity("smearing", "smearing", "electron", values["SMEARING"]),
        ),
    )
    return pack_points(points, spread_evenly(len(points.bjd), most))


def pack_points(points: PointSet, kept: IntArray) -> Json:
    """Return the points `kept` of a set: times, flags, light curves and conditions."""
    return {
        "label": points.label,
        "count": len(points.bjd),
        "index": pack(kept.astype(np.float64), 1.0),
        "bjd": pack(points.bjd[kept].astype(np.float64), TIME_STEP),
        "event": pack(points.event[kept].astype(np.float64), 1.0),
        "quality": pack(points.quality[kept].astype(np.float64), 1.0),
        "curves": pack_curves(points, kept),
        "quantities": [
            {
                "name": q.name,
                "label": q.label,
                "unit": q.unit,
                **pack(q.values[kept].astype(np.float64), STEPS_OF[q.name]),
            }
            for q in points.quantities
            if np.isfinite(q.values).any()
        ],
    }


def pack_curves(points: PointSet, kept: IntArray) -> dict[str, Json]:
    """Return the light curves by name; a copy of another one (DEFAULT is R25) only refers to it."""
    first_with: dict[bytes, str] = {}
    packed: dict[str, Json] = {}
    for name, (flux, error, radius) in points.curves.items():
        packed[name] = {
            "radius": round(float(radius), 3),
            "metrics": {k: number(v) for k, v in points.metrics.get(name, {}).items()},
        }
        if (same := first_with.setdefault(flux.tobytes() + error.tobytes(), name)) != name:
            packed[name]["same"] = same
        else:
            packed[name]["flux"] = pack(flux[kept].astype(np.float64), FLUX_STEP * middle(flux))
            packed[name]["error"] = pack(error[kept].astype(np.float64), ERROR_STEP * middle(error))
    return packed


def pack_budget(findings: Findings, kept: IntArray) -> Json:
    """Return the change of each flux at every step, and the terms of each error [electron].

    The stages refer to a fixed circle about the first position. The error terms are standard
    deviations of the flux within `DEFAULT_RADIUS`; ``typical`` is their median within each of
    ``radii``.
    """
    meanings = {c.name: c.meaning for c in TERMS["TERM_ERRORS"].columns}
    terms = [name for name in findings.variances if name != "DRP"]
    typical = [medians(deviation(findings.all_variances[name])) for name in terms]
    step = FLUX_STEP * middle(findings.points.flux)
    error = TERM_STEP * middle(deviation(sum(findings.variances[name] for name in terms)))
    return {
        "radius": DEFAULT_RADIUS,
        "radii": list(findings.radii),
        "start": pack(findings.stages[0].before[kept], step),
        "stages": [
            {
                "label": stage_name(s.name),
                "meaning": s.meaning,
                **pack((s.after - s.before)[kept], step),
            }
            for s in findings.stages
        ],
        "errors": [
            {
                "label": stage_name(name),
                "meaning": meanings[name],
                **pack(deviation(findings.variances[name])[kept], error),
                "typical": [number(v, 4) for v in row],
            }
            for name, row in zip(terms, typical, strict=True)
        ],
    }


def flags() -> Json:
    """Return the digits of EVENT and the bits of QUALITY with their meanings."""
    bits = [
        {"value": int(bit), "label": bit_name(bit), "meaning": BIT_WORDS.get(bit, "")}
        for bit in Quality
    ]
    digits = [
        {
            "unit": unit,
            "label": name,
            "meanings": {str(value): text for value, text in meanings.items()},
        }
        for unit, name, meanings in EVENT_DIGITS
    ]
    return {"event": digits, "quality": bits}


def deviation(variance: Any) -> FloatArray:
    """Return the square root of a variance; a negative variance counts as 0."""
    return np.sqrt(np.maximum(np.asarray(variance, dtype=np.float64), 0.0))


def middle(values: FloatArray) -> float:
    """Return the median of the positive values of a series, or 1 if there are none."""
    positive = values[np.isfinite(values) & (values > 0)]
    return float(np.median(positive)) if positive.size else 1.0


def number(value: float, digits: int = 6) -> float | None:
    """Return a number rounded to `digits` significant digits; None if it is not finite."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None
