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
    BusyError,
    ConfigurationError,
    DrpError,
    Interrupted,
    StorageError,
    disk_failure,
    plain,
    shortage,
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
    if shortage(error):
        return BusyError.exit_code
    return StorageError.exit_code if disk_failure(error) else 70


def describe_error(error: BaseException, folder: Path | None) -> tuple[int, str]:
    """Return the exit code and the message of an error.

    An error that is not ours is an internal error: its traceback goes to a crash file in `folder`,
    or in the default work folder if that is None.
    """
    if isinstance(error, DrpError | Interrupted):
        return error.exit_code, str(error) + report_notes(error)
    if lack := shortage(error):
        return BusyError.exit_code, lack
    if fault := disk_failure(error):
        return StorageError.exit_code, f"reading or writing failed, {fault}{report_notes(error)}"
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
    limit = read_seconds("DRP_STORAGE_TIMEOUT", 600.0)
    if limit == 0:
        return lambda: None

    def give_up(error: StorageError) -> None:
        report(error)
        os._exit(error.exit_code)

    return disk.watch(limit, give_up)


def read_seconds(name: str, usual: float) -> float:
    """Return the time in an environment variable [s].

    Raises
    ------
    ConfigurationError
        If it is not a number from 0 to 1e6.
    """
    text = os.environ.get(name) or str(usual)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 1e6:
        raise ConfigurationError(f"{name} is {plain(text)!r}, expected seconds from 0 to 1e6")
    return seconds


def crash_file(error: BaseException, folder: Path | None) -> str:
    """Write the traceback and versions to a new crash file and return its path.

    Only its owner can read it. It holds no environment variables, hence no secrets. If it can be
    written neither to `folder`, nor to the work folder, nor to the temporary folder, the text
    returned points to the option -v.
    """
    trace = "".join(traceback.format_exception(error))
    text = f"drp {VERSION}, python {sys.version}\n\n{trace}".encode(errors="backslashreplace")
    name = f"drp-crash-{disk.process_label()}.txt"
    places: tuple[Callable[[], Path], ...] = (_work_folder, _temporary_folder)
    if folder is not None:
        places = (lambda: folder, *places)
    for find in places:
        try:
            path = disk.absolute(find()) / name
            disk.make_folder(path.parent)
            fd = disk.create(path, 0o600)
        except (DrpError, OSError):
            continue
        try:
            with disk.written(fd, path):
                disk.write_at(fd, 0, text, path)
        except DrpError:  # such as a full disk
            disk.discard(path)
            continue
        return str(path)
    return "the traceback shown by -v"


def _work_folder() -> Path:
    from tasks.engine.folders import default_work_folder

    return default_work_folder(lambda _: None)


def _temporary_folder() -> Path:
    import tempfile

    return Path(tempfile.gettempdir())
