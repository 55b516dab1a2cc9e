"""A real server, worker and deployments, as started by `drp up`, and requests to the REST API."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.service.keeper import ask
from flows.service.state import State, read_state
from schemas import ROOT
from tests.support.planted import plant, planted_that_ran
from tests.support.processes import children, command, running, until

ENDED = ("COMPLETED", "FAILED", "CANCELLED")


def drp(
    *arguments: object, folder: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `drp` to its end."""
    line = [sys.executable, "-P", "-m", "flows.command.main", *map(str, arguments)]
    return subprocess.run(
        line,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": python_path(), **environment},
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )


def python_path() -> str:
    """Return a PYTHONPATH with the code and, as its empty entry means, the working folder."""
    return os.pathsep.join((str(ROOT), ""))


@dataclass
class Installation:
    """A server with worker and deployments."""

    home: Path
    state: State

    def ask(self, path: str, data: object = None) -> Any:
        """Return the answer of the server; retry, as SQLite may be locked on a busy machine."""
        for _ in range(10):
            try:
                return ask(self.state, path, data)
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    raise
                time.sleep(1)
        return ask(self.state, path, data)

    def create(self, flow: str, **request: object) -> str:
        """Create a run of a deployment; return its id."""
        deployment = self.ask(f"deployments/name/{flow}/{flow}")["id"]
        asked = {"parameters": {"request": request}, "idempotency_key": secrets.token_hex(8)}
        return str(self.ask(f"deployments/{deployment}/create_flow_run", asked)["id"])

    def run(self, identity: str) -> dict[str, Any]:
        """Return a flow run."""
        return dict(self.ask(f"flow_runs/{identity}"))

    def end(self, identity: str, seconds: float = 300) -> dict[str, Any]:
        """Wait for the end of a flow run, and return it."""

        def ended() -> dict[str, Any]:
            try:
                run = self.run(identity)
            except OSError:  # the server is not there for a while
                return {}
            return run if run["state_type"] in ENDED else {}

        return until(ended, seconds)

    def parts(self, identity: str) -> list[dict[str, Any]]:
        """Return the sub-flows of a run, the first ones first."""
        found = self.ask(
            "flow_runs/filter", {"flow_runs": {"parent_flow_run_id": {"any_": [identity]}}}
        )
        return sorted(found, key=lambda run: str(run["created"]))

    def tasks(self, identity: str) -> list[dict[str, Any]]:
        """Return the tasks of a run and its sub-flows in order, except those that are sub-flows."""
        flows = [identity, *(part["id"] for part in self.parts(identity))]
        found = self.ask(
            "task_runs/filter", {"limit": 200, "task_runs": {"flow_run_id": {"any_": flows}}}
        )
        stand_in = {part["parent_task_run_id"] for part in self.parts(identity)}
        return sorted(
            (t for t in found if t["id"] not in stand_in), key=lambda task: str(task["created"])
        )

    def artifacts(self, identity: str) -> dict[str, Any]:
        """Return what a run shows, by the last part of the key; Prefect's own have no key."""
        found = self.ask("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [identity]}}})
        return {str(a["key"]).split("-", 2)[2]: a["data"] for a in found if a["key"]}

    def log(self, identity: str) -> list[str]:
        """Return the messages in the log of a run, the first ones first."""
        asked = {"logs": {"flow_run_id": {"any_": [identity]}}, "sort": "TIMESTAMP_ASC"}
        return [str(line["message"]) for line in self.ask("logs/filter", asked)]

    def failure(self, identity: str) -> str:
        """Return the page on the failure of a run, the only one that it shows."""
        found = self.ask("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [identity]}}})
        (shown,) = (a for a in found if a["key"])  # Prefect's own have none
        assert shown["key"].endswith("-failure")
        return str(shown["data"])

    def process(self, words: str) -> int:
        """Return the process below the keeper whose command line holds some words."""
        return until(
            lambda: next((pid for pid in self.processes() if words in command(pid)), 0), 60
        )

    def processes(self) -> list[int]:
        """Return the keeper and all below it."""
        found = [self.state.pid]
        for pid in found:
            found += children(pid)
        return found


@contextmanager
def installed(folder: Path, **environment: str) -> Iterator[Installation]:
    """Start an installation in its own work folder, and end it; nothing of it runs afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"DRP_WORK": str(folder), **environment}.items():
            patch.setenv(name, value)
        for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_HOME"):
            patch.delenv(name, raising=False)
        operator = plant(folder / "operator")
        started = drp("up", "--port", 0, folder=operator)
        home = folder / "prefect"
        logs = "".join(path.read_text()[-2000:] for path in home.glob("*.log"))
        assert started.returncode == 0, started.stderr + logs
        state = read_state(home)
        assert state is not None
        installation = Installation(home, state)
        try:
            yield installation
        finally:
            processes = installation.processes()
            ended = drp("down")
        assert (ended.returncode, ended.stderr) == (0, "stopped\n")
        until(lambda: not any(running(pid) for pid in processes), 5)
        assert not (home / "up.json").exists()
        assert planted_that_ran(operator) == []
