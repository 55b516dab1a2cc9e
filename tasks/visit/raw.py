"""The raw exposures of a visit: window, read-out mode, times and housekeeping of every image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from schemas.arrays import FloatArray, WordArray
from schemas.errors import BadInputError
from schemas.inputs import RAW_FULL_ARRAY, RAW_IMAGETTE, RAW_SUBARRAY
from schemas.payloads import Product
from tasks.files.disk import require
from tasks.files.reader import FitsFile, Hdu, blocks, open_declared

LONGEST_REPETITION = 600.0  # ten times the longest exposure [s]

T = TypeVar("T")

_KINDS = {d.first[0]: d for d in (RAW_SUBARRAY, RAW_FULL_ARRAY, RAW_IMAGETTE)}


def span_of(nexp: int, exposure_time: float, repetition: float) -> float:
    """Return the time from the start of a stack's first exposure to the end of its last [s].

    `repetition` is the time between two starts [s]; if it is shorter than an exposure, exposures
    follow each other without a gap.
    """
    return (nexp - 1) * max(repetition, exposure_time) + exposure_time


@dataclass(frozen=True)
class Exposures:
    """An open raw product."""

    file: FitsFile
    image: Hdu
    metadata: Hdu
    count: int  # of images
    shape: tuple[int, int]  # of an image, (ny, nx)
    nexp: int  # exposures in a stack
    exposure_time: float  # [s]
    x_offset: int  # position of the window's index [0, 0] on the exposed area of the CCD
    y_offset: int
    mjd: FloatArray  # middle of every image, TT, shape (n,)

    def __enter__(self) -> Exposures:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    @property
    def window(self) -> tuple[slice, slice]:
        """The window as slices (y, x) of the exposed CCD area."""
        return (
            slice(self.y_offset, self.y_offset + self.shape[0]),
            slice(self.x_offset, self.x_offset + self.shape[1]),
        )

    @property
    def coadded(self) -> int:
        """Number of exposures that a pixel value is the sum of (1 if the stack is their mean)."""
        return 1 if self.image.header.get("STACKING") == "mean" else self.nexp

    @property
    def repetition(self) -> float:
        """Time from the start of one exposure of a stack to the next [s]; 0 if unknown."""
        value = self.metadata.header.get("REPETIT", 0.0)
        known = (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and 0 < value < LONGEST_REPETITION
        )
        return float(value) if known else 0.0

    @property
    def span(self) -> float:
        """Time from the start of a stack's first exposure to the end of its last [s]."""
        return span_of(self.nexp, self.exposure_time, self.repetition)

    @property
    def hardware(self) -> str:
        """Read-out channel, main or redundant."""
        return self.image.text("RO_HW")

    @property
    def frequency(self) -> int:
        """Read-out frequency [Hz]."""
        return self.image.integer("RO_FREQU")

    def words(self, start: int, stop: int) -> WordArray:
        """Return images `start` to `stop` as big-endian words, shape (n, ny, nx).

        Whatever type the file has, they are 32-bit words of the unsigned values minus 2^31.
        """
        flat = len(self.image.shape) == 2  # the full array is one image, not a cube of one
        stored = (self.image.stored() if flat else self.image.stored(start, stop)).reshape(
            -1, *self.shape
        )
        if stored.dtype.itemsize == 4:
            return stored.view(np.uint32)
        values = stored.astype(np.int64) + int(self.image.header.get("BZERO", 0))
        return (values.astype(np.uint32) ^ np.uint32(1 << 31)).byteswap()


def open_exposures(product: Product) -> Exposures:
    """Open a raw sub-array, full array or imagettes, and check that its parts belong together.

    Raises
    ------
    BadInputError
        If counts or shapes of images, metadata and margins differ.
    """
    file = open_declared(require(product.path), _KINDS[product.extname])
    try:
        opened = _describe(file, product.extname)
        _check_margins(opened)
        return opened
    except BaseException:
        file.close()
        raise


def _describe(file: FitsFile, extname: str) -> Exposures:
    """Return the exposures of an open file."""
    image = file[extname]
    of_imagettes = "Imagette" in extname
    metadata = file["SCI_RAW_ImagetteMetadata" if of_imagettes else "SCI_RAW_ImageMetadata"]
    count = image.shape[0] if len(image.shape) == 3 else 1
    if metadata.rows != count:
        raise BadInputError(
            f"{file.path}: {image.extname} has {count} images, {metadata.extname} has "
            f"{metadata.rows} rows"
        )
    x_offset, y_offset = _window_offset(image) if extname == "SCI_RAW_SubArray" else (0, 0)
    return Exposures(
        file=file,
        image=image,
        metadata=metadata,
        count=count,
        shape=(image.shape[-2], image.shape[-1]),
        mjd=metadata.finite_column("MJD_TIME"),
        nexp=image.integer("NEXP"),
        exposure_time=image.number("EXPTIME"),
        x_offset=x_offset,
        y_offset=y_offset,
    )


def _window_offset(image: Hdu) -> tuple[int, int]:
    """Return the position of a sub-array's window on the CCD, x and y."""
    ny, nx = image.shape[-2:]
    x, y = image.integer("X_WINOFF"), image.integer("Y_WINOFF")
    if y + ny > 1024 or x + nx > 1024:
        raise image.refuse(f"window of {nx} x {ny} pixels at ({x}, {y}) extends beyond the CCD")
    return x, y


@contextmanager
def maybe_exposures(product: Product | None) -> Iterator[Exposures | None]:
    """Open a raw product as `open_exposures` does, or yield None if there is none."""
    if product is None:
        yield None
        return
    with open_exposures(product) as opened:
        yield opened


def _check_margins(raw: Exposures) -> None:
    ny, nx = raw.shape
    for hdu in raw.file.hdus[2:]:
        if hdu.declared is None or not hdu.extname.startswith("SCI_RAW_") or hdu.declared.is_table:
            continue
        expected = _margin_shape(raw, hdu)
        if hdu.shape != expected:
            raise hdu.refuse(
                f"has the shape {hdu.shape}, expected {expected} for images of {nx} x {ny} pixels"
            )


def _margin_shape(raw: Exposures, margin: Hdu) -> tuple[int, ...]:
    """Return the shape that a margin must have; it depends on its processing on board."""
    ny, nx = raw.shape
    top = margin.extname.endswith("Top")
    process = margin.text("MRG_PROC")
    if process == "image":
        free = margin.shape[-2] if top else margin.shape[-1]
        return (raw.count, free, nx) if top else (raw.count, ny, free)
    if process == "row collapsed":
        return (raw.count, 3, nx) if top else (raw.count, ny, 3)
    if process == "total collapsed":
        return (raw.count, 4, 1) if top and margin.shape[-2:] == (4, 1) else (raw.count, 1, 4)
    raise margin.refuse(
        f"keyword MRG_PROC is {process!r}, expected 'image', 'row collapsed' or 'total collapsed'"
    )


def by_image(raw: Exposures, make: Callable[[WordArray], T], size: int = 1 << 23) -> list[T]:
    """Return the results of `make` for each block of images."""
    ny, nx = raw.shape
    return [make(raw.words(a, b)) for a, b in blocks(raw.count, ny * nx * 4, size)]
