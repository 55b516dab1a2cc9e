"""The CCD and its electronics: truth maps, and the way from electrons to digital numbers.

Layout of a read-out (1033 rows of 1076): 4 overscan, 8 blank, 16 dark, 1024 exposed, 16 dark, 8 blank columns; 1024
exposed, 3 dark and 6 overscan rows. A raw value is ADU = round(gain L(electrons) + bias + noise), at most 65535,
where L is the inverse of the linearisation curve and gain [ADU/electron] a polynomial of voltages and temperature.
Dark charge grows during exposure and until the pixel is read, row by row. The maps are drawn once from a fixed seed:
they are the instrument, not the visit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

Floats = NDArray[np.float64]
Map = NDArray[np.float32]

SIZE = 1024
ROWS, COLUMNS = 1033, 1076
EXPOSED = slice(28, 1052)
MARGINS: dict[str, slice] = {  # columns of a read-out
    "OverscanLeft": slice(0, 4),
    "BlankLeft": slice(4, 12),
    "DarkLeft": slice(12, 28),
    "DarkRight": slice(1052, 1068),
    "BlankRight": slice(1068, 1076),
}
DARK_TOP, OVERSCAN_TOP = slice(1024, 1027), slice(1027, 1033)  # rows of a read-out
SIDES = np.r_[0:28, 1052:1076]

BIAS = {100_000: 627.6, 230_000: 565.8}  # [ADU]
READ_OUT_NOISE = {100_000: 3.5, 230_000: 7.2}  # [ADU]
FULL_SCALE = 65535
TRANSFER_TIME = 25e-6  # frame transfer, a row [s]
ROW_SHIFT_TIME = 30e-6  # towards the serial register, a row [s]
CCD_TEMPERATURE = -45.0  # [degC]
VOLTAGES = {"VSS": 8.8002, "VOD": 30.8004, "VRD": 17.8008, "VOG": 3.0523}  # [V]
DARK_EPOCHS = ("2024-03-05T00:00:00", "2024-03-15T00:00:00")  # the truth changes linearly between, not outside

GAIN_NOMINAL = 0.5111  # [ADU/electron]
GAIN_OFFSETS = {"VSS": 8.8, "VOD": 22.0, "VRD": 9.0, "VOG": -5.75, "TEMP": -40.0}  # VOD, VRD, VOG relative to VSS
GAIN_TERMS = (  # factor, exponents of VSS, VOD, VRD, VOG, TEMP
    (-0.0290, 1, 0, 0, 0, 0),
    (0.0304, 0, 1, 0, 0, 0),
    (-0.0084, 0, 2, 0, 0, 0),
    (0.0053, 0, 0, 1, 0, 0),
    (-0.0069, 0, 0, 2, 0, 0),
    (-0.0112, 0, 0, 0, 1, 0),
    (0.0016, 0, 0, 0, 3, 0),
    (0.0140, 0, 1, 1, 0, 0),
    (-0.0011, 0, 0, 0, 0, 1),
)


class Mode(NamedTuple):
    """A way of reading the CCD."""

    name: str
    script: int
    frequency: int  # [Hz]
    whole: bool  # all rows are read, not only those of the window


FULL_FRAME = Mode("full frame", 4, 230_000, True)


def read_out_mode(exposure_time: float) -> Mode:
    """Return the mode in which an exposure of so many seconds is read (main hardware)."""
    if exposure_time <= 1.05:
        return Mode("ultrabright", 8, 230_000, False)
    if exposure_time <= 2.326:
        return Mode("bright", 6, 230_000, False)
    if exposure_time <= 11.296:
        return Mode("faint fast", 33, 100_000, False)
    return Mode("faint", 31, 100_000, True)


def read_time(mode: Mode, bottom: int, height: int) -> Floats:
    """Return the time from the end of the exposure until each pixel is read, shape (ROWS, COLUMNS) [s].

    Rows are read from the bottom, each after one row shift, pixel by pixel from the left. In modes that read a window
    only, the exposed rows below and above it are dumped: they take a row shift each.
    """
    row = np.arange(ROWS)
    read = np.full(ROWS, True) if mode.whole else ((row >= bottom) & (row < bottom + height)) | (row >= SIZE)
    end = np.cumsum(ROW_SHIFT_TIME + np.where(read, COLUMNS / mode.frequency, 0.0))
    return np.asarray(end[:, None] - (COLUMNS - 1 - np.arange(COLUMNS)) / mode.frequency)


def gain(vss: ArrayLike, vod: ArrayLike, vrd: ArrayLike, vog: ArrayLike, temperature: ArrayLike) -> Floats:
    """Return the gain [ADU/electron] for the voltages [V] and the temperature of the CCD [degC]."""
    vss = np.asarray(vss)
    values = (
        vss - GAIN_OFFSETS["VSS"],
        vod - vss - GAIN_OFFSETS["VOD"],
        vrd - vss - GAIN_OFFSETS["VRD"],
        vog - vss - GAIN_OFFSETS["VOG"],
        np.asarray(temperature) - GAIN_OFFSETS["TEMP"],
    )
    change = np.zeros(vss.shape)
    for factor, *powers in GAIN_TERMS:
        term = np.full(vss.shape, factor)
        for value, power in zip(values, powers, strict=True):
            term = term * value**power
        change = change + term
    return GAIN_NOMINAL * (1 + change)


@dataclass(frozen=True)
class Spline:
    """Linearisation: corrected = c0 + c1 d + c2 d^2, d = measured - boundary [electron]; `end` is the full well."""

    boundary: Floats
    c0: Floats
    c1: Floats
    c2: Floats
    end: float

    @classmethod
    def smooth(cls, boundary: tuple[float, ...], slope: float, curvature: tuple[float, ...]) -> Spline:
        """Return the curve through the origin that is continuous with its slope; the last boundary is its end."""
        step = np.diff(boundary)
        c2 = np.array(curvature)
        c1 = slope + np.concatenate([[0.0], np.cumsum(2 * c2 * step)[:-1]])
        c0 = np.concatenate([[0.0], np.cumsum(c1 * step + c2 * step**2)[:-1]])
        return cls(np.array(boundary[:-1]), c0, c1, c2, boundary[-1])

    def correct(self, measured: Floats) -> Floats:
        """Return the true charge of a measured one."""
        n = np.clip(np.searchsorted(self.boundary, measured, "right") - 1, 0, None)
        d = np.minimum(measured, self.end) - self.boundary[n]
        return np.asarray(self.c0[n] + d * (self.c1[n] + d * self.c2[n]))

    def measure(self, true: Floats) -> Floats:
        """Return the measured charge of a true one: the inverse of `correct`, cut off at the full well."""
        measured = self._invert(true, 0)
        bright = true > self.c0[1]
        if bright.any():
            n = np.searchsorted(self.c0, true[bright], "right") - 1
            measured[bright] = np.minimum(self._invert(true[bright], n), self.end)
        return measured

    def _invert(self, true: Floats, n: int | NDArray[np.intp]) -> Floats:
        rest, c1, c2 = true - self.c0[n], self.c1[n], self.c2[n]
        root = np.sqrt(np.maximum(c1**2 + 4 * c2 * rest, 0))
        return np.asarray(self.boundary[n] + 2 * rest / (c1 + root))


LINEARITY = {
    100_000: (
        (0, 28e3, 63e3, 97.5e3, 111e3, 117.5e3, 121.5e3),
        0.9920,
        (6.4e-8, 1.0e-7, 9.0e-8, 9.5e-8, 7.0e-6, 2.0e-4),
    ),
    230_000: (
        (0, 7e3, 28e3, 62e3, 96e3, 114e3, 120e3, 122.5e3),
        0.9976,
        (-1.8e-7, 3e-8, 8.2e-8, 7e-8, 2.4e-7, 2e-5, 1.2e-3),
    ),
}


@cache
def linearisation(frequency: int) -> Spline:
    """Return the true linearisation curve at a read-out frequency [Hz]."""
    return Spline.smooth(*LINEARITY[frequency])


@dataclass(frozen=True)
class Maps:
    """The truth of the instrument. Bias and dark cover the whole read-out (ROWS, COLUMNS), flat the exposed pixels."""

    bias: dict[int, Map]  # structure about the offset, by frequency [ADU]
    dark: tuple[Map, Map]  # at the two DARK_EPOCHS [electron/s]
    flat_grey: Map
    flat_colour: Map
    dead: NDArray[np.bool_]

    def flat(self, teff: float) -> Map:
        """Return the flat field for light of effective temperature `teff` [K]; mean 1 beyond 100 pixels of the edge."""
        flat = self.flat_grey + np.float32(np.log(teff / 5500.0)) * self.flat_colour
        return np.asarray(flat / flat[100:-100, 100:-100].mean(dtype=np.float64), np.float32)

    def dark_at(self, weight: float) -> Map:
        """Return the dark current between the two epochs; `weight` 0 is the first, 1 the second [electron/s]."""
        w = np.float32(np.clip(weight, 0, 1))
        return self.dark[0] * (1 - w) + self.dark[1] * w


@cache
def truth_maps() -> Maps:
    """Draw the truth maps of the instrument; the same in every run."""
    rng = np.random.default_rng(20191218)
    bias = {frequency: _bias_structure(rng, scale) for frequency, scale in ((100_000, 0.12), (230_000, 0.2))}
    grey, dead = _grey_flat(rng)
    colour = (0.0015 * _smooth(rng, 25)).astype(np.float32)
    return Maps(bias, _dark_maps(rng), grey, colour, dead)


def _smooth(rng: np.random.Generator, scale: float) -> Floats:
    """Return a smooth random map of unit rms, shape (SIZE, SIZE); it is drawn on a coarse grid and enlarged."""
    coarse = gaussian_filter(rng.normal(size=(SIZE // 4, SIZE // 4)), scale / 4, mode="wrap")
    fine = gaussian_filter(np.kron(coarse, np.ones((4, 4))), 2, mode="wrap")
    return np.asarray((fine - fine.mean()) / fine.std())


def _bias_structure(rng: np.random.Generator, scale: float) -> Map:
    columns = scale * rng.normal(size=COLUMNS)
    rows = 2 * scale * np.linspace(-1, 1, ROWS) ** 3
    structure = columns + rows[:, None] + 0.3 * scale * rng.normal(size=(ROWS, COLUMNS))
    return np.asarray(structure - structure[:SIZE, EXPOSED].mean(), np.float32)


def _dark_maps(rng: np.random.Generator) -> tuple[Map, Map]:
    """Dark current 0.3 electron/s, 0.5 % hot pixels of 3 to some 50 electron/s; a few are new at the second epoch."""
    rate = 0.3 * np.exp(0.2 * rng.normal(size=(ROWS, COLUMNS)))
    kind = rng.uniform(size=rate.shape)
    charge = 3 + rng.exponential(8, rate.shape)
    rate[OVERSCAN_TOP] = 0.3
    rate[:, MARGINS["OverscanLeft"]] = rate[:, MARGINS["BlankLeft"]] = rate[:, MARGINS["BlankRight"]] = 0
    hot = (rate > 0) & (np.arange(ROWS) < OVERSCAN_TOP.start)[:, None]
    first = rate + np.where(hot & (kind < 5e-3), charge, 0)
    second = 1.01 * rate + np.where(hot & (kind < 5.1e-3), charge, 0)
    return first.astype(np.float32), second.astype(np.float32)


def _grey_flat(rng: np.random.Generator) -> tuple[Map, NDArray[np.bool_]]:
    """Response of the pixels: 0.6 % from one to the next, 1.2 % on large scales, 40 dust shadows, 150 dead pixels."""
    flat = 1 + 0.006 * rng.normal(size=(SIZE, SIZE)) + 0.012 * _smooth(rng, 90)
    y, x = np.ogrid[:SIZE, :SIZE]
    for centre_x, centre_y, radius, depth in rng.uniform((0, 0, 4, 0.003), (SIZE, SIZE, 14, 0.02), (40, 4)):
        flat *= 1 - depth / (1 + np.exp(np.clip(np.hypot(x - centre_x, y - centre_y) - radius, -50, 50)))
    dead = np.zeros(flat.shape, bool)
    dead.flat[rng.choice(flat.size, 150, replace=False)] = True
    flat[dead] *= rng.uniform(0.05, 0.7, 150)
    return flat.astype(np.float32), dead


def cosmic_rays(rng: np.random.Generator, seconds: float, height: int, width: int, factor: float = 1.0) -> Floats:
    """Return the charge left by cosmic rays, shape (height, width) [electron].

    10.8 hits a minute in 200 x 200 pixels, random directions, a silicon layer of 15 micrometre, pixels of 13; the
    charge is 650 electrons for a perpendicular passage, in proportion to the path, with a spread of 150 in Landau's
    form (Moyal), at most 50 000.
    """
    charge = np.zeros((height, width))
    hits = rng.poisson(10.8 / 60 / 200**2 * seconds * height * width * factor)
    if hits == 0:
        return charge
    azimuth, polar = rng.uniform(0, 2 * np.pi, hits), rng.uniform(0, np.pi / 2, hits)
    length = np.minimum(15 / 13 * np.tan(polar), 60)
    moyal = -np.log(np.clip(rng.normal(size=hits) ** 2, 1e-12, None))
    total = np.clip(650 / np.cos(np.arctan(length * 13 / 15)) + 150 * moyal, 50, 50_000)
    x, y = rng.uniform(0, width, hits), rng.uniform(0, height, hits)
    steps = 1 + (5 * length).astype(int)
    hit = np.repeat(np.arange(hits), steps)
    along = (np.arange(hit.size) - np.repeat(np.cumsum(steps) - steps, steps) + 0.5) / steps[hit] * length[hit]
    i = np.floor(y[hit] + along * np.sin(azimuth[hit])).astype(int)
    j = np.floor(x[hit] + along * np.cos(azimuth[hit])).astype(int)
    inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
    np.add.at(charge, (i[inside], j[inside]), (total / steps)[hit[inside]])
    return charge


def digitise(
    charge: Floats, gain_value: float, bias: Map | float, noise: float, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """Return raw values [ADU] of a measured charge [electron]: gain, bias, noise, rounded and cut at full scale."""
    value = charge * gain_value + bias
    if noise:
        value += noise * rng.standard_normal(charge.shape, dtype=np.float32)
    return np.clip(np.rint(value), 0, FULL_SCALE).astype(np.uint16)
