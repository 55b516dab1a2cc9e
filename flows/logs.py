"""Log lines of the command: as text, as JSON, or in the format of the SOC's framework.

All are formatters of the standard library's logging. DRP_LOG and the options of the command choose
level and format.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from datetime import UTC, datetime
from typing import TextIO

from schemas import VERSION
from schemas.constants import PROCESSOR
from schemas.errors import ConfigurationError, plain
from schemas.logs import PROGRESS, TOP

FORMATS = ("text", "json", "soc")

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "progress": PROGRESS,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

LONGEST = 2000  # characters of a message


def utc(record: logging.LogRecord) -> str:
    """Return the time of a record, UTC with microseconds."""
    return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")


class TextFormatter(logging.Formatter):
    """Formats a record as ``2015-05-07T16:07:17.568615 PROGRESS drp.tasks.x: text``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the traceback if there is one."""
        text = plain(record.getMessage(), limit=LONGEST)
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{utc(record)} {record.levelname} {record.name}: {text}{trace}"


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time, level, logger, message, and its data."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback becomes a field."""
        line = {
            "time": f"{utc(record)}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": plain(record.getMessage(), limit=LONGEST),
            **getattr(record, "data", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


class SocFormatter(logging.Formatter):
    """Formats a record as the SOC's framework does.

    A line reads ``2015-05-07T16:07:17.568615 host prog 1.0 [0000005384]: [I] text``; the letters
    are D, I, P, W, E and A, which calls a person.
    """

    LETTERS = (
        (logging.CRITICAL, "A"),
        (logging.ERROR, "E"),
        (logging.WARNING, "W"),
        (PROGRESS, "P"),
        (logging.INFO, "I"),
    )

    def __init__(self, program: str = PROCESSOR, version: str = VERSION) -> None:
        super().__init__()
        host = socket.gethostname() or "localhost"
        self.origin = f"{host} {program} {version} [{os.getpid():010d}]"

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; control characters in the text are escaped."""
        letter = next((c for level, c in self.LETTERS if record.levelno >= level), "D")
        text = plain(record.getMessage(), limit=LONGEST)
        return f"{utc(record)} {self.origin}: [{letter}] {text}"


FORMATTERS: dict[str, type[logging.Formatter]] = {
    "text": TextFormatter,
    "json": JsonFormatter,
    "soc": SocFormatter,
}


class StderrHandler(logging.Handler):
    """Writes lines to standard error; a reader that has gone is no error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        write_to(sys.stderr, self.format(record) + "\n")


def write_to(stream: TextIO, line: str) -> None:
    """Write a line to a stream; if that fails, the stream leads nowhere from then on."""
    try:
        stream.write(line)
        stream.flush()
    except OSError:  # the rest of the buffer would fail again when Python exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def wanted(verbose: int, form: str | None) -> tuple[int, str] | None:
    """Return level and format of the log lines on standard error; None if none are wanted.

    The format is empty if none was chosen.

    DRP_LOG is a level, a format, or both with a colon between them, such as ``debug:json``. Options
    of the command line come first: `form` is that of --log-format, `verbose` how often -v is given.

    Raises
    ------
    ConfigurationError
        If DRP_LOG is something else.
    """
    level, given = None, form
    for part in filter(None, os.environ.get("DRP_LOG", "").lower().split(":")):
        if part in LEVELS:
            level = LEVELS[part]
        elif part in FORMATS:
            given = form or part
        else:
            raise ConfigurationError(
                f"DRP_LOG: {part!r} is neither a level ({', '.join(LEVELS)}) nor a format "
                f"({', '.join(FORMATS)})"
            )
    if verbose:
        level = logging.DEBUG if verbose > 1 else min(level or logging.INFO, logging.INFO)
    if level is None and given is None:
        return None
    return level or logging.INFO, given or ""


def start(level: int, form: str) -> None:
    """Write log lines of this level and above to standard error; they are text without a format."""
    handler = StderrHandler(level)
    handler.setFormatter(FORMATTERS[form or "text"]())
    top = logging.getLogger(TOP)
    top.addHandler(handler)
    top.setLevel(level)
    top.propagate = False  # the lines are written once, whatever other libraries have set up


def stop() -> None:
    """Write no more log lines to standard error."""
    top = logging.getLogger(TOP)
    for handler in [h for h in top.handlers if isinstance(h, StderrHandler)]:
        top.removeHandler(handler)
        top.setLevel(logging.NOTSET)
        top.propagate = True
