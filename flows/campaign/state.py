"""The state of a campaign: a file with a JSON line for each call and for each outcome.

It lies beside the products, as OUTPUT/campaigns/NAME.jsonl. Every outcome is appended and forced to
the disk at once, so that the same command goes on after anything. A line that was cut is ignored.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from schemas import VERSION
from schemas.campaigns import Begin, Entry, Outcome, is_final
from schemas.errors import BusyError, MissingInputError, UsageError
from schemas.nearest import did_you_mean
from tasks.files import disk

FOLDER = "campaigns"
MOST_BYTES = 1 << 30

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}")


def state_path(output: Path, name: str) -> Path:
    """Return the path of the state file of a campaign.

    Raises
    ------
    UsageError
        If the name is no file name.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name}: the name of a campaign has letters, digits and the characters - _ . +, and "
            f"begins with a letter or digit"
        )
    return output / FOLDER / f"{name}.jsonl"


def options_digest(options: Sequence[str], settings: bytes = b"") -> str:
    """Return the digest of what decides the outcome of a visit, beside its files."""
    parts = [VERSION.encode(), settings, *(text.encode() for text in options)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def place_of(engine: str) -> str:
    """Return in words where the visits of a campaign are reduced."""
    words = {"here": "on this machine", "slurm": "in SLURM jobs", "prefect": "on a Prefect pool"}
    return words.get(engine, f"on the Dask scheduler {engine}")


@dataclass
class History:
    """What a state file says: the last call, and the last outcome of each visit since its options.

    `calls` counts the calls with these options, `earlier` all outcomes of each visit.
    """

    begin: Begin | None = None
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    calls: int = 0
    earlier: Counter[str] = field(default_factory=Counter)
    running: bool = False

    def add(self, entry: Entry) -> None:
        """Take a further line."""
        if entry.begin is not None:
            if self.begin is None or self.begin.digest != entry.begin.digest:
                self.outcomes, self.calls = {}, 0
            self.begin = entry.begin
            self.calls += 1
        elif entry.outcome is not None:
            self.outcomes[entry.outcome.visit] = entry.outcome
            self.earlier[entry.outcome.visit] += 1

    def final(self, digest: str) -> dict[str, Outcome]:
        """Return the outcomes that hold under these options, by visit.

        A visit whose published folder is gone has none.
        """
        if self.begin is None or self.begin.digest != digest:
            return {}
        return {
            visit: outcome
            for visit, outcome in self.outcomes.items()
            if is_final(outcome.code)
            and (outcome.verdict == "" or disk.is_folder(Path(outcome.text), output=True))
        }

    def reached(self) -> list[Outcome]:
        """Return the outcomes of the visits of the last call, in their order."""
        visits = self.begin.visits if self.begin is not None else ()
        return [self.outcomes[visit] for visit in visits if visit in self.outcomes]


class StateFile:
    """The open state file of a campaign that is running."""

    def __init__(self, path: Path, fd: int, history: History) -> None:
        self.path = path
        self.fd = fd
        self.history = history

    def write(self, *, begin: Begin | None = None, outcome: Outcome | None = None) -> None:
        """Append a line and force it to the disk."""
        entry = Entry(begin=begin, outcome=outcome)
        self.history.add(entry)
        line = entry.model_dump_json(exclude_none=True).encode() + b"\n"
        with disk.guarded("write", self.path):
            end = os.lseek(self.fd, 0, os.SEEK_END)
        if end and os.pread(self.fd, 1, end - 1) != b"\n":  # a line was cut: it ends here
            line = b"\n" + line
        disk.write_at(self.fd, end, line, self.path)
        with disk.guarded("fsync", self.path):
            os.fsync(self.fd)


@contextmanager
def opened(path: Path) -> Iterator[StateFile]:
    """Open the state file of a campaign for its only run.

    Raises
    ------
    BusyError
        If the campaign is running elsewhere.
    """
    disk.make_folder(path.parent)
    fd = disk.open_lock(path)
    try:
        if not disk.try_lock(fd, path):
            raise BusyError(f"{path}: this campaign is running; choose another --name for a second")
        yield StateFile(path, fd, read_lines(path))
    finally:
        disk.close(fd)


def read_history(path: Path) -> History:
    """Return what the state file of a campaign says, and whether it is running.

    Raises
    ------
    MissingInputError
        If there is no such campaign.
    """
    if not disk.is_file(path):
        known = sorted(p.stem for p in _state_files(path.parent))
        raise MissingInputError(
            f"{path}: no such campaign; this output folder has {', '.join(known) or 'none'}"
            f"{did_you_mean(path.stem, known)}"
        )
    history = read_lines(path)
    fd = disk.open_lock(path, create=False)
    try:
        history.running = not disk.try_lock(fd, path)
    finally:
        disk.close(fd)
    return history


def _state_files(folder: Path) -> list[Path]:
    return (
        [p for p in disk.entries(folder) if p.suffix == ".jsonl"] if disk.is_folder(folder) else []
    )


def read_lines(path: Path) -> History:
    """Return what the lines of a state file say; lines without an entry are ignored."""
    history = History()
    for line in disk.read_bytes(path, limit=MOST_BYTES).splitlines():
        try:
            history.add(Entry.model_validate_json(line))
        except ValidationError:
            continue
    return history
