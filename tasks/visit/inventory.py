"""Which files a visit is reduced from: found, opened, checked and digested before the first step.

The type of a file is the EXTNAME of its HDU 1. Of each kind the file with the highest (ARCH_REV,
PROC_NUM) in its header whose validity covers the visit's V_STRT_U is used, whatever its name says;
two valid files of the same version are an error. Dark frames are the exception: the two nearest in
V_STRT_U bracket the visit, and the version decides only between equal dates.

The default library is for visits of `drp simulate`; on others its use is marked. It never competes
with references of the visit's own folder, and never fills a gap in folders that the user names.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
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
from schemas.names import read_version, visit_name
from schemas.payloads import Inventory, Product, Reference, Unused
from schemas.settings import PipelineSettings
from tasks.engine.digests import Digests
from tasks.files import disk
from tasks.files.reader import FitsFile, note_unused, open_declared
from tasks.visit.choice import (
    choose_newest,
    choose_references,
    needed_references,
    unused_reason,
)
from tasks.visit.clocks import Clock, check_clocks, compare_clocks
from tasks.visit.contradictions import check_keywords, check_spacing, check_target
from tasks.visit.raw import open_exposures
from tasks.visit.search import Found, Search, search, unpack_advice

T = TypeVar("T")

# what a user may name
A_VISIT = "the folder of a visit"
OF_REFERENCES = "a folder with reference files"

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
    """How far an inventory has come, for the report on a failed one."""

    visit: str = ""  # empty until it is known
    read: list[tuple[str, str, str]] = field(default_factory=list)  # kind, path, digest
    notes: list[str] = field(default_factory=list)
    unused: list[Unused] = field(default_factory=list)


def retry(take: Callable[[], T], delay: float, warn: Callable[[str], None], retries: int = 2) -> T:
    """Return the result of `take`, called again after `delay` [s] if a disk error may pass.

    The delay doubles with each retry.
    """
    for attempt in range(retries):
        try:
            return take()
        except StorageError as error:
            if error.permanent:
                raise
            warn(f"inventory: {error}; retrying")
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
        Folder of the visit, searched recursively.
    folders : sequence of Path
        Folders with references. Without any the default library is used; see `_gather_references`.
    settings : PipelineSettings
        Decide which references are needed.
    digests : callable
        Returns the remembered digests of a visit, by the visit's identifier.
    library : callable
        Returns the folder of the default library, which it creates if necessary.
    strict : bool
        Reject deviations from the definitions too.
    seen : Seen or None
        Receives the progress of the inventory.

    Raises
    ------
    UsageError
        If a folder does not exist, or `visit` holds more than one visit.
    MissingInputError
        If a mandatory file is missing; names kind and time.
    BadInputError
        If a file is damaged, or two files claim the same place.
    """
    disk.require_folder(visit, A_VISIT)
    for folder in folders:
        disk.require_folder(folder, OF_REFERENCES)
    kinds = needed_references(settings)
    seen = Seen() if seen is None else seen
    seen.visit, seen.read, seen.notes, seen.unused = "", [], [], []
    files = search([visit], [*VISIT_INPUTS, *kinds])
    seen.notes += files.notes
    subarray = _only_visit(files, visit)
    seen.visit = visit_id(subarray)
    reader = _Reader(digests(seen.visit), strict, seen, simulated=subarray.simulated)
    candidates, places = _gather_references(reader, files, kinds, folders, library)
    inputs, missing_inputs = _read_inputs(reader, files, subarray, visit)
    references, missing_references = _read_references(
        reader, candidates, subarray.valid_from, places
    )
    reader.memory.save()
    return _assemble(reader, subarray, inputs, references, {**missing_inputs, **missing_references})


