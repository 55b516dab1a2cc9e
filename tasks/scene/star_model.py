"""The model of a star's image and its fit: stamps, fluxes, places."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from schemas.arrays import BoolArray, Complex64Array, ComplexArray, FloatArray, IntArray
from schemas.inputs import term_input
from schemas.light_curves import RADII
from schemas.payloads import Psf
from tasks.files.disk import require
from tasks.files.reader import open_declared
from tasks.scene.optics import (
    Noise,
    Shift,
    fit_star,
    motion_transfer,
    render,
    render_with_slopes,
    shifted,
    to_grid,
    to_spectrum,
    weigh_pixels,
)
from tasks.visit.housekeeping import repair
from tasks.visit.images import Images

EDGE = 4.0  # pixel; width of the taper of a PSF to 0 at the edge of the stamp

OUTLIER = 5.0  # sigma

FEWEST_PIXELS = 50  # with fewer, outliers are used too

TELESCOPE = "thermFront_2"  # the temperature that the PSF breathes with

FEWEST_WARMTHS = 24  # images; with fewer, a change of the PSF is lost in noise

STEADY = 0.02  # deg C; with less scatter the PSF is assumed to be constant

FARTHEST = 4.0  # scatters of the sample; the PSF is not extrapolated further

# A fit that moves a star by less, or changes its flux by a smaller share, has converged: the place
# is then known to the order of the square of the step, and the flux to less than 10 ppm.
SETTLED_PLACE = 0.01  # pixel
SETTLED_FLUX = 5e-3
# The same for a blend, whose outlying pixels are only known once place and flux are.
SETTLED_BLEND = 1e-4  # pixel, and of the flux

ROOM = 8.0  # pixel; of a stamp around the fitted pixels, for the motion of the star

FURTHEST = 1.0  # pixel; a fit that ends further from its guess has found something else


@dataclass(frozen=True)
class Stamps:
    """Square stamps around the target, and their place in the images."""

    corner: tuple[int, int]  # x, y of the stamp's index [0, 0] in the images
    size: int

    def overlap(self, shape: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return the slices of the stamp, and of an image, in which the two overlap."""
        x0, y0 = self.corner
        ny, nx = shape
        left, right = max(x0, 0), min(x0 + self.size, nx)
        low, high = max(y0, 0), min(y0 + self.size, ny)
        stamp = slice(low - y0, high - y0), slice(left - x0, right - x0)
        return stamp, (slice(low, high), slice(left, right))

    def cut(self, image: FloatArray) -> FloatArray:
        """Return the stamp of an image; pixels outside of the image are NaN."""
        stamp = np.full((self.size, self.size), np.nan)
        of_stamp, of_image = self.overlap(image.shape)
        stamp[of_stamp] = image[of_image]
        return stamp

    def paste(self, stamp: FloatArray, image: FloatArray) -> None:
        """Add a stamp to an image, in place."""
        of_stamp, of_image = self.overlap(image.shape)
        image[of_image] += stamp[of_stamp]

    def replace(self, stamp: FloatArray, image: FloatArray) -> None:
        """Put a stamp in the place of its part of an image, in place."""
        of_stamp, of_image = self.overlap(image.shape)
        image[of_image] = stamp[of_stamp]

    def index(self, x: float, y: float) -> tuple[float, float]:
        """Return the stamp index, pixel i centred on i, of a place in the images.

        In a place pixel i spans [i, i+1).
        """
        return x - self.corner[0] - 0.5, y - self.corner[1] - 0.5


