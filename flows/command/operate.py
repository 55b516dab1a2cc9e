"""Commands that run the pipeline as a service: job, intake, reprocess, clean, up, down."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from flows.command.console import FOLDER, Progress, common, guarded, note, say, stop_if_asked
from schemas import VERSION
from schemas.errors import UsageError


@click.command()
@click.argument("order", type=FOLDER, metavar="ORDER.xml")
@click.option("--log", "log_file", type=FOLDER, help="The log file [ORDER.log].")
@click.option(
    "--engine", type=click.Choice(["auto", "prefect", "plain"]), default="auto", show_default=True
)
@common
def job(
    order: Path, log_file: Path | None, engine: str, as_json: bool, quiet: bool, verbose: bool
) -> None:
    """Do what the scheduler's job order ORDER.xml says.

    Products and, last, a trigger file go to its output OUT, scratch to TMP, log lines to the
    streams and the log file.
    """
    from flows.orders.log import SocLog
    from schemas.orders import PROCESSOR, Level

    log = SocLog(PROCESSOR, VERSION, quiet=as_json, errors_only=quiet)

    def body() -> int:
        from flows.orders.job import run_job
        from flows.service.engine import engine_for

        code = run_job(
            order, lambda: engine_for(engine, None, True, verbose), log, log_file, stop_if_asked
        )
        if as_json:
            say(json.dumps({"order": str(order), "code": code}))
        return code

    guarded(body, verbose, hangs=lambda error: log(Level.ERROR, error))


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
@click.option(
    "--engine", type=click.Choice(["auto", "prefect", "plain"]), default="auto", show_default=True
)
@common
def intake(
    folder: Path,
    once: bool,
    every: float,
    settle: float,
    engine: str,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Do the job orders that arrive in FOLDER, each once, and sort them into FOLDER/done and
    FOLDER/failed.

    Any number of these commands may run on one folder. Ends with 0 whatever became of the orders.
    """

    def body() -> int:
        from dataclasses import asdict

        from flows.orders import intake as orders

        def tell(text: str) -> None:
            if not (quiet or as_json):
                note(text)

        def do(order: Path, lock: int) -> int:
            return orders.job_process(order, lock, engine)

        if not once:
            orders.watch(folder, every, do, settle, tell)
        outcomes = orders.intake(folder, do, settle, tell)
        if as_json:
            say(json.dumps([asdict(o) for o in outcomes], indent=1))
        else:
            counts = [
                f"{sum(o.state == state for o in outcomes)} {state}"
                for state in ("done", "failed", "again")
            ]
            say(f"{len(outcomes)} orders: {', '.join(counts)}")
        return 0

    guarded(body, verbose)


