"""Cards of FITS headers: each distinct card is parsed once."""

from __future__ import annotations

import functools
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from astropy.io import fits as afits
from astropy.io.fits.verify import VerifyError

from schemas.errors import BadInputError

MAX_REMEMBERED = 1 << 17  # bytes; a longer header is parsed again each time

_LONG_CARD = 400  # bytes; a longer card, with its continuations, is not remembered

_COMMENTARY = ("", "COMMENT", "HISTORY", "END")

# Keywords that define place and meaning of the bytes: if one occurred twice, each reader could use
# another value.
_ONCE = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|[PG]COUNT|TFIELDS|T(TYPE|FORM|ZERO|SCAL|UNIT)\d+|BZERO|BSCALE|EXTNAME|CHECKSUM|DATASUM"
)

# Astropy parses a card when it is first accessed, and then raises one of these.
_UNREADABLE = (VerifyError, ValueError)


class Cards(dict[str, Any]):
    """The keywords of a header and their values, read-only; an undefined value is None.

    Of a keyword that occurs more than once the first value counts; `times` counts them. Astropy's
    own header takes as long for one value as this for some hundred.
    """

    def __init__(self, cards: Sequence[tuple[str, Any]]) -> None:
        super().__init__(reversed(cards))
        self.times = Counter(name for name, _ in cards)

    def text(self, name: str) -> str:
        """Return a value as text without surrounding blanks; empty if there is none."""
        value = self.get(name)
        return "" if value is None else str(value).strip()


def times_in_words(count: int) -> str:
    """Return a number of occurrences in words."""
    return "twice" if count == 2 else f"{count} times"


def parse_cards(text: str, where: str) -> tuple[Cards, frozenset[str]]:
    """Return the readable cards of a header, and the keywords of the others."""
    parse = _parse_again if len(text) > MAX_REMEMBERED else _parse_once
    try:
        return parse(text)
    except ValueError as error:
        raise BadInputError(f"{where}: {error}") from error


def _parse_again(text: str) -> tuple[Cards, frozenset[str]]:
    cards, unreadable = [], set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for image in _card_images(text):
            try:
                name, value, readable = (_card_once if len(image) <= _LONG_CARD else _card)(image)
            except (*_UNREADABLE, KeyError, TypeError) as error:
                raise ValueError(f"header cannot be read ({error})") from error
            if not readable:
                unreadable.add(name)
            if name not in _COMMENTARY:
                cards.append((name, value, readable))
    names = Counter(name for name, _, _ in cards)
    if twice := sorted(name for name, n in names.items() if n > 1 and _ONCE.fullmatch(name)):
        raise ValueError(f"keyword {twice[0]} occurs {times_in_words(names[twice[0]])}")
    if wrong := sorted(name for name in unreadable if _ONCE.fullmatch(name)):
        raise ValueError(f"keyword {wrong[0]} cannot be read")
    return Cards([(name, value) for name, value, readable in cards if readable]), frozenset(
        unreadable
    )


# a product is scanned when it is digested, published, checked, and read
_parse_once = functools.lru_cache(maxsize=512)(_parse_again)


def _card_images(text: str) -> Iterator[str]:
    """Yield the cards of a header up to END, each with its continuations."""
    image = ""
    for start in range(0, len(text), 80):
        card = text[start : start + 80]
        if card.startswith("CONTINUE"):
            image += card
            continue
        if image:
            yield image
        if card.startswith("END     "):
            return
        image = card


def _card(image: str) -> tuple[str, Any, bool]:
    """Return keyword, value (None if undefined) and readability of a card."""
    card = afits.Card.fromstring(image)
    name = card.keyword
    try:
        value = card.value
        readable = value is not None and card.comment is not None
    except _UNREADABLE:
        return name, None, False
    return name, None if isinstance(value, afits.card.Undefined) else value, readable


# most cards occur in many headers of a visit, and astropy needs a tenth of a millisecond for one
_card_once = functools.lru_cache(maxsize=1 << 14)(_card)
