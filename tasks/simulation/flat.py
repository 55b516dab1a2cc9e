"""Flat field: the response of each pixel to light of each wavelength, and to that of a star.

F(x, y; w) = G(x, y) (1 + b(w) B(x, y) + r(w) R(x, y)). G is grey (pixels 0.6 %, large scales 1.2 %,
dust shadows, dead pixels), B the pattern of the laser annealing of the back side, visible in blue
light (b grows below 550 nm), and R the fringes of light reflected within the silicon (r grows
beyond 750 nm). A star's flat field is the mean over wavelength weighted with the star's electrons;
its mean is one, not counting 100 pixels at the edge. The shapes are chosen, the amplitudes are
those of back-illuminated CCDs of this kind.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from schemas.arrays import BoolArray, Float32Array, FloatArray
from tasks.simulation import spectrum
from tasks.simulation.layout import SIZE
from tasks.simulation.smooth import smooth_map

WAVELENGTH = np.arange(335.0, 1100.0, 10.0)  # [nm]
BLUE, RED = 0.006, 0.008  # of the patterns at 400 and 950 nm [rms]
DEAD = 150  # number of pixels with less than 0.7 of the light
FAR = 40  # from its edge, a shadow is below the resolution of double precision [pixel]
EDGE = 100  # pixels at the edge that do not count for the mean


def blue(wavelength: FloatArray) -> FloatArray:
    """Return the strength of the blue pattern at wavelengths [nm]."""
    return np.asarray(BLUE * np.clip((550 - wavelength) / 150, 0, None) ** 2)


def red(wavelength: FloatArray) -> FloatArray:
    """Return the strength of the red pattern at wavelengths [nm]."""
    return np.asarray(RED * np.clip((wavelength - 750) / 200, 0, None) ** 2)


@cache
def patterns() -> tuple[Float32Array, Float32Array, Float32Array, BoolArray]:
    """Return grey map, blue and red pattern and dead pixels, each of shape (SIZE, SIZE)."""
    rng = np.random.default_rng(20191220)
    grey = 1 + 0.006 * rng.normal(size=(SIZE, SIZE)) + 0.012 * smooth_map(rng, 90)
    for centre_x, centre_y, radius, depth in rng.uniform(
        (0, 0, 4, 0.003), (SIZE, SIZE, 14, 0.02), (40, 4)
    ):
        reach = int(radius) + FAR
        rows, columns = (
            slice(max(int(c) - reach, 0), min(int(c) + reach, SIZE)) for c in (centre_y, centre_x)
        )
        y, x = np.ogrid[rows, columns]
        grey[rows, columns] *= 1 - depth / (
            1 + np.exp(np.clip(np.hypot(x - centre_x, y - centre_y) - radius, -50, 50))
        )
    dead = np.zeros(grey.shape, bool)
    dead.flat[rng.choice(grey.size, DEAD, replace=False)] = True
    grey[dead] *= rng.uniform(0.05, 0.7, DEAD)
    annealing = (smooth_map(rng, 8) + 0.5 * smooth_map(rng, 40)) / np.sqrt(1.25)
    fringes = np.sqrt(2) * np.sin(6 * smooth_map(rng, 70))
    return grey.astype(np.float32), annealing.astype(np.float32), fringes.astype(np.float32), dead


def monochromatic(wavelength: float) -> Float32Array:
    """Return the flat field for one wavelength [nm]."""
    one = np.array([wavelength])
    return _normalised(float(blue(one)[0]), float(red(one)[0]))


def star_flat(teff: float) -> Float32Array:
    """Return the flat field for the light of a star of effective temperature `teff` [K]."""
    weight = spectrum.weights(teff, WAVELENGTH)
    return _normalised(float(weight @ blue(WAVELENGTH)), float(weight @ red(WAVELENGTH)))


def _normalised(b: float, r: float) -> Float32Array:
    grey, annealing, fringes, _ = patterns()
    flat = grey * (1 + np.float32(b) * annealing + np.float32(r) * fringes)
    return np.asarray(flat / flat[EDGE:-EDGE, EDGE:-EDGE].mean(dtype=np.float64), np.float32)
