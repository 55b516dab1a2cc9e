"""One reduction of one visit: inventory, lock, records, engine, failure report."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.reduce import reduce_visit
from flows.runs.failure import (
    OfOrder,
    failed_inventory,
    failed_visit,
    failure_reported,
    forget_failure,
)
from schemas.errors import BusyError, DrpError, UsageError, plain
from schemas.payloads import Inventory, Published
from schemas.requests import ReduceRequest, make_settings
from schemas.settings import PipelineSettings
from tasks.delivery.publication import prepare_output
from tasks.delivery.published.folder import (
    changed_inputs,
    is_published,
    published_folders,
    published_inventory,
    relocated,
)
from tasks.delivery.report.failed import FailedVisit
from tasks.delivery.restore import restore_records
from tasks.engine.by_hand import check_images, replacement
from tasks.engine.digests import Digests
from tasks.engine.folders import default_work_folder
from tasks.engine.run import STEPS, Run, StepReport, Stopped, WorkToDo, running
from tasks.engine.store import Workspace
from tasks.visit.inventory import Seen, renew_references, retry, take_inventory

# address space of a reduction with its libraries; memory that is really used is half of it
NEEDED_MB = 1000

Tell = Callable[[str, StepReport | None], None]

Engine = str | Callable[[], AbstractContextManager[str]]

Whole = Callable[[ReduceRequest, Inventory, PipelineSettings], Published]


def run_reduce(
    request: ReduceRequest,
    engine: Engine,
    tell: Tell = lambda _s, _r: None,
    whole: Whole | None = None,
    order: OfOrder | None = None,
) -> tuple[Published | None, Run]:
    """Reduce a visit from the command line or a program.

    Parameters
    ----------
    request : ReduceRequest
        What to reduce and how.
    engine : str or callable
        ``plain`` or ``prefect``; the latter needs a server under PREFECT_API_URL. A callable gives
        one of them for as long as it is needed: where the records hold every step it is not called
        at all.
    tell : callable
        Is told of every step when it begins (with None) and when it ends.
    whole : callable, optional
        In place of the recipe: its bare function, where the caller is its flow already.
    order : OfOrder, optional
        The job order that wants it; the report on a failure stands beside it.

    Returns
    -------
    published, run : Published or None, Run
        The outcome (None if the run stopped behind a step), and what every step did.
    """
    with open_run(request, tell, order) as (run, found, settings):
        if isinstance(engine, str) or request.dry_run:
            run.engine = engine if isinstance(engine, str) else "plain"
            return _reduced(request, run, found, settings, whole or reduce_visit, order)
        try:
            return from_records(request, run, found, settings, order)
        except WorkToDo:
            with engine() as run.engine:
                return _reduced(request, run, found, settings, whole or reduce_visit, order)


def check_memory() -> None:
    """Refuse to begin where this process may not have the memory that a reduction needs, as
    measured; libraries end it then.

    Raises
    ------
    BusyError
        It names what is needed and the limit.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < NEEDED_MB << 20:
        raise BusyError(
            f"not enough memory: needs {NEEDED_MB} MB of address space, the limit is "
            f"{limit >> 20} MB"
        )


def _reduced(
    request: ReduceRequest,
    run: Run,
    found: Inventory,
    settings: PipelineSettings,
    whole: Whole,
    order: OfOrder | None,
) -> tuple[Published | None, Run]:
    check_memory()
    under_way = ""
    tell = run.tell

    def told(step: str, report: StepReport | None) -> None:
        nonlocal under_way
        under_way = step if report is None else ""
        tell(step, report)

    run.tell = told
    root = run.workspace.root

    def failed(error: Exception) -> FailedVisit:
        return failed_visit(error, under_way, request.visit, run, found, settings, order)

    with running(run), failure_reported(root, request.visit, failed, run.dry, order):
        try:
            published = whole(request, found, settings)
        except Stopped:
            run.workspace.digests.save()
            return None, run
    if published.folder:
        forget_failure(root, request.visit, found.visit)
    return published, run


