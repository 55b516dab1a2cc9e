"""The stars of the field: where the catalogue's stars fall on the CCD, how bright they are, and
their image in every exposure.

About the target the field turns with the roll. With standard coordinates (xi to the East, eta to
the North) of a star about the target and the roll angle phi, its place relative to the target's is
x = (-xi cos phi + eta sin phi) / s, y = (eta cos phi + xi sin phi) / s; s is the scale of a pixel.
During an exposure a star makes the target's motion and moves along its arc. Fluxes follow from the
magnitudes relative to the target's, whose flux is measured; Gaia G is brought to the band of CHEOPS
by the effective temperature where the reference tells how. `field_fluxes.py` then measures what can
be measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

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
from tasks.scene.optics import FINE, to_grid
from tasks.scene.prior import read_catalogue_stars, read_reference_psf
from tasks.scene.psf import reference_psf
from tasks.scene.star_model import StarModel, circle, read_psf
from tasks.scene.track import Track, read_track
from tasks.visit.terms import read_look, read_stars

ARC_STEP = 0.7  # pixel along the arc between two samples of a star
COLOUR_ERROR = 0.1  # relative error of a flux that follows from a magnitude in another band
MOST_YEARS = 2.0  # of proper motion: a star at 100 mas a year has moved by a fifth of a pixel
CORE = 15.0  # pixel; the core of a PSF
NEAR = 130.0  # pixel; stars nearer than that shine into the stamp about the target
# of the target's flux: nearer stars of more move its centre of light by hundredths of a pixel
MATTERS = 1e-3
MANY = 30  # stars that are drawn one by one; the fainter ones of more are drawn together
FAINT = 1e-5  # where many fainter ones stand together, those of more than this are counted in,
CROWD = 0.02  # that is where all of them have more than this of the target's flux
LITTLE = 0.5  # electron in a pixel of a stack; where a field star gives less it is not drawn


@njit(cache=True, nogil=True, error_model="numpy")
def draw_stars(
    image: FloatArray,
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
    psf: FloatArray,
    fine: int,
    radius: FloatArray,
) -> None:
    """Add stars to an image.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Receives the stars [electron].
    x, y : ndarray, shape (k, m)
        Places of the stars at m times of the exposure, as indices: pixel i is centred on i [pixel].
    flux : ndarray, shape (k,)
        Fluxes [electron].
    psf : ndarray, shape (l, l)
        PSF on a grid of 1 / `fine` pixel, its centre at index l / 2, with the integration over a
        pixel in it, sum 1.
    radius : ndarray, shape (k,)
        How far from its centre each star is drawn [pixel].
    """
    ny, nx = image.shape
    half = psf.shape[0] // 2
    density = (
        fine * fine
    )  # the sum over the pixels of an image is the sum over the fine grid over fine^2
    for k in range(x.shape[0]):
        part = flux[k] * density / x.shape[1]
        for t in range(x.shape[1]):
            for row in range(
                max(int(np.ceil(y[k, t] - radius[k])), 0), min(int(y[k, t] + radius[k]) + 1, ny)
            ):
                v = (row - y[k, t]) * fine + half
                j = int(np.floor(v))
                b = v - j
                if j < 0 or j + 1 >= psf.shape[0]:
                    continue
                for col in range(
                    max(int(np.ceil(x[k, t] - radius[k])), 0), min(int(x[k, t] + radius[k]) + 1, nx)
                ):
                    u = (col - x[k, t]) * fine + half
                    i = int(np.floor(u))
                    a = u - i
                    if i < 0 or i + 1 >= psf.shape[0]:
                        continue
                    low = (1 - a) * psf[j, i] + a * psf[j, i + 1]
                    high = (1 - a) * psf[j + 1, i] + a * psf[j + 1, i + 1]
                    image[row, col] += part * ((1 - b) * low + b * high)


@njit(cache=True, nogil=True, error_model="numpy")
def spread(
    light: Float32Array,
    grid: tuple[int, int],
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
) -> None:
    """Spread stars over the four grid points about each of their places.

    Parameters
    ----------
    light : ndarray, shape (at least grid)
        Receives the light.
    grid : tuple of int
        Rows and columns that count; what lies outside of them is left out.
    x, y : ndarray, shape (k, m)
        Places in grid points.
    flux : ndarray, shape (k,)
        Light at each place of each star.
    """
    for k in range(x.shape[0]):
        for t in range(x.shape[1]):
            i, j = int(np.floor(x[k, t])), int(np.floor(y[k, t]))
            if i < 0 or j < 0 or i + 1 >= grid[1] or j + 1 >= grid[0]:
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
    sine, cosine = np.sin(np.radians(roll)), np.cos(np.radians(roll))
    dx = (-np.outer(xi, cosine) + np.outer(eta, sine)) / scale
    dy = (np.outer(eta, cosine) + np.outer(xi, sine)) / scale
    return x + dx, y + dy


@dataclass(frozen=True)
class Field:
    """The field stars: coordinates about the target [arcsec], flux [electron per stack], and how to
    draw them.
    """

    xi: FloatArray
    eta: FloatArray
    flux: FloatArray
    radius: FloatArray  # how far from its centre each star is drawn [pixel]
    psf: FloatArray
    scale: float
    turn: float  # roll above that of the attitude [deg]
    track: Track
    lag: float
    # of `flux`, which goes with this PSF, over that of the table, which goes with the first one
    unit: float = 1.0
    transforms: dict[tuple[int, ...], Complex64Array] = field(
        default_factory=dict, compare=False, repr=False
    )

    def of_errors(self, stars: Stars) -> Field:
        """Return the field with the errors of the fluxes in their place, which adds them up: stars
        may share a wrong colour.
        """
        table = read_stars(stars)
        return replace(self, flux=self.unit * table.error[~table.target])

    def only(self, which: IntArray) -> Field:
        """Return some of the stars."""
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
        """Return the image of the field stars while the target was at the mean place (x, y) (pixel
        i spans [i, i+1)).

        `duration` is that of the image [s], `share` the part of a stack's exposures that it holds.
        """
        drawn = np.zeros(shape)
        if not len(self.flux) or not (np.isfinite(x) and np.isfinite(y)):
            return drawn
        near, reach = self._near(shape, x, y)
        if not len(near):
            return drawn
        motion_x, motion_y, roll = self.track.path(mjd, duration, self.lag)
        few = _along_arc(roll, reach)
        path = roll[few] + self.turn, x - 0.5 + motion_x[few], y - 0.5 + motion_y[few]
        if len(near) > MANY:
            brightest = float(np.partition(self.flux[near], -MANY)[-MANY])
            together, near = near[self.flux[near] < brightest], near[self.flux[near] >= brightest]
            places = field_places(self.xi[together], self.eta[together], *path, self.scale)
            drawn += self.crowd(shape, *places, share * self.flux[together])
        places = field_places(self.xi[near], self.eta[near], *path, self.scale)
        draw_stars(drawn, *places, share * self.flux[near], self.psf, FINE, self.radius[near])
        return drawn

    def _near(self, shape: tuple[int, int], x: float, y: float) -> tuple[IntArray, float]:
        """Return the stars that reach into an image, and how far from the target they are at
        most [pixel].
        """
        away = np.hypot(self.xi, self.eta) / self.scale
        corner = np.hypot(max(x, shape[1] - x), max(y, shape[0] - y))
        near = np.flatnonzero(away < corner + self.radius)
        return near, float(away[near].max()) if len(near) else 0.0

    def crowd(
        self, shape: tuple[int, int], x: FloatArray, y: FloatArray, flux: FloatArray
    ) -> FloatArray:
        """Return what `draw_stars` would, of many stars at once and each as far as the PSF is
        known: by a convolution.

        Their light is spread over the points of the PSF's grid about each place as the PSF would be
        interpolated there. Single precision: wrong by 1e-7 of the light of the brightest of them,
        in any pixel.
        """
        half = self.psf.shape[0] // 2
        grid = (
            FINE * shape[0] + 2 * half,
            FINE * shape[1] + 2 * half,
        )  # everything that reaches into the image
        size = tuple(scipy.fft.next_fast_len(n + 2 * half, real=True) for n in grid)
        if size not in self.transforms:
            kernel = np.zeros(size, np.float32)
            kernel[: 2 * half, : 2 * half] = self.psf
            self.transforms[size] = scipy.fft.rfft2(kernel)
        light = np.zeros(size, np.float32)
        spread(light, grid, FINE * x + half, FINE * y + half, flux * (FINE * FINE / x.shape[1]))
        seen = scipy.fft.irfft2(scipy.fft.rfft2(light) * self.transforms[size], s=size)
        first = (
            2 * half
        )  # image index 0 stands at grid point `half`, and the PSF's centre at its index `half`
        return np.asarray(
            seen[first : first + FINE * shape[0] : FINE, first : first + FINE * shape[1] : FINE],
            np.float64,
        )


def _along_arc(roll: FloatArray, reach: float) -> IntArray:
    """Return the samples of an exposure at which stars up to `reach` pixels away are drawn."""
    turned = np.radians(abs(float(np.ptp(np.unwrap(roll, period=360.0)))))
    steps = max(int(np.ceil(reach * turned / ARC_STEP)) + 1, 4)
    return np.unique(np.linspace(0, len(roll) - 1, steps).round().astype(int))


def light_radius(flux: FloatArray, psf: FloatArray) -> FloatArray:
    """Return how far from its centre each star gives a pixel more than LITTLE, at most as far as
    the PSF is known [pixel].

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
    # from outside in, so that a faint ring within brighter ones counts as bright
    falling = np.maximum.accumulate(peak[::-1])[::-1][:-1]
    seen = (flux[:, None] * falling > LITTLE).sum(axis=1)
    return np.asarray(np.minimum(seen, half / FINE - 1.0))


