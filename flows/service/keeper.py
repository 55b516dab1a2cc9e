"""The keeper: a process that keeps a Prefect server and a worker running on this machine.

`drp up` starts it, `drp down` stops it. It restarts server and worker when they die, and stops them
when it exits. It does not import Prefect. While it runs it holds a lock, which makes its state file
valid.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import signal
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flows.service.environment import (
    START_SECONDS,
    open_log,
    quiet_environment,
    server_command,
    without_proxy,
)
from flows.service.state import LONGEST, State, state_file, write_state
from schemas import ROOT
from schemas.errors import DrpError
from tasks.engine.child import Process, TimeoutExpired, start_python
from tasks.engine.prefect import server_answers
from tasks.files import disk

POOL, CONTROL = "drp", "drp-control"

CONTROL_RUNS = 4  # of the second pool at a time: recover, intake, campaigns

# of a worker: one that gives up loses the run that it has just taken
PATIENCE = {"PREFECT_API_REQUEST_TIMEOUT": "60", "PREFECT_CLIENT_MAX_RETRIES": "5"}

LONGEST_PAUSE = 60.0  # between two starts of a process that keeps dying [s]

STUCK_SECONDS = 300.0  # a run that a worker has taken is started sooner

CHASE_SECONDS = 30.0  # between two checks for crashed runs [s]

STOP_SECONDS = 15.0  # grace period of a process that is asked to stop [s]

PR_SET_CHILD_SUBREAPER = 36


class Kept:
    """A process that is restarted when it dies."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.command = command
        self.environment = environment
        self.log = log
        self.pause = 1.0
        self.process: Process | None = None
        self.next_start = 0.0
        self.started = 0.0

    def look(self) -> None:
        """Restart the process if it has died, with increasing pauses."""
        now = time.monotonic()
        if self.process is not None:
            if self.process.poll() is None:
                return
            self.pause = (
                1.0 if now - self.started > LONGEST_PAUSE else min(2 * self.pause, LONGEST_PAUSE)
            )
            self.next_start = now + self.pause
            self.process = None
        if now >= self.next_start:
            self.started = now
            self.process = run(self.command, self.environment, self.log)

    def runs(self) -> bool:
        """Return whether the process is running."""
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """Terminate the process and wait for it."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError, TimeoutExpired):
            self.process.terminate()
            self.process.wait(STOP_SECONDS)


def run(command: list[str], environment: dict[str, str], log: Path) -> Process:
    """Start a process that is terminated with this one; its output goes to `log`."""
    with open_log(log) as out:
        return start_python(["-m", *command], environment, folder=ROOT, output=out, errors=out)


def children() -> list[int]:
    """Return the ids of all child processes, adopted orphans included."""
    pids = []
    for process in disk.entries(Path("/proc")):
        # others end meanwhile
        with contextlib.suppress(DrpError, ValueError, IndexError):
            pid = int(process.name)
            line = disk.read_text(process / "stat", LONGEST)
            if int(line.rpartition(")")[2].split()[1]) == os.getpid():
                pids.append(pid)
    return pids


def environments(
    home: Path, port: int, auth: str, database: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the environments of the server and of all other processes.

    Only the server gets the URL of the database.
    """
    api = f"http://127.0.0.1:{port}/api"
    others = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DRP_DATABASE", "DRP_NOTIFY_URL")
    }
    # runs are started as python3
    others["PATH"] = os.pathsep.join((os.path.dirname(sys.executable), os.environ.get("PATH", "")))
    # connections to the server must not go through a proxy
    direct = without_proxy(os.environ.get("no_proxy"))
    others |= {
        "PREFECT_API_URL": api,
        "PREFECT_API_AUTH_STRING": auth,
        "PREFECT_HOME": str(home),
        "PREFECT_UI_URL": f"http://127.0.0.1:{port}",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "no_proxy": direct,
        "NO_PROXY": direct,
    }
    server = {
        **others,
        "PREFECT_SERVER_API_AUTH_STRING": auth,
        "PREFECT_SERVER_UI_API_URL": api,
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
        "PREFECT_API_DATABASE_CONNECTION_URL": database or f"sqlite+aiosqlite:///{home}/prefect.db",
        # version 2 of the web pages contacts an external host even if telemetry is off
        "PREFECT_SERVER_UI_V2_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    }
    return server, others


class NotStartedError(Exception):
    """The server or the deployments did not start."""


class Keeper:
    """The server and workers of a user, and their state."""

    def __init__(self, home: Path, port: int, limit: int) -> None:
        self.home = home
        self.stop_asked: list[int] = []
        database, auth = os.environ.get("DRP_DATABASE", ""), f"drp:{secrets.token_urlsafe(24)}"
        for_server, self.for_others = environments(home, port, auth, database)
        api = self.for_others["PREFECT_API_URL"]
        os.environ["PREFECT_API_URL"], os.environ["PREFECT_API_AUTH_STRING"] = api, auth
        kind = "postgresql" if database else "sqlite"
        if not database:
            # a second worker would write too much: queues limit the visits to one at a time each
            self.for_others |= {"DRP_SQLITE": "1", "DRP_CONTROL_POOL": POOL}
        self.state = State("starting", os.getpid(), api, auth, kind)
        self.server = Kept(server_command(port), for_server, home / "server.log")
        workers = {**self.for_others, **PATIENCE}
        limits = {POOL: limit, CONTROL: CONTROL_RUNS} if database else {POOL: CONTROL_RUNS}
        self.workers = [
            Kept(worker_command(pool, most), workers, home / f"{log}.log")
            for (pool, most), log in zip(limits.items(), ("worker", "control"), strict=False)
        ]

    def start(self) -> None:
        """Start the server, create the deployments, and start the worker.

        Raises
        ------
        NotStartedError
            If one of these fails, or a signal arrives.
        """
        write_state(self.home, self.state)
        self.server.look()
        self.wait_for_server()
        self.deploy()
        for worker in self.workers:
            worker.look()
        self.state.phase = "up"
        write_state(self.home, self.state)

    def wait_for_server(self) -> None:
        """Wait until the server answers."""
        deadline = time.monotonic() + START_SECONDS
        while not server_answers(1.0):
            late = time.monotonic() > deadline
            if self.stop_asked or late or not self.server.runs():
                raise NotStartedError(f"the server did not start; see {self.server.log}")
            time.sleep(0.2)

    def deploy(self) -> None:
        """Create pools, deployments and automations."""
        log = self.home / "deploy.log"
        # a secret of the site that only the automations need
        notify = {name: os.environ[name] for name in ("DRP_NOTIFY_URL",) if name in os.environ}
        process = run(["flows.service.deploy"], {**self.for_others, **notify}, log)
        while process.poll() is None and not self.stop_asked:
            time.sleep(0.1)
        if process.poll() != 0:
            raise NotStartedError(f"the deployments could not be created; see {log}")

    def watch(self) -> None:
        """Keep server and worker running and crashed runs resumed until a signal arrives."""
        chased = time.monotonic()
        while not self.stop_asked:
            self.server.look()
            for worker in self.workers:
                worker.look()
            _reap(self.server, *self.workers)
            if time.monotonic() - chased > CHASE_SECONDS:
                chase(self.state)
                chased = time.monotonic()
            time.sleep(0.5)

    def fail(self, message: str) -> None:
        """Write to the state file that the start failed, and why."""
        self.state.phase = "failed"
        self.state.message = "stopped by a signal" if self.stop_asked else message
        write_state(self.home, self.state)

    def end(self) -> None:
        """Stop worker, runs and server, in this order."""
        for worker in self.workers:
            worker.stop()
        _end(signal.SIGTERM, self.server)
        self.server.stop()
        _end(signal.SIGKILL, None)
        if self.state.phase != "failed":
            disk.discard(state_file(self.home))


def worker_command(pool: str, limit: int) -> list[str]:
    """Return module and arguments of the worker of a pool, with at most `limit` concurrent runs."""
    return [
        *("prefect", "worker", "start", "--pool", pool, "--type", "process"),
        *("--name", pool, "--limit", str(limit)),
    ]


def keep(home: Path, port: int, limit: int) -> int:
    """Start everything and keep it running until a signal arrives; return the exit code."""
    path = home / "up.lock"
    lock = disk.open_lock(path, mode=0o600)
    if not disk.try_lock(lock, path):
        return 75
    # adopt the flows of a killed worker, so that they can be stopped at the end
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    quiet_environment(home)
    keeper = Keeper(home, port, limit)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: keeper.stop_asked.append(number))
    try:
        keeper.start()
        keeper.watch()
        return 0
    except NotStartedError as error:
        keeper.fail(str(error))
        return 75
    finally:
        keeper.end()
        os.close(lock)


