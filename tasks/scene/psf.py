"""The PSF of the visit, from a sample of its own images, and how every image moved while it was taken.

The place of the star during an exposure is its mean place in the image plus the attitude's motion about its mean. Attitude may
be stamped a fraction of a second off: the lag that makes its means follow the measured places best is estimated, with its
error. Alternating least squares: PSF from images, flux and shift of every image from the PSF; pixels far off the model (cosmic
rays) are replaced by it and come back if the next model explains them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from schemas.inputs import term_input
from schemas.payloads import Background, Bias, Gain, Pointing, Psf, Scalar
from schemas.settings import PsfSettings
from schemas.terms import DEFAULT_RADIUS, TERMS
from tasks.clean import Effects, clean_block
from tasks.exposures import span_of, term_column
from tasks.fits import open_declared
from tasks.fits_writer import NewHdu
from tasks.level1 import Images
from tasks.robust import MAD_TO_SIGMA, robust_scatter
from tasks.scene.optics import (
    FINE,
    ComplexArray,
    fit_star,
    motion_transfer,
    render_with_slopes,
    shifted,
    solve_changing_psf,
    to_grid,
    to_spectrum,
)
from tasks.step import Leaves
from tasks.store import require

FloatArray = npt.NDArray[np.float64]
DAY = 86400.0
WORST_LAG_ERROR = 0.25  # s; a lag that is known worse than this is not applied
OUTLIER = 5.0  # sigma
FEW = 6  # images; the scatter of a pixel over fewer says more of chance than of the pixel
TELESCOPE = "thermFront_2"  # the temperature that the PSF breathes with
FEWEST_WARMTHS = 24  # images; fewer do not tell a change of the PSF from noise
STEADY = 0.02  # deg C; a telescope that is steadier does not breathe
FARTHEST = 4.0  # scatters of the sample; further off nothing is known of the PSF
WINGS = (26.0, 34.0)  # pixel; from the first to the second radius the PSF passes over to its smooth wings
DETAIL = 4  # pixel; finer structure is taken out of the wings
EDGE = 4.0  # pixel within which the PSF falls to nothing at the edge of its stamp
SETTLED = 1e-4  # pixel, and of the flux; a fit that moves less is done
FURTHEST = 1.0  # pixel; a fit that ends further from the centre of light found something else


@dataclass(frozen=True)
class Track:
    """The target's place on the CCD as the attitude has it, up to a constant: time [s of the visit], x and y [pixel]."""

    time: FloatArray
    x: FloatArray
    y: FloatArray
    roll: FloatArray
    origin: float  # MJD of time 0
    repetition: float = 0.0  # from the start of one exposure of a stack to that of the next [s]; less than an exposure: none

    def span(self, nexp: int, exposure_time: float) -> float:
        """Return how long a stack takes from the start of its first exposure to the end of its last [s]."""
        return span_of(nexp, exposure_time, self.repetition)

    def during(self, mjd: float, duration: float, lag: float) -> tuple[FloatArray, FloatArray]:
        """Return the places during an exposure about their mean; a single zero where nothing is known."""
        x, y, _ = self.path(mjd, duration, lag)
        return x, y

    def mean(self, mjd: float, duration: float, lag: float) -> tuple[float, float]:
        """Return the mean place during an exposure; between the samples where it is shorter than these."""
        middle = (mjd - self.origin) * DAY + lag
        first, last = np.searchsorted(self.time, (middle - duration / 2, middle + duration / 2))
        if last <= first:
            return float(np.interp(middle, self.time, self.x)), float(np.interp(middle, self.time, self.y))
        return float(self.x[first:last].mean()), float(self.y[first:last].mean())

    def path(self, mjd: float, duration: float, lag: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the places during an exposure about their mean [pixel], and the roll angles [deg]."""
        middle = (mjd - self.origin) * DAY + lag
        first, last = np.searchsorted(self.time, (middle - duration / 2, middle + duration / 2))
        if last <= first:
            return np.zeros(1), np.zeros(1), np.array([np.interp(middle, self.time, self.roll)])
        x, y = self.x[first:last], self.y[first:last]
        return x - x.mean(), y - y.mean(), self.roll[first:last]

    def at(self, seconds: FloatArray, mjd: float, duration: float, lag: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the places some seconds after the middle of an exposure about its mean place [pixel], and the roll [deg]."""
        x, y = self.mean(mjd, duration, lag)
        time = (mjd - self.origin) * DAY + lag + seconds
        first, last = np.searchsorted(self.time, (time.min(), time.max()))
        near = slice(max(int(first) - 1, 0), int(last) + 1)
        roll = np.interp(time, self.time[near], np.unwrap(self.roll[near], period=360.0))
        return np.interp(time, self.time, self.x) - x, np.interp(time, self.time, self.y) - y, roll


def read_track(pointing: Pointing) -> Track:
    """Read the attitude's track from the term of the pointing."""
    mjd, x, y, roll = term_column(pointing.product, "TERM_TRACK", "MJD_TIME", "X", "Y", "ROLL_ANGLE")
    return Track((mjd - mjd[0]) * DAY, x, y, roll, float(mjd[0]), float(pointing.used["REPETIT"]))


def estimate_lag(track: Track, mjd: FloatArray, duration: float, x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Return by how much the attitude's time stamps must be moved to follow the measured places, and its error [s].

    The mean of the track over an exposure changes with the lag by the difference of its ends over the duration. The lag is
    positive where the exposure saw what the attitude holds later.
    """
    if not len(x):
        return 0.0, float("inf")
    middle = (mjd - track.origin) * DAY
    ends = [np.interp(middle + s * duration / 2, track.time, v) for s in (-1, 1) for v in (track.x, track.y)]
    rate = np.concatenate([ends[2] - ends[0], ends[3] - ends[1]]) / duration
    away = []
    for measured, values in ((x, track.x), (y, track.y)):
        # trapezium rule through the samples: exact for the straight lines between them
        path = np.concatenate([[0.0], np.cumsum((values[1:] + values[:-1]) / 2 * np.diff(track.time))])
        first, last = (np.interp(middle + s * duration / 2, track.time, path) for s in (-1, 1))
        mean = (last - first) / duration
        away.append(measured - mean - np.median(measured - mean))
    residual = np.concatenate(away)
    good = np.isfinite(residual) & np.isfinite(rate)
    # clipped once: an image with a cosmic ray is not where it seems to be
    good &= np.abs(residual) < 10 * max(robust_scatter(residual), 1e-6)
    strength = float((rate[good] ** 2).sum())
    if good.sum() < 10 or strength == 0:
        return 0.0, float("inf")
    lag = float((rate[good] * residual[good]).sum() / strength)
    rest = robust_scatter(residual[good] - lag * rate[good])
    return lag, rest / np.sqrt(strength)


@dataclass(frozen=True)
class Stamps:
    """Where the stamps around the target lie in the images, and what is known of every image."""

    corner: tuple[int, int]  # x, y of the stamp's index [0, 0] in the images
    size: int

    def cut(self, image: FloatArray) -> FloatArray:
        """Return the stamp of an image; pixels outside of the image or without a number are NaN."""
        stamp = np.full((self.size, self.size), np.nan)
        x0, y0 = self.corner
        ny, nx = image.shape
        left, right, low, high = max(x0, 0), min(x0 + self.size, nx), max(y0, 0), min(y0 + self.size, ny)
        stamp[low - y0 : high - y0, left - x0 : right - x0] = image[low:high, left:right]
        return stamp

    def index(self, x: float, y: float) -> tuple[float, float]:
        """Return a place (pixel i spans [i, i+1)) of the images as a stamp index (pixel i is centred on i)."""
        return x - self.corner[0] - 0.5, y - self.corner[1] - 0.5


def stamps_around(x: float, y: float, size: int) -> Stamps:
    """Return stamps with the place (x, y) of the images in their middle."""
    return Stamps((round(x) - size // 2, round(y) - size // 2), size)


@dataclass(frozen=True)
class Shape:
    """Spectra of the PSF and of its change with the telescope's temperature, P(t) = mean + t change."""

    mean: ComplexArray
    change: ComplexArray | None = None

    def at(self, warmth: float) -> ComplexArray:
        """Return the spectrum for a value of the parameter."""
        return self.mean if self.change is None or warmth == 0 else self.mean + warmth * self.change


@dataclass
class Star:
    """One star image under its model."""

    stamp: FloatArray
    floor: float  # variance of a pixel without the star
    x: float
    y: float
    flux: float
    motion: tuple[FloatArray, FloatArray]
    warmth: float = 0.0  # parameter with which the PSF changes
    level: float = 0.0
    level_error: float = np.inf  # how well it is known that the level is 0
    raw: FloatArray | None = None  # the stamp with its neighbours

    blur: ComplexArray | None = None

    def transfer(self, size: int) -> ComplexArray:
        """Return the transfer function of the star at its place."""
        if self.blur is None:
            self.blur = motion_transfer(*self.motion, size)
        return shifted(self.blur, self.x, self.y)

    def refine(self, psf: Shape, scale: FloatArray, inside: npt.NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
        """Fit flux, place and level to pixels `inside`; return the model without level, and errors of flux, x, y, level."""
        size = self.stamp.shape[0]
        transfer = self.transfer(size)
        image, dx, dy = render_with_slopes(psf.at(self.warmth), transfer)
        model = np.maximum(self.flux * image, 0.0)
        variance = (model + self.floor) * scale**2
        away = np.abs(self.stamp - self.flux * image - self.level)
        good = inside & np.isfinite(self.stamp) & (away < OUTLIER * np.sqrt(variance))
        if good.sum() < 50:
            good = inside & np.isfinite(self.stamp)
        weight = np.where(good, 1.0 / variance, 0.0)
        values, errors = fit_star(np.where(good, self.stamp, 0.0), image, dx, dy, weight, self.level_error)
        flux = float(values[0])
        step_x, step_y = (float(np.clip(v / flux, -1.0, 1.0)) if flux > 0 else 0.0 for v in values[1:3])
        self.flux, self.level = flux, float(values[3])
        self.x, self.y = self.x + step_x, self.y + step_y
        return flux * (image + step_x * dx + step_y * dy), np.array([errors[0], *(errors[1:3] / abs(flux)), errors[3]])


def prior_scale(stars: list[Star], models: list[FloatArray], sigma_clip: float = 1.0) -> FloatArray:
    """Return by how much each pixel of the stamp scatters more than its noise about the model; at least 1."""
    pairs = zip(stars, models, strict=True)
    pulls = np.stack([(s.stamp - m - s.level) / np.sqrt(np.maximum(m, 0) + s.floor) for s, m in pairs])
    missing = ~np.isfinite(pulls)
    pulls = np.where(missing, 0.0, pulls)
    spread: FloatArray = MAD_TO_SIGMA * np.median(np.abs(pulls), axis=0)
    return np.maximum(spread, sigma_clip)


def circle(size: int, x: float, y: float, radius: float) -> npt.NDArray[np.bool_]:
    """Return which pixels of a stamp have their centres within `radius` of the index (x, y)."""
    j, i = np.mgrid[:size, :size]
    inside: npt.NDArray[np.bool_] = np.hypot(i - x, j - y) <= radius
    return inside


def make_stars(
    images: Images, chosen: npt.NDArray[np.int64], where: Stamps, x: FloatArray, y: FloatArray, flux: FloatArray,
    cleaned: Callable[[int], FloatArray], floor: FloatArray, track: Track, lag: float, warmth: FloatArray,
) -> list[Star]:  # fmt: skip
    """Return the stars of some images, which `cleaned` gives without all but the target; places as stamp indices."""
    stars = []
    duration = track.span(images.nexp, images.exposure_time)
    for i in chosen:
        px, py = where.index(float(x[i]) - images.x_offset, float(y[i]) - images.y_offset)
        motion = track.during(float(images.mjd[i]), duration, lag)
        stars.append(Star(where.cut(cleaned(int(i))), float(floor[i]), px, py, float(flux[i]), motion, float(warmth[i])))
    return stars


def psf_leaves(
    extname: str, psf: Shape, scale: FloatArray, where: Stamps, used: Mapping[str, Scalar], warnings: list[str]
) -> Leaves:
    """Return the term of a PSF."""
    corner = {"X_WINOFF": where.corner[0], "Y_WINOFF": where.corner[1]}
    image = NewHdu(TERMS[extname], {**corner, **used}, pixels=to_grid(psf.mean))
    change = np.zeros(psf.mean.shape) if psf.change is None else to_grid(psf.change)
    others = [NewHdu(TERMS["TERM_PSF_CHANGE"], corner, pixels=change), NewHdu(TERMS["TERM_PSF_SCALE"], corner, pixels=scale)]
    return Leaves({extname: [image, *others]}, used=used, warnings=warnings)


@dataclass(frozen=True)
class Warmth:
    """Telescope temperature with which the PSF breathes: median and scatter of the sample [deg C]; 0 scatter: not known."""

    middle: float
    spread: float

    def parameter(self, images: Images) -> FloatArray:
        """Return how far every image is from the median in units of the scatter; 0 where that is not known."""
        if self.spread <= 0:
            return np.zeros(images.count)
        away = (images.metadata.column(TELESCOPE).astype(np.float64) - self.middle) / self.spread
        return np.where(np.isfinite(away), np.clip(away, -FARTHEST, FARTHEST), 0.0)


def telescope_temperature(images: Images, chosen: npt.NDArray[np.int64]) -> Warmth:
    """Return median and scatter of the telescope's temperature over some images; scatter 0 where it tells nothing."""
    if TELESCOPE not in images.metadata.present() or len(chosen) < FEWEST_WARMTHS:
        return Warmth(0.0, 0.0)
    values = images.metadata.column(TELESCOPE)[chosen].astype(np.float64)
    if not np.isfinite(values).all() or values.std() < STEADY:
        return Warmth(0.0, 0.0)
    return Warmth(float(np.median(values)), float(values.std()))


def reference_psf(plane: FloatArray | None, size: int) -> ComplexArray | None:
    """Return the spectrum of the reference's PSF with its centre of light in the middle; None where it holds no light.

    The reference is sampled by whole pixels: beyond their Nyquist frequency it says nothing.
    """
    if plane is None:
        return None
    ny, nx = plane.shape
    j, i = np.mgrid[:ny, :nx]
    x, y = (nx - 1) / 2, (ny - 1) / 2
    for _ in range(5):
        near = np.where(np.hypot(i - x, j - y) < 25, plane, 0.0)
        if not near.sum() > 0:
            return None
        x, y = float((near * i).sum() / near.sum()), float((near * j).sum() / near.sum())
    # stamp and spectrum have the middle at index `size` of the fine grid, index size / 2 of the pixels
    stamp = np.zeros((size, size))
    left, low = round(x) - size // 2, round(y) - size // 2
    a, b = slice(max(left, 0), min(left + size, nx)), slice(max(low, 0), min(low + size, ny))
    stamp[b.start - low : b.stop - low, a.start - left : a.stop - left] = plane[b, a]
    coarse = np.fft.fft2(stamp)
    k = np.fft.fftfreq(size)
    place = (x - left, y - low)
    coarse *= np.exp(2j * np.pi * k * place[0])[None, :] * np.exp(2j * np.pi * k * place[1])[:, None]
    spectrum = np.zeros((FINE * size,) * 2, complex)
    index = np.rint(k * size).astype(int) % (FINE * size)
    spectrum[np.ix_(index, index)] = coarse
    return np.asarray(spectrum / spectrum[0, 0].real)


@dataclass(frozen=True)
class Cleaned:
    """Gives single images without the known effects."""

    images: Images
    effects: Effects

    def image(self, i: int) -> FloatArray:
        """Return image `i`, shape (ny, nx)."""
        image = self.images.take(i)[None]
        clean_block(image, slice(i, i + 1), self.effects)
        cleaned: FloatArray = image[0]
        return cleaned


def alternate(
    stars: list[Star], where: Stamps, middle: tuple[float, float], settings: PsfSettings, prior: ComplexArray | None,
    begin: StarModel | None, breathing: bool, others: Callable[[Shape], None] | None = None,
) -> tuple[Shape, FloatArray, int]:  # fmt: skip
    """Alternate between the PSF and the stars' fluxes and places; return the PSF, the excess scatter, and the rounds made.

    Few images tell little of the finer frequencies: there a prior PSF decides, or none. With `begin`, the PSF of the first
    round, cosmic rays stand out from the beginning and half the rounds are enough. `others` takes the neighbours out of the
    stars' stamps as a PSF shows them; it is called with each PSF that is found.
    """
    size = where.size
    inside = circle(size, *where.index(*middle), settings.radius)
    scale = np.ones((size, size)) if begin is None else begin.scale
    models: list[FloatArray | None] = [None] * len(stars)
    if begin is not None:
        models = [s.refine(begin.psf, scale, inside)[0] for s in stars]
    psf = Shape(to_spectrum(np.zeros((2 * size, 2 * size))))
    stiffness = settings.stiffness if breathing else None
    # below the number of images that tell the four fine frequencies of each coarse one, the prior has the say of one image
    strength = settings.smoothness + max(1.0 / len(stars) - 1.0 / settings.enough, 0.0)
    rounds = settings.rounds if begin is None else max(settings.rounds // 2, 1)
    for _ in range(rounds):
        weights = [s.flux / (1.0 + s.floor / max(s.flux, 1.0)) for s in stars]
        top = max(weights)
        parts = zip(stars, models, weights, strict=True)
        fitted = ((filled(s, m, scale), s.transfer(size), s.flux, w / top, s.warmth) for s, m, w in parts)
        psf = tidied(*solve_changing_psf(fitted, size, strength, prior, stiffness), settings.radius)
        if others is not None:
            others(psf)
        models = [s.refine(psf, scale, inside)[0] for s in stars]
        scale = prior_scale(stars, [m for m in models if m is not None]) if len(stars) >= FEW else scale
    return psf, scale, rounds


def tidied(mean: ComplexArray, change: ComplexArray | None, radius: float) -> Shape:
    """Return a PSF that is smooth in its wings, and does not change with the temperature further out than `radius` [pixel].

    A star that hardly moves leaves no way to tell a hot pixel beside it from its own light, but its wings hold no detail as
    fine as a pixel. And what hot pixels far out do with time must not pass for light that comes and goes. Some of the light
    that the inner part loses as the telescope warms goes further than any image shows, so that nothing tells what all of it
    does: the light within the default aperture is taken not to change.
    """
    half = mean.shape[0] // 2
    j, i = np.mgrid[-half:half, -half:half]
    away: FloatArray = np.hypot(i, j) / FINE
    wing: FloatArray = np.clip((away - WINGS[0]) / (WINGS[1] - WINGS[0]), 0.0, 1.0)

    def smooth(grid: FloatArray) -> FloatArray:
        smoothed: FloatArray = scipy.ndimage.median_filter(grid, DETAIL * FINE + 1, mode="nearest")
        return np.asarray((1.0 - wing) * grid + wing * smoothed)

    # the corners of the stamp, where nothing tells, are dark
    shape = smooth(to_grid(mean)) * np.clip((half / FINE - away) / EDGE, 0.0, 1.0)
    shape /= shape.sum()
    if change is None:
        return Shape(to_spectrum(shape))
    moved, default = smooth(to_grid(change)), away < DEFAULT_RADIUS
    moved -= shape * (moved[default].sum() / shape[default].sum())
    return Shape(to_spectrum(shape), to_spectrum(np.where(away < radius, moved, 0.0)))


def filled(star: Star, model: FloatArray | None, scale: FloatArray) -> FloatArray:
    """Return the star's stamp with missing pixels and those far off its model replaced by the model."""
    stamp = star.stamp - star.level
    if model is None:
        return np.where(np.isfinite(stamp), stamp, 0.0)
    sigma = np.sqrt(np.maximum(model, 0.0) + star.floor) * scale
    return np.where(np.isfinite(stamp) & (np.abs(stamp - model) < OUTLIER * sigma), stamp, model)


def pixel_floor(background: Background, bias: Bias, gain: Gain, nexp: int) -> FloatArray:
    """Return the variance of a pixel without the star in every image [electron^2]."""
    (level,) = term_column(background.product, background.product.extname, "LEVEL")
    (ron,) = term_column(bias.product, "TERM_BIAS", "RON")
    (gains,) = term_column(gain.product, "TERM_GAIN", "GAIN")
    floor: FloatArray = np.maximum(level, 0.0) + nexp * (ron / gains) ** 2
    return floor


@dataclass(frozen=True)
class StarModel:
    """The visit's PSF with its stamps, the pixels that decide a fit, and how much more than their noise they scatter."""

    psf: Shape
    warm: Warmth
    where: Stamps
    scale: FloatArray
    lag: float
    radius: float

    def star(
        self, image: FloatArray, x: float, y: float, flux: float, floor: float, motion: tuple[FloatArray, FloatArray],
        warmth: float = 0.0,
    ) -> Star:  # fmt: skip
        """Return a star at the place (x, y) of the images."""
        return Star(self.where.cut(image), floor, *self.where.index(x, y), flux, motion, warmth)

    def resized(self, size: int, corner: tuple[int, int]) -> StarModel:
        """Return the model for images in which stamps of another size have their index [0, 0] at `corner`."""

        def cut(spectrum: ComplexArray) -> ComplexArray:
            grid, half, wanted = to_grid(spectrum), self.where.size, np.zeros((2 * size, 2 * size))
            least = min(size, half)
            old, new = (slice(middle - least, middle + least) for middle in (half, size))
            wanted[new, new] = grid[old, old]
            return to_spectrum(wanted)

        shape = Shape(cut(self.psf.mean), None if self.psf.change is None else cut(self.psf.change))
        return StarModel(shape, self.warm, Stamps(corner, size), np.ones((size, size)), self.lag, self.radius)

    def fit(self, star: Star, rounds: int = 3) -> tuple[FloatArray, FloatArray]:
        """Fit a star; return its model image without level, and the errors of flux, x, y and level."""
        size = self.where.size
        model, errors = np.zeros((size, size)), np.full(4, np.nan)
        for _ in range(rounds):
            inside = circle(size, star.x, star.y, self.radius)
            x, y, flux = star.x, star.y, star.flux
            model, errors = star.refine(self.psf, self.scale, inside)
            # a flux far off lets pixels count as outliers that are none
            if np.hypot(star.x - x, star.y - y) < SETTLED and abs(star.flux - flux) < SETTLED * abs(star.flux):
                break
        return model, errors

    def place(
        self, image: FloatArray, guess: FloatArray, flux: float, floor: float, motion: tuple[FloatArray, FloatArray],
        warmth: float = 0.0,
    ) -> FloatArray:  # fmt: skip
        """Return x, y, their errors and 1 for an image, or the guess where the fit walks off."""
        star = self.star(image, float(guess[0]), float(guess[1]), flux, floor, motion, warmth)
        _, errors = self.fit(star)
        x, y = star.x + self.where.corner[0] + 0.5, star.y + self.where.corner[1] + 0.5
        if star.flux <= 0 or np.hypot(x - guess[0], y - guess[1]) > FURTHEST:
            return guess
        return np.array([x, y, errors[1], errors[2], 1.0])


def read_psf(term: Psf, radius: float = 40.0) -> StarModel:
    """Read the PSF of the visit."""
    extname = term.product.extname
    with open_declared(require(term.product.path), term_input(extname)) as file:
        hdu = file[extname]
        grid, scale = hdu.finite_image(), file["TERM_PSF_SCALE"].finite_image()
        change = file["TERM_PSF_CHANGE"].finite_image()
        where = Stamps((hdu.integer("X_WINOFF"), hdu.integer("Y_WINOFF")), scale.shape[0])
        warm = Warmth(hdu.number("PSF_TEMP"), hdu.number("PSF_TSTD"))
        shape = Shape(to_spectrum(grid), to_spectrum(change) if change.any() else None)
        return StarModel(shape, warm, where, scale, hdu.number("PSF_LAG"), radius)
