"""The light curve of the first page, and its caption."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from schemas.arrays import BoolArray, FloatArray
from schemas.light_curves import DEFAULT_RADIUS
from schemas.words import counted
from tasks.delivery.report.canvas import Canvas, Line, Panel
from tasks.delivery.report.drawing import FLAGGED, GOOD, LINE, FigureText
from tasks.delivery.report.raster import Dots
from tasks.delivery.report.series import Points, bin_medians, to_scale
from tasks.delivery.report.wording import format_number
from tasks.numerics.sample import spread_evenly

BIN_HOURS = 0.25

_NORMALISED_ABOVE = 2e5  # ppm; wider panel are labelled in units of the median flux


class Scale(NamedTuple):
    """The flux axis: its limits [ppm] and its unit."""

    low: float
    high: float

    @property
    def wide(self) -> bool:
        """Whether the unit is the median flux rather than ppm of it."""
        return self.high - self.low > _NORMALISED_ABOVE

    def convert(self, ppm: FloatArray) -> FloatArray:
        """Convert values to the unit of the axis."""
        return 1.0 + 1e-6 * ppm if self.wide else ppm


def draw_light_curve(points: Points, most: int) -> bytes:
    """Draw the light curve as SVG; the same points give the same bytes.

    Parameters
    ----------
    points : Points
        The light curve.
    most : int
        Largest number of points to draw; a longer light curve is sampled evenly.

    Returns
    -------
    bytes
        Good points as blue circles, flagged ones as orange crosses, points beyond the axis as
        triangles at its edge; a line through the medians of good points in bins of 15 min. Text
        stays text, to be set in the typeface of the page.
    """
    relative, low, high = to_scale(points)
    scale = Scale(low, high)
    drawn = np.zeros(points.count, dtype=bool)
    drawn[spread_evenly(points.count, most)] = True
    drawn &= np.isfinite(relative) & np.isfinite(points.hours)
    times, medians = bin_medians(points.hours[points.good], relative[points.good], BIN_HOURS)
    canvas = Canvas(7.0, 2.95)
    panel = canvas.panel((0.085, 0.14, 0.91, 0.85))
    panel.open, panel.grid, panel.size, panel.y.most = True, "y", 8.5, 8
    _draw_points(panel, points, drawn, relative, scale)
    panel.line(times, scale.convert(medians), Line(LINE, 1.1), 4)
    low, high = scale.convert(np.array(scale)).tolist()
    panel.y.limits = low, high
    panel.text(0.5, -0.1, "hours since mid-time of the first image", 8.5, align=("center", "top"))
    canvas.label_y("relative flux" if scale.wide else "relative flux [ppm]", 0.006, 0.575, 8.5)
    if not drawn.any():
        panel.text(0.5, 0.5, "no point has a flux", 12, align=("center", "center"))
    return canvas.svg()


def _draw_points(
    panel: Panel, points: Points, drawn: BoolArray, relative: FloatArray, scale: Scale
) -> None:
    """Draw flagged and good points; those beyond the axis are triangles at its edge."""
    size = float(np.interp(np.log10(max(drawn.sum(), 1)), [2, 4.3], [3.2, 1.2]))
    low, high = scale
    inset = 0.015 * (high - low)
    height = scale.convert(np.clip(relative, low + inset, high - inset))
    kinds = (
        (drawn & ~points.good, "x", FLAGGED, 0.7),
        (drawn & points.good, "o", GOOD, 0.0),
    )
    for chosen, shape, colour, edge in kinds:
        above, below = chosen & (relative > high), chosen & (relative < low)
        for which, marker in ((chosen & ~above & ~below, shape), (above, "^"), (below, "v")):
            panel.dots(points.hours, height, Dots(which, marker, colour, size, edge))


def describe_light_curve(points: Points, start: str, most: int) -> FigureText:
    """Write the caption of the light curve and its alternative text."""
    good, flagged = int(points.good.sum()), int((~points.good).sum())
    relative, low, high = to_scale(points)
    parts = [
        f"Light curve DEFAULT, aperture radius {DEFAULT_RADIUS:g} pixels; first image at {start}."
    ]
    parts.append(f"Blue circles: {counted(good, 'good point')}.")
    if flagged:
        parts.append(f"Orange crosses: {counted(flagged, 'flagged point')}.")
    if beyond := int(((relative < low) | (relative > high)).sum()):
        parts.append(f"Triangles: {counted(beyond, 'point')} beyond the axis.")
    if lost := int((~np.isfinite(relative)).sum()):
        parts.append(f"Not drawn: {counted(lost, 'point')} without a flux.")
    if good:
        parts.append(f"Line: medians over {60 * BIN_HOURS:g} min.")
    if points.count > most:
        parts.append(f"{most} of {points.count} points are drawn, evenly spaced.")
    kinds = f"{counted(good, 'good point')}, {counted(flagged, 'flagged point')}"
    alt = f"Relative flux against time over {points.duration:.1f} hours: {kinds}."
    if good:
        inner = relative[points.good]
        least, largest = (format_number(float(v), ".0f") for v in (inner.min(), inner.max()))
        alt += f" Good points lie between {least} and {largest} ppm of their median."
    return FigureText(caption=" ".join(parts), alt=alt)
