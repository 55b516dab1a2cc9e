"""What a visit without science data leaves in place of products: a page that says where it stopped, why, and what to do."""

from __future__ import annotations

from pathlib import Path

from schemas import VERSION
from schemas.errors import DrpError, NoScienceDataError, plain
from schemas.payloads import Inventory
from tasks import disk
from tasks.step import Run

_ADVICE = {
    "events": "Look at the raw images, and at EARTH_OCCULTATION and SAA_FLAG in the visit constraints: if they say the "
    "truth, the visit has nothing to measure. A new delivery of raw data or constraints is taken by the same command.",
    "look": "Look at the calibrated images: is the target in the window, and near TARGET_LOCATION_X and _Y of the planned "
    "visit (MPS_PRE_Visits)?",
    "quality": "The flags of every image stand in the column QUALITY of the terms listed above; what most images have in "
    "common is the reason.",
}


def reported(error: NoScienceDataError, step: str, run: Run, found: Inventory) -> NoScienceDataError:
    """Write the page and return the error that names it; where it can't be written the error says that."""
    path = run.workspace.root / "reports" / f"{found.visit}.txt"
    try:
        disk.make_folder(path.parent)
        disk.write_file(path, page(error, step, run, found).encode())
    except DrpError as failure:
        return NoScienceDataError(f"{error}; its report could not be written: {failure}")
    return NoScienceDataError(f"{error}; the report is {path}")


def page(error: NoScienceDataError, step: str, run: Run, found: Inventory) -> str:
    """Return the page as text; whatever comes from headers stands on one line without control characters."""
    lines = [f"{found.visit} ({plain(found.target)}) was not reduced: there are no science data", "", "Why", f"  {error}", ""]
    lines += ["Where it stopped", f"  step {step}; nothing was published", "", "Steps done before"]
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
    lines += ["", "What to do", f"  {_ADVICE.get(step, _ADVICE['quality'])}", "", f"drp {VERSION}", ""]
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
