"""Images in the report: one image at its three levels, and maps of the detector and the PSF."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import cycle
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.arrays import FloatArray
from schemas.flags import PixelFlag
from tasks.delivery.report.canvas import Canvas, Line, Panel
from tasks.delivery.report.drawing import (
    GOOD,
    FigureText,
    draw_quantity,
    label_x,
    style_panel,
    write_note,
    write_title,
)
from tasks.delivery.report.findings import LEVELS, Findings, Quantity
from tasks.delivery.report.raster import Dots, rgb
from tasks.delivery.report.series import relative_flux, varies
from tasks.delivery.report.shown_images import Picture
from tasks.delivery.report.wording import format_number
from tasks.numerics.robust import MAD_TO_SIGMA

SCENE = ("corrected", "alone", "field", "residual")

MAPS = ("psf", "change", "flags", "static", "dark", "flat", "frame")

NAMES = {"corrected": "corrected image"}

SIDE = 1.14  # of a panel, with four in a row [inch]

PULL = 5.0  # limits of the scale of residuals, in units of their noise

MANY = 300  # flagged pixels of a kind; more are drawn as pixels

_LINEAR = ("flat", "dark")

# knots of colour scales
_VIRIDIS = (
    "#440154 #48186a #472d7b #424086 #3b528b #33638d #2c728e #26828e #21918c #1fa088 #28ae80 "
    "#3fbc73 #5ec962 #84d44b #addc30 #d8e219 #fde725"
)

_BOTH_SIGNS = (
    "#053061 #2065ab #4393c3 #90c4dd #d1e5f0 #f7f6f6 #fddbc7 #f3a481 #d6604d #b1182b #67001f"
)

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


class Scale(NamedTuple):
    """A colour scale: linear between its limits, or linear only within a width of zero."""

    low: float
    high: float
    width: float = math.inf

    def fraction(self, pixels: FloatArray) -> FloatArray:
        """Return where values lie on the scale, from 0 to 1."""
        low, high, values = (self._bent(np.asarray(v)) for v in (self.low, self.high, pixels))
        return np.asarray((values - low) / ((high - low) or 1.0))

    @property
    def middle(self) -> float:
        """The value in the middle of the scale."""
        half = (self._bent(np.asarray(self.low)) + self._bent(np.asarray(self.high))) / 2
        return float(self.width * np.sinh(half) if math.isfinite(self.width) else half)

    def _bent(self, values: FloatArray) -> FloatArray:
        bent = np.arcsinh(values / self.width) if math.isfinite(self.width) else values
        return np.asarray(bent)


def choose_scale(picture: Picture, *, linear: bool = False, both: bool = False) -> Scale:
    """Choose the scale of a picture: symmetric for both signs, linear, or else asinh."""
    finite = picture.pixels[np.isfinite(picture.pixels)]
    if picture.unit == "noise":
        return Scale(-PULL, PULL)
    if both:
        half = max(float(np.percentile(np.abs(finite), 99.9)), 1e-300)
        return Scale(-half, half)
    if linear:
        low, high = (float(v) for v in np.percentile(finite, [0.5, 99.5]))
        return Scale(low, high if high > low else low + 1)
    return Scale(*stretch(picture.pixels))


def coloured(fraction: FloatArray, knots: str) -> FloatArray:
    """Return colours, shape (..., 4), of values on a scale; NaN is transparent."""
    table = np.array([rgb(colour) for colour in knots.split()])
    places = np.linspace(0.0, 1.0, len(table))
    seen = np.isfinite(fraction)
    values = np.where(seen, fraction, 0.0)
    channels = [np.interp(values, places, table[:, k]) for k in range(3)]
    return np.stack([*channels, seen.astype(np.float64)], axis=-1)


def draw_picture(
    panel: Panel,
    picture: Picture,
    *,
    linear: bool = False,
    both: bool = False,
    bar: Panel | None = None,
) -> None:
    """Draw a picture with its aperture, and its colour scale in `bar`.

    With `both` signs, zero is white.
    """
    ny, nx = picture.pixels.shape
    finite = picture.pixels[np.isfinite(picture.pixels)]
    if bar is not None:
        bar.framed = finite.size > 0 and varies(finite)
    if not finite.size:
        write_note(panel, "all pixels are NaN")
        return
    if not varies(finite):
        write_note(panel, f"constant: {short(float(finite[0]))}")
        return
    scale = choose_scale(picture, linear=linear, both=both)
    knots = _BOTH_SIGNS if both else _VIRIDIS
    panel.keep_square(nx, ny)
    panel.image(coloured(scale.fraction(picture.pixels), knots))
    panel.size, panel.x.most, panel.y.most = 6, 3, 3
    _draw_marks(panel, picture)
    if bar is not None:
        _draw_bar(bar, scale, knots)


def _draw_marks(panel: Panel, picture: Picture) -> None:
    """Draw the aperture, the position of the target, and the frame of the window."""
    white = Line("#ffffff", 0.9)
    if picture.circle is not None:
        x, y, radius = picture.circle
        panel.circle(x, y, radius, white)
        panel.dots(
            np.array([x]), np.array([y]), Dots(np.ones(1, dtype=bool), "+", "#D55E00", 5, 0.9)
        )
    if picture.frame is not None:
        panel.rectangle(picture.frame, white)


def _draw_bar(bar: Panel, scale: Scale, knots: str) -> None:
    """Draw a colour scale, labelled at its ends and its middle, on its right."""
    bar.image(coloured(np.linspace(0.0, 1.0, 128)[:, None], knots))
    bar.x.ticks, bar.y.ticks = {}, {}
    for place, value in ((0.0, scale.low), (0.5, scale.middle), (1.0, scale.high)):
        bar.text(1 + 2.5 / bar.width, place, short(value), 6, align=("left", "center"))


def short(value: float) -> str:
    """Format a number for a colour scale."""
    style = ".0f" if 1000 <= abs(value) < 1e7 else ".1e" if 0 < abs(value) < 1e-3 else ".3g"
    return format_number(value, style)


def draw_levels(findings: Findings, most: int) -> bytes:
    """Draw one image raw, calibrated and corrected, each with the light curve of that level."""
    canvas = Canvas(7.0, 5.0)
    for row, (name, quantity) in enumerate(zip(LEVELS, findings.levels, strict=True)):
        bottom = 0.07 + (2 - row) * 0.318
        panel = canvas.panel((0.085, bottom, 0.545, 0.235))
        _draw_level(panel, findings, quantity, most, labelled=row == 2)
        panel = canvas.panel((0.675, bottom - 0.012, 0.187, 0.262))
        picture = findings.pictures.get(name)
        if picture is None:
            write_note(panel, "not available")
            continue
        bar = canvas.panel((0.873, bottom - 0.012, 0.012, 0.262))
        draw_picture(panel, picture, bar=bar)
        write_title(panel, f"{name} image [{picture.unit}]", size=7)
    return canvas.svg()


def _draw_level(
    panel: Panel, findings: Findings, quantity: Quantity, most: int, *, labelled: bool
) -> None:
    """Draw the light curve of one level, with a line at the time of the image."""
    points, flux = findings.points, quantity.values
    measured = points.good & np.isfinite(flux)
    relative = relative_flux(flux, measured & (flux > 0))
    draw_quantity(panel, points.hours, relative, points.good, most, labelled=labelled)
    middle = float(np.median(flux[measured])) if measured.any() else np.nan
    text = f"median {format_number(middle, '.4g')} electron" if np.isfinite(middle) else ""
    write_title(panel, f"{quantity.name} flux [ppm]", text)
    hour = points.hours[findings.image_index]
    if np.isfinite(hour) and np.isfinite(relative).any():
        panel.upright(hour, Line(GOOD, 0.6, (2, 2)))
    if labelled:
        label_x(panel, "hours")


def draw_scene(findings: Findings) -> bytes:
    """Draw one corrected image, without the target, the field-star model, and the residual."""
    canvas = Canvas(7.0, 1.45)
    for place, name in enumerate(SCENE):
        left = 0.03 + place * 0.25
        panel = canvas.panel((left, 0.11, SIDE / 7.0, SIDE / 1.45))
        picture = findings.pictures.get(name)
        if picture is None:
            write_note(panel, "no PSF for this visit")
            continue
        bar = canvas.panel((left + (SIDE + 0.05) / 7.0, 0.11, 0.06 / 7.0, SIDE / 1.45))
        draw_picture(panel, picture, both=name == "residual", bar=bar)
        write_title(panel, f"{NAMES.get(name, picture.title)} [{picture.unit}]", size=6.5)
    return canvas.svg()


def draw_maps(findings: Findings) -> bytes:
    """Draw the PSF, the maps of the detector, and the whole CCD with the window."""
    maps = {name: findings.pictures[name] for name in MAPS if name in findings.pictures}
    pitch = 1.85  # of a row [inch]; leaves room for the legend of the flags below a panel
    height = pitch * max(-(-len(maps) // 4), 1)
    canvas = Canvas(7.0, height)
    for place, (name, picture) in enumerate(maps.items()):
        row, column = divmod(place, 4)
        left, bottom = 0.03 + column * 0.25, 1 - (row * pitch + 0.15 + SIDE) / height
        panel = canvas.panel((left, bottom, SIDE / 7.0, SIDE / height))
        if name == "flags":
            draw_flags(panel, picture)
        else:
            bar = canvas.panel((left + (SIDE + 0.05) / 7.0, bottom, 0.06 / 7.0, SIDE / height))
            linear, both = name in _LINEAR, name == "change"
            draw_picture(panel, thinned(picture), linear=linear, both=both, bar=bar)
        unit = f" [{picture.unit}]" if picture.unit else ""
        write_title(panel, f"{picture.title}{unit}", size=6.5)
    if not maps:
        write_note(canvas.panel((0, 0, 1, 1)), "no maps available")
    return canvas.svg()


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


def draw_flags(panel: Panel, picture: Picture) -> None:
    """Draw the flagged pixels, one colour per kind, with their numbers."""
    flags = picture.pixels.astype(np.int64)
    ny, nx = flags.shape
    style_panel(panel, 6)
    panel.grid, panel.fill = "", "#f4f5f6"
    panel.keep_square(nx, ny)
    kinds = flag_kinds(flags)
    for place, (bit, colour) in enumerate(zip(kinds, cycle(_KINDS))):
        rows, columns = np.nonzero(flags & int(bit))
        squares = Dots(np.ones(len(rows), dtype=bool), "s", colour, 1.5)
        x, y = columns.astype(np.float64) + 0.5, rows.astype(np.float64) + 0.5
        panel.dots(x, y, squares, as_pixels=len(rows) > MANY)
        name = f"{str(bit.name).lower().replace('_', ' ')}: {len(rows)}"
        _name_kind(panel, place, name, colour)
    if picture.circle is not None:
        panel.circle(*picture.circle, Line("#1a1a1a", 0.7))


def _name_kind(panel: Panel, place: int, name: str, colour: str) -> None:
    """List a kind of flags below the panel, two in a row."""
    x, y = 0.72 * (place % 2) - 0.04, -0.13 - 0.1 * (place // 2)
    panel.text(x, y, "\N{BLACK SQUARE}", 6, colour, ("left", "center"))
    panel.text(x + 0.09, y, name, 6, align=("left", "center"))


def flag_kinds(flags: npt.NDArray[np.int64]) -> list[PixelFlag]:
    """Return the kinds of defects in a map in drawing order: the reference map below detections."""
    hidden = (PixelFlag.COSMIC_RAYS, PixelFlag.OUTSIDE)
    kinds = [bit for bit in PixelFlag if bit not in hidden and (flags & int(bit) != 0).any()]
    return sorted(kinds, reverse=True)


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
