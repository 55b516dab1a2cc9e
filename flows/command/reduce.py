"""Commands that make products: simulate, reduce, campaign."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from schemas.errors import UsageError
from tasks.files.toml import read_toml

if TYPE_CHECKING:
    from tasks.engine.run import Run
from flows.command.console import FOLDER, VISIT, Progress, bar, common, guarded, note, say


@click.command()
@click.argument("visit", type=VISIT)
@click.option(
    "--references",
    multiple=True,
    type=FOLDER,
    help="Folder of reference files; several are searched together.",
)
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
@click.option("--from", "from_step", metavar="STEP", help="Do STEP again, and what depends on it.")
@click.option("--until", metavar="STEP", help="Stop behind STEP; nothing is published.")
@click.option(
    "--replace",
    multiple=True,
    type=FOLDER,
    metavar="FILE",
    help="Your own version of an intermediate product.",
)
@click.option(
    "--set", "assignments", multiple=True, metavar="STEP.NAME=VALUE", help="Change a setting."
)
@click.option("--settings", "settings_file", type=FOLDER, help="TOML file of settings.")
@click.option(
    "--engine", type=click.Choice(["auto", "prefect", "plain"]), default="auto", show_default=True
)
@click.option("--archive", is_flag=True, help="Also write the .tgz that pycheops opens.")
@click.option(
    "--strict", is_flag=True, help="Refuse deviating inputs; exit 3 if a step ended with a warning."
)
@click.option("--wait", is_flag=True, help="Wait for another run on the visit.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@common
def reduce(
    visit: Path,
    references: tuple[Path, ...],
    output: Path,
    work: Path | None,
    from_step: str | None,
    until: str | None,
    replace: tuple[Path, ...],
    assignments: tuple[str, ...],
    settings_file: Path | None,
    engine: str,
    archive: bool,
    strict: bool,
    wait: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Reduce the visit in the folder VISIT, or go on from a published folder.

    Only what is missing or changed is done. The last line names the published folder.
    """

    def body() -> int:
        from schemas.requests import ReduceRequest, assign

        settings = read_toml(settings_file) if settings_file is not None else {}
        for assignment in assignments:
            assign(settings, assignment)
        for path in (visit, output, *references, *replace, *([work] if work else [])):
            if "\0" in str(path):
                raise UsageError("a path holds a NUL byte")
        request = ReduceRequest(
            visit=visit,
            references=references,
            output=output,
            work=work,
            from_step=from_step,
            until=until,
            replace=replace,
            settings=settings,
            archive=archive,
            strict=strict,
            wait=wait,
            dry_run=dry_run,
        )
        return reduced(request, engine, strict, as_json, quiet, verbose)

    guarded(body, verbose, work)


def reduced(
    request: Any, engine: str, strict: bool, as_json: bool, quiet: bool, verbose: bool
) -> int:
    """Reduce a visit under the engine that was asked for, and report; return the exit code."""
    from flows.runs.reduction import run_reduce
    from flows.service.engine import engine_for

    def chosen() -> contextlib.AbstractContextManager[str]:
        return engine_for(engine, request.work, quiet, verbose)

    published, run = run_reduce(request, chosen, Progress(quiet or as_json))
    warned = any("warning" in map(str, r.leaf.status.values()) for r in run.reports)
    if not quiet:
        for warning in dict.fromkeys(run.warnings):
            note(f"WARNING {warning}")
    if as_json:
        say(json.dumps(answer(published, run), indent=1))
    elif published is not None and published.folder:
        note(f"{'published' if published.new else 'nothing to do, it stands in'}")
        say(published.folder)
    elif request.dry_run:
        for r in run.reports:
            say(f"{r.step:21s} {r.outcome:9s} {r.why}".rstrip())
    else:
        note(f"stopped behind {request.until}; nothing is published")
    return 3 if strict and warned else 0


def answer(published: Any, run: Run) -> dict[str, Any]:
    """Return what --json says of a reduction."""
    steps = [
        {
            "step": r.step,
            "outcome": r.outcome,
            "seconds": round(r.seconds, 3),
            "key": r.key,
            "status": dict(r.leaf.status),
        }
        for r in run.reports
    ]
    outcome = published.model_dump(mode="json") if published is not None else None
    return {
        "visit": run.workspace.visit,
        "published": outcome,
        "engine": run.engine,
        "steps": steps,
        "warnings": run.warnings,
    }


@click.command()
@click.argument("output", type=FOLDER)
@click.option("--case", "case_name", default="demo", show_default=True, help="Which visit.")
@click.option("--images", type=click.IntRange(min=1), help="Number of stacked images.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@common
def simulate(
    output: Path,
    case_name: str,
    images: int | None,
    seed: int,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Simulate the raw products of a visit into the new folder OUTPUT."""

    def body() -> int:
        from flows.simulate import simulate_into

        show = not quiet and not as_json
        simulate_into(output, case_name, images, seed, bar(show, "simulating") if show else None)
        say(json.dumps({"visit": str(output)}) if as_json else str(output))
        return 0

    guarded(body, verbose)


@click.command()
@click.argument("visits", nargs=-1, required=True, type=FOLDER)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=os.cpu_count() or 1,
    show_default="processors",
    help="At a time.",
)
@click.option(
    "--references", multiple=True, type=FOLDER, help="Folder of reference files, as for reduce."
)
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
    "--set", "assignments", multiple=True, metavar="STEP.NAME=VALUE", help="Change a setting."
)
@click.option("--settings", "settings_file", type=FOLDER, help="TOML file of settings.")
@click.option(
    "--engine", type=click.Choice(["auto", "prefect", "plain"]), default="auto", show_default=True
)
@click.option("--archive", is_flag=True, help="Also write the .tgz that pycheops opens.")
@click.option(
    "--strict", is_flag=True, help="Refuse deviating inputs; exit 3 if a step ended with a warning."
)
@common
def campaign(
    visits: tuple[Path, ...],
    jobs: int,
    references: tuple[Path, ...],
    output: Path,
    work: Path | None,
    assignments: tuple[str, ...],
    settings_file: Path | None,
    engine: str,
    archive: bool,
    strict: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Reduce several VISITS side by side. Each fails alone; the exit code is that of the first one
    that failed.
    """

    def body() -> int:
        from dataclasses import asdict

        from flows.campaign import VisitResult, run_campaign

        valued = [
            *(("--references", p) for p in references),
            *(("--set", a) for a in assignments),
            ("--output", output),
            ("--work", work),
            ("--settings", settings_file),
            ("--engine", engine),
        ]
        options = [
            str(part) for name, value in valued if value is not None for part in (name, value)
        ]
        options += [name for name, on in (("--archive", archive), ("--strict", strict)) if on]

        def tell(r: VisitResult) -> None:
            if not (quiet or as_json):
                note(f"  {r.visit}: {f'code {r.code}' if r.code else 'done'}, {r.seconds:.1f} s")

        results = run_campaign(visits, options, jobs, tell)
        if as_json:
            say(json.dumps([asdict(r) for r in results], indent=1))
        for r in results if not as_json else ():
            say(f"{r.code:3d} {r.seconds:8.1f} s  {r.verdict or '-':16s}  {r.visit}  {r.text}")
        return next((r.code for r in results if r.code), 0)

    guarded(body, verbose, work)
