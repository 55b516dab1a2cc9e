"""Figures of the pages: a small visit with a seed is simulated and reduced, and each step shows
what it made of it.

`python -m docs.figures FOLDER` leaves `FOLDER/figures/STEP.png`. They are made again when code or
cases change, not otherwise.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from astropy.io import fits
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from schemas.flags import PixelFlag, Quality
from schemas.light_curves import CALIBRATION_STAGES, CORRECTION_STAGES, DEFAULT_RADIUS, RADII
from tasks.delivery.report.verdict import CARE_RATIO, GOOD_RATIO

ROOT = Path(__file__).resolve().parent.parent
CODE = ("flows", "tasks", "schemas", "reference_data", "docs/figures.py")
# One orbit of a star of G = 9 before the CCD of March 2024, with all stacks that the SAA and the
# Earth spoil.
CASE = {
    "images": 100,
    "nexp": 3,
    "exptime": 20.0,
    "magnitude": 9.0,
    "teff": 5900,
    "transit": False,
    "tilt": 26.0,
    "bias_drift": 0.2,
    "imagettes": True,
    "full_frame": True,
    "start": "2024-03-10T08:00:00",
    "kept_flagged": 1.0,
}
SEED = 1
BLUE, RED, GREEN, GREY = "#0b5fa5", "#c2410c", "#15803d", "#6b7280"
mpl.rcParams.update(
    {
        "font.size": 8.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 9,
        "legend.frameon": False,
        "image.origin": "lower",
        "image.cmap": "cividis",
        "lines.markersize": 3.0,
        "savefig.dpi": 130,
        "axes.grid": False,
    }
)
Image = np.ndarray[Any, np.dtype[np.float64]]


class Visit:
    """The reduced visit, its terms, and the truth that the pipeline did not see."""

    def __init__(self, raw: Path, published: Path) -> None:
        self.raw, self.published = raw, published

    def term(self, step: str, hdu: int | str = 1, sub: str = "") -> Any:
        """Return the data of an HDU of a step's term."""
        return fits.getdata(self.published / "terms" / sub / f"{step}.fits", hdu)

    def used(self, step: str) -> Any:
        """Return the header of a step's term."""
        return fits.getheader(self.published / "terms" / f"{step}.fits", 1)

    def product(self, name: str, hdu: int = 1) -> Any:
        """Return the data of a published product."""
        (path,) = self.published.glob(f"*_{name}_V*.fits")
        return fits.getdata(path, hdu)

    def truth(self, name: str) -> Any:
        """Return a table or image of the truth."""
        return fits.getdata(self.raw / "truth" / "truth.fits", name)

    @cached_property
    def stacks(self) -> Any:
        """The truth of every stack."""
        return self.truth("TRUTH_STACKS")

    @cached_property
    def minutes(self) -> Image:
        """Time of every stack since the first one [min]."""
        return np.asarray((self.stacks["MJD_TIME"] - self.stacks["MJD_TIME"][0]) * 1440)

    @cached_property
    def good(self) -> Any:
        """Which points are not flagged."""
        table = self.term("quality")
        return (table["EVENT"] == 0) & (table["QUALITY"] == 0)

    def clean_stack(self) -> int:
        """Return the good stack with the most pixels that cosmic rays hit."""
        hits = np.where(self.good, self.term("defects", "TERM_DEFECTS_IMAGES")["ALL"], -1)
        return int(np.argmax(hits))


def panels(count: int = 2, height: float = 2.7) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels side by side."""
    figure = Figure(figsize=(7.2, height), layout="constrained")
    return figure, list(np.atleast_1d(np.asarray(figure.subplots(1, count))))


def show(
    axis: Axes, image: Image, title: str, low: float = 1.0, high: float = 99.0, **options: Any
) -> None:
    """Show an image between two percentiles, with a scale."""
    limits = np.nanpercentile(image, [low, high])
    drawn = axis.imshow(
        image, **{"vmin": limits[0], "vmax": limits[1], "interpolation": "nearest", **options}
    )
    axis.set_title(title)
    axis.figure.colorbar(drawn, ax=axis, shrink=0.85)
    axis.set_xlabel("x [pixel]")
    axis.set_ylabel("y [pixel]")


def over_time(axis: Axes, visit: Visit, unit: str, **series: Any) -> None:
    """Draw series over time: the first as dots, further ones as lines."""
    for k, (name, values) in enumerate(series.items()):
        label = name.replace("_", " ")
        if k == 0:
            axis.plot(visit.minutes, values, ".", color=BLUE, label=label)
        else:
            axis.plot(visit.minutes, values, "-", color=RED, lw=1, label=label)
    axis.set_xlabel("time [min]")
    axis.set_ylabel(unit)
    axis.legend()


def histogram(axis: Axes, values: Image, title: str, unit: str, span: float = 5.0) -> None:
    """Draw the distribution of values."""
    values = values[np.isfinite(values)]
    spread = max(1.4826 * float(np.median(np.abs(values - np.median(values)))), 1e-12)
    edges = np.median(values) + np.linspace(-span, span, 60) * spread
    axis.hist(np.clip(values, edges[0], edges[-1]), edges, color=BLUE)
    axis.set_title(f"{title}; scatter {spread:.2g}")
    axis.set_xlabel(unit)
    axis.set_ylabel("number")


def about(values: Image, good: Any) -> Image:
    """Return values about their median [ppm]."""
    return np.asarray(1e6 * (values / np.nanmedian(values[good]) - 1))


# ---- calibration


def events(visit: Visit) -> Figure:
    """Draw the angle to the Earth's limb with what was flagged."""
    figure, (axis,) = panels(1)
    term = visit.term("events")
    axis.plot(visit.minutes, term["EARTH_LIMB"], ".", color=GREY, label="not flagged")
    for flag, colour, marker in (
        (Quality.SAA, RED, "s"),
        (Quality.OCCULTED, BLUE, "v"),
        (Quality.STRAY_LIGHT, GREEN, "^"),
    ):
        of = term["QUALITY"] & int(flag) != 0
        if of.any():
            name = "SAA" if flag is Quality.SAA else str(flag.name).lower().replace("_", " ")
            axis.plot(visit.minutes[of], term["EARTH_LIMB"][of], marker, color=colour, label=name)
    axis.axhline(0, color=GREY, lw=0.5)
    axis.set_xlabel("time [min]")
    axis.set_ylabel("angle above the Earth's limb [deg]")
    axis.legend()
    return figure


