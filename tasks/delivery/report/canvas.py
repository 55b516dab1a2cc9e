"""A canvas for the report's figures: panels with axes, lines, points, images and text, as SVG.

A plotting package takes seconds for the report's hundred panels. Lengths are points (1/72 inch)
with y downwards, sizes of type too; text stays text. The same numbers give the same bytes.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from xml.sax.saxutils import escape

import numpy as np

from schemas.arrays import FloatArray
from tasks.delivery.report.raster import Dots, coloured_png, draw_dots

FONT = "'Libertinus Serif', 'STIXGeneral', serif"

TEXT, FRAME, GRID = "#1a1a1a", "#5a5a5a", "#e9ebee"

MARGIN = 0.05  # of the range of the values, beyond them

# heights of the middle of a line and of its top above the baseline, in units of the size
_BELOW = {"top": 0.75, "center": 0.33, "bottom": -0.2, "baseline": 0.0}

_ANCHORS = {"left": "start", "center": "middle", "right": "end"}

Box = tuple[float, float, float, float]  # left, bottom, width, height, as fractions of the canvas


class Line(NamedTuple):
    """The style of a line: colour, width, and lengths of dashes and gaps in units of the width."""

    colour: str = TEXT
    width: float = 0.7
    dashes: tuple[float, ...] = ()

    @property
    def style(self) -> str:
        """The attributes of a path."""
        dashes = " ".join(f"{d * self.width:.2f}" for d in self.dashes)
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        return f'fill="none" stroke="{self.colour}" stroke-width="{self.width:g}"{dashed}'


def text_at(
    x: float,
    y: float,
    text: str,
    size: float = 8.5,
    colour: str = TEXT,
    align: tuple[str, str] = ("left", "baseline"),
    turned: bool = False,
) -> str:
    """Return a text; `align` is which part of it lies at the place."""
    across, height = align
    shift = _BELOW[height] * size
    place = f'x="{x:.2f}" y="{y + shift:.2f}"'
    if turned:
        place = f'transform="translate({x + shift:.2f} {y:.2f}) rotate(-90)"'
    return (
        f'<text {place} font-size="{size:g}" fill="{colour}" text-anchor="{_ANCHORS[across]}">'
        f"{escape(text)}</text>"
    )


def path_of(x: FloatArray, y: FloatArray) -> str:
    """Return a path through points; those that are NaN break it."""
    parts, pen = [], "M"
    for px, py in zip(x.tolist(), y.tolist(), strict=True):
        if math.isfinite(px) and math.isfinite(py):
            parts.append(f"{pen}{px:.2f} {py:.2f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(parts)


def image_at(x: float, y: float, size: tuple[float, float], png: bytes) -> str:
    """Return an embedded image by its upper left corner, width and height."""
    data = base64.b64encode(png).decode()
    return (
        f'<image x="{x:.2f}" y="{y:.2f}" width="{size[0]:.2f}" height="{size[1]:.2f}" '
        f'preserveAspectRatio="none" image-rendering="optimizeSpeed" '
        f'xlink:href="data:image/png;base64,{data}"/>'
    )


def nice_ticks(low: float, high: float, most: int) -> list[float]:
    """Return round numbers between two limits, at most `most` steps apart."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return []
    size = 10.0 ** math.floor(math.log10(span / most))
    step = next(s * size for s in (1.0, 2.0, 2.5, 5.0, 10.0, 20.0) if span / (s * size) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 of each decade between two limits."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{digit}e{k}") for k in decades for digit in (1, 2, 5)]
    return [t for t in ticks if low <= t <= high]


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Write ticks with as many decimals as their steps need."""
    if len(ticks) < 2:
        return [f"{t:g}".replace("-", "\N{MINUS SIGN}") for t in ticks]
    step, largest = ticks[1] - ticks[0], max(abs(t) for t in ticks)
    decimals = next((d for d in range(8) if abs(step - round(step, d)) < 1e-6 * step), 8)
    style = f".{decimals}f" if largest < 1e9 and decimals < 8 else ".6g"
    texts = (f"{t + 0.0 if abs(t) > 1e-9 * step else 0.0:{style}}" for t in ticks)
    return [t.replace("-", "\N{MINUS SIGN}") for t in texts]


@dataclass
class Axis:
    """One axis of a panel: the range of its values, its limits, ticks and their labels."""

    low: float = math.inf
    high: float = -math.inf
    limits: tuple[float, float] | None = None
    logarithmic: bool = False
    most: int = 6  # steps between ticks
    ticks: dict[float, str] | None = None
    labelled: bool = True

    def include(self, values: FloatArray) -> None:
        """Extend the range to some values."""
        good = values[np.isfinite(values) & ((values > 0) | (not self.logarithmic))]
        if good.size:
            self.low, self.high = min(self.low, good.min()), max(self.high, good.max())

    def scaled(self, values: FloatArray) -> FloatArray:
        """Return values, or their logarithms."""
        if not self.logarithmic:
            return values
        return np.log(np.where(values > 0, values, np.nan))

    def ends(self) -> tuple[float, float]:
        """Return the limits: those that were set, or the range with a margin."""
        if self.limits is not None:
            return self.limits
        low, high = (self.low, self.high) if self.low <= self.high else (0.0, 1.0)
        if self.logarithmic:
            if not low > 0:
                return 1.0, 10.0
            room = (high / low) ** MARGIN if high > low else 2.0
            return low / room, high * room
        room = MARGIN * (high - low) or max(abs(low) * MARGIN, 0.5)
        return low - room, high + room

    def fractions(self, values: FloatArray) -> FloatArray:
        """Return where values lie between the limits, from 0 to 1."""
        low, high = self.scaled(np.array(self.ends()))
        return np.asarray((self.scaled(values) - low) / ((high - low) or 1.0))

    def marks(self) -> dict[float, str]:
        """Return the ticks with their labels."""
        if self.ticks is not None:
            return self.ticks
        low, high = self.ends()
        if self.logarithmic:
            return {t: f"{t:g}" for t in log_ticks(low, high)}
        ticks = nice_ticks(low, high, self.most)
        return dict(zip(ticks, tick_labels(ticks), strict=True))


@dataclass
class Panel:
    """A panel with two axes; what is drawn in it is placed when its limits are known.

    `left`, `top`, `width` and `height` are its place on the canvas. An `open` panel has no frame at
    the top and right; `grid` names the axes whose ticks have lines.
    """

    left: float
    top: float
    width: float
    height: float
    x: Axis = field(default_factory=Axis)
    y: Axis = field(default_factory=Axis)
    open: bool = False
    framed: bool = True
    grid: str = ""
    size: float = 7.0  # of the labels of ticks
    fill: str = ""
    _parts: list[tuple[int, Callable[[], str]]] = field(default_factory=list)

    def across(self, values: FloatArray) -> FloatArray:
        """Return the places of values along x on the canvas."""
        return self.left + self.width * self.x.fractions(np.asarray(values, dtype=np.float64))

    def down(self, values: FloatArray) -> FloatArray:
        """Return the places of values along y on the canvas."""
        return self.top + self.height * (1 - self.y.fractions(np.asarray(values, np.float64)))

    def add(self, part: Callable[[], str], order: int = 2) -> None:
        """Add something to be drawn; higher orders are drawn later."""
        self._parts.append((order, part))

    def line(self, x: FloatArray, y: FloatArray, line: Line, order: int = 2) -> None:
        """Draw a line through points; NaN breaks it."""
        x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        self.x.include(x)
        self.y.include(y)
        self.add(lambda: f'<path d="{path_of(self.across(x), self.down(y))}" {line.style}/>', order)

    def bars(self, x: FloatArray, low: FloatArray, high: FloatArray, line: Line) -> None:
        """Draw a vertical bar at each x."""
        gaps = np.full(len(x), np.nan)
        ends = np.stack([low, high, gaps], axis=1).ravel()
        self.line(np.repeat(np.asarray(x, dtype=np.float64), 3), ends, line)

    def upright(self, x: float, line: Line) -> None:
        """Draw a vertical line from edge to edge."""

        def part() -> str:
            place = float(self.across(np.array([x]))[0])
            if not self.left <= place <= self.left + self.width:
                return ""
            return f'<path d="M{place:.2f} {self.top:.2f}v{self.height:.2f}" {line.style}/>'

        self.add(part, 3)

    def dots(self, x: FloatArray, y: FloatArray, *dots: Dots, as_pixels: bool = False) -> None:
        """Draw points in several styles; each style has its own selection of the points."""
        for each in dots:
            self.x.include(x[each.which])
            self.y.include(y[each.which])

        def part() -> str:
            across, down = self.across(x), self.down(y)
            if as_pixels:
                places = across - self.left, down - self.top
                png = draw_dots(places, (self.width, self.height), dots)
                return image_at(self.left, self.top, (self.width, self.height), png)
            return "".join(each.path(across, down) for each in dots)

        self.add(part)

    def image(self, colours: FloatArray) -> None:
        """Fill the panel with an image, shape (ny, nx, 4), its first row at the bottom."""
        png = coloured_png(colours[::-1])
        self.add(lambda: image_at(self.left, self.top, (self.width, self.height), png), 0)

    def circle(self, x: float, y: float, radius: float, line: Line) -> None:
        """Draw a circle, the radius in units of x."""

        def part() -> str:
            (cx, edge), (cy,) = self.across(np.array([x, x + radius])), self.down(np.array([y]))
            return f'<circle cx="{cx:.2f}" cy="{cy:.2f}" r="{edge - cx:.2f}" {line.style}/>'

        self.add(part, 3)

    def rectangle(self, box: tuple[float, float, float, float], line: Line) -> None:
        """Draw a rectangle by its lower left corner, width and height."""
        x, y, width, height = box
        corners = np.array([x, x + width, x + width, x, x]), np.array([y, y, *[y + height] * 2, y])

        def part() -> str:
            shape = path_of(self.across(corners[0]), self.down(corners[1]))
            return f'<path d="{shape}" {line.style}/>'

        self.add(part, 3)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float = 7.5,
        colour: str = TEXT,
        align: tuple[str, str] = ("left", "baseline"),
    ) -> None:
        """Write a text at fractions of the panel."""
        place = self.left + x * self.width, self.top + (1 - y) * self.height
        self.add(lambda: text_at(*place, text, size, colour, align), 5)

    def keep_square(self, nx: float, ny: float) -> None:
        """Shrink the panel about its middle until `nx` along x are as long as `nx` along y."""
        scale = min(self.width / nx, self.height / ny)
        self.left += (self.width - scale * nx) / 2
        self.top += (self.height - scale * ny) / 2
        self.width, self.height = scale * nx, scale * ny
        self.x.limits, self.y.limits = (0.0, nx), (0.0, ny)

    def legend(
        self,
        lines: Sequence[tuple[str, Line]],
        corner: tuple[str, str],
        columns: int = 1,
        size: float = 6.5,
    ) -> None:
        """List lines with their names in a corner, such as ("right", "top")."""
        rows, sample, gap = -(-len(lines) // columns), 2.2 * size, 0.5 * size
        widths = [
            sample
            + gap
            + 0.47 * size * max(len(text) for text, _ in lines[k * rows :][:rows])
            + gap
            for k in range(-(-len(lines) // rows))
        ]
        pitch, total = 1.2 * size, sum(widths)
        left = self.left + (2.0 if corner[0] == "left" else self.width - total)
        top = self.top + (2.0 if corner[1] == "top" else self.height - rows * pitch - 2.0)

        def part() -> str:
            drawn = []
            for k, (text, line) in enumerate(lines):
                x = left + sum(widths[: k // rows])
                y = top + (k % rows + 0.5) * pitch
                drawn.append(f'<path d="M{x:.2f} {y:.2f}h{sample:.2f}" {line.style}/>')
                drawn.append(text_at(x + sample + gap, y, text, size, align=("left", "center")))
            return "".join(drawn)

        self.add(part, 6)

    def svg(self) -> str:
        """Return the panel with everything that was drawn in it."""
        parts = [part() for _, part in sorted(self._parts, key=lambda p: p[0])]
        below = [self._ground()] if self.fill else []
        return "".join([*below, *self._ticks(), *parts, self._edges()])

    def _ground(self) -> str:
        return (
            f'<rect x="{self.left:.2f}" y="{self.top:.2f}" width="{self.width:.2f}" '
            f'height="{self.height:.2f}" fill="{self.fill}"/>'
        )

    def _edges(self) -> str:
        if not self.framed:
            return ""
        bottom = f"M{self.left:.2f} {self.top:.2f}v{self.height:.2f}h{self.width:.2f}"
        whole = "" if self.open else f"v{-self.height:.2f}h{-self.width:.2f}"
        return f'<path d="{bottom}{whole}" {Line(FRAME, 0.5).style}/>'

    def _ticks(self) -> list[str]:
        """Return lines of the grid, ticks, and their labels."""
        if not self.framed:
            return []
        x, y = self.x.marks(), self.y.marks()
        bottom, across = self.top + self.height, self.across(np.array(list(x))).tolist()
        down = self.down(np.array(list(y))).tolist()
        grid = "".join(f"M{p:.2f} {self.top:.2f}v{self.height:.2f}" for p in across) * (
            "x" in self.grid
        ) + "".join(f"M{self.left:.2f} {p:.2f}h{self.width:.2f}" for p in down) * ("y" in self.grid)
        ticks = "".join(f"M{p:.2f} {bottom:.2f}v2" for p in across)
        ticks += "".join(f"M{self.left:.2f} {p:.2f}h-2" for p in down)
        parts = [f'<path d="{grid}" {Line(GRID, 0.4).style}/>'] if grid else []
        parts += [f'<path d="{ticks}" {Line(FRAME, 0.5).style}/>'] if ticks else []
        for p, label in zip(across, x.values(), strict=True):
            parts += [text_at(p, bottom + 3.5, label, self.size, align=("center", "top"))] * (
                self.x.labelled
            )
        for p, label in zip(down, y.values(), strict=True):
            parts += [text_at(self.left - 3.5, p, label, self.size, align=("right", "center"))] * (
                self.y.labelled
            )
        return parts


class Canvas:
    """A figure of a size in inches."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = 72 * width, 72 * height
        self.panels: list[Panel] = []
        self.texts: list[str] = []

    def panel(self, box: Box) -> Panel:
        """Add a panel at a place in fractions of the canvas, y upwards."""
        left, bottom, width, height = box
        top = (1 - bottom - height) * self.height
        panel = Panel(left * self.width, top, width * self.width, height * self.height)
        self.panels.append(panel)
        return panel

    def grid(
        self,
        rows: int,
        box: Box,
        gaps: tuple[float, float] = (0.0, 0.0),
        ratios: Sequence[float] = (1.0, 1.0),
    ) -> list[list[Panel]]:
        """Add rows of panels into a box.

        `gaps` are between columns and rows, in units of the mean panel; `ratios` are the relative
        widths of the columns.
        """
        left, bottom, width, height = box
        columns = len(ratios)
        wide, high = (
            width / (columns + gaps[0] * (columns - 1)),
            height / (rows + gaps[1] * (rows - 1)),
        )
        widths = [wide * columns * r / sum(ratios) for r in ratios]
        return [
            [
                self.panel(
                    (
                        left + sum(widths[:column]) + column * gaps[0] * wide,
                        bottom + (rows - 1 - row) * high * (1 + gaps[1]),
                        widths[column],
                        high,
                    )
                )
                for column in range(columns)
            ]
            for row in range(rows)
        ]

    def label_y(self, text: str, x: float, y: float = 0.5, size: float = 8.0) -> None:
        """Write a text upwards at fractions of the canvas, about its middle."""
        place = x * self.width, (1 - y) * self.height
        self.texts.append(text_at(*place, text, size, align=("center", "top"), turned=True))

    def svg(self) -> bytes:
        """Return the figure."""
        inside = "\n".join([*(panel.svg() for panel in self.panels), *self.texts])
        return (
            '<?xml version="1.0" encoding="utf-8"?>\n'
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="{self.width:g}pt" height="{self.height:g}pt" '
            f'viewBox="0 0 {self.width:g} {self.height:g}" font-family="{FONT}">\n'
            f"{inside}\n</svg>\n"
        ).encode()
