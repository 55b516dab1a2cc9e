"""The noise figure: noise against time scale and aperture radius, and the terms of the error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from schemas.arrays import FloatArray
from schemas.light_curves import DEFAULT_RADIUS, OPTIMAL, PSF, RADII
from tasks.delivery.report.drawing import (
    FLAGGED,
    GOOD,
    LINE,
    QUIET,
    THIRD,
    FigureText,
    add_panels,
    as_svg,
    label_x,
    new_figure,
    style_panel,
    write_note,
    write_title,
)
from tasks.delivery.report.findings import Findings
from tasks.delivery.report.noise_tables import error_terms
from tasks.photometry.noise import cdpp

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

Dashes = Any  # matplotlib: "-", or an offset and the lengths of lines and gaps


class Style(NamedTuple):
    """Label and style of a line."""

    text: str
    colour: str
    dashes: Dashes


_OF_TIME = {
    "DEFAULT": Style("DEFAULT", GOOD, "-"),
    OPTIMAL: Style(OPTIMAL, THIRD, (0, (6, 1.5))),
    PSF: Style(PSF, FLAGGED, (0, (2, 1))),
}

_OF_RADIUS = {
    "ROB_PPM": Style("robust scatter", QUIET, (0, (6, 1.5))),
    "P2P_PPM": Style("point to point", GOOD, "-"),
    "FORM_PPM": Style("formal error", LINE, (0, (1, 1.2))),
    "CDPP_30M": Style("CDPP in 30 min", THIRD, (0, (3, 1, 1, 1))),
}


def draw_noise(findings: Findings) -> bytes:
    """Draw the noise against time scale and aperture radius, and the terms of the formal error."""
    with new_figure(7.0, 2.6) as canvas:
        left, middle, right = add_panels(
            canvas, 1, 3, left=0.045, right=0.93, top=0.92, bottom=0.145, wspace=0.19
        )[0]
        _draw_noise_of_time(left, findings)
        _draw_noise_of_radius(middle, findings)
        _draw_terms_of_radius(right, findings)
        return as_svg(canvas)


def describe_noise() -> FigureText:
    """Write the caption of the noise figure."""
    return FigureText(
        caption="Left: noise of means over a window (CDPP of the unflagged points) against the "
        "length of the window, compared with white noise of the same point-to-point scatter and "
        "with the photon noise of the star. Middle: noise of single points, and of means over "
        "30 min, against radius; the vertical line marks the radius of OPTIMAL. Right: the terms "
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


def _draw_noise_of_time(axes: Axes, findings: Findings) -> None:
    points = findings.points
    steps = np.diff(points.hours)
    step = float(np.median(steps)) if steps.size else 0.0
    windows = time_scales(step, points.duration)
    write_title(axes, "noise of window means [ppm]")
    noise = {name: measure_noise(findings, name, windows) for name in _OF_TIME}
    if not _draw_lines(axes, windows, noise, _OF_TIME):
        return
    white = findings.metrics.get("DEFAULT", {}).get("P2P_PPM", np.nan)
    star = float(error_terms(findings)["STAR"][RADII.index(DEFAULT_RADIUS)])
    for value, style in (
        (white, Style("white noise", LINE, (0, (4, 2)))),
        (star, Style("photon limit", QUIET, "-")),
    ):
        if value > 0:
            expected = value / np.sqrt(windows / step)
            axes.plot(windows, expected, linewidth=0.8, **_line_style(style))
    style_panel(axes)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _label_logarithm(axes.xaxis)
    _label_logarithm(axes.yaxis)
    _add_legend(axes, "lower left")
    label_x(axes, "window [h]")


def _draw_noise_of_radius(axes: Axes, findings: Findings) -> None:
    write_title(axes, "noise against radius [ppm]")
    radii = [r for r in RADII if f"R{r:g}" in findings.metrics]
    noise = {
        column: np.array([findings.metrics[f"R{r:g}"][column] for r in radii])
        for column in _OF_RADIUS
    }
    if not _draw_lines(axes, np.array(radii), noise, _OF_RADIUS):
        return
    style_panel(axes)
    axes.set_yscale("log")
    _label_logarithm(axes.yaxis)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.35)  # room for the legend
    optimal = findings.curves[OPTIMAL][1]
    axes.axvline(optimal, color=QUIET, linewidth=0.6, linestyle=(0, (4, 2)))
    _add_legend(axes, "upper right", columns=2)
    label_x(axes, "radius [pixel]")


def _draw_terms_of_radius(axes: Axes, findings: Findings) -> None:
    write_title(axes, "terms of the formal error [ppm]")
    terms = choose_terms(error_terms(findings))
    if not terms:
        write_note(axes, "too few good points")
        return
    for name, values in terms.items():
        colour, width = (GOOD, 1.1) if name == "STAR" else (LINE, 0.8)
        axes.plot(RADII, values, color=colour, linewidth=width)
    style_panel(axes)
    axes.set_yscale("log")
    _label_logarithm(axes.yaxis)
    axes.set_xlim(RADII[0], RADII[-1])
    _name_lines(axes, {name: float(values[-1]) for name, values in terms.items()})
    label_x(axes, "radius [pixel]")


def choose_terms(terms: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """Select the terms of the error above 1/500 of the largest one."""
    largest = {
        name: float(np.nanmax(values))
        for name, values in terms.items()
        if name != "DRP" and np.isfinite(values).any()
    }
    least = max(max(largest.values(), default=0.0) / 500, 0.0)
    return {name: terms[name] for name, value in largest.items() if value > least > 0}


def _name_lines(axes: Axes, ends: dict[str, float]) -> None:
    """Write the name of each line at its right end, moved up where names would overlap."""
    low, high = np.log(axes.get_ylim())
    least = (high - low) / 22
    lowest = -np.inf
    for name, end in sorted(ends.items(), key=lambda item: item[1]):
        height = max(float(np.log(max(end, 1e-9))), lowest + least)
        lowest = height
        axes.text(
            1.02,
            (height - low) / (high - low),
            name.lower().replace("_", "-"),
            transform=axes.transAxes,
            fontsize=6.5,
            va="center",
            color=LINE,
        )


def _draw_lines(
    axes: Axes, x: FloatArray, lines: dict[str, FloatArray], styles: dict[str, Style]
) -> bool:
    """Draw all lines with finite values, or else a note; return whether there were any."""
    drawn = {name: values for name, values in lines.items() if np.isfinite(values).any()}
    for name, values in drawn.items():
        axes.plot(x, values, linewidth=1.1, **_line_style(styles[name]))
    if not drawn:
        write_note(axes, "too few good points")
    return bool(drawn)


def _line_style(style: Style) -> dict[str, Any]:
    return {"color": style.colour, "linestyle": style.dashes, "label": style.text}


def _label_logarithm(axis: Axis) -> None:
    """Label 1, 2 and 5 in each decade of a logarithmic axis with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _add_legend(axes: Axes, place: Literal["lower left", "upper right"], columns: int = 1) -> None:
    axes.legend(
        fontsize=6.5,
        frameon=False,
        handlelength=2.2,
        borderaxespad=0.1,
        labelspacing=0.2,
        loc=place,
        ncol=columns,
    )
