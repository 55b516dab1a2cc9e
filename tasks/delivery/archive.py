"""Publication: a visit's products appear under the output folder whole or not at all.

They are staged in a hidden folder on the same file system, given their version and date, read back and held against their
definitions, forced to the disk, and renamed. What is published is never overwritten: another result of the same visit gets
the next free processing number. The manifest in the folder is the truth about what was done.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas import VERSION
from schemas.errors import BadInputError, CannotCreateError, DrpError, MissingInputError, SelfCheckError, plain
from schemas.inputs import REFERENCES, Input, Use
from schemas.payloads import Inventory, Leaf, Product
from schemas.products import Structure, soc_extnames, soc_structure
from schemas.terms import MAY_BE_EMPTY, TERMS
from tasks import disk
from tasks.delivery.sources import sources
from tasks.fits import Value, open_declared, scan
from tasks.fits_writer import restamp
from tasks.references import fits_files
from tasks.step import STEPS, UNPUBLISHED, StepReport, products_in
from tasks.store import Workspace, canonical, content, folder_lock, located

Digest = Callable[[Path], str]
Warn = Callable[[str], None]
# For the step that leaves the data of a page: ending of its file, and what makes it, given data folder, facts and target.
Pages = Mapping[str, tuple[str, Callable[[Path, Mapping[str, Any], Path], None]]]
Version = tuple[int | None, int | None]  # ARCH_REV, PROC_NUM; None is free
MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
REPORT_DATA = "report.json"
_FOLDER = re.compile(r"^CH_(PR\d{6}_TG\d{6})_V(\d{4})$")


@dataclass(frozen=True)
class Content:
    """What is to be published: every step's payload in order with its key, and the typeset report."""

    inventory: Inventory
    reports: Sequence[StepReport]
    settings: Mapping[str, Any]
    warnings: Sequence[str]

    def identity(self) -> str:
        """Return a digest of everything that decides the bytes of the products."""
        names = {kind: Path(r.product.path).name for kind, r in self.inventory.references.items()}
        darks = [Path(r.product.path).name for r in self.inventory.dark_frames]
        leaves = [content(r.leaf) for r in self.reports]
        return hashlib.sha256(canonical([leaves, names, darks]).encode()).hexdigest()

    def reference_names(self) -> list[str]:
        """Return the names that go to RF_FILn."""
        chosen = [*self.inventory.references.values(), *self.inventory.dark_frames]
        return sorted(Path(r.product.path).name for r in chosen)


def existing_publication(
    output: Path, visit: str, identity: str, digest: Digest, warn: Warn, wanted: Version = (None, None)
) -> Path | None:
    """Return the published folder that holds exactly this result, if its files are as they were; the newest of several."""
    for folder in sorted(published_folders(output, visit), reverse=True):
        if any(want is not None and want != is_ for want, is_ in zip(wanted, version_of(folder), strict=True)):
            continue
        try:
            manifest = read_manifest(folder)
            if manifest["identity"] != identity:
                continue
            changed = [f["name"] for f in manifest["files"] if not _holds(folder / f["name"], f["sha256"], digest)]
        except (DrpError, OSError, KeyError, TypeError):
            warn(f"{folder.name}: its manifest cannot be read, the result is published again")
            continue
        if not changed:
            return folder
        warn(f"{folder.name}: {changed[0]} is not as it was published, the result is published again")
    return None


def version_of(folder: Path) -> tuple[int, int]:
    """Return (ARCH_REV, PROC_NUM) of a published folder."""
    return divmod(int(folder.name[-4:]), 100)


def _holds(path: Path, sha256: str, digest: Digest) -> bool:
    return path.is_file() and digest(path) == sha256


def published_folders(output: Path, visit: str) -> list[Path]:
    """Return the published folders of a visit, in order of their version."""
    if not output.is_dir():
        return []
    return sorted(p for p in output.iterdir() if (m := _FOLDER.match(p.name)) and m[1] == visit and p.is_dir())


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a published folder."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(disk.read_bytes(path, limit=64 << 20))
    except ValueError as error:
        raise BadInputError(f"{path}: is not JSON ({error})") from error
    if not isinstance(manifest, dict) or manifest.get("manifest") != MANIFEST_VERSION:
        raise BadInputError(f"{path}: is not a manifest of version {MANIFEST_VERSION}")
    return manifest


def verdict_of(folder: Path) -> str:
    """Return the word of the verdict on a published light curve; empty where the manifest does not hold it."""
    try:
        return str(read_manifest(folder)["verdict"]["word"])
    except (DrpError, KeyError, TypeError):
        return ""


