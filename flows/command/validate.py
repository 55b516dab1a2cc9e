"""The command `drp validate`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from flows.command.console import Console, command, note, stop_if_asked
from flows.command.options import FOLDER

CLAIM_FAILED = 4  # exit code of a validation that was done, but found a claim that is not met


@click.command()
@click.option(
    "--case",
    "cases",
    multiple=True,
    metavar="NAME",
    help="Only this case; `budget` is the error budget.",
)
@click.option(
    "--seeds", type=click.IntRange(min=1), help="Visits of each case [as many as its noise needs]."
)
@click.option("--images", type=click.IntRange(min=1), help="Stacks of each visit [the case's own].")
@click.option(
    "--output",
    type=FOLDER,
    default=Path("validation"),
    show_default=True,
    help="Where results and parts stand.",
)
@click.option("--again", is_flag=True, help="Do parts again that are there.")
@command
def validate(
    console: Console,
    cases: tuple[str, ...],
    seeds: int | None,
    images: int | None,
    output: Path,
    again: bool,
) -> int:
    """Simulate visits, reduce them, and measure every claim of accuracy against the truth.

    Takes hours, in parts of a minute that are kept: the same command goes on where it was stopped.
    The last line names the page. Exit code 4: done, but a claim is not met.
    """
    from flows.validate import run_validation
    from schemas.requests import ValidateRequest

    request = ValidateRequest(cases=cases, seeds=seeds, images=images, output=output, again=again)
    result = run_validation(request, part_progress(console))
    counts = result["counts"]
    console.remark(f"claims: {counts['pass']} pass, {counts['fail']} fail, {counts['open']} open")
    console.answer(result, [str(output / "validation.md")])
    return CLAIM_FAILED if result["failed"] else 0


def part_progress(console: Console) -> Callable[[str, bool], None]:
    """Return a function that shows what is done for a part: one line that changes on a terminal,
    else only its end.
    """
    terminal = sys.stderr.isatty()

    def report_part(text: str, end: bool) -> None:
        stop_if_asked()
        if not console.silent and (end or terminal):
            note(f"\r\033[K{text}" if terminal else text, nl=end)

    return report_part