def core_light(psf: FloatArray) -> float:
    """Return the share of a PSF on the fine grid, sum 1, within CORE pixels: where a fit finds a
    star's flux.
    """
    return light_within(psf, CORE)


def read_field(stars: Stars, model: StarModel, track: Track) -> Field:
    """Read the field stars, without the target.

    Their fluxes were measured with the first PSF. Of another the core may hold more of the light or
    less by a percent, since nothing tells the far wings from the sky: drawn are stars that have the
    same light in their cores.
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
    found: Catalogue | None, psf: ComplexArray, flux: float, scale: float, track: Track, lag: float
) -> Field | None:
    """Return the stars that shine into the target's surroundings, by the catalogue; None where none
    matters.

    Parameters
    ----------
    found : Catalogue or None
        Stars of the catalogue.
    psf : ndarray of complex
        Spectrum of a PSF of sum 1.
    flux : float
        Of the target in a stack [electron].
    scale : float
        [arcsec/pixel].
    track : Track
        Motion of the satellite.
    lag : float
        By how much its time stamps are late [s].
    """
    if found is None or flux <= 0:
        return None
    near = ~found.target & (np.hypot(found.xi, found.eta) / scale < NEAR) & (found.share > FAINT)
    bright = near & (found.share > MATTERS)
    if found.share[near & ~bright].sum() < CROWD:
        near = bright
    if not near.any():
        return None
    fluxes, grid = flux * found.share[near], to_grid(psf)
    return Field(
        found.xi[near],
        found.eta[near],
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
    """Return the target's neighbours as the reference PSF shows them; None where none matters or
    there is no such PSF.

    `flux` is the target's light within the default aperture in every image [electron], `size` the
    side of the PSF's stamp [pixel].
    """
    bright = flux[np.isfinite(flux) & (flux > 0)]
    psf = reference_psf(read_reference_psf(prior), size)
    if psf is None or not bright.size:
        return None
    total = float(np.median(bright)) / light_within(to_grid(psf), DEFAULT_RADIUS)
    scale, track = float(pointing.used["PIX_SCAL"]), read_track(pointing)
    return neighbours(read_catalogue_stars(prior), psf, total, scale, track, 0.0)


@step("stars_1", version="3", payload=Stars, leaves=["TERM_STARS_1"])
def find_stars(first: FirstScene, psf: Psf, plate: Plate | None, use: PsfUse) -> Leaves:
    """Take the stars of the field from the catalogue, with fluxes relative to the target's measured
    one.

    The full array's plate solution tells how roll and scale differ from what attitude and reference
    say, where there is one.
    """
    grid = to_grid(read_psf(psf, use.radius).psf.mean)
    within = light_within(grid, DEFAULT_RADIUS) if psf.is_made(use) else 1.0
    found, warnings = read_catalogue_stars(first.prior), []
    if found is None:
        warnings.append("there is no star catalogue: the field is taken to be empty")
    elif not abs(found.years) <= MOST_YEARS:
        warnings.append(epoch_warning(found.years))
    table = star_table(found, usual_flux(first.look) / within)
    scale, roll = scale_and_roll(first.pointing, plate)
    used = {
        "N_STARS": int(len(table["XI"]) - table["TARGET"].sum()),
        "STAR_SCL": scale,
        "STAR_ROL": roll,
        "STAR_EPO": found.years if found is not None and np.isfinite(found.years) else 0.0,
        "STAR_BND": found is not None and found.band,
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
    """Return the median flux of the target within the default aperture, 0 where it is not seen."""
    flux = read_look(look).flux
    good = flux[np.isfinite(flux) & (flux > 0)]
    return float(np.median(good)) if good.size else 0.0


def epoch_warning(years: float) -> str:
    """Return the warning about a catalogue whose epoch is not near the visit, or not known."""
    late = f"{years:+.1f} years from the visit" if np.isfinite(years) else "not known"
    return f"the epoch of the star catalogue is {late}: proper motion moves its stars"


def star_table(catalogue: Catalogue | None, flux: float) -> dict[str, AnyArray]:
    """Return the columns of TERM_STARS_1 where the target has a flux [electron per stack]."""
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
    """Return the angle of a pixel [arcsec] and the roll above the attitude's [deg]."""
    if plate is not None and plate.used["PLT_OK"]:
        return float(plate.used["PLT_SCAL"]), float(plate.used["PLT_ROLL"])
    return float(pointing.used["PIX_SCAL"]), 0.0
