"""Commands that create products: reduce, simulate."""

from __future__ import annotations

import contextlib
import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.command.console import (
    Console,
    command,
)
from flows.command.options import CASE, FOLDER, complete_case, read_settings, reduction_options
from flows.command.progress import Progress, Pulse, progress_bar
from schemas.errors import UsageError

if TYPE_CHECKING:
    from flows.runs.reduction import Reduction
    from flows.runs.summary import Summary
    from schemas.payloads import Published
    from schemas.requests import ReduceRequest
    from tasks.engine.run import Run


@click.command()
@click.argument("visit", type=FOLDER)
@reduction_options("auto")
@click.option("--wait", is_flag=True, help="Wait if another run holds the visit.")
@click.option("--dry-run", is_flag=True, help="Only show what each step would do.")
@command
def reduce(
    console: Console,
    assignments: tuple[str, ...],
    settings_file: Path | None,
    engine: str,
    **options: Any,
) -> int:
    """Reduce the visit in the folder VISIT.

    VISIT may also be a published folder; the reduction then continues from its products. Only steps
    whose results are missing or out of date are run; warnings of the others are repeated. At the
    end, standard error has the verdict with its reasons, key noise figures, and the paths of report
    and viewer. The last line of output is the published folder.
    """
    from schemas.requests import ReduceRequest

    settings = read_settings(assignments, settings_file)
    return reduce_visit(console, ReduceRequest(settings=settings, **options), engine)


def reduce_visit(console: Console, request: ReduceRequest, engine: str) -> int:
    """Reduce a visit under the requested engine, show the outcome and return the exit code."""
    with Progress(console.silent) as progress:
        reduction = reduce_showing(console, request, engine, progress)
    from flows.runs.summary import summarize

    published, run = reduction
    logged = console.quiet or console.logs  # the run itself logs its warnings
    for warning in dict.fromkeys(run.warnings) if not logged else ():
        console.warn(warning)
    for unused in run.unused if console.verbose else ():
        console.report(f"not used, {unused.kind}: {unused.path}: {unused.reason}")
    lines: list[str] = []
    outcome = summarize(reduction)
    for line in outcome.lines() if outcome is not None else ():
        console.report(line)
    if published is not None and published.folder:
        if not console.logs:
            console.remark("published:" if published.new else "already up to date:")
        lines = [published.folder]
    elif request.dry_run:
        lines = [f"{r.step:21s} {r.outcome:9s} {r.why}".rstrip() for r in run.reports]
    else:
        console.remark(f"stopped after {request.until} without publishing")
    console.answer({**reduction_row(published, run), **summary_row(outcome)}, lines)
    return 3 if request.strict and reduction.warned else 0


def reduce_showing(
    console: Console, request: ReduceRequest, engine: str, progress: Progress
) -> Reduction:
    """Reduce a visit under the requested engine and show its progress."""
    # these take seconds to load, during which the progress shows a sign of life
    from flows.runs.reduction import run_reduce
    from flows.service.engine import engine_for
    from tasks.kernels import is_cold

    gc.freeze()  # what was imported stays: no collection of garbage needs to visit it

    def chosen() -> contextlib.AbstractContextManager[str]:
        if is_cold():
            console.report("the first run of an installation compiles kernels, for about a minute")
        if engine != "plain":
            progress.pulse.begin("waiting for Prefect")
        return engine_for(engine, request.work, console.quiet, bool(console.verbose))

    progress.pulse.begin("reading the visit")
    return run_reduce(request, chosen, progress)


def reduction_row(published: Published | None, run: Run) -> dict[str, Any]:
    """Return the JSON answer of a reduction."""
    steps = [
        {
            "step": r.step,
            "outcome": r.outcome,
            "seconds": round(r.seconds, 3),
            "key": r.key,
            "status": dict(r.leaf.status),
            "warnings": list(r.leaf.warnings),
        }
        for r in run.reports
    ]
    return {
        "visit": run.workspace.visit,
        "published": published.model_dump(mode="json") if published is not None else None,
        "engine": run.engine,
        "steps": steps,
        "warnings": run.warnings,
        "unused_references": [each.model_dump(mode="json") for each in run.unused],
    }


def summary_row(outcome: Summary | None) -> dict[str, Any]:
    """Return the part of the JSON answer that is about the published light curve."""
    if outcome is None:
        return {}
    return {
        "verdict": outcome.verdict,
        "reasons": list(outcome.reasons),
        "noise": [number.model_dump(mode="json") for number in outcome.noise],
        "report": outcome.report,
        "viewer": outcome.viewer,
        "magnitude": outcome.magnitude,
        "photon_limit": outcome.photon_limit,
    }


@click.command()
@click.argument("output", type=FOLDER, required=False)
@click.option("--list", "only_list", is_flag=True, help="List the cases and what each of them is.")
@click.option(
    "--case",
    "case_name",
    type=CASE,
    metavar="TEXT",
    default="demo",
    show_default=True,
    help="Name of a case, or a TOML file.",
    shell_complete=complete_case,
)
@click.option(
    "--images", type=click.IntRange(min=1), help="Number of stacked images [the case's own]."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Seed of the noise."
)
@command
def simulate(
    console: Console,
    output: Path | None,
    only_list: bool,
    case_name: str,
    images: int | None,
    seed: int,
) -> None:
    """Simulate the raw data of a visit into the new folder OUTPUT."""
    from flows.simulate import list_cases, simulate_into

    if only_list:
        cases = list_cases()
        console.answer(cases, [f"{name:10s}  {text}" for name, text in cases.items()])
        return
    if output is None:
        raise UsageError("name the new folder for the visit, or use --list to see the cases")

    with Pulse(console.silent, "preparing the simulation") as pulse:
        simulate_into(output, case_name, images, seed, progress_bar(pulse, "simulating"))
    console.answer({"visit": str(output)}, [str(output)], indent=None)