def next_version(output: Path, inventory: Inventory, wanted: Version = (None, None)) -> tuple[int, int]:
    """Return (ARCH_REV, PROC_NUM) of the next publication: what is wanted, else the input's and from it the next free number.

    Raises
    ------
    CannotCreateError
        If the wanted one, or every one, is taken.
    """
    taken = {int(str(_FOLDER.match(p.name)[2])) for p in published_folders(output, inventory.visit)}  # type: ignore[index]
    revision = inventory.arch_rev if wanted[0] is None else wanted[0]
    if wanted[1] is not None:
        if 100 * revision + wanted[1] in taken:
            name = f"CH_{inventory.visit}_V{revision:02d}{wanted[1]:02d}"
            raise CannotCreateError(f"{output / name}: is there already, with another result")
        return revision, wanted[1]
    for number in range(inventory.proc_num, 100):
        if 100 * revision + number not in taken:
            return revision, number
    raise CannotCreateError(f"{output}: no processing number is free for {inventory.visit} (up to 99)")


def prepare_output(output: Path) -> None:
    """Make the output folder, and fail early where nothing could be published."""
    if output.exists() and not output.is_dir():
        raise CannotCreateError(f"{output}: is not a folder")
    disk.make_folder(output)
    if not os.access(output, os.W_OK | os.X_OK):
        raise CannotCreateError(f"{output}: cannot be written to")


def publish(
    output: Path, what: Content, date: str, pages: Pages, digest: Digest = disk.sha256, warn: Warn = lambda _: None,
    wanted: Version = (None, None),
) -> tuple[Path, bool]:  # fmt: skip
    """Publish a result, unless it stands there already.

    Parameters
    ----------
    output : Path
        Where published folders stand.
    what : Content
        The result.
    date : str
        Time of publication, UTC, yyyy-mm-ddThh:mm:ss.
    pages : mapping
        What makes report and viewer from the data that their steps left.
    digest, warn : callable
        Gives the SHA-256 of a published file; is told of published folders that were changed.
    wanted : (int or None, int or None)
        ARCH_REV and PROC_NUM where they are not free to choose.

    Returns
    -------
    folder, new : Path, bool
        The published folder, and whether this call made it.
    """
    prepare_output(output)
    identity = what.identity()
    with folder_lock(output):
        for stale in output.glob(".CH_*.stage"):
            disk.remove(stale)
        if (standing := existing_publication(output, what.inventory.visit, identity, digest, warn, wanted)) is not None:
            return standing, False
        version = next_version(output, what.inventory, wanted)
        name = f"CH_{what.inventory.visit}_V{version[0]:02d}{version[1]:02d}"
        stage = output / f".{name}.stage"
        disk.crash_point("before stage")
        try:
            with disk.guarded("create", stage):
                stage.mkdir(mode=0o750)
            _fill(stage, what, version, date, identity, pages)
            disk.crash_point("staged")
            for folder in (*(p for p in stage.rglob("*") if p.is_dir()), stage):
                disk.sync_folder(folder)
            disk.crash_point("before rename")
            disk.rename(stage, output / name)
        except BaseException:
            with_errors_ignored(stage)
            raise
        disk.crash_point("after rename")
        disk.sync_folder(output)
    return output / name, True


def with_errors_ignored(stage: Path) -> None:
    """Remove a stage as far as that is possible, whatever went wrong before."""
    import shutil

    shutil.rmtree(stage, ignore_errors=True)


def _fill(stage: Path, what: Content, version: tuple[int, int], date: str, identity: str, pages: Pages) -> None:
    stamp: dict[str, Value] = {
        "DATE": date, "STAMP": f"drp {VERSION}", "PIPE_VER": VERSION, "ARCH_REV": version[0], "PROC_NUM": version[1],
        **{f"RF_FIL{i}": n for i, n in enumerate(what.reference_names()[:20], 1)},
    }  # fmt: skip
    label = f"V{version[0]:02d}{version[1]:02d}"
    files: dict[str, dict[str, str]] = {}
    data_folders: dict[str, Path] = {}
    for report in what.reports:
        for product_name, product in report.leaf.products.items():
            if product.extname in TERMS:
                relative = term_name(report.step, files)
                disk.make_folder((stage / relative).parent)
                disk.copy_file(Path(product.path), stage / relative)
            elif product.extname in soc_extnames():
                relative = soc_name(Path(product.path), what.inventory.visit, label)
                restamp(Path(product.path), stage / relative, stamp)
            else:
                data_folders[report.step] = Path(product.path).parent
                continue
            files[relative] = {"step": report.step, "key": report.key, "product": product_name}
    _self_check(stage, files)
    start = what.inventory.start[:19].replace(":", "-")
    facts = {
        "version": label, "date": date, "software": VERSION, "folder": f"CH_{what.inventory.visit}_{label}",
        "sources": sources(what.inventory, what.settings, software()),
    }  # fmt: skip
    for step, folder in data_folders.items():
        ending, make = pages[step]
        name = f"CH_{what.inventory.visit}_TU{start}_RPT_COR_DataReduction_{label}.{ending}"
        make(folder, facts, stage / name)
        files[name] = {"step": step, "key": "", "product": ending}
    disk.crash_point("before manifest")
    manifest = _manifest(stage, what, files, date, label, identity)
    if "report" in data_folders:
        manifest["verdict"] = json.loads(disk.read_bytes(data_folders["report"] / REPORT_DATA))["verdict"]
    disk.write_file(stage / MANIFEST, json.dumps(manifest, indent=1).encode())


