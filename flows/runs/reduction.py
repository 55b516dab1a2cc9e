"""The reduction of one visit: inventory, lock, records, engine, report on a failure."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.linalg

from flows.reduce import reduce_visit
from flows.runs.ending import read_seconds
from flows.runs.expected import expected_calls
from flows.runs.failure import Attempt, OfOrder, failure_reported, forget_failure
from flows.runs.logged import ReportProgress, log_warnings, logged
from flows.runs.site import merge_settings, site_settings
from schemas.errors import BusyError, DrpError, StorageError, UsageError, plain
from schemas.logs import logger_of
from schemas.nearest import did_you_mean
from schemas.payloads import Inventory, Published
from schemas.requests import ReduceRequest, make_settings
from schemas.settings import PipelineSettings
from tasks.delivery.folder import (
    MANIFEST,
    changed_inputs,
    is_published,
    published_folders,
    published_inventory,
    relocated,
)
from tasks.delivery.publication import prepare_output
from tasks.delivery.restore import restore_records
from tasks.engine.by_hand import check_images, replacement
from tasks.engine.folders import default_work_folder
from tasks.engine.run import STEPS, Run, StepReport, Stopped, WorkToDo, running
from tasks.engine.store import Workspace
from tasks.files import disk
from tasks.numerics.times import now
from tasks.visit.inventory import (
    A_VISIT,
    OF_REFERENCES,
    renew_references,
    retry,
    take_inventory,
)

# address space of a reduction with its libraries, as measured; half of it is resident
NEEDED_MB = 1000

log = logger_of(__name__)

Engine = str | Callable[[], AbstractContextManager[str]]

Whole = Callable[[ReduceRequest, Inventory, PipelineSettings], Published]


class Reduction(NamedTuple):
    """The outcome of a run (None if it stopped after a step), and the run with its steps."""

    published: Published | None
    run: Run

    @property
    def warned(self) -> bool:
        """Whether a step ended with a warning."""
        return any("warning" in map(str, r.leaf.status.values()) for r in self.run.reports)


def run_reduce(
    request: ReduceRequest,
    engine: Engine,
    report_progress: ReportProgress = lambda _s, _r: None,
    whole: Whole | None = None,
    order: OfOrder | None = None,
) -> Reduction:
    """Reduce a visit.

    Parameters
    ----------
    request : ReduceRequest
        The visit and the options of its reduction.
    engine : str or callable
        ``plain`` or ``prefect``; the latter needs a server at PREFECT_API_URL. A callable returns a
        context manager that yields one of them; it is not called if the records hold the results
        of all steps.
    report_progress : callable
        Called with each step when it begins (with None) and when it ends (with its report).
    whole : callable, optional
        Replaces the recipe: its bare function, if the caller is the Prefect flow itself.
    order : OfOrder, optional
        The job order, beside which the report on a failure is written.

    Returns
    -------
    Reduction
        Its `published` is None if the run stopped after a step.
    """
    attempt = Attempt(request, order)
    log.debug("reducing %s", request.visit)
    with open_run(attempt, logged(report_progress)):
        reduction = _reduce(attempt, engine, whole or reduce_visit)
    log_warnings(reduction.run.warnings)
    if reduction.published is not None and reduction.published.folder:
        outcome = "published" if reduction.published.new else "already up to date:"
        log.info("%s %s", outcome, reduction.published.folder)
    return reduction


def _reduce(attempt: Attempt, engine: Engine, whole: Whole) -> Reduction:
    """Reduce a visit from the records, or else under an engine."""
    if isinstance(engine, str) or attempt.request.dry_run:
        attempt.run.engine = engine if isinstance(engine, str) else "plain"
        return call_steps(attempt, whole)
    try:
        return reduce_from_records(attempt)
    except WorkToDo:
        with engine() as attempt.run.engine:
            return call_steps(attempt, whole)


def check_memory() -> None:
    """Check that the memory limit of this process allows for a reduction.

    Libraries abort the process if they run out of memory, so it is checked in advance.

    Raises
    ------
    BusyError
        If the limit is too low.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < NEEDED_MB << 20:
        raise BusyError(
            f"not enough memory: needs {NEEDED_MB} MB of address space, the limit is "
            f"{limit >> 20} MB"
        )


