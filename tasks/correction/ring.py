"""The ring around the target in which the background is measured: cells, sectors, planes."""

from __future__ import annotations

import numpy as np
from numba import njit

from schemas.arrays import BoolArray, FloatArray
from schemas.settings import BackgroundSettings
from tasks.numerics.robust import MAD_TO_SIGMA, robust_scatter

ANGLES, DEPTH = (
    72,
    4.0,
)  # cells of the field: 5 degrees by 4 pixels, wider than a field star moves in a minute

FEWEST_PIXELS = 200  # a plane through fewer pixels says nothing of the background at the target

STANDS_OUT = 5.0  # sigma; a cell of the averaged field that is brighter by this holds a star

SECTORS = 8

FEWEST_IN_SECTOR, FEWEST_SECTORS = (
    50,
    80,
)  # pixels of a sector, and sectors of all images, that tell of an excess

LEAST_SHARE = 0.1  # of the ring; where fewer cells are free of stars, all are used and clipped


@njit(cache=True, nogil=True, inline="always", error_model="numpy")
def cell_of(dx: float, dy: float, roll: float, inner: float) -> tuple[int, int]:
    """Return the cell (distance, position angle) of the field that a pixel sees.

    `dx`, `dy` are its distance from the target [pixel], `roll` the roll angle [deg]; North turns
    towards +x as the roll grows.
    """
    angle = roll - np.degrees(np.arctan2(dx, dy))
    return int((np.hypot(dx, dy) - inner) / DEPTH), int(angle % 360.0 / (360.0 / ANGLES)) % ANGLES


@njit(cache=True, nogil=True, error_model="numpy")
def add_to_field(
    image: FloatArray,
    bad: BoolArray,
    x: float,
    y: float,
    roll: float,
    inner: float,
    outer: float,
    level: float,
    sigma: float,
    sums: FloatArray,
) -> None:
    """Add an image to the averaged field.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Image without known stars [electron].
    bad : ndarray of bool, shape (ny, nx)
        Pixels to leave out; so are those that are no numbers or further than 5 `sigma` from
        `level`.
    x, y : float
        Place of the target, pixel i spans [i, i+1) [pixel].
    roll : float
        [deg].
    inner, outer : float
        Radii of the ring [pixel].
    level, sigma : float
        Background of the image and noise of a pixel [electron].
    sums : ndarray, shape (cells of distance, ANGLES, 2)
        Receives sum of the values above the level over sigma, and number.
    """
    ny, nx = image.shape
    for j in range(ny):
        for i in range(nx):
            dx, dy = i + 0.5 - x, j + 0.5 - y
            d2 = dx * dx + dy * dy
            value = (image[j, i] - level) / sigma
            if d2 < inner * inner or d2 >= outer * outer or bad[j, i] or not np.abs(value) < 5.0:
                continue
            r, a = cell_of(dx, dy, roll, inner)
            sums[r, a, 0] += value
            sums[r, a, 1] += 1.0


@njit(cache=True, nogil=True, error_model="numpy")
def sector_means(
    image: FloatArray,
    bad: BoolArray,
    windows: BoolArray,
    x: float,
    y: float,
    roll: float,
    inner: float,
    outer: float,
    limit: float,
    plane: FloatArray,
    means: FloatArray,
) -> None:
    """Measure what a fitted plane leaves in the sectors of the ring.

    Parameters
    ----------
    image, bad, windows, x, y, roll, inner, outer
        As in `fit_plane`.
    limit : float
        Pixels further from the plane are left out [electron].
    plane : ndarray, shape (3,)
        Level at the target [electron] and slope [electron/pixel].
    means : ndarray, shape (SECTORS, 2)
        Receives the mean of each sector above the plane [electron] and its pixels, from 0
        counter-clockwise on the CCD.
    """
    means[:] = 0.0
    ny, nx = image.shape
    for j in range(ny):
        for i in range(nx):
            dx, dy = i + 0.5 - x, j + 0.5 - y
            d2 = dx * dx + dy * dy
            if d2 < inner * inner or d2 >= outer * outer or bad[j, i]:
                continue
            rest = image[j, i] - plane[0] - plane[1] * dx - plane[2] * dy
            r, a = cell_of(dx, dy, roll, inner)
            if windows[r, a] and np.abs(rest) <= limit:
                k = int((np.arctan2(dy, dx) / (2 * np.pi) % 1.0) * SECTORS) % SECTORS
                means[k, 0] += rest
                means[k, 1] += 1.0
    for k in range(SECTORS):
        if means[k, 1] > 0:
            means[k, 0] /= means[k, 1]


