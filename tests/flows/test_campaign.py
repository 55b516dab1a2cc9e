"""Campaigns: visits side by side, each failing alone; what was done is known to the next call."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from flows.campaign import engines, locks, visit
from flows.campaign.engines import Engine, engine_on
from flows.campaign.locks import held_locks, why_unlocked
from flows.campaign.page import render_page
from flows.campaign.run import Campaign, run_campaign
from flows.campaign.state import opened, read_history, read_lines, state_path
from flows.campaign.visit import Task, WorkerUnfit, check_worker, reduce_in_process
from schemas.campaigns import Begin, Outcome, is_final, worth_a_retry
from schemas.errors import BusyError, ConfigurationError, MissingInputError, UsageError
from tasks.files import disk
from tests.support.faults import run_in_process
from tests.support.runs import Bench

# a stand-in for `drp reduce`: the visit's name says what becomes of it
STUB = """
import json, os, pathlib, sys, time
visit = pathlib.Path(sys.argv[-1])
with open(visit.parent / f"began {visit.name}", "a") as log:
    log.write(f"{time.time()}\\n")
tries = len((visit.parent / f"began {visit.name}").read_text().splitlines())
if visit.name == "slow":
    time.sleep(30)
if visit.name == "killed" or (visit.name == "unlucky" and tries < 3):
    os.kill(os.getpid(), 9)
if visit.name == "busy" and tries < 2:
    sys.exit(75)
if visit.name.startswith("bad"):
    sys.stderr.write("  step done\\nERROR it is \\x1b[31mbad\\n")
    sys.exit(65)
