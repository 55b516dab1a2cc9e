"""Published products turned back into the intermediate products of a new run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from schemas.errors import BadInputError, DrpError, MissingInputError
from schemas.manifest import FileEntry
from schemas.payloads import Leaf, Product
from schemas.terms import TERMS
from tasks.delivery.folder import MANIFEST, published_file, read_manifest
from tasks.engine.by_hand import UNPUBLISHED
from tasks.engine.run import STEPS
from tasks.engine.store import Warn, Workspace
from tasks.files import disk
from tasks.files.writer import restamp

# entries of the manifest's files, by step, key and product
Files = Mapping[tuple[str, str, str], FileEntry]


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
        If the manifest is damaged, or a supplied product was modified after publication.
    """
    manifest = read_manifest(folder)
    files: Files = {file.origin: file for file in manifest.files}
    by_hand: dict[str, Path] = {}
    for entry in manifest.steps:
        if entry.step not in STEPS:
            continue
        origin = entry.step, entry.key
        leaf = entry.payload.as_leaf(STEPS[entry.step].payload)
        by_hand |= {name: _supplied_file(folder, files, (*origin, name)) for name in leaf.by_hand}
        if not leaf.by_hand:
            _restore_step(folder, files, leaf, origin, workspace, warn)
    return by_hand


def _supplied_file(folder: Path, files: Files, origin: tuple[str, str, str]) -> Path:
    if origin not in files:
        raise BadInputError(
            f"{folder / MANIFEST}: files: {origin[2]} of step {origin[0]} was supplied by hand, "
            f"but is not listed"
        )
    file = files[origin]
    try:
        path = published_file(folder, file)
    except MissingInputError as error:
        raise BadInputError(f"{error}, and was supplied by hand") from error
    if disk.sha256(path) != file.sha256:
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
    if disk.is_link(target):  # nothing is written to where it leads
        disk.remove(target)
    try:
        products = {
            name: _restore_product(
                published_file(folder, files[*origin, name]),
                product,
                target / f"{name}.fits",
                workspace,
            )
            for name, product in leaf.products.items()
        }
    except DrpError as error:
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
