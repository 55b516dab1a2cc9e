"""Images in the report: one image at its three levels beside its light curve, and maps of the
detector and the PSF.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from schemas.arrays import FloatArray
from schemas.flags import PixelFlag
from tasks.delivery.report.drawing import GOOD, Figure, drawing, nothing, small, svg, title
from tasks.delivery.report.figures import drawn_over
from tasks.delivery.report.findings import LEVELS, Findings, Picture
from tasks.delivery.report.series import relative_flux, varies
from tasks.numerics.robust import MAD_TO_SIGMA

SCENE = ("corrected", "alone", "field", "residual")

MAPS = ("psf", "change", "flags", "static", "dark", "flat", "frame")

NAMES = {"corrected": "with the target"}

SIDE = 1.14  # of a panel, four of which stand in a row [inch]

PULL = 5.0  # units of noise at the ends of the scale

_LINEAR = ("flat", "dark")

_KINDS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#1a1a1a")


def stretch(pixels: FloatArray) -> tuple[float, float, float]:
    """Return lower end, upper end and width of the linear part of an asinh scale that shows sky and
    star.
    """
    values = pixels[np.isfinite(pixels)]
    if not values.size:
        return 0.0, 1.0, 1.0
    middle = float(np.median(values))
    spread = MAD_TO_SIGMA * float(np.median(np.abs(values - middle)))
    high = float(values.max())
    width = spread if spread > 0 else max((high - middle) / 100, 1e-12)
    low = max(float(values.min()), middle - 5 * width)
    return low, max(high, low + 1e-12 * max(abs(low), 1.0)), width


def show(
    axes: Any, picture: Picture, *, linear: bool = False, both: bool = False, bar: Any = None
) -> None:
    """Draw a picture with its aperture, and its scale beside it; of what has `both` signs, zero is
    white.
    """
    from matplotlib.colors import AsinhNorm, Normalize

    pixels = picture.pixels
    ny, nx = pixels.shape
    finite = pixels[np.isfinite(pixels)]
    norm: Any
    if not finite.size:
        nothing(axes, "no pixel holds a number")
        return
    if not varies(finite):
        nothing(axes, f"{short(float(finite[0]))} everywhere")
        if bar is not None:
            bar.set_axis_off()
        return
    if picture.unit == "noise":
        low, high, norm = -PULL, PULL, Normalize(-PULL, PULL)
    elif both:
        half = max(float(np.percentile(np.abs(finite), 99.9)), 1e-300)
        low, high, norm = -half, half, Normalize(-half, half)
    elif linear:
        low, high = (float(v) for v in np.percentile(finite, [0.5, 99.5]))
        norm = Normalize(low, high if high > low else low + 1)
    else:
        low, high, width = stretch(pixels)
        norm = AsinhNorm(linear_width=width, vmin=low, vmax=high)
    image = axes.imshow(
        pixels,
        norm=norm,
        cmap="RdBu_r" if both else "viridis",
        origin="lower",
        extent=(0, nx, 0, ny),
        interpolation="nearest",
    )
    axes.tick_params(labelsize=6, length=1.5, pad=1.0)
    axes.locator_params(nbins=3)
    axes.set_axisbelow(False)
    if picture.circle is not None:
        from matplotlib.patches import Circle

        x, y, radius = picture.circle
        axes.add_patch(Circle((x, y), radius, fill=False, edgecolor="white", linewidth=0.9))
        axes.plot([x], [y], "+", color="#D55E00", markersize=5, markeredgewidth=0.9)
        axes.set_xlim(0, nx)
        axes.set_ylim(0, ny)
    if picture.frame is not None:
        from matplotlib.patches import Rectangle

        x0, y0, width, height = picture.frame
        axes.add_patch(
            Rectangle((x0, y0), width, height, fill=False, edgecolor="white", linewidth=0.9)
        )
    if bar is not None:
        scale = axes.figure.colorbar(image, cax=bar)
        middle = norm.inverse(0.5)
        scale.set_ticks(
            [low, float(middle), high], labels=[short(v) for v in (low, float(middle), high)]
        )
        scale.minorticks_off()
        scale.outline.set_linewidth(0.4)
        bar.tick_params(labelsize=6, length=1.5, pad=1.0, width=0.4)


def short(value: float) -> str:
    """Return a number as it stands beside a colour scale."""
    style = ".0f" if 1000 <= abs(value) < 1e7 else ".1e" if 0 < abs(value) < 1e-3 else ".3g"
    return format(value, style).replace("-", "−")


def draw_levels(found: Findings, most: int) -> bytes:
    """Return one image raw, calibrated and corrected, each beside the light curve of that level."""
    points = found.points
    with drawing(7.0, 5.0) as canvas:
        for row, (name, quantity) in enumerate(zip(LEVELS, found.levels, strict=True)):
            bottom = 0.07 + (2 - row) * 0.318
            axes = canvas.add_axes((0.085, bottom, 0.545, 0.235))
            values = relative_flux(
                quantity.values, points.good & np.isfinite(quantity.values) & (quantity.values > 0)
            )
            drawn_over(axes, points.hours, values, points.good, most, labelled=row == 2)
            where = points.good & np.isfinite(quantity.values)
            middle = float(np.median(quantity.values[where])) if where.any() else np.nan
            title(
                axes,
                f"{name} flux [ppm]",
                f"median {middle:.4g} electron" if np.isfinite(middle) else "",
            )
            if np.isfinite(points.hours[found.shown]) and np.isfinite(values).any():
                axes.axvline(
                    points.hours[found.shown], color=GOOD, linewidth=0.6, linestyle=(0, (2, 2))
                )
            if row == 2:
                axes.set_xlabel("hours", fontsize=7.5, labelpad=1)
            panel = canvas.add_axes((0.675, bottom - 0.012, 0.187, 0.262))
            picture = found.pictures.get(name)
            if picture is None:
                nothing(panel, "not at hand")
                continue
            show(panel, picture, bar=canvas.add_axes((0.873, bottom - 0.012, 0.012, 0.262)))
            title(panel, f"{name} image [{picture.unit}]", size=7)
        return svg(canvas)


def draw_scene(found: Findings) -> bytes:
    """Return one corrected image with and without the target, the model of its field stars, and
    what both models leave.
    """
    with drawing(7.0, 1.45) as canvas:
        for place, name in enumerate(SCENE):
            left = 0.03 + place * 0.25
            axes = canvas.add_axes((left, 0.11, SIDE / 7.0, SIDE / 1.45))
            picture = found.pictures.get(name)
            if picture is None:
                nothing(axes, "no PSF of the visit")
                continue
            show(
                axes,
                picture,
                both=name == "residual",
                bar=canvas.add_axes((left + (SIDE + 0.05) / 7.0, 0.11, 0.06 / 7.0, SIDE / 1.45)),
            )
            title(axes, f"{NAMES.get(name, picture.title)} [{picture.unit}]", size=6.5)
        return svg(canvas)


def draw_maps(found: Findings) -> bytes:
    """Return the PSF, maps of what stands still and of the detector, and the whole CCD with the
    window.
    """
    shown = [name for name in MAPS if name in found.pictures]
    pitch = 1.85  # of a row [inch]; below a panel is room for the legend of the flags
    rows = max(-(-len(shown) // 4), 1)
    height = pitch * rows
    with drawing(7.0, height) as canvas:
        for place, name in enumerate(shown):
            row, column = divmod(place, 4)
            left, bottom = 0.03 + column * 0.25, 1 - (row * pitch + 0.15 + SIDE) / height
            axes = canvas.add_axes((left, bottom, SIDE / 7.0, SIDE / height))
            picture = found.pictures[name]
            if name == "flags":
                show_flags(axes, picture)
            else:
                bar = canvas.add_axes(
                    (left + (SIDE + 0.05) / 7.0, bottom, 0.06 / 7.0, SIDE / height)
                )
                show(axes, thinned(picture), linear=name in _LINEAR, both=name == "change", bar=bar)
            title(
                axes,
                f"{picture.title} [{picture.unit}]" if picture.unit else picture.title,
                size=6.5,
            )
        if not shown:
            nothing(canvas.add_axes((0, 0, 1, 1)), "no map was made")
        return svg(canvas)


def thinned(picture: Picture, most: int = 256) -> Picture:
    """Return a picture of at most `most` pixels a side, whole groups averaged; circle and frame go
    with it.
    """
    ny, nx = picture.pixels.shape
    size = -(-max(ny, nx) // most)
    if size == 1 or picture.frame is None:
        return picture
    whole = picture.pixels[: ny // size * size, : nx // size * size].reshape(
        ny // size, size, nx // size, size
    )
    x, y, width, height = (round(v / size) for v in picture.frame)
    return replace(picture, pixels=np.nanmean(whole, axis=(1, 3)), frame=(x, y, width, height))


def show_flags(axes: Any, picture: Picture) -> None:
    """Draw the pixels that are flagged, one colour a kind, and how many there are."""
    flags = picture.pixels.astype(np.int64)
    ny, nx = flags.shape
    small(axes, 6)
    axes.grid(visible=False)
    axes.set_facecolor("#f4f5f6")
    kinds = [
        bit
        for bit in PixelFlag
        if bit not in (PixelFlag.COSMIC_RAYS, PixelFlag.OUTSIDE) and (flags & int(bit) != 0).any()
    ]
    for k, bit in enumerate(
        sorted(kinds, reverse=True)
    ):  # what was found lies over what the map says
        rows, columns = np.nonzero(flags & int(bit))
        axes.plot(
            columns + 0.5,
            rows + 0.5,
            "s",
            color=_KINDS[k % len(_KINDS)],
            markersize=1.5,
            markeredgewidth=0,
            linestyle="none",
            label=f"{str(bit.name).lower().replace('_', ' ')}: {len(rows)}",
            rasterized=len(rows) > 300,
        )
    if picture.circle is not None:
        from matplotlib.patches import Circle

        axes.add_patch(
            Circle(
                picture.circle[:2],
                picture.circle[2],
                fill=False,
                edgecolor="#1a1a1a",
                linewidth=0.7,
            )
        )
    axes.set_xlim(0, nx)
    axes.set_ylim(0, ny)
    axes.set_aspect("equal")
    if kinds:
        axes.legend(
            fontsize=6,
            frameon=False,
            markerscale=3,
            borderpad=0,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.075),
            handletextpad=-0.2,
            labelspacing=0.15,
            ncol=2,
            columnspacing=0.4,
        )


def picture_captions(found: Findings) -> dict[str, Figure]:
    """Return what stands beside the images."""
    shown = [found.pictures[name].title for name in MAPS if name in found.pictures]
    x, y = found.window
    return {
        "levels": Figure(
            caption=f"Image {found.shown} (counted from 0; dotted line) as read out, "
            f"calibrated and corrected, beside the flux "
            "in one circle of 25 pixels about the first position at that level. White: the "
            "aperture R25, orange: the target. "
            f"Images are on an asinh scale; index (0, 0) lies at ({x}, {y}) on the CCD.",
            alt=f"Image {found.shown} of {found.points.count} raw, calibrated and corrected "
            f"with the aperture around the "
            "target, and the light curves of these levels.",
        ),
        "scene": Figure(
            caption=f"The field in image {found.shown}: corrected; without the model of the "
            f"target; the model of the stars of "
            "the catalogue; and what is left of the image without both, in units of the noise "
            "of star, sky and read-out.",
            alt="The corrected image with and without the target, the model of the field "
            "stars, and the residual to both.",
        ),
        "maps": Figure(
            caption="PSF of the visit, and its change for a warmer telescope; pixels that are "
            "flagged, where they were looked "
            "for (map: by the reference); steady excess that was taken away; thermal charge "
            "and flat field of the window; the "
            "whole CCD with the window, in groups of pixels. PSF, excess and CCD are on an "
            "asinh scale, the others on a linear "
            "one.",
            alt=f"Maps: {', '.join(shown) if shown else 'none'}.",
        ),
    }
