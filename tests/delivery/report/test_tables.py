"""The tables behind the first page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from schemas.flags import Quality
from schemas.payloads import Housekeeping, Reference
from schemas.products import soc_structure
from schemas.terms import TERMS
from tasks.calibration.housekeeping import judge_housekeeping, read_housekeeping
from tasks.delivery.light_curves import light_curve_structure
from tasks.delivery.report.noise_tables import removed_text
from tasks.delivery.report.report import DATA, collect_report
from tasks.delivery.report.tables import BIT_WORDS
from tasks.delivery.report.wording import printable
from tasks.files.writer import NewHdu
from tests.conftest import raw_file
from tests.support.faults import raw_product
from tests.support.visit_report import Visit, collect, neutral, write_product


def test_all_texts_of_the_tables_are_printable_and_rows_complete(tmp_path: Path) -> None:
    tables = collect(Visit(), tmp_path)["tables"]
    assert set(tables) == {
        "curves",
        "budget",
        "stages",
        "contamination",
        "neighbours",
        "housekeeping",
        "correlations",
        "conditions",
        "events",
        "quality",
    }
    for name, table in tables.items():
        assert table["rows"] or name in ("neighbours", "housekeeping")
        for line in (table["head"], *table["rows"]):
            assert len(line) == len(table["head"]) == len(table["numbers"])
            assert all(text == printable(text, 999) or "−" in text for text in line)


def test_the_noise_of_the_detrended_optimal_follows_that_of_optimal(tmp_path: Path) -> None:
    *others, measured, settings = Visit().arguments(tmp_path)
    declared = light_curve_structure({})
    columns = {c.name: np.full(120, "" if c.letter == "A" else 0) for c in declared.columns}
    flux = 1e7 * (1 + 300e-6 * np.random.default_rng(1).normal(size=120))
    table = NewHdu(declared, neutral(declared), columns={**columns, "FLUX_DETRENDED": flux})
    optimal = write_product(tmp_path, table)
    curves = measured.light_curves.model_copy(
        update={"products": {"SCI_COR_Lightcurve-OPTIMAL": optimal}}
    )
    measured = measured.model_copy(update={"light_curves": curves})
    made = collect_report.fn(*others, measured, settings)
    rows = json.loads(made.blobs[DATA])["tables"]["curves"]["rows"]
    names = [row[0] for row in rows]
    assert names[names.index("OPTIMAL") + 1] == "OPTIMAL, detrended"
    # 120 points give a robust scatter to 11 %
    assert float(rows[names.index("OPTIMAL, detrended")][3]) == pytest.approx(300, rel=0.3)


def test_events_and_quality_are_counted_by_their_codes(tmp_path: Path) -> None:
    event, quality = np.zeros(50, dtype=np.int32), np.zeros(50, dtype=np.int32)
    event[:3], event[3:7], quality[:9] = 100901, 200, int(Quality.BACKGROUND | Quality.SAA)
    tables = collect(Visit(n=50, event=event, quality=quality), tmp_path)["tables"]
    counts = {line[2]: line[3] for line in tables["events"]["rows"]}
    assert {code: count for code, count in counts.items() if count != "0"} == {
        "1": "3",
        "900": "3",
        "200": "4",
        "100000": "3",
    }
    bits = {line[1]: line[2] for line in tables["quality"]["rows"]}
    assert {name: count for name, count in bits.items() if count != "0"} == {
        "SAA": "9",
        "background": "9",
    }
    assert "43 of 50 images have 0" in tables["events"]["note"]


def test_the_error_is_split_into_its_terms(tmp_path: Path) -> None:
    # terms of 4 electron^2 each, on 1e7 electrons
    table = collect(Visit(flux=np.full(120, 1e7)), tmp_path)["tables"]["budget"]
    assert table["head"][2:] == ["R15", "R20", "R25", "R30", "R35", "R40", "variance [%]"]
    lines = {line[0]: [line[4], line[-1]] for line in table["rows"]}
    n = len(lines) - 2
    assert lines["star"] == ["0.200", f"{100 / n:.1f}"]
    assert lines["total"] == [f"{0.2 * np.sqrt(n):.3f}", "100.0"]
    assert lines["for comparison"] == ["0.200", ""]
    # 4 electrons of flux within the other radii
    assert table["rows"][0][2] == "500000"


def test_every_bit_of_quality_has_a_meaning() -> None:
    assert set(BIT_WORDS) == set(Quality)


def test_the_step_reads_limits_with_and_without_the_prefix_and_its_term_is_shown(
    tiny_visit: Path, tmp_path: Path
) -> None:
    declared = soc_structure("REF_APP_Limits")
    columns = {
        "PARAM_NAME": np.array(["HK_TEMP_FEE_CCD", "VOLT_FEE_VOD", "thermAft_1"]),
        "STRUCT_NAME": np.array(["X"] * 3),
        "ACTIVE": np.array([True, True, False]),
        "LOWER_LIMIT": np.array([[-40.0, -41.0], [0.0, -1.0], [0.0, 0.0]]),
        "UPPER_LIMIT": np.array([[-30.0, -20.0], [99.0, 100.0], [0.0, 0.0]]),
    }
    product = write_product(tmp_path, NewHdu(declared, neutral(declared), columns=columns))
    limits = Reference(
        kind="housekeeping limits", product=product, valid_from="2015-01-01T00:00:00"
    )
    made = judge_housekeeping.fn(raw_product(raw_file(tiny_visit, "SCI_RAW_SubArray")), limits)
    term = write_product(tmp_path, *made.files["TERM_HOUSEKEEPING"])
    leaf = Housekeeping(step="housekeeping", products={"TERM_HOUSEKEEPING": term})
    found = {p.name: p for p in read_housekeeping(leaf)}
    # the CCD of the tiny visit is at -45 degC: 12 images
    assert (found["HK_TEMP_FEE_CCD"].beyond, found["HK_TEMP_FEE_CCD"].unit) == ((0, 12), "degC")
    assert (found["HK_VOLT_FEE_VOD"].beyond, found["HK_VOLT_FEE_VOD"].upper) == (
        (0, 0),
        (99.0, 100.0),
    )
    assert not found["HK_VOLT_FEE_VRD"].limited
    assert "thermAft_1" not in found
    inventory, calibrated, *others = Visit().arguments(tmp_path / "visit")
    blobs = collect_report.fn(
        inventory, calibrated.model_copy(update={"housekeeping": leaf}), *others
    ).blobs
    table = json.loads(blobs[DATA])["tables"]["housekeeping"]
    rows = {line[0]: line[5:] for line in table["rows"]}
    assert rows["HK_TEMP_FEE_CCD"] == ["−40 to −30", "−41 to −20", "0", "12", "0"]
    assert rows["HK_VOLT_FEE_VRD"] == ["–", "–", "–", "–", "0"]
    assert table["note"].startswith("Out of limits: HK_TEMP_FEE_CCD.")
    assert read_housekeeping(None) == ()


def test_neighbours_have_distance_angle_and_light(tmp_path: Path) -> None:
    columns = {
        "XI": np.array([0.0, 30.0, 0.0, 500.0]),
        "ETA": np.array([0.0, 40.0, -20.0, 0.0]),
        "MAG": np.array([9.0, 14.0, 12.0, 8.0]),
        "T_EFF": np.array([5000.0, 0.0, 4000.0, 4000.0]),
        "FLUX": np.array([1e7, 1e5, 6e5, 3e7]),
        "FLUXERR": np.array([1e3, 1e4, 2e4, 1e6]),
        "TARGET": np.array([True, False, False, False]),
    }
    used = {
        "N_STARS": 3,
        "STAR_FIT": 0,
        **dict.fromkeys(
            ("STAR_SCL", "STAR_ROL", "STAR_EPO", "STAR_AMP", "STAR_AMS", "STAR_COR"), 1.0
        ),
    }
    product = write_product(
        tmp_path, NewHdu(TERMS["TERM_STARS"], {**used, "STAR_BND": True}, columns=columns)
    )
    inventory, calibrated, corrected, *others = Visit().arguments(tmp_path / "visit")
    stars = corrected.stars.model_copy(update={"products": {"TERM_STARS": product}})
    made = collect_report.fn(
        inventory, calibrated, corrected.model_copy(update={"stars": stars}), *others
    )
    table = json.loads(made.blobs[DATA])["tables"]["neighbours"]
    # the brightest of those near come first; North over East: (30, 40) is atan(3 / 4), straight
    # South 180
    assert table["rows"] == [
        ["12.00", "4000", "20.0", "180", "6", "0.2"],
        ["14.00", "–", "50.0", "37", "1", "0.1"],
    ]
    assert "The brightest of 2 field stars within 130 arcsec" in table["note"]
    assert "The model includes 1 more" in table["note"]


@pytest.mark.parametrize(
    ("after", "text"),
    [(0.0, "2000"), (1.0, "–"), (2.0, "−3464")],
    ids=["all of it", "nothing", "adds as much"],
)
def test_the_dispersion_a_step_removed_has_a_sign_and_a_dash_where_it_does_nothing(
    after: float, text: str
) -> None:
    before = np.tile([-2.0, 2.0], 50)  # of rms 2
    assert removed_text(before, after * before, after == 1.0, 1000.0) == text


def test_a_dispersion_within_its_error_is_an_upper_limit() -> None:
    rng = np.random.default_rng(8)
    shared = rng.normal(size=100)
    assert removed_text(shared + 1e-3 * rng.normal(size=100), shared, False, 1000.0).startswith(
        "< "
    )
