"""Defects of the detector and cosmic rays, found in the residuals of the star's model.

A temporal median would destroy a moving star. So the star is modelled first, as it moved and
blurred in each image, and only the residuals are searched. Over a sample of images they reveal
static structure (hot pixels, errors of the dark frame), pixels that jump between two levels
(`telegraphic.py`), and pixels with hardly any of the star's light (dead ones). An excess above the
noise in a single image is a cosmic ray: a seed, and adjacent pixels. The noise of a pixel is from
model, sky and read-out, or its own scatter over the sample if that is larger, as under the trail of
a field star. For a bright field star the error of its model is included, estimated from the scatter
around it. The first round searches the sample only; the second, with a better PSF and background,
all images. Telegraphic pixels of the bad pixel map are accepted more easily, and its dead pixels
are replaced by the model.

The result is an image of the steady excess, and a list of pixels of single images: cosmic rays,
high states of telegraphic pixels, and dead pixels, which are replaced by the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import scipy.ndimage

from schemas.arrays import AnyArray, BoolArray, FloatArray, IntArray
from schemas.flags import PixelFlag
from schemas.light_curves import DEFAULT_RADIUS
from schemas.payloads import (
    Defects,
    Events,
    ImagetteHits,
    Product,
    ReadOut,
    Removed,
    Scene,
)
from schemas.settings import DefectSettings
from schemas.terms import TERMS
from tasks.correction.hits import HIGH_STATE, Found, InImagettes, Search, count_by_image
from tasks.correction.steady import (
    above_neighbours,
    dead_pixels,
    map_flags,
    sample_statistics,
    static_excess,
)
from tasks.correction.telegraphic import states
from tasks.engine.step import Leaves, step
from tasks.files.writer import NewHdu
from tasks.numerics.robust import MAD_TO_SIGMA
from tasks.numerics.sample import spread_evenly
from tasks.scene.prior import read_bad_pixels
from tasks.scene.residuals import Residuals
from tasks.visit.images import Images, open_images
from tasks.visit.terms import count_saturated, read_imagette_hits, read_look

FEWEST = 3  # sampled images needed to find static structure

BLEEDS = 2  # pixel; around saturated pixels the model of the star does not hold either

# sigma; a telegraphic pixel further from both levels changed its state within the image
BETWEEN = 4.0


@dataclass(frozen=True)
class Known:
    """What is known before the search."""

    codes: IntArray  # (ny, nx) of the reference map
    saturated: BoolArray  # (ny, nx) flagged and not searched: the star's model does not hold there
    imagettes: InImagettes = field(default_factory=InImagettes.none)  # excess charge seen in these


def look_for_defects(
    extname: str,
    rest: Residuals,
    sampled: BoolArray,
    searched: IntArray,
    known: Known,
    settings: DefectSettings,
) -> tuple[list[NewHdu], dict[str, int | float]]:
    """Find defects in the sampled images, and cosmic rays in the `searched` ones.

    Returns the HDUs of the term `extname`, and the used values.
    """
    images, chosen = rest.images, np.flatnonzero(sampled)
    near, flags = usual_aperture(rest), map_flags(known.codes)
    outcome = Outcome.none(images.count, images.shape)
    if rest.model is not None and len(chosen) >= FEWEST:
        outcome = search(rest, chosen, searched, known, near, settings)
        flags |= outcome.flags
    flags[outside_window(images, chosen)] |= int(PixelFlag.OUTSIDE)
    flags[known.saturated] |= int(PixelFlag.SATURATED)
    inside, everywhere, replaced = count_by_image(outcome.found, rest)
    seconds = len(searched) * rest.duration
    used = defect_counts(flags, near, (int(inside.sum()), int(everywhere.sum())), seconds)
    used["CR_ADD"] = outcome.added
    offsets = {"X_WINOFF": images.x_offset, "Y_WINOFF": images.y_offset}
    per_image = {
        "MJD_TIME": images.mjd,
        "INSIDE": inside,
        "ALL": everywhere,
        "REPLACED": replaced,
        "DOUBT": outcome.doubt,
    }
    hdus = [
        NewHdu(TERMS[extname], used, columns=outcome.found.table()),
        NewHdu(TERMS["TERM_DEFECTS_STATIC"], offsets, pixels=outcome.static),
        NewHdu(TERMS["TERM_DEFECTS_FLAGS"], offsets, pixels=flags.astype(np.float64)),
        NewHdu(TERMS["TERM_TELEGRAPHIC"], columns=outcome.telegraphic),
        NewHdu(TERMS["TERM_DEFECTS_IMAGES"], columns=per_image),
    ]
    return hdus, used


@dataclass(frozen=True)
class Outcome:
    """Defects and cosmic rays of a visit."""

    found: Found
    static: FloatArray  # (ny, nx) steady excess [electron]
    flags: IntArray  # (ny, nx) bits of `PixelFlag`
    telegraphic: Mapping[str, AnyArray]  # columns of TERM_TELEGRAPHIC
    doubt: FloatArray  # (n,) variance in the aperture from uncertain states [electron^2]
    added: int = 0  # hits that only imagettes show

    @classmethod
    def none(cls, count: int, shape: tuple[int, int]) -> Outcome:
        """Return the outcome without a search."""
        table = {c.name: np.zeros(0) for c in TERMS["TERM_TELEGRAPHIC"].columns}
        empty = np.zeros(shape, np.int64)
        return cls(Found(count), np.zeros(shape), empty, table, np.zeros(count))


def search(
    rest: Residuals,
    chosen: IntArray,
    searched: IntArray,
    known: Known,
    near: BoolArray,
    settings: DefectSettings,
) -> Outcome:
    """Find static defects in the `chosen` images, and cosmic rays in the `searched` ones.

    Saturated pixels, and those about them, have neither.
    """
    spared = scipy.ndimage.binary_dilation(known.saturated, iterations=BLEEDS)
    sample = sample_statistics(rest, chosen, known.codes == 3, settings)
    error = 1.2533 * np.maximum(sample.scatter, sample.noise) / np.sqrt(len(chosen))
    excess = above_neighbours(sample.median, sample.outside)
    dead = dead_pixels(excess, error, sample.star, settings.static) | (known.codes == -2)
    dead &= ~spared
    sample.telegraphic &= ~(dead | spared)
    static = static_excess(excess, error, sample.star, settings.static, settings.share)
    static[sample.telegraphic | dead | spared] = 0.0
    found, doubt = Found(rest.images.count), np.zeros(rest.images.count)
    hits = Search(
        rest, sample, static, dead, near, settings, searched, found, spared, known.imagettes
    )
    for k in range(len(searched)):
        hits.image(k)
    flicker = hits.flicker()
    found.replace_flicker(flicker)
    flags = flag_pixels(hits, flicker, settings.hot * rest.duration)
    return Outcome(found, static, flags, follow_states(hits, doubt), doubt, hits.added)


def flag_pixels(search: Search, flicker: BoolArray, hot: float) -> IntArray:
    """Return the flags of the pixels found by a search, shape (ny, nx).

    Many images also reveal steady errors of the references. These are subtracted, but a pixel is
    called hot only if its excess is more than `hot` [electron].
    """
    flags = np.zeros(search.static.shape, np.int64)
    flags[search.hits > 0] |= int(PixelFlag.COSMIC_RAYS)
    flags[flicker] = (flags[flicker] & ~int(PixelFlag.COSMIC_RAYS)) | int(PixelFlag.TELEGRAPHIC)
    for marked, bit in (
        (search.static > hot, PixelFlag.HOT),
        (search.sample.telegraphic, PixelFlag.TELEGRAPHIC),
        (search.dead, PixelFlag.DEAD),
    ):
        flags[marked] |= int(bit)
    return flags


def usual_aperture(rest: Residuals) -> BoolArray:
    """Return a mask of the default aperture at the target's median place; empty without one."""
    x, y = (
        float(np.median(v[np.isfinite(v)])) if np.isfinite(v).any() else np.inf
        for v in (rest.x, rest.y)
    )
    rows, columns = np.mgrid[: rest.images.shape[0], : rest.images.shape[1]]
    return np.asarray(np.hypot(columns + 0.5 - x, rows + 0.5 - y) < DEFAULT_RADIUS)


