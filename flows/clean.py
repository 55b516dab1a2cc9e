"""Remove intermediate products and reports on failures: those untouched for long, or over a quota.

This includes reports on folders without a visit, crash files, and unfinished files that killed
processes left among the reports.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import BusyError, UsageError, plain
from schemas.names import VISIT
from tasks.engine.store import Workspace, run_mark
from tasks.files import disk

_NUMBER = r"([0-9]{1,15}(?:\.[0-9]{1,15})?)"
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_AGES = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "": 86400.0}


REPORT = (".txt", ".pdf", ".json")
CRASH_FILE = re.compile(r"drp-crash-[A-Za-z0-9.-]{1,100}\.txt")
# hidden files among the reports older than this are no longer being written [s]
LEFT = 3600.0


@dataclass
class Kept:
    """The files of a visit in the work folder, a report without a visit, or a crash file.

    `action` is keep, remove or in use (a run holds the visit).
    """

    visit: str
    bytes: int
    when: float  # of the newest file [s since 1970]
    action: str = "keep"


def parse_size(text: str) -> int:
    """Return a size such as ``50G`` in bytes."""
    match = re.fullmatch(rf"{_NUMBER}\s*([kMGT]?)B?", text)
    if match is None:
        raise UsageError(f"{plain(text)!r}: expected a size such as 50G")
    return int(float(match[1]) * _UNITS[match[2]])


def parse_age(text: str) -> float:
    """Return an age such as ``30d`` in seconds; a number alone is days."""
    match = re.fullmatch(rf"{_NUMBER}\s*(s|min|h|d|)", text)
    if match is None:
        raise UsageError(f"{plain(text)!r}: expected an age such as 30d, 12h, 90min or 10s")
    return float(match[1]) * _AGES[match[2]]


def visits_kept(work: Path) -> list[Kept]:
    """Return the visits in a work folder, other reports, and crash files, the oldest first."""
    entries = [Kept(name, *_size(work, name)) for name in _names(work)]
    return sorted((k for k in entries if k.bytes), key=lambda k: (k.when, k.visit))


def _names(work: Path) -> set[str]:
    folders = (work / part for part in ("records", "products"))
    visits = {
        p.name
        for folder in folders
        if disk.is_folder(folder)
        for p in disk.entries(folder)
        if VISIT.fullmatch(p.name)
    }
    reports = work / "reports"
    files = disk.entries(reports) if disk.is_folder(reports) and not disk.is_link(reports) else ()
    crashes = {p.name for p in disk.entries(work) if CRASH_FILE.fullmatch(p.name)}
    return (
        {name for name in crashes if _is_plain_file(work / name)}
        | visits
        | {
            p.name if _is_left(p.name) else p.stem
            for p in files
            if _is_left(p.name) or p.suffix in REPORT
        }
    )


def _is_plain_file(path: Path) -> bool:
    return disk.is_file(path) and not disk.is_link(path)


def _is_left(name: str) -> bool:
    """Return whether a name among the reports belongs to an unfinished file."""
    return name.startswith(".")


def _places(work: Path, visit: str) -> list[Path]:
    """Return the folders and files of a visit, of a report without a visit, or a crash file."""
    if CRASH_FILE.fullmatch(visit):
        return [work / visit] if _is_plain_file(work / visit) else []
    reports = [
        work / "reports" / name
        for name in ([visit] if _is_left(visit) else [f"{visit}{end}" for end in REPORT])
    ]
    folders = (
        [work / part / visit for part in ("records", "products")] if VISIT.fullmatch(visit) else []
    )
    return [p for p in folders if disk.is_folder(p) and not disk.is_link(p)] + [
        p for p in reports if disk.is_taken(p)
    ]


def _size(work: Path, visit: str) -> tuple[int, float]:
    """Return the disk space of a visit [bytes], and its last modification [s since 1970]."""
    size, when = 0, 0.0
    for place in _places(work, visit):
        is_folder = disk.is_folder(place) and not disk.is_link(place)
        # what cannot be read, or was just removed by a run, has no size
        folders = disk.walk(place, lambda _: None) if is_folder else ()
        within = [folder / name for folder, _, names in folders for name in names]
        for path in within if is_folder and not _is_left(visit) else [place, *within]:
            s = disk.status(path, follow=False)
            if s is not None:
                size, when = size + s.st_blocks * 512, max(when, s.st_mtime)
    return max(size, 1) if _is_left(visit) else size, when


def clean(
    work: Path,
    older: float | None,
    quota: int | None,
    dry: bool = False,
) -> list[Kept]:
    """Remove intermediate products by age, then the oldest ones until a quota is met.

    Visits in use are left alone, as is everything that is neither part of a visit, nor a report or
    crash file, such as published folders. Unfinished reports are removed after an hour.

    Parameters
    ----------
    work : Path
        The work folder.
    older : float or None
        Remove visits untouched for longer than this [s].
    quota : int or None
        Keep at most this much [bytes].
    dry : bool
        Remove nothing.

    Returns
    -------
    list of Kept
        All visits, with the action taken; the oldest first.

    Raises
    ------
    UsageError
        If `work` is not a folder, or neither age nor quota is set.
    """
    disk.require_folder(work, "the folder of intermediate products")
    if older is None and quota is None:
        raise UsageError("give an age, a quota, or both")
    visits = visits_kept(work)
    total = sum(k.bytes for k in visits)
    for kept in visits:
        age = time.time() - kept.when
        too_much = quota is not None and total > quota
        if age > LEFT if _is_left(kept.visit) else too_much or (older is not None and age > older):
            kept.action = "remove" if dry else _remove(work, kept)
            total -= kept.bytes if kept.action == "remove" else 0
    return visits


def _remove(work: Path, kept: Kept) -> str:
    if not VISIT.fullmatch(kept.visit):
        return _delete(work, kept)
    try:
        with Workspace(work, kept.visit).lock(wait=False, notify=lambda _: None):
            action = _delete(work, kept)
            if action == "remove":
                disk.remove(work / "records" / f"{kept.visit}.digests.json")
                disk.discard(run_mark(work, kept.visit))
            return action
    except BusyError:
        return "in use"


def _delete(work: Path, kept: Kept) -> str:
    places = _places(work, kept.visit)
    # a run may have ended since the sizes were taken, and left new files
    if _size(work, kept.visit)[1] > kept.when:
        return "keep"
    for place in places:
        # keep the empty folders: a run that is waiting for the lock relies on them
        whole = _is_left(kept.visit) or not disk.is_folder(place)
        for path in [place] if whole else disk.entries(place):
            disk.remove(path)
    return "remove"
