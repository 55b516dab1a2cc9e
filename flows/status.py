"""What became of every visit, and, for one of them, what each step would do now and why."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.errors import BusyError, DrpError, UsageError, plain
from schemas.requests import ReduceRequest
from tasks import disk

VISIT = re.compile(r"PR\d{6}_TG\d{6}")
PUBLISHED = re.compile(r"CH_(PR\d{6}_TG\d{6})_V(\d{4})")


@dataclass
class VisitState:
    """A visit: `state` is running, published, reduced (not published yet, or not since), damaged or cleaned (nothing left)."""

    visit: str
    state: str
    version: str = ""
    last_step: str = ""
    verdict: str = ""
    when: float = 0.0  # of the last thing that happened to it [s since 1970]
    folder: str = ""

    @property
    def age(self) -> float:
        """Seconds since the last thing happened."""
        return max(time.time() - self.when, 0.0)


@dataclass
class StepState:
    """What a step would do now."""

    step: str
    outcome: str
    why: str
    key: str


@dataclass
class VisitDetail:
    """One visit with its steps."""

    summary: VisitState
    steps: list[StepState] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def visit_states(output: Path, work: Path) -> list[VisitState]:
    """Return the state of every visit that stands in an output folder or a work folder, in order of their names."""
    folders: dict[str, Path] = {}
    for path in _entries(output):
        match = PUBLISHED.fullmatch(path.name)
        if match and path.is_dir() and (match[1] not in folders or path.name > folders[match[1]].name):
            folders[match[1]] = path
    records = {p.name: p for p in _entries(work / "records") if VISIT.fullmatch(p.name) and p.is_dir()}
    held = locked_files()
    return [_state(visit, folders.get(visit), records.get(visit), work, held) for visit in sorted({*folders, *records})]


def _state(visit: str, folder: Path | None, records: Path | None, work: Path, held: set[tuple[int, int]] | None) -> VisitState:
    state = VisitState(visit, "reduced")
    if folder is not None:
        state.state, state.version, state.folder, state.last_step = "published", folder.name[-5:], str(folder), "publish"
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
            except OSError:  # another process just replaced it
                continue


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def locked_files() -> set[tuple[int, int]] | None:
    """Return (device, inode) of the files that processes hold by flock, or None where the system does not tell.

    Asking by trying to lock could make a run that starts in that moment fail.
    """
    try:
        text = Path("/proc/locks").read_text()
    except OSError:
        return None
    found = set()
    for place in re.findall(r"FLOCK.* ([0-9a-f]+:[0-9a-f]+:\d+) ", text):
        major, minor, inode = place.split(":")
        found.add((os.makedev(int(major, 16), int(minor, 16)), int(inode)))
    return found


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        s = path.stat()
    except OSError:
        return None
    return s.st_dev, s.st_ino


def visit_detail(
    visit: Path, output: Path, work: Path, references: tuple[Path, ...] = (), settings: dict[str, Any] | None = None
) -> VisitDetail:
    """Return what each step of a visit would do now, and why.

    Parameters
    ----------
    visit : Path
        Folder of the visit, a published one, or the visit's name: then its newest published folder in `output` is meant.
    output, work : Path
        Where products are published, and where intermediate products stand.
    references, settings
        As for a reduction; what differs from the last one shows.

    Raises
    ------
    UsageError
        If there is no such visit.
    """
    from flows.reduce import run_reduce
    from flows.reprocess import replayed
    from tasks.delivery.archive import is_published

    folder = visit
    if not os.path.isdir(visit):  # unlike that of Path, it takes a name that is too long for none
        if not VISIT.fullmatch(str(visit)):
            raise UsageError(f"{plain(visit)}: is neither a folder nor the name of a visit, such as PR900001_TG000101")
        folders = [Path(s.folder) for s in visit_states(output, work) if s.visit == str(visit) and s.folder]
        if not folders:
            raise UsageError(f"{visit}: is not published in {output}; name the visit's folder")
        folder = folders[0]
    request = ReduceRequest(
        visit=folder, references=references, output=output, work=work, settings=settings or {}, dry_run=True
    )
    try:
        # a reduction would first bring back what a published folder holds; here its manifest is enough
        run = replayed(request).run if is_published(folder) else run_reduce(request, "plain")[1]
    except BusyError:
        name = str(visit) if folder != visit else _name_of(folder)
        return VisitDetail(VisitState(name, "running"), [], ["is being reduced; what its steps would do shows afterwards"])
    name = run.workspace.visit
    known = next((s for s in visit_states(output, work) if s.visit == name), VisitState(name, "new"))
    steps = [StepState(r.step, r.outcome, r.why, r.key) for r in run.reports]
    return VisitDetail(known, steps, list(dict.fromkeys(run.warnings)))


def _name_of(folder: Path) -> str:
    match = re.search(VISIT.pattern, " ".join([folder.name, *(p.name for p in folder.rglob("*SCI_RAW_SubArray*"))]))
    return match[0] if match else folder.name


def age_text(seconds: float) -> str:
    """Return an age as a person says it."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
