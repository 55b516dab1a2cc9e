"""Figures of the page on a campaign, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 720, 340
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 12, 44

Point = tuple[float, float, str]


def ticks(low: float, high: float) -> list[float]:
    """Return some five round numbers between two values."""
    span = high - low
    step = 10 ** math.floor(math.log10(span))
    step = next(step * f for f in (0.1, 0.2, 0.5, 1, 2) if span / (step * f) <= 7)
    first = math.ceil(low / step)
    return [round(i * step, 10) for i in range(first, math.floor(high / step) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten between two positive values."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [f * 10.0**p for p in powers for f in (1, 2, 5) if low <= f * 10.0**p <= high]


def bounds(values: Sequence[float], room: float) -> tuple[float, float]:
    """Return smallest and largest value, with some room at both ends."""
    low, high = min(values), max(values)
    more = room * (high - low) or 0.5
    return low - more, high + more


def scatter_plot(measured: Sequence[Point], limits: Sequence[Point]) -> str:
    """Draw noise against magnitude, and the photon limit of each visit below it.

    Points are (magnitude, noise in ppm, text).
    """
    points = [p for p in (*measured, *limits) if p[1] > 0]
    if not points:
        return "<p>No visit has been published.</p>"
    x_low, x_high = bounds([p[0] for p in points], 0.05)
    low, high = (10**v for v in bounds([math.log10(p[1]) for p in points], 0.08))

    def x(value: float) -> float:
        return LEFT + (value - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        share = math.log(value / low) / math.log(high / low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>'
        f'<text class="end" x="{LEFT - 6}" y="{y(v) + 4:.1f}">{v:g}</text>'
        for v in log_ticks(low, high)
    ]
    bottom = HEIGHT - BOTTOM
    parts += [
        f'<line class="grid" x1="{x(v):.1f}" x2="{x(v):.1f}" y1="{TOP}" y2="{bottom}"/>'
        f'<text class="middle" x="{x(v):.1f}" y="{bottom + 17}">{v:g}</text>'
        for v in ticks(x_low, x_high)
    ]
    parts += [
        f'<rect class="limit" x="{x(m) - 5:.1f}" y="{y(v) - 1:.1f}" width="10" height="2"/>'
        for m, v, _ in limits
        if v > 0
    ]
    parts += [
        f'<circle class="point" cx="{x(m):.1f}" cy="{y(v):.1f}" r="3.2">'
        f"<title>{escape(text)}</title></circle>"
        for m, v, text in measured
        if v > 0
    ]
    parts += [
        f'<text class="middle" x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 8}">G magnitude</text>',
        f'<text class="middle" transform="translate(13 {HEIGHT / 2}) rotate(-90)">'
        f"noise from image to image [ppm]</text>",
    ]
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Point-to-point scatter of '
        f'{len(measured)} visits against G magnitude, with the photon noise of each">'
        f"{''.join(parts)}</svg>"
    )


def bar(share: float, more: float = 0.0) -> str:
    """Draw a bar of a table, with a paler part behind it; both as shares of the longest."""
    return (
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="pale" width="{100 * more:.2f}" height="10"/>'
        f'<rect class="point" width="{100 * share:.2f}" height="10"/></svg>'
    )
