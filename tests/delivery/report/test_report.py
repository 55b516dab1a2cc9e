"""The data of the report, and that they are the same again in the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas import ROOT
from schemas.flags import EVENT_SAA, Quality
from tasks.delivery.report.report import (
    DATA,
    FIGURES,
    collect_report,
    svg,
    typeset_report,
)
from tasks.delivery.report.summary import FILTERED, method_of
from tasks.delivery.report.verdict import nominal_values
from tests.support.runs import STEPS
from tests.support.visit_report import FACTS, Visit, collect, row


def test_the_data_hold_what_the_page_shows_and_no_nan(tmp_path: Path) -> None:
    nothing = float("nan")
    found = collect(
        Visit(
            metrics={"CDPP_3H": nothing, "CDPP_30M": nothing, "MEDIAN": 4321.5},
            header={"MAG_G": 0.0},
        ),
        tmp_path,
    )
    text = (tmp_path / DATA).read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=1) + "\n"
    assert row(found["metrics"], "Median flux")["value"] == 4321.5
    assert row(found["metrics"], "CDPP in 3 h") == {
        "label": "CDPP in 3 h",
        "value": None,
        "shown": "–",
        "unit": "",
        "reason": "visit too short",
        "goal": "",
        "limit": "",
        "mark": "",
    }
    assert row(found["metrics"], "CDPP in 30 min")["reason"] == "too few good points"
    assert row(found["run"], "G magnitude")["reason"] == "not in the raw header"
    assert row(found["run"], "Exposures")["shown"] == "3 × 20 s = 60 s"
    assert row(found["run"], "PI name")["shown"] == "A. Stronomer"
    assert found["references"] == ["bias frame 2019-01-01"]
    assert found["deviations"] == 3
    assert all(r["shown"] != "–" or r["reason"] for r in [*found["run"], *found["metrics"]])


def test_nominal_values_of_the_detector_enter_the_verdict() -> None:
    used = {"gain": {"GAIN_SRC": "nominal"}, "bias": {"BIAS_SRC": "x", "RON_SRC": "reference"}}
    assert nominal_values(used.values()) == ("gain", "read-out noise")


def test_every_step_is_there_with_its_state_and_absent_ones_are_named(tmp_path: Path) -> None:
    ended: dict[str, dict[str, Any]] = {
        "dark": {"status": {"DARK": "warning"}, "warnings": ["only one dark frame"]},
        "flat": {"status": {"FFIELD": "skipped"}},
        "position": {"by_hand": ["TERM_POSITION"]},
        "look": {"warnings": ["no star was found"]},
    }
    found = collect(Visit(ended=ended), tmp_path)
    states = {s["step"]: s["state"] for s in found["steps"]}
    assert len(states) == 31
    assert (states["dark"], states["flat"], states["look"], states["bias"]) == (
        "warning",
        "skipped",
        "warning",
        "completed",
    )
    assert found["warnings"] == ["dark: only one dark frame", "look: no star was found"]
    assert any("(BDPIX_D2)" in a for a in found["absent_steps"])
    assert not any("DARK" in a or "SMEARING" in a or "METH_CFG" in a for a in found["absent_steps"])
    assert found["verdict"]["word"] == "usable with care"
    assert [r.split(":")[0] for r in found["verdict"]["reasons"]] == [
        "steps with a warning",
        "steps skipped by a setting",
        "steps supplied by hand",
    ]


def test_the_verdict_names_the_most_common_flag_of_the_points_in_sight(tmp_path: Path) -> None:
    quality, event = np.zeros(120, np.int64), np.zeros(120, np.int64)
    quality[:40], event[:40] = int(Quality.SAA), EVENT_SAA  # most, but not in sight
    quality[50:70] = int(Quality.COSMIC_RAYS)
    quality[60:65] |= int(Quality.CENTROID)
    found = collect(Visit(quality=quality, event=event), tmp_path)
    assert found["verdict"]["reasons"][0] == (
        "60 of 80 points with the star in sight are good (75%), less than 90%; most common flag: "
        "many cosmic rays (20 points)"
    )


def test_the_first_page_has_a_scatter_without_the_transit_beside_the_raw_one(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(2)
    flux = 1e6 * (1 + rng.normal(0, 1e-4, 120) - 0.01 * (np.abs(np.arange(120) - 60) < 35))
    numbers = {m["label"]: m for m in collect(Visit(flux=flux), tmp_path)["metrics"]}
    labels = list(numbers)
    assert labels.index(FILTERED) == labels.index("Robust scatter") + 1
    # 120 points, and the ends of the transit are not filtered out
    assert numbers[FILTERED]["value"] == pytest.approx(100, rel=0.3)


def test_the_key_and_the_data_do_not_know_where_files_lie(tmp_path: Path) -> None:
    here, there = Visit().arguments(tmp_path / "here"), Visit().arguments(tmp_path / "there")
    assert here[0] != there[0]
    assert collect_report.key(here, {}) == collect_report.key(there, {})
    made = [collect_report.fn(*arguments).blobs for arguments in (here, there)]
    assert made[0] == made[1]
    assert not any(str(tmp_path).encode() in data for data in made[0].values())


def test_what_was_restored_from_a_manifest_gives_the_same_data(tmp_path: Path) -> None:
    arguments: Any = Visit(fallbacks={"orbit": "none", "angle limits": "zero"}).arguments(tmp_path)
    restored: Any = tuple(
        type(a).model_validate(json.loads(json.dumps(a.model_dump(mode="json"), sort_keys=True)))
        for a in arguments
    )
    assert list(restored[0].fallbacks) != list(arguments[0].fallbacks)
    assert collect_report.key(restored, {}) == collect_report.key(arguments, {})
    assert collect_report.fn(*restored).blobs == collect_report.fn(*arguments).blobs


@pytest.mark.parametrize("n", [1, 2])
def test_a_visit_of_one_or_two_images_has_a_report(n: int, tmp_path: Path) -> None:
    found = collect(Visit(n=n, metrics={"P2P_PPM": float("nan")}), tmp_path)
    assert found["verdict"]["word"] == "not usable"
    typeset_report(tmp_path, FACTS, tmp_path / "report.pdf")


def test_the_same_input_gives_the_same_bytes_in_another_process_place_and_language(
    plain_report: Path, tmp_path: Path
) -> None:
    code = (
        "import hashlib, sys; from pathlib import Path\n"
        "from tasks.delivery.report.report import DATA, FIGURES, svg\n"
        "from tests.support.visit_report import Visit, typeset\n"
        "f = Path(sys.argv[1]); typeset(Visit(), f)\n"
        "print([hashlib.sha256((f / n).read_bytes()).hexdigest() for n in (DATA, *map(svg, "
        "FIGURES), 'report.pdf')])"
    )
    environment = {
        **os.environ,
        "TZ": "Asia/Kathmandu",
        "LANG": "tr_TR.UTF-8",
        "PYTHONHASHSEED": "7",
    }
    environment |= {
        "SOURCE_DATE_EPOCH": "1",
        "MPLCONFIGDIR": str(tmp_path / "none"),
        "MPLBACKEND": "pdf",
    }
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, tmp_path / "other"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    here = [
        hashlib.sha256((plain_report / n).read_bytes()).hexdigest()
        for n in (DATA, *map(svg, FIGURES), "report.pdf")
    ]
    assert ran.stdout.strip() == str(here)


def test_other_facts_give_other_bytes(plain_report: Path, tmp_path: Path) -> None:
    typeset_report(plain_report, {**FACTS, "version": "V0002"}, tmp_path / "two.pdf")
    assert (tmp_path / "two.pdf").read_bytes() != (plain_report / "report.pdf").read_bytes()


def test_every_step_has_a_description() -> None:
    for name in STEPS:
        assert method_of(name).endswith("."), name
    assert method_of("no such step") == ""


def test_synthetic_references_of_another_visit_come_first_and_decide_the_verdict(
    tmp_path: Path,
) -> None:
    inventory, *others = Visit().arguments(tmp_path)
    marked = inventory.references["bias frame"].model_copy(update={"synthetic": True})
    inventory = inventory.model_copy(update={"references": {"bias frame": marked}})
    found = json.loads(collect_report.fn(inventory, *others).blobs[DATA])
    assert found["warnings"][0] == (
        "references: synthetic, of another instrument than the visit: bias frame"
    )
    assert found["verdict"]["word"] == "not usable"
