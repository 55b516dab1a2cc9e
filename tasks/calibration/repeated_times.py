"""Images with the same time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.arrays import BoolArray
from schemas.constants import DAY
from tasks.numerics.orbit import CLOCK


def flag_repeated_times(mjd: npt.ArrayLike, tolerance: float = CLOCK) -> BoolArray:
    """Flag the images that have the time of the image before.

    Parameters
    ----------
    mjd : array_like, shape (n,)
        Times [MJD].
    tolerance : float
        Longest difference between times that count as equal [s].

    Returns
    -------
    ndarray of bool, shape (n,)
        True for the second and later images of one time.

    Raises
    ------
    ValueError
        If a time is not finite or earlier than the one before; names the rows, counted from 1.
    """
    times = np.asarray(mjd, dtype=np.float64)
    if not np.isfinite(times).all():
        raise ValueError(f"time is missing in row {row_numbers(~np.isfinite(times), 1)}")
    step = np.diff(times) * DAY
    if (step < -CLOCK).any():
        raise ValueError(
            f"time is earlier than in the row before in row {row_numbers(step < -CLOCK, 2)}"
        )
    return np.concatenate([np.zeros(min(times.size, 1), dtype=np.bool_), step <= tolerance])


def row_numbers(where: BoolArray, first: int) -> str:
    """Return the numbers of the first few rows where a flag is set, as text."""
    rows = np.flatnonzero(where) + first
    return ", ".join(str(row) for row in rows[:5]) + (
        f" and {rows.size - 5} more" if rows.size > 5 else ""
    )
