"""Intake: process the job orders that arrive in a folder, each once.

::

    FOLDER/X.xml           arrived; left alone until it is complete and no longer changes
    FOLDER/running/X.xml   claimed: renamed, and locked with flock while a process works on it
    FOLDER/done/X.xml      done; X.log and X.json (exit code, attempts, times) lie beside it
    FOLDER/failed/X.xml    the same, for an operator to look at

A claim without a lock belongs to a dead process and is taken over by the next one; `drp job`
continues from the steps already done. Once X.json is written the order is finished, even if this
process dies. Orders that failed for a passing reason (disk, memory, a locked visit) are retried; an
order that has ended three processes counts as failed. The folder must lie on a single file system
that supports flock.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from flows.runs.ending import BESIDE
from schemas.errors import DrpError, plain
from tasks.engine.child import COMMAND, start_python
from tasks.files import disk

MOST_ATTEMPTS = 3

MAY_PASS = (74, 75, 76)  # exit codes after which the same order may succeed

# an order still incomplete after this time is processed, so that `drp job` reports the fault [s]
PATIENCE = 600.0

END = b"</Ipf_Job_Order>"

MOST_BYTES = 1 << 20  # of an outcome

COMPANIONS = (".log", *BESIDE)

# processes a claimed order, given the file descriptor of its lock; returns the exit code
Do = Callable[[Path, int], int]

Report = Callable[[str], None]


@dataclass
class Outcome:
    """The outcome of an order. `state` is done, failed or again (to be retried)."""

    order: str
    state: Literal["done", "failed", "again"]
    code: int | None
    attempts: int
    began: str
    ended: str
    note: str = ""
    name: str = field(default="")  # its name in the folder `done` or `failed`


def intake(
    folder: Path, do: Do | None = None, settle: float = 1.0, report: Report = lambda _: None
) -> list[Outcome]:
    """Process all job orders in a folder, one after another, and return their outcomes.

    Parameters
    ----------
    folder : Path
        The folder where orders arrive. Several processes may share it.
    do : callable or None
        Processes an order; by default `drp job` in a process of its own.
    settle : float
        Time an order must stay unchanged before it is processed [s].
    report : callable
        Called with a line of text when an order begins and when it ends.

    Raises
    ------
    UsageError
        If `folder` is not a folder.
    """
    disk.require_folder(folder, "the folder in which job orders arrive")
    folder = disk.absolute(folder)
    for name in ("running", "done", "failed"):
        disk.make_folder(folder / name)
    outcomes: list[Outcome] = []
    later: set[str] = set()
    while True:
        _put_away_the_finished(folder)
        before = len(outcomes)
        claims = [p for p in _named(folder / "running", ".xml") if p.name not in later]
        for path in (*claims, *_find_complete(folder, settle, later)):
            # in JSON and in the arguments of `drp job` a name must be UTF-8
            name = path.name.encode(errors="backslashreplace").decode()
            order = folder / "running" / name
            with _locked_claim(path, order) as lock:
                if lock is None or disk.is_taken(order.with_suffix(".json")):
                    continue  # another process's, or finished: put away in the next round
                outcome = _work_on(folder, order, do or job_process, lock, report)
                outcomes.append(outcome)
                later |= {path.name, order.name} if outcome.state == "again" else set()
                report(outcome_line(folder, outcome))
        if len(outcomes) == before:
            return outcomes


def outcome_line(folder: Path, outcome: Outcome) -> str:
    """Return the outcome of an order as text, with the report on a failure if there is one."""
    line = f"{outcome.order}: {outcome.state}, {outcome.note or f'exit code {outcome.code}'}"
    report = folder / outcome.state / f"{outcome.name}{BESIDE[0]}"
    return (
        f"{line}; report: {report}" if outcome.state == "failed" and disk.exists(report) else line
    )


def _named(folder: Path, ending: str) -> list[Path]:
    """Return the files of a folder with this ending, sorted by name."""
    return [path for path in disk.entries(folder) if path.name.endswith(ending)]


def count_outcomes(outcomes: Sequence[Outcome]) -> str:
    """Return how many orders ended in each state."""
    counts = [
        f"{sum(o.state == state for o in outcomes)} {state}"
        for state in ("done", "failed", "again")
    ]
    return f"{len(outcomes)} orders: {', '.join(counts)}"


def watch(
    folder: Path,
    interval: float,
    do: Do | None = None,
    settle: float = 1.0,
    report: Report = lambda _: None,
) -> None:
    """Process orders until this process is stopped, looking every `interval` seconds."""
    while True:
        intake(folder, do, settle, report)
        time.sleep(interval)


def job_process(order: Path, lock: int, engine: str = "auto") -> int:
    """Process an order with `drp job` in a child process, which inherits the lock.

    The child is terminated when this process ends.
    """
    arguments = [*COMMAND, "job", str(order), "--engine", engine, "-q"]
    child = start_python(arguments, inherited=(lock,))
    try:
        return child.wait()
    except BaseException:
        child.terminate()
        child.wait()
        raise


def _find_complete(folder: Path, settle: float, later: set[str]) -> list[Path]:
    """Return the orders that are complete and no longer change, in order of their names."""
    seen = {
        p: mark
        for p in _named(folder, ".xml")
        if p.name not in later and (mark := _mark(p)) is not None
    }
    if not seen:
        return []
    time.sleep(settle)
    still = [(p, mark) for p, mark in seen.items() if _mark(p) == mark]
    return sorted(
        p for p, mark in still if _has_its_end(p) or time.time() - mark[2] / 1e9 > PATIENCE
    )


def _mark(path: Path) -> tuple[int, int, int] | None:
    """Return inode, size and time of a file; None if it is hidden or not a regular file."""
    s = disk.status(path, follow=False)
    if s is None or not stat.S_ISREG(s.st_mode) or path.name.startswith("."):
        return None
    return s.st_ino, s.st_size, s.st_mtime_ns


def _has_its_end(path: Path) -> bool:
    with contextlib.suppress(DrpError), os.fdopen(disk.open_to_read(path), "rb") as file:
        file.seek(max(os.fstat(file.fileno()).st_size - 256, 0))
        return file.read().rstrip().endswith(END)
    return False


@contextlib.contextmanager
def _locked_claim(path: Path, target: Path) -> Iterator[int | None]:
    """Lock the order `path` and rename it to `target`; yield the file descriptor of the lock.

    Yield None if another process has the order.
    """
    fd = None
    try:
        fd = _claim(path, target)
        yield fd
    finally:
        if fd is not None:
            os.close(fd)


def _claim(path: Path, target: Path) -> int | None:
    # flock locks the file, not its name: a renamed order is never without its lock
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        ours = disk.try_lock(fd, path)
        # another process may have finished the order between our open and our lock
        now = disk.status(path, follow=False)
        unchanged = now is not None and now.st_ino == os.fstat(fd).st_ino
        occupied = path != target and (
            disk.is_taken(target) or disk.is_taken(target.with_suffix(".json"))
        )
        if ours and unchanged and not occupied:
            if path != target:
                disk.rename(path, target)
                disk.crash_point("order claimed")
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _work_on(folder: Path, order: Path, do: Do, lock: int, report: Report) -> Outcome:
    """Process a claimed order and put it away."""
    began, attempts = _now(), _attempts(order)
    outcome = Outcome(order.name, "failed", None, attempts, began, began)
    twin = folder / "done" / order.name
    if disk.is_file(twin) and disk.read_bytes(twin) == disk.read_bytes(order):
        outcome.state, outcome.note = "done", "delivered twice; not processed again"
        return _close(order, outcome)
    if attempts >= MOST_ATTEMPTS:
        outcome.note = f"{attempts} attempts were cut short: operator needed"
        return _close(order, outcome)
    report(f"{order.name}: started")
    _attempt(folder, order, do, lock, outcome)
    if _may_pass(outcome):
        outcome.state = "again"
        _give_back(order, folder)
        return outcome
    return _close(order, outcome)


def _attempt(folder: Path, order: Path, do: Do, lock: int, outcome: Outcome) -> None:
    """Process a claimed order and record the result in `outcome`."""
    _write_attempts(order, outcome.attempts + 1)
    try:
        outcome.code = do(order, lock)
    except Exception as error:
        outcome.note = plain(f"{type(error).__name__}: {error}")
    except BaseException:  # this process is being stopped: leave the order as it arrived
        _write_attempts(order, outcome.attempts)
        _give_back(order, folder)
        raise
    disk.crash_point("order worked")
    outcome.attempts, outcome.ended = outcome.attempts + 1, _now()
    if outcome.code in (0, 3):
        outcome.state = "done"


def _may_pass(outcome: Outcome) -> bool:
    """Return whether an order that failed is to be retried."""
    code = outcome.code
    killed = code is not None and (code < 0 or code in (130, 143))
    return (killed or code in MAY_PASS) and outcome.attempts < MOST_ATTEMPTS


def _give_back(order: Path, folder: Path) -> None:
    """Move an order back to where it arrived.

    If another order of this name has arrived since, it stays in `running`, to be claimed there.
    """
    if not disk.is_taken(folder / order.name):
        disk.rename(order, folder / order.name)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _attempts(order: Path) -> int:
    with contextlib.suppress(DrpError, ValueError):
        return int(disk.read_text(order.with_suffix(".attempts"), limit=20))
    return 0


def _write_attempts(order: Path, number: int) -> None:
    # no fsync: after a power cut the count may start again
    disk.write_note(order.with_suffix(".attempts"), str(number).encode())


def _close(order: Path, outcome: Outcome) -> Outcome:
    """Write the outcome of an order, from then on finished, and put it away."""
    place = order.parent.parent / outcome.state
    names = (order.stem if i == 1 else f"{order.stem}.{i}" for i in itertools.count(1))
    outcome.name = next(
        n for n in names if not any(disk.is_taken(place / f"{n}{end}") for end in (".xml", ".json"))
    )
    disk.write_file(order.with_suffix(".json"), json.dumps(asdict(outcome), indent=1).encode())
    disk.crash_point("order over")
    _put_away(order.with_suffix(".json"))
    return outcome


def _read_outcome(result: Path) -> Outcome | None:
    """Return the outcome of an order; None if it cannot be read, or names another folder."""
    try:
        outcome: Outcome = TypeAdapter(Outcome).validate_json(
            disk.read_bytes(result, limit=MOST_BYTES), strict=True
        )
    except (DrpError, ValidationError):
        return None
    return outcome if Path(outcome.name).name == outcome.name else None


def _put_away(result: Path) -> None:
    """Move a finished order and its files to their folder, the outcome last."""
    outcome = _read_outcome(result)
    if outcome is None:
        return
    place = result.parent.parent / outcome.state
    _correct_paths(result.with_suffix(".log"), result, place / outcome.name)
    for ending in (*COMPANIONS, ".xml", ".json"):
        if disk.is_taken(result.with_suffix(ending)):
            disk.rename(result.with_suffix(ending), place / f"{outcome.name}{ending}")
        if ending == ".xml":
            disk.crash_point("order moved")
            disk.discard(result.with_suffix(".attempts"))
    disk.sync_folder(place)


def _correct_paths(log: Path, result: Path, target: Path) -> None:
    """Replace the paths of an order's reports in its log by those that they will have."""
    with contextlib.suppress(DrpError):
        before = text = disk.read_bytes(log)
        for ending in BESIDE:
            text = text.replace(
                os.fsencode(result.with_suffix(ending)), os.fsencode(f"{target}{ending}")
            )
        if text != before:
            disk.write_file(log, text)


def _put_away_the_finished(folder: Path) -> None:
    """Put away the orders that dead processes finished but left in `running`.

    The orders of living processes are locked and left alone.
    """
    for result in _named(folder / "running", ".json"):
        places = [result.with_suffix(".xml")]
        if (outcome := _read_outcome(result)) is not None:
            places.append(folder / outcome.state / f"{outcome.name}.xml")
        order = next((p for p in places if disk.exists(p)), places[0])
        with _locked_claim(order, order) as lock:
            if lock is not None or not disk.exists(order):
                _put_away(result)
