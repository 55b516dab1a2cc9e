"""The hand that draws the report's figures, and the light curve of the first page.

All are SVG whose letters stay text, to be set in the page's own typeface, and have the same bytes
for the same numbers. Images, and points where they are many, lie in the SVG as PNG.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from schemas.arrays import BoolArray, FloatArray
from schemas.light_curves import DEFAULT_RADIUS
from schemas.payloads import Payload
from tasks.delivery.report.series import Points, bin_medians, thin, to_scale
from tasks.delivery.report.verdict import counted

BIN_HOURS = 0.25

GOOD, FLAGGED, LINE = (
    "#0072B2",
    "#D55E00",
    "#1a1a1a",
)  # Okabe & Ito: apart for every kind of colour vision

THIRD, QUIET = "#009E73", "#8a9097"

_NORMALISED_ABOVE = 2e5  # ppm; wider axes are labelled in units of the median flux

_DRAWN_WITH, _TYPESET_WITH = "STIXGeneral", "'Libertinus Serif', 'STIXGeneral', serif"

VECTOR_UP_TO = 400  # points of a small panel; more are drawn as pixels

_DPI = 220


class Figure(Payload):
    """What stands beside a figure, and in place of it for those who don't see it."""

    caption: str
    alt: str


@contextmanager
def drawing(width: float, height: float) -> Iterator[Any]:
    """Give an empty figure of that size [inch], drawn under the report's own settings whatever the
    user's are.
    """
    import logging

    logging.getLogger("matplotlib").setLevel(
        logging.ERROR
    )  # a home that cannot be written to is no concern of the user
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "svg.hashsalt": "drp",
                "svg.fonttype": "none",
                "text.parse_math": False,
                "font.family": _DRAWN_WITH,
                "font.size": 8.5,
                "axes.linewidth": 0.5,
                "axes.edgecolor": "#5a5a5a",
                "xtick.major.width": 0.5,
                "ytick.major.width": 0.5,
                "axes.formatter.useoffset": False,
                "axes.formatter.limits": (-7, 9),
                "path.simplify": False,
            }
        )
        canvas = Canvas(figsize=(width, height))
        FigureCanvasSVG(canvas)
        yield canvas


def svg(canvas: Any) -> bytes:
    """Return a figure as SVG."""
    stream = io.BytesIO()
    canvas.savefig(stream, format="svg", dpi=_DPI, metadata={"Date": None, "Creator": None})
    return stream.getvalue().replace(f"'{_DRAWN_WITH}'".encode(), _TYPESET_WITH.encode())


