"""Terms as steps read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.arrays import FloatArray, Int32Array, IntArray
from schemas.inputs import term_input
from schemas.payloads import Bias, Dark, Events, Flat, Gain, Linearity, Look, Product, Spread
from tasks.files.disk import require
from tasks.files.reader import open_declared


def term_column(product: Product, extname: str, *names: str) -> list[npt.NDArray[Any]]:
    """Return columns of a term."""
    with open_declared(Path(require(product.path)), term_input(product.extname)) as file:
        return [file[extname].column(name) for name in names]


def look_places(look: Look) -> tuple[FloatArray, FloatArray]:
    """Return the target's first position in every image, edge based [pixel]; between images where
    it was not seen.
    """
    mjd, *places = term_column(look.product, "TERM_LOOK", "MJD_TIME", "CENTROID_X", "CENTROID_Y")
    seen = np.isfinite(places[0]) & np.isfinite(places[1])
    if not seen.any():
        return np.full_like(mjd, np.nan), np.full_like(mjd, np.nan)
    order = np.flatnonzero(seen)[np.argsort(mjd[seen], kind="stable")]
    x, y = (np.where(seen, p, np.interp(mjd, mjd[order], p[order])) for p in places)
    return x, y


def first_sampled(look: Look) -> int:
    """Return the index of the first image that the first look sampled: where one image has to stand
    for all.
    """
    (sampled,) = term_column(look.product, "TERM_LOOK", "SAMPLED")
    return int(np.argmax(sampled))


def term_image(product: Product, extname: str) -> FloatArray:
    """Return an image of a term; pixels that are no numbers are refused."""
    with open_declared(Path(require(product.path)), term_input(product.extname)) as file:
        return file[extname].finite_image()


class EventsTerm(NamedTuple):
    """Conditions of every image, arrays of shape (n,)."""

    mjd: FloatArray  # middle of the image, TT
    bjd: FloatArray  # middle of the image, TDB at the barycentre
    event: Int32Array  # decimal digits of conditions
    quality: Int32Array  # bits of `Quality`
    light_time: FloatArray  # how much nearer to the target than the geocentre the satellite is [s]
    light_rate: FloatArray  # change of `light_time` with time during the image


class BiasTerm(NamedTuple):
    """Bias of one exposure of every image, arrays of shape (n,)."""

    mjd: FloatArray
    level: FloatArray  # [ADU]
    error: FloatArray  # of the level [ADU]
    ron: FloatArray  # read-out noise [ADU]


class GainTerm(NamedTuple):
    """Gain of every image and its error, shape (n,) [ADU/electron]."""

    gain: FloatArray
    error: FloatArray


class Curve(NamedTuple):
    """Linearity curve: where its pieces begin, shape (m,), and their cubics, shape (m, 4)
    [electron].
    """

    boundary: FloatArray
    coefficients: FloatArray


class SpreadTerm(NamedTuple):
    """Motion within stacks: offsets of exposures, shape (n, 2, 8), NaN where there is none
    [pixel], and the index of each stack's first imagette, shape (n,), -1 where there is none.
    """

    offsets: FloatArray
    first: IntArray


class DarkTerm(NamedTuple):
    """Thermal charge of one exposure and its error, shape (ny, nx) [electron], and the factor of
    every image, shape (n,).
    """

    charge: FloatArray
    error: FloatArray
    scale: FloatArray


class FlatTerm(NamedTuple):
    """Relative response of the pixels and its error, shape (ny, nx)."""

    response: FloatArray
    error: FloatArray


def read_events(events: Events) -> EventsTerm:
    """Return the conditions of every image."""
    names = "MJD_TIME", "BJD_TIME", "EVENT", "QUALITY", "SAT_LIGHT_TIME", "SAT_LIGHT_RATE"
    return EventsTerm(*term_column(events.product, "TERM_EVENTS", *names))


def read_bias(bias: Bias) -> BiasTerm:
    """Return bias level and read-out noise of every image."""
    names = "MJD_TIME", "LEVEL", "LEVEL_ERR", "RON"
    return BiasTerm(*term_column(bias.product, "TERM_BIAS", *names))


def read_bias_structure(bias: Bias) -> FloatArray:
    """Return the bias of every pixel minus the level, shape (ny, nx) [ADU]."""
    return term_image(bias.product, "TERM_BIAS_STRUCTURE")


def read_gain(gain: Gain) -> GainTerm:
    """Return the gain of every image."""
    return GainTerm(*term_column(gain.product, "TERM_GAIN", "GAIN", "GAIN_ERR"))


def read_linearity(linearity: Linearity) -> Curve:
    """Return the linearity curve of the visit."""
    names = (f"COEF_{i}" for i in range(4))
    boundary, *cubic = term_column(linearity.product, "TERM_LINEARITY", "BOUNDARY", *names)
    return Curve(boundary, np.ascontiguousarray(np.stack(cubic, axis=1)))


def read_spread(spread: Spread, extname: str = "TERM_SPREAD") -> SpreadTerm:
    """Return the motion within stacks, or within imagettes that are stacks themselves."""
    x, y, first = term_column(spread.product, extname, "OFFSET_X", "OFFSET_Y", "FIRST")
    return SpreadTerm(np.stack([x, y], axis=1).astype(np.float64), first.astype(np.int64))


def read_dark(dark: Dark) -> DarkTerm:
    """Return the thermal charge, and how it changes from image to image."""
    charge, error = (term_image(dark.product, name) for name in ("TERM_DARK", "TERM_DARK_ERROR"))
    return DarkTerm(charge, error, *term_column(dark.product, "TERM_DARK_SCALE", "SCALE"))


def read_flat(flat: Flat) -> FlatTerm:
    """Return the response of the pixels."""
    return FlatTerm(*(term_image(flat.product, name) for name in ("TERM_FLAT", "TERM_FLAT_ERROR")))
