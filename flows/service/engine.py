"""Which engine a run uses, and a Prefect server of its own where one is asked for and none
answers.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import click

from flows.runs.child import die_with_parent
from flows.service.environment import START_SECONDS, quiet_environment, silence
from schemas.errors import BusyError
from tasks.engine.folders import default_work_folder
from tasks.files import disk

lost = threading.Event()  # a server that was used does not answer any more


@contextlib.contextmanager
def engine_for(wanted: str, work: Path | None, quiet: bool, verbose: bool) -> Iterator[str]:
    """Yield ``plain`` or ``prefect``; with the latter PREFECT_API_URL names a server that answers.

    ``auto`` takes Prefect where a server answers, the one that PREFECT_API_URL names or that `drp
    up` started; ``prefect`` starts one for this run where none does.
    """
    if wanted == "plain":
        yield "plain"
        return
    from tasks.engine.prefect import server_answers

    home = (work or default_work_folder(lambda _: None)).absolute() / "prefect"
    if not os.environ.get("PREFECT_API_URL"):
        from flows.service.state import find, use

        if (state := find()) is not None:
            use(state)
    quiet_environment(home)
    if server_answers():
        disk.make_folder(Path(os.environ["PREFECT_HOME"]))
        with _watched(verbose):
            yield "prefect"
    elif wanted == "auto":
        yield "plain"
    else:
        if not quiet:
            click.echo("starting a Prefect server for this run ...", err=True)
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
            lost.set()


@contextlib.contextmanager
def embedded_server(home: Path) -> Iterator[None]:
    """Run a Prefect server on loopback with a password of its own, and end it afterwards, whatever
    happens.

    Raises
    ------
    BusyError
        If it does not answer within two minutes.
    """
    from tasks.engine.prefect import server_answers

    disk.make_folder(home)
    # a proxy of the site must not stand between the server and us
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1")))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    password = f"drp:{secrets.token_urlsafe(16)}"
    api = f"http://127.0.0.1:{port}/api"
    environment = {
        **os.environ,
        "PREFECT_SERVER_API_AUTH_STRING": password,
        "PREFECT_SERVER_UI_API_URL": api,
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_LOGGING_SERVER_LEVEL": "ERROR",
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home}/embedded.db",
    }
    command = [
        sys.executable,
        "-m",
        "prefect",
        "server",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with disk.guarded("create", home / "server.log"), open(home / "server.log", "ab") as log:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    os.environ["PREFECT_API_URL"], os.environ["PREFECT_API_AUTH_STRING"] = api, password
    try:
        deadline = time.monotonic() + START_SECONDS
        while not server_answers(1.0):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BusyError(
                    f"the Prefect server did not start; its log is {home / 'server.log'}"
                )
            time.sleep(0.2)
        yield
    finally:
        _flush()
        del os.environ["PREFECT_API_URL"], os.environ["PREFECT_API_AUTH_STRING"]
        with contextlib.suppress(ProcessLookupError, PermissionError, subprocess.TimeoutExpired):
            if not lost.is_set():
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(10)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _flush() -> None:
    """Let the server have the last states and log lines before it ends."""
    if "prefect.events.worker" in sys.modules and not lost.is_set():
        with contextlib.suppress(Exception):
            sys.modules["prefect.events.worker"].EventsWorker.drain_all(timeout=5)
            sys.modules["prefect.logging.handlers"].APILogHandler().flush()
