"""Typesetting, and its failures."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from schemas import ROOT
from schemas.errors import BusyError, MissingInputError, StorageError
from tasks.delivery.report.report import DATA, FIGURES, svg, typeset_report
from tasks.delivery.report.typeset import make_pdf
from tests.support.faults import fill_disk
from tests.support.visit_report import FACTS


@pytest.mark.parametrize("name", FIGURES)
def test_a_broken_figure_cannot_be_typeset(name: str, plain_report: Path, tmp_path: Path) -> None:
    for file in (DATA, *map(svg, FIGURES)):
        shutil.copy(plain_report / file, tmp_path)
    (tmp_path / svg(name)).write_bytes(b"<svg")
    with pytest.raises(RuntimeError, match=r"the report cannot be typeset: .*SVG"):
        typeset_report(tmp_path, FACTS, tmp_path / "report.pdf")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted((DATA, *map(svg, FIGURES)))


def test_missing_data_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"report\.json: no such file"):
        typeset_report(tmp_path, FACTS, tmp_path / "report.pdf")


@pytest.mark.parametrize("action", ["create", "write", "fsync", "rename"])
def test_a_full_disk_leaves_nothing_behind(
    action: str, plain_report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(monkeypatch, action)
    with pytest.raises(StorageError, match="No space left on device"):
        typeset_report(plain_report, FACTS, tmp_path / "report.pdf")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "place", ["{secret}", "/..{secret}", "/../../../../../..{secret}", "/proc/self/environ"]
)
def test_a_page_reads_nothing_from_the_disk(place: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.typ"
    secret.write_text("what nobody may read")
    for page in (f'#read("{place}")', f'#include "{place}"'):
        with pytest.raises(
            RuntimeError, match=r"failed to load file|would escape the project root"
        ):
            make_pdf({"main.typ": page.format(secret=secret).encode()})


def test_a_process_killed_while_typesetting_leaves_no_file_next_to_the_report(
    tmp_path: Path,
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nkill -KILL $PPID\n")
    program.chmod(0o755)
    code = (
        "import sys; from pathlib import Path; from tasks.delivery.report.pdf import write_pdf;"
        f"sys.executable = {str(program)!r}; write_pdf({{}}, "
        f"Path({str(tmp_path / 'report.pdf')!r}))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == -9
    assert [p.name for p in tmp_path.iterdir()] == ["python"]


def test_no_other_file_remains_next_to_the_report(plain_report: Path, tmp_path: Path) -> None:
    typeset_report(plain_report, FACTS, tmp_path / "report.pdf")
    assert [p.name for p in tmp_path.iterdir()] == ["report.pdf"]


@pytest.mark.parametrize("end", ["exit 3", "kill -ABRT $$"])
def test_typst_running_out_of_memory_is_an_error_worth_retrying(
    end: str, plain_report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\necho memory allocation failed >&2\n{end}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(
        BusyError,
        match=r"not enough memory: typesetting ended with (3|-6): memory allocation failed",
    ):
        typeset_report(plain_report, FACTS, tmp_path / "report.pdf")
    assert [p.name for p in tmp_path.iterdir()] == ["python"]


def test_a_broken_template_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="unclosed"):
        make_pdf({"main.typ": b"#let x = ("})
