"""Readers of the terms: the estimates that steps pass on to other steps."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from schemas.arrays import AnyArray, BoolArray, FloatArray, Int32Array, IntArray, UByteArray
from schemas.errors import BadInputError
from schemas.flags import Quality
from schemas.inputs import term_input
from schemas.light_curves import RADII, Radii
from schemas.payloads import (
    Apertures,
    Background,
    Bias,
    Contamination,
    Corrected,
    Dark,
    Defects,
    Events,
    Flat,
    Gain,
    ImagetteHits,
    Leaf,
    Linearity,
    Look,
    Pointing,
    Position,
    Product,
    PsfFit,
    QualityTerm,
    Smearing,
    Spread,
    Stars,
)
from tasks.files.disk import require
from tasks.files.reader import open_declared


def term_column(product: Product, extname: str, *names: str) -> list[AnyArray]:
    """Return columns of a term."""
    with open_declared(Path(require(product.path)), term_input(product.extname)) as file:
        return [file[extname].column(name) for name in names]


def look_places(look: Look) -> tuple[FloatArray, FloatArray]:
    """Return the target's first position in every image, edge based [pixel].

    It is interpolated where the target was not seen.
    """
    mjd, *places = term_column(look.product, "TERM_LOOK", "MJD_TIME", "CENTROID_X", "CENTROID_Y")
    seen = np.isfinite(places[0]) & np.isfinite(places[1])
    if not seen.any():
        return np.full_like(mjd, np.nan), np.full_like(mjd, np.nan)
    order = np.flatnonzero(seen)[np.argsort(mjd[seen], kind="stable")]
    x, y = (np.where(seen, p, np.interp(mjd, mjd[order], p[order])) for p in places)
    return x, y


def first_sampled(look: Look) -> int:
    """Return the index of the first image of the first look's sample, to represent all images."""
    return int(np.argmax(read_look(look).sampled))


def term_image(product: Product, extname: str) -> FloatArray:
    """Return an image of a term, and check that all pixels are finite."""
    with open_declared(Path(require(product.path)), term_input(product.extname)) as file:
        return file[extname].finite_image()


class EventsTerm(NamedTuple):
    """Conditions of every image, arrays of shape (n,)."""

    mjd: FloatArray  # middle of the image, TT
    bjd: FloatArray  # middle of the image, TDB at the barycentre
    event: Int32Array  # decimal digits of conditions
    quality: Int32Array  # bits of `Quality`
    light_time: FloatArray  # by which the satellite is nearer to the target than the geocentre [s]
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
    """Linearity curve of one exposure as m cubic pieces [electron]."""

    boundary: FloatArray  # measured signal at the start of each piece, increasing, shape (m,)
    coefficients: FloatArray  # of its cubic in (signal - boundary), shape (m, 4)


class SpreadTerm(NamedTuple):
    """Motion within stacks."""

    offsets: FloatArray  # of exposures from their mean position, padded with NaN, (n, 2, 8) [pixel]
    first: IntArray  # index of each stack's first imagette, -1 for none, shape (n,)


class DarkTerm(NamedTuple):
    """Thermal charge of one exposure."""

    charge: FloatArray  # at the visit's median temperature, shape (ny, nx) [electron]
    error: FloatArray  # of the charge, shape (ny, nx) [electron]
    scale: FloatArray  # charge of every image over `charge`, shape (n,)


class FlatTerm(NamedTuple):
    """Relative response of the pixels and its error, shape (ny, nx)."""

    response: FloatArray
    error: FloatArray


def read_events(events: Events) -> EventsTerm:
    """Return the conditions of every image."""
    names = "MJD_TIME", "BJD_TIME", "EVENT", "QUALITY", "SAT_LIGHT_TIME", "SAT_LIGHT_RATE"
    return EventsTerm(*term_column(events.product, "TERM_EVENTS", *names))


def count_saturated(events: Events) -> IntArray:
    """Return in how many measured images every pixel is saturated, shape (ny, nx)."""
    return term_image(events.product, "TERM_EVENTS_SATURATED").astype(np.int64)


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
    """Return the motion within the stacks, or within stacked imagettes."""
    x, y, first = term_column(spread.product, extname, "OFFSET_X", "OFFSET_Y", "FIRST")
    return SpreadTerm(np.stack([x, y], axis=1).astype(np.float64), first.astype(np.int64))


def read_dark(dark: Dark) -> DarkTerm:
    """Return the thermal charge of the visit."""
    charge, error = (term_image(dark.product, name) for name in ("TERM_DARK", "TERM_DARK_ERROR"))
    return DarkTerm(charge, error, *term_column(dark.product, "TERM_DARK_SCALE", "SCALE"))


def read_flat(flat: Flat) -> FlatTerm:
    """Return the response of the pixels."""
    return FlatTerm(*(term_image(flat.product, name) for name in ("TERM_FLAT", "TERM_FLAT_ERROR")))