@click.command()
@click.option(
    "--work", type=FOLDER, help="Folder of intermediate products [DRP_WORK, or the user's cache]."
)
@click.option(
    "--older", metavar="AGE", help="Take away visits that nobody touched for so long: 30d, 12h."
)
@click.option(
    "--quota", metavar="SIZE", help="Keep no more than this: 50G. The oldest visits go first."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@common
def clean(
    work: Path | None,
    older: str | None,
    quota: str | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Take away intermediate products and reports on failures by age and quota.

    Published folders, and visits that a run holds, are left alone.

    A visit that was taken away can be reduced again, or from its published folder.
    """

    def body() -> int:
        from dataclasses import asdict

        from flows.clean import clean as clean_folder
        from flows.clean import parse_age, parse_size
        from flows.command.console import age_text
        from tasks.engine.folders import default_work_folder

        place = (work or default_work_folder(note)).absolute()
        age = parse_age(older) if older is not None else None
        visits = clean_folder(place, age, parse_size(quota) if quota is not None else None, dry_run)
        if as_json:
            say(json.dumps([asdict(v) for v in visits], indent=1))
            return 0
        for v in visits if not quiet else ():
            action = f"would {v.action}" if dry_run and v.action == "remove" else v.action
            say(
                f"{v.visit:17s} {v.bytes / 1e6:10.1f} MB {age_text(time.time() - v.when):>8s}  "
                f"{action}"
            )
        return 0

    guarded(body, verbose)


@click.command()
@click.argument("output", type=FOLDER)
@click.option("--references", multiple=True, type=FOLDER, help="Folder with new reference files.")
@click.option(
    "--visits",
    multiple=True,
    type=FOLDER,
    help="Folder with the raw files of the visits, for steps that need them.",
)
@click.option(
    "--work", type=FOLDER, help="Folder of intermediate products [DRP_WORK, or the user's cache]."
)
@click.option(
    "--engine", type=click.Choice(["auto", "prefect", "plain"]), default="auto", show_default=True
)
@click.option("--yes", is_flag=True, help="Do it without asking.")
@click.option("--dry-run", is_flag=True, help="Only show the plan.")
@common
def reprocess(
    output: Path,
    references: tuple[Path, ...],
    visits: tuple[Path, ...],
    work: Path | None,
    engine: str,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Reduce those visits published in OUTPUT again that new references, or new versions of steps,
    touch.

    Shows the plan with its cost first. Only the steps that are touched are done; what was published
    before stays.
    """

    def body() -> int:
        from dataclasses import asdict

        from flows import reprocess as again
        from flows.service.engine import engine_for

        places = [p.absolute() for p in (*references, *visits)]
        planned = again.plan(output, places, work, lambda text: note(f"WARNING {text}"))
        for each in planned if not as_json else ():
            more = f" and what {', '.join(each.unknown)} takes" if each.unknown else ""
            note(
                f"{each.visit} from {each.steps[0]}, {len(each.steps)} steps, "
                f"{each.seconds:.1f} s{more}"
            )
            for line in [
                *each.reasons,
                *([] if each.raw else ["its raw files are in none of the folders"]),
            ]:
                note(f"    {line}")
        total = sum(each.seconds for each in planned)
        if not as_json:
            note(f"{len(planned)} visits, {total:.1f} s")
        go = (
            bool(planned)
            and not dry_run
            and (yes or (not as_json and sys.stdin.isatty() and click.confirm("Do it?", err=True)))
        )
        done: list[again.Done] = []
        if go:
            with engine_for(engine, work, quiet or as_json, verbose) as chosen:
                done = again.reprocess(
                    planned,
                    output,
                    places,
                    work,
                    chosen,
                    Progress(quiet or as_json),
                    lambda d: (
                        None if as_json or d.code == 0 else note(f"ERROR {d.visit}: {d.text}")
                    ),
                )
        elif planned and not dry_run and not as_json:
            note("nothing was done: --yes does it")
        if as_json:
            say(
                json.dumps(
                    {"plan": [asdict(p) for p in planned], "done": [asdict(d) for d in done]},
                    indent=1,
                )
            )
        for d in done if not as_json else ():
            if d.code == 0:
                say(d.text)
        return next((d.code for d in done if d.code), 0)

    guarded(body, verbose, work)


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
@common
@click.pass_context
def up(
    context: click.Context,
    database: str,
    port: int,
    runs: int,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Start a Prefect server, a worker and the deployments on this machine; later commands find
    them by themselves.

    A password of the data base is taken from DRP_DATABASE only. The last line is the address of the
    pages.
    """

    def body() -> int:
        from flows.service import up as local
        from flows.service.state import home_folder, state_file

        source = context.get_parameter_source("database")
        if source is click.core.ParameterSource.COMMANDLINE and local.has_password(database):
            raise UsageError(
                "everybody can read a command line: give a URL with a password in DRP_DATABASE"
            )
        state, new = local.up(
            database, port, runs, lambda text: None if quiet or as_json else note(text)
        )
        pages, file = state.api.removesuffix("/api"), state_file(home_folder())
        if as_json:
            say(
                json.dumps(
                    {
                        "new": new,
                        "pages": pages,
                        "api": state.api,
                        "database": state.database,
                        "state": str(file),
                    }
                )
            )
            return 0
        note(
            f"{'started' if new else 'it is up already'}; user and password of the pages: "
            f"`auth` in {file}"
        )
        say(pages)
        return 0

    guarded(body, verbose)


@click.command()
@common
def down(as_json: bool, quiet: bool, verbose: bool) -> None:
    """End what `drp up` started; runs that are under way are resumed by the next `drp up`."""

    def body() -> int:
        from flows.service import up as local

        ended = local.down()
        if as_json:
            say(json.dumps({"ended": ended}))
        elif not quiet:
            note("ended" if ended else "nothing was up")
        return 0

    guarded(body, verbose)
