"""Defects of the detector and cosmic rays: all on the residual to the star's model.

A temporal median would destroy the star as soon as it moves; so the star is modelled first, as it
moved and blurred in each image, and only the rest is looked at. In a sample of images it tells what
stands still (hot pixels, errors of the dark frame), which pixels jump between two levels
(`telegraphic.py`), and which show next to nothing of the star's light (dead ones). What a single
image shows above the noise is a cosmic ray: a seed, and the pixels that touch it. The noise of a
pixel is that of model, sky and read-out, or its own scatter over the sample where that is larger,
as under the trail of a field star; where a bright field star stands in an image, what its model
errs by counts too, told by the scatter around it. The first round looks at the sample only; the
second, with a better PSF and background, at all images. The reference map of bad pixels makes
telegraphic pixels easier to believe, and its dead pixels are taken from the model.

What a step finds comes down to two things: an image of what every image holds too much, and a list
of pixels of single images. The list holds cosmic rays, high states of telegraphic pixels, and dead
pixels, which are then as the model has them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.arrays import BoolArray, FloatArray, IntArray
from schemas.flags import PixelFlag
from schemas.light_curves import DEFAULT_RADIUS
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
from schemas.terms import TERMS
from tasks.correction.hits import HIGH_STATE, Found, Search, count_by_image
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
from tasks.scene.prior import read_bad_pixels
from tasks.scene.psf import pixel_floor
from tasks.scene.residuals import Residuals
from tasks.scene.star_model import read_psf
from tasks.scene.stars import read_field
from tasks.scene.track import read_track
from tasks.visit.clean import read_effects
from tasks.visit.images import Images, open_images
from tasks.visit.terms import term_column

BETWEEN = (
    4.0  # sigma; further from both levels a telegraphic pixel changed its state within the image
)


def look_for_defects(
    extname: str,
    rest: Residuals,
    sampled: BoolArray,
    every: bool,
    codes: IntArray,
    settings: DefectSettings,
    warnings: list[str],
) -> Leaves:
    """Find defects in the sample, and cosmic rays in it or in all images; return the term."""
    images, n = rest.images, rest.images.count
    found, flags, static, doubt = Found(n), map_flags(codes), np.zeros(images.shape), np.zeros(n)
    table: dict[str, npt.NDArray[np.generic]] = {
        c.name: np.zeros(0) for c in TERMS["TERM_TELEGRAPHIC"].columns
    }
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
        search = Search(
            rest, sample, static, dead, near, settings, np.arange(n) if every else chosen, found
        )
        for k in range(len(search.looked)):
            search.image(k)
        flicker = search.flicker()
        found.tell_flicker(flicker)
        flags[search.hits > 0] |= int(PixelFlag.COSMIC_RAYS)
        flags[flicker] = (flags[flicker] & ~int(PixelFlag.COSMIC_RAYS)) | int(PixelFlag.TELEGRAPHIC)
        # many images show steady errors of the references too: they are taken away, but no pixel is
        # hot for that
        hot = static > settings.hot * rest.duration
        for marked, bit in (
            (hot, PixelFlag.HOT),
            (sample.telegraphic, PixelFlag.TELEGRAPHIC),
            (dead, PixelFlag.DEAD),
        ):
            flags[marked] |= int(bit)
        rows, columns = np.nonzero(sample.telegraphic)
        table = follow_states(
            search.series, search.sigma, rows, columns, search.looked, found, near, doubt
        )
    flags[outside_window(images, chosen)] |= int(PixelFlag.OUTSIDE)
    inside, everywhere, taken = count_by_image(found, rest)
    used = defect_counts(
        flags, near, int(inside.sum()), int(everywhere.sum()), rest, n if every else len(chosen)
    )
    offsets = {"X_WINOFF": images.x_offset, "Y_WINOFF": images.y_offset}
    per_image = {
        "MJD_TIME": images.mjd,
        "INSIDE": inside,
        "ALL": everywhere,
        "REPLACED": taken,
        "DOUBT": doubt,
    }
    hdus = [
        NewHdu(TERMS[extname], used, columns=found.table()),
        NewHdu(TERMS["TERM_DEFECTS_STATIC"], offsets, pixels=static),
        NewHdu(TERMS["TERM_DEFECTS_FLAGS"], offsets, pixels=flags.astype(np.float64)),
        NewHdu(TERMS["TERM_TELEGRAPHIC"], columns=table),
        NewHdu(TERMS["TERM_DEFECTS_IMAGES"], columns=per_image),
    ]
    return Leaves({extname: hdus}, used=used, warnings=warnings)


def usual_aperture(rest: Residuals) -> BoolArray:
    """Return the pixels within 25 pixels of the target's usual place; none where that is not
    known.
    """
    x, y = (
        float(np.median(v[np.isfinite(v)])) if np.isfinite(v).any() else np.inf
        for v in (rest.x, rest.y)
    )
    rows, columns = np.mgrid[: rest.images.shape[0], : rest.images.shape[1]]
    return np.asarray(np.hypot(columns + 0.5 - x, rows + 0.5 - y) < DEFAULT_RADIUS)


def outside_window(images: Images, chosen: IntArray) -> BoolArray:
    """Return the pixels that no image has; some good ones, spread over the visit, tell."""
    some = chosen if len(chosen) else np.arange(images.count)
    outside = np.ones(images.shape, dtype=bool)
    for i in some[np.unique(np.linspace(0, len(some) - 1, 5).round().astype(int))]:
        outside &= ~np.isfinite(images.take(int(i)))
    return outside


def follow_states(
    series: FloatArray,
    sigma: FloatArray,
    rows: IntArray,
    columns: IntArray,
    looked: IntArray,
    found: Found,
    near: BoolArray,
    doubt: FloatArray,
) -> dict[str, npt.NDArray[np.generic]]:
    """Follow the states of telegraphic pixels; add what they hold too much to the list; return the
    table of pixels.

    Parameters
    ----------
    series, sigma : ndarray, shape (k, m)
        Residuals of k pixels in m images, and their noise [electron].
    rows, columns : ndarray, shape (k,)
        The pixels.
    looked : ndarray, shape (m,)
        The images.
    found : Found
        Receives what the pixels hold too much: level above the scene, low or high, or what is seen
        on the way between.
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
        off = (np.abs(value - low) > BETWEEN * sigma[p]) & (
            np.abs(value - top) > BETWEEN * sigma[p]
        )
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
    """Return the used values: pixels by kind, and hits of cosmic rays per pixel and second in
    ppm.
    """
    seconds = looked * rest.duration
    window = np.count_nonzero((flags & int(PixelFlag.OUTSIDE)) == 0)
    within = int(near.sum())
    kinds = {"HOT": PixelFlag.HOT, "TELE": PixelFlag.TELEGRAPHIC, "DEAD": PixelFlag.DEAD}
    used: dict[str, int | float] = {
        "CR_PIX": everywhere,
        "CR_RATE": everywhere / seconds if seconds > 0 else 0.0,
        "CR_IN": 1e6 * inside / (within * seconds) if within and seconds > 0 else 0.0,
        "CR_OUT": 1e6 * (everywhere - inside) / ((window - within) * seconds)
        if window > within and seconds > 0
        else 0.0,
        "MAP_PIX": int(np.count_nonzero(flags & int(_IN_MAP))),
    }
    for name, bit in kinds.items():
        marked = (flags & int(bit)) != 0
        used |= {f"{name}_PIX": int(marked.sum()), f"{name}_IN": int((marked & near).sum())}
        used[f"{name}_OUT"] = int((marked & ~near).sum())
    return used


