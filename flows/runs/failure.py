"""The report on a visit that was not reduced: where it stopped, why, and what to do.

It is written to the work folder as `reports/PRppnnnn_TGrrrrcc.txt` and `.pdf`, with its key facts
as `.json`, from which `drp status` knows of the failure. If the inventory fails, the visit is the
one that its file names contain; if they contain none or several, the report is named after the
folder. The report on a job order lies beside the order, and uses the order's names of files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.runs.advice import error_text, explain
from flows.runs.ending import (
    BESIDE,
    NO_PDF,
    NO_REPORT,
    PDF_IS,
    REPORT_IS,
    exit_code,
    report_notes,
)
from schemas import VERSION
from schemas.errors import (
    BusyError,
    ConfigurationError,
    DrpError,
    UsageError,
    plain,
    shortage,
)
from schemas.names import VISIT, read_soc_name
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
from tasks.visit.search import fits_files

PASSING = (Stopped, WorkToDo, BusyError, MemoryError)  # not failures of the visit

COMMAND = (UsageError, ConfigurationError)  # wrong commands: the ERROR line is enough


@dataclass(frozen=True)
class OfOrder:
    """The job order for which a visit is reduced.

    `named` replaces the paths in a text by the names that the order uses for these files.
    """

    path: Path
    named: Callable[[str], str]


class Attempt:
    """A reduction in progress and how far it has come, for the report on a failure.

    `stage` names the work before the visit has a run; from then on it is empty, and `inventory` and
    `run` are set. `step` is the step in progress.
    """

    root: Path
    settings: PipelineSettings
    inventory: Inventory
    run: Run

    def __init__(self, request: ReduceRequest, order: OfOrder | None = None) -> None:
        self.request = request
        self.order = order
        self.seen = Seen()
        self.stage = "inventory of the files"
        self.step = ""

    def digests(self, visit: str) -> Digests:
        """Return the remembered digests of a visit's files."""
        return Workspace(self.root, visit).digests

    def begin(self, run: Run) -> None:
        """Enter the run of the visit."""
        self.run, self.stage = run, ""

    def follow(self, run: Run) -> None:
        """Keep track of the step that a run is in."""
        report_progress = run.report_progress
        self.step = ""

        def note_step(step: str, report: StepReport | None) -> None:
            self.step = step if report is None else ""
            report_progress(step, report)

        run.report_progress = note_step

    def failed(self, error: Exception) -> FailedVisit:
        """Return the content of the report."""
        folder = self.request.visit
        if self.stage:
            return failed_inventory(error, self.stage, folder, self.seen, self.settings, self.order)
        return failed_visit(
            error, self.step, folder, self.run, self.inventory, self.settings, self.order
        )

    def report_path(self, failed: FailedVisit) -> Path:
        """Return the path of the report: beside the order, or in the work folder."""
        if self.order is not None:
            return self.order.path.with_suffix(BESIDE[0])
        folder = self.request.visit
        name = failed.visit if VISIT.fullmatch(failed.visit) else _name_of_folder(folder)
        return self.root / "reports" / f"{name}.txt"


@contextmanager
def failure_reported(attempt: Attempt) -> Iterator[None]:
    """Write a report if the body fails, except in a dry run.

    The error propagates, with notes that point to the report.
    """
    try:
        yield
    except (*PASSING, *COMMAND):
        raise
    except Exception as error:
        if not (attempt.request.dry_run or shortage(error)):
            report_failure(error, attempt.failed, attempt.report_path, listed=attempt.order is None)
            show_in_prefect(error, attempt)
        raise


def show_in_prefect(error: Exception, attempt: Attempt) -> None:
    """Show a failure in Prefect, if this is a run of Prefect whose server still answers."""
    from flows.artifacts import current_flow_run, show_failure

    flow_run = current_flow_run()
    if not attempt.stage:
        flow_run = (attempt.run.flow_run or flow_run) if attempt.run.engine == "prefect" else ""
    if flow_run:
        failed = attempt.failed(error)
        show_failure(flow_run, failed.visit, exit_code(error), failed.as_text())


