"""Commands that run the pipeline as a service: job, intake, reprocess, clean, up, down."""

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
    Progress,
    age_text,
    command,
    first_code,
    note,
    stop_if_asked,
)
from flows.command.options import (
    FOLDER,
    engine_option,
    references_option,
    work_option,
)
from schemas import VERSION
from schemas.errors import UsageError

if TYPE_CHECKING:
    from flows.clean import Kept
    from flows.reprocess import Done, Planned


@click.command()
@click.argument("order", type=FOLDER, metavar="ORDER.xml")
@click.option("--log", "log_file", type=FOLDER, help="The log file [ORDER.log].")
@engine_option
@command
def job(console: Console, order: Path, log_file: Path | None, engine: str) -> int:
    """Do what the scheduler's job order ORDER.xml says.

    Products and, last, a trigger file go to its output OUT, scratch to TMP, log lines to the
    streams and the log file.
    """
    from flows.orders.job import run_job
    from flows.orders.log import SocLog
    from flows.service.engine import engine_for
    from schemas.orders import PROCESSOR, Level

    log = SocLog(PROCESSOR, VERSION, quiet=console.as_json, errors_only=console.quiet)
    console.report_hang = lambda error: log(Level.ERROR, error)
    code = run_job(
        order,
        lambda: engine_for(engine, None, True, console.verbose),
        log,
        log_file,
        stop_if_asked,
    )
    console.answer({"order": str(order), "code": code}, (), indent=None)
    return code


@click.command()
@click.argument("folder", type=FOLDER)
@click.option("--once", is_flag=True, help="Do what is there, and end.")
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="Look so often [s].",
)
@click.option(
    "--settle",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="An order keeps still so long [s].",
)
@engine_option
@command
def intake(
    console: Console, folder: Path, once: bool, every: float, settle: float, engine: str
) -> None:
    """Do the job orders that arrive in FOLDER, each once, and sort them into FOLDER/done and
    FOLDER/failed.

    Any number of these commands may run on one folder. Ends with 0 whatever became of the orders.
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
    "--older", metavar="AGE", help="Take away visits that nobody touched for so long: 30d, 12h."
)
@click.option(
    "--quota", metavar="SIZE", help="Keep no more than this: 50G. The oldest visits go first."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@command
def clean(
    console: Console, work: Path | None, older: str | None, quota: str | None, dry_run: bool
) -> None:
    """Take away intermediate products and reports on failures by age and quota.

    Published folders, and visits that a run holds, are left alone.

    A visit that was taken away can be reduced again, or from its published folder.
    """
    from flows.clean import clean as clean_folder
    from flows.clean import parse_age, parse_size
    from tasks.engine.folders import default_work_folder

    work = (work or default_work_folder(note)).absolute()
    age = parse_age(older) if older is not None else None
    most = parse_size(quota) if quota is not None else None
    visits = clean_folder(work, age, most, dry_run)
    lines = [kept_line(kept, dry_run) for kept in visits]
    console.answer([asdict(v) for v in visits], lines if not console.quiet else ())


def kept_line(kept: Kept, dry_run: bool) -> str:
    """Return what became of a visit in the work folder as a line."""
    action = f"would {kept.action}" if dry_run and kept.action == "remove" else kept.action
    age = age_text(time.time() - kept.when)
    return f"{kept.visit:17s} {kept.bytes / 1e6:10.1f} MB {age:>8s}  {action}"


@click.command()
@click.argument("output", type=FOLDER)
@references_option("Folder with new reference files.")
@click.option(
    "--visits",
    multiple=True,
    type=FOLDER,
    help="Folder with the raw files of the visits, for steps that need them.",
)
@work_option
@engine_option
@click.option("--yes", is_flag=True, help="Do it without asking.")
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
    """Reduce those visits published in OUTPUT again that new references, or new versions of steps,
    touch.

    Shows the plan with its cost first. Only the steps that are touched are done; what was published
    before stays.
    """
    from flows.reprocess import Reprocessing
    from flows.service.engine import engine_for

    places = tuple(p.absolute() for p in (*references, *visits))
    reprocessing = Reprocessing(output, places, work)
    planned = reprocessing.plan(console.warn)
    for line in plan_lines(planned):
        console.remark(line)
    done: list[Done] = []
    if planned and not dry_run:
        if yes or (not console.as_json and confirmed()):
            with engine_for(engine, work, console.silent, console.verbose) as chosen:
                done = reprocessing.reduce(
                    planned, chosen, Progress(console.silent), lambda d: report_done(console, d)
                )
        else:
            console.remark("nothing was done: --yes does it")
    console.answer(
        {"plan": [asdict(p) for p in planned], "done": [asdict(d) for d in done]},
        [d.text for d in done if d.code == 0],
    )
    return first_code(done)


def plan_lines(planned: Sequence[Planned]) -> list[str]:
    """Return what would be reduced again, why, and what it costs, as lines."""
    lines = []
    for each in planned:
        more = f" and what {', '.join(each.unknown)} takes" if each.unknown else ""
        lines.append(
            f"{each.visit} from {each.steps[0]}, {len(each.steps)} steps, "
            f"{each.seconds:.1f} s{more}"
        )
        lines += [f"    {reason}" for reason in each.reasons]
        if not each.raw:
            lines.append("    its raw files are in none of the folders")
    total = sum(each.seconds for each in planned)
    return [*lines, f"{len(planned)} visits, {total:.1f} s"]


def confirmed() -> bool:
    """Ask the person at the terminal, if there is one."""
    return sys.stdin.isatty() and click.confirm("Do it?", err=True)


def report_done(console: Console, done: Done) -> None:
    """Report a visit that failed."""
    if done.code:
        console.remark(f"ERROR {done.visit}: {done.text}")


@click.command()
@click.option(
    "--database",
    envvar="DRP_DATABASE",
    default="",
    help="URL of a PostgreSQL data base [SQLite].",
    metavar="URL",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=4200,
    show_default=True,
    help="Of loopback; 0: any that is free.",
)
@click.option(
    "--runs", type=click.IntRange(min=1), default=2, show_default=True, help="Runs at a time."
)
@command
def up(console: Console, database: str, port: int, runs: int) -> None:
    """Start a Prefect server, a worker and the deployments on this machine; later commands find
    them by themselves.

    A password of the data base is taken from DRP_DATABASE only. The last line is the address of the
    pages.
    """
    from flows.service import up as service
    from flows.service.state import home_folder, state_file

    source = click.get_current_context().get_parameter_source("database")
    if source is click.core.ParameterSource.COMMANDLINE and service.has_password(database):
        raise UsageError(
            "everybody can read a command line: give a URL with a password in DRP_DATABASE"
        )
    state, new = service.up(database, port, runs, console.report)
    pages, file = state.api.removesuffix("/api"), state_file(home_folder())
    console.remark(
        f"{'started' if new else 'it is up already'}; user and password of the pages: "
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
    """End what `drp up` started; runs that are under way are resumed by the next `drp up`."""
    from flows.service import up as service

    ended = service.down()
    console.report("ended" if ended else "nothing was up")
    console.answer({"ended": ended}, (), indent=None)