def outside_window(images: Images, chosen: IntArray) -> BoolArray:
    """Return the pixels without a value in any of five images spread over the visit."""
    some = chosen if len(chosen) else np.arange(images.count)
    outside = np.ones(images.shape, dtype=bool)
    for i in some[spread_evenly(len(some), 5)]:
        outside &= ~np.isfinite(images.take(int(i)))
    return outside


class States(NamedTuple):
    """States of one telegraphic pixel, shape (m,)."""

    amount: (
        FloatArray  # charge above the scene: of its level, or as seen where it changed [electron]
    )
    doubt: FloatArray  # variance of the amount from uncertain states [electron^2]
    values: tuple[float, ...]  # of the columns LOW to FLIPS of TERM_TELEGRAPHIC


def pixel_states(series: FloatArray, sigma: FloatArray) -> States:
    """Estimate the states of a pixel from its residuals and their noise, (m,) [electron]."""
    high = np.zeros(len(series))
    low, top, _ = states(series, sigma, high)
    gap = top - low
    level = low + high * gap
    value = np.where(np.isfinite(series), series, level)
    off = (np.abs(value - low) > BETWEEN * sigma) & (np.abs(value - top) > BETWEEN * sigma)
    state = high > 0.5
    rest = (value - np.where(state, top, low))[~off]
    spread = MAD_TO_SIGMA * float(np.median(np.abs(rest))) if rest.size else 0.0
    return States(
        np.where(off, value, level),
        np.where(off, sigma**2, high * (1 - high) * gap**2),
        (low, gap, spread, float(state.mean()), float(np.count_nonzero(np.diff(state)))),
    )