def _gather_references(
    reader: _Reader,
    files: Search,
    kinds: Sequence[Input],
    folders: Sequence[Path],
    library: Callable[[], Path],
) -> tuple[list[tuple[Input, list[Found]]], str]:
    """Return the candidates of each kind, those below the visit first, and their place in words.

    The default library is synthetic. It is used without `folders` unless the visit's folder holds a
    reference of every mandatory kind, and then only for kinds of which that folder holds none.
    """
    reader.packed += files.packed
    if folders:
        supplied = search(folders, kinds, files)
        reader.packed += supplied.packed
        reader.seen.notes += supplied.notes
        return [(d, [*files.of(d), *supplied.of(d)]) for d in kinds], ", ".join(map(str, folders))
    if all(files.of(d) for d in kinds if _is_required(d)):
        return [(d, files.of(d)) for d in kinds], "the visit's folder"
    default = search([library()], kinds, files)
    reader.seen.notes += default.notes
    return [(d, files.of(d) or default.of(d)) for d in kinds], "the default library"


def _is_required(declared: Input) -> bool:
    """Whether a visit cannot be reduced without this kind of reference."""
    return declared.mandatory or declared in BY_WAVELENGTH


def _read_inputs(
    reader: _Reader, files: Search, subarray: Found, folder: Path
) -> tuple[dict[str, Product], dict[str, str]]:
    """Return the visit's own files by kind, and the fall-backs of kinds without one."""
    inputs = {RAW_SUBARRAY.kind: reader.read(subarray, RAW_SUBARRAY)}
    fallbacks = {}
    for declared in VISIT_INPUTS[1:]:
        same = [c for c in files.of(declared) if c.visit is None or c.visit == subarray.visit]
        chosen = choose_newest(same, f"files of the kind {declared.kind}")
        if chosen is not None:
            inputs[declared.kind] = reader.read(chosen, declared)
        elif declared.mandatory:
            raise MissingInputError(
                f"{folder}: no {declared.kind} ({declared.first[0]}) of the visit "
                f"{visit_id(subarray)}{unpack_advice(files.packed, declared)}"
            )
        else:
            fallbacks[declared.kind] = str(declared.fallback)
    compare_clocks(reader.clocks)
    check_target(inputs)
    return inputs, fallbacks


def _read_references(
    reader: _Reader, candidates: Sequence[tuple[Input, list[Found]]], when: str, places: str
) -> tuple[dict[str, list[Reference]], dict[str, str]]:
    """Return the references valid at `when` by kind, and the fall-backs of kinds without one."""
    references, fallbacks = {}, {}
    for declared, found in candidates:
        chosen = reader.choose(declared, found, when)
        reader.note_unused(declared, found, chosen, when)
        if chosen:
            references[declared.kind] = [reader.read_reference(c, declared) for c in chosen]
        elif _is_required(declared):
            advice = unpack_advice(reader.packed, declared) if not found else ""
            raise _no_reference(declared, found, when, f"{places}{advice}")
        else:
            fallbacks[declared.kind] = str(declared.fallback)
    return references, fallbacks


def _no_reference(
    declared: Input, found: Sequence[Found], when: str, places: str
) -> MissingInputError:
    name = f"reference {declared.kind} ({declared.first[0]})"
    if not found:
        return MissingInputError(f"{name}: none found for {when} in {places}")
    spans = ", ".join(f"{plain(c.path)} from {c.valid_from} to {c.valid_to}" for c in found[:3])
    return MissingInputError(
        f"{name}: none of {len(found)} is valid at {when} in {places}: {spans}"
    )


def _assemble(
    reader: _Reader,
    subarray: Found,
    inputs: Mapping[str, Product],
    references: Mapping[str, Sequence[Reference]],
    fallbacks: Mapping[str, str],
) -> Inventory:
    with open_declared(Path(inputs[RAW_SUBARRAY.kind].path), RAW_SUBARRAY) as file:
        hdu = file["SCI_RAW_SubArray"]
        target, obsid, images = hdu.text("TARGNAME"), hdu.integer("OBSID"), hdu.rows
    optional = {FIELD_OF_KIND[k]: p for k, p in inputs.items() if k in FIELD_OF_KIND}
    return Inventory(
        visit=reader.seen.visit,
        obsid=obsid,
        target=plain(target),
        arch_rev=subarray.version[0],
        proc_num=subarray.version[1],
        start=subarray.valid_from,
        images=images,
        subarray=inputs[RAW_SUBARRAY.kind],
        references={k: r[0] for k, r in references.items() if k != DARK_FRAME.kind},
        dark_frames=tuple(references.get(DARK_FRAME.kind, ())),
        deviations=tuple(reader.deviations),
        notes=tuple(reader.seen.notes),
        fallbacks=dict(fallbacks),
        simulated=subarray.simulated,
        **optional,
    )


