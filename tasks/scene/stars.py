"""Field stars: their places on the CCD and fluxes by the catalogue, and their image in an exposure.

The field rotates about the target with the roll. For a star with standard coordinates (xi to the
East, eta to the North) about the target, at the roll angle phi, the place relative to the target is
x = (-xi cos phi + eta sin phi) / s, y = (eta cos phi + xi sin phi) / s, where s is the pixel scale.
During an exposure a star follows the target's motion and moves along its arc. Fluxes follow from
magnitudes relative to the target, whose flux is measured (`catalogue.py`); `field_fluxes.py`
measures the fluxes of the brighter stars.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import scipy.fft
from numba import njit

from schemas.arrays import (
    AnyArray,
    Complex64Array,
    ComplexArray,
    Float32Array,
    FloatArray,
    IntArray,
)
from schemas.light_curves import DEFAULT_RADIUS
from schemas.payloads import FirstScene, Look, Plate, Pointing, Prior, Psf, Stars
from schemas.settings import PsfUse
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.writer import NewHdu
from tasks.scene.catalogue import Catalogue
from tasks.scene.optics import FINE, motion_transfer, to_grid
from tasks.scene.prior import read_catalogue_stars, read_reference_psf
from tasks.scene.psf import reference_psf
from tasks.scene.star_model import StarModel, circle, read_psf
from tasks.scene.track import Track, read_track
from tasks.visit.terms import read_look, read_stars

ARC_STEP = 0.7  # pixel; spacing of the samples of a star along its arc
COLOUR_ERROR = 0.1  # relative error of a flux from a magnitude in another band
MOST_YEARS = 2.0  # in which a proper motion of 100 mas a year is a fifth of a pixel
CORE = 15.0  # pixel; radius of the core of a PSF
NEAR = 130.0  # pixel; closer stars shine into the stamp around the target
# of the target's flux: a brighter neighbour moves the centre of light by hundredths of a pixel
MATTERS = 1e-3
MANY = 30  # brightest stars, drawn one by one; fainter ones are drawn together
# of the target's flux: in a crowded field, whose faint stars together exceed CROWD, neighbours
# brighter than FAINT are included
FAINT = 1e-5
CROWD = 0.02
CLOSE = 30.0  # pixel; the light of a closer star, a companion, blends with the target's
COMPANION = 0.01  # of the target's flux; companions are brighter
MOST_COMPANIONS = 4
LITTLE = 0.5  # electron in a pixel of a stack; stars are drawn out to this brightness


def phases(psf: FloatArray) -> FloatArray:
    """Return the samples of a PSF at even and odd rows and columns, shape (2, 2, l / 2, l / 2).

    The pixels of an image see one of these each.

    Parameters
    ----------
    psf : ndarray, shape (l, l)
        PSF on the fine grid, its centre at index l / 2.
    """
    parts = [[psf[row::FINE, column::FINE] for column in range(FINE)] for row in range(FINE)]
    return np.array(parts)


@njit(cache=True, nogil=True, error_model="numpy")
def draw_stars(
    image: FloatArray,
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
    psf: FloatArray,
    radius: FloatArray,
) -> None:
    """Add stars to an image, with a PSF that is interpolated between its samples.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Image to which the stars are added [electron].
    x, y : ndarray, shape (k, m)
        Places of the stars at m times of the exposure, as indices: pixel i is centred on i [pixel].
    flux : ndarray, shape (k,)
        Fluxes [electron].
    psf : ndarray, shape (2, 2, l / 2, l / 2)
        PSF of sum 1, which includes the integration over a pixel, on the fine grid (see `phases`).
    radius : ndarray, shape (k,)
        Radius out to which each star is drawn [pixel].
    """
    ny, nx = image.shape
    half = psf.shape[2]  # of the PSF's side, in samples: the index of its centre
    for k in range(x.shape[0]):
        # the sum over the pixels of an image is the sum over the fine grid divided by FINE^2
        part = flux[k] * FINE * FINE / x.shape[1]
        reach = radius[k] + 1.0
        for t in range(x.shape[1]):
            # compared before they become integers, which hold neither NaN nor 1e30
            if not (-reach <= x[k, t] <= nx + reach and -reach <= y[k, t] <= ny + reach):
                continue
            # samples at or before pixel 0, and the fractions of a sample between
            u, v = half - FINE * x[k, t], half - FINE * y[k, t]
            i, j = int(np.floor(u)), int(np.floor(v))
            a, b = u - i, v - j
            # pixels whose samples lie on the grid
            left = max(int(np.ceil(x[k, t] - radius[k])), -(i // FINE), 0)
            right = min(int(x[k, t] + radius[k]) + 1, half - (i + 1) // FINE, nx)
            low = max(int(np.ceil(y[k, t] - radius[k])), -(j // FINE), 0)
            high = min(int(y[k, t] + radius[k]) + 1, half - (j + 1) // FINE, ny)
            p, q, width = i // FINE, (i + 1) // FINE, max(right - left, 0)
            for row in range(low, high):
                n, m = row + j // FINE, row + (j + 1) // FINE
                pixels = image[row, left : left + width]
                corners = (
                    psf[j % FINE, i % FINE, n, left + p : left + p + width],
                    psf[j % FINE, (i + 1) % FINE, n, left + q : left + q + width],
                    psf[(j + 1) % FINE, i % FINE, m, left + p : left + p + width],
                    psf[(j + 1) % FINE, (i + 1) % FINE, m, left + q : left + q + width],
                )
                for c in range(width):
                    before = (1 - a) * corners[0][c] + a * corners[1][c]
                    after = (1 - a) * corners[2][c] + a * corners[3][c]
                    pixels[c] += part * ((1 - b) * before + b * after)


@njit(cache=True, nogil=True, error_model="numpy")
def spread(
    light: Float32Array,
    grid: tuple[int, int],
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
) -> None:
    """Distribute the light of stars over the four grid points around each of their places.

    Parameters
    ----------
    light : ndarray, shape (at least grid)
        Grid to which the light is added.
    grid : tuple of int
        Rows and columns of the grid; light outside of them is lost.
    x, y : ndarray, shape (k, m)
        Places in grid points.
    flux : ndarray, shape (k,)
        Light at each place of each star.
    """
    for k in range(x.shape[0]):
        for t in range(x.shape[1]):
            # compared before they become integers, which hold neither NaN nor 1e30
            inside = 0.0 <= x[k, t] < grid[1] - 1 and 0.0 <= y[k, t] < grid[0] - 1
            i, j = (int(x[k, t]), int(y[k, t])) if inside else (0, 0)
            if not inside:
                continue
            a, b = x[k, t] - i, y[k, t] - j
            light[j, i] += flux[k] * (1 - a) * (1 - b)
            light[j, i + 1] += flux[k] * a * (1 - b)
            light[j + 1, i] += flux[k] * (1 - a) * b
            light[j + 1, i + 1] += flux[k] * a * b


def field_places(
    xi: FloatArray, eta: FloatArray, roll: FloatArray, x: FloatArray, y: FloatArray, scale: float
) -> tuple[FloatArray, FloatArray]:
    """Return the places of field stars, shape (k, m), from those of the target at m times.

    Parameters
    ----------
    xi, eta : ndarray, shape (k,)
        Standard coordinates about the target [arcsec].
    roll, x, y : ndarray, shape (m,)
        Roll angle [deg] and place of the target [pixel].
    scale : float
        [arcsec/pixel].
    """
    angle = np.radians(roll)
    places = np.empty((2, len(xi), len(angle)))
    east, north = (np.ascontiguousarray(v, np.float64) / scale for v in (xi, eta))
    x, y = (np.ascontiguousarray(np.broadcast_to(v, angle.shape), np.float64) for v in (x, y))
    _place(east, north, np.sin(angle), np.cos(angle), x, y, places)
    return places[0], places[1]


@njit(cache=True, nogil=True, error_model="numpy")
def _place(
    xi: FloatArray,
    eta: FloatArray,
    sine: FloatArray,
    cosine: FloatArray,
    x: FloatArray,
    y: FloatArray,
    places: FloatArray,
) -> None:
    """Fill the places x, y of stars, shape (2, k, m), all in pixels; see `field_places`."""
    for k in range(xi.size):
        for t in range(sine.size):
            places[0, k, t] = x[t] - xi[k] * cosine[t] + eta[k] * sine[t]
            places[1, k, t] = y[t] + eta[k] * cosine[t] + xi[k] * sine[t]


@dataclass(frozen=True)
class Field:
    """The field stars and their drawing; arrays of shape (k,) unless noted."""

    xi: FloatArray  # standard coordinates about the target [arcsec]
    eta: FloatArray
    flux: FloatArray  # [electron per stack]
    radius: FloatArray  # out to which each star is drawn [pixel]
    psf: FloatArray  # on the fine grid, shape (l, l)
    scale: float  # [arcsec/pixel]
    turn: float  # roll relative to the attitude's [deg]
    track: Track
    lag: float  # of the attitude [s]
    # `flux`, which belongs to this PSF, over that of the term, which belongs to the first one
    unit: float = 1.0
    transforms: dict[tuple[int, ...], Complex64Array] = field(
        default_factory=dict, compare=False, repr=False
    )

    @cached_property
    def phases(self) -> FloatArray:
        """The PSF, as `draw_stars` takes it."""
        return phases(self.psf)

    def of_errors(self, stars: Stars) -> Field:
        """Return the field with errors in place of fluxes.

        Its image is the sum of all errors, since all colours may be wrong in the same way.
        """
        table = read_stars(stars)
        return replace(self, flux=self.unit * table.error[~table.target])

    def companions(self, flux: float) -> IntArray:
        """Return the stars that blend with the target, of some flux [electron], brightest first."""
        close = np.hypot(self.xi, self.eta) / self.scale < CLOSE
        companions = np.flatnonzero(close & (self.flux > COMPANION * flux))
        order = np.argsort(-self.flux[companions], kind="stable")
        return np.asarray(companions[order][:MOST_COMPANIONS])

    def without(self, which: IntArray) -> Field:
        """Return the field without the light of some of the stars."""
        flux, radius = self.flux.copy(), self.radius.copy()
        flux[which] = radius[which] = 0.0
        return replace(self, flux=flux, radius=radius)

    def transfer(self, which: IntArray, mjd: float, duration: float, size: int) -> ComplexArray:
        """Return the light of some stars as a transfer function about the target's mean place.

        It is the sum of the stars' transfer functions times their fluxes (see `motion_transfer`).

        Parameters
        ----------
        which : ndarray of int
            The stars.
        mjd, duration
            As in `image`.
        size : int
            Side of the stamp [pixel].
        """
        total = np.zeros((FINE * size, size + 1), complex)
        for star in which:
            total += self.flux[star] * self.motion(star, mjd, duration, size)
        return total

    def motion(self, star: int, mjd: float, duration: float, size: int) -> Complex64Array:
        """Return the transfer function of one star; parameters are those of `transfer`."""
        x, y = self._about(np.array([star]), mjd, duration)
        return motion_transfer(x[0], y[0], size)

    def offsets(self, which: IntArray, mjd: float, duration: float) -> FloatArray:
        """Return mean places x, y of some stars relative to the target's, shape (k, 2) [pixel]."""
        return np.stack([v.mean(axis=1) for v in self._about(which, mjd, duration)], axis=1)

    def _about(self, which: IntArray, mjd: float, duration: float) -> tuple[FloatArray, FloatArray]:
        """Return places of some stars during an image about the target's mean, (k, m) [pixel]."""
        motion_x, motion_y, roll = self.track.path(mjd, duration, self.lag)
        path = roll + self.turn, motion_x, motion_y
        return field_places(self.xi[which], self.eta[which], *path, self.scale)

    def only(self, which: IntArray) -> Field:
        """Return the field of some of the stars only."""
        return replace(
            self, **{name: getattr(self, name)[which] for name in ("xi", "eta", "flux", "radius")}
        )

    def image(
        self,
        shape: tuple[int, int],
        x: float,
        y: float,
        mjd: float,
        duration: float,
        share: float = 1.0,
    ) -> FloatArray:
        """Return the image of the field stars, of some shape (ny, nx) [electron].

        Parameters
        ----------
        shape : tuple of int
            Shape of the image.
        x, y : float
            Mean place of the target, pixel i spans [i, i+1) [pixel].
        mjd : float
            Middle of the image.
        duration : float
            From the start to the end of the image [s].
        share : float
            Fraction of a stack's exposures in the image.
        """
        drawn = np.zeros(shape)
        if not len(self.flux) or not (np.isfinite(x) and np.isfinite(y)):
            return drawn
        near = self._near(shape, x, y)
        if not len(near):
            return drawn
        motion_x, motion_y, roll = self.track.path(mjd, duration, self.lag)
        few = along_arc(roll, float(self.away[near].max()))
        path = roll[few] + self.turn, x - 0.5 + motion_x[few], y - 0.5 + motion_y[few]
        if len(near) > MANY:
            brightest = float(np.partition(self.flux[near], -MANY)[-MANY])
            together, near = near[self.flux[near] < brightest], near[self.flux[near] >= brightest]
            places = field_places(self.xi[together], self.eta[together], *path, self.scale)
            drawn += self.crowd(shape, *places, share * self.flux[together])
        places = field_places(self.xi[near], self.eta[near], *path, self.scale)
        draw_stars(drawn, *places, share * self.flux[near], self.phases, self.radius[near])
        return drawn

    @cached_property
    def away(self) -> FloatArray:
        """Distances from the target [pixel]."""
        return np.asarray(np.hypot(self.xi, self.eta) / self.scale)

    def _near(self, shape: tuple[int, int], x: float, y: float) -> IntArray:
        """Return the stars that may reach into an image."""
        corner = np.hypot(max(x, shape[1] - x), max(y, shape[0] - y))
        return np.flatnonzero(self.away < corner + self.radius)

    def crowd(
        self, shape: tuple[int, int], x: FloatArray, y: FloatArray, flux: FloatArray
    ) -> FloatArray:
        """Draw many stars at once by a convolution, each to the edge of the PSF.

        Their light is distributed over the PSF's grid with the weights by which `draw_stars`
        interpolates the PSF. In single precision, the error of a pixel is 1e-7 of the brightest
        star's light.
        """
        half = self.psf.shape[0] // 2
        # includes all that reaches into the image
        grid = FINE * shape[0] + 2 * half, FINE * shape[1] + 2 * half
        size = tuple(scipy.fft.next_fast_len(n + 2 * half, real=True) for n in grid)
        if size not in self.transforms:
            kernel = np.zeros(size, np.float32)
            kernel[: 2 * half, : 2 * half] = self.psf
            self.transforms[size] = scipy.fft.rfft2(kernel)
        light = np.zeros(size, np.float32)
        spread(light, grid, FINE * x + half, FINE * y + half, flux * (FINE * FINE / x.shape[1]))
        seen = scipy.fft.irfft2(scipy.fft.rfft2(light) * self.transforms[size], s=size)
        # image index 0 is at grid point `half`, and the centre of the PSF at its index `half`
        first = 2 * half
        return np.asarray(
            seen[first : first + FINE * shape[0] : FINE, first : first + FINE * shape[1] : FINE],
            np.float64,
        )


