"""The default reference library: built once into the user's cache, whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

from schemas import ROOT
from schemas.errors import CannotCreateError
from tasks.engine.folders import default_work_folder, folder_lock, remove_abandoned, staging
from tasks.files import disk

_SOURCES = ("tasks/simulation", "reference_data")


def library_folder() -> Path:
    """Return the folder of the default library; building it takes some seconds the first time."""
    version = source_digest()
    root = default_work_folder(lambda _: None) / "reference_library"
    folder = root / version
    if disk.is_folder(folder):
        return folder
    disk.make_folder(root)
    with folder_lock(root):
        if not disk.is_folder(folder):
            # imports the simulator, most of a second that an existing library should not cost
            from reference_data import build

            remove_abandoned(root, version)
            with staging(root, version) as stage:
                with disk.guarded("write", stage):
                    build.build_library(stage)
                _put_in_place(stage, folder)
    return folder


def _put_in_place(stage: Path, folder: Path) -> None:
    """Name a complete library; where locks have no effect, another process may have been faster."""
    try:
        disk.rename(stage, folder)
    except CannotCreateError:
        if not disk.is_folder(folder):
            raise


def source_digest() -> str:
    """Return a digest of the sources of the library, so that changed code builds another one."""
    sources = [
        *(p for f in _SOURCES for p in disk.entries(ROOT / f) if p.suffix == ".py"),
        ROOT / "schemas" / "soc.toml",
    ]
    digest = hashlib.sha256()
    for path in sorted(sources):
        digest.update(disk.read_bytes(path))
    return digest.hexdigest()[:12]