def renew_references(
    inventory: Inventory, folders: Sequence[Path], settings: PipelineSettings, memory: Digests
) -> tuple[Inventory, list[str], list[Unused]]:
    """Replace references of an inventory by better ones from some folders.

    The references of the inventory need not exist any more: the inventory holds their versions, and
    they were valid for the visit. Only files that are used are digested.

    Returns
    -------
    inventory, changes, unused : Inventory, list of str, list of Unused
        `changes` has a line for each reference that was replaced or has other content; `unused` are
        the files in `folders` that are not used, each with the reason.
    """
    supplied = search(folders, REFERENCES)
    # of an unknown visit (None) nothing is said
    reader = _Reader(memory, strict=False, simulated=inventory.simulated is not False)
    before = {kind: [reference] for kind, reference in inventory.references.items()}
    darks = {DARK_FRAME.kind: list(inventory.dark_frames)}
    after: dict[str, list[Reference]] = {**before, DARK_FRAME.kind: []}
    changes: list[str] = []
    for declared in needed_references(settings):
        had = (before | darks).get(declared.kind, [])
        chosen = _choose_renewed(reader, declared, had, supplied.of(declared), inventory.start)
        changes += _changes(declared.kind, had, chosen)
        if chosen:
            after[declared.kind] = chosen
    return (
        inventory.model_copy(
            update={
                "references": {k: r[0] for k, r in after.items() if k != DARK_FRAME.kind},
                "dark_frames": tuple(after[DARK_FRAME.kind]),
                "fallbacks": {
                    k: text for k, text in inventory.fallbacks.items() if not after.get(k)
                },
                "deviations": _renewed_deviations(inventory, after, reader),
            }
        ),
        changes,
        reader.seen.unused,
    )


def _choose_renewed(
    reader: _Reader,
    declared: Input,
    had: Sequence[Reference],
    new: Sequence[Found],
    when: str,
) -> list[Reference]:
    """Return the references of a kind to use, of those in hand and new files; read only the latter.

    A new file takes the place of one of the same name.
    """
    by_name = {_file_name(r): r for r in had}
    names = {c.path.name for c in new}
    candidates = [*new, *(_as_found(r) for name, r in by_name.items() if name not in names)]
    chosen = reader.choose(declared, candidates, when)
    reader.note_unused(declared, new, chosen, when)
    return [
        reader.read_reference(c, declared) if c in new else by_name[c.path.name] for c in chosen
    ]


def _changes(kind: str, had: Sequence[Reference], chosen: Sequence[Reference]) -> list[str]:
    before = {_file_name(r): r.product.sha256 for r in had}
    lines = []
    for r in chosen:
        name = _file_name(r)
        if name not in before:
            lines.append(f"{kind}: {name} instead of {', '.join(before) or 'none'}")
        elif before[name] != r.product.sha256:
            lines.append(f"{kind}: {name} has changed")
    return lines


def _renewed_deviations(
    inventory: Inventory, after: Mapping[str, Sequence[Reference]], reader: _Reader
) -> tuple[str, ...]:
    """Return the deviations of an inventory without those of files that it no longer holds."""
    kept = {_file_name(r) for references in after.values() for r in references}
    gone = {_file_name(r) for r in (*inventory.references.values(), *inventory.dark_frames)} - kept
    deviations = [d for d in inventory.deviations if d.split(": ", 1)[0] not in gone]
    return (*deviations, *(d for d in reader.deviations if d not in deviations))


def _file_name(reference: Reference) -> str:
    return Path(reference.product.path).name


def _as_found(reference: Reference) -> Found:
    """Return a reference of an inventory as a candidate that stays valid.

    Manifests of earlier versions hold no version: that of the name has to do.
    """
    path = Path(reference.product.path)
    version = reference.version or read_version(path.name) or (0, 0)
    return Found(
        path,
        reference.product.extname,
        version,
        reference.valid_from,
        "9999",
        simulated=reference.synthetic,
    )


