"""Kill -9, signals, two runs at once, a reader: nothing partial is ever seen, and the next run
gives the same bytes.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas import ROOT
from tasks.files import disk
from tests.support.runs import STEPS, Bench, differing, tree
from tests.support.zygote import Started, Zygote

pytestmark = pytest.mark.slow

PLAIN = ("--engine", "plain", "-q")

VISIT = "PR900001_TG000101"

STOPPED = "nothing partial was published, the same command goes on from here\n"


@pytest.fixture(scope="module")
def zygote(reduced: Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    folder = tmp_path_factory.mktemp("zygote")
    made = Zygote(folder, reduced.fresh(folder).arguments(*PLAIN, "--until", "report"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def first(reduced: Bench) -> Path:
    """What an undisturbed run publishes."""
    (folder,) = reduced.published()
    return folder


@pytest.fixture
def bench(reduced: Bench, tmp_path: Path) -> Bench:
    """The visit with all steps done and nothing published."""
    bench = reduced.copy(tmp_path)
    shutil.rmtree(bench.output)
    return bench


def signals(*numbers: int, **place: Any) -> dict[str, Any]:
    """Return the order to disturb a run by signals at some place."""
    return {"signals": numbers, **place}


def test_a_run_killed_at_every_point_of_every_step_goes_on_to_the_same_bytes(
    zygote: Zygote, reduced: Bench, first: Path, tmp_path: Path
) -> None:
    bench = reduced.fresh(tmp_path)
    for step in STEPS:
        for when in ("before", "within", "after"):
            run = zygote.start(bench.arguments(*PLAIN), DRP_CRASH_AT=f"{when} {step}")
            assert run.wait() == -signal.SIGKILL, (when, step)
            assert bench.published() == []
    published, last = bench.reduce()
    # the last crash came after the last record
    assert [r.outcome for r in last.reports] == ["cached"] * len(STEPS)
    assert last.warnings == []
    assert published is not None
    assert differing(Path(published.folder), first) == []
    assert tree(bench.work / "products") == tree(reduced.work / "products")
    assert bench.hidden() == []


@pytest.mark.parametrize("step", ["dark", "calibrate", "light_curves"])
def test_a_step_killed_while_it_writes_is_done_again_with_the_same_bytes(
    zygote: Zygote, reduced: Bench, bench: Bench, step: str
) -> None:
    """Killed at the first, second, fourth, eighth ... call of the disk."""
    killed, call = 0, 1
    arguments = bench.arguments(*PLAIN, "--from", step, "--until", step)
    while (
        code := zygote.start(arguments, signals(signal.SIGKILL, at="call", number=call)).wait()
    ) != 0:
        assert code == -signal.SIGKILL
        killed, call = killed + 1, 2 * call
    # a run up to `dark` and no further makes some sixty calls
    assert killed >= 5
    assert tree(bench.work / "products") == tree(reduced.work / "products")
    assert bench.hidden() == []


def test_a_publication_killed_at_any_point_is_invisible_or_complete(
    zygote: Zygote, bench: Bench, first: Path
) -> None:
    for point in ("before stage", "before manifest", "staged", "before rename", "after rename"):
        assert zygote.start(bench.arguments(*PLAIN), DRP_CRASH_AT=point).wait() == -signal.SIGKILL
        assert [p.name for p in bench.published()] == (
            [first.name] if point == "after rename" else []
        ), point
        # the stage of the run before is gone: there is never more than one
        stages = [p for p in bench.output.iterdir() if p.name.startswith(".")]
        assert len(stages) == (0 if point in ("before stage", "after rename") else 1)
    assert differing(*bench.published(), first) == []
    assert bench.hidden() == []
    # a run that has nothing to publish removes what is left there, too
    host = disk.host()
    gone = subprocess.Popen(["true"])
    gone.wait()
    (bench.output / f".CH_{VISIT}.{host}.{gone.pid}.0123abcd.stage" / "terms").mkdir(parents=True)
    again, _ = bench.reduce()
    assert again is not None
    assert not again.new
    assert bench.hidden() == []


@pytest.mark.parametrize(("locks", "publishers"), [(True, 8), (False, 4)])
def test_of_publishers_into_one_folder_none_leaves_anything_partial_or_twice(
    zygote: Zygote, reduced: Bench, tmp_path: Path, locks: bool, publishers: int
) -> None:
    """Each has a work folder of its own, so that they don't exclude each other, and there are two
    results; with locks, and where flock has no effect.
    """
    disturbance = None if locks else {"at": "flock"}
    both = replace(reduced.known(tmp_path), output=tmp_path / "products")
    both.steps(settings={"imagettes": {"radius": 8.0}})
    output, runs = both.output, []
    for number in range(publishers):
        bench = replace(both.known(tmp_path / str(number)), output=output)
        setting = ("--set", "imagettes.radius=8.0") if number % 2 else ()
        runs.append(zygote.start(bench.arguments(*PLAIN, *setting), disturbance))
    assert [run.wait() for run in runs] == [0] * publishers, [run.said for run in runs]
    published = sorted(p.name for p in output.iterdir())
    assert published == [f"CH_{VISIT}_V0000", f"CH_{VISIT}_V0001"]
    answers = [Path(run.said.splitlines()[-1]).name for run in runs]
    assert [set(answers[i::2]) for i in range(2)] in (
        [{name}, {other}] for name, other in (published, published[::-1])
    )
    for folder in output.iterdir():
        manifest = json.loads((folder / "manifest.json").read_text())
        assert {f["name"]: f["sha256"] for f in manifest["files"]} == {
            str(p.relative_to(folder)): disk.sha256(p)
            for p in folder.rglob("*")
            if p.is_file() and p.name != "manifest.json"
        }


def test_an_archive_killed_before_it_has_its_name_is_invisible_and_made_by_the_next_run(
    zygote: Zygote, bench: Bench, first: Path
) -> None:
    arguments = bench.arguments(*PLAIN, "--archive")
    for _ in range(2):
        assert (
            zygote.start(arguments, signals(signal.SIGKILL, at="path", name=".tgz")).wait()
            == -signal.SIGKILL
        )
        assert [p.name for p in bench.published()] == [first.name]
        assert len([p for p in bench.output.iterdir() if p.name.endswith(".part")]) == 1
    assert zygote.start(arguments).wait() == 0
    assert [p.name for p in bench.published()] == [first.name, f"{first.name}.tgz"]
    assert bench.hidden() == []
    whole = bench.published()[1].read_bytes()
    assert zygote.start(arguments).wait() == 0
    assert bench.published()[1].read_bytes() == whole


def test_a_signal_in_any_step_ends_the_run_with_its_code_and_the_next_goes_on(
    zygote: Zygote, reduced: Bench, first: Path, tmp_path: Path
) -> None:
    bench = reduced.fresh(tmp_path)
    ends = [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
    for i, step in enumerate(STEPS):
        number, code = ends[i % 2]
        run = zygote.start(
            bench.arguments(*PLAIN), signals(number, at="point", name=f"within {step}")
        )
        assert run.wait() == code, run.said
        assert run.said == f"ERROR stopped by {number.name}; {STOPPED}"
        assert bench.published() == []
        assert bench.hidden() == []
    published, last = bench.reduce()
    assert [r.step for r in last.reports if r.outcome == "done"] == ["report"]
    assert published is not None
    assert differing(Path(published.folder), first) == []


def test_signals_that_keep_coming_anywhere_leave_nothing_partial(
    zygote: Zygote, reduced: Bench, first: Path, tmp_path: Path
) -> None:
    """From the nth call of the disk on, every call sends SIGTERM and SIGINT in turn, into the
    cleaning up too.
    """
    call, stopped = 1, 0
    while True:
        bench = reduced.copy(tmp_path / str(call))
        shutil.rmtree(bench.output)
        arguments = bench.arguments(*PLAIN, "--from", "calibrate")
        run = zygote.start(
            arguments, signals(signal.SIGTERM, signal.SIGINT, at="call", number=call)
        )
        if run.wait() == 0:
            break
        assert run.said == f"ERROR stopped by SIGTERM; {STOPPED}"
        assert run.wait() == 143
        for folder in bench.published():
            assert differing(folder, first) == []
        assert bench.hidden() == []
        shutil.rmtree(tmp_path / str(call))
        call, stopped = 2 * call, stopped + 1
    # a run makes some hundred calls, most of them in the publication
    assert stopped >= 8
    assert differing(*bench.published(), first) == []


def test_a_signal_whose_exception_python_ignores_stops_the_run_at_the_next_step(
    zygote: Zygote, reduced: Bench, tmp_path: Path
) -> None:
    """What a signal's handler raises within a destructor is printed and forgotten."""
    bench = reduced.fresh(tmp_path)
    order = signals(signal.SIGTERM, at="destructor", name="within bias")
    run = zygote.start(bench.arguments("--engine", "plain"), order)
    assert run.wait() == 143
    assert "Exception ignored in" in run.said
    assert [line.split()[1] for line in run.said.splitlines() if " done " in line] == [
        "events",
        "housekeeping",
    ]
    assert run.said.endswith(f"ERROR stopped by SIGTERM; {STOPPED}")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_two_signals_from_outside_end_a_run_cleanly(
    reduced: Bench, tmp_path: Path, number: int, code: int
) -> None:
    bench = reduced.fresh(tmp_path)
    command = [sys.executable, "-m", "flows.command.main", *bench.arguments("--engine", "plain")]
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        while "events" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(number)
        process.send_signal(number)
        started = time.monotonic()
        output, errors = process.communicate(timeout=60)
    # the step that runs is left at once; the rest is what a busy machine may add
    assert time.monotonic() - started < 10
    assert process.returncode == code, errors
    assert errors.splitlines()[-1].startswith("ERROR stopped by SIG")
    assert "Traceback" not in errors
    assert output == ""
    assert bench.published() == []
    assert bench.hidden() == []


