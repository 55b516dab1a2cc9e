"""The motion of the target during every exposure, from the attitude, and the attitude's lag."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.arrays import FloatArray
from schemas.constants import DAY
from schemas.payloads import Pointing
from tasks.numerics.robust import robust_scatter
from tasks.visit.raw import span_of
from tasks.visit.terms import term_column


def mean_of(values: FloatArray) -> float:
    """Return the mean of a short array, in a quarter of the time that its own method takes."""
    return float(np.add.reduce(values)) / len(values)


@dataclass(frozen=True)
class Track:
    """Place of the target on the CCD by the attitude, up to a constant; arrays of shape (m,)."""

    time: FloatArray  # since `origin` [s]
    x: FloatArray  # [pixel]
    y: FloatArray
    roll: FloatArray  # [deg]
    origin: float  # MJD of time 0
    # between the starts of consecutive exposures of a stack [s]; less than an exposure: contiguous
    repetition: float = 0.0

    def span(self, nexp: int, exposure_time: float) -> float:
        """Return the time from the start to the end of a stack of exposures [s]."""
        return span_of(nexp, exposure_time, self.repetition)

    def during(self, mjd: float, duration: float, lag: float) -> tuple[FloatArray, FloatArray]:
        """Return the places during an exposure relative to their mean [pixel].

        A single zero outside of the attitude.
        """
        x, y, _ = self.path(mjd, duration, lag)
        return x, y

    def mean(self, mjd: float, duration: float, lag: float) -> tuple[float, float]:
        """Return the mean place during an exposure, interpolated if it is shorter than a sample."""
        middle = (mjd - self.origin) * DAY + lag
        first, last = np.searchsorted(self.time, (middle - duration / 2, middle + duration / 2))
        if last <= first:
            return float(np.interp(middle, self.time, self.x)), float(
                np.interp(middle, self.time, self.y)
            )
        return mean_of(self.x[first:last]), mean_of(self.y[first:last])

    def path(
        self, mjd: float, duration: float, lag: float
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return places relative to their mean [pixel], and roll angles [deg], of an exposure."""
        middle = (mjd - self.origin) * DAY + lag
        first, last = np.searchsorted(self.time, (middle - duration / 2, middle + duration / 2))
        if last <= first:
            return np.zeros(1), np.zeros(1), np.array([np.interp(middle, self.time, self.roll)])
        x, y = self.x[first:last], self.y[first:last]
        return x - mean_of(x), y - mean_of(y), self.roll[first:last]

    def at(
        self, seconds: FloatArray, mjd: float, duration: float, lag: float
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return places relative to the mean of an exposure [pixel], and roll angles [deg].

        Times are relative to the middle of the exposure [s].
        """
        x, y = self.mean(mjd, duration, lag)
        time = (mjd - self.origin) * DAY + lag + seconds
        first, last = np.searchsorted(self.time, (time.min(), time.max()))
        near = slice(max(int(first) - 1, 0), int(last) + 1)
        roll = np.interp(time, self.time[near], np.unwrap(self.roll[near], period=360.0))
        return np.interp(time, self.time, self.x) - x, np.interp(time, self.time, self.y) - y, roll


def read_track(pointing: Pointing) -> Track:
    """Read the attitude's track from the term of the pointing."""
    columns = ("MJD_TIME", "X", "Y", "ROLL_ANGLE")
    mjd, x, y, roll = term_column(pointing.product, "TERM_TRACK", *columns)
    return Track((mjd - mjd[0]) * DAY, x, y, roll, float(mjd[0]), float(pointing.used["REPETIT"]))


def estimate_lag(
    track: Track, mjd: FloatArray, duration: float, x: FloatArray, y: FloatArray
) -> tuple[float, float]:
    """Return the lag of the attitude's time stamps behind the measured places, and its error [s].

    The mean of the track over an exposure changes with the lag by the difference of its ends over
    the duration. A positive lag means that the exposure saw places which the attitude has later.
    """
    if not len(x):
        return 0.0, float("inf")
    middle = (mjd - track.origin) * DAY
    ends = [
        np.interp(middle + s * duration / 2, track.time, v)
        for s in (-1, 1)
        for v in (track.x, track.y)
    ]
    rate = np.concatenate([ends[2] - ends[0], ends[3] - ends[1]]) / duration
    away = []
    for measured, values in ((x, track.x), (y, track.y)):
        # trapezium rule through the samples: exact for the straight lines between them
        path = np.concatenate(
            [[0.0], np.cumsum((values[1:] + values[:-1]) / 2 * np.diff(track.time))]
        )
        first, last = (np.interp(middle + s * duration / 2, track.time, path) for s in (-1, 1))
        mean = (last - first) / duration
        away.append(measured - mean - np.median(measured - mean))
    residual = np.concatenate(away)
    good = np.isfinite(residual) & np.isfinite(rate)
    # clipped once: a cosmic ray displaces the measured place
    good &= np.abs(residual) < 10 * max(robust_scatter(residual), 1e-6)
    strength = float((rate[good] ** 2).sum())
    if good.sum() < 10 or strength == 0:
        return 0.0, float("inf")
    lag = float((rate[good] * residual[good]).sum() / strength)
    rest = robust_scatter(residual[good] - lag * rate[good])
    return lag, rest / np.sqrt(strength)
