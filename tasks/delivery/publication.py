"""Publication: a visit's products appear under the output folder whole or not at all.

They are staged in a hidden folder on the same file system, given their version and date, read back
and held against their definitions, forced to the disk, and renamed. What is published is never
overwritten: another result of the same visit gets the next free processing number. The manifest in
the folder is the truth about what was done.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas import VERSION
from schemas.errors import CannotCreateError, DrpError
from schemas.names import published_name, version_label
from schemas.payloads import Inventory
from schemas.products import soc_extnames
from schemas.terms import TERMS
from tasks.delivery.published.folder import (
    MANIFEST,
    MANIFEST_VERSION,
    Digest,
    published_folders,
    read_manifest,
    version_of,
)
from tasks.delivery.report.sources import sources
from tasks.delivery.self_check import self_check
from tasks.engine.folders import folder_lock
from tasks.engine.keys import canonical, content
from tasks.engine.run import STEPS, StepReport
from tasks.engine.store import located
from tasks.files import disk
from tasks.files.reader import Value, scan
from tasks.files.writer import restamp

Warn = Callable[[str], None]

# For the step that leaves the data of a page: ending of its file, and what makes it, given data
# folder, facts and target.
Pages = Mapping[str, tuple[str, Callable[[Path, Mapping[str, Any], Path], None]]]

Version = tuple[int | None, int | None]  # ARCH_REV, PROC_NUM; None is free

REPORT_DATA = "report.json"


@dataclass(frozen=True)
class Content:
    """What is to be published: every step's payload in order with its key, and the typeset
    report.
    """

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
    output: Path,
    visit: str,
    identity: str,
    digest: Digest,
    warn: Warn,
    wanted: Version = (None, None),
) -> Path | None:
    """Return the published folder that holds exactly this result, if its files are as they were;
    the newest of several.
    """
    for folder in sorted(published_folders(output, visit), reverse=True):
        if any(
            want is not None and want != is_
            for want, is_ in zip(wanted, version_of(folder), strict=True)
        ):
            continue
        try:
            manifest = read_manifest(folder)
            if manifest["identity"] != identity:
                continue
            changed = [
                f["name"]
                for f in manifest["files"]
                if not holds(folder / f["name"], f["sha256"], digest)
            ]
        except (DrpError, OSError, KeyError, TypeError):
            warn(f"{folder.name}: its manifest cannot be read, the result is published again")
            continue
        if not changed:
            return folder
        warn(
            f"{folder.name}: {changed[0]} is not as it was published, the result is published again"
        )
    return None


def holds(path: Path, sha256: str, digest: Digest) -> bool:
    """Whether a file is there with this digest."""
    return path.is_file() and digest(path) == sha256


def next_version(
    output: Path, inventory: Inventory, wanted: Version = (None, None)
) -> tuple[int, int]:
    """Return (ARCH_REV, PROC_NUM) of the next publication: what is wanted, else the input's and
    from it the next free number.

    Raises
    ------
    CannotCreateError
        If the wanted one, or every one, is taken.
    """
    taken = {version_of(folder) for folder in published_folders(output, inventory.visit)}
    revision = inventory.arch_rev if wanted[0] is None else wanted[0]
    if wanted[1] is not None:
        if (revision, wanted[1]) in taken:
            name = published_name(inventory.visit, (revision, wanted[1]))
            raise CannotCreateError(f"{output / name}: is there already, with another result")
        return revision, wanted[1]
    for number in range(inventory.proc_num, 100):
        if (revision, number) not in taken:
            return revision, number
    raise CannotCreateError(
        f"{output}: no processing number is free for {inventory.visit} (up to 99)"
    )


def prepare_output(output: Path) -> None:
    """Make the output folder, and fail early where nothing could be published."""
    if output.exists() and not output.is_dir():
        raise CannotCreateError(f"{output}: is not a folder")
    disk.make_folder(output)
    if not os.access(output, os.W_OK | os.X_OK):
        raise CannotCreateError(f"{output}: cannot be written to")


def publish(
    output: Path,
    what: Content,
    date: str,
    pages: Pages,
    digest: Digest = disk.sha256,
    warn: Warn = lambda _: None,
    wanted: Version = (None, None),
) -> tuple[Path, bool]:
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
        if (
            standing := existing_publication(
                output, what.inventory.visit, identity, digest, warn, wanted
            )
        ) is not None:
            return standing, False
        version = next_version(output, what.inventory, wanted)
        name = published_name(what.inventory.visit, version)
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


def _fill(
    stage: Path, what: Content, version: tuple[int, int], date: str, identity: str, pages: Pages
) -> None:
    stamp: dict[str, Value] = {
        "DATE": date,
        "STAMP": f"drp {VERSION}",
        "PIPE_VER": VERSION,
        "ARCH_REV": version[0],
        "PROC_NUM": version[1],
        **{f"RF_FIL{i}": n for i, n in enumerate(what.reference_names()[:20], 1)},
    }
    label = version_label(version)
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
    self_check(stage, files)
    start = what.inventory.start[:19].replace(":", "-")
    facts = {
        "version": label,
        "date": date,
        "software": VERSION,
        "folder": published_name(what.inventory.visit, version),
        "sources": sources(what.inventory, what.settings, software()),
    }
    for step, folder in data_folders.items():
        ending, make = pages[step]
        name = f"CH_{what.inventory.visit}_TU{start}_RPT_COR_DataReduction_{label}.{ending}"
        make(folder, facts, stage / name)
        files[name] = {"step": step, "key": "", "product": ending}
    disk.crash_point("before manifest")
    manifest = _manifest(stage, what, files, date, label, identity)
    if "report" in data_folders:
        manifest["verdict"] = json.loads(disk.read_bytes(data_folders["report"] / REPORT_DATA))[
            "verdict"
        ]
    disk.write_file(stage / MANIFEST, json.dumps(manifest, indent=1).encode())


def term_name(step: str, taken: Iterable[str]) -> str:
    """Return the place of a term in a published folder; the second of a step is that of the full
    array.
    """
    name = f"terms/{step}.fits"
    return f"terms/full_array/{step}.fits" if name in taken else name


def soc_name(path: Path, visit: str, label: str) -> str:
    """Return the SOC's file name of a product: its time is T_STRT_U, cut to whole seconds."""
    with scan(path) as file:
        header = file.hdus[1].header
        time = str(header.get("T_STRT_U", header.get("V_STRT_U")))[:19].replace(":", "-")
        data = f"-{header['DATANAME']}" if "DATANAME" in header else ""
        return f"CH_{visit}_TU{time}_{file.extname}{data}_{label}.fits"


