"""Codes of the bad pixel map: unknown ones, and ones that would replace the star by its model."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.flags import BAD_PIXEL_CODES
from tasks.scene.prior import known_codes, plausible_codes

SIDE = 200


def blank() -> np.ndarray:
    return np.zeros((SIDE, SIDE))


@pytest.mark.parametrize("code", [-32768, -3, 4, 77, 32767, 0.5, 1e30, -1e6, np.nan])
@pytest.mark.parametrize("everywhere", [False, True])
def test_unknown_codes_count_as_good_pixels_and_are_counted(code: float, everywhere: bool) -> None:
    codes, warnings = blank(), []
    codes[20, 30], codes[0, 0] = code, 1
    if everywhere:
        codes[:] = code
    found = plausible_codes(codes, warnings)
    assert found.sum() == (0 if everywhere else 1)
    count = SIDE**2 if everywhere else 1
    assert warnings[0].startswith(
        f"bad pixel map: {count} of 40000 pixels of the window have an unknown code (the first, "
    )
    assert len(warnings) == 1
    # the cast to integers has a meaning
    assert np.isin(known_codes(codes).astype(np.int64), BAD_PIXEL_CODES).all()


@pytest.mark.parametrize(
    ("code", "most", "words"),
    [(-2, 400, "are dead, more than 1%"), (3, 4000, "are telegraphic, more than 10%")],
)
def test_codes_that_are_far_too_many_count_as_good_pixels(code: int, most: int, words: str) -> None:
    for count in (1, most, most + 1, SIDE**2):
        codes, warnings = blank(), []
        codes.flat[:count] = code
        found = plausible_codes(codes, warnings)
        if count <= most:
            np.testing.assert_array_equal(found, codes)
            assert warnings == []
        else:
            assert (found == 0).all()
            assert f"bad pixel map: {count} of 40000 pixels of the window {words}" in warnings[0]


@pytest.mark.parametrize("code", [-1, 1, 2])
def test_codes_that_change_no_pixel_may_be_everywhere(code: int) -> None:
    warnings: list[str] = []
    assert (plausible_codes(np.full((SIDE, SIDE), float(code)), warnings) == code).all()
    assert warnings == []
