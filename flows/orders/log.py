"""Where the log lines of a job order go: standard output, standard error, and the log file."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from flows.logs import SocFormatter, StderrHandler, write_to
from schemas.errors import DrpError
from schemas.logs import PROGRESS, TOP, logger_of
from schemas.orders import Level
from tasks.files import disk

log = logger_of(__name__)

# the SOC's levels among those of the standard library
LEVELS = {
    Level.DEBUG: logging.DEBUG,
    Level.INFO: logging.INFO,
    Level.PROGRESS: PROGRESS,
    Level.WARNING: logging.WARNING,
    Level.ERROR: logging.ERROR,
    Level.ALERT: logging.CRITICAL,
}

ON_ERROR_STREAM = (PROGRESS, logging.WARNING, logging.ERROR)


class SocHandler(logging.Handler):
    """Writes records in the SOC's format to standard output or standard error, and to a file.

    Debug, info and alert go to standard output; progress, warning and error to standard error. Each
    stream takes lines from a certain level upwards, the log file takes all. Failures to write are
    ignored. `quiet` keeps standard output free; `errors_only` also limits standard error to errors.
    `named` replaces paths in a text by the names in the order.
    """

    def __init__(
        self, program: str, version: str, quiet: bool = False, errors_only: bool = False
    ) -> None:
        super().__init__()
        self.setFormatter(SocFormatter(program, version))
        self.quiet, self.errors_only = quiet, errors_only
        self.stdout_level: int | None = None
        self.named: Callable[[str], str] = str
        self.levels(Level.INFO, Level.PROGRESS)
        self._file: int | None = None

    def levels(self, stdout: Level, stderr: Level) -> None:
        """Set the lowest levels of the two streams; options of the command line take precedence."""
        lowest = LEVELS[max(stderr, Level.ERROR) if self.errors_only else stderr]
        self.stderr_level = lowest
        self.stdout_level = None if self.quiet or self.errors_only else LEVELS[stdout]

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Take the records of all loggers of the pipeline within the block."""
        top = logging.getLogger(TOP)
        before = top.level, top.propagate
        others = [handler for handler in top.handlers if isinstance(handler, StderrHandler)]
        for handler in others:  # each line is written once
            top.removeHandler(handler)
        top.addHandler(self)
        top.setLevel(logging.DEBUG)
        top.propagate = False
        try:
            yield
        finally:
            top.removeHandler(self)
            for handler in others:
                top.addHandler(handler)
            top.setLevel(before[0])
            top.propagate = before[1]
            self.close()

    def open(self, path: Path) -> None:
        """Append every line to a file, too."""
        try:
            self._file = disk.open_log(path)
        except DrpError as error:
            log.warning("log file cannot be opened: %s", error)

    def close(self) -> None:
        """Close the log file."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = None
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        line = self.named(self.format(record)) + "\n"
        lowest: int | None
        if record.levelno in ON_ERROR_STREAM:
            stream, lowest = sys.stderr, self.stderr_level
        else:
            stream, lowest = sys.stdout, self.stdout_level
        if lowest is not None and record.levelno >= lowest:
            write_to(stream, line)
        if self._file is not None:
            try:
                os.write(self._file, line.encode())  # unbuffered: safe against signals
            except OSError:
                self.close()
