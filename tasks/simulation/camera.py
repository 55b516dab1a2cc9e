"""A window of the CCD: it collects charge and is read out with its margins.

The charge of a pixel in one exposure is light through the flat field, smearing, and dark current
over exposure and waiting time, drawn from a Poisson distribution. Cosmic rays come on top; full
wells bleed, transfers trail. Non-linearity, gain, bias, read-out noise, and the steps and limits of
the converter follow, for image and margins alike. Dark columns and rows are shielded, blank and
overscan columns carry only bias and noise, overscan rows the charge of transfer and read-out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from schemas.arrays import Float32Array, FloatArray
from tasks.simulation import bias, charge, dark, flat
from tasks.simulation.case import Case
from tasks.simulation.cosmics import NONE, Hits
from tasks.simulation.layout import (
    CCD_TEMPERATURE,
    COLUMNS,
    DARK_TOP,
    OVERSCAN_TOP,
    ROWS,
    SIDES,
    Mode,
    Window,
    read_time,
)
from tasks.simulation.linearity import linearisation, scaled

FULL_SCALE = 65535
DARK_SIDES = (slice(12, 28), slice(28, 44))  # the dark columns among the side columns


class MarginHits(NamedTuple):
    """Cosmic rays in the margins that hold charge."""

    dark_left: Hits = NONE
    dark_right: Hits = NONE
    dark_top: Hits = NONE
    overscan_top: Hits = NONE


class Charges(NamedTuple):
    """The charge that the window collects in one exposure besides its dark current [electron]."""

    light: FloatArray  # before the flat field
    smearing: FloatArray
    hits: Hits  # cosmic rays in the window
    margin_hits: MarginHits
    telegraphic: FloatArray  # of each telegraphic pixel


@dataclass(frozen=True)
class Exposure:
    """One exposure: raw values of window, side margins and top margins [ADU], and its truth."""

    image: FloatArray
    sides: FloatArray
    top: FloatArray
    target: float  # charge of the target on a flat detector [electron]
    light: float  # relative flux of the target
    x: float  # mean position of the target [pixel]
    y: float
    zodiacal: float  # [electron/pixel]
    stray: float  # spikes included [electron/pixel]
    spike: float  # [electron/pixel]
    slope: tuple[float, ...]  # of the stray light along x and y [electron/pixel per pixel]
    smearing: FloatArray  # mean of each column [electron]
    cosmics: Hits
    telegraphic: FloatArray  # charge of each telegraphic pixel [electron]
    track: FloatArray  # positions of the target, shape (2, parts) [pixel]


class Part(NamedTuple):
    """A part of the read-out: the image, its side margins, or its top margins."""

    dark: FloatArray  # charge of the dark current in one exposure [electron]
    bias: FloatArray  # [ADU]


class DarkRates(NamedTuple):
    """Dark current at the date of a visit [electron/s]."""

    whole: FloatArray  # of the read-out, shape (ROWS, COLUMNS)
    hot: Float32Array  # excess of the hot pixels of the window
    warm: FloatArray  # excess of the window's pixels that became hot after the last map


class Camera:
    """A window of the CCD in one read-out mode, at the date of a visit.

    Parameters
    ----------
    case : Case
        The scales and switches of the effects.
    mode : Mode
        How the window is read.
    window : Window
        The pixels that are read.
    mjd : float
        Date of the visit [MJD].
    errors : Generator
        Draws the changes since the reference files were made.
    """

    def __init__(
        self, case: Case, mode: Mode, window: Window, mjd: float, errors: np.random.Generator
    ) -> None:
        self.case, self.mode, self.window = case, mode, window
        cut = window.rows, window.read_out_columns
        self.noise = bias.READ_OUT_NOISE[mode.frequency] if case.noise else 0.0
        self.curve = scaled(
            linearisation(mode.frequency), case.nonlinearity * (1 + case.linearity_error)
        )
        # the flat field, the dark current and the bias draw their errors in this order
        self.flat = _changed_flat(case, window, errors)
        self.waiting = read_time(mode, window.bottom, window.height)
        self.mean_wait = float(self.waiting[cut].mean())
        self.top_wait = float(self.waiting[OVERSCAN_TOP, window.read_out_columns].mean())
        darkness = dark.at(mjd)
        rates = _changed_dark(case, window, darkness, errors)
        self.rate, self.hot, self.warm = rates.whole[cut], rates.hot, rates.warm
        exposed = np.where(np.arange(ROWS)[:, None] < OVERSCAN_TOP.start, case.exptime, 0.0)
        charge_in_dark = rates.whole * (exposed + self.waiting)
        frame = _changed_bias(case, mode, window, errors)
        top = slice(DARK_TOP.start, OVERSCAN_TOP.stop)
        cuts = cut, (window.rows, SIDES), (top, window.read_out_columns)
        self.parts = [Part(charge_in_dark[part], frame[part]) for part in cuts]
        telegraphs = dark.telegraphs(darkness.telegraphic if case.telegraphic else 0.0)
        self.telegraphs = telegraphs.within(*cut)
        self.telegraph_wait = self.waiting[cut][self.telegraphs.row, self.telegraphs.column]
        self.cti = case.cti * charge.cti_strength(mjd)

    def telegraphic_charge(self, jumps: dark.Jumps, start: float) -> FloatArray:
        """Return the charge of each telegraphic pixel in an exposure that begins at `start` [s]."""
        stop = start + self.case.exptime
        high = jumps.high_time(start, stop)
        # while it waits for the read-out, a pixel keeps the level in which the exposure ended
        ends = jumps.high_time(stop - 1e-3, stop) > 0
        return np.asarray(
            self.case.telegraphic * self.telegraphs.level * (high + ends * self.telegraph_wait)
        )

    def read(
        self, rng: np.random.Generator, charges: Charges, gain: float, drift: float
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the raw values of image, side margins and top margins after one exposure.

        Parameters
        ----------
        rng : Generator
            Draws photon and read-out noise.
        charges : Charges
            The charge that the window collects.
        gain : float
            [ADU/electron].
        drift : float
            Deviation from the nominal bias [ADU].

        Returns
        -------
        tuple of ndarray, shapes (height, width), (height, 52) and (9, width)
            [ADU].
        """
        image, sides, top = self._collect(rng, charges)
        if self.case.saturation:
            charge.bleed(image)
        if self.cti:
            charge.transfer(image, self.window.bottom, self.cti, gain)
        if self.case.nonlinearity:
            image, sides, top = (self.curve.measure(values) for values in (image, sides, top))
        image_part, side_part, top_part = self.parts
        return (
            self._convert(rng, image, gain, image_part.bias + drift),
            self._convert(rng, sides, gain, side_part.bias + drift),
            self._convert(rng, top, gain, top_part.bias + drift),
        )

    def _collect(
        self, rng: np.random.Generator, charges: Charges
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the charge in image, side margins and top margins before the transfer."""
        image_part, side_part, top_part = self.parts
        expected = charges.light * self.flat + charges.smearing + image_part.dark
        expected[self.telegraphs.row, self.telegraphs.column] += charges.telegraphic
        image = self._draw(rng, expected)
        sides = self._draw(rng, side_part.dark)
        top = self._draw(rng, top_part.dark + charges.smearing.mean(axis=0))
        charges.hits.add_to(image)
        dark_margins = *(sides[:, columns] for columns in DARK_SIDES), top[:3], top[3:]
        for margin, hits in zip(dark_margins, charges.margin_hits, strict=True):
            hits.add_to(margin)
        return image, sides, top

    def _draw(self, rng: np.random.Generator, expected: FloatArray) -> FloatArray:
        return rng.poisson(expected).astype(float) if self.case.noise else np.array(expected, float)

    def _convert(
        self, rng: np.random.Generator, measured: FloatArray, gain: float, offset: FloatArray
    ) -> FloatArray:
        """Return the digital numbers of a charge [electron]; without `rounding` they are floats."""
        value = measured * gain + offset
        if self.noise:
            value += self.noise * rng.standard_normal(measured.shape, dtype=np.float32)
        return np.clip(np.rint(value) if self.case.rounding else value, 0, FULL_SCALE)


def _changed_flat(case: Case, window: Window, errors: np.random.Generator) -> FloatArray:
    """Return the response of the window to the light of the target."""
    response = flat.star_flat(case.teff)[window.rows, window.columns].astype(float)
    return (1 + case.flat * (response - 1)) * (
        1 + case.flat_error * errors.normal(size=response.shape)
    )


def _changed_dark(
    case: Case, window: Window, darkness: dark.Darkness, errors: np.random.Generator
) -> DarkRates:
    """Return the dark current, with the changes since the last map."""
    shape, cut = (window.height, window.width), (window.rows, window.read_out_columns)
    rate = case.dark * darkness.smooth.astype(float) + case.hot * darkness.hot
    warm = np.zeros((ROWS, COLUMNS))
    warm[cut] = np.where(errors.uniform(size=shape) < case.warm, errors.uniform(2, 5, shape), 0)
    rate *= dark.temperature_factor(CCD_TEMPERATURE + case.ccd_warmer)
    rate[cut] *= 1 + case.dark_error * errors.normal(size=shape)
    rate += warm
    return DarkRates(rate, darkness.hot[cut], warm[cut])


def _changed_bias(
    case: Case, mode: Mode, window: Window, errors: np.random.Generator
) -> FloatArray:
    """Return the bias of the read-out, with the changes in the window since the last frame."""
    structure = bias.structure(mode.frequency).astype(float)
    frame = bias.BIAS[mode.frequency] + case.bias_structure * structure
    shape = window.height, window.width
    frame[window.rows, window.read_out_columns] += case.bias_error * errors.normal(size=shape)
    return frame
