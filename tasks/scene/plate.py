"""Plate solution: how the frame of the whole CCD lies on the sky, from the stars on it.

The attitude and a reference file give an expected roll and scale. Their errors follow from the
stars of the frame, which are found as wide spots, matched with the catalogue about the target, and
fitted by offset, roll and scale,

    x = x0 + k ( px cos d + py sin d),    y = y0 + k (py cos d - px sin d)

with (px, py) the expected places about the target's, d the roll offset, and k the expected scale
over the true one.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.ndimage

from schemas.arrays import FloatArray, IntArray
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
from tasks.numerics.squares import median_of_squares
from tasks.scene.catalogue import find_target
from tasks.scene.stars import field_places
from tasks.scene.track import read_track
from tasks.visit.images import open_frame

# Numbers of the telescope and the CCD; those that a user may want to change are in PlateSettings.
BOX = 32  # pixel; sides of the boxes whose medians give the sky
FEWEST_BOXES = 24  # with numbers, for the six coefficients of the sky
LOST = "most pixels of the full array are lost"
SQUARE = 5  # pixel; side of the squares whose medians are free of specks
BINNING = 4  # stars are searched for in medians of so many pixels squared, free of specks
# pixel; width of the Gaussian searched for, as wide as a star, which ends at 3.5 sigma: 27 pixels
# away, the wings of a star hardly raise the surroundings from which it must stand out
FWHM, REACH = 18.0, 3.5
# rms size of a star's light: in pixels, above that of specks; and over the radius of the window,
# where evenly spread light has 0.71
NARROWEST, WIDEST = 3.0, 0.82
CLOSE = 1.5  # pixel; largest distance of a match after the fit
STRETCH = 0.01  # largest change of scale searched for
MOVES, AT_REST = 200, 0.01  # a star as wide as the window settles slowly [pixel]
ROUGH = 4.0  # pixel; largest distance of a match during the search for the roll


def sky_surface(image: FloatArray, rounds: int = 20) -> tuple[FloatArray, float]:
    """Fit a quadratic surface to the medians of boxes; return it and their scatter about it.

    Sky and stray light have no structure finer than the CCD. A mesh would follow the wings of
    bright stars; a surface of six coefficients through a thousand medians, those raised by stars
    being clipped, cannot.

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
    if kept.sum() < FEWEST_BOXES:
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
        if (again == kept).all() or again.sum() < FEWEST_BOXES:
            break
        kept = again
    x, y = (2 * np.arange(nx) + 1) / nx - 1, (2 * np.arange(ny) + 1) / ny - 1
    # terms of one coordinate are a row or a column: six whole frames would be 50 MB
    over = terms(*np.meshgrid(x, y, sparse=True))
    surface = sum(c * t for c, t in zip(coefficients, over, strict=True))
    return np.asarray(surface), scatter


def is_lost(image: FloatArray) -> bool:
    """Return whether too few boxes of a frame hold numbers for `sky_surface`."""
    ny, nx = image.shape
    rows, columns = ny // BOX, nx // BOX
    whole = np.isfinite(image[: rows * BOX, : columns * BOX]).reshape(rows, BOX, columns, BOX)
    return int((whole.sum(axis=(1, 3)) > BOX * BOX / 2).sum()) < FEWEST_BOXES


def without_specks(image: FloatArray) -> FloatArray:
    """Return the median of 5 x 5 pixels about every pixel.

    Hot pixels and tracks of cosmic rays are finer than a star and disappear.
    """
    filled = np.where(np.isfinite(image), image, 0.0).astype(np.float32).astype(np.float64)
    return median_of_squares(filled, SQUARE)


@dataclass(frozen=True)
class Spots:
    """Stars on the frame, brightest first."""

    x: FloatArray  # pixel i spans [i, i+1)
    y: FloatArray
    error: FloatArray  # of the place [pixel]
    flux: FloatArray  # within the window [electron]


def find_spots(image: FloatArray, significance: float, window: float) -> Spots:
    """Find the stars of a frame without sky.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Frame without sky [electron].
    significance : float
        Least contrast of a star with its surroundings, in units of the scatter of this contrast
        over the frame.
    window : float
        Radius of the circle in which place, flux and size of a star are measured [pixel].
    """
    from photutils.aperture import ApertureStats, CircularAperture

    smooth = np.maximum(without_specks(image), 0.0)
    x, y = centre_stars(smooth, *detect_stars(image, significance), window)
    if not len(x):
        return Spots(x, x, x, x)
    stats = ApertureStats(smooth, CircularAperture(np.stack([x, y], axis=1), window))
    flux = np.asarray(stats.sum)
    size = np.sqrt(np.trace(stats.covariance.value, axis1=1, axis2=2))
    noise = MAD_TO_SIGMA * float(np.median(np.abs(image[np.isfinite(image)])))
    error = noise * np.sqrt(np.pi / 2) * window**2 / np.maximum(flux, 1e-9)
    star = (flux > 0) & (size > NARROWEST) & (size < WIDEST * window)
    kept = [k for k in np.argsort(-flux, kind="stable") if star[k]]
    kept = _distinct(x, y, kept, window / 2)
    return Spots(x[kept] + 0.5, y[kept] + 0.5, error[kept], flux[kept])


