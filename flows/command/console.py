"""What every command of `drp` shares: its options, progress, the answer, the line ERROR and the
exit code.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.runs.ending import explained, watch_storage
from schemas.errors import DrpError, Interrupted, StorageError

if TYPE_CHECKING:
    from tasks.engine.run import StepReport


FOLDER = click.Path(path_type=Path)

VISIT = click.Path(
    path_type=Path, readable=False
)  # one that cannot be read is no wrong command: it is told as any other fault


def note(text: str, nl: bool = True) -> None:
    """Write a line to standard error; where that fails nobody can be told, and the work goes on."""
    try:
        click.echo(text, err=True, nl=nl)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def fail(error: BaseException, verbose: bool, work: Path | None) -> int:
    """Say in one line what went wrong, and return the exit code."""
    if verbose:
        note("".join(traceback.format_exception(error)), nl=False)
    code, text = explained(error, work)
    note(f"ERROR {text}")
    return code


_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_stopped: list[Interrupted] = []


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


def guarded(
    body: Callable[[], int],
    verbose: bool,
    work: Path | None = None,
    hangs: Callable[[DrpError], None] | None = None,
) -> None:
    """Run a command's body: signals stop it cleanly, errors become one line and an exit code.

    `hangs` tells of a file system that does not answer, in place of an ERROR line; the command ends
    behind it.
    """
    for number in _SIGNALS:
        signal.signal(number, _stop)
    watching: Callable[[], None] = lambda: None  # noqa: E731
    try:
        watching = watch_storage(hangs or (lambda error: note(f"ERROR {error}")))
        code = body()
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    except click.ClickException:
        raise
    except (Exception, Interrupted) as error:
        code = fail(error, verbose, work)
    finally:
        watching()
    if (server := sys.modules.get("flows.service.engine")) is not None and server.lost.is_set():
        os._exit(code)  # at its exit Prefect would wait for the server that is gone
    sys.exit(code)


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that every command has."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Answer in JSON."),
        click.option("-q", "quiet", is_flag=True, help="No progress."),
        click.option(
            "-v", "verbose", is_flag=True, help="Tracebacks of errors, and every warning."
        ),
    ):
        command = option(command)
    return command


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


class Progress:
    """Tells of the steps on standard error: a line for each, and on a terminal what is being done
    now.
    """

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.terminal = sys.stderr.isatty()

    def __call__(self, step: str, report: StepReport | None) -> None:
        """Tell that a step begins (no report) or ended."""
        stop_if_asked()
        if self.quiet:
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


def bar(show: bool, label: str) -> Callable[[int, int], None]:
    """Return a function of (done, all) that shows progress on standard error: a bar on a terminal,
    else every tenth.
    """
    terminal = sys.stderr.isatty()
    shown = [-1]

    def advance(done: int, total: int) -> None:
        part = 10 * done // max(total, 1)
        if not show or (not terminal and part == shown[0]):
            return
        shown[0] = part
        if terminal:
            full = 30 * done // max(total, 1)
            note(f"\r{label} [{'#' * full}{'.' * (30 - full)}] {done}/{total}", nl=done == total)
        else:
            note(f"{label} {done}/{total}")

    return advance


def told(answered: Any, lines: list[str], as_json: bool) -> int:
    """Write an answer as JSON or as lines; return exit code 0."""
    say(json.dumps(answered, indent=1) if as_json else "\n".join(lines))
    return 0


def age_text(seconds: float) -> str:
    """Return an age as a person says it."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