time.sleep(0.1)
out = visit.parent / "products" / f"of {visit.name}"
out.mkdir(exist_ok=True, parents=True)
(visit.parent / f"ended {visit.name}").write_text(str(time.time()))
print(json.dumps({
    "published": {"verdict": "good", "folder": str(out), "new": True},
    "steps": [{"step": "bias", "seconds": 0.5, "outcome": "done"},
              {"step": "gain", "seconds": 9.5, "outcome": "cached"}],
    "noise": [{"label": "Point-to-point scatter", "value": 120.0}],
    "magnitude": 9.0, "photon_limit": 100.0, "report": str(out / "report.pdf"), "viewer": "",
}))
"""

COMMAND = ("-c", STUB)


def asked(folder: Path, *names: str, **more: Any) -> Campaign:
    """Return a campaign of stand-ins."""
    usual = {"output": folder / "products", "work": folder / "work", "delay": 0.01}
    visits = [str(folder / name) for name in names]
    return Campaign("test", visits, **{**usual, "command": COMMAND, **more})


def ran(campaign: Campaign, jobs: int = 2) -> tuple[list[Outcome], list[str]]:
    """Run a campaign here; return its outcomes, and the names of the visits that were tried."""
    tried: list[str] = []
    with engine_on("here", jobs, 1, lambda _: None) as engine:
        results = run_campaign(
            campaign, engine, lambda o, _done, _all: tried.append(Path(o.visit).name)
        )
    return results, tried


def test_visits_run_side_by_side_and_each_fails_alone(tmp_path: Path) -> None:
    names = ["a", "bad", "b", "killed", "c"]
    results, tried = ran(asked(tmp_path, *names))
    assert [(Path(r.visit).name, r.code, r.verdict) for r in results] == [
        ("a", 0, "good"),
        ("bad", 65, ""),
        ("b", 0, "good"),
        ("killed", 137, ""),
        ("c", 0, "good"),
    ]
    assert [r.text.rpartition("/")[2] for r in results] == [
        "of a",
        "it is \\x1b[31mbad",
        "of b",
        "killed by signal 9",
        "of c",
    ]
    assert sorted(tried) == sorted(names)
    # never more than two at a time
    spans = [
        [float((tmp_path / f"{when} {n}").read_text()) for when in ("began", "ended")]
        for n in ("a", "b", "c")
    ]
    assert all(sum(a <= t < b for a, b in spans) <= 2 for t, _ in spans)


def test_what_may_end_otherwise_is_tried_again_and_the_rest_is_not(tmp_path: Path) -> None:
    results, _ = ran(asked(tmp_path, "unlucky", "busy", "killed", "bad"))
    assert [(r.code, r.attempts) for r in results] == [(0, 3), (0, 2), (137, 3), (65, 1)]
    assert results[0].lost > 0
    assert results[3].lost == 0


@pytest.mark.parametrize(
    ("code", "again", "final"),
    [
        *((code, False, True) for code in (0, 2, 3, 65, 66, 69, 70, 73, 78)),
        *((code, True, False) for code in (74, 75, 76)),
        *((code, True, True) for code in (134, 137, 139)),
        *((code, False, False) for code in (130, 143)),
    ],
)
def test_a_code_decides_whether_a_visit_is_tried_again_now_and_later(
    code: int, again: bool, final: bool
) -> None:
    assert worth_a_retry(code) == again
    assert is_final(code) == final


def test_the_same_campaign_goes_on_and_repeats_nothing(tmp_path: Path) -> None:
    ran(asked(tmp_path, "a", "bad"))
    first, tried = ran(asked(tmp_path, "a", "b", "bad", "a"))
    assert tried == ["b"]
    assert [r.code for r in first] == [0, 0, 65]
    # a publication that is gone is made again, and failures on request
    (tmp_path / "products" / "of a").rmdir()
    assert ran(asked(tmp_path, "a", "b", "bad"))[1] == ["a"]
    assert sorted(ran(asked(tmp_path, "a", "bad", again=True))[1]) == ["a", "bad"]
    # with other options, or another content of the settings file, nothing is known
    assert ran(asked(tmp_path, "a", options=("--strict",)))[1] == ["a"]
    assert ran(asked(tmp_path, "a", options=("--strict",), settings=b"x"))[1] == ["a"]


def lines_of(folder: Path) -> bytes:
    return state_path(folder / "products", "test").read_bytes()


def test_every_outcome_is_written_at_once(tmp_path: Path) -> None:
    seen: list[int] = []
    with engine_on("here", 1, 1, lambda _: None) as engine:
        run_campaign(
            asked(tmp_path, "a", "bad", "b"),
            engine,
            lambda *_: seen.append(lines_of(tmp_path).count(b"\n")),
        )
    assert seen == [2, 3, 4]


@hypothesis.given(st.data())
def test_a_state_file_cut_anywhere_is_read_and_goes_on(data: st.DataObject) -> None:
    import tempfile

    begin = Begin(
        name="x", digest="d", visits=("/a", "/b"), options=(), engine="here", version="1", began=1.0
    )
    with tempfile.TemporaryDirectory() as folder:
        path = state_path(Path(folder), "x")
        with opened(path) as state:
            state.write(begin=begin)
            for name in ("/a", "/b"):
                state.write(outcome=Outcome(visit=name, code=65))
        whole = path.read_bytes()
        cut = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:cut])
        with opened(path) as state:
            before = dict(state.history.outcomes)
            ends = [m.end() for m in re.finditer(b"\n", whole)]
            # a line is whole without its end, too
            assert len(before) == max(0, sum(end - 1 <= cut for end in ends) - 1)
            state.write(begin=begin)
            state.write(outcome=Outcome(visit="/c", code=0))
        assert read_lines(path).outcomes.keys() == {*before, "/c"}


def test_lines_that_are_none_are_ignored(tmp_path: Path) -> None:
    ran(asked(tmp_path, "a"))
    path = state_path(tmp_path / "products", "test")
    path.write_bytes(path.read_bytes() + b'null\n{"outcome": {"visit": 5}}\n\xff\n[]\n')
    assert ran(asked(tmp_path, "a"))[1] == []


def test_a_campaign_runs_once_at_a_time(tmp_path: Path) -> None:
    path = state_path(tmp_path / "products", "test")
    with opened(path), pytest.raises(BusyError, match=r"test\.jsonl: this campaign is running"):
        ran(asked(tmp_path, "a"))
    with pytest.raises(UsageError, match="the name of a campaign"):
        state_path(tmp_path, "../x")
    with pytest.raises(MissingInputError, match=r"no such campaign; this output folder has test"):
        read_history(path.with_stem("other"))


class Waiting(Executor):
    """Ends tasks in pairs, and counts how many are open."""

    def __init__(self) -> None:
        self.open: list[tuple[Future[Any], Task]] = []
        self.most = 0

    def submit(self, _do: Any, task: Any, /, *_: Any, **__: Any) -> Any:
        future: Future[Any] = Future()
        self.open.append((future, task))
        self.most = max(self.most, len(self.open))
        if len(self.open) == 7:
            for ended, its in self.open:
                ended.set_result(Outcome(visit=its.visit, code=0))
            self.open.clear()
        return future


def test_of_a_thousand_visits_only_some_are_submitted_at_a_time(tmp_path: Path) -> None:
    executor = Waiting()
    names = [f"visit{i}" for i in range(1001)]
    results = run_campaign(asked(tmp_path, *names, most_open=7), Engine(executor), lambda *_: None)
    assert len(results) == 1001
    assert executor.most == 7
    assert read_history(state_path(tmp_path / "products", "test")).calls == 1


class Failing(Executor):
    """Every task ends with an exception of the engine."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error

    def submit(self, *_: Any, **__: Any) -> Any:
        future: Future[Any] = Future()
        if self.error is None:
            future.cancel()
            future.set_running_or_notify_cancel()
        else:
            future.set_exception(self.error)
        return future


