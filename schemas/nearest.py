"""Messages about an unknown name: the known ones, and the nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean NAME?`` for the known name that resembles most, or nothing.

    Upper and lower case are the same.
    """
    by_lower = {each.lower(): each for each in known}
    # longer names need no more than some letters to resemble nothing
    found = difflib.get_close_matches(name[:100].lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[found[0]]}?" if found else ""


def not_a_curve(what: str, name: str, known: Iterable[str]) -> str:
    """Return the message about a light curve or an aperture that a visit has not."""
    known = list(known)
    return f"{what} {name}: this visit has {', '.join(known)}{did_you_mean(name, known)}"
