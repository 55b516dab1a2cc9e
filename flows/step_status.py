"""The state of each step of a visit: what it would do now, and why."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.status import VisitState, visit_states
from schemas.errors import BusyError, UsageError, plain
from schemas.names import VISIT
from schemas.requests import ReduceRequest

if TYPE_CHECKING:
    from tasks.engine.run import Run


@dataclass
class StepState:
    """What a step would do now: its outcome, the reason, and the key of its result."""

    step: str
    outcome: str
    why: str
    key: str


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
        Folder of the visit, a published folder, or the name of a visit, which stands for its newest
        published folder in `output`.
    output, work : Path
        Folders of published and of intermediate products.
    references, settings
        As for a reduction; steps affected by a change show it.

    Raises
    ------
    UsageError
        If the visit does not exist.
    """
    folder = find_folder(visit, output, work)
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
        name = str(visit) if folder != visit else _name_of(folder)
        warning = "is being reduced; the states of its steps are available afterwards"
        return VisitDetail(VisitState(name, "running"), [], [warning])
    name = run.workspace.visit
    states = (s for s in visit_states(output, work) if s.visit == name)
    steps = [StepState(r.step, r.outcome, r.why, r.key) for r in run.reports]
    return VisitDetail(
        next(states, VisitState(name, "new")), steps, list(dict.fromkeys(run.warnings))
    )


def find_folder(visit: Path, output: Path, work: Path) -> Path:
    """Return `visit` if it is a folder; if it is a visit's name, its newest published folder.

    Raises
    ------
    UsageError
        If there is no such folder.
    """
    if os.path.isdir(visit):  # unlike Path.is_dir, False if the name is too long
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


def _name_of(folder: Path) -> str:
    match = re.search(
        VISIT.pattern,
        " ".join([folder.name, *(p.name for p in folder.rglob("*SCI_RAW_SubArray*"))]),
    )
    return match[0] if match else folder.name