def test_of_two_runs_at_once_one_publishes_and_the_other_is_refused_at_once(
    zygote: Zygote, reduced: Bench, first: Path, tmp_path: Path
) -> None:
    for number in range(6):
        bench = reduced.copy(tmp_path / str(number))
        shutil.rmtree(bench.output)
        runs = [zygote.start(bench.arguments(*PLAIN)) for _ in range(2)]
        while not any(run.code.exists() for run in runs):
            time.sleep(0.005)
        refused, other = sorted(runs, key=lambda run: not run.code.exists())
        assert not other.code.exists()
        assert refused.wait() == 75
        assert refused.said.startswith(f"ERROR {VISIT} is being reduced by another run")
        assert other.wait() == 0, other.said
        assert differing(*bench.published(), first) == []
        assert bench.hidden() == []
        shutil.rmtree(tmp_path / str(number))


def test_runs_that_wait_for_another_find_everything_done(
    zygote: Zygote, bench: Bench, first: Path
) -> None:
    # one step is to be done, so that the runs differ
    shutil.rmtree(next((bench.work / "products" / VISIT).glob("position-*")))
    runs = [
        zygote.start(bench.arguments("--engine", "plain", "-q", "--json", "--wait"))
        for _ in range(3)
    ]
    assert [run.wait() for run in runs] == [0, 0, 0], [run.said for run in runs]
    answers = [answer(run) for run in runs]
    assert sorted(a["published"]["new"] for a in answers) == [False, False, True]
    for a in answers:
        done = [s["step"] for s in a["steps"] if s["outcome"] == "done"]
        assert done == (["position"] if a["published"]["new"] else [])
    assert differing(*bench.published(), first) == []
    assert bench.hidden() == []