def _manifest(
    stage: Path,
    what: Content,
    files: Mapping[str, Mapping[str, str]],
    date: str,
    label: str,
    identity: str,
) -> dict[str, Any]:
    """Return what the manifest says. Files are named without the folders that they came from."""
    found = what.inventory
    listed = []
    for name, origin in files.items():
        path = stage / name
        listed.append(
            {"name": name, "sha256": disk.sha256(path), "bytes": path.stat().st_size, **origin}
        )
    steps = [
        {
            "step": r.step,
            "version": STEPS[r.step].version,
            "key": r.key,
            "outcome": r.outcome,
            "seconds": round(r.seconds, 3),
            "payload": located(r.leaf, lambda p: Path(p).name).model_dump(mode="json"),
        }
        for r in what.reports
    ]
    return {
        "manifest": MANIFEST_VERSION,
        "visit": found.visit,
        "version": label,
        "identity": identity,
        "published": date,
        "software": software(),
        "settings": dict(what.settings),
        "inventory": without_folders(found),
        "steps": steps,
        "files": listed,
        "warnings": sorted(set(what.warnings)),
        "deviations": list(found.deviations),
        "notes": list(found.notes),
        "fallbacks": dict(found.fallbacks),
    }


def software() -> dict[str, str]:
    """Return the versions of this program and of the packages that decide its numbers."""
    import platform
    from importlib.metadata import version

    packages = ("numpy", "scipy", "astropy", "numba", "pyerfa", "pydantic")
    return {
        "drp": VERSION,
        "python": platform.python_version(),
        **{p: version(p) for p in packages},
    }


def without_folders(found: Inventory) -> dict[str, Any]:
    """Return the inventory as JSON values with every path cut to the file's name."""

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                k: Path(v).name if k == "path" and isinstance(v, str) else cut(v)
                for k, v in value.items()
            }
        return [cut(v) for v in value] if isinstance(value, list) else value

    return cut(found.model_dump(mode="json"))  # type: ignore[no-any-return]
