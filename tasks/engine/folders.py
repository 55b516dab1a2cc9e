"""The folder of intermediate products, the lock on a folder, and stages: folders being written."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from schemas.errors import CannotCreateError, ConfigurationError, DrpError, MissingInputError
from tasks.files import disk

Warn = Callable[[str], None]


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a folder, so that names in it are given one after the other."""
    fd = disk.open_folder(disk.resolved(folder))
    try:
        disk.wait_for_lock(fd, folder)
        yield
    finally:
        os.close(fd)


# how `disk.process_label` ends the hidden name of a file or folder that is being written
_LABEL = re.compile(r"\.(?P<host>[A-Za-z0-9-]+)\.(?P<process>\d{1,9})\.[0-9a-f]{8}\.(stage|part)$")

# whether a process of another machine is running is unknown, but none writes for so long
ABANDONED_SECONDS = 86400.0


@contextlib.contextmanager
def staging(folder: Path, name: str) -> Iterator[Path]:
    """Create a hidden folder, and remove it on exit unless it has been renamed.

    No other process uses its name, on whatever machine it runs. It is locked meanwhile, which
    shows the other containers of this machine that it is in use.
    """
    stage = folder / f".{name}.{disk.process_label()}.stage"
    lock = -1
    try:
        disk.create_folder(stage)
        lock = disk.open_folder(stage)
        with contextlib.suppress(DrpError):  # a file system without locks
            disk.try_lock(lock, stage)
        yield stage
    finally:
        if lock >= 0:
            disk.close(lock)
        disk.discard_folder(stage)


def remove_abandoned(folder: Path, name: str) -> None:
    """Remove the hidden files and folders of a name that killed processes left in a folder.

    Those of processes that may still be running are left alone. A folder gets another name before
    it is deleted, under which no process could publish it half deleted.
    """
    for path in disk.entries(folder):
        if path.name.startswith(f".{name}.") and is_abandoned(path):
            grave = folder / f".{name}.{disk.process_label()}.stage"
            with contextlib.suppress(CannotCreateError, MissingInputError):  # another removed it
                disk.rename(path, grave)
                disk.remove(grave)


def is_abandoned(path: Path) -> bool:
    """Return whether the process that was writing a hidden file or folder has ended."""
    label, found = _LABEL.search(path.name), disk.status(path, follow=False)
    if found is None or label is None:
        return False
    if time.time() - found.st_mtime > ABANDONED_SECONDS:
        return True
    ours = label["host"] == disk.host()
    return ours and not process_lives(int(label["process"])) and not _is_locked(path)


def process_lives(process: int) -> bool:
    """Return whether a process with this id is running on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _is_locked(path: Path) -> bool:
    if not disk.is_folder(path):
        return False
    lock = disk.open_folder(path)
    try:
        return not disk.try_lock(lock, path)
    except DrpError:  # a file system without locks: nothing shows that it is not in use
        return True
    finally:
        disk.close(lock)


def default_work_folder(warn: Warn) -> Path:
    """Return the folder of intermediate products if the user names none.

    It is DRP_WORK, else one in the user's cache, else a temporary one, which is reported by `warn`.
    """
    if named := os.environ.get("DRP_WORK"):
        folder = disk.absolute(Path(named))
        if not _is_utf8(folder):
            raise ConfigurationError(f"DRP_WORK is {folder}, which is not UTF-8")
        return folder
    cache = _cache_folder()
    if cache is not None:
        return cache
    folder = _temporary_folder()
    warn(
        f"the usual folder for intermediate products is not writable: using {folder} (choose "
        f"another with --work)"
    )
    return folder


def _is_utf8(folder: Path) -> bool:
    """Whether paths of products in a folder can be written to JSON."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        return False
    return True


def _cache_folder() -> Path | None:
    home = os.environ.get("HOME")
    cache = os.environ.get("XDG_CACHE_HOME") or (str(Path(home) / ".cache") if home else "")
    if not cache:
        return None
    folder = Path(cache) / "cheops-drp"
    if not _is_utf8(folder):
        return None
    try:
        disk.make_folder(folder)
    except DrpError:
        return None
    return folder if disk.is_writable(folder) else None


def _temporary_folder() -> Path:
    import tempfile

    try:
        folder = Path(tempfile.gettempdir()) / f"cheops-drp-{os.getuid()}"
    except OSError as error:
        raise CannotCreateError(f"no temporary folder is writable: {error}") from error
    if not _is_utf8(folder):
        raise ConfigurationError(f"the temporary folder {folder.parent} is not UTF-8")
    if not disk.is_taken(folder):
        disk.create_folder(folder, mode=0o700)
    status = disk.status(folder, follow=False)
    assert status is not None
    # everyone may write to the temporary folder: in a folder that others can write to, results
    # could be forged
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise CannotCreateError(
            f"{folder}: is not owned by this user alone; choose another with --work"
        )
    return folder
