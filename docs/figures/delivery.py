"""Figures of light curves, viewer and report, and of the light curve stage by stage."""

from __future__ import annotations

import itertools

import numpy as np
from matplotlib.figure import Figure

from docs.figures.drawing import BLUE, GREEN, GREY, RED, about, panels
from docs.figures.visit import ReducedVisit
from schemas.light_curves import CALIBRATION_STAGES, CORRECTION_STAGES, DEFAULT_RADIUS, RADII
from tasks.delivery.report.verdict import CARE_RATIO, GOOD_RATIO
from tasks.numerics.robust import MAD_TO_SIGMA


def draw_stage_curves(visit: ReducedVisit, step: str, names: list[str]) -> Figure:
    """Draw the light curve after each operation, shifted, and the scatter of each."""
    figure, (left, right) = panels(2, 3.2)
    term = visit.term(step)
    curves = {name: about(term[name], visit.good)[visit.good] for name in names}
    gap = 6 * max(MAD_TO_SIGMA * np.median(np.abs(c)) for c in curves.values())
    for k, (name, curve) in enumerate(curves.items()):
        left.plot(
            visit.minutes[visit.good], curve - k * gap, ".", ms=2, color=(BLUE, RED, GREEN)[k % 3]
        )
        left.text(
            visit.minutes[-1] * 1.02,
            -k * gap,
            name.lower().replace("_", " "),
            va="center",
            fontsize=7,
        )
    left.set(xlabel="time [min]", ylabel="about the median, shifted [ppm]")
    right.barh(range(len(names)), [np.nanstd(c) for c in curves.values()], color=BLUE)
    right.set_yticks(range(len(names)), [n.lower().replace("_", " ") for n in names])
    right.invert_yaxis()
    right.set_xlabel("scatter of the unflagged points [ppm]")
    return figure


def draw_calibration_stages(visit: ReducedVisit) -> Figure:
    """Draw the light curve after each calibration operation."""
    return draw_stage_curves(visit, "calibration_stages", list(CALIBRATION_STAGES))


def draw_correction_stages(visit: ReducedVisit) -> Figure:
    """Draw the light curve after each correction."""
    return draw_stage_curves(visit, "correction_stages", list(CORRECTION_STAGES))


def draw_light_curves(visit: ReducedVisit) -> Figure:
    """Draw three light curves."""
    figure, (axis,) = panels(1, 3.0)
    for k, (name, colour) in enumerate((("DEFAULT", BLUE), ("OPTIMAL", RED), ("PSF", GREEN))):
        table = visit.product(f"SCI_COR_Lightcurve-{name}")
        curve, error = (
            about(table["FLUX"], visit.good),
            1e6 * table["FLUXERR"] / np.median(table["FLUX"][visit.good]),
        )
        axis.errorbar(
            visit.minutes[visit.good],
            curve[visit.good] - 1500 * k,
            error[visit.good],
            fmt=".",
            color=colour,
            lw=0.5,
            label=name,
        )
    axis.set(xlabel="time [min]", ylabel="about the median, shifted [ppm]")
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def draw_imagette_light_curves(visit: ReducedVisit) -> Figure:
    """Draw the light curve of the imagettes and that of the stacks."""
    figure, (axis,) = panels(1, 3.0)
    for name, colour, size in (("IMAGETTE", GREY, 2.0), ("OPTIMAL", RED, 5.0)):
        table = visit.product(f"SCI_COR_Lightcurve-{name}")
        good = (table["EVENT"] == 0) & (table["QUALITY"] == 0)
        time_of = (table["MJD_TIME"] - visit.stacks["MJD_TIME"][0]) * 1440
        axis.plot(
            time_of[good], about(table["FLUX"], good)[good], ".", ms=size, color=colour, label=name
        )
    axis.set(xlabel="time [min]", ylabel="about the median [ppm]")
    axis.legend()
    return figure


def draw_viewer(visit: ReducedVisit) -> Figure:
    """Draw the electrons that each step removed from one point."""
    figure, (axis,) = panels(1, 3.0)
    k = visit.most_hit_stack()
    first, second = visit.term("calibration_stages")[k], visit.term("correction_stages")[k]
    removed: dict[str, float] = {}
    for row, names in ((first, list(CALIBRATION_STAGES)), (second, list(CORRECTION_STAGES))):
        removed |= {b: row[a] - row[b] for a, b in itertools.pairwise(names)}
    axis.barh(range(len(removed)), list(removed.values()), color=BLUE)
    axis.set_yticks(range(len(removed)), [n.lower().replace("_", " ") for n in removed])
    axis.set_xscale("symlog", linthresh=100)
    axis.invert_yaxis()
    axis.set_xlabel(f"electrons removed within {DEFAULT_RADIUS:.0f} pixels, image {k}")
    return figure


def draw_report(visit: ReducedVisit) -> Figure:
    """Draw the ratio of measured scatter to formal error, with the limits of the verdict."""
    figure, (axis,) = panels(1, 3.0)
    table = visit.term("quality", "TERM_METRICS")
    order = np.argsort(table["RADIUS"], kind="stable")
    circles = [
        k
        for k in order
        if str(table["DATANAME"][k]).startswith("R") and "_" not in str(table["DATANAME"][k])
    ]
    ratio = table["P2P_PPM"] / table["FORM_PPM"]
    axis.plot(table["RADIUS"][circles], ratio[circles], "o-", color=BLUE, label="circles")
    for name, colour in (("OPTIMAL", RED), ("PSF", GREEN)):
        curve = table["DATANAME"] == name
        axis.plot(table["RADIUS"][curve], ratio[curve], "D", ms=6, color=colour, label=name)
    for limit, text in (
        (GOOD_RATIO, "above: usable with care"),
        (CARE_RATIO, "above: not usable"),
    ):
        axis.axhline(limit, color=GREY, lw=0.8)
        axis.text(RADII[0], limit, text, va="bottom", fontsize=7)
    axis.set(xlabel="radius [pixel]", ylabel="point-to-point scatter / formal error")
    axis.legend()
    return figure
