"""A published folder: its name, its manifest, and the inputs that the manifest lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas.errors import BadInputError, DrpError, MissingInputError, plain
from schemas.inputs import RAW_SUBARRAY, REFERENCES
from schemas.manifest import MOST_BYTES, FileEntry, Manifest, first_fault
from schemas.names import Version, read_published_name, read_soc_name
from schemas.payloads import Inventory
from schemas.settings import PipelineSettings
from tasks.delivery.report.recheck import verdict_fault
from tasks.engine.step import products_in
from tasks.files import disk
from tasks.files.reader import open_declared
from tasks.visit.search import check_utf8, fits_files

Digest = Callable[[Path], str]

MANIFEST = "manifest.json"


def version_of(folder: Path) -> Version:
    """Return the version, ARCH_REV and PROC_NUM, of a published folder."""
    name = read_published_name(folder.name)
    assert name is not None
    return name[1]


def holds(path: Path, sha256: str, digest: Digest) -> bool:
    """Return whether a file exists and has this digest."""
    return disk.is_file(path) and digest(path) == sha256


def published_folders(output: Path, visit: str) -> list[Path]:
    """Return the published folders of a visit, sorted by version."""
    if not disk.is_folder(output):
        return []
    return [
        p
        for p in disk.entries(output)
        if (name := read_published_name(p.name)) and name[0] == visit and disk.is_folder(p)
    ]


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a published folder.

    Raises
    ------
    BadInputError
        If the file is no manifest of a known version, something in it has not its form, or the
        verdict is not that of its own numbers; names the field.
    """
    path = folder / MANIFEST
    data = disk.read_bytes(path, limit=MOST_BYTES)
    try:
        manifest = Manifest.model_validate_json(data, strict=True)
    except ValidationError as error:
        raise BadInputError(f"{path}: {first_fault(error)}") from error
    if fault := verdict_fault(manifest):
        raise BadInputError(f"{path}: {plain(fault)}")
    return manifest


def verdict_of(folder: Path) -> str:
    """Return the verdict on a published light curve; empty if the manifest cannot be read."""
    try:
        verdict = read_manifest(folder).verdict
    except DrpError:
        return ""
    return verdict.word if verdict is not None else ""


def published_file(folder: Path, file: FileEntry) -> Path:
    """Return the path of a file that a manifest lists.

    Raises
    ------
    BadInputError
        If it is outside the folder, through a symbolic link.
    MissingInputError
        If it does not exist.
    """
    path = folder / file.name
    if not disk.resolved(path).is_relative_to(disk.resolved(folder)):
        raise BadInputError(f"{path}: is a link to a file outside the folder")
    if not disk.is_file(path):
        raise MissingInputError(f"{path}: is missing")
    return path


def is_published(folder: Path) -> bool:
    """Return whether `folder` is a published one: it holds a manifest.

    A folder with raw data into which a manifest was copied is not, unless it has the name of one.
    """
    if not disk.is_file(folder / MANIFEST):
        return False
    return read_published_name(folder.name) is not None or not any(
        (name := read_soc_name(path.name)) and name.extname == RAW_SUBARRAY.first[0]
        for path in fits_files(folder)
    )


def published_inventory(folder: Path) -> tuple[Inventory, dict[str, Any]]:
    """Return the inventory and settings of a published folder.

    The paths in the inventory are bare file names; see `relocated`.

    Raises
    ------
    BadInputError
        If the manifest is damaged, or a setting is not one of this version.
    """
    manifest = read_manifest(folder)
    try:
        PipelineSettings.model_validate(manifest.settings, strict=True)
    except ValidationError as error:
        raise BadInputError(f"{folder / MANIFEST}: settings.{first_fault(error)}") from error
    return manifest.inventory.as_inventory(), dict(manifest.settings)


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
        check_utf8(places[name][0])
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
    places: dict[str, dict[Path, Path]] = {}
    for folder in folders:
        for path in fits_files(folder):
            places.setdefault(path.name, {}).setdefault(disk.resolved(path), disk.absolute(path))
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
