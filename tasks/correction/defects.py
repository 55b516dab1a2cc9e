"""Defects of the detector and cosmic rays: all on the residual to the star's model.

A temporal median would destroy the star as soon as it moves; so the star is modelled first, as it moved and blurred in each
image, and only the rest is looked at. In a sample of images it tells what stands still (hot pixels, errors of the dark frame),
which pixels jump between two levels (`telegraphic.py`), and which show next to nothing of the star's light (dead ones). What a
single image shows above the noise is a cosmic ray: a seed, and the pixels that touch it. The noise of a pixel is that of model,
sky and read-out, or its own scatter over the sample where that is larger, as under the trail of a field star; where a bright
field star stands in an image, what its model errs by counts too, told by the scatter around it. The first round looks at the
sample only; the second, with a better PSF and background, at all images. The reference map of bad pixels makes telegraphic
pixels easier to believe, and its dead pixels are taken from the model.

What a step finds comes down to two things: an image of what every image holds too much, and a list of pixels of single images.
The list holds cosmic rays, high states of telegraphic pixels, and dead pixels, which are then as the model has them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import scipy.ndimage
from numba import njit

from schemas.flags import PixelFlag
from schemas.payloads import (
    Background,
    Bias,
    Defects,
    Gain,
    Look,
    Pointing,
    Position,
    Prior,
    Product,
    Psf,
    Smearing,
    Stars,
)
from schemas.settings import DefectSettings
from schemas.terms import DEFAULT_RADIUS, TERMS
from tasks.clean import read_effects
from tasks.correction.telegraphic import find_telegraphic, states
from tasks.exposures import term_column
from tasks.fits_writer import NewHdu
from tasks.level1 import Images, open_images
from tasks.robust import MAD_TO_SIGMA
from tasks.scene.prior import read_bad_pixels
from tasks.scene.psf import pixel_floor, read_psf, read_track
from tasks.scene.residuals import Residuals
from tasks.scene.stars import read_field
from tasks.step import Leaves, step

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
MANY = 4  # images; the scatter of a pixel over fewer says more of chance than of the pixel
COSMIC, HIGH_STATE, FROM_MODEL = 1, 2, 3  # kinds of entries of the list
RARELY = 0.06  # a level that is met in a smaller share of the images may be cosmic rays
OFTEN = 0.1  # a pixel that is hit in more of the images than this flickers, it is not hit by cosmic rays
DARKER = 0.5  # a pixel that shows less of the star's light than this is dead
BRIGHT_FIELD = 3.0  # sigma; where field stars are brighter than this they tell how good their model is
FEW_PIXELS = 30  # fewer of them in a tile tell nothing
TILE = 20  # pixel; side of the squares in which they are looked at together
NEIGHBOURHOOD = 7  # pixel; side of the square that tells what the surroundings of a pixel show
BETWEEN = 4.0  # sigma; further from both levels a telegraphic pixel changed its state within the image


@njit(cache=True, nogil=True, error_model="numpy")
def find_hits(pull: FloatArray, seed: float, neighbour: float, hit: npt.NDArray[np.bool_]) -> int:
    """Mark seeds, and pixels that touch a marked one and stand out enough; return how many are marked.

    Parameters
    ----------
    pull : ndarray, shape (ny, nx)
        Residual over its noise; NaN is never marked.
    seed, neighbour : float
        Limits for a seed and for a pixel that touches a marked one, diagonals included.
    hit : ndarray of bool, shape (ny, nx)
        All False; receives the marks.
    """
    ny, nx = pull.shape
    stack = np.empty((ny * nx, 2), np.int64)
    count = 0
    for y in range(ny):
        for x in range(nx):
            if hit[y, x] or not pull[y, x] > seed:
                continue
            top = 1
            stack[0, 0], stack[0, 1] = y, x
            hit[y, x] = True
            while top > 0:
                top -= 1
                cy, cx = stack[top, 0], stack[top, 1]
                count += 1
                for j in range(max(cy - 1, 0), min(cy + 2, ny)):
                    for i in range(max(cx - 1, 0), min(cx + 2, nx)):
                        if not hit[j, i] and pull[j, i] > neighbour:
                            hit[j, i] = True
                            stack[top, 0], stack[top, 1] = j, i
                            top += 1
    return count


def static_excess(median: FloatArray, error: FloatArray, star: FloatArray, significance: float, share: float) -> FloatArray:
    """Return the steady excess that is taken away: where it is significant, and more than the star's model may err.

    Parameters
    ----------
    median, error : ndarray, shape (ny, nx)
        Median residual over the sample, above that of the neighbourhood, and its error [electron].
    star : ndarray, shape (ny, nx)
        Mean of the star's model over the sample [electron].
    significance, share : float
        Smallest excess in units of its error, and of the star's light on the pixel.
    """
    taken = (median > significance * error) & (median > share * star)
    return np.where(taken, median, 0.0)


@dataclass
class Sample:
    """What some images, spread over the visit, tell of every pixel; shapes (ny, nx)."""

    median: FloatArray  # median residual [electron]
    scatter: FloatArray  # robust scatter of the residual [electron]
    star: FloatArray  # mean of the target's model [electron]
    noise: FloatArray  # of one image: model, sky, read-out, steady excess [electron]
    telegraphic: BoolArray
    outside: BoolArray  # of the window, or without a value in one of the images


def sample_statistics(rest: Residuals, chosen: IntArray, likely: BoolArray, settings: DefectSettings) -> Sample:
    """Return what the residuals of a sample tell of the pixels."""
    residuals = np.empty((len(chosen), *rest.images.shape), np.float32)
    total, field_light = np.zeros(rest.images.shape), np.zeros(rest.images.shape)
    for k, i in enumerate(chosen):
        image, target, others = rest.take(int(i), rounds=2)
        residuals[k] = image - target - others
        total += target
        field_light += others
    outside = np.asarray(~np.isfinite(residuals).all(axis=0))
    residuals[:, outside] = 0.0
    median = np.median(residuals, axis=0).astype(np.float64)
    star, light = total / len(chosen), (total + field_light) / len(chosen)
    noise = np.sqrt(np.maximum(light, 0.0) + float(np.median(rest.floor[chosen])) + np.maximum(median, 0.0))
    telegraphic = np.zeros(median.shape, dtype=bool)
    if len(chosen) < MANY:
        return Sample(median, np.zeros_like(median), star, noise, telegraphic, outside)
    scatter = MAD_TO_SIGMA * np.median(np.abs(residuals - median.astype(np.float32)), axis=0).astype(np.float64)
    # where the star is bright its model errs by a share of its light: a jump must be larger than that
    understood = np.sqrt(noise**2 + (settings.share * star) ** 2)
    understood[outside] = np.nan
    fewest = max(4, int(RARELY * len(chosen)))
    find_telegraphic(residuals, understood, settings.gap, settings.contrast, fewest, telegraphic)
    if likely.any():
        known = np.zeros_like(telegraphic)
        understood[~likely] = np.nan
        find_telegraphic(residuals, understood, 0.6 * settings.gap, 0.6 * settings.contrast, 3, known)
        telegraphic |= known
    return Sample(median, scatter, star, noise, telegraphic, outside)


def above_neighbours(median: FloatArray, outside: BoolArray) -> FloatArray:
    """Return an image minus the median of each pixel's neighbourhood: the star's far wings and errors of its PSF cancel.

    Pixels outside of the window tell nothing of those within it, and have no excess.
    """
    usual: FloatArray = scipy.ndimage.median_filter(median, NEIGHBOURHOOD, mode="nearest")
    edge = ~outside & scipy.ndimage.maximum_filter(outside, NEIGHBOURHOOD, mode="nearest")
    if edge.any():
        around = np.pad(np.where(outside, np.nan, median), NEIGHBOURHOOD // 2, constant_values=np.nan)
        squares = np.lib.stride_tricks.sliding_window_view(around, (NEIGHBOURHOOD, NEIGHBOURHOOD))[edge]
        usual[edge] = np.nanmedian(squares, axis=(1, 2))
    return np.where(outside, 0.0, median - usual)


def field_doubt(excess: FloatArray, noise: FloatArray, others: FloatArray) -> FloatArray:
    """Return the share of the field stars' light by which their model errs in an image, tile by tile; shape (ny, nx).

    With it the scatter of the residual is that of the noise and of such an error together, where field stars are bright. Half
    of these pixels of a tile tell it, so that hits do not.

    Parameters
    ----------
    excess, noise, others : ndarray, shape (ny, nx)
        Residual, its noise, and the model of the field stars [electron]; NaN where nothing is seen.
    """
    doubt = np.zeros(excess.shape)
    bright = np.isfinite(excess) & (others > BRIGHT_FIELD * noise)
    for top in range(0, excess.shape[0], TILE):
        for left in range(0, excess.shape[1], TILE):
            tile = slice(top, top + TILE), slice(left, left + TILE)
            if np.count_nonzero(bright[tile]) >= FEW_PIXELS:
                doubt[tile] = model_error(*(v[tile][bright[tile]] for v in (excess, noise, others)))
    return doubt


def model_error(excess: FloatArray, noise: FloatArray, light: FloatArray) -> float:
    """Return the share of its light by which a model errs, as the median deviation of its residuals tells, shapes (n,)."""
    size = np.abs(excess)
    if np.median(size / noise) <= 1 / MAD_TO_SIGMA:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(14):  # to a part in ten thousand
        middle = (low + high) / 2
        low, high = (middle, high) if np.median(size / np.hypot(noise, middle * light)) > 1 / MAD_TO_SIGMA else (low, middle)
    return high


def dead_pixels(median: FloatArray, error: FloatArray, star: FloatArray, significance: float) -> BoolArray:
    """Return which pixels show less than half of the light that they should, significantly, shape (ny, nx).

    A pixel of the flat field that is known to be dark has its light multiplied up again, and is none of these. Where there is
    next to no light nothing can be missing.
    """
    return np.asarray((median < -DARKER * star) & (DARKER * star > significance * error))


@dataclass
class Found:
    """Entries of the list, image by image, and what is counted of them."""

    count: int
    entries: list[tuple[int, IntArray, IntArray, FloatArray, int]] = field(default_factory=list)

    def add(self, image: int, rows: IntArray, columns: IntArray, amount: FloatArray, kind: int) -> None:
        """Add pixels of an image."""
        if len(rows):
            self.entries.append((image, rows, columns, amount, kind))

    def tell_flicker(self, flicker: BoolArray) -> None:
        """Let hits of pixels that flicker count as taken from the model: they are no cosmic rays."""
        told: list[tuple[int, IntArray, IntArray, FloatArray, int]] = []
        for image, rows, columns, amount, kind in self.entries:
            of = flicker[rows, columns] if kind == COSMIC else np.zeros(len(rows), dtype=bool)
            for which, name in ((~of, kind), (of, FROM_MODEL)):
                if which.any():
                    told.append((image, rows[which], columns[which], amount[which], name))
        self.entries = told

    def table(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return the list as columns, in order of image, then as they were added."""
        order = sorted(self.entries, key=lambda e: e[0])
        none = np.zeros(0, np.int64)
        parts = [(np.full(len(r), i), c, r, np.full(len(r), kind)) for i, r, c, _, kind in order]
        image, x, y, kinds = (np.concatenate([none, *(p[k] for p in parts)]) for k in range(4))
        amount = np.concatenate([np.zeros(0), *(e[3] for e in order)])
        return {"IMAGE_INDEX": image, "X": x, "Y": y, "AMOUNT": amount, "KIND": kinds}


