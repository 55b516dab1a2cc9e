"""Commands that operate the pipeline: job, intake, reprocess, clean, up, down."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows.command.console import (
    Console,
    age_text,
    command,
    first_code,
    note,
    stop_if_asked,
)
from flows.command.options import (
    FOLDER,
    Seconds,
    engine_option,
    references_option,
    work_option,
)
from flows.command.progress import Progress
from schemas import VERSION
from schemas.errors import UsageError
from schemas.logs import logger_of
from schemas.names import read_version
from schemas.words import counted

if TYPE_CHECKING:
    from flows.clean import Kept
    from flows.reprocess import Done, Planned
    from schemas.payloads import Unused

log = logger_of(__name__)


@click.command()
@click.argument("order", type=FOLDER, metavar="ORDER.xml")
@click.option("--log", "log_file", type=FOLDER, help="Log file [ORDER.log].")
@engine_option()
@command
def job(console: Console, order: Path, log_file: Path | None, engine: str) -> int:
    """Process the scheduler's job order ORDER.xml.

    Products are published in the order's OUT folder, followed by a trigger file; temporary files go
    to its TMP folder. Log lines go to standard output, standard error and the log file.
    """
    from flows.logs import FORMATTERS
    from flows.orders.job import run_job
    from flows.orders.log import SocHandler
    from flows.service.engine import engine_for
    from schemas.constants import PROCESSOR

    handler = SocHandler(PROCESSOR, VERSION, quiet=console.as_json, errors_only=console.quiet)
    if console.log_format:
        handler.setFormatter(FORMATTERS[console.log_format]())
    console.report_hang = lambda error: log.error("%s", error)
    code = run_job(
        order,
        lambda: engine_for(engine, None, True, bool(console.verbose)),
        handler,
        log_file,
        stop_if_asked,
    )
    console.answer({"order": str(order), "code": code}, (), indent=None)
    return code


@click.command()
@click.argument("folder", type=FOLDER)
@click.option("--once", is_flag=True, help="Process the orders present, then exit.")
@click.option(
    "--every",
    type=Seconds(0.1),
    default=10.0,
    show_default=True,
    help="Time between two looks into FOLDER [s].",
)
@click.option(
    "--settle",
    type=Seconds(0.0),
    default=1.0,
    show_default=True,
    help="Time an order must stay unchanged before it is processed [s].",
)
@engine_option()
@command
def intake(
    console: Console, folder: Path, once: bool, every: float, settle: float, engine: str
) -> None:
    """Process the job orders that arrive in FOLDER.

    Each order is processed once and moved to FOLDER/done or FOLDER/failed. Several such commands
    may share a folder. The exit code is 0 even if orders fail.
    """
    from flows.orders import intake as orders

    def do(order: Path, lock: int) -> int:
        return orders.job_process(order, lock, engine)

    if not once:
        orders.watch(folder, every, do, settle, console.report)
    outcomes = orders.intake(folder, do, settle, console.report)
    console.answer([asdict(o) for o in outcomes], [orders.count_outcomes(outcomes)])


@click.command()
@work_option
@click.option(
    "--older", metavar="AGE", help="Remove visits untouched for longer than this, e.g. 30d or 12h."
)
@click.option(
    "--quota", metavar="SIZE", help="Keep at most this much, e.g. 50G; remove the oldest first."
)
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@command
def clean(
    console: Console, work: Path | None, older: str | None, quota: str | None, dry_run: bool
) -> None:
    """Remove intermediate products by age or total size.

    Reports on failures and crash files are removed too. Published folders and visits in use are
    left alone. A removed visit can still be reduced again, from its raw data or its published
    folder.
    """
    from flows.clean import clean as clean_folder
    from flows.clean import parse_age, parse_size
    from tasks.engine.folders import default_work_folder
    from tasks.files import disk

    work = disk.absolute(work or default_work_folder(note))
    age = parse_age(older) if older is not None else None
    most = parse_size(quota) if quota is not None else None
    visits = clean_folder(work, age, most, dry_run)
    lines = [kept_line(kept, dry_run) for kept in visits]
    console.answer([asdict(v) for v in visits], lines if not console.quiet else ())


def kept_line(kept: Kept, dry_run: bool) -> str:
    """Return a visit of the work folder, and what was done with it, as a line of text."""
    action = f"would {kept.action}" if dry_run and kept.action == "remove" else kept.action
    age = age_text(time.time() - kept.when)
    return f"{kept.visit:17s} {kept.bytes / 1e6:10.1f} MB {age:>8s}  {action}"


@click.command()
@click.argument("output", type=FOLDER)
@references_option("Folder with new reference files (repeatable).")
@click.option(
    "--visits",
    multiple=True,
    type=FOLDER,
    help="Folder with raw files of the visits, for steps that need them (repeatable).",
)
@work_option
@engine_option()
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--dry-run", is_flag=True, help="Only show the plan.")
@command
def reprocess(
    console: Console,
    output: Path,
    references: tuple[Path, ...],
    visits: tuple[Path, ...],
    work: Path | None,
    engine: str,
    yes: bool,
    dry_run: bool,
) -> int:
    """Reduce published visits again with new references.

    Finds the visits in OUTPUT that are affected by new reference files or new versions of steps,
    and shows the plan and its cost first. Only the affected steps are run. Earlier publications are
    kept.
    """
    from flows.reprocess import Reprocessing
    from flows.service.engine import engine_for
    from tasks.files import disk

    places = tuple(disk.absolute(p) for p in (*references, *visits))
    reprocessing = Reprocessing(output, places, work)
    unused: list[dict[str, object]] = []

    def report_unused(visit: str, reference: Unused) -> None:
        unused.append({"visit": visit, **reference.model_dump(mode="json")})
        report_unused_reference(console, visit, reference)

    planned = reprocessing.plan(console.warn, report_unused)
    for line in plan_lines(planned):
        console.remark(line)
    done: list[Done] = []
    if planned and not dry_run:
        if yes or (not console.as_json and confirmed()):
            with (
                engine_for(engine, work, console.silent, bool(console.verbose)) as chosen,
                Progress(console.silent) as progress,
            ):
                done = reprocessing.reduce(
                    planned, chosen, progress, lambda d: report_done(console, d)
                )
        else:
            console.remark("nothing was done; use --yes to reduce them")
    console.answer(
        {
            "plan": [asdict(p) for p in planned],
            "done": [asdict(d) for d in done],
            "unused_references": unused,
        },
        [d.text for d in done if d.code == 0],
    )
    return first_code(done)


def report_unused_reference(console: Console, visit: str, reference: Unused) -> None:
    """Report a reference that a visit does not use: with -v, or if its name promises more."""
    name = Path(reference.path).name
    line = f"{visit}: {reference.kind} {name} is not used, {reference.reason}"
    if (read_version(name) or reference.version) > reference.version:
        console.warn(line)
    elif console.verbose:
        console.report(line)


def plan_lines(planned: Sequence[Planned]) -> list[str]:
    """Return the plan as lines of text: each visit with its steps, cost and reasons."""
    lines = []
    for each in planned:
        more = f" plus an unknown time for {', '.join(each.unknown)}" if each.unknown else ""
        lines.append(
            f"{each.visit} from {each.steps[0]}, {counted(len(each.steps), 'step')}, "
            f"{each.seconds:.1f} s{more}"
        )
        lines += [f"    {reason}" for reason in each.reasons]
        if not each.raw:
            lines.append("    its raw files are not in any of the folders")
    total = sum(each.seconds for each in planned)
    return [*lines, f"{counted(len(planned), 'visit')}, {total:.1f} s"]


def confirmed() -> bool:
    """Ask for confirmation; False if standard input is not a terminal."""
    return sys.stdin.isatty() and click.confirm("Reduce them again?", err=True)


def report_done(console: Console, done: Done) -> None:
    """Report a failed visit."""
    if done.code:
        console.remark(f"ERROR {done.visit}: {done.text}")


@click.command()
@click.option(
    "--database",
    envvar="DRP_DATABASE",
    default="",
    help="URL of a PostgreSQL database [SQLite].",
    metavar="URL",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=4200,
    show_default=True,
    help="Port of the server on the loopback interface; 0 picks a free one.",
)
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Maximum number of concurrent runs; with SQLite, one.",
)
@command
def up(console: Console, database: str, port: int, runs: int) -> None:
    """Start a Prefect server, a worker and the deployments.

    They run on this machine, and later commands use them automatically. A database URL with a
    password is accepted from the environment variable DRP_DATABASE only. The last line of output is
    the address of the web pages.
    """
    from flows.service import up as service
    from flows.service.state import home_folder, state_file

    source = click.get_current_context().get_parameter_source("database")
    if source is click.core.ParameterSource.COMMANDLINE and service.has_password(database):
        raise UsageError(
            "command lines are visible to everyone: pass a URL with a password in DRP_DATABASE"
        )
    state, new = service.up(database, port, runs, console.report)
    pages, file = state.api.removesuffix("/api"), state_file(home_folder())
    console.remark(
        f"{'started' if new else 'already running'}; user and password of the web pages: "
        f"`auth` in {file}"
    )
    row = {
        "new": new,
        "pages": pages,
        "api": state.api,
        "database": state.database,
        "state": str(file),
    }
    console.answer(row, [pages], indent=None)


@click.command()
@command
def down(console: Console) -> None:
    """Stop the server and worker that `drp up` started.

    Runs in progress are resumed by the next `drp up`.
    """
    from flows.service import up as service

    ended = service.down()
    console.report("stopped" if ended else "nothing was running")
    console.answer({"ended": ended}, (), indent=None)
