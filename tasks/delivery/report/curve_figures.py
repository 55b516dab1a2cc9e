"""Figures of the light curves: by aperture, and before and after each step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import median_filter

from schemas.arrays import BoolArray, FloatArray
from schemas.light_curves import OPTIMAL, PSF
from tasks.delivery.report.canvas import Canvas, Panel
from tasks.delivery.report.drawing import (
    COLOURS,
    EDGE,
    GOOD,
    QUIET,
    VECTOR_UP_TO,
    FigureText,
    describe_points,
    draw_quantity,
    label_x,
    style_panel,
    write_note,
    write_title,
)
from tasks.delivery.report.findings import Findings, Stage
from tasks.delivery.report.noise_tables import optimal_circle
from tasks.delivery.report.raster import Dots
from tasks.delivery.report.series import Points, axis_limits, relative_flux
from tasks.delivery.report.tables import stage_name
from tasks.delivery.report.wording import ROUNDING, format_number, format_ppm
from tasks.numerics.sample import spread_evenly

TREND_POINTS = 31  # good points in the running median that before and after are compared with

SHOWN_CURVES = ("R15", "R20", "R25", "R30", "R35", "R40", OPTIMAL, PSF)


def draw_curves(findings: Findings, most: int) -> bytes:
    """Draw the light curves of some apertures, each on its own scale."""
    points = findings.points
    canvas = Canvas(7.0, 4.7)
    panels = canvas.grid(4, (0.075, 0.075, 0.92, 0.885), (0.16, 0.3))
    by_column = [row[column] for column in range(2) for row in panels]
    for place, (panel, name) in enumerate(zip(by_column, SHOWN_CURVES, strict=True)):
        flux, _ = findings.curves[name]
        relative = relative_flux(flux, points.good & np.isfinite(flux) & (flux > 0))
        draw_quantity(panel, points.hours, relative, points.good, most, labelled=place % 4 == 3)
        noise = findings.metrics.get(name, {}).get("P2P_PPM", np.nan)
        aperture = f"{name}, {optimal_circle(findings)}" if name == OPTIMAL else name
        scatter = f"point to point {format_number(noise, '.0f')} ppm" if np.isfinite(noise) else ""
        write_title(panel, aperture, scatter)
    for panel in panels[-1]:
        label_x(panel, "hours")
    canvas.label_y("relative flux [ppm]", 0.004)
    return canvas.svg()


def describe_curves(findings: Findings) -> FigureText:
    """Write the caption of the light curves by aperture."""
    about = describe_points(findings.points)
    return FigureText(
        caption="Light curves by aperture, each relative to its own median and on its own scale. "
        f"{COLOURS} {EDGE}",
        alt=f"Relative flux of {', '.join(SHOWN_CURVES)} {about}; the table lists their noise.",
    )


def draw_stages(findings: Findings, most: int) -> bytes:
    """Draw the light curve before and after each step that changes it, and the change.

    All are in ppm of the final flux. Both light curves are relative to the running median of the
    later one, so that a change is not lost beside a transit or a trend.
    """
    points = findings.points
    final = findings.levels[-1].values[points.good]
    middle = float(np.median(final)) if final.size else np.nan
    drawn = changing_stages(findings)
    if not drawn:
        canvas = Canvas(7.0, 0.9)
        write_note(canvas.grid(1, (0.065, 0.3, 0.93, 0.5))[0][0], "no step changes the light curve")
        return canvas.svg()
    rows = len(drawn)
    height = 0.66 * rows + 0.3
    canvas = Canvas(7.0, height)
    panels = canvas.grid(rows, (0.065, 0.32 / height, 0.93, 1 - 0.52 / height), (0.13, 0.4))
    for row, (stage, (left, right)) in enumerate(zip(drawn, panels, strict=True)):
        last = row == rows - 1
        write_title(left, f"{stage_name(stage.name)}: before and after", size=7)
        pair = about_trend(stage, points, middle)
        _draw_before_and_after(left, points, pair, most)
        if not last:
            left.x.ticks = {}
        _draw_change(right, points, 1e6 * (stage.after - stage.before) / middle, most, last)
    for panel in panels[-1]:
        label_x(panel, "hours")
    canvas.label_y("flux about its running median [ppm]", 0.002)
    return canvas.svg()


def changing_stages(findings: Findings) -> list[Stage]:
    """Return the steps whose change of the good points is not the same for all."""
    stages = []
    for stage in findings.stages:
        change = (stage.after - stage.before)[findings.points.good]
        kept = change[np.isfinite(change)]
        final = findings.levels[-1].values[findings.points.good]
        middle = float(np.median(final)) if final.size else np.nan
        if kept.size and not np.ptp(1e6 * kept / middle) <= ROUNDING:
            stages.append(stage)
    return stages


def about_trend(stage: Stage, points: Points, final: float) -> tuple[FloatArray, FloatArray]:
    """Return both light curves of a step about the running median of the later one [ppm]."""
    before, after = (_about_median(v, points.good, final) for v in (stage.before, stage.after))
    kept = points.good & np.isfinite(after)
    trend = np.zeros(len(after))
    if kept.any():
        trend[kept] = median_filter(after[kept], size=TREND_POINTS, mode="nearest")
    return before - trend, after - trend


def _about_median(values: FloatArray, good: BoolArray, final: float) -> FloatArray:
    """Subtract the median of the good values; return the difference in ppm of the final flux."""
    kept = values[good & np.isfinite(values)]
    return 1e6 * (values - (float(np.median(kept)) if kept.size else np.nan)) / final


def _draw_before_and_after(
    panel: Panel, points: Points, pair: Sequence[FloatArray], most: int
) -> None:
    """Draw the good points before (grey crosses) and after (blue circles) a step."""
    measured = points.good & np.isfinite(points.hours) & np.isfinite(pair[0]) & np.isfinite(pair[1])
    if not measured.any():
        write_note(panel, "not measured")
        return
    style_panel(panel, ticks=3)
    kept = np.flatnonzero(measured)
    kept = kept[spread_evenly(len(kept), most)]
    low, high = axis_limits(np.concatenate([values[measured] for values in pair]))
    shown = np.clip(np.stack([values[kept] for values in pair]), low, high)
    hours, all_of = points.hours[kept], np.ones(len(kept), dtype=bool)
    styles = Dots(all_of, "x", QUIET, 3.0, 0.6), Dots(all_of, "o", GOOD, 1.5)
    for values, style in zip(shown, styles, strict=True):
        panel.dots(hours, values, style, as_pixels=len(kept) > VECTOR_UP_TO)
    panel.y.limits = low, high


def _draw_change(
    panel: Panel, points: Points, change: FloatArray, most: int, labelled: bool
) -> None:
    """Draw the change of the light curve by a step [ppm]."""
    kept = change[points.good & np.isfinite(change)]
    middle = float(np.median(kept)) if kept.size else np.nan
    text = f"median {format_ppm(middle)} ppm" if np.isfinite(middle) else ""
    write_title(panel, "change", text, size=7)
    draw_quantity(panel, points.hours, change - middle, points.good, most, labelled=labelled)


def describe_stages(findings: Findings) -> FigureText:
    """Write the caption of the light curves before and after each step."""
    about = describe_points(findings.points)
    drawn = changing_stages(findings)
    changing = {stage.name for stage in drawn}
    names = [stage_name(s.name) for s in findings.stages if s.name not in changing]
    same = f" Not drawn, since they change no point or all alike: {', '.join(names)}."
    return FigureText(
        caption="Left: good points before (grey crosses) and after each step (blue circles), about "
        "the running median of the light curve after the step. Right: the change "
        f"about its median. {COLOURS} {EDGE}{same if names else ''}",
        alt="The light curve before and after, and the change of the flux against time, for "
        f"{len(drawn)} steps {about}; the table lists its scatter.",
    )
