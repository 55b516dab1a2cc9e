"""Publication: a visit's products appear under the output folder atomically.

The products are staged in a hidden folder on the same file system, stamped with their version and
date, read back and checked against their definitions, synced to disk, and renamed into place. Only
the renaming is done under the lock of the output folder. A published folder is never overwritten: a
different result of the same visit gets the next free processing number. The manifest in the folder
is the authoritative record of the run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas import VERSION
from schemas.errors import BadInputError, CannotCreateError, DrpError, SelfCheckError
from schemas.names import Version, published_name, version_label
from schemas.payloads import Inventory, Product
from schemas.products import soc_extnames
from schemas.terms import TERMS
from tasks.delivery.folder import (
    MANIFEST,
    Digest,
    holds,
    published_folders,
    read_manifest,
    version_of,
)
from tasks.delivery.manifest import Content, Origin, make_manifest, software
from tasks.delivery.report.sources import sources
from tasks.delivery.self_check import self_check
from tasks.engine.folders import folder_lock, remove_abandoned, staging
from tasks.engine.store import Warn
from tasks.files import disk
from tasks.files.reader import Value, scan
from tasks.files.writer import restamp

__all__ = ["Content", "prepare_output", "publish"]

# By the step that collects the data of a page: file extension, and the function that writes the
# page, given the data folder, the facts of the publication and the target.
Pages = Mapping[str, tuple[str, Callable[[Path, Mapping[str, Any], Path], None]]]

Prescribed = tuple[int | None, int | None]  # ARCH_REV and PROC_NUM; None leaves the choice open

REPORT_DATA = "report.json"


# permissions of folders and files, by the setting publication.access
MODES = {"owner": (0o700, 0o600), "group": (0o750, 0o640), "all": (0o755, 0o644)}


def prepare_output(output: Path, access: str = "umask") -> None:
    """Create the output folder, and fail early if nothing could be published there.

    A new folder can be read by the same people as what is published in it.

    Raises
    ------
    CannotCreateError
        If `output` is not a folder, or is not writable.
    """
    if disk.prepare_folder(output, "choose another folder for the products"):
        set_access([output], access)


def set_access(paths: Iterable[Path], access: str) -> None:
    """Set the permissions of files and folders as the setting says; `umask` leaves them."""
    if access in MODES:
        for path in paths:
            disk.set_mode(path, MODES[access][not disk.is_folder(path)])


def publish(
    output: Path,
    result: Content,
    date: str,
    pages: Pages,
    digest: Digest = disk.sha256,
    warn: Warn = lambda _: None,
    prescribed: Prescribed = (None, None),
) -> tuple[Path, bool]:
    """Publish a result, unless it has been published already.

    Parameters
    ----------
    output : Path
        Folder of the published folders.
    result : Content
        The result.
    date : str
        Time of publication, UTC, yyyy-mm-ddThh:mm:ss.
    pages : mapping
        Extension and writer of each page, by the step that collects its data.
    digest : callable
        Returns the SHA-256 of a file.
    warn : callable
        Receives a line for each published folder that was modified.
    prescribed : (int or None, int or None)
        ARCH_REV and PROC_NUM if they are prescribed.

    Returns
    -------
    folder : Path
        The published folder.
    new : bool
        Whether this call created it.

    Raises
    ------
    CannotCreateError
        If `output` cannot be used, or no version is free.
    SelfCheckError
        If a product does not read back as defined.
    """
    prepare_output(output, result.publication.access)
    visit, verdict = result.inventory.visit, reached_verdict(result)
    remove_abandoned(output, f"CH_{visit}")
    while True:
        for folder in _candidates(output, visit, prescribed):
            if _holds_result(folder, result.identity(), verdict, digest, warn):
                return folder, False
        edition = Edition(result, next_version(output, result.inventory, prescribed), date)
        disk.crash_point("before stage")
        with staging(output, f"CH_{visit}") as stage:
            _stage(stage, edition, pages)
            disk.crash_point("before rename")
            if _put_in_place(stage, output / edition.folder):
                disk.crash_point("after rename")
                disk.sync_folder(output)
                return output / edition.folder, True


def _put_in_place(stage: Path, folder: Path) -> bool:
    """Give a stage its final name; return whether it was still free.

    The same visit may have been published meanwhile by a run with another work folder. Nothing but
    the name is decided under the lock, so that many machines can publish into one folder. Where
    locks have no effect, the name is still given only once: a folder with content is not replaced.
    """
    with folder_lock(folder.parent):
        if disk.is_taken(folder, output=True):
            return False
        try:
            disk.rename(stage, folder)
        except CannotCreateError:
            if disk.is_taken(folder, output=True) and disk.is_folder(stage):
                return False
            raise
    return True


def _candidates(output: Path, visit: str, prescribed: Prescribed) -> list[Path]:
    """Return the published folders of a visit with the prescribed version, newest first."""
    return [
        folder
        for folder in reversed(published_folders(output, visit))
        if all(p in (None, v) for p, v in zip(prescribed, version_of(folder), strict=True))
    ]


def reached_verdict(result: Content) -> dict[str, Any] | None:
    """Return the verdict in the report of a run; None for a run without a report."""
    for report in result.reports:
        if REPORT_DATA in report.leaf.products:
            data = disk.read_bytes(Path(report.leaf.products[REPORT_DATA].path))
            return dict(json.loads(data)["verdict"])
    return None


def _holds_result(folder: Path, identity: str, verdict: object, digest: Digest, warn: Warn) -> bool:
    """Return whether a published folder holds exactly this result, with all files intact."""
    try:
        manifest = read_manifest(folder)
        if manifest.identity != identity:
            return False
        stated = manifest.verdict
        if (stated.model_dump(mode="json") if stated is not None else None) != verdict:
            warn(
                f"{folder.name}: its verdict is not that of the report; publishing the result again"
            )
            return False
        changed = [f.name for f in manifest.files if not holds(folder / f.name, f.sha256, digest)]
    except DrpError as error:
        warn(f"{error}; publishing the result again")
        return False
    if changed:
        warn(f"{folder.name}: {changed[0]} is missing or modified; publishing the result again")
    return not changed


def next_version(
    output: Path, inventory: Inventory, prescribed: Prescribed = (None, None)
) -> Version:
    """Return the version of the next publication.

    Unless prescribed, ARCH_REV is that of the input, and PROC_NUM the first free number from that
    of the input on.

    Raises
    ------
    CannotCreateError
        If the prescribed version is taken, or no number is left.
    """
    existing = {version_of(folder) for folder in published_folders(output, inventory.visit)}
    revision = inventory.arch_rev if prescribed[0] is None else prescribed[0]
    if prescribed[1] is not None:
        version = (revision, prescribed[1])
        if version in existing:
            name = published_name(inventory.visit, version)
            raise CannotCreateError(f"{output / name}: already exists, with a different result")
        return version
    for number in range(inventory.proc_num, 100):
        if (revision, number) not in existing:
            return revision, number
    raise CannotCreateError(
        f"{output}: no free processing number for {inventory.visit} (the last is 99)"
    )


@dataclass(frozen=True)
class Edition:
    """A result with its version and date of publication."""

    result: Content
    version: Version
    date: str

    @property
    def visit(self) -> str:
        """Name of the visit."""
        return self.result.inventory.visit

    @property
    def label(self) -> str:
        """The version in file names, such as V0102."""
        return version_label(self.version)

    @property
    def folder(self) -> str:
        """Name of the published folder."""
        return published_name(self.visit, self.version)

    def keywords(self) -> dict[str, Value]:
        """Return the keywords that are set at publication."""
        return {
            "DATE": self.date,
            "STAMP": f"drp {VERSION}",
            "PIPE_VER": VERSION,
            "ARCH_REV": self.version[0],
            "PROC_NUM": self.version[1],
            "ORIGIN": self.result.publication.origin,
            "BASELINE": self.result.baseline(),
            **{f"RF_FIL{i}": n for i, n in enumerate(self.result.reference_names()[:20], 1)},
        }

    def facts(self) -> dict[str, Any]:
        """Return the facts of the publication that the pages show."""
        return {
            "version": self.label,
            "date": self.date,
            "software": VERSION,
            "folder": self.folder,
            "sources": sources(self.result.inventory, self.result.settings, software()),
        }

    def page_name(self, ending: str) -> str:
        """Return the file name of a page, by its extension."""
        start = self.result.inventory.start[:19].replace(":", "-")
        return f"CH_{self.visit}_TU{start}_RPT_COR_DataReduction_{self.label}.{ending}"


def _stage(stage: Path, edition: Edition, pages: Pages) -> None:
    """Write all files of a publication to the folder `stage`, and sync them to disk."""
    files, page_data = _stage_products(stage, edition)
    self_check(stage, files)
    facts = edition.facts()
    for step, folder in page_data.items():
        ending, make = pages[step]
        name = edition.page_name(ending)
        make(folder, facts, stage / name)
        files[name] = Origin(step, "", ending)
    disk.crash_point("before manifest")
    manifest = make_manifest(stage, edition.result, files, edition.label, edition.date)
    if (verdict := reached_verdict(edition.result)) is not None:
        manifest["verdict"] = verdict
    disk.write_file(stage / MANIFEST, json.dumps(manifest, indent=1).encode())
    _check_manifest(stage)
    disk.crash_point("staged")
    folders = [place for place, _, _ in disk.walk(stage)]
    set_access((*folders, *disk.files_below(stage)), edition.result.publication.access)
    for folder in folders[::-1]:
        disk.sync_folder(folder)


def _check_manifest(stage: Path) -> None:
    """Read the manifest back: no later run could use a folder whose manifest is rejected."""
    try:
        read_manifest(stage)
    except BadInputError as error:
        raise SelfCheckError(f"the manifest cannot be read back as written: {error}") from error


def _stage_products(stage: Path, edition: Edition) -> tuple[dict[str, Origin], dict[str, Path]]:
    """Write terms and SOC products to `stage`.

    Returns the origin of each file by name, and the folders of page data by step.
    """
    keywords = edition.keywords()
    files: dict[str, Origin] = {}
    page_data: dict[str, Path] = {}
    for report in edition.result.reports:
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


def term_name(step: str, names: Iterable[str]) -> str:
    """Return the path of a term in a published folder.

    If the step has a term there already, this one is for the full array.
    """
    name = f"terms/{step}.fits"
    return f"terms/full_array/{step}.fits" if name in names else name


def soc_name(product: Product, edition: Edition) -> str:
    """Return the SOC's file name of a product; its time is T_STRT_U in whole seconds."""
    with scan(Path(product.path)) as file:
        header = file.hdus[1].header
        time = str(header.get("T_STRT_U", header.get("V_STRT_U")))[:19].replace(":", "-")
        data = f"-{header['DATANAME']}" if "DATANAME" in header else ""
        return f"CH_{edition.visit}_TU{time}_{file.extname}{data}_{edition.label}.fits"