def from_records(
    request: ReduceRequest,
    run: Run,
    found: Inventory,
    settings: PipelineSettings,
    order: OfOrder | None,
) -> tuple[Published | None, Run]:
    """Reduce a visit without executing a step. `run` is left as it is, and is told nothing unless
    that succeeds.

    Raises
    ------
    WorkToDo
        If a step is not in the records, is to be done again, or is given by hand.
    """
    told: list[tuple[str, StepReport | None]] = []
    alone = replace(
        run,
        engine="plain",
        records_only=True,
        reports=[],
        made=set(),
        warnings=list(run.warnings),
        replacements=dict(run.replacements),
        tell=lambda step, report: told.append((step, report)),
    )
    published, alone = _reduced(request, alone, found, settings, reduce_visit, order)
    for step, report in told:
        run.tell(step, report)
    return published, alone


@contextmanager
def open_run(
    request: ReduceRequest, tell: Tell, order: OfOrder | None
) -> Iterator[tuple[Run, Inventory, PipelineSettings]]:
    """Take the inventory, lock the visit, and make the run in which its steps are called."""
    for name in (request.from_step, request.until):
        if name is not None and name not in STEPS:
            raise UsageError(f"there is no step {name!r}; the steps are {', '.join(STEPS)}")
    if not request.visit.is_dir():
        raise UsageError(f"{request.visit}: is not a folder")
    replacements: dict[str, Path] = {}
    notes: list[str] = []
    retry_delay = float(os.environ.get("DRP_RETRY_DELAY", "1"))
    root = (request.work or default_work_folder(notes.append)).absolute()

    def memory(visit: str) -> Digests:
        return Workspace(root, visit).digests

    published, seen, at = is_published(request.visit), Seen(), "files that are to replace others"
    settings = make_settings({} if published else request.settings)

    def failed(error: Exception) -> FailedVisit:
        return failed_inventory(error, at, request.visit, seen, settings, order)

    with failure_reported(root, request.visit, failed, request.dry_run, order):
        for extname, path in map(replacement, request.replace):
            if extname in replacements:
                raise UsageError(f"{path}: {replacements[extname]} should replace {extname} too")
            replacements[extname] = path
        if not request.dry_run and request.until is None:
            at = "output folder"
            prepare_output(request.output.absolute())
        at = "inventory of the files"
        if published:
            found, base = published_inventory(request.visit)
            settings = make_settings(merged(base, request.settings))
            found = relocated(found, request.references, memory(found.visit).of)
            if request.renew:
                found, _ = renew_references(
                    found, request.references, settings, memory(found.visit)
                )
        else:
            found = retry(
                lambda: take_inventory(
                    request.visit,
                    request.references,
                    settings,
                    memory,
                    default_library,
                    request.strict,
                    seen,
                ),
                retry_delay,
                notes.append,
            )
        for path in replacements.values():
            check_images(path, found)
    workspace = Workspace(root, found.visit)
    with workspace.lock(request.wait, notes.append):
        run = Run(
            workspace,
            until=request.until,
            replacements=replacements,
            dry=request.dry_run,
            tell=tell,
            retry_delay=retry_delay,
        )

        def not_begun(error: Exception) -> FailedVisit:
            return failed_visit(error, "", request.visit, run, found, settings, order)

        with failure_reported(root, request.visit, not_begun, request.dry_run, order):
            earlier = (
                [request.visit]
                if published
                else published_folders(request.output, found.visit)[-1:]
            )
            run.warnings += [
                *notes,
                *(line for folder in earlier for line in changed_inputs(folder, found)),
            ]
            if request.from_step is not None:
                run.forget.add(request.from_step)
            if published:
                run.replacements = {
                    **restore_records(request.visit, workspace, run.warn),
                    **replacements,
                }
            elif request.resume and earlier:
                resume(earlier[0], run)
        yield run, found, settings


def resume(folder: Path, run: Run) -> None:
    """Bring back what the newest published folder of a visit holds; where that fails its steps are
    done again.
    """
    try:
        restore_records(folder, run.workspace, run.warn)
    except (DrpError, KeyError, ValueError) as error:
        run.warn(f"{folder.name}: its products cannot be used again ({plain(error)})")


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return nested settings with the changes put over the base."""
    both = {k for k in base if isinstance(base[k], dict) and isinstance(changes.get(k), dict)}
    return {**base, **changes, **{k: {**base[k], **changes[k]} for k in both}}


def default_library() -> Path:
    """Return the default reference library, built on first use."""
    from reference_data.library import library_folder

    return library_folder()