def map_flags(codes: IntArray) -> IntArray:
    """Return the codes of the reference map as `PixelFlag` bits."""
    flags = np.zeros(codes.shape, np.int64)
    for code, bit in (
        (1, PixelFlag.MAP_HOT), (3, PixelFlag.MAP_TELEGRAPHIC), (-2, PixelFlag.MAP_DEAD), (-1, PixelFlag.MAP_PARTIALLY_DEAD),
        (2, PixelFlag.MAP_SATURATED),
    ):  # fmt: skip
        flags[codes == code] |= int(bit)
    return flags


@dataclass
class Search:
    """What is looked for in single images, and what was found; shapes (ny, nx), `series` and `sigma` (k, images looked at)."""

    rest: Residuals
    sample: Sample
    static: FloatArray
    dead: BoolArray
    near: BoolArray  # within the aperture
    settings: DefectSettings
    looked: IntArray
    found: Found
    hits: IntArray = field(init=False)
    series: FloatArray = field(init=False)
    sigma: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        """Make room."""
        self.hits = np.zeros(self.static.shape, np.int64)
        self.series = np.full((int(self.sample.telegraphic.sum()), len(self.looked)), np.nan)
        self.sigma = np.full_like(self.series, np.nan)

    def image(self, k: int) -> None:
        """Look through the k-th image."""
        i, jumps = int(self.looked[k]), self.sample.telegraphic
        image, target, others = self.rest.take(i, rounds=2)
        star = target + others
        excess = image - star
        noise = np.sqrt(np.maximum(star, 0.0) + self.rest.floor[i] + np.maximum(self.sample.median, 0.0))
        self.series[:, k], self.sigma[:, k] = excess[jumps], noise[jumps]
        rest, noise = excess - self.sample.median, np.maximum(noise, self.sample.scatter)
        pull = rest / np.hypot(noise, field_doubt(rest, noise, others) * others)
        pull[jumps | self.dead] = np.nan
        # an image that moved more than the others is further off the model: its own scatter counts then
        core = pull[self.near]
        pull[self.near] /= max(1.0, MAD_TO_SIGMA * float(np.nanmedian(np.abs(core)))) if np.isfinite(core).any() else 1.0
        hit = np.zeros(image.shape, dtype=bool)
        find_hits(pull, self.settings.seed, self.settings.neighbour, hit)
        self.hits += hit
        for mask, kind in ((hit, COSMIC), (self.dead & np.isfinite(excess), FROM_MODEL)):
            rows, columns = np.nonzero(mask)
            self.found.add(i, rows, columns, excess[mask] - self.static[mask], kind)

    def flicker(self) -> BoolArray:
        """Return which pixels are hit far too often for cosmic rays."""
        return np.asarray(self.hits > max(OFTEN * len(self.looked), 2))