def along_arc(roll: FloatArray, reach: float) -> IntArray:
    """Return the samples of an exposure at which stars up to `reach` pixels away are drawn.

    They are evenly spaced; `roll` is the roll angle of all samples, shape (m,) [deg].
    """
    turn = (roll - roll[0] + 180.0) % 360.0 - 180.0  # less than half a turn, in one exposure
    steps = max(int(np.ceil(reach * np.radians(turn.max() - turn.min()) / ARC_STEP)) + 1, 4)
    if steps >= len(roll):
        return np.arange(len(roll))
    spaced: IntArray = np.rint(np.arange(steps) * ((len(roll) - 1) / (steps - 1))).astype(int)
    return spaced


def light_radius(flux: FloatArray, psf: FloatArray) -> FloatArray:
    """Return the radius within which each star exceeds LITTLE in a pixel, shape (k,) [pixel].

    It does not exceed that of the PSF.

    Parameters
    ----------
    flux : ndarray, shape (k,)
        Fluxes [electron].
    psf : ndarray, shape (l, l)
        PSF on the fine grid, sum 1.
    """
    half = psf.shape[0] // 2
    j, i = np.mgrid[: psf.shape[0], : psf.shape[1]] - half
    ring = np.minimum(np.hypot(i, j) / FINE, half / FINE).astype(int)
    peak = np.zeros(half // FINE + 1)
    np.maximum.at(peak, ring.ravel(), psf.ravel() * FINE**2)
    # from the outside in, so that a faint ring inside brighter ones counts as bright
    falling = np.maximum.accumulate(peak[::-1])[::-1][:-1]
    seen = (flux[:, None] * falling > LITTLE).sum(axis=1)
    return np.asarray(np.minimum(seen, half / FINE - 1.0))


def core_light(psf: FloatArray) -> float:
    """Return the light of a PSF on the fine grid within CORE, which dominates a star's fit."""
    return light_within(psf, CORE)


def read_field(stars: Stars, model: StarModel, track: Track) -> Field:
    """Read the field stars, without the target.

    Their fluxes were measured with the first PSF. Since far wings and sky are degenerate, the core
    of another PSF may hold a percent more or less of its light: fluxes are scaled to the same light
    in the core.
    """
    table, psf = read_stars(stars), to_grid(model.psf.mean)
    others = ~table.target
    unit = float(stars.used["STAR_COR"]) / core_light(psf)
    flux = unit * table.flux[others]
    scale, turn = float(stars.used["STAR_SCL"]), float(stars.used["STAR_ROL"])
    radius = light_radius(flux, psf)
    xi, eta = table.xi[others], table.eta[others]
    return Field(xi, eta, flux, radius, psf, scale, turn, track, model.lag, unit)


def neighbours(
    catalogue: Catalogue | None,
    psf: ComplexArray,
    flux: float,
    scale: float,
    track: Track,
    lag: float,
) -> Field | None:
    """Return the catalogue's stars that affect the target's surroundings, or None without any.

    Parameters
    ----------
    catalogue : Catalogue or None
        Stars of the catalogue.
    psf : ndarray of complex
        Spectrum of a PSF of sum 1.
    flux : float
        Flux of the target in a stack [electron].
    scale : float
        Pixel scale [arcsec/pixel].
    track : Track
        Motion of the satellite.
    lag : float
        Lag of its time stamps [s].
    """
    if catalogue is None or flux <= 0:
        return None
    near = ~catalogue.target & (np.hypot(catalogue.xi, catalogue.eta) / scale < NEAR)
    near &= catalogue.share > FAINT
    bright = near & (catalogue.share > MATTERS)
    if catalogue.share[near & ~bright].sum() < CROWD:
        near = bright
    if not near.any():
        return None
    fluxes, grid = flux * catalogue.share[near], to_grid(psf)
    return Field(
        catalogue.xi[near],
        catalogue.eta[near],
        fluxes,
        light_radius(fluxes, grid),
        grid,
        scale,
        0.0,
        track,
        lag,
    )


def light_within(psf: FloatArray, radius: float) -> float:
    """Return the light of a PSF on the fine grid within a radius [pixel]."""
    middle = psf.shape[0] // 2
    return float(psf[circle(psf.shape[0], middle, middle, FINE * radius)].sum())


def neighbours_by_reference(
    prior: Prior, flux: FloatArray, pointing: Pointing, size: int
) -> Field | None:
    """Return the target's neighbours, to be drawn with the reference PSF.

    Parameters
    ----------
    prior : Prior
        Reference PSF and catalogue.
    flux : ndarray, shape (n,)
        Light of the target within the default aperture in every image [electron].
    pointing : Pointing
        Pixel scale and motion of the satellite.
    size : int
        Side of the PSF's stamp [pixel].

    Returns
    -------
    Field or None
        None without a reference PSF, or if no neighbour is relevant.
    """
    bright = flux[np.isfinite(flux) & (flux > 0)]
    psf = reference_psf(read_reference_psf(prior), size)
    if psf is None or not bright.size:
        return None
    total = float(np.median(bright)) / light_within(to_grid(psf), DEFAULT_RADIUS)
    scale, track = float(pointing.used["PIX_SCAL"]), read_track(pointing)
    return neighbours(read_catalogue_stars(prior), psf, total, scale, track, 0.0)


@step("stars_1", version="7", payload=Stars, leaves=["TERM_STARS_1"])
def find_stars(first: FirstScene, psf: Psf, plate: Plate | None, use: PsfUse) -> Leaves:
    """Select the field stars from the catalogue, with fluxes relative to the target's.

    Roll and scale are those of the full array's plate solution, or without one those of attitude
    and reference.
    """
    grid = to_grid(read_psf(psf, use.radius).psf.mean)
    within = light_within(grid, DEFAULT_RADIUS) if psf.is_made(use) else 1.0
    catalogue, warnings = read_catalogue_stars(first.prior), []
    if catalogue is None:
        warnings.append("there is no star catalogue: the field is assumed to be empty")
    elif not abs(catalogue.years) <= MOST_YEARS:
        warnings.append(epoch_warning(catalogue.years))
    table = star_table(catalogue, usual_flux(first.look) * float(psf.used["PSF_LIT"]) / within)
    years = np.nan if catalogue is None else catalogue.years
    scale, roll = scale_and_roll(first.pointing, plate)
    used = {
        "N_STARS": int(len(table["XI"]) - table["TARGET"].sum()),
        "STAR_SCL": scale,
        "STAR_ROL": roll,
        "STAR_EPO": years if np.isfinite(years) else 0.0,
        "STAR_BND": catalogue is not None and catalogue.band,
        "STAR_FIT": 0,
        "STAR_AMP": 1.0,
        "STAR_AMS": 0.0,
        "STAR_COR": core_light(grid),
    }
    return Leaves(
        {"TERM_STARS_1": [NewHdu(TERMS["TERM_STARS_1"], used, columns=table)]},
        used=used,
        warnings=warnings,
    )


def usual_flux(look: Look) -> float:
    """Return the median flux of the target within the default aperture, 0 if it is not seen."""
    flux = read_look(look).flux
    good = flux[np.isfinite(flux) & (flux > 0)]
    return float(np.median(good)) if good.size else 0.0


def epoch_warning(years: float) -> str:
    """Return the warning about a catalogue whose epoch is unknown or far from the visit."""
    late = f"{years:+.1f} years from the visit" if np.isfinite(years) else "not known"
    return f"the epoch of the star catalogue is {late}: proper motion displaces its stars"


def star_table(catalogue: Catalogue | None, flux: float) -> dict[str, AnyArray]:
    """Return the columns of TERM_STARS_1 for a flux of the target [electron per stack]."""
    if catalogue is None:
        names = ("XI", "ETA", "MAG", "T_EFF", "FLUX", "FLUXERR")
        return {**{name: np.zeros(0) for name in names}, "TARGET": np.zeros(0, bool)}
    return {
        "XI": catalogue.xi,
        "ETA": catalogue.eta,
        "MAG": catalogue.mag,
        "T_EFF": catalogue.teff,
        "FLUX": flux * catalogue.share,
        "FLUXERR": COLOUR_ERROR * flux * catalogue.share,
        "TARGET": catalogue.target,
    }


def scale_and_roll(pointing: Pointing, plate: Plate | None) -> tuple[float, float]:
    """Return the pixel scale [arcsec] and the roll relative to the attitude's [deg]."""
    if plate is not None and plate.used["PLT_OK"]:
        return float(plate.used["PLT_SCAL"]), float(plate.used["PLT_ROLL"])
    return float(pointing.used["PIX_SCAL"]), 0.0
