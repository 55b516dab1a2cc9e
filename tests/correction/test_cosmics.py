"""Tracks of cosmic rays: grouped, placed and shaped."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.correction.cosmics import tracks


def test_a_single_pixel_is_a_round_track() -> None:
    (track,) = tracks(np.array([4]), np.array([7]), np.array([300.0]), (10, 12))
    assert (track.x, track.y, track.pixels) == (7.0, 4.0, 1)
    assert track.ellipticity == pytest.approx(0.0, abs=1e-12)
    assert track.major == pytest.approx(np.sqrt(1 / 12))  # of a uniform pixel


def test_a_line_has_the_length_and_direction_it_was_given() -> None:
    # five pixels along the diagonal, equal charge: variance along it 2 * (4 + 1 + 0 + 1 + 4) / 5 =
    # 4, plus that of a pixel
    k = np.arange(5)
    (track,) = tracks(2 + k, 3 + k, np.full(5, 10.0), (12, 12))
    assert (track.x, track.y, track.pixels) == (pytest.approx(5.0), pytest.approx(4.0), 5)
    assert track.angle == pytest.approx(45.0)
    assert track.major == pytest.approx(np.sqrt(4 + 1 / 12))
    assert track.minor == pytest.approx(np.sqrt(1 / 12))


def test_pixels_that_touch_by_a_corner_belong_together_and_others_do_not() -> None:
    found = tracks(
        np.array([1, 2, 2, 6]), np.array([1, 2, 3, 3]), np.array([1.0, 1.0, 2.0, 5.0]), (8, 8)
    )
    assert [t.pixels for t in found] == [3, 1]
    # weighted by charge: (1 * 1 + 1 * 2 + 2 * 3) / 4
    assert found[0].x == pytest.approx(2.25)


def test_no_hits_are_no_tracks() -> None:
    none = np.zeros(0, np.int64)
    assert tracks(none, none, np.zeros(0), (5, 5)) == []


def test_a_pixel_outside_of_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"outside of an image of 5 x 4 pixels"):
        tracks(np.array([4]), np.array([0]), np.array([1.0]), (4, 5))
