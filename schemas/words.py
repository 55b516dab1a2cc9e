"""Numbers and nouns in messages."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, which has an s unless there is one."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
