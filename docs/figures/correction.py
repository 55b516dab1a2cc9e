"""Figures of the correction steps."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from docs.figures.drawing import BLUE, GREEN, RED, over_time, panels, show
from docs.figures.visit import ReducedVisit
from schemas.arrays import BoolArray, FloatArray
from schemas.flags import PixelFlag
from tasks.correction.hits import RAYS
from tasks.numerics.robust import MAD_TO_SIGMA


def draw_level_errors(axis: Axes, visit: ReducedVisit, step: str) -> None:
    """Draw the error of the background of unflagged stacks."""
    term, good = visit.term(step), visit.good
    error = term["LEVEL"] - visit.stacks["BACKGROUND"]
    axis.errorbar(
        visit.minutes[good],
        (error - np.median(error[good]))[good],
        term["LEVEL_ERR"][good],
        fmt=".",
        color=BLUE,
        lw=0.6,
    )
    axis.axhline(0, color=RED, lw=0.8)
    axis.set(xlabel="time [min]", ylabel="minus truth, about the median\n[electron/pixel]")


def draw_background_1(visit: ReducedVisit) -> Figure:
    """Draw the first-round background and its error."""
    figure, (left, right) = panels()
    over_time(
        left,
        visit,
        "background [electron/pixel]",
        estimate=visit.term("background_1")["LEVEL"],
        truth=visit.stacks["BACKGROUND"],
    )
    draw_level_errors(right, visit, "background_1")
    return figure


def draw_background(visit: ReducedVisit) -> Figure:
    """Draw the error of the second round, and the windows of the ring."""
    figure, (left, right) = panels()
    draw_level_errors(left, visit, "background")
    sky, windows = (
        visit.term("background", "TERM_BACKGROUND_SKY"),
        visit.term("background", "TERM_BACKGROUND_WINDOWS"),
    )
    # the last cells lie outside the ring
    show(
        right,
        np.where(windows > 0, sky, np.nan)[:-1],
        "averaged field, masked cells white [electron]",
        extent=(0, 360, 45, 97),
        aspect="auto",
    )
    right.set(xlabel="position angle [deg]", ylabel="distance [pixel]")
    return figure


def draw_smearing(visit: ReducedVisit) -> Figure:
    """Draw smeared light by column."""
    figure, (axis,) = panels(1)
    good = visit.good
    axis.plot(visit.term("smearing")[good].mean(axis=0), ".", color=BLUE, label="estimate")
    axis.plot(visit.stacks["SMEARING"][good].mean(axis=0), color=RED, lw=1, label="truth")
    axis.set(xlabel="column of the window", ylabel="smeared light [electron/pixel/stack]")
    axis.legend()
    return figure


def draw_defects_1(visit: ReducedVisit) -> Figure:
    """Draw the steady excess, and the gaps of telegraphic pixels."""
    figure, (left, right) = panels()
    static, telegraphic = (
        visit.term("defects_1", "TERM_DEFECTS_STATIC"),
        visit.term("defects_1", "TERM_TELEGRAPHIC"),
    )
    show(left, np.where(static > 0, static, np.nan), "steady excess [electron]", 1, 95)
    right.plot(np.maximum(telegraphic["SIGMA"], 1), telegraphic["GAP"], ".", color=BLUE, ms=2)
    right.set_xscale("log")
    right.set_yscale("log")
    right.set(
        xlabel="noise of a telegraphic pixel [electron]", ylabel="gap between its levels [electron]"
    )
    return figure


def hit_pixels(visit: ReducedVisit) -> tuple[FloatArray, BoolArray]:
    """Return the charge of every true hit in unflagged stacks, and whether it was found."""
    truth, term = visit.truth("TRUTH_COSMICS"), visit.term("defects")
    rays = term[np.isin(term["KIND"], RAYS)]
    found = {(int(r["IMAGE_INDEX"]), int(r["X"]), int(r["Y"])) for r in rays}
    flags = visit.term("defects", "TERM_DEFECTS_FLAGS").astype(int)
    inside = flags[truth["Y"], truth["X"]] & int(PixelFlag.OUTSIDE) == 0
    hits = truth[np.isin(truth["STACK"], np.flatnonzero(visit.good)) & inside]
    is_found = np.array([(int(r["STACK"]), int(r["X"]), int(r["Y"])) in found for r in hits])
    return hits["CHARGE"], is_found


def draw_defects(visit: ReducedVisit) -> Figure:
    """Draw the completeness of cosmic rays by charge, and the flagged pixels."""
    figure, (left, right) = panels(2, 3.0)
    charge, is_found = hit_pixels(visit)
    edges = np.geomspace(50, 3e3, 13)
    total, _ = np.histogram(charge, edges)
    found, _ = np.histogram(charge[is_found], edges)
    left.step(edges[:-1], found / np.maximum(total, 1), where="post", color=BLUE)
    left.set_xscale("log")
    left.set(xlabel="charge of a cosmic ray in a pixel [electron]", ylabel="fraction found")
    flags = visit.term("defects", "TERM_DEFECTS_FLAGS").astype(int)
    for flag, colour in (
        (PixelFlag.HOT, RED),
        (PixelFlag.TELEGRAPHIC, BLUE),
        (PixelFlag.DEAD, GREEN),
    ):
        y, x = np.nonzero(flags & int(flag))
        right.plot(x, y, ".", ms=2.5, color=colour, label=str(flag.name).lower())
    right.set_aspect("equal")
    right.legend(loc="upper left", bbox_to_anchor=(1, 1))
    right.set(xlabel="x [pixel]", ylabel="y [pixel]")
    return figure


def draw_imagette_hits(visit: ReducedVisit) -> Figure:
    """Draw the charge of hits in imagettes, and the truth of their stacks."""
    figure, (left, right) = panels()
    hits, truth = visit.term("imagette_hits"), visit.truth("TRUTH_COSMICS")
    sure = hits[(hits["SHARE"] >= 0.5) & visit.good[hits["STACK"]]]
    left.plot(sure["X"], sure["Y"], ".", color=BLUE, ms=3)
    left.set_aspect("equal")
    left.set(xlabel="x [pixel]", ylabel="y [pixel]")
    charge: dict[tuple[int, int, int], float] = {}
    for r in truth:
        key = int(r["STACK"]), int(r["X"]), int(r["Y"])
        charge[key] = charge.get(key, 0.0) + float(r["CHARGE"])
    true = [charge.get((int(r["STACK"]), int(r["X"]), int(r["Y"])), 0.0) for r in sure]
    right.plot(true, sure["AMOUNT"], ".", color=BLUE, ms=3)
    most = max([1.0, *true])
    right.plot([0, most], [0, most], "-", color=RED, lw=0.8)
    right.set(xlabel="true charge [electron]", ylabel="measured [electron]")
    return figure


def draw_correct(visit: ReducedVisit) -> Figure:
    """Draw a stack before and after the correction."""
    figure, (left, right) = panels()
    k = visit.most_hit_stack()
    before, after = visit.product("SCI_CAL_SubArray")[k], visit.product("SCI_COR_SubArray")[k]
    span = 6 * MAD_TO_SIGMA * np.nanmedian(np.abs(after - np.nanmedian(after)))
    show(
        left,
        before - np.nanmedian(before),
        "calibrated, minus its median [electron]",
        vmin=-span,
        vmax=2 * span,
    )
    show(right, after, "corrected [electron]", vmin=-span, vmax=2 * span)
    return figure


def draw_corrections(visit: ReducedVisit) -> Figure:
    """Draw the background plane of a stack, and the sizes of the tracks."""
    figure, (left, right) = panels()
    k = visit.most_hit_stack()
    show(
        left, visit.product("PIP_COR_BkgSLSubArray")[k], "background of a stack [electron]", 0, 100
    )
    tracks = visit.product("PIP_REP_DetectedCosmics-SubArray")
    right.hist(tracks["NUM_PIXELS"], [k + 0.5 for k in range(25)], color=BLUE)
    right.set_yscale("log")
    right.set(xlabel="pixels in a track", ylabel="number of tracks")
    return figure


def draw_correct_imagettes(visit: ReducedVisit) -> Figure:
    """Draw the imagette with the most hits, before and after the correction."""
    figure, axes = panels(3, 2.4)
    hits = visit.term("correct_imagettes")["HITS"]
    held = visit.good[visit.term("correct_imagettes")["STACK"]]
    k = int(np.argmax(np.where(held, hits, -1)))
    before, after = visit.product("SCI_CAL_Imagette")[k], visit.product("SCI_COR_Imagette")[k]
    show(axes[0], before, "calibrated [electron]")
    show(axes[1], after, "corrected [electron]")
    show(axes[2], before - after, "difference [electron]", 0, 99.5)
    return figure


def draw_correct_full_array(visit: ReducedVisit) -> Figure:
    """Draw the full array before and after the correction."""
    figure, (left, right) = panels(2, 3.1)
    before, after = visit.product("SCI_CAL_FullArray"), visit.product("SCI_COR_FullArray")
    span = np.nanpercentile(after, [5, 99])
    shift = np.nanmedian(before)
    show(left, before, "calibrated [electron]", vmin=span[0] + shift, vmax=span[1] + shift)
    show(right, after, "corrected, NaN white [electron]", vmin=span[0], vmax=span[1])
    return figure
