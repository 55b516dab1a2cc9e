"""How a command ends: the message and exit code of an error."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from schemas import VERSION
from schemas.errors import (
    ConfigurationError,
    DrpError,
    Interrupted,
    StorageError,
    plain,
    short_of_memory,
    wanted_memory,
)
from tasks.files import disk

# beginnings of the notes on an error that point to the report on the visit
REPORT_IS, PDF_IS = "report: ", "as PDF: "
NO_REPORT, NO_PDF = "the report could not be written: ", "its PDF could not be created: "

BESIDE = (".report.txt", ".report.pdf")  # suffixes of the report beside a job order

# set when a server that was in use no longer answers: Prefect would wait for it on exit
server_lost = threading.Event()


def exit_code(error: BaseException) -> int:
    """Return the exit code of an error."""
    if isinstance(error, DrpError | Interrupted):
        return error.exit_code
    return 75 if short_of_memory(error) else 70


def describe_error(error: BaseException, folder: Path | None) -> tuple[int, str]:
    """Return the exit code and the message of an error.

    An error that is not ours is an internal error: its traceback goes to a crash file in `folder`.
    """
    if isinstance(error, DrpError | Interrupted):
        return error.exit_code, str(error) + report_notes(error)
    if short_of_memory(error):
        return 75, wanted_memory(error)
    place = crash_file(error, folder)
    return (
        70,
        f"internal error, please report it with {place}: {type(error).__name__}: "
        f"{plain(error)}{report_notes(error)}",
    )


def report_notes(error: BaseException) -> str:
    """Return the notes on an error that point to the report, leaving out files that are gone."""

    def holds(note: str) -> bool:
        named = [
            Path(note.removeprefix(words))
            for words in (REPORT_IS, PDF_IS)
            if note.startswith(words)
        ]
        return disk.is_file(named[0]) if named else note.startswith((NO_REPORT, NO_PDF))

    return "".join(f"; {note}" for note in getattr(error, "__notes__", ()) if holds(note))


def watch_storage(report: Callable[[StorageError], object]) -> Callable[[], None]:
    """Exit with 74 if the file system stops responding; return a function that ends the watch.

    DRP_STORAGE_TIMEOUT sets how long a call may hang [s]: ten minutes by default, 0 for ever. The
    process leaves behind no more than a kill -9 would: nothing half published, and temporary files
    that the next run removes.

    Parameters
    ----------
    report : callable
        Called with the error before the process exits.

    Raises
    ------
    ConfigurationError
        If DRP_STORAGE_TIMEOUT is not a number from 0 to 1e6.
    """
    text = os.environ.get("DRP_STORAGE_TIMEOUT", "600")
    try:
        limit = float(text)
    except ValueError:
        limit = -1.0
    if not 0 <= limit <= 1e6:
        raise ConfigurationError(
            f"DRP_STORAGE_TIMEOUT is {plain(text)!r}, expected seconds from 0 to 1e6"
        )
    if limit == 0:
        return lambda: None

    def give_up(error: StorageError) -> None:
        report(error)
        os._exit(error.exit_code)

    return disk.watch(limit, give_up)


def crash_file(error: BaseException, folder: Path | None) -> str:
    """Write the traceback and versions to a crash file and return its path.

    The file holds no environment variables, hence no secrets. If it can be written neither to
    `folder` nor to the temporary folder, the text returned points to the option -v.
    """
    import tempfile

    text = "".join(traceback.format_exception(error))
    for place in (folder, Path(tempfile.gettempdir())):
        if place is not None:
            path = place / f"drp-crash-{os.getpid()}.txt"
            try:
                disk.make_folder(place)
                disk.write_file(path, f"drp {VERSION}, python {sys.version}\n\n{text}".encode())
            except DrpError:
                continue
            return str(path)
    return "the traceback shown by -v"
