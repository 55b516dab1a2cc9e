"""Aperture photometry: sums within circles that follow the star, for all radii in one pass.

Pixels on the border of a circle count by the exact area inside. Circles are summed by quadrants: in
a quadrant, the pixels of a row wholly inside a circle come first, so that one cumulative sum along
the row serves all radii, and only the few pixels cut by a circle need geometry.
"""

from __future__ import annotations

from math import ceil, floor, pi
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from schemas.arrays import BoolArray, Float32Array, FloatArray
from schemas.light_curves import DEFAULT_RADIUS, Radii, added_radii, circle_name
from schemas.payloads import Apertures, Corrected, Dark, Defects, Position, Smearing
from schemas.settings import ApertureSettings
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.writer import NewHdu
from tasks.numerics.geometry import circle_overlap, cut_cell_area, half_chord
from tasks.numerics.inner import inner_njit
from tasks.visit.images import open_images
from tasks.visit.terms import (
    read_dark,
    read_position,
    read_smearing,
    read_steady_excess,
)

Images = FloatArray | Float32Array

MOST_MISSING = 1e-3  # of an aperture, before a warning


def aperture_sums(
    images: Images,
    x: ArrayLike,
    y: ArrayLike,
    radii: ArrayLike,
    mask: BoolArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Sum images within circles of all radii about a centre that moves from image to image.

    Parameters
    ----------
    images : ndarray of native float64 or float32, shape (n, ny, nx)
        Signal; pixels that are not finite are ignored [electron].
    x, y : array_like, shape (n,)
        Centres, edge based: pixel i spans [i, i+1) of the image's own axes [pixel].
    radii : array_like, shape (k,)
        Radii, ascending and positive [pixel].
    mask : ndarray of bool, shape (ny, nx) or (n, ny, nx), optional
        True for pixels to ignore: outside of the circular window, or bad.

    Returns
    -------
    sums : ndarray, shape (n, k)
        Signal inside the circles, with border pixels by exact overlap, summed in float64
        [electron]. Ignored pixels count as zero. NaN without any pixel or a finite centre.
    areas : ndarray, shape (n, k)
        Summed area: pi R^2 without masked pixels, pixels that are not finite, and the area
        outside of the image [pixel^2].

    Raises
    ------
    ValueError
        If shapes disagree, radii are not ascending and positive, or the images are not native
        floats.
    """
    centre_x, centre_y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    r = np.asarray(radii, dtype=np.float64)
    _check_images(images, centre_x, centre_y)
    if (
        r.ndim != 1
        or not r.size
        or not np.isfinite(r).all()
        or np.any(np.diff(r, prepend=0.0) <= 0)
    ):
        raise ValueError(f"radii must be positive and ascending, not {r.tolist()}")
    if mask is None:
        masks = np.zeros((1, 0, 0), dtype=np.bool_)
    elif mask.shape in (images.shape[1:], images.shape):
        masks = np.asarray(mask.reshape(-1, *images.shape[1:]), dtype=np.bool_)
    else:
        raise ValueError(f"the mask is {mask.shape}, the images are {images.shape}")
    sums, areas = np.empty((len(images), len(r))), np.empty((len(images), len(r)))
    _sum_images(images, centre_x, centre_y, r, masks, sums, areas)
    return sums, areas


def _check_images(images: Images, x: FloatArray, y: FloatArray) -> None:
    if (
        images.ndim != 3
        or images.dtype not in (np.float64, np.float32)
        or not images.dtype.isnative
    ):
        raise ValueError(
            f"images are (n, ny, nx) of native float64 or float32, not {images.shape} of "
            f"{images.dtype.str}"
        )
    if x.shape != images.shape[:1] or y.shape != images.shape[:1]:
        raise ValueError(f"{len(images)} images need as many centres, not {x.shape} and {y.shape}")


def masked_fraction(areas: ArrayLike, radii: ArrayLike) -> FloatArray:
    """Return the fraction of each aperture that is missing from its sum.

    Parameters
    ----------
    areas : array_like, shape (n, k)
        Summed area [pixel^2].
    radii : array_like, shape (k,)
        Radii [pixel].

    Returns
    -------
    ndarray, shape (n, k)
        ``1 - area / (pi R^2)``, 0 to 1.
    """
    return np.asarray(1 - np.asarray(areas) / (pi * np.square(np.asarray(radii, dtype=np.float64))))


@njit(cache=True, nogil=True)
def _sum_images(
    images: Images,
    x: FloatArray,
    y: FloatArray,
    radii: FloatArray,
    masks: BoolArray,
    sums: FloatArray,
    areas: FloatArray,
) -> None:
    n, ny, nx = images.shape
    reach = ceil(radii[-1]) + 1
    side = 2 * reach
    stamp, hole = np.zeros((side, side)), np.zeros((side, side))
    lines = np.empty((4, reach + 2))
    crossings = np.empty((4, len(radii), reach + 2))
    for image in range(n):
        areas[image] = 0.0
        sums[image] = np.nan
        inside = (
            -reach < x[image] < nx + reach and -reach < y[image] < ny + reach
        )  # False for NaN too
        if not inside:
            continue
        i0, j0 = floor(x[image]) + 1 - reach, floor(y[image]) + 1 - reach
        holes = _cut_stamp(
            images[image], masks[image % len(masks)], masks.size > 0, i0, j0, stamp, hole
        )
        _cross(x[image] - floor(x[image]), y[image] - floor(y[image]), radii, lines, crossings)
        _sum_stamp(stamp, radii, lines, crossings, sums[image])
        for k in range(len(radii)):
            areas[image, k] = pi * radii[k] * radii[k]
        if holes:
            missing = np.empty(len(radii))
            _sum_stamp(hole, radii, lines, crossings, missing)
            for k in range(len(radii)):
                # Rounding leaves some 1e-13 of an aperture that is wholly missing.
                areas[image, k] = max(areas[image, k] - missing[k], 0.0)
                if areas[image, k] < 1e-9:
                    areas[image, k] = 0.0
                    sums[image, k] = np.nan


@inner_njit(cache=True, nogil=True)
def _cut_stamp(
    image: Images,
    mask: BoolArray,
    masked: bool,
    i0: int,
    j0: int,
    stamp: FloatArray,
    hole: FloatArray,
) -> int:
    """Copy the surroundings of the star to `stamp`, and count the missing pixels.

    These are 0 in `stamp` and 1 in `hole`.
    """
    ny, nx = image.shape
    side = len(stamp)
    holes = 0
    if not masked and 0 <= j0 <= ny - side and 0 <= i0 <= nx - side:
        for j in range(side):
            source, copy = image[j0 + j, i0 : i0 + side], stamp[j]
            for i in range(side):
                copy[i] = source[i]
                holes += (
                    source[i] - source[i] != 0.0
                )  # NaN and inf; np.isfinite keeps the loop from vectorising
        if not holes:
            return 0
    holes = 0
    for j in range(side):
        for i in range(side):
            jj, ii = j0 + j, i0 + i
            value = np.nan
            if 0 <= jj < ny and 0 <= ii < nx and not (masked and mask[jj, ii]):
                value = np.float64(image[jj, ii])
            good = np.isfinite(value)
            stamp[j, i] = value if good else 0.0
            hole[j, i] = 0.0 if good else 1.0
            holes += not good
    return holes


@inner_njit(cache=True, nogil=True)
def _cross(
    fx: float, fy: float, radii: FloatArray, lines: FloatArray, crossings: FloatArray
) -> None:
    """Tabulate the pixel grid as seen from the centre, and its crossings with the circles.

    `lines` (4, m): distances of the grid lines to the right, to the left, up and down, starting
    with the axis itself. `crossings` (4, k, m): half chords of circle k on these lines.
    """
    for side, first in enumerate((1 - fx, fx, 1 - fy, fy)):
        lines[side, 0] = 0.0
        for m in range(1, lines.shape[1]):
            lines[side, m] = first + (m - 1)
        for k in range(len(radii)):
            for m in range(lines.shape[1]):
                crossings[side, k, m] = half_chord(lines[side, m], radii[k])


@inner_njit(cache=True, nogil=True, fastmath={"contract", "nsz", "arcp"})
def _sum_stamp(
    stamp: FloatArray, radii: FloatArray, lines: FloatArray, crossings: FloatArray, sums: FloatArray
) -> None:
    """Sum a stamp within circles about its middle pixel, by quadrants.

    `lines` and `crossings` are those of `_cross`.
    """
    reach = len(stamp) // 2
    sums[:] = 0.0
    running = np.empty(reach + 2)
    for x_side in range(2):
        u, across = lines[x_side], crossings[x_side]
        for y_side in range(2):
            w, along = lines[2 + y_side], crossings[2 + y_side]
            first_k = 0
            for j in range(reach + 1):
                while first_k < len(radii) and radii[first_k] <= w[j]:
                    first_k += 1
                if first_k == len(radii):
                    break
                height = w[j + 1] - w[j]
                row = stamp[reach - 1 + j if y_side == 0 else reach - 1 - j]
                done = 0
                running[0] = 0.0
                for k in range(first_k, len(radii)):
                    # pixels up to `full` are wholly inside the circle, those from `full` to `end`
                    # are cut by it
                    full = floor(along[k, j + 1] - u[1]) + 1 if along[k, j + 1] >= u[1] else 0
                    end = ceil(along[k, j] - u[1]) + 1 if along[k, j] > u[1] else 1
                    while done < full:
                        value = row[reach - 1 + done if x_side == 0 else reach - 1 - done]
                        running[done + 1] = running[done] + value * (u[done + 1] - u[done])
                        done += 1
                    total = running[full] * height
                    for i in range(full, end):
                        value = row[reach - 1 + i if x_side == 0 else reach - 1 - i]
                        total += value * cut_cell_area(
                            (u[i], u[i + 1], w[j], w[j + 1]),
                            (along[k, j], along[k, j + 1], across[k, i], across[k, i + 1]),
                            radii[k],
                        )
                    sums[k] += total


def flux_error(
    flux: ArrayLike,
    background: ArrayLike,
    dark: ArrayLike,
    radii: ArrayLike,
    n_exposures: int,
    ron: float,
) -> FloatArray:
    """Return the operational pipeline's flux error, ``sqrt(F + B + D + pi R^2 n RON^2)``.

    Parameters
    ----------
    flux, background, dark : array_like, broadcast to (n, k)
        Electrons in the aperture: star, sky and dark current [electron].
    radii : array_like, broadcast to (n, k)
        Radii [pixel].
    n_exposures : int
        Exposures stacked in an image.
    ron : float
        Read-out noise of one exposure [electron].

    Returns
    -------
    ndarray, shape (n, k)
        Error [electron]; NaN where the variance is negative.

    Notes
    -----
    Reproduces FLUXERR of DRP 14.1.3 exactly. It omits the errors of background, smearing, flat
    field and contamination; see `flux_variances`.
    """
    area = pi * np.square(np.asarray(radii, dtype=np.float64))
    variance = (
        np.asarray(flux) + np.asarray(background) + np.asarray(dark) + area * n_exposures * ron**2
    )
    return np.sqrt(np.where(variance >= 0, variance, np.nan))


class Collected(NamedTuple):
    """Charge collected in an aperture, by source, broadcast to (n, k) [electron].

    Negative values are noise, and contribute no variance.
    """

    star: ArrayLike
    sky: ArrayLike
    dark: ArrayLike
    hot: ArrayLike  # steady excess
    smeared: ArrayLike


def flux_variances(
    collected: Collected,
    areas: ArrayLike,
    n_exposures: int,
    ron: ArrayLike,
    background_error: ArrayLike,
) -> dict[str, FloatArray]:
    """Return the variance of aperture fluxes by source.

    Parameters
    ----------
    collected : Collected
        Charge in the aperture.
    areas : array_like, broadcast to (n, k)
        Summed area, N [pixel^2].
    n_exposures : int
        Exposures stacked in an image, m.
    ron : array_like, broadcast to (n, k)
        Read-out noise of one exposure [electron].
    background_error : array_like, broadcast to (n, k)
        Error of the background level of an image, common to all its pixels [electron/pixel].

    Returns
    -------
    dict of ndarray, shape (n, k)
        The variance of collected charge is its number of electrons; READ_OUT is ``N m RON^2``,
        BACKGROUND ``(N sigma_B)^2`` [electron^2].
    """
    area = np.asarray(areas, dtype=np.float64)
    variances = {
        name: np.maximum(np.asarray(value, dtype=np.float64), 0.0) + 0.0 * area
        for name, value in zip(("STAR", "SKY", "DARK", "HOT", "SMEARED"), collected, strict=True)
    }
    variances["READ_OUT"] = area * n_exposures * np.square(np.asarray(ron))
    variances["BACKGROUND"] = np.square(area * np.asarray(background_error))
    return variances


def flat_variance(
    star: FloatArray,
    error: FloatArray,
    x: float,
    y: float,
    motion: tuple[float, float],
    radii: ArrayLike,
) -> FloatArray:
    """Return the variance caused by errors of the flat field under a moving star.

    Parameters
    ----------
    star : ndarray, shape (ny, nx)
        Median image of the star [electron].
    error : ndarray, shape (ny, nx)
        Error of the flat field.
    x, y : float
        Median place of the star, pixel i spans [i, i+1) [pixel].
    motion : tuple of float
        Scatter of the places along x and y [pixel].
    radii : array_like, shape (k,)
        Radii [pixel].

    Returns
    -------
    ndarray, shape (k,)
        ``sum over pixels of error^2 ((dS/dx sigma_x)^2 + (dS/dy sigma_y)^2)`` [electron^2]. Static
        errors under a static star have no effect on the light curve.
    """
    if star.shape != error.shape:
        raise ValueError(
            f"the star is {star.shape} pixels, the error of the flat field {error.shape}"
        )
    along_y, along_x = np.gradient(star)
    moved = np.square(error) * (np.square(along_x * motion[0]) + np.square(along_y * motion[1]))
    sums, _ = aperture_sums(moved[None], np.array([x]), np.array([y]), radii)
    return np.asarray(np.nan_to_num(sums[0]))


def edge_variance(
    error: FloatArray, x: float, y: float, motion: tuple[float, float], radii: ArrayLike
) -> FloatArray:
    """Return the variance caused by static errors at the edge of a moving circle.

    Parameters
    ----------
    error : ndarray, shape (ny, nx)
        Independent error of every pixel [electron].
    x, y : float
        Median centre of the circle, pixel i spans [i, i+1) [pixel].
    motion : tuple of float
        Scatter of the places along x and y [pixel].
    radii : array_like, shape (k,)
        Radii [pixel].

    Returns
    -------
    ndarray, shape (k,)
        ``sum over pixels of error^2 (d_x^2 + d_y^2)``, where d is half the change of a pixel's area
        in the circle between displacements by -1 and +1 sigma [electron^2].
    """
    variances = []
    for radius in np.asarray(radii, np.float64):
        moved = np.zeros_like(error)
        for dx, dy in ((motion[0], 0.0), (0.0, motion[1])):
            shares = (
                circle_overlap(error.shape, x + s * dx, y + s * dy, float(radius)) for s in (1, -1)
            )
            moved += np.square((next(shares) - next(shares)) / 2)
        variances.append(float(np.sum(np.square(error) * moved)))
    return np.array(variances)


@step("apertures", "APERTURE", version="7", payload=Apertures, leaves=["TERM_APERTURES"])
def measure_apertures(
    corrected: Corrected,
    position: Position,
    smearing: Smearing,
    defects: Defects,
    dark: Dark,
    settings: ApertureSettings,
) -> Leaves:
    """Measure the target within circles of all radii that follow it, and in a fixed one."""
    radii = settings.all_radii
    x, y, *_ = read_position(position)
    charge, _, factor = read_dark(dark)
    rows, static = read_smearing(smearing), read_steady_excess(defects)
    usual = [
        float(np.median(v[np.isfinite(v)])) if np.isfinite(v).any() else np.nan for v in (x, y)
    ]
    with open_images(corrected.products["SCI_COR_SubArray"]) as images:
        sums, areas, thermal, smeared, hot = (
            np.empty((images.count, len(radii))) for _ in range(5)
        )
        fixed = np.empty((images.count, 2))
        stays = usual[0] - images.x_offset, usual[1] - images.y_offset
        for block, pixels in images.blocks():
            place = x[block] - images.x_offset, y[block] - images.y_offset
            sums[block], areas[block] = aperture_sums(pixels, *place, radii)
            fixed[block] = fixed_sums(pixels, *stays)
            thermal[block] = sums_of(images.nexp * charge, pixels.shape, place, radii)
            hot[block] = sums_of(static, pixels.shape, place, radii)
            smeared[block] = sums_of(rows[block][:, None, :], pixels.shape, place, radii)
        mjd = images.mjd
    forget_cut(sums, areas, radii)
    columns = {
        "MJD_TIME": mjd,
        "FLUX": sums,
        "AREA": areas,
        "DARK": thermal * factor[:, None],
        "SMEARING": smeared,
        "HOT": hot,
        "FIXED": fixed[:, 0],
        "FIXED_AREA": fixed[:, 1],
        "X": x,
        "Y": y,
    }
    table = NewHdu(TERMS["TERM_APERTURES"], columns=columns)
    axis = NewHdu(TERMS["TERM_APERTURES_RADII"], columns={"RADIUS": np.array(radii)})
    return Leaves({"TERM_APERTURES": [table, axis]}, warnings=cut_warnings(areas, radii))


def is_cut(areas: FloatArray, radii: Radii, radius: float = DEFAULT_RADIUS) -> BoolArray:
    """Return where summed areas, shape (n, radii), miss part of an aperture [pixel^2]."""
    return np.asarray(masked_fraction(areas, radii)[:, radii.index(radius)] > MOST_MISSING)


def forget_cut(sums: FloatArray, areas: FloatArray, radii: Radii) -> None:
    """Replace the sums within apertures that settings add, shape (n, radii), by NaN where cut.

    The flags of a point are those of the default aperture, and say nothing about others.
    """
    for radius in added_radii(radii):
        sums[is_cut(areas, radii, radius), radii.index(radius)] = np.nan


def cut_warnings(areas: FloatArray, radii: Radii) -> list[str]:
    """Return warnings about apertures that are cut in images with some of their pixels.

    They are about the default aperture, and about those that the settings add.
    """
    lit = (areas > 0).any(axis=1)
    edge = "the star lies near the edge of the window, or pixels are lost"
    ends = {DEFAULT_RADIUS: "flagged"}
    ends.update(dict.fromkeys(added_radii(radii), "no flux"))
    cuts = {radius: int((is_cut(areas, radii, radius) & lit).sum()) for radius in ends}
    return [
        f"the aperture {circle_name(radius)} of {cuts[radius]} images misses more than "
        f"{MOST_MISSING:.1%} of its area: {edge}; {end}"
        for radius, end in ends.items()
        if cuts[radius]
    ]


def sums_of(
    pixels: FloatArray,
    shape: tuple[int, ...],
    place: tuple[FloatArray, FloatArray],
    radii: Radii,
) -> FloatArray:
    """Return the sums within all circles of pixels broadcast to the shape of a block of images."""
    sums, _ = aperture_sums(np.ascontiguousarray(np.broadcast_to(pixels, shape)), *place, radii)
    return sums


def fixed_sums(images: Images, x: float, y: float) -> FloatArray:
    """Return sum and area within a fixed circle, shape (n, 2)."""
    count = len(images)
    flux, area = aperture_sums(images, np.full(count, x), np.full(count, y), [DEFAULT_RADIUS])
    return np.concatenate([flux, area], axis=1)
