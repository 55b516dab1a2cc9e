"""Draws moving stars fast: the core of the PSF from a table, the wings exactly.

The integral of the PSF over a pixel is tabulated at four points per pixel and interpolated with
cubic B-splines. It has no structure finer than a pixel, so the interpolation is good to a few ppm
of the star's light in any pixel and to less than 0.1 ppm in an aperture (see the tests). A star
that spends equal times at many places is drawn at once: the spline weights of all places are added
on the fine grid, and the table is summed with these weights. The wings are drawn at the mean place,
broadened by the motion. Large numbers of faint stars are drawn in one convolution, at two points
per pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy import fft
from scipy.ndimage import correlate1d, spline_filter

from schemas.arrays import Float32Array, FloatArray
from tasks.simulation.psf import REACH, Psf

FINE = 4  # points of the table per pixel
COARSE = 2  # points per pixel in the convolution of many stars
AROUND = 46  # stars up to this far outside the window shine into it [pixel]


@dataclass(frozen=True)
class Table:
    """The core of a PSF as spline coefficients, in layers of equal phase."""

    layers: FloatArray  # shape (FINE, FINE, n, n)
    reach: int  # the core is drawn on the pixels from -reach to +reach about the star

    def add(
        self, picture: FloatArray, x: ArrayLike, y: ArrayLike, flux: float, left: int, bottom: int
    ) -> None:
        """Add a star that spends equal times at several places to a picture.

        Parameters
        ----------
        picture : ndarray, shape (ny, nx)
            Receives the star.
        x, y : array_like, shape (n,)
            The places [pixel].
        flux : float
            Flux of the star, in the unit of the picture.
        left, bottom : int
            Indices of the picture's first pixel.
        """
        places_x, places_y = (
            np.atleast_1d(np.asarray(x, float)),
            np.atleast_1d(np.asarray(y, float)),
        )
        _add(
            picture,
            self.layers,
            self.reach,
            places_x - left,
            places_y - bottom,
            flux / places_x.size,
        )


def tabulate(psf: Psf, reach: int = REACH) -> Table:
    """Return the table of a PSF, integrated over pixels."""
    # centres of pixels relative to the star, and edges of quarter pixels
    node = (np.arange(2 * FINE * (reach + 3)) - FINE * (reach + 3)) / FINE
    half = np.arange(node[0] - 0.5, node[-1] + 0.5 + 1 / FINE / 2, 1 / FINE)
    cell = psf.integral(half, half)  # over squares of a quarter of a pixel
    rows = np.lib.stride_tricks.sliding_window_view(cell, FINE, axis=0).sum(axis=-1)
    pixels = np.lib.stride_tricks.sliding_window_view(rows, FINE, axis=1).sum(axis=-1)
    return from_samples(pixels, reach)


def from_samples(pixels: FloatArray, reach: int) -> Table:
    """Return the table of a PSF sampled at FINE points per pixel.

    The star is at sample FINE (reach + 3) of each axis.
    """
    coefficients = spline_filter(pixels, order=3, mode="mirror")
    n = coefficients.shape[0] // FINE
    layers = coefficients.reshape(n, FINE, n, FINE).transpose(1, 3, 0, 2)
    return Table(np.ascontiguousarray(layers), reach)


@njit(cache=True, nogil=True)
def _weights(fraction: float, out: FloatArray) -> None:
    """Compute the cubic B-spline at 1 + f, f, 1 - f, 2 - f."""
    other = 1.0 - fraction
    out[0] = other**3 / 6
    out[1] = 2 / 3 - fraction**2 * (2 - fraction) / 2
    out[2] = 2 / 3 - other**2 * (2 - other) / 2
    out[3] = fraction**3 / 6


@njit(cache=True, nogil=True)
def _add(
    picture: FloatArray, layers: FloatArray, reach: int, x: FloatArray, y: FloatArray, flux: float
) -> None:
    """Add a star with `flux` at each of the places x, y."""
    fine = layers.shape[0]
    centre = fine * (reach + 3)
    # pixel i, with its centre at i + 0.5, reads the table at fine (i + 0.5 - x) + centre, which is
    # fine i + node + fraction
    nodes_x, nodes_y = fine * (0.5 - x) + centre, fine * (0.5 - y) + centre
    low_x, low_y = int(np.floor(nodes_x.min())), int(np.floor(nodes_y.min()))
    top_x, top_y = int(np.floor(nodes_x.max())), int(np.floor(nodes_y.max()))
    kernel = np.zeros((top_y - low_y + 4, top_x - low_x + 4))
    for k in range(x.size):
        _add_weights(kernel, nodes_x[k], nodes_y[k], low_x, low_y, flux)
    _add_layers(picture, layers, kernel, low_x - 1, low_y - 1)


@njit(cache=True, nogil=True)
def _add_weights(
    kernel: FloatArray, x: float, y: float, low_x: int, low_y: int, flux: float
) -> None:
    """Add the spline weights of one place to those of the nodes from (low_x - 1, low_y - 1) on."""
    wx, wy = np.empty(4), np.empty(4)
    node_x, node_y = int(np.floor(x)), int(np.floor(y))
    _weights(x - node_x, wx)
    _weights(y - node_y, wy)
    for b in range(4):
        for a in range(4):
            kernel[node_y - low_y + b, node_x - low_x + a] += flux * wy[b] * wx[a]


@njit(cache=True, nogil=True)
def _add_layers(
    picture: FloatArray, layers: FloatArray, kernel: FloatArray, first_x: int, first_y: int
) -> None:
    """Add the table's layers with their weights; the first is that of node (first_x, first_y)."""
    height, width = picture.shape
    fine, n = layers.shape[0], layers.shape[2]
    for b in range(kernel.shape[0]):
        row = first_y + b
        shift_y, phase_y = row // fine, row % fine
        first_j, last_j = max(0, -shift_y), min(height, n - shift_y)
        for a in range(kernel.shape[1]):
            weight = kernel[b, a]
            if weight == 0.0:
                continue
            column = first_x + a
            shift_x, phase_x = column // fine, column % fine
            first_i, last_i = max(0, -shift_x), min(width, n - shift_x)
            layer = layers[phase_y, phase_x]
            for j in range(first_j, last_j):
                line, source = picture[j], layer[j + shift_y]
                for i in range(first_i, last_i):
                    line[i] += weight * source[i + shift_x]


