"""Published products turned back into the intermediate products of a new run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.errors import BadInputError, DrpError
from schemas.payloads import Leaf, Product
from schemas.terms import TERMS
from tasks.delivery.folder import holds, read_manifest
from tasks.engine.by_hand import UNPUBLISHED
from tasks.engine.run import STEPS
from tasks.engine.store import Warn, Workspace
from tasks.files import disk
from tasks.files.writer import restamp

# entries of the manifest's files, by step, key and product
Files = Mapping[tuple[str, str, str], Mapping[str, Any]]


def restore_records(folder: Path, workspace: Workspace, warn: Warn) -> dict[str, Path]:
    """Restore the results of a published folder to the records of a visit.

    Products get back the bytes they had before publication, as verified by their digests. A step
    with a missing or modified product is not restored, so it will run again. A product that a
    person had supplied is no result of its step; it is returned instead, to be supplied again.

    Returns
    -------
    dict
        Paths of the supplied products by EXTNAME.

    Raises
    ------
    BadInputError
        If a supplied product was modified after publication.
    """
    manifest = read_manifest(folder)
    files: Files = {(f["step"], f["key"], f["product"]): f for f in manifest["files"]}
    by_hand: dict[str, Path] = {}
    for entry in manifest["steps"]:
        step, key = str(entry["step"]), str(entry["key"])
        if step not in STEPS:
            continue
        leaf = STEPS[step].payload.model_validate(entry["payload"])
        by_hand |= {name: _supplied_file(folder, files[step, key, name]) for name in leaf.by_hand}
        if not leaf.by_hand:
            _restore_step(folder, files, leaf, (step, key), workspace, warn)
    return by_hand


def _supplied_file(folder: Path, file: Mapping[str, Any]) -> Path:
    path = folder / str(file["name"])
    if not holds(path, file["sha256"], disk.sha256):
        raise BadInputError(f"{path}: was supplied by hand and modified after publication")
    return path


def _restore_step(
    folder: Path,
    files: Files,
    leaf: Leaf,
    origin: tuple[str, str],
    workspace: Workspace,
    warn: Warn,
) -> None:
    """Add a published step to the records, unless it is there or a product is missing."""
    step, key = origin
    if workspace.believe(step, key, STEPS[step].payload, warn) is not None:
        return
    if any((*origin, name) not in files for name in leaf.products):
        return
    target = workspace.folder(*origin)
    try:
        products = {
            name: _restore_product(
                folder / str(files[*origin, name]["name"]),
                product,
                target / f"{name}.fits",
                workspace,
            )
            for name, product in leaf.products.items()
        }
    except (DrpError, KeyError) as error:
        warn(f"{step}: its published products cannot be reused ({error})")
        return
    restored = leaf.model_copy(update={"products": products})
    workspace.remember(step, key, restored, {"restored": folder.name})


def _restore_product(source: Path, product: Product, target: Path, workspace: Workspace) -> Product:
    """Copy a published file, without the changes that publication made to its header."""
    disk.make_folder(target.parent)
    disk.remove(target)
    if product.extname in TERMS:
        disk.copy_file(source, target)
    else:
        restamp(source, target, UNPUBLISHED)
    if workspace.digests.of(target) != product.sha256:
        disk.remove(target.parent)
        raise BadInputError(f"{source}: does not match its digest in the manifest")
    return product.model_copy(update={"path": str(target)})
