"""Answers of the tools on published files: frozen dataclasses, and their one way to JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

# metadata of a field whose own fields stand among those of its owner in JSON
MERGED = {"merged": True}


def as_json(value: Any) -> Any:
    """Return an answer as values of JSON: dataclasses as objects, None as null."""
    if is_dataclass(value):
        members: dict[str, Any] = {}
        for each in fields(value):
            member = as_json(getattr(value, each.name))
            if each.metadata == MERGED:
                members |= member or {}
            else:
                members[each.name] = member
        return members
    if isinstance(value, Mapping):
        return {key: as_json(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(member) for member in value]
    return value


def number(value: Any) -> float | None:
    """Return a float, None where it is no finite number: JSON has none."""
    return float(value) if math.isfinite(value) else None
