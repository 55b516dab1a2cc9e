"""Words and numbers as the report shows them: what is not known is a dash with a reason, never a
zero.
"""

from __future__ import annotations

import math

from schemas.payloads import Payload, Scalar

LONGEST = 80  # characters of a header string


class Row(Payload):
    """One line of a table: a value as number and as text, or None with the reason why it is not
    known.
    """

    label: str
    value: Scalar | None = None
    shown: str = "–"
    unit: str = ""
    reason: str = ""


# Besides ASCII: what the typesetter's own fonts surely hold. PDF/A refuses a character without a
# glyph.
_GLYPHS = frozenset(chr(c) for c in range(0xA1, 0x100) if c != 0xAD) | set("–—…×≤≥≈−µσ")


def printable(value: object, limit: int = LONGEST) -> str:
    """Return `value` as one line of characters that can be typeset: all others escaped, at most
    `limit` of them.
    """
    kept = (
        c
        if (c.isascii() and c.isprintable()) or c in _GLYPHS
        else c.encode("unicode_escape").decode()
        for c in str(value)
    )
    text = "".join(kept)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def figures(value: Scalar, digits: int = 4) -> str:
    """Return a value as a person would write it: numbers with some significant digits, and all
    those before the point.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, int) or value == 0:
        return str(int(value))
    before = math.floor(math.log10(abs(value))) + 1
    if not -4 < before <= 9:
        return f"{value:.{digits - 1}e}"
    text = f"{value:.{max(digits - before, 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def known(
    label: str, value: float | str | None, unit: str = "", reason: str = "", style: str = ""
) -> Row:
    """Return a line of a table; a value that is None, empty or no finite number is a dash with
    `reason`.
    """
    if value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        return Row(label=label, reason=reason)
    shown = format(value, style) if style else figures(value)
    return Row(
        label=label, value=shown if isinstance(value, str) else value, shown=shown, unit=unit
    )
