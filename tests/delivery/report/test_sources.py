"""Files, settings and deviations that a report was made from."""

from __future__ import annotations

import json
from pathlib import Path

from schemas.settings import PipelineSettings
from tasks.delivery.report.sources import (
    MOST_DEVIATIONS,
    changed_settings,
    group_deviations,
    sources,
)
from tests.support.outside import needs_poppler
from tests.support.visit_report import FACTS, Visit, typeset, words


def test_sources_name_files_without_folders_and_what_differs_from_the_defaults(
    tmp_path: Path,
) -> None:
    inventory = Visit(fallbacks={"orbit": "none"}).arguments(tmp_path)[0]
    settings = PipelineSettings.model_validate({"dark": {"skip": True}}).model_dump(mode="json")
    found = sources(inventory, settings, {"numpy": "2.1"})
    assert found["settings"] == [["dark.skip", "True", "False"]]
    assert [line[0] for line in found["inputs"]] == ["raw sub-array", "attitude"]
    assert found["references"][0][1] == "TERM_APERTURES.fits"
    assert len(found["references"][0][2]) == 16
    assert str(tmp_path) not in json.dumps(found)
    assert changed_settings(PipelineSettings().model_dump(mode="json")) == []


@needs_poppler
def test_hostile_names_of_files_deviations_and_settings_appear_as_text(tmp_path: Path) -> None:
    text = '#panic("x") $x$ *b* @a <script>'
    inventory = Visit().arguments(tmp_path)[0]
    hostile = inventory.model_copy(
        update={
            "deviations": (f"{text}: HDU 1 X: {text}",),
            "subarray": inventory.subarray.model_copy(update={"path": f"/somewhere/{text}"}),
        }
    )
    given = sources(hostile, {"dark": {"skip": text}}, {text: text})
    shown = words(typeset(Visit(), tmp_path, {**FACTS, "sources": given}), "-f", "2")
    assert shown.count(text) == 6  # file, deviating file and how, setting, software and its version
    assert "somewhere" not in shown


def test_deviations_of_one_kind_share_a_line_and_too_many_are_counted() -> None:
    found = group_deviations(
        [
            "a.fits: HDU 1 X: no sum",
            "a.fits: HDU 2 Y: no sum",
            "a.fits: HDU 2 Y: BUNIT is missing",
            "odd name",
        ]
    )
    assert found["deviations"] == [
        ("a.fits", ["HDU 1, 2: no sum", "HDU 2: BUNIT is missing"]),
        ("", ["odd name"]),
    ]
    many = group_deviations(
        [f"a.fits: HDU 1 X: keyword K{i} is missing" for i in range(MOST_DEVIATIONS + 7)]
    )
    assert many["more_deviations"] == 7
