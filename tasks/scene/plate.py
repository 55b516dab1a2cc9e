"""Plate solution: how the frame of the whole CCD lies on the sky, from the stars on it.

Roll and scale are known beforehand, from the attitude and a reference file. The stars of the frame
tell how far these are off: found as wide spots, matched with the catalogue about the target, and
fitted by offset, roll and scale,

    x = x0 + k ( px cos d + py sin d),    y = y0 + k (py cos d - px sin d)

with (px, py) the expected places about the target's, d the roll offset, and k the expected scale
over the true one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from schemas.arrays import FloatArray
from schemas.inputs import STAR_CATALOGUE
from schemas.payloads import Calibrated, Plate, Pointing, Product, Psf, Status
from schemas.settings import PlateSettings
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.disk import require
from tasks.files.reader import open_declared
from tasks.files.writer import NewHdu
from tasks.numerics.geometry import sky_to_tangent
from tasks.numerics.robust import MAD_TO_SIGMA, robust_scatter
from tasks.scene.catalogue import find_target
from tasks.scene.light import centre_of_light
from tasks.scene.stars import field_places
from tasks.scene.track import read_track
from tasks.visit.images import open_frame

BOX = 32  # pixel; sides of the boxes whose medians tell the sky
SPOT, RING = 9.0, (19.0, 26.0)  # pixel; a star is what stands out of its surroundings on this scale
WINDOW = 14.0  # pixel; radius of the circle in which a star's place and size are measured
NARROWEST, WIDEST = (
    3.0,
    11.5,
)  # pixel; rms size of a star's light in it: evenly spread light has 0.71 WINDOW = 9.9
NEAR_TARGET = 50.0  # pixel from its intended place, within which the target is taken to be
CLOSE = 1.5  # pixel; a match that is further off after the fit is none
FEWEST = 4  # stars, target included, that must match
TURN, STRETCH = 2.0, 0.01  # largest roll offset [deg] and change of scale that are looked for
MOVES = 200  # a star as wide as the window comes to rest slowly
ROUGH = 4.0  # pixel; how close matches must be while the roll is looked for


def sky_surface(image: FloatArray, rounds: int = 20) -> tuple[FloatArray, float]:
    """Fit a quadratic surface to the medians of boxes, clipped, and return it with the scatter of
    the medians about it.

    Sky and stray light have no structure finer than the CCD. A mesh would follow the wings of
    bright stars; a surface of six coefficients, through the thousand medians without those that
    hold a star, cannot.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        NaN is left out.

    Returns
    -------
    surface, scatter : ndarray, shape (ny, nx), and float

    Raises
    ------
    ValueError
        If too few boxes hold numbers.
    """
    ny, nx = image.shape
    rows, columns = ny // BOX, nx // BOX
    whole = image[: rows * BOX, : columns * BOX].reshape(rows, BOX, columns, BOX)
    cut = whole.transpose(0, 2, 1, 3).reshape(rows * columns, BOX * BOX)
    kept = np.isfinite(cut).sum(axis=1) > BOX * BOX / 2
    if kept.sum() < 24:
        raise ValueError(
            f"{kept.sum()} boxes of {BOX} x {BOX} pixels hold numbers: too few for a surface"
        )
    medians = np.full(len(cut), np.nan)
    medians[kept] = np.nanmedian(cut[kept], axis=1)
    j, i = np.mgrid[:rows, :columns]

    def terms(x: FloatArray, y: FloatArray) -> list[FloatArray]:
        return [np.ones_like(x), x, y, x * x, x * y, y * y]

    design = np.stack(
        terms((2 * i.ravel() + 1) * BOX / nx - 1, (2 * j.ravel() + 1) * BOX / ny - 1), axis=1
    )
    coefficients, scatter = np.zeros(6), 0.0
    for _ in range(rounds):
        coefficients = np.linalg.lstsq(design[kept], medians[kept], rcond=None)[0]
        residual = medians - design @ coefficients
        scatter = robust_scatter(residual[kept])
        again = np.isfinite(medians) & (np.abs(residual) <= 3.0 * max(scatter, 1e-9))
        if (again == kept).all() or again.sum() < 24:
            break
        kept = again
    x, y = (2 * np.arange(nx) + 1) / nx - 1, (2 * np.arange(ny) + 1) / ny - 1
    surface = sum(c * t for c, t in zip(coefficients, terms(*np.meshgrid(x, y)), strict=True))
    return np.asarray(surface), scatter


def without_specks(image: FloatArray) -> FloatArray:
    """Return the median of 5 x 5 pixels about every pixel: hot pixels and tracks of cosmic rays are
    finer than a star.
    """
    filled = np.where(np.isfinite(image), image, 0.0).astype(np.float32)
    return np.asarray(scipy.ndimage.median_filter(filled, 5, mode="nearest"), np.float64)


def standing_out(image: FloatArray) -> FloatArray:
    """Return by how much the mean within SPOT of every pixel is above that of a RING around it."""
    from scipy.signal import (
        fftconvolve,
    )  # its half second would be a quarter of a rerun with nothing to do

    reach = int(RING[1]) + 1
    j, i = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    distance = np.hypot(i, j)
    spot, ring = (
        (distance <= SPOT).astype(float),
        ((distance >= RING[0]) & (distance <= RING[1])).astype(float),
    )
    kernel = spot / spot.sum() - ring / ring.sum()
    padded = np.pad(image, reach, mode="edge")
    return np.asarray(fftconvolve(padded, kernel, mode="valid"))


@dataclass(frozen=True)
class Spots:
    """Stars on the frame: places (pixel i spans [i, i+1)), their errors, flux above the
    surroundings; brightest first.
    """

    x: FloatArray
    y: FloatArray
    error: FloatArray
    flux: FloatArray


def find_spots(image: FloatArray, significance: float) -> Spots:
    """Find the stars of a frame without sky.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Frame without sky [electron].
    significance : float
        How far a star stands out of its surroundings, in units of the scatter of this contrast over
        the frame.
    """
    from photutils.detection import find_peaks

    smooth = without_specks(image)
    contrast = standing_out(smooth)
    limit = significance * MAD_TO_SIGMA * float(np.median(np.abs(contrast - np.median(contrast))))
    border = int(WINDOW)
    inner = np.zeros_like(contrast)
    inner[border:-border, border:-border] = contrast[border:-border, border:-border]
    none = np.zeros(0)
    if not inner.max() > limit > 0:
        return Spots(none, none, none, none)
    peaks = find_peaks(inner, limit, box_size=2 * border + 1)
    x, y = (np.asarray(peaks[c], np.float64) + 0.5 for c in ("x_peak", "y_peak"))
    noise = MAD_TO_SIGMA * float(np.median(np.abs(image[np.isfinite(image)])))
    found = np.zeros((len(x), 5))
    for k in range(len(x)):
        centre_of_light(
            smooth[None],
            x[k : k + 1],
            y[k : k + 1],
            WINDOW,
            MOVES,
            np.full(1, noise**2),
            found[k : k + 1],
        )
    flux, size = np.zeros(len(x)), np.zeros(len(x))
    for k in range(len(x)):
        flux[k], size[k] = light_within(smooth, found[k, 0], found[k, 1], WINDOW)
    moved = np.hypot(found[:, 0] - x, found[:, 1] - y)
    good = (found[:, 4] == 1) & (moved < WINDOW) & (flux > 0) & (size > NARROWEST) & (size < WIDEST)
    order = [k for k in np.argsort(-flux, kind="stable") if good[k]]
    taken: list[int] = []
    for k in order:  # two peaks of one star rest at one place
        if all(
            np.hypot(found[k, 0] - found[t, 0], found[k, 1] - found[t, 1]) > WINDOW / 2
            for t in taken
        ):
            taken.append(k)
    return Spots(
        found[taken, 0], found[taken, 1], np.hypot(found[taken, 2], found[taken, 3]), flux[taken]
    )


def light_within(image: FloatArray, x: float, y: float, radius: float) -> tuple[float, float]:
    """Return the light within a circle about a place (pixel i spans [i, i+1)), and its rms distance
    from it [pixel].
    """
    ny, nx = image.shape
    rows = slice(max(int(y - radius), 0), min(int(y + radius) + 2, ny))
    columns = slice(max(int(x - radius), 0), min(int(x + radius) + 2, nx))
    j, i = np.mgrid[rows, columns]
    distance = np.hypot(i + 0.5 - x, j + 0.5 - y)
    light = np.where(distance <= radius, np.maximum(image[rows, columns], 0.0), 0.0)
    total = float(light.sum())
    return total, float(np.sqrt((light * distance**2).sum() / total)) if total > 0 else 0.0


def fit_similarity(
    px: FloatArray, py: FloatArray, x: FloatArray, y: FloatArray, weight: FloatArray
) -> tuple[float, float, float, float]:
    """Fit offset, roll and scale by weighted least squares.

    Parameters
    ----------
    px, py : ndarray, shape (m,)
        Expected places about the target's [pixel].
    x, y, weight : ndarray, shape (m,)
        Measured places [pixel] and their weights.

    Returns
    -------
    x0, y0, roll, stretch
        Place of the target [pixel], roll offset [deg], and by how much places are further apart
        than expected.

    Raises
    ------
    ValueError
        For fewer than two stars.
    """
    if len(px) < 2:
        raise ValueError(f"{len(px)} stars do not tell a roll angle")
    zero, one = np.zeros_like(px), np.ones_like(px)
    design = np.concatenate(
        [np.stack([one, zero, px, py], axis=1), np.stack([zero, one, py, -px], axis=1)]
    )
    root = np.sqrt(np.concatenate([weight, weight]))
    x0, y0, a, b = np.linalg.lstsq(
        design * root[:, None], np.concatenate([x, y]) * root, rcond=None
    )[0]
    return float(x0), float(y0), float(np.degrees(np.arctan2(b, a))), float(np.hypot(a, b))


def moved_places(
    px: FloatArray, py: FloatArray, solution: tuple[float, float, float, float]
) -> tuple[FloatArray, FloatArray]:
    """Return the places that a solution (see `fit_similarity`) gives."""
    x0, y0, roll, stretch = solution
    sine, cosine = stretch * np.sin(np.radians(roll)), stretch * np.cos(np.radians(roll))
    return x0 + px * cosine + py * sine, y0 + py * cosine - px * sine


@dataclass(frozen=True)
class Solution:
    """A plate solution, and which spot matched which star."""

    spot: npt.NDArray[np.int64]
    star: npt.NDArray[np.int64]
    x: float
    y: float
    roll: float  # offset [deg]
    stretch: float
    rms: float  # of one coordinate [pixel]


def match_stars(spots: Spots, px: FloatArray, py: FloatArray, target: int) -> Solution | None:
    """Match spots with stars and fit offset, roll and scale; None where too few agree.

    Parameters
    ----------
    spots : Spots
        What was found on the frame.
    px, py : ndarray, shape (k,)
        Expected places of the stars about the target's [pixel].
    target : int
        The spot that is the target.
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(np.stack([spots.x, spots.y], axis=1))
    begin = float(spots.x[target]), float(spots.y[target])
    far = float(np.hypot(px, py).max()) if len(px) else 0.0
    if far == 0:
        return None
    turns = np.arange(-TURN, TURN + 1e-9, np.degrees(ROUGH / far))
    stretches = np.arange(1 - STRETCH, 1 + STRETCH + 1e-9, ROUGH / far)

    def count(trial: tuple[float, float, float, float]) -> float:
        distance, _ = tree.query(
            np.stack(moved_places(px, py, trial), axis=1), distance_upper_bound=ROUGH
        )
        near = np.isfinite(distance)
        return float((1.0 - (distance[near] / ROUGH) ** 2).sum())

    trials = [(*begin, float(d), float(s)) for d in turns for s in stretches]
    solution = max(trials, key=count)
    limit, spot, star = ROUGH, np.zeros(0, np.int64), np.zeros(0, np.int64)
    rms = 0.0
    for _ in range(8):
        distance, index = tree.query(
            np.stack(moved_places(px, py, solution), axis=1), distance_upper_bound=limit
        )
        star = np.flatnonzero(np.isfinite(distance))
        # of two stars at one spot the nearer
        star = star[np.argsort(distance[star], kind="stable")]
        _, first = np.unique(index[star], return_index=True)
        star = np.sort(star[first])
        spot = index[star]
        if len(star) < FEWEST:
            return None
        weight = 1.0 / (spots.error[spot] ** 2 + 0.05**2)
        solution = fit_similarity(px[star], py[star], spots.x[spot], spots.y[spot], weight)
        mx, my = moved_places(px[star], py[star], solution)
        away = np.concatenate([spots.x[spot] - mx, spots.y[spot] - my])
        rms = float(np.sqrt(np.mean(away**2)))
        limit = float(np.clip(4.0 * robust_scatter(away), 0.3, CLOSE))
    if rms > CLOSE / 2 or abs(solution[2]) > TURN or abs(solution[3] - 1) > STRETCH:
        return None
    return Solution(spot, star, *solution, rms)


