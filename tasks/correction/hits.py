"""Cosmic rays: pixels of single images with excess charge."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import scipy.ndimage
import scipy.special
from numba import njit

from schemas.arrays import AnyArray, BoolArray, FloatArray, IntArray
from schemas.light_curves import DEFAULT_RADIUS
from schemas.settings import DefectSettings
from tasks.correction.steady import Sample
from tasks.numerics.inner import inner_njit
from tasks.numerics.robust import MAD_TO_SIGMA, median_of, select
from tasks.scene.residuals import Residuals

# kinds of entries of the list
COSMIC, HIGH_STATE, FROM_MODEL, POSSIBLE, IN_IMAGETTE = 1, 2, 3, 4, 5
RAYS = (COSMIC, IN_IMAGETTE)

TRACK = 1.0  # sigma; by so much less the brightest pixel of a group may stand out

DOUBTFUL = 0.5  # sigma; about a limit, within which excess charge is subtracted in part

LN_7 = 1.945910149055313  # natural logarithm of 7

# of the pixels of the aperture; where more are hit, so much charge beside them is below the noise
# that these pixels are replaced by the model, too
HEAVY = 0.01

# of the images; a pixel hit more often flickers, and is not hit by cosmic rays
OFTEN = 0.1

# sigma; brightness of field stars at which the error of their model is measured
BRIGHT_FIELD = 3.0

# relative error of the field stars' model that is always assumed: less does not show in the scatter
# of a tile, but in groups of pixels
LEAST_DOUBT = 0.015

FEW_PIXELS = 30  # of them in a tile, needed for a measurement

TILE = 20  # pixel; side of the squares in which they are combined

# The error of a tile is such that a quantile of the residuals is that of a normal distribution: the
# median or, to include errors that are large in a few places, a higher one, as far as 20 pixels of
# hits could not be mistaken for them. By the number of pixels: quantile, and its place in sigma.
_QUANTILES = np.clip(1.0 - 20.0 / np.maximum(np.arange(TILE * TILE + 1), 1), 0.5, 0.9)
_PLACES = scipy.special.ndtri((1.0 + _QUANTILES) / 2.0)


@inner_njit(cache=True, nogil=True, error_model="numpy")
def _grow(
    pull: FloatArray, y: int, x: int, neighbour: float, taken: BoolArray, group: IntArray
) -> int:
    """Collect the pixels above `neighbour` that are connected to (y, x), including diagonally.

    They are marked in `taken`, and their flat indices written to `group`; returns their number.
    """
    ny, nx = pull.shape
    group[0], taken[y, x] = y * nx + x, True
    done, count = 0, 1
    while done < count:
        cy, cx = group[done] // nx, group[done] % nx
        done += 1
        for j in range(max(cy - 1, 0), min(cy + 2, ny)):
            for i in range(max(cx - 1, 0), min(cx + 2, nx)):
                if not taken[j, i] and pull[j, i] > neighbour:
                    taken[j, i] = True
                    group[count] = j * nx + i
                    count += 1
    return count


@njit(cache=True, nogil=True, error_model="numpy")
def find_hits(pull: FloatArray, seed: float, neighbour: float, hit: BoolArray) -> int:
    """Mark seeds and significant adjacent pixels; return the number of marked pixels.

    Parameters
    ----------
    pull : ndarray, shape (ny, nx)
        Residual over its noise; NaN is never marked.
    seed, neighbour : float
        Limits for a seed, and for a pixel adjacent to a marked one, including diagonally.
    hit : ndarray of bool, shape (ny, nx)
        Output mask, initially False.
    """
    group = np.empty(pull.size, np.int64)
    count = 0
    for y in range(pull.shape[0]):
        for x in range(pull.shape[1]):
            if pull[y, x] > seed and not hit[y, x]:
                count += _grow(pull, y, x, neighbour, hit, group)
    return count


@njit(cache=True, nogil=True, error_model="numpy")
def hit_shares(pull: FloatArray, common: FloatArray, seed: float, neighbour: float) -> FloatArray:
    """Return the share of the excess of each pixel that is charge of a cosmic ray, (ny, nx).

    It rises from 0 to 1 about the limits, for a group of pixels and for each of them: near a limit,
    tiny changes of noise or model do not decide on all of the charge. A group counts by its
    brightest pixel or, as the track of a grazing ray has none, by the sum of its residuals over
    their noise: sqrt(S^2 - 2 (n - 1) ln 7) for n pixels of which S is the significance together,
    since about 7^(n - 1) groups of n pixels hold any given one. That may exceed the brightest pixel
    by `TRACK` at most, since errors of the star's model form groups too. Beside field stars, whose
    model errs in the same way in all pixels of a group, S is smaller.

    Parameters
    ----------
    pull : ndarray, shape (ny, nx)
        Residual over its noise; NaN has a share of 0.
    common : ndarray, shape (ny, nx)
        Part of the noise that is in common with the pixels around, from 0 to 1.
    seed, neighbour : float
        Limits as in `find_hits`, where the share is 1/2.
    """
    start, least = seed - DOUBTFUL - TRACK, neighbour - DOUBTFUL
    nx = pull.shape[1]
    shares, taken = np.zeros(pull.shape), np.zeros(pull.shape, np.bool_)
    group = np.empty(pull.size, np.int64)
    for y in range(pull.shape[0]):
        for x in range(nx):
            if not pull[y, x] > start or taken[y, x]:
                continue
            count = _grow(pull, y, x, min(least, start), taken, group)
            peak, total, variance, shared = pull[y, x], 0.0, 0.0, 0.0
            for k in range(count):
                row, column = group[k] // nx, group[k] % nx
                peak = max(peak, pull[row, column])
                total += pull[row, column]
                variance += 1.0 - common[row, column] ** 2
                shared += common[row, column]
            chance = 2.0 * LN_7 * (count - 1)
            together = np.sqrt(max(total * total / (variance + shared * shared) - chance, 0.0))
            share = _rise(max(peak, min(together, peak + TRACK)), seed)
            for k in range(count):
                row, column = group[k] // nx, group[k] % nx
                shares[row, column] = share * _rise(pull[row, column], neighbour)
    return shares


@inner_njit(cache=True, nogil=True, error_model="numpy")
def _rise(pull: float, limit: float) -> float:
    """Return a share that rises from 0 to 1 about a limit."""
    return min(max((pull - limit) / (2.0 * DOUBTFUL) + 0.5, 0.0), 1.0)


@njit(cache=True, nogil=True, error_model="numpy")
def field_doubt(excess: FloatArray, noise: FloatArray, others: FloatArray) -> FloatArray:
    """Return the relative error of the field stars' model in an image, by tiles, shape (ny, nx).

    Together with the noise, this error explains the scatter of the residual where field stars are
    bright. It is from a quantile over such pixels of a tile, and insensitive to hits.

    Parameters
    ----------
    excess, noise, others : ndarray, shape (ny, nx)
        Residual, its noise, and the model of the field stars [electron]; NaN is ignored.
    """
    ny, nx = excess.shape
    doubt = np.zeros((ny, nx))
    size, sigma, light = np.empty(TILE * TILE), np.empty(TILE * TILE), np.empty(TILE * TILE)
    for top in range(0, ny, TILE):
        for left in range(0, nx, TILE):
            count = 0
            for y in range(top, min(top + TILE, ny)):
                for x in range(left, min(left + TILE, nx)):
                    bright = others[y, x] > BRIGHT_FIELD * noise[y, x]
                    if bright and np.isfinite(excess[y, x]):
                        size[count] = np.abs(excess[y, x])
                        sigma[count], light[count] = noise[y, x], others[y, x]
                        count += 1
            if count >= FEW_PIXELS:
                error = model_error(size[:count], sigma[:count], light[:count])
                for y in range(top, min(top + TILE, ny)):
                    for x in range(left, min(left + TILE, nx)):
                        doubt[y, x] = error
    return doubt


@njit(cache=True, nogil=True, error_model="numpy")
def model_error(size: FloatArray, noise: FloatArray, light: FloatArray) -> float:
    """Return the relative error of a model, from a quantile of residuals, shapes (n,)."""
    ratio = np.empty(size.size)
    low, high = 0.0, 1.0
    for k in range(15):  # the last step is a part in ten thousand
        middle = 0.0 if k == 0 else (low + high) / 2
        for i in range(size.size):
            ratio[i] = size[i] / np.hypot(noise[i], middle * light[i])
        if select(ratio, int(_QUANTILES[size.size] * size.size)) > _PLACES[size.size]:
            low = middle
        elif k == 0:
            return 0.0
        else:
            high = middle
    return high


@njit(cache=True, nogil=True, error_model="numpy")
def residual_pulls(
    image: FloatArray,
    scene: tuple[FloatArray, FloatArray],
    floor: float,
    sample: tuple[FloatArray, FloatArray],
    uncertain: bool,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return the residual of an image, its noise, and that above the usual residual over all noise.

    The last array is the part of all noise that is from the model of field stars.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Image without the known effects [electron].
    scene : tuple of ndarray, shape (ny, nx)
        Models of the target and of the field stars [electron].
    floor : float
        Variance of a pixel without stars [electron^2].
    sample : tuple of ndarray, shape (ny, nx)
        Median and usual scatter of the residuals of the sample [electron].
    uncertain : bool
        Whether the motion is unknown: residuals of stars are no cosmic rays then, and become NaN.
    """
    (target, others), (median, usual) = scene, sample
    excess, noise = np.empty(image.shape), np.empty(image.shape)
    rest, scatter = np.empty(image.shape), np.empty(image.shape)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            star = target[y, x] + others[y, x]
            variance = max(star, 0.0) + floor + max(median[y, x], 0.0)
            noise[y, x], excess[y, x] = np.sqrt(variance), image[y, x] - star
            rest[y, x] = excess[y, x] - median[y, x]
            scatter[y, x] = max(noise[y, x], usual[y, x])
            if uncertain and star > noise[y, x]:
                excess[y, x] = np.nan
    doubt = field_doubt(rest, scatter, others)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            model = max(doubt[y, x], LEAST_DOUBT) * others[y, x]
            total = np.sqrt(scatter[y, x] * scatter[y, x] + model * model)
            rest[y, x] = rest[y, x] / total if np.isfinite(excess[y, x]) else np.nan
            scatter[y, x] = np.abs(model) / total
    return excess, noise, rest, scatter


