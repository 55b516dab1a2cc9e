"""Search for SOC products in folders, by their names and first headers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from schemas.constants import SIMULATED
from schemas.errors import BadInputError, DrpError, plain
from schemas.inputs import REFERENCES, VISIT_INPUTS, Input
from schemas.names import Version, read_soc_name, read_version, version_label
from tasks.files import disk
from tasks.files.reader import Hdu, scan
from tasks.numerics.times import utc_to_mjd

FITS = ".fits"
PACKED = tuple(f".fits.{ending}" for ending in ("gz", "fz", "bz2", "xz", "zst", "Z", "zip"))

KINDS = {
    extname: declared for declared in (*VISIT_INPUTS, *REFERENCES) for extname in declared.first
}


@dataclass
class Found:
    """A candidate file: its place, type, version and validity, as its header gives them.

    `simulated` marks files made by `drp simulate`, and those of
    the default library.
    """

    path: Path
    extname: str
    version: Version
    valid_from: str
    valid_to: str
    visit: tuple[int, ...] | None = None
    simulated: bool = False

    def is_valid(self, when: str) -> bool:
        """Whether a time lies within the validity; both ends belong to it."""
        return sortable(self.valid_from) <= sortable(when) <= sortable(self.valid_to)

    @property
    def version_note(self) -> str:
        """A remark on a file whose name gives another version than its header, or empty."""
        named = read_version(self.path.name)
        if named in (None, self.version):
            return ""
        return (
            f"its name says {version_label(named)}, its header {version_label(self.version)}, "
            f"which counts"
        )


@dataclass
class Search:
    """The candidates in some folders, by kind, and notes on the files that are none.

    `seen` identifies the files that were met, by device and inode; `packed` are compressed files,
    which are not read.
    """

    by_kind: dict[str, list[Found]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seen: set[tuple[int, int]] = field(default_factory=set)
    packed: list[Path] = field(default_factory=list)

    def of(self, declared: Input) -> list[Found]:
        """Return the candidates of one kind."""
        return self.by_kind.get(declared.kind, [])


def search(
    folders: Iterable[Path], known: Sequence[Input], earlier: Search | None = None
) -> Search:
    """Search folders recursively for SOC products of the kinds in `known`.

    Folders named `truth` and hidden files are never opened. A file that is reached twice, by nested
    folders, a symbolic or a hard link, counts once; files of an `earlier` search do not count.

    Raises
    ------
    MissingInputError
        If a folder cannot be read; one further down is noted.
    BadInputError
        If the header of a file contradicts its name or has no version or validity.
    """
    result = Search(seen=set() if earlier is None else set(earlier.seen))
    extnames = {extname for declared in known for extname in declared.first}
    for folder in folders:
        unread, linked = _unread(folder, result.notes), _linked(result.notes)
        for path in sorted(fits_files(folder, unread, linked, (FITS, *PACKED))):
            if (identity := _identity(path)) in result.seen:
                continue
            if identity is not None:
                result.seen.add(identity)
            name = read_soc_name(path.name)
            if not path.name.endswith(FITS):
                result.packed.append(path)
                result.notes.append(f"{plain(path.name)}: is compressed, ignored; unpack it")
            elif name is None:
                result.notes.append(f"{plain(path.name)}: not named as a SOC product, ignored")
            elif not _may_be(name.extname, extnames):
                result.notes.append(f"{plain(path.name)}: no step reads {name.extname}, ignored")
            else:
                check_utf8(path)
                _add(result, path, name.extname, extnames)
    return result


def unpack_advice(packed: Iterable[Path], declared: Input) -> str:
    """Return what to do if a kind is missing and there is a compressed file of it, else nothing.

    A file whose name does not say its kind may be of it.
    """
    names = [(p.name, read_soc_name(p.with_suffix("").name)) for p in packed]
    fitting = [n for n, name in names if name is not None and name.extname in declared.first]
    fitting += [n for n, name in names if name is None]
    return f"; {plain(fitting[0])} is compressed: unpack it" if fitting else ""


def check_utf8(path: Path) -> None:
    """Check that a path can be written to JSON and headers.

    Raises
    ------
    BadInputError
        If it is not UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise BadInputError(f"{path}: is not UTF-8; rename the folder or file") from error


