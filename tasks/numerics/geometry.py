"""Geometry: overlap of circle and pixel, mean roll angle, projection of the sky.

Positions are edge based: pixel i spans [i, i+1), the centre of pixel 0 lies at 0.5. Angles are in
degrees.
"""

from __future__ import annotations

from math import asin, ceil, floor, pi, sqrt

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from schemas.arrays import FloatArray
from tasks.numerics.inner import inner_njit

ARCSEC_PER_RADIAN = 180 * 3600 / pi

# Below this resultant length (1: all samples agree) a mean direction is rounding noise.
SHORTEST_RESULTANT = 1e-6

# Kernels in other files inline these functions. Numba's cache checks the date of those files only:
# after a change here clear it (tasks/**/__pycache__/*.nb?).


@njit(cache=True, nogil=True, inline="always")
def segment_area(chord_squared: float, radius: float) -> float:
    """Return the area between a chord and its arc, for arcs of up to a quarter of the circle.

    Parameters
    ----------
    chord_squared : float
        Squared length of the chord [pixel^2].
    radius : float
        Radius of the circle [pixel].

    Returns
    -------
    float
        ``R^2 (asin s - s sqrt(1 - s^2))`` with ``s = chord / 2R`` [pixel^2].

    Notes
    -----
    Short chords (all pixels of circles of R > 14) use the series in s: it costs one square root,
    does not cancel, and its first omitted term, 0.05 R^2 s^11, is below 4e-14 pixel^2 for chords
    inside one pixel.
    """
    curvature = 1 / radius
    s2 = 0.25 * chord_squared * curvature * curvature
    if s2 < 0.0025:
        cubed = 0.125 * chord_squared * sqrt(chord_squared) * curvature
        return cubed * (2 / 3 + s2 * (1 / 5 + s2 * (3 / 28 + s2 * (5 / 72))))
    s = min(sqrt(s2), 1.0)
    return radius * radius * (asin(s) - s * sqrt(1 - s * s))


@njit(cache=True, nogil=True, inline="always")
def half_chord(distance: float, radius: float) -> float:
    """Return half the chord on a line at `distance` from the centre [pixel]; 0 if it misses."""
    return sqrt(max((radius - distance) * (radius + distance), 0.0))


@njit(cache=True, nogil=True, inline="always")
def cut_cell_area(
    edges: tuple[float, float, float, float],
    crossings: tuple[float, float, float, float],
    radius: float,
) -> float:
    """Return the area of a rectangle inside a circle about the origin.

    The rectangle lies in the first quadrant, and the circle cuts it.

    Parameters
    ----------
    edges : tuple of float
        Left, right, bottom and top edge of the rectangle, all >= 0 [pixel].
    crossings : tuple of float
        Where the circle crosses the lines through the bottom and top (x) and through the left and
        right edge (y): `half_chord` of each [pixel].
    radius : float
        Radius of the circle; between the distances of the nearest and the farthest corner [pixel].

    Returns
    -------
    float
        Area [pixel^2]: full columns to the left of the arc, a trapezium under its chord, and the
        segment beyond it.
    """
    left, right, bottom, top = edges
    x_bottom, x_top, y_left, y_right = crossings
    xa = max(x_top, left)
    xb = min(x_bottom, right)
    ya = min(y_left, top)
    yb = max(y_right, bottom)
    columns = (xa - left) * (top - bottom)
    trapezium = (xb - xa) * (0.5 * (ya + yb) - bottom)
    return columns + trapezium + segment_area((xb - xa) ** 2 + (ya - yb) ** 2, radius)


@inner_njit(cache=True, nogil=True)
def _cell_overlap(left: float, right: float, bottom: float, top: float, radius: float) -> float:
    if right * right + top * top <= radius * radius:
        return (right - left) * (top - bottom)
    if left * left + bottom * bottom >= radius * radius:
        return 0.0
    x_bottom, x_top = half_chord(bottom, radius), half_chord(top, radius)
    y_left, y_right = half_chord(left, radius), half_chord(right, radius)
    return cut_cell_area((left, right, bottom, top), (x_bottom, x_top, y_left, y_right), radius)


