"""The simulator: seconds and peak memory by number of threads and by length of the visit.

Run: python -m benchmarks.simulate; the argument `long` adds the case of 3000 stacks.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from tasks.engine.child import start_python

PROGRAM = """
import sys
from pathlib import Path
from tasks.simulation.case import load_case
from tasks.simulation.visit import simulate_visit
case, images, threads, folder = sys.argv[1:]
case = load_case(case).model_copy(update={"images": int(images)})
simulate_visit(Path(folder), case, threads=int(threads))
"""


def timed(case: str, images: int, threads: int, folder: Path) -> tuple[float, float]:
    """Return seconds and peak memory [MB] of simulating a visit, the start of Python included."""
    environment = {
        **os.environ,
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    }
    started = time.perf_counter()
    output = folder / f"{case}-{images}-{threads}"
    program = ["-c", PROGRAM, case, str(images), str(threads), str(output)]
    process = start_python(program, environment, errors=sys.stderr.fileno())
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{case} ended with {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def main() -> None:
    runs = [("demo", 300, 1), ("demo", 300, 2), ("long", 300, 2), ("long", 1500, 2)]
    if "long" in sys.argv[1:]:
        runs.append(("long", 3000, 2))
    with tempfile.TemporaryDirectory() as folder:
        timed("demo", 2, 1, Path(folder))  # compiles kernels
        rows = [(*run, *timed(*run, Path(folder))) for run in runs]
    first = rows[0][3]
    print(
        f"{'case':6s} {'stacks':>6s} {'threads':>7s} {'seconds':>8s} {'of the first':>12s} "
        f"{'MB':>6s}"
    )
    for case, images, threads, seconds, megabytes in rows:
        print(
            f"{case:6s} {images:6d} {threads:7d} {seconds:8.1f} {seconds / first:12.2f} "
            f"{megabytes:6.0f}"
        )


if __name__ == "__main__":
    main()
