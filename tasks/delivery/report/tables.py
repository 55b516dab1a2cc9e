"""Tables after the first page: housekeeping, correlations, conditions, events and flags.

Noise, field stars and metrics have their own files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from schemas.arrays import BoolArray, FloatArray
from schemas.flags import (
    EVENT_COSMIC_RAYS,
    EVENT_EARTH,
    EVENT_MOON,
    EVENT_SAA,
    EVENT_SUN,
    EVENT_TEMPERATURE,
    Quality,
)
from schemas.payloads import Payload
from tasks.calibration.housekeeping import Parameter
from tasks.delivery.report.findings import Findings, Quantity
from tasks.delivery.report.series import harmonics, relation, relative_flux, varies
from tasks.delivery.report.wording import DASH, format_like, format_number, format_with_error

EVENT_DIGITS: tuple[tuple[int, str, Mapping[int, str]], ...] = (
    (EVENT_SAA, "SAA", {1: "in the South Atlantic Anomaly"}),
    (EVENT_TEMPERATURE, "temperature", {1: "beyond the soft limit", 2: "beyond the hard limit"}),
    (
        EVENT_EARTH,
        "Earth",
        {
            1: "stray light, or limb below the soft limit",
            2: "limb below the hard limit",
            9: "behind the Earth",
        },
    ),
    (EVENT_MOON, "Moon", {1: "angle below the soft limit", 2: "angle below the hard limit"}),
    (EVENT_SUN, "Sun", {1: "angle below the soft limit", 2: "angle below the hard limit"}),
    (
        EVENT_COSMIC_RAYS,
        "cosmic rays",
        {1: "hits on more than 1% of the aperture", 2: "hits on more than 5% of the image"},
    ),
)

BIT_WORDS = {
    Quality.SAA: "in the SAA",
    Quality.OCCULTED: "behind the Earth",
    Quality.STRAY_LIGHT: "stray light, or near the Earth's limb",
    Quality.TEMPERATURE: "a temperature is beyond its limits",
    Quality.SUN_OR_MOON: "too close to the Sun or Moon",
    Quality.COSMIC_RAYS: "many cosmic rays",
    Quality.UNUSABLE_IMAGE: "corrupt, empty or saturated image, or no star in it",
    Quality.LOST_PIXELS: "some pixels are lost or impossible",
    Quality.SATURATED: "pixels of the star are saturated",
    Quality.APERTURE: "part of the aperture R25 is missing or modelled",
    Quality.DUPLICATE_TIME: "same time as another image",
    Quality.HOUSEKEEPING: "a voltage or temperature is missing or was replaced",
    Quality.POINTING: "no attitude, or the star is far from its expected position",
    Quality.BACKGROUND: "background spike",
    Quality.MARGIN: "bias could not be measured in the margins",
    Quality.CENTROID: "position could not be measured",
    Quality.NO_STACK: "no stacked image contains the imagette; conditions are those of the nearest",
    Quality.GRADIENT: "background much brighter on one side",
}


class Table(Payload):
    """A table of texts: columns of `numbers` are aligned to the right; `note` explains it."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[bool, ...]
    note: str = ""


def stage_name(name: str) -> str:
    """Return the name of a stage in figures and tables."""
    names = {
        "STATIC": "hot pixels",
        "TELEGRAPHIC": "telegraphic pixels",
        "DEAD": "dead pixels",
        "FLAT": "flat field",
    }
    return names.get(name, name.lower().replace("_", " "))


def housekeeping_table(findings: Findings) -> Table:
    """Tabulate the ranges and limits of voltages and temperatures, and the images beyond them."""
    rows = tuple(parameter_row(parameter) for parameter in findings.housekeeping)
    beyond = [p.name for p in findings.housekeeping if p.beyond != (0, 0)]
    verdict = f"Out of limits: {', '.join(beyond)}." if beyond else "All are within their limits."
    limited = any(p.limited for p in findings.housekeeping)
    note = (
        f"{verdict if limited else 'No limits are available.'} The temperature digit of EVENT "
        "depends on HK_TEMP_FEE_CCD, _BIAS and _ADC only."
    )
    head = (
        "parameter",
        "unit",
        "minimum",
        "median",
        "maximum",
        "soft limits",
        "hard limits",
        "beyond soft",
        "beyond hard",
        "missing",
    )
    return Table(head=head, rows=rows, numbers=(False, False, *[True] * 8), note=note)


def parameter_row(parameter: Parameter) -> tuple[str, ...]:
    """Return range and limits of a voltage or temperature, and the number of images beyond.

    Decimals go down to a hundredth of the range between the soft limits; without limits, of the
    range of the values.
    """
    soft = parameter.upper[0] - parameter.lower[0] if parameter.limited else 0.0
    spread = max(parameter.largest - parameter.least, soft)
    ends = (
        format_like(value, spread)
        for value in (parameter.least, parameter.median, parameter.largest)
    )
    bounds = (
        f"{format_number(low)} to {format_number(high)}"
        for low, high in zip(parameter.lower, parameter.upper, strict=True)
    )
    limits = (*bounds, *map(str, parameter.beyond)) if parameter.limited else (DASH,) * 4
    return (parameter.name, parameter.unit, *ends, *limits, str(parameter.missing))


