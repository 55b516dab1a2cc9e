"""The background ring around the target: cells, sectors, planes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from schemas.arrays import BoolArray, FloatArray
from schemas.settings import BackgroundSettings
from tasks.numerics.robust import MAD_TO_SIGMA, robust_scatter

# cells of the field: 5 degrees by 4 pixels, larger than the motion of a star in a minute
ANGLES, DEPTH = 72, 4.0

FEWEST_PIXELS = 200  # needed to fit a plane

STANDS_OUT = 5.0  # sigma; excess of a cell of the averaged field with a star

SECTORS = 8

# pixels of a sector, and sectors of all images, needed to measure an excess
FEWEST_IN_SECTOR, FEWEST_SECTORS = 50, 80

LEAST_SHARE = 0.1  # of the ring; if fewer cells are free of stars, all are used


@njit(cache=True, nogil=True, inline="always", error_model="numpy")
def cell_of(dx: float, dy: float, roll: float, inner: float) -> tuple[int, int]:
    """Return the cell (distance, position angle) of the field that a pixel covers.

    `dx`, `dy` are its offset from the target [pixel], `roll` the roll angle [deg]; North turns
    towards +x as the roll increases.
    """
    angle = roll - np.degrees(np.arctan2(dx, dy))
    return int((np.hypot(dx, dy) - inner) / DEPTH), int(angle % 360.0 / (360.0 / ANGLES)) % ANGLES


class Ring(NamedTuple):
    """The ring in one image."""

    inner: float  # radii [pixel]
    outer: float
    x: float  # place of the target, pixel i spans [i, i+1) [pixel]
    y: float
    roll: float  # [deg]
    bad: BoolArray  # (ny, nx) pixels to ignore
    windows: BoolArray  # (cells of distance, ANGLES) cells to use


@njit(cache=True, nogil=True, error_model="numpy")
def add_to_field(
    image: FloatArray, ring: Ring, level: float, sigma: float, sums: FloatArray
) -> None:
    """Add an image to the averaged field.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Image without known stars [electron]; NaN pixels, and those more than 5 `sigma` from
        `level`, are ignored.
    ring : Ring
        All of its cells are used.
    level, sigma : float
        Background of the image and noise of a pixel [electron].
    sums : ndarray, shape (cells of distance, ANGLES, 2)
        Sums of (value - level) / sigma, and numbers of pixels, to which the image is added.
    """
    ny, nx = image.shape
    for j in range(ny):
        for i in range(nx):
            dx, dy = i + 0.5 - ring.x, j + 0.5 - ring.y
            d2 = dx * dx + dy * dy
            value = (image[j, i] - level) / sigma
            if d2 < ring.inner * ring.inner or d2 >= ring.outer * ring.outer:
                continue
            if ring.bad[j, i] or not np.abs(value) < 5.0:
                continue
            r, a = cell_of(dx, dy, ring.roll, ring.inner)
            sums[r, a, 0] += value
            sums[r, a, 1] += 1.0


@njit(cache=True, nogil=True, error_model="numpy")
def sector_means(
    image: FloatArray, ring: Ring, limit: float, plane: FloatArray, means: FloatArray
) -> None:
    """Measure the residual of a fitted plane in the sectors of the ring.

    Parameters
    ----------
    image, ring
        As in `fit_plane`.
    limit : float
        Pixels further from the plane are ignored [electron].
    plane : ndarray, shape (3,)
        Level at the target [electron] and slope [electron/pixel].
    means : ndarray, shape (SECTORS, 2)
        Output: mean of each sector above the plane [electron] and its number of pixels,
        counter-clockwise from +x on the CCD.
    """
    means[:] = 0.0
    ny, nx = image.shape
    for j in range(ny):
        for i in range(nx):
            dx, dy = i + 0.5 - ring.x, j + 0.5 - ring.y
            d2 = dx * dx + dy * dy
            if d2 < ring.inner * ring.inner or d2 >= ring.outer * ring.outer or ring.bad[j, i]:
                continue
            rest = image[j, i] - plane[0] - plane[1] * dx - plane[2] * dy
            r, a = cell_of(dx, dy, ring.roll, ring.inner)
            if ring.windows[r, a] and np.abs(rest) <= limit:
                k = int((np.arctan2(dy, dx) / (2 * np.pi) % 1.0) * SECTORS) % SECTORS
                means[k, 0] += rest
                means[k, 1] += 1.0
    for k in range(SECTORS):
        if means[k, 1] > 0:
            means[k, 0] /= means[k, 1]


def excess(means: FloatArray, sigma: FloatArray) -> float:
    """Return the scatter of sectors over the visit in units of that of their pixels, at least 1.

    Light missing from the scene (wings of rotating stars, changes of the PSF) is common to many
    pixels: the error of a level is larger than for independent pixels. Static light is common to
    all images, and has no effect.

    Parameters
    ----------
    means : ndarray, shape (n, SECTORS, 2)
        From `sector_means`.
    sigma : ndarray, shape (n,)
        Scatter of a pixel [electron].
    """
    value, number = means[..., 0], means[..., 1]
    good = np.isfinite(sigma)[:, None] & (number >= FEWEST_IN_SECTOR)
    if good.sum() < FEWEST_SECTORS:
        return 1.0
    error = np.where(good, sigma[:, None] / np.sqrt(np.maximum(number, 1.0)), 1.0)
    usual = np.nanmedian(np.where(good, value, np.nan), axis=0, keepdims=True)
    pull = np.where(good, (value - usual) / error, 0.0)
    return max(robust_scatter(pull[good]), 1.0)


class Plane(NamedTuple):
    """A plane through the pixels of the ring; NaN and 0 if there are too few of them."""

    level: float  # at the target [electron]
    error: float
    slope_x: float  # [electron/pixel]
    slope_y: float
    pixels: int  # number of pixels used
    sigma: float  # their scatter [electron]


@njit(cache=True, nogil=True, error_model="numpy")
def ring_pixels(image: FloatArray, ring: Ring) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the offsets from the target along x and y [pixel], and the values, of used pixels."""
    ny, nx = image.shape
    px, py, value = np.empty(ny * nx), np.empty(ny * nx), np.empty(ny * nx)
    count = 0
    for j in range(ny):
        for i in range(nx):
            dx, dy = i + 0.5 - ring.x, j + 0.5 - ring.y
            d2 = dx * dx + dy * dy
            if d2 < ring.inner * ring.inner or d2 >= ring.outer * ring.outer:
                continue
            if ring.bad[j, i] or not np.isfinite(image[j, i]):
                continue
            r, a = cell_of(dx, dy, ring.roll, ring.inner)
            if ring.windows[r, a]:
                px[count], py[count], value[count] = dx, dy, image[j, i]
                count += 1
    return px[:count], py[:count], value[:count]


