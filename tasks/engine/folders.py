"""The folder of intermediate products, and the lock on a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import CannotCreateError, ConfigurationError, DrpError
from tasks.engine.store import Warn
from tasks.files import disk


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a folder, so that publications into it follow one another."""
    fd = disk.open_folder(disk.resolved(folder))
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


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
