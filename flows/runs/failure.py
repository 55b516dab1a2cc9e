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

from flows.runs.advice import reason, why_of
from flows.runs.ending import BESIDE, NO_PDF, NO_REPORT, PDF_IS, REPORT_IS, report_of
from schemas import VERSION
from schemas.errors import (
    BusyError,
    ConfigurationError,
    UsageError,
    plain,
    short_of_memory,
)
from schemas.names import VISIT, read_soc_name
from schemas.payloads import Inventory
from schemas.settings import PipelineSettings
from tasks.delivery.report.failed import DoneStep, FailedVisit, FileRead, typeset_failed
from tasks.delivery.report.sources import changed_settings, inputs_of
from tasks.delivery.report.summary import step_row
from tasks.engine.run import Run, StepReport, Stopped, WorkToDo
from tasks.files import disk
from tasks.numerics.times import now
from tasks.visit.inventory import Seen
from tasks.visit.search import fits_files

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


@contextmanager
def failure_reported(
    root: Path,
    folder: Path,
    make: Callable[[Exception], FailedVisit],
    dry: bool,
    order: OfOrder | None = None,
) -> Iterator[None]:
    """Leave a report where what is done in this context fails; the error goes on with notes of
    where the report is.

    Parameters
    ----------
    root, folder : Path
        The work folder, and the visit's.
    make : callable
        Returns what the report shows, of the error.
    dry : bool
        Nothing is to be written.
    order : OfOrder, optional
        The order beside which the report is to stand.
    """
    try:
        yield
    except (*PASSING, *COMMAND):
        raise
    except Exception as error:
        if not (dry or short_of_memory(error)):

            def text_of(failed: FailedVisit) -> Path:
                name = failed.visit if VISIT.fullmatch(failed.visit) else _name_of_folder(folder)
                return (
                    root / "reports" / f"{name}.txt"
                    if order is None
                    else order.path.with_suffix(BESIDE[0])
                )

            report_failure(error, make, text_of)
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
    if isinstance(error, PASSING) or report_of(error) or not path.is_file():
        return

    def make(error: Exception) -> FailedVisit:
        words, advice = reason(error, "", of_order=True)
        failed = FailedVisit(
            of="visit" if visit else "job order",
            visit=visit or plain(path.name),
            given=plain(path.name),
            target="",
            reason=words,
            where="job order, before the visit was looked at",
            why=why_of(error),
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
    names = (read_soc_name(path.name) for path in fits_files(folder))
    visits = {name.visit for name in names if name is not None and name.visit}
    return visits.pop() if len(visits) == 1 else plain(folder.name)


def _name_of_folder(folder: Path) -> str:
    place = str(folder.absolute())
    name = re.sub(r"[^A-Za-z0-9_-]", "_", folder.name)[:40]
    return f"{name}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


def _given(folder: Path, order: OfOrder | None) -> str:
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
    words, advice = reason(error, "", order is not None)
    failed = FailedVisit(
        visit=seen.visit or named_visit(folder),
        given=_given(folder, order),
        target="",
        reason=words,
        where=f"{at}, before the first step",
        why=why_of(error),
        advice=advice,
        read=tuple(_file_read(kind, path, digest) for kind, path, digest in seen.read),
        settings=_changed(settings),
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
    found: Inventory,
    settings: PipelineSettings,
    order: OfOrder | None = None,
) -> FailedVisit:
    """Return what the report shows where a step or the publication failed.

    `step` is the one that was under way, empty where none was.
    """
    words, advice = reason(error, step, order is not None)
    failed = FailedVisit(
        visit=found.visit,
        given=_given(folder, order),
        target=plain(found.target),
        reason=words,
        where=f"step {step}" if step else "publication" if run.reports else "before the first step",
        why=why_of(error),
        advice=advice,
        steps=tuple(map(_done, run.reports)),
        read=tuple(
            _file_read(kind, product.path, product.sha256) for kind, product in inputs_of(found)
        ),
        absent=tuple(f"{plain(kind)}: {plain(what)}" for kind, what in found.fallbacks.items()),
        deviations=tuple(map(plain, found.deviations)),
        notes=tuple(map(plain, (*found.notes, *run.warnings))),
        settings=_changed(settings),
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


def _done(report: StepReport) -> DoneStep:
    leaf = report.leaf
    return DoneStep(
        outcome=report.outcome,
        row=step_row(leaf),
        warnings=tuple(map(plain, leaf.warnings)),
        products=tuple(plain(p.path) for p in leaf.products.values()),
    )


def _file_read(kind: str, path: str, digest: str) -> FileRead:
    return FileRead(kind=plain(kind), name=plain(Path(path).name), sha256=digest)


def _changed(settings: PipelineSettings) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        (name, value, usual)
        for name, value, usual in changed_settings(settings.model_dump(mode="json"))
    )
