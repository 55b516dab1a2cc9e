"""The pixels of a window that are downlinked."""

from __future__ import annotations

import pytest

from tasks.simulation.cubes import window_mask


def test_the_circular_window_keeps_the_pixels_that_the_spacecraft_keeps() -> None:
    # Shares of zeros in sub-arrays and imagettes of the mission's simulator: 21.4625 % and 26 %.
    subarray = window_mask(200, 200, 100, "circular")
    assert (~subarray).mean() == 0.214625
    # 0.26 has two digits
    assert (~window_mask(35, 35, 17, "circular")).mean() == pytest.approx(0.26, abs=0.005)
    assert subarray[0, 100]
    assert not subarray[0, 99]
