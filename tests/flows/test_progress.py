"""Progress of a reduction: numbers, time left, and no long silence."""

from __future__ import annotations

import time

import pytest

import flows.reduce  # noqa: F401  (its imports declare the steps)
from flows.command import progress
from flows.command.progress import Progress, Pulse, progress_bar
from flows.runs.expected import SECONDS, Call, Part, next_call, seconds_left
from schemas.payloads import Leaf, Status
from tasks.engine.run import STEPS, Run, StepReport, running
from tasks.engine.store import Workspace
from tests.support.runs import Bench

CALLS = (Call("bias", Part.SUBARRAY), Call("dark", Part.SUBARRAY), Call("bias", Part.FULL_ARRAY))


@pytest.fixture
def run() -> Run:
    return Run(Workspace.__new__(Workspace), expected=CALLS)


def report(step: str, seconds: float = 0.5) -> StepReport:
    leaf = Leaf(step=step, status={step.upper(): Status.COMPLETED})
    return StepReport(step, "done", seconds, "", leaf)


def test_the_calls_foreseen_are_those_that_a_visit_makes(reduced: Bench) -> None:
    published, run = reduced.reduce()
    assert published is not None
    foreseen = [step for step, _ in run.expected]
    assert sorted(foreseen) == sorted(r.step for r in run.reports)


def test_every_step_is_foreseen_for_some_part() -> None:
    assert {step for steps in SECONDS.values() for step in steps} == set(STEPS)


def test_steps_are_counted_and_those_of_the_full_array_named(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(run), Progress(silent=False) as shown:
        for step in ("bias", "dark", "bias"):
            shown(step, None)
            shown(step, report(step))
    lines = [line.split("  ") for line in capsys.readouterr().err.splitlines()]
    starts = [" ".join(part for part in line if part).split() for line in lines]
    assert [start[:2] for start in starts[:2]] == [["1/3", "bias"], ["2/3", "dark"]]
    assert starts[2][:4] == ["3/3", "bias,", "full", "array"]
    assert starts[3][:4] == ["sub-array", "2", "steps", "1.0"]
    assert starts[4][:5] == ["full", "array", "1", "steps", "0.5"]


def test_each_visit_of_many_is_counted_from_one(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = Progress(silent=False)
    for each in (run, Run(run.workspace, expected=CALLS)):
        with running(each):
            shown("bias", report("bias"))
    assert capsys.readouterr().err.count("  1/3  bias") == 2


def test_a_wait_is_never_silent_for_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "SILENCE", 0.0)
    with Pulse(silent=False, doing="starting"):
        time.sleep(1.3)
    assert capsys.readouterr().err == "starting ... 1 s\n"
    with Pulse(silent=True, doing="starting"):
        pass
    assert capsys.readouterr().err == ""


def test_the_time_left_follows_the_pace_of_the_steps_done() -> None:
    psf = Call("psf", Part.SUBARRAY)
    usual = seconds_left({}, [psf])
    assert usual == SECONDS[Part.SUBARRAY]["psf"]
    first = Call("psf_1", Part.SUBARRAY)
    slow = seconds_left({first: 3 * SECONDS[Part.SUBARRAY]["psf_1"]}, [psf])
    assert usual < slow < 3 * usual
    assert next_call("new_step", [], CALLS) == Call("new_step", Part.SUBARRAY)


def test_simulating_shows_a_line_at_every_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    advance = progress_bar(Pulse(silent=False, doing=""), "simulating")
    for done in range(1, 21):
        advance(done, 20)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert lines[-1] == "simulating 20/20"
    assert lines[5].startswith("simulating 10/20, ")
