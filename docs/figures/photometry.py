"""Figures of the photometry steps."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from docs.figures.drawing import BLUE, GREEN, RED, about, histogram, panels
from docs.figures.visit import ReducedVisit
from schemas.light_curves import RADII
from tasks.numerics.robust import robust_scatter


def draw_apertures(visit: ReducedVisit) -> Figure:
    """Draw flux and scatter by radius."""
    figure, (left, right) = panels()
    flux, good = visit.term("apertures")["FLUX"], visit.good
    middle = np.median(flux[good], axis=0)
    left.plot(RADII, middle / middle[-1], "o-", color=BLUE)
    left.set(xlabel="radius [pixel]", ylabel="flux / flux of R40")
    scatter = [1e6 * robust_scatter(f) / np.median(f) for f in flux[good].T]
    right.plot(RADII, scatter, "o-", color=BLUE)
    right.set(xlabel="radius [pixel]", ylabel="robust scatter [ppm]")
    return figure


def draw_psf_fit(visit: ReducedVisit) -> Figure:
    """Draw the PSF flux, and the fraction of light in circles."""
    figure, (left, right) = panels()
    term, good = visit.term("psf_fit"), visit.good
    left.plot(
        visit.minutes[good],
        about(term["FLUX"][good] / visit.stacks["TARGET"][good], slice(None)),
        ".",
        color=BLUE,
    )
    left.set(xlabel="time [min]", ylabel="PSF flux / true flux,\nabout the median [ppm]")
    for radius, colour in ((15.0, RED), (25.0, BLUE), (40.0, GREEN)):
        share = term["SHARE"][:, RADII.index(radius)]
        right.plot(
            visit.minutes[good], about(share, good)[good], ".", color=colour, label=f"R{radius:.0f}"
        )
    right.set(xlabel="time [min]", ylabel="fraction of light,\nabout the median [ppm]")
    right.legend()
    return figure


def draw_contamination(visit: ReducedVisit) -> Figure:
    """Draw contamination by roll angle."""
    figure, (axis,) = panels(1)
    ratio, roll, good = (
        visit.term("contamination")["RATIO"],
        visit.term("pointing")["ROLL_ANGLE"],
        visit.good,
    )
    for radius, colour in ((15.0, RED), (25.0, BLUE), (40.0, GREEN)):
        axis.semilogy(
            roll[good] % 360,
            1e6 * ratio[good, RADII.index(radius)],
            ".",
            color=colour,
            label=f"R{radius:.0f}",
        )
    axis.set(xlabel="roll angle [deg]", ylabel="field stars / target [ppm]")
    axis.legend()
    return figure


def draw_quality(visit: ReducedVisit) -> Figure:
    """Draw the terms of the error by radius."""
    figure, (axis,) = panels(1, 3.2)
    errors, good = visit.term("quality", "TERM_ERRORS"), visit.good
    flux = np.median(visit.term("apertures")["FLUX"][good], axis=0)
    colours = mpl.colormaps["tab20"].colors  # type: ignore[attr-defined]
    for k, name in enumerate(c for c in errors.names if c not in ("MJD_TIME", "DRP")):
        term = 1e6 * np.sqrt(np.median(errors[name][good], axis=0)) / flux
        if term.max() > 0.1:
            axis.semilogy(RADII, term, color=colours[k], label=name.lower().replace("_", " "))
    total = 1e6 * np.median(visit.term("quality")["FLUXERR"][good], axis=0) / flux
    axis.semilogy(RADII, total, color="black", lw=2, label="FLUXERR")
    axis.set(xlabel="radius [pixel]", ylabel="error of a point [ppm]")
    axis.legend(ncols=1, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def draw_imagette_photometry(visit: ReducedVisit) -> Figure:
    """Draw the flux in the circle against the fraction of light that the model predicts."""
    figure, (left, right) = panels()
    term = visit.term("imagette_photometry")
    good = (term["EVENT"] == 0) & (term["QUALITY"] == 0)
    total, share = about(term["SUM"], good)[good], about(term["SHARE"], good)[good]
    left.plot(share, total, ".", color=BLUE, label="sum")
    left.plot(share, about(term["FLUX"], good)[good], ".", color=RED, label="corrected for losses")
    left.set(
        xlabel="modelled fraction of light in the circle [ppm]", ylabel="flux of an imagette [ppm]"
    )
    left.legend()
    histogram(
        right,
        about(term["FLUX"], good)[good] * term["FLUX"][good] / term["FLUXERR"][good] / 1e6,
        "flux / error",
        "sigma",
    )
    return figure