def sortable(utc: str) -> str:
    """Return a UTC with six decimals, so that text sorts like time."""
    whole, _, fraction = utc.partition(".")
    return f"{whole}.{fraction:0<6}"


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a file; None if it cannot be reached, which opening it reports."""
    try:
        found = disk.status(path)
    except DrpError:
        return None
    return (found.st_dev, found.st_ino) if found is not None else None


def _unread(folder: Path, notes: list[str]) -> Callable[[OSError], None]:
    def unread(error: OSError) -> None:
        place = Path(error.filename)
        if place == folder:
            raise disk.explain(error, "read", place) from error
        notes.append(
            f"{plain(place)}: cannot be opened, {os.strerror(error.errno or 0)}; its content is "
            f"ignored"
        )

    return unread


def _linked(notes: list[str]) -> Callable[[Path], None]:
    def linked(place: Path) -> None:
        notes.append(f"{plain(place)}: is a link to a folder; its content is ignored")

    return linked


def fits_files(
    folder: Path,
    unread: Callable[[OSError], None] | None = None,
    linked: Callable[[Path], None] = lambda _: None,
    endings: tuple[str, ...] = (FITS,),
) -> Iterable[Path]:
    """Yield the FITS files below a folder, except hidden files and those in `truth` folders.

    `unread` is called with the error of each folder that cannot be read, `linked` with each link to
    a folder, which is not followed.
    """
    for place, folders, names in disk.walk(folder, unread or (lambda _: None)):
        folders[:] = sorted(f for f in folders if f != "truth" and not f.startswith("."))
        for link in filter(os.path.islink, (os.path.join(place, f) for f in folders)):
            linked(Path(link))
        for name in names:
            if name.endswith(endings) and not name.startswith("."):
                yield place / name


def _may_be(named: str, extnames: set[str]) -> bool:
    """Whether a file with this EXTNAME in its name may be of one of the kinds."""
    return named in extnames or (
        named.startswith(("REF_APP_", "EXT_APP_"))
        and any(named.startswith(e[:16]) for e in extnames)
    )


def _add(result: Search, path: Path, named: str, extnames: set[str]) -> None:
    """Add a file whose name says `named` to the candidates, or note why it is not one."""
    with scan(path) as file:
        hdu, extname = file.hdus[1], file.extname
        if extname not in extnames and named in extnames:
            raise BadInputError(
                f"{path}: HDU 1 is {plain(extname) or '(no EXTNAME)'}, its name says {named}"
            )
        if extname not in extnames:
            result.notes.append(
                f"{plain(path.name)}: contains {plain(extname)}, which no step reads, ignored"
            )
            return
        if extname != named:
            result.notes.append(f"{plain(path.name)}: contains {extname}")
        version = _read_integer(hdu, "ARCH_REV"), _read_integer(hdu, "PROC_NUM")
        validity = _read_time(hdu, "V_STRT_U"), _read_time(hdu, "V_STOP_U")
        visit: tuple[Any, ...] = tuple(
            hdu.header.get(k) for k in ("PROGTYPE", "PROG_ID", "REQ_ID", "VISITCTR")
        )
        simulated = hdu.header.get("STAMP") == SIMULATED
    found = Found(path, extname, version, *validity, None if None in visit else visit, simulated)
    result.by_kind.setdefault(KINDS[extname].kind, []).append(found)


def _read_integer(hdu: Hdu, name: str) -> int:
    value = hdu.header.get(name)
    if type(value) is not int:
        raise _wrong_keyword(hdu, name, "an integer")
    return value


def _read_time(hdu: Hdu, name: str) -> str:
    value = hdu.header.get(name)
    if type(value) is not str:
        raise _wrong_keyword(hdu, name, "a string")
    if not is_time(value):
        raise hdu.refuse(f"keyword {name} is {plain(value)!r}, expected a time yyyy-mm-ddThh:mm:ss")
    return value


def _wrong_keyword(hdu: Hdu, name: str, expected: str) -> BadInputError:
    value = hdu.header.get(name)
    found = "missing" if value is None else repr(value)
    return hdu.refuse(f"keyword {name} is {found}, expected {expected}")


def is_time(text: str) -> bool:
    """Return whether a text is a time in the calendar, as in headers."""
    try:
        return bool(np.isfinite(utc_to_mjd(text)).all())
    except ValueError:
        return False