@njit(cache=True, nogil=True, error_model="numpy")
def normal_equations(
    pixels: tuple[FloatArray, FloatArray, FloatArray], plane: FloatArray, limit: float
) -> tuple[FloatArray, FloatArray, float, float]:
    """Return the normal equations for a change of a plane, from the pixels within `limit` of it.

    These are left side, right side, sum of squares, and number of pixels.
    """
    px, py, value = pixels
    normal, right = np.zeros((3, 3)), np.zeros(3)
    squares, n = 0.0, 0.0
    for k in range(px.size):
        d = value[k] - plane[0] - plane[1] * px[k] - plane[2] * py[k]
        if np.abs(d) <= limit:
            row = (1.0, px[k], py[k])
            for p in range(3):
                right[p] += row[p] * d
                for q in range(3):
                    normal[p, q] += row[p] * row[q]
            squares += d * d
            n += 1.0
    return normal, right, squares, n


@njit(cache=True, nogil=True, error_model="numpy")
def fit_plane(image: FloatArray, ring: Ring, clip: float, one_count: float, sloped: bool) -> Plane:
    """Fit level and slope of an image in the windows of its ring, clipped.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Image without known stars [electron]; NaN pixels are ignored.
    ring : Ring
        The pixels to use.
    clip : float
        Pixels further from the plane are ignored [robust sigma].
    one_count : float
        One count of the converter, the smallest scatter of pixels that is assumed [electron].
    sloped : bool
        Whether to fit a slope.

    Returns
    -------
    Plane
        The level is NaN with fewer than FEWEST_PIXELS pixels.
    """
    pixels = ring_pixels(image, ring)
    value = pixels[2]
    nothing = Plane(np.nan, np.nan, 0.0, 0.0, 0, np.nan)
    if value.size < FEWEST_PIXELS:
        return nothing
    plane = np.zeros(3)
    plane[0] = np.median(value)
    limit = clip * max(MAD_TO_SIGMA * np.median(np.abs(value - plane[0])), one_count)
    n, error, sigma = 0.0, np.nan, np.nan
    for _ in range(8):
        normal, right, squares, n = normal_equations(pixels, plane, limit)
        if not sloped:
            normal[0, 1] = normal[1, 0] = normal[0, 2] = normal[2, 0] = 0.0
            right[1] = right[2] = 0.0
        if n < FEWEST_PIXELS or normal[1, 1] <= 0 or normal[2, 2] <= 0:
            return nothing
        inverse = np.linalg.inv(normal)
        move = inverse @ right
        plane += move
        sigma = np.sqrt(max(squares / n - (right[0] / n) ** 2, one_count * one_count / 12.0))
        error = sigma * np.sqrt(inverse[0, 0])
        turned = np.hypot(move[1], move[2]) * ring.outer
        if np.abs(move[0]) <= 1e-3 * error and turned <= 1e-3 * sigma:
            break
    return Plane(plane[0], error, plane[1], plane[2], int(n), sigma)


