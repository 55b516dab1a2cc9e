"""Building blocks of the report's figures: styles, titles, notes, one quantity against another.

Figures are SVG with text left as text, to be set in the typeface of the page. Images, and large
numbers of points, are embedded as PNG.
"""

from __future__ import annotations

import numpy as np

from schemas.arrays import BoolArray, FloatArray
from schemas.payloads import Payload
from tasks.delivery.report.canvas import Line, Panel
from tasks.delivery.report.raster import Dots
from tasks.delivery.report.series import Points, axis_limits, bin_medians, varies
from tasks.delivery.report.wording import format_value
from tasks.numerics.sample import spread_evenly

# Okabe & Ito: distinguishable with any kind of colour vision
GOOD, FLAGGED, THIRD = "#0072B2", "#D55E00", "#009E73"

LINE, QUIET = "#1a1a1a", "#8a9097"

_NOTE = "#555b61"

FEW = 60  # points; fewer are drawn larger

COLOURS = "Blue: good points; orange: flagged points; black: medians over 15 min."

EDGE = "Points beyond an axis are drawn at its edge."

VECTOR_UP_TO = 400  # points of a small panel; more are drawn as pixels


class FigureText(Payload):
    """The caption of a figure and its alternative text."""

    caption: str
    alt: str


def describe_points(points: Points) -> str:
    """Summarise the points of a figure for its alternative text."""
    flagged = int((~points.good).sum())
    return f"over {points.duration:.1f} hours, {points.count} images, {flagged} flagged"


def style_panel(panel: Panel, size: float = 7.0, *, ticks: int = 4) -> None:
    """Style one panel of many: small type, few ticks, no frame at the top and right."""
    panel.open, panel.grid, panel.size, panel.y.most = True, "xy", size, ticks


def write_title(panel: Panel, text: str, right: str = "", size: float = 7.5) -> None:
    """Write the title of a panel above its left corner, and a number above its right corner."""
    panel.text(0.0, 1.03, text, size, LINE, ("left", "bottom"))
    if right:
        panel.text(1.0, 1.03, right, size - 0.5, _NOTE, ("right", "bottom"))


def plot_points(
    panel: Panel, x: FloatArray, y: FloatArray, flagged: BoolArray, size: float = 1.8
) -> None:
    """Plot good points as blue circles and flagged points as orange crosses."""
    styles = Dots(flagged, "x", FLAGGED, size, 0.5), Dots(~flagged, "o", GOOD, size)
    panel.dots(x, y, *styles, as_pixels=len(x) > VECTOR_UP_TO)


def write_note(panel: Panel, text: str) -> None:
    """Write in an empty panel why it is empty."""
    panel.x.ticks, panel.y.ticks = {}, {}
    panel.text(0.5, 0.5, text, 7.5, _NOTE, ("center", "center"))


def label_x(panel: Panel, text: str) -> None:
    """Label the horizontal axis of a panel."""
    below = (6.0 + panel.size) / panel.height
    panel.text(0.5, -below, text, 7.5, LINE, ("center", "top"))


def clip_to_axis(values: FloatArray, good: BoolArray) -> tuple[FloatArray, tuple[float, float]]:
    """Choose an axis that suits the good values, and clip all values to its edges."""
    chosen = values[good & np.isfinite(values)]
    chosen = chosen if chosen.size else values[np.isfinite(values)]
    low, high = axis_limits(chosen)
    if chosen.size and not varies(chosen):
        value = float(chosen[0])
        half = max(abs(value) * 0.01, 0.5)
        low, high = value - half, value + half
    inset = 0.02 * (high - low)
    return np.clip(values, low + inset, high - inset), (low, high)


def draw_quantity(
    panel: Panel,
    x: FloatArray,
    y: FloatArray,
    good: BoolArray,
    most: int,
    *,
    line: bool = True,
    labelled: bool = True,
) -> None:
    """Draw one quantity against another in a small panel, at most `most` points of it."""
    measured = np.isfinite(x) & np.isfinite(y)
    if not measured.any():
        write_note(panel, "not measured")
        return
    if not varies(y[measured]):
        write_note(panel, f"constant: {format_value(float(y[measured][0]))}")
        return
    style_panel(panel)
    if not labelled:
        panel.x.ticks = {}
    height, limits = clip_to_axis(y, good)
    kept = np.flatnonzero(measured)
    kept = kept[spread_evenly(len(kept), most)]
    plot_points(panel, x[kept], height[kept], ~good[kept], 1.8 if len(kept) > FEW else 2.8)
    if line:
        chosen = good & measured
        times, medians = bin_medians(x[chosen], y[chosen], 0.25)
        panel.line(times, np.clip(medians, *limits), Line(LINE, 0.7), 4)
    panel.y.limits = limits
    spread = 0.02 * float(np.ptp(x[measured])) or 0.5
    panel.x.limits = float(x[measured].min()) - spread, float(x[measured].max()) + spread
