"""Campaigns: visits side by side, each failing alone."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from flows.campaign import run_campaign
from tests.support.faults import run_in_process
from tests.support.runs import Bench

# a stand-in for `drp reduce`: the visit's name says what becomes of it
STUB = """
import json, os, pathlib, sys, time
visit = pathlib.Path(sys.argv[-1])
(visit.parent / f"began {visit.name}").write_text(str(time.time()))
if visit.name == "slow":
    time.sleep(30)
if visit.name == "killed":
    os.kill(os.getpid(), 9)
if visit.name.startswith("bad"):
    sys.stderr.write("  step done\\nERROR it is \\x1b[31mbad\\n")
    sys.exit(65)
time.sleep(0.3)
(visit.parent / f"ended {visit.name}").write_text(str(time.time()))
print(json.dumps({"published": {"verdict": "good", "folder": f"/out/{visit.name}", "new": True}}))
"""

COMMAND = ("-c", STUB)


def test_visits_run_side_by_side_and_each_fails_alone(tmp_path: Path) -> None:
    names = ["a", "bad", "b", "killed", "c"]
    reported: list[str] = []
    results = run_campaign(
        [tmp_path / n for n in names], [], 2, lambda r: reported.append(Path(r.visit).name), COMMAND
    )
    assert [(Path(r.visit).name, r.code, r.verdict) for r in results] == [
        ("a", 0, "good"),
        ("bad", 65, ""),
        ("b", 0, "good"),
        ("killed", 137, ""),
        ("c", 0, "good"),
    ]
    assert [r.text for r in results] == [
        "/out/a",
        "it is \\x1b[31mbad",
        "/out/b",
        "killed by signal 9",
        "/out/c",
    ]
    assert sorted(reported) == sorted(names)
    # never more than two at a time
    spans = [
        [float((tmp_path / f"{when} {n}").read_text()) for when in ("began", "ended")]
        for n in ("a", "b", "c")
    ]
    assert all(sum(a <= t < b for a, b in spans) <= 2 for t, _ in spans)


def test_a_campaign_that_is_stopped_stops_its_visits(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        try:
            run_campaign([tmp_path / "slow"], [], 1, command=COMMAND)
        except SystemExit as end:
            os._exit(int(str(end.code)))
        os._exit(1)
    deadline = time.monotonic() + 20
    while not (tmp_path / "began slow").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert time.monotonic() < deadline  # and not after the half minute that the visit takes


def test_the_table_has_a_head_and_calls_an_exit_code_one(tmp_path: Path) -> None:
    outcome = run_in_process(
        "campaign", tmp_path, "--engine", "plain", "--jobs", 1, "--work", tmp_path
    )
    head, line = outcome.out.splitlines()
    assert head.split() == ["exit", "code", "time", "verdict", "visit", "folder", "or", "error"]
    assert line.split()[0] == "66"
    assert f"{tmp_path}: exit code 66, " in outcome.err


@pytest.mark.slow
def test_the_command_sums_up_and_ends_with_the_first_code(reduced: Bench, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    places = [
        "--references",
        reduced.references[0],
        "--work",
        reduced.work,
        "--output",
        reduced.output,
    ]
    (folder,) = reduced.published()
    outcome = run_in_process(
        "campaign", reduced.visit, empty, *places, "--engine", "plain", "--json"
    )
    assert outcome.code == 66, outcome.err
    first, second = json.loads(outcome.out)
    assert (first["code"], first["text"], first["new"]) == (0, str(folder), False)
    assert first["verdict"] in ("good", "usable with care", "not usable")
    why, report, pdf = second["text"].split("; ")
    assert (second["code"], why) == (
        66,
        f"{empty}: no raw sub-array (SCI_RAW_SubArray) below this folder",
    )
    assert Path(pdf.removeprefix("as PDF: ")) == Path(report.removeprefix("report: ")).with_suffix(
        ".pdf"
    )