def chase(state: State) -> None:
    """Resume runs that the automations have missed; a busy SQLite loses events at times."""
    before = datetime.now(UTC) - timedelta(seconds=STUCK_SECONDS)
    try:
        ours = {"tags": {"all_": ["drp"]}}
        crashed = {"flow_runs": {**ours, "state": {"type": {"any_": ["CRASHED"]}}}}
        stuck = {
            "flow_runs": {
                **ours,
                "state": {"type": {"any_": ["PENDING"]}},
                "expected_start_time": {"before_": before.isoformat()},
            }
        }
        if ask(state, "flow_runs/count", crashed) or ask(state, "flow_runs/count", stuck):
            recover = ask(state, "deployments/name/recover/recover")["id"]
            # the key limits this to one run a minute
            ask(
                state,
                f"deployments/{recover}/create_flow_run",
                {"idempotency_key": f"chase-{int(time.time() / 60)}"},
            )
    except (OSError, ValueError, KeyError, TypeError):
        return  # try again next time


def ask(state: State, path: str, data: object = None) -> Any:
    """Return the answer of the server to a request; POST if there is `data`, else GET."""
    import base64
    import urllib.request

    def sent(path: str, headers: dict[str, str], body: bytes | None) -> Any:
        request = urllib.request.Request(f"{state.api}/{path}", body, headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310
            return json.load(reply)

    headers = {"Authorization": "Basic " + base64.b64encode(state.auth.encode()).decode()}
    if data is None:
        return sent(path, headers, None)
    # the server keeps one token a client: a shared name would let callers void each other's
    client = f"drp-{disk.process_label()}-{threading.get_ident()}"
    headers |= {"Prefect-Csrf-Client": client, "Content-Type": "application/json"}
    headers["Prefect-Csrf-Token"] = sent(f"csrf-token?client={client}", headers, None)["token"]
    return sent(path, headers, json.dumps(data).encode())


def _reap(*kept: Kept) -> None:
    """Reap dead children, except server and worker, which are polled elsewhere."""
    known = {k.process.pid for k in kept if k.process is not None}
    for pid in children():
        if pid not in known:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _end(number: int, spared: Kept | None) -> None:
    """Send a signal to all remaining children but `spared`, and wait for them for a while."""
    keep = spared.process.pid if spared is not None and spared.process is not None else 0
    deadline = time.monotonic() + STOP_SECONDS
    asked: set[int] = set()
    while (left := [pid for pid in children() if pid != keep]) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                if pid not in asked:
                    os.kill(pid, number)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            asked.add(pid)
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(keep(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
