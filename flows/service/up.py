"""Start and stop a Prefect server, a worker and the deployments on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from flows.runs.ending import read_seconds
from flows.service.environment import free_port, open_log
from flows.service.state import (
    LONGEST,
    State,
    home_folder,
    keeper_lives,
    read_state,
    state_file,
)
from schemas import ROOT
from schemas.errors import BusyError, DrpError, UsageError
from tasks.engine.child import Process, start_python
from tasks.files import disk

UP_SECONDS = 300

DOWN_SECONDS = 90

PORT = 4200


def up(database: str, port: int, limit: int, report: Callable[[str], None]) -> tuple[State, bool]:
    """Start server, worker and deployments, unless they are running.

    Parameters
    ----------
    database : str
        URL of a PostgreSQL database, or empty for SQLite.
    port : int
        Port of the server on the loopback interface; 0 for any free one.
    limit : int
        Maximum number of concurrent runs.
    report : callable
        Called with progress messages.

    Returns
    -------
    state, new : State, bool
        The state of the server, and whether it has been started by this call.

    Raises
    ------
    UsageError
        If `database` is not a URL of PostgreSQL.
    BusyError
        If the port is in use, or something does not start.
    """
    read_seconds("DRP_LOST_SECONDS", 0.0)  # checked here, since it is read by another process
    home = home_folder()
    disk.make_folder(home)
    disk.set_mode(home, 0o700)
    if keeper_lives(home):
        return _wait(home, None), False
    if database:
        database = database_url(database)
    elif limit > 1:
        report(f"SQLite holds one run at a time: --runs {limit} needs a PostgreSQL database")
        limit = 1
    if disk.is_taken(state_file(home)):
        report("discarding the state of an earlier server that was killed")
        disk.remove(state_file(home))
    port = chosen_port(port)
    report("starting server, worker and deployments ...")
    return _wait(home, start_keeper(home, database, port, limit)), True


def start_keeper(home: Path, database: str, port: int, limit: int) -> Process:
    """Start the process that keeps server and worker running after this one has exited."""
    environment = {**os.environ, "DRP_DATABASE": database}
    if not database:
        del environment["DRP_DATABASE"]
    environment.pop("PREFECT_API_URL", None)
    for name in (
        "DRP_WORK",
        "DRP_INTAKE",
        "DRP_OUTPUT",
        "DRP_SETTINGS",
    ):  # the keeper works in another folder
        if environment.get(name):
            environment[name] = str(disk.absolute(Path(environment[name])))
    command = ["-m", "flows.service.keeper", str(home), str(port), str(limit)]
    with open_log(home / "keeper.log") as log:
        return start_python(command, environment, folder=ROOT, output=log, errors=log, keeper=True)


def _wait(home: Path, keeper: Process | None) -> State:
    deadline = time.monotonic() + UP_SECONDS
    while time.monotonic() < deadline:
        state = read_state(home)
        if state is not None and state.phase == "up":
            return state
        if not keeper_lives(home) if keeper is None else keeper.poll() is not None:
            break
        time.sleep(0.2)
    try:
        import json

        message = json.loads(disk.read_text(state_file(home), LONGEST))["message"]
    except (DrpError, ValueError, KeyError, TypeError):
        message = f"see {home / 'keeper.log'}"
    raise BusyError(f"Prefect did not start: {message}")


def down() -> bool:
    """Stop everything that `drp up` started; return whether anything was running.

    Raises
    ------
    BusyError
        If it does not stop in time.
    """
    import signal

    home = home_folder()
    state = read_state(home)
    if state is None:
        disk.remove(state_file(home))
        return False
    os.kill(state.pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_SECONDS
    while keeper_lives(home):
        if time.monotonic() > deadline:
            raise BusyError(f"process {state.pid} does not stop; see {home / 'keeper.log'}")
        time.sleep(0.1)
    return True


def database_url(database: str) -> str:
    """Return the URL of a PostgreSQL database in the form that Prefect expects.

    Raises
    ------
    UsageError
        If it is not a URL of PostgreSQL. The URL may contain a password, so it is not quoted.
    """
    scheme, sign, rest = database.partition("://")
    if not sign or scheme not in ("postgresql", "postgres", "postgresql+asyncpg"):
        raise UsageError("the database URL must have the form postgresql://USER@HOST:PORT/NAME")
    return f"postgresql+asyncpg://{rest}"


def has_password(database: str) -> bool:
    """Return whether a URL contains a password."""
    return urlsplit(database).password is not None or "password=" in urlsplit(database).query


def chosen_port(port: int) -> int:
    """Return the port for the server on the loopback interface.

    Raises
    ------
    BusyError
        If the given port is in use.
    """
    try:
        return free_port(port)
    except OSError as error:
        raise BusyError(f"port {port} is in use; choose another with --port") from error
