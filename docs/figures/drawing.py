"""Panels, images, series and distributions, drawn alike in every figure."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from docs.figures.visit import ReducedVisit
from schemas.arrays import FloatArray
from tasks.numerics.robust import robust_scatter

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


def panels(count: int = 2, height: float = 2.7) -> tuple[Figure, list[Axes]]:
    """Return a figure and its panels, side by side."""
    figure = Figure(figsize=(7.2, height), layout="constrained")
    return figure, list(np.atleast_1d(np.asarray(figure.subplots(1, count))))


def show(
    axis: Axes, image: FloatArray, title: str, low: float = 1.0, high: float = 99.0, **options: Any
) -> None:
    """Show an image between two percentiles, with a colour bar."""
    limits = np.nanpercentile(image, [low, high])
    drawn = axis.imshow(
        image, **{"vmin": limits[0], "vmax": limits[1], "interpolation": "nearest", **options}
    )
    axis.set_title(title)
    axis.figure.colorbar(drawn, ax=axis, shrink=0.85)
    axis.set(xlabel="x [pixel]", ylabel="y [pixel]")


def over_time(axis: Axes, visit: ReducedVisit, unit: str, **series: Any) -> None:
    """Draw series over time: the first as dots, the others as lines."""
    for k, (name, values) in enumerate(series.items()):
        label = name.replace("_", " ")
        if k == 0:
            axis.plot(visit.minutes, values, ".", color=BLUE, label=label)
        else:
            axis.plot(visit.minutes, values, "-", color=RED, lw=1, label=label)
    axis.set(xlabel="time [min]", ylabel=unit)
    axis.legend()


def histogram(axis: Axes, values: FloatArray, title: str, unit: str, span: float = 5.0) -> None:
    """Draw the distribution of the finite values."""
    values = values[np.isfinite(values)]
    spread = max(robust_scatter(values), 1e-12)
    edges = np.median(values) + np.linspace(-span, span, 60) * spread
    axis.hist(np.clip(values, edges[0], edges[-1]), edges.tolist(), color=BLUE)
    axis.set_title(f"{title}; scatter {spread:.2g}")
    axis.set(xlabel=unit, ylabel="number")


def about(values: FloatArray, good: Any) -> FloatArray:
    """Return values relative to the median of the good ones [ppm]."""
    return np.asarray(1e6 * (values / np.nanmedian(values[good]) - 1))
