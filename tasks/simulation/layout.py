"""The layout of the CCD, and its read-out modes.

A read-out has 1033 rows of 1076 pixels: 4 overscan, 8 blank, 16 dark, 1024 exposed, 16 dark, 8
blank columns; 1024 exposed, 3 dark and 6 overscan rows. Rows are read from the bottom, pixel by
pixel from the left.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from schemas.arrays import FloatArray

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

TRANSFER_TIME = 25e-6  # of the frame transfer, per row [s]
ROW_SHIFT_TIME = 30e-6  # towards the serial register, per row [s]
CCD_TEMPERATURE = -45.0  # [degC]


class Window(NamedTuple):
    """A part of the exposed area."""

    left: int
    bottom: int
    width: int
    height: int

    @property
    def rows(self) -> slice:
        """Its rows, of the read-out and of the exposed area alike."""
        return slice(self.bottom, self.bottom + self.height)

    @property
    def columns(self) -> slice:
        """Its columns of the exposed area."""
        return slice(self.left, self.left + self.width)

    @property
    def read_out_columns(self) -> slice:
        """Its columns of the read-out."""
        return slice(EXPOSED.start + self.left, EXPOSED.start + self.left + self.width)


WHOLE_CCD = Window(0, 0, SIZE, SIZE)


class Mode(NamedTuple):
    """A read-out mode."""

    name: str
    script: int
    frequency: int  # [Hz]
    whole: bool  # whether all rows are read, not only those of the window


FULL_FRAME = Mode("full frame", 4, 230_000, True)


def read_out_mode(exposure_time: float) -> Mode:
    """Return the read-out mode for an exposure time [s] (main hardware)."""
    if exposure_time <= 1.05:
        return Mode("ultrabright", 8, 230_000, False)
    if exposure_time <= 2.326:
        return Mode("bright", 6, 230_000, False)
    if exposure_time <= 11.296:
        return Mode("faint fast", 33, 100_000, False)
    return Mode("faint", 31, 100_000, True)


def read_time(mode: Mode, bottom: int, height: int) -> FloatArray:
    """Return the time from the end of the exposure to the read-out of each pixel.

    Rows are read from the bottom, each after one row shift, pixel by pixel from the left. Modes
    that read only a window dump the exposed rows below and above it, which take a row shift each.

    Returns
    -------
    ndarray, shape (ROWS, COLUMNS)
        [s].
    """
    row = np.arange(ROWS)
    read = (
        np.full(ROWS, True)
        if mode.whole
        else ((row >= bottom) & (row < bottom + height)) | (row >= SIZE)
    )
    end = np.cumsum(ROW_SHIFT_TIME + np.where(read, COLUMNS / mode.frequency, 0.0))
    return np.asarray(end[:, None] - (COLUMNS - 1 - np.arange(COLUMNS)) / mode.frequency)
