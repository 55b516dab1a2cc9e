"""Geometry: overlap of circle and pixel, roll angle, sky <-> pixel.

Positions are edge based: pixel i spans [i, i+1), the centre of pixel 0 lies at 0.5. Angles are in
degrees.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import asin, ceil, floor, pi, sqrt

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

ARCSEC_PER_RADIAN = 180 * 3600 / pi

# Below this resultant length (1: all samples agree) a mean direction is rounding noise.
SHORTEST_RESULTANT = 1e-6

# ---- circle and pixel
# Kernels of other files take these functions in. Numba's cache looks at the date of those files
# only: after a change here clear it (tasks/**/__pycache__/*.nb?).


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
    ----- Short chords (all pixels of circles of R > 14) take the series in s: it costs one square
    root, does not cancel, and its first omitted term, 0.05 R^2 s^11, is below 4e-14 pixel^2 for
    chords inside one pixel.
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
    """Return half the chord cut by a line at `distance` from the centre; 0 where the line misses
    the circle [pixel].
    """
    return sqrt(max((radius - distance) * (radius + distance), 0.0))


@njit(cache=True, nogil=True, inline="always")
def cut_cell_area(
    left: float,
    right: float,
    bottom: float,
    top: float,
    x_bottom: float,
    x_top: float,
    y_left: float,
    y_right: float,
    radius: float,
) -> float:
    """Return the area inside a circle about the origin of a first-quadrant rectangle that the
    circle cuts.

    Parameters
    ----------
    left, right, bottom, top : float
        Edges of the rectangle, all >= 0 [pixel].
    x_bottom, x_top, y_left, y_right : float
        `half_chord` of the lines through these edges: where the circle crosses them [pixel].
    radius : float
        Radius of the circle; between the distances of the nearest and the farthest corner [pixel].

    Returns
    -------
    float
        Area [pixel^2]: full columns to the left of the arc, a trapezium under its chord, and the
        segment beyond it.
    """
    xa = max(x_top, left)
    xb = min(x_bottom, right)
    ya = min(y_left, top)
    yb = max(y_right, bottom)
    columns = (xa - left) * (top - bottom)
    trapezium = (xb - xa) * (0.5 * (ya + yb) - bottom)
    return columns + trapezium + segment_area((xb - xa) ** 2 + (ya - yb) ** 2, radius)


@njit(cache=True, nogil=True)
def _cell_overlap(left: float, right: float, bottom: float, top: float, radius: float) -> float:
    if right * right + top * top <= radius * radius:
        return (right - left) * (top - bottom)
    if left * left + bottom * bottom >= radius * radius:
        return 0.0
    return cut_cell_area(
        left,
        right,
        bottom,
        top,
        half_chord(bottom, radius),
        half_chord(top, radius),
        half_chord(left, radius),
        half_chord(right, radius),
        radius,
    )


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
    ----- The pixel is cut along the axes through the centre; each of the up to four rectangles lies
    in one quadrant.
    """
    area = 0.0
    for left, right in ((max(dx, 0.0), dx + 1), (max(-dx - 1, 0.0), -dx)):
        for bottom, top in ((max(dy, 0.0), dy + 1), (max(-dy - 1, 0.0), -dy)):
            if right > left and top > bottom:
                area += _cell_overlap(left, right, bottom, top, radius)
    return area


@njit(cache=True, nogil=True)
def _fill_overlap(overlap: Floats, x: float, y: float, radius: float) -> None:
    ny, nx = overlap.shape
    for j in range(max(floor(y - radius), 0), min(ceil(y + radius), ny)):
        for i in range(max(floor(x - radius), 0), min(ceil(x + radius), nx)):
            overlap[j, i] = pixel_overlap(i - x, j - y, radius)


def circle_overlap(shape: tuple[int, int], x: float, y: float, radius: float) -> Floats:
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
            f"a circle needs a finite centre and a positive radius, not ({x}, {y}) and {radius}"
        )
    overlap = np.zeros(shape)
    _fill_overlap(overlap, float(x), float(y), float(radius))
    return overlap


