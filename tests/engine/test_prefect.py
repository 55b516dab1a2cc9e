"""A real Prefect server: the same bytes as without, every step to be seen, and a visit that
survives the server's death.
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas import ROOT
from tests.support.processes import children, running, until
from tests.support.runs import STEPS, Bench, differing

pytestmark = pytest.mark.slow

VISIT = "PR900001_TG000101"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of our own; its address and password stand in the environment."""
    from flows.service.engine import embedded_server

    with pytest.MonkeyPatch.context() as patch:
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, "127.0.0.1")
        with embedded_server(tmp_path_factory.mktemp("prefect")):
            yield os.environ["PREFECT_API_URL"]


def ask(server: str, what: str, visit: str = VISIT) -> list[dict[str, Any]]:
    """Return the task runs of a visit, the flow runs, or the log lines, the first first."""
    password = base64.b64encode(os.environ["PREFECT_API_AUTH_STRING"].encode()).decode()
    question: dict[str, Any] = {"limit": 200}
    if what == "task_runs":
        # a sub-flow has a task that stands for it
        question["task_runs"] = {
            "name": {"like_": visit},
            "subflow_runs": {"exists_": False},
        }
    request = urllib.request.Request(
        f"{server}/{what}/filter",
        json.dumps(question).encode(),
        {
            "Content-Type": "application/json",
            "Authorization": f"Basic {password}",
            **csrf(server, password),
        },
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        return sorted(json.load(reply), key=lambda r: r.get("timestamp") or r["created"])


def csrf(server: str, password: str) -> dict[str, str]:
    """Return the headers that the server wants with every question."""
    request = urllib.request.Request(
        f"{server}/csrf-token?client=tests", headers={"Authorization": f"Basic {password}"}
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        return {"Prefect-Csrf-Token": json.load(reply)["token"], "Prefect-Csrf-Client": "tests"}


def start(bench: Bench, *more: object, **environment: str) -> subprocess.Popen[str]:
    """Start `drp reduce`."""
    command = [sys.executable, "-m", "flows.command.main", *bench.arguments(*more)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def read_until(process: subprocess.Popen[str], step: str) -> str:
    """Read what a run says until a step has ended."""
    assert process.stderr is not None
    said = ""
    while not re.match(rf" *\d+/\d+  {step} ", line := process.stderr.readline()):
        assert line, said
        said += line
    return said + line


def test_under_prefect_the_same_bytes_are_published_and_every_step_is_seen(
    server: str, reduced: Bench, tmp_path: Path
) -> None:
    bench = reduced.fresh(tmp_path)
    # `auto` takes the server that is named by the environment
    process = start(bench, "--engine", "auto", "--json")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    # nothing of Prefect's own shows
    assert errors == ""
    answer = json.loads(output)
    assert answer["engine"] == "prefect"
    assert [(s["step"], s["outcome"]) for s in answer["steps"]] == [
        (step, "done") for step in STEPS
    ]
    assert differing(Path(answer["published"]["folder"]), *reduced.published()) == []
    until(lambda: [t["state_name"] for t in ask(server, "task_runs")] == ["Completed"] * len(STEPS))
    assert [t["name"] for t in ask(server, "task_runs")] == [f"{step} {VISIT}" for step in STEPS]
    flows = {"reduce", "calibrate", "correct", "photometry"}
    assert {(f["name"], f["state_name"]) for f in ask(server, "flow_runs")} == {
        (f"{f} {VISIT}", "Completed") for f in flows
    }

    # the lines of our loggers are in the logs of the runs
    def logged() -> list[str]:
        return [line["message"] for line in ask(server, "logs") if line["name"].startswith("drp.")]

    until(lambda: [line.split(",")[0] for line in logged()] == [f"{step} done" for step in STEPS])

    # again, and one of them by hand
    term = next(Path(answer["published"]["folder"]).glob("terms/gain.fits"))
    process = start(
        bench, "--engine", "prefect", "--json", "--replace", term, "--until", "linearity"
    )
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    names = ["Cached", "Cached", "Cached", "ByHand", "Cached"]
    until(lambda: [t["state_name"] for t in ask(server, "task_runs")][len(STEPS) :] == names)
    until(lambda: {f["state_name"] for f in ask(server, "flow_runs")[4:]} == {"Stopped"})


def test_steps_fail_are_tried_again_and_stop_under_prefect_as_they_do_without(
    server: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.support.prefect_steps", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, text=True, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "first": ["double", "sum", "double done", "sum done"],
        "again": ["double cached", "sum cached"],
        "same payload": True,
        "by hand": ["double cached", "sum by hand"],
        "until": ["double cached"],
        "retried": [
            "double",
            "sum",
            "sum",
            "double done",
            "sum done",
            "sum: in.fits: read failed; retrying",
        ],
        "forgotten and retried": ["sum", "sum", "double cached", "sum done"],
        "stays": ["StorageError", 3],
        "disk full": ["StorageError", 1],
        "bad input": ["BadInputError", 1],
        "our own fault": ["ZeroDivisionError", 1],
        "memory": ["BusyError", 1],
        "stopped": ["Interrupted", 1],
    }
    visit = "PR900001_TG000001"
    # two runs of two steps, one by hand, one up to the first; two retried; six that end badly in
    # the second step
    ends = ["Completed"] * 2 + ["Cached"] * 3 + ["ByHand", "Cached"]
    ends += (
        ["Completed"] * 2
        + ["Cached", "Completed"]
        + ["Completed", "Failed"] * 5
        + ["Completed", "Crashed"]
    )
    until(lambda: [t["state_name"] for t in ask(server, "task_runs", visit)] == ends)


def test_the_server_wants_its_password(server: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{server}/admin/settings", timeout=30)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_under_prefect_cleanly(
    server: str, reduced: Bench, tmp_path: Path, number: int, code: int
) -> None:
    bench = reduced.fresh(tmp_path)
    known = len(ask(server, "flow_runs"))
    process = start(bench, "--engine", "prefect")
    read_until(process, "bias")
    process.send_signal(number)
    process.send_signal(number)
    started = time.monotonic()
    output, errors = process.communicate(timeout=60)
    # the server is told, which takes a second; the rest is what a busy machine may add
    assert time.monotonic() - started < 20
    assert (process.returncode, output) == (code, ""), errors
    assert errors.splitlines()[-1].startswith("ERROR stopped by SIG")
    assert "Traceback" not in errors
    assert bench.published() == []
    assert bench.hidden() == []
    until(lambda: {f["state_name"] for f in ask(server, "flow_runs")[known:]} == {"Crashed"})


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let the run find no server, and keep its own one's things apart."""
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))


def test_without_a_server_prefect_starts_one_and_leaves_nothing_running(
    reduced: Bench, tmp_path: Path, no_server: None
) -> None:
    bench = reduced.known(tmp_path)
    process = start(bench, "--engine", "prefect", "--from", "report")
    read_until(process, "events")
    servers = children(process.pid)
    assert len(servers) == 1
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert differing(Path(output.splitlines()[-1]), *reduced.published()) == []
    # SQLite is locked now and then on a busy machine (503): then the visit is done without the
    # server, and says so
    assert [
        line
        for line in errors.splitlines()
        if "WARNING" in line and "503 Service Unavailable" not in line
    ] == []
    assert not any(running(pid) for pid in servers)


def test_a_killed_run_takes_its_server_with_it(
    reduced: Bench, tmp_path: Path, no_server: None
) -> None:
    process = start(reduced.fresh(tmp_path), "--engine", "prefect")
    read_until(process, "events")
    servers = children(process.pid)
    process.kill()
    process.communicate()
    assert len(servers) == 1
    until(lambda: not any(running(pid) for pid in servers))


@pytest.mark.parametrize(
    ("number", "seconds"),
    # a server that is frozen is waited for in three places, 5 s, 5 s and the 15 s of a request
    [(signal.SIGKILL, 30), (signal.SIGSTOP, 60)],
    ids=["dies", "freezes"],
)
def test_a_server_that_is_lost_in_mid_run_does_not_stop_the_visit(
    reduced: Bench, tmp_path: Path, no_server: None, number: int, seconds: float
) -> None:
    bench = reduced.fresh(tmp_path)
    process = start(bench, "--engine", "prefect")
    read_until(process, "bias")
    (pid,) = children(process.pid)
    os.kill(pid, number)
    lost = time.monotonic()
    output, errors = process.communicate(timeout=200)
    assert time.monotonic() - lost < seconds
    assert process.returncode == 0, errors
    assert "WARNING the Prefect server does not answer: continuing without it\n" in errors
    assert "Traceback" not in errors
    folder = Path(output.splitlines()[-1])
    assert differing(folder, *reduced.published()) == []
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [s["step"] for s in manifest["steps"]] == STEPS
    assert "the Prefect server does not answer: continuing without it" in manifest["warnings"]
    assert not running(pid)
