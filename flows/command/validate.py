"""The command `drp validate`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from flows.command.console import FOLDER, common, guarded, note, say, stop_if_asked

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
@common
def validate(
    cases: tuple[str, ...],
    seeds: int | None,
    images: int | None,
    output: Path,
    again: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Simulate visits, reduce them, and measure every claim of accuracy against the truth.

    Takes hours, in parts of a minute that are kept: the same command goes on where it was stopped.
    The last line names the page. Exit code 4: done, but a claim is not met.
    """

    def body() -> int:
        from flows.validate import run_validation
        from schemas.requests import ValidateRequest

        terminal = sys.stderr.isatty()

        def tell(text: str, end: bool) -> None:
            stop_if_asked()
            if not (quiet or as_json) and (end or terminal):
                note(f"\r\033[K{text}" if terminal else text, nl=end)

        request = ValidateRequest(
            cases=cases, seeds=seeds, images=images, output=output, again=again
        )
        result = run_validation(request, tell)
        if as_json:
            say(json.dumps(result, indent=1))
        else:
            counts = result["counts"]
            note(f"claims: {counts['pass']} pass, {counts['fail']} fail, {counts['open']} open")
            say(str(output / "validation.md"))
        return CLAIM_FAILED if result["failed"] else 0

    guarded(body, verbose)
