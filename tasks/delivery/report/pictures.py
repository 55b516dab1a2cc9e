"""Images in the report: one image at its three levels, and maps of the detector and the PSF."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from schemas.arrays import FloatArray
from schemas.flags import PixelFlag
from tasks.delivery.report.drawing import (
    GOOD,
    FigureText,
    as_svg,
    draw_quantity,
    label_x,
    new_figure,
    style_panel,
    write_note,
    write_title,
)
from tasks.delivery.report.findings import LEVELS, Findings, Quantity
from tasks.delivery.report.series import relative_flux, varies
from tasks.delivery.report.shown_images import Picture
from tasks.delivery.report.wording import format_number
from tasks.numerics.robust import MAD_TO_SIGMA

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.image import AxesImage

SCENE = ("corrected", "alone", "field", "residual")

MAPS = ("psf", "change", "flags", "static", "dark", "flat", "frame")

NAMES = {"corrected": "corrected image"}

SIDE = 1.14  # of a panel, with four in a row [inch]

PULL = 5.0  # limits of the scale of residuals, in units of their noise

_LINEAR = ("flat", "dark")

_KINDS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#1a1a1a")


def stretch(pixels: FloatArray) -> tuple[float, float, float]:
    """Return limits and linear width of an asinh scale that shows both sky and star."""
    values = pixels[np.isfinite(pixels)]
    if not values.size:
        return 0.0, 1.0, 1.0
    middle = float(np.median(values))
    spread = MAD_TO_SIGMA * float(np.median(np.abs(values - middle)))
    high = float(values.max())
    width = spread if spread > 0 else max((high - middle) / 100, 1e-12)
    low = max(float(values.min()), middle - 5 * width)
    return low, max(high, low + 1e-12 * max(abs(low), 1.0)), width


def choose_norm(picture: Picture, *, linear: bool = False, both: bool = False) -> Normalize:
    """Choose the scale of a picture: symmetric for both signs, linear, or else asinh."""
    from matplotlib.colors import AsinhNorm, Normalize

    finite = picture.pixels[np.isfinite(picture.pixels)]
    if picture.unit == "noise":
        return Normalize(-PULL, PULL)
    if both:
        half = max(float(np.percentile(np.abs(finite), 99.9)), 1e-300)
        return Normalize(-half, half)
    if linear:
        low, high = (float(v) for v in np.percentile(finite, [0.5, 99.5]))
        return Normalize(low, high if high > low else low + 1)
    low, high, width = stretch(picture.pixels)
    return AsinhNorm(linear_width=width, vmin=low, vmax=high)


def draw_picture(
    axes: Axes,
    picture: Picture,
    *,
    linear: bool = False,
    both: bool = False,
    bar: Axes | None = None,
) -> None:
    """Draw a picture with its aperture, and its colour scale in `bar`.

    With `both` signs, zero is white.
    """
    ny, nx = picture.pixels.shape
    finite = picture.pixels[np.isfinite(picture.pixels)]
    if not finite.size:
        write_note(axes, "all pixels are NaN")
        return
    if not varies(finite):
        write_note(axes, f"constant: {short(float(finite[0]))}")
        if bar is not None:
            bar.set_axis_off()
        return
    norm = choose_norm(picture, linear=linear, both=both)
    image = axes.imshow(
        picture.pixels,
        norm=norm,
        cmap="RdBu_r" if both else "viridis",
        origin="lower",
        extent=(0, nx, 0, ny),
        interpolation="nearest",
    )
    axes.tick_params(labelsize=6, length=1.5, pad=1.0)
    axes.locator_params(nbins=3)
    axes.set_axisbelow(False)
    _draw_marks(axes, picture)
    if bar is not None:
        _draw_bar(bar, image, norm)


def _draw_marks(axes: Axes, picture: Picture) -> None:
    """Draw the aperture, the position of the target, and the frame of the window."""
    from matplotlib.patches import Circle, Rectangle

    if picture.circle is not None:
        ny, nx = picture.pixels.shape
        x, y, radius = picture.circle
        axes.add_patch(Circle((x, y), radius, fill=False, edgecolor="white", linewidth=0.9))
        axes.plot([x], [y], "+", color="#D55E00", markersize=5, markeredgewidth=0.9)
        axes.set_xlim(0, nx)
        axes.set_ylim(0, ny)
    if picture.frame is not None:
        x0, y0, width, height = picture.frame
        axes.add_patch(
            Rectangle((x0, y0), width, height, fill=False, edgecolor="white", linewidth=0.9)
        )


def _draw_bar(bar: Axes, image: AxesImage, norm: Normalize) -> None:
    """Draw the colour scale of an image, labelled at its ends and its middle."""
    values = [float(v) for v in np.array([norm.vmin, norm.inverse(0.5), norm.vmax])]
    scale = bar.figure.colorbar(image, cax=bar)
    scale.set_ticks(values, labels=[short(v) for v in values])
    scale.minorticks_off()
    scale.outline.set_linewidth(0.4)
    bar.tick_params(labelsize=6, length=1.5, pad=1.0, width=0.4)


def short(value: float) -> str:
    """Format a number for a colour scale."""
    style = ".0f" if 1000 <= abs(value) < 1e7 else ".1e" if 0 < abs(value) < 1e-3 else ".3g"
    return format_number(value, style)


def draw_levels(findings: Findings, most: int) -> bytes:
    """Draw one image raw, calibrated and corrected, each with the light curve of that level."""
    with new_figure(7.0, 5.0) as canvas:
        for row, (name, quantity) in enumerate(zip(LEVELS, findings.levels, strict=True)):
            bottom = 0.07 + (2 - row) * 0.318
            axes = canvas.add_axes((0.085, bottom, 0.545, 0.235))
            _draw_level(axes, findings, quantity, most, labelled=row == 2)
            panel = canvas.add_axes((0.675, bottom - 0.012, 0.187, 0.262))
            picture = findings.pictures.get(name)
            if picture is None:
                write_note(panel, "not available")
                continue
            bar = canvas.add_axes((0.873, bottom - 0.012, 0.012, 0.262))
            draw_picture(panel, picture, bar=bar)
            write_title(panel, f"{name} image [{picture.unit}]", size=7)
        return as_svg(canvas)


def _draw_level(
    axes: Axes, findings: Findings, quantity: Quantity, most: int, *, labelled: bool
) -> None:
    """Draw the light curve of one level, with a line at the time of the image."""
    points, flux = findings.points, quantity.values
    measured = points.good & np.isfinite(flux)
    relative = relative_flux(flux, measured & (flux > 0))
    draw_quantity(axes, points.hours, relative, points.good, most, labelled=labelled)
    middle = float(np.median(flux[measured])) if measured.any() else np.nan
    text = f"median {format_number(middle, '.4g')} electron" if np.isfinite(middle) else ""
    write_title(axes, f"{quantity.name} flux [ppm]", text)
    hour = points.hours[findings.image_index]
    if np.isfinite(hour) and np.isfinite(relative).any():
        axes.axvline(hour, color=GOOD, linewidth=0.6, linestyle=(0, (2, 2)))
    if labelled:
        label_x(axes, "hours")


def draw_scene(findings: Findings) -> bytes:
    """Draw one corrected image, without the target, the field-star model, and the residual."""
    with new_figure(7.0, 1.45) as canvas:
        for place, name in enumerate(SCENE):
            left = 0.03 + place * 0.25
            axes = canvas.add_axes((left, 0.11, SIDE / 7.0, SIDE / 1.45))
            picture = findings.pictures.get(name)
            if picture is None:
                write_note(axes, "no PSF for this visit")
                continue
            bar = canvas.add_axes((left + (SIDE + 0.05) / 7.0, 0.11, 0.06 / 7.0, SIDE / 1.45))
            draw_picture(axes, picture, both=name == "residual", bar=bar)
            write_title(axes, f"{NAMES.get(name, picture.title)} [{picture.unit}]", size=6.5)
        return as_svg(canvas)


def draw_maps(findings: Findings) -> bytes:
    """Draw the PSF, the maps of the detector, and the whole CCD with the window."""
    maps = {name: findings.pictures[name] for name in MAPS if name in findings.pictures}
    pitch = 1.85  # of a row [inch]; leaves room for the legend of the flags below a panel
    height = pitch * max(-(-len(maps) // 4), 1)
    with new_figure(7.0, height) as canvas:
        for place, (name, picture) in enumerate(maps.items()):
            row, column = divmod(place, 4)
            left, bottom = 0.03 + column * 0.25, 1 - (row * pitch + 0.15 + SIDE) / height
            axes = canvas.add_axes((left, bottom, SIDE / 7.0, SIDE / height))
            if name == "flags":
                draw_flags(axes, picture)
            else:
                bar = canvas.add_axes(
                    (left + (SIDE + 0.05) / 7.0, bottom, 0.06 / 7.0, SIDE / height)
                )
                linear, both = name in _LINEAR, name == "change"
                draw_picture(axes, thinned(picture), linear=linear, both=both, bar=bar)
            unit = f" [{picture.unit}]" if picture.unit else ""
            write_title(axes, f"{picture.title}{unit}", size=6.5)
        if not maps:
            write_note(canvas.add_axes((0, 0, 1, 1)), "no maps available")
        return as_svg(canvas)


def thinned(picture: Picture, most: int = 256) -> Picture:
    """Bin a picture with a frame to at most `most` pixels per side; the frame is scaled with it."""
    ny, nx = picture.pixels.shape
    size = -(-max(ny, nx) // most)
    if size == 1 or picture.frame is None:
        return picture
    whole = picture.pixels[: ny // size * size, : nx // size * size].reshape(
        ny // size, size, nx // size, size
    )
    x, y, width, height = (round(v / size) for v in picture.frame)
    return replace(picture, pixels=np.nanmean(whole, axis=(1, 3)), frame=(x, y, width, height))


def draw_flags(axes: Axes, picture: Picture) -> None:
    """Draw the flagged pixels, one colour per kind, with their numbers."""
    from matplotlib.patches import Circle

    flags = picture.pixels.astype(np.int64)
    ny, nx = flags.shape
    style_panel(axes, 6)
    axes.grid(visible=False)
    axes.set_facecolor("#f4f5f6")
    kinds = flag_kinds(flags)
    for bit, colour in zip(kinds, cycle(_KINDS)):
        rows, columns = np.nonzero(flags & int(bit))
        axes.plot(
            columns + 0.5,
            rows + 0.5,
            "s",
            color=colour,
            markersize=1.5,
            markeredgewidth=0,
            linestyle="none",
            label=f"{str(bit.name).lower().replace('_', ' ')}: {len(rows)}",
            rasterized=len(rows) > 300,
        )
    if picture.circle is not None:
        x, y, radius = picture.circle
        axes.add_patch(Circle((x, y), radius, fill=False, edgecolor="#1a1a1a", linewidth=0.7))
    axes.set_xlim(0, nx)
    axes.set_ylim(0, ny)
    axes.set_aspect("equal")
    if kinds:
        _add_legend(axes)


def flag_kinds(flags: npt.NDArray[np.int64]) -> list[PixelFlag]:
    """Return the kinds of defects in a map in drawing order: the reference map below detections."""
    hidden = (PixelFlag.COSMIC_RAYS, PixelFlag.OUTSIDE)
    kinds = [bit for bit in PixelFlag if bit not in hidden and (flags & int(bit) != 0).any()]
    return sorted(kinds, reverse=True)


def _add_legend(axes: Axes) -> None:
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


def describe_levels(findings: Findings) -> FigureText:
    """Write the caption of one image at its three levels."""
    x, y = findings.window
    return FigureText(
        caption=f"Image {findings.image_index} (counted from 0; dotted line) raw, calibrated and "
        "corrected, and the flux within 25 pixels of the first-look position at each level. White: "
        "aperture R25; orange: target. Images are on an asinh scale; index (0, 0) is at "
        f"({x}, {y}) on the CCD.",
        alt=f"Image {findings.image_index} of {findings.points.count} raw, calibrated and "
        "corrected, with the aperture around the target, and the light curves of these levels.",
    )


def describe_scene(findings: Findings) -> FigureText:
    """Write the caption of the models of target and field."""
    return FigureText(
        caption=f"The field in image {findings.image_index}: corrected image; model of the target "
        "subtracted; model of the catalogue stars; and both models subtracted, in units of the "
        "noise of star, sky and read-out.",
        alt="The corrected image with and without the target, the model of the field stars, and "
        "the residual to both models.",
    )


def describe_maps(findings: Findings) -> FigureText:
    """Write the caption of the maps."""
    titles = [findings.pictures[name].title for name in MAPS if name in findings.pictures]
    return FigureText(
        caption="PSF of the visit, and its change for a warmer telescope; flagged pixels, where "
        "they were searched for (map: from the reference); steady excess that was subtracted; "
        "thermal charge and flat field of the window; the whole CCD, binned, with the window. PSF, "
        "excess and CCD are on an asinh scale, the others on a linear scale.",
        alt=f"Maps: {', '.join(titles) if titles else 'none'}.",
    )


def picture_captions(findings: Findings) -> dict[str, FigureText]:
    """Write the captions of the images, by name."""
    return {
        "levels": describe_levels(findings),
        "scene": describe_scene(findings),
        "maps": describe_maps(findings),
    }
