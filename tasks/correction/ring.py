"""The background ring around the target: cells, sectors, planes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from schemas.arrays import BoolArray, FloatArray, IntArray
from schemas.settings import BackgroundSettings
from tasks.numerics.inner import inner_njit
from tasks.numerics.robust import middle_and_scatter, robust_scatter

# cells of the field: 5 degrees by 4 pixels, larger than the motion of a star in a minute
ANGLES, DEPTH = 72, 4.0

EDGE = 0.05  # of the limit, on either side; where pixels are counted for their density there
LEAST_KEPT = 0.5  # of the influence of the kept pixels; less is chance, of few pixels
FEWEST_PIXELS = 200  # needed to fit a plane

STANDS_OUT = 5.0  # sigma; excess of a cell of the averaged field with a star

SECTORS = 8

# pixels of a sector, and sectors of all images, needed to measure an excess
FEWEST_IN_SECTOR, FEWEST_SECTORS = 50, 80

LEAST_SHARE = 0.1  # of the ring; if fewer cells are free of stars, all are used


class Ring(NamedTuple):
    """The pixels of the ring, one place for all images; arrays of shape (pixels,)."""

    row: IntArray
    column: IntArray
    dx: FloatArray  # offset from the target [pixel]
    dy: FloatArray
    distance: IntArray  # cell of the field, of which there is one for each 4 pixels
    angle: FloatArray  # on the CCD, from +y towards +x [deg]
    sector: IntArray  # counter-clockwise from +x on the CCD
    outer: float  # [pixel]


class Pixels(NamedTuple):
    """The used pixels of the ring in one image, arrays of shape (n,)."""

    dx: FloatArray  # offset from the target [pixel]
    dy: FloatArray
    sector: IntArray
    value: FloatArray  # [electron]


def ring_around(place: tuple[float, float], radii: tuple[float, float], bad: BoolArray) -> Ring:
    """Return the ring between two radii around a place, pixel i spans [i, i+1) [pixel].

    Pixels of `bad`, shape (ny, nx), do not belong to it.
    """
    row, column = np.nonzero(~bad)
    dx, dy = column.astype(np.float64) + 0.5 - place[0], row.astype(np.float64) + 0.5 - place[1]
    d2, (inner, outer) = dx * dx + dy * dy, radii
    used = (d2 >= inner * inner) & (d2 < outer * outer)
    row, column, dx, dy = row[used], column[used], dx[used], dy[used]
    distance = ((np.hypot(dx, dy) - inner) / DEPTH).astype(np.int64)
    sector = (np.arctan2(dy, dx) / (2 * np.pi) % 1.0 * SECTORS).astype(np.int64) % SECTORS
    angle = np.degrees(np.arctan2(dx, dy))
    return Ring(row, column, dx, dy, distance, angle, sector, outer)


@njit(cache=True, nogil=True, error_model="numpy")
def position_cell(angle: float, roll: float) -> int:
    """Return the cell of the field in position angle that a pixel covers.

    `angle` is that on the CCD, from +y towards +x, and `roll` the roll angle [deg]; North turns
    towards +x as the roll increases.
    """
    turns = (roll - angle) / 360.0
    return int((turns - np.floor(turns)) * ANGLES) % ANGLES


@njit(cache=True, nogil=True, error_model="numpy")
def add_to_field(
    image: FloatArray, ring: Ring, roll: float, sigma: float, sums: FloatArray
) -> None:
    """Add an image to the averaged field.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Image without background and known stars [electron]; NaN pixels, and those of more than 5
        `sigma`, are ignored.
    ring : Ring
        All of its cells are used.
    roll : float
        Roll angle [deg].
    sigma : float
        Noise of a pixel [electron].
    sums : ndarray, shape (cells of distance, ANGLES, 2)
        Sums of value / sigma, and numbers of pixels, to which the image is added.
    """
    for k in range(ring.row.size):
        value = image[ring.row[k], ring.column[k]] / sigma
        if np.abs(value) < 5.0:
            cell = sums[ring.distance[k], position_cell(ring.angle[k], roll)]
            cell[0] += value
            cell[1] += 1.0


@njit(cache=True, nogil=True, error_model="numpy")
def used_pixels(image: FloatArray, ring: Ring, roll: float, windows: BoolArray) -> Pixels:
    """Return the pixels of the ring in an image that are finite and lie in its windows.

    `windows`, shape (cells of distance, ANGLES), are the cells to use at a roll angle [deg].
    """
    n, count = ring.row.size, 0
    dx, dy, value = np.empty(n), np.empty(n), np.empty(n)
    sector = np.empty(n, np.int64)
    for k in range(n):
        v = image[ring.row[k], ring.column[k]]
        if np.isfinite(v) and windows[ring.distance[k], position_cell(ring.angle[k], roll)]:
            dx[count], dy[count], value[count] = ring.dx[k], ring.dy[k], v
            sector[count] = ring.sector[k]
            count += 1
    return Pixels(dx[:count], dy[:count], sector[:count], value[:count])


@njit(cache=True, nogil=True, error_model="numpy")
def sector_means(pixels: Pixels, limit: float, plane: FloatArray, means: FloatArray) -> None:
    """Measure the residual of a fitted plane in the sectors of the ring.

    Parameters
    ----------
    pixels : Pixels
        The pixels to which the plane was fitted.
    limit : float
        Pixels further from the plane are ignored [electron].
    plane : ndarray, shape (3,)
        Level at the target [electron] and slope [electron/pixel].
    means : ndarray, shape (SECTORS, 2)
        Output: mean of each sector above the plane [electron] and its number of pixels,
        counter-clockwise from +x on the CCD.
    """
    means[:] = 0.0
    for k in range(pixels.value.size):
        rest = pixels.value[k] - plane[0] - plane[1] * pixels.dx[k] - plane[2] * pixels.dy[k]
        if np.abs(rest) <= limit:
            means[pixels.sector[k], 0] += rest
            means[pixels.sector[k], 1] += 1.0
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


@inner_njit(cache=True, nogil=True, error_model="numpy")
def normal_equations(
    pixels: Pixels, plane: FloatArray, limit: float, sloped: bool
) -> tuple[FloatArray, FloatArray, float, float, float]:
    """Return the normal equations for a change of a plane, from the pixels within `limit` of it.

    Unless it is `sloped`, only its level changes.

    These are left side, right side, sum of squares, and numbers of pixels within the limit and
    within EDGE of it on either side.
    """
    d0 = dx1 = dy1 = dxx = dxy = dyy = rx = ry = squares = n = edge = 0.0
    for k in range(pixels.value.size):
        x, y = pixels.dx[k], pixels.dy[k]
        d = pixels.value[k] - plane[0] - plane[1] * x - plane[2] * y
        if np.abs(np.abs(d) - limit) <= EDGE * limit:
            edge += 1.0
        if np.abs(d) <= limit:
            n += 1.0
            d0 += d
            squares += d * d
            if sloped:
                rx += x * d
                ry += y * d
                dx1 += x
                dy1 += y
                dxx += x * x
                dxy += x * y
                dyy += y * y
    if not sloped:  # the slope does not change
        dxx = dyy = 1.0
    normal = np.array([[n, dx1, dy1], [dx1, dxx, dxy], [dy1, dxy, dyy]])
    return normal, np.array([d0, rx, ry]), squares, n, edge


@inner_njit(cache=True, nogil=True, error_model="numpy")
def fit_plane(
    pixels: Pixels, start: tuple[float, float], outer: float, one_count: float, sloped: bool
) -> Plane:
    """Fit level and slope to pixels of the ring, clipped.

    Parameters
    ----------
    pixels : Pixels
        The pixels to use, without known stars.
    start : tuple of float
        Level from which to begin, and distance from the plane beyond which pixels are ignored
        [electron].
    outer : float
        Outer radius of the ring [pixel].
    one_count : float
        One count of the converter, the smallest scatter of pixels that is assumed [electron].
    sloped : bool
        Whether to fit a slope.

    Returns
    -------
    Plane
        The level is NaN with fewer than FEWEST_PIXELS pixels. Pixels at the limit come and go as
        the plane moves, so that its error exceeds that of a mean, by the variance of an estimator
        with a given influence of each pixel (Huber 1964, Ann. Math. Stat. 35, 73).
    """
    nothing = Plane(np.nan, np.nan, 0.0, 0.0, 0, np.nan)
    if pixels.value.size < FEWEST_PIXELS:
        return nothing
    plane = np.array([start[0], 0.0, 0.0])
    n, error, sigma = 0.0, np.nan, np.nan
    for _ in range(8):
        normal, right, squares, n, edge = normal_equations(pixels, plane, start[1], sloped)
        if n < FEWEST_PIXELS or normal[1, 1] <= 0 or normal[2, 2] <= 0:
            return nothing
        inverse = np.linalg.inv(normal)
        move = inverse @ right
        plane += move
        sigma = np.sqrt(max(squares / n - (right[0] / n) ** 2, one_count * one_count / 12.0))
        # a pixel that crosses the limit changes the sum of the others by as much
        kept = max(1.0 - edge / (2.0 * EDGE * n), LEAST_KEPT)
        error = sigma * np.sqrt(inverse[0, 0]) / kept
        turned = np.hypot(move[1], move[2]) * outer
        if np.abs(move[0]) <= 1e-3 * error and turned <= 1e-3 * sigma:
            break
    return Plane(plane[0], error, plane[1], plane[2], int(n), sigma)


@njit(cache=True, nogil=True, error_model="numpy")
def fit_planes(pixels: Pixels, outer: float, clip: float, one_count: float) -> tuple[Plane, Plane]:
    """Fit a level, and a plane, to pixels of the ring; see `fit_plane`.

    Pixels further than `clip` from it are ignored [robust sigma].
    """
    flat = plane = Plane(np.nan, np.nan, 0.0, 0.0, 0, np.nan)
    if pixels.value.size == 0:
        return flat, plane
    level, sigma = middle_and_scatter(pixels.value)
    start = level, clip * max(sigma, one_count)
    for sloped in (False, True):  # as a variable, or it is compiled once for each
        flat, plane = plane, fit_plane(pixels, start, outer, one_count, sloped)
    return flat, plane


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
