"""One visit of a campaign: what every engine runs, on whatever machine.

A visit is reduced by `drp reduce` in a process of its own, which ends with the process that started
it. Nothing is raised: an engine would blame its worker, and would try a damaged file again.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from flows.campaign.locks import Locks, why_unlocked
from flows.runs.ending import exit_code
from schemas import VERSION
from schemas.campaigns import Outcome, worth_a_retry
from schemas.errors import ConfigurationError, DrpError, plain
from tasks.engine.child import COMMAND, Process, start_python
from tasks.files import disk

LONGEST = 4000  # characters of an error message, with the path of its report
MOST_OUTPUT = 16 << 20  # bytes read from an output stream of a reduction
ATTEMPTS = 3
MEMORY_SECONDS = 600.0  # how long a visit waits for memory

NO_ANSWER = "neither answer nor error message; is the temporary folder (TMPDIR) full?"

SCATTER = "Point-to-point scatter"


@dataclass(frozen=True)
class Task:
    """A visit to reduce.

    `options` are arguments of `drp reduce`. `delay` is the time before the second attempt [s],
    `memory` what a visit needs [MB]. `locks` are held by the campaign in the output folder and the
    work folder: this process must be refused them.
    """

    visit: str
    options: tuple[str, ...] = ()
    delay: float = 10.0
    memory: int = 0
    locks: Locks | None = None
    earlier: int = 0  # outcomes that it has already
    alone: bool = False  # tried again without others beside it, since its worker died
    version: str = VERSION
    command: tuple[str, ...] = (*COMMAND, "reduce")


class WorkerUnfit(ConfigurationError):
    """A machine cannot take part in a campaign."""


def reduce_in_process(task: Task) -> Outcome:
    """Reduce a visit in a process of its own, up to three times, and return the outcome.

    Raises
    ------
    WorkerUnfit
        If no visit of the campaign can be reduced here.
    """
    check_worker(task.version, task.locks)
    began = time.monotonic()
    try:
        outcome = _tried(task)
    except Exception as error:
        text = f"{type(error).__name__}: {plain(error)}"
        outcome = Outcome(visit=task.visit, code=exit_code(error), text=text)
    return outcome.model_copy(
        update={
            "seconds": round(time.monotonic() - began, 2),
            "host": disk.host(),
            "ended": time.time(),
        }
    )


_fit: set[Locks | None] = set()  # what this process has checked


def check_worker(version: str, locks: Locks | None) -> None:
    """Check once whether this process can take part in a campaign.

    Raises
    ------
    WorkerUnfit
        If its version of the software is another one, or the locks of the campaign's folders do
        not exclude it.
    """
    if locks in _fit:
        return
    if version != VERSION:
        raise WorkerUnfit(
            f"drp {VERSION} on {disk.host()} cannot take part in a campaign of drp {version}; "
            f"install the same version on all machines"
        )
    if locks is not None and (why := why_unlocked(locks)):
        raise WorkerUnfit(why)
    _fit.add(locks)


def _tried(task: Task) -> Outcome:
    lost = 0.0
    for attempt in range(1, ATTEMPTS + 1):
        began = time.monotonic()
        wait_for_memory(task.memory)
        outcome = _reduce(task).model_copy(update={"attempts": attempt, "lost": round(lost, 2)})
        last = attempt == ATTEMPTS or not worth_a_retry(outcome.code)
        if last or _stopping.wait(task.delay * 2 ** (attempt - 1)):
            break
        lost += time.monotonic() - began
    return outcome


def available_memory() -> float:
    """Return the memory that processes may still take here [MB]; infinite if it is not known."""
    free = [float("inf")]
    try:
        lines = disk.read_system_file(Path("/proc/meminfo")).splitlines()
        free += [int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable")]
        group = Path("/sys/fs/cgroup")
        most, used = (
            disk.read_system_file(group / f"memory.{name}") for name in ("max", "current")
        )
        free += [(int(most) - int(used)) / (1 << 20)] if most.strip().isdigit() else []
    except (DrpError, ValueError):
        pass
    return min(free)


def wait_for_memory(needed: int) -> None:
    """Wait until a visit has the memory that it needs [MB], while others are being reduced here."""
    deadline = time.monotonic() + MEMORY_SECONDS
    while _children and available_memory() < needed and time.monotonic() < deadline:
        if _stopping.wait(1.0):
            return


_children: set[Process] = set()
_guard = threading.Lock()  # of the set of children
_stopping = threading.Event()


def start_again() -> None:
    """Allow visits to be reduced in this process again, after `stop_children`."""
    _stopping.clear()


def stop_children() -> None:
    """Stop the visits that are being reduced here; each cleans up after itself."""
    _stopping.set()
    with _guard:
        children = list(_children)
    for each in children:
        each.terminate()
    for each in children:
        each.wait()


@contextmanager
def _child(command: Sequence[str], output: IO[bytes], errors: IO[bytes]) -> Iterator[Process]:
    # its standard error is read here: no log lines
    environment = {name: value for name, value in os.environ.items() if name != "DRP_LOG"}
    process = start_python(command, environment, output=output, errors=errors)
    with _guard:
        _children.add(process)
    try:
        if _stopping.is_set():  # asked before it was in the set
            process.terminate()
        yield process
    finally:
        with _guard:
            _children.discard(process)


def _reduce(task: Task) -> Outcome:
    command = [*task.command, "--json", "-q", *task.options, "--", task.visit]
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        with _child(command, output, errors) as process:
            code = process.wait()
        texts = []
        for stream in (output, errors):
            stream.seek(0)
            texts.append(stream.read(MOST_OUTPUT))
    outcome = Outcome(visit=task.visit, code=code if code >= 0 else 128 - code)
    try:
        return outcome.model_copy(update=_facts(json.loads(texts[0])))
    except (ValueError, KeyError, TypeError, AttributeError):
        silent = f"killed by signal {-code}" if code < 0 else NO_ANSWER
        text = error_line(texts[1]) or silent
        return outcome.model_copy(update={"text": plain(text, LONGEST)})


def error_line(errors: bytes) -> str:
    """Return the message of a reduction that failed, from its standard error."""
    lines = [line for line in errors.decode(errors="replace").splitlines() if line.strip()]
    marked = (line for line in lines if line.startswith(("ERROR", "Error")))
    line = next(marked, lines[-1] if lines else "")
    return line.removeprefix("ERROR ").removeprefix("Error: ")


def _facts(answer: dict[str, Any]) -> dict[str, Any]:
    """Return what the outcome keeps of the answer of `drp reduce --json`."""
    steps = answer.get("steps", [])
    noise = {number["label"]: number["value"] for number in answer.get("noise", [])}
    facts: dict[str, Any] = {
        "steps": {s["step"]: s["seconds"] for s in steps if s["outcome"] == "done"},
        "scatter": noise.get(SCATTER),
        **{k: answer[k] for k in ("magnitude", "photon_limit", "report", "viewer") if k in answer},
    }
    published = answer["published"]
    if published is None:
        return {**facts, "text": "stopped without publishing"}
    return {
        **facts,
        "verdict": published["verdict"],
        "text": published["folder"],
        "new": published["new"],
    }
