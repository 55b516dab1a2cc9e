"""List reference files, and mark those that a visit at a given time would use."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.runs.reduction import default_library
from schemas.errors import DrpError, UsageError, plain
from schemas.inputs import REFERENCES, Input
from schemas.names import version_label
from tasks.files import disk
from tasks.visit.choice import choose_references, unused_reason
from tasks.visit.inventory import OF_REFERENCES
from tasks.visit.search import Found, is_time, search


def list_references(folders: Sequence[Path], when: str) -> list[dict[str, Any]]:
    """Return a row for each reference file, and one for each kind without a valid file.

    Parameters
    ----------
    folders : sequence of Path
        Folders to search; the default library if empty.
    when : str
        Time for which references are chosen [UTC]; now if empty.

    Raises
    ------
    UsageError
        If a folder does not exist or the time is invalid.
    """
    when = read_time(when) if when else time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    for folder in folders:
        disk.require_folder(folder, OF_REFERENCES)
    inventory = search(folders or [default_library()], REFERENCES)
    rows = [row for kind in REFERENCES for row in rows_of(kind, inventory.of(kind), when)]
    return [*rows, *map(_row_of_ignored, inventory.notes)]


def read_time(text: str) -> str:
    """Return a time, or the beginning of a day, as yyyy-mm-ddThh:mm:ss.

    Raises
    ------
    UsageError
        If it is neither, or not in the calendar.
    """
    day, time_of_day = r"\d{4}-\d\d-\d\d", r"T\d\d:\d\d:\d\d(\.\d{1,6})?"
    when = f"{text}T00:00:00" if re.fullmatch(day, text, re.ASCII) else text
    if not re.fullmatch(day + time_of_day, when, re.ASCII):
        raise UsageError(f"--at {plain(text)!r}: expected yyyy-mm-ddThh:mm:ss or yyyy-mm-dd")
    if not is_time(when):
        raise UsageError(f"--at {text!r}: is not a valid date or time")
    return when


def rows_of(declared: Input, candidates: Sequence[Found], when: str) -> list[dict[str, Any]]:
    """Return the rows of a kind of reference."""
    note, chosen = "", []
    try:
        chosen = choose_references(candidates, declared, when)
    except DrpError as error:
        note = str(error)
    rows = [
        _row(declared, c, chosen, when)
        for c in sorted(candidates, key=lambda c: (c.version, c.valid_from))
    ]
    return rows if chosen else [*rows, _row_of_none(declared, note)]


def _row_of_none(declared: Input, note: str) -> dict[str, Any]:
    missing = (
        "mandatory: visits cannot be reduced"
        if declared.mandatory
        else f"without it: {declared.fallback}"
    )
    return {
        "kind": declared.kind,
        "version": "-",
        "valid_from": "-",
        "valid_to": "-",
        "file": "none valid",
        "folder": "",
        "chosen": False,
        "note": note or missing,
    }


def _row_of_ignored(note: str) -> dict[str, Any]:
    """Return the row of a file that is no reference, from the note on it."""
    file, _, why = note.partition(": ")
    empty = dict.fromkeys(("kind", "version", "valid_from", "valid_to"), "-")
    return {**empty, "file": file, "folder": "", "chosen": False, "note": why}


def _row(declared: Input, reference: Found, chosen: Sequence[Found], when: str) -> dict[str, Any]:
    used = reference in chosen
    return {
        "kind": declared.kind,
        "version": version_label(reference.version),
        "valid_from": reference.valid_from,
        "valid_to": reference.valid_to,
        "file": reference.path.name,
        "folder": str(reference.path.parent),
        "chosen": used,
        "note": reference.version_note
        if used
        else unused_reason(reference, chosen, declared, when),
    }
