"""Which files a visit is reduced from: found, opened, checked and digested before the first step.

A file's type is the EXTNAME of its HDU 1. Of one kind the file with the highest (ARCH_REV, PROC_NUM) whose validity covers the
visit's V_STRT_U is taken; two valid ones of equal version are an error. Dark frames are the exception: the two nearest in
V_STRT_U bracket the visit, the version decides only between equal dates.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from schemas.errors import BadInputError, MissingInputError, StorageError, UsageError, plain
from schemas.inputs import (
    BY_WAVELENGTH,
    DARK_FRAME,
    FLAT_FIELD,
    LINEARISATION,
    RAW_FULL_ARRAY,
    RAW_IMAGETTE,
    RAW_SUBARRAY,
    REFERENCES,
    VISIT_INPUTS,
    Input,
)
from schemas.payloads import Inventory, Product, Reference
from schemas.settings import PipelineSettings
from tasks import disk
from tasks.exposures import open_exposures
from tasks.fits import FitsFile, note_unused, open_declared, scan
from tasks.store import Digests
from tasks.times import utc_to_mjd

T = TypeVar("T")
SOC_NAME = re.compile(
    r"^CH(_PR\d{6}_TG\d{6})?(_PS\d{8})?_TU\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}_([A-Z]{3}_[A-Z]{3,4}_[A-Za-z0-9]+)"
    r"(-[A-Za-z0-9_.+]+?)?_V\d{4}\.fits$"
)
FIELD_OF_KIND = {
    "raw full array": "full_array",
    "raw imagettes": "imagettes",
    "attitude": "attitude",
    "planned visit": "planned",
    "visit constraints": "constraints",
    "orbit": "orbit",
    "star catalogue": "stars",
}
KINDS = {extname: declared for declared in (*VISIT_INPUTS, *REFERENCES) for extname in declared.first}


@dataclass
class Found:
    """A candidate file: its place, type, version and validity (UTC as text, which sorts as time)."""

    path: Path
    extname: str
    version: tuple[int, int]
    valid_from: str
    valid_to: str
    visit: tuple[int, ...] | None = None


@dataclass
class Search:
    """What the folders hold, by kind."""

    by_kind: dict[str, list[Found]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def of(self, declared: Input) -> list[Found]:
        """Return the candidates of one kind."""
        return self.by_kind.get(declared.kind, [])


@dataclass
class Seen:
    """How far an inventory has come, for the report on one that fails."""

    visit: str = ""  # empty where it is not known yet
    read: list[tuple[str, str, str]] = field(default_factory=list)  # kind, path, digest
    notes: list[str] = field(default_factory=list)


def search(folders: Iterable[Path], known: Sequence[Input]) -> Search:
    """Look through folders, downwards, for SOC product names; `truth` folders and hidden files are never opened.

    A folder that cannot be read is refused, one further down is noted.
    """
    result = Search()
    extnames = {extname for declared in known for extname in declared.first}
    seen: set[Path] = set()
    for folder in folders:
        for path in sorted(fits_files(folder, _unread(folder, result.notes))):
            if (real := Path(os.path.realpath(path))) in seen:  # unlike that of Path, it takes a link to itself for a file
                continue
            seen.add(real)
            match = SOC_NAME.match(path.name)
            if match is None:
                result.notes.append(f"{plain(path.name)}: not named as a SOC product, ignored")
            elif not _may_be(match[3], extnames):
                result.notes.append(f"{plain(path.name)}: no step reads {match[3]}, ignored")
            else:
                _add(result, path, match[3], extnames)
    return result


def _unread(folder: Path, notes: list[str]) -> Callable[[OSError], None]:
    def unread(error: OSError) -> None:
        place = Path(error.filename)
        if place == folder:
            raise disk.explain(error, "read", place) from error
        notes.append(f"{plain(place)}: cannot be opened, {os.strerror(error.errno or 0)}; what is in it is ignored")

    return unread


def fits_files(folder: Path, unread: Callable[[OSError], None] | None = None) -> Iterable[Path]:
    """Yield the FITS files below a folder; `truth` folders and hidden files are left out.

    `unread` is told of folders that cannot be read.
    """
    for place, folders, names in os.walk(folder, onerror=unread):
        folders[:] = sorted(f for f in folders if f != "truth" and not f.startswith("."))
        for name in names:
            if name.endswith(".fits") and not name.startswith("."):
                yield Path(place, name)


def _may_be(name: str, extnames: set[str]) -> bool:
    return name in extnames or (name.startswith(("REF_APP_", "EXT_APP_")) and any(name.startswith(e[:16]) for e in extnames))


def _add(result: Search, path: Path, named: str, extnames: set[str]) -> None:
    with scan(path) as file:
        extname, header = file.extname, file.hdus[1].header
        if extname not in extnames and named in extnames:
            raise BadInputError(f"{path}: HDU 1 is {plain(extname) or '(no EXTNAME)'}, the file's name says {named}")
        if extname not in extnames:
            result.notes.append(f"{plain(path.name)}: holds {plain(extname)}, which no step reads, ignored")
            return
        if extname != named:
            result.notes.append(f"{plain(path.name)}: holds {extname}")
        values: list[Any] = []
        for key, kind in (("ARCH_REV", int), ("PROC_NUM", int), ("V_STRT_U", str), ("V_STOP_U", str)):
            value = header.get(key)
            if type(value) is not kind:
                raise file.hdus[1].refuse(
                    f"keyword {key} is {'missing' if value is None else repr(value)}, wanted {kind.__name__}"
                )
            if kind is str and not _is_time(str(value)):
                raise file.hdus[1].refuse(f"keyword {key} is {plain(value)!r}, wanted a time yyyy-mm-ddThh:mm:ss")
            values.append(value)
        visit: tuple[Any, ...] = tuple(header.get(k) for k in ("PROGTYPE", "PROG_ID", "REQ_ID", "VISITCTR"))
    found = Found(path, extname, (values[0], values[1]), values[2], values[3], visit if None not in visit else None)
    result.by_kind.setdefault(KINDS[extname].kind, []).append(found)


def _is_time(text: str) -> bool:
    try:
        return bool(np.isfinite(utc_to_mjd(text)).all())
    except ValueError:
        return False


def choose(candidates: Sequence[Found], when: str, kind: str) -> Found | None:
    """Return the candidate with the highest version whose validity covers `when` (both ends included), or None.

    Raises
    ------
    BadInputError
        If two of them have the same version.
    """
    valid = [c for c in candidates if c.valid_from <= when <= c.valid_to]
    if not valid:
        return None
    best = max(c.version for c in valid)
    chosen = [c for c in valid if c.version == best]
    if len(chosen) > 1:
        names = " and ".join(sorted(c.path.name for c in chosen[:2]))
        raise BadInputError(f"two references of the kind {kind} have the version {best[0]:02d}{best[1]:02d}: {names}")
    return chosen[0]


def choose_dark_frames(candidates: Sequence[Found], when: str) -> list[Found]:
    """Return the dark frames that bracket `when` in V_STRT_U: the last before it and the first after it, where they exist."""
    by_date: dict[str, list[Found]] = {}
    for c in candidates:
        by_date.setdefault(c.valid_from, []).append(c)
    newest = []
    for date, same in sorted(by_date.items()):
        best = max(c.version for c in same)
        chosen = [c for c in same if c.version == best]
        if len(chosen) > 1:
            names = " and ".join(sorted(c.path.name for c in chosen[:2]))
            raise BadInputError(f"two dark frames of {date} have the version {best[0]:02d}{best[1]:02d}: {names}")
        newest.append(chosen[0])
    before = [c for c in newest if c.valid_from <= when][-1:]
    after = [c for c in newest if c.valid_from > when][:1]
    return before + after


def retried(take: Callable[[], T], delay: float, warn: Callable[[str], None], retries: int = 2) -> T:
    """Return what `take` gives; where the disk fails in a way that may pass, it is tried again after a while [s]."""
    for attempt in range(retries):
        try:
            return take()
        except StorageError as error:
            if error.permanent:
                raise
            warn(f"inventory: {error}; tried again")
            time.sleep(delay * 2**attempt)
    return take()


def needed_references(settings: PipelineSettings) -> list[Input]:
    """Return the kinds of reference that these settings read."""
    built = settings.flat.source == "wavelengths"
    skipped = {
        DARK_FRAME.kind: settings.dark.skip,
        FLAT_FIELD.kind: settings.flat.skip or built,
        LINEARISATION.kind: settings.linearity.skip,
        **{declared.kind: settings.flat.skip or not built for declared in BY_WAVELENGTH},
    }
    return [declared for declared in REFERENCES if not skipped.get(declared.kind, False)]


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
        Folders with references. If none is given the default library is used; it never fills a gap in given ones.
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
        chosen = _newest(same, declared)
        if chosen is not None:
            inputs[declared.kind] = reader.read(chosen, declared)
        elif declared.mandatory:
            raise MissingInputError(f"{visit}: no {declared.kind} ({declared.first[0]}) of the visit {seen.visit}")
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
            picked = [c for c in [_choose_kind(candidates, declared, when)] if c is not None]
            for c in picked:
                references[declared.kind] = reader.reference(c, declared)
        if not picked and (declared.mandatory or declared in BY_WAVELENGTH):
            places = ", ".join(str(f) for f in folders) or "the default library"
            what = f"reference {declared.kind} ({declared.first[0]})"
            if not candidates:
                raise MissingInputError(f"{what}: there is none for {when} in {places}")
            spans = ", ".join(f"{c.path.name} from {c.valid_from} to {c.valid_to}" for c in candidates[:3])
            raise MissingInputError(f"{what}: none of {len(candidates)} is valid at {when} in {places}: {spans}")
        if not picked:
            fallbacks[declared.kind] = str(declared.fallback)
    optional = {FIELD_OF_KIND[k]: p for k, p in inputs.items() if k in FIELD_OF_KIND}
    with open_declared(Path(inputs[RAW_SUBARRAY.kind].path), RAW_SUBARRAY) as file:
        hdu = file["SCI_RAW_SubArray"]
        target, obsid, images = hdu.text("TARGNAME"), hdu.integer("OBSID"), hdu.rows
    memory.save()
    return Inventory(
        visit=seen.visit, obsid=obsid, target=plain(target), arch_rev=subarray.version[0], proc_num=subarray.version[1],
        start=when, images=images, subarray=inputs[RAW_SUBARRAY.kind], references=references, dark_frames=tuple(darks),
        deviations=tuple(reader.deviations), notes=tuple(seen.notes), fallbacks=fallbacks, **optional,
    )  # fmt: skip


def renewed(
    found: Inventory, folders: Sequence[Path], settings: PipelineSettings, memory: Digests
) -> tuple[Inventory, list[str]]:
    """Return an inventory with those references in some folders that are to be taken in place of what it has.

    What it has is known by name, which tells its version, and was valid for the visit. Only files that are taken are digested.

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
            list(found.dark_frames) if declared is DARK_FRAME else [r for r in [references.get(declared.kind)] if r is not None]
        )
        names = {c.path.name for c in new}
        candidates = [*new, *(_remembered(r) for r in had if Path(r.product.path).name not in names)]
        if declared is DARK_FRAME:
            picked = choose_dark_frames(candidates, found.start)
        else:
            picked = [c for c in [_choose_kind(candidates, declared, found.start)] if c is not None]
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
    inventory = found.model_copy(update={"references": references, "dark_frames": tuple(darks), "fallbacks": fallbacks})
    left = {Path(r.product.path).name for r in (*references.values(), *darks)}
    gone = {Path(r.product.path).name for r in (*found.references.values(), *found.dark_frames)} - left
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
        type(v) is int and 0 <= v <= top for v, top in zip(subarray.visit, (99, 9999, 9999, 99), strict=True)
    ):
        raise BadInputError(
            f"{subarray.path}: HDU 1 {subarray.extname}: PROGTYPE, PROG_ID, REQ_ID, VISITCTR do not name a visit"
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
    chosen = _newest(candidates, RAW_SUBARRAY)
    assert chosen is not None
    return chosen


def _newest(candidates: Sequence[Found], declared: Input) -> Found | None:
    if not candidates:
        return None
    best = max(c.version for c in candidates)
    chosen = [c for c in candidates if c.version == best]
    if len(chosen) > 1:
        names = " and ".join(sorted(c.path.name for c in chosen[:2]))
        raise BadInputError(f"two files of the kind {declared.kind} have the version {best[0]:02d}{best[1]:02d}: {names}")
    return chosen[0]


def _choose_kind(candidates: Sequence[Found], declared: Input, when: str) -> Found | None:
    for extname in declared.first:
        chosen = choose([c for c in candidates if c.extname == extname], when, declared.kind)
        if chosen is not None:
            return chosen
    return None


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
        product = Product(path=str(found.path.absolute()), sha256=self.memory.of(found.path), extname=extname)
        if declared in (RAW_SUBARRAY, RAW_FULL_ARRAY, RAW_IMAGETTE):
            # counts and shapes that do not fit are found now, not after the first hours
            open_exposures(product).file.close()
        if self.memory.fingerprint(found.path) != before:
            raise BadInputError(f"{found.path}: changed while it was read")
        self.seen.read.append((declared.kind, product.path, product.sha256))
        return product

    def reference(self, found: Found, declared: Input) -> Reference:
        return Reference(kind=declared.kind, product=self.read(found, declared), valid_from=found.valid_from)

    def _note(self, file: FitsFile) -> None:
        if file.deviations and self.strict:
            raise BadInputError(f"{file.path}: deviates from its definition: {file.deviations[0]}")
        self.deviations += [f"{plain(file.path.name)}: {d}" for d in file.deviations]
