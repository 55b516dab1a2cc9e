"""Published products turned back into the intermediate ones of a new run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.errors import BadInputError, DrpError
from schemas.payloads import Leaf, Product
from schemas.terms import TERMS
from tasks.delivery.published.folder import holds, read_manifest
from tasks.engine.by_hand import UNPUBLISHED
from tasks.engine.run import STEPS
from tasks.engine.store import Warn, Workspace
from tasks.files import disk
from tasks.files.writer import restamp

# entries of published files in the manifest, by step, key and product
Files = Mapping[tuple[str, str, str], Mapping[str, Any]]


def restore_records(folder: Path, workspace: Workspace, warn: Warn) -> dict[str, Path]:
    """Bring the results of a published folder back into the records of a visit.

    Products come back to the bytes they had before publication, which their digests prove; a step
    of which a product is missing or was changed is left out, and so done again. What was given by
    hand is no result of its step: it is returned, EXTNAME and place, to be given again.
    """
    manifest = read_manifest(folder)
    files: Files = {(f["step"], f["key"], f["product"]): f for f in manifest["files"]}
    by_hand: dict[str, Path] = {}
    for entry in manifest["steps"]:
        step, key = str(entry["step"]), str(entry["key"])
        if step not in STEPS:
            continue
        leaf = STEPS[step].payload.model_validate(entry["payload"])
        by_hand |= {
            name: _file_given_by_hand(folder, files[step, key, name]) for name in leaf.by_hand
        }
        if not leaf.by_hand:
            _restore_step(folder, files, leaf, (step, key), workspace, warn)
    return by_hand


def _file_given_by_hand(folder: Path, file: Mapping[str, Any]) -> Path:
    path = folder / str(file["name"])
    if not holds(path, file["sha256"], disk.sha256):
        raise BadInputError(f"{path}: was given by hand, and is not as it was published")
    return path


def _restore_step(
    folder: Path,
    files: Files,
    leaf: Leaf,
    origin: tuple[str, str],
    workspace: Workspace,
    warn: Warn,
) -> None:
    """Put a published step into the records, unless they hold it, or a product is not there."""
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
        warn(f"{step}: its published products cannot be used again ({error})")
        return
    restored = leaf.model_copy(update={"products": products})
    workspace.remember(step, key, restored, {"restored": folder.name})


def _restore_product(source: Path, product: Product, target: Path, workspace: Workspace) -> Product:
    """Bring a published file back to the bytes that it had before publication."""
    disk.make_folder(target.parent)
    disk.remove(target)
    if product.extname in TERMS:
        disk.copy_file(source, target)
    else:
        restamp(source, target, UNPUBLISHED)
    if workspace.digests.of(target) != product.sha256:
        disk.remove(target.parent)
        raise BadInputError(f"{source}: is not what the manifest says")
    return product.model_copy(update={"path": str(target)})
