"""Published products turned back into the intermediate ones of a new run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from schemas.errors import BadInputError, DrpError
from schemas.payloads import Leaf, Product
from schemas.terms import TERMS
from tasks.delivery.publication import Warn, holds
from tasks.delivery.published.folder import read_manifest
from tasks.engine.by_hand import UNPUBLISHED
from tasks.engine.run import STEPS
from tasks.engine.store import Workspace
from tasks.files import disk
from tasks.files.writer import restamp


def restore_records(folder: Path, workspace: Workspace, warn: Warn) -> dict[str, Path]:
    """Bring the results of a published folder back into the records of a visit.

    Products come back to the bytes they had before publication, which their digests prove; a step
    of which a product is missing or was changed is left out, and so done again. What was given by
    hand is no result of its step: it is returned, EXTNAME and place, to be given again.
    """
    manifest = read_manifest(folder)
    places = {(f["step"], f["key"], f["product"]): f for f in manifest["files"]}
    by_hand: dict[str, Path] = {}
    for entry in manifest["steps"]:
        step, key = str(entry["step"]), str(entry["key"])
        if step not in STEPS:
            continue
        leaf = STEPS[step].payload.model_validate(entry["payload"])
        for name in leaf.by_hand:
            file = places[step, key, name]
            if not holds(folder / file["name"], file["sha256"], disk.sha256):
                raise BadInputError(
                    f"{folder / file['name']}: was given by hand, and is not as it was published"
                )
            by_hand[name] = folder / file["name"]
        if leaf.by_hand or workspace.believe(step, key, STEPS[step].payload, warn) is not None:
            continue
        try:
            products = _restore(folder, leaf, places, (step, key), workspace)
        except (DrpError, KeyError) as error:
            warn(f"{step}: its published products cannot be used again ({error})")
            continue
        if products is not None:
            workspace.remember(
                step, key, leaf.model_copy(update={"products": products}), {"restored": folder.name}
            )
    return by_hand


def _restore(
    folder: Path,
    leaf: Leaf,
    places: Mapping[tuple[str, str, str], Mapping[str, str]],
    origin: tuple[str, str],
    workspace: Workspace,
) -> dict[str, Product] | None:
    target = workspace.folder(*origin)
    products = {}
    for name, product in leaf.products.items():
        if (*origin, name) not in places:
            return None
        source = places[*origin, name]["name"]
        own = target / f"{name}.fits"
        disk.make_folder(target)
        disk.remove(own)
        if product.extname in TERMS:
            disk.copy_file(folder / source, own)
        else:
            restamp(folder / source, own, UNPUBLISHED)
        if workspace.digests.of(own) != product.sha256:
            disk.remove(target)
            raise BadInputError(f"{folder / source}: is not what the manifest says")
        products[name] = product.model_copy(update={"path": str(own)})
    return products
