"""What Prefect adds to a visit when its server runs: seconds beyond the plain engine, cold and with
nothing to do.

Run: python -m benchmarks.orchestration [VISIT [REFERENCES]]; without arguments a visit is
simulated. `drp up` is started in a folder of its own and ended. By form means from the creation of
the run to its end, with the start of its process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.reduce import timed
from flows.service.keeper import ask
from flows.service.state import State, read_state


def by_form(state: State, form: dict[str, Any]) -> float:
    """Return the seconds from the creation of a run to its end."""
    started = time.perf_counter()
    deployment = ask(state, "deployments/name/reduce/drp")["id"]
    run = ask(
        state, f"deployments/{deployment}/create_flow_run", {"parameters": {"request": form}}
    )["id"]
    while (now := ask(state, f"flow_runs/{run}"))["state_type"] not in (
        "COMPLETED",
        "FAILED",
        "CRASHED",
    ):
        time.sleep(0.2)
    if now["state_type"] != "COMPLETED":
        raise SystemExit(f"the run ended with {now['state_name']}: {now['state']['message']}")
    return time.perf_counter() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        environment = {
            **os.environ,
            "DRP_WORK": str(root / "library"),
            "SOURCE_DATE_EPOCH": "1700000000",
        }
        environment.pop("PREFECT_API_URL", None)
        visit, references = (
            (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else (str(root / "visit"), [])
        )
        if not references and len(sys.argv) < 2:
            timed(["simulate", visit, "-q"], environment)
        options = [option for r in references for option in ("--references", r)]
        timed(
            [
                "reduce",
                visit,
                *options,
                "--work",
                str(root / "warm"),
                "--until",
                "report",
                "-q",
                "--engine",
                "plain",
            ],
            environment,
        )

        def reduced(engine: str, name: str) -> float:
            places = ["--output", str(root / f"out-{name}"), "--work", str(root / f"work-{name}")]
            return timed(
                ["reduce", visit, "--engine", engine, "-q", *options, *places], environment
            )[0]

        rows = [("plain", state, reduced("plain", "plain")) for state in ("cold", "unchanged")]
        up = timed(["up", "--port", "0", "-q"], environment)[0]
        try:
            server = read_state(root / "library" / "prefect")
            assert server is not None
            rows += [
                ("server", state, reduced("auto", "server")) for state in ("cold", "unchanged")
            ]
            form = {
                "visit": visit,
                "references": references,
                "output": str(root / "out-form"),
                "work": str(root / "work-form"),
            }
            rows += [("by form", state, by_form(server, form)) for state in ("cold", "unchanged")]
        finally:
            subprocess.run(
                [sys.executable, "-m", "flows.command.main", "down", "-q"],
                env=environment,
                check=True,
            )
        plain = {state: seconds for engine, state, seconds in rows if engine == "plain"}
        print(f"drp up {up:.1f} s")
        for engine, state, seconds in rows:
            more = seconds - plain[state]
            print(
                f"{engine:8s} {state:10s} {seconds:6.1f} s  {seconds / plain['cold']:5.2f} of "
                f"plain cold  {more:+6.1f} s"
            )


if __name__ == "__main__":
    main()
