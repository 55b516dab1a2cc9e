"""A window of the CCD: charge gathers in it, and it is read out with its margins.

Charge of a pixel in one exposure: light through the flat field, smearing, dark current over
exposure and waiting time, drawn from a Poisson distribution; cosmic rays come on top; full wells
bleed, transfers trail. Then non-linearity, gain, bias, read-out noise and the converter's steps and
ends, of the image and of its margins alike. Dark columns and rows are shielded, blank and overscan
columns carry bias and noise only, overscan rows the charge of the transfer and of the read-out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.simulation import bias, charge, dark, flat
from tasks.simulation.case import Case
from tasks.simulation.cosmics import NONE, Hits
from tasks.simulation.layout import (
    CCD_TEMPERATURE,
    COLUMNS,
    DARK_TOP,
    EXPOSED,
    OVERSCAN_TOP,
    ROWS,
    SIDES,
    SIZE,
    Mode,
    read_time,
)
from tasks.simulation.light import Window
from tasks.simulation.linearity import linearisation, scaled

Floats = NDArray[np.float64]
Map = NDArray[np.float32]

FULL_SCALE = 65535
DARK_SIDES = (slice(12, 28), slice(28, 44))  # the dark columns among the side columns


class MarginHits(NamedTuple):
    """Cosmic rays in the margins that hold charge."""

    dark_left: Hits = NONE
    dark_right: Hits = NONE
    dark_top: Hits = NONE
    overscan_top: Hits = NONE


@dataclass(frozen=True)
class Exposure:
    """One exposure: raw values [ADU] of the window, the side margins and the top margins, and what
    is true of it.
    """

    image: Floats
    sides: Floats
    top: Floats
    target: float  # charge of the target on a flat detector [electron]
    light: float  # relative flux of the target
    x: float
    y: float
    zodiacal: float  # [electron/pixel]
    stray: float  # spikes included [electron/pixel]
    spike: float  # [electron/pixel]
    slope: tuple[float, ...]  # of the stray light along x and y [electron/pixel a pixel]
    smearing: Floats  # mean of each column [electron]
    cosmics: Hits
    telegraphic: Floats  # charge of each telegraphic pixel [electron]
    track: Floats  # places of the target, shape (2, parts) [pixel]


@dataclass(frozen=True)
class Part:
    """A part of the read-out that is read in one go."""

    dark: Floats  # charge of the dark current in an exposure [electron]
    bias: Floats  # [ADU]


class Camera:
    """A window of the CCD in one read-out mode, at the date of a visit."""

    def __init__(
        self, case: Case, mode: Mode, window: Window, mjd: float, errors: np.random.Generator
    ) -> None:
        """Take the CCD's maps at a date; `errors` draws what has changed since the reference files
        were made.
        """
        self.case, self.mode, self.window = case, mode, window
        shape = window.height, window.width
        rows = slice(window.bottom, window.bottom + window.height)
        columns = slice(EXPOSED.start + window.left, EXPOSED.start + window.left + window.width)
        top = slice(DARK_TOP.start, OVERSCAN_TOP.stop)
        self.noise = bias.READ_OUT_NOISE[mode.frequency] if case.noise else 0.0
        self.curve = scaled(
            linearisation(mode.frequency), case.nonlinearity * (1 + case.linearity_error)
        )
        response = flat.star_flat(case.teff)[rows, window.left : window.left + window.width].astype(
            float
        )
        self.flat = (1 + case.flat * (response - 1)) * (
            1 + case.flat_error * errors.normal(size=shape)
        )
        self.waiting = read_time(mode, window.bottom, window.height)
        self.mean_wait = float(self.waiting[rows, columns].mean())
        self.top_wait = float(self.waiting[OVERSCAN_TOP, columns].mean())
        exposed = np.where(np.arange(ROWS)[:, None] < OVERSCAN_TOP.start, case.exptime, 0.0)
        darkness = dark.at(mjd)
        rate = case.dark * darkness.smooth.astype(float) + case.hot * darkness.hot
        warm = np.zeros((ROWS, COLUMNS))
        warm[rows, columns] = np.where(
            errors.uniform(size=shape) < case.warm, errors.uniform(2, 5, shape), 0
        )
        rate *= dark.temperature_factor(CCD_TEMPERATURE + case.ccd_warmer)
        rate[rows, columns] *= 1 + case.dark_error * errors.normal(size=shape)
        rate += warm
        self.rate, self.hot, self.warm = (
            rate[rows, columns],
            darkness.hot[rows, columns],
            warm[rows, columns],
        )
        charge_in_dark = rate * (exposed + self.waiting)
        frame = bias.BIAS[mode.frequency] + case.bias_structure * bias.structure(
            mode.frequency
        ).astype(float)
        frame[rows, columns] += case.bias_error * errors.normal(size=shape)
        cuts = (rows, columns), (rows, SIDES), (top, columns)
        self.parts = [Part(charge_in_dark[cut], frame[cut]) for cut in cuts]
        found = dark.telegraphs(darkness.telegraphic if case.telegraphic else 0.0)
        self.telegraphs = found.within(rows, columns)
        self.telegraph_wait = self.waiting[rows, columns][
            self.telegraphs.row, self.telegraphs.column
        ]
        self.cti = case.cti * charge.cti_strength(mjd)

    def telegraphic_charge(self, jumps: dark.Jumps, start: float) -> Floats:
        """Return the charge of each telegraphic pixel in an exposure that starts at a time [s]."""
        stop = start + self.case.exptime
        high = jumps.high_time(start, stop)
        # while it waits for the read-out it keeps the level in which the exposure ended
        ends = jumps.high_time(stop - 1e-3, stop) > 0
        return np.asarray(
            self.case.telegraphic * self.telegraphs.level * (high + ends * self.telegraph_wait)
        )

    def read(
        self,
        rng: np.random.Generator,
        light: Floats,
        smearing: Floats,
        hits: Hits,
        margin_hits: MarginHits,
        telegraphic: Floats,
        gain: float,
        drift: float,
    ) -> tuple[Floats, Floats, Floats]:
        """Return raw values of image, side margins and top margins for the light that fell on the
        window [electron].
        """
        image_part, side_part, top_part = self.parts
        expected = light * self.flat + smearing + image_part.dark
        expected[self.telegraphs.row, self.telegraphs.column] += telegraphic
        image = self._draw(rng, expected)
        sides = self._draw(rng, side_part.dark)
        top = self._draw(rng, top_part.dark + smearing.mean(axis=0))
        hits.add_to(image)
        for part, more in zip(
            (*(sides[:, c] for c in DARK_SIDES), top[:3], top[3:]), margin_hits, strict=True
        ):
            more.add_to(part)
        if self.case.saturation:
            charge.bleed(image)
        if self.cti:
            charge.transfer(image, self.window.bottom, self.cti, gain)
        if self.case.nonlinearity:
            image, sides, top = (self.curve.measure(values) for values in (image, sides, top))
        return (
            self._convert(rng, image, gain, image_part.bias + drift),
            self._convert(rng, sides, gain, side_part.bias + drift),
            self._convert(rng, top, gain, top_part.bias + drift),
        )

    def _draw(self, rng: np.random.Generator, expected: Floats) -> Floats:
        return rng.poisson(expected).astype(float) if self.case.noise else np.array(expected, float)

    def _convert(
        self, rng: np.random.Generator, measured: Floats, gain: float, offset: Floats
    ) -> Floats:
        """Return digital numbers of a measured charge [electron]; with `rounding` off they keep
        their fractions.
        """
        value = measured * gain + offset
        if self.noise:
            value += self.noise * rng.standard_normal(measured.shape, dtype=np.float32)
        return np.clip(np.rint(value) if self.case.rounding else value, 0, FULL_SCALE)


def whole_ccd() -> Window:
    """Return the window of all exposed pixels."""
    return Window(0, 0, SIZE, SIZE)
