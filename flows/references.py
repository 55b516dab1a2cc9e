"""List reference files, and mark those that a visit at a given time would use."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.runs.reduction import default_library
from schemas.errors import DrpError, UsageError
from schemas.inputs import DARK_FRAME, REFERENCES, Input
from tasks.visit.choice import choose, choose_dark_frames
from tasks.visit.search import Found, search


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
    when = when or time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?", when):
        raise UsageError(f"--at {when!r}: expected yyyy-mm-ddThh:mm:ss")
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{folder}: is not a folder")
    inventory = search(folders or [default_library()], REFERENCES)
    return [row for kind in REFERENCES for row in rows_of(kind, inventory.of(kind), when)]


def rows_of(declared: Input, candidates: Sequence[Found], when: str) -> list[dict[str, Any]]:
    """Return the rows of a kind of reference."""
    note, chosen = "", []
    try:
        chosen = choose_valid(declared, candidates, when)
    except DrpError as error:
        note = str(error)
    rows = [
        _row(declared.kind, c, c in chosen)
        for c in sorted(candidates, key=lambda c: (c.version, c.valid_from))
    ]
    return rows if chosen else [*rows, _row_of_none(declared, note)]


def choose_valid(declared: Input, candidates: Sequence[Found], when: str) -> list[Found]:
    """Return the references that a visit at this time would use; empty if none is valid."""
    if declared is DARK_FRAME:
        return choose_dark_frames(candidates, when)
    valid = (
        choose([c for c in candidates if c.extname == extname], when, declared.kind)
        for extname in declared.first
    )
    return [reference for reference in valid if reference is not None][:1]


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
        "chosen": False,
        "note": note or missing,
    }


def _row(kind: str, reference: Found, chosen: bool) -> dict[str, Any]:
    version = f"V{reference.version[0]:02d}{reference.version[1]:02d}"
    validity = {"valid_from": reference.valid_from, "valid_to": reference.valid_to}
    return {
        "kind": kind,
        "version": version,
        **validity,
        "file": reference.path.name,
        "chosen": chosen,
        "note": "",
    }
