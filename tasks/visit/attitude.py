"""The attitude of the satellite at 1 Hz, and the track of the target on the CCD that follows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from schemas.arrays import BoolArray, FloatArray
from schemas.inputs import ATTITUDE, PIXEL_SCALE
from schemas.payloads import Product, Reference
from tasks.files.disk import require
from tasks.files.reader import open_declared
from tasks.visit.attitude_rows import Rows, check_rows

DEFAULT_SCALE = 1.01  # used without a reference [arcsec/pixel]


@dataclass(frozen=True)
class Attitude:
    """Line of sight and roll angle at m times, arrays of shape (m,)."""

    time: FloatArray  # increasing [MJD]
    ra: FloatArray  # of the line of sight [deg]
    dec: FloatArray
    roll: FloatArray  # [deg]
    path: Path  # of the file
    # start and end of the gaps that were filled or are left, shape (k, 2) [MJD]
    gaps: FloatArray = field(default_factory=lambda: np.empty((0, 2)))
    # gaps in which rows were left out, shape (k,)
    left_out: BoolArray = field(default_factory=lambda: np.empty(0, np.bool_))
    counts: dict[str, int] = field(default_factory=dict)  # rows that were left out, by reason
    frozen: bool = False  # nothing changes throughout


def read_attitude(product: Product) -> Attitude:
    """Return the attitude of a visit, without wrong rows and with gaps filled.

    Raises
    ------
    BadInputError
        If fewer than half of the rows are valid, or fewer than two.
    """
    with open_declared(require(product.path), ATTITUDE) as file:
        table = file["SCI_RAW_Attitude"]
        columns = ("MJD_TIME", "SC_RA", "SC_DEC", "SC_ROLL_ANGLE")
        rows = Rows(*(table.column(name).astype(np.float64) for name in columns))
        checked = check_rows(rows)
        if len(checked.rows.time) < 2 or 2 * sum(checked.counts.values()) > len(rows.time):
            found = ", ".join(f"{n} {reason}" for reason, n in checked.counts.items())
            raise table.refuse(f"of {len(rows.time)} rows, {found or 'too few to be averaged'}")
        return Attitude(*checked.rows, file.path, *checked[1:])


def mean_between(
    time: FloatArray, values: FloatArray, start: FloatArray, stop: FloatArray
) -> FloatArray:
    """Return the mean of a linearly interpolated series over intervals of any length.

    Parameters
    ----------
    time, values : ndarray, shape (m,)
        At least two samples in order of time.
    start, stop : ndarray, of the same shape
        Intervals; parts outside of the samples are ignored.

    Returns
    -------
    ndarray, of that shape
        NaN for intervals outside of the samples.
    """
    area = np.concatenate([[0.0], np.cumsum(0.5 * (values[1:] + values[:-1]) * np.diff(time))])

    def integrate_to(t: FloatArray) -> FloatArray:
        i = np.clip(np.searchsorted(time, t, "right") - 1, 0, len(time) - 2)
        d, slope = t - time[i], (values[i + 1] - values[i]) / (time[i + 1] - time[i])
        return np.asarray(area[i] + d * (values[i] + 0.5 * slope * d))

    a, b = np.clip(start, time[0], time[-1]), np.clip(stop, time[0], time[-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(b > a, (integrate_to(b) - integrate_to(a)) / (b - a), np.nan))


def interval_moments(
    time: FloatArray, values: FloatArray, start: FloatArray, stop: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return mean and variance of the samples with start <= time < stop; NaN if there are none.

    Parameters
    ----------
    time, values : ndarray, shape (m,)
        Samples in order of time.
    start, stop : ndarray, shape (n,)
        Intervals.
    """
    offset = float(values.mean()) if len(values) else 0.0
    v = values - offset
    first, last = np.searchsorted(time, start, "left"), np.searchsorted(time, stop, "left")
    count = (last - first).astype(np.float64)
    count[count <= 0] = np.nan
    one, two = (np.concatenate([[0.0], np.cumsum(p)]) for p in (v, v * v))
    mean = (one[last] - one[first]) / count
    variance = np.maximum((two[last] - two[first]) / count - mean**2, 0.0)
    return mean + offset, variance


def pixel_scale(reference: Reference | None) -> float:
    """Return the scale of a pixel [arcsec/pixel]."""
    if reference is None:
        return DEFAULT_SCALE
    with open_declared(require(reference.product.path), PIXEL_SCALE) as file:
        scale = float(file["REF_APP_PixelScale"].finite_column("PIXEL_SCALE")[0])
        if not 0.1 < scale < 10:
            raise file["REF_APP_PixelScale"].refuse(
                f"column PIXEL_SCALE is {scale} arcsec/pixel, expected 0.1 to 10"
            )
        return scale


def target_track(
    attitude: Attitude, target: tuple[float, float], arcsec: float
) -> tuple[FloatArray, FloatArray]:
    """Return the track of the target on the CCD, up to a constant.

    Parameters
    ----------
    attitude : Attitude
        Attitude at m times.
    target : tuple of float
        Right ascension and declination of the target [deg].
    arcsec : float
        Scale of a pixel [arcsec/pixel].

    Returns
    -------
    x, y : ndarray, shape (m,)
        Track [pixel]. At roll 0, North is up and East to the left; North turns to the right with
        increasing roll.
    """
    east = (target[0] - attitude.ra + 180.0) % 360.0 - 180.0
    xi, eta = 3600.0 * east * np.cos(np.radians(target[1])), 3600.0 * (target[1] - attitude.dec)
    sine, cosine = np.sin(np.radians(attitude.roll)), np.cos(np.radians(attitude.roll))
    return (-xi * cosine + eta * sine) / arcsec, (eta * cosine + xi * sine) / arcsec
