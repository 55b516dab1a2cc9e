"""The default reference library: built once into the user's cache, whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import inspect
import os
from pathlib import Path

from tasks import disk
from tasks.store import default_work_folder


def library_folder() -> Path:
    """Return the folder of the default library; it is built first where it is not there yet, in seconds."""
    from reference_data import build
    from tasks.simulation import detector

    source = "".join(inspect.getsource(module) for module in (build, detector))
    version = hashlib.sha256(source.encode()).hexdigest()[:12]
    root = default_work_folder(lambda _: None) / "reference_library"
    folder = root / version
    if folder.is_dir():
        return folder
    disk.make_folder(root)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        if not folder.is_dir():
            stage = root / f".{version}.stage"
            disk.remove(stage)
            disk.make_folder(stage)
            with disk.guarded("write", stage):
                build.build_library(stage)
            disk.rename(stage, folder)
    finally:
        os.close(fd)
    return folder
