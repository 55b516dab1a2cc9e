"""The flows that workers run: entry points of `flows/service/prefect.yaml`.

The form of each is a pydantic model. This is the only module that imports Prefect at the top; the
packages of the pipeline are imported when a flow runs.
"""

from __future__ import annotations

import contextvars
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect import flow, get_run_logger, runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import State, StateType
from prefect.events import emit_event
from prefect.states import Completed, Crashed, Failed, Scheduled

from flows.runs.ending import BESIDE, exit_code, report_notes, watch_storage
from flows.service.environment import log_to_runs
from schemas.errors import ConfigurationError, DrpError, plain
from schemas.forms import (
    CampaignForm,
    Form,
    IntakeForm,
    ReduceForm,
    ReprocessForm,
    SimulateForm,
    ValidateForm,
)
from schemas.names import VISIT
from tasks.files import disk

if TYPE_CHECKING:
    from flows.reprocess import Planned
    from schemas.payloads import Published


log_to_runs()  # a worker runs a flow in a process of its own, which begins here

OURS = "drp"  # the tag of deployments whose runs are resumed

STUCK_SECONDS = 300.0  # a run that a worker has taken is started sooner

MOST_RESUMED = 3  # a run that keeps losing its process needs an operator

FAILED = "drp.run.failed"

LONGEST_REPORT = 1 << 20  # bytes of the report on an order

NEEDS_PERSON = "drp.run.needs-person"


def _first_name() -> str:
    """Return the initial name of a run: the name of the flow and that of the requested folder."""
    request = runtime.flow_run.parameters.get("request")
    values = (
        request
        if isinstance(request, dict)
        else request.model_dump()
        if request is not None
        else {}
    )
    named = ("visit", "name", "folder", "output")
    folder = next(filter(None, map(values.get, named)), "")
    return f"{runtime.flow_run.flow_name} {Path(folder).name}".strip()


OPTIONS: dict[str, Any] = {
    "flow_run_name": _first_name,
    "persist_result": False,
    "result_serializer": "json",
}


@flow(name="reduce", **OPTIONS)
def reduce_visit(request: ReduceForm) -> Any:
    """Reduce a visit: raw images to published light curves and report."""
    with failure_announced(request, request.visit):
        from flows.reduce import reduce_visit as recipe
        from flows.runs.reduction import run_reduce

        published, run = run_reduce(request.request(output_folder()), "prefect", whole=recipe.fn)
    return ended(end_of(published, request.until), lost=run.engine != "prefect")


def ended(end: State[Any], lost: bool = False) -> State[Any]:
    """Return the state in which a run ends; if its server is away, send it later, and exit.

    Prefect would take a state that it cannot send for a failure of the flow.
    """
    from tasks.engine.prefect import server_answers

    if lost or not server_answers():
        report_late(end)
    return end


def end_of(published: Published | None, until: str | None) -> State[Any]:
    """Return the state in which the run of a reduction ends."""
    if published is None:
        return Completed(name="Stopped", message=f"stopped after {until} without publishing")
    if published.new:
        return Completed(message=f"published {published.folder}")
    return Completed(name="Cached", message=f"already up to date: {published.folder}")


@flow(name="reduce-lean", **OPTIONS)
def reduce_lean(request: ReduceForm) -> Any:
    """Reduce a visit of a campaign: the server hears of it at its beginning and its end only."""
    with failure_announced(request, request.visit):
        from flows.artifacts import show_steps
        from flows.runs.reduction import run_reduce

        published, run = run_reduce(request.request(output_folder()), "plain")
        show_steps(run)
    return ended(end_of(published, request.until))


@flow(name="campaign", **OPTIONS)
def campaign(request: CampaignForm) -> Any:
    """Reduce many visits, each as a run of its own, a bounded number at a time."""
    with failure_announced(request, request.folder or request.list or request.name):
        from flows.service.campaigns import reduce_all

        results, page = reduce_all(request, output_folder(), log)
    failed = sum(o.code != 0 for o in results)
    return ended(Completed(message=f"visits: {len(results)}, failed: {failed}; report: {page}"))


@flow(name="simulate", **OPTIONS)
def simulate(request: SimulateForm) -> Any:
    """Simulate the raw data of a visit."""
    with failure_announced(request, request.output):
        from flows.simulate import simulate_into

        simulate_into(Path(request.output), request.case, request.images, request.seed, None)
    return ended(Completed(message=f"simulated {request.output}"))


