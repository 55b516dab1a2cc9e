"""Reductions that are stopped or killed at random moments, and go on to the same bytes."""

from __future__ import annotations

import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

from tests.soak.mutants import Random
from tests.soak.stage import STOPPED, Ended, Stage, begin, escapes, finish, partial, run_drp
from tests.support.runs import differing, undrawn

MOST = 8  # disturbances of one reduction, before it may end
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def reduce_undrawn(arguments: list[str]) -> int:
    """Reduce a visit; the figures of its report are empty, as in the undisturbed one."""
    with undrawn():
        return run_drp(arguments)


def try_kills(
    stage: Stage, rng: Random, duration: float, log: Path
) -> tuple[list[Ended], list[str]]:
    """Disturb a reduction until it has ended; return how each run ended, and what is wrong.

    `duration` is that of an undisturbed one [s].
    """
    root = stage.root / "kills"
    shutil.rmtree(root, ignore_errors=True)
    case = Stage(root, stage.visit, stage.references, root / "work", root / "out")
    wrong: list[str] = []
    runs: list[Ended] = []
    for _ in range(MOST):
        # a few early ones meet the inventory, the others any step
        delay = float(rng.uniform(0, 1 if rng.random() < 0.2 else 1.1 * duration))
        chosen = SIGNALS[rng.integers(len(SIGNALS))]
        began = time.monotonic()
        pid = begin(lambda: reduce_undrawn(case.reduce("-q")), log)
        deadline = began + delay
        while time.monotonic() < deadline and _is_running(pid):
            time.sleep(0.005)
        if _is_running(pid):
            os.kill(pid, chosen)
        ended = replace(finish(pid, log), seconds=time.monotonic() - began)
        runs.append(ended)
        name = signal.Signals(chosen).name
        wrong += [f"{name} after {delay:.2f} s: {text}" for text in _after(ended.code, case)]
        if ended.code not in (-signal.SIGKILL, *STOPPED):
            wrong += [f"{name} after {delay:.2f} s: {text}" for text in escapes(ended)]
        if ended.orphans:
            wrong.append(f"{name} after {delay:.2f} s: orphaned process")
        if wrong:
            return runs, wrong
        if ended.code == 0:
            break
    ended = finish(begin(lambda: reduce_undrawn(case.reduce("-q")), log), log)
    wrong += escapes(ended, case.output, case.work)
    if not wrong:
        wrong = [f"differs: {n}" for n in differing(next(case.output.iterdir()), stage.published)]
    return [*runs, ended], wrong


def _is_running(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"


def _after(code: int, case: Stage) -> list[str]:
    """Return what is wrong after a disturbance: what is published is whole."""
    if code == -signal.SIGKILL or code in STOPPED or code == 0:
        visible = case.output.is_dir()
        return [f"partial publication: {text}" for text in partial(case.output)] if visible else []
    return [f"exit code {code}"]
