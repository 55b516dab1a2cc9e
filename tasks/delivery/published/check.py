"""The check of a file against the definition of its product.

Checked are structure, checksums, keywords, columns, units and name; of a file in a published folder
also its digest in the manifest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from schemas.errors import BadInputError, DrpError, MissingInputError
from schemas.inputs import REFERENCES, VISIT_INPUTS, Input
from schemas.names import PAGE, SocName, read_soc_name
from schemas.products import Structure, soc_extnames
from schemas.terms import COMPANIONS, TERMS
from schemas.words import counted
from tasks.delivery.folder import MANIFEST, is_published, read_manifest
from tasks.delivery.light_curves import OWN_COLUMNS
from tasks.delivery.published.check_pages import report_faults, viewer_faults
from tasks.delivery.published.visit import CURVE
from tasks.delivery.self_check import whole
from tasks.files import disk
from tasks.files.reader import FitsFile, Hdu, open_declared, scan, verify_sums
from tasks.files.writer import structure_of

PAGES = {
    ".pdf": ("RPT_COR_DataReduction", report_faults),
    ".html": ("viewer, not a SOC product", viewer_faults),
}

_CONSTANT = ("TELESCOP", "INSTRUME", "TIMESYS")

# levels of our own products, which must hold every declared element
_MADE_HERE = ("L1", "L2", "QL", "TERM")


class Remark(NamedTuple):
    """A difference between a file and its definition: a fault, or a tolerated deviation."""

    text: str
    is_fault: bool


def fault(text: str) -> Remark:
    """Return a fault."""
    return Remark(text, True)


def deviation(text: str) -> Remark:
    """Return a deviation."""
    return Remark(text, False)


@dataclass(frozen=True)
class CheckedFile:
    """The result for one file; `state` is conforms, deviates, fails or missing."""

    file: str
    state: str
    type: str
    faults: list[str]
    deviations: list[str]


def check_below(path: Path) -> list[CheckedFile]:
    """Check a file, or all FITS files, reports and viewers below a folder.

    If there are none, the result has the state missing.
    """
    files = products_below(path)
    if not files or not disk.exists(path):
        reason = "holds no FITS, PDF or HTML file" if disk.is_folder(path) else "no such file"
        return [CheckedFile(str(path), "missing", "", [f"{path}: {reason}"], [])]
    return [check(file) for file in files]


def products_below(path: Path) -> list[Path]:
    """Return `path`, or the FITS files and pages below it if it is a folder."""
    return (
        [p for p in disk.files_below(path) if p.suffix in (".fits", *PAGES)]
        if disk.is_folder(path)
        else [path]
    )


def failure(files: Sequence[CheckedFile], strict: bool) -> DrpError | None:
    """Return the error for files that do not conform or are missing, None if there are none.

    With `strict`, deviations count as faults.
    """
    failed = [
        f"{f.file}: {(f.faults or f.deviations)[0]}"
        for f in files
        if f.state == "fails" or (strict and f.state == "deviates")
    ]
    if failed:
        return BadInputError(
            f"{len(failed)} of {counted(len(files), 'file')} failed; the first: {failed[0]}"
        )
    missing = [f.faults[0] for f in files if f.state == "missing"]
    return MissingInputError(missing[0]) if missing else None


def check(path: Path) -> CheckedFile:
    """Return all faults and deviations of a file.

    Raises
    ------
    DrpError
        If the file cannot be read, for example because it is missing.
    """
    extname, remarks = _check_page(path) if path.suffix in PAGES else _check_fits(path)
    remarks += _published_remarks(path)
    faults = list(dict.fromkeys(r.text for r in remarks if r.is_fault))
    deviations = list(dict.fromkeys(r.text for r in remarks if not r.is_fault))
    return CheckedFile(
        str(path),
        "fails" if faults else "deviates" if deviations else "conforms",
        extname,
        faults,
        [text for text in deviations if text not in faults],
    )


def _check_page(path: Path) -> tuple[str, list[Remark]]:
    """Return the kind of a page, and its faults and deviations."""
    kind, faults = PAGES[path.suffix]
    remarks = [fault(text) for text in faults(path)]
    if PAGE.fullmatch(path.name) is None:
        expected = f"CH_PRnnnnnn_TGnnnnnn_TU(time)_RPT_COR_DataReduction_Vnnnn{path.suffix}"
        remarks.append(deviation(f"name: expected {expected}"))
    return kind, remarks


def _check_fits(path: Path) -> tuple[str, list[Remark]]:
    extname, remarks = "", []
    try:
        with scan(path) as file:
            extname = file.extname
            for part in (_sum_remarks, _scan_remarks, _name_remarks, _definition_remarks):
                # one by one, to keep the remarks that precede an error
                for remark in part(file):
                    remarks.append(remark)  # noqa: PERF402
    except BadInputError as error:
        remarks.append(fault(_short(error, path)))
    return extname, remarks


def _short(error: DrpError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")


def _sum_remarks(file: FitsFile) -> Iterator[Remark]:
    try:
        verify_sums(file)
    except BadInputError as error:
        yield fault(_short(error, file.path))


def _scan_remarks(file: FitsFile) -> Iterator[Remark]:
    yield from map(deviation, file.deviations)


def _name_remarks(file: FitsFile) -> Iterator[Remark]:
    """Compare the file's name with its header; a term is named after its step instead."""
    if file.extname in TERMS:
        return
    name = read_soc_name(file.path.name)
    if name is None:
        yield deviation(f"name: expected CH[_PRnnnnnn_TGnnnnnn]_TU(time)_{file.extname}_Vnnnn.fits")
        return
    header = file.hdus[1].header
    for part, value in _parts_of_name(file, name, header).items():
        if value is not None and getattr(name, part) != value:
            yield deviation(
                f"name: {part} is {getattr(name, part) or 'missing'}, in the header {value}"
            )
    times = [str(header[k])[:19].replace(":", "-") for k in ("T_STRT_U", "V_STRT_U") if k in header]
    if times and name.time not in times:
        yield deviation(f"name: time is {name.time}, in the header {' or '.join(times)}")


