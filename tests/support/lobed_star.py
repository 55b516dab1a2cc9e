"""A star of three Gaussian lobes, and images of it in motion."""

from __future__ import annotations

import numpy as np
from scipy.special import erf

from schemas.arrays import ComplexArray, FloatArray
from tasks.scene.optics import (
    motion_transfer,
    solve_changing_psf,
)

SIZE = 64


LOBES = (
    (0.0, 0.0, 4.0, 0.5),
    (6.0, 3.0, 2.5, 0.3),
    (-5.0, 4.0, 3.0, 0.2),
)  # x, y, sigma [pixel], share


def star(x: float, y: float, size: int = SIZE) -> FloatArray:
    """Return three Gaussian lobes about the index (x, y), integrated over the pixels in closed
    form.
    """
    edges = np.arange(size + 1) - 0.5
    image = np.zeros((size, size))
    for dx, dy, sigma, share in LOBES:
        along_x, along_y = (
            np.diff(0.5 * erf((edges - c) / sigma / np.sqrt(2))) for c in (x + dx, y + dy)
        )
        image += share * np.outer(along_y, along_x)
    return image


def moved(x: FloatArray, y: FloatArray) -> FloatArray:
    return np.asarray(np.mean([star(a, b) for a, b in zip(x, y, strict=True)], axis=0))


def visit(n: int, seed: int = 0) -> list[tuple[FloatArray, np.ndarray, float, float]]:
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(n):
        x, y = (SIZE / 2 + rng.normal(0, 0.3) + rng.normal(0, 0.4, 30) for _ in range(2))
        images.append((1e6 * moved(x, y), motion_transfer(x, y, SIZE), 1e6, 1.0))
    return images


def noisy_visit(
    n: int, sky_error: float, seed: int = 4
) -> list[tuple[FloatArray, np.ndarray, float, float, float]]:
    """Return stacks of a million electrons with photon noise, and errors of their sky."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(n):
        x, y = (np.array([SIZE / 2 + rng.uniform(-0.6, 0.6)]) for _ in range(2))
        light = 1e6 * moved(x, y)
        noise = rng.normal(0, sky_error) + rng.normal(0, np.sqrt(light + 100))
        images.append((light + noise, motion_transfer(x, y, SIZE), 1e6, 1.0, 0.0))
    return images


def solve_psf(
    images: list[tuple[FloatArray, np.ndarray, float, float]], size: int, smoothness: float
) -> ComplexArray:
    """Return the spectrum of a PSF that does not change, without a prior."""
    steady = ((*image, 0.0) for image in images)
    return solve_changing_psf(steady, size, smoothness, None, None)[0]