@njit(cache=True, nogil=True)
def _sum_circles(images: Floats, x: Floats, y: Floats, radius: float, sums: Floats) -> None:
    ny, nx = images.shape[1:]
    for i in range(images.shape[0]):
        sums[i] = 0.0 if np.isfinite(x[i]) and np.isfinite(y[i]) else np.nan
        if np.isnan(sums[i]):
            continue
        for row in range(max(floor(y[i] - radius), 0), min(ceil(y[i] + radius), ny)):
            for column in range(max(floor(x[i] - radius), 0), min(ceil(x[i] + radius), nx)):
                if np.isfinite(images[i, row, column]):
                    sums[i] += images[i, row, column] * pixel_overlap(
                        column - x[i], row - y[i], radius
                    )


def circle_sums(images: Floats, x: Floats, y: Floats, radius: float) -> Floats:
    """Return the sum of each image within a circle, pixels on its border by their exact share.

    Parameters
    ----------
    images : ndarray, shape (n, ny, nx)
        Any quantity; what is no number or lies outside of the image is left out.
    x, y : ndarray, shape (n,)
        Centre of the circle in each image, edge based; without a finite one the sum is NaN [pixel].
    radius : float
        Radius of the circle [pixel].

    Raises
    ------
    ValueError
        If the radius is not a positive number, or there are not as many centres as images.
    """
    if not (radius > 0 and np.isfinite(radius)):
        raise ValueError(f"a circle needs a positive radius, not {radius}")
    if x.shape != images.shape[:1] or y.shape != images.shape[:1]:
        raise ValueError(f"{len(images)} images need as many centres, not {x.shape} and {y.shape}")
    sums = np.empty(len(images))
    _sum_circles(images, x, y, float(radius), sums)
    return sums


