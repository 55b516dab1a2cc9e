"""Figures of the calibration steps."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from docs.figures.drawing import BLUE, GREEN, GREY, RED, histogram, over_time, panels, show
from docs.figures.visit import CASE, ReducedVisit
from schemas.flags import Quality
from tasks.calibration.motion import motion_variances
from tasks.visit.linearity_curve import linearise


def draw_events(visit: ReducedVisit) -> Figure:
    """Draw the angle above the Earth's limb, with the flagged stacks marked."""
    figure, (axis,) = panels(1)
    term = visit.term("events")
    axis.plot(visit.minutes, term["EARTH_LIMB"], ".", color=GREY, label="not flagged")
    for flag, colour, marker in (
        (Quality.SAA, RED, "s"),
        (Quality.OCCULTED, BLUE, "v"),
        (Quality.STRAY_LIGHT, GREEN, "^"),
    ):
        flagged = term["QUALITY"] & int(flag) != 0
        if flagged.any():
            name = "SAA" if flag is Quality.SAA else str(flag.name).lower().replace("_", " ")
            angle = term["EARTH_LIMB"][flagged]
            axis.plot(visit.minutes[flagged], angle, marker, color=colour, label=name)
    axis.axhline(0, color=GREY, lw=0.5)
    axis.set(xlabel="time [min]", ylabel="angle above the Earth's limb [deg]")
    axis.legend()
    return figure


def draw_housekeeping(visit: ReducedVisit) -> Figure:
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


def draw_bias(visit: ReducedVisit) -> Figure:
    """Draw the bias level over time, and the structure."""
    figure, (left, right) = panels()
    term = visit.term("bias")
    over_time(left, visit, "bias level [ADU]", estimate=term["LEVEL"], truth=visit.stacks["BIAS"])
    show(right, visit.term("bias", "TERM_BIAS_STRUCTURE"), "structure [ADU]")
    return figure


def draw_gain(visit: ReducedVisit) -> Figure:
    """Draw the gain over time."""
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


def draw_linearity(visit: ReducedVisit) -> Figure:
    """Draw the correction along the curve, and the boundaries of its pieces."""
    figure, (axis,) = panels(1)
    term = visit.term("linearity")
    signal = np.linspace(0, 1.1e5, 500)
    cubic = np.ascontiguousarray(
        np.stack([term[f"COEF_{i}"] for i in range(4)], axis=1).astype(float)
    )
    axis.plot(signal, linearise(signal, term["BOUNDARY"].astype(float), cubic) - signal, color=BLUE)
    pieces = term[term["BOUNDARY"] < 1.1e5]
    correction = pieces["COEF_0"] - pieces["BOUNDARY"]
    axis.plot(pieces["BOUNDARY"], correction, "o", color=RED, label="boundaries")
    axis.set(
        xlabel="measured signal of one exposure [electron]",
        ylabel="corrected minus measured [electron]",
    )
    axis.legend()
    return figure


def draw_spread(visit: ReducedVisit) -> Figure:
    """Draw the offsets of exposures, and the scatter that they cause in the first stack."""
    figure, (left, right) = panels()
    term = visit.term("spread")
    for x, y in zip(term["OFFSET_X"], term["OFFSET_Y"], strict=True):
        left.plot(x, y, "o-", ms=3, lw=0.5)
    left.set(xlabel="offset from the stack's mean position, x [pixel]", ylabel="y [pixel]")
    left.set_aspect("equal", "datalim")
    cube = visit.product("SCI_CAL_SubArray")[0].astype(float) / CASE["nexp"]
    variance = np.empty_like(cube)
    motion_variances(
        cube, np.stack([term["OFFSET_X"][0], term["OFFSET_Y"][0]]).astype(float), variance
    )
    show(right, np.sqrt(variance)[60:140, 60:140], "scatter over the exposures [electron]")
    return figure


def draw_dark(visit: ReducedVisit) -> Figure:
    """Draw the thermal charge, and compare it with the truth."""
    figure, (left, right) = panels()
    charge, header = visit.term("dark"), visit.header("dark")
    truth = visit.truth("TRUTH_DARK") * (CASE["exptime"] + header["DARK_RDT"])
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
    right.set(xlabel="truth [electron]", ylabel="estimate [electron]")
    return figure


def draw_flat(visit: ReducedVisit) -> Figure:
    """Draw the response, and its error divided by the formal error."""
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


def outline_window(axis: Axes) -> None:
    """Outline the sub-array's window on an image of the whole CCD."""
    axis.plot([412, 612, 612, 412, 412], [412, 412, 612, 612, 412], color=RED, lw=1)


def draw_flat_field(visit: ReducedVisit) -> Figure:
    """Draw the response of the whole CCD and its error, with the window outlined."""
    figure, (left, right) = panels(2, 3.1)
    show(left, visit.product("PIP_CAL_FlatField"), "response of the whole CCD")
    show(right, visit.product("PIP_CAL_FlatField", 2), "its error")
    for axis in (left, right):
        outline_window(axis)
    return figure


def draw_calibrate(visit: ReducedVisit) -> Figure:
    """Draw a stack before and after calibration."""
    figure, (left, right) = panels()
    look = visit.term("look")
    first = int(np.flatnonzero(look["SAMPLED"])[0])
    show(left, visit.term("calibration_stages", "TERM_RAW_IMAGE"), "raw [ADU]")
    show(right, visit.product("SCI_CAL_SubArray")[first], "calibrated [electron]")
    return figure


def draw_calibrate_imagettes(visit: ReducedVisit) -> Figure:
    """Draw the imagettes of one stack."""
    figure, axes = panels(3, 2.4)
    cube = visit.product("SCI_CAL_Imagette")
    for k, axis in enumerate(axes):
        show(axis, cube[k], f"imagette {k} [electron]")
    return figure


def draw_calibrate_full_array(visit: ReducedVisit) -> Figure:
    """Draw the whole CCD with the window outlined, and its thermal charge."""
    figure, (left, right) = panels(2, 3.1)
    image = visit.product("SCI_CAL_FullArray")
    show(left, image, "whole CCD [electron]")
    outline_window(left)
    show(right, visit.term("dark", 1, "full_array"), "thermal charge [electron]")
    return figure