def term_name(step: str, taken: Iterable[str]) -> str:
    """Return the place of a term in a published folder; the second of a step is that of the full array."""
    name = f"terms/{step}.fits"
    return f"terms/full_array/{step}.fits" if name in taken else name


def soc_name(path: Path, visit: str, label: str) -> str:
    """Return the SOC's file name of a product: its time is T_STRT_U, cut to whole seconds."""
    with scan(path) as file:
        header = file.hdus[1].header
        time = str(header.get("T_STRT_U", header.get("V_STRT_U")))[:19].replace(":", "-")
        data = f"-{header['DATANAME']}" if "DATANAME" in header else ""
        return f"CH_{visit}_TU{time}_{file.extname}{data}_{label}.fits"


def whole(structure: Structure) -> Use:
    """Return the declaration of an HDU of which everything must be there."""
    columns = tuple(c.name for c in structure.columns)
    return Use(structure, dict.fromkeys(structure.keywords), columns, may_be_empty=structure.extname in MAY_BE_EMPTY)


def _self_check(stage: Path, files: Iterable[str]) -> None:
    """Read every staged product back, with its sums, and hold it against its definition."""
    for name in files:
        path = stage / name
        try:
            with scan(path) as file:
                extnames = [hdu.extname for hdu in file.hdus[1:]]
            uses = {e: whole(TERMS[e] if e in TERMS else soc_structure(e)) for e in extnames}
            with open_declared(path, Input(extnames[0], (extnames[0],), uses, ""), sums=True) as file:
                if file.deviations:
                    raise SelfCheckError(f"{name}: {file.deviations[0]}")
                missing = [e for e, needed in uses[extnames[0]].structure.associated.items() if needed and e not in file]
                if missing:
                    raise SelfCheckError(f"{name}: HDU {missing[0]} is missing")
        except (BadInputError, MissingInputError) as error:
            raise SelfCheckError(f"a product does not read back as it was written: {error}") from error


def _manifest(
    stage: Path, what: Content, files: Mapping[str, Mapping[str, str]], date: str, label: str, identity: str
) -> dict[str, Any]:
    """Return what the manifest says. Files are named without the folders that they came from."""
    found = what.inventory
    listed = []
    for name, origin in files.items():
        path = stage / name
        listed.append({"name": name, "sha256": disk.sha256(path), "bytes": path.stat().st_size, **origin})
    steps = [
        {
            "step": r.step, "version": STEPS[r.step].version, "key": r.key, "outcome": r.outcome,
            "seconds": round(r.seconds, 3), "payload": located(r.leaf, lambda p: Path(p).name).model_dump(mode="json"),
        }
        for r in what.reports
    ]  # fmt: skip
    return {
        "manifest": MANIFEST_VERSION, "visit": found.visit, "version": label, "identity": identity, "published": date,
        "software": software(), "settings": dict(what.settings), "inventory": without_folders(found), "steps": steps,
        "files": listed, "warnings": sorted(set(what.warnings)), "deviations": list(found.deviations),
        "notes": list(found.notes), "fallbacks": dict(found.fallbacks),
    }  # fmt: skip


def software() -> dict[str, str]:
    """Return the versions of this program and of the packages that decide its numbers."""
    import platform
    from importlib.metadata import version

    packages = ("numpy", "scipy", "astropy", "numba", "pyerfa", "pydantic")
    return {"drp": VERSION, "python": platform.python_version(), **{p: version(p) for p in packages}}


def without_folders(found: Inventory) -> dict[str, Any]:
    """Return the inventory as JSON values with every path cut to the file's name."""

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: Path(v).name if k == "path" and isinstance(v, str) else cut(v) for k, v in value.items()}
        return [cut(v) for v in value] if isinstance(value, list) else value

    return cut(found.model_dump(mode="json"))  # type: ignore[no-any-return]


