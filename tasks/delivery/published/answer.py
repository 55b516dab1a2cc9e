"""The JSON form of answers: the tools on published files return frozen dataclasses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

# metadata of a field whose members become members of its owner in JSON
MERGED = {"merged": True}


def as_json(value: Any) -> Any:
    """Return an answer as JSON values; dataclasses become objects."""
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
    """Return a float, or None if it is not finite: JSON has neither NaN nor infinity."""
    return float(value) if math.isfinite(value) else None