def look_for_defects(
    extname: str, rest: Residuals, sampled: BoolArray, every: bool, codes: IntArray, settings: DefectSettings,
    warnings: list[str],
) -> Leaves:  # fmt: skip
    """Find defects in the sample, and cosmic rays in it or in all images; return the term."""
    images, n = rest.images, rest.images.count
    found, flags, static, doubt = Found(n), map_flags(codes), np.zeros(images.shape), np.zeros(n)
    table: dict[str, npt.NDArray[np.generic]] = {c.name: np.zeros(0) for c in TERMS["TERM_TELEGRAPHIC"].columns}
    chosen = np.flatnonzero(sampled)
    near = usual_aperture(rest)
    if rest.model is not None and len(chosen) >= 3:
        sample = sample_statistics(rest, chosen, codes == 3, settings)
        error = 1.2533 * np.maximum(sample.scatter, sample.noise) / np.sqrt(len(chosen))
        excess = above_neighbours(sample.median, sample.outside)
        dead = dead_pixels(excess, error, sample.star, settings.static) | (codes == -2)
        sample.telegraphic &= ~dead
        static = static_excess(excess, error, sample.star, settings.static, settings.share)
        static[sample.telegraphic | dead] = 0.0
        search = Search(rest, sample, static, dead, near, settings, np.arange(n) if every else chosen, found)
        for k in range(len(search.looked)):
            search.image(k)
        flicker = search.flicker()
        found.tell_flicker(flicker)
        flags[search.hits > 0] |= int(PixelFlag.COSMIC_RAYS)
        flags[flicker] = (flags[flicker] & ~int(PixelFlag.COSMIC_RAYS)) | int(PixelFlag.TELEGRAPHIC)
        # many images show steady errors of the references too: they are taken away, but no pixel is hot for that
        hot = static > settings.hot * rest.duration
        for marked, bit in ((hot, PixelFlag.HOT), (sample.telegraphic, PixelFlag.TELEGRAPHIC), (dead, PixelFlag.DEAD)):
            flags[marked] |= int(bit)
        rows, columns = np.nonzero(sample.telegraphic)
        table = follow_states(search.series, search.sigma, rows, columns, search.looked, found, near, doubt)
    flags[outside_window(images, chosen)] |= int(PixelFlag.OUTSIDE)
    inside, everywhere, taken = count_by_image(found, rest)
    used = defect_counts(flags, near, int(inside.sum()), int(everywhere.sum()), rest, n if every else len(chosen))
    offsets = {"X_WINOFF": images.x_offset, "Y_WINOFF": images.y_offset}
    per_image = {"MJD_TIME": images.mjd, "INSIDE": inside, "ALL": everywhere, "REPLACED": taken, "DOUBT": doubt}
    hdus = [
        NewHdu(TERMS[extname], used, columns=found.table()),
        NewHdu(TERMS["TERM_DEFECTS_STATIC"], offsets, pixels=static),
        NewHdu(TERMS["TERM_DEFECTS_FLAGS"], offsets, pixels=flags.astype(np.float64)),
        NewHdu(TERMS["TERM_TELEGRAPHIC"], columns=table),
        NewHdu(TERMS["TERM_DEFECTS_IMAGES"], columns=per_image),
    ]
    return Leaves({extname: hdus}, used=used, warnings=warnings)


