"""CPU of a whole reduction over that of a bare chain of ccdproc and photutils on the same visit.

Run: python -m benchmarks.peer [CASE ...], with names of simulated cases such as demo or long, or
folders of visits; the default is demo. The peer (`apart/peer_chain.py`) has an environment of its
own in build/peer, which the first run makes; that needs the package index. Both run on one thread
with warm kernels, and alternate: load of the machine changes both. Results: docs/performance.md.
"""

from __future__ import annotations

import os
import sys
import tempfile
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from reference_data.library import library_folder
from schemas import ROOT
from tasks.engine.child import COMMAND, handed_over, start_python

PACKAGES = ROOT / "benchmarks" / "apart" / "peer.txt"

CHAIN = ROOT / "benchmarks" / "apart" / "peer_chain.py"

ROUNDS = 2


class Cost(NamedTuple):
    """Processor seconds and peak memory [MB]."""

    seconds: float
    megabytes: float


def peer_python() -> Path:
    """Return the Python of the peer, whose environment is made if it is missing."""
    folder = ROOT / "build" / "peer"
    python, made = folder / "bin" / "python", folder / "made"
    if not made.exists():
        print(f"making the environment of the peer in {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        install = ["-m", "pip", "install", "-q", "--disable-pip-version-check"]
        cost_of(handed_over(python, *install, "-r", PACKAGES), os.environ)
        made.touch()
    return python


def cost_of(arguments: list[str], environment: Mapping[str, str]) -> Cost:
    """Return the cost of a child process of Python, its own children included."""
    process = start_python(arguments, environment)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{arguments[:4]} ended with {os.waitstatus_to_exitcode(status)}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def compare(visit: Path, folder: Path, environment: dict[str, str]) -> tuple[Cost, Cost]:
    """Return the least cost of the pipeline and of the peer on a visit."""
    subarray = next((visit / "data").glob("*SCI_RAW_SubArray*.fits"))
    ours, theirs = [], []
    for k in range(ROUNDS + 1):  # the first run compiles kernels
        output = folder / f"{visit.name}-{k}"
        output.mkdir()
        drp = [*COMMAND, "reduce", str(visit), "--engine", "plain", "-q"]
        places = ["--output", str(output / "products"), "--work", str(output / "work")]
        ours.append(cost_of([*drp, *places], environment))
        chain = handed_over(peer_python(), CHAIN, subarray, library_folder(), output)
        theirs.append(cost_of(chain, environment))
    return min(ours[1:]), min(theirs[1:])


def main() -> None:
    peer_python()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {
            **os.environ,
            "DRP_WORK": str(folder / "library"),
            "SOURCE_DATE_EPOCH": "1700000000",
            **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
        }
        print(f"{'visit':16s} {'pipeline':>10s} {'peer':>8s} {'ratio':>6s} {'memory':>8s}")
        for case in sys.argv[1:] or ["demo"]:
            visit = Path(case)
            if not visit.is_dir():
                visit = folder / case
                cost_of([*COMMAND, "simulate", str(visit), "--case", case, "-q"], environment)
            ours, theirs = compare(visit, folder, environment)
            print(
                f"{visit.name:16s} {ours.seconds:8.1f} s {theirs.seconds:6.1f} s "
                f"{ours.seconds / theirs.seconds:6.2f} {ours.megabytes:5.0f} MB"
            )


if __name__ == "__main__":
    main()