def visit_id(subarray: Found) -> str:
    """Return the visit's identifier, such as PR900001_TG000001."""
    if subarray.visit is None or not all(
        type(v) is int and 0 <= v <= top
        for v, top in zip(subarray.visit, (99, 9999, 9999, 99), strict=True)
    ):
        raise BadInputError(
            f"{subarray.path}: HDU 1 {subarray.extname}: PROGTYPE, PROG_ID, REQ_ID, VISITCTR "
            f"do not identify a visit"
        )
    return visit_name(*subarray.visit)


def _only_visit(files: Search, folder: Path) -> Found:
    """Return the newest raw sub-array of the only visit in a folder."""
    candidates = files.of(RAW_SUBARRAY)
    if not candidates:
        advice = unpack_advice(files.packed, RAW_SUBARRAY)
        raise MissingInputError(
            f"{folder}: no raw sub-array (SCI_RAW_SubArray) below this folder{advice}"
        )
    if len({c.visit for c in candidates}) > 1:
        names = ", ".join(sorted(visit_id(c) for c in candidates))
        raise UsageError(
            f"{folder}: contains more than one visit ({names}); choose the folder of one"
        )
    chosen = choose_newest(candidates, f"files of the kind {RAW_SUBARRAY.kind}")
    assert chosen is not None
    return chosen


@dataclass
class _Reader:
    """Opens each chosen file once, checks it against its definition and digests it."""

    memory: Digests
    strict: bool
    seen: Seen = field(default_factory=Seen)
    deviations: list[str] = field(default_factory=list)
    clocks: list[Clock] = field(default_factory=list)
    simulated: bool = True  # by `drp simulate`
    packed: list[Path] = field(default_factory=list)  # compressed files

    def read(self, found: Found, declared: Input) -> Product:
        before = self.memory.fingerprint(found.path)
        with open_declared(found.path, declared, sums=True) as file:
            note_unused(file)
            self._note(file)
            self.clocks += check_clocks(file)
            if declared in (RAW_SUBARRAY, RAW_FULL_ARRAY, RAW_IMAGETTE):
                check_keywords(file)
            if declared is RAW_SUBARRAY:
                check_spacing(file)
            extname = file.extname
        product = Product(
            path=str(disk.absolute(found.path)), sha256=self.memory.of(found.path), extname=extname
        )
        if declared in (RAW_SUBARRAY, RAW_FULL_ARRAY, RAW_IMAGETTE):
            # counts and shapes that do not fit are found here, not after the first hours
            open_exposures(product).file.close()
        if self.memory.fingerprint(found.path) != before:
            raise BadInputError(f"{found.path}: changed while it was read")
        self.seen.read.append((declared.kind, product.path, product.sha256))
        return product

    def read_reference(self, found: Found, declared: Input) -> Reference:
        if found.version_note:
            self.seen.notes.append(f"{plain(found.path.name)}: {found.version_note}")
        return Reference(
            kind=declared.kind,
            product=self.read(found, declared),
            valid_from=found.valid_from,
            version=found.version,
            synthetic=found.simulated and not self.simulated,
        )

    def choose(self, declared: Input, candidates: Sequence[Found], when: str) -> list[Found]:
        """Choose references; synthetic ones only if the visit is simulated or has no others."""
        real = [c for c in candidates if self.simulated or not c.simulated]
        return choose_references(real, declared, when) or choose_references(
            candidates, declared, when
        )

    def note_unused(
        self, declared: Input, candidates: Sequence[Found], chosen: Sequence[Found], when: str
    ) -> None:
        """Note the candidates of a kind that were not chosen, with the reason."""

        def reason(c: Found) -> str:
            if c.simulated and not self.simulated and chosen and not chosen[0].simulated:
                return f"synthetic, other than {plain(chosen[0].path.name)}"
            return unused_reason(c, chosen, declared, when)

        self.seen.unused += [
            Unused(
                kind=declared.kind,
                path=str(c.path),
                version=c.version,
                reason=reason(c),
            )
            for c in candidates
            if c not in chosen
        ]

    def _note(self, file: FitsFile) -> None:
        if file.deviations and self.strict:
            raise BadInputError(f"{file.path}: deviates from its definition: {file.deviations[0]}")
        self.deviations += [f"{plain(file.path.name)}: {d}" for d in file.deviations]
