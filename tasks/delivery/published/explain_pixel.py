"""The calibration, corrections and error of one pixel in one image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from schemas.errors import UsageError
from schemas.flags import PixelFlag
from tasks.delivery.published.answer import number
from tasks.delivery.published.uncertainty import (
    MEANINGS,
    FlatErrors,
    ReadOutErrors,
    ThermalErrors,
    calibrated_variances,
)
from tasks.delivery.published.visit import PublishedVisit
from tasks.visit.images import Images, open_images


@dataclass(frozen=True)
class PixelValue:
    """An estimate for the pixel, or its signal at one level."""

    name: str
    meaning: str
    value: float | None


@dataclass(frozen=True)
class PixelError:
    """A term of the error of the calibrated stack [electron]."""

    term: str
    meaning: str
    electrons: float | None


@dataclass(frozen=True)
class PixelExplanation:
    """The calibration, corrections and errors of one pixel in one image [electron]."""

    visit: str
    version: str
    image: int
    pixel: tuple[int, int]
    exposures: int
    flags: int
    flag_words: list[str]
    values: list[PixelValue]
    errors: list[PixelError]
    error: float | None


def explain_pixel(visit: PublishedVisit, image: int, x: int, y: int) -> PixelExplanation:
    """Return the calibration, corrections and error of one pixel in one image.

    Parameters
    ----------
    visit : PublishedVisit
        The published reduction.
    image : int
        Index of the image, from 0.
    x, y : int
        Pixel in the exposed area of the CCD, from 0.

    Raises
    ------
    UsageError
        If the visit has no such image, or the pixel is outside its window.
    """
    with open_images(visit.cube("calibrate", "SCI_CAL_SubArray")) as images:
        at = _place_in_window(images, image, x, y)
        exposures, signal = images.nexp, float(images.take(image)[at])
    terms = _read_calibration(visit, image, at)
    errors = calibrated_variances(signal, exposures, terms.readout, terms.thermal, terms.flat)
    variances = {name: float(variance) for name, variance in errors.items()}
    flags = int(visit.image("defects", "TERM_DEFECTS", "TERM_DEFECTS_FLAGS")[at])
    rows = [
        ("bias", "bias of one exposure [ADU]", terms.bias),
        ("gain", "ADU per electron", terms.readout.gain),
        (
            "thermal",
            "thermal charge of the stack, subtracted",
            exposures * np.asarray(terms.thermal.charge),
        ),
        ("response", "pixel response", terms.flat.response),
        ("calibrated", "calibrated stack", signal),
        *_corrections(visit, image, (x, y), at),
    ]
    return PixelExplanation(
        visit=visit.manifest.visit,
        version=visit.manifest.version,
        image=image,
        pixel=(x, y),
        exposures=exposures,
        flags=flags,
        flag_words=[str(b.name).lower().replace("_", " ") for b in PixelFlag if flags & b],
        values=[PixelValue(name, meaning, number(value)) for name, meaning, value in rows],
        errors=[PixelError(n, MEANINGS[n], number(np.sqrt(v))) for n, v in variances.items()],
        error=number(np.sqrt(sum(variances.values()))),
    )


def _place_in_window(images: Images, image: int, x: int, y: int) -> tuple[int, int]:
    """Return the row and column, in the window, of a pixel of the CCD.

    Raises
    ------
    UsageError
        If there is no such image, or the pixel is outside its window.
    """
    if not 0 <= image < images.count:
        raise UsageError(f"image {image}: the visit has images 0 to {images.count - 1}")
    (ny, nx), left, bottom = images.shape, images.x_offset, images.y_offset
    if not (left <= x < left + nx and bottom <= y < bottom + ny):
        raise UsageError(
            f"pixel ({x}, {y}): the window spans x from {left} to {left + nx - 1} and y "
            f"from {bottom} to {bottom + ny - 1}"
        )
    return y - bottom, x - left


class _Calibration(NamedTuple):
    """The calibration terms of one pixel in one image, with their errors."""

    bias: float  # level and structure [ADU]
    readout: ReadOutErrors
    thermal: ThermalErrors
    flat: FlatErrors


def _read_calibration(visit: PublishedVisit, image: int, at: tuple[int, int]) -> _Calibration:
    def pixel(step: str, extname: str, hdu: str = "") -> float:
        return float(visit.image(step, extname, hdu)[at])

    level, gain = visit.term("bias", "TERM_BIAS"), visit.term("gain", "TERM_GAIN")
    scale = float(visit.term("dark", "TERM_DARK", "TERM_DARK_SCALE")["SCALE"][image])
    return _Calibration(
        float(level["LEVEL"][image]) + pixel("bias", "TERM_BIAS", "TERM_BIAS_STRUCTURE"),
        ReadOutErrors(
            float(level["RON"][image]),
            float(level["LEVEL_ERR"][image]),
            float(gain["GAIN"][image]),
            float(gain["GAIN_ERR"][image]),
        ),
        ThermalErrors(
            scale * pixel("dark", "TERM_DARK"),
            scale * pixel("dark", "TERM_DARK", "TERM_DARK_ERROR"),
            float(visit.used("dark", "TERM_DARK", "DARK_SCE")),
        ),
        FlatErrors(pixel("flat", "TERM_FLAT"), pixel("flat", "TERM_FLAT", "TERM_FLAT_ERROR")),
    )


def _corrections(
    visit: PublishedVisit, image: int, pixel: tuple[int, int], at: tuple[int, int]
) -> Iterator[tuple[str, str, Any]]:
    """Yield name, meaning and amount of each correction, then the corrected signal [electron]."""
    yield "background", "background, subtracted", _background(visit, image, pixel)
    smeared = visit.image("smearing", "TERM_SMEARING")[image, at[1]]
    yield "smearing", "smeared light, subtracted", smeared
    static = visit.image("defects", "TERM_DEFECTS", "TERM_DEFECTS_STATIC")[at]
    yield "static", "steady excess, subtracted", static
    hits = visit.term("defects", "TERM_DEFECTS")
    here = (hits["IMAGE_INDEX"] == image) & (hits["X"] == at[1]) & (hits["Y"] == at[0])
    amount = hits["AMOUNT"][here].sum()
    yield "hit", "cosmic ray or telegraphic state, subtracted", amount
    with open_images(visit.cube("correct", "SCI_COR_SubArray")) as images:
        yield "corrected", "corrected stack", images.take(image)[at]


def _background(visit: PublishedVisit, image: int, pixel: tuple[int, int]) -> float:
    """Return the background plane at a pixel [electron]."""
    sky = visit.term("background", "TERM_BACKGROUND")
    slopes = []
    for axis, place in zip("XY", pixel, strict=True):
        middle = float(visit.used("background", "TERM_BACKGROUND", f"BKG_{axis}")) - 0.5
        slopes.append(float(sky[f"SLOPE_{axis}"][image]) * (place - middle))
    return float(sky["LEVEL"][image]) + sum(slopes)