def small(axes: Any, size: float = 7.0, *, ticks: int = 4) -> None:
    """Give a panel among many the looks of one: small letters, few ticks, open to the top and the
    right.
    """
    from matplotlib.ticker import MaxNLocator

    axes.tick_params(labelsize=size, length=2, pad=1.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e9ebee", linewidth=0.4)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(ticks))


def title(axes: Any, text: str, right: str = "", size: float = 7.5) -> None:
    """Write what a panel shows above its left corner, and a number above its right one."""
    axes.text(
        0.0, 1.03, text, transform=axes.transAxes, ha="left", va="bottom", fontsize=size, color=LINE
    )
    axes.text(
        1.0,
        1.03,
        right,
        transform=axes.transAxes,
        ha="right",
        va="bottom",
        fontsize=size - 0.5,
        color="#555b61",
    )


def dots(axes: Any, x: FloatArray, y: FloatArray, flagged: BoolArray, size: float = 1.8) -> None:
    """Draw points: good ones as blue circles, flagged ones as orange crosses."""
    as_pixels = len(x) > VECTOR_UP_TO
    for which, marker, colour, edge in ((flagged, "x", FLAGGED, 0.5), (~flagged, "o", GOOD, 0.0)):
        axes.plot(
            x[which],
            y[which],
            marker,
            color=colour,
            markersize=size,
            markeredgewidth=edge,
            linestyle="none",
            rasterized=as_pixels,
            clip_on=not as_pixels or None,
        )


def nothing(axes: Any, text: str) -> None:
    """Say in an empty panel why it is."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(
        0.5,
        0.5,
        text,
        transform=axes.transAxes,
        ha="center",
        va="center",
        fontsize=7.5,
        color="#555b61",
    )


def draw_light_curve(points: Points, most: int) -> bytes:
    """Return the light curve as SVG, the same bytes for the same points.

    Parameters
    ----------
    points : Points
        The light curve.
    most : int
        Largest number of points to draw; of more, evenly spread ones are taken.

    Returns
    -------
    bytes
        Good points as blue circles, flagged ones as orange crosses, those beyond the axis as
        triangles at its edge; a line of the medians of good points in bins of 15 min. Letters stay
        text, to be set in the page's own typeface.
    """
    relative, low, high = to_scale(points)
    drawn = np.zeros(points.count, dtype=bool)
    drawn[thin(points.count, most)] = True
    drawn &= np.isfinite(relative) & np.isfinite(points.hours)
    good, flagged = drawn & points.good, drawn & ~points.good
    times, medians = bin_medians(points.hours[points.good], relative[points.good], BIN_HOURS)
    size = float(np.interp(np.log10(max(drawn.sum(), 1)), [2, 4.3], [3.2, 1.2]))
    with drawing(7.0, 2.95) as canvas:
        axes = canvas.add_axes((0.085, 0.14, 0.91, 0.85))
        axes.yaxis.set_label_coords(0.022, 0.575, transform=canvas.transFigure)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e3e5e8", linewidth=0.5)
        axes.set_axisbelow(True)
        wide = high - low > _NORMALISED_ABOVE
        scale, zero = (1e-6, 1.0) if wide else (1.0, 0.0)
        for chosen, shape, colour, edge in ((flagged, "x", FLAGGED, 0.7), (good, "o", GOOD, 0.0)):
            above, below = chosen & (relative > high), chosen & (relative < low)
            inset = 0.015 * (high - low)
            height = zero + scale * np.clip(relative, low + inset, high - inset)
            for which, marker, extent in (
                (chosen & ~above & ~below, shape, size),
                (above, "^", size),
                (below, "v", size),
            ):
                axes.plot(
                    points.hours[which],
                    height[which],
                    marker,
                    markersize=extent,
                    color=colour,
                    markeredgewidth=edge,
                    linestyle="none",
                    clip_on=False,
                )
        axes.plot(times, zero + scale * medians, color=LINE, linewidth=1.1, zorder=4)
        axes.set_ylim(zero + scale * low, zero + scale * high)
        axes.set_xlabel("hours since the middle of the first image")
        axes.set_ylabel("relative flux" if wide else "relative flux [ppm]")
        if not drawn.any():
            axes.text(
                0.5,
                0.5,
                "no point has a flux",
                transform=axes.transAxes,
                ha="center",
                va="center",
                fontsize=12,
            )
        return svg(canvas)


def describe_light_curve(points: Points, start: str, most: int) -> Figure:
    """Return what is said beside the light curve, and in place of it to those who don't see it."""
    good, flagged = int(points.good.sum()), int((~points.good).sum())
    relative, low, high = to_scale(points)
    parts = [
        f"Light curve DEFAULT, aperture of {DEFAULT_RADIUS:g} pixels; the first image was "
        f"taken at {start}."
    ]
    parts.append(f"Blue circles: {counted(good, 'good ')}.")
    if flagged:
        parts.append(f"Orange crosses: {counted(flagged, 'flagged ')}.")
    if beyond := int(((relative < low) | (relative > high)).sum()):
        parts.append(f"Triangles: {counted(beyond)} beyond the edge.")
    if lost := int((~np.isfinite(relative)).sum()):
        parts.append(f"Not drawn: {counted(lost)} without a flux.")
    if good:
        parts.append(f"Line: medians of {60 * BIN_HOURS:g} min.")
    if points.count > most:
        parts.append(f"{most} of {points.count} points, evenly spread, are drawn.")
    kinds = f"{counted(good, 'good ')}, {counted(flagged, 'flagged ')}"
    alt = f"Relative flux against time over {points.duration:.1f} hours: {kinds}."
    if good:
        inner = relative[points.good]
        alt += (
            f" Good points lie between {inner.min():.0f} and {inner.max():.0f} ppm of their median."
        )
    return Figure(caption=" ".join(parts), alt=alt)
