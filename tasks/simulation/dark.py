"""Dark current: a map that ages, hot pixels in it, a law of temperature; and telegraphic pixels.

There are maps of the CCD at four dates; each pixel changes linearly between them, and not at all
before the first and after the last. The dark current grows with temperature as T^3 exp(-9080 K / T)
(the manufacturer's law for this CCD). Hot pixels have 3 electron/s and more, with an exponential
tail, and stay hot at all later dates. By March 2024, nine percent of the pixels are hot.

A telegraphic pixel jumps between two levels; the times it stays in either are exponential, with
means of its own around 540 s. The reference dark maps show its mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import erfa
import numpy as np
from numba import njit

from schemas.arrays import BoolArray, Float32Array, FloatArray, IntArray
from tasks.simulation.layout import CCD_TEMPERATURE, COLUMNS, MARGINS, OVERSCAN_TOP, ROWS


class Epoch(NamedTuple):
    """State of the CCD at a date."""

    date: str
    rate: float  # median dark current [electron/s]
    hot: float  # fraction of the pixels that are hot
    telegraphic: float  # fraction of the pixels that are telegraphic


EPOCHS = (
    Epoch("2021-03-05T00:00:00", 0.300, 0.0050, 0.0005),
    Epoch("2021-03-15T00:00:00", 0.303, 0.0051, 0.0005),
    Epoch("2024-03-05T00:00:00", 0.700, 0.0900, 0.0200),
    Epoch("2024-03-15T00:00:00", 0.703, 0.0902, 0.0200),
)
HOT_LIMIT = 3.0  # a pixel above it is hot [electron/s]
HOT_SCALE = 8.0  # mean excess of hot pixels over the limit [electron/s]
# smallest step of a telegraphic pixel, and mean excess over it [electron/s]
LEVEL, LEVEL_SCALE = 1.5, 6.0
DWELL, DWELL_SPREAD = 540.0, 0.8  # mean stay in a level [s], scatter of its logarithm


@dataclass(frozen=True)
class Darkness:
    """Dark current at a date [electron/s], shape (ROWS, COLUMNS)."""

    smooth: Float32Array
    hot: Float32Array  # excess of the hot pixels
    telegraphic: float  # fraction of the pixels that are telegraphic


def at(mjd: float) -> Darkness:
    """Return the dark current at a date [MJD]; the time scale does not matter."""
    dates = [_mjd(epoch.date) for epoch in EPOCHS]
    after = int(np.clip(np.searchsorted(dates, mjd), 1, len(dates) - 1))
    early, late = at_epoch(after - 1), at_epoch(after)
    w = np.float32(np.clip((mjd - dates[after - 1]) / (dates[after] - dates[after - 1]), 0, 1))
    return Darkness(
        early.smooth * (1 - w) + late.smooth * w,
        early.hot * (1 - w) + late.hot * w,
        early.telegraphic * (1 - float(w)) + late.telegraphic * float(w),
    )


def _mjd(date: str) -> float:
    year, month, day = map(int, date[:10].split("-"))
    return float(erfa.cal2jd(year, month, day)[1])


@cache
def at_epoch(number: int) -> Darkness:
    """Return the dark current at one of the EPOCHS."""
    epoch = EPOCHS[number]
    rng = np.random.default_rng(20191221)
    smooth = epoch.rate * np.exp(0.2 * rng.normal(size=(ROWS, COLUMNS)))
    order, charge = (
        rng.uniform(size=smooth.shape),
        HOT_LIMIT + rng.exponential(HOT_SCALE, smooth.shape),
    )
    smooth[OVERSCAN_TOP] = epoch.rate
    silicon = np.ones(smooth.shape, bool)
    for name in ("OverscanLeft", "BlankLeft", "BlankRight"):
        smooth[:, MARGINS[name]] = 0
        silicon[:, MARGINS[name]] = False
    silicon[OVERSCAN_TOP] = False
    hot = np.where(silicon & (order < epoch.hot), charge, 0)
    return Darkness(smooth.astype(np.float32), hot.astype(np.float32), epoch.telegraphic)


def temperature_factor(temperature: float) -> float:
    """Return the dark current at a temperature of the CCD [degC], relative to the usual one."""

    def law(celsius: float) -> float:
        kelvin = celsius + 273.15
        return kelvin**3 * float(np.exp(-9080 / kelvin))

    return law(temperature) / law(CCD_TEMPERATURE)


@dataclass(frozen=True)
class Telegraphs:
    """Telegraphic pixels of the read-out, or of a part of it."""

    row: IntArray
    column: IntArray
    level: FloatArray  # step between the levels [electron/s]
    low: FloatArray  # mean stay in the low level [s]
    high: FloatArray  # mean stay in the high level [s]

    @property
    def duty(self) -> FloatArray:
        """Fraction of the time in the high level."""
        return self.high / (self.low + self.high)

    def within(self, rows: slice, columns: slice) -> Telegraphs:
        """Return the pixels in a part of the read-out, with places relative to its corner."""
        inside = (
            (self.row >= rows.start)
            & (self.row < rows.stop)
            & (self.column >= columns.start)
            & (self.column < columns.stop)
        )
        return Telegraphs(
            self.row[inside] - rows.start,
            self.column[inside] - columns.start,
            self.level[inside],
            self.low[inside],
            self.high[inside],
        )


def telegraphs(fraction: float) -> Telegraphs:
    """Return the telegraphic pixels of the CCD, a fraction of all pixels.

    Those of a smaller fraction are among those of a larger one.
    """
    rng = np.random.default_rng(20191222)
    most = round(0.05 * ROWS * COLUMNS)
    place = rng.choice(ROWS * COLUMNS, most, replace=False)
    level = LEVEL + rng.exponential(LEVEL_SCALE, most)
    low, high = DWELL * np.exp(DWELL_SPREAD * rng.normal(size=(2, most)) - DWELL_SPREAD**2 / 2)
    row, column = np.divmod(place, COLUMNS)
    chosen = (np.arange(most) < fraction * ROWS * COLUMNS) & (row < OVERSCAN_TOP.start)
    chosen &= (column >= MARGINS["DarkLeft"].start) & (column < MARGINS["DarkRight"].stop)
    return Telegraphs(row[chosen], column[chosen], level[chosen], low[chosen], high[chosen])


def telegraphic_mean(fraction: float) -> Float32Array:
    """Return the mean rate of the telegraphic pixels in a dark map, shape (ROWS, COLUMNS).

    `fraction` is that of telegraphic pixels among all; rates are in electron/s.
    """
    mean, pixels = np.zeros((ROWS, COLUMNS), np.float32), telegraphs(fraction)
    mean[pixels.row, pixels.column] = pixels.level * pixels.duty
    return mean


@dataclass(frozen=True)
class Jumps:
    """The times at which telegraphic pixels jump: time[first[k] : first[k + 1]] of pixel k."""

    high: BoolArray  # whether a pixel begins in the high level
    first: IntArray
    time: FloatArray  # [s]

    def high_time(self, start: float, stop: float) -> FloatArray:
        """Return the time that each pixel spends in its high level between two times [s]."""
        return np.asarray(_high_time(self.high, self.first, self.time, start, stop))


def draw_jumps(rng: np.random.Generator, pixels: Telegraphs, begin: float, end: float) -> Jumps:
    """Draw the jumps between two times [s].

    The probability of the first level is the fraction of the time that a pixel spends in it.
    """
    high = rng.uniform(size=pixels.level.size) < pixels.duty
    times: list[FloatArray] = []
    for k in range(high.size):
        pair = (pixels.high[k], pixels.low[k]) if high[k] else (pixels.low[k], pixels.high[k])
        count = int(2 * (end - begin) / sum(pair)) + 1
        series = np.empty(0)
        while series.size == 0 or series[-1] < end:
            more = rng.exponential(np.tile(pair, count + 5 * int(np.sqrt(count)) + 5))
            series = np.concatenate(
                [series, (series[-1] if series.size else begin) + np.cumsum(more)]
            )
        times.append(series[: np.searchsorted(series, end)])
    first = np.concatenate([[0], np.cumsum([series.size for series in times])]).astype(np.int64)
    return Jumps(high, first, np.concatenate([*times, np.empty(0)]))


@njit(cache=True, nogil=True)
def _high_time(
    high: BoolArray, first: IntArray, time: FloatArray, start: float, stop: float
) -> FloatArray:
    total = np.zeros(high.size)
    for k in range(high.size):
        jumps = time[first[k] : first[k + 1]]
        n = np.searchsorted(jumps, start)
        state, now = high[k] ^ (n % 2 == 1), start
        while n < jumps.size and jumps[n] < stop:
            if state:
                total[k] += jumps[n] - now
            now, state, n = jumps[n], not state, n + 1
        if state:
            total[k] += stop - now
    return total
