"""The baseline: a digest of what a result was made with, apart from the raw data themselves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

DIGITS = 16

# settings that do not touch a number
_BESIDE = ("publication",)


def baseline(
    software: Mapping[str, str],
    steps: Mapping[str, str],
    references: Mapping[str, str],
    settings: Mapping[str, Any],
) -> str:
    """Return the digest of software, references and settings.

    Two visits with the same baseline were reduced in the same way, and two reductions of a visit
    with the same baseline hold the same numbers.

    Parameters
    ----------
    software : mapping
        Versions of the pipeline and of the packages that can change numbers; that of Python does
        not count.
    steps : mapping
        Version of each step.
    references : mapping
        SHA-256 of each reference file, by kind.
    settings : mapping
        Settings by step; those of the publication do not count.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    parts = {
        "software": {name: version for name, version in software.items() if name != "python"},
        "steps": dict(steps),
        "references": dict(references),
        "settings": {step: dict(s) for step, s in settings.items() if step not in _BESIDE},
    }
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
