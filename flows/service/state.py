"""The state of the user's server: a small file written by the keeper and read by all commands."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from flows.service.environment import reach_directly
from schemas.errors import DrpError
from tasks.engine.folders import default_work_folder
from tasks.files import disk

LONGEST = 1 << 16  # bytes of the state file


@dataclass
class State:
    """The state of the server. `auth` is user and password, so only the owner may read the file."""

    phase: str  # starting, up, failed
    pid: int
    api: str
    auth: str = field(repr=False)
    database: str  # sqlite or postgresql
    message: str = ""


def state_file(home: Path) -> Path:
    """Return the path of the state file."""
    return home / "up.json"


def read_state(home: Path) -> State | None:
    """Return the state of the running keeper, or None; the file of a dead keeper is ignored."""
    if not keeper_lives(home):
        return None
    try:
        return State(**json.loads(disk.read_text(state_file(home), LONGEST)))
    except (DrpError, ValueError, TypeError):
        return None


def keeper_lives(home: Path) -> bool:
    """Return whether a keeper is running."""
    path = home / "up.lock"
    try:
        fd = disk.open_to_read(path)
    except DrpError:
        return False
    try:
        return not disk.try_lock(fd, path, shared=True)
    finally:
        os.close(fd)


def write_state(home: Path, state: State) -> None:
    """Write the state file, readable by its owner only from the start."""
    mask = os.umask(0o077)
    try:
        disk.write_file(state_file(home), json.dumps(asdict(state)).encode())
    finally:
        os.umask(mask)


def home_folder() -> Path:
    """Return the folder of state, logs and database, common to all commands of a user."""
    return disk.absolute(default_work_folder(lambda _: None)) / "prefect"


def find() -> State | None:
    """Return the state of the server that `drp up` started, or None if it is not up."""
    state = read_state(home_folder())
    return state if state is not None and state.phase == "up" else None


def use(state: State) -> None:
    """Make this process use a server."""
    os.environ["PREFECT_API_URL"], os.environ["PREFECT_API_AUTH_STRING"] = state.api, state.auth
    reach_directly()