def around(hits: BoolArray) -> BoolArray:
    """Return the pixels that are hit or touch one that is, also diagonally, shape (ny, nx)."""
    return np.asarray(scipy.ndimage.binary_dilation(hits, np.ones((3, 3))))


@dataclass
class Found:
    """The list of pixels of single images; `count` is the number of images."""

    count: int
    entries: list[tuple[int, IntArray, IntArray, FloatArray, int]] = field(default_factory=list)

    def add(
        self, image: int, rows: IntArray, columns: IntArray, amount: FloatArray, kind: int
    ) -> None:
        """Add pixels of an image to the list."""
        if len(rows):
            self.entries.append((image, rows, columns, amount, kind))

    def replace_flicker(self, flicker: BoolArray) -> None:
        """Change hits of flickering pixels to pixels replaced by the model."""
        entries: list[tuple[int, IntArray, IntArray, FloatArray, int]] = []
        for image, rows, columns, amount, kind in self.entries:
            of = flicker[rows, columns] if kind in RAYS else np.zeros(len(rows), dtype=bool)
            for which, name in ((~of, kind), (of, FROM_MODEL)):
                if which.any():
                    entries.append((image, rows[which], columns[which], amount[which], name))
        self.entries = entries

    def table(self) -> dict[str, AnyArray]:
        """Return the list as columns, ordered by image."""
        order = sorted(self.entries, key=lambda e: e[0])
        none = np.zeros(0, np.int64)
        parts = [(np.full(len(r), i), c, r, np.full(len(r), kind)) for i, r, c, _, kind in order]
        image, x, y, kinds = (np.concatenate([none, *(p[k] for p in parts)]) for k in range(4))
        amount = np.concatenate([np.zeros(0), *(e[3] for e in order)])
        return {"IMAGE_INDEX": image, "X": x, "Y": y, "AMOUNT": amount, "KIND": kinds}