def answer(run: Started) -> dict[str, Any]:
    """Return what a run said with --json."""
    return dict(json.loads(run.said[run.said.index("{") :]))


def test_two_visits_at_once_in_one_work_folder_are_both_right(
    zygote: Zygote, reduced: Bench, first: Path, tmp_path: Path
) -> None:
    from flows.simulate import simulate_into

    case = tmp_path / "other.toml"
    tiny = (ROOT / "tasks/simulation/cases/tiny.toml").read_text()
    case.write_text(tiny.replace("magnitude = 9.0", "magnitude = 8.0") + "request = 2\n")
    simulate_into(tmp_path / "other", str(case), None, 2, None)
    alone = replace(reduced, visit=tmp_path / "other").fresh(tmp_path / "alone")
    assert zygote.start(alone.arguments(*PLAIN)).wait() == 0
    together = reduced.fresh(tmp_path / "together")
    runs = [
        zygote.start(replace(together, visit=v).arguments(*PLAIN))
        for v in (reduced.visit, alone.visit)
    ]
    assert [run.wait() for run in runs] == [0, 0], [run.said for run in runs]
    one, other = together.published()
    assert differing(one, first) == []
    assert differing(other, *alone.published()) == []
    assert together.hidden() == []


def test_a_reader_sees_nothing_or_all(zygote: Zygote, bench: Bench, first: Path) -> None:
    wanted = {str(p.relative_to(first)): p.stat().st_size for p in first.rglob("*") if p.is_file()}
    # times of steps are written in more or fewer digits
    del wanted["manifest.json"]
    run = zygote.start(bench.arguments(*PLAIN))
    looks = {"nothing": 0, "all": 0}
    while looks["all"] < 20:
        folders = bench.published()
        for folder in folders:
            seen = {
                str(p.relative_to(folder)): p.stat().st_size
                for p in folder.rglob("*")
                if p.is_file()
            }
            del seen["manifest.json"]
            assert seen == wanted
            manifest = json.loads((folder / "manifest.json").read_text())
            assert {f["name"]: f["bytes"] for f in manifest["files"]} == wanted
        looks["all" if folders else "nothing"] += 1
        assert folders or not run.code.exists(), run.said
    assert run.wait() == 0
    # the publication takes a second, and a look at an empty folder a fraction of a millisecond
    assert looks["nothing"] > 20
