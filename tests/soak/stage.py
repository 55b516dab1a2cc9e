"""The stage of a soak: a visit reduced once, copies to spoil, and a process for each trial."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from schemas import errors
from schemas.names import read_published_name
from tasks.files import disk
from tests.support.runs import undrawn

SECONDS = 600.0  # a trial that takes longer hangs
MEMORY = 6 << 30  # address space of a trial; an absurd size must not take the machine's memory

STOPPED = {128 + signal.SIGTERM, 128 + signal.SIGINT}
DOCUMENTED = {0, 3, *STOPPED} | {
    kind.exit_code
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.DrpError) and kind is not errors.DrpError
}


@dataclass(frozen=True)
class Ended:
    """How a process ended: exit code (minus the signal that killed it), output, and duration."""

    code: int
    text: str
    seconds: float = 0.0
    hung: bool = False
    orphans: bool = False


@dataclass(frozen=True)
class Stage:
    """A simulated visit, its references, and the folders of an undisturbed reduction of it."""

    root: Path
    visit: Path
    references: Path
    work: Path
    output: Path

    @property
    def published(self) -> Path:
        """The folder that the undisturbed reduction published."""
        return next(p for p in self.output.iterdir() if read_published_name(p.name))

    def case(self, name: str) -> Stage:
        """Return copies of everything but the publication; files are links, to be replaced."""
        root = self.root / name
        shutil.rmtree(root, ignore_errors=True)
        for source in (self.visit, self.references, self.work):
            shutil.copytree(source, root / source.name, copy_function=os.link)
        return Stage(
            root,
            root / self.visit.name,
            root / self.references.name,
            root / self.work.name,
            root / "out",
        )

    def reduce(self, *more: object) -> list[str]:
        """Return the arguments of `drp` that reduce the visit."""
        options = {
            "--references": self.references,
            "--work": self.work,
            "--output": self.output,
            "--engine": "plain",
        }
        pairs = [word for pair in options.items() for word in pair]
        return [str(word) for word in ("reduce", self.visit, *pairs, *more)]


def set_stage(root: Path) -> Stage:
    """Simulate a visit, build its references, and reduce it in this process, which loads all code.

    The figures of the report are empty.
    """
    from flows.simulate import simulate_into
    from reference_data.build import build_library

    stage = Stage(root, root / "visit", root / "references", root / "work", root / "out")
    simulate_into(stage.visit, "tiny", None, 1, None)
    build_library(stage.references)
    with undrawn():
        code = run_drp(stage.reduce("-q"))
    # the command ignores signals once it has ended
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if code != 0:
        raise SystemExit(f"the undisturbed reduction ended with {code}")
    return stage


def run_drp(arguments: list[str]) -> int:
    """Run the command `drp` in this process and return its exit code."""
    from flows.command.main import main

    try:
        main(arguments, prog_name="drp")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def begin(work: Callable[[], int], log: Path) -> int:
    """Do `work` in a process of its own, with its output in `log`; return the process."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _be_trial(work, log)
    return pid


def _be_trial(work: Callable[[], int], log: Path) -> NoReturn:
    code = 70
    try:
        os.setsid()  # so that orphans are found
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # until `drp` has handlers of its own
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(target, 1)
        os.dup2(target, 2)
        code = work()
    except BaseException:
        os.write(2, traceback.format_exc().encode(errors="replace"))
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def finish(pid: int, log: Path, seconds: float = SECONDS) -> Ended:
    """Wait for a process; if it takes too long, kill it with all that it started."""
    started = time.monotonic()
    hung = False
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if not hung and time.monotonic() - started > seconds:
            hung = True
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.01)
    orphans = _orphans(pid)
    text = log.read_text(errors="replace") if log.exists() else ""
    code = os.waitstatus_to_exitcode(status)
    return Ended(code, text, time.monotonic() - started, hung, orphans)


def _orphans(group: int) -> bool:
    """Whether a process of an ended trial is alive five seconds later; it is killed."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    return True


def run(arguments: list[str], log: Path, draw: bool = True) -> Ended:
    """Run `drp` in a process of its own; without `draw`, the figures of its report are empty."""

    def work() -> int:
        with nullcontext() if draw else undrawn():
            return run_drp(arguments)

    return finish(begin(work, log), log)


def escapes(ended: Ended, *folders: Path) -> list[str]:
    """Return what is wrong with the end of a trial, and with the folders it wrote to.

    Allowed are the documented exit codes; nothing half written may remain.
    """
    wrong = []
    if ended.hung:
        wrong.append(f"still running after {SECONDS:.0f} s")
    elif ended.code not in DOCUMENTED:
        wrong.append(f"exit code {ended.code}")
    if "Traceback (most recent call last)" in ended.text:
        wrong.append("traceback")
    if ended.orphans:
        wrong.append("orphaned process")
    for folder in folders:
        wrong += [f"leftover {p.relative_to(folder)}" for p in scratch(folder)]
        wrong += [f"partial publication: {text}" for text in partial(folder)]
    return wrong


def scratch(folder: Path) -> list[Path]:
    """Return what runs should have cleared away."""
    return [
        p for p in folder.rglob("*") if p.name.startswith(".") or p.suffix in (".stage", ".part")
    ]


def partial(folder: Path) -> list[str]:
    """Return what is wrong with the published folders below a folder."""
    found = [p for p in folder.rglob("CH_*") if p.is_dir() and read_published_name(p.name)]
    return [text for place in found for text in _incomplete(place)]


def _incomplete(place: Path) -> list[str]:
    try:
        manifest = json.loads((place / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        return [f"{place.name} has no manifest ({error})"]
    listed = {entry["name"]: entry["sha256"] for entry in manifest["files"]}
    present = {str(p.relative_to(place)) for p in place.rglob("*") if p.is_file()}
    odd = sorted((present ^ set(listed)) - {"manifest.json"})
    spoiled = [n for n in listed if n in present and disk.sha256(place / n) != listed[n]]
    return [f"{place.name}/{name}" for name in [*odd, *spoiled]]
