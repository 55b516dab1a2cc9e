"""What a visit that was not reduced leaves in place of products: a report that says where it
stopped, why, and what to do.

It stands in the work folder as `reports/PRppnnnn_TGrrrrcc.txt` and `.pdf`. Up to the inventory the
visit is the one that the names of its files tell; where they tell none, or several, the report has
the folder's name. That of a job order stands beside it, and calls files what the order does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.runs.advice import error_text, explain
from flows.runs.ending import BESIDE, NO_PDF, NO_REPORT, PDF_IS, REPORT_IS, report_notes
from schemas import VERSION
from schemas.errors import (
    BusyError,
    ConfigurationError,
    UsageError,
    plain,
    short_of_memory,
)
from schemas.names import VISIT
from schemas.payloads import Inventory
from schemas.requests import ReduceRequest
from schemas.settings import PipelineSettings
from tasks.delivery.report.failed import DoneStep, FailedVisit, FileRead, typeset_failed
from tasks.delivery.report.sources import changed_settings, inputs_of
from tasks.delivery.report.summary import step_row
from tasks.engine.digests import Digests
from tasks.engine.run import Run, StepReport, Stopped, WorkToDo
from tasks.engine.store import Workspace
from tasks.files import disk
from tasks.numerics.times import now
from tasks.visit.inventory import Seen
from tasks.visit.search import SOC_NAME, fits_files

PASSING = (
    Stopped,
    WorkToDo,
    BusyError,
    MemoryError,
)  # no failure of the visit: the machine is busy for now

COMMAND = (
    UsageError,
    ConfigurationError,
)  # the command was wrong: who gave it is there, and reads what it says


@dataclass(frozen=True)
class OfOrder:
    """The job order for which a visit is reduced, and what gives files in a text the names that the
    order has for them.
    """

    path: Path
    named: Callable[[str], str]


class Attempt:
    """A reduction under way, and how far it came: what a report on its failure is made from.

    `stage` is what is being done before the visit has a run, and empty from then on; `inventory` is
    there behind it. `step` is the step under way.
    """

    root: Path
    settings: PipelineSettings
    inventory: Inventory
    run: Run

    def __init__(self, request: ReduceRequest, order: OfOrder | None = None) -> None:
        self.request = request
        self.order = order
        self.seen = Seen()
        self.stage = "files that are to replace others"
        self.step = ""

    def digests(self, visit: str) -> Digests:
        """Return what is remembered of the files of a visit."""
        return Workspace(self.root, visit).digests

    def begin(self, run: Run) -> None:
        """Note that the visit has a run."""
        self.run, self.stage = run, ""

    def follow(self, run: Run) -> None:
        """Note from now on which step of a run is under way."""
        tell = run.tell
        self.step = ""

        def note_step(step: str, report: StepReport | None) -> None:
            self.step = step if report is None else ""
            tell(step, report)

        run.tell = note_step

    def failed(self, error: Exception) -> FailedVisit:
        """Return what the report shows."""
        folder = self.request.visit
        if self.stage:
            return failed_inventory(error, self.stage, folder, self.seen, self.settings, self.order)
        return failed_visit(
            error, self.step, folder, self.run, self.inventory, self.settings, self.order
        )

    def report_path(self, failed: FailedVisit) -> Path:
        """Return where the report stands: beside the order, or in the work folder."""
        if self.order is not None:
            return self.order.path.with_suffix(BESIDE[0])
        folder = self.request.visit
        name = failed.visit if VISIT.fullmatch(failed.visit) else _name_of_folder(folder)
        return self.root / "reports" / f"{name}.txt"


@contextmanager
def failure_reported(attempt: Attempt) -> Iterator[None]:
    """Leave a report where what is done in this context fails, but for a dry run; the error goes on
    with notes of where the report is.
    """
    try:
        yield
    except (*PASSING, *COMMAND):
        raise
    except Exception as error:
        if not (attempt.request.dry_run or short_of_memory(error)):
            report_failure(error, attempt.failed, attempt.report_path)
        raise


def order_failure_reported(
    error: Exception, path: Path, visit: str, named: Callable[[str], str]
) -> None:
    """Leave a report on a job order that failed before its visit was looked at, unless the error
    has one already.

    Parameters
    ----------
    error : Exception
        Why it failed; it gets notes of where the report is.
    path : Path
        The order; if it is no file there is nothing to report on.
    visit : str
        The visit, empty where it is not known.
    named : callable
        Gives files in a text the names that the order has for them.
    """
    if isinstance(error, PASSING) or report_notes(error) or not path.is_file():
        return

    def make(error: Exception) -> FailedVisit:
        words, advice = explain(error, "", of_order=True)
        failed = FailedVisit(
            of="visit" if visit else "job order",
            visit=visit or plain(path.name),
            given=plain(path.name),
            target="",
            reason=words,
            where="job order, before the visit was looked at",
            why=error_text(error),
            advice=advice,
            read=(_file_read("job order", path.name, ""),),
            software=VERSION,
            date=now(),
        )
        return _as_ordered(failed, OfOrder(path, named))

    report_failure(error, make, lambda _: path.with_suffix(BESIDE[0]))


def report_failure(
    error: Exception,
    make: Callable[[Exception], FailedVisit],
    text_of: Callable[[FailedVisit], Path],
) -> None:
    """Write the report as text and as PDF, and note on the error where they are, or why they could
    not be written.
    """
    # nothing that goes wrong here may take the place of the error that is reported, not even a
    # fault of ours
    try:
        failed = make(error)
        path = text_of(failed)
        pdf = path.with_suffix(".pdf")
        disk.discard(pdf)  # that of an earlier failure would not belong to the text
        disk.make_folder(path.parent)
        disk.write_file(path, failed.as_text().encode())
    except Exception as failure:
        error.add_note(f"{NO_REPORT}{plain(failure)}")
        return
    error.add_note(f"{REPORT_IS}{path}")
    try:
        typeset_failed(failed, pdf)
    except Exception as failure:
        error.add_note(f"{NO_PDF}{plain(failure)}")
        return
    error.add_note(f"{PDF_IS}{pdf}")


def forget_failure(root: Path, folder: Path, visit: str) -> None:
    """Take away the report of an earlier failure of a visit that is published now."""
    for name in {visit, named_visit(folder), _name_of_folder(folder)}:
        for ending in ("txt", "pdf"):
            disk.discard(root / "reports" / f"{name}.{ending}")


def named_visit(folder: Path) -> str:
    """Return the visit that the names of the files below a folder tell; the folder's own name if it
    is none or several.
    """
    matches = (SOC_NAME.match(path.name) for path in fits_files(folder))
    visits = {match[1].removeprefix("_") for match in matches if match is not None and match[1]}
    return visits.pop() if len(visits) == 1 else plain(folder.name)


def _name_of_folder(folder: Path) -> str:
    place = str(folder.absolute())
    name = re.sub(r"[^A-Za-z0-9_-]", "_", folder.name)[:40]
    return f"{name}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


def _request_text(folder: Path, order: OfOrder | None) -> str:
    """Return what the reduction was asked for with: an order by its name, since it may be moved, a
    visit by its folder.
    """
    return plain(folder.absolute() if order is None else order.path.name)


def failed_inventory(
    error: Exception,
    at: str,
    folder: Path,
    seen: Seen,
    settings: PipelineSettings,
    order: OfOrder | None = None,
) -> FailedVisit:
    """Return what the report shows where `at` failed: all that comes before the first step."""
    words, advice = explain(error, "", order is not None)
    failed = FailedVisit(
        visit=seen.visit or named_visit(folder),
        given=_request_text(folder, order),
        target="",
        reason=words,
        where=f"{at}, before the first step",
        why=error_text(error),
        advice=advice,
        read=tuple(_file_read(kind, path, digest) for kind, path, digest in seen.read),
        settings=_changed_settings(settings),
        notes=tuple(map(plain, seen.notes)),
        software=VERSION,
        date=now(),
    )
    return _as_ordered(failed, order)


def failed_visit(
    error: Exception,
    step: str,
    folder: Path,
    run: Run,
    inventory: Inventory,
    settings: PipelineSettings,
    order: OfOrder | None = None,
) -> FailedVisit:
    """Return what the report shows where a step or the publication failed.

    `step` is the one that was under way, empty where none was.
    """
    words, advice = explain(error, step, order is not None)
    failed = FailedVisit(
        visit=inventory.visit,
        given=_request_text(folder, order),
        target=plain(inventory.target),
        reason=words,
        where=f"step {step}" if step else "publication" if run.reports else "before the first step",
        why=error_text(error),
        advice=advice,
        steps=tuple(map(_done_step, run.reports)),
        read=tuple(
            _file_read(kind, product.path, product.sha256) for kind, product in inputs_of(inventory)
        ),
        absent=tuple(f"{plain(kind)}: {plain(what)}" for kind, what in inventory.fallbacks.items()),
        deviations=tuple(map(plain, inventory.deviations)),
        notes=tuple(map(plain, (*inventory.notes, *run.warnings))),
        settings=_changed_settings(settings),
        software=VERSION,
        date=now(),
    )
    return _as_ordered(failed, order)


def _as_ordered(failed: FailedVisit, order: OfOrder | None) -> FailedVisit:
    """Return what is shown of a visit that an order named: files as there, and nothing of what was
    gone with the scratch.
    """
    if order is None:
        return failed
    named = order.named

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: renamed(v) for k, v in value.items()}
        return (
            named(value)
            if isinstance(value, str)
            else [renamed(v) for v in value]
            if isinstance(value, list)
            else value
        )

    steps = tuple(done.model_copy(update={"products": ()}) for done in failed.steps)
    return FailedVisit.model_validate(
        renamed(failed.model_copy(update={"steps": steps}).model_dump(mode="json"))
    )


def _done_step(report: StepReport) -> DoneStep:
    leaf = report.leaf
    return DoneStep(
        outcome=report.outcome,
        row=step_row(leaf),
        warnings=tuple(map(plain, leaf.warnings)),
        products=tuple(plain(p.path) for p in leaf.products.values()),
    )


def _file_read(kind: str, path: str, digest: str) -> FileRead:
    return FileRead(kind=plain(kind), name=plain(Path(path).name), sha256=digest)


def _changed_settings(settings: PipelineSettings) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        (name, value, usual)
        for name, value, usual in changed_settings(settings.model_dump(mode="json"))
    )
