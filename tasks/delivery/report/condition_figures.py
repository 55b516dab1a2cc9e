"""Figures of the conditions: against time and roll angle, with the flux, and contamination."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.arrays import BoolArray, FloatArray
from schemas.flags import Quality
from schemas.light_curves import RADII
from tasks.delivery.report.drawing import (
    EDGE,
    FLAGGED,
    GOOD,
    LINE,
    FigureText,
    add_panels,
    as_svg,
    clip_to_axis,
    describe_points,
    draw_quantity,
    label_x,
    new_figure,
    plot_points,
    style_panel,
    write_note,
    write_title,
)
from tasks.delivery.report.findings import Findings, Quantity
from tasks.delivery.report.noise_tables import medians
from tasks.delivery.report.series import (
    Curve,
    harmonics,
    relation,
    relative_flux,
    running_median,
    thin,
    varies,
)
from tasks.delivery.report.tables import EVENT_DIGITS, bit_name
from tasks.delivery.report.wording import format_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OVER_TIME = ("background", "smearing", "cosmics_in", "bias", "ron", "gain", "x", "y", "temperature")

CORRELATED = ("time", "roll", "x", "y", "background", "contamination", "smearing", "temperature")

_FITTED: dict[str, Any] = {
    "color": FLAGGED,
    "linewidth": 0.9,
    "linestyle": (0, (4, 1.5)),
    "zorder": 5,
}


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
    with new_figure(7.0, 1.9) as canvas:
        left, middle, right = add_panels(
            canvas,
            1,
            3,
            left=0.055,
            right=0.995,
            top=0.9,
            bottom=0.2,
            wspace=0.2,
            width_ratios=[1.0, 1.3, 1.0],
        )[0]
        write_title(left, "against radius [%]")
        _draw_over_radius(left, 100 * findings.field_light[0][points.good])
        write_title(middle, "within 25 pixels, against time [ppm]")
        draw_quantity(middle, points.hours, quantity.values, points.good, most, line=False)
        label_x(middle, "hours")
        write_title(right, "against roll angle [ppm]")
        draw_quantity(right, roll, quantity.values, points.good, most, line=False)
        label_x(right, "roll angle [deg]")
        return as_svg(canvas)


def _draw_over_radius(axes: Axes, ratio: FloatArray) -> None:
    """Draw median and scatter of the light of field stars, shape (n, radii), against radius."""
    middle = medians(ratio)
    if not np.isfinite(middle).any():
        write_note(axes, "not measured")
        return
    style_panel(axes)
    axes.errorbar(
        RADII,
        middle,
        yerr=np.nanstd(ratio, axis=0),
        fmt="o",
        color=GOOD,
        markersize=2.2,
        elinewidth=0.7,
        linestyle="none",
    )
    label_x(axes, "radius [pixel]")


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
    height = 0.92 * rows + 0.3
    with new_figure(7.0, height) as canvas:
        panels = add_panels(
            canvas,
            rows,
            2,
            left=0.09,
            right=0.995,
            top=1 - 0.2 / height,
            bottom=0.36 / height,
            hspace=0.34,
            wspace=0.06,
            width_ratios=[1.5, 1.0],
        )
        for row, ((left, right), name) in enumerate(zip(panels, OVER_TIME, strict=True)):
            quantity = findings.quantities[name]
            for axes, x in ((left, points.hours), (right, roll)):
                last = row == rows - 1
                draw_quantity(
                    axes, x, quantity.values, points.good, most, line=False, labelled=last
                )
            right.tick_params(labelleft=False)
            write_title(left, label(quantity))
        label_x(panels[-1][0], "hours")
        label_x(panels[-1][1], "roll angle [deg]")
        return as_svg(canvas)


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
    with new_figure(7.0, 6.5) as canvas:
        panels = add_panels(
            canvas, 4, 2, left=0.08, right=0.99, top=0.97, bottom=0.035, hspace=0.4, wspace=0.08
        )
        for place, (axes, name) in enumerate(zip(panels.flat, CORRELATED, strict=True)):
            quantity = findings.quantities[name]
            chosen = findings.points.good & np.isfinite(quantity.values) & np.isfinite(relative)
            x, y = quantity.values[chosen], relative[chosen]
            if len(x) < 3 or not varies(x):
                write_note(axes, "constant" if len(x) else "not measured")
                write_title(axes, label(quantity))
                continue
            _draw_flux_over(axes, x, y, most, periodic=name == "roll")
            axes.tick_params(labelleft=place % 2 == 0)
            pearson = f"r {format_number(relation(x, y).pearson, '+.2f')}"
            write_title(axes, label(quantity), pearson)
        canvas.supylabel("relative flux [ppm]", fontsize=8, x=0.004)
        return as_svg(canvas)


def _draw_flux_over(axes: Axes, x: FloatArray, y: FloatArray, most: int, *, periodic: bool) -> None:
    """Draw the flux against one quantity: points, running median and fit."""
    kept = thin(len(x), most)
    style_panel(axes)
    everything = np.ones(len(y), dtype=bool)
    height, limits = clip_to_axis(y, everything)
    plot_points(axes, x[kept], height[kept], ~everything[kept], 1.5)
    axes.plot(*running_median(x, y), color=LINE, linewidth=0.9, zorder=4)
    curve: Curve | None = harmonics(x, y) if periodic else None
    if curve is not None and np.isfinite(curve.amplitude):
        angles = np.sort(x)
        axes.plot(angles, curve.at(angles), **_FITTED)
    else:
        ends = np.array([x.min(), x.max()])
        axes.plot(ends, y.mean() + relation(x, y).slope * (ends - x.mean()), **_FITTED)
    axes.set_ylim(*limits)


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
    with new_figure(7.0, height) as canvas:
        axes = canvas.add_axes((0.245, 0.36 / height, 0.75, 1 - 0.42 / height))
        style_panel(axes)
        for row, marked in enumerate(lines.values()):
            axes.plot(
                hours[marked],
                np.full(int(marked.sum()), -row),
                "|",
                color=FLAGGED,
                markersize=7,
                markeredgewidth=0.9,
            )
        names = [f"{name} ({int(marked.sum())})" for name, marked in lines.items()]
        axes.set_yticks(-np.arange(len(lines)), names)
        axes.set_ylim(-len(lines) + 0.4, 0.6)
        last = max(float(np.nanmax(hours)) if np.isfinite(hours).any() else 1.0, 1e-3)
        axes.set_xlim(-0.01 * last, 1.01 * last)
        label_x(axes, "hours")
        return as_svg(canvas)


def describe_timeline(findings: Findings) -> FigureText:
    """Write the caption of the flags."""
    return FigureText(
        caption="Flags against time, and the number of images with each.",
        alt="Flags against time: "
        + "; ".join(f"{name} in {int(m.sum())} images" for name, m in timeline(findings).items())
        + ".",
    )
