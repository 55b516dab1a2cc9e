"""The digest of the source of a step, by which a change of code without a new version shows.

It is not part of the key: only the developer knows whether a change of code changes a result.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from schemas import ROOT
from schemas.errors import DrpError
from tasks.engine.store import read_record
from tasks.files import disk

# the machinery of steps and files, which serves all steps alike
_MACHINERY = ("tasks.engine", "tasks.files")


def source_digest(fn: Callable[..., Any]) -> str:
    """Return the digest of the file of a function and of the modules in `tasks` that it imports.

    Modules imported by these count too; those of the machinery do not.

    Returns
    -------
    str
        16 hexadecimal digits; empty if a file cannot be read.
    """
    try:
        files = _with_imports(Path(inspect.getfile(fn)))
    except (OSError, DrpError, TypeError):
        return ""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(hashlib.sha256(_source(path)).digest())
    return digest.hexdigest()[:16]


def recorded_source(record: Path) -> str:
    """Return the digest of the source that made a record; empty if it is not known."""
    try:
        return read_record(record).facts.source or ""
    except (DrpError, ValueError):
        return ""


def _with_imports(first: Path) -> set[Path]:
    found, waiting = {first}, [first]
    while waiting:
        new = _imports(waiting.pop()) - found
        found |= new
        waiting += new
    return found


@cache
def _source(path: Path) -> bytes:
    return disk.read_bytes(path)


# parsing all modules of a step would take as long as many a step
_IMPORT = re.compile(
    rb"^[ \t]*(?:import (tasks[\w.]*)|from (tasks[\w.]*) import (\([^)]*\)|[^\n]*))", re.MULTILINE
)


@cache
def _imports(path: Path) -> frozenset[Path]:
    """Return the files in `tasks`, machinery excepted, that a file imports."""
    names: list[str] = []
    for whole, module, imported in _IMPORT.findall(_source(path)):
        base = (whole or module).decode()
        names += [base, *(f"{base}.{name}" for name in re.findall(r"\w+", imported.decode()))]
    ours = (n for n in names if n.startswith("tasks.") and not n.startswith(_MACHINERY))
    paths = (ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in ours)
    return frozenset(p for p in paths if disk.is_file(p))
