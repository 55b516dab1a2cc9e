"""Commands that only read: explain, diff, check, show, references, status."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.command.console import Console, age_text, command, note
from flows.command.options import (
    FOLDER,
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
    help="Time for which they are chosen, yyyy-mm-ddThh:mm:ss; default now.",
)
@command
def references(console: Console, folders: tuple[Path, ...], when: str) -> None:
    """List the reference files in FOLDERS (or the default library): kind, version, validity, and
    which is valid.
    """
    from flows.references import list_references

    rows = list_references(folders, when)
    console.answer(rows, [line for row in rows for line in reference_lines(row)])


def reference_lines(row: dict[str, Any]) -> list[str]:
    """Return a reference as text."""
    mark = "*" if row["chosen"] else " "
    line = (
        f"{mark} {row['kind']:20s} {row['version']:5s} {row['valid_from']} .. "
        f"{row['valid_to']}  {row['file']}"
    )
    return [line, f"    {row['note']}"] if row["note"] else [line]


@click.command()
@click.argument("visit", type=FOLDER)
@click.option("--image", type=int, required=True, metavar="I", help="Which image, counted from 0.")
@click.option(
    "--aperture", default="DEFAULT", show_default=True, metavar="NAME", help="Which light curve."
)
@click.option("--pixel", type=(int, int), metavar="X Y", help="One pixel of the CCD instead.")
@command
def explain(
    console: Console, visit: Path, image: int, aperture: str, pixel: tuple[int, int] | None
) -> None:
    """Take the flux of one image of the published VISIT apart: each step, each term of the error,
    flags in words.

    With --pixel, a pixel in place of the flux: its bias, gain, thermal charge, response and flags,
    and how well it is known.
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
    """Compare the published reductions A and B of a visit: ppm of flux by column, and what they
    were made from.
    """
    from flows.command import texts

    console.answer(*texts.diff(a, b))


@click.command()
@click.argument("files", nargs=-1, type=FOLDER, required=True, metavar="FILE...")
@click.option("--strict", is_flag=True, help="Deviations are faults too.")
@command
def check(console: Console, files: tuple[Path, ...], strict: bool) -> None:
    """Hold each FILE (or the FITS files, reports and viewers in a folder) against the definition of
    its product.

    Structure, sums, keywords, columns, units, name; of pages, that they are whole, and fetch and
    run nothing. Exit code 65: a file is not as it is defined.
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
    """Show what FILE holds, a product, reference or term: its HDUs, what they mean, key numbers,
    used values.
    """
    from flows.command import texts

    console.answer(*texts.show(file))


@click.command()
@click.argument("visit", required=False)
@output_option
@work_option
@references_option("Folder of reference files, as for reduce.")
@set_option("A setting, as for reduce.")
@command
def status(
    console: Console,
    visit: str | None,
    output: Path,
    work: Path | None,
    references: tuple[Path, ...],
    assignments: tuple[str, ...],
) -> None:
    """Show every visit: state, version, last step, verdict, age; for one VISIT what each step would
    do now, and why.

    VISIT is a folder, as for reduce, or the name of a published visit.
    """
    from tasks.engine.folders import default_work_folder

    work = (work or default_work_folder(note)).absolute()
    if visit is None:
        show_states(console, output, work)
        return
    if "\0" in visit:
        raise UsageError("the visit holds a NUL byte")
    show_steps(console, Path(visit), output, work, references, read_settings(assignments))


def show_states(console: Console, output: Path, work: Path) -> None:
    """Show the state of every visit."""
    from flows.status import visit_states

    states = visit_states(output, work)
    console.answer([state_row(s) for s in states], [state_line(s) for s in states])


def show_steps(
    console: Console,
    visit: Path,
    output: Path,
    work: Path,
    references: tuple[Path, ...],
    settings: dict[str, Any],
) -> None:
    """Show the state of one visit, and what each of its steps would do."""
    from flows.step_status import visit_detail

    detail = visit_detail(visit, output, work, references, settings)
    steps = [asdict(s) for s in detail.steps]
    lines = [f"  {s.step:21s} {s.outcome:9s} {s.why}".rstrip() for s in detail.steps]
    console.answer(
        {**state_row(detail.summary), "steps": steps, "warnings": detail.warnings},
        [state_line(detail.summary), *lines],
    )
    for warning in detail.warnings if not console.as_json else ():
        console.warn(warning)


def state_row(state: VisitState) -> dict[str, Any]:
    """Return the state of a visit for JSON."""
    return {**asdict(state), "age": round(state.age, 1)}


def state_line(state: VisitState) -> str:
    """Return the state of a visit as a line."""
    age = age_text(state.age) if state.when else "-"
    return (
        f"{state.visit:17s} {state.state:9s} {state.version or '-':5s} "
        f"{state.last_step or '-':21s} {state.verdict or '-':16s} {age}"
    )
