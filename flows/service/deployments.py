"""What workers run: the entry points of `deploy/prefect.yaml`. The form of each is a pydantic
model.

The only module that needs Prefect to be imported at all; what the flows need is imported when they
run.
"""

from __future__ import annotations

import contextvars
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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

from flows.runs.ending import report_notes, watch_storage
from schemas.errors import ConfigurationError, DrpError, plain
from schemas.forms import Form, IntakeForm, ReduceForm, ReprocessForm, SimulateForm, ValidateForm

if TYPE_CHECKING:
    from flows.reprocess import Planned


OURS = "drp"  # the tag of deployments whose runs are resumed

MOST_RESUMED = 3  # a visit that loses its process again and again needs a person

FAILED = "drp.run.failed"

NEEDS_PERSON = "drp.run.needs-person"


def _first_name() -> str:
    """Return the name of a run before more is known: the flow's and that of the folder that was
    asked for.
    """
    request = runtime.flow_run.parameters.get("request")
    asked = (
        request
        if isinstance(request, dict)
        else request.model_dump()
        if request is not None
        else {}
    )
    folder = asked.get("visit") or asked.get("folder") or asked.get("output") or ""
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
    end: State[Any]
    if published is None:
        end = Completed(
            name="Stopped", message=f"stopped behind {request.until}; nothing is published"
        )
    elif published.new:
        end = Completed(message=f"published {published.folder}")
    else:
        end = Completed(name="Cached", message=f"nothing to do, it stands in {published.folder}")
    if run.engine != "prefect":
        report_late(end)
    return end


@flow(name="simulate", **OPTIONS)
def simulate(request: SimulateForm) -> Any:
    """Simulate the raw products of a visit."""
    with failure_announced(request, request.output):
        from flows.simulate import simulate_into

        simulate_into(Path(request.output), request.case, request.images, request.seed, None)
    return Completed(message=f"simulated {request.output}")


@flow(name="validate", **OPTIONS)
def validate(request: ValidateForm) -> Any:
    """Measure every claim of accuracy on simulated visits."""
    with failure_announced(request, request.output):
        from flows.validate import run_validation

        result = run_validation(request.request())
    counts = result["counts"]
    text = (
        f"{counts['pass']} pass, {counts['fail']} fail, {counts['open']} open: "
        f"{request.output}/validation.md"
    )
    return (
        Failed(name="ClaimsNotMet", message=text) if result["failed"] else Completed(message=text)
    )


@flow(name="intake", **OPTIONS)
def intake(request: IntakeForm) -> Any:
    """Do the job orders that are in a folder, each once."""
    with failure_announced(request, request.folder):
        from flows.orders.intake import count_outcomes
        from flows.orders.intake import intake as take

        outcomes = take(Path(request.folder), tell=log)
    for outcome in (o for o in outcomes if o.state == "failed"):
        text = outcome.note or f"exit code {outcome.code}"
        tell(
            FAILED,
            f"order.{outcome.order}",
            f"order {outcome.order}",
            plain(text),
            outcome.code or 70,
        )
    return Completed(message=count_outcomes(outcomes))


@flow(name="reprocess", **OPTIONS)
def reprocess(request: ReprocessForm) -> Any:
    """Reduce published visits again that new references, or new versions of steps, touch; or show
    the plan.
    """
    output = Path(request.output) if request.output else output_folder()
    work = Path(request.work) if request.work else None
    with failure_announced(request, str(output)):
        from flows.reprocess import Reprocessing

        places = tuple(Path(folder) for folder in (*request.references, *request.visits))
        reprocessing = Reprocessing(output, places, work)
        planned = reprocessing.plan(log)
        show_plan(planned)
        if not request.do:
            return Completed(
                name="Planned", message=f"{len(planned)} visits would be reduced again"
            )
        done = reprocessing.reduce(
            planned, "prefect", lambda _step, _report: None, lambda d: log(d.text)
        )
    failed = [d for d in done if d.code]
    for each in failed:
        run = f"{runtime.flow_run.id}.{each.visit}"
        tell(FAILED, run, f"reprocess {each.visit}", plain(each.text), each.code)
    text = f"{len(done) - len(failed)} visits reduced again, {len(failed)} failed"
    if failed:
        return Failed(message=f"{text}: {', '.join(d.visit for d in failed)}")
    return Completed(message=text)