@flow(name="validate", **OPTIONS)
def validate(request: ValidateForm) -> Any:
    """Test every claim of accuracy on simulated visits."""
    with failure_announced(request, request.output):
        from flows.validate import run_validation

        result = run_validation(request.request())
    counts = result["counts"]
    text = (
        f"{counts['pass']} pass, {counts['fail']} fail, {counts['open']} open: "
        f"{request.output}/validation.md"
    )
    failed: State[Any] = Failed(name="ClaimsNotMet", message=text)
    return ended(failed if result["failed"] else Completed(message=text))


@flow(name="intake", **OPTIONS)
def intake(request: IntakeForm) -> Any:
    """Process the job orders in a folder, each once."""
    with failure_announced(request, request.folder):
        from flows.orders.intake import count_outcomes
        from flows.orders.intake import intake as take

        outcomes = take(Path(request.folder), report=log)
    for outcome in (o for o in outcomes if o.state == "failed"):
        text = outcome.note or f"exit code {outcome.code}"
        emit(
            FAILED,
            f"order.{outcome.order}",
            f"order {outcome.order}",
            plain(text),
            outcome.code or 70,
        )
        report = Path(request.folder) / outcome.state / f"{outcome.name}{BESIDE[0]}"
        with suppress(DrpError):  # an order without a report that can be read
            text = disk.read_text(report, LONGEST_REPORT)
            show_order_failure(outcome.order, outcome.code or 70, text)
    return ended(Completed(message=count_outcomes(outcomes)))


def show_order_failure(order: str, code: int, text: str) -> None:
    """Show the report on an order that failed, under its visit if the report names it."""
    from flows.artifacts import show_failure

    named = VISIT.search(text.partition("\n")[0])
    show_failure(str(runtime.flow_run.id), named[0] if named else order, code, text)


@flow(name="reprocess", **OPTIONS)
def reprocess(request: ReprocessForm) -> Any:
    """Reduce published visits affected by new references or steps again, or show the plan."""
    output = Path(request.output) if request.output else output_folder()
    work = Path(request.work) if request.work else None
    with failure_announced(request, str(output)):
        from flows.reprocess import Reprocessing

        places = tuple(Path(folder) for folder in (*request.references, *request.visits))
        reprocessing = Reprocessing(output, places, work)
        planned = reprocessing.plan(log)
        show_plan(planned)
        if not request.do:
            return Completed(name="Planned", message=f"visits to reduce again: {len(planned)}")
        done = reprocessing.reduce(
            planned, "prefect", lambda _step, _report: None, lambda d: log(d.text)
        )
    failed = [d for d in done if d.code]
    for each in failed:
        run = f"{runtime.flow_run.id}.{each.visit}"
        emit(FAILED, run, f"reprocess {each.visit}", plain(each.text), each.code)
    text = f"visits reduced again: {len(done) - len(failed)}, failed: {len(failed)}"
    if failed:
        return ended(Failed(message=f"{text} ({', '.join(d.visit for d in failed)})"))
    return ended(Completed(message=text))


def show_plan(planned: Sequence[Planned]) -> None:
    """Show the plan as a table: each visit with its steps, cost and reasons."""
    from prefect.artifacts import create_table_artifact

    rows = [
        {
            "visit": each.visit,
            "from": each.steps[0],
            "steps": len(each.steps),
            "seconds": round(each.seconds, 1),
            "time unknown for": ", ".join(each.unknown),
            "why": "; ".join(each.reasons),
            "raw files": "found" if each.raw else "not found",
        }
        for each in planned
    ]
    create_table_artifact(
        rows,
        key="reprocess-plan",
        description=f"visits: {len(rows)}, estimated time: {sum(e.seconds for e in planned):.1f} s",
    )


def log(text: str) -> None:
    """Write a line to the log of the run."""
    get_run_logger().info("%s", plain(text, limit=1000))


@flow(name="recover", **OPTIONS)
def recover() -> Any:
    """Resume runs that have lost their process, at most three times; others need an operator.

    Runs that a worker has taken and not started are given to another one.
    """
    resumed, given_up = [], []
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=our_runs(StateType.PENDING)):
            if run.state is not None and age(run.state) > STUCK_SECONDS:
                client.set_flow_run_state(run.id, resumed_state(run.run_count), force=True)
                resumed.append(run.name)
        for run in client.read_flow_runs(flow_run_filter=our_runs(StateType.CRASHED)):
            crash_parts(client, run.id)
            if run.run_count <= MOST_RESUMED:
                state = resumed_state(run.run_count)
                resumed.append(run.name)
            else:
                text = f"the process died {run.run_count} times; operator needed"
                state = Failed(name="NeedsPerson", message=text)
                emit(NEEDS_PERSON, run.id, run.name, text, 70)
                given_up.append(run.name)
            client.set_flow_run_state(run.id, state, force=True)
    return Completed(
        message=f"resumed: {', '.join(resumed) or 'none'}; operator needed: "
        f"{', '.join(given_up) or 'none'}"
    )


