"""Tests of samples of a series."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.numerics.sample import spread_evenly


@given(st.integers(0, 3000), st.integers(1, 500))
def test_a_sample_has_both_ends_and_never_more_than_asked_for(count: int, most: int) -> None:
    kept = spread_evenly(count, most)
    assert len(kept) == min(count, most)
    assert (np.diff(kept) > 0).all()
    if count and most > 1:
        assert (kept[0], kept[-1]) == (0, count - 1)
