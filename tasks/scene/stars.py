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
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
from numba import njit

from schemas.arrays import ComplexArray, FloatArray
from schemas.payloads import Look, Plate, Pointing, Prior, Psf, Stars
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.writer import NewHdu
from tasks.scene.catalogue import Catalogue
from tasks.scene.optics import FINE, to_grid
from tasks.scene.prior import read_reference_psf, read_stars
from tasks.scene.psf import reference_psf
from tasks.scene.star_model import StarModel, circle, read_psf
from tasks.scene.track import Track, read_track
from tasks.visit.terms import term_column

ARC_STEP = 0.7  # pixel along the arc between two samples of a star
COLOUR_ERROR = 0.1  # relative error of a flux that follows from a magnitude in another band
MOST_YEARS = 2.0  # of proper motion: a star at 100 mas a year has moved by a fifth of a pixel
CORE = 15.0  # pixel; the core of a PSF
STAMP = 128  # side of the reference PSF's stamp [pixel]
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
    light: npt.NDArray[np.float32],
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
    transforms: dict[tuple[int, ...], npt.NDArray[np.complex64]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def of_errors(self, stars: Stars) -> Field:
        """Return the field with the errors of the fluxes in their place, which adds them up: stars
        may share a wrong colour.
        """
        errors, target = term_column(stars.product, stars.product.extname, "FLUXERR", "TARGET")
        return replace(self, flux=self.unit * errors[~target.astype(bool)])

    def only(self, which: npt.NDArray[np.int64]) -> Field:
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
        motion_x, motion_y, roll = self.track.path(mjd, duration, self.lag)
        away = np.hypot(self.xi, self.eta) / self.scale
        corner = np.hypot(max(x, shape[1] - x), max(y, shape[0] - y))
        near = np.flatnonzero(away < corner + self.radius)
        if not len(near):
            return drawn
        reach = float(away[near].max())
        turned = np.radians(abs(float(np.ptp(np.unwrap(roll, period=360.0)))))
        few = np.unique(
            np.linspace(0, len(roll) - 1, max(int(np.ceil(reach * turned / ARC_STEP)) + 1, 4))
            .round()
            .astype(int)
        )
        target = x - 0.5 + motion_x[few], y - 0.5 + motion_y[few]
        together = near[:0]
        if len(near) > MANY:
            brightest = float(np.partition(self.flux[near], -MANY)[-MANY])
            together, near = near[self.flux[near] < brightest], near[self.flux[near] >= brightest]
            x_of, y_of = field_places(
                self.xi[together], self.eta[together], roll[few] + self.turn, *target, self.scale
            )
            drawn += self.crowd(shape, x_of, y_of, share * self.flux[together])
        places = field_places(
            self.xi[near], self.eta[near], roll[few] + self.turn, *target, self.scale
        )
        draw_stars(drawn, *places, share * self.flux[near], self.psf, FINE, self.radius[near])
        return drawn

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
    middle = psf.shape[0] // 2
    return float(psf[circle(psf.shape[0], middle, middle, FINE * CORE)].sum())


def read_field(stars: Stars, model: StarModel, track: Track) -> Field:
    """Read the field stars, without the target.

    Their fluxes were measured with the first PSF. Of another the core may hold more of the light or
    less by a percent, since nothing tells the far wings from the sky: drawn are stars that have the
    same light in their cores.
    """
    xi, eta, flux, target = term_column(
        stars.product, stars.product.extname, "XI", "ETA", "FLUX", "TARGET"
    )
    others, psf = ~target.astype(bool), to_grid(model.psf.mean)
    unit = float(stars.used["STAR_COR"]) / core_light(psf)
    flux = unit * flux
    scale, turn = float(stars.used["STAR_SCL"]), float(stars.used["STAR_ROL"])
    radius = light_radius(flux[others], psf)
    return Field(
        xi[others], eta[others], flux[others], radius, psf, scale, turn, track, model.lag, unit
    )


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


def neighbours_by_reference(prior: Prior, flux: FloatArray, pointing: Pointing) -> Field | None:
    """Return the target's neighbours as the reference PSF shows them; None where none matters or
    there is no such PSF.

    `flux` is the target's light within 25 pixels in every image [electron].
    """
    bright = flux[np.isfinite(flux) & (flux > 0)]
    psf = reference_psf(read_reference_psf(prior), STAMP)
    if psf is None or not bright.size:
        return None
    middle = psf.shape[0] // 2
    within = float(to_grid(psf)[circle(psf.shape[0], middle, middle, FINE * 25.0)].sum())
    scale = float(pointing.used["PIX_SCAL"])
    return neighbours(
        read_stars(prior), psf, float(np.median(bright)) / within, scale, read_track(pointing), 0.0
    )


@step("stars_1", version="3", payload=Stars, leaves=["TERM_STARS_1"])
def find_stars(
    prior: Prior, look: Look, pointing: Pointing, psf: Psf, plate: Plate | None
) -> Leaves:
    """Take the stars of the field from the catalogue, with fluxes relative to the target's measured
    one.

    The full array's plate solution tells how roll and scale differ from what attitude and reference
    say, where there is one.
    """
    warnings = []
    (flux,) = term_column(look.product, "TERM_LOOK", "FLUX")
    good = flux[np.isfinite(flux) & (flux > 0)]
    model = read_psf(psf)
    size = model.where.size
    grid = to_grid(model.psf.mean)
    within = (
        float(grid[circle(FINE * size, size, size, FINE * 25.0)].sum())
        if int(psf.used.get("PSF_N", 0)) >= 3
        else 1.0
    )
    target_flux = float(np.median(good)) / within if good.size else 0.0
    table: dict[str, npt.NDArray[Any]]
    table = {name: np.zeros(0) for name in ("XI", "ETA", "MAG", "T_EFF", "FLUX", "FLUXERR")} | {
        "TARGET": np.zeros(0, bool)
    }
    found = read_stars(prior)
    if found is None:
        warnings.append("there is no star catalogue: the field is taken to be empty")
    else:
        if not abs(found.years) <= MOST_YEARS:
            late = (
                f"{found.years:+.1f} years from the visit"
                if np.isfinite(found.years)
                else "not known"
            )
            warnings.append(
                f"the epoch of the star catalogue is {late}: proper motion moves its stars"
            )
        table = {
            "XI": found.xi,
            "ETA": found.eta,
            "MAG": found.mag,
            "T_EFF": found.teff,
            "FLUX": target_flux * found.share,
            "FLUXERR": COLOUR_ERROR * target_flux * found.share,
            "TARGET": found.target,
        }
    years = np.nan if found is None else found.years
    solved = plate is not None and bool(plate.used["PLT_OK"])
    used = {
        "N_STARS": int(len(table["XI"]) - table["TARGET"].sum()),
        "STAR_SCL": float(
            plate.used["PLT_SCAL"] if plate is not None and solved else pointing.used["PIX_SCAL"]
        ),
        "STAR_ROL": float(plate.used["PLT_ROLL"]) if plate is not None and solved else 0.0,
        "STAR_EPO": float(years) if np.isfinite(years) else 0.0,
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
