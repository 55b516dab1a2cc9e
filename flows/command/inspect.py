"""Commands that only read: explain, diff, check, show, references, status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from flows.command.console import FOLDER, common, guarded, note, say, told
from schemas.errors import UsageError


@click.command()
@click.argument("folders", nargs=-1, type=FOLDER)
@click.option(
    "--at",
    "when",
    default="",
    help="Time for which they are chosen, yyyy-mm-ddThh:mm:ss; default now.",
)
@common
def references(
    folders: tuple[Path, ...], when: str, as_json: bool, quiet: bool, verbose: bool
) -> None:
    """List the reference files in FOLDERS (or the default library): kind, version, validity, and
    which is valid.
    """

    def body() -> int:
        from flows.references import list_references

        rows = list_references(folders, when)
        if as_json:
            say(json.dumps(rows, indent=1))
            return 0
        for row in rows:
            mark = "*" if row["chosen"] else " "
            say(
                f"{mark} {row['kind']:20s} {row['version']:5s} {row['valid_from']} .. "
                f"{row['valid_to']}  {row['file']}"
            )
            if row["note"]:
                say(f"    {row['note']}")
        return 0

    guarded(body, verbose)


@click.command()
@click.argument("visit", type=FOLDER)
@click.option("--image", type=int, required=True, metavar="I", help="Which image, counted from 0.")
@click.option(
    "--aperture", default="DEFAULT", show_default=True, metavar="NAME", help="Which light curve."
)
@click.option("--pixel", type=(int, int), metavar="X Y", help="One pixel of the CCD instead.")
@common
def explain(
    visit: Path,
    image: int,
    aperture: str,
    pixel: tuple[int, int] | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Take the flux of one image of the published VISIT apart: each step, each term of the error,
    flags in words.

    With --pixel, a pixel in place of the flux: its bias, gain, thermal charge, response and flags,
    and how well it is known.
    """

    def body() -> int:
        from flows.command import texts as tools

        found = (
            tools.explain(visit, image, aperture)
            if pixel is None
            else tools.explain_pixel(visit, image, *pixel)
        )
        return told(*found, as_json)

    guarded(body, verbose)


@click.command()
@click.argument("a", type=FOLDER)
@click.argument("b", type=FOLDER)
@common
def diff(a: Path, b: Path, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Compare the published reductions A and B of a visit: ppm of flux by column, and what they
    were made from.
    """

    def body() -> int:
        from flows.command import texts as tools

        return told(*tools.diff(a, b), as_json)

    guarded(body, verbose)


@click.command()
@click.argument("files", nargs=-1, type=FOLDER, required=True, metavar="FILE...")
@click.option("--strict", is_flag=True, help="Deviations are faults too.")
@common
def check(files: tuple[Path, ...], strict: bool, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Hold each FILE (or the FITS files, reports and viewers in a folder) against the definition of
    its product.

    Structure, sums, keywords, columns, units, name; of pages, that they are whole, and fetch and
    run nothing. Exit code 65: a file is not as it is defined.
    """

    def body() -> int:
        from flows.command import texts as tools

        answered, lines, error = tools.check(files, strict)
        told(answered, lines, as_json)
        if error is not None:
            raise error
        return 0

    guarded(body, verbose)


@click.command()
@click.argument("file", type=FOLDER)
@common
def show(file: Path, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Show what FILE holds, a product, reference or term: its HDUs, what they mean, key numbers,
    used values.
    """

    def body() -> int:
        from flows.command import texts as tools

        return told(*tools.show(file), as_json)

    guarded(body, verbose)


@click.command()
@click.argument("visit", required=False)
@click.option(
    "--output",
    type=FOLDER,
    default=Path("products"),
    show_default=True,
    help="Where products are published.",
)
@click.option(
    "--work", type=FOLDER, help="Folder of intermediate products [DRP_WORK, or the user's cache]."
)
@click.option(
    "--references", multiple=True, type=FOLDER, help="Folder of reference files, as for reduce."
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="STEP.NAME=VALUE",
    help="A setting, as for reduce.",
)
@common
def status(
    visit: str | None,
    output: Path,
    work: Path | None,
    references: tuple[Path, ...],
    assignments: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Show every visit: state, version, last step, verdict, age; for one VISIT what each step would
    do now, and why.

    VISIT is a folder, as for reduce, or the name of a published visit.
    """

    def body() -> int:
        from dataclasses import asdict

        from flows.command.console import age_text
        from flows.status import visit_states
        from flows.step_status import visit_detail
        from schemas.requests import assign
        from tasks.engine.folders import default_work_folder

        place = (work or default_work_folder(note)).absolute()
        if visit is None:
            states, detail = visit_states(output, place), None
        else:
            if "\0" in visit:
                raise UsageError("the visit holds a NUL byte")
            settings: dict[str, Any] = {}
            for assignment in assignments:
                assign(settings, assignment)
            detail = visit_detail(Path(visit), output, place, references, settings)
            states = [detail.summary]
        if as_json:
            rows: list[dict[str, Any]] = [{**asdict(s), "age": round(s.age, 1)} for s in states]
            more = (
                {"steps": [asdict(s) for s in detail.steps], "warnings": detail.warnings}
                if detail is not None
                else {}
            )
            say(json.dumps({**rows[0], **more} if detail is not None else rows, indent=1))
            return 0
        for s in states:
            age = age_text(s.age) if s.when else "-"
            say(
                f"{s.visit:17s} {s.state:9s} {s.version or '-':5s} {s.last_step or '-':21s} "
                f"{s.verdict or '-':16s} {age}"
            )
        for step in detail.steps if detail is not None else ():
            say(f"  {step.step:21s} {step.outcome:9s} {step.why}".rstrip())
        for warning in detail.warnings if detail is not None else ():
            note(f"WARNING {warning}")
        return 0

    guarded(body, verbose)
