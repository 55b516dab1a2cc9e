"""The cost of Prefect: seconds beyond the plain engine while its server runs.

Measured cold and with everything up to date. Run: python -m benchmarks.orchestration [VISIT
[REFERENCES]]; without arguments a visit is simulated. `drp up` is started in a folder of its own
and stopped at the end. "By form" is the time from the creation of a run to its end, the start of
its process included.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.reduce import timed
from flows.service.keeper import ask
from flows.service.state import State, read_state
from tasks.engine.child import COMMAND, start_python

STATES = ("cold", "unchanged")
ENDED = ("COMPLETED", "FAILED", "CRASHED")


class Row(NamedTuple):
    """The time of one reduction."""

    engine: str
    state: str
    seconds: float


class Reduction(NamedTuple):
    """The visit to be reduced, and where its results go."""

    visit: str
    references: list[str]
    root: Path
    environment: dict[str, str]

    def by_command(self, engine: str, name: str, *more: str) -> float:
        """Return the seconds of `drp reduce` with the output and work folders of a name."""
        options = [option for r in self.references for option in ("--references", r)]
        output, work = self.root / f"out-{name}", self.root / f"work-{name}"
        places = ["--output", str(output), "--work", str(work)]
        command = ["reduce", self.visit, "--engine", engine, "-q", *options, *places, *more]
        return timed(command, self.environment)[0]

    def by_form(self, state: State) -> float:
        """Return the seconds from the creation of a run by form to its end."""
        request = {
            "visit": self.visit,
            "references": self.references,
            "output": str(self.root / "out-form"),
            "work": str(self.root / "work-form"),
        }
        started = time.perf_counter()
        deployment = ask(state, "deployments/name/reduce/reduce")["id"]
        path = f"deployments/{deployment}/create_flow_run"
        run = ask(state, path, {"parameters": {"request": request}})["id"]
        while (now := ask(state, f"flow_runs/{run}"))["state_type"] not in ENDED:
            time.sleep(0.2)
        if now["state_type"] != "COMPLETED":
            raise SystemExit(f"the run ended with {now['state_name']}: {now['state']['message']}")
        return time.perf_counter() - started


def under_server(reduction: Reduction) -> list[Row]:
    """Return the times of reductions while the server runs, and stop it."""
    try:
        server = read_state(reduction.root / "library" / "prefect")
        assert server is not None
        rows = [Row("server", state, reduction.by_command("auto", "server")) for state in STATES]
        return rows + [Row("by form", state, reduction.by_form(server)) for state in STATES]
    finally:
        if start_python([*COMMAND, "down", "-q"], reduction.environment).wait():
            raise SystemExit("the server did not stop")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        environment = {
            **os.environ,
            "DRP_WORK": str(root / "library"),
            "SOURCE_DATE_EPOCH": "1700000000",
        }
        environment.pop("PREFECT_API_URL", None)
        visit = sys.argv[1] if len(sys.argv) > 1 else str(root / "visit")
        if len(sys.argv) < 2:
            timed(["simulate", visit, "-q"], environment)
        reduction = Reduction(visit, sys.argv[2:], root, environment)
        reduction.by_command("plain", "warm", "--until", "report")  # compiles kernels
        rows = [Row("plain", state, reduction.by_command("plain", "plain")) for state in STATES]
        up = timed(["up", "--port", "0", "-q"], environment)[0]
        rows += under_server(reduction)
    plain = {row.state: row.seconds for row in rows if row.engine == "plain"}
    print(f"drp up {up:.1f} s")
    for engine, state, seconds in rows:
        print(
            f"{engine:8s} {state:10s} {seconds:6.1f} s  {seconds / plain['cold']:5.2f} of "
            f"plain cold  {seconds - plain[state]:+6.1f} s"
        )


if __name__ == "__main__":
    main()
