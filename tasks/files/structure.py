"""The structure that the header of an HDU declares: its kind, and the size of its data."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tasks.files.columns import MAX_ROW, row_width
from tasks.files.header import Cards

BLOCK = 2880

MAX_AXIS = (1 << 40) - 1


def padded(size: int) -> int:
    """Return a size in bytes, rounded up to whole blocks."""
    return -(-size // BLOCK) * BLOCK


def hdu_kind(header: Cards) -> str:
    """Return IMAGE, BINTABLE or another kind of extension."""
    return header.text("XTENSION")


def data_size(header: Cards, primary: bool) -> int:
    """Return the bytes of data that a header declares, without padding.

    Raises
    ------
    ValueError
        If the header contradicts itself, or declares a structure that no product has.
    """
    if primary and header.get("SIMPLE") is not True:
        raise ValueError(f"keyword SIMPLE is {header.get('SIMPLE')!r}, expected T")
    naxis = _structural(header, "NAXIS", 0, 4)
    axes = [_structural(header, f"NAXIS{i}", 0, MAX_AXIS) for i in range(1, naxis + 1)]
    bitpix = _structural(header, "BITPIX", -64, 64)
    if bitpix not in (8, 16, 32, 64, -32, -64):
        raise ValueError(f"keyword BITPIX is {bitpix}, expected 8, 16, 32, 64, -32 or -64")
    _check_plain_data(header)
    if hdu_kind(header) == "BINTABLE":
        if bitpix != 8:
            raise ValueError(f"keyword BITPIX of a table is {bitpix}, expected 8")
        _check_row_width(header, axes)
    return abs(bitpix) // 8 * math.prod(axes) if axes else 0


def _structural(header: Cards, name: str, low: int, high: int) -> int:
    value = header.get(name)
    if type(value) is not int or not low <= value <= high:
        found = "missing" if value is None else repr(value)
        raise ValueError(f"keyword {name} is {found}, expected an integer from {low} to {high}")
    return value


def _check_plain_data(header: Cards) -> None:
    """Reject a heap, groups, compression, and a scale that is not that of an integer type."""
    if header.get("PCOUNT", 0) != 0 or header.get("GCOUNT", 1) != 1:
        counts = f"PCOUNT {header.get('PCOUNT', 0)}, GCOUNT {header.get('GCOUNT', 1)}"
        raise ValueError(f"has a heap or groups ({counts}), expected none")
    if header.get("ZIMAGE") or header.get("ZTABLE"):
        raise ValueError("is compressed, expected plain data")
    scale, zero = header.get("BSCALE", 1), header.get("BZERO", 0)
    if scale != 1 or zero not in (0, 1 << 15, 1 << 31, 1 << 63, -128):
        raise ValueError(f"BSCALE {scale} and BZERO {zero} are not those of an integer type")


def _check_row_width(header: Cards, axes: Sequence[int]) -> None:
    width = row_width(header, _structural(header, "TFIELDS", 0, 999))
    if len(axes) != 2 or width != axes[0]:
        raise ValueError(f"columns need {width} bytes per row, NAXIS1 is {axes[:1]}")
    if width > MAX_ROW:
        raise ValueError(f"a row has {width} bytes, expected at most {MAX_ROW}")
