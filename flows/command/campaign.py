"""The command `drp campaign`: many visits, their state, and a report on them."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.command.console import Console, age_text, command, first_code, rate_bar
from flows.command.options import (
    FOLDER,
    output_option,
    read_settings,
    reduction_arguments,
    reduction_options,
    work_option,
)
from flows.command.surroundings import absolute_path
from schemas.errors import UsageError

if TYPE_CHECKING:
    from flows.campaign.run import Campaign
    from flows.campaign.state import History
    from schemas.campaigns import Outcome


class CampaignGroup(click.Group):
    """A group whose command `run` need not be named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put in the name of the command if it is left out."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=CampaignGroup, no_args_is_help=True)
def campaign() -> None:
    """Reduce many visits, on this machine or on many.

    `drp campaign VISIT...` is short for `drp campaign run VISIT...`.
    """


@dataclass(frozen=True)
class VisitList:
    """A file with the paths of visits, relative ones as seen from the folder `base`."""

    path: Path | None  # None: standard input
    base: Path


class ListFile(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.2
    """A file with a path on each line, or a hyphen for standard input."""

    name = "file"

    def convert(self, value: str, _param: object, _context: object) -> VisitList:
        """Remember the working folder, which the command leaves."""
        base = absolute_path(Path())
        return VisitList(None if value == "-" else absolute_path(Path(value)), base)


def listed_visits(visits: VisitList) -> list[Path]:
    """Return the paths in a list; blank lines and those that begin with # are left out."""
    from flows.campaign.places import MOST_BYTES, listed, read_list

    lines = listed(sys.stdin.read(MOST_BYTES)) if visits.path is None else read_list(visits.path)
    return [absolute_path(visits.base / line) for line in lines]


@campaign.command()
@click.argument("visits", nargs=-1, type=FOLDER)
@click.option(
    "--list",
    "visit_list",
    type=ListFile(),
    help="File with the path of a visit on each line; - for standard input.",
)
@click.option(
    "--name", default="campaign", show_default=True, help="Name, for `status` and `report`."
)
@click.option(
    "--on",
    "where",
    metavar="here|ADDRESS|slurm",
    default="here",
    show_default=True,
    help="On this machine, on the workers of a Dask scheduler (its address, or the absolute path "
    "of its file), or in SLURM jobs.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=os.cpu_count() or 1,
    show_default="processors",
    help="Number of visits to reduce at a time, or of SLURM jobs.",
)
@click.option(
    "--memory",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Memory that a visit needs [MB]; limits the visits that run at a time.",
)
@click.option(
    "--most-open",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Largest number of visits submitted at a time.",
)
@click.option("--again", is_flag=True, help="Reduce visits again that are done or have failed.")
@reduction_options("plain")
@command
def run(
    console: Console, visits: tuple[Path, ...], visit_list: VisitList | None, **options: Any
) -> int:
    """Reduce VISITS, each in a process of its own.

    A visit that fails does not stop the others. One that is killed, or ends with 74, 75 or 76, is
    tried up to three times. The same command resumes a campaign of this name; visits that are done
    or have failed are not repeated. The exit code is that of the first failed visit in the order of
    the arguments.
    """
    from flows.campaign.engines import engine_on
    from flows.campaign.run import run_campaign

    listed = listed_visits(visit_list) if visit_list is not None else []
    paths = [str(path) for path in (*visits, *listed)]
    if not paths:
        raise UsageError("no visit: name some, or a file with --list")
    asked = asked_campaign(paths, options)
    advance = rate_bar("visits", console)

    def report(outcome: Outcome, done: int, total: int) -> None:
        failed = f"exit code {outcome.code}, {outcome.text}" if outcome.code else ""
        advance(done, total, f"{outcome.visit}: {failed}" if failed else "")

    with engine_on(asked.engine, options["jobs"], asked.memory, console.report) as engine:
        results = run_campaign(asked, engine, report)
    head = f"{'exit code':>9s} {'time':>10s}  {'verdict':16s}  visit  folder or error"
    lines = [
        f"{r.code:9d} {r.seconds:8.1f} s  {r.verdict or '-':16s}  {r.visit}  {r.text}"
        for r in results
    ]
    console.answer([r.model_dump(mode="json") for r in results], [head, *lines])
    return first_code(results)


def asked_campaign(paths: list[str], options: dict[str, Any]) -> Campaign:
    """Return the campaign that the options of the command ask for.

    What would fail every visit fails here.
    """
    from flows.campaign.places import check_inputs
    from flows.campaign.run import Campaign
    from flows.runs.reduction import check_steps, retry_delay
    from flows.runs.site import merge_settings, site_settings
    from schemas.requests import make_settings
    from tasks.files import disk

    check_steps(options["from_step"], options["until"])
    check_inputs(options["references"], options["replace"])
    settings = options["settings_file"]
    changes = read_settings(options["assignments"], settings)
    make_settings(merge_settings(site_settings(), changes))
    return Campaign(
        options["name"],
        paths,
        options["output"],
        options["work"],
        (*reduction_arguments(options), "--wait"),
        disk.read_bytes(settings, 1 << 20) if settings is not None else b"",
        options["where"],
        options["most_open"],
        options["memory"],
        options["again"],
        10 * retry_delay(),
    )


@campaign.command()
@click.argument("name", default="campaign")
@output_option
@work_option
@command
def status(console: Console, name: str, output: Path, work: Path | None) -> None:
    """Show the progress of the campaign NAME."""
    del work  # its state lies beside the products
    from flows.campaign.state import read_history, state_path

    history = read_history(state_path(output, name))
    row = status_row(history)
    console.answer(row, status_lines(row))


def status_row(history: History) -> dict[str, Any]:
    """Return the state of a campaign."""
    from flows.campaign.state import place_of

    begin, outcomes = history.begin, history.reached()
    total = len(begin.visits) if begin is not None else 0
    since = [o for o in outcomes if begin is not None and o.ended >= begin.began]
    seconds = max((o.ended for o in since), default=0.0) - (begin.began if begin else 0.0)
    rate = 3600 * len(since) / seconds if since and seconds > 0 else None
    left = total - len(outcomes)
    return {
        "name": begin.name if begin is not None else "",
        "running": history.running,
        "engine": begin.engine if begin is not None else "",
        "place": place_of(begin.engine) if begin is not None else "",
        "visits": total,
        "done": sum(o.code == 0 for o in outcomes),
        "failed": sum(o.code != 0 for o in outcomes),
        "left": left,
        "codes": {str(code): n for code, n in sorted(Counter(o.code for o in outcomes).items())},
        "verdicts": dict(Counter(o.verdict for o in outcomes if o.verdict)),
        "retried": sum(o.attempts > 1 for o in outcomes),
        "visits_per_hour": rate,
        "seconds_left": 3600 * left / rate if rate and history.running else None,
        "last": max((o.ended for o in outcomes), default=None),
    }


def status_lines(row: dict[str, Any]) -> list[str]:
    """Return the state of a campaign as lines of text."""
    state = "running" if row["running"] else "done" if not row["left"] else "stopped"
    lines = [
        f"{row['name']}: {state} {row['place']}",
        f"{row['done']} of {row['visits']} visits done, {row['failed']} failed, {row['left']} "
        f"left, {row['retried']} tried more than once",
    ]
    lines += [f"  {count} {word}" for word, count in row["verdicts"].items()]
    lines += [f"  {count} with exit code {c}" for c, count in row["codes"].items() if c != "0"]
    if row["visits_per_hour"] is not None:
        lines.append(f"{row['visits_per_hour']:.0f} visits per hour")
    if row["seconds_left"] is not None:
        lines.append(f"{age_text(row['seconds_left'])} left")
    if row["last"] is not None:
        lines.append(f"last outcome {age_text(max(0.0, time.time() - row['last']))} ago")
    return lines


@campaign.command()
@click.argument("name", default="campaign")
@output_option
@work_option
@command
def report(console: Console, name: str, output: Path, work: Path | None) -> None:
    """Write a page about the campaign NAME: noise, verdicts, failures, time of each step.

    It is OUTPUT/campaigns/NAME.html, and needs no other file. The last line of output is its path.
    """
    del work  # the state of the campaign lies beside the products
    from flows.campaign.page import write_page
    from flows.campaign.state import read_history, state_path

    path = state_path(output, name)
    page = path.with_suffix(".html")
    write_page(read_history(path), page)
    console.answer({"report": str(page)}, [str(page)], indent=None)