def excess(means: FloatArray, sigma: FloatArray) -> float:
    """Return by how much sectors of the ring scatter over the visit more than their pixels explain,
    at least 1.

    Light that the scene lacks (wings of stars that turn, a PSF that breathes) is common to many
    pixels: the error of a level is larger than that of independent pixels. What stands still in a
    sector is common to all images, and does not count.

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


@njit(cache=True, nogil=True, error_model="numpy")
def fit_plane(
    image: FloatArray,
    bad: BoolArray,
    windows: BoolArray,
    x: float,
    y: float,
    roll: float,
    inner: float,
    outer: float,
    clip: float,
    one_count: float,
    sloped: bool,
) -> tuple[float, float, float, float, int, float]:
    """Fit level and slope of an image in the windows of its ring, clipped.

    Parameters
    ----------
    image, bad, x, y, roll, inner, outer
        As in `add_to_field`.
    windows : ndarray of bool, shape (cells of distance, ANGLES)
        Cells that are used.
    clip : float
        Pixels further from the plane are left out [robust sigma].
    one_count : float
        One count of the converter [electron]: pixels are not taken to scatter by less.
    sloped : bool
        Whether a slope is fitted.

    Returns
    -------
    level, error, slope_x, slope_y, pixels, sigma
        Level at the target and its error [electron], slope [electron/pixel], pixels that entered,
        their scatter [electron]; NaN and 0 where fewer than FEWEST_PIXELS are left.
    """
    ny, nx = image.shape
    px, py, value = np.empty(ny * nx), np.empty(ny * nx), np.empty(ny * nx)
    count = 0
    for j in range(ny):
        for i in range(nx):
            dx, dy = i + 0.5 - x, j + 0.5 - y
            d2 = dx * dx + dy * dy
            if (
                d2 < inner * inner
                or d2 >= outer * outer
                or bad[j, i]
                or not np.isfinite(image[j, i])
            ):
                continue
            r, a = cell_of(dx, dy, roll, inner)
            if windows[r, a]:
                px[count], py[count], value[count] = dx, dy, image[j, i]
                count += 1
    if count < FEWEST_PIXELS:
        return np.nan, np.nan, 0.0, 0.0, 0, np.nan
    px, py, value = px[:count], py[:count], value[:count]
    level = np.median(value)
    gx, gy = 0.0, 0.0
    limit = clip * max(MAD_TO_SIGMA * np.median(np.abs(value - level)), one_count)
    n, error, sigma = 0.0, np.nan, np.nan
    for _ in range(8):
        normal, right = np.zeros((3, 3)), np.zeros(3)
        squares, n = 0.0, 0.0
        for k in range(count):
            d = value[k] - level - gx * px[k] - gy * py[k]
            if np.abs(d) <= limit:
                row = (1.0, px[k], py[k])
                for p in range(3):
                    right[p] += row[p] * d
                    for q in range(3):
                        normal[p, q] += row[p] * row[q]
                squares += d * d
                n += 1.0
        if not sloped:
            normal[0, 1] = normal[1, 0] = normal[0, 2] = normal[2, 0] = 0.0
            right[1] = right[2] = 0.0
        if n < FEWEST_PIXELS or normal[1, 1] <= 0 or normal[2, 2] <= 0:
            return np.nan, np.nan, 0.0, 0.0, 0, np.nan
        inverse = np.linalg.inv(normal)
        move = inverse @ right
        level, gx, gy = level + move[0], gx + move[1], gy + move[2]
        sigma = np.sqrt(max(squares / n - (right[0] / n) ** 2, one_count * one_count / 12.0))
        error = sigma * np.sqrt(inverse[0, 0])
        if np.abs(move[0]) <= 1e-3 * error and np.hypot(move[1], move[2]) * outer <= 1e-3 * sigma:
            break
    return level, error, gx, gy, int(n), sigma


def free_windows(sums: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Return the averaged field [sigma of a pixel] and which of its cells are free of stars, from
    `add_to_field`'s sums.

    A cell whose mean stands out of the others at its error, and its neighbours, are not free. Where
    too few would be left, all cells are: a clipped fit is better than none.
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
    star = pull > STANDS_OUT * spread
    near = star.copy()
    for axis, shift in ((0, 1), (0, -1), (1, 1), (1, -1)):
        moved = np.roll(star, shift, axis)
        if axis == 0:
            moved[0 if shift == 1 else -1] = False
        near |= moved
    free = ~near
    return mean, free if free[seen].mean() >= LEAST_SHARE else np.ones(mean.shape, dtype=bool)


def cells(settings: BackgroundSettings) -> tuple[int, int]:
    """Return the shape of the averaged field."""
    return int((settings.outer - settings.inner) / DEPTH) + 1, ANGLES


def window_gain(flat: tuple[float, ...], plane: tuple[float, ...]) -> float:
    """Return by how much -2 ln L falls with a slope."""
    if not (np.isfinite(flat[5]) and np.isfinite(plane[5]) and plane[5] > 0):
        return 0.0
    return float(2 * flat[4] * np.log(flat[5] / plane[5]))


def crowded(sums: FloatArray) -> bool:
    """Whether some cells of the ring stand out of the others."""
    seen = sums[..., 1] > 0
    mean = np.where(seen, sums[..., 0] / np.maximum(sums[..., 1], 1.0), 0.0)
    pull = (mean - np.median(mean[seen])) * np.sqrt(sums[..., 1])
    return bool((pull[seen] > STANDS_OUT * max(robust_scatter(pull[seen]), 1.0)).any())