def test_what_the_engine_says_about_a_visit_becomes_its_outcome(tmp_path: Path) -> None:
    def outcome(engine: Engine) -> Outcome:
        return run_campaign(asked(tmp_path, "a", again=True), engine, lambda *_: None)[0]

    killed = outcome(Engine(Failing(OSError("died")), killed=lambda e: isinstance(e, OSError)))
    assert killed.code == 137
    assert killed.text.startswith("the worker died with this visit each time")
    other = outcome(Engine(Failing(ValueError("no"))))
    assert (other.code, other.text) == (70, "ValueError: no")
    with pytest.raises(WorkerUnfit, match="too old"):
        outcome(Engine(Failing(WorkerUnfit("too old"))))
    with pytest.raises(BusyError, match="goes on from here"):
        outcome(Engine(Failing(None)))
    with pytest.raises(BusyError, match="it is gone; the same command goes on from here"):
        outcome(Engine(Waiting(), lost=lambda: "it is gone"))


class Blaming(Executor):
    """A worker that dies with one visit, and takes those down that wait for it."""

    def __init__(self) -> None:
        self.tried: list[str] = []
        self.open: list[tuple[Future[Any], str]] = []

    def submit(self, _do: Any, task: Task) -> Any:  # type: ignore[override]
        future: Future[Any] = Future()
        self.tried.append(Path(task.visit).name)
        self.open.append((future, task.visit))
        if task.alone or len(self.open) == 2:
            poisoned = any(visit.endswith("poison") for _, visit in self.open)
            for each, visit in self.open:
                if poisoned:
                    each.set_exception(OSError("died"))
                else:
                    each.set_result(Outcome(visit=visit, code=0))
            self.open.clear()
        return future


def test_a_visit_that_waited_where_another_killed_the_worker_is_not_blamed(tmp_path: Path) -> None:
    executor = Blaming()
    engine = Engine(executor, killed=lambda error: isinstance(error, OSError))
    campaign = asked(tmp_path, "a", "poison", "b", "c", most_open=2)
    results = run_campaign(campaign, engine, lambda *_: None)
    assert [r.code for r in results] == [0, 137, 0, 0]
    assert executor.tried == ["a", "poison", "b", "c", "a", "poison"]


def test_a_campaign_that_is_stopped_stops_its_visits(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        try:
            ran(asked(tmp_path, "slow", "slower"), 1)
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
    assert not (tmp_path / "began slower").exists()


def test_no_more_visits_are_begun_than_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "available_memory", lambda: 2500.0)
    said: list[str] = []
    with engine_on("here", 8, 1000, said.append) as engine:
        assert isinstance(engine.executor, ThreadPoolExecutor)
        assert engine.executor._max_workers == 2
    assert said == ["2 visits at a time instead of 8: each needs 1000 MB, 2500 MB are available"]
    assert 100 < visit.available_memory() < 1e7

    # later on, a visit waits while others are running
    free = iter([500.0, 500.0, 1500.0])
    monkeypatch.setattr(visit, "available_memory", lambda: next(free))
    monkeypatch.setattr(visit, "_children", {object()})
    monkeypatch.setattr(visit._stopping, "wait", lambda _: False)
    visit.wait_for_memory(1000)
    assert list(free) == []


@pytest.mark.parametrize("where", ["there", "tcp:", "sched.json"])
def test_an_engine_that_is_none_is_refused(where: str) -> None:
    with (
        pytest.raises(UsageError, match=f"--on {where}: expected here, slurm, the address"),
        engine_on(where, 1, 1, lambda _: None),
    ):
        pass


# locks between machines


