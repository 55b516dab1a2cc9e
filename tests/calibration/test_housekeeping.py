"""Voltages and temperatures against their limits."""

from __future__ import annotations

import numpy as np

from tasks.calibration.housekeeping import judge

CCD = np.array([-45.0, -45.2, -44.0, -42.0, -50.0, np.nan])


def test_housekeeping_beyond_its_limits_is_counted() -> None:
    found = judge("HK_TEMP_FEE_CCD", "degC", CCD, (-46.0, -48.0), (-44.5, -43.0))
    # -44 is beyond the soft limit only, -42 and -50 beyond the hard ones, one is no number
    assert (found.beyond, found.missing) == ((1, 2), 1)
    assert (found.least, found.median, found.largest) == (-50.0, -45.0, -42.0)


def test_without_limits_and_with_a_hard_limit_within_the_soft_one_nothing_is_counted() -> None:
    for limits in ((), ((-48.0, -46.0), (-44.5, -43.0))):
        found = judge("HK_TEMP_FEE_CCD", "degC", CCD, *limits)
        assert not found.limited
        assert found.beyond == (0, 0)


def test_housekeeping_without_any_number_has_no_range() -> None:
    found = judge("thermFront_2", "degC", np.full(3, np.nan), (-1.0, -2.0), (1.0, 2.0))
    assert np.isnan([found.least, found.median, found.largest]).all()
    assert (found.beyond, found.missing) == ((0, 0), 3)
