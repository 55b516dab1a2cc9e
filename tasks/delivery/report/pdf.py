"""Typeset pages and write them as PDF."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from importlib.resources import files
from pathlib import Path

from schemas.errors import BusyError
from tasks.delivery.report.typeset import make_pdf
from tasks.delivery.report.wording import printable
from tasks.files import disk


def moment(date: str) -> dict[str, int]:
    """Split a date (UTC, yyyy-mm-ddThh:mm:ss) into the arguments of Typst's datetime."""
    parts = datetime.fromisoformat(date)
    return {
        part: getattr(parts, part) for part in ("year", "month", "day", "hour", "minute", "second")
    }


def templates(*names: str) -> dict[str, bytes]:
    """Read templates from the folder of this file."""
    return {name: files("tasks.delivery.report").joinpath(name).read_bytes() for name in names}


def write_pdf(inside: Mapping[str, bytes], target: Path) -> None:
    """Typeset files as a tagged PDF/A-2a that is also PDF/UA-1.

    Parameters
    ----------
    inside : mapping
        Names and contents of files, `main.typ` among them; nothing else is read.
    target : Path
        The PDF; it is written completely or not at all.

    Raises
    ------
    RuntimeError
        If the files cannot be typeset.
    BusyError
        If there is not enough memory.
    StorageError
        If reading or writing fails.
    """
    try:
        pdf = make_pdf(inside)
    except RuntimeError as error:
        raise RuntimeError(f"the report cannot be typeset: {printable(error, 300)}") from error
    except MemoryError as error:
        raise BusyError(
            f"the report cannot be typeset, not enough memory: {printable(error, 300)}"
        ) from error
    disk.write_file(target, pdf)