def stamps_around(x: float, y: float, size: int) -> Stamps:
    """Return stamps centred on the place (x, y) of the images."""
    return Stamps((round(x) - size // 2, round(y) - size // 2), size)


@dataclass(frozen=True)
class Shape:
    """Spectra of the PSF and its change with telescope temperature, P(t) = mean + t change."""

    mean: ComplexArray
    change: ComplexArray | None = None

    def at(self, warmth: float) -> ComplexArray:
        """Return the spectrum for a value t of the parameter."""
        return self.mean if self.change is None or warmth == 0 else self.mean + warmth * self.change


@dataclass
class Star:
    """The image of a star, and the parameters of its model."""

    stamp: FloatArray
    floor: float  # variance of a pixel without the star
    x: float
    y: float
    flux: float
    motion: tuple[FloatArray, FloatArray]
    warmth: float = 0.0  # parameter t of the PSF
    level: float = 0.0
    level_error: float = np.inf  # prior error of the level, which is expected to be 0
    # changes of the subtracted companions with the place, shape (2, ...) [electron/pixel]: target
    # and companions were placed together, so that only errors of the place remain
    drift: FloatArray | None = None
    raw: FloatArray | None = None  # the stamp before its neighbours are subtracted
    others: FloatArray | None = None  # subtracted light of other stars, which adds to the noise
    saturated: BoolArray | None = None  # which of the missing pixels are so, if any

    # companions that move with the star: the sum of their transfer functions about its place, each
    # times its flux over the star's
    companions: Complex64Array | None = None
    # transfer function of the motion; in single precision, since those of a sample are kept, both
    # change the flux by 0.01 ppm
    blur: Complex64Array | None = None

    def join(self, companions: ComplexArray) -> None:
        """Let the model be that of the star with its companions, which are part of the stamp."""
        self.companions = companions.astype(np.complex64)

    def settled(self, moved: float, changed: float) -> bool:
        """Return whether a fit has converged that moved the star [pixel] and changed its flux."""
        blended = self.companions is not None or self.drift is not None
        place, flux = (SETTLED_BLEND,) * 2 if blended else (SETTLED_PLACE, SETTLED_FLUX)
        return moved < place and abs(changed) < flux * abs(self.flux)

    def transfer(self, size: int) -> ComplexArray:
        """Return the transfer function of the star at its place."""
        return shifted(self.blurred(size), self.x, self.y)

    def blurred(self, size: int) -> Complex64Array:
        """Return the transfer function of the star, and its companions, about its place."""
        if self.blur is None:
            self.blur = motion_transfer(*self.motion, size)
        return self.blur if self.companions is None else self.blur + self.companions

    def drawn(self, psf: Shape) -> FloatArray:
        """Return the star's image without its level [electron]."""
        size = self.stamp.shape[0]
        shift = Shift.by(self.x, self.y, size)
        return self.flux * render(psf.at(self.warmth), self.blurred(size), shift)

    def slopes(self, psf: Shape) -> FloatArray:
        """Return the image for one electron, and the changes with x and y [electron/pixel]."""
        size = self.stamp.shape[0]
        shift = Shift.by(self.x, self.y, size)
        images = render_with_slopes(psf.at(self.warmth), self.blurred(size), shift)
        images[1:] *= self.flux
        return images

    def refine(
        self, psf: Shape, scale: FloatArray, inside: BoolArray
    ) -> tuple[FloatArray, FloatArray]:
        """Fit flux, place and level to the pixels `inside`, in place.

        Returns the model without level, and the errors of flux, x, y and level.
        """
        size = self.stamp.shape[0]
        shift = Shift.by(self.x, self.y, size)
        images = render_with_slopes(psf.at(self.warmth), self.blurred(size), shift)
        if self.drift is not None and self.flux > 0:
            images[1:] += self.drift / self.flux
        weight, model = np.empty_like(self.stamp), self.flux * images[0]
        scatter = scale
        if self.others is not None:
            noise = np.maximum(model, 0.0) + self.floor
            scatter = scale * np.sqrt(1.0 + np.maximum(self.others, 0.0) / noise)
        seen = self.stamp, model, Noise(self.level, self.floor), scatter, inside
        if weigh_pixels(*seen, OUTLIER, weight) < FEWEST_PIXELS:
            weigh_pixels(*seen, np.inf, weight)
        values, errors = fit_star(self.stamp, images, weight, self.level_error)
        flux = float(values[0])
        step_x, step_y = (
            float(np.clip(v / flux, -1.0, 1.0)) if flux > 0 else 0.0 for v in values[1:3]
        )
        self.flux, self.level = flux, float(values[3])
        if self.drift is not None:
            step_x = step_y = 0.0
        self.x, self.y = self.x + step_x, self.y + step_y
        shifts = errors[1:3] / abs(flux) if flux != 0 else np.full(2, np.inf)
        model = flux * (images[0] + step_x * images[1] + step_y * images[2])
        return model, np.array([errors[0], *shifts, errors[3]])


def unlike(size: int, place: tuple[float, float], companions: FloatArray) -> BoolArray:
    """Return the pixels of a stamp in which the model of a blend is not like the sky.

    The PSF is dark beyond half a stamp, so the wings of the stars are missing; and as spectra are
    periodic, the opposite edge of the stamp shows a companion again.

    Parameters
    ----------
    size : int
        Side of the stamp [pixel].
    place : tuple of float
        Stamp index (x, y) of the target.
    companions : ndarray, shape (k, 2)
        Places of the companions relative to it [pixel].
    """
    like = circle(size, place[0], place[1], size / 2 - EDGE)
    for away in companions:
        like &= circle(size, place[0] + away[0], place[1] + away[1], size / 2 - EDGE)
    return ~like


def circle(size: int, x: float, y: float, radius: float) -> BoolArray:
    """Return a mask of the pixels centred within `radius` of the stamp index (x, y)."""
    pixels = np.arange(size)
    inside: BoolArray = ((pixels - y) ** 2)[:, None] + (pixels - x) ** 2 <= radius**2
    return inside


@dataclass(frozen=True)
class Warmth:
    """Telescope temperature with which the PSF changes, over the sampled images [deg C]."""

    middle: float  # median
    spread: float  # scatter; 0: unknown, or too small to change the PSF

    def parameter(self, images: Images) -> FloatArray:
        """Return the deviation of every image from the median in units of the scatter, (n,).

        It is 0 if the temperature is unknown.
        """
        if self.spread <= 0:
            return np.zeros(images.count)
        column = repair(images.metadata, TELESCOPE, images.mjd, [])
        away = (column.values - self.middle) / self.spread
        return np.where(np.isfinite(away), np.clip(away, -FARTHEST, FARTHEST), 0.0)


def telescope_temperature(images: Images, chosen: IntArray, warnings: list[str]) -> Warmth:
    """Return median and scatter of the telescope's temperature over some images.

    The scatter is 0 if there are too few images, or the temperature is unknown or constant. Values
    that were replaced are added to `warnings`.
    """
    if TELESCOPE not in images.metadata.present() or len(chosen) < FEWEST_WARMTHS:
        return Warmth(0.0, 0.0)
    column = repair(images.metadata, TELESCOPE, images.mjd, warnings)
    values = column.values[chosen]
    if column.unknown or values.std() < STEADY:
        return Warmth(0.0, 0.0)
    return Warmth(float(np.median(values)), float(values.std()))


def filled(star: Star, model: FloatArray | None, scale: FloatArray) -> FloatArray:
    """Return the star's stamp with missing and outlying pixels replaced by its model."""
    stamp = star.stamp - star.level
    if model is None:
        return np.where(np.isfinite(stamp), stamp, 0.0)
    sigma = np.sqrt(np.maximum(model, 0.0) + star.floor) * scale
    return np.where(np.isfinite(stamp) & (np.abs(stamp - model) < OUTLIER * sigma), stamp, model)


@dataclass(frozen=True)
class StarModel:
    """The visit's PSF, ready to be fitted to images."""

    psf: Shape
    warm: Warmth
    where: Stamps
    scale: FloatArray  # scatter of each pixel of the stamp in units of its noise
    lag: float  # of the attitude [s]
    radius: float  # of the pixels that are fitted [pixel]

    def star(
        self,
        image: FloatArray,
        x: float,
        y: float,
        flux: float,
        floor: float,
        motion: tuple[FloatArray, FloatArray],
        warmth: float = 0.0,
    ) -> Star:
        """Return a star at the place (x, y) of the images."""
        return Star(self.where.cut(image), floor, *self.where.index(x, y), flux, motion, warmth)

    def resized(self, size: int, corner: tuple[int, int]) -> StarModel:
        """Return the model for stamps of another size, with their index [0, 0] at `corner`."""

        def cut(spectrum: ComplexArray) -> ComplexArray:
            grid, half, resized = to_grid(spectrum), self.where.size, np.zeros((2 * size, 2 * size))
            least = min(size, half)
            old, new = (slice(middle - least, middle + least) for middle in (half, size))
            resized[new, new] = grid[old, old]
            return to_spectrum(resized)

        shape = Shape(cut(self.psf.mean), None if self.psf.change is None else cut(self.psf.change))
        return StarModel(
            shape, self.warm, Stamps(corner, size), np.ones((size, size)), self.lag, self.radius
        )

    @cached_property
    def narrow(self) -> StarModel:
        """The model for stamps that are only as large as a fit and the apertures need."""
        reach = max(self.radius, max(RADII)) + ROOM
        size = min(2 * int(np.ceil(reach)), self.where.size)
        edge, (x, y) = (self.where.size - size) // 2, self.where.corner
        inner = slice(edge, edge + size)
        resized = self.resized(size, (x + edge, y + edge))
        return replace(resized, scale=self.scale[inner, inner])

    def fit(self, star: Star, rounds: int = 3) -> tuple[FloatArray, FloatArray]:
        """Fit a star, in place.

        Returns its model without level, and the errors of flux, x, y and level.
        """
        size = self.where.size
        model, errors = np.zeros((size, size)), np.full(4, np.nan)
        for _ in range(rounds):
            inside = circle(size, star.x, star.y, self.radius)
            x, y, flux = star.x, star.y, star.flux
            model, errors = star.refine(self.psf, self.scale, inside)
            # with a flux far off, good pixels count as outliers
            if star.settled(float(np.hypot(star.x - x, star.y - y)), star.flux - flux):
                break
        return model, errors


def read_psf(term: Psf, radius: float) -> StarModel:
    """Read the PSF of the visit; fits use the pixels within `radius` of the star [pixel]."""
    extname = term.product.extname
    with open_declared(require(term.product.path), term_input(extname)) as file:
        hdu = file[extname]
        grid, scale = hdu.finite_image(), file["TERM_PSF_SCALE"].finite_image()
        change = file["TERM_PSF_CHANGE"].finite_image()
        where = Stamps((hdu.integer("X_WINOFF"), hdu.integer("Y_WINOFF")), scale.shape[0])
        warm = Warmth(hdu.number("PSF_TEMP"), hdu.number("PSF_TSTD"))
        shape = Shape(to_spectrum(grid), to_spectrum(change) if change.any() else None)
        return StarModel(shape, warm, where, scale, hdu.number("PSF_LAG"), radius)
