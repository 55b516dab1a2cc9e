"""Arithmetic of CHECKSUM and DATASUM (FITS standard 4.0, section 4.4.2.7 and appendix J)."""

from __future__ import annotations

import numpy as np


def ones_complement_sum(data: bytes | memoryview, start: int = 0) -> int:
    """Return the 32-bit ones'-complement sum of big-endian words, added to `start`.

    The length of `data` is a multiple of 4.
    """
    return folded(start + int(np.frombuffer(data, dtype=">u4").sum(dtype=np.uint64)))


def folded(total: int) -> int:
    """Return a sum of words with its carries added at the low end, as ones' complement requires."""
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def encode_checksum(total: int) -> str:
    """Return the 16 characters that make an HDU with the sum `total` add up to all ones."""
    value = 0xFFFFFFFF - total
    characters = np.zeros((4, 4), dtype=int)
    for byte in range(4):
        quotient, remainder = divmod((value >> (24 - 8 * byte)) & 0xFF, 4)
        four = np.full(4, quotient + 48)
        four[0] += remainder
        while any(58 <= c <= 64 or 91 <= c <= 96 for c in four):
            for i in (0, 2):
                if any(58 <= c <= 64 or 91 <= c <= 96 for c in four[i : i + 2]):
                    four[i] += 1
                    four[i + 1] -= 1
        characters[:, byte] = four
    text = "".join(chr(c) for c in characters.ravel())
    return text[-1] + text[:-1]
