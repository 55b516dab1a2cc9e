"""A campaign on a Prefect pool: an executor whose tasks are flow runs of `reduce-lean`.

A run is created with an idempotency key, so that a campaign that was killed finds its own runs
again. Whatever becomes of the executor, the runs go on.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Scheduled

from flows.campaign.visit import ATTEMPTS, Task
from schemas import errors
from schemas.campaigns import Outcome, worth_a_retry
from tasks.delivery.folder import verdict_of

LOOK_SECONDS = 3.0
STUCK_SECONDS = 300.0  # between taking a run and starting its process
LOST_SECONDS = 1800.0  # without an answer of the server

_ENDED = (StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED)


@dataclass
class _Open:
    task: Task
    future: Future[Outcome]
    attempt: int
    lost: float = 0.0


class RunExecutor(Executor):
    """Submits visits as runs of a deployment.

    Parameters
    ----------
    deployment : str
        Its name, FLOW/DEPLOYMENT.
    request : mapping
        The form of every visit, without the visit itself.
    key : str
        Beginning of the idempotency keys.
    tag : str
        A tag of the runs.
    """

    def __init__(self, deployment: str, request: Mapping[str, Any], key: str, tag: str) -> None:
        self.request = request
        self.key = key
        self.tag = tag
        self.runs: dict[UUID, _Open] = {}
        self.guard = threading.Lock()
        self.ended = threading.Event()
        self.answered = time.monotonic()
        with get_client(sync_client=True) as client:
            self.deployment = client.read_deployment_by_name(deployment).id
        self.watcher = threading.Thread(target=self.watch, name="runs", daemon=True)
        self.watcher.start()

    def submit(self, _do: Callable[..., Any], /, *arguments: Any, **_: Any) -> Any:
        """Create the run of a visit, or find it; what is to be done is known to the deployment."""
        future: Future[Outcome] = Future()
        (task,) = arguments
        with get_client(sync_client=True) as client:
            self.create(client, _Open(task, future, 1))
        return future

    def create(self, client: SyncPrefectClient, opened: _Open) -> None:
        """Create a run."""
        task = opened.task
        run = client.create_flow_run_from_deployment(
            self.deployment,
            name=f"reduce-lean {Path(task.visit).name}",  # also while it waits
            parameters={"request": {**self.request, "visit": task.visit}},
            tags=["drp", self.tag],
            idempotency_key=f"{self.key}:{task.visit}:{task.earlier}.{opened.attempt}",
        )
        with self.guard:
            self.runs[run.id] = opened

    def lost(self) -> str:
        """Return why no further result can come."""
        silent = time.monotonic() - self.answered > LOST_SECONDS
        return "the Prefect server does not answer" if silent else ""

    def watch(self) -> None:
        """Look at the open runs until the executor is shut down."""
        while not self.ended.wait(LOOK_SECONDS):
            try:
                with get_client(sync_client=True) as client:
                    self.look(client)
            except Exception:  # noqa: S112 (the server may be restarted: look again)
                continue
            self.answered = time.monotonic()

    def look(self, client: SyncPrefectClient) -> None:
        """Take the outcomes of runs that have ended, and free those that are stuck."""
        with self.guard:
            known = list(self.runs)
        for first in range(0, len(known), 100):
            chosen = FlowRunFilter(id=FlowRunFilterId(any_=known[first : first + 100]))
            for run in client.read_flow_runs(flow_run_filter=chosen, limit=100):
                state = run.state
                if state is None:
                    continue
                if state.type in _ENDED:
                    self.finish(client, run)
                elif state.type == StateType.PENDING and _age(state) > STUCK_SECONDS:
                    again: State[Any] = Scheduled(name="Resubmitted", message="was never started")
                    client.set_flow_run_state(run.id, again, force=True)

    def finish(self, client: SyncPrefectClient, run: FlowRun) -> None:
        """Take the outcome of a run, or try the visit again."""
        with self.guard:
            opened = self.runs.pop(run.id)
        seconds = run.total_run_time.total_seconds()
        outcome = outcome_of_run(opened.task.visit, run)
        if worth_a_retry(outcome.code) and opened.attempt < ATTEMPTS and outcome.code < 128:
            again = _Open(opened.task, opened.future, opened.attempt + 1, opened.lost + seconds)
            self.create(client, again)
            return
        opened.future.set_result(
            outcome.model_copy(
                update={
                    "attempts": opened.attempt + max(run.run_count - 1, 0),
                    "lost": round(opened.lost, 2),
                    "seconds": round(opened.lost + seconds, 2),
                }
            )
        )

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the watch; the runs go on."""
        del cancel_futures
        self.ended.set()
        if wait:
            self.watcher.join()


def _age(state: State[Any]) -> float:
    return (datetime.now(UTC) - state.timestamp).total_seconds()


def outcome_of_run(visit: str, run: FlowRun) -> Outcome:
    """Return the outcome of a visit from its run, which has ended."""
    state = run.state
    assert state is not None
    text = state.message or state.name or ""
    facts: dict[str, Any] = {"visit": visit, "ended": state.timestamp.timestamp()}
    if state.type == StateType.COMPLETED:
        folder = re.sub(r"^(published|already up to date:) ", "", text)
        verdict = verdict_of(Path(folder)) if folder.startswith("/") else ""
        return Outcome(code=0, text=folder, verdict=verdict, new=state.name == "Completed", **facts)
    if state.type == StateType.CANCELLED:
        return Outcome(code=130, text="cancelled", **facts)
    if state.name == "NeedsPerson":
        return Outcome(code=137, text=text, **facts)
    return Outcome(code=code_of(text), text=text.partition("exception: ")[2] or text, **facts)


# errors of Prefect's client while the server is away: the run's own state could not be sent
_AWAY = re.compile(
    r"exception: ((Connect|Read|Write|Pool)(Error|Timeout)|RemoteProtocolError|"
    r"PrefectHTTPStatusError)\b"
)


def code_of(message: str) -> int:
    """Return the exit code of the error that the message of a failed run names."""
    if _AWAY.search(message):
        return errors.BusyError.exit_code
    for kind in errors.DrpError.__subclasses__():
        if re.search(rf"\b{kind.__name__}\b", message):
            return kind.exit_code
    return 70
