"""Points and images of the report's figures as pixels, in PNG."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.arrays import BoolArray, FloatArray

DPI = 220

_SCALE = DPI / 72  # pixels per point

_HALF = 0.5**0.5

# directions of the strokes of a marker, in units of half its size
_STROKES = {"x": ((1.0, 1.0), (1.0, -1.0)), "+": ((1.0, 0.0), (0.0, 1.0)), "|": ((0.0, 1.0),)}

_CORNERS = {
    "^": ((-1.0, 1.0), (1.0, 1.0), (0.0, -1.0)),
    "v": ((-1.0, -1.0), (1.0, -1.0), (0.0, 1.0)),
    "s": ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)),
}


class Dots(NamedTuple):
    """A style of points: which of them, and marker (o x + | ^ v s), colour, size, stroke [pt]."""

    which: BoolArray
    marker: str
    colour: str
    size: float
    edge: float = 0.0

    def path(self, x: FloatArray, y: FloatArray) -> str:
        """Return the points as one path."""
        good = self.which & np.isfinite(x) & np.isfinite(y)
        if not good.any():
            return ""
        half, places = self.size / 2, zip(x[good].tolist(), y[good].tolist(), strict=True)
        if self.marker == "o":
            drawn = "".join(f"M{px:.2f} {py:.2f}h.01" for px, py in places)
            style = f'stroke-width="{self.size:g}" stroke-linecap="round"'
            return f'<path d="{drawn}" fill="none" stroke="{self.colour}" {style}/>'
        if self.marker in _STROKES:
            strokes = [(half * dx, half * dy) for dx, dy in _STROKES[self.marker]]
            drawn = "".join(
                f"M{px - dx:.2f} {py - dy:.2f}l{2 * dx:.2f} {2 * dy:.2f}"
                for px, py in places
                for dx, dy in strokes
            )
            return (
                f'<path d="{drawn}" fill="none" stroke="{self.colour}" '
                f'stroke-width="{self.edge:g}"/>'
            )
        corners = [(half * dx, half * dy) for dx, dy in _CORNERS[self.marker]]
        drawn = "".join(
            "M" + "L".join(f"{px + dx:.2f} {py + dy:.2f}" for dx, dy in corners) + "z"
            for px, py in places
        )
        return f'<path d="{drawn}" fill="{self.colour}"/>'

    def coverage(self, dx: FloatArray, dy: FloatArray) -> FloatArray:
        """Return how much of a pixel at an offset from a point is covered, from 0 to 1."""
        half = self.size * _SCALE / 2
        if self.marker == "o":
            return np.clip(half + 0.5 - np.hypot(dx, dy), 0.0, 1.0)
        if self.marker == "x":
            along, over = _HALF * np.abs(dx + dy), _HALF * np.abs(dx - dy)
            length, width = half / _HALF, self.edge * _SCALE / 2
            first = np.clip(width + 0.5 - over, 0.0, 1.0) * np.clip(length + 0.5 - along, 0.0, 1.0)
            second = np.clip(width + 0.5 - along, 0.0, 1.0) * np.clip(length + 0.5 - over, 0.0, 1.0)
            return np.asarray(np.maximum(first, second))
        return np.clip(half + 0.5 - np.maximum(np.abs(dx), np.abs(dy)), 0.0, 1.0)  # square


def draw_dots(
    places: tuple[FloatArray, FloatArray], size: tuple[float, float], dots: Sequence[Dots]
) -> bytes:
    """Draw points as pixels on a transparent ground.

    Parameters
    ----------
    places : tuple of ndarray
        Places from the upper left corner of the image [pt].
    size : tuple of float
        Width and height of the image [pt].
    dots : sequence of Dots
        Styles with their selections of the points, the uppermost last.
    """
    nx, ny = (max(round(s * _SCALE), 1) for s in size)
    colours, alpha = np.zeros((ny, nx, 3)), np.zeros((ny, nx))
    for each in dots:
        over = _cover(places, each, (ny, nx))
        # what lies below shows through; colours are weighted by their share of the pixel
        colours = np.array(rgb(each.colour)) * over[..., None] + colours * (1 - over[..., None])
        alpha = over + alpha * (1 - over)
    shown = colours / np.where(alpha > 0, alpha, 1.0)[..., None]
    return coloured_png(np.concatenate([shown, alpha[..., None]], axis=2), smallest=1)


def _cover(places: tuple[FloatArray, FloatArray], dots: Dots, shape: tuple[int, int]) -> FloatArray:
    """Return how much of every pixel is covered by points of one style."""
    reach = int(np.ceil(dots.size * _SCALE / 2)) + 1
    over = np.zeros((shape[0] + 2 * reach, shape[1] + 2 * reach))
    x, y = (p[dots.which] * _SCALE for p in places)
    inside = (x >= 0) & (x <= shape[1]) & (y >= 0) & (y <= shape[0])
    x, y = x[inside], y[inside]
    column, row = (np.minimum(v.astype(np.int64), n - 1) for v, n in ((x, shape[1]), (y, shape[0])))
    step = np.arange(-reach, reach + 1)
    dx = (column[:, None] + step + 0.5 - x[:, None])[:, None, :]
    dy = (row[:, None] + step + 0.5 - y[:, None])[:, :, None]
    rows, columns = (row[:, None] + step + reach)[:, :, None], (column[:, None] + step + reach)
    np.maximum.at(over, (rows, columns[:, None, :]), dots.coverage(dx, dy))
    return over[reach:-reach, reach:-reach]


def rgb(colour: str) -> tuple[float, ...]:
    """Return red, green and blue, from 0 to 1, of a colour such as #0072B2."""
    return tuple(int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))


def coloured_png(colours: FloatArray, smallest: int = 250) -> bytes:
    """Encode an image, shape (ny, nx, 4), values from 0 to 1, as PNG.

    Its pixels are repeated until the longer side has about `smallest`, since viewers would smooth
    large ones.
    """
    values: npt.NDArray[np.uint8] = np.rint(255 * np.clip(colours, 0.0, 1.0)).astype(np.uint8)
    times = max(round(smallest / max(values.shape[:2])), 1)
    values = values.repeat(times, axis=0).repeat(times, axis=1)
    ny, nx = values.shape[:2]
    rows = np.concatenate([np.zeros((ny, 1), np.uint8), values.reshape(ny, 4 * nx)], axis=1)
    head = struct.pack(">IIBBBBB", nx, ny, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