@njit(cache=True, nogil=True)
def pixel_overlap(dx: float, dy: float, radius: float) -> float:
    """Return the exact area that a circle shares with one unit pixel.

    Parameters
    ----------
    dx, dy : float
        Lower left corner of the pixel minus centre of the circle [pixel].
    radius : float
        Radius of the circle, > 0 [pixel].

    Returns
    -------
    float
        Shared area, 0 to 1 [pixel^2].

    Notes
    -----
    The pixel is cut along the axes through the centre; each of the up to four rectangles lies
    in one quadrant.
    """
    area = 0.0
    for left, right in ((max(dx, 0.0), dx + 1), (max(-dx - 1, 0.0), -dx)):
        for bottom, top in ((max(dy, 0.0), dy + 1), (max(-dy - 1, 0.0), -dy)):
            if right > left and top > bottom:
                area += _cell_overlap(left, right, bottom, top, radius)
    return area


@njit(cache=True, nogil=True)
def _fill_overlap(overlap: FloatArray, x: float, y: float, radius: float) -> None:
    ny, nx = overlap.shape
    if not (-radius <= x <= nx + radius and -radius <= y <= ny + radius):
        return  # nor is there an integer for 1e30
    for j in range(max(floor(y - radius), 0), min(ceil(y + radius), ny)):
        for i in range(max(floor(x - radius), 0), min(ceil(x + radius), nx)):
            overlap[j, i] = pixel_overlap(i - x, j - y, radius)


def circle_overlap(shape: tuple[int, int], x: float, y: float, radius: float) -> FloatArray:
    """Return the area of each pixel of an image that lies inside a circle.

    Parameters
    ----------
    shape : tuple of int
        Shape of the image (ny, nx).
    x, y : float
        Centre of the circle, edge based; may lie outside of the image [pixel].
    radius : float
        Radius of the circle [pixel].

    Returns
    -------
    ndarray, shape (ny, nx)
        Area, 0 to 1 [pixel^2]; its sum is pi radius^2 where the circle lies inside the image.

    Raises
    ------
    ValueError
        If the radius is not a positive number, or the centre is not finite.
    """
    if not (radius > 0 and np.isfinite([x, y, radius]).all()):
        raise ValueError(
            f"a circle has the centre ({x}, {y}) and the radius {radius}, expected a finite "
            f"centre and a positive radius"
        )
    overlap = np.zeros(shape)
    _fill_overlap(overlap, float(x), float(y), float(radius))
    return overlap


@njit(cache=True, nogil=True)
def _sum_circles(
    images: FloatArray, x: FloatArray, y: FloatArray, radius: float, sums: FloatArray
) -> None:
    ny, nx = images.shape[1:]
    for i in range(images.shape[0]):
        sums[i] = 0.0 if np.isfinite(x[i]) and np.isfinite(y[i]) else np.nan
        if not (-radius <= x[i] <= nx + radius and -radius <= y[i] <= ny + radius):
            continue
        for row in range(max(floor(y[i] - radius), 0), min(ceil(y[i] + radius), ny)):
            for column in range(max(floor(x[i] - radius), 0), min(ceil(x[i] + radius), nx)):
                if np.isfinite(images[i, row, column]):
                    sums[i] += images[i, row, column] * pixel_overlap(
                        column - x[i], row - y[i], radius
                    )


def circle_sums(images: FloatArray, x: FloatArray, y: FloatArray, radius: float) -> FloatArray:
    """Return the sum of each image within a circle, pixels on its border by their exact share.

    Parameters
    ----------
    images : ndarray, shape (n, ny, nx)
        Any quantity; pixels that are not finite are left out, as is the part outside the image.
    x, y : ndarray, shape (n,)
        Centre of the circle in each image, edge based [pixel]; if it is not finite the sum is NaN.
    radius : float
        Radius of the circle [pixel].

    Raises
    ------
    ValueError
        If the radius is not a positive number, or the numbers of centres and images differ.
    """
    if not (radius > 0 and np.isfinite(radius)):
        raise ValueError(f"the radius of a circle is {radius}, expected a positive number")
    if x.shape != images.shape[:1] or y.shape != images.shape[:1]:
        raise ValueError(
            f"centres have shapes {x.shape} and {y.shape}, expected {len(images)} of each"
        )
    sums = np.empty(len(images))
    _sum_circles(images, x, y, float(radius), sums)
    return sums


