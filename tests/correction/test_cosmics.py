"""Tracks of cosmic rays: grouped, placed and shaped."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.correction.cosmics import find_tracks

FIRST = np.zeros(1, np.int64)


def test_a_single_pixel_is_a_round_track() -> None:
    track = find_tracks(FIRST, np.array([4]), np.array([7]), np.array([300.0]), (10, 12))
    assert (track.x, track.y, track.pixels) == (7.0, 4.0, 1)
    assert track.ellipticity == pytest.approx(0.0, abs=1e-12)
    assert track.major == pytest.approx(np.sqrt(1 / 12))  # of a uniform pixel


def test_a_line_has_the_length_and_direction_it_was_given() -> None:
    # five pixels along the diagonal, equal charge: variance along it 2 * (4 + 1 + 0 + 1 + 4) / 5 =
    # 4, plus that of a pixel
    k = np.arange(5)
    track = find_tracks(np.zeros(5, np.int64), 2 + k, 3 + k, np.full(5, 10.0), (12, 12))
    assert (track.x, track.y, track.pixels) == (pytest.approx(5.0), pytest.approx(4.0), 5)
    assert track.angle == pytest.approx(45.0)
    assert track.major == pytest.approx(np.sqrt(4 + 1 / 12))
    assert track.minor == pytest.approx(np.sqrt(1 / 12))


def test_pixels_that_touch_by_a_corner_belong_together_and_others_do_not() -> None:
    rows, columns = np.array([1, 2, 2, 6]), np.array([1, 2, 3, 3])
    charge = np.array([1.0, 1.0, 2.0, 5.0])
    found = find_tracks(np.zeros(4, np.int64), rows, columns, charge, (8, 8))
    assert found.pixels.tolist() == [3, 1]
    # weighted by charge: (1 * 1 + 1 * 2 + 2 * 3) / 4
    assert found.x[0] == pytest.approx(2.25)


def test_pixels_of_other_images_and_of_opposite_edges_do_not_touch() -> None:
    # in any order: the last pixel of a row and the first of the next, and one place twice
    image, rows, columns = np.array([3, 0, 3, 0]), np.array([1, 1, 0, 0]), np.array([0, 4, 4, 4])
    found = find_tracks(image, rows, columns, np.ones(4), (2, 5))
    assert found.image.tolist() == [0, 3, 3]
    assert found.pixels.tolist() == [2, 1, 1]
    assert found.x.tolist() == [4.0, 4.0, 0.0]
    image, column = np.array([0, 1]), np.full(2, 4)
    assert len(find_tracks(image, np.array([1, 0]), column, np.ones(2), (2, 5)).image) == 2


def test_no_hits_are_no_tracks() -> None:
    none = np.zeros(0, np.int64)
    assert len(find_tracks(none, none, none, np.zeros(0), (5, 5)).image) == 0


def test_a_pixel_outside_of_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"outside of an image of 5 x 4 pixels"):
        find_tracks(FIRST, np.array([4]), np.array([0]), np.array([1.0]), (4, 5))
