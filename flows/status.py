"""The state of every visit in an output folder and a work folder."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import DrpError
from schemas.names import VISIT, read_published_name
from tasks.delivery.folder import read_manifest
from tasks.engine.store import host_of_run, run_mark
from tasks.files import disk

MOST_LOCKS = 16 << 20  # bytes of the list of all locks


@dataclass
class VisitState:
    """A visit and its state.

    `state` is running, failed (its last run ended with an error), interrupted (its last run was cut
    short), elsewhere (a run on another machine began and has not ended by itself: from here it
    cannot be seen whether it is still running), published, reduced (newer than its publication, or
    not yet published), damaged (its manifest cannot be read) or cleaned (nothing left). `code`,
    `reason` and `report` are those of a failure: the exit code, why in a few words, and the path of
    its report. `host` is the machine of a run elsewhere.
    """

    visit: str
    state: str
    version: str = ""
    last_step: str = ""
    verdict: str = ""
    when: float = 0.0  # time of the last change [s since 1970]
    folder: str = ""
    code: int = 0
    reason: str = ""
    report: str = ""
    host: str = ""

    @property
    def age(self) -> float:
        """Time since the last change [s]."""
        return max(time.time() - self.when, 0.0)


def visit_states(output: Path, work: Path) -> list[VisitState]:
    """Return the states of all visits in an output folder and a work folder, sorted by name."""
    folders: dict[str, Path] = {}
    for path in _entries(output):
        name = read_published_name(path.name)
        if (
            name
            and disk.is_folder(path)
            and (name[0] not in folders or path.name > folders[name[0]].name)
        ):
            folders[name[0]] = path
    records = {
        p.name: p
        for p in _entries(work / "records")
        if VISIT.fullmatch(p.name) and disk.is_folder(p)
    }
    failures = {failure.visit: failure for failure in _failures(work / "reports")}
    held = locked_files()
    return [
        _state(visit, folders.get(visit), records.get(visit), failures.get(visit), (work, held))
        for visit in sorted({*folders, *records, *failures})
    ]


def _state(
    visit: str,
    folder: Path | None,
    records: Path | None,
    failure: Failure | None,
    locks: tuple[Path, set[tuple[int, int]] | None],
) -> VisitState:
    state = VisitState(visit, "cleaned" if folder is None else "published")
    if folder is not None:
        _add_publication(state, folder)
    newest = max(_records(records), default=None)
    if newest is not None and newest[0] > state.when:
        state.when, state.last_step = newest
        state.state = "damaged" if state.state == "damaged" else "reduced"
    if failure is not None and failure.when >= state.when:
        state.when, state.state = failure.when, "failed"
        state.code, state.reason, state.report = failure.code, failure.reason, failure.report
    _add_run(state, *locks)
    return state


def _add_publication(state: VisitState, folder: Path) -> None:
    """Add the facts of a published folder."""
    state.version, state.folder = folder.name.rpartition("_")[2], str(folder)
    state.last_step, state.when = "publish", _time_of_change(folder)
    try:
        verdict = read_manifest(folder).verdict
        state.verdict = verdict.word if verdict is not None else ""
    except DrpError:
        state.state = "damaged"


def _add_run(state: VisitState, work: Path, held: set[tuple[int, int]] | None) -> None:
    """Add that a run holds the visit, or that its last run was interrupted or is elsewhere."""
    if held is None:
        return
    if _identity(work / "locks" / f"{state.visit}.lock") in held:
        state.state = "running"
        return
    mark = disk.status(run_mark(work, state.visit))
    # a later publication elsewhere, or a failure before the run, is the newer state
    if mark is not None and (
        state.state not in ("failed", "published") or mark.st_mtime > state.when
    ):
        state.state, state.when = "interrupted", max(mark.st_mtime, state.when)
        state.code, state.reason, state.report = 0, "", ""
        host = host_of_run(work, state.visit)
        if host and host != disk.host():
            state.state, state.host = "elsewhere", host


class FailureFacts(BaseModel):
    """The key facts of a failure in a file beside its report."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    visit: str = Field(max_length=300)
    code: int = Field(ge=0, le=255)
    reason: str = Field(max_length=20_000)
    report: str = Field(max_length=20_000)


@dataclass
class Failure:
    """The key facts of a failure, as its report left them."""

    visit: str
    code: int
    reason: str
    report: str
    when: float


def _failures(folder: Path) -> Iterable[Failure]:
    """Yield the failures that reports are about; what cannot be read is left out."""
    for path in _entries(folder):
        if path.suffix != ".json" or path.name.startswith("."):
            continue
        with contextlib.suppress(DrpError, ValidationError):
            facts = FailureFacts.model_validate_json(disk.read_bytes(path, 1 << 20), strict=True)
            yield Failure(
                facts.visit, facts.code, facts.reason, facts.report, _time_of_change(path)
            )


def _records(folder: Path | None) -> Iterable[tuple[float, str]]:
    for path in _entries(folder) if folder is not None else ():
        if path.suffix == ".json" and not path.name.startswith("."):
            yield _time_of_change(path), path.name.rsplit("-", 1)[0]


def _time_of_change(path: Path) -> float:
    """Return when a file was changed; 0 if it was just replaced by another process."""
    found = disk.status(path)
    return found.st_mtime if found is not None else 0.0


def _entries(folder: Path) -> list[Path]:
    """Return what is in a folder, which may not exist yet."""
    return disk.entries(folder) if disk.is_folder(folder) else []


def locked_files() -> set[tuple[int, int]] | None:
    """Return (device, inode) of all files locked with flock, or None if /proc is not available.

    Trying to lock the files instead could make a run fail that starts at the same moment.
    """
    try:
        text = disk.read_text(Path("/proc/locks"), limit=MOST_LOCKS)
    except DrpError:
        return None
    locked = set()
    for place in re.findall(r"FLOCK.* ([0-9a-f]+:[0-9a-f]+:\d+) ", text):
        major, minor, inode = place.split(":")
        locked.add((os.makedev(int(major, 16), int(minor, 16)), int(inode)))
    return locked


def _identity(path: Path) -> tuple[int, int] | None:
    found = disk.status(path)
    return (found.st_dev, found.st_ino) if found is not None else None
