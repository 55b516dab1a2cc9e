"""How a command ends: what an error is told as, and its exit code."""

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

# how notes on an error begin that tell of the report on the visit
REPORT_IS, PDF_IS = "the report is ", "as PDF "

BESIDE = (
    ".report.txt",
    ".report.pdf",
)  # endings of the report of a job order, which stands beside it

# a server that was used does not answer any more: Prefect would wait for it when Python ends
server_lost = threading.Event()

NO_REPORT, NO_PDF = "its report could not be written: ", "it could not be made a PDF: "


def describe_error(error: BaseException, folder: Path | None) -> tuple[int, str]:
    """Return the exit code of an error and the line that tells of it; what is not ours goes to a
    crash file in `folder`.
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
    """Return what was noted of the report on the visit, without files that are gone."""

    def holds(note: str) -> bool:
        named = [
            Path(note.removeprefix(words))
            for words in (REPORT_IS, PDF_IS)
            if note.startswith(words)
        ]
        return named[0].is_file() if named else note.startswith((NO_REPORT, NO_PDF))

    return "".join(f"; {note}" for note in getattr(error, "__notes__", ()) if holds(note))


def watch_storage(tell: Callable[[StorageError], object]) -> Callable[[], None]:
    """End the process with 74 where the file system does not answer any more; return a function
    that ends the watch.

    DRP_STORAGE_TIMEOUT [s] says for how long a call may hang, ten minutes as a rule; 0: for ever.
    What is left behind is what kill -9 would leave: nothing that was published, and scratch that
    the next run removes.

    Raises
    ------
    ConfigurationError
        If it is no such number.
    """
    said = os.environ.get("DRP_STORAGE_TIMEOUT", "600")
    try:
        limit = float(said)
    except ValueError:
        limit = -1.0
    if not 0 <= limit <= 1e6:
        raise ConfigurationError(
            f"DRP_STORAGE_TIMEOUT is {plain(said)!r}, wanted seconds from 0 to 1e6"
        )
    if limit == 0:
        return lambda: None

    def give_up(error: StorageError) -> None:
        tell(error)
        os._exit(error.exit_code)

    return disk.watch(limit, give_up)


def crash_file(error: BaseException, folder: Path | None) -> str:
    """Write traceback and versions where a person can find them; return the place. No environment,
    no secret.
    """
    import tempfile

    text = "".join(traceback.format_exception(error))
    for place in (folder, Path(tempfile.gettempdir())):
        if place is not None:
            path = place / f"drp-crash-{os.getpid()}.txt"
            try:
                place.mkdir(parents=True, exist_ok=True)
                path.write_text(f"drp {VERSION}, python {sys.version}\n\n{text}")
            except OSError:
                continue
            return str(path)
    return "the traceback that -v shows"
