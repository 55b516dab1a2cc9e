"""The report: seconds of collecting and drawing, of typesetting, and their share of a reduction.

Run: python -m benchmarks.report [VISIT [REFERENCES]]; without arguments a visit is simulated. Both
parts run twice and the second run counts, when everything is imported. Seconds are CPU time of this
process, so other work on the machine does not matter.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flows.reduce
from flows.runs.reduction import run_reduce
from schemas.requests import ReduceRequest
from tasks.delivery.report.report import collect_report
from tasks.simulation.case import load_case
from tasks.simulation.visit import simulate_visit

spent: dict[str, float] = {}


def run_twice(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function so that it runs twice and the CPU time of the second run is recorded."""

    def twice(*arguments: Any, **options: Any) -> Any:
        first = time.process_time()
        function(*arguments, **options)
        middle = time.process_time()
        result = function(*arguments, **options)
        spent[name] = time.process_time() - middle
        spent["extra"] = spent.get("extra", 0.0) + middle - first
        return result

    return twice


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        visit, references = (
            Path(sys.argv[1]) if len(sys.argv) > 1 else root / "visit",
            tuple(map(Path, sys.argv[2:])),
        )
        if len(sys.argv) == 1:
            simulate_visit(visit, load_case("demo"))
        collect_report.fn = run_twice("collecting and drawing", collect_report.fn)
        flows.reduce.typeset_report = run_twice("typesetting", flows.reduce.typeset_report)  # type: ignore[assignment]
        started = time.process_time()
        request = ReduceRequest(
            visit=visit, references=references, output=root / "out", work=root / "work"
        )
        published, _ = run_reduce(request, "plain")
        whole = time.process_time() - started - spent.pop("extra")
        assert published is not None
        for name, seconds in spent.items():
            print(f"{name:24s} {seconds:6.2f} s")
        total = sum(spent.values())
        print(f"{'both':24s} {total:6.2f} s, {total / whole:.1%} of the reduction, {whole:.1f} s")


if __name__ == "__main__":
    main()