def reserve_buffers() -> None:
    """Let the linear algebra of numpy and scipy reserve its buffers.

    It ends the process, with exit code 1, if it cannot do so later.
    """
    np.linalg.solve(np.eye(2), np.ones(2))
    scipy.linalg.solve(np.eye(2), np.ones(2))


def call_steps(attempt: Attempt, whole: Whole) -> Reduction:
    """Call the steps of a visit in its run."""
    check_memory()
    reserve_buffers()
    request, run, inventory = attempt.request, attempt.run, attempt.inventory
    attempt.follow(run)
    with running(run), failure_reported(attempt), work_folder_kept(run):
        try:
            published = whole(request, inventory, attempt.settings)
        except Stopped:
            run.workspace.digests.save()
            return Reduction(None, run)
    if published.folder:
        forget_failure(attempt.root, request.visit, inventory.visit)
    return Reduction(published, run)


@contextmanager
def work_folder_kept(run: Run) -> Iterator[None]:
    """Say so if the body fails because the work folder was deleted meanwhile, whole or in part.

    Raises
    ------
    StorageError
        In place of an error that blames the file or input that was to be read.
    """
    try:
        yield
    except (Stopped, WorkToDo):
        raise
    except Exception as error:
        lost = None
        with suppress(DrpError):  # the disk may fail here too
            lost = None if run.dry else run.workspace.lost(r.leaf for r in run.reports)
        if lost is None:
            raise
        raise StorageError(
            f"{run.workspace.root}: the work folder was deleted during the run, whole or in part: "
            f"{lost} is gone"
        ) from error


def reduce_from_records(attempt: Attempt) -> Reduction:
    """Reduce a visit from the records, without running a step.

    Unless this succeeds, the run stays unchanged and no step is reported.

    Raises
    ------
    WorkToDo
        If a step has no record, is to be redone, or is replaced by the user's own file.
    """
    events: list[tuple[str, StepReport | None]] = []
    run = attempt.run
    attempt.run = replace(
        run,
        engine="plain",
        records_only=True,
        reports=[],
        made=set(),
        warnings=list(run.warnings),
        replacements=dict(run.replacements),
        report_progress=lambda step, report: events.append((step, report)),
    )
    try:
        reduction = call_steps(attempt, reduce_visit)
    except WorkToDo:
        attempt.run = run
        raise
    with running(run):
        for step, report in events:
            run.report_progress(step, report)
    return reduction


@contextmanager
def open_run(attempt: Attempt, report_progress: ReportProgress) -> Iterator[None]:
    """Take the inventory, lock the visit, and create the run in which its steps are called."""
    request = attempt.request
    check_request(request)
    notes: list[str] = []
    attempt.root = disk.absolute(request.work or default_work_folder(notes.append))
    attempt.settings = make_settings({})
    with failure_reported(attempt):
        published = is_published(request.visit)
        if not published:
            attempt.settings = make_settings(merge_settings(site_settings(), request.settings))
        attempt.stage = "replacement files"
        replacements = read_replacements(request.replace)
        if not request.dry_run and request.until is None:
            attempt.stage = "output folder"
            access = attempt.settings.publication.access
            prepare_output(disk.absolute(request.output), access)
        attempt.stage = "inventory of the files"
        if published:
            read_published(attempt)
        else:
            if disk.is_file(request.visit / MANIFEST):
                notes.append(f"{MANIFEST}: ignored, since the folder of the visit holds raw data")
            read_visit(attempt, notes)
        for path in replacements.values():
            check_images(path, attempt.inventory)
        notes += synthetic_warnings(attempt.inventory)
    workspace = Workspace(attempt.root, attempt.inventory.visit)
    mark = contextlib.nullcontext() if request.dry_run else workspace.marked()
    with workspace.lock(request.wait, notes.append), mark:
        attempt.begin(
            Run(
                workspace,
                until=request.until,
                replacements=replacements,
                dry=request.dry_run,
                report_progress=report_progress,
                retry_delay=retry_delay(),
                warnings=notes,
                unused=attempt.seen.unused,
                expected=expected_calls(attempt.inventory),
            )
        )
        with failure_reported(attempt):
            prepare_records(attempt, published)
        yield


