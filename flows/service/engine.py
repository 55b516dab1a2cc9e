"""The engine of a run, and an embedded Prefect server for runs that need one."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from flows.runs.ending import server_lost
from flows.service.environment import (
    START_SECONDS,
    free_port,
    open_log,
    quiet_environment,
    reach_directly,
    server_command,
    silence,
)
from schemas.errors import BusyError
from tasks.engine.child import Process, TimeoutExpired, start_python
from tasks.engine.folders import default_work_folder
from tasks.files import disk


@contextlib.contextmanager
def engine_for(choice: str, work: Path | None, quiet: bool, verbose: bool) -> Iterator[str]:
    """Yield ``plain`` or ``prefect``; for the latter, PREFECT_API_URL is set to a running server.

    ``auto`` uses Prefect if a server answers, either the one at PREFECT_API_URL or the one started
    by `drp up`. ``prefect`` starts a server for this run if none answers.
    """
    if choice == "plain":
        yield "plain"
        return
    from tasks.engine.prefect import server_answers

    home = disk.absolute(work or default_work_folder(lambda _: None)) / "prefect"
    if not os.environ.get("PREFECT_API_URL"):
        from flows.service.state import find, use

        if (state := find()) is not None:
            use(state)
    quiet_environment(home)
    if server_answers():
        disk.make_folder(Path(os.environ["PREFECT_HOME"]))
        with _watched(verbose):
            yield "prefect"
    elif choice == "auto":
        yield "plain"
    else:
        if not quiet:
            line = "starting a Prefect server for this run ..."
            # a terminal shows progress in the line that this one takes
            click.echo(f"\r\033[K{line}" if sys.stderr.isatty() else line, err=True)
        with embedded_server(home), _watched(verbose):
            yield "prefect"


@contextlib.contextmanager
def _watched(verbose: bool) -> Iterator[None]:
    from tasks.engine.prefect import server_answers

    silence(verbose)
    try:
        yield
    finally:
        if not server_answers():
            server_lost.set()


@contextlib.contextmanager
def embedded_server(home: Path) -> Iterator[None]:
    """Run a Prefect server on the loopback interface, and stop it afterwards.

    The server has a password of its own.

    Raises
    ------
    BusyError
        If it does not answer within two minutes.
    """
    disk.make_folder(home)
    reach_directly()
    port, password = free_port(), f"drp:{secrets.token_urlsafe(16)}"
    api = f"http://127.0.0.1:{port}/api"
    log = home / "server.log"
    process = start_server(port, api, password, log)
    os.environ["PREFECT_API_URL"], os.environ["PREFECT_API_AUTH_STRING"] = api, password
    try:
        wait_for_server(process, log)
        yield
    finally:
        _flush()
        del os.environ["PREFECT_API_URL"], os.environ["PREFECT_API_AUTH_STRING"]
        end_server(process)


def start_server(port: int, api: str, password: str, log: Path) -> Process:
    """Start a Prefect server in its own process group; it is terminated with this process."""
    environment = {
        **os.environ,
        "PREFECT_SERVER_API_AUTH_STRING": password,
        "PREFECT_SERVER_UI_API_URL": api,
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_LOGGING_SERVER_LEVEL": "ERROR",
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{log.parent}/embedded.db",
    }
    command = ["-m", *server_command(port)]
    with open_log(log) as out:
        return start_python(command, environment, folder=log.parent, output=out, errors=out)


def wait_for_server(process: Process, log: Path) -> None:
    """Wait until the server answers.

    Raises
    ------
    BusyError
        If it exits, or does not answer within two minutes.
    """
    from tasks.engine.prefect import server_answers

    deadline = time.monotonic() + START_SECONDS
    while not server_answers(1.0):
        if process.poll() is not None or time.monotonic() > deadline:
            raise BusyError(f"the Prefect server did not start; see {log}")
        time.sleep(0.2)


def end_server(process: Process) -> None:
    """Stop the server and its process group, with SIGTERM if it answers, finally with SIGKILL."""
    with contextlib.suppress(ProcessLookupError, PermissionError, TimeoutExpired):
        if not server_lost.is_set():
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(10)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _flush() -> None:
    """Send the last states and log lines to the server before it stops."""
    if "prefect.events.worker" in sys.modules and not server_lost.is_set():
        with contextlib.suppress(Exception):
            sys.modules["prefect.events.worker"].EventsWorker.drain_all(timeout=5)
            sys.modules["prefect.logging.handlers"].APILogHandler().flush()
