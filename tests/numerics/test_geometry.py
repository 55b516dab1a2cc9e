"""Geometry: overlap of circle and pixel, mean roll angle, projection of the sky."""

from __future__ import annotations

from math import pi, sqrt

import numpy as np
import pytest
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from photutils.geometry import circular_overlap_grid

from tasks.numerics.geometry import (
    cd_matrix,
    circle_overlap,
    circle_sums,
    mean_angle,
    pixel_overlap,
    reference_pixel,
    sky_to_tangent,
)
from tasks.numerics.robust import ring_statistics

in_its_own_time = settings(deadline=None)  # the first call may compile

CENTRES = st.floats(-1, 61)

INNER_CENTRES = st.floats(29, 31)

RADII = st.floats(0.05, 28)

ANGLES = st.floats(0, 360, exclude_max=True)

# ---- circle and pixel


@in_its_own_time
@given(x=INNER_CENTRES, y=INNER_CENTRES, radius=RADII)
def test_the_overlaps_of_a_circle_add_up_to_its_area(x: float, y: float, radius: float) -> None:
    # 1e-12: rounding of some thousand terms in float64; the series of the segments is cut at 4e-14
    # a pixel.
    assert circle_overlap((60, 60), x, y, radius).sum() == pytest.approx(pi * radius**2, rel=1e-12)


@in_its_own_time
@given(x=CENTRES, y=CENTRES, radius=RADII)
def test_overlaps_agree_with_photutils_wherever_the_circle_lies(
    x: float, y: float, radius: float
) -> None:
    oracle = circular_overlap_grid(-x, 60 - x, -y, 60 - y, 60, 60, radius, 1, 1)
    # 1e-10 pixel: photutils finds crossings as roots of a quadratic, which cancel where a circle
    # only touches a line.
    np.testing.assert_allclose(circle_overlap((60, 60), x, y, radius), oracle, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("dx", "dy", "radius", "area"),
    [
        (-0.5, -0.5, 0.5, pi / 4),  # circle inscribed in the pixel
        (0.0, 0.0, 1.0, pi / 4),  # a quarter of the unit circle
        (-0.5, -0.5, 1.0, 1.0),  # corners at 0.707 lie inside
        (1.0, 0.0, 1.0, 0.0),  # touching from outside
        (0.5, -0.5, 1.0, sqrt(3) / 4 + pi / 6 - 0.5),
    ],
)
def test_overlaps_worked_by_hand(dx: float, dy: float, radius: float, area: float) -> None:
    # The last: integral of sqrt(1 - y^2) - 0.5 for y from -0.5 to 0.5.
    assert pixel_overlap(dx, dy, radius) == pytest.approx(
        area, abs=1e-15
    )  # a few units in the last place


def test_a_circle_without_radius_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"the radius 0.0, expected a finite centre and a positive radius"
    ):
        circle_overlap((5, 5), 2.0, 2.0, 0.0)


def test_a_circle_without_place_is_refused() -> None:
    with pytest.raises(ValueError, match="finite centre"):
        circle_overlap((5, 5), np.nan, 2.0, 1.0)


# ---- roll angle


@given(middle=ANGLES, rate=st.floats(-0.3, 0.3), length=st.integers(1, 200))
def test_the_mean_angle_of_a_steady_rotation_is_its_middle_through_north_too(
    middle: float, rate: float, length: int
) -> None:
    times = np.arange(length, dtype=float)
    angles = np.mod(middle + rate * (times - times.mean()), 360)
    mean = mean_angle(times, angles, [0.0], [length])[0]
    assert 0 <= mean < 360
    # 1e-9 deg: rounding of angles of up to 360 deg (6e-14) and of sums of 200 unit vectors.
    assert abs((mean - middle + 180) % 360 - 180) < 1e-9


def test_the_mean_of_350_and_20_degrees_is_5_degrees() -> None:
    np.testing.assert_allclose(
        mean_angle([0, 1], [350, 20], [0], [2]), [5], rtol=0, atol=1e-12
    )  # rounding


def test_a_sample_counts_in_the_exposure_during_which_it_was_taken() -> None:
    means = mean_angle([0, 1, 2, 3], [10, 20, 30, np.nan], [0, 1.5, 2, 3], [2, 2.5, 4, 4])
    # Means of (10, 20), (30), (30 and a missing one), and of nothing.
    np.testing.assert_allclose(means, [15, 30, 30, np.nan], rtol=0, atol=1e-12)  # rounding