_IN_MAP = (
    PixelFlag.MAP_HOT
    | PixelFlag.MAP_TELEGRAPHIC
    | PixelFlag.MAP_DEAD
    | PixelFlag.MAP_PARTIALLY_DEAD
    | PixelFlag.MAP_SATURATED
)

_NO_PSF = "there is no PSF: cosmic rays and steady excesses cannot be told from the star"


@step("defects_1", version="4", payload=Defects, leaves=["TERM_DEFECTS_1"])
def find_defects_1(
    calibrated: Product,
    look: Look,
    pointing: Pointing,
    background: Background,
    bias: Bias,
    gain: Gain,
    psf: Psf,
    stars: Stars,
    smearing: Smearing,
    prior: Prior,
    settings: DefectSettings,
) -> Leaves:
    """Find defects and cosmic rays in a sample of images."""
    x, y, flux, sampled = term_column(
        look.product, "TERM_LOOK", "CENTROID_X", "CENTROID_Y", "FLUX", "SAMPLED"
    )
    model = read_psf(psf) if int(psf.used.get("PSF_N", 0)) >= 3 else None
    with open_images(calibrated) as images:
        floor, track = pixel_floor(background, bias, gain, images.nexp), read_track(pointing)
        field_stars = read_field(stars, model, track) if model is not None else None
        effects = read_effects(images, background, smearing)
        rest = Residuals(images, model, track, x, y, flux, effects, floor, field_stars)
        return look_for_defects(
            "TERM_DEFECTS_1",
            rest,
            sampled.astype(bool),
            False,
            read_bad_pixels(prior),
            settings,
            [],
        )


@step(
    "defects",
    "BDPIX_D1",
    "BDPIX_D2",
    "BDPIX_D3",
    "BDPIX_D4",
    version="5",
    payload=Defects,
    leaves=["TERM_DEFECTS"],
)
def find_defects(
    calibrated: Product,
    look: Look,
    pointing: Pointing,
    background: Background,
    bias: Bias,
    gain: Gain,
    psf: Psf,
    stars: Stars,
    position: Position,
    smearing: Smearing,
    prior: Prior,
    settings: DefectSettings,
) -> Leaves:
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
        return look_for_defects(
            "TERM_DEFECTS",
            rest,
            sampled.astype(bool),
            True,
            read_bad_pixels(prior),
            settings,
            warnings,
        )
