"""Which server this user has running: a small file that the keeper writes and everybody reads."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from flows.service.environment import reach_directly
from tasks.engine.folders import default_work_folder
from tasks.files import disk


@dataclass
class State:
    """What others must know. The file is readable by its owner only: `auth` is user and
    password.
    """

    phase: str  # starting, up, failed
    pid: int
    api: str
    auth: str = field(repr=False)
    database: str  # sqlite or postgresql
    message: str = ""


def state_file(home: Path) -> Path:
    """Return where the state stands."""
    return home / "up.json"


def read_state(home: Path) -> State | None:
    """Return the state of the keeper that lives, or None: what a dead one left is not believed."""
    if not keeper_lives(home):
        return None
    try:
        return State(**json.loads(state_file(home).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def keeper_lives(home: Path) -> bool:
    """Return whether a keeper lives."""
    try:
        fd = os.open(home / "up.lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def write_state(home: Path, state: State) -> None:
    """Write the state so that nobody else can read it, not even for a moment."""
    mask = os.umask(0o077)
    try:
        disk.write_file(state_file(home), json.dumps(asdict(state)).encode())
    finally:
        os.umask(mask)


def home_folder() -> Path:
    """Return where state, logs and data base stand: one place for all commands of a user."""
    return default_work_folder(lambda _: None).absolute() / "prefect"


def find() -> State | None:
    """Return the state of what `drp up` started, if it is up."""
    state = read_state(home_folder())
    return state if state is not None and state.phase == "up" else None


def use(state: State) -> None:
    """Let this process use the server."""
    os.environ["PREFECT_API_URL"], os.environ["PREFECT_API_AUTH_STRING"] = state.api, state.auth
    reach_directly()
