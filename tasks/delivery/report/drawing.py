"""Building blocks of the report's figures.

Figures are SVG with text left as text, to be set in the typeface of the page. The same numbers give
the same bytes. Images, and large numbers of points, are embedded as PNG.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.arrays import BoolArray, FloatArray
from schemas.payloads import Payload
from tasks.delivery.report.series import Points, axis_limits, bin_medians, thin, varies
from tasks.delivery.report.wording import format_value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito: distinguishable with any kind of colour vision
GOOD, FLAGGED, THIRD = "#0072B2", "#D55E00", "#009E73"

LINE, QUIET = "#1a1a1a", "#8a9097"

_NOTE = "#555b61"

FEW = 60  # points; fewer are drawn larger

COLOURS = "Blue: good points; orange: flagged points; black: medians over 15 min."

EDGE = "Points beyond an axis are drawn at its edge."

_DRAWN_WITH, _TYPESET_WITH = "STIXGeneral", "'Libertinus Serif', 'STIXGeneral', serif"

VECTOR_UP_TO = 400  # points of a small panel; more are drawn as pixels

_DPI = 220

_SETTINGS: Any = {  # its stubs want a literal type of every key
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


class FigureText(Payload):
    """The caption of a figure and its alternative text."""

    caption: str
    alt: str


def describe_points(points: Points) -> str:
    """Summarise the points of a figure for its alternative text."""
    flagged = int((~points.good).sum())
    return f"over {points.duration:.1f} hours, {points.count} images, {flagged} flagged"


@contextmanager
def plain_matplotlib() -> Iterator[Any]:
    """Provide matplotlib's own settings, whatever the user's files and variables say.

    Its import reads `matplotlibrc` of the user, and the backend of MPLBACKEND, which a notebook
    sets to one that need not exist here.
    """
    import logging
    from importlib.util import find_spec

    # the warning that its cache folder is read-only does not concern the user
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    found = find_spec("matplotlib")
    assert found is not None
    assert found.origin is not None
    own = str(Path(found.origin).parent / "mpl-data" / "matplotlibrc")
    theirs = {name: os.environ.get(name) for name in ("MPLBACKEND", "MATPLOTLIBRC")}
    os.environ |= {"MPLBACKEND": "Agg", "MATPLOTLIBRC": own}
    try:
        import matplotlib
    finally:
        for name, value in theirs.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield matplotlib.rcParams


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """Provide an empty figure of a size in inches, independent of the user's settings."""
    with plain_matplotlib() as settings:
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        settings.update(_SETTINGS)
        canvas = Figure(figsize=(width, height))
        FigureCanvasSVG(canvas)
        yield canvas


def as_svg(canvas: Figure) -> bytes:
    """Save a figure as SVG."""
    stream = io.BytesIO()
    canvas.savefig(stream, format="svg", dpi=_DPI, metadata={"Date": None, "Creator": None})
    return stream.getvalue().replace(f"'{_DRAWN_WITH}'".encode(), _TYPESET_WITH.encode())


def style_panel(axes: Axes, size: float = 7.0, *, ticks: int = 4) -> None:
    """Style one panel of many: small type, few ticks, no frame at the top and right."""
    from matplotlib.ticker import MaxNLocator

    axes.tick_params(labelsize=size, length=2, pad=1.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e9ebee", linewidth=0.4)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(ticks))


def write_title(axes: Axes, text: str, right: str = "", size: float = 7.5) -> None:
    """Write the title of a panel above its left corner, and a number above its right corner."""
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
        color=_NOTE,
    )


def plot_points(
    axes: Axes, x: FloatArray, y: FloatArray, flagged: BoolArray, size: float = 1.8
) -> None:
    """Plot good points as blue circles and flagged points as orange crosses."""
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


def write_note(axes: Axes, text: str) -> None:
    """Write in an empty panel why it is empty."""
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
        color=_NOTE,
    )


def add_panels(canvas: Figure, rows: int, columns: int, **places: Any) -> Any:
    """Add a grid of panels and return its axes, shape (rows, columns).

    `places` are margins, gaps and ratios.
    """
    return canvas.subplots(rows, columns, squeeze=False, gridspec_kw=places)


def label_x(axes: Axes, text: str) -> None:
    """Label the horizontal axis of a panel."""
    axes.set_xlabel(text, fontsize=7.5, labelpad=1)


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
    axes: Axes,
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
        write_note(axes, "not measured")
        return
    if not varies(y[measured]):
        write_note(axes, f"constant: {format_value(float(y[measured][0]))}")
        return
    style_panel(axes)
    if not labelled:
        axes.set_xticks([])  # a tick takes a millisecond to make
    height, limits = clip_to_axis(y, good)
    kept = np.flatnonzero(measured)
    kept = kept[thin(len(kept), most)]
    plot_points(axes, x[kept], height[kept], ~good[kept], 1.8 if len(kept) > FEW else 2.8)
    if line:
        chosen = good & measured
        times, medians = bin_medians(x[chosen], y[chosen], 0.25)
        axes.plot(times, np.clip(medians, *limits), color=LINE, linewidth=0.7, zorder=4)
    axes.set_ylim(*limits)
    spread = 0.02 * float(np.ptp(x[measured])) or 0.5
    axes.set_xlim(float(x[measured].min()) - spread, float(x[measured].max()) + spread)
