"""Clocks: MJD, UTC and on-board time of a row are the same moment, or the file is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.errors import BadInputError
from schemas.inputs import ATTITUDE, CONSTRAINTS, VISIT_INPUTS, Input
from tasks.files.reader import open_declared, scan
from tasks.files.writer import write_fits
from tasks.numerics.times import utc_to_mjd
from tasks.visit.clocks import Clock, check_clocks, compare_clocks
from tests.support.any_product import some_table
from tests.support.outside import outside

SECOND = 1 / 86_400
UTC = np.array([f"2021-03-10T08:{minute:02}:00" for minute in range(20)])
MJD = utc_to_mjd(UTC)
OBT = np.rint(((MJD - 51_544) * 86_400 - 63.6) * 65_536).astype(np.int64)


def clocks(folder: Path, declared: Input = ATTITUDE, **columns: Any) -> list[Clock]:
    """Check a table of 20 minutes with some columns changed."""
    table = {"UTC_TIME": UTC, "MJD_TIME": MJD, "OBT_TIME": OBT} | columns
    path = folder / "table.fits"
    write_fits(path, [some_table(declared.first[0], 20, **table)])
    with open_declared(path, declared) as file:
        return check_clocks(file)


def one(values: Any, row: int, value: Any) -> Any:
    """Return a column with another value in one row."""
    changed = np.array(values)
    changed[row] = value
    return changed


def test_times_that_agree_give_the_offset_of_on_board_time(tmp_path: Path) -> None:
    (clock,) = clocks(tmp_path)
    # on-board time is counted here from 2000-01-01 and 63.6 s late
    assert clock.offset + 63.6 - (clock.mjd - 51_544) * 86_400 == pytest.approx(0, abs=1e-4)
    assert clock.reset == 0
    assert clocks(tmp_path, CONSTRAINTS) == []  # without on-board time


def test_mjd_in_utc_is_recognised(tmp_path: Path) -> None:
    match = (
        r"HDU 1 AUX_RES_VisitConstraints: column MJD_TIME is 59283\.333333 in row 1, where "
        r"UTC_TIME is 2021-03-10T08:00:00, which is MJD 59283\.334134 in TT: they differ by "
        r"-69\.184 s in 20 of 20 rows; it looks like UTC"
    )
    with pytest.raises(BadInputError, match=match):
        clocks(tmp_path, CONSTRAINTS, MJD_TIME=MJD - 69.184 * SECOND)


@pytest.mark.parametrize("seconds", [1.0, -1.0, 37.0, 3600.0])
def test_a_shift_of_a_leap_second_or_more_is_refused(seconds: float, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=rf"differ by {seconds:.3f} s in 20 of 20 rows$"):
        clocks(tmp_path, MJD_TIME=MJD + seconds * SECOND)


def test_one_wrong_row_is_refused_but_left_out_of_the_attitude(tmp_path: Path) -> None:
    utc = one(UTC, 7, "2021-03-10T08:07:02")
    with pytest.raises(BadInputError, match=r"in row 8, where .*differ by -2\.000 s in 1 of 20"):
        clocks(tmp_path, CONSTRAINTS, UTC_TIME=utc)
    assert len(clocks(tmp_path, ATTITUDE, UTC_TIME=utc)) == 1


@pytest.mark.parametrize("utc", ["", "1970-01-01T00:00:00"])
def test_a_utc_that_is_not_known_contradicts_nothing(utc: str, tmp_path: Path) -> None:
    assert clocks(tmp_path, CONSTRAINTS, UTC_TIME=one(UTC, 3, utc)) == []


def test_a_utc_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"UTC_TIME: row 4: '2021-02-30.*does not exist"):
        clocks(tmp_path, CONSTRAINTS, UTC_TIME=one(UTC, 3, "2021-02-30T00:00:00"))


def test_repeated_times_and_times_that_run_back_are_left_to_the_steps(tmp_path: Path) -> None:
    assert clocks(tmp_path, CONSTRAINTS, MJD_TIME=one(MJD, 7, MJD[6])) == []
    assert clocks(tmp_path, CONSTRAINTS, MJD_TIME=one(MJD, 7, MJD[5])) == []


def test_on_board_time_of_many_rows_against_the_others_is_refused(tmp_path: Path) -> None:
    late = OBT.copy()
    late[:3] += 60 * 65_536
    match = rf"OBT_TIME is {late[0]} in row 1, .*in 3 of 20 rows, on-board time is 60\.000 s off"
    with pytest.raises(BadInputError, match=match):
        clocks(tmp_path, OBT_TIME=late)


@pytest.mark.parametrize("changed", [one(OBT, 4, -1), one(OBT, 4, OBT[4] + (1 << 48)), OBT | 1])
def test_unknown_reset_and_unsynchronised_counts_are_no_fault(changed: Any, tmp_path: Path) -> None:
    assert len(clocks(tmp_path, OBT_TIME=changed)) == 1


def test_a_whole_file_that_is_shifted_is_found_against_another(tmp_path: Path) -> None:
    (sound,) = clocks(tmp_path)
    (shifted,) = clocks(tmp_path, OBT_TIME=OBT - 3600 * 65_536)
    compare_clocks([sound, sound])
    with pytest.raises(BadInputError, match=r"OBT_TIME minus MJD_TIME differs by -3600\.000 s"):
        compare_clocks([sound, shifted])


@pytest.mark.parametrize("folder", ["visits", "real"])
def test_clocks_of_outside_files_agree(folder: str) -> None:
    kinds = {first: declared for declared in VISIT_INPUTS for first in declared.first}
    seen: dict[Path, list[Clock]] = {}
    for path in sorted(p for p in outside(folder).rglob("*.fits") if "truth" not in p.parts):
        with scan(path) as file:
            declared = kinds.get(file.extname)
        if declared is not None:
            with open_declared(path, declared) as file:
                seen.setdefault(path.parents[1], []).extend(check_clocks(file))
    assert any(seen.values())
    for visit in seen.values():
        compare_clocks(visit)
