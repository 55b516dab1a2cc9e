"""A window of the CCD: light falls on it, and it is read out with its margins.

Charge of a pixel in one exposure: flat light + smearing + dark (exposure + waiting time), drawn from a Poisson
distribution; cosmic rays come on top; then non-linearity, gain, bias, read-out noise and rounding. Margins: dark
columns and rows are shielded, blank and overscan columns carry bias and noise only, overscan rows the charge of the
transfer and of the read-out. Margins carry no non-linearity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.simulation import detector
from tasks.simulation.case import Case
from tasks.simulation.optics import flight_like_psf

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Exposure:
    """One exposure: raw values [ADU] of the window, the side margins and the top margins, and what is true of it."""

    image: NDArray[np.uint16]
    sides: NDArray[np.uint16]
    top: NDArray[np.uint16]
    target: float  # charge of the target on a flat detector [electron]
    light: float  # relative flux of the target
    x: float
    y: float
    background: float  # [electron/pixel]
    smearing: Floats  # [electron] of each column
    cosmics: Floats  # [electron]


class Camera:
    """A window of the CCD in one read-out mode: draws stars on it and reads it."""

    def __init__(
        self, case: Case, mode: detector.Mode, left: int, bottom: int, width: int, height: int, dark_weight: float
    ) -> None:
        self.left, self.bottom, self.width, self.height = left, bottom, width, height
        self.noise = detector.READ_OUT_NOISE[mode.frequency] if case.noise else 0.0
        self.photon_noise = case.noise
        self.curve = detector.linearisation(mode.frequency) if case.nonlinearity else None
        self.psf = flight_like_psf()
        maps = detector.truth_maps()
        rows = slice(bottom, bottom + height)
        columns = slice(detector.EXPOSED.start + left, detector.EXPOSED.start + left + width)
        self.flat = maps.flat(case.teff)[rows, left : left + width].astype(float) if case.flat else np.ones((height, width))
        waiting = detector.read_time(mode, bottom, height)
        exposed = np.where(np.arange(detector.ROWS)[:, None] < detector.OVERSCAN_TOP.start, case.exptime, 0.0)
        dark = maps.dark_at(dark_weight) * (exposed + waiting) if case.dark else np.zeros(waiting.shape)
        bias = maps.bias[mode.frequency] + detector.BIAS[mode.frequency]
        top = slice(detector.DARK_TOP.start, detector.OVERSCAN_TOP.stop)
        self.dark = dark[rows, columns], dark[rows][:, detector.SIDES], dark[top, columns]
        self.bias = bias[rows, columns], bias[rows][:, detector.SIDES], bias[top, columns]

    def sees(self, x: float, y: float) -> bool:
        """Return whether light of a star at x, y reaches the window: it stands at most 60 pixels outside."""
        return -60 < x - self.left < self.width + 60 and -60 < y - self.bottom < self.height + 60

    def draw(self, x: Floats, y: Floats, flux: float) -> Floats:
        """Return the light of one star in the window."""
        return self.psf.image(x, y, flux, self.left, self.bottom, self.width, self.height)

    def columns(self, x: Floats, y: Floats, flux: Floats) -> Floats:
        """Return the light of stars in each column of the window, summed over all exposed rows."""
        return self.psf.columns(x, y, flux, self.left, self.width, detector.SIZE)

    def read(
        self, rng: np.random.Generator, light: Floats, smearing: Floats, cosmics: Floats, gain: float, drift: float
    ) -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint16]]:
        """Return raw values of image, side margins and top margins for the light that fell on the window [electron]."""
        image, sides, top = (
            self._draw(rng, expected)
            for expected in (light * self.flat + smearing + self.dark[0], self.dark[1], self.dark[2] + smearing)
        )
        image += cosmics
        if self.curve is not None:
            image = self.curve.measure(image)
        raw = [
            detector.digitise(charge, gain, bias + drift, self.noise, rng)
            for charge, bias in zip((image, sides, top), self.bias, strict=True)
        ]
        return raw[0], raw[1], raw[2]

    def _draw(self, rng: np.random.Generator, expected: Floats) -> Floats:
        return rng.poisson(expected).astype(float) if self.photon_noise else np.array(expected, float)
