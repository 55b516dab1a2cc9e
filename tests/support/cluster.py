"""A Dask cluster of processes of this machine, which tests may kill, and a campaign on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from schemas import ROOT

CLIENT = """
import json, sys
from pathlib import Path
from flows.campaign.engines import engine_on
from flows.campaign.run import Campaign, run_campaign
from schemas.errors import DrpError

asked = json.loads(sys.argv[1])
paths = {name: Path(asked.pop(name)) for name in ("output", "work")}
asked["options"], asked["command"] = tuple(asked["options"]), tuple(asked["command"])
campaign = Campaign(**paths, **asked)
try:
    with engine_on(campaign.engine, 2, 100, print) as engine:
        results = run_campaign(campaign, engine, lambda o, *_: print(o.visit, o.code, flush=True))
except DrpError as error:
    print(error)
    sys.exit(error.exit_code)
print("end " + json.dumps([r.model_dump() for r in results]))
"""


class Cluster:
    """A scheduler and two workers, each one process that has a visit at a time."""

    def __init__(self, folder: Path, workers: int = 2) -> None:
        self.folder = folder
        self.file = folder / "scheduler.json"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.scheduler = self.start("scheduler", "--host", "127.0.0.1", "--port", "0")
        self.workers = [self.start_worker() for _ in range(workers)]

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start a further worker."""
        place = self.folder / f"worker{len(self.processes)}"
        return self.start("worker", "--nthreads", "1", "--no-nanny", "--local-directory", place)

    def start(self, what: str, *options: object) -> subprocess.Popen[bytes]:
        """Start a part of Dask."""
        command = [sys.executable, "-P", "-m", "dask", what, "--no-dashboard"]
        command += ["--scheduler-file", str(self.file), *map(str, options)]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            # a visit is given up when two workers have died with it
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
            "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "20s",
        }
        with open(self.folder / f"{what}.log", "ab") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, cwd=self.folder
            )
        self.processes.append(process)
        return process

    def client(self, **asked: Any) -> subprocess.Popen[str]:
        """Start a campaign on the cluster."""
        usual = {"options": [], "command": [], "delay": 0.1, "engine": str(self.file)}
        deadline = time.monotonic() + 60
        while not self.file.exists():
            assert time.monotonic() < deadline, (self.folder / "scheduler.log").read_text()
            time.sleep(0.05)
        (self.folder / "client").mkdir(exist_ok=True)
        return subprocess.Popen(
            [sys.executable, "-P", "-c", CLIENT, json.dumps({**usual, **asked}, default=str)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=self.folder / "client",
        )

    def close(self) -> None:
        """End everything."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()


def ended(client: subprocess.Popen[str], seconds: float = 300) -> tuple[int, list[dict[str, Any]]]:
    """Return exit code and outcomes of a campaign."""
    output, _ = client.communicate(timeout=seconds)
    lines = [line for line in output.splitlines() if line.startswith("end ")]
    assert lines or client.returncode, output
    return client.returncode, json.loads(lines[0][4:]) if lines else []


def children(process: int) -> list[int]:
    """Return the processes that a process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[1]) == process:
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def wait_until_gone(processes: Sequence[int], seconds: float = 20) -> None:
    """Wait until processes have ended."""
    deadline = time.monotonic() + seconds
    while any(is_running(process) for process in processes):
        assert time.monotonic() < deadline, processes
        time.sleep(0.05)


def is_running(process: int) -> bool:
    """Return whether a process is there and is no zombie."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def kill(process: subprocess.Popen[Any]) -> None:
    """Kill a process without any clean-up."""
    process.send_signal(signal.SIGKILL)
    process.wait()
