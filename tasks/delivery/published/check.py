"""Whether a file is what the definition of its product says: structure, sums, keywords, columns,
units and name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from schemas.errors import BadInputError, DrpError
from schemas.inputs import REFERENCES, VISIT_INPUTS, Input, Use
from schemas.names import PAGE, read_soc_name
from schemas.products import Structure, soc_extnames
from schemas.terms import COMPANIONS, TERMS
from tasks.delivery.light_curves import OWN_COLUMNS
from tasks.delivery.published.check_pages import report_faults, viewer_faults
from tasks.delivery.published.folder import MANIFEST, read_manifest
from tasks.delivery.published.visit import CURVE
from tasks.delivery.self_check import whole
from tasks.files import disk
from tasks.files.reader import FitsFile, Hdu, open_declared, scan, verify_sums
from tasks.files.writer import structure_of

PAGES = {
    ".pdf": ("RPT_COR_DataReduction", report_faults),
    ".html": ("viewer, no SOC product", viewer_faults),
}

_CONSTANT = ("TELESCOP", "INSTRUME", "TIMESYS")

_MADE_HERE = (
    "L1",
    "L2",
    "QL",
    "TERM",
)  # levels of products that must hold everything that is declared


@dataclass
class Verdict:
    """What was found in one file: faults, which nobody may have, and deviations, which are
    accepted.
    """

    file: Path
    extname: str = ""
    faults: list[str] = field(default_factory=list)
    deviations: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        """`conforms`, `deviates` or `fails`."""
        return "fails" if self.faults else "deviates" if self.deviations else "conforms"


def check(path: Path) -> Verdict:
    """Return what is wrong with a file; everything that can be told, not only the first.

    Raises
    ------
    DrpError
        If the file cannot be read at all, as it is not there.
    """
    if path.suffix in PAGES:
        return _check_page(path)
    verdict = Verdict(path)
    try:
        with scan(path) as file:
            verdict.extname = file.extname
            try:
                verify_sums(file)
            except BadInputError as error:
                verdict.faults.append(_short(error, path))
            verdict.deviations += file.deviations
            _check_name(file, verdict)
            _check_definition(file, verdict)
    except BadInputError as error:
        verdict.faults.append(_short(error, path))
    _check_published(path, verdict)
    verdict.faults = list(dict.fromkeys(verdict.faults))
    verdict.deviations = [d for d in dict.fromkeys(verdict.deviations) if d not in verdict.faults]
    return verdict


def _check_page(path: Path) -> Verdict:
    """Hold report and viewer against what they are; the viewer is no product of the SOC, which
    knows no HTML.
    """
    what, faults = PAGES[path.suffix]
    verdict = Verdict(path, what, faults(path))
    if PAGE.fullmatch(path.name) is None:
        verdict.deviations.append(
            f"name: is not CH_PRnnnnnn_TGnnnnnn_TU(time)_RPT_COR_DataReduction_Vnnnn{path.suffix}"
        )
    _check_published(path, verdict)
    return verdict


def _short(error: DrpError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")


def _check_definition(file: FitsFile, verdict: Verdict) -> None:
    kinds: dict[str, Input] = {
        extname: each for each in (*VISIT_INPUTS, *REFERENCES) for extname in each.first
    }
    try:
        first = structure_of(file.extname)
    except KeyError:
        verdict.deviations.append(
            f"HDU 1 {file.extname or '(no EXTNAME)'}: is no product that is defined here"
        )
        return
    if file.extname in kinds:
        try:
            open_declared(file.path, kinds[file.extname]).close()
        except BadInputError as error:
            verdict.faults.append(_short(error, file.path))
    names = [hdu.extname for hdu in file.hdus[1:]]
    verdict.faults += [
        f"HDU {n}: stands there {names.count(n)} times"
        for n in dict.fromkeys(names)
        if names.count(n) > 1
    ]
    strict = first.level in _MADE_HERE
    needed = [e for e, mandatory in first.associated.items() if mandatory] + list(
        COMPANIONS.get(file.extname, ())
    )
    (verdict.faults if strict else verdict.deviations).extend(
        f"HDU {e}: is missing" for e in needed if e not in names
    )
    for hdu in file.hdus[1:]:
        if names.count(hdu.extname) == 1:
            _check_hdu(file, hdu, verdict)
    _check_counts(file, verdict)


def _check_hdu(file: FitsFile, hdu: Hdu, verdict: Verdict) -> None:
    if hdu.extname not in TERMS and hdu.extname not in soc_extnames():
        verdict.deviations.append(
            f"HDU {hdu.index} {hdu.extname or '(no EXTNAME)'}: is not defined here"
        )
        return
    structure = structure_of(hdu.extname)
    everything = whole(structure)
    lenient = Use(
        structure, shape_matters=everything.shape_matters, may_be_empty=everything.may_be_empty
    )
    try:
        with open_declared(
            file.path, Input(hdu.extname, (file.extname,), {hdu.extname: lenient}, "")
        ) as opened:
            here = opened[hdu.extname]
            for text in opened.deviations:
                fault = structure.level in _MADE_HERE and not _accepted(text)
                (verdict.faults if fault else verdict.deviations).append(text)
            for name in structure.keywords:
                if name in here.header:
                    _check_keyword(here, name, structure, verdict)
            if structure.is_table:
                defined = {
                    c.name
                    for c in (*structure.columns, *(OWN_COLUMNS if hdu.extname == CURVE else ()))
                }
                more = [c for c in here.present() if c not in defined]
                verdict.deviations += [
                    f"HDU {hdu.index} {hdu.extname}: column {c} is not defined" for c in more
                ]
            if structure.is_table and here.rows == 0 and not everything.may_be_empty:
                verdict.faults.append(f"HDU {hdu.index} {hdu.extname}: has no rows")
    except BadInputError as error:
        verdict.faults.append(_short(error, file.path))


def _check_keyword(hdu: Hdu, name: str, structure: Structure, verdict: Verdict) -> None:
    try:
        value = hdu.keyword(name)
    except BadInputError as error:
        verdict.faults.append(_short(error, hdu.file.path))
        return
    wanted = structure.keywords[name].default
    if name in _CONSTANT and wanted is not None and value != wanted:
        verdict.faults.append(
            f"HDU {hdu.index} {hdu.extname}: keyword {name} is {value!r}, wanted {wanted!r}"
        )


def _accepted(text: str) -> bool:
    """Whether a deviation is none that only this program's own products are blamed for."""
    return (
        ": EXT_VER " in text
        or ": no CHECKSUM" in text
        or ": no DATASUM" in text
        or "cannot be read" in text
    )