def _parts_of_name(
    file: FitsFile, name: SocName, header: Mapping[str, Any]
) -> dict[str, str | None]:
    """Return the parts of the file's name according to the header, None if it lacks them."""
    parts = {
        "extname": file.extname,
        "data": header.get("DATANAME"),
        "version": _digits(header, ("ARCH_REV", "PROC_NUM"), (2, 2)),
    }
    if name.program:
        parts["program"] = _digits(header, ("PROGTYPE", "PROG_ID"), (2, 4))
        parts["target"] = _digits(header, ("REQ_ID", "VISITCTR"), (4, 2))
    return parts


def _digits(
    header: Mapping[str, Any], names: tuple[str, str], digits: tuple[int, int]
) -> str | None:
    values = [header.get(n) for n in names]
    if not all(type(v) is int for v in values):
        return None
    return "".join(f"{v:0{d}d}" for v, d in zip(values, digits, strict=True))


def _definition_remarks(file: FitsFile) -> Iterator[Remark]:
    try:
        first = structure_of(file.extname)
    except KeyError:
        name = file.extname or "(no EXTNAME)"
        yield deviation(f"HDU 1 {name}: is not a defined product")
        return
    inputs = {extname: each for each in (*VISIT_INPUTS, *REFERENCES) for extname in each.first}
    if file.extname in inputs:
        try:
            open_declared(file.path, inputs[file.extname]).close()
        except BadInputError as error:
            yield fault(_short(error, file.path))
    names = [hdu.extname for hdu in file.hdus[1:]]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            yield fault(f"HDU {name}: occurs {names.count(name)} times")
    needed = [e for e, mandatory in first.associated.items() if mandatory]
    for name in (*needed, *COMPANIONS.get(file.extname, ())):
        if name not in names:
            yield Remark(f"HDU {name}: is missing", first.level in _MADE_HERE)
    for hdu in file.hdus[1:]:
        if names.count(hdu.extname) == 1:
            yield from _hdu_remarks(file, hdu)
    yield from _count_remarks(file)


