"""Housekeeping without numbers, or with impossible ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from schemas.flags import EVENT_COSMIC_RAYS, Quality
from tests.support.damage import (
    BAD,
    METADATA,
    SUBARRAY,
    alike,
    change_rows,
    flagged,
)
from tests.support.faults import (
    Bench,
)


@pytest.mark.parametrize("column", ["HK_TEMP_FEE_CCD", "HK_VOLT_FEE_VOD"])
@pytest.mark.parametrize("value", [np.nan, np.inf], ids=["nan", "inf"])
def test_missing_housekeeping_of_one_image_is_bridged_and_flagged(
    bench: Bench, sound: Any, column: str, value: float
) -> None:
    def change(rows: Any) -> None:
        rows[column][BAD] = value

    change_rows(bench.raw(SUBARRAY), METADATA, change)
    rows, _ = bench.measured()
    assert flagged(rows, Quality.HOUSEKEEPING) == [BAD]
    # housekeeping drifts slowly: between neighbours the gain is that of the image to some ppm
    alike(rows, sound, [])


def test_housekeeping_without_any_number_gives_the_nominal_gain_and_a_warning(bench: Bench) -> None:
    def change(rows: Any) -> None:
        for name in rows.dtype.names:
            if name.startswith(("HK_VOLT", "HK_TEMP")):
                rows[name] = np.nan

    change_rows(bench.raw(SUBARRAY), METADATA, change)
    rows, said = bench.measured()
    assert "the nominal gain is used" in said
    assert len(flagged(rows, Quality.HOUSEKEEPING)) == 12


def test_places_and_angles_without_numbers_do_not_stop_a_visit(bench: Bench) -> None:
    def change(rows: Any) -> None:
        for name in (
            "LOS_TO_SUN_ANGLE",
            "LOS_TO_MOON_ANGLE",
            "LOS_TO_EARTH_ANGLE",
            "LATITUDE",
            "LONGITUDE",
        ):
            rows[name][BAD:] = np.nan

    change_rows(bench.raw(SUBARRAY), METADATA, change)
    assert (bench.measured()[0]["EVENT"] % EVENT_COSMIC_RAYS == 0).all()


def test_housekeeping_that_makes_the_gain_negative_is_named(bench: Bench) -> None:
    def change(rows: Any) -> None:
        rows["HK_VOLT_FEE_VOD"][BAD] = -5000

    path = bench.raw(SUBARRAY)
    change_rows(path, METADATA, change)
    bench.refused(65, str(path), f"gain of image {BAD}", "ADU/electron")
