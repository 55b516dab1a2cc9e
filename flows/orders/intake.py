"""Intake: job orders that arrive in a folder are done, each once.

::

    FOLDER/X.xml           arrived; left alone until it is complete and keeps still
    FOLDER/running/X.xml   claimed: renamed, and locked by flock for as long as the process that
    does it lives FOLDER/done/X.xml      with X.log and X.json: exit code, attempts, times
    FOLDER/failed/X.xml    the same, for a person to look at

A claim without a lock is that of a dead process, and is taken up by the next one: `drp job` finds
again what was done. Once X.json is written the order is over, whatever happens to this process.
What may pass (disk, memory, a locked visit) is tried again, and an order that ended three processes
is failed. The folder must be on one file system that has flock.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from flows.runs.ending import BESIDE
from schemas import ROOT
from schemas.errors import UsageError, plain
from tasks.files import disk

MOST_ATTEMPTS = 3

MAY_PASS = (74, 75, 76)  # exit codes after which the same order may succeed

# an order that is incomplete for so long is given to `drp job`, which says what is wrong [s]
PATIENCE = 600.0

END = b"</Ipf_Job_Order>"

COMPANIONS = (".log", *BESIDE)

Do = Callable[
    [Path, int], int
]  # does a claimed order, of which the lock is an open file; returns the exit code

Tell = Callable[[str], None]


@dataclass
class Outcome:
    """What became of an order. `state` is done, failed, or again: it will be tried again."""

    order: str
    state: str
    code: int | None
    attempts: int
    began: str
    ended: str
    note: str = ""
    name: str = field(default="")  # under which it was put away


def intake(
    folder: Path, do: Do | None = None, settle: float = 1.0, tell: Tell = lambda _: None
) -> list[Outcome]:
    """Do all job orders that are in a folder, one after another; return what became of them.

    Parameters
    ----------
    folder : Path
        Where orders arrive. Any number of processes may take from it at once.
    do : callable or None
        Does an order; `drp job` in a process of its own if not given.
    settle : float
        An order must keep still for so long before it is taken [s].
    tell : callable
        Is told of every order in a line.

    Raises
    ------
    UsageError
        If `folder` is not a folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: is not a folder")
    folder = folder.absolute()
    for name in ("running", "done", "failed"):
        disk.make_folder(folder / name)
    outcomes: list[Outcome] = []
    later: set[str] = set()
    while True:
        _put_away_the_finished(folder)
        before = len(outcomes)
        claims = [p for p in sorted((folder / "running").glob("*.xml")) if p.name not in later]
        for path in (*claims, *_find_complete(folder, settle, later)):
            order = folder / "running" / path.name
            with _locked_claim(path, order) as lock:
                if (
                    lock is None or order.with_suffix(".json").exists()
                ):  # the latter is put away in the next round
                    continue
                outcome = _work_on(folder, order, do or job_process, lock, tell)
                outcomes.append(outcome)
                later |= {path.name} if outcome.state == "again" else set()
                tell(f"{outcome.order}: {outcome.state}, {outcome.note or f'code {outcome.code}'}")
        if len(outcomes) == before:
            return outcomes


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
    tell: Tell = lambda _: None,
) -> None:
    """Take orders from a folder until this process is stopped, looking every `interval` seconds."""
    while True:
        intake(folder, do, settle, tell)
        time.sleep(interval)


def job_process(order: Path, lock: int, engine: str = "auto") -> int:
    """Do an order by `drp job` in a process of its own, which holds the lock too; it ends with this
    one.
    """
    from flows.runs.child import die_with_parent

    command = [
        sys.executable,
        "-m",
        "flows.command.main",
        "job",
        str(order),
        "--engine",
        engine,
        "-q",
    ]
    # code is found from any place, as this process found it
    places = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(places))}
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(lock,),
        env=environment,
        preexec_fn=die_with_parent,
    )
    try:
        return child.wait()
    except BaseException:
        child.terminate()
        child.wait()
        raise