def show_plan(planned: Sequence[Planned]) -> None:
    """Show which visits would be reduced again, why, and what it costs."""
    from prefect.artifacts import create_table_artifact

    rows = [
        {
            "visit": each.visit,
            "from": each.steps[0],
            "steps": len(each.steps),
            "seconds": round(each.seconds, 1),
            "not known": ", ".join(each.unknown),
            "why": "; ".join(each.reasons),
            "raw files": "found" if each.raw else "not found",
        }
        for each in planned
    ]
    create_table_artifact(
        rows,
        key="reprocess-plan",
        description=f"{len(rows)} visits, {sum(e.seconds for e in planned):.1f} s",
    )


def log(text: str) -> None:
    """Write a line to the log of the run."""
    get_run_logger().info("%s", plain(text, limit=1000))


@flow(name="recover", **{**OPTIONS, "flow_run_name": None})
def recover() -> Any:
    """Resume the runs whose process was lost, from their records, three times at most; the rest is
    for a person.
    """
    resumed, given_up = [], []
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=crashed_runs()):
            crash_parts(client, run.id)
            if run.run_count <= MOST_RESUMED:
                state = resumed_state(run.run_count)
                resumed.append(run.name)
            else:
                text = f"its process was lost {run.run_count} times; a person must look why"
                state = Failed(name="NeedsPerson", message=text)
                tell(NEEDS_PERSON, run.id, run.name, text, 70)
                given_up.append(run.name)
            client.set_flow_run_state(run.id, state, force=True)
    return Completed(
        message=f"resumed: {', '.join(resumed) or 'none'}; for a person: "
        f"{', '.join(given_up) or 'none'}"
    )


def crashed_runs() -> FlowRunFilter:
    """Return the filter of our deployments' runs whose process was lost."""
    return FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(is_null_=False),
        tags=FlowRunFilterTags(all_=[OURS]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CRASHED])),
    )


def crash_parts(client: SyncPrefectClient, run: UUID) -> None:
    """Set the sub-flows of a lost run, which nobody ends any more, to crashed."""
    still_open = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING])
    parts = FlowRunFilter(
        parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run]),
        state=FlowRunFilterState(type=still_open),
    )
    for part in client.read_flow_runs(flow_run_filter=parts):
        client.set_flow_run_state(part.id, Crashed(message="its process was lost"), force=True)


def resumed_state(run_count: int) -> State[Any]:
    """Return the state of a lost run that is scheduled again."""
    return Scheduled(
        name="Resumed",
        message=f"its process was lost; resumed from its records, {run_count} of "
        f"{MOST_RESUMED} times",
        scheduled_time=datetime.now(UTC),
    )


@contextmanager
def failure_announced(form: Form, folder: str) -> Iterator[None]:
    """Tell by an event when a run fails; what is done about it is a matter of automations.

    A form that names a path outside of the allowed roots fails at once.

    A run whose file system hangs ends at once; it is taken for lost, and resumed.
    """
    watching = watch_storage(get_run_logger().error)
    try:
        stay_within_roots(form)
        yield
    except Exception as error:
        code = (
            error.exit_code
            if isinstance(error, DrpError)
            else 75
            if isinstance(error, MemoryError)
            else 70
        )
        name = runtime.flow_run.name or Path(folder).name
        told = f"{plain(error)}{report_notes(error)}"
        tell(FAILED, runtime.flow_run.id, name, f"{type(error).__name__}: {told}", code)
        if isinstance(error, DrpError) and report_notes(error):
            raise type(error)(
                told
            ) from error  # the state's message is what the error says, without its notes
        raise
    finally:
        watching()


def stay_within_roots(form: Form) -> None:
    """Refuse a form that names a path outside of DRP_ROOTS, where that is set, also by way of a
    symbolic link.

    Raises
    ------
    ConfigurationError
        It names field and path.
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


def tell(event: str, run: object, name: str, error: str, code: int) -> None:
    """Emit an event about a run."""
    resource = {"prefect.resource.id": f"drp.run.{run}", "prefect.resource.name": name}
    emit_event(
        event, resource, payload={"run": str(run), "name": name, "error": error, "exit_code": code}
    )


def output_folder() -> Path:
    """Return where products go if the form does not say: DRP_OUTPUT, or `products` in the work
    folder.
    """
    from tasks.engine.folders import default_work_folder

    return Path(
        os.environ.get("DRP_OUTPUT") or default_work_folder(lambda _: None) / "products"
    ).absolute()


def report_late(end: State[Any], seconds: float = 60) -> None:
    """Report the end of a run whose server was lost in mid-run, once it answers again, and leave.

    The connection of the run itself is closed, and Prefect would wait for minutes for the one that
    is gone. If no server comes back in time, the run is taken for lost, and resumed with nothing to
    do.
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

    # in a context without the run's own client, which is closed for good
    contextvars.Context().run(report)
    os._exit(0)


__all__ = ["intake", "recover", "reduce_visit", "reprocess", "simulate", "validate"]