def usual_aperture(rest: Residuals) -> BoolArray:
    """Return the pixels within 25 pixels of the target's usual place; none where that is not known."""
    x, y = (float(np.median(v[np.isfinite(v)])) if np.isfinite(v).any() else np.inf for v in (rest.x, rest.y))
    rows, columns = np.mgrid[: rest.images.shape[0], : rest.images.shape[1]]
    return np.asarray(np.hypot(columns + 0.5 - x, rows + 0.5 - y) < DEFAULT_RADIUS)


def outside_window(images: Images, chosen: IntArray) -> BoolArray:
    """Return the pixels that no image has; some good ones, spread over the visit, tell."""
    some = chosen if len(chosen) else np.arange(images.count)
    outside = np.ones(images.shape, dtype=bool)
    for i in some[np.unique(np.linspace(0, len(some) - 1, 5).round().astype(int))]:
        outside &= ~np.isfinite(images.take(int(i)))
    return outside


def count_by_image(found: Found, rest: Residuals) -> tuple[IntArray, IntArray, FloatArray]:
    """Return pixels hit by cosmic rays within the aperture and in the window, and the share of the aperture's area replaced."""
    inside, everywhere = np.zeros(found.count, np.int64), np.zeros(found.count, np.int64)
    taken = np.zeros(found.count)
    for i, rows, columns, _, kind in found.entries:
        rays = np.full(len(rows), kind == COSMIC)
        within = np.hypot(columns + 0.5 - rest.x[i], rows + 0.5 - rest.y[i]) < DEFAULT_RADIUS
        everywhere[i] += int(rays.sum())
        inside[i] += int((rays & within).sum())
        taken[i] += float((within & (kind != HIGH_STATE)).sum()) / (np.pi * DEFAULT_RADIUS**2)
    return inside, everywhere, taken


