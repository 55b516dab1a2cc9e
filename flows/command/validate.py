"""The command `drp validate`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from flows.command.console import Console, command, note, stop_if_asked
from flows.command.options import CASE, FOLDER

CLAIM_FAILED = 4  # exit code of a completed validation in which a claim is not met


@click.command()
@click.option(
    "--case",
    "cases",
    multiple=True,
    type=CASE,
    metavar="NAME",
    help="Run only this case (repeatable); `budget` is the error budget.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 10_000),
    help="Visits per case [as many as its noise requires].",
)
@click.option("--images", type=click.IntRange(min=1), help="Images per visit [the case's own].")
@click.option(
    "--output",
    type=FOLDER,
    default=Path("validation"),
    show_default=True,
    help="Folder for the results and their parts.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Parts at a time, each in a process.",
)
@click.option("--again", is_flag=True, help="Redo parts that have results already.")
@command
def validate(
    console: Console,
    cases: tuple[str, ...],
    seeds: int | None,
    images: int | None,
    output: Path,
    jobs: int,
    again: bool,
) -> int:
    """Measure the accuracy of the pipeline on simulated visits.

    Simulates and reduces visits, and tests every claim of accuracy against the truth. This takes
    hours, in parts of about a minute whose results are kept: if interrupted, run the same command
    again to resume. The last line of output is the results page. Exits with 4 if a claim is not
    met.
    """
    from flows.validate import run_validation
    from schemas.requests import ValidateRequest

    request = ValidateRequest(
        cases=cases, seeds=seeds, images=images, output=output, again=again, jobs=jobs
    )
    result = run_validation(request, part_progress(console))
    counts = result["counts"]
    console.remark(f"claims: {counts['pass']} pass, {counts['fail']} fail, {counts['open']} open")
    console.answer(result, [str(output / "validation.md")])
    return CLAIM_FAILED if result["failed"] else 0


def part_progress(console: Console) -> Callable[[str, bool], None]:
    """Return a function that shows the progress of a part.

    On a terminal it updates a single line, elsewhere it writes a line when the part has ended.
    """
    terminal = sys.stderr.isatty()

    def report_part(text: str, end: bool) -> None:
        stop_if_asked()
        if not console.silent and (end or terminal):
            note(f"\r\033[K{text}" if terminal else text, nl=end)

    return report_part
