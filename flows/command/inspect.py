"""Commands that only read: explain, diff, check, show, provenance ..."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.command.console import Console, age_text, command, note
from flows.command.group import Choice
from flows.command.options import (
    FOLDER,
    VISIT_OR_NAME,
    output_option,
    read_settings,
    references_option,
    set_option,
    work_option,
)
from schemas.errors import UsageError

if TYPE_CHECKING:
    from flows.status import VisitState


@click.command()
@click.argument("folders", nargs=-1, type=FOLDER)
@click.option(
    "--at",
    "when",
    default="",
    help="Mark the files valid at this time, yyyy-mm-ddThh:mm:ss or yyyy-mm-dd [now].",
)
@command
def references(console: Console, folders: tuple[Path, ...], when: str) -> None:
    """List reference files and mark the valid ones.

    Shows kind, version and validity of each file in FOLDERS, or in the default library. An asterisk
    marks the files that a visit at the given time would use.
    """
    from flows.references import list_references

    rows = list_references(folders, when)
    console.answer(rows, [line for row in rows for line in reference_lines(row)])


def reference_lines(row: dict[str, Any]) -> list[str]:
    """Return a reference file as lines of text."""
    if row["kind"] == "-":
        return [f"  {row['file']}: {row['note']}"]
    mark = "*" if row["chosen"] else " "
    line = (
        f"{mark} {row['kind']:20s} {row['version']:5s} {row['valid_from']} .. "
        f"{row['valid_to']}  {row['file']}"
    )
    return [line, f"    {row['note']}"] if row["note"] else [line]


@click.command()
@click.argument("visit", type=FOLDER)
@click.option("--image", type=int, required=True, metavar="I", help="Index of the image, from 0.")
@click.option(
    "--aperture", default="DEFAULT", show_default=True, metavar="NAME", help="Light curve."
)
@click.option(
    "--pixel", type=(int, int), metavar="X Y", help="Break down this pixel of the CCD instead."
)
@command
def explain(
    console: Console, visit: Path, image: int, aperture: str, pixel: tuple[int, int] | None
) -> None:
    """Break down the flux of one image of the published VISIT.

    Shows the effect of each step, each term of the error, and the flags in words. With --pixel,
    breaks down a single pixel instead: bias, gain, thermal charge, response, flags and error.
    """
    from flows.command import texts

    if pixel is None:
        console.answer(*texts.explain(visit, image, aperture))
    else:
        console.answer(*texts.explain_pixel(visit, image, *pixel))


@click.command()
@click.argument("a", type=FOLDER)
@click.argument("b", type=FOLDER)
@command
def diff(console: Console, a: Path, b: Path) -> None:
    """Compare the published reductions A and B of a visit.

    Shows how the columns differ (in ppm of the flux), and any difference in inputs, references,
    settings and versions.
    """
    from flows.command import texts

    console.answer(*texts.diff(a, b))


@click.command()
@click.argument("files", nargs=-1, type=FOLDER, required=True, metavar="FILE...")
@click.option("--strict", is_flag=True, help="Treat deviations as faults.")
@command
def check(console: Console, files: tuple[Path, ...], strict: bool) -> None:
    """Check each FILE against the definition of its product.

    If FILE is a folder, the FITS files, reports and viewers in it are checked. FITS files are
    checked for structure, checksums, keywords, columns, units and name; reports and viewers must be
    complete, and load or run nothing from outside. Exits with 65 if a file does not conform.
    """
    from flows.command import texts

    verdicts, lines, error = texts.check(files, strict)
    console.answer(verdicts, lines)
    if error is not None:
        raise error


@click.command()
@click.argument("file", type=FOLDER)
@command
def show(console: Console, file: Path) -> None:
    """Show the contents of FILE, a product, reference or term.

    Lists the HDUs with their meaning, key numbers, and the values the pipeline used.
    """
    from flows.command import texts

    console.answer(*texts.show(file))


@click.command()
@click.argument("visit", type=FOLDER)
@command
def provenance(console: Console, visit: Path) -> None:
    """Write the provenance of the published VISIT as PROV-JSON.

    Raw files, references and settings, steps, products, software and institution, and how they
    depend on each other, in the W3C's exchange format.
    """
    from tasks.delivery.published.provenance import provenance as document
    from tasks.delivery.published.visit import PublishedVisit

    data = document(PublishedVisit.at(visit).manifest)
    console.answer(data, [json.dumps(data, indent=1)])


@click.command()
@click.argument("visit", type=FOLDER)
@click.option(
    "--light-curve",
    "names",
    multiple=True,
    default=("OPTIMAL",),
    show_default=True,
    metavar="NAME",
    help="Light curve (repeatable).",
)
@click.option(
    "--against",
    type=Choice(
        [
            *("time", "roll", "x", "y", "background", "contamination", "smearing"),
            *("temperature", "ccd"),
        ]
    ),
    default="time",
    show_default=True,
    help="Quantity of the horizontal axis; temperature is that of the telescope.",
)
@click.option("--flagged", is_flag=True, help="Show points with an event or a flag too.")
@click.option(
    "--output",
    type=FOLDER,
    default=Path("light_curve.png"),
    show_default=True,
    help="File to write; its name ends in .png, .pdf or .svg.",
)
@command
def plot(
    console: Console,
    visit: Path,
    names: tuple[str, ...],
    against: str,
    flagged: bool,
    output: Path,
) -> None:
    """Plot light curves of the published VISIT into a file.

    Draws the relative flux, without the light of field stars, against time, roll angle, position,
    background or temperature.
    """
    from flows.plot import plot_visit
    from tasks.delivery.published.visit import PublishedVisit

    plot_visit(PublishedVisit.at(visit), names, against, flagged, output)
    console.answer({"plot": str(output)}, [str(output)], indent=None)


@click.command()
@click.argument("visit", type=VISIT_OR_NAME, required=False)
@output_option
@work_option
@references_option("Folder with reference files, as for reduce.")
@set_option("Change a setting, as for reduce.")
@command
def status(
    console: Console,
    visit: str | None,
    output: Path,
    work: Path | None,
    references: tuple[Path, ...],
    assignments: tuple[str, ...],
) -> None:
    """Show the state of all visits, or of each step of VISIT.

    Lists state, version, last step, verdict and age of every visit; of one whose last run failed,
    also the exit code, the reason and the report. For a single VISIT (a folder, as for reduce, or
    the name of a visit) also lists what each step would do now, and why.
    """
    from tasks.engine.folders import default_work_folder
    from tasks.files import disk

    work = disk.absolute(work or default_work_folder(note))
    if visit is None:
        show_states(console, output, work)
        return
    if "\0" in visit:
        raise UsageError("the visit contains a NUL byte")
    show_steps(console, Path(visit), output, work, references, read_settings(assignments))


def show_states(console: Console, output: Path, work: Path) -> None:
    """Show the state of every visit."""
    from flows.status import visit_states

    states = visit_states(output, work)
    if not states:
        console.remark(f"no visit in {output} and {work}")
    lines = [line for s in states for line in state_lines(s)]
    console.answer([state_row(s) for s in states], [STATE_HEAD, *lines] if states else [])


def show_steps(
    console: Console,
    visit: Path,
    output: Path,
    work: Path,
    references: tuple[Path, ...],
    settings: dict[str, Any],
) -> None:
    """Show the state of a visit, and what each of its steps would do."""
    from flows.step_status import visit_detail

    detail = visit_detail(visit, output, work, references, settings)
    steps = [asdict(s) for s in detail.steps]
    lines = [
        f"  {s.step:21s} {s.outcome:9s} {s.version:7s} {s.remark}".rstrip() for s in detail.steps
    ]
    if lines:
        lines.insert(0, f"  {'step':21s} {'outcome':9s} version why")
    console.answer(
        {**state_row(detail.summary), "steps": steps, "warnings": detail.warnings},
        [STATE_HEAD, *state_lines(detail.summary), *lines],
    )
    for warning in detail.warnings if not console.as_json else ():
        console.warn(warning)


def state_row(state: VisitState) -> dict[str, Any]:
    """Return the state of a visit as a JSON row."""
    return {**asdict(state), "age": round(state.age, 1)}


_STATE = "{:17s} {:11s} {:7s} {:21s} {:16s} {}"

STATE_HEAD = _STATE.format("visit", "state", "version", "last step", "verdict", "age")


def state_lines(state: VisitState) -> list[str]:
    """Return the state of a visit as text: one line, and another if it failed or is elsewhere."""
    age = age_text(state.age) if state.when else "-"
    line = _STATE.format(
        state.visit,
        state.state,
        state.version or "-",
        state.last_step or "-",
        state.verdict or "-",
        age,
    )
    if state.state == "elsewhere":
        where = f"    a run on {state.host} has not ended by itself: see there whether it lasts"
        return [line, where]
    if state.state != "failed":
        return [line]
    return [line, f"    exit code {state.code}, {state.reason}: {state.report}"]