def age(state: State[Any]) -> float:
    """Return for how long a run has been in its state [s]."""
    return (datetime.now(UTC) - state.timestamp).total_seconds()


def our_runs(kind: StateType) -> FlowRunFilter:
    """Return the filter for runs of our deployments in a state."""
    return FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(is_null_=False),
        tags=FlowRunFilterTags(all_=[OURS]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[kind])),
    )


def crash_parts(client: SyncPrefectClient, run: UUID) -> None:
    """Mark the open sub-flows of a lost run as crashed; nothing else would close them."""
    still_open = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING])
    parts = FlowRunFilter(
        parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run]),
        state=FlowRunFilterState(type=still_open),
    )
    for part in client.read_flow_runs(flow_run_filter=parts):
        client.set_flow_run_state(part.id, Crashed(message="the process died"), force=True)


def resumed_state(run_count: int) -> State[Any]:
    """Return the state that schedules a lost run again."""
    return Scheduled(
        name="Resumed",
        message=f"its process is gone; resumed from the records ({run_count} of {MOST_RESUMED})",
        scheduled_time=datetime.now(UTC),
    )


class OneLine(logging.Filter):
    """Leaves the message of an error of ours in the log of a run, without a traceback.

    It says what is wrong with the input; where in the code that was found helps no operator.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten a record about an error of ours."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, DrpError):
            record.msg, record.args = "%s (exit code %d)", (plain(error), error.exit_code)
            record.exc_info = record.exc_text = None
        return True


ONE_LINE = OneLine()


@contextmanager
def failure_announced(form: Form, folder: str) -> Iterator[None]:
    """Emit an event if the body fails; automations act on it.

    A form with a path outside the allowed roots fails at once. If the file system hangs, the
    process exits; the run then counts as lost and is resumed.
    """
    watching = watch_storage(get_run_logger().error)
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(ONE_LINE)
    try:
        stay_within_roots(form)
        yield
    except Exception as error:
        code = exit_code(error)
        name = runtime.flow_run.name or Path(folder).name
        text = f"{plain(error)}{report_notes(error)}"
        if not report_notes(error):  # otherwise its report is shown already
            from flows.artifacts import show_failure

            show_failure(str(runtime.flow_run.id), Path(folder).name, code, plain(error))
        emit(FAILED, runtime.flow_run.id, name, f"{type(error).__name__}: {text}", code)
        if isinstance(error, DrpError) and report_notes(error):
            # Prefect shows the message of an error without its notes
            raise type(error)(text) from error
        raise
    finally:
        watching()


def stay_within_roots(form: Form) -> None:
    """Check that all paths of a form lie inside DRP_ROOTS, if set, symbolic links resolved.

    Raises
    ------
    ConfigurationError
        If one does not; the message gives field and path.
    """
    from flows.orders.order import Rules, allowed_path, rules_of_environment

    rules = Rules({}, rules_of_environment().roots)
    for name, value in form.model_dump().items():
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and text.startswith("/"):
                try:
                    allowed_path(text, rules)
                except ConfigurationError as error:
                    raise ConfigurationError(f"{name}: {error}") from error


def emit(event: str, run: object, name: str, error: str, code: int) -> None:
    """Emit an event about a run."""
    resource = {"prefect.resource.id": f"drp.run.{run}", "prefect.resource.name": name}
    emit_event(
        event, resource, payload={"run": str(run), "name": name, "error": error, "exit_code": code}
    )


def output_folder() -> Path:
    """Return the default folder for products: DRP_OUTPUT, or `products` in the work folder."""
    from tasks.engine.folders import default_work_folder

    folder = os.environ.get("DRP_OUTPUT") or default_work_folder(lambda _: None) / "products"
    return disk.absolute(Path(folder))


def report_late(end: State[Any], seconds: float = 60) -> None:
    """Report the end of a run whose server was lost, as soon as it answers again, and exit.

    The run's own connection is closed, and Prefect would wait for it for minutes. If the server
    does not come back in time, the run counts as lost; when resumed, it has nothing left to do.
    """
    from tasks.engine.prefect import server_answers

    run = runtime.flow_run.id
    deadline = time.monotonic() + seconds
    while not server_answers():
        if time.monotonic() > deadline:
            os._exit(75)
        time.sleep(1)

    def report() -> None:
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run, end, force=True)

    # a fresh context, without the run's own client, which is closed
    contextvars.Context().run(report)
    os._exit(0)


__all__ = [
    "campaign",
    "intake",
    "recover",
    "reduce_lean",
    "reduce_visit",
    "reprocess",
    "simulate",
    "validate",
]