def follow_states(
    series: FloatArray, sigma: FloatArray, rows: IntArray, columns: IntArray, looked: IntArray, found: Found, near: BoolArray,
    doubt: FloatArray,
) -> dict[str, npt.NDArray[np.generic]]:  # fmt: skip
    """Follow the states of telegraphic pixels; add what they hold too much to the list; return the table of pixels.

    Parameters
    ----------
    series, sigma : ndarray, shape (k, m)
        Residuals of k pixels in m images, and their noise [electron].
    rows, columns : ndarray, shape (k,)
        The pixels.
    looked : ndarray, shape (m,)
        The images.
    found : Found
        Receives what the pixels hold too much: level above the scene, low or high, or what is seen on the way between.
    near : ndarray of bool, shape (ny, nx)
        Pixels of the aperture.
    doubt : ndarray, shape (n,)
        Receives the variance by doubtful states within the aperture [electron^2].
    """
    k, m = series.shape
    amounts = np.zeros((k, m))
    table = {name: np.zeros(k) for name in ("LOW", "GAP", "SIGMA", "HIGH_SHARE", "FLIPS")}
    for p in range(k):
        high = np.zeros(m)
        if np.isfinite(series[p]).sum() < 2:
            continue
        low, top, _ = states(series[p], sigma[p], high)
        gap = top - low
        level = low + high * gap
        value = np.where(np.isfinite(series[p]), series[p], level)
        off = (np.abs(value - low) > BETWEEN * sigma[p]) & (np.abs(value - top) > BETWEEN * sigma[p])
        amounts[p] = np.where(off, value, level)
        if near[rows[p], columns[p]]:
            doubt[looked] += np.where(off, sigma[p] ** 2, high * (1 - high) * gap**2)
        state = high > 0.5
        rest = (value - np.where(state, top, low))[~off]
        table["LOW"][p], table["GAP"][p] = low, gap
        table["SIGMA"][p] = MAD_TO_SIGMA * float(np.median(np.abs(rest))) if rest.size else 0.0
        table["HIGH_SHARE"][p], table["FLIPS"][p] = state.mean(), np.count_nonzero(np.diff(state))
    for j, i in enumerate(looked):
        found.add(int(i), rows, columns, amounts[:, j], HIGH_STATE)
    return {"X": columns, "Y": rows, **table}