# ------------------------------------------------------------------------------------------------- from a published folder


def is_published(folder: Path) -> bool:
    """Whether `folder` is a published one: it holds a manifest."""
    return os.path.isfile(folder / MANIFEST)  # unlike that of Path, it takes a folder that cannot be read for one without


def published_inventory(folder: Path) -> tuple[Inventory, dict[str, Any]]:
    """Return inventory and settings of a published folder. Its raw inputs are known by their digests only."""
    manifest = read_manifest(folder)
    try:
        return Inventory.model_validate(manifest["inventory"]), dict(manifest["settings"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadInputError(f"{folder / MANIFEST}: inventory or settings cannot be read ({error})") from error


def relocated(found: Inventory, folders: Sequence[Path], digest: Digest) -> Inventory:
    """Return the inventory of a manifest with the places of those of its files that lie, under their names, in `folders`.

    A reference that has other content now is taken as it is now, so that what depends on it is done again.

    Raises
    ------
    BadInputError
        If a file of the visit is not the one that it was reduced from, or a changed reference is damaged.
    """
    places = {path.name: path.absolute() for folder in folders for path in fits_files(folder)}
    references = {r.product.path: r.kind for r in (*found.references.values(), *found.dark_frames)}
    declared = {d.kind: d for d in REFERENCES}

    def placed(value: Any) -> Any:
        if isinstance(value, list):
            return [placed(v) for v in value]
        if not isinstance(value, dict):
            return value
        name = value.get("path")
        if "sha256" not in value or name not in places:
            return {k: placed(v) for k, v in value.items()}
        now = digest(places[name])
        if now != value["sha256"] and name not in references:
            raise BadInputError(f"{places[name]}: is not the file that the visit was reduced from")
        if now != value["sha256"]:
            open_declared(places[name], declared[references[name]], sums=True).close()
        return {**value, "path": str(places[name]), "sha256": now}

    return Inventory.model_validate(placed(found.model_dump(mode="json")))


def changed_inputs(folder: Path, found: Inventory) -> list[str]:
    """Return a line for each file of the inventory that has other content now than when `folder` was published."""
    try:
        before, _ = published_inventory(folder)
    except DrpError:
        return []
    then = {Path(p.path).name: p.sha256 for p in products_in([before])}
    now = {Path(p.path).name: p.sha256 for p in products_in([found])}
    return [f"{plain(n)}: was changed since {folder.name} was published" for n in now if then.get(n, now[n]) != now[n]]


def restore_records(folder: Path, workspace: Workspace, warn: Warn) -> dict[str, Path]:
    """Bring the results of a published folder back into the records of a visit.

    Products come back to the bytes they had before publication, which their digests prove; a step of which a product is
    missing or was changed is left out, and so done again. What was given by hand is no result of its step: it is returned,
    EXTNAME and place, to be given again.
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
            if not _holds(folder / file["name"], file["sha256"], disk.sha256):
                raise BadInputError(f"{folder / file['name']}: was given by hand, and is not as it was published")
            by_hand[name] = folder / file["name"]
        if leaf.by_hand or workspace.believe(step, key, STEPS[step].payload, warn) is not None:
            continue
        try:
            products = _restore(folder, leaf, places, (step, key), workspace)
        except (DrpError, KeyError) as error:
            warn(f"{step}: its published products cannot be used again ({error})")
            continue
        if products is not None:
            workspace.remember(step, key, leaf.model_copy(update={"products": products}), {"restored": folder.name})
    return by_hand


def _restore(
    folder: Path, leaf: Leaf, places: Mapping[tuple[str, str, str], Mapping[str, str]], origin: tuple[str, str],
    workspace: Workspace,
) -> dict[str, Product] | None:  # fmt: skip
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


# --------------------------------------------------------------------------------------------------------------- archive


def write_archive(folder: Path, extra: Sequence[Path]) -> Path:
    """Write the .tgz that pycheops opens, next to a published folder, unless it stands there; same content, same bytes.

    Light curves of imagettes are left out: pycheops' aperture_scan wants a row for each image of the sub-array in all that it
    finds, and ends with an error where it is not so. So is the viewer: it looks for one file of the report's name.
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

    match = _FOLDER.match(folder.name)
    assert match is not None
    inside = f"{match[1]}_V{match[2]}"
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    disk.remove(partial)
    left_out = ("_SCI_COR_Lightcurve-IMAGETTE", ".html")
    kept = (p for p in folder.iterdir() if p.is_file() and not any(part in p.name for part in left_out))
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
