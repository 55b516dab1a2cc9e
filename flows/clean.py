"""Intermediate products of visits are taken away: those that nobody touched for long, and the oldest above a quota."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flows.status import VISIT
from schemas.errors import BusyError, UsageError
from tasks import disk
from tasks.store import Workspace

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_AGES = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "": 86400.0}


@dataclass
class Kept:
    """The intermediate products of one visit. `action` is keep, remove, or in use (a run holds the visit)."""

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
    """Return what a work folder keeps of each visit, the oldest first."""
    found = []
    names = {p.name for part in ("records", "products") if (work / part).is_dir() for p in (work / part).iterdir()}
    for visit in (n for n in names if VISIT.fullmatch(n)):
        size, when = 0, 0.0
        for place in _places(work, visit):
            for folder, _, files in os.walk(place):
                for path in (os.path.join(folder, f) for f in files):
                    try:
                        s = os.lstat(path)
                    except FileNotFoundError:  # a run goes on meanwhile
                        continue
                    size, when = size + s.st_blocks * 512, max(when, s.st_mtime)
        if size:
            found.append(Kept(visit, size, when))
    return sorted(found, key=lambda k: (k.when, k.visit))


def _places(work: Path, visit: str) -> list[Path]:
    return [p for p in (work / "records" / visit, work / "products" / visit) if p.is_dir() and not p.is_symlink()]


def clean(
    work: Path, older: float | None, quota: int | None, dry: bool = False, tell: Callable[[Kept], None] = lambda _: None
) -> list[Kept]:
    """Take away what is older than `older` [s], then the oldest until `quota` [bytes] is kept; return what became of each.

    A visit that a run holds is left alone, as is everything that is not of a visit: published folders never stand among it.

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
        old = older is not None and time.time() - kept.when > older
        if old or (quota is not None and total > quota):
            kept.action = "remove" if dry else _remove(work, kept)
            total -= kept.bytes if kept.action == "remove" else 0
        tell(kept)
    return visits


def _remove(work: Path, kept: Kept) -> str:
    workspace = Workspace(work, kept.visit)
    try:
        with workspace.lock(wait=False, notify=lambda _: None):
            # a run that ended since we looked may have left something new
            if max((p.lstat().st_mtime for p in workspace.records.iterdir()), default=0.0) > kept.when:
                return "keep"
            # the empty folders stay: a run that waits for its turn has looked for them already
            for path in (p for place in _places(work, kept.visit) for p in place.iterdir()):
                disk.remove(path)
            disk.remove(work / "records" / f"{kept.visit}.digests.json")
    except BusyError:
        return "in use"
    return "remove"
