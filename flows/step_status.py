"""The state of each step of a visit: what it would do now, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.runs.failure import named_visit
from flows.status import VisitState, visit_states
from schemas.errors import BadInputError, BusyError, MissingInputError, UsageError, plain
from schemas.names import VISIT
from schemas.requests import ReduceRequest
from tasks.engine.run import STEPS
from tasks.engine.source import recorded_source, source_digest
from tasks.files import disk

if TYPE_CHECKING:
    from tasks.engine.run import Run, StepReport


@dataclass
class StepState:
    """What a step would do now: its outcome, the reason, and the key of its result.

    `source` is the digest of its present source, `recorded_source` that of the source which made
    the record; both are empty if they agree or there is no such record.
    """

    step: str
    outcome: str
    why: str
    key: str
    version: str
    source: str = ""
    recorded_source: str = ""

    @property
    def remark(self) -> str:
        """The reason, and that the source has changed without a new version."""
        if not self.source:
            return self.why
        return (
            f"same version, but source {self.source[:8]} differs from that of the record, "
            f"{self.recorded_source[:8]}"
        )


@dataclass
class VisitDetail:
    """A visit with its steps."""

    summary: VisitState
    steps: list[StepState] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def visit_detail(
    visit: Path,
    output: Path,
    work: Path,
    references: tuple[Path, ...] = (),
    settings: dict[str, Any] | None = None,
) -> VisitDetail:
    """Return what each step of a visit would do now, and why.

    Parameters
    ----------
    visit : Path
        Folder of the visit, a published folder, or the name of a visit, which means its newest
        published folder in `output`.
    output, work : Path
        Folders of published and of intermediate products.
    references, settings
        As for a reduction; steps affected by a change show it.

    Returns
    -------
    VisitDetail
        Without steps if the visit is being reduced, was never published and is given by name, or
        has an input that cannot be used; a warning says so.

    Raises
    ------
    UsageError
        If the visit does not exist.
    """
    try:
        folder = find_folder(visit, output, work)
    except UsageError as error:
        known = [s for s in visit_states(output, work) if s.visit == str(visit)]
        if not known:
            raise
        return VisitDetail(known[0], [], [str(error)])
    request = ReduceRequest(
        visit=folder,
        references=references,
        output=output,
        work=work,
        settings=settings or {},
        dry_run=True,
    )
    try:
        run = rehearse(request)
    except BusyError:
        name = str(visit) if folder != visit else named_visit(folder)
        warning = "is being reduced; the states of its steps are available afterwards"
        return VisitDetail(VisitState(name, "running"), [], [warning])
    except (BadInputError, MissingInputError) as error:
        name = str(visit) if folder != visit else named_visit(folder)
        known = [s for s in visit_states(output, work) if s.visit == name]
        if not known:
            raise
        return VisitDetail(known[0], [], [str(error)])
    name = run.workspace.visit
    states = (s for s in visit_states(output, work) if s.visit == name)
    steps = [step_state(report, run) for report in run.reports]
    return VisitDetail(
        next(states, VisitState(name, "new")), steps, list(dict.fromkeys(run.warnings))
    )


def step_state(report: StepReport, run: Run) -> StepState:
    """Return the state of a step, and whether its source is that of its record."""
    declared = STEPS[report.step]
    state = StepState(report.step, report.outcome, report.why, report.key, declared.version)
    if report.outcome != "cached":
        return state
    now = source_digest(declared.fn)
    then = recorded_source(run.workspace.record_path(report.step, report.key))
    if now and then and now != then:
        state.source, state.recorded_source = now, then
    return state


def find_folder(visit: Path, output: Path, work: Path) -> Path:
    """Return `visit` if it is a folder; if it is a visit's name, its newest published folder.

    Raises
    ------
    UsageError
        If there is no such folder.
    """
    if disk.is_folder(visit):
        return visit
    if not VISIT.fullmatch(str(visit)):
        raise UsageError(
            f"{plain(visit)}: is neither a folder nor the name of a visit such as PR900001_TG000101"
        )
    for state in visit_states(output, work):
        if state.visit == str(visit) and state.folder:
            return Path(state.folder)
    raise UsageError(f"{visit}: is not published in {output}; use the visit's folder instead")


def rehearse(request: ReduceRequest) -> Run:
    """Return a dry run of a request.

    For a published folder its manifest is enough; a reduction would restore its products first.
    """
    from flows.reprocess import replay
    from flows.runs.reduction import run_reduce
    from tasks.delivery.folder import is_published

    if is_published(request.visit):
        return replay(request).run
    return run_reduce(request, "plain").run
