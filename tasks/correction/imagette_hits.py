"""Cosmic rays in imagettes, which the noise of their stacks hides.

A stack of n exposures has the photons of all of them, and a cosmic ray the charge of one: in an
imagette of m exposures it stands out sqrt(n / m) times as clearly. The visit's PSF is fitted to
every imagette. Its residual, minus the usual residual of the pixel over a sample of imagettes, is
searched as that of a stack is. Excess that lasts for more than an imagette, or returns too often,
is from a telegraphic pixel. The rest is handed to the search of the stacks, which subtracts it:
the share of the other exposures stays in the stack.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.special

from schemas.arrays import AnyArray, BoolArray, FloatArray, IntArray
from schemas.flags import PixelFlag
from schemas.payloads import Calibrated, ImagetteHits, Product, ReadOut, Removed, Scene
from schemas.settings import DefectSettings
from schemas.terms import TERMS
from tasks.correction.hits import hit_shares
from tasks.correction.steady import MANY, usual_scatter
from tasks.engine.step import Leaves, step
from tasks.files.writer import NewHdu
from tasks.numerics.robust import MAD_TO_SIGMA, median_of, median_of_known
from tasks.numerics.sample import spread_evenly
from tasks.scene.imagettes import ImagetteFits, companions, imagette_model, part_of
from tasks.visit.clean import read_flags
from tasks.visit.images import open_images, open_imagettes
from tasks.visit.terms import read_image_flags

UNSEARCHED = PixelFlag.TELEGRAPHIC | PixelFlag.DEAD | PixelFlag.SATURATED

MOST_SAMPLED = 200  # imagettes; with so many the scatter of a pixel is known to 8 %

# sigma; a pixel with so much in the imagette before or after is not hit by a cosmic ray, but in its
# high state. By chance a pixel has as much in one imagette of 400.
LASTING = 3.0

# of the imagettes; a pixel in which excess is found more often flickers. Cosmic rays hit one in
# 3000 at 20 s, outside of the South Atlantic Anomaly.
OFTEN = 0.01
FEW = 3  # times that are never often

COLUMNS = ("IMAGETTE", "STACK", "X", "Y", "AMOUNT", "ERROR", "SHARE")


def limit_for(seed: float, share: float) -> float:
    """Return the limit for imagettes that hold a share of their stack's exposures [sigma].

    Noise exceeds it as often in all imagettes of a stack together as it exceeds `seed` in the
    stack.
    """
    return float(-scipy.special.ndtri(share * scipy.special.ndtr(-seed)))


@dataclass(frozen=True)
class Box:
    """The part of the sub-array that imagettes cover; they may lie at different places."""

    left: int  # index of the sub-array
    low: int
    shape: tuple[int, int]

    def paste(self, image: FloatArray, corner: tuple[int, int]) -> FloatArray:
        """Return an imagette, with index [0, 0] at `corner` (x, y) of the sub-array, in the box."""
        if image.shape == self.shape:
            return image
        whole = np.full(self.shape, np.nan)
        x, y = corner[0] - self.left, corner[1] - self.low
        whole[y : y + image.shape[0], x : x + image.shape[1]] = image
        return whole


def box_around(corners: IntArray, shape: tuple[int, int]) -> Box:
    """Return the smallest box of all imagettes with these corners (x, y), shape (n, 2)."""
    (left, low), (right, top) = corners.min(axis=0), corners.max(axis=0)
    return Box(int(left), int(low), (int(top - low) + shape[0], int(right - left) + shape[1]))


@dataclass(frozen=True)
class Excess:
    """Residuals of an imagette, and their noise, in the box of all imagettes [electron]."""

    imagette: int
    exposures: float
    residual: FloatArray
    noise: FloatArray


@dataclass(frozen=True)
class Usual:
    """Statistics of the pixels over a sample of imagettes, in their box."""

    residual: FloatArray  # median, of one exposure [electron]
    scatter: FloatArray  # of the residual in units of its noise, at least 1

    def above(self, one: Excess) -> FloatArray:
        """Return the residual of an imagette above the usual one [electron]."""
        return np.asarray(one.residual - one.exposures * self.residual)

    def pulls(self, one: Excess) -> FloatArray:
        """Return the residual above the usual one, in units of its noise.

        An imagette with more motion deviates more from the model, by its own scatter.
        """
        pull = self.above(one) / (one.noise * self.scatter)
        known = np.abs(pull[np.isfinite(pull)])
        return pull / max(1.0, MAD_TO_SIGMA * median_of(known)) if known.size else pull


def usual_residuals(sample: list[Excess]) -> Usual | None:
    """Return the statistics of a sample of imagettes, or None if there are too few."""
    if len(sample) < MANY:
        return None
    rates = np.stack([one.residual / one.exposures for one in sample]).astype(np.float32)
    noise = np.stack([one.noise / one.exposures for one in sample]).astype(np.float32)
    outside = ~np.isfinite(rates).any(axis=0)
    rates[:, outside] = 0.0
    middle = median_of_known(rates)
    with np.errstate(invalid="ignore"):
        pull = np.abs(rates - middle) / noise
    pull[~np.isfinite(pull)] = np.nan
    pull[:, np.isnan(pull).all(axis=0)] = 0.0
    scatter = MAD_TO_SIGMA * median_of_known(pull).astype(np.float64)
    median = middle.astype(np.float64)
    median[outside] = np.nan
    return Usual(median, usual_scatter(scatter, np.ones(median.shape), len(sample)))


@dataclass
class Finder:
    """Searches imagettes, in order of time, for excess in single ones."""

    usual: Usual
    seed: float  # limits [sigma]
    neighbour: float
    found: list[tuple[int, IntArray, IntArray, FloatArray, FloatArray, FloatArray]] = field(
        default_factory=list
    )
    _last: tuple[Excess, FloatArray] | None = None
    _before: FloatArray | None = None  # pulls of the imagette before the last one

    def add(self, one: Excess | None) -> None:
        """Search the imagette before this one; None after the last imagette."""
        pull = None if one is None else self.usual.pulls(one)
        if self._last is not None:
            self._search(*self._last, [p for p in (self._before, pull) if p is not None])
            self._before = self._last[1]
        self._last = None if one is None or pull is None else (one, pull)

    def _search(self, one: Excess, pull: FloatArray, beside: list[FloatArray]) -> None:
        shares = hit_shares(pull, np.zeros(pull.shape), self.seed, self.neighbour)
        for other in beside:
            shares[other > LASTING] = 0.0
        y, x = np.nonzero(shares)
        if len(y):
            noise = one.noise[y, x] * self.usual.scatter[y, x]
            excess, share = self.usual.above(one)[y, x], shares[y, x]
            self.found.append((one.imagette, y, x, share * excess, noise, share))

    def table(self, searched: int, stack: IntArray, box: Box) -> dict[str, AnyArray]:
        """Return the hits of so many imagettes, without those of flickering pixels, as COLUMNS.

        `stack` holds the index of the stack of every imagette, shape (n,).
        """
        if not self.found:
            return {name: np.zeros(0) for name in COLUMNS}
        count = [len(entry[1]) for entry in self.found]
        imagette = np.repeat([entry[0] for entry in self.found], count)
        y, x, amount, error, share = (
            np.concatenate([entry[k] for entry in self.found]) for k in range(1, 6)
        )
        times = np.zeros(box.shape, np.int64)
        np.add.at(times, (y, x), share >= 0.5)
        rare = times[y, x] <= max(FEW, OFTEN * searched)
        values = (imagette, stack[imagette], x + box.left, y + box.low, amount, error, share)
        return {name: v[rare] for name, v in zip(COLUMNS, values, strict=True)}


@dataclass(frozen=True)
class Search:
    """Residuals of the imagettes of a visit."""

    fits: ImagetteFits
    unsearched: BoolArray  # pixels of the sub-array
    corners: IntArray  # (n, 2) of the imagettes in the sub-array, x and y
    box: Box

    @classmethod
    def of(cls, fits: ImagetteFits, unsearched: BoolArray) -> Search:
        """Lay a box around all imagettes."""
        imagettes, known = fits.imagettes, fits.known
        places = [known.corner_of(imagettes, i) for i in range(imagettes.count)]
        corners = np.array(places, np.int64)
        return cls(fits, unsearched, corners, box_around(corners, imagettes.shape))

    def excess(self, i: int) -> Excess | None:
        """Return the residual of imagette `i` from its model, or None if the star is not seen."""
        fits, corner = self.fits, (int(self.corners[i, 0]), int(self.corners[i, 1]))
        image = fits.imagettes.take(i)
        image -= fits.known.excess(i, *corner, image.shape)
        bad = part_of(self.unsearched.astype(np.float64), 1.0, *corner, image.shape) > 0
        star = fits.fit(i, image, bad)
        if star is None:
            return None
        residual = np.where(bad, np.nan, image - star.light)
        pasted = (self.box.paste(v, corner) for v in (residual, star.noise))
        return Excess(i, float(fits.imagettes.nexp[i]), *pasted)

    def find(self, usable: IntArray, settings: DefectSettings) -> dict[str, AnyArray]:
        """Search the `usable` imagettes, in order of time; return the hits as COLUMNS."""
        some = usable[spread_evenly(len(usable), MOST_SAMPLED)]
        sampled = {int(i): self.excess(int(i)) for i in some}
        usual = usual_residuals([one for one in sampled.values() if one is not None])
        if usual is None:
            return {name: np.zeros(0) for name in COLUMNS}
        share = float(np.median(self.fits.known.share[usable]))
        finder = Finder(usual, limit_for(settings.seed, share), settings.neighbour)
        for i in usable.tolist():
            one = sampled[i] if i in sampled else self.excess(i)
            if one is not None:
                finder.add(one)
        finder.add(None)
        return finder.table(len(usable), self.fits.known.stack, self.box)


@step("imagette_hits", version="1", payload=ImagetteHits, leaves=["TERM_IMAGETTE_HITS"])
def find_imagette_hits(
    calibrated: Calibrated,
    subarray: Product,
    scene: Scene,
    readout: ReadOut,
    removed: Removed,
    settings: DefectSettings,
) -> Leaves:
    """Find cosmic rays in the imagettes that are parts of stacks."""
    assert removed.defects is not None
    table: dict[str, AnyArray] = {name: np.zeros(0) for name in COLUMNS}
    usable = np.zeros(0, np.int64)
    with open_images(subarray) as stacks, open_imagettes(calibrated.product) as imagettes:
        model = imagette_model(scene, imagettes, stacks)
        if model is not None:
            known = companions(imagettes, stacks, scene, readout, removed, model)
            uncertain = read_image_flags(scene.pointing)[known.stack] != 0
            order = np.argsort(imagettes.mjd, kind="stable")
            usable = order[(known.held & (known.share < 1.0) & ~uncertain)[order]]
        if model is not None and len(usable):
            fits = ImagetteFits.of(imagettes, known, model, scene)
            unsearched = (read_flags(removed.defects) & int(UNSEARCHED)) != 0
            table = Search.of(fits, unsearched).find(usable, settings)
    hits = int(np.count_nonzero(table["SHARE"] >= 0.5))
    used = {"IMH_PIX": hits, "IMH_N": len(usable)}
    hdu = NewHdu(TERMS["TERM_IMAGETTE_HITS"], used, columns=table)
    return Leaves({"TERM_IMAGETTE_HITS": [hdu]}, used=used)
