"""Key numbers, and the table of metrics."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from schemas.flags import Quality
from schemas.payloads import Defects, ImagetteHits
from tasks.delivery.report.metrics import defect_rows
from tests.support.visit_report import Visit, collect, row

METRIC_KEYWORDS = ("MEDIAN", "ROBMEAN", "ROBSTD", "MAD", "P2PSTD", "CDPP2_5", "CDPP6_5", "VALIDPTS")


def test_flags_are_counted_but_the_saa_and_the_earth_do_not_count_against_the_light_curve(
    tmp_path: Path,
) -> None:
    event = np.zeros(200, dtype=np.int32)
    event[:20], event[20:60], event[60:64] = 1, 900, 200
    found = collect(Visit(n=200, event=event), tmp_path)
    assert row(found["metrics"], "Lost to the SAA")["shown"] == "10.0"
    assert row(found["metrics"], "Lost to occultation")["shown"] == "20.0"
    assert row(found["metrics"], "Stray light")["shown"] == "2.0"
    assert row(found["metrics"], "Good points")["shown"] == "136"
    assert row(found["metrics"], "Good fraction, star in sight")["shown"] == "97.1"
    assert found["verdict"]["word"] == "good"
    assert "136 of 140" in found["verdict"]["reasons"][0]


def test_losses_without_inputs_to_measure_them_are_a_dash_and_not_zero(tmp_path: Path) -> None:
    found = collect(Visit(), tmp_path)
    assert (
        row(found["metrics"], "Lost to the SAA")["reason"] == "no visit constraints and no SAA map"
    )
    assert row(found["metrics"], "Stray light")["reason"] == "no limits available"


def test_contamination_and_cosmic_rays_are_those_of_the_steps(tmp_path: Path) -> None:
    table = collect(Visit(), tmp_path)["metrics"]
    contamination = row(table, "Contamination")
    assert (contamination["value"], contamination["unit"]) == (1.25, "%")
    assert (row(table, "Cosmic rays")["shown"], row(table, "Cosmic rays")["unit"]) == (
        "0.057",
        "pixels/s",
    )
    assert row(table, "Pixels with a steady excess")["value"] == 17


def test_results_of_steps_with_a_warning_are_a_dash_and_not_zero(tmp_path: Path) -> None:
    empty = {"status": {"CONTAMIN": "warning"}, "warnings": ["there is no star catalogue"]}
    blind = {
        "status": {"BDPIX_D1": "warning", "BDPIX_D3": "warning"},
        "warnings": ["there is no PSF"],
    }
    table = collect(Visit(ended={"stars": empty, "defects": blind}), tmp_path)["metrics"]
    assert row(table, "Contamination")["reason"] == "see stars below"
    assert row(table, "Cosmic rays")["reason"] == "see defects below"


def test_the_results_of_the_defects_step_are_read_by_name(tmp_path: Path) -> None:
    used = {
        "CR_IN": 0.0123,
        "CR_OUT": 0.0456,
        "HOT_IN": 3,
        "HOT_OUT": 155,
        "DEAD_IN": 0,
        "DEAD_OUT": 2,
        "TELE_IN": 1,
    }
    table = collect(Visit(ended={"defects": {"used": used}}), tmp_path)["whole_metrics"]
    shown = {
        r["label"].removesuffix(" the target aperture"): (r["shown"], r["unit"])
        for r in table
        if "aperture" in r["label"]
    }
    assert shown["Cosmic rays inside"] == ("0.0123", "ppm/pixel/s")
    assert shown["Hot pixels outside"] == ("155", "")
    assert shown["Dead pixels inside"] == ("0", "")
    assert shown["Telegraphic pixels outside"] == ("–", "")
    assert row(table, "Telegraphic pixels outside")["reason"] == "not measured in this run"
    blind = {"status": {"BDPIX_D1": "warning"}, "used": used}
    table = collect(Visit(ended={"defects": blind}), tmp_path)["whole_metrics"]
    assert row(table, "Hot pixels inside")["reason"] == "see defects in the table of steps"


def test_hits_that_only_imagettes_show_follow_the_cosmic_rays_where_there_are_imagettes() -> None:
    defects = Defects.model_validate({"step": "defects", "products": {}, "used": {"CR_ADD": 4}})
    hits = ImagetteHits.model_validate({"step": "imagette_hits", "products": {}})
    without, found = defect_rows([defects]), defect_rows([defects, hits])
    assert [r for r in found if r not in without] == [found[2]]
    assert (found[2].label, found[2].shown) == ("Pixels whose cosmic rays only imagettes show", "4")


def test_lost_shares_are_those_of_event_and_quality_together(tmp_path: Path) -> None:
    event, quality = np.zeros(200, dtype=np.int32), np.zeros(200, dtype=np.int32)
    event[:20], event[20:60] = 1, 900
    quality[15:30] = int(Quality.SAA)  # five of them have the digit too
    table = collect(Visit(n=200, event=event, quality=quality), tmp_path)["whole_metrics"]
    assert row(table, "Lost to the SAA")["value"] == 0.15
    assert row(table, "Lost to occultation")["value"] == 0.2
    assert row(table, "Lost to stray light")["reason"] == "no limits available"


def test_the_keywords_of_the_soc_are_next_to_our_numbers(tmp_path: Path) -> None:
    table = collect(
        Visit(metrics={"MAD": 321.4, "P2P_PPM": 123.4, "CDPP2_5": float("nan")}), tmp_path
    )["whole_metrics"]
    found = row(table, "Robust point-to-point scatter")
    assert (found["shown"], found["keyword"], found["header"]) == ("123", "MAD", "321")
    assert (row(table, "CDPP in 3 h")["keyword"], row(table, "CDPP in 3 h")["header"]) == (
        "CDPP2_5",
        "–",
    )
    assert {r["keyword"] for r in table} == {"", *METRIC_KEYWORDS}


@pytest.mark.parametrize(
    ("label", "metrics", "mag", "goal", "limit", "mark"),
    [
        ("Point-to-point scatter", {"P2P_PPM": 151.0}, 7.5, "≤ 150", "≤ 300", "beyond goal"),
        ("Point-to-point scatter", {"P2P_PPM": 301.0}, 7.5, "≤ 150", "≤ 300", "beyond limit"),
        ("CDPP in 6 h", {"CDPP_6H": 10.0}, 9.0, "≤ 10", "≤ 20", "met"),
        ("CDPP in 6 h", {"CDPP_6H": 21.0}, 9.0, "≤ 10", "≤ 20", "above"),
        ("CDPP in 3 h", {"CDPP_3H": 85.0}, 9.1, "", "≤ 85", "met"),
        ("CDPP in 3 h", {"CDPP_3H": 86.0}, 12.0, "", "≤ 85", "above"),
        ("CDPP in 3 h", {"CDPP_3H": 86.0}, 12.1, "", "", ""),
        ("CDPP in 6 h", {"CDPP_6H": 86.0}, 0.0, "", "", ""),
        ("Contamination within 25 pixels", {}, 7.5, "≤ 5", "", "met"),
        ("Good points", {}, 7.5, "≥ 30", "≥ 3", "met"),
        ("Steps with a warning", {}, 7.5, "0", "", "met"),
    ],
)
def test_a_key_number_is_compared_with_its_goal_and_limit(
    label: str,
    metrics: dict[str, float],
    mag: float,
    goal: str,
    limit: str,
    mark: str,
    tmp_path: Path,
) -> None:
    found = row(collect(Visit(metrics=metrics, header={"MAG_G": mag}), tmp_path)["metrics"], label)
    assert (found["goal"], found["limit"], found["mark"]) == (goal, limit, mark)
    # what the mission asks of a quiet star is no part of the verdict
    assert mark != "above" or collect(Visit(metrics=metrics), tmp_path)["verdict"]["word"] == "good"


def test_the_noise_begins_with_the_photons(tmp_path: Path) -> None:
    found = collect(Visit(), tmp_path)
    for table in (found["metrics"], found["whole_metrics"]):
        labels = [number["label"] for number in table if number["unit"] == "ppm"]
        assert labels[0] == "Photon noise of the star"
    flux = row(found["whole_metrics"], "Median flux per image")["value"]
    assert row(found["metrics"], "Photon noise of the star")["value"] == 1e6 / math.sqrt(flux)
