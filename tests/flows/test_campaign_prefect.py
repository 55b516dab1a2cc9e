"""Campaigns on a Prefect pool with PostgreSQL and two workers, all of whose parts are killed."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flows.campaign.state import read_history
from schemas import ROOT
from tests.support.installation import Installation, installed
from tests.support.postgresql import postgresql
from tests.support.processes import children, command, until
from tests.support.runs import Bench, simulate_tiny

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(3600)]

VISITS = 12


@contextmanager
def second_worker(here: Installation, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a further worker of the pool, as another machine would."""
    line = ["-m", "prefect", "worker", "start", "--pool", "drp", "--type", "process"]
    line += ["--name", "second", "--limit", "1"]
    environment = {
        **os.environ,
        "PREFECT_API_URL": here.state.api,
        "PREFECT_API_AUTH_STRING": here.state.auth,
        "PREFECT_HOME": str(log.parent / "second"),
        "PREFECT_CLIENT_MAX_RETRIES": "5",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PYTHONPATH": str(ROOT),
    }
    with open(log, "ab") as out:
        worker = subprocess.Popen(
            [sys.executable, "-P", *line], env=environment, stdout=out, stderr=out
        )
    try:
        yield worker
    finally:
        for end in (worker.terminate, worker.kill):  # it waits for runs whose server is gone
            end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(60)


def runs_of(here: Installation, **filters: Any) -> list[dict[str, Any]]:
    return list(here.ask("flow_runs/filter", {"limit": 200, "flow_runs": filters}))


def lean_runs(here: Installation, name: str) -> list[dict[str, Any]]:
    return runs_of(here, tags={"all_": ["drp", f"campaign:{name}"]})


def run_process(here: Installation, name: str) -> int:
    """Return the process of a running flow run, by the pool of its worker."""
    worker = here.process(f"prefect worker start --pool {name} ")
    return until(
        lambda: next((pid for pid in children(worker) if "prefect" in command(pid)), 0), 90
    )


def test_a_campaign_loses_nothing_whatever_part_is_killed(library: Path, tmp_path: Path) -> None:
    (tmp_path / "visits").mkdir()
    for number in range(VISITS):
        simulate_tiny(tmp_path / "visits" / f"visit{number:02d}", number + 1)
        (tmp_path / "visits" / f"visit{number:02d}.toml").unlink()
    output = tmp_path / "products"
    request = {
        "name": "kills",
        "folder": str(tmp_path / "visits"),
        "references": [str(library)],
        "output": str(output),
        "work": str(tmp_path / "work"),
    }

    def published() -> int:
        return len(list(output.glob("CH_*"))) if output.exists() else 0

    with (
        postgresql() as data,
        installed(tmp_path / "up", DRP_DATABASE=data.url, DRP_LOST_SECONDS="35") as here,
        second_worker(here, tmp_path / "second.log"),
    ):
        campaign = here.create("campaign", **request)
        until(lambda: published() >= 1, 600)
        # a worker with its runs
        worker = here.process("prefect worker start --pool drp ")
        for pid in (worker, *children(worker)):
            os.kill(pid, signal.SIGKILL)
        until(lambda: published() >= 3, 600)
        # the server
        os.kill(here.process("prefect server start"), signal.SIGKILL)
        until(lambda: published() >= 5, 600)
        # the database
        data.stop()
        time.sleep(3)
        data.start()
        until(lambda: published() >= 7, 600)
        # a run that a worker has taken and lost
        waiting = [r for r in lean_runs(here, "kills") if r["state_type"] == "SCHEDULED"]
        for run in waiting[:1]:
            pending = {"state": {"type": "PENDING"}, "force": True}
            here.ask(f"flow_runs/{run['id']}/set_state", pending)
        # the campaign itself
        os.kill(run_process(here, "drp-control"), signal.SIGKILL)
        run = here.end(campaign, 1800)
        assert run["state"]["message"].startswith(f"visits: {VISITS}, failed: 0; report: "), run
        assert run["run_count"] >= 2
    assert sorted(p.name[-6:] for p in output.glob("CH_*")) == ["_V0000"] * VISITS  # each once
    history = read_history(output / "campaigns" / "kills.jsonl")
    assert [o.code for o in history.reached()] == [0] * VISITS


def test_neither_a_recovery_nor_an_urgent_visit_waits_behind_a_campaign(
    reduced: Bench, tmp_path: Path
) -> None:
    bench = reduced.copy(tmp_path)
    with (
        postgresql() as data,
        installed(tmp_path / "up", DRP_DATABASE=data.url) as here,
    ):
        lean = here.ask("deployments/name/reduce-lean/reduce-lean")["id"]
        for number in range(50):
            asked = {"parameters": {"request": {"visit": f"/nothing/{number}"}}}
            here.ask(f"deployments/{lean}/create_flow_run", asked)
        # a run whose process died
        late = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2100-01-01T00:00:00Z"}}
        asked = {
            "parameters": {"request": {"visit": "/nothing/lost"}},
            "state": late,
            "idempotency_key": secrets.token_hex(8),
        }
        lost = here.ask(f"deployments/{lean}/create_flow_run", asked)["id"]
        crashed = datetime.now(UTC)
        for state in ("PENDING", "RUNNING", "CRASHED"):
            here.ask(f"flow_runs/{lost}/set_state", {"state": {"type": state}, "force": True})
        urgent = here.create(
            "reduce",
            visit=str(bench.visit),
            references=[str(bench.references[0])],
            work=str(bench.work),
            output=str(bench.output),
        )

        def began(run: dict[str, Any]) -> datetime | None:
            return datetime.fromisoformat(run["start_time"]) if run["start_time"] else None

        recovery = until(lambda: next((r for r in runs_of(here) if is_recovery(r)), None), 90)
        assert recovery is not None
        started = began(recovery)
        assert started is not None
        assert (started - crashed).total_seconds() < 30
        first = began(here.end(urgent, 600))
        assert first is not None
        others = map(began, runs_of(here, deployment_id={"any_": [lean]}))
        assert sum(time is not None and time < first for time in others) <= 10


def is_recovery(run: dict[str, Any]) -> bool:
    """Return whether a run is a recovery that has begun."""
    return run["work_pool_name"] == "drp-control" and bool(run["start_time"])
