"""Which files a visit is reduced from: found, opened, checked and digested before the first step.

A file's type is the EXTNAME of its HDU 1. Of one kind the file with the highest (ARCH_REV,
PROC_NUM) whose validity covers the visit's V_STRT_U is taken; two valid ones of equal version are
an error. Dark frames are the exception: the two nearest in V_STRT_U bracket the visit, the version
decides only between equal dates.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from schemas.errors import BadInputError, MissingInputError, StorageError, UsageError, plain
from schemas.inputs import (
    BY_WAVELENGTH,
    DARK_FRAME,
    RAW_FULL_ARRAY,
    RAW_IMAGETTE,
    RAW_SUBARRAY,
    REFERENCES,
    VISIT_INPUTS,
    Input,
)
from schemas.payloads import Inventory, Product, Reference
from schemas.settings import PipelineSettings
from tasks.engine.digests import Digests
from tasks.files.reader import FitsFile, note_unused, open_declared
from tasks.visit.choice import choose_dark_frames, choose_kind, needed_references, newest
from tasks.visit.raw import open_exposures
from tasks.visit.search import Found, Search, search

T = TypeVar("T")

FIELD_OF_KIND = {
    "raw full array": "full_array",
    "raw imagettes": "imagettes",
    "attitude": "attitude",
    "planned visit": "planned",
    "visit constraints": "constraints",
    "orbit": "orbit",
    "star catalogue": "stars",
}


@dataclass
class Seen:
    """How far an inventory has come, for the report on one that fails."""

    visit: str = ""  # empty where it is not known yet
    read: list[tuple[str, str, str]] = field(default_factory=list)  # kind, path, digest
    notes: list[str] = field(default_factory=list)


def retried(
    take: Callable[[], T], delay: float, warn: Callable[[str], None], retries: int = 2
) -> T:
    """Return what `take` gives; where the disk fails in a way that may pass, it is tried again
    after a while [s].
    """
    for attempt in range(retries):
        try:
            return take()
        except StorageError as error:
            if error.permanent:
                raise
            warn(f"inventory: {error}; tried again")
            time.sleep(delay * 2**attempt)
    return take()


def take_inventory(
    visit: Path,
    folders: Sequence[Path],
    settings: PipelineSettings,
    digests: Callable[[str], Digests],
    library: Callable[[], Path],
    strict: bool = False,
    seen: Seen | None = None,
) -> Inventory:
    """Return everything the visit is reduced from.

    Parameters
    ----------
    visit : Path
        Folder of the visit, searched downwards.
    folders : sequence of Path
        Folders with references. If none is given the default library is used; it never fills a gap
        in given ones.
    settings : PipelineSettings
        They decide which references are needed.
    digests : callable
        Gives the memory of digests of a visit, by the visit's identifier.
    library : callable
        Makes the default library where it is not there yet, and returns its folder.
    strict : bool
        Refuse deviations from the definitions too.
    seen : Seen or None
        Is told how far the inventory has come, from its beginning.

    Raises
    ------
    MissingInputError
        If something mandatory is not there; names kind and time.
    BadInputError
        If a file is damaged, or two files claim the same place.
    """
    for folder in (visit, *folders):
        if not folder.is_dir():
            raise UsageError(f"{folder}: is not a folder")
    kinds = needed_references(settings)
    seen = Seen() if seen is None else seen
    seen.visit, seen.read, seen.notes = "", [], []
    found = search([visit], [*VISIT_INPUTS, *kinds])
    seen.notes += found.notes
    subarray = _only_visit(found, visit)
    seen.visit = visit_id(subarray)
    memory = digests(seen.visit)
    when = subarray.valid_from
    reader = _Reader(memory, strict, seen)
    given = search(folders or [library()], kinds)
    seen.notes += given.notes
    inputs = {RAW_SUBARRAY.kind: reader.read(subarray, RAW_SUBARRAY)}
    fallbacks = {}
    for declared in VISIT_INPUTS[1:]:
        same = [c for c in found.of(declared) if c.visit is None or c.visit == subarray.visit]
        chosen = newest(same, declared)
        if chosen is not None:
            inputs[declared.kind] = reader.read(chosen, declared)
        elif declared.mandatory:
            raise MissingInputError(
                f"{visit}: no {declared.kind} ({declared.first[0]}) of the visit {seen.visit}"
            )
        else:
            fallbacks[declared.kind] = str(declared.fallback)
    references: dict[str, Reference] = {}
    darks: list[Reference] = []
    for declared in kinds:
        candidates = [*found.of(declared), *given.of(declared)]
        if declared is DARK_FRAME:
            picked = choose_dark_frames(candidates, when)
            darks = [reader.reference(c, declared) for c in picked]
        else:
            picked = [c for c in [choose_kind(candidates, declared, when)] if c is not None]
            for c in picked:
                references[declared.kind] = reader.reference(c, declared)
        if not picked and (declared.mandatory or declared in BY_WAVELENGTH):
            places = ", ".join(str(f) for f in folders) or "the default library"
            what = f"reference {declared.kind} ({declared.first[0]})"
            if not candidates:
                raise MissingInputError(f"{what}: there is none for {when} in {places}")
            spans = ", ".join(
                f"{c.path.name} from {c.valid_from} to {c.valid_to}" for c in candidates[:3]
            )
            raise MissingInputError(
                f"{what}: none of {len(candidates)} is valid at {when} in {places}: {spans}"
            )
        if not picked:
            fallbacks[declared.kind] = str(declared.fallback)
    optional = {FIELD_OF_KIND[k]: p for k, p in inputs.items() if k in FIELD_OF_KIND}
    with open_declared(Path(inputs[RAW_SUBARRAY.kind].path), RAW_SUBARRAY) as file:
        hdu = file["SCI_RAW_SubArray"]
        target, obsid, images = hdu.text("TARGNAME"), hdu.integer("OBSID"), hdu.rows
    memory.save()
    return Inventory(
        visit=seen.visit,
        obsid=obsid,
        target=plain(target),
        arch_rev=subarray.version[0],
        proc_num=subarray.version[1],
        start=when,
        images=images,
        subarray=inputs[RAW_SUBARRAY.kind],
        references=references,
        dark_frames=tuple(darks),
        deviations=tuple(reader.deviations),
        notes=tuple(seen.notes),
        fallbacks=fallbacks,
        **optional,
    )


def renewed(
    found: Inventory, folders: Sequence[Path], settings: PipelineSettings, memory: Digests
) -> tuple[Inventory, list[str]]:
    """Return an inventory with those references in some folders that are to be taken in place of
    what it has.

    What it has is known by name, which tells its version, and was valid for the visit. Only files
    that are taken are digested.

    Returns
    -------
    inventory, changes : Inventory, list of str
        `changes` has a line for each reference that another one, or other content, replaces.
    """
    given = search(folders, REFERENCES)
    reader = _Reader(memory, strict=False)
    references, darks, fallbacks, changes = dict(found.references), [], dict(found.fallbacks), []
    for declared in needed_references(settings):
        new = given.of(declared)
        had = (
            list(found.dark_frames)
            if declared is DARK_FRAME
            else [r for r in [references.get(declared.kind)] if r is not None]
        )
        names = {c.path.name for c in new}
        candidates = [
            *new,
            *(_remembered(r) for r in had if Path(r.product.path).name not in names),
        ]
        if declared is DARK_FRAME:
            picked = choose_dark_frames(candidates, found.start)
        else:
            picked = [c for c in [choose_kind(candidates, declared, found.start)] if c is not None]
        before = {Path(r.product.path).name: r for r in had}
        after = [reader.reference(c, declared) if c in new else before[c.path.name] for c in picked]
        for r in after:
            name = Path(r.product.path).name
            if name not in before:
                changes.append(f"{declared.kind}: {name} in place of {', '.join(before) or 'none'}")
            elif before[name].product.sha256 != r.product.sha256:
                changes.append(f"{declared.kind}: {name} has other content")
        if declared is DARK_FRAME:
            darks = after
        elif after:
            references[declared.kind] = after[0]
            fallbacks.pop(declared.kind, None)
    inventory = found.model_copy(
        update={"references": references, "dark_frames": tuple(darks), "fallbacks": fallbacks}
    )
    left = {Path(r.product.path).name for r in (*references.values(), *darks)}
    gone = {
        Path(r.product.path).name for r in (*found.references.values(), *found.dark_frames)
    } - left
    deviations = [d for d in found.deviations if d.split(": ", 1)[0] not in gone]
    deviations += [d for d in reader.deviations if d not in deviations]
    return inventory.model_copy(update={"deviations": tuple(deviations)}), changes


def _remembered(reference: Reference) -> Found:
    path = Path(reference.product.path)
    version = re.search(r"_V(\d\d)(\d\d)\.fits$", path.name)
    numbers = (int(version[1]), int(version[2])) if version else (0, 0)
    return Found(path, reference.product.extname, numbers, reference.valid_from, "9999")


def visit_id(subarray: Found) -> str:
    """Return the visit's identifier, such as PR900001_TG000001."""
    if subarray.visit is None or not all(
        type(v) is int and 0 <= v <= top
        for v, top in zip(subarray.visit, (99, 9999, 9999, 99), strict=True)
    ):
        raise BadInputError(
            f"{subarray.path}: HDU 1 {subarray.extname}: PROGTYPE, PROG_ID, REQ_ID, VISITCTR "
            f"do not name a visit"
        )
    kind, programme, request, counter = subarray.visit
    return f"PR{kind:02d}{programme:04d}_TG{request:04d}{counter:02d}"


