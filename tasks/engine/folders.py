"""Where intermediate products lie, and the lock on a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import CannotCreateError, DrpError
from tasks.engine.store import Warn
from tasks.files import disk


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a folder, so that two publications into it come one after the other."""
    with disk.guarded("create", folder):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def default_work_folder(warn: Warn) -> Path:
    """Return where intermediate products go if nobody says: DRP_WORK, the user's cache folder, or
    else a temporary one.
    """
    if named := os.environ.get("DRP_WORK"):
        return Path(named).absolute()
    home = os.environ.get("HOME")
    cache = os.environ.get("XDG_CACHE_HOME") or (str(Path(home) / ".cache") if home else "")
    if cache:
        folder = Path(cache) / "cheops-drp"
        try:
            disk.make_folder(folder)
            if os.access(folder, os.W_OK):
                return folder
        except DrpError:
            pass
    import tempfile

    folder = Path(tempfile.gettempdir()) / f"cheops-drp-{os.getuid()}"
    with disk.guarded("create", folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    # anybody may write into a temporary folder: one that is not ours alone could hold results that
    # are not ours
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise CannotCreateError(
            f"{folder}: is not ours alone; name a folder for intermediate products by --work"
        )
    warn(
        f"no folder for intermediate products can be written: they go to {folder} (--work "
        f"names another)"
    )
    return folder
