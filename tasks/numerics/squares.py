"""The median of the square of pixels around each pixel.

A network of comparators sorts as many values as the square holds. Each comparator acts on a block
of rows at once, which is two to five times as fast as to select among the pixels of one square
after the other.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from schemas.arrays import FloatArray

ROWS = 16  # of a block; copies of a block for every pixel of a square stay in the processor's cache


class Comparator(NamedTuple):
    """Puts the smaller of two values in the first place; says which of the two are needed."""

    first: int
    second: int
    smaller: bool
    larger: bool


@lru_cache
def median_network(n: int) -> tuple[Comparator, ...]:
    """Return the comparators that bring the median of an odd number `n` of values to the middle.

    They are those of Batcher's odd-even merge sort (1968, AFIPS Conf. Proc. 32, 307) on which the
    value in the middle depends.
    """
    pairs = []
    for merged in (1 << k for k in range(n.bit_length())):
        for apart in (merged >> k for k in range(merged.bit_length())):
            for begin in range(apart % merged, n - apart, 2 * apart):
                pairs += [
                    (i, i + apart)
                    for i in range(begin, min(begin + apart, n - apart))
                    if i // (2 * merged) == (i + apart) // (2 * merged)
                ]
    needed, kept = {n // 2}, []
    for a, b in reversed(pairs):
        if a in needed or b in needed:
            kept.append(Comparator(a, b, a in needed, b in needed))
            needed |= {a, b}
    return tuple(reversed(kept))


def median_of_squares(image: FloatArray, side: int) -> FloatArray:
    """Return the median of the square around each pixel, shape (ny, nx).

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Image without NaN. Pixels beyond its edge have the value of the nearest pixel.
    side : int
        Side of the square, odd [pixel].

    Raises
    ------
    ValueError
        If the side is even.
    """
    if side % 2 == 0:
        raise ValueError(f"a square of {side} pixels a side has no pixel in its middle")
    ny, nx = image.shape
    padded, medians = np.pad(image, side // 2, mode="edge"), np.empty_like(image)
    for top in range(0, ny, ROWS):
        rows = min(ROWS, ny - top)
        shifted = [
            padded[top + j : top + j + rows, i : i + nx].copy()
            for j in range(side)
            for i in range(side)
        ]
        medians[top : top + rows] = _median_of(shifted)
    return medians


def _median_of(values: list[FloatArray]) -> FloatArray:
    """Return the median of an odd number of arrays, which are changed."""
    spare = np.empty_like(values[0])
    for a, b, smaller, larger in median_network(len(values)):
        if smaller and larger:
            np.minimum(values[a], values[b], out=spare)
            np.maximum(values[a], values[b], out=values[b])
            values[a], spare = spare, values[a]
        elif smaller:
            np.minimum(values[a], values[b], out=values[a])
        else:
            np.maximum(values[a], values[b], out=values[b])
    return values[len(values) // 2]