def mean_angle(
    times: ArrayLike, angles: ArrayLike, starts: ArrayLike, stops: ArrayLike
) -> FloatArray:
    """Return the circular mean of sampled angles over time intervals.

    Parameters
    ----------
    times : array_like, shape (m,)
        Times of the samples, ascending, in the unit of `starts` and `stops`.
    angles : array_like, shape (m,)
        Sampled angles; samples that are not finite are left out [deg].
    starts, stops : array_like, shape (n,)
        Intervals: a sample at time t counts if ``start <= t < stop``. A sample of the 1 Hz attitude
        holds for the second that it begins.

    Returns
    -------
    ndarray, shape (n,)
        Mean direction in [0, 360) [deg]; NaN for an interval without samples or with samples that
        cancel.

    Raises
    ------
    ValueError
        If `times` and `angles` differ in shape, or `times` are not ascending.
    """
    time, angle = np.asarray(times, dtype=np.float64), np.asarray(angles, dtype=np.float64)
    if time.shape != angle.shape:
        raise ValueError(f"{time.shape} times for {angle.shape} angles")
    if np.any(np.diff(time) < 0):
        raise ValueError("attitude times are not in ascending order")
    good = np.isfinite(angle) & np.isfinite(time)
    direction = np.exp(1j * np.deg2rad(angle[good]))
    total = np.concatenate(([0], np.cumsum(direction)))
    first, last = (
        np.searchsorted(time[good], np.asarray(starts)),
        np.searchsorted(time[good], np.asarray(stops)),
    )
    resultant = total[last] - total[first]
    known = np.abs(resultant) > SHORTEST_RESULTANT * np.maximum(last - first, 1)
    return np.where(known, _positive(np.rad2deg(np.angle(resultant))), np.nan)


def _positive(angle: FloatArray) -> FloatArray:
    """Return `angle` in [0, 360) [deg]."""
    wrapped = np.mod(angle, 360.0)  # rounds to 360 for a tiny negative angle
    return np.where(wrapped == 360.0, 0.0, wrapped)


def sky_to_tangent(
    ra: ArrayLike, dec: ArrayLike, ra0: float, dec0: float
) -> tuple[FloatArray, FloatArray]:
    """Project the sky onto the plane that touches it at (ra0, dec0) (gnomonic, TAN).

    Parameters
    ----------
    ra, dec : array_like, shape (n,)
        Right ascension and declination [deg].
    ra0, dec0 : float
        Point of tangency [deg].

    Returns
    -------
    xi, eta : ndarray, shape (n,)
        Standard coordinates towards East and North [arcsec]; NaN from 90 deg off the point of
        tangency.
    """
    a, d = (
        np.deg2rad(np.asarray(ra, dtype=np.float64) - ra0),
        np.deg2rad(np.asarray(dec, dtype=np.float64)),
    )
    d0 = np.deg2rad(dec0)
    depth = np.sin(d) * np.sin(d0) + np.cos(d) * np.cos(d0) * np.cos(a)
    depth = np.where(depth > 0, depth, np.nan)
    xi = np.cos(d) * np.sin(a) / depth
    eta = (np.sin(d) * np.cos(d0) - np.cos(d) * np.sin(d0) * np.cos(a)) / depth
    return xi * ARCSEC_PER_RADIAN, eta * ARCSEC_PER_RADIAN


def cd_matrix(roll_angle: ArrayLike, scale: float) -> FloatArray:
    """Return the WCS matrix of the plate solution, from pixel offsets to (xi, eta).

    Parameters
    ----------
    roll_angle : array_like, shape (n,) or scalar
        Roll angle as in SC_ROLL_ANGLE [deg].
    scale : float
        Pixel scale [arcsec/pixel].

    Returns
    -------
    ndarray, shape (n, 2, 2) or (2, 2)
        ``CD = s [[-cos phi, sin phi], [sin phi, cos phi]]`` [deg/pixel]; a reflection, its own
        inverse but for s^2.
    """
    phi = np.deg2rad(np.asarray(roll_angle, dtype=np.float64))
    cos, sin = np.cos(phi), np.sin(phi)
    rows = np.stack([np.stack([-cos, sin], axis=-1), np.stack([sin, cos], axis=-1)], axis=-2)
    return np.asarray(rows * (scale / 3600))


def reference_pixel(position: ArrayLike, window_offset: ArrayLike) -> FloatArray:
    """Return CRPIX, at which the centre of the first pixel is 1, of an edge-based position.

    Parameters
    ----------
    position : array_like, shape (n,) or scalar
        Position on one axis, full-CCD coordinates without margins [pixel].
    window_offset : array_like, shape (n,) or scalar
        X_WINOFF or Y_WINOFF of the window; 0 for the full CCD [pixel].

    Returns
    -------
    ndarray, shape (n,) or scalar
        ``position - window_offset + 0.5`` [pixel].
    """
    return np.asarray(np.asarray(position, dtype=np.float64) - np.asarray(window_offset) + 0.5)
