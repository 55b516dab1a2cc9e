"""Light curves drawn for the eye: flux against time, or against what may disturb it."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.plain_matplotlib import plain_matplotlib
from schemas.arrays import BoolArray, FloatArray
from schemas.errors import UsageError
from schemas.nearest import not_a_curve
from schemas.products import soc_structure
from tasks.delivery.published.visit import Columns, PublishedVisit, table
from tasks.files import disk
from tasks.photometry.noise import point_to_point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("png", "pdf", "svg")

METADATA = "SCI_CAL_ImageMetadata"

PPM = 1e6


@dataclass(frozen=True)
class Axis:
    """A quantity against which flux is drawn: its label, and a column of the light curve.

    If `housekeeping`, it is a column of the images' metadata instead.
    """

    label: str
    column: str
    housekeeping: bool = False
    scale: Callable[[FloatArray], FloatArray] = lambda values: values


AXES: Mapping[str, Axis] = {
    "time": Axis("time since the first image [h]", "BJD_TIME", scale=lambda t: 24 * (t - t[0])),
    "roll": Axis("roll angle [deg]", "ROLL_ANGLE"),
    "x": Axis("x of the star on the CCD [pixel]", "CENTROID_X"),
    "y": Axis("y of the star on the CCD [pixel]", "CENTROID_Y"),
    "background": Axis("background in the aperture [electron]", "BACKGROUND"),
    "contamination": Axis(
        "light of field stars [% of the target]", "CONTA_LC", scale=lambda c: 100 * c
    ),
    "smearing": Axis("smeared light in the aperture [electron]", "SMEARING_LC"),
    "temperature": Axis("temperature of the telescope [deg C]", "thermFront_2", True),
    "ccd": Axis("temperature of the CCD [deg C]", "HK_TEMP_FEE_CCD", True),
}


def plot_visit(
    visit: PublishedVisit, names: Sequence[str], against: str, flagged: bool, output: Path
) -> None:
    """Draw light curves of a published visit into a file, one panel for each.

    Parameters
    ----------
    visit : PublishedVisit
        The published visit.
    names : sequence of str
        Names of light curves.
    against : str
        A key of `AXES`.
    flagged : bool
        Whether points with an event or a flag are drawn too.
    output : Path
        The file; its extension gives the format.

    Raises
    ------
    UsageError
        If there is no such light curve, axis or format.
    """
    form = output.suffix.removeprefix(".").lower()
    if form not in FORMATS:
        first, *others = (f".{name}" for name in FORMATS)
        endings = f"{', '.join([first, *others[:-1]])} or {others[-1]}"
        raise UsageError(f"{output}: expected a name that ends in {endings}")
    known = visit.every_curve()
    for name in names:
        if name not in known:
            raise UsageError(not_a_curve("light curve", name, known))
    curves = {name: visit.curve(name) for name in names}
    places = {name: place_of(visit, name, curve, against) for name, curve in curves.items()}
    with plain_matplotlib():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 1 + 2.6 * len(names)), dpi=120, layout="constrained")
        panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
        for name, panel in zip(names, panels, strict=True):
            draw_curve(panel, places[name], curves[name], flagged)
            title = f"{name}, {visit.manifest.visit} {visit.manifest.version}"
            panel.set_title(title, loc="left", fontsize=10)
        panels[-1].set_xlabel(AXES[against].label)
        drawn = io.BytesIO()
        figure.savefig(drawn, format=form, metadata=undated(form))
    disk.write_file(output, drawn.getvalue())


def undated(form: str) -> dict[str, Any]:
    """Return metadata without date and program, so that the same figure has the same bytes."""
    return {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[form]


def place_of(visit: PublishedVisit, name: str, curve: Columns, against: str) -> FloatArray:
    """Return the quantity of the horizontal axis for each point of a light curve.

    Raises
    ------
    UsageError
        If there is no such quantity, or not for imagettes.
    """
    if against not in AXES:
        raise UsageError(f"--against {against}: expected one of {', '.join(AXES)}")
    axis = AXES[against]
    if not axis.housekeeping:
        return axis.scale(np.asarray(curve[axis.column], np.float64))
    if name not in visit.curve_names():
        raise UsageError(f"--against {against}: not known for imagettes, which {name} is of")
    product = "SCI_CAL_SubArray"
    columns = table(visit.place("calibrate", product), product, soc_structure(METADATA))
    return axis.scale(np.asarray(columns[axis.column], np.float64))


def draw_curve(panel: Axes, x: FloatArray, curve: Columns, flagged: bool) -> None:
    """Draw the relative flux without light of field stars, about its median [ppm]."""
    flux = np.asarray(curve["FLUX"] / (1 + curve["CONTA_LC"]), np.float64)
    good: BoolArray = (curve["EVENT"] == 0) & np.isfinite(flux) & np.isfinite(x)
    if "QUALITY" in curve:
        good &= curve["QUALITY"] == 0
    usual = flux[good] if good.any() else flux[np.isfinite(flux)]
    level = np.median(usual) if usual.size else np.nan
    relative = PPM * (flux / level - 1)
    error = PPM * np.asarray(curve["FLUXERR"], np.float64) / level
    if flagged and not good.all():
        panel.plot(x[~good], relative[~good], "x", color="0.6", markersize=4, label="flagged")
    panel.errorbar(
        x[good], relative[good], error[good], fmt="o", markersize=2.5, color="#1f5fa8",
        ecolor="#b8cde6", elinewidth=0.7,
    )  # fmt: skip
    scatter = point_to_point(flux[good] / level)
    panel.set_ylabel("flux [ppm]")
    note = f"{int(good.sum())} good points, point-to-point scatter {ppm_text(scatter)}"
    if not good.any():
        note = "no good points" + (
            "" if flagged or not usual.size else "; --flagged shows the others"
        )
    panel.set_title(note, loc="right", fontsize=8, color="0.3")
    panel.grid(color="0.9", linewidth=0.6)
    panel.set_axisbelow(True)


def ppm_text(value: float) -> str:
    """Return a share of the flux in ppm, or that it is unknown."""
    return f"{PPM * value:.0f} ppm" if np.isfinite(value) else "unknown"
