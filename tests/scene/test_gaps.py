"""Gaps of the attitude: which images they flag, and how they are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from schemas.arrays import BoolArray
from schemas.constants import DAY
from schemas.settings import PointingSettings
from tasks.scene.pointing import touch_gaps
from tasks.visit.attitude import Attitude
from tasks.visit.attitude_rows import Rows, check_rows

# four images of 60 s, 10 s apart, under an attitude of a row a second
MIDDLES, DURATION, SECONDS = np.array([40.0, 110.0, 180.0, 250.0]), 60.0, 300


def flags(lost: list[int], roll_frozen: slice | None = None) -> tuple[BoolArray, list[str]]:
    """Return which images are flagged if some seconds of the attitude are lost, and warnings."""
    time = np.arange(SECONDS, dtype=np.float64)
    rng = np.random.default_rng(2)
    jitter = rng.normal(0.0, 1e-5, (2, SECONDS))
    rows = Rows(59000.0 + time / DAY, 10.0 + jitter[0], 20.0 + jitter[1], 150.0 - 0.06 * time)
    if roll_frozen is not None:
        rows.roll[roll_frozen] = rows.roll[roll_frozen.start]
    checked = check_rows(rows.only(~np.isin(np.arange(SECONDS), lost)))
    attitude = Attitude(*checked.rows, Path("attitude.fits"), *checked[1:])
    warnings: list[str] = []
    mjd = 59000.0 + MIDDLES / DAY
    return touch_gaps(attitude, mjd, DURATION / DAY, PointingSettings(), warnings), warnings


@pytest.mark.parametrize(
    ("lost", "flagged"),
    [
        ([], []),
        ([*range(71, 79)], []),  # between two images
        ([*range(30, 50)], [0]),  # in the middle of one
        ([*range(60, 77)], [0]),  # at its end
        ([*range(74, 90)], [1]),  # at the beginning
        ([*range(50, 100)], [0, 1]),  # one end in either
        ([*range(50, 240)], [0, 1, 2, 3]),
        ([*range(20, 24)], []),  # 4 s of 60
        ([20, 21, 22, 23, 40, 41, 42, 43], [0]),  # 8 s of 60
        ([*range(85, 135, 5)], [1]),  # a row in five is lost
        ([68, 69, 70, 77, 78, 79], []),  # beside the gap between two images
    ],
)
def test_gaps_flag_the_images_of_which_they_hide_much(lost: list[int], flagged: list[int]) -> None:
    found, warnings = flags(lost)
    assert np.flatnonzero(found).tolist() == flagged
    if flagged:
        assert f"gaps in the attitude of {len(flagged)} images, which are flagged" in warnings[0]
    else:
        assert warnings == []


def test_the_warning_names_the_gaps_that_hide_an_image_and_counts_the_others() -> None:
    _, (warning,) = flags([5, 72, *range(85, 135, 5), 282])
    start = 59000.0 + 84 / DAY
    assert f": 2 s from MJD {start:.5f} to {start + 2 / DAY:.5f}; " in warning
    assert warning.endswith("and 7 more: interpolated")


def test_an_image_in_which_rows_were_left_out_is_flagged_whatever_their_number() -> None:
    found, _ = flags([], slice(120, 124))
    assert np.flatnonzero(found).tolist() == [1]