def housekeeping(visit: Visit) -> Figure:
    """Draw the range of every parameter about its median."""
    figure, (axis,) = panels(1)
    term = visit.term("housekeeping")
    rows = [row for row in term if row["LARGEST"] > row["LEAST"]]
    for place, row in enumerate(rows):
        axis.plot(
            1e3 * np.array([row["LEAST"] - row["MEDIAN"], row["LARGEST"] - row["MEDIAN"]]),
            [place, place],
            color=BLUE,
        )
    axis.set_yticks(range(len(rows)), [f"{row['NAME']} [{row['UNIT']}]" for row in rows])
    axis.set_xscale("symlog", linthresh=0.1)
    axis.set_xlabel("about the median [thousandths of the unit]")
    return figure


def bias(visit: Visit) -> Figure:
    """Draw level and structure."""
    figure, (left, right) = panels()
    term = visit.term("bias")
    over_time(left, visit, "ADU", estimate=term["LEVEL"], truth=visit.stacks["BIAS"])
    show(right, visit.term("bias", "TERM_BIAS_STRUCTURE"), "structure [ADU]")
    return figure


def gain(visit: Visit) -> Figure:
    """Draw the gain of the images."""
    figure, (axis,) = panels(1)
    estimate, truth = visit.term("gain")["GAIN"], visit.stacks["GAIN"]
    over_time(
        axis,
        visit,
        "gain about its mean [ppm]",
        estimate=1e6 * (estimate / truth.mean() - 1),
        truth=1e6 * (truth / truth.mean() - 1),
    )
    return figure


def linearity(visit: Visit) -> Figure:
    """Draw the curve."""
    figure, (axis,) = panels(1)
    from tasks.visit.linearity_curve import linearise

    term = visit.term("linearity")
    signal = np.linspace(0, 1.1e5, 500)
    cubic = np.ascontiguousarray(
        np.stack([term[f"COEF_{i}"] for i in range(4)], axis=1).astype(float)
    )
    axis.plot(signal, linearise(signal, term["BOUNDARY"].astype(float), cubic) - signal, color=BLUE)
    axis.plot(
        term["BOUNDARY"][term["BOUNDARY"] < 1.1e5],
        term["COEF_0"][term["BOUNDARY"] < 1.1e5] - term["BOUNDARY"][term["BOUNDARY"] < 1.1e5],
        "o",
        color=RED,
        label="boundaries",
    )
    axis.set_xlabel("measured signal of one exposure [electron]")
    axis.set_ylabel("corrected less measured [electron]")
    axis.legend()
    return figure


def spread(visit: Visit) -> Figure:
    """Draw the offsets of exposures, and what they add to the brightest pixels of a stack."""
    from tasks.calibration.motion import motion_variances

    figure, (left, right) = panels()
    term = visit.term("spread")
    for x, y in zip(term["OFFSET_X"], term["OFFSET_Y"], strict=True):
        left.plot(x, y, "o-", ms=3, lw=0.5)
    left.set_xlabel("offset from the stack's mean place, x [pixel]")
    left.set_ylabel("y [pixel]")
    left.set_aspect("equal", "datalim")
    cube = visit.product("SCI_CAL_SubArray")[0].astype(float) / CASE["nexp"]
    variance = np.empty_like(cube)
    motion_variances(
        cube, np.stack([term["OFFSET_X"][0], term["OFFSET_Y"][0]]).astype(float), variance
    )
    show(right, np.sqrt(variance)[60:140, 60:140], "scatter over the exposures [electron]")
    return figure


def dark(visit: Visit) -> Figure:
    """Draw the thermal charge and hold it against the truth."""
    figure, (left, right) = panels()
    charge, head = visit.term("dark"), visit.used("dark")
    truth = visit.truth("TRUTH_DARK") * (CASE["exptime"] + head["DARK_RDT"])
    show(left, charge, "thermal charge [electron]")
    right.loglog(
        np.maximum(truth, 1).ravel(),
        np.maximum(charge, 1).ravel(),
        ".",
        ms=1,
        color=BLUE,
        rasterized=True,
    )
    right.plot([1, truth.max()], [1, truth.max()], color=RED, lw=0.8)
    right.set_xlabel("truth [electron]")
    right.set_ylabel("estimate [electron]")
    return figure


