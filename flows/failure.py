"""What a visit that was not reduced leaves in place of products: a page that says where it stopped, why, and what to do."""

from __future__ import annotations

from pathlib import Path

from flows.ending import REPORT_IS
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
)
from schemas.payloads import Inventory
from tasks import disk
from tasks.step import Run, Stopped, WorkToDo

# These say nothing of the visit: the command was wrong, or the machine is busy for now.
NOT_OF_THE_VISIT = (Stopped, WorkToDo, UsageError, ConfigurationError, BusyError, MemoryError)
_AGAIN = "Then run the same command again: the steps listed below are found and not done again."
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
        f"The lines above name the file and the place in it. Put a sound copy in its place, or another reference. {_AGAIN}",
    ),
    (
        MissingInputError,
        "an input is missing",
        f"Put the file that is named above into the visit or a reference folder. {_AGAIN}",
    ),
    (CannotCreateError, "the products cannot be created", f"Make room for them, or choose another --output. {_AGAIN}"),
    (StorageError, "reading or writing failed", f"See that the disk is sound and has room. {_AGAIN}"),
    (SelfCheckError, "a product did not read back as it was written", f"See that the disk is sound. {_AGAIN}"),
)
_FAULT = (
    "the program failed",
    "This is a fault of the program and not of the visit. Report it with the crash file that the ERROR line names, and with "
    "this page. With a corrected program the same command goes on from the last of the steps listed below.",
)


def report_failure(error: Exception, step: str, run: Run, found: Inventory) -> str:
    """Write the page and return where it is, as it stands behind an error; where it can't be written that is said.

    `step` is the one that was under way, empty where none was.
    """
    path = page_of(run, found)
    try:
        disk.make_folder(path.parent)
        disk.write_file(path, page(error, step, run, found).encode())
    except DrpError as failure:
        return f"its report could not be written: {failure}"
    return f"{REPORT_IS}{path}"


def page_of(run: Run, found: Inventory) -> Path:
    """Return where the page on a visit lies."""
    return run.workspace.root / "reports" / f"{found.visit}.txt"


def reason(error: Exception, step: str) -> tuple[str, str]:
    """Return in a few words why a visit was not reduced, and what to do about it."""
    for kind, words, advice in _REASONS:
        if isinstance(error, kind):
            return words, advice or _ADVICE.get(step, _ADVICE["quality"])
    return _FAULT


def page(error: Exception, step: str, run: Run, found: Inventory) -> str:
    """Return the page as text; whatever comes from headers stands on one line without control characters."""
    words, advice = reason(error, step)
    why = str(error) if isinstance(error, DrpError) else f"{type(error).__name__}: {plain(error)}"
    lines = [f"{found.visit} ({plain(found.target)}) was not reduced: {words}", "", "Why", f"  {why}", ""]
    where = f"step {step}" if step else "publication" if run.reports else "before the first step"
    lines += ["Where it stopped", f"  {where}; nothing was published", "", "What to do", f"  {advice}", "", "Steps done before"]
    for done in run.reports:
        states = ", ".join(f"{k} {v}" for k, v in done.leaf.status.items()) or "completed"
        lines.append(f"  {done.step:21s} {done.outcome:8s} {states}")
        lines += [f"    ! {plain(w)}" for w in done.leaf.warnings]
        lines += [f"    {p.path}" for p in done.leaf.products.values()]
    lines += [] if run.reports else ["  none"]
    lines += ["", "Read", *(f"  {plain(path)}" for path in sorted(_inputs(found)))]
    for title, notes in (
        ("Absent", [f"{kind}: {what}" for kind, what in found.fallbacks.items()]),
        ("Deviations from the definitions", found.deviations),
        ("Notes", [*found.notes, *run.warnings]),
    ):
        lines += ["", title, *(f"  {plain(note)}" for note in notes)] if notes else []
    lines += ["", f"drp {VERSION}", ""]
    return "\n".join(lines)


def _inputs(found: Inventory) -> list[str]:
    given = (
        found.subarray,
        found.attitude,
        found.full_array,
        found.imagettes,
        found.planned,
        found.constraints,
        found.orbit,
        found.stars,
    )
    products = [*given, *(r.product for r in (*found.references.values(), *found.dark_frames))]
    return [Path(p.path).name for p in products if p is not None]
