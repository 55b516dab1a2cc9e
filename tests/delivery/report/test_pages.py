"""The pages of the PDF."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import raw_file
from tests.support.outside import needs_poppler
from tests.support.runs import STEPS, Bench
from tests.support.visit_report import FACTS, VISIT, Visit, first_page, typeset, words


@needs_poppler
def test_the_first_page_shows_the_results(plain_report: Path) -> None:
    text = first_page(plain_report / "report.pdf")
    for text_of_page in (
        "HD 209458",
        VISIT,
        "V0001",
        "good",
        "120 of 120 points",
        "relative flux [ppm]",
        "hours since mid-time",
        "Light curve DEFAULT",
        "G magnitude 7.51 mag",
        "G0, 6065 K",
        "A. Stronomer",
        "Good points 120 ≥",
        "The light curve is good: all 9 rules are met.",
        "Point-to-point scatter 100 ppm ≤ 150 ≤ 300 met",
        "completed",
        "dead pixel detection (BDPIX_D2)",
        "bias frame 2019-01-01",
        "3, listed in manifest.json",
        "2026-02-03T04:05:06",
    ):
        assert text_of_page in text, text_of_page


@needs_poppler
def test_the_pdf_is_tagged_has_a_title_and_no_script(plain_report: Path) -> None:
    found = subprocess.run(
        ["pdfinfo", plain_report / "report.pdf"], capture_output=True, text=True, check=True
    ).stdout
    facts = {
        name: value.strip()
        for name, _, value in (line.partition(":") for line in found.splitlines())
    }
    assert facts["Tagged"] == "yes"
    assert facts["JavaScript"] == "no"
    assert facts["Title"] == f"CHEOPS data reduction report: {VISIT} V0001"
    raw = (plain_report / "report.pdf").read_bytes()
    assert b"<pdfaid:part>2</pdfaid:part>" in raw
    assert b"<pdfuaid:part>1</pdfuaid:part>" in raw


HOSTILE = [
    '#read("/etc/passwd")',
    "<script>alert(1)</script>",
    "=cmd()|/C 'calc'!A0",
    "../../../etc/x $\\frac{1}{0}$ *b* _i_ @a",
]


@needs_poppler
def test_every_table_has_a_head_for_screen_readers(whole_report: Path) -> None:
    structure = subprocess.run(
        ["pdfinfo", "-struct", whole_report], capture_output=True, text=True, check=True
    ).stdout
    _, *tables = re.split(r"^ *Table\b", structure, flags=re.MULTILINE)
    assert len(tables) >= 10
    assert [table[:200] for table in tables if not re.search(r"^ *TH\b", table, re.MULTILINE)] == []


@needs_poppler
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_header_strings_appear_as_text(text: str, tmp_path: Path) -> None:
    pdf = typeset(Visit(header={"TARGNAME": text, "PI_NAME": text}), tmp_path)
    assert first_page(pdf).count(" ".join(text.split())) == 3  # title, target name, PI
    assert (
        words(pdf).count(" ".join(text.split())[:20]) >= 7
    )  # introduction, headings of pages, target, PI
    assert "root:" not in words(pdf)


@needs_poppler
def test_hostile_facts_warnings_and_inventory_appear_as_text(tmp_path: Path) -> None:
    text = '#panic("x")\n2026 ERROR \u4e00 \x1b[31m'
    visit = Visit(
        ended={"dark": {"warnings": [text], "status": {"DARK": "warning"}}}, fallbacks={text: text}
    )
    pdf = typeset(visit, tmp_path, {**FACTS, "folder": text, "software": text})
    assert "\x1b" not in words(pdf)
    shown = first_page(pdf)
    assert shown.count('#panic("x")\\n2026 ERROR \\u4e00 \\x1b[31m') == 5


@needs_poppler
def test_the_first_page_stays_one_with_the_longest_names_and_thirty_warnings(
    tmp_path: Path,
) -> None:
    long = {"TARGNAME": "@" * 68, "PI_NAME": "M" * 68, "SPECTYPE": "Q" * 68}
    ended = {
        step: {
            "warnings": [
                f"warning number {i} of this step, {'which_has_much_to_say_' * 9}" for i in range(5)
            ],
            "by_hand": ["TERM_X"],
        }
        for step in ("events", "bias", "dark", "pointing", "look", "quality")
    }
    fallbacks = {
        f"kind number {i}": "what was done without it, in some more words" for i in range(20)
    }
    pdf = typeset(Visit(header=long, ended=ended, fallbacks=fallbacks), tmp_path)
    assert "... and 24 more in manifest.json" in first_page(pdf)
    assert first_page(pdf).count("@") == 2 * 68  # the title and the table, broken over lines
    # all warnings are on the following pages
    assert all(
        f"{step}: warning number 4" in words(pdf)
        for step in ("events", "bias", "dark", "pointing", "look", "quality")
    )


SECTIONS = (
    "Introduction",
    "Verdict",
    "Run",
    "Light curves",
    "Metrics",
    "Noise",
    "Status",
    "Before and after each step",
    "Correlations",
    "Images",
    "Contamination",
    "Events",
    "Housekeeping",
    "Conditions",
    "Files",
)


# Table 2 of the report of 2017
METRICS_OF_2017 = (
    "Median flux",
    "Robust mean flux",
    "Field-star flux",
    "Robust scatter",
    "MAD",
    "Robust point-to-point scatter",
    "CDPP in 2.5 h",
    "CDPP in 6.5 h",
    "Contamination (fraction)",
    "Lost to the SAA",
    "Lost to occultation",
    "Lost to stray light",
    "Cosmic rays inside",
    "Cosmic rays outside",
    "Hot pixels inside",
    "Hot pixels outside",
    "Dead pixels inside",
    "Dead pixels outside",
    "Telegraphic pixels inside",
    "Telegraphic pixels outside",
)


@needs_poppler
@pytest.mark.parametrize("which", ["plain_report", "whole_report"])
def test_every_section_is_present_and_complete(which: str, request: pytest.FixtureRequest) -> None:
    found: Path = request.getfixturevalue(which)
    text = words(found / "report.pdf" if found.is_dir() else found, "-f", "2")
    for number, section in enumerate(SECTIONS, 1):
        assert f" {number} {section} " in f" {text} ", section
    for label in METRICS_OF_2017:
        assert label in text, label
    for word in ("TODO", "nan", "NaN", "inf", "None", "none none"):
        assert f" {word} " not in text.replace("Non-default settings None.", ""), word
    assert "\\mathdefault" not in text


@needs_poppler
def test_a_published_report_names_steps_files_and_noise(whole_report: Path, reduced: Bench) -> None:
    text = words(whole_report, "-f", "2")
    for step in STEPS[:-2]:  # all but viewer and report themselves
        assert f" {step} " in text, step
    for kind in ("SCI_RAW_SubArray", "SCI_RAW_Attitude", "SCI_RAW_Imagette", "MPS_PRE_Visits"):
        assert raw_file(reduced.visit, kind).name in text
    for stage in (
        "bias",
        "gain",
        "linearity",
        "dark",
        "flat field",
        "smearing",
        "hot pixels",
        "cosmic rays",
        "background",
    ):
        assert f" {stage} with" in text or f" {stage} " in text, stage
    assert "REF_APP_FlatFieldTeff" in text
    for panel in (
        "corrected image",
        "target subtracted",
        "field-star model",
        "both subtracted",
        "photon limit",
    ):
        assert panel in text, panel
    assert "numba" in text
    assert whole_report.stat().st_size < 3e6


@needs_poppler
def test_an_error_follows_its_value(tmp_path: Path) -> None:
    visit = Visit(ended={"smearing": {"used": {"SMEAR_T": 2.5e-05, "SMEAR_TE": 5e-06}}})
    text = words(typeset(visit, tmp_path), "-f", "2")
    assert "time of one row shift 2.500e−05 ± 5.0e−06 s SMEAR_T" in text
    assert "SMEAR_TE" not in text
