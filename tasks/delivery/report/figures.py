"""The figures behind the first page: light curves by aperture, noise, stages, conditions,
correlations, events.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from schemas.arrays import BoolArray, FloatArray
from schemas.flags import Quality
from schemas.light_curves import DEFAULT_RADIUS, OPTIMAL, PSF, RADII
from tasks.delivery.report.drawing import (
    FLAGGED,
    GOOD,
    LINE,
    QUIET,
    THIRD,
    VECTOR_UP_TO,
    Figure,
    dots,
    drawing,
    nothing,
    small,
    svg,
    title,
)
from tasks.delivery.report.findings import Findings, Quantity
from tasks.delivery.report.series import (
    axis_limits,
    bin_medians,
    harmonics,
    relation,
    relative_flux,
    running_median,
    thin,
    varies,
)
from tasks.delivery.report.tables import (
    EVENT_DIGITS,
    ROUNDING,
    bit_name,
    error_terms,
    medians,
    ppm,
    stage_name,
)
from tasks.delivery.report.wording import figures
from tasks.photometry.noise import cdpp

SHOWN_CURVES = ("R15", "R20", "R25", "R30", "R35", "R40", OPTIMAL, PSF)

OVER_TIME = ("background", "smearing", "cosmics_in", "bias", "ron", "gain", "x", "y", "temperature")

CORRELATED = ("time", "roll", "x", "y", "background", "contamination", "smearing", "temperature")

FEW = 60  # points; fewer are drawn larger

_EDGE = "Points beyond an axis lie at its edge."


def _within(values: FloatArray, good: BoolArray) -> tuple[FloatArray, tuple[float, float]]:
    """Return values moved to the edges of an axis that suits the good ones, and that axis."""
    chosen = values[good & np.isfinite(values)]
    chosen = chosen if chosen.size else values[np.isfinite(values)]
    low, high = axis_limits(chosen)
    if chosen.size and not varies(chosen):
        low, high = (
            float(chosen[0]) - (half := max(abs(float(chosen[0])) * 0.01, 0.5)),
            float(chosen[0]) + half,
        )
    inset = 0.02 * (high - low)
    return np.clip(values, low + inset, high - inset), (low, high)


def drawn_over(
    axes: Any,
    x: FloatArray,
    y: FloatArray,
    good: BoolArray,
    most: int,
    *,
    line: bool = True,
    labelled: bool = True,
) -> None:
    """Draw a quantity over another in a small panel."""
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any():
        nothing(axes, "not measured")
        return
    if not varies(y[known]):
        nothing(axes, f"{figures(float(y[known][0]))} in every image")
        return
    small(axes)
    if not labelled:
        axes.set_xticks([])  # a tick takes a millisecond to make
    height, limits = _within(y, good)
    kept = np.flatnonzero(known)
    kept = kept[thin(len(kept), most)]
    dots(axes, x[kept], height[kept], ~good[kept], 1.8 if len(kept) > FEW else 2.8)
    if line:
        chosen = good & known
        times, medians = bin_medians(x[chosen], y[chosen], 0.25)
        axes.plot(times, np.clip(medians, *limits), color=LINE, linewidth=0.7, zorder=4)
    axes.set_ylim(*limits)
    spread = 0.02 * float(np.ptp(x[known])) or 0.5
    axes.set_xlim(float(x[known].min()) - spread, float(x[known].max()) + spread)


def _panels(canvas: Any, rows: int, columns: int, **places: Any) -> Any:
    return canvas.subplots(rows, columns, squeeze=False, gridspec_kw=places)


def draw_curves(found: Findings, most: int) -> bytes:
    """Return the light curves of some apertures, each on its own scale."""
    points = found.points
    with drawing(7.0, 4.7) as canvas:
        panels = _panels(
            canvas, 4, 2, left=0.075, right=0.995, top=0.96, bottom=0.075, hspace=0.3, wspace=0.16
        )
        for place, (axes, name) in enumerate(zip(panels.T.flat, SHOWN_CURVES, strict=True)):
            flux, radius = found.curves[name]
            relative = relative_flux(flux, points.good & np.isfinite(flux) & (flux > 0))
            drawn_over(axes, points.hours, relative, points.good, most, labelled=place % 4 == 3)
            metrics = found.metrics.get(name, {})
            noise = metrics.get("P2P_PPM", np.nan)
            where = (
                name
                if name in (PSF,)
                else f"{name}, {figures(radius)} pixels"
                if name == OPTIMAL
                else name
            )
            title(axes, where, f"point to point {noise:.0f} ppm" if np.isfinite(noise) else "")
        for axes in panels[-1]:
            axes.set_xlabel("hours", fontsize=7.5, labelpad=1)
        canvas.supylabel("relative flux [ppm]", fontsize=8, x=0.004)
        return svg(canvas)


def time_scales(step: float, duration: float) -> FloatArray:
    """Return windows for noise, evenly spread in their logarithm: from two time steps to half of
    the visit [h].
    """
    if not (step > 0 and duration / 2 > 2 * step):
        return np.empty(0)
    places = np.unique(np.round(np.geomspace(2, duration / 2 / step, 24)).astype(int))
    return np.asarray(places * step)


def draw_noise(found: Findings) -> bytes:
    """Return the noise of the light curves over time scale and over aperture radius, and the terms
    of the formal error.
    """
    with drawing(7.0, 2.6) as canvas:
        left, middle, right = _panels(
            canvas, 1, 3, left=0.045, right=0.93, top=0.92, bottom=0.145, wspace=0.19
        )[0]
        _noise_of_time(left, found)
        _noise_of_radius(middle, found)
        _terms_of_radius(right, found)
        return svg(canvas)


def _lines(axes: Any, x: Any, lines: Sequence[tuple[FloatArray, str, str, Any]]) -> bool:
    """Draw the lines (values, label, colour, dashes) that have a number, or that there is none;
    return whether any has.
    """
    known = [line for line in lines if np.isfinite(line[0]).any()]
    for values, text, colour, dashes in known:
        axes.plot(x, values, color=colour, linestyle=dashes, linewidth=1.1, label=text)
    if not known:
        nothing(axes, "too few good points")
    return bool(known)


def _noise_of_time(axes: Any, found: Findings) -> None:
    points, good = found.points, found.points.good
    steps = np.diff(points.hours)
    step = float(np.median(steps)) if steps.size else 0.0
    windows = time_scales(step, points.duration)
    title(axes, "noise of means over a window [ppm]")

    def noise(name: str) -> FloatArray:
        flux = found.curves[name][0]
        chosen = good & np.isfinite(flux) & (flux > 0)
        return np.array([cdpp(found.mjd[chosen], flux[chosen], w) for w in windows])

    kinds: tuple[tuple[str, str, Any], ...] = (
        ("DEFAULT", GOOD, "-"),
        (OPTIMAL, THIRD, (0, (6, 1.5))),
        (PSF, FLAGGED, (0, (2, 1))),
    )
    if not _lines(
        axes, windows, [(noise(name), name, colour, dashes) for name, colour, dashes in kinds]
    ):
        return
    metrics = found.metrics.get("DEFAULT", {})
    star = float(error_terms(found)["STAR"][RADII.index(DEFAULT_RADIUS)])
    for value, text, look in (
        (metrics.get("P2P_PPM", np.nan), "white noise", {"color": LINE, "linestyle": (0, (4, 2))}),
        (star, "photon limit", {"color": QUIET, "linestyle": "-"}),
    ):
        if value > 0:
            axes.plot(windows, value / np.sqrt(windows / step), linewidth=0.8, label=text, **look)
    _logarithmic(axes)
    axes.legend(
        fontsize=6.5,
        frameon=False,
        handlelength=2.2,
        borderaxespad=0.1,
        labelspacing=0.2,
        loc="lower left",
    )
    axes.set_xlabel("window [h]", fontsize=7.5, labelpad=1)


def _terms_of_radius(axes: Any, found: Findings) -> None:
    """Draw the terms of the formal error, the name of each at its end."""
    title(axes, "terms of the formal error [ppm]")
    radii = np.array(RADII)
    terms = {name: values for name, values in error_terms(found).items() if name != "DRP"}
    largest = max(
        (float(np.nanmax(v)) for v in terms.values() if np.isfinite(v).any()), default=0.0
    )
    shown = {
        name: v
        for name, v in terms.items()
        if np.isfinite(v).any() and np.nanmax(v) > max(largest / 500, 0.0) > 0
    }
    if not shown:
        nothing(axes, "too few good points")
        return
    for name, values in shown.items():
        axes.plot(
            radii,
            values,
            color=GOOD if name == "STAR" else LINE,
            linewidth=1.1 if name == "STAR" else 0.8,
        )
    small(axes)
    _plain_logarithm(axes)
    axes.set_xlim(radii[0], radii[-1])
    low, high = np.log(axes.get_ylim())
    least = (high - low) / 22  # so that names do not lie upon each other
    lowest = -np.inf
    for name, values in sorted(shown.items(), key=lambda item: float(item[1][-1])):
        height = max(float(np.log(max(values[-1], 1e-9))), lowest + least)
        lowest = height
        text = name.lower().replace("_", "-")
        axes.text(
            1.02,
            (height - low) / (high - low),
            text,
            transform=axes.transAxes,
            fontsize=6.5,
            va="center",
            color=LINE,
        )
    axes.set_xlabel("radius [pixel]", fontsize=7.5, labelpad=1)


def _logarithmic(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    small(axes)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def _noise_of_radius(axes: Any, found: Findings) -> None:
    title(axes, "noise over the radius [ppm]")
    radii = [r for r in RADII if f"R{r:g}" in found.metrics]
    kinds: tuple[tuple[str, str, str, Any], ...] = (
        ("ROB_PPM", "robust scatter", QUIET, (0, (6, 1.5))),
        ("P2P_PPM", "point to point", GOOD, "-"),
        ("FORM_PPM", "formal error", LINE, (0, (1, 1.2))),
        ("CDPP_30M", "CDPP in 30 min", THIRD, (0, (3, 1, 1, 1))),
    )
    values = {
        column: np.array([found.metrics[f"R{r:g}"][column] for r in radii]) for column, *_ in kinds
    }
    if not _lines(
        axes,
        radii,
        [(values[column], text, colour, dashes) for column, text, colour, dashes in kinds],
    ):
        return
    small(axes)
    _plain_logarithm(axes)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.35)  # room for the legend
    axes.axvline(found.curves[OPTIMAL][1], color=QUIET, linewidth=0.6, linestyle=(0, (4, 2)))
    axes.legend(
        fontsize=6.5,
        frameon=False,
        handlelength=2.2,
        borderaxespad=0.1,
        labelspacing=0.2,
        loc="upper right",
        ncol=2,
    )
    axes.set_xlabel("radius [pixel]", fontsize=7.5, labelpad=1)


def _plain_logarithm(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def draw_stages(found: Findings, most: int) -> bytes:
    """Return the light curve before and after each step, and the change, in ppm of the final flux
    about their own medians.
    """
    points = found.points
    final = np.median(found.levels[-1].values[points.good]) if points.good.any() else np.nan
    rows = len(found.stages)
    height = 0.66 * rows + 0.3
    with drawing(7.0, height) as canvas:
        panels = _panels(
            canvas,
            rows,
            2,
            left=0.065,
            right=0.995,
            top=1 - 0.2 / height,
            bottom=0.32 / height,
            hspace=0.4,
            wspace=0.13,
        )
        for row, (stage, (left, right)) in enumerate(zip(found.stages, panels, strict=True)):
            last = row == rows - 1
            title(left, f"{stage_name(stage.name)}: before and after", size=7)
            _both(
                left,
                points.hours,
                [_about(v, points.good, final) for v in (stage.before, stage.after)],
                points.good,
                most,
            )
            if not last:
                left.set_xticks([])
            change = 1e6 * (stage.after - stage.before) / final
            kept = points.good & np.isfinite(change)
            middle = float(np.median(change[kept])) if kept.any() else np.nan
            title(
                right, "change", f"median {ppm(middle)} ppm" if np.isfinite(middle) else "", size=7
            )
            if kept.any() and not np.ptp(change[kept]) > ROUNDING:
                nothing(right, "the same in every image" if middle else "changes nothing")
                continue
            drawn_over(right, points.hours, change - middle, points.good, most, labelled=last)
        for axes in panels[-1]:
            axes.set_xlabel("hours", fontsize=7.5, labelpad=1)
        canvas.supylabel("flux about its median [ppm]", fontsize=8, x=0.002)
        return svg(canvas)


def _about(values: FloatArray, good: BoolArray, final: float) -> FloatArray:
    """Return values about the median of the good ones, in ppm of a flux."""
    kept = values[good & np.isfinite(values)]
    return 1e6 * (values - (float(np.median(kept)) if kept.size else np.nan)) / final


def _both(
    axes: Any, hours: FloatArray, pair: Sequence[FloatArray], good: BoolArray, most: int
) -> None:
    """Draw the good points of a light curve before (grey crosses) and after (blue circles) a
    step.
    """
    known = good & np.isfinite(hours) & np.isfinite(pair[0]) & np.isfinite(pair[1])
    if not known.any():
        nothing(axes, "not measured")
        return
    small(axes, ticks=3)
    kept = np.flatnonzero(known)
    kept = kept[thin(len(kept), most)]
    both = np.concatenate([values[known] for values in pair])
    low, high = axis_limits(both)
    for values, marker, colour, edge in ((pair[0], "x", QUIET, 0.6), (pair[1], "o", GOOD, 0.0)):
        axes.plot(
            hours[kept],
            np.clip(values[kept], low, high),
            marker,
            color=colour,
            markersize=3.0 if marker == "x" else 1.5,
            markeredgewidth=edge,
            linestyle="none",
            rasterized=len(kept) > VECTOR_UP_TO,
        )
    axes.set_ylim(low, high)


def draw_contamination(found: Findings, most: int) -> bytes:
    """Return the light of field stars over radius, time and roll angle."""
    points, quantity = found.points, found.quantities["contamination"]
    ratio = 100 * found.field_light[0][points.good]
    with drawing(7.0, 1.9) as canvas:
        left, middle, right = _panels(
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
        title(left, "over the radius [%]")
        mean = medians(ratio)
        if np.isfinite(mean).any():
            small(left)
            spread = np.nanstd(ratio, axis=0)
            left.errorbar(
                RADII,
                mean,
                yerr=spread,
                fmt="o",
                color=GOOD,
                markersize=2.2,
                elinewidth=0.7,
                linestyle="none",
            )
            left.set_xlabel("radius [pixel]", fontsize=7.5, labelpad=1)
        else:
            nothing(left, "not measured")
        title(middle, "within 25 pixels over time [ppm]")
        drawn_over(middle, points.hours, quantity.values, points.good, most, line=False)
        middle.set_xlabel("hours", fontsize=7.5, labelpad=1)
        title(right, "over the roll angle [ppm]")
        drawn_over(
            right,
            found.quantities["roll"].values % 360,
            quantity.values,
            points.good,
            most,
            line=False,
        )
        right.set_xlabel("roll angle [deg]", fontsize=7.5, labelpad=1)
        return svg(canvas)


def draw_conditions(found: Findings, most: int) -> bytes:
    """Return what was measured in every image, over time and over the roll angle."""
    points, roll = found.points, found.quantities["roll"].values
    height = 0.92 * len(OVER_TIME) + 0.3
    with drawing(7.0, height) as canvas:
        panels = _panels(
            canvas,
            len(OVER_TIME),
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
            last = row == len(OVER_TIME) - 1
            quantity = found.quantities[name]
            drawn_over(
                left, points.hours, quantity.values, points.good, most, line=False, labelled=last
            )
            drawn_over(
                right, roll % 360, quantity.values, points.good, most, line=False, labelled=last
            )
            right.tick_params(labelleft=False)
            title(left, label(quantity))
        panels[-1][0].set_xlabel("hours", fontsize=7.5, labelpad=1)
        panels[-1][1].set_xlabel("roll angle [deg]", fontsize=7.5, labelpad=1)
        return svg(canvas)


def draw_correlations(found: Findings, most: int) -> bytes:
    """Return the flux over other quantities, with the running median and the straight line."""
    points = found.points
    relative = relative_flux(points.flux, points.good)
    with drawing(7.0, 6.5) as canvas:
        panels = _panels(
            canvas, 4, 2, left=0.08, right=0.99, top=0.97, bottom=0.035, hspace=0.4, wspace=0.08
        )
        for place, name in enumerate(CORRELATED):
            axes, quantity = panels.flat[place], found.quantities[name]
            chosen = points.good & np.isfinite(quantity.values) & np.isfinite(relative)
            x, y = quantity.values[chosen], relative[chosen]
            if len(x) < 3 or not varies(x):
                nothing(axes, "does not vary" if len(x) else "not measured")
                title(axes, label(quantity))
                continue
            found_relation = relation(x, y)
            kept = thin(len(x), most)
            small(axes)
            dots(
                axes,
                x[kept],
                _within(y, np.ones(len(y), dtype=bool))[0][kept],
                np.zeros(len(kept), dtype=bool),
                1.5,
            )
            axes.plot(*running_median(x, y), color=LINE, linewidth=0.9, zorder=4)
            curve = harmonics(x, y) if name == "roll" else None
            if curve is not None and np.isfinite(curve.amplitude):
                seen = np.sort(x)
                axes.plot(
                    seen,
                    curve.at(seen),
                    color=FLAGGED,
                    linewidth=0.9,
                    linestyle=(0, (4, 1.5)),
                    zorder=5,
                )
            else:
                ends = np.array([x.min(), x.max()])
                line = y.mean() + found_relation.slope * (ends - x.mean())
                axes.plot(
                    ends, line, color=FLAGGED, linewidth=0.9, linestyle=(0, (4, 1.5)), zorder=5
                )
            axes.set_ylim(*_within(y, np.ones(len(y), dtype=bool))[1])
            axes.tick_params(labelleft=place % 2 == 0)
            title(axes, label(quantity), f"r {found_relation.pearson:+.2f}".replace("-", "−"))
        canvas.supylabel("relative flux [ppm]", fontsize=8, x=0.004)
        return svg(canvas)


def label(quantity: Quantity) -> str:
    """Return name and unit of a quantity."""
    return f"{quantity.label} [{quantity.unit}]" if quantity.unit else quantity.label


def timeline(found: Findings) -> dict[str, BoolArray]:
    """Return which images each flag marks: all digits of EVENT, and the bits of QUALITY that
    occur.
    """
    event, quality = found.points.event, found.points.quality
    lines = {f"EVENT: {name}": event // place % 10 != 0 for place, name, _ in EVENT_DIGITS}
    bits = {f"QUALITY: {bit_name(bit)}": quality & int(bit) != 0 for bit in Quality}
    return {**lines, **{name: marked for name, marked in bits.items() if marked.any()}}


def draw_timeline(found: Findings) -> bytes:
    """Return when which flag was raised."""
    lines = timeline(found)
    height = 0.17 * len(lines) + 0.45
    with drawing(7.0, height) as canvas:
        axes = canvas.add_axes((0.245, 0.36 / height, 0.75, 1 - 0.42 / height))
        small(axes)
        hours = found.points.hours
        for row, marked in enumerate(lines.values()):
            axes.plot(
                hours[marked],
                np.full(int(marked.sum()), -row),
                "|",
                color=FLAGGED,
                markersize=7,
                markeredgewidth=0.9,
            )
        axes.set_yticks(
            -np.arange(len(lines)), [f"{name} ({int(m.sum())})" for name, m in lines.items()]
        )
        axes.set_ylim(-len(lines) + 0.4, 0.6)
        spread = float(np.nanmax(hours)) if np.isfinite(hours).any() else 1.0
        axes.set_xlim(-0.01 * max(spread, 1e-3), 1.01 * max(spread, 1e-3))
        axes.set_xlabel("hours", fontsize=7.5, labelpad=1)
        return svg(canvas)


def captions(found: Findings) -> dict[str, Figure]:
    """Return what stands beside the figures."""
    n = found.points.count
    flagged = int((~found.points.good).sum())
    colours = "Blue: good points, orange: flagged ones, black: medians of 15 min."
    about = f"over {found.points.duration:.1f} hours, {n} images, {flagged} flagged"
    return {
        "curves": Figure(
            caption=f"Light curves by aperture, each relative to its own median and on its own "
            f"scale. {colours} {_EDGE}",
            alt=f"Relative flux of {_listed(SHOWN_CURVES)} {about}; the table holds their noise.",
        ),
        "noise": Figure(
            caption="Left: noise of means over a window (CDPP of the unflagged points) against "
            "the window, beside what white "
            "noise of the point-to-point scatter would give, and the photon noise of the star. "
            "Middle: noise of one point, and "
            "of means of 30 min, against the radius; vertical line: the radius of OPTIMAL. "
            "Right: what the formal error is "
            "made of, terms of less than 1/500 left out.",
            alt="Noise against time scale for DEFAULT, OPTIMAL and PSF with the photon limit, "
            "noise against the radius of the "
            "aperture, and the terms of the formal error against the radius; the numbers stand "
            "in the tables.",
        ),
        "stages": Figure(
            caption="Left: the light curve before (grey crosses) and after each step (blue "
            "circles), good points about their "
            f"median. Right: the change. {colours} {_EDGE}",
            alt="The light curve before and after, and the change of the flux against time, for "
            f"{len(found.stages)} steps {about}; the table holds its scatter.",
        ),
        "contamination": Figure(
            caption="Light of field stars over the target's: against the radius (median; bars: "
            "scatter over the visit), and "
            "within 25 pixels over time and over the roll angle. Blue circles: good points, "
            "orange crosses: flagged ones.",
            alt="Contamination against the radius of the aperture, time and roll angle; the "
            "table holds the numbers.",
        ),
        "conditions": Figure(
            caption=f"What was measured in every image, over time and over the roll angle. "
            f"Blue: good points, orange: flagged "
            f"ones. {_EDGE}",
            alt=f"{_listed([found.quantities[q].label for q in OVER_TIME])} against time and "
            f"roll angle {about}; "
            "the table holds mean and scatter.",
        ),
        "correlations": Figure(
            caption="Relative flux of DEFAULT over what might change it, good points only. "
            "Black: medians of a twelfth of the "
            "points each, orange and dashed: straight line, over the roll angle a curve of "
            "three harmonics. r is Pearson's "
            "coefficient.",
            alt=f"Relative flux against "
            f"{_listed([found.quantities[q].label for q in CORRELATED])}; "
            "the table holds the coefficients and slopes.",
        ),
        "timeline": Figure(
            caption="When which flag was raised, and how many images have it.",
            alt="Flags against time: "
            + "; ".join(f"{name} in {int(m.sum())} images" for name, m in timeline(found).items())
            + ".",
        ),
    }


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def draw_all(found: Findings, most: int) -> dict[str, bytes]:
    """Return all figures of this file by name."""
    few = min(most, 4000)  # a small panel has no room for more
    return {
        "curves": draw_curves(found, few),
        "noise": draw_noise(found),
        "stages": draw_stages(found, few),
        "contamination": draw_contamination(found, few),
        "conditions": draw_conditions(found, few),
        "correlations": draw_correlations(found, few),
        "timeline": draw_timeline(found),
    }


__all__ = ["DEFAULT_RADIUS", "captions", "draw_all"]
