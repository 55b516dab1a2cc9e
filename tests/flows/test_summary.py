"""The end of a reduction: what the command says of the light curve, and where to look."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.command.progress import Progress
from flows.runs.summary import NOISE
from schemas.payloads import Leaf, Status
from tasks.engine.run import StepReport
from tests.support.faults import run_in_process
from tests.support.runs import Bench


def test_a_reduction_ends_with_verdict_reasons_noise_and_pages(
    reduced: Bench, tmp_path: Path
) -> None:
    bench = reduced.copy(tmp_path)
    (folder,) = bench.published()
    arguments = bench.arguments("--engine", "plain")
    shown = run_in_process(*arguments)
    assert shown.code == 0, shown.err
    assert shown.out == f"{folder}\n"
    lines = shown.err.splitlines()
    end = lines[lines.index("the light curve is usable with care") :]
    assert end[1] == "  - 12 good points: at least 30 are needed for a reliable scatter"
    assert [any(line.startswith(f"  {label} ") for line in end) for label in NOISE] == [True] * 5
    report, viewer = (line.partition(": ")[2] for line in end[-3:-1])
    assert Path(report) in folder.glob("*_RPT_*.pdf")
    assert Path(viewer) in folder.glob("*_RPT_*.html")
    answer = json.loads(run_in_process(*arguments, "--json").out)
    assert answer["verdict"] == "usable with care"
    assert [f"  - {reason}" for reason in answer["reasons"]] == end[1 : 1 + len(answer["reasons"])]
    assert [n["label"] for n in answer["noise"]] == list(NOISE)
    assert (answer["report"], answer["viewer"]) == (report, viewer)
    assert all(step["warnings"] == [] for step in answer["steps"])
    assert run_in_process(*arguments, "-q").err == "already up to date:\n"


@pytest.mark.parametrize("outcome", ["done", "cached"])
def test_the_warnings_of_a_cached_step_are_repeated(
    outcome: str, capsys: pytest.CaptureFixture[str]
) -> None:
    leaf = Leaf(step="dark", status={"DARK": Status.WARNING}, warnings=("only one dark frame",))
    Progress(silent=False)("dark", StepReport("dark", outcome, 0.0, "", leaf))
    assert "    ! only one dark frame\n" in capsys.readouterr().err
