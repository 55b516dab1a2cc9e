"""A whole reduction as a user experiences it: seconds and peak memory.

Measured without and with Prefect, cold and with everything up to date. Run: python -m
benchmarks.reduce [VISIT [REFERENCES]]; without arguments a visit is simulated.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from tasks.engine.child import COMMAND, start_python


def timed(arguments: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Return seconds and peak memory [MB] of one run of `drp`, its children included."""
    started = time.perf_counter()
    process = start_python([*COMMAND, *arguments], environment, errors=sys.stderr.fileno())
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(
            f"drp {' '.join(arguments)} ended with {os.waitstatus_to_exitcode(status)}"
        )
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def reduce_twice(
    engine: str, visit: str, references: list[str], root: Path, environment: dict[str, str]
) -> list[tuple[str, str, float, float]]:
    """Return engine, state, seconds and peak memory [MB] of a first and a second reduction."""
    folders = ["--output", str(root / f"out-{engine}"), "--work", str(root / f"work-{engine}")]
    options = ["--engine", engine, *folders, "-q"]
    options += [option for r in references for option in ("--references", r)]
    return [
        (engine, state, *timed(["reduce", visit, *options], environment))
        for state in ("cold", "unchanged")
    ]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        environment = {
            **os.environ,
            "DRP_WORK": str(root / "library"),
            "SOURCE_DATE_EPOCH": "1700000000",
        }
        visit = sys.argv[1] if len(sys.argv) > 1 else str(root / "visit")
        if len(sys.argv) < 2:
            timed(["simulate", visit, "-q"], environment)
        rows = [
            row
            for engine in ("plain", "prefect")
            for row in reduce_twice(engine, visit, sys.argv[2:], root, environment)
        ]
    first = rows[0][2]
    for engine, state, seconds, megabytes in rows:
        print(
            f"{engine:8s} {state:10s} {seconds:6.1f} s  {seconds / first:5.2f} of plain "
            f"cold  {megabytes:6.0f} MB"
        )


if __name__ == "__main__":
    main()