def order_failure_reported(
    error: Exception, path: Path, visit: str, named: Callable[[str], str]
) -> None:
    """Write a report on a job order that failed before its visit was opened.

    Nothing is written if the error has a report already.

    Parameters
    ----------
    error : Exception
        Why it failed; notes that point to the report are added to it.
    path : Path
        The order; if it is not a file there is nothing to report on.
    visit : str
        The visit, empty if it is not known.
    named : callable
        Replaces the paths in a text by the names that the order uses for these files.
    """
    if isinstance(error, PASSING) or report_notes(error) or not disk.is_file(path):
        return

    def make(error: Exception) -> FailedVisit:
        words, advice = explain(error, "", of_order=True)
        failed = FailedVisit(
            of="visit" if visit else "job order",
            visit=visit or plain(path.name),
            given=plain(path.name),
            target="",
            reason=words,
            where="job order, before the visit was opened",
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
    listed: bool = False,
) -> None:
    """Write the report as text and as PDF, and add notes with their paths to the error.

    If one cannot be written, the note says why. If the failure is to be `listed` by `drp status`,
    its key facts are written too.
    """
    # whatever goes wrong here, even a bug, must not replace the error that is reported
    try:
        failed = make(error)
        path = text_of(failed)
        pdf = path.with_suffix(".pdf")
        disk.discard(pdf)  # the PDF of an earlier failure would not match the text
        disk.make_folder(path.parent)
        disk.write_file(path, failed.as_text().encode())
    except Exception as failure:
        error.add_note(f"{NO_REPORT}{plain(failure)}")
        return
    error.add_note(f"{REPORT_IS}{path}")
    if listed:
        facts = key_facts(failed, exit_code(error), path)
        with contextlib.suppress(DrpError):  # the report itself is there
            disk.write_file(path.with_suffix(".json"), json.dumps(facts, indent=1).encode())
    try:
        typeset_failed(failed, pdf)
    except Exception as failure:
        error.add_note(f"{NO_PDF}{plain(failure)}")
        return
    error.add_note(f"{PDF_IS}{pdf}")


def key_facts(failed: FailedVisit, code: int, report: Path) -> dict[str, Any]:
    """Return the facts of a failure that `drp status` shows."""
    return {
        "visit": failed.visit,
        "code": code,
        "reason": failed.reason,
        "where": failed.where,
        "why": failed.why,
        "report": str(report),
        "date": failed.date,
    }


def forget_failure(root: Path, folder: Path, visit: str) -> None:
    """Remove the reports on earlier failures of a visit that is now published."""
    for name in {visit, named_visit(folder), _name_of_folder(folder)}:
        for ending in ("txt", "pdf", "json"):
            disk.discard(root / "reports" / f"{name}.{ending}")


def named_visit(folder: Path) -> str:
    """Return the visit that the file names below a folder contain.

    If they contain none or several, return the name of the folder.
    """
    names = (read_soc_name(path.name) for path in fits_files(folder))
    visits = {name.visit for name in names if name is not None and name.visit}
    return visits.pop() if len(visits) == 1 else plain(folder.name)


def _name_of_folder(folder: Path) -> str:
    place = str(disk.absolute(folder))
    name = re.sub(r"[^A-Za-z0-9_-]", "_", folder.name)[:40]
    return f"{name}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


def _request_text(folder: Path, order: OfOrder | None) -> str:
    """Return what was to be reduced: a folder, or the name of an order, which may be moved."""
    return plain(disk.absolute(folder) if order is None else order.path.name)


def failed_inventory(
    error: Exception,
    at: str,
    folder: Path,
    seen: Seen,
    settings: PipelineSettings,
    order: OfOrder | None = None,
) -> FailedVisit:
    """Return the content of the report on a failure at stage `at`, before the first step."""
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
    """Return the content of the report on the failure of a step or of the publication.

    `step` is the step in progress, empty if there was none.
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
        absent=tuple(f"{plain(kind)}: {plain(text)}" for kind, text in inventory.fallbacks.items()),
        deviations=tuple(map(plain, inventory.deviations)),
        notes=tuple(map(plain, (*inventory.notes, *run.warnings))),
        settings=_changed_settings(settings),
        software=VERSION,
        date=now(),
    )
    return _as_ordered(failed, order)


def _as_ordered(failed: FailedVisit, order: OfOrder | None) -> FailedVisit:
    """Return the report with the order's names of files, without the deleted temporary files."""
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
