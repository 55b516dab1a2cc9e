"""Whether locks hold between machines: tried before a visit is reduced, not believed.

The campaign holds a lock in its folders. Each of its workers asks for it, and must be refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import DrpError
from tasks.engine.folders import remove_abandoned
from tasks.files import disk

_NAME = "drp-lock-probe"


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
            disk.try_lock(held[-1][1], path)
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
        granted = disk.try_lock(fd, path)
    except DrpError as error:
        return f"{error} (on {disk.host()})"
    finally:
        disk.close(fd)
    if not granted:
        return ""
    return f"{path.parent}: flock does not exclude processes on {disk.host()}; {disk.LOCK_ADVICE}"
