"""The star in imagettes: small images of single exposures, or of a few, inside the time of a stack.

What is known of a stack serves the imagettes inside it: background and smeared light by their share
of the exposures, and the target's place by the attitude's motion between the two middles. The
visit's PSF is cut to a stamp that holds an imagette.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.fft

from schemas.arrays import BoolArray, FloatArray, IntArray
from schemas.constants import DAY
from schemas.payloads import ReadOut, Removed, Scene
from tasks.scene.psf import read_out_noise
from tasks.scene.star_model import Stamps, Star, StarModel, read_psf
from tasks.scene.track import Track, read_track
from tasks.visit.clean import Effects, read_effects
from tasks.visit.images import Images, Imagettes
from tasks.visit.terms import read_background, read_position

LEAST_ERROR = 1e-3  # electron; of the background of a pixel
# pixel; the PSF's stamp goes beyond an imagette by as much, for a star that moves and is off the
# middle
REACH = 12


def nearest_stack(mjd: FloatArray, stacks: FloatArray) -> IntArray:
    """Return for each time the index of the stack with the nearest middle; `stacks` need not be in
    order.
    """
    order = np.argsort(stacks, kind="stable")
    edges = (stacks[order][1:] + stacks[order][:-1]) / 2
    return np.asarray(order[np.searchsorted(edges, mjd)], np.int64)


def free_radius(missing: BoolArray, x: float, y: float) -> float:
    """Return the radius of the largest circle about a place that touches no missing pixel and not
    the image's edge.

    Parameters
    ----------
    missing : ndarray of bool, shape (ny, nx)
        Pixels without a number.
    x, y : float
        The place, pixel i spans [i, i+1) [pixel].

    Returns
    -------
    float
        0 for a place outside of the image or on a missing pixel [pixel].
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
    """What the stacks say about every imagette, shape (n,); electrons are those of the imagette,
    but for `effects`.
    """

    stack: IntArray  # index of the stack that holds it, or of the nearest
    held: BoolArray  # whether a stack holds it
    share: FloatArray  # of the exposures of the stack
    span: FloatArray  # from the start of its first exposure to the end of its last [s]
    level: FloatArray  # background of a pixel at the target [electron]
    level_error: FloatArray
    floor: FloatArray  # variance of a pixel without the star [electron^2]
    warmth: FloatArray  # parameter with which the PSF changes
    x: FloatArray  # expected place on the CCD [pixel]
    y: FloatArray
    shift: FloatArray  # by which it lies to the right of the place in the stack [pixel]
    effects: Effects  # of the stacks
    corner: tuple[int, int]  # of the sub-array on the CCD

    def smeared_row(self, i: int, x: int, columns: int) -> FloatArray:
        """Return the smeared light of imagette `i`, from column `x` of the sub-array on: the
        stack's moves with the stars.
        """
        if self.effects.smearing is None:
            return np.zeros(columns)
        row = self.effects.smearing[self.stack[i]]
        place = np.arange(columns) + x - self.shift[i]
        return np.asarray(self.share[i] * np.interp(place, np.arange(row.size), row))

    def excess(self, i: int, x: int, y: int, shape: tuple[int, int]) -> FloatArray:
        """Return what imagette `i`, at index [y, x] of the sub-array, holds too much; a new effect
        of the stacks enters here.

        Hits of the stacks do not: in which of the exposures they were an imagette must tell itself.
        """
        ny, nx = shape
        rows, columns = np.arange(ny)[:, None] + y, np.arange(nx)[None, :] + x
        sky = np.full(shape, self.level[i])
        if self.effects.slope is not None:
            slope, (x0, y0) = self.share[i] * self.effects.slope[self.stack[i]], self.effects.centre
            sky = sky + slope[0] * (columns - x0) + slope[1] * (rows - y0)
        return np.asarray(sky + self.smeared_row(i, x, nx) + self.still(i, x, y, shape))

    def still(self, i: int, x: int, y: int, shape: tuple[int, int]) -> FloatArray:
        """Return the steady excess of the pixels of imagette `i`, at index [y, x] of the sub-array
        [electron].
        """
        static = self.effects.static
        return (
            np.zeros(shape)
            if static is None
            else part_of(static, float(self.share[i]), x, y, shape)
        )


