"""The archive of a published visit in the form that pycheops opens."""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from schemas.names import read_published_name, version_label
from tasks.delivery.folder import MANIFEST
from tasks.engine.folders import remove_abandoned
from tasks.files import disk

# parts of the names of files that the archive leaves out: imagette light curves and the viewer
_LEFT_OUT = ("_SCI_COR_Lightcurve-IMAGETTE", ".html")


def write_archive(folder: Path, extra: Sequence[Path]) -> Path:
    """Write the .tgz next to a published folder, unless it exists; equal content gives equal bytes.

    The light curves of imagettes are left out, because the aperture_scan of pycheops requires one
    row per sub-array image in every light curve that it finds, and fails otherwise. So is the
    viewer, because pycheops expects a single file with the name of the report.

    Parameters
    ----------
    folder : Path
        The published folder.
    extra : sequence of Path
        Further files to include.

    Returns
    -------
    Path
        The archive.
    """
    target = folder.parent / f"{folder.name}.tgz"
    remove_abandoned(target.parent, target.name)
    if not disk.exists(target, output=True):
        _write_archive(folder, extra, target)
    return target


def _write_archive(folder: Path, extra: Sequence[Path], target: Path) -> None:
    partial = target.with_name(f".{target.name}.{disk.process_label()}.part")
    members = sorted([*_published_members(folder), *extra], key=lambda p: p.name)
    try:
        with disk.guarded("create", partial), os.fdopen(disk.create(partial), "wb") as raw:
            # as readable as what it holds
            os.fchmod(raw.fileno(), stat.S_IMODE(disk.status_of(folder / MANIFEST).st_mode))
            _pack(members, _folder_inside(folder), raw)
            raw.flush()
            os.fsync(raw.fileno())
        disk.rename(partial, target)
    except BaseException:
        disk.discard(partial)
        raise
    disk.sync_folder(target.parent)


def _published_members(folder: Path) -> list[Path]:
    return [
        path
        for path in disk.entries(folder)
        if disk.is_file(path) and not any(part in path.name for part in _LEFT_OUT)
    ]


def _folder_inside(folder: Path) -> str:
    """Return the name of the folder in the archive; pycheops expects it without the prefix CH_."""
    name = read_published_name(folder.name)
    assert name is not None
    visit, version = name
    return f"{visit}_{version_label(version)}"


def _pack(members: Sequence[Path], inside: str, raw: BinaryIO) -> None:
    """Write a compressed archive whose bytes depend only on names and contents."""
    with (
        gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in members:
            disk.moves_on()
            info = tarfile.TarInfo(f"{inside}/{path.name}")
            info.size = disk.size(path)
            with os.fdopen(disk.open_to_read(path), "rb") as file:
                tar.addfile(info, file)