def circular_window(shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which pixels of a window of SHAPE circular are downlinked.

    Parameters
    ----------
    shape : tuple of int
        Shape of the window (ny, nx).

    Returns
    -------
    ndarray of bool, shape (ny, nx)
        True for the pixels whose index is no farther than half a side from the index of half a
        side: 78.5 % of the 200 x 200 sub-array, and not symmetric about the middle of the window.
    """
    ny, nx = shape
    j, i = np.ogrid[:ny, :nx]
    half = min(ny, nx) // 2
    inside: NDArray[np.bool_] = (i - nx // 2) ** 2 + (j - ny // 2) ** 2 <= half**2
    return inside


# ---- roll angle


def mean_angle(times: ArrayLike, angles: ArrayLike, starts: ArrayLike, stops: ArrayLike) -> Floats:
    """Return the circular mean of sampled angles over time intervals.

    Parameters
    ----------
    times : array_like, shape (m,)
        Times of the samples, ascending, in the unit of `starts` and `stops`.
    angles : array_like, shape (m,)
        Sampled angles; not-a-number samples are left out [deg].
    starts, stops : array_like, shape (n,)
        Intervals: a sample at time t counts where ``start <= t < stop``. A sample of the 1 Hz
        attitude holds for the second that it begins.

    Returns
    -------
    ndarray, shape (n,)
        Mean direction in [0, 360) [deg]; NaN for an interval without samples or with samples that
        cancel.

    Raises
    ------
    ValueError
        If `times` and `angles` differ in shape, or `times` fall.
    """
    time, angle = np.asarray(times, dtype=np.float64), np.asarray(angles, dtype=np.float64)
    if time.shape != angle.shape:
        raise ValueError(f"{time.shape} times for {angle.shape} angles")
    if np.any(np.diff(time) < 0):
        raise ValueError("attitude times fall; they are to be in ascending order")
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


def _positive(angle: Floats) -> Floats:
    """Return `angle` in [0, 360) [deg]."""
    wrapped = np.mod(angle, 360.0)  # of a tiny negative angle this rounds to 360 itself
    return np.where(wrapped == 360.0, 0.0, wrapped)


# ---- sky and pixel


@dataclass(frozen=True, slots=True)
class PlateSolution:
    """Where the sky lies on the CCD in one image.

    Attributes
    ----------
    ra, dec : float
        Point of tangency, right ascension and declination [deg].
    roll_angle : float
        Roll angle as in SC_ROLL_ANGLE: at 0 North is +y and East is -x, North turns towards +x as
        it grows [deg].
    scale : float
        Pixel scale [arcsec/pixel].
    x, y : float
        Position of (ra, dec), edge based, full-CCD coordinates [pixel].
    """

    ra: float
    dec: float
    roll_angle: float
    scale: float
    x: float
    y: float

    def __post_init__(self) -> None:
        """Refuse a scale that maps the sky to nothing."""
        if not self.scale > 0:
            raise ValueError(f"the pixel scale is {self.scale} arcsec/pixel, it must be positive")


def sky_to_tangent(ra: ArrayLike, dec: ArrayLike, ra0: float, dec0: float) -> tuple[Floats, Floats]:
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


def tangent_to_sky(xi: ArrayLike, eta: ArrayLike, ra0: float, dec0: float) -> tuple[Floats, Floats]:
    """Undo `sky_to_tangent`: return right ascension in [0, 360) and declination [deg] of `xi`,
    `eta` [arcsec].
    """
    x, y = (
        np.asarray(xi, dtype=np.float64) / ARCSEC_PER_RADIAN,
        np.asarray(eta, dtype=np.float64) / ARCSEC_PER_RADIAN,
    )
    d0 = np.deg2rad(dec0)
    along = np.cos(d0) - y * np.sin(d0)
    ra = _positive(ra0 + np.rad2deg(np.arctan2(x, along)))
    dec = np.rad2deg(np.arctan2(np.sin(d0) + y * np.cos(d0), np.hypot(x, along)))
    return ra, dec


def sky_to_pixel(ra: ArrayLike, dec: ArrayLike, plate: PlateSolution) -> tuple[Floats, Floats]:
    """Return where points of the sky fall on the CCD.

    Parameters
    ----------
    ra, dec : array_like, shape (n,)
        Right ascension and declination [deg].
    plate : PlateSolution
        Pointing, roll angle and scale of the image.

    Returns
    -------
    x, y : ndarray, shape (n,)
        ``x = X0 + (-xi cos phi + eta sin phi)/s, y = Y0 + (eta cos phi + xi sin phi)/s``, edge
        based [pixel].
    """
    xi, eta = sky_to_tangent(ra, dec, plate.ra, plate.dec)
    cos, sin = np.cos(np.deg2rad(plate.roll_angle)), np.sin(np.deg2rad(plate.roll_angle))
    return plate.x + (-xi * cos + eta * sin) / plate.scale, plate.y + (
        eta * cos + xi * sin
    ) / plate.scale


def pixel_to_sky(x: ArrayLike, y: ArrayLike, plate: PlateSolution) -> tuple[Floats, Floats]:
    """Undo `sky_to_pixel`: return right ascension in [0, 360) and declination [deg] of edge-based
    `x`, `y` [pixel].
    """
    dx, dy = np.asarray(x, dtype=np.float64) - plate.x, np.asarray(y, dtype=np.float64) - plate.y
    cos, sin = np.cos(np.deg2rad(plate.roll_angle)), np.sin(np.deg2rad(plate.roll_angle))
    return tangent_to_sky(
        plate.scale * (-dx * cos + dy * sin),
        plate.scale * (dy * cos + dx * sin),
        plate.ra,
        plate.dec,
    )


def cd_matrix(roll_angle: ArrayLike, scale: float) -> Floats:
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


def reference_pixel(position: ArrayLike, window_offset: ArrayLike) -> Floats:
    """Return CRPIX, which counts the centre of the first pixel as 1, of an edge-based full-CCD
    position.

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
