"""A whole reduction as a user sees it: seconds and peak memory, plain and under Prefect, cold and
with nothing to do.

Run: python -m benchmarks.reduce [VISIT [REFERENCES]]; without arguments a visit is simulated.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def timed(arguments: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Return seconds and peak memory [MB] of one run of `drp`, its children included."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.command.main", *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(
            f"drp {' '.join(arguments)} ended with {os.waitstatus_to_exitcode(status)}"
        )
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        environment = {
            **os.environ,
            "DRP_WORK": str(root / "library"),
            "SOURCE_DATE_EPOCH": "1700000000",
        }
        if len(sys.argv) > 1:
            visit, references = sys.argv[1], sys.argv[2:]
        else:
            visit, references = str(root / "visit"), []
            timed(["simulate", visit, "-q"], environment)
        rows = []
        for engine in ("plain", "prefect"):
            options = [
                "--engine",
                engine,
                "--output",
                str(root / f"out-{engine}"),
                "--work",
                str(root / f"work-{engine}"),
                "-q",
            ]
            options += [o for r in references for o in ("--references", r)]
            for state in ("cold", "unchanged"):
                rows.append((engine, state, *timed(["reduce", visit, *options], environment)))
        first = rows[0][2]
        for engine, state, seconds, megabytes in rows:
            print(
                f"{engine:8s} {state:10s} {seconds:6.1f} s  {seconds / first:5.2f} of plain "
                f"cold  {megabytes:6.0f} MB"
            )


if __name__ == "__main__":
    main()
