"""Which FITS files a folder holds, by their SOC names and first headers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from schemas.errors import BadInputError, plain
from schemas.inputs import (
    REFERENCES,
    VISIT_INPUTS,
    Input,
)
from tasks.files import disk
from tasks.files.reader import scan
from tasks.numerics.times import utc_to_mjd

SOC_NAME = re.compile(
    r"^CH(_PR\d{6}_TG\d{6})?(_PS\d{8})?_TU\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}_([A-Z]{3}_[A-Z]{3,4}_[A-Za-z0-9]+)"
    r"(-[A-Za-z0-9_.+]+?)?_V\d{4}\.fits$"
)

KINDS = {
    extname: declared for declared in (*VISIT_INPUTS, *REFERENCES) for extname in declared.first
}


@dataclass
class Found:
    """A candidate file: its place, type, version and validity (UTC as text, which sorts as
    time).
    """

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


def search(folders: Iterable[Path], known: Sequence[Input]) -> Search:
    """Look through folders, downwards, for SOC product names; `truth` folders and hidden files are
    never opened.

    A folder that cannot be read is refused, one further down is noted.
    """
    result = Search()
    extnames = {extname for declared in known for extname in declared.first}
    seen: set[Path] = set()
    for folder in folders:
        for path in sorted(fits_files(folder, _unread(folder, result.notes))):
            if (
                real := Path(os.path.realpath(path))
            ) in seen:  # unlike that of Path, it takes a link to itself for a file
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
        notes.append(
            f"{plain(place)}: cannot be opened, {os.strerror(error.errno or 0)}; what is in it "
            f"is ignored"
        )

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
    return name in extnames or (
        name.startswith(("REF_APP_", "EXT_APP_")) and any(name.startswith(e[:16]) for e in extnames)
    )


def _add(result: Search, path: Path, named: str, extnames: set[str]) -> None:
    with scan(path) as file:
        extname, header = file.extname, file.hdus[1].header
        if extname not in extnames and named in extnames:
            raise BadInputError(
                f"{path}: HDU 1 is {plain(extname) or '(no EXTNAME)'}, the file's name says {named}"
            )
        if extname not in extnames:
            result.notes.append(
                f"{plain(path.name)}: holds {plain(extname)}, which no step reads, ignored"
            )
            return
        if extname != named:
            result.notes.append(f"{plain(path.name)}: holds {extname}")
        values: list[Any] = []
        for key, kind in (
            ("ARCH_REV", int),
            ("PROC_NUM", int),
            ("V_STRT_U", str),
            ("V_STOP_U", str),
        ):
            value = header.get(key)
            if type(value) is not kind:
                raise file.hdus[1].refuse(
                    f"keyword {key} is {'missing' if value is None else repr(value)}, wanted "
                    f"{kind.__name__}"
                )
            if kind is str and not _is_time(str(value)):
                raise file.hdus[1].refuse(
                    f"keyword {key} is {plain(value)!r}, wanted a time yyyy-mm-ddThh:mm:ss"
                )
            values.append(value)
        visit: tuple[Any, ...] = tuple(
            header.get(k) for k in ("PROGTYPE", "PROG_ID", "REQ_ID", "VISITCTR")
        )
    found = Found(
        path,
        extname,
        (values[0], values[1]),
        values[2],
        values[3],
        visit if None not in visit else None,
    )
    result.by_kind.setdefault(KINDS[extname].kind, []).append(found)


def _is_time(text: str) -> bool:
    try:
        return bool(np.isfinite(utc_to_mjd(text)).all())
    except ValueError:
        return False