class LookTerm(NamedTuple):
    """The first look at every image, shape (n,)."""

    x: FloatArray  # place on the CCD, edge based; NaN if the target was not seen [pixel]
    y: FloatArray
    flux: FloatArray  # within 25 pixels [electron per stack]
    sampled: BoolArray  # mask of the sampled images
    limit: FloatArray  # (ny, nx) value from which on a pixel is saturated; inf: never [electron]


def read_look(term: Look) -> LookTerm:
    """Read the first look at every image."""
    names = ("CENTROID_X", "CENTROID_Y", "FLUX", "SAMPLED")
    x, y, flux, sampled = term_column(term.product, "TERM_LOOK", *names)
    limit = term_image(term.product, "TERM_LOOK_LIMIT")
    return LookTerm(x, y, flux, sampled.astype(bool), np.where(limit > 0, limit, np.inf))


def read_static(term: Look) -> FloatArray:
    """Read the median of the sampled images above their rings, shape (ny, nx) [electron]."""
    return term_image(term.product, "TERM_LOOK_STATIC")


def read_roll(term: Pointing) -> FloatArray:
    """Read the roll angle of every image, shape (n,) [deg]; NaN if it is unknown."""
    (roll,) = term_column(term.product, "TERM_POINTING", "ROLL_ANGLE")
    return roll


class BackgroundTerm(NamedTuple):
    """Background of a pixel and its error in every image, shape (n,) [electron per stack]."""

    level: FloatArray
    error: FloatArray
    known: BoolArray  # measured; otherwise 0


def read_background(term: Background) -> BackgroundTerm:
    """Read the background of either round."""
    names = ("LEVEL", "LEVEL_ERR", "QUALITY")
    level, error, quality = term_column(term.product, term.product.extname, *names)
    known = (quality.astype(np.int64) & int(Quality.UNUSABLE_IMAGE)) == 0
    return BackgroundTerm(level, error, known)


class StarsTerm(NamedTuple):
    """Stars of the catalogue, shape (k,)."""

    xi: FloatArray  # standard coordinates about the target [arcsec]
    eta: FloatArray
    flux: FloatArray  # [electron per stack]
    error: FloatArray
    target: BoolArray


def read_stars(term: Stars) -> StarsTerm:
    """Read the stars of either round."""
    names = ("XI", "ETA", "FLUX", "FLUXERR", "TARGET")
    xi, eta, flux, error, target = term_column(term.product, term.product.extname, *names)
    return StarsTerm(xi, eta, flux, error, target.astype(bool))


def read_smearing(term: Smearing) -> FloatArray:
    """Read the smeared light of every column of every image, shape (n, nx) [electron per stack]."""
    return term_image(term.product, "TERM_SMEARING")


class PositionTerm(NamedTuple):
    """Place of the target in every image, shape (n,)."""

    x: FloatArray  # on the CCD, edge based [pixel]
    y: FloatArray
    flux: FloatArray  # of the PSF fitted there; NaN without a fit [electron]
    validity: UByteArray  # 0 if the place was measured


def read_position(term: Position) -> PositionTerm:
    """Read the position of the target in every image."""
    return PositionTerm(*term_column(term.product, "TERM_POSITION", "X", "Y", "FLUX", "VALIDITY"))


class DefectList(NamedTuple):
    """Corrected pixels of single images, arrays of shape (m,)."""

    image: IntArray
    x: IntArray  # index in the window
    y: IntArray
    amount: FloatArray  # charge to subtract [electron]
    kind: AnyArray  # see `tasks/correction/hits.py`


def read_defect_list(term: Defects) -> DefectList:
    """Read the corrected pixels of single images."""
    names = ("IMAGE_INDEX", "X", "Y", "AMOUNT", "KIND")
    image, x, y, amount, kind = term_column(term.product, term.product.extname, *names)
    image, x, y = (v.astype(np.int64) for v in (image, x, y))
    return DefectList(image, x, y, amount, kind)


class ImagetteHitsTerm(NamedTuple):
    """Hit pixels of imagettes, arrays of shape (m,)."""

    stack: IntArray  # that holds the imagette
    y: IntArray  # index in the window of the sub-array
    x: IntArray
    amount: FloatArray  # charge to subtract [electron]
    share: FloatArray  # of the excess that this is


def read_imagette_hits(term: ImagetteHits) -> ImagetteHitsTerm:
    """Read the hit pixels of imagettes."""
    names = ("STACK", "Y", "X", "AMOUNT", "SHARE")
    stack, y, x, amount, share = term_column(term.product, "TERM_IMAGETTE_HITS", *names)
    stack, y, x = (v.astype(np.int64) for v in (stack, y, x))
    return ImagetteHitsTerm(stack, y, x, amount, share)


class DefectCounts(NamedTuple):
    """Defects of every image, shape (n,)."""

    inside: Int32Array  # pixels hit by cosmic rays within the default aperture
    everywhere: Int32Array  # and in the window
    replaced: FloatArray  # share of the default aperture that is replaced by the model
    doubt: FloatArray  # variance in the aperture from uncertain telegraphic states [electron^2]


