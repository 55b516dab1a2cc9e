"""Intermediate products of visits go, with reports on failures: what nobody touched for long, and
the oldest above a quota.

So do reports of folders that told no visit, and what killed processes left among the reports.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import BusyError, UsageError
from schemas.names import VISIT
from tasks.engine.store import Workspace
from tasks.files import disk

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_AGES = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "": 86400.0}


REPORT = (".txt", ".pdf")
# age of a hidden file or folder among the reports that no living process can still be writing [s]
LEFT = 3600.0


@dataclass
class Kept:
    """What is kept of a visit, or of a name among the reports. `action` is keep, remove, or in use
    (a run holds the visit).
    """

    visit: str
    bytes: int
    when: float  # of the newest file [s since 1970]
    action: str = "keep"


def parse_size(text: str) -> int:
    """Return a size such as ``50G`` in bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT]?)B?", text)
    if match is None:
        raise UsageError(f"{text!r}: wanted a size such as 50G")
    return int(float(match[1]) * _UNITS[match[2]])


def parse_age(text: str) -> float:
    """Return an age such as ``30d`` in seconds; a number alone is days."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h|d|)", text)
    if match is None:
        raise UsageError(f"{text!r}: wanted an age such as 30d, 12h, 90min or 10s")
    return float(match[1]) * _AGES[match[2]]


def visits_kept(work: Path) -> list[Kept]:
    """Return what a work folder keeps of each visit, and of other names among its reports, the
    oldest first.
    """
    found = [Kept(name, *_size(work, name)) for name in _names(work)]
    return sorted((k for k in found if k.bytes), key=lambda k: (k.when, k.visit))


def _names(work: Path) -> set[str]:
    folders = (work / part for part in ("records", "products"))
    visits = {
        p.name
        for folder in folders
        if folder.is_dir()
        for p in folder.iterdir()
        if VISIT.fullmatch(p.name)
    }
    reports = work / "reports"
    found = reports.iterdir() if reports.is_dir() and not reports.is_symlink() else ()
    return visits | {
        p.name if _is_left(p.name) else p.stem
        for p in found
        if _is_left(p.name) or p.suffix in REPORT
    }


def _is_left(name: str) -> bool:
    """Whether a name among the reports is that of something half done."""
    return name.startswith(".")


def _places(work: Path, visit: str) -> list[Path]:
    """Return the folders and files of a visit, or of a name among the reports."""
    reports = [
        work / "reports" / name
        for name in ([visit] if _is_left(visit) else [f"{visit}{end}" for end in REPORT])
    ]
    folders = (
        [work / part / visit for part in ("records", "products")] if VISIT.fullmatch(visit) else []
    )
    return [p for p in folders if p.is_dir() and not p.is_symlink()] + [
        p for p in reports if os.path.lexists(p)
    ]


def _size(work: Path, visit: str) -> tuple[int, float]:
    """Return how much room something takes [bytes], and when it was touched last [s since 1970]."""
    size, when = 0, 0.0
    for place in _places(work, visit):
        folders = [] if place.is_symlink() else os.walk(place)
        within = [Path(folder, name) for folder, _, names in folders for name in names]
        for path in within if place.is_dir() and not _is_left(visit) else [place, *within]:
            try:
                s = os.lstat(path)
            except FileNotFoundError:  # a run goes on meanwhile
                continue
            size, when = size + s.st_blocks * 512, max(when, s.st_mtime)
    return max(size, 1) if _is_left(visit) else size, when


def clean(
    work: Path,
    older: float | None,
    quota: int | None,
    dry: bool = False,
    tell: Callable[[Kept], None] = lambda _: None,
) -> list[Kept]:
    """Take away what is older than `older` [s], then the oldest until `quota` [bytes] is kept;
    return what became of each.

    A visit that a run holds is left alone, as is everything that is neither of a visit nor a
    report: published folders never stand among it. What a killed process left among the reports
    goes at any age above an hour.

    Raises
    ------
    UsageError
        If `work` is not a folder, or neither age nor quota is given.
    """
    if not work.is_dir():
        raise UsageError(f"{work}: is not a folder")
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
        tell(kept)
    return visits


def _remove(work: Path, kept: Kept) -> str:
    if not VISIT.fullmatch(kept.visit):
        return _take_away(work, kept)
    try:
        with Workspace(work, kept.visit).lock(wait=False, notify=lambda _: None):
            action = _take_away(work, kept)
            if action == "remove":
                disk.remove(work / "records" / f"{kept.visit}.digests.json")
            return action
    except BusyError:
        return "in use"


def _take_away(work: Path, kept: Kept) -> str:
    places = _places(work, kept.visit)
    # a run that ended since we looked may have left something new
    if _size(work, kept.visit)[1] > kept.when:
        return "keep"
    for place in places:
        # the empty folders stay: a run that waits for its turn has looked for them already
        whole = _is_left(kept.visit) or not place.is_dir()
        for path in [place] if whole else list(place.iterdir()):
            disk.remove(path)
    return "remove"
