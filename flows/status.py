"""The state of every visit in an output folder and a work folder."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import DrpError
from schemas.names import VISIT, read_published_name
from tasks.files import disk


@dataclass
class VisitState:
    """A visit and its state.

    `state` is running, published, reduced (newer than its publication, or not yet published),
    damaged (its manifest cannot be read) or cleaned (nothing left).
    """

    visit: str
    state: str
    version: str = ""
    last_step: str = ""
    verdict: str = ""
    when: float = 0.0  # time of the last change [s since 1970]
    folder: str = ""

    @property
    def age(self) -> float:
        """Time since the last change [s]."""
        return max(time.time() - self.when, 0.0)


def visit_states(output: Path, work: Path) -> list[VisitState]:
    """Return the states of all visits in an output folder and a work folder, sorted by name."""
    folders: dict[str, Path] = {}
    for path in _entries(output):
        name = read_published_name(path.name)
        if name and path.is_dir() and (name[0] not in folders or path.name > folders[name[0]].name):
            folders[name[0]] = path
    records = {
        p.name: p for p in _entries(work / "records") if VISIT.fullmatch(p.name) and p.is_dir()
    }
    held = locked_files()
    return [
        _state(visit, folders.get(visit), records.get(visit), work, held)
        for visit in sorted({*folders, *records})
    ]


def _state(
    visit: str,
    folder: Path | None,
    records: Path | None,
    work: Path,
    held: set[tuple[int, int]] | None,
) -> VisitState:
    state = VisitState(visit, "reduced")
    if folder is not None:
        state.state, state.version, state.folder, state.last_step = (
            "published",
            folder.name.rpartition("_")[2],
            str(folder),
            "publish",
        )
        try:
            manifest = json.loads(disk.read_bytes(folder / "manifest.json", limit=64 << 20))
            state.verdict = str(manifest.get("verdict", {}).get("word", ""))
        except (DrpError, ValueError, AttributeError):
            state.state = "damaged"
        state.when = folder.stat().st_mtime
    newest = max(_records(records), default=None)
    if folder is None and newest is None:
        state.state = "cleaned"
    if newest is not None and newest[0] > state.when:
        state.when, state.last_step = newest
        state.state = "reduced" if state.state == "published" else state.state
    if held is not None and _identity(work / "locks" / f"{visit}.lock") in held:
        state.state = "running"
    return state


def _records(folder: Path | None) -> Iterable[tuple[float, str]]:
    for path in _entries(folder) if folder is not None else ():
        if path.suffix == ".json" and not path.name.startswith("."):
            try:
                yield path.stat().st_mtime, path.name.rsplit("-", 1)[0]
            except OSError:  # just replaced by another process
                continue


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def locked_files() -> set[tuple[int, int]] | None:
    """Return (device, inode) of all files locked with flock, or None if /proc is not available.

    Trying to lock the files instead could make a run fail that starts at the same moment.
    """
    try:
        text = Path("/proc/locks").read_text()
    except OSError:
        return None
    locked = set()
    for place in re.findall(r"FLOCK.* ([0-9a-f]+:[0-9a-f]+:\d+) ", text):
        major, minor, inode = place.split(":")
        locked.add((os.makedev(int(major, 16), int(minor, 16)), int(inode)))
    return locked


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        s = path.stat()
    except OSError:
        return None
    return s.st_dev, s.st_ino
