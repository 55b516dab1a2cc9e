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

MAX_REMEMBERED = 1 << 17  # bytes; a longer header is parsed anew each time

_LONG_CARD = 400  # bytes of a card with its continuations up to which it is remembered

_COMMENTARY = ("", "COMMENT", "HISTORY", "END")

# Keywords that say where the bytes are and what they mean: a second one would leave it to each
# reader which counts.
_ONCE = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|[PG]COUNT|TFIELDS|T(TYPE|FORM|ZERO|SCAL|UNIT)\d+|BZERO|BSCALE|EXTNAME|CHECKSUM|DATASUM"
)

# What a header may hold in place of a readable value; astropy parses a card when it is first asked
# for.
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


def parse_cards(text: str, where: str) -> tuple[Cards, frozenset[str]]:
    """Return a header whose cards can all be read, and the keywords of those that could not. It is
    for reading only.
    """
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
        raise ValueError(f"keyword {twice[0]} stands there {names[twice[0]]} times")
    if wrong := sorted(name for name in unreadable if _ONCE.fullmatch(name)):
        raise ValueError(f"keyword {wrong[0]} cannot be read")
    return Cards([(name, value) for name, value, readable in cards if readable]), frozenset(
        unreadable
    )


# a product is scanned when it is digested, published, checked, and read
_parse_once = functools.lru_cache(maxsize=512)(_parse_again)


def _card_images(text: str) -> Iterator[str]:
    """Yield the cards of a header up to END, each with the cards that continue it."""
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
    """Return keyword and value of a card, and whether these and its comment can be read. What is
    undefined is None.
    """
    card = afits.Card.fromstring(image)
    name = card.keyword
    try:
        value = card.value
        readable = value is not None and card.comment is not None
    except _UNREADABLE:
        return name, None, False
    return name, None if isinstance(value, afits.card.Undefined) else value, readable


# most cards of the headers of a visit are the same in many, and astropy takes a tenth of a
# millisecond for one
_card_once = functools.lru_cache(maxsize=1 << 14)(_card)
