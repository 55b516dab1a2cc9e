"""The archive that pycheops opens."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

from schemas.names import read_published_name, version_label
from tasks.engine.folders import folder_lock
from tasks.files import disk


def write_archive(folder: Path, extra: Sequence[Path]) -> Path:
    """Write the .tgz that pycheops opens, next to a published folder, unless it stands there; same
    content, same bytes.

    Light curves of imagettes are left out: pycheops' aperture_scan wants a row for each image of
    the sub-array in all that it finds, and ends with an error where it is not so. So is the viewer:
    it looks for one file of the report's name.
    """
    target = folder.parent / f"{folder.name}.tgz"
    with folder_lock(target.parent):
        for stale in target.parent.glob(".CH_*.tgz.*.part"):
            disk.remove(stale)
        if not target.exists():
            _write_archive(folder, extra, target)
    return target


def _write_archive(folder: Path, extra: Sequence[Path], target: Path) -> None:
    import gzip

    name = read_published_name(folder.name)
    assert name is not None
    inside = f"{name[0]}_{version_label(name[1])}"
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    disk.remove(partial)
    left_out = ("_SCI_COR_Lightcurve-IMAGETTE", ".html")
    kept = (
        p for p in folder.iterdir() if p.is_file() and not any(part in p.name for part in left_out)
    )
    members = sorted([*kept, *extra], key=lambda p: p.name)
    try:
        with disk.guarded("create", partial), open(partial, "xb") as raw:
            with (
                gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1, mtime=0) as packed,
                tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
            ):
                for path in members:
                    disk.moves_on()
                    info = tarfile.TarInfo(f"{inside}/{path.name}")
                    info.size = path.stat().st_size
                    with open(path, "rb") as file:
                        tar.addfile(info, file)
            raw.flush()
            os.fsync(raw.fileno())
        disk.rename(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    disk.sync_folder(target.parent)
