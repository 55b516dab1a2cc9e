"""The clocks of a visit: MJD_TIME (TT), UTC_TIME and OBT_TIME of a row are the same moment.

Light curves use MJD_TIME. If it were UTC, every BJD would be 69 s early and the roll angle that of
another moment, which nothing later in the pipeline would notice. On-board time counts 1/65536 s
from a moment that no file gives; it shows shifts of single rows, and of whole files against others.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from schemas.arrays import BoolArray, FloatArray
from schemas.constants import DAY
from schemas.errors import BadInputError
from tasks.files.reader import FitsFile, Hdu, read_from
from tasks.numerics.times import NO_UTC, after_leap_second_expiry, utc_to_mjd

# Half of a leap second, the smallest mistake that is made with time scales. In flight and simulated
# files, UTC_TIME and MJD_TIME agree to the last digit.
TOLERANCE = 0.5  # [s]
FUTURE_LEAP_SECONDS = 2.0  # that UTC may have had after the table of leap seconds ends [s]
# The on-board clock drifts by 1.6e-7 against TT in a year of flight, by 8e-8 in a simulated visit.
DRIFT = 1e-6
COUNTS = 65_536.0  # of on-board time per second
TURN = 1 << 48  # counts between two values of the reset counter in the upper 16 bits
REPEATED = 1e-3  # an image nearer in time to the one before is flagged as a duplicate [s]
FEW = 0.1  # share of wrong rows that the reader of the attitude leaves out


class Clock(NamedTuple):
    """On-board time minus TT in one table, where it is known."""

    table: str  # for messages
    mjd: float  # median of the times [MJD]
    offset: float  # median of the differences [s]
    reset: int  # reset counter of on-board time


def check_clocks(file: FitsFile) -> list[Clock]:
    """Check the rows of all tables in use that have times; return their clocks.

    Raises
    ------
    BadInputError
        If times of a row disagree; names the row and both values.
    """
    clocks = []
    for hdu in file.hdus[1:]:
        if hdu.declared is None or not hdu.declared.is_table or not hdu.rows:
            continue
        present = hdu.present()
        if "MJD_TIME" not in present:
            continue
        mjd = hdu.column("MJD_TIME")
        if "UTC_TIME" in present:
            _check_utc(hdu, mjd)
        if "OBT_TIME" in present and (clock := _check_obt(hdu, mjd)):
            clocks.append(clock)
    return clocks


def _check_utc(hdu: Hdu, mjd: FloatArray) -> None:
    texts = hdu.column("UTC_TIME")
    with read_from(hdu.file.path, f"{hdu.extname}: column UTC_TIME"):
        tt = utc_to_mjd(np.where(texts == "", NO_UTC.decode(), texts))
    late = (mjd - tt) * DAY
    allowed = TOLERANCE + FUTURE_LEAP_SECONDS * after_leap_second_expiry(mjd)
    wrong = np.abs(late) > allowed
    if _to_refuse(hdu, wrong, mjd):
        row = int(np.argmax(wrong & ~_repeated(mjd)))
        scale = (
            "; it looks like UTC"
            if abs(late[row] + _tt_minus_utc(texts[row], tt[row])) < TOLERANCE
            else ""
        )
        raise hdu.refuse(
            f"column MJD_TIME is {mjd[row]:.6f} in row {row + 1}, where UTC_TIME is {texts[row]}, "
            f"which is MJD {tt[row]:.6f} in TT: they differ by {late[row]:.3f} s in "
            f"{int(wrong.sum())} of {len(mjd)} rows{scale}"
        )


def _tt_minus_utc(utc: str, tt: float) -> float:
    """Return the difference of the scales at a time given in both [s]."""
    midnight = float(utc_to_mjd(f"{utc[:10]}T00:00:00")[0])
    return (midnight - np.floor(midnight)) * DAY if np.isfinite(tt) else np.nan


def _check_obt(hdu: Hdu, mjd: FloatArray) -> Clock | None:
    obt = hdu.column("OBT_TIME")
    known = (obt > 0) & np.isfinite(mjd) & ~_repeated(mjd)
    if not known.any():
        return None
    reset = obt // TURN
    usual = int(np.median(reset[known]))
    known &= reset == usual
    if not known.any():
        return None
    middle = float(np.median(mjd[known]))
    offset = (obt % TURN) / COUNTS - (mjd - middle) * DAY
    usual_offset = float(np.median(offset[known]))
    late = offset - usual_offset
    wrong = known & (np.abs(late) > TOLERANCE + DRIFT * np.abs(mjd - middle) * DAY)
    if _to_refuse(hdu, wrong, mjd):
        row = int(np.argmax(wrong))
        raise hdu.refuse(
            f"column OBT_TIME is {obt[row]} in row {row + 1}, where MJD_TIME is {mjd[row]:.6f}: "
            f"in {int(wrong.sum())} of {len(mjd)} rows, on-board time is {late[row]:.3f} s off "
            f"that of the other rows"
        )
    table = f"{hdu.file.path.name}: HDU {hdu.index} {hdu.extname}"
    return Clock(table, middle, usual_offset, usual)


def _repeated(mjd: FloatArray) -> BoolArray:
    """Return the rows with the time of the row before, which a step flags as duplicates."""
    return np.asarray(np.r_[False, np.abs(np.diff(mjd)) * DAY <= REPEATED])


def _to_refuse(hdu: Hdu, wrong: BoolArray, mjd: FloatArray) -> bool:
    """Whether rows with wrong times are refused here, and not by the step that reads them.

    Few wrong rows of the attitude are left out. Times of images that run back are refused with
    the row in which they do.
    """
    if hdu.extname == "SCI_RAW_Attitude":
        return bool(wrong.mean() > FEW)
    if hdu.extname != "SCI_RAW_ImagetteMetadata" and (np.diff(mjd) * DAY < -REPEATED).any():
        return False
    return bool((wrong & ~_repeated(mjd)).any())


def compare_clocks(clocks: list[Clock]) -> None:
    """Check that on-board time and TT differ alike in all tables of a visit.

    Raises
    ------
    BadInputError
        If two tables disagree.
    """
    for first, second in pairwise(clocks):
        if first.reset != second.reset:
            continue
        apart = abs(second.mjd - first.mjd) * DAY
        # `offset` counts from the middle of each table
        shift = second.offset - first.offset - (second.mjd - first.mjd) * DAY
        if abs(shift) > TOLERANCE + DRIFT * apart:
            raise BadInputError(
                f"{second.table}: OBT_TIME minus MJD_TIME differs by {shift:.3f} s from that in "
                f"{first.table}: the times of one of these files are shifted"
            )
