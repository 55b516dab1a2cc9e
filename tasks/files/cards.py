"""Writing of header cards: the same bytes for the same content."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Mapping

from astropy.io import fits as afits

from tasks.files.hdu import Value
from tasks.files.structure import BLOCK
from tasks.files.sums import encode_checksum, ones_complement_sum

_LONGEST = 68  # characters of a string in one card


def card(name: str, value: Value, comment: str = "") -> bytes:
    """Return one card of 80 bytes.

    Long strings and comments are cut, characters that are not printable ASCII are escaped. Real
    numbers keep all their digits and may then exceed the 20 columns of the fixed format.
    """
    if isinstance(value, str):
        value = _printable(value)[:_LONGEST].rstrip()
        while len(value.replace("'", "''")) > _LONGEST:
            value = value[:-1]
    if isinstance(value, float):
        mantissa, e, exponent = repr(float(value)).upper().partition("E")
        text = f"{name:8}= {mantissa + ('.0' if '.' not in mantissa else '') + e + exponent:>20}"
    else:
        text = _card_text(name, value)
    # an empty string and a comment with an apostrophe would be read as one long string
    if comment := _printable(comment).replace("'", "`")[: max(80 - len(text) - 3, 0)].rstrip():
        text += f" / {comment}"
    return text.ljust(80).encode("ascii")


@functools.lru_cache(maxsize=4096, typed=True)
def _card_text(name: str, value: str | int) -> str:
    """Return a card without its comment; most occur in hundreds of headers, and astropy is slow."""
    return str(afits.Card(name, value)).rstrip().ljust(30)


def history_cards(line: str) -> list[bytes]:
    """Return HISTORY cards for a line of text; continuations are indented by four spaces."""
    text = _printable(line)
    parts = textwrap.wrap(text, 72, subsequent_indent="    ", break_on_hyphens=False) or [""]
    return [f"HISTORY {part}".ljust(80).encode("ascii") for part in parts]


def _printable(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if " " <= c <= "~" else c.encode("unicode_escape").decode("ascii") for c in text
    )


def close_header(cards: list[bytes]) -> bytes:
    """Return a whole header: the cards, room for the sums, END, and blanks up to a full block."""
    sums = [card("CHECKSUM", "0" * 16, "HDU checksum"), card("DATASUM", "0", "data checksum")]
    text = b"".join([*cards, *sums, b"END".ljust(80)])
    return text + b" " * (-len(text) % BLOCK)


def set_cards(
    header: bytes, values: Mapping[str, Value], comments: Mapping[str, str] | None = None
) -> bytes:
    """Return a header with the values of some of its cards replaced; absent cards are ignored.

    Comments stay, except those in `comments`: a comment that was cut for a long value cannot be
    recovered from the header.
    """
    cards = [header[i : i + 80] for i in range(0, len(header), 80)]
    for i, old in enumerate(cards):
        name = old[:8].decode("ascii").strip()
        if name in values:
            comment = (comments or {}).get(name)
            cards[i] = card(
                name,
                values[name],
                afits.Card.fromstring(old).comment if comment is None else comment,
            )
    return b"".join(cards)


def sum_header(header: bytes, data_sum: int) -> bytes:
    """Return the header with DATASUM and CHECKSUM for data with the sum `data_sum`."""
    header = set_cards(header, {"DATASUM": str(data_sum), "CHECKSUM": "0" * 16})
    return set_cards(header, {"CHECKSUM": encode_checksum(ones_complement_sum(header, data_sum))})
