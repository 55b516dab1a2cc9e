"""A campaign: several visits in parallel, each in its own process, so that one can fail alone."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from schemas.errors import plain
from tasks.engine.child import COMMAND, Process, start_python

LONGEST = 4000  # characters of an error message, with the path of its report
MOST_OUTPUT = 16 << 20  # bytes read from an output stream of a reduction


@dataclass
class VisitResult:
    """The outcome of a visit. `text` is the published folder or the error message."""

    visit: str
    code: int
    seconds: float
    verdict: str = ""
    text: str = ""
    new: bool = False


@dataclass
class _Running:
    index: int
    process: Process
    began: float
    output: IO[bytes]
    errors: IO[bytes]


def run_campaign(
    visits: Sequence[Path],
    options: Sequence[str],
    jobs: int,
    report: Callable[[VisitResult], None] = lambda _: None,
    command: Sequence[str] = (*COMMAND, "reduce"),
) -> list[VisitResult]:
    """Reduce visits, at most `jobs` at a time, and return their results in the same order.

    Parameters
    ----------
    visits : sequence of Path
        Folders, as for `drp reduce`.
    options : sequence of str
        Further arguments of `drp reduce`.
    jobs : int
        Number of processes.
    report : callable
        Called with each result as soon as the visit has ended.
    command : sequence of str
        Arguments of Python, before the options and a visit.
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
                report(result)
            time.sleep(0.02)
    return [results[i] for i in range(len(visits))]


@contextmanager
def _children() -> Iterator[list[_Running]]:
    running: list[_Running] = []
    try:
        yield running
    finally:
        for each in running:
            each.process.terminate()  # each cleans up after itself
        for each in running:
            each.process.wait()


def _start(index: int, command: Sequence[str]) -> _Running:
    output, errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 (closed in _result)
    process = start_python(command, output=output, errors=errors)
    return _Running(index, process, time.monotonic(), output, errors)


def _result(ended: _Running, visit: str) -> VisitResult:
    seconds = round(time.monotonic() - ended.began, 2)
    texts: list[bytes] = []
    for stream in (ended.output, ended.errors):
        with stream:
            stream.seek(0)
            texts.append(stream.read(MOST_OUTPUT))
    code = ended.process.returncode
    result = VisitResult(visit, code if code >= 0 else 128 - code, seconds)
    try:
        answer: Any = json.loads(texts[0])["published"]
        result.verdict, result.text, result.new = answer["verdict"], answer["folder"], answer["new"]
    except (ValueError, KeyError, TypeError):
        lines = [line for line in texts[1].decode(errors="replace").splitlines() if line.strip()]
        error = next(
            (line for line in lines if line.startswith(("ERROR", "Error"))),
            lines[-1] if lines else "",
        )
        text = error.removeprefix("ERROR ").removeprefix("Error: ") or f"killed by signal {-code}"
        result.text = plain(text, LONGEST)
    return result