def _check_counts(file: FitsFile, verdict: Verdict) -> None:
    image = file.hdus[1]
    if image.header.get("XTENSION", "").strip() != "IMAGE" or len(image.shape) != 3:
        return
    for hdu in file.hdus[2:]:
        if hdu.extname.endswith(("_ImageMetadata", "_ImagetteMetadata")) and hdu.rows != image.rows:
            verdict.faults.append(
                f"HDU {hdu.index} {hdu.extname}: has {hdu.rows} rows for {image.rows} images"
            )


def _check_name(file: FitsFile, verdict: Verdict) -> None:
    """Hold the file's name against its headers. A term has the name of its step."""
    if file.extname in TERMS:
        return
    name = read_soc_name(file.path.name)
    if name is None:
        verdict.deviations.append(
            f"name: is not CH[_PRnnnnnn_TGnnnnnn]_TU(time)_{file.extname}_Vnnnn.fits"
        )
        return
    header = file.hdus[1].header
    facts = {
        "extname": file.extname,
        "data": header.get("DATANAME"),
        "version": _number(header, ("ARCH_REV", "PROC_NUM"), (2, 2)),
    }
    if name.program:
        facts["program"] = _number(header, ("PROGTYPE", "PROG_ID"), (2, 4))
        facts["target"] = _number(header, ("REQ_ID", "VISITCTR"), (4, 2))
    for part, fact in facts.items():
        said = getattr(name, part)
        if fact is not None and said != fact:
            verdict.deviations.append(
                f"name: says {said or 'nothing'} for the {part}, the header {fact}"
            )
    times = [str(header[k])[:19].replace(":", "-") for k in ("T_STRT_U", "V_STRT_U") if k in header]
    if times and name.time not in times:
        verdict.deviations.append(f"name: says {name.time}, the header {' or '.join(times)}")


def _number(header: object, names: tuple[str, str], digits: tuple[int, int]) -> str | None:
    values = [header.get(n) for n in names]  # type: ignore[attr-defined]
    if not all(type(v) is int for v in values):
        return None
    return "".join(f"{v:0{d}d}" for v, d in zip(values, digits, strict=True))


def _check_published(path: Path, verdict: Verdict) -> None:
    """Hold a file of a published folder against the digest that the manifest names."""
    for folder in list(path.absolute().parents)[:3]:
        if (folder / MANIFEST).is_file():
            name = path.absolute().relative_to(folder).as_posix()
            try:
                listed = {str(f["name"]): str(f["sha256"]) for f in read_manifest(folder)["files"]}
            except (DrpError, KeyError, TypeError):
                verdict.deviations.append(f"the {MANIFEST} of its folder cannot be read")
                return
            if name not in listed:
                verdict.deviations.append(f"is not named by the {MANIFEST} of its folder")
            elif listed[name] != disk.sha256(path):
                verdict.faults.append(
                    f"is not as it was published: its SHA-256 is not that of the {MANIFEST}"
                )
            return


def products_below(path: Path) -> list[Path]:
    """Return `path`, or the FITS files and pages below it if it is a folder."""
    return (
        sorted(p for p in path.rglob("*") if p.suffix in (".fits", *PAGES))
        if path.is_dir()
        else [path]
    )
