"""What a visit that was not reduced leaves in place of products: a report that says where it stopped, why, and what to do.

It stands in the work folder as `reports/PRppnnnn_TGrrrrcc.txt` and `.pdf`. Where the inventory failed the visit is the one that
the names of its files tell; where they tell none, or several, the report has the folder's name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.ending import NO_PDF, NO_REPORT, PDF_IS, REPORT_IS
from flows.status import VISIT
from schemas import VERSION
from schemas.errors import (
    BadInputError,
    BusyError,
    CannotCreateError,
    ConfigurationError,
    DrpError,
    MissingInputError,
    NoScienceDataError,
    SelfCheckError,
    StorageError,
    UsageError,
    plain,
    short_of_memory,
)
from schemas.payloads import Inventory
from schemas.settings import PipelineSettings
from tasks import disk
from tasks.delivery.failed import DoneStep, FailedVisit, FileRead, typeset_failed
from tasks.delivery.sources import changed_settings, inputs_of
from tasks.delivery.summary import step_row
from tasks.references import SOC_NAME, Seen, fits_files
from tasks.step import Run, StepReport, Stopped, WorkToDo
from tasks.times import now

# These say nothing of the visit: the command was wrong, or the machine is busy for now.
NOT_OF_THE_VISIT = (Stopped, WorkToDo, UsageError, ConfigurationError, BusyError, MemoryError)
_AGAIN = "Then run the same command again: steps that were done are found, and not done again."
_ADVICE = {
    "events": "Look at the raw images, and at EARTH_OCCULTATION and SAA_FLAG in the visit constraints: if they say the "
    "truth, the visit has nothing to measure. A new delivery of raw data or constraints is taken by the same command.",
    "look": "Look at the calibrated images: is the target in the window, and near TARGET_LOCATION_X and _Y of the planned "
    "visit (MPS_PRE_Visits)?",
    "quality": "The flags of every image stand in the column QUALITY of the terms listed below; what most images have in "
    "common is the reason.",
}
_REASONS: tuple[tuple[type[DrpError], str, str], ...] = (
    (NoScienceDataError, "there are no science data", ""),
    (
        BadInputError,
        "an input is damaged",
        f"The error names the file and the place in it. Put a sound copy in its place, or another reference. {_AGAIN}",
    ),
    (
        MissingInputError,
        "an input is missing",
        f"Put the file that the error names into the visit or a reference folder. {_AGAIN}",
    ),
    (CannotCreateError, "the products cannot be created", f"Make room for them, or choose another --output. {_AGAIN}"),
    (StorageError, "reading or writing failed", f"See that the disk is sound and has room. {_AGAIN}"),
    (SelfCheckError, "a product did not read back as it was written", f"See that the disk is sound. {_AGAIN}"),
)
_FAULT = (
    "the program failed",
    "This is a fault of the program and not of the visit. Report it with the crash file that the ERROR line names, and with "
    "this report. With a corrected program the same command goes on from the last of the steps listed below.",
)


@contextmanager
def failure_reported(root: Path, folder: Path, make: Callable[[Exception], FailedVisit], dry: bool) -> Iterator[None]:
    """Leave a report where what is done in this context fails; the error goes on with notes of where the report is.

    Parameters
    ----------
    root, folder : Path
        The work folder, and the visit's.
    make : callable
        Returns what the report shows, of the error.
    dry : bool
        Nothing is to be written.
    """
    try:
        yield
    except NOT_OF_THE_VISIT:
        raise
    except Exception as error:
        if not (dry or short_of_memory(error)):
            report_failure(error, root, folder, make)
        raise


def report_failure(error: Exception, root: Path, folder: Path, make: Callable[[Exception], FailedVisit]) -> None:
    """Write the report as text and as PDF, and note on the error where they are, or why they could not be written."""
    # nothing that goes wrong here may take the place of the error that is reported, not even a fault of ours
    try:
        failed = make(error)
        path = root / "reports" / f"{failed.visit if VISIT.fullmatch(failed.visit) else _name_of_folder(folder)}.txt"
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
    """Return the visit that the names of the files below a folder tell; the folder's own name if it is none or several."""
    matches = (SOC_NAME.match(path.name) for path in fits_files(folder))
    told = {match[1].removeprefix("_") for match in matches if match is not None and match[1]}
    return told.pop() if len(told) == 1 else plain(folder.name)


def _name_of_folder(folder: Path) -> str:
    place = str(folder.absolute())
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', folder.name)[:40]}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


def reason(error: Exception, step: str) -> tuple[str, str]:
    """Return in a few words why a visit was not reduced, and what to do about it."""
    for kind, words, advice in _REASONS:
        if isinstance(error, kind):
            return words, advice or _ADVICE.get(step, _ADVICE["quality"])
    return _FAULT


def why_of(error: Exception) -> str:
    """Return what an error says."""
    return str(error) if isinstance(error, DrpError) else f"{type(error).__name__}: {plain(error)}"


def failed_inventory(error: Exception, folder: Path, seen: Seen, settings: PipelineSettings) -> FailedVisit:
    """Return what the report shows where the files of a visit could not all be found and checked."""
    words, advice = reason(error, "")
    return FailedVisit(
        visit=seen.visit or named_visit(folder), target="", reason=words, where="inventory, before the first step",
        why=why_of(error), advice=advice, read=tuple(_file_read(kind, path, digest) for kind, path, digest in seen.read),
        settings=_changed(settings), notes=tuple(map(plain, seen.notes)), software=VERSION, date=now(),
    )  # fmt: skip


def failed_visit(error: Exception, step: str, run: Run, found: Inventory, settings: PipelineSettings) -> FailedVisit:
    """Return what the report shows where a step or the publication failed.

    `step` is the one that was under way, empty where none was.
    """
    words, advice = reason(error, step)
    return FailedVisit(
        visit=found.visit, target=plain(found.target), reason=words,
        where=f"step {step}" if step else "publication" if run.reports else "before the first step",
        why=why_of(error), advice=advice, steps=tuple(map(_done, run.reports)),
        read=tuple(_file_read(kind, product.path, product.sha256) for kind, product in inputs_of(found)),
        absent=tuple(f"{plain(kind)}: {plain(what)}" for kind, what in found.fallbacks.items()),
        deviations=tuple(map(plain, found.deviations)), notes=tuple(map(plain, (*found.notes, *run.warnings))),
        settings=_changed(settings), software=VERSION, date=now(),
    )  # fmt: skip


def _done(report: StepReport) -> DoneStep:
    leaf = report.leaf
    return DoneStep(
        outcome=report.outcome, row=step_row(leaf), warnings=tuple(map(plain, leaf.warnings)),
        products=tuple(plain(p.path) for p in leaf.products.values()),
    )  # fmt: skip


def _file_read(kind: str, path: str, digest: str) -> FileRead:
    return FileRead(kind=plain(kind), name=plain(Path(path).name), sha256=digest)


def _changed(settings: PipelineSettings) -> tuple[tuple[str, str, str], ...]:
    return tuple((name, value, usual) for name, value, usual in changed_settings(settings.model_dump(mode="json")))