def _only_visit(found: Search, visit: Path) -> Found:
    candidates = found.of(RAW_SUBARRAY)
    if not candidates:
        raise MissingInputError(f"{visit}: no raw sub-array (SCI_RAW_SubArray) below this folder")
    if len({c.visit for c in candidates}) > 1:
        names = ", ".join(sorted(visit_id(c) for c in candidates))
        raise UsageError(f"{visit}: holds more than one visit ({names}); name one of their folders")
    chosen = newest(candidates, RAW_SUBARRAY)
    assert chosen is not None
    return chosen


@dataclass
class _Reader:
    """Opens every chosen file once through the gate, and digests it."""

    memory: Digests
    strict: bool
    seen: Seen = field(default_factory=Seen)
    deviations: list[str] = field(default_factory=list)

    def read(self, found: Found, declared: Input) -> Product:
        before = self.memory.fingerprint(found.path)
        with open_declared(found.path, declared, sums=True) as file:
            note_unused(file)
            self._note(file)
            extname = file.extname
        product = Product(
            path=str(found.path.absolute()), sha256=self.memory.of(found.path), extname=extname
        )
        if declared in (RAW_SUBARRAY, RAW_FULL_ARRAY, RAW_IMAGETTE):
            # counts and shapes that do not fit are found now, not after the first hours
            open_exposures(product).file.close()
        if self.memory.fingerprint(found.path) != before:
            raise BadInputError(f"{found.path}: changed while it was read")
        self.seen.read.append((declared.kind, product.path, product.sha256))
        return product

    def reference(self, found: Found, declared: Input) -> Reference:
        return Reference(
            kind=declared.kind, product=self.read(found, declared), valid_from=found.valid_from
        )

    def _note(self, file: FitsFile) -> None:
        if file.deviations and self.strict:
            raise BadInputError(f"{file.path}: deviates from its definition: {file.deviations[0]}")
        self.deviations += [f"{plain(file.path.name)}: {d}" for d in file.deviations]