def test_an_angle_just_below_zero_does_not_become_360() -> None:
    assert mean_angle([0], [-1e-15], [0], [1])[0] == 0


def test_directions_that_cancel_have_no_mean() -> None:
    assert np.isnan(mean_angle([0, 1], [0, 180], [0], [2])[0])


def test_attitude_out_of_order_is_refused() -> None:
    with pytest.raises(ValueError, match="attitude times are not in ascending order"):
        mean_angle([1, 0], [5, 5], [0], [1])


def test_attitude_of_unequal_columns_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) times for \(3,\) angles"):
        mean_angle([0, 1], [1, 2, 3], [0], [1])


# ---- sky and pixel


@given(ra0=ANGLES, dec0=st.floats(-85, 85), roll=ANGLES)
def test_matrix_and_reference_pixel_make_the_wcs_of_astropy(
    ra0: float, dec0: float, roll: float
) -> None:
    offset, position, scale = np.array([180, 740]), np.array([281.3, 839.6]), 1.002
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra0, dec0]
    wcs.wcs.crpix = reference_pixel(position, offset)
    wcs.wcs.cd = cd_matrix(roll, scale)
    x, y = np.meshgrid(np.linspace(180, 380, 5), np.linspace(740, 940, 5))
    # numpy index = edge-based position - window offset - 0.5
    sky = wcs.wcs_pix2world(x - offset[0] - 0.5, y - offset[1] - 0.5, 0)
    xi, eta = sky_to_tangent(*sky, ra0, dec0)
    # x = X0 + (-xi cos phi + eta sin phi) / s, y = Y0 + (eta cos phi + xi sin phi) / s.
    # 1e-7 pixel: rounding of right ascension, at most 85 deg off the equator.
    cos, sin = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    right, up = (-xi * cos + eta * sin) / scale, (eta * cos + xi * sin) / scale
    np.testing.assert_allclose(position[0] + right, x, rtol=0, atol=1e-7)
    np.testing.assert_allclose(position[1] + up, y, rtol=0, atol=1e-7)


def test_standard_coordinates_on_a_meridian_are_tangents() -> None:
    xi, eta = sky_to_tangent([10, 10], [45, 0], 10, 0)
    np.testing.assert_allclose(xi, [0, 0], rtol=0, atol=1e-9)  # rounding
    np.testing.assert_allclose(eta, [180 * 3600 / pi, 0], rtol=1e-14, atol=1e-9)  # tan 45 deg = 1


def test_the_far_half_of_the_sky_has_no_place_on_the_tangent_plane() -> None:
    assert np.isnan(sky_to_tangent([180.0, 91.0], [0.0, 0.0], 0.0, 0.0)).all()


def test_the_first_pixel_of_the_full_ccd_has_its_centre_at_crpix_1() -> None:
    assert reference_pixel(0.5, 0) == 1.0
    np.testing.assert_array_equal(
        cd_matrix([0.0, 90.0], 3600.0).round(15), [[[-1, 0], [0, 1]], [[0, 1], [1, 0]]]
    )


@pytest.mark.parametrize("place", [-11.0, 51.0, 1e12, -1e30, 1e308])
def test_circles_far_from_the_image_share_nothing_with_it(place: float) -> None:
    # a centre of 1e30 has no integer that could be an index
    for x, y in ((place, 20.0), (20.0, place)):
        assert circle_overlap((40, 40), x, y, 10.0).sum() == 0.0
        assert circle_sums(np.ones((1, 40, 40)), np.array([x]), np.array([y]), 10.0) == 0.0


@pytest.mark.parametrize("place", [-31.0, 71.0, 1e12, -1e30, 1e308, np.nan, np.inf])
def test_rings_far_from_the_image_have_no_pixels(place: float) -> None:
    out = np.zeros((1, 4))
    ring_statistics(np.ones((1, 40, 40)), np.array([place]), np.array([20.0]), 10.0, 30.0, 3.0, out)
    np.testing.assert_array_equal(out, [[np.nan, np.nan, np.nan, 0.0]])
