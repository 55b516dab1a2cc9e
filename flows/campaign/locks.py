"""Whether locks hold between machines: tried before a visit is reduced, not believed.

The campaign holds a lock in its folders. Each of its workers asks for it, and must be refused.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import ConfigurationError
from tasks.engine.folders import remove_abandoned
from tasks.files import disk

_NAME = "drp-lock-probe"

ADVICE = (
    "mount the file system so that flock holds between machines (Lustre: -o flock, not localflock "
    "or noflock; NFS: local_lock=none, without nolock)"
)


@dataclass(frozen=True)
class Locks:
    """Paths of the locks that a campaign holds in its output folder and its work folder."""

    output: str
    work: str


@contextmanager
def held_locks(output: Path, work: Path) -> Iterator[Locks]:
    """Hold a lock in both folders of a campaign.

    Raises
    ------
    ConfigurationError
        If a file system has no locks.
    """
    held: list[tuple[Path, int]] = []
    try:
        for folder in (output, work):
            remove_abandoned(folder, _NAME)
            path = folder / f".{_NAME}.{disk.process_label()}.part"
            held.append((path, disk.open_lock(path)))
            if number := _try_lock(held[-1][1]):
                raise ConfigurationError(f"{folder}: flock fails, {os.strerror(number)}; {ADVICE}")
        yield Locks(*(str(path) for path, _ in held))
    finally:
        for path, fd in held:
            disk.discard(path)
            disk.close(fd)


def why_unlocked(locks: Locks) -> str:
    """Return why the locks of a campaign do not exclude this process; empty if they do.

    The work folder may be one of this machine alone, the output folder may not.
    """
    if not disk.exists(Path(locks.output)):
        return (
            f"{Path(locks.output).parent}: {disk.host()} sees another folder under this name; all "
            f"machines must share it"
        )
    if why := _why_granted(Path(locks.output)):
        return why
    return _why_granted(Path(locks.work)) if disk.exists(Path(locks.work)) else ""


def _why_granted(path: Path) -> str:
    fd = disk.open_lock(path, create=False)
    try:
        number = _try_lock(fd)
    finally:
        disk.close(fd)
    if number in (errno.EAGAIN, errno.EACCES):
        return ""
    if number:
        return f"{path.parent}: flock fails on {disk.host()}, {os.strerror(number)}; {ADVICE}"
    return f"{path.parent}: flock does not exclude processes on {disk.host()}; {ADVICE}"


def _try_lock(fd: int) -> int:
    """Try to lock a file; return 0, or the number of the error."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno or errno.EIO
    return 0
