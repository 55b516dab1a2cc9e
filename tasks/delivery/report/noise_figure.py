"""The noise figure: noise against time scale and aperture radius, and the terms of the error."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from schemas.arrays import FloatArray
from schemas.light_curves import OPTIMAL, PSF, Way, circle_name
from tasks.delivery.report.canvas import Canvas, Line, Panel
from tasks.delivery.report.drawing import (
    FLAGGED,
    GOOD,
    LINE,
    QUIET,
    THIRD,
    FigureText,
    label_x,
    style_panel,
    write_note,
    write_title,
)
from tasks.delivery.report.findings import Findings
from tasks.delivery.report.noise_tables import error_terms
from tasks.photometry.noise import cdpp


class Style(NamedTuple):
    """Label and style of a line."""

    text: str
    colour: str
    dashes: tuple[float, ...] = ()

    def line(self, width: float) -> Line:
        """Return the style for a line of some width."""
        return Line(self.colour, width, self.dashes)


_OF_TIME = {
    "DEFAULT": Style("DEFAULT", GOOD),
    OPTIMAL: Style(OPTIMAL, THIRD, (6, 1.5)),
    PSF: Style(PSF, FLAGGED, (2, 1)),
}

_OF_RADIUS = {
    "P2P_PPM": Style("point to point", GOOD),
    "FORM_PPM": Style("formal error", LINE, (1, 1.2)),
    "CDPP_30M": Style("CDPP in 30 min", THIRD, (3, 1, 1, 1)),
}


_OF_WAY = {
    Way.CIRCLE: Style("circle", QUIET, (6, 1.5)),
    Way.CORRECTED: Style("losses corrected", FLAGGED),
    Way.PSF: Style(PSF, FLAGGED, (2, 1)),
}


def draw_noise(findings: Findings) -> bytes:
    """Draw the noise against time scale and aperture radius, and the terms of the formal error."""
    canvas = Canvas(7.0, 2.6)
    box = 0.045, 0.145, 0.885, 0.775
    left, middle, right = canvas.grid(1, box, (0.19, 0.0), (1.0, 1.0, 1.0))[0]
    _draw_noise_of_time(left, findings)
    _draw_noise_of_radius(middle, findings)
    _draw_terms_of_radius(right, findings)
    return canvas.svg()


def describe_noise() -> FigureText:
    """Write the caption of the noise figure."""
    return FigureText(
        caption="Left: noise of means over a window (CDPP of the unflagged points) against the "
        "length of the window, compared with white noise of the same point-to-point scatter and "
        "with the photon noise of the star. Middle: noise of single points, and of means over "
        "30 min, against radius, and the noise of the candidates for OPTIMAL about their "
        "consensus; the vertical line marks the radius of OPTIMAL. Right: the terms "
        "of the formal error; terms below 1/500 of the largest are omitted.",
        alt="Noise against time scale for DEFAULT, OPTIMAL and PSF with the photon limit, noise "
        "against aperture radius, and the terms of the formal error against radius; the tables "
        "list the numbers.",
    )


def time_scales(step: float, duration: float) -> FloatArray:
    """Return windows with even logarithmic spacing, from two time steps to half the visit [h]."""
    if not (step > 0 and duration / 2 > 2 * step):
        return np.empty(0)
    places = np.unique(np.round(np.geomspace(2, duration / 2 / step, 24)).astype(int))
    return np.asarray(places * step)


def measure_noise(findings: Findings, name: str, windows: FloatArray) -> FloatArray:
    """Measure the noise of the means of a light curve over some windows [ppm]."""
    flux = findings.curves[name][0]
    chosen = findings.points.good & np.isfinite(flux) & (flux > 0)
    return np.array([cdpp(findings.mjd[chosen], flux[chosen], w) for w in windows])


def _draw_noise_of_time(panel: Panel, findings: Findings) -> None:
    points = findings.points
    steps = np.diff(points.hours)
    step = float(np.median(steps)) if steps.size else 0.0
    windows = time_scales(step, points.duration)
    write_title(panel, "noise of window means [ppm]")
    noise = {name: measure_noise(findings, name, windows) for name in _OF_TIME}
    panel.x.logarithmic = panel.y.logarithmic = True
    if not (drawn := _draw_lines(panel, windows, noise, _OF_TIME)):
        return
    white = findings.metrics.get("DEFAULT", {}).get("P2P_PPM", np.nan)
    star = float(error_terms(findings)["STAR"][findings.default])
    floors = []
    for value, style, width in (
        (star, Style("photon limit", QUIET), 1.6),
        (white, Style("white noise", LINE, (4, 2)), 0.8),
    ):
        if value > 0:
            panel.line(windows, value / np.sqrt(windows / step), style.line(width))
            floors.append((style.text, style.line(width)))
    drawn = [*floors, *drawn]
    style_panel(panel)
    panel.legend(drawn, ("left", "bottom"))
    label_x(panel, "window [h]")


def _draw_noise_of_radius(panel: Panel, findings: Findings) -> None:
    write_title(panel, "noise against radius [ppm]")
    radii = [r for r in findings.radii if circle_name(r) in findings.metrics]
    rows = [findings.metrics[circle_name(r)] for r in radii]
    noise = {column: np.array([row[column] for row in rows]) for column in _OF_RADIUS}
    panel.y.logarithmic = True
    if not (drawn := _draw_lines(panel, np.array(radii), noise, _OF_RADIUS)):
        return
    for way, (places, values) in findings.candidates.items():
        if np.isfinite(values).any():
            ends = places if len(places) > 1 else np.array([findings.radii[0], findings.radii[-1]])
            line = _OF_WAY[way].line(1.1)
            panel.line(ends, np.broadcast_to(values, ends.shape), line)
            drawn.append((_OF_WAY[way].text, line))
    style_panel(panel)
    low, high = panel.y.ends()
    panel.y.limits = low, high * (high / low) ** 0.5  # room for the legend
    if findings.way is not Way.PSF:
        panel.upright(findings.curves[OPTIMAL][1], Line(QUIET, 0.6, (4, 2)))
    panel.legend(drawn, ("right", "top"), columns=2)
    label_x(panel, "radius [pixel]")


def _draw_terms_of_radius(panel: Panel, findings: Findings) -> None:
    write_title(panel, "terms of the formal error [ppm]")
    terms = choose_terms(error_terms(findings))
    if not terms:
        write_note(panel, "too few good points")
        return
    panel.y.logarithmic = True
    for name, values in terms.items():
        colour, width = (GOOD, 1.1) if name == "STAR" else (LINE, 0.8)
        panel.line(np.array(findings.radii), values, Line(colour, width))
    style_panel(panel)
    panel.x.limits = findings.radii[0], findings.radii[-1]
    _name_lines(panel, {name: float(values[-1]) for name, values in terms.items()})
    label_x(panel, "radius [pixel]")


def choose_terms(terms: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """Select the terms of the error above 1/500 of the largest one."""
    largest = {
        name: float(np.nanmax(values))
        for name, values in terms.items()
        if name != "DRP" and np.isfinite(values).any()
    }
    least = max(max(largest.values(), default=0.0) / 500, 0.0)
    return {name: terms[name] for name, value in largest.items() if value > least > 0}


def _name_lines(panel: Panel, ends: dict[str, float]) -> None:
    """Write the name of each line at its right end, moved up where names would overlap."""
    low, high = np.log(panel.y.ends())
    least = (high - low) / 22
    lowest = -np.inf
    for name, end in sorted(ends.items(), key=lambda item: item[1]):
        height = max(float(np.log(max(end, 1e-9))), lowest + least)
        lowest = height
        shown = name.lower().replace("_", "-")
        panel.text(1.02, (height - low) / (high - low), shown, 6.5, LINE, ("left", "center"))


def _draw_lines(
    panel: Panel, x: FloatArray, lines: dict[str, FloatArray], styles: dict[str, Style]
) -> list[tuple[str, Line]]:
    """Draw all lines with finite values, or else a note; return their names and styles."""
    drawn = {name: values for name, values in lines.items() if np.isfinite(values).any()}
    for name, values in drawn.items():
        panel.line(x, values, styles[name].line(1.1))
    if not drawn:
        write_note(panel, "too few good points")
    return [(styles[name].text, styles[name].line(1.1)) for name in drawn]