def read_defect_counts(term: Defects) -> DefectCounts:
    """Read the number of hit pixels in every image, and the uncertainty of telegraphic ones."""
    names = ("INSIDE", "ALL", "REPLACED", "DOUBT")
    return DefectCounts(*term_column(term.product, "TERM_DEFECTS_IMAGES", *names))


def read_steady_excess(term: Defects) -> FloatArray:
    """Read the steady excess of every pixel, shape (ny, nx) [electron per stack]."""
    return term_image(term.product, "TERM_DEFECTS_STATIC")


def read_radii(term: Apertures) -> Radii:
    """Read the radii of the visit, in rising order [pixel].

    Raises
    ------
    BadInputError
        If radii are missing or out of order, or the sums are not those within them.
    """
    (values,) = term_column(term.product, "TERM_APERTURES_RADII", "RADIUS")
    radii = tuple(float(radius) for radius in values)
    if not set(RADII) <= set(radii) or radii != tuple(sorted(set(radii))):
        raise BadInputError(
            f"{term.product.path}: radii {', '.join(f'{radius:g}' for radius in radii)}: expected "
            "rising values, among them 15, 16 ... 40 and 22.5"
        )
    columns_by_radius(term.product, "TERM_APERTURES", radii, "FLUX")
    return radii


def columns_by_radius(
    product: Product, extname: str, radii: Radii, *names: str
) -> list[FloatArray]:
    """Return columns of a term with one element per radius, shape (n, radii).

    Raises
    ------
    BadInputError
        If they have not as many elements as the visit has radii.
    """
    columns = term_column(product, extname, *names)
    for name, values in zip(names, columns, strict=True):
        if values.shape[1:] != (len(radii),):
            raise BadInputError(
                f"{product.path}: column {name} of {extname} holds {values.shape[-1]} radii, the "
                f"visit has {len(radii)}: it is of a run with other settings apertures.radii"
            )
    return columns


class AperturesTerm(NamedTuple):
    """Sums within circles about the target, shape (n, radii) unless noted [electron]."""

    radii: Radii  # [pixel]
    flux: FloatArray
    area: FloatArray  # summed area [pixel^2]
    dark: FloatArray
    smearing: FloatArray
    hot: FloatArray
    fixed: FloatArray  # within a fixed circle, shape (n,)
    fixed_area: FloatArray


def read_apertures(term: Apertures) -> AperturesTerm:
    """Read the sums within circles about the target."""
    names = ("FLUX", "AREA", "DARK", "SMEARING", "HOT", "FIXED", "FIXED_AREA")
    columns = term_column(term.product, "TERM_APERTURES", *names)
    return AperturesTerm(read_radii(term), *columns)


class PsfFitTerm(NamedTuple):
    """PSF photometry; NaN where the PSF was not fitted."""

    flux: FloatArray  # (n,) [electron]
    error: FloatArray
    share: FloatArray  # of the light within each radius, shape (n, radii)


def read_psf_fit(term: PsfFit, radii: Radii) -> PsfFitTerm:
    """Read the PSF photometry of a visit with these radii."""
    flux, error = term_column(term.product, "TERM_PSF_FIT", "FLUX", "FLUXERR")
    return PsfFitTerm(flux, error, *columns_by_radius(term.product, "TERM_PSF_FIT", radii, "SHARE"))


def read_contamination(term: Contamination, radii: Radii) -> FloatArray:
    """Read the light of field stars relative to the target's within each radius, (n, radii)."""
    (ratio,) = columns_by_radius(term.product, "TERM_CONTAMINATION", radii, "RATIO")
    return np.asarray(ratio, np.float64)


class PointsTerm(NamedTuple):
    """Flags and light-time corrections of the points of a light curve, shape (n,)."""

    event: Int32Array
    quality: Int32Array
    light_time: FloatArray  # [s]
    light_rate: FloatArray


def read_points(term: QualityTerm) -> PointsTerm:
    """Read the flags and light-time corrections of every point."""
    names = ("EVENT", "QUALITY", "SAT_LIGHT_TIME", "SAT_LIGHT_RATE")
    return PointsTerm(*term_column(term.product, "TERM_QUALITY", *names))


class ImagettePositionTerm(NamedTuple):
    """The target in every imagette, shape (n,)."""

    x: FloatArray  # place on the CCD, edge based [pixel]
    y: FloatArray
    x_error: FloatArray
    y_error: FloatArray
    hits: Int32Array  # pixels hit by cosmic rays
    quality: Int32Array


def read_imagette_position(corrected: Corrected) -> ImagettePositionTerm:
    """Read the position of the target in every imagette."""
    product = corrected.products["TERM_IMAGETTE_POSITION"]
    names = ("X", "Y", "X_ERR", "Y_ERR", "HITS", "QUALITY")
    return ImagettePositionTerm(*term_column(product, "TERM_IMAGETTE_POSITION", *names))


def read_image_flags(term: Leaf) -> Int32Array:
    """Read the flags of every image in a term (`Quality`), shape (n,)."""
    (quality,) = term_column(term.product, term.product.extname, "QUALITY")
    return quality