def correlations_table(findings: Findings, names: Sequence[str]) -> Table:
    """Tabulate the correlation of the flux with other quantities."""
    relative = relative_flux(findings.points.flux, findings.points.good)
    good = findings.points.good & np.isfinite(relative)
    rows = tuple(correlation_row(findings.quantities[name], relative, good) for name in names)
    head = ("quantity", "range", "", "Pearson", "Spearman", "slope", "")
    note = (
        "Correlation coefficients of the relative DEFAULT flux with each quantity, and the slope "
        "of a straight line with its error, from unflagged points; for the roll angle, half the "
        "range of a curve of three harmonics. Transits and slow changes of the star contribute; "
        "in a short visit roll angle and time cannot be separated."
    )
    numbers = (False, True, False, True, True, True, False)
    return Table(head=head, rows=rows, numbers=numbers, note=note)


def correlation_row(quantity: Quantity, relative: FloatArray, good: BoolArray) -> tuple[str, ...]:
    """Correlate the relative flux with a quantity: harmonics of the roll angle, or else a line."""
    chosen = good & np.isfinite(quantity.values)
    x, y = quantity.values[chosen], relative[chosen]
    line = relation(x, y)
    slope = format_with_error(line.slope, line.slope_error)
    unit = f"ppm per {quantity.unit}" if math.isfinite(line.slope) and quantity.unit else ""
    if quantity.name == "roll":
        curve = harmonics(x, y)
        slope = format_with_error(curve.amplitude, curve.error)
        unit = "ppm semi-amplitude" if math.isfinite(curve.amplitude) else ""
    pearson, spearman = (format_number(r, "+.2f") for r in (line.pearson, line.spearman))
    return (quantity.label, _range(x), quantity.unit, pearson, spearman, slope, unit)


def _range(values: FloatArray) -> str:
    if not values.size:
        return "not measured"
    if not varies(values):
        return f"{format_number(values[0])}, constant"
    return f"{format_number(values.min())} to {format_number(values.max())}"


def conditions_table(findings: Findings, names: Sequence[str]) -> Table:
    """Tabulate mean, scatter and range of the quantities measured in every image."""
    quantities = [findings.quantities[name] for name in names]
    rows = tuple((q.label, q.unit, *_moments(q, findings.points.good)) for q in quantities)
    note = "Unflagged images; x and y are the columns CENTROID_X and CENTROID_Y."
    head = ("quantity", "unit", "mean", "standard deviation", "minimum", "maximum")
    return Table(head=head, rows=rows, numbers=(False, False, *[True] * 4), note=note)


def _moments(quantity: Quantity, good: BoolArray) -> tuple[str, str, str, str]:
    values: FloatArray = quantity.values[good & np.isfinite(quantity.values)]
    if not values.size:
        return DASH, DASH, DASH, DASH
    spread = float(values.std()) if varies(values) else 0.0
    mean, least, largest = (
        format_like(float(v), spread) for v in (values.mean(), values.min(), values.max())
    )
    return mean, format_number(spread, ".3g") if spread else "0", least, largest


def events_table(findings: Findings) -> Table:
    """Tabulate the codes of EVENT and the number of images with each."""
    event = findings.points.event
    rows = []
    for position, (place, name, values) in enumerate(EVENT_DIGITS):
        digits = event // place % 10
        for digit, meaning in values.items():
            images = int((digits == digit).sum())
            rows.append((str(position), name, str(digit * place), str(images), meaning))
    head = ("digit", "condition", "value", "images", "meaning")
    note = (
        "EVENT is the sum of these values; digits are counted from the right. "
        f"{int((event == 0).sum())} of {len(event)} images have 0, which means no event. STATUS is "
        "1 where EVENT is not 0."
    )
    return Table(head=head, rows=tuple(rows), numbers=(True, False, True, True, False), note=note)


def bit_name(bit: Quality) -> str:
    """Return the name of a bit of QUALITY in figures and tables."""
    return "SAA" if bit is Quality.SAA else str(bit.name).lower().replace("_", " ")


def quality_table(findings: Findings) -> Table:
    """Tabulate the bits of QUALITY and the number of images with each."""
    quality = findings.points.quality
    rows = []
    for bit in Quality:
        raised = int((quality & int(bit) != 0).sum())
        rows.append((str(int(bit)), bit_name(bit), str(raised), BIT_WORDS.get(bit, "")))
    note = f"QUALITY is the sum; {int((quality == 0).sum())} of {len(quality)} images have 0."
    return Table(
        head=("bit", "name", "images", "meaning"),
        rows=tuple(rows),
        numbers=(True, False, True, False),
        note=note,
    )
