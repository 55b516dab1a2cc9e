"""The small product changed or damaged, and what the gate makes of it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits as afits
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from schemas.errors import BadInputError
from schemas.inputs import Input
from tasks.files.reader import open_declared
from tests.support.small_product import (
    INPUT,
    TABLE,
    VALUES,
    astropy_hdus,
    write_astropy,
)

Change = Callable[[afits.HDUList], None]


PRINTABLE = st.characters(min_codepoint=32, max_codepoint=126)


many = settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def changed(path: Path, change: Change, checksum: bool = True) -> Path:
    """Write the small product by astropy after `change` had its way with it."""
    hdus = astropy_hdus()
    change(hdus)
    return write_astropy(path, hdus, checksum)


def rewritten(path: Path, *cards: tuple[str, str, str]) -> Path:
    """Write the small product and then put raw cards, (EXTNAME, keyword, whole card), in place of
    its own.
    """
    data = write_astropy(path, astropy_hdus(), checksum=False).read_bytes()
    for extname, keyword, new in cards:
        start = (
            0
            if extname == "PRIMARY"
            else data.rindex(b"XTENSION", 0, data.index(f"'{extname}".encode()))
        )
        at = data.index(f"\n{keyword:8}".encode()[1:], start)
        data = data[:at] + new.encode("latin-1").ljust(80)[:80] + data[at + 80 :]
    path.write_bytes(data)
    return path


def content(path: Path, sums: bool = True) -> list[Any]:
    """Return all that a step could read of the small product."""
    with open_declared(path, INPUT, sums=sums) as file:
        image, table = file["TST_IMAGE"], file["TST_TABLE"]
        values: list[Any] = [image.keyword(name) for name in VALUES]
        return [
            *values,
            image.image().tobytes(),
            *(table.column(c.name).tobytes() for c in TABLE.columns),
        ]


def content_or_refusal(path: Path) -> list[Any] | str:
    """Return all of the small product, or the gate's message; any other exception is a failure."""
    try:
        return content(path)
    except BadInputError as error:
        return str(error)


def refused(path: Path, match: str, declared: Input = INPUT, sums: bool = True) -> None:
    """Assert that the gate refuses with code 65 and a message of one line that names the file and
    `match`.
    """
    with pytest.raises(BadInputError, match=match) as caught:
        open_declared(path, declared, sums=sums)
    assert caught.value.exit_code == 65
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).isprintable()


def _unsummed() -> bytes:
    buffer = io.BytesIO()
    astropy_hdus().writeto(buffer)
    return buffer.getvalue()


UNSUMMED = _unsummed()