def check_request(request: ReduceRequest) -> None:
    """Check that the steps and the folders of a request exist.

    Raises
    ------
    UsageError
        If one does not exist.
    CannotCreateError
        If the work folder cannot be created.
    """
    check_steps(request.from_step, request.until)
    disk.require_folder(request.visit, f"{A_VISIT}, or a published folder")
    for folder in request.references:
        disk.require_folder(folder, OF_REFERENCES)
    if request.work is not None and not request.dry_run:
        disk.prepare_folder(request.work, "choose another folder for intermediate products")
    now()  # a wrong SOURCE_DATE_EPOCH is met here, and not after hours


def check_steps(*names: str | None) -> None:
    """Check the names of steps.

    Raises
    ------
    UsageError
        If there is no such step.
    """
    for name in names:
        if name is not None and name not in STEPS:
            hint = did_you_mean(name, STEPS) or f"; the steps are {', '.join(sorted(STEPS))}"
            raise UsageError(f"unknown step {plain(name)!r}{hint}")


def retry_delay() -> float:
    """Return the time to wait before a failed read is retry [s]."""
    return read_seconds("DRP_RETRY_DELAY", 1.0)


def read_replacements(paths: Iterable[Path]) -> dict[str, Path]:
    """Return the user's own versions of products, by EXTNAME.

    Raises
    ------
    UsageError
        If two files replace the same product.
    """
    replacements: dict[str, Path] = {}
    for extname, path in map(replacement, paths):
        if extname in replacements:
            raise UsageError(f"{path}: {replacements[extname]} already replaces {extname}")
        replacements[extname] = path
    return replacements


def read_visit(attempt: Attempt, notes: list[str]) -> None:
    """Take the inventory of a visit's raw files."""
    request = attempt.request
    attempt.inventory = retry(
        lambda: take_inventory(
            request.visit,
            request.references,
            attempt.settings,
            attempt.digests,
            default_library,
            request.strict,
            attempt.seen,
        ),
        retry_delay(),
        notes.append,
    )


def read_published(attempt: Attempt) -> None:
    """Take the inventory and the settings from a published folder."""
    request = attempt.request
    published, base = published_inventory(request.visit)
    attempt.settings = make_settings(merge_settings(base, request.settings))
    inventory = relocated(published, request.references, attempt.digests(published.visit).of)
    if request.renew:
        digests = attempt.digests(inventory.visit)
        inventory, _, attempt.seen.unused = renew_references(
            inventory, request.references, attempt.settings, digests
        )
    attempt.inventory = inventory


def synthetic_warnings(inventory: Inventory) -> list[str]:
    """Return the warning about references that belong to the simulator and not to the visit."""
    if not inventory.synthetic:
        return []
    return [
        f"drp simulate did not make this visit, but these references are synthetic and belong to "
        f"its simulated instrument: {', '.join(inventory.synthetic)}; name the instrument's own "
        f"references with --references"
    ]


def prepare_records(attempt: Attempt, published: bool) -> None:
    """Restore the results of an earlier publication, and mark the step to redo.

    Inputs that have changed since then become warnings of the run.
    """
    request, run, inventory = attempt.request, attempt.run, attempt.inventory
    earlier = (
        [request.visit] if published else published_folders(request.output, inventory.visit)[-1:]
    )
    run.warnings += [line for folder in earlier for line in changed_inputs(folder, inventory)]
    if request.from_step is not None:
        run.forget.add(request.from_step)
    if published:
        restored = restore_records(request.visit, run.workspace, run.warn)
        run.replacements = {**restored, **run.replacements}
    elif request.resume and earlier:
        resume(earlier[0], run)


def resume(folder: Path, run: Run) -> None:
    """Restore the results in a visit's newest published folder; if that fails, warn."""
    try:
        restore_records(folder, run.workspace, run.warn)
    except DrpError as error:
        run.warn(f"{folder.name}: its products cannot be reused ({plain(error)})")


def default_library() -> Path:
    """Return the default reference library, built on first use."""
    from reference_data.library import library_folder

    return library_folder()
