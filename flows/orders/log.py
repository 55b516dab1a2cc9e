"""Log lines in the format of the SOC's framework.

A line reads ``2015-05-07T16:07:17.568615 host prog 1.0 [0000005384]: [I] text``.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from schemas.errors import DrpError, plain
from schemas.orders import Level
from tasks.files import disk

ON_ERROR_STREAM = (Level.PROGRESS, Level.WARNING, Level.ERROR)


class SocLog:
    """Writes log lines to standard output or standard error, and to the log file.

    Debug, info and alert go to standard output; progress, warning and error to standard error. Each
    stream takes lines from a certain level upwards, the log file takes all. Failures to write are
    ignored. `quiet` keeps standard output free; `errors_only` also limits standard error to errors.
    """

    def __init__(
        self, program: str, version: str, quiet: bool = False, errors_only: bool = False
    ) -> None:
        self.quiet, self.errors_only = quiet, errors_only
        self.origin = (
            f"{socket.gethostname() or 'localhost'} {program} {version} [{os.getpid():010d}]"
        )
        self.levels(Level.INFO, Level.PROGRESS)
        self._file: int | None = None

    def levels(self, stdout: Level, stderr: Level) -> None:
        """Set the lowest levels of the two streams; options of the command line take precedence."""
        self.stdout_level: Level | None = None if self.quiet or self.errors_only else stdout
        self.stderr_level: Level | None = max(stderr, Level.ERROR) if self.errors_only else stderr

    def open(self, path: Path) -> None:
        """Append every line to a file, too."""
        try:
            self._file = disk.open_log(path)
        except DrpError as error:
            self(Level.WARNING, f"log file cannot be opened: {error}")

    def close(self) -> None:
        """Close the log file."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = None

    def __call__(self, level: Level, text: object) -> None:
        """Write a line; control characters in the text are escaped."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
        line = f"{now} {self.origin}: [{level.name[0]}] {plain(text, limit=2000)}\n"
        if level in ON_ERROR_STREAM:
            stream, lowest = sys.stderr, self.stderr_level
        else:
            stream, lowest = sys.stdout, self.stdout_level
        if lowest is not None and level >= lowest:
            _write_to(stream, line)
        if self._file is not None:
            try:
                os.write(self._file, line.encode())  # unbuffered: safe against signals
            except OSError:
                self.close()


def _write_to(stream: TextIO, line: str) -> None:
    try:
        stream.write(line)
        stream.flush()
    except OSError:  # the rest of the buffer would fail again when Python exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
