"""FITS files spoiled at random: bytes, cards, values, rows, HDUs; all but bytes with fresh sums."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from schemas.arrays import AnyArray
from tests.support.faults import Part, put_together, replace, take_apart

Random = np.random.Generator

NUMBERS = (
    0,
    1,
    -1,
    2,
    255,
    -32768,
    32767,
    65535,
    2**31 - 1,
    -(2**31),
    2**32,
    2**63 - 1,
    1e-300,
    1e30,
    -1e30,
    1e308,
    np.nan,
    np.inf,
    -np.inf,
    0.5,
    59000.0,
    360.0,
    -273.15,
)
VALUES = (
    *(n for n in NUMBERS if np.isfinite(n)),
    True,
    False,
    "",
    "N/A",
    "x" * 60,
    "2021-13-45T99:99:99",
)
CARDS = (
    "= NaN",
    "= 1E999",
    "= 'unclosed",
    "= (1,2)",
    "=",
    "= 99999999999999999999",
    "= 1.5.2",
    "=  T garbage",
    "= 'a' 'b'",
    "\xff\xfe\x00",
)


def spoil(path: Path, rng: Random, ways: tuple[Way, ...]) -> str:
    """Spoil a file in one of some ways and return how."""
    for _ in range(20):  # a way may not apply to the file
        way = ways[rng.integers(len(ways))]
        with contextlib.suppress(Unfit):
            return f"{path.name}: {way.__name__} {way(path, rng)}"
    return f"{path.name}: nothing"


class Unfit(Exception):
    """The way to spoil a file does not apply to it."""


def _some(rng: Random, choices: list[Part]) -> Part:
    if not choices:
        raise Unfit
    return choices[rng.integers(len(choices))]


def _amount(rng: Random, size: int) -> AnyArray:
    """Return one, some or all of the indices 0 to size - 1."""
    if size == 0:
        raise Unfit
    count = (1, max(1, size // 3), size)[rng.integers(3)]
    return rng.choice(size, count, replace=False)


def flip_bytes(path: Path, rng: Random) -> str:
    """Change some bytes."""
    content = bytearray(path.read_bytes())
    # most of them in the headers
    end = min(len(content), 30_000) if rng.random() < 0.7 else len(content)
    for at in rng.integers(end, size=int(rng.integers(1, 9))):
        content[at] = int(rng.integers(256))
    replace(path, bytes(content))
    return ""


def cut(path: Path, rng: Random) -> str:
    """Truncate a file, or put something behind its end."""
    content = path.read_bytes()
    at = int(rng.integers(len(content) + 1))
    more = bytes(rng.integers(256, size=100, dtype=np.uint8))
    replace(path, content[:at] if rng.random() < 0.7 else content + more)
    return f"at {at}"


def move_block(path: Path, rng: Random) -> str:
    """Overwrite a block by another one or by zeros."""
    content = bytearray(path.read_bytes())
    one, other = (2880 * int(n) for n in rng.integers(max(1, len(content) // 2880), size=2))
    content[one : one + 2880] = bytes(2880) if rng.random() < 0.3 else content[other : other + 2880]
    replace(path, bytes(content))
    return f"at {one}"


def replace_file(path: Path, rng: Random) -> str:
    """Put something else in the place of a file."""
    path.unlink()
    makers: tuple[Callable[[], object], ...] = (
        path.touch,
        path.mkdir,
        lambda: os.mkfifo(path),
        lambda: path.symlink_to(path),
        lambda: path.symlink_to("/dev/zero"),
        lambda: path.symlink_to("nowhere"),
        lambda: path.write_bytes(bytes(28800)),
    )
    number = int(rng.integers(len(makers)))
    makers[number]()
    return str(number)


def change_card(path: Path, rng: Random) -> str:
    """Give a keyword another value, or none, or a card that is not FITS."""
    parts = take_apart(path)
    part = parts[rng.integers(len(parts))]
    names = [c[:8].decode("latin-1").strip() for c in part.cards]
    names = [n for n in names if n and n not in ("CHECKSUM", "DATASUM", "COMMENT", "HISTORY")]
    name = names[rng.integers(len(names))]
    way = int(rng.integers(4))
    extname = part.extname  # its card may become unreadable
    value: object = ""
    if way == 0:
        part.drop(name)
    elif way == 1:
        part.cards.append(next(c for c in part.cards if c[:8].decode("latin-1").strip() == name))
    elif way == 2:
        value = CARDS[rng.integers(len(CARDS))]
        part.put_card(name, f"{name:8}{value}".encode("latin-1"))
    else:
        value = VALUES[rng.integers(len(VALUES))]
        part.set(name, value)
    how = ("without", "twice", "card", "value")[way]
    return f"{extname} {name} {how} {value!r:.30}" + _put(path, parts)


def _put(path: Path, parts: list[Part]) -> str:
    try:
        put_together(path, parts)
    except (ValueError, TypeError, OverflowError) as error:
        raise Unfit from error
    return ""


def change_column(path: Path, rng: Random) -> str:
    """Give some rows of a column values that are absurd."""
    parts = take_apart(path)
    part = _some(rng, [p for p in parts if p.get("XTENSION") == "BINTABLE" and p.get("NAXIS2")])
    rows = part.rows
    assert rows.dtype.names is not None
    name = rows.dtype.names[rng.integers(len(rows.dtype.names))]
    chosen = _amount(rng, len(rows))
    how = change_values(rows[name], chosen, rng)
    part.rows = rows
    return f"{part.extname} {name} {chosen.size} rows {how}" + _put(path, parts)


def change_values(values: AnyArray, chosen: AnyArray, rng: Random) -> str:
    """Change some elements of an array in place, as far as its type has the values."""
    kind = values.dtype.kind
    if kind == "S":
        text = (b"", b"\xff\x00", b"T", b"F", b"nan", b"2021-02-30T25:00:00.000000")
        new = text[rng.integers(len(text))]
        values[chosen] = new
        return repr(new)
    way = int(rng.integers(4))
    if way == 0:
        values[chosen] = values[rng.permutation(chosen)]
        return "shuffled"
    if way == 1:
        values[chosen] = values[0]
        return "constant"
    number = NUMBERS[rng.integers(len(NUMBERS))]
    with np.errstate(all="ignore"):
        if way == 2 and kind == "f":
            values[chosen] = values[chosen] * number
            return f"times {number:g}"
        if kind != "f":
            limits = np.iinfo(values.dtype)
            finite = number if np.isfinite(number) else 0
            number = int(np.clip(finite, float(limits.min), float(limits.max)))
            number = max(limits.min, min(limits.max, number))
        values[chosen] = np.array(number).astype(values.dtype)
    return f"{number:g}"


def change_pixels(path: Path, rng: Random) -> str:
    """Fill some planes, rows, columns or pixels of an image with absurd values."""
    parts = take_apart(path)
    images = [p for p in parts if p.get("NAXIS") and p.get("XTENSION") == "IMAGE" and p.data]
    part = _some(rng, images)
    values = part.pixels.copy()
    place: list[slice | int] = [slice(None)] * values.ndim
    for axis in rng.permutation(values.ndim)[: int(rng.integers(values.ndim + 1))]:
        place[axis] = int(rng.integers(values.shape[axis]))
    box = values[tuple(place)]
    number = NUMBERS[rng.integers(len(NUMBERS))]
    if values.dtype.kind != "f":
        bits, zero = part.get("BITPIX"), part.get("BZERO", 0)
        low = -(2 ** (bits - 1)) + zero if bits > 8 else 0
        high = low + 2**bits - 1
        number = int(max(low, min(high, number if np.isfinite(number) else 0)))
    with np.errstate(all="ignore"):
        values[tuple(place)] = (
            box * number if values.dtype.kind == "f" and rng.random() < 0.3 else number
        )
    part.pixels = values
    return f"{part.extname} {place!r:.60} {number:g}" + _put(path, parts)


def change_rows(path: Path, rng: Random) -> str:
    """Leave out, repeat or shuffle rows of a table."""
    parts = take_apart(path)
    part = _some(rng, [p for p in parts if p.get("XTENSION") == "BINTABLE" and p.get("NAXIS2")])
    count = len(part.rows)
    choices = (
        np.arange(0),
        np.arange(1),
        np.arange(count - 1),
        np.repeat(np.arange(count), 2),
        rng.permutation(count),
        np.arange(count)[::-1],
    )
    number = int(rng.integers(len(choices)))
    part.rows = part.rows[choices[number]]
    return f"{part.extname} {number}" + _put(path, parts)


def change_hdus(path: Path, rng: Random) -> str:
    """Leave out, repeat or move an HDU."""
    parts = take_apart(path)
    at = int(rng.integers(len(parts)))
    number = int(rng.integers(3))
    if number == 0:
        del parts[at]
    elif number == 1:
        parts.append(parts[at])
    else:
        parts.insert(int(rng.integers(len(parts))), parts.pop(at))
    return f"{number} of HDU {at}" + _put(path, parts)


Way = Callable[[Path, Random], str]

DAMAGE: tuple[Way, ...] = (
    flip_bytes,
    cut,
    move_block,
    replace_file,
    change_card,
    change_card,
    change_hdus,
    change_rows,
    change_column,
    change_pixels,
)
# well-formed: the gate lets most of them pass
ABSURD: tuple[Way, ...] = (
    change_column,
    change_column,
    change_pixels,
    change_pixels,
    change_card,
    change_rows,
)
