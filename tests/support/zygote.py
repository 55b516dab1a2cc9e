"""A process that has imported everything and forks runs of `drp`, which saves their imports.

Forking pytest itself would not work: locks held by threads of other tests (the typesetter's) would
stay locked in the child. Orders arrive as lines of JSON on standard input::

    {"arguments": [...], "log": PATH, "code": PATH, "environment": {...}, "disturbance": {...}}

Output and errors of the run go to `log`; its exit code, or minus the number of the signal that
killed it, is written to `code`. A disturbance sends signals to the run; its `at` is one of

- ``{"at": "point", "name": "within dark", "signals": [15]}``: at a named crash point
- ``{"at": "call", "number": 5, "signals": [15, 2]}``: at the 5th disk call and all later ones
- ``{"at": "path", "name": ".tgz", "signals": [9]}``: at the first rename of such a path
- ``{"at": "destructor", "name": "within dark", "signals": [15]}``: as `point`, but inside a
  destructor, where Python ignores exceptions
- ``{"at": "flock"}``: flock always succeeds, as on a file system that keeps no locks
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from schemas import ROOT


@dataclass
class Started:
    """A run of `drp` in a process of its own."""

    log: Path
    code: Path

    def wait(self, seconds: float = 120) -> int:
        """Return how it ended: its exit code, or minus the number of the signal that ended it."""
        deadline = time.monotonic() + seconds
        while not self.code.exists():
            assert time.monotonic() < deadline, f"still running: {self.log.read_text()}"
            time.sleep(0.005)
        return int(self.code.read_text())

    @property
    def said(self) -> str:
        """Output and errors."""
        return self.log.read_text()


class Zygote:
    """The forking process. `warm` are the arguments of a run that loads all code."""

    def __init__(self, folder: Path, warm: Sequence[str]) -> None:
        self.folder = folder
        self.count = 0
        command = [sys.executable, "-m", "tests.support.zygote", *warm]
        with open(folder / "zygote.log", "w") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", (folder / "zygote.log").read_text()

    def start(
        self,
        arguments: Sequence[str],
        disturbance: dict[str, Any] | None = None,
        **environment: str,
    ) -> Started:
        """Run `drp` with these arguments."""
        self.count += 1
        started = Started(self.folder / f"{self.count}.log", self.folder / f"{self.count}.code")
        order = {
            "arguments": list(arguments),
            "log": str(started.log),
            "code": str(started.code),
            "environment": environment,
            "disturbance": disturbance,
        }
        assert self.process.stdin is not None
        print(json.dumps(order), file=self.process.stdin, flush=True)
        return started

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


def serve(warm: Sequence[str]) -> None:
    """Import everything, then make a run of each order."""
    from flows.command.main import main
    from flows.runs import reduction as pipeline

    known: dict[str, Any] = {}
    real = pipeline.take_inventory

    def take_inventory(visit: Path, *arguments: Any) -> Any:
        # its half second, times a hundred runs, is not what is tested here
        if str(visit) not in known:
            known[str(visit)] = real(visit, *arguments)
        return known[str(visit)]

    pipeline.take_inventory = take_inventory
    with contextlib.suppress(SystemExit):
        main(list(warm), prog_name="drp")

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        if os.fork() == 0:
            keep(json.loads(line))
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


def keep(order: dict[str, Any]) -> NoReturn:
    """Fork the run itself, wait for it, and write down how it ended."""
    pid = os.fork()
    if pid == 0:
        be_drp(order)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    part = Path(order["code"] + ".part")
    part.write_text(str(code))
    part.rename(order["code"])
    os._exit(0)


def be_drp(order: dict[str, Any]) -> NoReturn:
    """Be the command `drp`, with what disturbs it."""
    from flows.command.main import main

    code = 99
    try:
        target = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(target, 1)
        os.dup2(target, 2)
        os.environ.update(order["environment"])
        if order["disturbance"] is not None:
            disturb(**order["disturbance"])
        main(order["arguments"], prog_name="drp")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)


def disturb(at: str, signals: Sequence[int] = (), name: str = "", number: int = 0) -> None:
    """Have signals sent to this process at some place."""
    from tasks.files import disk

    if at == "flock":
        fcntl.flock = lambda *_: None  # type: ignore[assignment]
        return

    sent, calls = [0], [0]

    def send() -> None:
        sent[0] += 1
        os.kill(os.getpid(), signals[(sent[0] - 1) % len(signals)])

    class Sends:
        def __del__(self) -> None:
            send()

    def point(reached: str) -> None:
        if reached == name and at == "point":
            send()
        elif reached == name:
            Sends()

    def call(action: str, path: str) -> None:
        calls[0] += 1
        if (at == "call" and calls[0] >= number) or (
            at == "path" and action == "rename" and path.endswith(name)
        ):
            send()

    if at in ("point", "destructor"):
        disk.crash_point = point
    else:
        disk.fault_hook = call


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(sys.argv[1:])