class InImagettes(NamedTuple):
    """Excess charge seen in imagettes, by pixels of their stacks in order of the stack, (m,)."""

    image: IntArray  # stack
    row: IntArray  # in the window
    column: IntArray
    amount: FloatArray  # charge to subtract [electron]
    share: FloatArray  # of the excess that is subtracted

    @classmethod
    def of(
        cls, image: IntArray, row: IntArray, column: IntArray, amount: FloatArray, share: FloatArray
    ) -> InImagettes:
        """Add up the excess of pixels that are hit in several imagettes of a stack."""
        keys = np.stack([image, row, column]).astype(np.int64)
        pixel, which = np.unique(keys, axis=1, return_inverse=True)
        total, most = np.zeros(pixel.shape[1]), np.zeros(pixel.shape[1])
        np.add.at(total, which.ravel(), amount)
        np.maximum.at(most, which.ravel(), share)
        return cls(pixel[0], pixel[1], pixel[2], total, most)

    @classmethod
    def none(cls) -> InImagettes:
        """Return the list without any pixel."""
        place = np.zeros(0, np.int64)
        return cls(place, place, place, np.zeros(0), np.zeros(0))

    def of_image(self, i: int) -> InImagettes:
        """Return the pixels of image `i`."""
        which = slice(*np.searchsorted(self.image, (i, i + 1)))
        place = self.image[which], self.row[which], self.column[which]
        return InImagettes(*place, self.amount[which], self.share[which])