def detect_stars(image: FloatArray, significance: float) -> tuple[FloatArray, FloatArray]:
    """Return rough places, as indices x and y, of what stands out from its surroundings.

    The binned frame is searched with DAOFIND (Stetson 1987, PASP 99, 191). Its threshold refers to
    the scatter of the convolved frame, so that faint stars and tracks of cosmic rays count as noise
    where they are many.
    """
    from astropy.nddata import block_reduce
    from photutils.detection import DAOStarFinder
    from photutils.utils.exceptions import NoDetectionsWarning

    def finder(threshold: float) -> DAOStarFinder:
        return DAOStarFinder(
            threshold,
            FWHM / BINNING,
            sigma_radius=REACH,
            min_separation=FWHM / BINNING,
            scale_threshold=False,
            sharpness_range=None,  # the size is measured later, in unbinned pixels
            roundness_range=None,
        )

    binned = block_reduce(np.where(np.isfinite(image), image, 0.0), BINNING, np.median)
    contrast = scipy.ndimage.convolve(binned, finder(0.0).kernel.data, mode="constant")
    limit = significance * robust_scatter(contrast.ravel())
    if not limit > 0:
        return np.zeros(0), np.zeros(0)
    with warnings.catch_warnings(category=NoDetectionsWarning, action="ignore"):
        stars = finder(limit)(binned)
    if stars is None:
        return np.zeros(0), np.zeros(0)
    x, y = ((np.asarray(stars[c]) + 0.5) * BINNING - 0.5 for c in ("x_centroid", "y_centroid"))
    return x, y


def centre_stars(
    image: FloatArray, x: FloatArray, y: FloatArray, window: float
) -> tuple[FloatArray, FloatArray]:
    """Move a circle about each star to the centre of light within it until it comes to rest.

    Omitted are stars whose circle begins beyond the edge of the frame, moves further than its
    radius, or does not come to rest.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        No value is negative.
    x, y : ndarray, shape (m,)
        Rough places, as indices.
    window : float
        Radius of the circle [pixel].

    Returns
    -------
    x, y : ndarray, shape (k,)
        Places, as indices.
    """
    from photutils.aperture import ApertureStats, CircularAperture

    ny, nx = image.shape
    inside = (np.minimum(x, nx - 1 - x) >= window) & (np.minimum(y, ny - 1 - y) >= window)
    begin = np.stack([x[inside], y[inside]], axis=1)
    place, moving = begin.copy(), np.ones(len(begin), dtype=bool)
    for _ in range(MOVES):
        if not moving.any():
            break
        centre = ApertureStats(image, CircularAperture(place[moving], window)).centroid
        step = np.hypot(*(centre - place[moving]).T)
        near = np.hypot(*(centre - begin[moving]).T) < window
        place[moving] = np.where(near[:, None], centre, np.nan)
        moving[moving] = near & (step > AT_REST)
    settled = np.isfinite(place[:, 0]) & ~moving
    return place[settled, 0], place[settled, 1]


def _distinct(x: FloatArray, y: FloatArray, order: list[int], apart: float) -> list[int]:
    """Return the stars of `order` without those nearer than `apart` to an earlier one."""
    kept: list[int] = []
    for k in order:
        if all(np.hypot(x[k] - x[other], y[k] - y[other]) > apart for other in kept):
            kept.append(k)
    return kept


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
        raise ValueError(f"roll and scale need two stars, not {len(px)}")
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

    spot: IntArray
    star: IntArray
    x: float
    y: float
    roll: float  # offset [deg]
    stretch: float
    rms: float  # of one coordinate [pixel]


