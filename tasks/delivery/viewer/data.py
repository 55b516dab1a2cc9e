"""What the viewer shows of a visit, in little space: series as whole numbers of a decimal place, in
as few bytes as hold them.

A series is rounded to a decimal place that is far below its noise, so that the page shows and
exports the numbers of the FITS files to a stated digit, and thousands of points of all apertures
fit in less than a megabyte.
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
from schemas.light_curves import DEFAULT_RADIUS, FIXED, IMAGETTE, IMAGETTE_PSF, OPTIMAL, PSF, RADII
from schemas.payloads import MeasuredVisit, Product
from schemas.terms import TERMS
from tasks.delivery.light_curves import read_curve_metrics
from tasks.delivery.report.findings import Findings, Quantity
from tasks.delivery.report.series import thin
from tasks.delivery.report.tables import BIT_WORDS, EVENT_DIGITS, bit_name, stage_name
from tasks.visit.terms import term_column

Json = dict[str, Any]

WIDTHS = (1, 2, 3, 4, 6)  # bytes; six are exact in a double

# Steps at which series are rounded, relative to the median flux and to the median error.
FLUX_STEP, ERROR_STEP, TERM_STEP = 1e-7, 1e-2, 1e-3

TIME_STEP = 1e-8  # day, about a millisecond

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
    """Return a series as whole numbers n above `first`; a value is (first + n) / 10**digits.

    Parameters
    ----------
    values : ndarray, shape (n,)
        The series; what is no finite number comes back as none.
    step : float
        Values are rounded to the power of ten at or below it.

    Returns
    -------
    dict
        ``first``, ``digits``, ``width`` in bytes of a number, low byte first, and ``data`` in
        base64. The highest number stands for a value that is not known. A span that six bytes don't
        hold is rounded to fewer digits.
    """
    known = np.isfinite(values)
    whole, digits = whole_numbers(values[known], step)
    first = float(whole.min()) if known.any() else 0.0
    span = float(whole.max()) - first if known.any() else 0.0
    width = next(w for w in WIDTHS if span < 256.0**w - 1)
    numbers = np.full(len(values), 256.0**width - 1)
    numbers[known] = whole - first
    octets = np.ascontiguousarray(numbers.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :width])
    return {
        "first": int(first),
        "digits": digits,
        "width": width,
        "data": base64.b64encode(octets.tobytes()).decode("ascii"),
    }


def whole_numbers(values: FloatArray, step: float) -> tuple[FloatArray, int]:
    """Return finite values as whole numbers of a decimal place, and its digits: at or below `step`,
    but above what a double or the widest number hold.
    """
    if not values.size:
        return values, decimal_place(step, 0.0)
    digits = decimal_place(step, float(np.abs(values).max()))
    whole = np.rint(scaled(values, digits))
    while float(np.ptp(whole)) >= 256.0 ** WIDTHS[-1] - 1:
        digits -= 1
        whole = np.rint(scaled(values, digits))
    return whole, digits


def decimal_place(step: float, largest: float) -> int:
    """Return the digits of the decimal place at or below `step`; a double holds 15 in all."""
    digits = -math.floor(math.log10(step) + 1e-9) if step > 0 and math.isfinite(step) else 0
    return min(digits, 15, 14 - (math.floor(math.log10(largest)) if largest > 1 else 0))


def scaled(values: FloatArray, digits: int) -> FloatArray:
    """Return values in units of a decimal place; powers of ten above one are exact, so the division
    is the exact one.
    """
    return values * 10.0**digits if digits >= 0 else values / 10.0**-digits


class Curve(NamedTuple):
    """A light curve, flux and error [electron], and the radius of its aperture [pixel]."""

    flux: FloatArray
    error: FloatArray
    radius: float


@dataclass(frozen=True)
class PointSet:
    """Points that share their times, and what is shown of each."""

    label: str
    bjd: FloatArray
    event: AnyArray
    quality: AnyArray
    curves: Mapping[str, Curve]
    metrics: Mapping[str, Mapping[str, float]]
    quantities: Sequence[Quantity]


def image_points(found: Findings, measured: MeasuredVisit, most: int) -> Json:
    """Return light curves, conditions and budget of the stacked images; of more than `most` a part
    that is spread evenly.
    """
    product = measured.quality.product
    bjd, errors, *own_errors = term_column(
        product, "TERM_QUALITY", "BJD_TIME", "FLUXERR", "OPT_ERR", "FIXED_ERR", "PSF_ERR"
    )
    single = dict(zip((OPTIMAL, FIXED, PSF), own_errors, strict=True))
    points = PointSet(
        "stacked images",
        bjd,
        found.points.event,
        found.points.quality,
        {
            name: Curve(
                flux, single[name] if name in single else errors[:, RADII.index(radius)], radius
            )
            for name, (flux, radius) in found.curves.items()
            if np.isfinite(flux).any()
        },
        found.metrics,
        [q for name, q in found.quantities.items() if name != "time"],
    )
    kept = thin(found.points.count, most)
    return {**pack_points(points, kept), "budget": pack_budget(found, product, kept)}


def imagette_points(term: Product, most: int) -> Json:
    """Return light curves and conditions of the imagettes; of more than `most` a part that is
    spread evenly.
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
    return pack_points(points, thin(len(points.bjd), most))


def pack_points(points: PointSet, kept: IntArray) -> Json:
    """Return the points `kept` of a set: flux, error and radius of each curve, and conditions."""
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
    """Return the light curves by name; one that has the numbers of another one (DEFAULT is R25)
    only names it.
    """
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


def pack_budget(found: Findings, product: Product, kept: IntArray) -> Json:
    """Return what every step did to each flux, and what each error is made of.

    The stages are those of one circle about the first position, electrons; the error terms are
    standard deviations of the flux within `DEFAULT_RADIUS`, and ``typical`` is their median for
    every radius.
    """
    meanings = {c.name: c.meaning for c in TERMS["TERM_ERRORS"].columns}
    terms = [name for name in found.variances if name != "DRP"]
    typical = np.array(
        [np.nanmedian(deviation(v), axis=0) for v in term_column(product, "TERM_ERRORS", *terms)]
    )
    step = FLUX_STEP * middle(found.points.flux)
    error = TERM_STEP * middle(deviation(sum(found.variances[name] for name in terms)))
    return {
        "radius": DEFAULT_RADIUS,
        "radii": list(RADII),
        "start": pack(found.stages[0].before[kept], step),
        "stages": [
            {
                "label": stage_name(s.name),
                "meaning": s.meaning,
                **pack((s.after - s.before)[kept], step),
            }
            for s in found.stages
        ],
        "errors": [
            {
                "label": stage_name(name),
                "meaning": meanings[name],
                **pack(deviation(found.variances[name])[kept], error),
                "typical": [number(v, 4) for v in row],
            }
            for name, row in zip(terms, typical, strict=True)
        ],
    }


def flags() -> Json:
    """Return the digits of EVENT and the bits of QUALITY with what they mean."""
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
    """Return the root of a variance."""
    return np.sqrt(np.maximum(np.asarray(variance, dtype=np.float64), 0.0))


def middle(values: FloatArray) -> float:
    """Return the size of a series: the median of what is positive, or 1 where nothing is."""
    positive = values[np.isfinite(values) & (values > 0)]
    return float(np.median(positive)) if positive.size else 1.0


def number(value: float, digits: int = 6) -> float | None:
    """Return a number for JSON with some significant digits; None where it is none."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None
