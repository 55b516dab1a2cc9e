"""A campaign: several visits side by side, each in a process of its own, and each failing alone."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from schemas.errors import plain

LONGEST = 4000  # characters of an error: what went wrong, and where its report lies
MOST_OUTPUT = 16 << 20  # bytes of what a reduction says


@dataclass
class VisitResult:
    """What became of one visit: exit code, time it took, verdict, and the published folder or the
    error.
    """

    visit: str
    code: int
    seconds: float
    verdict: str = ""
    text: str = ""
    new: bool = False


@dataclass
class _Running:
    index: int
    process: subprocess.Popen[bytes]
    began: float
    output: IO[bytes]
    errors: IO[bytes]


def run_campaign(
    visits: Sequence[Path],
    options: Sequence[str],
    jobs: int,
    tell: Callable[[VisitResult], None] = lambda _: None,
    command: Sequence[str] = (sys.executable, "-m", "flows.command.main", "reduce"),
) -> list[VisitResult]:
    """Reduce visits, at most `jobs` at a time; return what became of each, in their order.

    Parameters
    ----------
    visits : sequence of Path
        Folders, as `drp reduce` takes them.
    options : sequence of str
        Further arguments of `drp reduce`.
    jobs : int
        Number of processes.
    tell : callable
        Is told of each visit when it has ended.
    command : sequence of str
        What is run with a visit and the options.
    """
    results: dict[int, VisitResult] = {}
    waiting = list(enumerate(visits))[::-1]
    with _children() as running:
        while waiting or running:
            while waiting and len(running) < jobs:
                index, visit = waiting.pop()
                running.append(
                    _start(index, [*command, "--json", "-q", *options, "--", str(visit)])
                )
            for each in [r for r in running if r.process.poll() is not None]:
                running.remove(each)
                result = _result(each, str(visits[each.index]))
                results[each.index] = result
                tell(result)
            time.sleep(0.02)
    return [results[i] for i in range(len(visits))]


@contextmanager
def _children() -> Iterator[list[_Running]]:
    running: list[_Running] = []
    try:
        yield running
    finally:
        for each in running:
            each.process.terminate()  # each cleans up and says so; nothing partial is left
        for each in running:
            each.process.wait()


def _start(index: int, command: Sequence[str]) -> _Running:
    output, errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 (closed when the visit has ended)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
    return _Running(index, process, time.monotonic(), output, errors)


def _result(ended: _Running, visit: str) -> VisitResult:
    seconds = round(time.monotonic() - ended.began, 2)
    said: list[bytes] = []
    for stream in (ended.output, ended.errors):
        with stream:
            stream.seek(0)
            said.append(stream.read(MOST_OUTPUT))
    code = ended.process.returncode
    result = VisitResult(visit, code if code >= 0 else 128 - code, seconds)
    try:
        answer: Any = json.loads(said[0])["published"]
        result.verdict, result.text, result.new = answer["verdict"], answer["folder"], answer["new"]
    except (ValueError, KeyError, TypeError):
        lines = [line for line in said[1].decode(errors="replace").splitlines() if line.strip()]
        error = next(
            (line for line in lines if line.startswith(("ERROR", "Error"))),
            lines[-1] if lines else "",
        )
        text = error.removeprefix("ERROR ").removeprefix("Error: ") or f"ended by signal {-code}"
        result.text = plain(text, LONGEST)
    return result
