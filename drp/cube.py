"""The images of a level: read from disk when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from schemas.arrays import FloatArray, IntArray
from schemas.errors import UsageError
from schemas.nearest import did_you_mean
from schemas.payloads import Product
from tasks.delivery.published.visit import PublishedVisit
from tasks.files.hdu import Hdu
from tasks.visit.images import open_frame, open_images, open_imagettes

if TYPE_CHECKING:
    from astropy.time import Time

Level = Literal["CAL", "COR"]
Kind = Literal["sub_array", "imagette", "full_array"]

# the step that makes the images of a kind, by level, and the name of the kind in EXTNAME
_STEPS: dict[str, dict[str, str]] = {
    "CAL": {
        "sub_array": "calibrate",
        "imagette": "calibrate_imagettes",
        "full_array": "calibrate_full_array",
    },
    "COR": {
        "sub_array": "correct",
        "imagette": "correct_imagettes",
        "full_array": "correct_full_array",
    },
}
_NAMES = {"sub_array": "SubArray", "imagette": "Imagette", "full_array": "FullArray"}


@dataclass(frozen=True)
class Cube:
    """Images of one kind at one level [electron per stack]; NaN where there is no value.

    An index or a slice reads only these images; ``numpy.asarray(cube)`` reads them all. `shape` is
    (n, ny, nx); `corner`, shape (n, 2), is the position (x, y) of pixel [0, 0] of each image on the
    CCD, without margins. `time` is the middle of each exposure, TT at the satellite.
    """

    level: Level
    kind: Kind
    shape: tuple[int, int, int]
    corner: IntArray
    time: Time
    product: Product = field(repr=False)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[FloatArray]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int | slice) -> FloatArray:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            rows = range(start, stop, step)
            if not rows:
                return np.empty((0, *self.shape[1:]))
            first, last = min(rows[0], rows[-1]), max(rows[0], rows[-1])
            images = self._read(first, last + 1)
            return images[[row - first for row in rows]]
        row = range(len(self))[index]
        image: FloatArray = self._read(row, row + 1)[0]
        return image

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> FloatArray:
        return np.asarray(self[:], dtype)

    def _read(self, start: int, stop: int) -> FloatArray:
        with _opened(self.product, self.kind) as (hdu, _, _, _):
            images = hdu.stored(start, stop) if self.kind != "full_array" else hdu.stored()[None]
            return images.astype(np.float64)


@contextmanager
def _opened(product: Product, kind: str) -> Iterator[tuple[Hdu, int, IntArray, FloatArray]]:
    """Yield the HDU of images, their number, corners, and times [MJD]."""
    if kind == "imagette":
        with open_imagettes(product) as images:
            corner = np.stack([images.x_offset, images.y_offset], axis=1)
            yield images.image, images.count, corner, images.mjd
    elif kind == "full_array":
        with open_frame(product) as (frame, _):
            yield frame.image, 1, np.zeros((1, 2), np.int64), frame.mjd
    else:
        with open_images(product) as stacks:
            corner = np.tile([stacks.x_offset, stacks.y_offset], (stacks.count, 1))
            yield stacks.image, stacks.count, corner, stacks.mjd


def open_cube(visit: PublishedVisit, level: str, kind: str) -> Cube:
    """Return the images of a published visit.

    Raises
    ------
    UsageError
        If there is no such level or kind; raw images are not published.
    MissingInputError
        If the visit has no images of this kind.
    """
    from astropy.time import Time

    if level not in _STEPS or kind not in _NAMES:
        hint = did_you_mean(level, _STEPS) if level not in _STEPS else did_you_mean(kind, _NAMES)
        raise UsageError(
            f"images {level} {kind}: the levels are {', '.join(_STEPS)}, the kinds "
            f"{', '.join(_NAMES)}{hint}"
        )
    product = visit.cube(_STEPS[level][kind], f"SCI_{level}_{_NAMES[kind]}")
    with _opened(product, kind) as (hdu, count, corner, mjd):
        ny, nx = hdu.shape[-2:]
        time = Time(mjd, format="mjd", scale="tt")
    return Cube(level, kind, (count, ny, nx), corner, time, product)  # type: ignore[arg-type]