def _find_complete(folder: Path, settle: float, later: set[str]) -> list[Path]:
    """Return the orders that are complete and keep still, in order of their names."""
    seen = {
        p: mark
        for p in folder.glob("*.xml")
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
    """Return what changes while a file is being written; None for what is no file of its own, or
    hidden.
    """
    with contextlib.suppress(OSError):
        s = path.lstat()
        if stat.S_ISREG(s.st_mode) and not path.name.startswith("."):
            return s.st_ino, s.st_size, s.st_mtime_ns
    return None


def _has_its_end(path: Path) -> bool:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        file.seek(max(os.fstat(file.fileno()).st_size - 256, 0))
        return file.read().rstrip().endswith(END)
    return False


@contextlib.contextmanager
def _locked_claim(path: Path, target: Path) -> Iterator[int | None]:
    """Lock the order `path` and rename it to `target`; give the lock, or None if it is another
    process's.
    """
    fd = None
    try:
        fd = _claim(path, target)
        yield fd
    finally:
        if fd is not None:
            os.close(fd)


def _claim(path: Path, target: Path) -> int | None:
    # the lock belongs to the file, whatever its name: renamed, it is locked from its first moment
    # on
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # between open and lock another process may have done it and put it away
        there = path.lstat().st_ino == os.fstat(fd).st_ino
        taken = path != target and (
            os.path.lexists(target) or os.path.lexists(target.with_suffix(".json"))
        )
        if there and not taken:
            if path != target:
                disk.rename(path, target)
                disk.crash_point("order claimed")
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _work_on(folder: Path, order: Path, do: Do, lock: int, tell: Tell) -> Outcome:
    """Do a claimed order and put it away."""
    began, attempts = _now(), _attempts(order)
    outcome = Outcome(order.name, "failed", None, attempts, began, began)
    twin = folder / "done" / order.name
    if twin.is_file() and twin.read_bytes() == order.read_bytes():
        outcome.state, outcome.note = "done", "delivered twice, not done again"
        return _close(order, outcome)
    if attempts >= MOST_ATTEMPTS:
        outcome.note = f"{attempts} attempts did not come to an end: a person is needed"
        return _close(order, outcome)
    tell(f"{order.name}: begins")
    _attempt(folder, order, do, lock, outcome)
    if _may_pass(outcome):
        outcome.state = "again"
        _give_back(order, folder)
        return outcome
    return _close(order, outcome)


def _attempt(folder: Path, order: Path, do: Do, lock: int, outcome: Outcome) -> None:
    """Do a claimed order; note in `outcome` how that ended."""
    _write_attempts(order, outcome.attempts + 1)
    try:
        outcome.code = do(order, lock)
    except Exception as error:
        outcome.note = plain(f"{type(error).__name__}: {error}")
    except BaseException:  # asked to stop: the order is left as it came
        _write_attempts(order, outcome.attempts)
        _give_back(order, folder)
        raise
    disk.crash_point("order worked")
    outcome.attempts, outcome.ended = outcome.attempts + 1, _now()
    if outcome.code in (0, 3):
        outcome.state = "done"


def _may_pass(outcome: Outcome) -> bool:
    """Return whether an order that failed is to be tried again."""
    code = outcome.code
    killed = code is not None and (code < 0 or code in (130, 143))
    return (killed or code in MAY_PASS) and outcome.attempts < MOST_ATTEMPTS


def _give_back(order: Path, folder: Path) -> None:
    """Put an order back where it came from; where another of its name has arrived it stays, and is
    taken up from here.
    """
    if not os.path.lexists(folder / order.name):
        disk.rename(order, folder / order.name)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _attempts(order: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(order.with_suffix(".attempts").read_text())
    return 0


def _write_attempts(order: Path, number: int) -> None:
    # not forced to the disk: a count that a power cut loses begins anew
    with disk.guarded("write", order), contextlib.suppress(FileNotFoundError):
        order.with_suffix(".attempts").write_text(str(number))


def _close(order: Path, outcome: Outcome) -> Outcome:
    """Write down what became of an order: from then on it is over. Put it away."""
    place = order.parent.parent / outcome.state
    names = (order.stem if i == 1 else f"{order.stem}.{i}" for i in itertools.count(1))
    outcome.name = next(
        n for n in names if not any((place / f"{n}{end}").exists() for end in (".xml", ".json"))
    )
    disk.write_file(order.with_suffix(".json"), json.dumps(asdict(outcome), indent=1).encode())
    disk.crash_point("order over")
    _put_away(order.with_suffix(".json"))
    return outcome


def _put_away(result: Path) -> None:
    """Bring an order that is over to its folder: what belongs to it first, its result last."""
    try:
        outcome = Outcome(**json.loads(result.read_text()))
    except (OSError, ValueError, TypeError):
        return
    place = result.parent.parent / outcome.state
    for ending in (*COMPANIONS, ".xml", ".json"):
        with contextlib.suppress(FileNotFoundError):
            os.rename(result.with_suffix(ending), place / f"{outcome.name}{ending}")
        if ending == ".xml":
            disk.crash_point("order moved")
            disk.discard(result.with_suffix(".attempts"))
    disk.sync_folder(place)


def _put_away_the_finished(folder: Path) -> None:
    """Bring away what dead processes finished, but did not put away; a living one's is locked, and
    left to it.
    """
    for result in sorted((folder / "running").glob("*.json")):
        places = [result.with_suffix(".xml")]
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            outcome = json.loads(result.read_text())
            places.append(folder / outcome["state"] / f"{outcome['name']}.xml")
        order = next((p for p in places if p.exists()), places[0])
        with _locked_claim(order, order) as lock:
            if lock is not None or not order.exists():
                _put_away(result)