def elsewhere(do: Callable[[], str]) -> str:
    """Return what another process says."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, do().encode())
        os._exit(0)
    os.close(writer)
    os.wait()
    with os.fdopen(reader) as pipe:
        return pipe.read()


@pytest.fixture
def held(tmp_path: Path) -> Iterator[locks.Locks]:
    for name in ("out", "work"):
        (tmp_path / name).mkdir()
    with held_locks(tmp_path / "out", tmp_path / "work") as held:
        yield held


def test_locks_that_exclude_others_are_fit_for_a_campaign(
    held: locks.Locks, tmp_path: Path
) -> None:
    assert elsewhere(lambda: why_unlocked(held)) == ""
    Path(held.work).unlink()  # a work folder of each machine is allowed
    assert elsewhere(lambda: why_unlocked(held)) == ""
    Path(held.output).unlink()
    assert "all machines must share it" in elsewhere(lambda: why_unlocked(held))


@pytest.mark.parametrize("failing", [False, True])
def test_locks_without_effect_are_refused_with_the_mount_option(
    held: locks.Locks, monkeypatch: pytest.MonkeyPatch, failing: bool
) -> None:
    def flock(*_: object) -> None:
        if failing:
            raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    why = why_unlocked(held)
    assert ("flock fails, Function not" if failing else "flock does not exclude processes") in why
    assert disk.host() in why
    assert "Lustre: -o flock" in why
    assert "local_lock=none" in why
    visit._fit.clear()
    with pytest.raises(WorkerUnfit) as refused:
        reduce_in_process(Task("/a", locks=held, command=COMMAND))
    assert refused.value.exit_code == 78
    with pytest.raises(WorkerUnfit, match="install the same version"):
        check_worker("0.0", held)


def test_a_file_system_without_locks_is_refused_before_anything_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        pytest.raises(ConfigurationError, match="flock fails, Function not implemented; mount"),
        held_locks(tmp_path, tmp_path),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


# the page


def test_the_page_tells_noise_verdicts_failures_and_times(tmp_path: Path) -> None:
    ran(asked(tmp_path, "a", "<b>", "bad", "killed", "unlucky"))
    page = render_page(read_history(state_path(tmp_path / "products", "test")), tmp_path)
    for words in (
        "<b>5</b>visits",
        "<b>3</b>done",
        "Median ratio of the two: 1.20",
        "the light curve is good",
        "An input file is damaged or contradicts itself.",
        "Ended by SIGKILL.",
        "it is \\x1b[31mbad",
        '<td>bias</td><td class="number">3</td><td class="number">0.50</td>',
        'href="products/of a/report.pdf"',
        "&lt;b&gt;",
    ):
        assert words in page, words
    assert "<td><b>" not in page
    assert page.count('<circle class="point"') == 3
    assert not re.search(r"(src|href)=.(http|//)", page)


def test_a_page_without_any_outcome_is_one(tmp_path: Path) -> None:
    with opened(state_path(tmp_path, "x")):
        pass
    page = render_page(read_history(state_path(tmp_path, "x")), tmp_path)
    assert "No visit has been published" in page
    assert "It has not begun" in page


# the command


def test_the_table_has_a_head_and_calls_an_exit_code_one(tmp_path: Path) -> None:
    work = ("--work", tmp_path / "work", "--output", tmp_path / "out")
    outcome = run_in_process("campaign", tmp_path, "--jobs", 1, *work)
    head, line = outcome.out.splitlines()
    assert head.split() == ["exit", "code", "time", "verdict", "visit", "folder", "or", "error"]
    assert line.split()[0] == "66"
    assert f"{tmp_path}: exit code 66, " in outcome.err
    assert re.search(r"^visits 1/1, [0-9.]+ per min, 0 s left$", outcome.err, re.MULTILINE)
    # nothing is repeated, and how far it came can be asked
    again = run_in_process("campaign", "run", tmp_path, "--jobs", 1, *work)
    assert again.out == outcome.out
    assert "visits" not in again.err
    state = run_in_process("campaign", "status", *work)
    assert state.out.splitlines()[:2] == [
        "campaign: done on this machine",
        "0 of 1 visits done, 1 failed, 0 left, 0 tried more than once",
    ]
    row = json.loads(
        run_in_process("campaign", "status", "--json", "--output", tmp_path / "out").out
    )
    assert (row["codes"], row["left"], row["running"]) == ({"66": 1}, 0, False)
    mistyped = run_in_process("campaign", "status", "campain", *work)
    assert mistyped.err.endswith("this output folder has campaign; did you mean campaign?\n")
    page = run_in_process("campaign", "report", *work)
    assert Path(page.out.strip()).read_text().startswith("<!doctype html>")


def test_a_list_names_visits_and_what_is_missing_is_said(tmp_path: Path) -> None:
    work = ("--work", tmp_path / "work", "--output", tmp_path / "out")
    outcome = run_in_process("campaign", *work)
    assert (outcome.code, outcome.err) == (2, "ERROR no visit: name some, or a file with --list\n")
    (tmp_path / "list").write_text(f"# visits\n\n{tmp_path}/one\nrelative\n")
    outcome = run_in_process("campaign", "--list", tmp_path / "list", *work, "--json")
    assert outcome.code == 2, outcome.err
    assert [r["visit"] for r in json.loads(outcome.out)] == [
        f"{tmp_path}/one",
        f"{os.getcwd()}/relative",
    ]
    assert run_in_process("campaign", "status", "no", *work[2:]).code == 66


NO_FOLDER = "no such folder; name a folder with reference files"


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--list", "none"), 66, "no such file; expected a text file with the path of a visit on"),
        (("--list", "folder"), 66, "is not a regular file; expected a text file with the path of"),
        (("--list", "binary"), 65, "is not text in UTF-8 (invalid start byte); expected a text"),
        (("--references", "none"), 2, NO_FOLDER),
        (("--references", "file"), 2, "is a file, not a folder; name a folder with reference"),
        (("--output", "file"), 73, "is a file, not a folder; choose another folder for the pr"),
        (("--work", "file"), 73, "is a file, not a folder; choose another folder for intermed"),
        (("--settings", "none"), 78, "no such file; expected a TOML file"),
        (("--settings", "folder"), 78, "is not a regular file; expected a TOML file"),
        (("--replace", "none"), 66, "no such file"),
    ],
)
def test_a_wrong_path_ends_a_campaign_at_once_with_one_line(
    tmp_path: Path, options: tuple[str, str], code: int, words: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "binary").write_bytes(b"\xff\n")
    option, name = options
    places = {"--output": tmp_path / "out", "--work": tmp_path / "work", option: tmp_path / name}
    arguments = [str(a) for pair in places.items() for a in pair]
    outcome = run_in_process("campaign", tmp_path / "folder", *arguments)
    assert outcome.code == code
    assert outcome.err.startswith(f"ERROR {tmp_path / name}: {words}")
    assert outcome.err.count("\n") == 1
    assert outcome.out == ""
    assert not (tmp_path / "out" / "campaigns").exists()


def test_what_would_fail_every_visit_ends_a_campaign_before_the_first(tmp_path: Path) -> None:
    places = ("--output", tmp_path / "out", "--work", tmp_path / "work")
    for options, code, words in (
        (("--from", "nosuch"), 2, "unknown step 'nosuch'"),
        (("--set", "a.b=1"), 78, "unknown setting a"),
    ):
        outcome = run_in_process("campaign", tmp_path, *places, *options)
        assert (outcome.code, outcome.out) == (code, "")
        assert outcome.err.startswith(f"ERROR {words}")


@pytest.mark.slow
def test_the_command_sums_up_and_ends_with_the_first_code(reduced: Bench, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    bench = reduced.copy(tmp_path)
    places = [
        *("--references", bench.references[0]),
        *("--work", bench.work),
        *("--output", bench.output),
    ]
    (folder,) = bench.published()
    outcome = run_in_process("campaign", bench.visit, empty, *places, "--json")
    assert outcome.code == 66, outcome.err
    first, second = json.loads(outcome.out)
    assert (first["code"], first["text"], first["new"]) == (0, str(folder), False)
    assert first["verdict"] in ("good", "usable with care", "not usable")
    assert first["magnitude"] == 9.0
    assert 150 < first["photon_limit"] < 250  # 2.4e7 electrons
    assert Path(first["report"]).is_file()
    assert Path(first["viewer"]).is_file()
    why, report, pdf = second["text"].split("; ")
    assert (second["code"], why) == (
        66,
        f"{empty}: no raw sub-array (SCI_RAW_SubArray) below this folder",
    )
    assert Path(pdf.removeprefix("as PDF: ")) == Path(report.removeprefix("report: ")).with_suffix(
        ".pdf"
    )
