"""Housekeeping without numbers, or with impossible ones."""

from __future__ import annotations

import re
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
from tests.support.faults import Bench, edited


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("HK_TEMP_FEE_CCD", np.inf),
        ("HK_VOLT_FEE_VOD", np.nan),
        ("HK_VOLT_FEE_VOD", 0.0),
        ("HK_VOLT_FEE_VSS", -5000.0),
        ("HK_VOLT_FEE_VRD", 18.0),  # may be: but not between neighbours of 17.8
        ("HK_TEMP_FEE_CCD", -44.0),
        ("HK_TEMP_FEE_ADC", 1e30),
    ],
)
def test_impossible_housekeeping_of_one_image_is_bridged_and_flagged(
    bench: Bench, column: str, value: float
) -> None:
    spoil_one(bench, column, value)
    outcome = bench.run("--until", "gain")
    assert re.search(rf"{column}: of 12 values, 1 (missing or out of range|far from)", outcome.err)
    gain = bench.term("gain")
    either = {"QUALITY": gain["QUALITY"] | bench.term("bias")["QUALITY"]}
    assert flagged(either, Quality.HOUSEKEEPING) == [BAD]
    # housekeeping drifts slowly: between neighbours the gain is that of the image to some ppm
    between = (gain["GAIN"][BAD - 1] + gain["GAIN"][BAD + 1]) / 2
    assert gain["GAIN"][BAD] == pytest.approx(between, rel=1e-5)


def spoil_one(bench: Bench, column: str, value: float) -> None:
    """Change the housekeeping of one image."""

    def change(rows: Any) -> None:
        rows[column][BAD] = value

    change_rows(bench.raw(SUBARRAY), METADATA, change)


def test_an_image_with_impossible_housekeeping_is_measured(bench: Bench, sound: Any) -> None:
    spoil_one(bench, "HK_VOLT_FEE_VOD", np.nan)
    rows, said = bench.measured()
    assert flagged(rows, Quality.HOUSEKEEPING) == [BAD]
    assert f"first at MJD {rows['MJD_TIME'][BAD]:.5f}" in said
    alike(rows, sound, [])


@pytest.mark.parametrize("value", [np.nan, 0.0], ids=["nan", "zero"])
def test_housekeeping_without_any_value_gives_the_nominal_gain_and_a_warning(
    bench: Bench, sound: Any, value: float
) -> None:
    def change(rows: Any) -> None:
        for name in rows.dtype.names:
            if name.startswith(("HK_VOLT", "HK_TEMP_FEE_CCD")):
                rows[name] = value

    change_rows(bench.raw(SUBARRAY), METADATA, change)
    rows, said = bench.measured()
    assert "the nominal gain is used" in said
    assert len(flagged(rows, Quality.HOUSEKEEPING)) == 12
    # at -45 deg C the gain is 0.55 % above the nominal one, which holds at -40
    assert rows["FLUX"] / sound["FLUX"] == pytest.approx(1.0055, abs=5e-4)


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


def test_one_voltage_without_any_value_has_its_nominal_one(bench: Bench) -> None:
    def change(rows: Any) -> None:
        rows["HK_VOLT_FEE_VOG"] = 0.0

    change_rows(bench.raw(SUBARRAY), METADATA, change)
    outcome = bench.run("--until", "gain")
    assert "no valid HK_VOLT_FEE_VOG (3.05): nominal values are used in the gain" in outcome.err
    gain = bench.term("gain")
    # the voltage is 2.3 mV above, which changes the gain by 26 ppm
    assert gain["GAIN"] == pytest.approx(0.5111 * 1.0055, rel=5e-4)
    assert (gain["QUALITY"] == int(Quality.HOUSEKEEPING)).all()


def test_a_reference_that_contradicts_the_housekeeping_gives_the_nominal_gain(own: Bench) -> None:
    with edited(own.reference("GainCorrection"), "REF_APP_GainCorrection") as part:
        part.set("VOD_OFF", 23.5)  # 22 V: the gain would be 6 % smaller
        nominal = part.get("GAIN_NOM")
    outcome = own.run("--until", "gain")
    assert outcome.code == 0
    assert "gain of 12 of 12 images is more than 1.00% from the nominal" in outcome.err
    gain = own.term("gain")
    assert (gain["GAIN"] == nominal).all()
    assert (gain["QUALITY"] == int(Quality.HOUSEKEEPING)).all()
