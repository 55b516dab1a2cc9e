"""Reports on visits that were not reduced."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from flows.runs.failure import failed_visit
from schemas.errors import BadInputError
from schemas.payloads import Inventory, Leaf, Reference, Status
from schemas.settings import PipelineSettings
from schemas.used import USED
from tasks.delivery.report.failed import typeset_failed
from tasks.engine.run import Run, StepReport
from tasks.engine.store import Workspace
from tests.support.damage import (
    SUBARRAY,
    change_pixels,
    pdf_of,
    report_of,
    spoil,
)
from tests.support.faults import (
    Bench,
    Outcome,
    edited,
    fill_disk,
    raw_product,
    replace,
)
from tests.support.outside import needs_poppler
from tests.support.runs import STEPS


def test_a_visit_with_a_damaged_reference_has_a_report_that_goes_when_it_is_mended(
    own: Bench,
) -> None:
    path = own.reference("FlatFieldTeff")
    sound = path.read_bytes()
    with edited(path, "REF_APP_FlatFieldTeff") as part:
        spoil(part, None, np.nan)
    text = report_of(own, own.refused(65, "NaN or infinite"))
    for word in (
        "was not reduced: an input is damaged",
        f"Why\n  {path}",
        "step flat; nothing was published",
        "dark ",
        "TERM_DARK",
        "What to do\n  The error message names the file",
        "Replace the file with an intact copy",
    ):
        assert word in text, text
    path.write_bytes(sound)
    own.published()
    assert list((own.work / "reports").iterdir()) == []


@needs_poppler
def test_the_pdf_of_a_report_says_why_where_what_to_do_and_what_was_done(own: Bench) -> None:
    shutil.rmtree(own.work)  # no step is known
    path = own.reference("FlatFieldTeff")
    with edited(path, "REF_APP_FlatFieldTeff") as part:
        spoil(part, None, np.nan)
    own.refused(65, "NaN or infinite", more=("--set", "dark.scale=1.0"))
    pdf, facts = pdf_of(own)
    for word in (
        "Not reduced: an input is damaged",
        "Stopped: step flat. Nothing was published.",
        "NaN or infinite",
        "Replace the file with an intact",
        "PR900001_TG000101",
        "dark done",
        "DARK_AVG",
        "electron/s",
        "bias done",
        "CCDLinearisation",
        path.name,
        "Files read",
        "dark.scale = 1.0",
        "stopped 2023-11-14T22:13:20 UTC",
    ):
        assert word in pdf, word
    assert int(facts["Pages"]) <= 2
    assert (facts["Tagged"], facts["JavaScript"], facts["PDF version"]) == ("yes", "no", "1.7")
    assert facts["Title"] == "CHEOPS data reduction: PR900001_TG000101 was not reduced"
    raw = (own.work / "reports" / "PR900001_TG000101.pdf").read_bytes()
    assert b"<pdfaid:part>2</pdfaid:part>" in raw
    own.refused(65, "NaN or infinite", more=("--set", "dark.scale=1.0"))
    # the steps are cached now, and that is said; the same end once more gives the same bytes
    again = (own.work / "reports" / "PR900001_TG000101.pdf").read_bytes()
    assert again != raw
    own.refused(65, "NaN or infinite", more=("--set", "dark.scale=1.0"))
    assert (own.work / "reports" / "PR900001_TG000101.pdf").read_bytes() == again


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        (SUBARRAY, 65, ("an input is damaged", "empty (0 bytes)", "Files read\n  none")),
        ("SCI_RAW_Attitude", 65, ("an input is damaged", "empty (0 bytes)")),
        ("BiasFrame", 65, ("checksum", "raw sub-array: CH_PR900001_TG000101_TU2021-03-10T")),
        (
            "GainCorrection",
            66,
            ("an input is missing", "gain correction", "Put the file named in the error message"),
        ),
    ],
)
def test_a_visit_whose_inventory_fails_has_a_report_that_goes_when_it_is_published(
    own: Bench, kind: str, code: int, words: tuple[str, ...]
) -> None:
    is_raw = kind.startswith("SCI")
    path = own.raw(kind) if is_raw else own.reference(kind)
    sound = path.read_bytes()
    if code == 66:
        path.unlink()
    elif is_raw:
        replace(path, b"")
    else:
        with edited(path, "REF_APP_BiasFrame", sums=False) as part:
            part.data = bytes([part.data[0] ^ 1]) + part.data[1:]
    text = report_of(own, own.refused(code))
    for word in (
        "PR900001_TG000101 was not reduced: ",
        "inventory of the files, before the first step",
        f"requested: {own.visit}",
        "Steps completed\n  none",
        *words,
    ):
        assert word in text, text
    replace(path, sound)
    own.published()
    assert list((own.work / "reports").iterdir()) == []


@needs_poppler
def test_a_folder_that_names_no_visit_has_a_report_under_its_own_name_as_text(
    tmp_path: Path, library: Path, references: Path
) -> None:
    folder = tmp_path / '#read("x") <b> *a*'
    folder.mkdir()
    bench = Bench(folder, tmp_path / "x", references)
    outcome = bench.refused(66, "no raw sub-array (SCI_RAW_SubArray) below this folder")
    (text,) = (bench.work / "reports").glob("*.txt")
    assert re.fullmatch(r"_read__x____b___a_-[0-9a-f]{8}", text.stem), text
    assert report_of(bench, outcome, text.stem).startswith(
        '#read("x") <b> *a* was not reduced: an input is missing'
    )
    assert '#read("x") <b> *a*' in pdf_of(bench, text.stem)[0]


def test_a_dry_run_leaves_no_report_of_an_inventory(bench: Bench) -> None:
    replace(bench.raw(SUBARRAY), b"")
    bench.refused(65, "empty (0 bytes)", more=("--dry-run",))
    assert not (bench.work / "reports").exists()


def test_a_visit_that_another_run_holds_has_no_report(bench: Bench) -> None:
    with Workspace(bench.work, "PR900001_TG000101").lock(False, lambda _: None):
        bench.refused(75, "PR900001_TG000101")
    assert not (bench.work / "reports").exists()


def damaged_visit(bench: Bench) -> Path:
    """Damage the visit, and leave a PDF of an earlier failure; return where it is."""
    change_pixels(bench, np.zeros_like, SUBARRAY)
    (bench.work / "reports").mkdir(parents=True)
    pdf = bench.work / "reports" / "PR900001_TG000101.pdf"
    pdf.write_bytes(b"of an earlier failure")
    return pdf


def check_text_alone(bench: Bench, outcome: Outcome, pdf: Path, why: str) -> None:
    """Assert that there is a text and no PDF, and that the ERROR line says why."""
    text = pdf.with_suffix(".txt")
    assert f"; report: {text}; its PDF could not be created: " in outcome.error
    assert why in outcome.error.split("its PDF could not be created: ")[1]
    assert "no usable science data" in text.read_text()
    facts = text.with_suffix(".json")
    assert sorted(p.name for p in pdf.parent.iterdir()) == [facts.name, text.name]


@pytest.mark.parametrize(
    ("end", "why"),
    [
        ("echo no such font >&2; exit 1", "the report cannot be typeset: no such font"),
        (
            "echo memory allocation failed >&2; kill -ABRT $$",
            "not enough memory: typesetting ended with -6",
        ),
    ],
)
def test_where_typst_fails_the_text_stands_and_the_error_is_the_same(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, why: str
) -> None:
    pdf = damaged_visit(bench)
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{end}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    check_text_alone(bench, bench.refused(69, "none of 12 images can be used"), pdf, why)


@pytest.mark.parametrize("action", ["create", "write", "fsync", "rename"])
def test_where_the_disk_is_full_for_the_pdf_the_text_stands_and_the_error_is_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    pdf = damaged_visit(bench)
    fill_disk(monkeypatch, action, pdf.name)
    check_text_alone(
        bench, bench.refused(69, "none of 12 images can be used"), pdf, "No space left on device"
    )


def test_a_fault_in_making_the_report_does_not_take_the_place_of_the_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_pixels(bench, np.zeros_like, SUBARRAY)

    def fault(*_: object) -> None:
        raise KeyError("a keyword that nobody declared")

    monkeypatch.setattr("flows.runs.failure.step_row", fault)
    monkeypatch.setattr("flows.runs.failure.inputs_of", fault)
    bench.refused(
        69,
        "none of 12 images can be used",
        "the report could not be written: 'a keyword that nobody declared'",
    )
    assert not (bench.work / "reports").exists()


@pytest.mark.parametrize(
    ("fails", "where", "before"),
    [
        ("tasks.calibration.gain.gain_of", "step gain", "bias "),
        ("flows.reduce.publish", "publication", "report "),
    ],
    ids=["in a step", "publishing"],
)
def test_a_visit_that_met_a_fault_of_the_program_has_a_report_beside_the_crash_file(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    fails: str,
    where: str,
    before: str,
) -> None:
    if where != "publication":
        shutil.rmtree(bench.work)  # no step is known

    def fault(*_: object, **__: object) -> None:
        raise ZeroDivisionError("what nobody\nthought of")

    monkeypatch.setattr(fails, fault)
    outcome = bench.refused(
        70, "please report it with", "ZeroDivisionError: what nobody\\nthought of; report:"
    )
    text = report_of(bench, outcome)
    for word in (
        "was not reduced: the program failed",
        "Why\n  ZeroDivisionError: what nobody\\nthought of\n",
        f"  {where}; nothing was",
        f"\n  {before}",
        "What to do\n  This is a bug in the program, not a problem of the visit",
    ):
        assert word in text, text
    assert "SCI_RAW_SubArray" in text.split("\nFiles read\n")[1]


@needs_poppler
def test_names_from_outside_stand_in_a_report_as_text_on_one_line(bench: Bench) -> None:
    hostile = '\x1b[31m#read("/etc/passwd")\nERROR 2026 \u202e'
    raw = raw_product(bench.raw(SUBARRAY))
    found = Inventory(
        visit="PR900001_TG000101",
        obsid=7,
        target=hostile,
        arch_rev=0,
        proc_num=0,
        start="2020-05-31T00:00:00",
        images=12,
        subarray=raw,
        attitude=raw,
        deviations=(hostile,),
        notes=(hostile,),
        fallbacks={hostile: hostile},
    )
    odd = '*b* $x$ @a <b> #x("y")'
    leaf = Leaf(
        step="dark", used={"BIAS_SRC": odd}, warnings=(hostile,), status={"DARK": Status.WARNING}
    )
    run = SimpleNamespace(reports=[StepReport("dark", "done", 0.1, "", leaf)], warnings=[hostile])
    for error in (BadInputError(hostile), KeyError(hostile)):
        failed = failed_visit(error, "", bench.visit, cast("Run", run), found, PipelineSettings())
        text = failed.as_text()
        assert all(line.isprintable() for line in text.splitlines())
        assert not any(line.startswith("ERROR") for line in text.splitlines())
        assert (
            text.count('#read("/etc/passwd")') == 8
        )  # target, error, warnings of step and run, deviation, note, fallback
        (bench.work / "reports").mkdir(parents=True, exist_ok=True)
        typeset_failed(failed, bench.work / "reports" / "PR900001_TG000101.pdf")
        pdf, _ = pdf_of(bench)
        assert pdf.count('#read("/etc/passwd")\\nERROR 2026 \\u202e') == 8
        assert odd in pdf
        assert "root:" not in pdf


@needs_poppler
def test_a_report_with_more_to_say_than_any_visit_has_two_pages(bench: Bench) -> None:
    used = dict.fromkeys(list(USED)[:3], "word" * 17)
    leaves = [
        Leaf(
            step=name,
            used=used,
            warnings=("much to say, " * 40,) * 5,
            status={"DARK": Status.WARNING},
        )
        for name in STEPS
    ]
    raw, long = raw_product(bench.raw(SUBARRAY)), ("many_words_" * 60,) * 50
    found = Inventory(
        visit="PR900001_TG000101",
        obsid=7,
        target="@" * 68,
        arch_rev=0,
        proc_num=0,
        start="2020-05-31T00:00:00",
        images=12,
        subarray=raw,
        attitude=raw,
        deviations=long,
        notes=long,
        fallbacks={f"kind {i}": long[0] for i in range(30)},
        dark_frames=(Reference(kind="dark frame", product=raw, valid_from="2020-01-01T00:00:00"),)
        * 90,
    )
    run = SimpleNamespace(
        reports=[StepReport(leaf.step, "done", 0.1, "", leaf) for leaf in leaves],
        warnings=list(long),
    )
    (bench.work / "reports").mkdir(parents=True)
    failed = failed_visit(
        BadInputError("x" * 1900),
        "quality",
        Path("/visits" * 40),
        cast("Run", run),
        found,
        PipelineSettings(),
    )
    typeset_failed(failed, bench.work / "reports" / "PR900001_TG000101.pdf")
    pdf, facts = pdf_of(bench)
    assert int(facts["Pages"]) == 2
    assert "... and 45 more in the text version of this report" in pdf
    assert "viewer done" in pdf


def test_want_of_memory_says_nothing_of_the_visit_and_leaves_no_report(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("flows.reduce.publish", fault)
    bench.refused(75, "not enough memory")
    assert not (bench.work / "reports").exists()


def test_a_report_that_cannot_be_written_is_said_and_changes_nothing_else(bench: Bench) -> None:
    change_pixels(bench, np.zeros_like, SUBARRAY)
    bench.work.mkdir(exist_ok=True)
    (bench.work / "reports").write_text("in the way")
    bench.refused(
        69,
        "none of 12 images can be used",
        "the report could not be written",
        str(bench.work / "reports"),
    )