@step("plate", "WCS", version="4", payload=Plate, leaves=["TERM_PLATE"])
def solve_plate(
    full_array: Calibrated,
    catalogue: Product | None,
    pointing: Pointing,
    psf: Psf,
    settings: PlateSettings,
) -> Leaves:
    """Find the stars of the full array, and fit its roll offset and scale where enough of them are
    in the catalogue.
    """
    nominal, lag = float(pointing.used["PIX_SCAL"]), float(psf.used.get("PSF_LAG", 0.0))
    with open_frame(full_array.products["SCI_CAL_FullArray"]) as (frame, pixels):
        mjd, duration = float(frame.mjd[0]), frame.exposure_time
    _, _, roll = read_track(pointing).path(mjd, duration, lag)
    middle = float(np.mean(np.unwrap(roll, period=360.0)))
    spots = find_spots(pixels - sky_surface(pixels)[0], settings.significance)
    away = np.hypot(
        spots.x - float(pointing.used["LOC_X"]), spots.y - float(pointing.used["LOC_Y"])
    )
    near = np.flatnonzero(away < NEAR_TARGET)
    place = (float(spots.x[near[0]]), float(spots.y[near[0]])) if near.size else (0.0, 0.0)
    solution = None
    if catalogue is not None and near.size:
        xi, eta, magnitude = bright_stars(catalogue, settings.stars)
        px, py = (
            v[:, 0]
            for v in field_places(xi, eta, np.array([middle]), np.zeros(1), np.zeros(1), nominal)
        )
        solution = match_stars(spots, px, py, int(near[0]))
    used: dict[str, bool | int | float] = {
        "PLT_FND": len(spots.x),
        "PLT_OK": solution is not None,
        "PLT_MAT": 0,
    }
    used |= {
        "PLT_RMS": 0.0,
        "PLT_ROLL": 0.0,
        "PLT_SCAL": nominal,
        "PLT_X": place[0],
        "PLT_Y": place[1],
    }
    columns = {"X": spots.x, "Y": spots.y, "ERROR": spots.error, "FLUX": spots.flux}
    columns |= {name: np.full(len(spots.x), np.nan) for name in ("MAG", "DX", "DY")}
    if solution is not None:
        used |= {
            "PLT_MAT": len(solution.spot),
            "PLT_RMS": solution.rms,
            "PLT_ROLL": solution.roll,
            "PLT_SCAL": nominal / solution.stretch,
            "PLT_X": solution.x,
            "PLT_Y": solution.y,
        }
        mx, my = moved_places(
            px[solution.star],
            py[solution.star],
            (solution.x, solution.y, solution.roll, solution.stretch),
        )
        columns["MAG"][solution.spot] = magnitude[solution.star]
        columns["DX"][solution.spot] = spots.x[solution.spot] - mx
        columns["DY"][solution.spot] = spots.y[solution.spot] - my
    state = Status.COMPLETED if solution is not None else Status.NOT_APPLICABLE
    return Leaves(
        {"TERM_PLATE": [NewHdu(TERMS["TERM_PLATE"], used, columns=columns)]},
        used=used,
        status={"WCS": state},
    )


def bright_stars(catalogue: Product, most: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return standard coordinates about the target [arcsec] and magnitudes of the brightest stars,
    the target among them.
    """
    with open_declared(require(catalogue.path), STAR_CATALOGUE) as file:
        hdu = file["EXT_PRE_StarCatalogue"]
        ra, dec, mag = (hdu.column(c).astype(np.float64) for c in ("RA", "DEC", "MAG_GAIA"))
        target = find_target(hdu, [])
    xi, eta = sky_to_tangent(ra, dec, float(ra[target][0]), float(dec[target][0]))
    # the target is needed even if its magnitude is unknown
    good = np.isfinite(xi) & np.isfinite(eta) & (np.isfinite(mag) | target)
    order = np.argsort(np.where(target, -np.inf, mag), kind="stable")
    chosen = [k for k in order if good[k]][:most]
    return xi[chosen], eta[chosen], mag[chosen]
