"""A published folder: its name, its manifest, and the inputs that the manifest lists."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from schemas.errors import BadInputError, DrpError, plain
from schemas.inputs import REFERENCES
from schemas.names import Version, read_published_name
from schemas.payloads import Inventory
from tasks.engine.step import products_in
from tasks.files import disk
from tasks.files.reader import open_declared
from tasks.visit.search import fits_files

Digest = Callable[[Path], str]

MANIFEST = "manifest.json"

MANIFEST_VERSION = 1


def version_of(folder: Path) -> Version:
    """Return the version, ARCH_REV and PROC_NUM, of a published folder."""
    name = read_published_name(folder.name)
    assert name is not None
    return name[1]


def holds(path: Path, sha256: str, digest: Digest) -> bool:
    """Return whether a file exists and has this digest."""
    return path.is_file() and digest(path) == sha256


def published_folders(output: Path, visit: str) -> list[Path]:
    """Return the published folders of a visit, sorted by version."""
    if not output.is_dir():
        return []
    return sorted(
        p
        for p in output.iterdir()
        if (name := read_published_name(p.name)) and name[0] == visit and p.is_dir()
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a published folder.

    Raises
    ------
    BadInputError
        If the file is no manifest of a known version.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(disk.read_bytes(path, limit=64 << 20))
    except ValueError as error:
        raise BadInputError(f"{path}: is not JSON ({error})") from error
    if not isinstance(manifest, dict) or manifest.get("manifest") != MANIFEST_VERSION:
        raise BadInputError(f"{path}: is not a manifest of version {MANIFEST_VERSION}")
    return manifest


def verdict_of(folder: Path) -> str:
    """Return the verdict on a published light curve; empty if the manifest does not hold it."""
    try:
        return str(read_manifest(folder)["verdict"]["word"])
    except (DrpError, KeyError, TypeError):
        return ""


def is_published(folder: Path) -> bool:
    """Return whether `folder` is a published one: it holds a manifest."""
    # unlike Path.is_file, os.path.isfile returns False for an unreadable folder
    return os.path.isfile(folder / MANIFEST)


def published_inventory(folder: Path) -> tuple[Inventory, dict[str, Any]]:
    """Return the inventory and settings of a published folder.

    The paths in the inventory are bare file names; see `relocated`.

    Raises
    ------
    BadInputError
        If the manifest is damaged.
    """
    manifest = read_manifest(folder)
    try:
        return Inventory.model_validate(manifest["inventory"]), dict(manifest["settings"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadInputError(
            f"{folder / MANIFEST}: inventory or settings cannot be read ({error})"
        ) from error


def relocated(inventory: Inventory, folders: Sequence[Path], digest: Digest) -> Inventory:
    """Return the inventory of a manifest with the paths of its files found in `folders`.

    Files are found by name. A reference whose content has changed gets its new digest, so that the
    steps that depend on it run again.

    Raises
    ------
    BadInputError
        If a file of the visit is not the one that was reduced, or a changed reference is damaged.
    """
    places = _places_by_name(folders)
    references = {
        r.product.path: r.kind for r in (*inventory.references.values(), *inventory.dark_frames)
    }
    declared = {d.kind: d for d in REFERENCES}

    def locate(value: Any) -> Any:
        if isinstance(value, list):
            return [locate(v) for v in value]
        if not isinstance(value, dict):
            return value
        name = value.get("path")
        if "sha256" not in value or name not in places:
            return {k: locate(v) for k, v in value.items()}
        digests = {path: digest(path) for path in places[name]}
        # of several files of this name, the one that was used
        path = next((p for p in digests if digests[p] == value["sha256"]), places[name][0])
        if digests[path] != value["sha256"] and name not in references:
            raise BadInputError(f"{path}: is not the file from which the visit was reduced")
        if digests[path] != value["sha256"]:
            open_declared(path, declared[references[name]], sums=True).close()
        return {**value, "path": str(path), "sha256": digests[path]}

    return Inventory.model_validate(locate(inventory.model_dump(mode="json")))


def _places_by_name(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the FITS files below some folders by name, each once however it is reached."""
    places: dict[str, dict[str, Path]] = {}
    for folder in folders:
        for path in fits_files(folder):
            places.setdefault(path.name, {}).setdefault(os.path.realpath(path), path.absolute())
    return {name: list(paths.values()) for name, paths in places.items()}


def changed_inputs(folder: Path, inventory: Inventory) -> list[str]:
    """Return a warning for each file of the inventory that changed since `folder` was published."""
    try:
        before, _ = published_inventory(folder)
    except DrpError:
        return []
    then = {Path(p.path).name: p.sha256 for p in products_in([before])}
    now = {Path(p.path).name: p.sha256 for p in products_in([inventory])}
    return [
        f"{plain(n)}: changed since {folder.name} was published"
        for n in now
        if then.get(n, now[n]) != now[n]
    ]