def flat(visit: Visit) -> Figure:
    """Draw the response, and its error over the formal one."""
    figure, (left, right) = panels()
    image, error, truth = visit.term("flat"), visit.term("flat", 2), visit.truth("TRUTH_FLAT")
    show(left, image, "response")
    histogram(
        right,
        ((image / truth / np.median(image / truth) - 1) / error).ravel(),
        "(estimate - truth) / error",
        "",
    )
    return figure


def flat_field(visit: Visit) -> Figure:
    """Draw response and error of the whole CCD, with the window."""
    figure, (left, right) = panels(2, 3.1)
    show(left, visit.product("PIP_CAL_FlatField"), "response of the whole CCD")
    show(right, visit.product("PIP_CAL_FlatField", 2), "its error")
    for axis in (left, right):
        axis.plot([412, 612, 612, 412, 412], [412, 412, 612, 612, 412], color=RED, lw=1)
    return figure


def calibrate(visit: Visit) -> Figure:
    """Draw a stack before and after."""
    figure, (left, right) = panels()
    look = visit.term("look")
    first = int(np.flatnonzero(look["SAMPLED"])[0])
    show(left, visit.term("calibration_stages", "TERM_RAW_IMAGE"), "raw [ADU]")
    show(right, visit.product("SCI_CAL_SubArray")[first], "calibrated [electron]")
    return figure


def calibrate_imagettes(visit: Visit) -> Figure:
    """Draw the imagettes of one stack."""
    figure, axes = panels(3, 2.4)
    cube = visit.product("SCI_CAL_Imagette")
    for k, axis in enumerate(axes):
        show(axis, cube[k], f"imagette {k} [electron]")
    return figure


def calibrate_full_array(visit: Visit) -> Figure:
    """Draw the whole CCD with the window."""
    figure, (left, right) = panels(2, 3.1)
    image = visit.product("SCI_CAL_FullArray")
    show(left, image, "whole CCD [electron]")
    left.plot([412, 612, 612, 412, 412], [412, 412, 612, 612, 412], color=RED, lw=1)
    show(right, visit.term("dark", 1, "full_array"), "thermal charge [electron]")
    return figure


def stage_curves(visit: Visit, step: str, names: list[str]) -> Figure:
    """Draw the light curve after each operation, one above the other."""
    figure, (left, right) = panels(2, 3.2)
    term = visit.term(step)
    curves = {name: about(term[name], visit.good)[visit.good] for name in names}
    gap = 6 * max(1.4826 * np.median(np.abs(c)) for c in curves.values())
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
    left.set_xlabel("time [min]")
    left.set_ylabel("about the median, shifted [ppm]")
    right.barh(range(len(names)), [np.nanstd(c) for c in curves.values()], color=BLUE)
    right.set_yticks(range(len(names)), [n.lower().replace("_", " ") for n in names])
    right.invert_yaxis()
    right.set_xlabel("scatter of the unflagged points [ppm]")
    return figure


# ---- the scene


def pointing(visit: Visit) -> Figure:
    """Draw roll and blur."""
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


def prior(visit: Visit) -> Figure:
    """Draw what the references know."""
    figure, (left, right) = panels()
    psf = visit.term("prior", "TERM_PRIOR_PSF")
    show(left, np.log10(np.maximum(psf / psf.max(), 1e-6)), "reference PSF, log10 of peak", 0, 100)
    show(right, visit.term("prior"), "codes of the bad-pixel map", vmin=-2, vmax=3)
    return figure


def look(visit: Visit) -> Figure:
    """Draw first positions and the static map."""
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
    left.set_xlabel("time [min]")
    left.set_ylabel("less truth, about the median\n[pixel]")
    left.legend()
    show(right, visit.term("look", "TERM_LOOK_STATIC"), "median of the sample [electron]", 1, 97)
    return figure


def psf_image(axis: Axes, psf: Image, title: str) -> None:
    """Show a PSF on a logarithmic scale."""
    show(
        axis, np.log10(np.maximum(psf / psf.max(), 1e-5)), title, 0, 100, extent=(-64, 64, -64, 64)
    )


def psf_1(visit: Visit) -> Figure:
    """Draw the PSF, and its difference from that of the second round."""
    figure, (left, right) = panels()
    first, second = visit.term("psf_1"), visit.term("psf")
    psf_image(left, first, "first round, log10 of peak")
    show(
        right,
        1e3 * (first - second) / second.max(),
        "less second round [0.001 of peak]",
        extent=(-64, 64, -64, 64),
    )
    return figure


def psf(visit: Visit) -> Figure:
    """Draw the PSF and its change."""
    figure, (left, right) = panels()
    mean, change = visit.term("psf"), visit.term("psf", "TERM_PSF_CHANGE")
    psf_image(left, mean, "PSF, log10 of peak")
    show(
        right,
        1e3 * change / mean.max(),
        "change of a warmer telescope [0.001 of peak]",
        0.5,
        99.5,
        extent=(-64, 64, -64, 64),
    )
    return figure


