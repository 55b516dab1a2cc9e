"""Intake: each order that arrives is processed once, whatever races or dies."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.orders import intake as machine
from flows.orders.intake import Do, intake
from schemas import ROOT
from schemas.errors import UsageError
from tests.support.faults import run_in_process
from tests.support.orders import Order, order_of

TEXT = "<Ipf_Job_Order>{}</Ipf_Job_Order>\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where orders arrive."""
    (tmp_path / "orders").mkdir()
    return tmp_path / "orders"


def arrive(folder: Path, *names: str) -> None:
    for name in names:
        (folder / f"{name}.xml").write_text(TEXT.format(name))


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_file())


def result(folder: Path, name: str) -> dict[str, object]:
    return json.loads((folder / f"{name}.json").read_text())  # type: ignore[no-any-return]


def forked(work: Callable[[], object]) -> int:
    """Do something in a process of its own; return its number."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def writes(log: Path, before_end: Callable[[Path], None] = lambda _: None) -> Do:
    """Return what does an order by writing down when it begins and when it ends."""

    def do(order: Path, _lock: int) -> int:
        with open(log, "a") as file:
            file.write(f"begin {order.stem}\n")
        time.sleep(0.002)
        before_end(order)
        with open(log, "a") as file:
            file.write(f"end {order.stem}\n")
        return 0

    return do


def counted(log: Path, what: str) -> Counter[str]:
    return Counter(
        line.split()[1] for line in log.read_text().splitlines() if line.startswith(what)
    )


def test_two_racing_processes_do_each_of_fifty_orders_once(folder: Path, tmp_path: Path) -> None:
    orders = [f"order{i:02d}" for i in range(50)]
    arrive(folder, *orders)
    log = tmp_path / "log"
    racers = [forked(lambda: intake(folder, writes(log), settle=0.02)) for _ in range(2)]
    assert [ended(pid) for pid in racers] == [0, 0]
    assert counted(log, "begin") == counted(log, "end") == Counter(orders)
    assert names(folder) == names(folder / "running") == names(folder / "failed") == []
    assert names(folder / "done") == sorted(
        f"{o}{end}" for o in orders for end in (".json", ".xml")
    )


def test_an_order_whose_process_is_killed_is_taken_up_while_the_others_are_done_once(
    folder: Path, tmp_path: Path
) -> None:
    orders = [f"order{i:02d}" for i in range(50)]
    arrive(folder, *orders)
    log, marks = tmp_path / "log", tmp_path / "marks"
    marks.mkdir()

    def kill_self(order: Path) -> None:
        if order.stem in ("order07", "order20", "order33"):
            try:
                (marks / order.stem).touch(exist_ok=False)
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGKILL)

    def race() -> list[int]:
        racers = [
            forked(lambda: intake(folder, writes(log, kill_self), settle=0.02)) for _ in range(2)
        ]
        return [ended(pid) for pid in racers]

    codes = [*race(), *race(), *race()]
    assert codes.count(-signal.SIGKILL) == 3
    assert counted(log, "end") == Counter(orders)
    assert counted(log, "begin") == Counter([*orders, "order07", "order20", "order33"])
    assert [result(folder / "done", o)["attempts"] for o in ("order06", "order07")] == [1, 2]
    assert names(folder / "running") == []


@pytest.mark.parametrize("point", ["order claimed", "order worked", "order over", "order moved"])
def test_a_process_killed_at_any_point_leaves_an_order_that_the_next_brings_to_its_end(
    folder: Path, tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive(folder, "a")
    log = tmp_path / "log"
    monkeypatch.setenv("DRP_CRASH_AT", point)
    assert ended(forked(lambda: intake(folder, writes(log), settle=0))) == -signal.SIGKILL
    monkeypatch.delenv("DRP_CRASH_AT")
    intake(folder, writes(log), settle=0)
    # done again only where the process died before the end could be written down; `drp job` finds
    # nothing to do then
    assert counted(log, "end") == Counter({"a": 2 if point == "order worked" else 1})
    assert names(folder / "done") == ["a.json", "a.xml"]
    assert names(folder) == names(folder / "running") == []


def test_an_order_that_a_living_process_holds_is_left_to_it(folder: Path, tmp_path: Path) -> None:
    arrive(folder, "a")
    (folder / "running").mkdir()
    (folder / "a.xml").rename(folder / "running" / "a.xml")
    with open(folder / "running" / "a.xml") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert intake(folder, writes(tmp_path / "log"), settle=0) == []
    assert [o.state for o in intake(folder, writes(tmp_path / "log"), settle=0)] == ["done"]


def test_an_order_delivered_twice_is_done_once_and_one_of_the_same_name_but_other_content_again(
    folder: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    arrive(folder, "a")
    intake(folder, writes(log), settle=0)
    arrive(folder, "a")
    (outcome,) = intake(folder, writes(log), settle=0)
    assert (outcome.state, outcome.note) == ("done", "delivered twice; not processed again")
    (folder / "a.xml").write_text(TEXT.format("other"))
    intake(folder, writes(log), settle=0)
    assert counted(log, "begin") == Counter({"a": 2})
    assert names(folder / "done") == [
        "a.2.json",
        "a.2.xml",
        "a.3.json",
        "a.3.xml",
        "a.json",
        "a.xml",
    ]
    assert (folder / "done" / "a.3.xml").read_text() == TEXT.format("other")


def test_a_half_written_order_is_left_until_it_is_complete(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "a.xml"
    path.write_text(TEXT.format("a")[:-10])
    assert intake(folder, writes(tmp_path / "log"), settle=0) == []
    path.write_text(TEXT.format("a"))
    assert len(intake(folder, writes(tmp_path / "log"), settle=0)) == 1
    # it may never become complete: then it is done, and refused by whoever does it
    path.write_text(TEXT.format("b")[:-10])
    monkeypatch.setattr(machine, "PATIENCE", 0.0)
    assert len(intake(folder, writes(tmp_path / "log"), settle=0)) == 1


def test_an_order_that_still_changes_is_left(folder: Path, tmp_path: Path) -> None:
    path = folder / "a.xml"
    path.write_text(TEXT.format("a"))
    timer = threading.Timer(0.1, lambda: path.write_text(TEXT.format("longer")))
    timer.start()
    try:
        seen = machine._find_complete(folder, 0.4, set())
    finally:
        timer.join()
    assert seen == []
    assert machine._find_complete(folder, 0.0, set()) == [path]


def test_only_files_of_their_own_are_orders(folder: Path, tmp_path: Path) -> None:
    (folder / ".hidden.xml").write_text(TEXT)
    (folder / "folder.xml").mkdir()
    (tmp_path / "elsewhere.xml").write_text(TEXT)
    (folder / "link.xml").symlink_to(tmp_path / "elsewhere.xml")
    (folder / "note.txt").write_text(TEXT)
    os.mkfifo(folder / "pipe.xml")
    assert intake(folder, writes(tmp_path / "log"), settle=0) == []
    with pytest.raises(UsageError, match="a folder"):
        intake(folder / "note.txt")


@pytest.mark.parametrize(
    ("code", "states"),
    [
        (65, ["failed"]),
        (75, ["again", "again", "failed"]),
        (-9, ["again", "again", "failed"]),
        (3, ["done"]),
    ],
)
def test_what_may_pass_is_tried_again_three_times_at_most(
    folder: Path, code: int, states: list[str]
) -> None:
    arrive(folder, "a")
    seen = [o.state for _ in range(4) for o in intake(folder, lambda _o, _l: code, settle=0)]
    assert seen == states
    place = folder / ("failed" if "failed" in states else "done")
    assert result(place, "a")["code"] == code
    assert result(place, "a")["attempts"] == len(states)
    assert names(folder / "running") == []


def test_an_order_that_ends_every_process_is_failed_after_three(folder: Path) -> None:
    arrive(folder, "a", "b")

    def do(order: Path, _lock: int) -> int:
        if order.stem == "a":
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    codes = [ended(forked(lambda: intake(folder, do, settle=0))) for _ in range(4)]
    assert codes == [-9, -9, -9, 0]
    assert "operator needed" in str(result(folder / "failed", "a")["note"])
    assert names(folder / "done") == ["b.json", "b.xml"]


def test_an_error_of_ours_fails_its_order_and_no_other(folder: Path) -> None:
    arrive(folder, "a", "b")

    def do(order: Path, _lock: int) -> int:
        return 1 // (order.stem != "a")  # 1 // True is 1

    assert [(o.order, o.state, o.note[:17]) for o in intake(folder, do, settle=0)] == [
        ("a.xml", "failed", "ZeroDivisionError"),
        ("b.xml", "failed", ""),
    ]


def test_an_order_is_given_back_when_the_intake_is_asked_to_stop(folder: Path) -> None:
    arrive(folder, "a")

    def do(_order: Path, _lock: int) -> int:
        raise KeyboardInterrupt

    for _ in range(5):  # that is no attempt
        with pytest.raises(KeyboardInterrupt):
            intake(folder, do, settle=0)
    assert names(folder) == ["a.xml"]
    assert [o.state for o in intake(folder, lambda _o, _l: 0, settle=0)] == ["done"]


def test_the_report_that_the_log_of_a_failed_order_names_is_there(
    folder: Path, tmp_path: Path
) -> None:
    bad = Order(tmp_path / "bad", inputs=[("SCI_RAW_SubArray", tmp_path / "absent.fits")])
    for name in ("bad", "bad.2"):  # two orders of the same name
        bad.changes = {"HERE": name}
        bad.write().rename(folder / "bad.xml")
        outcome = run_in_process("intake", folder, "--once", "--settle", "0", "--engine", "plain")
        log = (folder / "failed" / f"{name}.log").read_text()
        report, pdf = re.findall(r"(?:report|as PDF): ([^;\n]+)", log)
        assert (Path(report), Path(pdf)) == (
            folder / "failed" / f"{name}.report.txt",
            folder / "failed" / f"{name}.report.pdf",
        )
        assert Path(report).is_file()
        assert Path(pdf).is_file()
        assert f"bad.xml: failed, exit code 66; report: {report}" in outcome.err


@pytest.mark.slow
def test_the_command_does_real_orders_and_puts_their_logs_beside_them(
    folder: Path, tmp_path: Path, tiny_visit: Path, library: Path
) -> None:
    good = order_of(tmp_path / "good", tiny_visit, [library])
    bad = Order(tmp_path / "bad", inputs=[("SCI_RAW_SubArray", tmp_path / "absent.fits")])
    good.write().rename(folder / "good.xml")
    bad.write().rename(folder / "bad.xml")
    outcome = run_in_process("intake", folder, "--once", "--settle", "0", "--engine", "plain")
    assert outcome.code == 0, outcome.err
    assert outcome.out == "2 orders: 1 done, 1 failed, 0 again\n"
    assert names(folder / "done") == ["good.json", "good.log", "good.xml"]
    assert len(list(good.out.glob("CH_*_V0000/manifest.json"))) == 1
    assert result(folder / "failed", "bad")["code"] == 66
    assert "absent.fits: does not exist" in (folder / "failed" / "bad.log").read_text()
    assert names(folder / "running") == []


@pytest.mark.slow
def test_a_killed_intake_ends_its_job_and_the_next_one_finishes_it(
    folder: Path, tmp_path: Path, tiny_visit: Path, library: Path
) -> None:
    order = order_of(tmp_path / "good", tiny_visit, [library])
    order.write().rename(folder / "good.xml")
    command = [
        sys.executable,
        "-m",
        "flows.command.main",
        "intake",
        str(folder),
        "--settle",
        "0",
        "--engine",
        "plain",
        "-q",
    ]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ.copy()) as process:
        log = folder / "running" / "good.log"
        deadline = time.monotonic() + 60
        while not (log.exists() and "look done" in log.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
    # whatever the job still does it does alone: nobody else takes the order before it has ended
    outcomes: list[object] = []
    while not outcomes:
        assert time.monotonic() < deadline + 60
        outcomes = list(intake(folder, lambda o, k: machine.job_process(o, k, "plain"), settle=0))
        time.sleep(0.05)
    assert names(folder / "done") == ["good.json", "good.log", "good.xml"]
    assert result(folder / "done", "good")["attempts"] == 2
    assert [p.name[-5:] for p in order.out.glob("CH_*") if p.is_dir()] == ["V0000"]
    assert "stopped by SIGTERM" in (folder / "done" / "good.log").read_text()
