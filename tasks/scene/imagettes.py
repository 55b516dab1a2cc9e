"""The star in imagettes: small images of one or a few exposures within a stack.

Imagettes inherit the estimates of their stack: background and smeared light in proportion to their
exposures, and the target's place shifted by the attitude's motion between the two mid-times. The
visit's PSF is cut to a stamp that covers an imagette.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.fft

from schemas.arrays import BoolArray, FloatArray, IntArray
from schemas.constants import DAY
from schemas.payloads import ReadOut, Removed, Scene
from tasks.scene.psf import read_out_noise
from tasks.scene.star_model import FURTHEST, Stamps, Star, StarModel, read_psf
from tasks.scene.stars import Field, read_field
from tasks.scene.track import Track, read_track
from tasks.visit.clean import Effects, read_effects
from tasks.visit.images import Images, Imagettes
from tasks.visit.terms import read_background, read_position

LEAST_ERROR = 1e-3  # electron; smallest error of the background of a pixel
# pixel; margin of the PSF's stamp around an imagette, for a star that moves off its middle
REACH = 12


def nearest_stack(mjd: FloatArray, stacks: FloatArray) -> IntArray:
    """Return for each time the index of the nearest stack; mid-times may be in any order."""
    order = np.argsort(stacks, kind="stable")
    edges = (stacks[order][1:] + stacks[order][:-1]) / 2
    return np.asarray(order[np.searchsorted(edges, mjd)], np.int64)


def free_radius(missing: BoolArray, x: float, y: float) -> float:
    """Return the radius of the largest circle about a place without missing pixels.

    Parameters
    ----------
    missing : ndarray of bool, shape (ny, nx)
        Pixels without a value.
    x, y : float
        Centre of the circle, pixel i spans [i, i+1) [pixel].

    Returns
    -------
    float
        The circle lies within the image. 0 for a place outside of it or on a missing pixel [pixel].
    """
    ny, nx = missing.shape
    edge = float(max(min(x, y, nx - x, ny - y), 0.0))
    rows, columns = np.nonzero(missing)
    if not len(rows):
        return edge
    # to the nearest point of each pixel
    dx = np.maximum(np.abs(columns + 0.5 - x) - 0.5, 0.0)
    dy = np.maximum(np.abs(rows + 0.5 - y) - 0.5, 0.0)
    return min(edge, float(np.hypot(dx, dy).min()))


@dataclass(frozen=True)
class Companions:
    """Estimates for every imagette from its stack, shape (n,).

    Electrons are those of the imagette, except in `effects`.
    """

    stack: IntArray  # index of the nearest stack
    held: BoolArray  # whether the imagette is part of that stack
    share: FloatArray  # fraction of the exposures of the stack
    span: FloatArray  # from its start to its end [s]
    level: FloatArray  # background of a pixel at the target [electron]
    level_error: FloatArray
    floor: FloatArray  # variance of a pixel without stars [electron^2]
    warmth: FloatArray  # parameter of the PSF
    x: FloatArray  # expected place on the CCD [pixel]
    y: FloatArray
    shift: FloatArray  # along x from the place in the stack [pixel]
    effects: Effects  # of the stacks
    corner: tuple[int, int]  # of the sub-array on the CCD

    def corner_of(self, imagettes: Imagettes, i: int) -> tuple[int, int]:
        """Return the index (x, y) in the sub-array of index [0, 0] of imagette `i`."""
        return (
            int(imagettes.x_offset[i]) - self.corner[0],
            int(imagettes.y_offset[i]) - self.corner[1],
        )

    def smeared_row(self, i: int, x: int, columns: int) -> FloatArray:
        """Return the smeared light of imagette `i`, starting at column `x` of the sub-array.

        It is the stack's, shifted with the stars.
        """
        if self.effects.smearing is None:
            return np.zeros(columns)
        row = self.effects.smearing[self.stack[i]]
        place = np.arange(columns) + x - self.shift[i]
        return np.asarray(self.share[i] * np.interp(place, np.arange(row.size), row))

    def excess(self, i: int, x: int, y: int, shape: tuple[int, int]) -> FloatArray:
        """Return all known effects in imagette `i`, at index [y, x] of the sub-array [electron].

        Hits of the stacks are not included, since the exposure in which they occurred is unknown.
        """
        ny, nx = shape
        rows, columns = np.arange(ny)[:, None] + y, np.arange(nx)[None, :] + x
        sky = np.full(shape, self.level[i])
        if self.effects.slope is not None:
            slope, (x0, y0) = self.share[i] * self.effects.slope[self.stack[i]], self.effects.centre
            sky = sky + slope[0] * (columns - x0) + slope[1] * (rows - y0)
        return np.asarray(sky + self.smeared_row(i, x, nx) + self.still(i, x, y, shape))

    def still(self, i: int, x: int, y: int, shape: tuple[int, int]) -> FloatArray:
        """Return the steady excess in imagette `i`, at index [y, x] of the sub-array [electron]."""
        static = self.effects.static
        return (
            np.zeros(shape)
            if static is None
            else part_of(static, float(self.share[i]), x, y, shape)
        )


def part_of(stack: FloatArray, share: float, x: int, y: int, shape: tuple[int, int]) -> FloatArray:
    """Return an imagette's part, at index [y, x], of an image of the stack.

    Values are multiplied by the share of the exposures.
    """
    ny, nx = shape
    if not (0 <= x <= stack.shape[1] - nx and 0 <= y <= stack.shape[0] - ny):
        raise ValueError(
            f"imagettes of {nx} x {ny} pixels at ({x}, {y}) leave the sub-array of "
            f"{stack.shape[::-1]} pixels"
        )
    return np.asarray(share * stack[y : y + ny, x : x + nx])


@dataclass(frozen=True)
class ImagetteModel:
    """The visit's PSF for imagettes."""

    model: StarModel
    scatter: FloatArray  # about the PSF, in units of a stack's noise
    corner: tuple[int, int]  # of the sub-array on the CCD

    def at(self, x_offset: int, y_offset: int, share: float) -> StarModel:
        """Return the model for an imagette at a place on the CCD.

        `share` is its fraction of a stack's exposures: errors of the model are proportional to
        these, noise to their square root.
        """
        size, (x0, y0) = self.model.where.size, self.model.where.corner
        left, low = x_offset - self.corner[0] + x0, y_offset - self.corner[1] + y0
        stamp = Stamps((left, low), size).cut(self.scatter)
        excess = np.where(np.isfinite(stamp), stamp, 1.0) ** 2 - 1.0
        return replace(self.model, scale=np.sqrt(1.0 + share * excess))

    def star(
        self,
        here: StarModel,
        i: int,
        known: Companions,
        image: FloatArray,
        others: FloatArray,
        place: tuple[float, float],
        motion: tuple[FloatArray, FloatArray],
    ) -> Star:
        """Return the star at a place in imagette `i`, of which all pixels are fitted.

        `image` is the imagette without its field stars, `others`, whose light adds to the noise.

        So close to a star its wings resemble a level. A free level would double the noise, and it
        is known from the ring of the stack.
        """
        floor, warmth = float(known.floor[i]), float(known.warmth[i])
        star = here.star(image, *place, max(float(np.nansum(image)), 1.0), floor, motion, warmth)
        if others.any():
            star.others = np.nan_to_num(here.where.cut(others))
        star.level_error = max(float(known.level_error[i]), LEAST_ERROR)
        return star