def plate(visit: Visit) -> Figure:
    """Draw the spots that were found and those that matched."""
    figure, (left, right) = panels(2, 3.1)
    term = visit.term("plate")
    matched = np.isfinite(term["MAG"])
    show(
        left,
        visit.product("SCI_COR_FullArray"),
        "stars found, matched ones filled [electron]",
        1,
        99,
    )
    left.scatter(term["X"], term["Y"], s=25, facecolors="none", edgecolors=RED)
    left.scatter(term["X"][matched], term["Y"][matched], s=8, color=RED)
    right.plot(term["DX"][matched], term["DY"][matched], "o", color=BLUE)
    right.axhline(0, color=GREY, lw=0.5)
    right.axvline(0, color=GREY, lw=0.5)
    right.set_xlabel("x less solution [pixel]")
    right.set_ylabel("y less solution [pixel]")
    return figure


def stars_1(visit: Visit) -> Figure:
    """Draw the paths of field stars through the window."""
    from tasks.scene.stars import field_places

    figure, (axis,) = panels(1, 3.4)
    table, where = visit.term("stars_1"), visit.term("position")
    others = np.flatnonzero(~table["TARGET"].astype(bool))
    brightest = others[np.argsort(-table["FLUX"][others])][:25]
    roll = np.linspace(*np.unwrap(visit.term("pointing")["ROLL_ANGLE"], period=360)[[0, -1]], 400)
    x, y = (np.full(400, np.median(where[c])) for c in "XY")
    xs, ys = field_places(
        table["XI"][brightest],
        table["ETA"][brightest],
        roll,
        x,
        y,
        visit.used("stars_1")["STAR_SCL"],
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


def stars(visit: Visit) -> Figure:
    """Draw measured and expected fluxes over the true ones."""
    figure, (axis,) = panels(1, 3.0)
    first, second, truth = visit.term("stars_1"), visit.term("stars"), visit.truth("TRUTH_STARS")
    seconds = CASE["nexp"] * CASE["exptime"]
    target = float(second["FLUX"][second["TARGET"].astype(bool)][0]) / (truth["FLUX"][0] * seconds)
    told = np.flatnonzero(first["FLUX"] != second["FLUX"])
    for k in told:
        near = int(
            np.argmin(np.hypot(truth["XI"] - second["XI"][k], truth["ETA"] - second["ETA"][k]))
        )
        true = truth["FLUX"][near] * seconds * target
        axis.plot(
            second["MAG"][k],
            first["FLUX"][k] / true,
            "s",
            color=GREY,
            label="catalogue" if k == told[0] else None,
        )
        axis.errorbar(
            second["MAG"][k],
            second["FLUX"][k] / true,
            second["FLUXERR"][k] / true,
            fmt="o",
            color=BLUE,
            label="measured" if k == told[0] else None,
        )
    axis.axhline(1, color=RED, lw=0.8)
    axis.set_xlabel("Gaia G")
    axis.set_ylabel("flux over truth")
    axis.legend()
    return figure


def position(visit: Visit) -> Figure:
    """Draw positions less the truth."""
    figure, (left, right) = panels()
    term, good = visit.term("position"), visit.good
    for axis, colour in (("X", BLUE), ("Y", RED)):
        away = term[axis] - visit.stacks[f"CENTROID_{axis}"]
        left.plot(
            visit.minutes[good],
            1000 * (away - np.median(away[good]))[good],
            ".",
            color=colour,
            label=axis.lower(),
        )
    left.set_xlabel("time [min]")
    left.set_ylabel("less truth, about the median\n[0.001 pixel]")
    left.legend()
    right.plot(term["X"][good], term["Y"][good], ".", color=BLUE)
    right.set_aspect("equal")
    right.set_xlabel("x on the CCD [pixel]")
    right.set_ylabel("y on the CCD [pixel]")
    return figure


# ---- correction


def levels(axis: Axes, visit: Visit, step: str) -> None:
    """Draw the background of unflagged stacks less the truth."""
    term, good = visit.term(step), visit.good
    away = term["LEVEL"] - visit.stacks["BACKGROUND"]
    axis.errorbar(
        visit.minutes[good],
        (away - np.median(away[good]))[good],
        term["LEVEL_ERR"][good],
        fmt=".",
        color=BLUE,
        lw=0.6,
    )
    axis.axhline(0, color=RED, lw=0.8)
    axis.set_xlabel("time [min]")
    axis.set_ylabel("less truth, about the median\n[electron a pixel]")


def background_1(visit: Visit) -> Figure:
    """Draw the first round."""
    figure, (left, right) = panels()
    over_time(
        left,
        visit,
        "electron a pixel",
        estimate=visit.term("background_1")["LEVEL"],
        truth=visit.stacks["BACKGROUND"],
    )
    levels(right, visit, "background_1")
    return figure


def background(visit: Visit) -> Figure:
    """Draw the second round, and the windows."""
    figure, (left, right) = panels()
    levels(left, visit, "background")
    sky, windows = (
        visit.term("background", "TERM_BACKGROUND_SKY"),
        visit.term("background", "TERM_BACKGROUND_WINDOWS"),
    )
    # the last cells lie outside of the ring
    show(
        right,
        np.where(windows > 0, sky, np.nan)[:-1],
        "averaged field, masked cells white [electron]",
        extent=(0, 360, 45, 97),
        aspect="auto",
    )
    right.set_xlabel("position angle [deg]")
    right.set_ylabel("distance [pixel]")
    return figure


def smearing(visit: Visit) -> Figure:
    """Draw smeared light by column."""
    figure, (axis,) = panels(1)
    good = visit.good
    axis.plot(visit.term("smearing")[good].mean(axis=0), ".", color=BLUE, label="estimate")
    axis.plot(visit.stacks["SMEARING"][good].mean(axis=0), color=RED, lw=1, label="truth")
    axis.set_xlabel("column of the window")
    axis.set_ylabel("electron a pixel and stack")
    axis.legend()
    return figure


def defects_1(visit: Visit) -> Figure:
    """Draw the steady excess."""
    figure, (left, right) = panels()
    static, away = (
        visit.term("defects_1", "TERM_DEFECTS_STATIC"),
        visit.term("defects_1", "TERM_TELEGRAPHIC"),
    )
    show(left, np.where(static > 0, static, np.nan), "steady excess [electron]", 1, 95)
    right.plot(np.maximum(away["SIGMA"], 1), away["GAP"], ".", color=BLUE, ms=2)
    right.set_xscale("log")
    right.set_yscale("log")
    right.set_xlabel("noise of a telegraphic pixel [electron]")
    right.set_ylabel("gap of its levels [electron]")
    return figure


def defects(visit: Visit) -> Figure:
    """Draw hits by charge with what was found of them, and the flags."""
    figure, (left, right) = panels(2, 3.0)
    truth, term = visit.truth("TRUTH_COSMICS"), visit.term("defects")
    good = np.flatnonzero(visit.good)
    found = {(int(r["IMAGE_INDEX"]), int(r["X"]), int(r["Y"])) for r in term[term["KIND"] == 1]}
    flags = visit.term("defects", "TERM_DEFECTS_FLAGS").astype(int)
    inside = flags[truth["Y"], truth["X"]] & int(PixelFlag.OUTSIDE) == 0
    rows = truth[np.isin(truth["STACK"], good) & inside]
    seen = np.array([(int(r["STACK"]), int(r["X"]), int(r["Y"])) in found for r in rows])
    edges = np.geomspace(50, 3e3, 13)
    count, _ = np.histogram(rows["CHARGE"], edges)
    hit, _ = np.histogram(rows["CHARGE"][seen], edges)
    left.step(edges[:-1], hit / np.maximum(count, 1), where="post", color=BLUE)
    left.set_xscale("log")
    left.set_xlabel("charge of a cosmic ray in a pixel [electron]")
    left.set_ylabel("share that was found")
    for flag, colour in (
        (PixelFlag.HOT, RED),
        (PixelFlag.TELEGRAPHIC, BLUE),
        (PixelFlag.DEAD, GREEN),
    ):
        y, x = np.nonzero(flags & int(flag))
        right.plot(x, y, ".", ms=2.5, color=colour, label=str(flag.name).lower())
    right.set_aspect("equal")
    right.legend(loc="upper left", bbox_to_anchor=(1, 1))
    right.set_xlabel("x [pixel]")
    right.set_ylabel("y [pixel]")
    return figure


def correct(visit: Visit) -> Figure:
    """Draw a stack before and after."""
    figure, (left, right) = panels()
    k = visit.clean_stack()
    before, after = visit.product("SCI_CAL_SubArray")[k], visit.product("SCI_COR_SubArray")[k]
    span = 6 * 1.4826 * np.nanmedian(np.abs(after - np.nanmedian(after)))
    show(
        left,
        before - np.nanmedian(before),
        "calibrated, less its median [electron]",
        vmin=-span,
        vmax=2 * span,
    )
    show(right, after, "corrected [electron]", vmin=-span, vmax=2 * span)
    return figure


def corrections(visit: Visit) -> Figure:
    """Draw a plane of the background, and the tracks."""
    figure, (left, right) = panels()
    k = visit.clean_stack()
    show(
        left, visit.product("PIP_COR_BkgSLSubArray")[k], "background of a stack [electron]", 0, 100
    )
    tracks = visit.product("PIP_REP_DetectedCosmics-SubArray")
    right.hist(tracks["NUM_PIXELS"], np.arange(0.5, 25.5), color=BLUE)
    right.set_yscale("log")
    right.set_xlabel("pixels of a track")
    right.set_ylabel("tracks")
    return figure


def correct_imagettes(visit: Visit) -> Figure:
    """Draw the imagette with most hits, before and after."""
    figure, axes = panels(3, 2.4)
    hits = visit.term("correct_imagettes")["HITS"]
    held = visit.good[visit.term("correct_imagettes")["STACK"]]
    k = int(np.argmax(np.where(held, hits, -1)))
    before, after = visit.product("SCI_CAL_Imagette")[k], visit.product("SCI_COR_Imagette")[k]
    show(axes[0], before, "calibrated [electron]")
    show(axes[1], after, "corrected [electron]")
    show(axes[2], before - after, "difference [electron]", 0, 99.5)
    return figure


def correct_full_array(visit: Visit) -> Figure:
    """Draw the corrected full array."""
    figure, (left, right) = panels(2, 3.1)
    before, after = visit.product("SCI_CAL_FullArray"), visit.product("SCI_COR_FullArray")
    span = np.nanpercentile(after, [5, 99])
    shift = np.nanmedian(before)
    show(left, before, "calibrated [electron]", vmin=span[0] + shift, vmax=span[1] + shift)
    show(right, after, "corrected, no number white [electron]", vmin=span[0], vmax=span[1])
    return figure


# ---- photometry


def apertures(visit: Visit) -> Figure:
    """Draw flux and scatter by radius."""
    figure, (left, right) = panels()
    flux, good = visit.term("apertures")["FLUX"], visit.good
    middle = np.median(flux[good], axis=0)
    left.plot(RADII, middle / middle[-1], "o-", color=BLUE)
    left.set_xlabel("radius [pixel]")
    left.set_ylabel("flux over that of R40")
    spread = [
        1e6 * 1.4826 * np.median(np.abs(f - np.median(f))) / np.median(f) for f in flux[good].T
    ]
    right.plot(RADII, spread, "o-", color=BLUE)
    right.set_xlabel("radius [pixel]")
    right.set_ylabel("robust scatter [ppm]")
    return figure


def psf_fit(visit: Visit) -> Figure:
    """Draw the flux by PSF, and the share of light in circles."""
    figure, (left, right) = panels()
    term, good = visit.term("psf_fit"), visit.good
    left.plot(
        visit.minutes[good],
        about(term["FLUX"][good] / visit.stacks["TARGET"][good], slice(None)),
        ".",
        color=BLUE,
    )
    left.set_xlabel("time [min]")
    left.set_ylabel("flux by PSF over truth,\nabout the median [ppm]")
    for radius, colour in ((15.0, RED), (25.0, BLUE), (40.0, GREEN)):
        share = term["SHARE"][:, RADII.index(radius)]
        right.plot(
            visit.minutes[good], about(share, good)[good], ".", color=colour, label=f"R{radius:.0f}"
        )
    right.set_xlabel("time [min]")
    right.set_ylabel("share of light,\nabout the median [ppm]")
    right.legend()
    return figure


def contamination(visit: Visit) -> Figure:
    """Draw contamination over the roll."""
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
    axis.set_xlabel("roll angle [deg]")
    axis.set_ylabel("field stars over target [ppm]")
    axis.legend()
    return figure


def quality(visit: Visit) -> Figure:
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
    axis.set_xlabel("radius [pixel]")
    axis.set_ylabel("error of a point [ppm]")
    axis.legend(ncols=1, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def light_curves(visit: Visit) -> Figure:
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
    axis.set_xlabel("time [min]")
    axis.set_ylabel("about the median, shifted [ppm]")
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def imagette_photometry(visit: Visit) -> Figure:
    """Draw what the circle loses, and the model's share."""
    figure, (left, right) = panels()
    term = visit.term("imagette_photometry")
    good = (term["EVENT"] == 0) & (term["QUALITY"] == 0)
    total, share = about(term["SUM"], good)[good], about(term["SHARE"], good)[good]
    left.plot(share, total, ".", color=BLUE, label="sum")
    left.plot(share, about(term["FLUX"], good)[good], ".", color=RED, label="made up for")
    left.set_xlabel("model's share of light in the circle [ppm]")
    left.set_ylabel("flux of an imagette [ppm]")
    left.legend()
    histogram(
        right,
        about(term["FLUX"], good)[good] * term["FLUX"][good] / term["FLUXERR"][good] / 1e6,
        "over its error",
        "sigma",
    )
    return figure


def imagette_light_curves(visit: Visit) -> Figure:
    """Draw imagettes and stacks."""
    figure, (axis,) = panels(1, 3.0)
    for name, colour, size in (("IMAGETTE", GREY, 2.0), ("OPTIMAL", RED, 5.0)):
        table = visit.product(f"SCI_COR_Lightcurve-{name}")
        good = (table["EVENT"] == 0) & (table["QUALITY"] == 0)
        time_of = (table["MJD_TIME"] - visit.stacks["MJD_TIME"][0]) * 1440
        axis.plot(
            time_of[good], about(table["FLUX"], good)[good], ".", ms=size, color=colour, label=name
        )
    axis.set_xlabel("time [min]")
    axis.set_ylabel("about the median [ppm]")
    axis.legend()
    return figure


def viewer(visit: Visit) -> Figure:
    """Draw what the steps took out of one point."""
    figure, (axis,) = panels(1, 3.0)
    k = visit.clean_stack()
    first, second = visit.term("calibration_stages")[k], visit.term("correction_stages")[k]
    taken = {}
    for row, names in ((first, list(CALIBRATION_STAGES)), (second, list(CORRECTION_STAGES))):
        taken |= {b: row[a] - row[b] for a, b in itertools.pairwise(names)}
    axis.barh(range(len(taken)), list(taken.values()), color=BLUE)
    axis.set_yticks(range(len(taken)), [n.lower().replace("_", " ") for n in taken])
    axis.set_xscale("symlog", linthresh=100)
    axis.invert_yaxis()
    axis.set_xlabel(f"electrons taken away within {DEFAULT_RADIUS:.0f} pixels, image {k}")
    return figure


def report(visit: Visit) -> Figure:
    """Draw what the verdict rests on."""
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
        of = table["DATANAME"] == name
        axis.plot(table["RADIUS"][of], ratio[of], "D", ms=6, color=colour, label=name)
    for limit, words in (
        (GOOD_RATIO, "above: usable with care"),
        (CARE_RATIO, "above: not usable"),
    ):
        axis.axhline(limit, color=GREY, lw=0.8)
        axis.text(RADII[0], limit, words, va="bottom", fontsize=7)
    axis.set_xlabel("radius [pixel]")
    axis.set_ylabel("point-to-point scatter over formal error")
    axis.legend()
    return figure


@dataclass(frozen=True)
class Drawn:
    """A figure: how it is drawn, what it shows in words, and what to see in it."""

    draw: Callable[[Visit], Figure]
    alt: str
    caption: str


FIGURES: dict[str, Drawn] = {
    "events": Drawn(
        events,
        "Angle to the Earth's limb over time with the flagged stacks",
        "The star above the Earth's limb in "
        "one orbit. Stacks in the SAA and behind the Earth are flagged, as is stray light "
        "above its threshold.",
    ),
    "housekeeping": Drawn(
        housekeeping,
        "Range of each voltage and temperature about its median",
        "How far each parameter went during one orbit, about its median; the scale is logarithmic.",
    ),
    "bias": Drawn(
        bias,
        "Bias level over time, and an image of its structure",
        "The level of every stack with the true one, and "
        "the structure of the reference in the window.",
    ),
    "gain": Drawn(
        gain,
        "Gain over time with the true one",
        "Gain from noisy housekeeping, and the true one. The offset is the "
        "error of the reference's factors, which changes the scale of all points alike.",
    ),
    "linearity": Drawn(
        linearity,
        "Correction of the non-linearity over signal",
        "What the curve of the read-out mode adds to the signal of one exposure.",
    ),
    "spread": Drawn(
        spread,
        "Offsets of exposures within stacks, and an image of their scatter",
        "Left, the exposures of every stack; right, how much pixels vary within the first.",
    ),
    "dark": Drawn(
        dark,
        "Image of the thermal charge, and estimate over truth",
        "Thermal charge of one exposure in the window. "
        "Pixels far off the line jump between two levels, which the dark frames cannot know.",
    ),
    "flat": Drawn(
        flat,
        "Image of the response, and distribution of its errors",
        "The response to the target's light; its error "
        "over the formal one scatters by about 1 where the reference is honest.",
    ),
    "flat_field": Drawn(
        flat_field,
        "Response of the whole CCD and its error",
        "Flat field and error of the whole CCD, with the window of the sub-array in red.",
    ),
    "calibrate": Drawn(
        calibrate,
        "A raw and a calibrated stack",
        "The same stack in ADU with its bias, and in electrons.",
    ),
    "calibrate_imagettes": Drawn(
        calibrate_imagettes, "Three calibrated imagettes", "The three exposures of the first stack."
    ),
    "calibrate_full_array": Drawn(
        calibrate_full_array,
        "The whole CCD and its thermal charge",
        "The full array with the window "
        "of the sub-array in red. Its thermal charge grows with the time until a row is read.",
    ),
    "pointing": Drawn(
        pointing,
        "Roll angle and motion within the stacks over time",
        "Roll, which falls with time, and the rms motion within each stack, both axes together.",
    ),
    "prior": Drawn(
        prior, "Reference PSF and map of bad pixels", "What is known before the visit is looked at."
    ),
    "look": Drawn(
        look,
        "Errors of the first positions, and the median of the sample",
        "First positions are good to some "
        "hundredths of a pixel; the static map shows the star and hot pixels.",
    ),
    "calibration_stages": Drawn(
        lambda v: stage_curves(v, "calibration_stages", list(CALIBRATION_STAGES)),
        "Light curves after each operation of the calibration and their scatter",
        "The same circle after each operation, "
        "over its own median: the bias, still in the first, makes that larger. The sky is in all.",
    ),
    "background_1": Drawn(
        background_1,
        "Background of the first round over time",
        "The clipped mean of the whole ring. The "
        "star's halo in the ring lifts all stacks alike, which takes nothing from a light curve.",
    ),
    "psf_1": Drawn(
        psf_1,
        "PSF of the first round and its difference from the second",
        "The first PSF, and what the second round "
        "changes: hot pixels and field stars that pass for light of the target.",
    ),
    "plate": Drawn(
        plate,
        "Stars found on the full array, and how far matched ones are off",
        "Stars of the full array, and how far they lie from where the solution puts them.",
    ),
    "stars_1": Drawn(
        stars_1,
        "Arcs of field stars about the target",
        "Where the brightest field stars go while the satellite rolls once.",
    ),
    "smearing": Drawn(
        smearing,
        "Smeared light by column",
        "Mean smeared light of a pixel in each column, and the true one. "
        "What sky and the halo leave in all columns alike counts as background.",
    ),
    "stars": Drawn(
        stars,
        "Fluxes of field stars over the true ones",
        "Fluxes as the catalogue's magnitudes give them, and as "
        "measured, over the true ones on the target's scale.",
    ),
    "defects_1": Drawn(
        defects_1,
        "Steady excess and telegraphic pixels of the sample",
        "What stands still in the sample, and the two levels of pixels that jump.",
    ),
    "background": Drawn(
        background,
        "Background less truth, and the windows of the ring",
        "The second round less the truth, about "
        "its median since the star's halo in the ring is constant, and the averaged field with "
        "the cells that are left out.",
    ),
    "psf": Drawn(
        psf,
        "The PSF and its change with temperature",
        "The PSF on its grid of half a pixel, and how it changes when "
        "the telescope is warmer by the scatter of its temperature.",
    ),
    "position": Drawn(
        position,
        "Positions less the truth, and positions on the CCD",
        "Positions of unflagged stacks.",
    ),
    "defects": Drawn(
        defects,
        "Share of cosmic rays found by charge, and flagged pixels",
        "Pixels with the charge of cosmic rays "
        "in unflagged stacks, those under the star included, and the flags of the window.",
    ),
    "correction_stages": Drawn(
        lambda v: stage_curves(v, "correction_stages", list(CORRECTION_STAGES)),
        "Light curves after each correction and their scatter",
        "The same circle after each correction.",
    ),
    "correct": Drawn(
        correct,
        "A stack before and after the correction",
        "The unflagged stack that most cosmic rays hit.",
    ),
    "corrections": Drawn(
        corrections,
        "Background of a stack, and sizes of tracks",
        "What was taken away: a plane of the background, and the tracks of cosmic rays by size.",
    ),
    "correct_imagettes": Drawn(
        correct_imagettes,
        "An imagette before and after the correction",
        "The imagette with most hits of an unflagged stack.",
    ),
    "correct_full_array": Drawn(
        correct_full_array,
        "The full array before and after the correction",
        "Sky and smearing are taken away; hot pixels and cosmic rays have no number.",
    ),
    "apertures": Drawn(
        apertures,
        "Flux and scatter by radius",
        "The growth of the flux with the radius, and the scatter of the unflagged points.",
    ),
    "psf_fit": Drawn(
        psf_fit,
        "Flux by PSF over time, and shares of light in circles",
        "Flux by PSF over the true one, and the light that circles lose to motion and breathing.",
    ),
    "contamination": Drawn(
        contamination,
        "Contamination over the roll angle",
        "Light of field stars within three radii.",
    ),
    "quality": Drawn(
        quality, "Terms of the error by radius", "The median error of a point and its terms."
    ),
    "light_curves": Drawn(
        light_curves, "Three light curves", "Unflagged points of three light curves of one orbit."
    ),
    "imagette_photometry": Drawn(
        imagette_photometry,
        "Flux of imagettes over the share of light",
        "What the circle loses goes with the model's share of the light; made up for, it does not.",
    ),
    "imagette_light_curves": Drawn(
        imagette_light_curves,
        "Light curves of imagettes and stacks",
        "One point an imagette, and one a stack.",
    ),
    "viewer": Drawn(
        viewer,
        "Electrons that each step took away from one point",
        "What the viewer says of a clicked point.",
    ),
    "report": Drawn(
        report,
        "Scatter over formal error by radius with the limits of the verdict",
        "One of the rules of the verdict: how the measured scatter compares with the formal error.",
    ),
}


def digest() -> str:
    """Return a digest of the code that the figures depend on."""
    made = hashlib.sha256(json.dumps([CASE, SEED]).encode())
    for part in CODE:
        place = ROOT / part
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.suffix in (".py", ".toml"):
                made.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return made.hexdigest()


def make_visit(folder: Path) -> Visit:
    """Simulate the visit and reduce it, without Prefect."""
    from flows.runs.reduction import run_reduce
    from reference_data.library import library_folder
    from schemas.requests import ReduceRequest
    from tasks.simulation.case import Case
    from tasks.simulation.visit import simulate_visit

    simulate_visit(folder / "visit", Case.model_validate(CASE), seed=SEED)
    request = ReduceRequest(
        visit=folder / "visit",
        references=(library_folder(),),
        output=folder / "products",
        work=folder / "work",
    )
    published, _ = run_reduce(request, "plain")
    assert published is not None
    return Visit(folder / "visit", Path(published.folder))


def main(folder: Path) -> None:
    """Make the figures where they are not up to date."""
    figures, stamp = folder / "figures", folder / "figures" / "made"
    if stamp.is_file() and stamp.read_text() == digest():
        return
    begun = time.monotonic()
    print("simulating and reducing the visit of the figures (about a minute)", flush=True)
    for part in (figures, folder / "figures_visit"):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    visit = make_visit(folder / "figures_visit")
    for name, drawn in FIGURES.items():
        drawn.draw(visit).savefig(figures / f"{name}.png", metadata={"Software": None})
    shutil.rmtree(folder / "figures_visit")
    stamp.write_text(digest())
    print(f"{len(FIGURES)} figures in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
