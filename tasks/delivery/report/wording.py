"""Words and numbers as the report shows them.

An unknown value is a dash with a reason, never a zero.
"""

from __future__ import annotations

import math

from schemas.payloads import Payload, Scalar

DASH = "–"

LONGEST = 80  # characters of a header string

ROUNDING = 1e-6  # ppm; rounding of a sum over a few thousand pixels

# Of the scale of a value; the rounding of sums of such values in double precision is larger.
NEGLIGIBLE = 1e-15


class Row(Payload):
    """One row of a table: a value as number and as text, or None with the reason."""

    label: str
    value: Scalar | None = None
    shown: str = DASH
    unit: str = ""
    reason: str = ""


# Beyond ASCII: characters in the fonts of the typesetter. PDF/A forbids characters without a glyph.
_GLYPHS = frozenset(chr(c) for c in range(0xA1, 0x100) if c != 0xAD) | set("–—…×≤≥≈−µσ")


def printable(value: object, limit: int = LONGEST) -> str:
    """Return `value` as one line of at most `limit` characters, escaping all without a glyph."""
    kept = (
        c
        if (c.isascii() and c.isprintable()) or c in _GLYPHS
        else c.encode("unicode_escape").decode()
        for c in str(value)
    )
    text = "".join(kept)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def format_digits(value: float, style: str, scale: float = 1.0) -> str:
    """Format a number in a style of `format`; every other function here ends in this one.

    A value that rounding alone leaves, far below `scale`, is 0; and a 0 has no sign, whether it is
    exact or all that its decimals show.
    """
    text = format(0.0 if abs(value) < NEGLIGIBLE * scale else value, style)
    if not math.isfinite(value) or set("123456789") & set(text.partition("e")[0]):
        return text
    return "0" if "e" in text else text.lstrip("+-")


def format_value(value: Scalar, digits: int = 4) -> str:
    """Format a value for reading: some significant digits, but all of those before the point."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, int) or abs(value) < NEGLIGIBLE:
        return str(int(value))
    before = math.floor(math.log10(abs(value))) + 1
    if not -4 < before <= 9:
        return format_digits(value, f".{digits - 1}e")
    text = format_digits(value, f".{max(digits - before, 0)}f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_number(value: float, style: str = "") -> str:
    """Format a number for a table; a dash if it is not finite."""
    if not math.isfinite(value):
        return DASH
    return (format_digits(value, style) if style else format_value(value)).replace("-", "−")


def format_ppm(value: float) -> str:
    """Format parts per million: no decimals from 100 on, one from 1 on, else three."""
    if not math.isfinite(value):
        return DASH
    size = abs(value) if abs(value) > ROUNDING else 0.0
    digits = 0 if size >= 100 or size == 0 else 1 if size >= 1 else 3
    return format_number(value if size else 0.0, f".{digits}f")


def format_like(value: float, spread: float) -> str:
    """Format a number with decimals down to the third significant digit of `spread`."""
    if not 0 < spread < math.inf:
        return format_number(value)
    digits = min(max(2 - math.floor(math.log10(spread)), 0), 9)
    return format_number(value, f".{digits}f")


def format_with_error(value: float, error: float) -> str:
    """Format a number and its error, both to two significant digits of the error."""
    if not (math.isfinite(value) and math.isfinite(error)):
        return DASH
    digits = 1 - math.floor(math.log10(error)) if error > 0 else 3
    if not -5 < digits < 8:
        return f"{format_number(value, '.3g')} ± {format_number(error, '.2g')}"
    style = f".{max(digits, 0)}f"
    return " ± ".join(format_number(round(v, digits), style) for v in (value, error))


def make_row(
    label: str, value: float | str | None, unit: str = "", reason: str = "", style: str = ""
) -> Row:
    """Make a row of a table; a value that is None, empty or not finite is a dash with `reason`."""
    if value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        return Row(label=label, reason=reason)
    if isinstance(value, str):
        text = printable(value)
        return Row(label=label, value=text, shown=text, unit=unit)
    return Row(label=label, value=value, shown=format_number(value, style), unit=unit)


def make_ppm(label: str, value: float, reason: str) -> Row:
    """Make a row for a noise, with the digits that a noise deserves."""
    if not math.isfinite(value):
        return Row(label=label, reason=reason)
    return Row(label=label, value=value, shown=format_ppm(value), unit="ppm")