def follow_states(search: Search, doubt: FloatArray) -> dict[str, AnyArray]:
    """Estimate the states of telegraphic pixels, and add their excess charge to the list.

    Parameters
    ----------
    search : Search
        Search with the series of the pixels.
    doubt : ndarray, shape (n,)
        Variance in the aperture from uncertain states, to which theirs is added [electron^2].

    Returns
    -------
    dict
        Columns of TERM_TELEGRAPHIC.
    """
    rows, columns = np.nonzero(search.sample.telegraphic)
    amounts = np.zeros(search.series.shape)
    values = np.zeros((len(rows), 5))
    for p, (series, sigma) in enumerate(zip(search.series, search.sigma, strict=True)):
        if np.isfinite(series).sum() < 2:
            continue
        pixel = pixel_states(series, sigma)
        amounts[p], values[p] = pixel.amount, pixel.values
        if search.near[rows[p], columns[p]]:
            doubt[search.searched] += pixel.doubt
    for j, i in enumerate(search.searched):
        search.found.add(int(i), rows, columns, amounts[:, j], HIGH_STATE)
    names = ("LOW", "GAP", "SIGMA", "HIGH_SHARE", "FLIPS")
    return {"X": columns, "Y": rows, **dict(zip(names, values.T, strict=True))}


def defect_counts(
    flags: IntArray, near: BoolArray, hits: tuple[int, int], seconds: float
) -> dict[str, int | float]:
    """Return the used values: pixels by kind, and rates of cosmic rays.

    `hits` are the numbers of hit pixels within the aperture and in the window, over all searched
    images, with a total exposure time of `seconds`.
    """
    inside, everywhere = hits
    within = int(near.sum())
    beyond = int(np.count_nonzero((flags & int(PixelFlag.OUTSIDE)) == 0)) - within
    used: dict[str, int | float] = {
        "CR_PIX": everywhere,
        "CR_RATE": everywhere / seconds if seconds > 0 else 0.0,
        "CR_IN": rate_ppm(inside, within, seconds),
        "CR_OUT": rate_ppm(everywhere - inside, beyond, seconds),
        "MAP_PIX": int(np.count_nonzero(flags & int(_IN_MAP))),
    }
    kinds = {"HOT": PixelFlag.HOT, "TELE": PixelFlag.TELEGRAPHIC, "DEAD": PixelFlag.DEAD}
    for name, bit in kinds.items():
        marked = (flags & int(bit)) != 0
        used |= {f"{name}_PIX": int(marked.sum()), f"{name}_IN": int((marked & near).sum())}
        used[f"{name}_OUT"] = int((marked & ~near).sum())
    return used


def rate_ppm(hits: int, pixels: int, seconds: float) -> float:
    """Return hits per pixel and second [ppm], or 0 without pixels or time."""
    return 1e6 * hits / (pixels * seconds) if pixels > 0 and seconds > 0 else 0.0


_IN_MAP = (
    PixelFlag.MAP_HOT
    | PixelFlag.MAP_TELEGRAPHIC
    | PixelFlag.MAP_DEAD
    | PixelFlag.MAP_PARTIALLY_DEAD
    | PixelFlag.MAP_SATURATED
)

_NO_PSF = "there is no PSF: cosmic rays and hot pixels cannot be separated from the star"


@step("defects_1", version="15", payload=Defects, leaves=["TERM_DEFECTS_1"])
def find_defects_1(
    calibrated: Product,
    events: Events,
    scene: Scene,
    readout: ReadOut,
    removed: Removed,
    settings: DefectSettings,
) -> Leaves:
    """Find defects and cosmic rays in the sampled images."""
    sampled = read_look(scene.look).sampled
    known = Known(read_bad_pixels(scene.prior), count_saturated(events) > 0)
    with open_images(calibrated) as images:
        rest, searched = Residuals.of(images, scene, readout, removed), np.flatnonzero(sampled)
        hdus, used = look_for_defects("TERM_DEFECTS_1", rest, sampled, searched, known, settings)
    return Leaves({"TERM_DEFECTS_1": hdus}, used=used)


@step(
    "defects",
    "BDPIX_D1",
    "BDPIX_D2",
    "BDPIX_D3",
    "BDPIX_D4",
    version="20",
    payload=Defects,
    leaves=["TERM_DEFECTS"],
)
def find_defects(
    calibrated: Product,
    events: Events,
    scene: Scene,
    readout: ReadOut,
    removed: Removed,
    hits: ImagetteHits | None,
    settings: DefectSettings,
) -> Leaves:
    """Find cosmic rays, hot, dead and telegraphic pixels in all images."""
    sampled = read_look(scene.look).sampled
    seen = InImagettes.none() if hits is None else InImagettes.of(*read_imagette_hits(hits))
    before = Known(read_bad_pixels(scene.prior), count_saturated(events) > 0, seen)
    with open_images(calibrated) as images:
        rest, searched = Residuals.of(images, scene, readout, removed), np.arange(images.count)
        hdus, used = look_for_defects("TERM_DEFECTS", rest, sampled, searched, before, settings)
    warnings = [] if rest.model is not None else [_NO_PSF]
    return Leaves({"TERM_DEFECTS": hdus}, used=used, warnings=warnings)
