"""References that are missing, of another time, shape or read-out, or hold impossible values."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from schemas.flags import Quality
from tests.support.damage import (
    change_rows,
    flagged,
    manifest,
    spoil,
)
from tests.support.faults import (
    Bench,
    edited,
    put_together,
    take_apart,
)

NOT_FINITE = [
    ("BiasFrame", "REF_APP_BiasFrame", None),
    ("BiasFrame", "REF_APP_BiasOverscanLeftFrame", None),
    ("BiasFrame", "REF_APP_BiasOffset", "BIAS_OFFSET"),
    ("BiasFrame", "REF_APP_BiasOffset", "RON"),
    ("GainCorrection", "REF_APP_GainCorrection", "FACTOR"),
    ("CCDLinearisation", "REF_APP_CCDLinearisation100", "BOUNDARY"),
    ("CCDLinearisation", "REF_APP_CCDLinearisation100", "COEF_1"),
    ("FlatFieldTeff", "REF_APP_FlatFieldTeff", None),
    ("FlatFieldTeff", "REF_APP_FlatFieldTeffMetadata", "T_EFF"),
    ("ReadOut", "REF_APP_ReadOut", "ROW_READ_OUT"),
    ("PixelScale", "REF_APP_PixelScale", "PIXEL_SCALE"),
    ("VisitConstraints", "REF_APP_VisitConstraints", "MIN_LOS_TO_SUN_ANGLE"),
]


@pytest.mark.parametrize("value", [np.nan, -np.inf], ids=["nan", "inf"])
@pytest.mark.parametrize(
    ("kind", "extname", "column"), NOT_FINITE, ids=lambda v: str(v).removeprefix("REF_APP_")
)
def test_a_reference_with_values_that_are_no_numbers_is_refused(
    own: Bench, kind: str, extname: str, column: str | None, value: float
) -> None:
    path = own.reference(kind)
    with edited(path, extname) as part:
        spoil(part, column, value)
    own.refused(65, str(path), extname, column or "1 of", "NaN or infinite")


def test_every_pixel_of_a_dark_frame_that_is_no_number_is_counted(own: Bench) -> None:
    path = sorted(own.references.rglob("*REF_APP_DarkFrame*"))[0] if own.references else Path()
    with edited(path, "REF_APP_DarkFrame") as part:
        pixels = part.pixels
        pixels[0, 500:502, 500:503] = np.nan
        part.pixels = pixels
    own.refused(65, str(path), "HDU 1 REF_APP_DarkFrame", "6 of", "pixels are NaN or infinite")


@pytest.mark.parametrize("side", ["Left", "Right"])
def test_dark_columns_that_are_no_numbers_are_refused(own: Bench, side: str) -> None:
    path = sorted(own.references.rglob("*REF_APP_DarkFrame*"))[0] if own.references else Path()
    with edited(path, f"REF_APP_DarkFrame{side}") as part:
        pixels = part.pixels
        pixels[0, 500:502, 3:6] = np.nan
        part.pixels = pixels
    own.refused(65, str(path), f"REF_APP_DarkFrame{side}", "6 of", "pixels are NaN or infinite")


@pytest.mark.parametrize(("key", "value"), [("BZERO", 1e308), ("BSCALE", 2.0)])
def test_an_offset_that_no_integer_type_has_is_refused(own: Bench, key: str, value: float) -> None:
    path = own.reference("BadPixelMap")
    with edited(path, "REF_APP_BadPixelMap") as part:
        part.set(key, value)
    own.refused(65, str(path), "HDU 1 REF_APP_BadPixelMap", key)


@pytest.mark.parametrize("kind", ["PixelScale", "GainCorrection", "VisitConstraints", "ReadOut"])
def test_a_reference_without_rows_is_refused(own: Bench, kind: str) -> None:
    path = own.reference(kind)
    change_rows(path, f"REF_APP_{kind}", lambda rows: rows[:0])
    own.refused(65, str(path), "no rows")


@pytest.mark.parametrize("value", [0.0, -0.5])
def test_a_gain_that_is_not_positive_is_refused(own: Bench, value: float) -> None:
    path = own.reference("GainCorrection")
    with edited(path, "REF_APP_GainCorrection") as part:
        part.set("GAIN_NOM", value)
    own.refused(65, str(path), "GAIN_NOM", f"{value:g}", "more than 0")


def test_a_nominal_gain_of_another_instrument_flags_all_images(own: Bench) -> None:
    with edited(own.reference("GainCorrection"), "REF_APP_GainCorrection") as part:
        part.set("GAIN_NOM", 0.5 * 1.03)
    outcome = own.run("--until", "gain")
    assert outcome.code == 0, outcome.err
    assert "GAIN_NOM of the reference is 0.515 ADU/electron" not in outcome.err
    with edited(own.reference("GainCorrection"), "REF_APP_GainCorrection") as part:
        part.set("GAIN_NOM", 0.5263)
    outcome = own.run("--until", "gain")
    assert "GAIN_NOM of the reference is 0.5263 ADU/electron, more than 1.00%" in outcome.err
    terms = sorted(own.work.glob("products/*/gain-*/*.fits"), key=lambda p: p.stat().st_mtime)
    flags = [fits.getdata(path, 1)["QUALITY"] for path in terms]
    assert (flags[0] == 0).all()
    assert (flags[-1] == int(Quality.HOUSEKEEPING)).all()


MANDATORY = {
    "bias frame": "BiasFrame",
    "gain correction": "GainCorrection",
    "linearisation": "CCDLinearisation",
    "dark frame": "DarkFrame",
    "flat field": "FlatFieldTeff",
}


OPTIONAL = {
    "SAA map": "SAAMap",
    "pixel scale": "PixelScale",
    "read-out timing": "ReadOut",
    "angle limits": "VisitConstraints",
    "housekeeping limits": "Limits",
    "bad pixel map": "BadPixelMap",
}


@pytest.mark.parametrize("kind", MANDATORY)
def test_a_missing_reference_is_named_with_the_time_before_any_step(own: Bench, kind: str) -> None:
    assert own.references is not None
    for path in own.references.rglob(f"*_{MANDATORY[kind]}*"):
        path.unlink()
    outcome = own.refused(
        66,
        f"reference {kind}",
        MANDATORY[kind],
        "none found for 2021-03-10T08:00:10",
        str(own.references),
    )
    assert "events" not in outcome.err


def test_the_default_library_never_fills_a_gap(own: Bench) -> None:
    own.reference("GainCorrection").unlink()
    own.refused(66, "reference gain correction")


def test_without_optional_references_the_fall_backs_are_named(own: Bench) -> None:
    assert own.references is not None
    for kind in OPTIONAL.values():
        for path in own.references.rglob(f"*_{kind}*.fits"):
            path.unlink()
    outcome = own.published()
    assert manifest(outcome)["fallbacks"].keys() >= OPTIONAL.keys()
    for text in ("no limits for angles", "no limits for housekeeping"):
        assert text in outcome.err


@pytest.mark.parametrize("kind", [k for k in MANDATORY if k != "dark frame"])
@pytest.mark.parametrize(
    ("key", "value"),
    [("V_STOP_U", "2020-01-01T00:00:00.000000"), ("V_STRT_U", "2025-01-01T00:00:00.000000")],
)
def test_a_reference_of_another_time_is_named_with_its_validity(
    own: Bench, kind: str, key: str, value: str
) -> None:
    path = own.reference(MANDATORY[kind])
    parts = take_apart(path)
    for part in parts[1:]:
        part.set(key, value)
    put_together(path, parts)
    own.refused(
        66, f"reference {kind}", "none of 1 is valid at 2021-03-10T08:00:10", path.name, value
    )


@pytest.mark.parametrize("kind", MANDATORY)
def test_two_references_of_one_version_are_both_named(own: Bench, kind: str) -> None:
    assert own.references is not None
    path = sorted(own.references.rglob(f"*_{MANDATORY[kind]}*"))[0]
    folder = own.references / "more"
    folder.mkdir()
    twin = folder / re.sub(r"TU\d{4}", "TU2019", path.name)
    shutil.copyfile(path, twin)
    own.refused(65, str(path), str(twin), "have the version")


def test_of_two_versions_the_higher_one_is_used(own: Bench) -> None:
    path = own.reference("PixelScale")
    newer = path.with_name(re.sub(r"V\d{4}", "V0007", path.name))
    parts = take_apart(path)
    for part in parts[1:]:
        part.set("PROC_NUM", 7)
    put_together(newer, parts)
    outcome = own.published()
    assert (
        manifest(outcome)["inventory"]["references"]["pixel scale"]["product"]["path"] == newer.name
    )


def test_a_bias_of_another_read_out_frequency_is_refused(own: Bench) -> None:
    path = own.reference("BiasFrame")
    with edited(path, "REF_APP_BiasFrameMetadata") as part:
        offset = part.get(f"TZERO{part.number_of('RO_FREQU')}", 0)
        table = part.rows
        table["RO_FREQU"] = 230_000 - offset
        part.rows = table
    own.refused(65, str(path), "REF_APP_BiasFrame", "100000 Hz")


def test_a_bias_of_the_other_channel_stands_in_with_a_warning(own: Bench) -> None:
    path = own.reference("BiasFrame")
    parts = take_apart(path)
    for part in parts:
        if part.extname in ("REF_APP_BiasFrameMetadata", "REF_APP_BiasOffset"):
            table = part.rows
            table["RO_HW"] = b"redundant"
            part.rows = table
    put_together(path, parts)
    assert "has no read-out channel main: using the other channel" in own.measured()[1]


def test_a_linearisation_of_another_frequency_is_refused(own: Bench) -> None:
    path = own.reference("CCDLinearisation")
    put_together(path, [p for p in take_apart(path) if not p.extname.endswith("100")])
    own.refused(65, str(path), "no curve for the read-out frequency 100000 Hz")


@pytest.mark.parametrize("kind", ["DarkFrame", "FlatFieldTeff", "BiasFrame", "BadPixelMap"])
def test_a_reference_of_another_shape_is_refused(own: Bench, kind: str) -> None:
    assert own.references is not None
    path = sorted(own.references.rglob(f"*_{kind}*"))[0]
    with edited(path, f"REF_APP_{kind}") as part:
        part.pixels = part.pixels[..., :-1]
    own.refused(65, str(path), f"HDU 1 REF_APP_{kind}", "1023", "1024")


def test_a_flat_field_grid_that_does_not_reach_the_target_falls_back_to_its_edge(
    own: Bench,
) -> None:
    def change(rows: Any) -> None:
        rows["T_EFF"] = np.tile(np.linspace(3000, 4000, len(rows) // 2), 2)

    change_rows(own.reference("FlatFieldTeff"), "REF_APP_FlatFieldTeffMetadata", change)
    outcome = own.published()
    assert (
        "T_EFF 5900 K is outside the range of the reference: using the flat field of 4000 K"
        in outcome.err
    )
    with fits.open(next(outcome.folder.glob("*SCI_CAL_SubArray*"))) as hdus:
        assert hdus[1].header["FFIELD"] == "warning"


def test_a_flat_field_with_fewer_rows_than_planes_is_refused(own: Bench) -> None:
    path = own.reference("FlatFieldTeff")
    change_rows(path, "REF_APP_FlatFieldTeffMetadata", lambda rows: rows[:-1])
    own.refused(65, str(path), "REF_APP_FlatFieldTeffMetadata", "rows for", "planes")


def test_a_flat_field_with_two_planes_of_one_temperature_is_refused(own: Bench) -> None:
    def change(rows: Any) -> None:
        rows["T_EFF"][1] = rows["T_EFF"][0]

    path = own.reference("FlatFieldTeff")
    change_rows(path, "REF_APP_FlatFieldTeffMetadata", change)
    own.refused(65, str(path), "two FLAT FIELD planes with the same T_EFF")


def test_pixels_of_a_flat_field_that_are_zero_are_not_used(own: Bench) -> None:
    path = own.reference("FlatFieldTeff")
    with edited(path, "REF_APP_FlatFieldTeff") as part:
        pixels = part.pixels
        pixels[:, 500, 500:502] = 0
        part.pixels = pixels
    outcome = own.run("--until", "flat")
    assert outcome.code == 0
    assert "flat field: 2 of 40000 pixels of the window are outside of 0.05 to 5" in outcome.err


def test_a_linearity_curve_that_does_not_rise_is_refused(own: Bench) -> None:
    path = own.reference("CCDLinearisation")

    def change(rows: Any) -> None:
        rows["BOUNDARY"][1] = rows["BOUNDARY"][0]

    change_rows(path, "REF_APP_CCDLinearisation100", change)
    own.refused(65, str(path), "REF_APP_CCDLinearisation100", "column BOUNDARY does not increase")


def test_a_linearity_curve_without_rows_is_refused(own: Bench) -> None:
    path = own.reference("CCDLinearisation")
    change_rows(path, "REF_APP_CCDLinearisation100", lambda rows: rows[:0])
    own.refused(65, str(path), "REF_APP_CCDLinearisation100", "has no rows")


def test_limits_in_the_wrong_order_are_refused(own: Bench) -> None:
    path = own.reference("VisitConstraints")

    def change(rows: Any) -> None:
        rows["MIN_LOS_TO_SUN_ANGLE"][0] = (10.0, 120.0)

    change_rows(path, "REF_APP_VisitConstraints", change)
    own.refused(65, str(path), "limits are [10.0, 120.0]", "soft")


def test_an_saa_map_with_a_hole_is_refused(own: Bench) -> None:
    path, planned = own.reference("SAAMap"), own.raw("MPS_PRE_Visits")
    change_rows(path, "EXT_APP_SAAMap", lambda rows: rows[1:])
    # the map is looked at where no constraints tell
    put_together(
        planned, [p for p in take_apart(planned) if p.extname != "MPS_PRE_VisitConstraints"]
    )
    own.refused(65, str(path), "EXT_APP_SAAMap", "each of")


def test_dead_pixels_of_the_map_over_the_star_are_flagged_and_unknown_codes_named(
    own: Bench,
) -> None:
    for path in (own.references or Path()).rglob("*BadPixelMap*"):
        with edited(path, "REF_APP_BadPixelMap") as part:
            pixels = part.pixels
            pixels[512:] = 77
            pixels[505:519, 505:519] = -2  # a tenth of the aperture, and most of the star's light
            part.pixels = pixels
    rows, said = own.measured()
    assert flagged(rows, Quality.APERTURE) == list(range(12))
    assert "cover more than 5% of the aperture R25 of 12 images" in said
    assert "bad pixel map: 19902 of 40000 pixels of the window have an unknown code" in said
    assert np.isfinite(rows["FLUX"]).all()
