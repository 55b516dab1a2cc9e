"""What every command of `drp` shares: its options, progress, the answer, the line ERROR and the
exit code.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from flows.runs.ending import describe_error, server_lost, watch_storage
from schemas.errors import DrpError, Interrupted, StorageError

if TYPE_CHECKING:
    from tasks.engine.run import StepReport


class HasCode(Protocol):
    """The outcome of a visit, with its exit code."""

    code: int


_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_stopped: list[Interrupted] = []


def note(text: str, nl: bool = True) -> None:
    """Write a line to standard error; where that fails nobody can be told, and the work goes on."""
    try:
        click.echo(text, err=True, nl=nl)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def say(text: str) -> None:
    """Write a line of the answer to standard output.

    Raises
    ------
    StorageError
        If it can't be written; it holds the line. A reader that has gone away is no error.
    """
    try:
        click.echo(text)
        sys.stdout.flush()
    except OSError as error:
        # what is still in the buffer would fail again when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE:
            raise StorageError(
                f"standard output: write failed, {os.strerror(error.errno or 0)}; the answer "
                f"was: {text}"
            ) from error


@dataclass
class Console:
    """How a command talks to its user: the options --json, -q and -v.

    `report_hang` says that a file system does not answer; the command ends after it.
    """

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    report_hang: Callable[[DrpError], None] = lambda error: note(f"ERROR {error}")

    @property
    def silent(self) -> bool:
        """Whether progress is to be left out."""
        return self.as_json or self.quiet

    def report(self, text: str) -> None:
        """Write a line of progress to standard error."""
        if not self.silent:
            note(text)

    def remark(self, text: str) -> None:
        """Write a line that belongs to the answer, but is not the answer, to standard error."""
        if not self.as_json:
            note(text)

    def warn(self, text: str) -> None:
        """Write a warning to standard error."""
        note(f"WARNING {text}")

    def answer(self, data: Any, lines: Iterable[str], indent: int | None = 1) -> None:
        """Write the answer to standard output, as JSON or as lines."""
        for line in [json.dumps(data, indent=indent)] if self.as_json else lines:
            say(line)


def command(body: Callable[..., int | None]) -> Callable[..., None]:
    """Return the function of a click command: `body` with the options that every command has.

    `body` returns the exit code, None for 0. Signals stop it cleanly, errors become one line and
    an exit code.
    """

    @functools.wraps(body)
    def run(as_json: bool, quiet: bool, verbose: bool, **options: Any) -> None:
        console = Console(as_json, quiet, verbose)
        run_guarded(lambda: body(console, **options) or 0, console, options.get("work"))

    for option in (
        click.option("--json", "as_json", is_flag=True, help="Answer in JSON."),
        click.option("-q", "quiet", is_flag=True, help="No progress."),
        click.option(
            "-v", "verbose", is_flag=True, help="Tracebacks of errors, and every warning."
        ),
    ):
        run = option(run)
    return run


def run_guarded(body: Callable[[], int], console: Console, work: Path | None) -> None:
    """Run the body of a command, and end the process with its exit code or that of its error.

    A crash file goes to `work`.
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
        code = report_error(error, console.verbose, work)
    finally:
        end_watch()
    if server_lost.is_set():
        os._exit(code)  # at its exit Prefect would wait for the server that is gone
    sys.exit(code)


def report_error(error: BaseException, verbose: bool, work: Path | None) -> int:
    """Say in one line what went wrong, and return the exit code."""
    if verbose:
        note("".join(traceback.format_exception(error)), nl=False)
    code, text = describe_error(error, work)
    note(f"ERROR {text}")
    return code


def _stop(number: int, _frame: object) -> None:
    # from now on the run cleans up; nothing may disturb that
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    _stopped.append(Interrupted(number, signal.Signals(number).name))
    raise _stopped[0]


def stop_if_asked() -> None:
    """Stop if a signal said so at a moment when Python could only ignore what its handler
    raised.
    """
    if _stopped:
        raise _stopped[0]


class Progress:
    """Tells of the steps on standard error: a line for each, and on a terminal what is being done
    now.
    """

    def __init__(self, silent: bool) -> None:
        self.silent = silent
        self.terminal = sys.stderr.isatty()

    def __call__(self, step: str, report: StepReport | None) -> None:
        """Tell that a step begins (no report) or ended."""
        stop_if_asked()
        if self.silent:
            return
        if report is None:
            if self.terminal:
                note(f"\r\033[K  {step} ...", nl=False)
            return
        states = ", ".join(sorted({str(s) for s in report.leaf.status.values()}))
        line = f"  {step:21s} {report.outcome:8s} {states:10s} {report.seconds:7.2f} s"
        note(f"\r\033[K{line}" if self.terminal else line)
        for warning in report.leaf.warnings if report.outcome != "cached" else ():
            note(f"    ! {warning}")


def progress_bar(label: str) -> Callable[[int, int], None]:
    """Return a function of (done, all) that shows progress on standard error: a bar on a terminal,
    else every tenth.
    """
    terminal = sys.stderr.isatty()
    last_tenth = -1

    def advance(done: int, total: int) -> None:
        nonlocal last_tenth
        tenth = 10 * done // max(total, 1)
        if terminal:
            full = 30 * done // max(total, 1)
            note(f"\r{label} [{'#' * full}{'.' * (30 - full)}] {done}/{total}", nl=done == total)
        elif tenth != last_tenth:
            note(f"{label} {done}/{total}")
        last_tenth = tenth

    return advance


def first_code(results: Iterable[HasCode]) -> int:
    """Return the exit code of the first result that failed, 0 if none did."""
    return next((result.code for result in results if result.code), 0)


def age_text(seconds: float) -> str:
    """Return an age as a person says it."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
