"""Rows of the attitude that cannot be right, and gaps between rows.

Rows are left out if a value is missing or out of range, if their time is out of order or occurs
twice, if the roll angle stands still while the satellite turns, or if the line of sight or the
roll angle jumps away from the rows before and after. Gaps, whether rows were missing or left out,
are filled: the line of sight by a straight line, the roll angle by the cubic with the rates on
either side, since it changes by a fifteenth of a degree a second.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import median_filter

from schemas.arrays import BoolArray, FloatArray
from schemas.constants import DAY
from tasks.numerics.series import far_from_neighbours

JUMP = 10.0  # of the line of sight; smaller ones are jitter [arcsec]
JITTER = 6.0  # usual differences of two rows, which jitter never reaches against most neighbours
ROLL_JUMP = 0.05  # of the roll angle, from the drift [deg]
AWAY = 0.05  # from the usual line of sight, where a star has left the largest window [deg]
LATE = 10.0  # a row this far from its place in time does not belong there [usual intervals]
STILL = 3  # as many rows with one roll angle are frozen
RATE = 31  # rows whose median rate of the roll angle is its drift
SIDE = 10  # rows on either side of a gap that give the rate of the roll angle
MISSING = 1.5  # a gap is longer than this [usual intervals]
LONGEST = 6000.0  # gap that is filled: an orbit, after which the roll angle is anybody's guess [s]


class Rows(NamedTuple):
    """Rows of an attitude, shape (m,)."""

    time: FloatArray  # [MJD]
    ra: FloatArray  # [deg]
    dec: FloatArray
    roll: FloatArray

    def only(self, which: BoolArray | slice) -> Rows:
        """Return some of the rows."""
        return Rows(*(values[which] for values in self))


class Checked(NamedTuple):
    """Rows without wrong ones and with gaps filled."""

    rows: Rows
    gaps: FloatArray  # start and end of every gap, shape (k, 2) [MJD]
    left_out: BoolArray  # gaps in which rows were left out, shape (k,)
    counts: dict[str, int]  # rows that were left out, by reason
    frozen: bool  # nothing changes throughout


def wrapped(angle: FloatArray) -> FloatArray:
    """Return an angle between -180 and 180 deg."""
    return (angle + 180.0) % 360.0 - 180.0


def _sight(rows: Rows) -> FloatArray:
    """Return the unit vectors of the line of sight, shape (m, 3)."""
    ra, dec = np.radians(rows.ra), np.radians(rows.dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)


def out_of_order(time: FloatArray) -> BoolArray:
    """Return the rows with a time that is far from its place, or not later than that before.

    Regularly sampled rows are numbered: a row is out of place if most of its neighbours say so.
    """
    late = np.zeros(len(time), dtype=np.bool_)
    if len(time) < 2:
        return late
    interval = float(np.median(np.diff(time)))
    if interval > 0:
        number = np.arange(len(time), dtype=np.float64)
        late = far_from_neighbours(number, time - interval * number, LATE * interval)
        if late.mean() > 0.1:  # rows without a regular interval
            late[:] = False
    latest = np.maximum.accumulate(np.where(late, -np.inf, time))
    late[1:] |= time[1:] <= latest[:-1]
    return late


def still(rows: Rows) -> BoolArray:
    """Return the rows that repeat the roll angle of the row before, three or more in a row.

    None if the roll angle does not usually change.
    """
    step = wrapped(np.diff(rows.roll))
    repeats = np.zeros(len(rows.roll), dtype=np.bool_)
    if not len(step) or np.median(np.abs(step)) == 0:
        return repeats
    repeats[1:] = step == 0
    edges = np.flatnonzero(np.diff(np.r_[False, repeats, False]))
    for first, last in edges.reshape(-1, 2):
        if last - first < STILL - 1:
            repeats[first:last] = False
    return repeats


def jumps(rows: Rows) -> BoolArray:
    """Return the rows whose line of sight or roll angle is far from those of their neighbours."""
    if len(rows.time) < 2:
        return np.zeros(len(rows.time), dtype=np.bool_)
    sight = _sight(rows)
    usual = np.median(sight, axis=0)
    far = np.sqrt(np.sum(np.square(sight - usual), axis=1)) > np.radians(AWAY)
    if far.mean() > 0.5:  # no usual line of sight
        far[:] = False
    far |= far_from_neighbours(rows.time, sight, np.radians(JUMP / 3600.0), JITTER)
    later = np.diff(rows.time)
    drift = median_filter(wrapped(np.diff(rows.roll)) / later, RATE, mode="mirror") * later
    rest = np.radians(rows.roll - np.concatenate([[0.0], np.cumsum(drift)]))
    turn = np.stack([np.cos(rest), np.sin(rest)], axis=1)
    far |= far_from_neighbours(rows.time, turn, np.radians(ROLL_JUMP))
    return np.asarray(far)


def _rate(rows: Rows, part: slice) -> float:
    """Return the median rate of the roll angle in some rows [deg/day]; 0 for a single row."""
    time, roll = rows.time[part], rows.roll[part]
    return float(np.median(wrapped(np.diff(roll)) / np.diff(time))) if len(time) > 1 else 0.0


def _fill(rows: Rows, i: int, interval: float) -> Rows:
    """Return rows between the rows i and i + 1."""
    start, stop = rows.time[i], rows.time[i + 1]
    number = int(np.ceil((stop - start) / interval - 0.5))
    u = np.arange(1, number) / number
    span = stop - start
    before, after = _rate(rows, slice(max(i - SIDE, 0), i + 1)), _rate(rows, slice(i + 1, i + SIDE))
    before, after = before or after, after or before
    turned = span * (before + after) / 2
    turned += float(wrapped(rows.roll[i + 1] - rows.roll[i] - turned))
    # cubic Hermite from 0 to `turned`
    roll = (3 * u**2 - 2 * u**3) * turned
    roll += span * ((u**3 - 2 * u**2 + u) * before + (u**3 - u**2) * after)
    ra = rows.ra[i] + u * wrapped(rows.ra[i + 1] - rows.ra[i])
    dec = rows.dec[i] + u * (rows.dec[i + 1] - rows.dec[i])
    return Rows(start + u * span, ra % 360.0, dec, (rows.roll[i] + roll) % 360.0)


def fill_gaps(rows: Rows, interval: float) -> Rows:
    """Fill the gaps of less than an orbit with rows at the usual interval [day]."""
    where = np.flatnonzero(np.diff(rows.time) > MISSING * interval)
    parts, last = [], 0
    for i in where.tolist():
        if (rows.time[i + 1] - rows.time[i]) * DAY <= LONGEST:
            parts += [rows.only(slice(last, i + 1)), _fill(rows, i, interval)]
            last = i + 1
    if not parts:
        return rows
    parts.append(rows.only(slice(last, None)))
    return Rows(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def check_rows(rows: Rows) -> Checked:
    """Leave out wrong rows, and fill gaps."""
    kept = np.ones(len(rows.time), dtype=np.bool_)
    counts = {}
    for reason, find in (
        ("missing or out of range", lambda r: ~np.isfinite(np.stack(r)).all(axis=0)),
        ("out of order in time", lambda r: out_of_order(r.time)),
        ("frozen", still),
        ("far from their neighbours", jumps),
    ):
        wrong = find(rows.only(kept))
        if wrong.any():
            counts[reason] = int(wrong.sum())
            kept[np.flatnonzero(kept)[wrong]] = False
    good = rows.only(kept)
    if len(good.time) < 2:
        return Checked(good, np.empty((0, 2)), np.empty(0, np.bool_), counts, False)
    later = np.diff(good.time)
    interval = float(np.median(later))
    is_gap = later > MISSING * interval
    gaps = np.stack([good.time[:-1][is_gap], good.time[1:][is_gap]], axis=1)
    left_out = np.diff(np.flatnonzero(kept))[is_gap] > 1
    frozen = all(float(np.ptp(values)) == 0.0 for values in good[1:])
    return Checked(fill_gaps(good, interval), gaps, left_out, counts, frozen)
