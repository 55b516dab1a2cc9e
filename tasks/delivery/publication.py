"""Publication: a visit's products appear under the output folder whole or not at all.

They are staged in a hidden folder on the same file system, given their version and date, read back
and held against their definitions, forced to the disk, and renamed. What is published is never
overwritten: another result of the same visit gets the next free processing number. The manifest in
the folder is the truth about what was done.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas import VERSION
from schemas.errors import CannotCreateError, DrpError
from schemas.payloads import Inventory, Product
from schemas.products import soc_extnames
from schemas.terms import TERMS
from tasks.delivery.manifest import Content, Origin, make_manifest, software
from tasks.delivery.published.folder import (
    MANIFEST,
    Digest,
    Version,
    holds,
    published_folders,
    read_manifest,
    version_of,
)
from tasks.delivery.report.sources import sources
from tasks.delivery.self_check import self_check
from tasks.engine.folders import folder_lock
from tasks.engine.store import Warn
from tasks.files import disk
from tasks.files.reader import Value, scan
from tasks.files.writer import restamp

__all__ = ["Content", "prepare_output", "publish"]

# For the step that leaves the data of a page: ending of its file, and what makes it, given data
# folder, facts and target.
Pages = Mapping[str, tuple[str, Callable[[Path, Mapping[str, Any], Path], None]]]

Wanted = tuple[int | None, int | None]  # ARCH_REV, PROC_NUM; None is free

REPORT_DATA = "report.json"


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
    wanted: Wanted = (None, None),
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
    visit, identity = what.inventory.visit, what.identity()
    with folder_lock(output):
        for stale in output.glob(".CH_*.stage"):
            disk.remove(stale)
        for folder in _candidates(output, visit, wanted):
            if _holds_result(folder, identity, digest, warn):
                return folder, False
        edition = Edition(what, next_version(output, what.inventory, wanted), date)
        stage = output / f".{edition.folder}.stage"
        disk.crash_point("before stage")
        try:
            _stage(stage, edition, pages)
            disk.crash_point("before rename")
            disk.rename(stage, output / edition.folder)
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise
        disk.crash_point("after rename")
        disk.sync_folder(output)
    return output / edition.folder, True


def _candidates(output: Path, visit: str, wanted: Wanted) -> list[Path]:
    """Return the published folders of a visit that have a wanted version, the newest first."""
    return [
        folder
        for folder in reversed(published_folders(output, visit))
        if all(w in (None, is_) for w, is_ in zip(wanted, version_of(folder), strict=True))
    ]


def _holds_result(folder: Path, identity: str, digest: Digest, warn: Warn) -> bool:
    """Return whether a published folder holds exactly this result, its files as they were."""
    try:
        manifest = read_manifest(folder)
        if manifest["identity"] != identity:
            return False
        changed = [
            f["name"]
            for f in manifest["files"]
            if not holds(folder / f["name"], f["sha256"], digest)
        ]
    except (DrpError, OSError, KeyError, TypeError):
        warn(f"{folder.name}: its manifest cannot be read, the result is published again")
        return False
    if changed:
        warn(
            f"{folder.name}: {changed[0]} is not as it was published, the result is published again"
        )
    return not changed


def next_version(output: Path, inventory: Inventory, wanted: Wanted = (None, None)) -> Version:
    """Return the version of the next publication: what is wanted, else the input's and from it the
    next free processing number.

    Raises
    ------
    CannotCreateError
        If the wanted one, or every one, is taken.
    """
    taken = {version_of(folder) for folder in published_folders(output, inventory.visit)}
    revision = inventory.arch_rev if wanted[0] is None else wanted[0]
    if wanted[1] is not None:
        version = Version(revision, wanted[1])
        if version in taken:
            name = version.folder(inventory.visit)
            raise CannotCreateError(f"{output / name}: is there already, with another result")
        return version
    for number in range(inventory.proc_num, 100):
        if (version := Version(revision, number)) not in taken:
            return version
    raise CannotCreateError(
        f"{output}: no processing number is free for {inventory.visit} (up to 99)"
    )


@dataclass(frozen=True)
class Edition:
    """A result with the version and date under which it is published."""

    what: Content
    version: Version
    date: str

    @property
    def visit(self) -> str:
        """The visit."""
        return self.what.inventory.visit

    @property
    def folder(self) -> str:
        """Name of the published folder."""
        return self.version.folder(self.visit)

    def keywords(self) -> dict[str, Value]:
        """Return the keywords that only publication knows."""
        return {
            "DATE": self.date,
            "STAMP": f"drp {VERSION}",
            "PIPE_VER": VERSION,
            "ARCH_REV": self.version.revision,
            "PROC_NUM": self.version.number,
            **{f"RF_FIL{i}": n for i, n in enumerate(self.what.reference_names()[:20], 1)},
        }

    def facts(self) -> dict[str, Any]:
        """Return what pages say of the publication."""
        return {
            "version": self.version.label,
            "date": self.date,
            "software": VERSION,
            "folder": self.folder,
            "sources": sources(self.what.inventory, self.what.settings, software()),
        }

    def page_name(self, ending: str) -> str:
        """Return the file name of a page."""
        start = self.what.inventory.start[:19].replace(":", "-")
        return f"CH_{self.visit}_TU{start}_RPT_COR_DataReduction_{self.version.label}.{ending}"


def _stage(stage: Path, edition: Edition, pages: Pages) -> None:
    """Write everything that is published to the folder `stage`, and force it to the disk."""
    with disk.guarded("create", stage):
        stage.mkdir(mode=0o750)
    files, page_data = _stage_products(stage, edition)
    self_check(stage, files)
    facts = edition.facts()
    for step, folder in page_data.items():
        ending, make = pages[step]
        name = edition.page_name(ending)
        make(folder, facts, stage / name)
        files[name] = Origin(step, "", ending)
    disk.crash_point("before manifest")
    manifest = make_manifest(stage, edition.what, files, edition.version.label, edition.date)
    if "report" in page_data:
        report = json.loads(disk.read_bytes(page_data["report"] / REPORT_DATA))
        manifest["verdict"] = report["verdict"]
    disk.write_file(stage / MANIFEST, json.dumps(manifest, indent=1).encode())
    disk.crash_point("staged")
    for folder in (*(p for p in stage.rglob("*") if p.is_dir()), stage):
        disk.sync_folder(folder)


def _stage_products(stage: Path, edition: Edition) -> tuple[dict[str, Origin], dict[str, Path]]:
    """Write terms and products of the SOC; return their origins by name, and folders of page data
    by step.
    """
    keywords = edition.keywords()
    files: dict[str, Origin] = {}
    page_data: dict[str, Path] = {}
    for report in edition.what.reports:
        for product_name, product in report.leaf.products.items():
            if product.extname in TERMS:
                name = term_name(report.step, files)
                disk.make_folder((stage / name).parent)
                disk.copy_file(Path(product.path), stage / name)
            elif product.extname in soc_extnames():
                name = soc_name(product, edition)
                restamp(Path(product.path), stage / name, keywords)
            else:
                page_data[report.step] = Path(product.path).parent
                continue
            files[name] = Origin(report.step, report.key, product_name)
    return files, page_data


def term_name(step: str, taken: Iterable[str]) -> str:
    """Return the place of a term in a published folder; the second of a step is that of the full
    array.
    """
    name = f"terms/{step}.fits"
    return f"terms/full_array/{step}.fits" if name in taken else name


def soc_name(product: Product, edition: Edition) -> str:
    """Return the SOC's file name of a product: its time is T_STRT_U, cut to whole seconds."""
    with scan(Path(product.path)) as file:
        header = file.hdus[1].header
        time = str(header.get("T_STRT_U", header.get("V_STRT_U")))[:19].replace(":", "-")
        data = f"-{header['DATANAME']}" if "DATANAME" in header else ""
        return f"CH_{edition.visit}_TU{time}_{file.extname}{data}_{edition.version.label}.fits"
