"""Figures of the conditions: against time and roll angle, with the flux, and contamination."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schemas.arrays import BoolArray, FloatArray
from schemas.flags import Quality
from schemas.light_curves import Radii
from tasks.delivery.report.canvas import Canvas, Line, Panel
from tasks.delivery.report.drawing import (
    EDGE,
    FLAGGED,
    GOOD,
    LINE,
    FigureText,
    clip_to_axis,
    describe_points,
    draw_quantity,
    label_x,
    plot_points,
    style_panel,
    write_note,
    write_title,
)
from tasks.delivery.report.findings import Findings, Quantity
from tasks.delivery.report.noise_tables import medians
from tasks.delivery.report.raster import Dots
from tasks.delivery.report.series import (
    Curve,
    harmonics,
    relation,
    relative_flux,
    running_median,
    varies,
)
from tasks.delivery.report.tables import EVENT_DIGITS, bit_name
from tasks.delivery.report.wording import format_number
from tasks.numerics.sample import spread_evenly

OVER_TIME = ("background", "smearing", "cosmics_in", "bias", "ron", "gain", "x", "y", "temperature")

CORRELATED = ("time", "roll", "x", "y", "background", "contamination", "smearing", "temperature")

_FITTED = Line(FLAGGED, 0.9, (4, 1.5))


def label(quantity: Quantity) -> str:
    """Return the name and unit of a quantity."""
    return f"{quantity.label} [{quantity.unit}]" if quantity.unit else quantity.label


def list_labels(findings: Findings, names: Sequence[str]) -> str:
    """List the labels of some quantities, separated by commas."""
    return ", ".join(findings.quantities[name].label for name in names)


def draw_contamination(findings: Findings, most: int) -> bytes:
    """Draw the light of field stars against radius, time and roll angle."""
    points, quantity = findings.points, findings.quantities["contamination"]
    roll = findings.quantities["roll"].values % 360
    canvas = Canvas(7.0, 1.9)
    box = 0.055, 0.2, 0.94, 0.7
    left, middle, right = canvas.grid(1, box, (0.2, 0.0), (1.0, 1.3, 1.0))[0]
    write_title(left, "against radius [%]")
    _draw_over_radius(left, findings.radii, 100 * findings.field_light[0][points.good])
    write_title(middle, "within 25 pixels, against time [ppm]")
    draw_quantity(middle, points.hours, quantity.values, points.good, most, line=False)
    label_x(middle, "hours")
    write_title(right, "against roll angle [ppm]")
    draw_quantity(right, roll, quantity.values, points.good, most, line=False)
    label_x(right, "roll angle [deg]")
    return canvas.svg()


def _draw_over_radius(panel: Panel, radii: Radii, ratio: FloatArray) -> None:
    """Draw median and scatter of the light of field stars, shape (n, radii), against radius."""
    middle = medians(ratio)
    if not np.isfinite(middle).any():
        write_note(panel, "not measured")
        return
    style_panel(panel)
    places, spread = np.array(radii), np.nanstd(ratio, axis=0)
    panel.bars(places, middle - spread, middle + spread, Line(GOOD, 0.7))
    panel.dots(places, middle, Dots(np.isfinite(middle), "o", GOOD, 2.2))
    label_x(panel, "radius [pixel]")


def describe_contamination() -> FigureText:
    """Write the caption of the contamination."""
    return FigureText(
        caption="Light of field stars relative to that of the target: against radius (median; "
        "bars: scatter over the visit), and within 25 pixels against time and roll angle. Blue "
        "circles: good points; orange crosses: flagged points.",
        alt="Contamination against aperture radius, time and roll angle; the table lists the "
        "numbers.",
    )


def draw_conditions(findings: Findings, most: int) -> bytes:
    """Draw the quantities measured in every image against time and roll angle."""
    points, roll = findings.points, findings.quantities["roll"].values % 360
    rows = len(OVER_TIME)
    height = 0.7 * rows + 0.3
    canvas = Canvas(7.0, height)
    box = 0.09, 0.36 / height, 0.905, 1 - 0.56 / height
    panels = canvas.grid(rows, box, (0.06, 0.34), (1.5, 1.0))
    for row, ((left, right), name) in enumerate(zip(panels, OVER_TIME, strict=True)):
        quantity = findings.quantities[name]
        for panel, x in ((left, points.hours), (right, roll)):
            last = row == rows - 1
            draw_quantity(panel, x, quantity.values, points.good, most, line=False, labelled=last)
        right.y.labelled = False
        write_title(left, label(quantity))
    label_x(panels[-1][0], "hours")
    label_x(panels[-1][1], "roll angle [deg]")
    return canvas.svg()


def describe_conditions(findings: Findings) -> FigureText:
    """Write the caption of the conditions."""
    about = describe_points(findings.points)
    names = list_labels(findings, OVER_TIME)
    return FigureText(
        caption="Quantities measured in every image, against time and roll angle. Blue: good "
        f"points; orange: flagged points. {EDGE}",
        alt=f"{names} against time and roll angle {about}; the table lists mean and scatter.",
    )


def draw_correlations(findings: Findings, most: int) -> bytes:
    """Draw the flux against other quantities, with running median and fitted line."""
    relative = relative_flux(findings.points.flux, findings.points.good)
    canvas = Canvas(7.0, 6.5)
    panels = canvas.grid(4, (0.08, 0.035, 0.91, 0.935), (0.08, 0.4))
    by_row = [panel for row in panels for panel in row]
    for place, (panel, name) in enumerate(zip(by_row, CORRELATED, strict=True)):
        quantity = findings.quantities[name]
        chosen = findings.points.good & np.isfinite(quantity.values) & np.isfinite(relative)
        x, y = quantity.values[chosen], relative[chosen]
        if len(x) < 3 or not varies(x):
            write_note(panel, "constant" if len(x) else "not measured")
            write_title(panel, label(quantity))
            continue
        _draw_flux_over(panel, x, y, most, periodic=name == "roll")
        panel.y.labelled = place % 2 == 0
        pearson = f"r {format_number(relation(x, y).pearson, '+.2f')}"
        write_title(panel, label(quantity), pearson)
    canvas.label_y("relative flux [ppm]", 0.004)
    return canvas.svg()


def _draw_flux_over(
    panel: Panel, x: FloatArray, y: FloatArray, most: int, *, periodic: bool
) -> None:
    """Draw the flux against one quantity: points, running median and fit."""
    kept = spread_evenly(len(x), most)
    style_panel(panel)
    everything = np.ones(len(y), dtype=bool)
    height, limits = clip_to_axis(y, everything)
    plot_points(panel, x[kept], height[kept], ~everything[kept], 1.5)
    panel.line(*running_median(x, y), Line(LINE, 0.9), 4)
    curve: Curve | None = harmonics(x, y) if periodic else None
    if curve is not None and np.isfinite(curve.amplitude):
        angles = np.sort(x)
        panel.line(angles, curve.at(angles), _FITTED, 5)
    else:
        ends = np.array([x.min(), x.max()])
        panel.line(ends, y.mean() + relation(x, y).slope * (ends - x.mean()), _FITTED, 5)
    panel.y.limits = limits


def describe_correlations(findings: Findings) -> FigureText:
    """Write the caption of the correlations."""
    names = list_labels(findings, CORRELATED)
    return FigureText(
        caption="Relative flux of DEFAULT against quantities that may affect it, good points only. "
        "Black: medians, each over a twelfth of the points; orange, dashed: straight line, or for "
        "the roll angle a curve of three harmonics. r is Pearson's coefficient.",
        alt=f"Relative flux against {names}; the table lists coefficients and slopes.",
    )


def timeline(findings: Findings) -> dict[str, BoolArray]:
    """Return the images marked by each digit of EVENT, and by each bit of QUALITY that occurs."""
    event, quality = findings.points.event, findings.points.quality
    lines = {f"EVENT: {name}": event // place % 10 != 0 for place, name, _ in EVENT_DIGITS}
    bits = {f"QUALITY: {bit_name(bit)}": quality & int(bit) != 0 for bit in Quality}
    return {**lines, **{name: marked for name, marked in bits.items() if marked.any()}}


def draw_timeline(findings: Findings) -> bytes:
    """Draw the flags against time."""
    lines = timeline(findings)
    height = 0.17 * len(lines) + 0.45
    hours = findings.points.hours
    canvas = Canvas(7.0, height)
    panel = canvas.panel((0.245, 0.36 / height, 0.75, 1 - 0.42 / height))
    style_panel(panel)
    for row, marked in enumerate(lines.values()):
        height_of_row = np.full(len(hours), float(-row))
        panel.dots(hours, height_of_row, Dots(marked, "|", FLAGGED, 7.0, 0.9))
    panel.y.ticks = {
        float(-row): f"{name} ({int(marked.sum())})"
        for row, (name, marked) in enumerate(lines.items())
    }
    panel.y.limits = -len(lines) + 0.4, 0.6
    last = max(float(np.nanmax(hours)) if np.isfinite(hours).any() else 1.0, 1e-3)
    panel.x.limits = -0.01 * last, 1.01 * last
    label_x(panel, "hours")
    return canvas.svg()


def describe_timeline(findings: Findings) -> FigureText:
    """Write the caption of the flags."""
    return FigureText(
        caption="Flags against time, and the number of images with each.",
        alt="Flags against time: "
        + "; ".join(f"{name} in {int(m.sum())} images" for name, m in timeline(findings).items())
        + ".",
    )
