"""Granulation: the flicker of a star's surface, as Gaussian noise of a known power spectrum.

P(f) = sum_i (2 sqrt(2) / pi) a^2 / b_i / (1 + (f / b_i)^4), with two components of equal rms a, so
that the total rms is sqrt(2) a. With the frequency of maximum power n = 3100 uHz (g / g Sun) /
sqrt(Teff / 5777 K): a = 3382 n^-0.609 ppm, b_1 = 0.317 n^0.970 uHz, b_2 = 0.948 n^0.992 uHz
(Kallinger et al. 2014, A&A 570, A41, fitted to Kepler stars; the numbers are from memory). g is
that of the main sequence. Stars without a convective envelope have no granules: a fades out between
7000 and 8000 K. For the Sun this gives 36 ppm on time scales of 1 to 4 min (1 / 2 pi b).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.fft import irfft, next_fast_len

from schemas.arrays import FloatArray
from tasks.simulation import main_sequence
from tasks.simulation.spectrum import smooth_step

STEP = 5.0  # of the grid, a tenth of the shortest time scale or less [s]


@dataclass(frozen=True)
class Granulation:
    """The power spectrum of a star."""

    rms: float  # of each component, relative
    bends: tuple[float, float]  # frequencies at which the components bend [Hz]

    def power(self, frequency: ArrayLike) -> FloatArray:
        """Return the one-sided power density [1/Hz]; its integral is the variance."""
        f = np.asarray(frequency, float)
        terms = [self.rms**2 / b / (1 + (f / b) ** 4) for b in self.bends]
        return np.asarray(2 * np.sqrt(2) / np.pi * np.sum(terms, axis=0))


def granulation(teff: float) -> Granulation:
    """Return the granulation of a dwarf of this effective temperature [K]."""
    peak = (
        3100
        * 10 ** (float(main_sequence.log_gravity(teff)) - main_sequence.SUN_LOG_G)
        / np.sqrt(teff / 5777)
    )
    fade = float(1 - smooth_step(teff, 7000, 8000))
    return Granulation(
        fade * 3382e-6 * peak**-0.609, (0.317e-6 * peak**0.970, 0.948e-6 * peak**0.992)
    )


def draw(
    rng: np.random.Generator, star: Granulation, first: float, last: float, step: float = STEP
) -> tuple[FloatArray, FloatArray]:
    """Draw the relative change of the flux on a regular grid that covers `first` to `last` [s].

    Each frequency of a Fourier series has a complex Gaussian amplitude of variance P(f) df / 2. The
    series repeats after at least twice the time, much longer than its correlation time.

    Returns
    -------
    tuple of ndarray, shape (n,)
        Time [s] and relative change.
    """
    count = int(np.ceil((last - first) / step)) + 2
    length = next_fast_len(2 * count + int(10 / min(star.bends) / step), real=True)
    frequency = np.arange(length // 2 + 1) / (length * step)
    amplitude = length * np.sqrt(star.power(frequency) / (length * step) / 2)
    amplitude[0] = 0.0  # the mean belongs to the star's magnitude
    normal = rng.normal(size=(2, frequency.size))
    series = irfft(amplitude * (normal[0] + 1j * normal[1]) / np.sqrt(2), length)
    return np.asarray(first + step * np.arange(count), float), np.asarray(series[:count])
