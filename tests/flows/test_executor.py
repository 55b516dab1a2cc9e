"""The executor of campaigns on a pool: what becomes of a run, and runs that are found again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import StateType

from flows.campaign.visit import Task
from flows.service import deployments, executor
from flows.service.campaigns import summary_page, visits_of
from flows.service.executor import RunExecutor, code_of, outcome_of_run
from schemas.campaigns import Outcome
from schemas.errors import MissingInputError, UsageError
from schemas.forms import CampaignForm, ReduceForm


def state(kind: str, name: str = "", message: str = "", age: float = 0.0) -> Any:
    when = datetime.now(UTC) - timedelta(seconds=age)
    return SimpleNamespace(type=StateType[kind], name=name, message=message, timestamp=when)


def run(*of_state: Any, count: int = 1, **more: Any) -> Any:
    spent = timedelta(seconds=5)
    return SimpleNamespace(
        id=uuid4(), state=state(*of_state, **more), run_count=count, total_run_time=spent
    )


@pytest.mark.parametrize(
    ("ended", "code", "text"),
    [
        (("COMPLETED", "Completed", "published /out/CH_X"), 0, "/out/CH_X"),
        (("COMPLETED", "Cached", "already up to date: /out/CH_X"), 0, "/out/CH_X"),
        (("CANCELLED", "Cancelled", ""), 130, "cancelled"),
        (("FAILED", "NeedsPerson", "the process died 4 times"), 137, "the process died 4 times"),
        (("FAILED", "Failed", "Flow run encountered an exception: BadInputError: x"), 65, "x"),
        (("FAILED", "Failed", "exception: ZeroDivisionError: y"), 70, "y"),
    ],
)
def test_a_run_that_has_ended_is_an_outcome(
    ended: tuple[str, str, str], code: int, text: str
) -> None:
    outcome = outcome_of_run("/data/visit", run(*ended))
    assert (outcome.visit, outcome.code) == ("/data/visit", code)
    assert outcome.text.endswith(text)
    assert outcome.new == (ended[1] == "Completed")


def test_the_code_follows_from_the_error_that_is_named() -> None:
    assert code_of("StorageError: /x: write failed") == 74
    assert code_of("BusyError: held") == 75
    assert code_of("?") == 70
    # the server was away when the run wanted to say how it ended
    begin = "Flow run encountered an exception: "
    for error in ("ConnectError: [Errno 111] Connection refused", "ReadTimeout: timed out"):
        assert code_of(begin + error) == 75
    assert code_of(f"{begin}ReaderError: a bug") == 70


@pytest.mark.parametrize("away", [False, True])
def test_a_run_whose_server_is_away_says_later_how_it_ended(
    monkeypatch: pytest.MonkeyPatch, away: bool
) -> None:
    late: list[Any] = []
    monkeypatch.setattr("tasks.engine.prefect.server_answers", lambda: not away)
    monkeypatch.setattr(deployments, "report_late", late.append)
    end: Any = state("COMPLETED")
    assert deployments.ended(end) is end
    assert late == ([end] if away else [])


class Server:
    """What the executor asks of a server."""

    def __init__(self) -> None:
        self.runs: dict[UUID, Any] = {}
        self.keys: dict[str, Any] = {}
        self.forced: list[tuple[UUID, str]] = []

    def read_deployment_by_name(self, _name: str) -> Any:
        return SimpleNamespace(id=uuid4())

    def create_flow_run_from_deployment(self, *_: Any, idempotency_key: str, **more: Any) -> Any:
        if idempotency_key not in self.keys:
            made = run("SCHEDULED")
            made.name, made.parameters = more["name"], more["parameters"]
            self.keys[idempotency_key] = self.runs[made.id] = made
        return self.keys[idempotency_key]

    def read_flow_runs(self, flow_run_filter: Any, limit: int) -> list[Any]:
        del limit
        return [self.runs[i] for i in flow_run_filter.id.any_]

    def set_flow_run_state(self, identity: UUID, new: Any, force: bool) -> None:
        assert force
        self.forced.append((identity, new.name))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()

    @contextmanager
    def client(**_: Any) -> Iterator[Server]:
        yield made

    monkeypatch.setattr(executor, "get_client", client)
    monkeypatch.setattr(executor, "LOOK_SECONDS", 0.02)
    return made


def until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_campaign_finds_its_runs_again_and_tries_what_may_end_otherwise(server: Server) -> None:
    killed = RunExecutor("lean/lean", {"output": "/out"}, "key", "campaign:x")
    killed.submit(print, Task("/data/visit"))
    killed.shutdown()
    pool = RunExecutor("lean/lean", {"output": "/out"}, "key", "campaign:x")
    future = pool.submit(print, Task("/data/visit"))
    (made,) = server.runs.values()
    assert made.name == "reduce-lean visit"
    assert made.parameters == {"request": {"output": "/out", "visit": "/data/visit"}}
    made.state = state("PENDING", age=10.0)
    time.sleep(0.1)
    assert server.forced == []
    made.state = state("PENDING", age=executor.STUCK_SECONDS + 10)
    until(lambda: (made.id, "Resubmitted") in server.forced)
    # the server may be away for a while
    made.state = state("FAILED", "Failed", "exception: BusyError: not enough memory")
    until(lambda: len(server.runs) >= 2)
    assert sorted(server.keys) == ["key:/data/visit:0.1", "key:/data/visit:0.2"]
    server.keys["key:/data/visit:0.2"].state = state("COMPLETED", "Completed", "published /out/X")
    outcome = future.result(timeout=20)
    assert (outcome.code, outcome.attempts, outcome.lost, outcome.seconds) == (0, 2, 5.0, 10.0)
    assert pool.lost() == ""
    pool.answered -= executor.LOST_SECONDS + 1
    pool.shutdown()
    # a visit that has an outcome already gets a run of its own
    other = RunExecutor("lean/lean", {}, "key", "campaign:x")
    other.submit(print, Task("/data/visit", earlier=1))
    other.shutdown()
    assert "key:/data/visit:1.1" in server.keys


def test_a_form_names_a_folder_of_visits_or_a_list(tmp_path: Path) -> None:
    (tmp_path / "visits" / "b").mkdir(parents=True)
    (tmp_path / "visits" / "a").mkdir()
    (tmp_path / "visits" / "file").touch()
    listed = tmp_path / "list"
    listed.write_text("# some\n\n/data/one\n")
    both = CampaignForm(name="x", folder=str(tmp_path / "visits"), list=str(listed))
    visits = tmp_path / "visits"
    assert visits_of(both) == ["/data/one", str(visits / "a"), str(visits / "b")]
    with pytest.raises(UsageError, match="no visit; name a folder whose subfolders are visits"):
        visits_of(CampaignForm(name="x"))
    with pytest.raises(UsageError, match="/nothing: no such folder; name"):
        visits_of(CampaignForm(name="x", folder="/nothing"))
    with pytest.raises(UsageError, match=f"{visits}/a: names no visit; name a folder"):
        visits_of(CampaignForm(name="x", folder=str(visits / "a")))
    with pytest.raises(MissingInputError, match="no such file; expected a text file with the path"):
        visits_of(CampaignForm(name="x", list="/nothing"))
    listed.write_text("relative\n")
    with pytest.raises(UsageError, match="relative: expected an absolute path"):
        visits_of(CampaignForm(name="x", list=str(listed)))
    assert both.form_of_visit(Path("/usual")) == {"output": "/usual", "wait": True}
    own = CampaignForm(name="x", output="/own", strict=True)
    assert own.form_of_visit(Path("/usual")) == {"output": "/own", "wait": True, "strict": True}


def test_the_fields_of_a_form_keep_their_order_in_any_database() -> None:
    for form, first in ((ReduceForm, ["visit"]), (CampaignForm, ["name", "folder", "list"])):
        fields = form.model_json_schema()["properties"]
        order = sorted(fields, key=lambda name: fields[name]["position"])
        shared = ["references", "output", "work", "from_step", "until", "replace", "settings"]
        assert order[: len(first) + len(shared)] == [*first, *shared]


def test_the_summary_of_a_campaign_counts_and_names_the_failures() -> None:
    results = [
        Outcome(visit="/data/a", code=0, text="/out/CH_A"),
        Outcome(visit="/data/b_1", code=65, text="<b>|cut"),
    ]
    page = summary_page("spring", results, Path("/out/campaigns/spring.html"))
    assert "1 of 2 visits are done, 1 failed." in page
    assert "[Report on the campaign](file:///out/campaigns/spring.html)" in page
    assert "| b\\_1 | 65 | &lt;b&gt;\\|cut |" in page
    many = summary_page("x", [results[1]] * 30, Path("/p"))
    assert many.count("| 65 |") == 20
    assert "10 further failures are in the report." in many