@dataclass
class Search:
    """Search of single images for cosmic rays.

    Arrays have the shape (ny, nx), but `series` and `sigma` (telegraphic pixels, searched images).
    """

    rest: Residuals
    sample: Sample
    static: FloatArray
    dead: BoolArray
    near: BoolArray  # within the aperture
    settings: DefectSettings
    searched: IntArray
    found: Found
    spared: BoolArray  # not searched
    imagettes: InImagettes = field(default_factory=InImagettes.none)
    skipped: BoolArray = field(init=False)  # neither searched for cosmic rays
    lost: tuple[IntArray, ...] = field(init=False)  # indices of dead pixels
    hits: IntArray = field(init=False)
    added: int = field(init=False, default=0)  # hits that only imagettes show
    series: FloatArray = field(init=False)
    sigma: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        """Allocate the results."""
        self.skipped = self.sample.telegraphic | self.dead | self.spared
        self.lost = np.nonzero(self.dead)
        self.hits = np.zeros(self.static.shape, np.int64)
        self.series = np.full((int(self.sample.telegraphic.sum()), len(self.searched)), np.nan)
        self.sigma = np.full_like(self.series, np.nan)

    def image(self, k: int) -> None:
        """Search the k-th of the images."""
        i, jumps, sample = int(self.searched[k]), self.sample.telegraphic, self.sample
        image, target, others = self.rest.take(i)
        excess, noise, pull, common = residual_pulls(
            image,
            (target, others),
            float(self.rest.floor[i]),
            (sample.median, sample.usual),
            bool(self.rest.uncertain[i]),
        )
        self.series[:, k], self.sigma[:, k] = excess[jumps], noise[jumps]
        pull[self.skipped] = np.nan
        # an image with more motion deviates more from the model, by its own scatter
        core = np.abs(pull[self.near])
        known = core[np.isfinite(core)]
        if known.size:
            pull[self.near] /= max(1.0, MAD_TO_SIGMA * median_of(known))
        shares = hit_shares(pull, common, self.settings.seed, self.settings.neighbour)
        hits = shares >= 0.5
        if hits[self.near].sum() > HEAVY * self.near.sum():
            shares[around(hits & self.near) & np.isfinite(pull)] = 1.0
        excess -= self.static
        self._add_from_imagettes(i, excess, noise, shares, hits)
        at = np.nonzero(shares)
        charge, hit = shares[at] * excess[at], hits[at]
        self.hits[at[0][hit], at[1][hit]] += 1
        for which, kind in ((hit, COSMIC), (~hit, POSSIBLE)):
            self.found.add(i, at[0][which], at[1][which], charge[which], kind)
        at = self.lost
        charge = image[at] - target[at] - others[at] - self.static[at]
        seen = np.isfinite(charge)
        self.found.add(i, at[0][seen], at[1][seen], charge[seen], FROM_MODEL)

    def _add_from_imagettes(
        self, i: int, excess: FloatArray, noise: FloatArray, shares: FloatArray, hits: BoolArray
    ) -> None:
        """Add the excess seen in imagettes of image `i`, instead of what the image shows of it.

        Their noise is less. The image decides where the two contradict each other: where much is
        left, as in a part of the stack without imagettes, or where less is there than was seen.
        Shares, shape (ny, nx), become 0 in the pixels that are done.
        """
        seen = self.imagettes.of_image(i)
        at = seen.row, seen.column
        left = np.abs(excess[at] - seen.amount)
        agree = (left < self.settings.seed * noise[at]) & (seen.share >= shares[at])
        agree &= ~self.skipped[at]
        hit = agree & (seen.share >= 0.5)
        self.hits[seen.row[hit], seen.column[hit]] += 1
        self.added += int(np.count_nonzero(hit & ~hits[at]))
        for which, kind in ((hit, IN_IMAGETTE), (agree & ~hit, POSSIBLE)):
            self.found.add(i, seen.row[which], seen.column[which], seen.amount[which], kind)
        shares[seen.row[agree], seen.column[agree]] = 0.0

    def flicker(self) -> BoolArray:
        """Return which pixels are hit too often for cosmic rays."""
        return np.asarray(self.hits > max(OFTEN * len(self.searched), 2))


def count_by_image(found: Found, rest: Residuals) -> tuple[IntArray, IntArray, FloatArray]:
    """Count the pixels hit by cosmic rays in every image, and the replaced area of the aperture.

    Returns hits within the aperture, hits in the window, and the replaced fraction of the aperture,
    shape (n,) each.
    """
    inside, everywhere = np.zeros(found.count, np.int64), np.zeros(found.count, np.int64)
    replaced = np.zeros(found.count)
    for i, rows, columns, _, kind in found.entries:
        rays = np.full(len(rows), kind in RAYS)
        within = np.hypot(columns + 0.5 - rest.x[i], rows + 0.5 - rest.y[i]) < DEFAULT_RADIUS
        everywhere[i] += int(rays.sum())
        inside[i] += int((rays & within).sum())
        whole = kind in (COSMIC, FROM_MODEL)
        replaced[i] += float((within & whole).sum()) / (np.pi * DEFAULT_RADIUS**2)
    return inside, everywhere, replaced