def match_stars(
    spots: Spots, px: FloatArray, py: FloatArray, target: int, settings: PlateSettings
) -> Solution | None:
    """Match spots with stars and fit offset, roll and scale; None where too few agree.

    Parameters
    ----------
    spots : Spots
        What was found on the frame.
    px, py : ndarray, shape (k,)
        Expected places of the stars about the target's [pixel].
    target : int
        The spot that is the target.
    settings : PlateSettings
        Largest roll offset, and how many stars must match.
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(np.stack([spots.x, spots.y], axis=1))
    begin = float(spots.x[target]), float(spots.y[target])
    far = float(np.hypot(px, py).max()) if len(px) else 0.0
    if far == 0:
        return None
    turns = np.arange(-settings.turn, settings.turn + 1e-9, np.degrees(ROUGH / far))
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
        if len(star) < settings.fewest:
            return None
        weight = 1.0 / (spots.error[spot] ** 2 + 0.05**2)
        solution = fit_similarity(px[star], py[star], spots.x[spot], spots.y[spot], weight)
        mx, my = moved_places(px[star], py[star], solution)
        away = np.concatenate([spots.x[spot] - mx, spots.y[spot] - my])
        rms = float(np.sqrt(np.mean(away**2)))
        limit = float(np.clip(4.0 * robust_scatter(away), 0.3, CLOSE))
    if abs(solution[2]) > settings.turn or abs(solution[3] - 1) > STRETCH or rms > CLOSE / 2:
        return None
    return Solution(spot, star, *solution, rms)


@step("plate", "WCS", version="7", payload=Plate, leaves=["TERM_PLATE"])
def solve_plate(
    full_array: Calibrated,
    catalogue: Product | None,
    pointing: Pointing,
    psf: Psf,
    settings: PlateSettings,
) -> Leaves:
    """Find the stars of the full array and fit roll offset and scale by those in the catalogue."""
    nominal, lag = float(pointing.used["PIX_SCAL"]), float(psf.used.get("PSF_LAG", 0.0))
    with open_frame(full_array.products["SCI_CAL_FullArray"]) as (frame, pixels):
        mjd, duration = float(frame.mjd[0]), frame.exposure_time
    _, _, rolls = read_track(pointing).path(mjd, duration, lag)
    roll = float(np.mean(np.unwrap(rolls, period=360.0)))
    if is_lost(pixels):
        spots, warnings = Spots(*np.zeros((4, 0))), [f"{LOST}: no star is searched for in it"]
    else:
        sky, warnings = sky_surface(pixels)[0], []
        spots = find_spots(pixels - sky, settings.significance, settings.window)
    target = target_spot(spots, pointing, settings.near)
    solution, expected = None, Expected(np.zeros(0), np.zeros(0), np.zeros(0))
    if catalogue is not None and target is not None:
        expected = expected_places(bright_stars(catalogue, settings.stars), roll, nominal)
        solution = match_stars(spots, expected.x, expected.y, target, settings)
    used = _used(spots, target, solution, nominal)
    columns = _columns(spots, solution, expected)
    return Leaves(
        {"TERM_PLATE": [NewHdu(TERMS["TERM_PLATE"], used, columns=columns)]},
        used=used,
        warnings=warnings,
        status={"WCS": Status.NOT_APPLICABLE if solution is None else Status.COMPLETED},
    )


def target_spot(spots: Spots, pointing: Pointing, near: float) -> int | None:
    """Return the brightest spot within `near` of the target's intended place, None without any."""
    x, y = float(pointing.used["LOC_X"]), float(pointing.used["LOC_Y"])
    close = np.flatnonzero(np.hypot(spots.x - x, spots.y - y) < near)
    return int(close[0]) if close.size else None


class Expected(NamedTuple):
    """Where attitude and nominal scale put stars about the target [pixel], and their G."""

    x: FloatArray
    y: FloatArray
    magnitude: FloatArray


def expected_places(
    stars: tuple[FloatArray, FloatArray, FloatArray], roll: float, scale: float
) -> Expected:
    """Return the expected places of stars (see `bright_stars`) at a roll [deg] and a scale."""
    xi, eta, magnitude = stars
    x, y = field_places(xi, eta, np.array([roll]), np.zeros(1), np.zeros(1), scale)
    return Expected(x[:, 0], y[:, 0], magnitude)


def _used(
    spots: Spots, target: int | None, solution: Solution | None, nominal: float
) -> dict[str, bool | int | float]:
    """Return the keywords of the step; without a solution, with the place of the target's spot."""
    x, y = (0.0, 0.0) if target is None else (float(spots.x[target]), float(spots.y[target]))
    return {
        "PLT_FND": len(spots.x),
        "PLT_OK": solution is not None,
        "PLT_MAT": len(solution.spot) if solution else 0,
        "PLT_RMS": solution.rms if solution else 0.0,
        "PLT_ROLL": solution.roll if solution else 0.0,
        "PLT_SCAL": nominal / solution.stretch if solution else nominal,
        "PLT_X": solution.x if solution else x,
        "PLT_Y": solution.y if solution else y,
    }


def _columns(spots: Spots, solution: Solution | None, expected: Expected) -> dict[str, FloatArray]:
    """Return the rows of TERM_PLATE: every star, with magnitude and offset where it is matched."""
    columns = {"X": spots.x, "Y": spots.y, "ERROR": spots.error, "FLUX": spots.flux}
    columns |= {name: np.full(len(spots.x), np.nan) for name in ("MAG", "DX", "DY")}
    if solution is not None:
        fitted = solution.x, solution.y, solution.roll, solution.stretch
        x, y = moved_places(expected.x[solution.star], expected.y[solution.star], fitted)
        columns["MAG"][solution.spot] = expected.magnitude[solution.star]
        columns["DX"][solution.spot] = spots.x[solution.spot] - x
        columns["DY"][solution.spot] = spots.y[solution.spot] - y
    return columns


def bright_stars(catalogue: Product, most: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return standard coordinates [arcsec] and magnitudes of the brightest stars.

    The coordinates are relative to the target, which is always included.
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
