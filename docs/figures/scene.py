"""Figures of the steps that describe the scene: pointing, PSF, stars, position."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from docs.figures.drawing import BLUE, GREY, RED, over_time, panels, show
from docs.figures.visit import CASE, ReducedVisit
from schemas.arrays import FloatArray
from tasks.scene.stars import field_places


def draw_pointing(visit: ReducedVisit) -> Figure:
    """Draw roll angle and blur."""
    figure, (left, right) = panels()
    term = visit.term("pointing")
    over_time(
        left,
        visit,
        "roll angle [deg]",
        estimate=term["ROLL_ANGLE"],
        truth_at_mid_time=visit.stacks["ROLL_ANGLE"],
    )
    over_time(
        right,
        visit,
        "motion within a stack [pixel]",
        estimate=term["BLUR"] * np.sqrt(2),
        truth=visit.stacks["BLUR"],
    )
    return figure


def draw_prior(visit: ReducedVisit) -> Figure:
    """Draw the reference PSF and the bad-pixel map."""
    figure, (left, right) = panels()
    psf = visit.term("prior", "TERM_PRIOR_PSF")
    show(left, np.log10(np.maximum(psf / psf.max(), 1e-6)), "reference PSF, log10 of peak", 0, 100)
    show(right, visit.term("prior"), "codes of the bad-pixel map", vmin=-2, vmax=3)
    return figure


def draw_look(visit: ReducedVisit) -> Figure:
    """Draw the errors of the first positions, and the static map."""
    figure, (left, right) = panels()
    term = visit.term("look")
    for axis, colour in (("X", BLUE), ("Y", RED)):
        error = (term[f"CENTROID_{axis}"] - visit.stacks[f"CENTROID_{axis}"])[visit.good]
        left.plot(
            visit.minutes[visit.good],
            error - np.median(error),
            ".",
            color=colour,
            label=axis.lower(),
        )
    left.set(xlabel="time [min]", ylabel="minus truth, about the median\n[pixel]")
    left.legend()
    show(right, visit.term("look", "TERM_LOOK_STATIC"), "median of the sample [electron]", 1, 97)
    return figure


def show_psf(axis: Axes, psf: FloatArray, title: str) -> None:
    """Show a PSF on a logarithmic scale."""
    show(
        axis, np.log10(np.maximum(psf / psf.max(), 1e-5)), title, 0, 100, extent=(-64, 64, -64, 64)
    )


def draw_psf_1(visit: ReducedVisit) -> Figure:
    """Draw the first-round PSF, and its difference from the second round."""
    figure, (left, right) = panels()
    first, second = visit.term("psf_1"), visit.term("psf")
    show_psf(left, first, "first round, log10 of peak")
    show(
        right,
        1e3 * (first - second) / second.max(),
        "minus second round [0.001 of peak]",
        extent=(-64, 64, -64, 64),
    )
    return figure


def draw_psf(visit: ReducedVisit) -> Figure:
    """Draw the PSF and its change with temperature."""
    figure, (left, right) = panels()
    mean, change = visit.term("psf"), visit.term("psf", "TERM_PSF_CHANGE")
    show_psf(left, mean, "PSF, log10 of peak")
    show(
        right,
        1e3 * change / mean.max(),
        "change for a warmer telescope [0.001 of peak]",
        0.5,
        99.5,
        extent=(-64, 64, -64, 64),
    )
    return figure


def draw_plate(visit: ReducedVisit) -> Figure:
    """Draw detected and matched stars, and the residuals of the matched ones."""
    figure, (left, right) = panels(2, 3.1)
    term = visit.term("plate")
    matched = np.isfinite(term["MAG"])
    show(
        left,
        visit.product("SCI_COR_FullArray"),
        "detected stars, matched ones filled [electron]",
        1,
        99,
    )
    left.scatter(term["X"], term["Y"], s=25, facecolors="none", edgecolors=RED)
    left.scatter(term["X"][matched], term["Y"][matched], s=8, color=RED)
    right.plot(term["DX"][matched], term["DY"][matched], "o", color=BLUE)
    right.axhline(0, color=GREY, lw=0.5)
    right.axvline(0, color=GREY, lw=0.5)
    right.set(xlabel="x minus solution [pixel]", ylabel="y minus solution [pixel]")
    return figure


def draw_stars_1(visit: ReducedVisit) -> Figure:
    """Draw the paths of field stars through the window."""
    figure, (axis,) = panels(1, 3.4)
    table, where = visit.term("stars_1"), visit.term("position")
    others = np.flatnonzero(~table["TARGET"].astype(bool))
    brightest = others[np.argsort(-table["FLUX"][others])][:25]
    angles = np.unwrap(visit.term("pointing")["ROLL_ANGLE"], period=360)
    roll = np.linspace(angles[0], angles[-1], 400)
    x, y = (np.full(400, np.median(where[c])) for c in "XY")
    xs, ys = field_places(
        table["XI"][brightest],
        table["ETA"][brightest],
        roll,
        x,
        y,
        visit.header("stars_1")["STAR_SCL"],
    )
    show(
        axis,
        visit.term("look", "TERM_LOOK_STATIC"),
        "paths of field stars in one orbit [electron]",
        1,
        97,
        extent=(412, 612, 412, 612),
    )
    axis.plot(xs.T, ys.T, lw=0.8, color=RED)
    axis.set_xlim(412, 612)
    axis.set_ylim(412, 612)
    return figure


def true_flux(truth: Any, xi: float, eta: float) -> float:
    """Return the flux of the true star nearest to a position [electron/s]."""
    return float(truth["FLUX"][np.argmin(np.hypot(truth["XI"] - xi, truth["ETA"] - eta))])


def draw_stars(visit: ReducedVisit) -> Figure:
    """Draw expected and measured fluxes relative to the true ones."""
    figure, (axis,) = panels(1, 3.0)
    first, second, truth = visit.term("stars_1"), visit.term("stars"), visit.truth("TRUTH_STARS")
    seconds = CASE["nexp"] * CASE["exptime"]
    target = float(second["FLUX"][second["TARGET"].astype(bool)][0]) / (truth["FLUX"][0] * seconds)
    measured = np.flatnonzero(first["FLUX"] != second["FLUX"])
    for k in measured:
        true = true_flux(truth, second["XI"][k], second["ETA"][k]) * seconds * target
        axis.plot(
            second["MAG"][k],
            first["FLUX"][k] / true,
            "s",
            color=GREY,
            label="catalogue" if k == measured[0] else None,
        )
        axis.errorbar(
            second["MAG"][k],
            second["FLUX"][k] / true,
            second["FLUXERR"][k] / true,
            fmt="o",
            color=BLUE,
            label="measured" if k == measured[0] else None,
        )
    axis.axhline(1, color=RED, lw=0.8)
    axis.set(xlabel="Gaia G", ylabel="flux / true flux")
    axis.legend()
    return figure


def draw_position(visit: ReducedVisit) -> Figure:
    """Draw the errors of the positions, and the positions on the CCD."""
    figure, (left, right) = panels()
    term, good = visit.term("position"), visit.good
    for axis, colour in (("X", BLUE), ("Y", RED)):
        error = term[axis] - visit.stacks[f"CENTROID_{axis}"]
        left.plot(
            visit.minutes[good],
            1000 * (error - np.median(error[good]))[good],
            ".",
            color=colour,
            label=axis.lower(),
        )
    left.set(xlabel="time [min]", ylabel="minus truth, about the median\n[0.001 pixel]")
    left.legend()
    right.plot(term["X"][good], term["Y"][good], ".", color=BLUE)
    right.set_aspect("equal")
    right.locator_params(axis="x", nbins=3)
    right.set(xlabel="x on the CCD [pixel]", ylabel="y on the CCD [pixel]")
    return figure