def _hdu_remarks(file: FitsFile, hdu: Hdu) -> Iterator[Remark]:
    label = f"HDU {hdu.index} {hdu.extname or '(no EXTNAME)'}"
    if hdu.extname not in TERMS and hdu.extname not in soc_extnames():
        yield deviation(f"{label}: is not defined")
        return
    structure = structure_of(hdu.extname)
    everything = whole(structure)
    lenient = replace(everything, keywords={}, columns=())
    declared = Input(hdu.extname, (file.extname,), {hdu.extname: lenient}, "")
    try:
        with open_declared(file.path, declared) as opened:
            here = opened[hdu.extname]
            for text in opened.deviations:
                yield Remark(text, structure.level in _MADE_HERE and not _accepted(text))
            for name in structure.keywords:
                if name in here.header:
                    yield from _keyword_remarks(here, name, structure)
            if structure.is_table:
                yield from _extra_columns(here, structure)
                if here.rows == 0 and not everything.may_be_empty:
                    yield fault(f"{label}: has no rows")
    except BadInputError as error:
        yield fault(_short(error, file.path))


def _extra_columns(hdu: Hdu, structure: Structure) -> Iterator[Remark]:
    own = OWN_COLUMNS if hdu.extname == CURVE else ()
    defined = {c.name for c in (*structure.columns, *own)}
    for name in hdu.present():
        if name not in defined:
            yield deviation(f"HDU {hdu.index} {hdu.extname}: column {name} is not defined")


def _keyword_remarks(hdu: Hdu, name: str, structure: Structure) -> Iterator[Remark]:
    try:
        value = hdu.keyword(name)
    except BadInputError as error:
        yield fault(_short(error, hdu.file.path))
        return
    expected = structure.keywords[name].default
    if name in _CONSTANT and expected is not None and value != expected:
        yield fault(
            f"HDU {hdu.index} {hdu.extname}: keyword {name} is {value!r}, expected {expected!r}"
        )


def _accepted(text: str) -> bool:
    """Return whether a deviation is tolerated even in our own products."""
    return (
        ": EXT_VER " in text
        or ": no CHECKSUM" in text
        or ": no DATASUM" in text
        or "cannot be read" in text
    )


def _count_remarks(file: FitsFile) -> Iterator[Remark]:
    image = file.hdus[1]
    if image.header.get("XTENSION", "").strip() != "IMAGE" or len(image.shape) != 3:
        return
    for hdu in file.hdus[2:]:
        if hdu.extname.endswith(("_ImageMetadata", "_ImagetteMetadata")) and hdu.rows != image.rows:
            yield fault(
                f"HDU {hdu.index} {hdu.extname}: has {hdu.rows} rows for {image.rows} images"
            )


def _published_remarks(path: Path) -> Iterator[Remark]:
    """Compare a file of a published folder with its digest in the manifest."""
    absolute = disk.absolute(path)
    folder = next((p for p in list(absolute.parents)[:3] if is_published(p)), None)
    if folder is None:
        return
    try:
        listed = {file.name: file.sha256 for file in read_manifest(folder).files}
    except DrpError as error:
        yield fault(
            f"the {MANIFEST} of its folder cannot be used: {_short(error, folder / MANIFEST)}"
        )
        return
    name = absolute.relative_to(folder).as_posix()
    if name not in listed:
        yield deviation(f"is not listed in the {MANIFEST} of its folder")
    elif listed[name] != disk.sha256(path):
        yield fault(f"was modified after publication: its SHA-256 differs from the {MANIFEST}")
