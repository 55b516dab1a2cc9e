"""Values out of range: rejected with place and value, or NaN where they count as missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.errors import BadInputError
from schemas.inputs import (
    ATTITUDE,
    CONSTRAINTS,
    GAIN_CORRECTION,
    HOUSEKEEPING_LIMITS,
    ORBIT,
    SAA_MAP,
    STAR_CATALOGUE,
    Input,
)
from tasks.files.reader import open_declared
from tasks.files.writer import write_fits
from tests.support.any_product import neutral, some_table

LARGEST = float(np.finfo(np.float64).max)
OFFSETS = {"VSS_OFF": 8.8, "VOD_OFF": 22.0, "VRD_OFF": 9.0, "VOG_OFF": -5.75, "TEMP_OFF": -40.0}


def written(
    folder: Path, extname: str, columns: Mapping[str, Any] | None = None, gain: float = 0.5
) -> Path:
    """Write a table of three rows."""
    path = folder / f"{extname}.fits"
    table = some_table(extname, 3, **dict(columns or {}))
    keywords = neutral(table.declared, RO_HW="main", GAIN_NOM=gain, **OFFSETS)
    write_fits(path, [replace(table, keywords=keywords)])
    return path


@pytest.mark.parametrize(
    ("declared", "column", "values", "match"),
    [
        (
            SAA_MAP,
            "LATITUDE",
            [0, 1000, 91],
            r"HDU 1 EXT_APP_SAAMap: column LATITUDE: 2 of 3 values are out of range, expected "
            r"-90 to 90; the first is 1000 in row 2",
        ),
        (SAA_MAP, "LONGITUDE", [0, 0, -361], "LONGITUDE: 1 of 3 .* the first is -361 in row 3"),
        (GAIN_CORRECTION, "EXP_VOD", [0, 65535, 0], "EXP_VOD: .* is 65535 in row 2"),
    ],
)
def test_a_value_out_of_range_is_rejected_with_its_place(
    declared: Input, column: str, values: list[float], match: str, tmp_path: Path
) -> None:
    path = written(tmp_path, declared.first[0], {column: values})
    with pytest.raises(BadInputError, match=match):
        open_declared(path, declared, sums=True)
    with (
        open_declared(path, declared) as file,
        pytest.raises(BadInputError, match=match),
    ):
        file.hdus[1].column(column)


@pytest.mark.parametrize(
    ("declared", "column", "values", "missing"),
    [
        (STAR_CATALOGUE, "DEC", [0, 1e30, 91], [1, 2]),
        (STAR_CATALOGUE, "RA", [0, 0, -1], [2]),
        (CONSTRAINTS, "MJD_TIME", [0.0, 59000.0, LARGEST], [0, 2]),
        (CONSTRAINTS, "MJD_TIME", [-59000.0, 59001.0, 59002.0], [0]),
        (ORBIT, "Z_DOT", [0, 7400.0, 0], [1]),
    ],
)
def test_a_row_that_others_can_replace_is_not_the_end_of_its_file(
    declared: Input, column: str, values: list[float], missing: list[int], tmp_path: Path
) -> None:
    path = written(tmp_path, declared.first[0], {column: values})
    with open_declared(path, declared, sums=True) as file:
        read = file.hdus[1].column(column)
    assert np.flatnonzero(np.isnan(read)).tolist() == missing


def test_what_counts_as_missing_reads_as_nan_and_is_a_deviation(tmp_path: Path) -> None:
    upper = [[1, 2], [3, 1e30], [-np.inf, np.inf]]
    path = written(tmp_path, "REF_APP_Limits", {"UPPER_LIMIT": upper})
    with open_declared(path, HOUSEKEEPING_LIMITS, sums=True) as file:
        table = file["REF_APP_Limits"]
        np.testing.assert_array_equal(
            table.column("UPPER_LIMIT"), [[1, 2], [3, np.nan], [np.nan, np.nan]]
        )
        assert table.implausible("UPPER_LIMIT").tolist() == [False, True, True]
        assert not table.implausible("LOWER_LIMIT").any()
        line = (
            "column UPPER_LIMIT: 2 of 3 values are out of range, expected -1e+06 to 1e+06; the "
            "first is 1e+30 in row 2; they count as missing"
        )
        assert table.implausible_values("UPPER_LIMIT", "LOWER_LIMIT", "PARAM_NAME") == [line]
        assert f"HDU 1 REF_APP_Limits: {line}" in file.deviations


def test_single_wrong_rows_of_the_attitude_count_as_missing(tmp_path: Path) -> None:
    columns = {"SC_DEC": [0.0, 1e30, 0.0], "MJD_TIME": [0.0, 59000.0, 1e300]}
    with open_declared(written(tmp_path, "SCI_RAW_Attitude", columns), ATTITUDE, sums=True) as file:
        for name, wrong in (("SC_DEC", [1]), ("MJD_TIME", [0, 2])):
            values = file["SCI_RAW_Attitude"].column(name)
            assert np.flatnonzero(np.isnan(values)).tolist() == wrong


@pytest.mark.parametrize("gain", [0.257, 1.028, 1.946])
def test_a_gain_halved_doubled_or_inverted_is_rejected(gain: float, tmp_path: Path) -> None:
    path = written(tmp_path, "REF_APP_GainCorrection", gain=gain)
    with pytest.raises(
        BadInputError, match=f"GAIN_NOM is {gain}, expected more than 0.3, at most 0.9"
    ):
        open_declared(path, GAIN_CORRECTION)