def add_wings(
    picture: FloatArray,
    wings: Psf,
    x: FloatArray | float,
    y: FloatArray | float,
    flux: float,
    left: int,
    bottom: int,
) -> None:
    """Add the wide components of a star, broadened by its motion."""
    height, width = picture.shape
    x, y = np.atleast_1d(x), np.atleast_1d(y)
    edges_x = left - x.mean() + np.arange(width + 1)
    edges_y = bottom - y.mean() + np.arange(height + 1)
    picture += flux * wings.integral(edges_x, edges_y, (float(x.std()), float(y.std())))


class Crowd:
    """Draws many stars at once in a window, with one PSF, by a convolution.

    The error in any pixel is 1e-5 of a star's light. Light further than `AROUND` pixels from a
    star, some four percent of it, is ignored.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.shape = tuple(COARSE * (size + 2 * AROUND) for size in (height, width))
        # light that wraps around ends within the margin, which is cut off
        self.size = tuple(fft.next_fast_len(length, real=True) for length in self.shape)

    def transform(self, psf: Psf) -> NDArray[np.complex64]:
        """Return the transform of a PSF for `draw`; it is linear in the PSF."""
        half = np.arange(-AROUND - 0.5, AROUND + 0.5 + 1e-9, 1 / COARSE)
        cell = psf.integral(half, half)
        return self._transform(cell[:-1, :-1] + cell[1:, :-1] + cell[:-1, 1:] + cell[1:, 1:])

    def transform_of(self, table: Table) -> NDArray[np.complex64]:
        """Return the transform of a table for `draw`."""
        phases, n = table.layers.shape[0], table.layers.shape[2]
        coefficients = table.layers.transpose(2, 0, 3, 1).reshape(n * phases, n * phases)
        spline = np.array([1, 4, 1]) / 6
        samples = correlate1d(
            correlate1d(coefficients, spline, 0, mode="mirror"), spline, 1, mode="mirror"
        )
        centre, step = phases * (table.reach + 3), phases // COARSE
        reach = min(COARSE * AROUND, centre // step - 1)
        places = centre + step * np.arange(-reach, reach + 1)
        return self._transform(samples[np.ix_(places, places)])

    def _transform(self, pixels: FloatArray) -> NDArray[np.complex64]:
        """Transform samples at COARSE points per pixel, with the star at the centre."""
        padded = np.zeros(self.size, np.float32)
        padded[: pixels.shape[0], : pixels.shape[1]] = pixels
        shift = tuple(-(length // 2) for length in pixels.shape)
        return np.asarray(fft.rfft2(np.roll(padded, shift, axis=(0, 1))) * _sharpening(self.size))

    def draw(
        self, transform: NDArray[np.complex64], x: FloatArray, y: FloatArray, flux: FloatArray
    ) -> FloatArray:
        """Return the picture of point sources, shape (height, width).

        Parameters
        ----------
        transform : ndarray
            Transform of the PSF.
        x, y : ndarray, shape (n,)
            Places relative to the corner of the window [pixel].
        flux : ndarray, shape (n,)
            Their fluxes.
        """
        fine = np.zeros(self.size, np.float32)
        _deposit(fine, self.shape, COARSE * (x - 0.5 + AROUND), COARSE * (y - 0.5 + AROUND), flux)
        picture = fft.irfft2(fft.rfft2(fine) * transform, s=self.size)
        first = COARSE * AROUND
        return np.asarray(
            picture[
                first : first + COARSE * self.height : COARSE,
                first : first + COARSE * self.width : COARSE,
            ],
            float,
        )


@cache
def _sharpening(size: tuple[int, ...]) -> Float32Array:
    """Return the transform of the filter from samples to spline coefficients, in both axes."""
    rows = 3 / (2 + np.cos(2 * np.pi * fft.fftfreq(size[0])))
    columns = 3 / (2 + np.cos(2 * np.pi * fft.rfftfreq(size[1])))
    return np.asarray(rows[:, None] * columns, np.float32)


@njit(cache=True, nogil=True)
def _deposit(
    fine: Float32Array, shape: tuple[int, ...], x: FloatArray, y: FloatArray, flux: FloatArray
) -> None:
    wx, wy = np.empty(4), np.empty(4)
    for k in range(x.size):
        node_x, node_y = int(np.floor(x[k])), int(np.floor(y[k]))
        if node_x < 1 or node_y < 1 or node_x + 2 >= shape[1] or node_y + 2 >= shape[0]:
            continue
        _weights(x[k] - node_x, wx)
        _weights(y[k] - node_y, wy)
        for b in range(4):
            for a in range(4):
                fine[node_y - 1 + b, node_x - 1 + a] += flux[k] * wy[b] * wx[a]