def free_windows(sums: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Return the averaged field [sigma of a pixel] and a mask of its cells without stars.

    A cell with a significant excess is masked together with its neighbours. If too few cells would
    remain, none is masked: a clipped fit is better than none.
    """
    value, number = sums[..., 0], sums[..., 1]
    seen = number > 0
    mean = np.where(seen, value / np.maximum(number, 1.0), 0.0)
    if not seen.any():
        return mean, np.ones(mean.shape, dtype=bool)
    error = 1.0 / np.sqrt(np.maximum(number, 1.0))
    centre = float(np.median(mean[seen]))
    pull = np.where(seen, (mean - centre) / error, 0.0)
    spread = max(robust_scatter(pull[seen]), 1.0)
    free = ~with_neighbours(pull > STANDS_OUT * spread)
    return mean, free if free[seen].mean() >= LEAST_SHARE else np.ones(mean.shape, dtype=bool)


def with_neighbours(star: BoolArray) -> BoolArray:
    """Return the cells with a star, and their neighbours along either axis."""
    near = star.copy()
    for axis, shift in ((0, 1), (0, -1), (1, 1), (1, -1)):
        moved = np.roll(star, shift, axis)
        if axis == 0:
            moved[0 if shift == 1 else -1] = False
        near |= moved
    return near


def cells(settings: BackgroundSettings) -> tuple[int, int]:
    """Return the shape of the averaged field."""
    return int((settings.outer - settings.inner) / DEPTH) + 1, ANGLES


def slope_gain(flat: Plane, plane: Plane) -> float:
    """Return the decrease of -2 ln L by a slope."""
    if not (np.isfinite(flat.sigma) and np.isfinite(plane.sigma) and plane.sigma > 0):
        return 0.0
    return float(2 * flat.pixels * np.log(flat.sigma / plane.sigma))


def crowded(sums: FloatArray) -> bool:
    """Return whether some cells of the ring have a significant excess."""
    seen = sums[..., 1] > 0
    mean = np.where(seen, sums[..., 0] / np.maximum(sums[..., 1], 1.0), 0.0)
    pull = (mean - np.median(mean[seen])) * np.sqrt(sums[..., 1])
    return bool((pull[seen] > STANDS_OUT * max(robust_scatter(pull[seen]), 1.0)).any())