def defect_counts(
    flags: IntArray, near: BoolArray, inside: int, everywhere: int, rest: Residuals, looked: int
) -> dict[str, int | float]:
    """Return the used values: pixels by kind, and hits of cosmic rays per pixel and second in ppm."""
    seconds = looked * rest.duration
    window = np.count_nonzero((flags & int(PixelFlag.OUTSIDE)) == 0)
    within = int(near.sum())
    kinds = {"HOT": PixelFlag.HOT, "TELE": PixelFlag.TELEGRAPHIC, "DEAD": PixelFlag.DEAD}
    used: dict[str, int | float] = {
        "CR_PIX": everywhere, "CR_RATE": everywhere / seconds if seconds > 0 else 0.0,
        "CR_IN": 1e6 * inside / (within * seconds) if within and seconds > 0 else 0.0,
        "CR_OUT": 1e6 * (everywhere - inside) / ((window - within) * seconds) if window > within and seconds > 0 else 0.0,
        "MAP_PIX": int(np.count_nonzero(flags & int(_IN_MAP))),
    }  # fmt: skip
    for name, bit in kinds.items():
        marked = (flags & int(bit)) != 0
        used |= {f"{name}_PIX": int(marked.sum()), f"{name}_IN": int((marked & near).sum())}
        used[f"{name}_OUT"] = int((marked & ~near).sum())
    return used


_IN_MAP = (
    PixelFlag.MAP_HOT | PixelFlag.MAP_TELEGRAPHIC | PixelFlag.MAP_DEAD | PixelFlag.MAP_PARTIALLY_DEAD | PixelFlag.MAP_SATURATED
)
_NO_PSF = "there is no PSF: cosmic rays and steady excesses cannot be told from the star"


@step("defects_1", version="4", payload=Defects, leaves=["TERM_DEFECTS_1"])
def find_defects_1(
    calibrated: Product, look: Look, pointing: Pointing, background: Background, bias: Bias, gain: Gain, psf: Psf,
    stars: Stars, smearing: Smearing, prior: Prior, settings: DefectSettings,
) -> Leaves:  # fmt: skip
    """Find defects and cosmic rays in a sample of images."""
    x, y, flux, sampled = term_column(look.product, "TERM_LOOK", "CENTROID_X", "CENTROID_Y", "FLUX", "SAMPLED")
    model = read_psf(psf) if int(psf.used.get("PSF_N", 0)) >= 3 else None
    with open_images(calibrated) as images:
        floor, track = pixel_floor(background, bias, gain, images.nexp), read_track(pointing)
        field_stars = read_field(stars, model, track) if model is not None else None
        effects = read_effects(images, background, smearing)
        rest = Residuals(images, model, track, x, y, flux, effects, floor, field_stars)
        return look_for_defects("TERM_DEFECTS_1", rest, sampled.astype(bool), False, read_bad_pixels(prior), settings, [])


@step("defects", "BDPIX_D1", "BDPIX_D2", "BDPIX_D3", "BDPIX_D4", version="5", payload=Defects, leaves=["TERM_DEFECTS"])
def find_defects(
    calibrated: Product, look: Look, pointing: Pointing, background: Background, bias: Bias, gain: Gain, psf: Psf,
    stars: Stars, position: Position, smearing: Smearing, prior: Prior, settings: DefectSettings,
) -> Leaves:  # fmt: skip
    """Find cosmic rays, hot, dead and telegraphic pixels in all images."""
    flux, sampled = term_column(look.product, "TERM_LOOK", "FLUX", "SAMPLED")
    x, y = term_column(position.product, "TERM_POSITION", "X", "Y")
    model = read_psf(psf) if int(psf.used.get("PSF_N", 0)) >= 3 else None
    warnings = [] if model is not None else [_NO_PSF]
    with open_images(calibrated) as images:
        floor, track = pixel_floor(background, bias, gain, images.nexp), read_track(pointing)
        field_stars = read_field(stars, model, track) if model is not None else None
        effects = read_effects(images, background, smearing)
        rest = Residuals(images, model, track, x, y, flux, effects, floor, field_stars)
        return look_for_defects("TERM_DEFECTS", rest, sampled.astype(bool), True, read_bad_pixels(prior), settings, warnings)