def part_of(stack: FloatArray, share: float, x: int, y: int, shape: tuple[int, int]) -> FloatArray:
    """Return what an imagette at index [y, x] of the sub-array holds of an image of it, by its
    share of the exposures.
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
    """The visit's PSF for imagettes, whose index [0, 0] lies at `pad` of a stamp."""

    model: StarModel
    scatter: FloatArray  # of the pixels of the sub-array about the PSF in units of a stack's noise
    corner: tuple[int, int]  # of the sub-array on the CCD

    def at(self, x_offset: int, y_offset: int, share: float) -> StarModel:
        """Return the model for an imagette at this place of the CCD that has a share of a stack's
        exposures.

        An error of the model grows with the exposures, noise with their root.
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
        place: tuple[float, float],
        motion: tuple[FloatArray, FloatArray],
    ) -> Star:
        """Return the star at a place of imagette `i`; all its pixels count.

        So near a star its wings look like a level: to fit one freely costs twice the noise, and the
        ring of the stack tells it.
        """
        floor, warmth = float(known.floor[i]), float(known.warmth[i])
        star = here.star(image, *place, max(float(np.nansum(image)), 1.0), floor, motion, warmth)
        star.level_error = max(float(known.level_error[i]), LEAST_ERROR)
        return star


def imagette_model(scene: Scene, imagettes: Imagettes, stacks: Images) -> ImagetteModel | None:
    """Read the PSF for imagettes; None where the visit has none."""
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


def companions(
    imagettes: Imagettes,
    stacks: Images,
    scene: Scene,
    readout: ReadOut,
    removed: Removed,
    model: ImagetteModel | None,
) -> Companions:
    """Look up for every imagette what the stacks say."""
    assert scene.position is not None
    track, position = read_track(scene.pointing), read_position(scene.position)
    index = nearest_stack(imagettes.mjd, stacks.mjd)
    moved = moved_since(imagettes, stacks, index, track, model.model.lag if model else 0.0)
    effects = read_effects(stacks, removed.background, removed.smearing, removed.defects)
    warmth = model.model.warm.parameter(stacks) if model else np.zeros(stacks.count)
    order = np.argsort(stacks.mjd, kind="stable")

    def during(values: FloatArray) -> FloatArray:
        return np.interp(imagettes.mjd, stacks.mjd[order], values[order])

    share = imagettes.nexp / stacks.nexp
    levels = share * during(effects.background)
    return Companions(
        stack=index,
        held=held_by(imagettes, stacks, index, track),
        share=share,
        span=spans_of(imagettes, track),
        level=levels,
        level_error=share * during(read_background(removed.background).error),
        floor=np.maximum(levels, 0.0) + imagettes.nexp * during(read_out_noise(readout)) ** 2,
        warmth=during(warmth),
        x=position.x[index] + moved[:, 0],
        y=position.y[index] + moved[:, 1],
        shift=moved[:, 0],
        effects=effects,
        corner=(stacks.x_offset, stacks.y_offset),
    )


def spans_of(imagettes: Imagettes, track: Track) -> FloatArray:
    """Return how long every imagette takes, from its first exposure's start to its last one's end
    [s].
    """
    return np.array([track.span(int(n), imagettes.exposure_time) for n in imagettes.nexp])


def held_by(imagettes: Imagettes, stacks: Images, index: IntArray, track: Track) -> BoolArray:
    """Return which imagettes lie within the time of their stack."""
    whole, half = track.span(stacks.nexp, stacks.exposure_time), imagettes.exposure_time / 2
    away = np.abs(imagettes.mjd - stacks.mjd[index])
    return np.asarray(away * DAY <= whole / 2 + half)


def moved_since(
    imagettes: Imagettes, stacks: Images, index: IntArray, track: Track, lag: float
) -> FloatArray:
    """Return how far the target is from its mean place in the stack, shape (n, 2) [pixel]."""
    whole, span = track.span(stacks.nexp, stacks.exposure_time), spans_of(imagettes, track)
    middles = stacks.mjd[index]
    return np.array(
        [
            np.subtract(track.mean(float(t), float(d), lag), track.mean(float(middle), whole, lag))
            for t, d, middle in zip(imagettes.mjd, span, middles, strict=True)
        ]
    )
