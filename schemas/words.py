"""Numbers, nouns and faults in messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, which has an s unless there is one."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def fault_of(error: ErrorDetails) -> str:
    """Return what is wrong with a value, as pydantic or the check of a model has put it."""
    return error["msg"].removeprefix("Value error, ")