def imagette_model(scene: Scene, imagettes: Imagettes, stacks: Images) -> ImagetteModel | None:
    """Read the PSF for imagettes, or return None if the visit has no PSF."""
    if not scene.has_psf:
        return None
    model = read_psf(scene.psf, scene.psf_use.radius)
    ny, nx = imagettes.shape
    size = scipy.fft.next_fast_len(max(ny, nx) + 2 * REACH)
    size += size % 2
    corner = -((size - nx) // 2), -((size - ny) // 2)
    small = replace(model.resized(size, corner), radius=float(size))
    scatter = np.ones(stacks.shape)
    of_stamp, of_image = model.where.overlap(stacks.shape)
    scatter[of_image] = model.scale[of_stamp]
    return ImagetteModel(small, scatter, (stacks.x_offset, stacks.y_offset))


@dataclass(frozen=True)
class Fitted:
    """The stars in an imagette of shape (ny, nx)."""

    x: float  # place of the target in the imagette, edge based [pixel]
    y: float
    x_error: float
    y_error: float
    flux: float  # of the target [electron]
    light: FloatArray  # (ny, nx) target, field stars and level [electron]
    noise: FloatArray  # (ny, nx) of a pixel, with the scatter about the PSF [electron]


@dataclass(frozen=True)
class ImagetteFits:
    """Fits of the visit's PSF to imagettes."""

    imagettes: Imagettes
    known: Companions
    model: ImagetteModel
    field: Field | None  # None without field stars
    track: Track

    @classmethod
    def of(
        cls, imagettes: Imagettes, known: Companions, model: ImagetteModel, scene: Scene
    ) -> ImagetteFits:
        """Read the field stars and the motion of the visit."""
        track = read_track(scene.pointing)
        field = read_field(scene.stars, read_psf(scene.psf, scene.psf_use.radius), track)
        return cls(imagettes, known, model, field, track)

    def fit(self, i: int, image: FloatArray, bad: BoolArray) -> Fitted | None:
        """Fit the target in imagette `i`, from which all but the stars is subtracted.

        Pixels that are `bad`, shape (ny, nx), do not count. Returns None if the target is not seen.
        """
        known = self.known
        offsets = int(self.imagettes.x_offset[i]), int(self.imagettes.y_offset[i])
        x, y = known.x[i] - offsets[0], known.y[i] - offsets[1]
        if not (np.isfinite(x) and np.isfinite(y)) or not np.nansum(image) > 0:
            return None
        mjd, span = float(self.imagettes.mjd[i]), float(known.span[i])
        others = np.zeros(image.shape)
        if self.field is not None:
            others = self.field.image(image.shape, x, y, mjd, span, float(known.share[i]))
        here = self.model.at(*offsets, float(known.share[i]))
        motion = self.track.during(mjd, span, here.lag)
        alone = np.where(bad, np.nan, image - others)
        star = self.model.star(here, i, known, alone, others, (x, y), motion)
        stamp, errors = here.fit(star)
        x_found, y_found = star.x + here.where.corner[0] + 0.5, star.y + here.where.corner[1] + 0.5
        if not star.flux > 0 or np.hypot(x_found - x, y_found - y) > FURTHEST:
            return None
        inside, _ = here.where.overlap(image.shape)
        light = stamp[inside] + others + star.level
        noise = np.sqrt(np.maximum(light, 0.0) + float(known.floor[i])) * here.scale[inside]
        place = x_found, y_found, float(errors[1]), float(errors[2])
        return Fitted(*place, star.flux, light, noise)


def companions(
    imagettes: Imagettes,
    stacks: Images,
    scene: Scene,
    readout: ReadOut,
    removed: Removed,
    model: ImagetteModel | None,
) -> Companions:
    """Derive the estimates for every imagette from its stack."""
    assert scene.position is not None
    track, position = read_track(scene.pointing), read_position(scene.position)
    index = nearest_stack(imagettes.mjd, stacks.mjd)
    moved = moved_since(imagettes, stacks, index, track, model.model.lag if model else 0.0)
    effects = read_effects(stacks, removed.background, removed.smearing, removed.defects)
    warmth = model.model.warm.parameter(stacks) if model else np.zeros(stacks.count)
    sky = read_background(removed.background)

    def during(values: FloatArray, known: BoolArray | None = None) -> FloatArray:
        return between_stacks(imagettes.mjd, stacks.mjd, values, known)

    share = imagettes.nexp / stacks.nexp
    levels = share * during(effects.background, sky.known)
    return Companions(
        stack=index,
        held=held_by(imagettes, stacks, index, track),
        share=share,
        span=spans_of(imagettes, track),
        level=levels,
        level_error=share * during(sky.error, sky.known),
        floor=np.maximum(levels, 0.0) + imagettes.nexp * during(read_out_noise(readout)) ** 2,
        warmth=during(warmth),
        x=position.x[index] + moved[:, 0],
        y=position.y[index] + moved[:, 1],
        shift=moved[:, 0],
        effects=effects,
        corner=(stacks.x_offset, stacks.y_offset),
    )


def between_stacks(
    mjd: FloatArray, stacks: FloatArray, values: FloatArray, known: BoolArray | None = None
) -> FloatArray:
    """Interpolate values of the stacks to the times of imagettes, shape (n,).

    Only `known` values are used, if there are any: a damaged stack has none, and its 0 would lower
    those of the imagettes beside it.
    """
    order = np.argsort(stacks, kind="stable")
    if known is not None and known.any():
        order = order[known[order]]
    return np.interp(mjd, stacks[order], values[order])


def spans_of(imagettes: Imagettes, track: Track) -> FloatArray:
    """Return the time from the start to the end of every imagette, shape (n,) [s]."""
    return np.array([track.span(int(n), imagettes.exposure_time) for n in imagettes.nexp])


def held_by(imagettes: Imagettes, stacks: Images, index: IntArray, track: Track) -> BoolArray:
    """Return which imagettes lie within the time of their stack, shape (n,)."""
    whole, half = track.span(stacks.nexp, stacks.exposure_time), imagettes.exposure_time / 2
    away = np.abs(imagettes.mjd - stacks.mjd[index])
    return np.asarray(away * DAY <= whole / 2 + half)


def moved_since(
    imagettes: Imagettes, stacks: Images, index: IntArray, track: Track, lag: float
) -> FloatArray:
    """Return the offset of the target from its mean place in the stack, (n, 2) [pixel]."""
    whole, span = track.span(stacks.nexp, stacks.exposure_time), spans_of(imagettes, track)
    middles = stacks.mjd[index]
    return np.array(
        [
            np.subtract(track.mean(float(t), float(d), lag), track.mean(float(middle), whole, lag))
            for t, d, middle in zip(imagettes.mjd, span, middles, strict=True)
        ]
    )
