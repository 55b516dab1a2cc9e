"""The parts all commands of `drp` share: common options, progress, answers, errors, exit codes."""

from __future__ import annotations

import errno
import functools
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import click

from flows.command.group import Choice
from flows.command.surroundings import absolute_paths, elsewhere
from flows.logs import FORMATS, start, stop, wanted
from flows.runs.ending import describe_error, server_lost, watch_storage
from schemas.errors import DrpError, Interrupted, StorageError
from schemas.logs import logger_of

log = logger_of(__name__)


class HasCode(Protocol):
    """The outcome of a visit, with its exit code."""

    @property
    def code(self) -> int:
        """The exit code."""


_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_stopped: list[Interrupted] = []


def note(text: str, nl: bool = True) -> None:
    """Write a line to standard error; if that fails, carry on silently."""
    try:
        click.echo(text, err=True, nl=nl)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def say(text: str) -> None:
    """Write a line of the answer to standard output.

    A reader that has closed the pipe is not an error.

    Raises
    ------
    StorageError
        If the line cannot be written; the message contains the line.
    """
    try:
        click.echo(text)
        sys.stdout.flush()
    except OSError as error:
        # the rest of the buffer would fail again when Python exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE:
            raise StorageError(
                f"standard output: write failed, {os.strerror(error.errno or 0)}; the answer "
                f"was: {text}"
            ) from error


@dataclass
class Console:
    """How a command talks to its user, as set by the options --json, -q and -v.

    `report_hang` is called when a file system stops responding, just before the command exits.
    """

    as_json: bool = False
    quiet: bool = False
    verbose: int = 0
    logs: bool = False  # log lines are written in place of progress and remarks
    log_format: str = ""  # their format, if one was chosen
    report_hang: Callable[[DrpError], None] = lambda error: note(f"ERROR {error}")

    @property
    def silent(self) -> bool:
        """Whether progress messages are suppressed."""
        return self.as_json or self.quiet or self.logs

    def report(self, text: str) -> None:
        """Write a progress message to standard error."""
        if self.logs and not self.quiet:
            log.info("%s", text.strip())
        elif not self.silent:
            note(text)

    def remark(self, text: str) -> None:
        """Write a comment on the answer to standard error; -q does not suppress it."""
        if self.logs:
            log.info("%s", text)
        elif not self.as_json:
            note(text)

    def warn(self, text: str) -> None:
        """Write a warning to standard error."""
        if self.logs:
            log.warning("%s", text)
        else:
            note(f"WARNING {text}")

    def answer(self, data: Any, lines: Iterable[str], indent: int | None = 1) -> None:
        """Write the answer to standard output, as JSON or as lines."""
        for line in [json.dumps(data, indent=indent)] if self.as_json else lines:
            say(line)


def command(body: Callable[..., int | None]) -> Callable[..., None]:
    """Decorate the body of a click command: add the common options, handle signals and errors.

    `body` takes a `Console` first and returns the exit code (None means 0). Signals stop it
    cleanly; an error becomes a single ERROR line and an exit code. Its paths are absolute, and it
    works in the root folder.
    """

    @functools.wraps(body)
    def run(
        as_json: bool, quiet: bool, verbose: int, log_format: str | None, **options: Any
    ) -> None:
        console = Console(as_json, quiet, verbose)

        def settled() -> int:
            if (lines := wanted(verbose, log_format)) is not None:
                start(*lines)
                console.logs, console.log_format = True, lines[1]
            settled_options = absolute_paths(options)
            with elsewhere():
                return body(console, **settled_options) or 0

        run_guarded(settled, console, options.get("work"))

    for option in (
        click.option("--json", "as_json", is_flag=True, help="Write the answer as JSON."),
        click.option("-q", "quiet", is_flag=True, help="Suppress progress messages."),
        click.option(
            "--log-format",
            type=Choice(FORMATS),
            help="Write log lines in this format instead of progress [DRP_LOG].",
        ),
        click.option(
            "-v",
            "verbose",
            count=True,
            help="Write log lines, tracebacks and Prefect's log; -vv adds details.",
        ),
    ):
        run = option(run)
    return run


def run_guarded(body: Callable[[], int], console: Console, work: Path | None) -> None:
    """Run the body of a command and exit with its code, or with the code of its error.

    The crash file of an internal error is written to `work`.
    """
    for number in _SIGNALS:
        signal.signal(number, _stop)
    end_watch: Callable[[], None] = lambda: None  # noqa: E731
    try:
        end_watch = watch_storage(lambda error: console.report_hang(error))
        code = body()
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    except click.ClickException:
        raise
    except (Exception, Interrupted) as error:
        code = report_error(error, console, work)
    finally:
        end_watch()
        stop()
    if server_lost.is_set():
        os._exit(code)  # on a normal exit Prefect would wait for the lost server
    sys.exit(code)


def report_error(error: BaseException, console: Console, work: Path | None) -> int:
    """Write the ERROR line, or its log line, and return the exit code."""
    code, text = describe_error(error, work)
    trace = (type(error), error, error.__traceback__) if console.verbose else None
    if console.log_format not in ("", "text"):
        log.error("%s", text, exc_info=trace, extra={"data": {"code": code}})
        return code
    if trace is not None:
        note("".join(traceback.format_exception(error)), nl=False)
    note(f"ERROR {text}")
    return code


def _stop(number: int, _frame: object) -> None:
    # the clean-up that follows must not be interrupted
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    _stopped.append(Interrupted(number, signal.Signals(number).name))
    raise _stopped[0]


def stop_if_asked() -> None:
    """Raise the exception of a signal whose handler ran where Python ignores exceptions."""
    if _stopped:
        raise _stopped[0]


def rate_bar(label: str, console: Console) -> Callable[[int, int, str], None]:
    """Return a function of (done, total, remark) that shows progress with rate and time left.

    On a terminal it draws a bar below the remarks; elsewhere it writes a line at every hundredth,
    at most one in ten seconds.
    """
    terminal = sys.stderr.isatty()
    began = time.monotonic()
    first: list[int] = []
    last = [0, began]

    def advance(done: int, total: int, remark: str = "") -> None:
        stop_if_asked()
        if console.logs:
            console.report(f"{label} {done}/{total}{': ' if remark else ''}{remark}")
        if console.silent:
            return
        first[:] = first or [done - 1]
        if remark:
            note(f"\r\033[K  {remark}" if terminal else f"  {remark}")
        now = time.monotonic()
        rate = (done - first[0]) / max(now - began, 1e-3)
        text = f"{done}/{total}, {rate_text(rate)}, {age_text((total - done) / rate)} left"
        if terminal:
            full = 30 * done // max(total, 1)
            bar = f"[{'#' * full}{'.' * (30 - full)}]"
            note(f"\r\033[K{label} {bar} {text}", nl=done == total)
        elif done == total or (100 * done // total != last[0] and now - last[1] >= 10):
            note(f"{label} {text}")
            last[:] = [100 * done // total, now]

    return advance


def rate_text(per_second: float) -> str:
    """Return a rate in words, in the unit that suits it."""
    for factor, unit in ((60.0, "min"), (3600.0, "h")):
        if factor * per_second >= 1:
            return f"{factor * per_second:.1f} per {unit}"
    return f"{86400 * per_second:.1f} per d"


def first_code(results: Iterable[HasCode]) -> int:
    """Return the exit code of the first failed result, or 0."""
    return next((result.code for result in results if result.code), 0)


def age_text(seconds: float) -> str:
    """Return an age in words, in the largest unit that fits."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
