"""Aperture photometry: exact sums in circles of all radii, and their errors."""

from __future__ import annotations

import warnings
from math import pi
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from photutils.aperture import CircularAperture
from scipy.special import erf

from schemas.light_curves import RADII
from tasks.numerics.geometry import circle_overlap
from tasks.photometry.apertures import (
    Collected,
    aperture_sums,
    flat_variance,
    flux_error,
    flux_variances,
    masked_fraction,
)
from tasks.simulation.cubes import window_mask
from tests.support.outside import SHARED

Floats = NDArray[np.float64]

FLIGHT = SHARED / "real" / "flight"

few = settings(max_examples=50, deadline=None)  # the first call may compile

# Weight, offset of x and y, sigma [pixel]: a defocused star of three blobs on a bright ring, a core
# and a wide halo.
STAR = [
    *((0.18, 9 * np.cos(a), 9 * np.sin(a), 2.5) for a in np.deg2rad([90, 210, 330])),
    *((0.0125, 10 * np.cos(a), 10 * np.sin(a), 1.6) for a in np.deg2rad(np.arange(0, 360, 15))),
    (0.10, 0.0, 0.0, 6.0),
    (0.06, 0.0, 0.0, 25.0),
]


def star(x: float, y: float, flux: float = 1e8, side: int = 200) -> Floats:
    """Return the image of a star, integrated over each pixel, without noise."""
    edges = np.arange(side + 1.0)
    image = np.zeros((side, side))
    for weight, dx, dy, sigma in STAR:
        along_x, along_y = (
            np.diff(erf((edges - c) / (sigma * np.sqrt(2)))) / 2 for c in (x + dx, y + dy)
        )
        image += flux * weight * np.outer(along_y, along_x)
    return image


def jitter(n: int, sigma: float = 0.3) -> tuple[Floats, Floats]:
    x, y = np.random.default_rng(11).normal(0, sigma, (2, n))
    return 100.3 + x, 99.8 + y


def test_sums_agree_with_exact_apertures_of_photutils() -> None:
    x, y = jitter(6)
    x[0], y[0] = 100.0, 100.0  # on a corner of four pixels
    x[1] = 100.5  # on the middle of a pixel
    images = np.array([star(*centre) for centre in zip(x, y, strict=True)])
    sums, _ = aperture_sums(images, x, y, RADII)
    for image, cx, cy, row in zip(images, x, y, sums, strict=True):
        oracle = [
            CircularAperture((cx - 0.5, cy - 0.5), r).do_photometry(image, method="exact")[0][0]
            for r in RADII
        ]
        # Demanded are 0.06 ppm; both are exact, so that rounding of 5000 float64 terms is all there
        # is.
        np.testing.assert_allclose(row, oracle, rtol=1e-12)


def test_images_of_float32_lose_nothing_but_the_rounding_of_their_pixels() -> None:
    x, y = jitter(6)
    images = np.array([star(*centre) for centre in zip(x, y, strict=True)])
    single, double = (aperture_sums(i, x, y, RADII)[0] for i in (images.astype(np.float32), images))
    # 0.02 ppm: 6e-8 a pixel, averaged over the hundreds of bright pixels; a float32 sum would lose
    # 0.7 ppm or more.
    np.testing.assert_allclose(single, double, rtol=2e-8)


def test_a_star_that_jitters_keeps_its_flux_at_25_pixels() -> None:
    x, y = jitter(40)
    images = np.array([star(*centre) for centre in zip(x, y, strict=True)])
    sums, _ = aperture_sums(images, x, y, [17, 25])
    noise = 1e6 * sums.std(axis=0) / sums.mean(axis=0)
    # Apertures take the signal as even inside a border pixel: that costs as much as the star is
    # steep there. For this star 0.2 ppm at R = 25 and 7 ppm at R = 17, where the demand is 1 and
    # 20.
    assert noise[1] < 1
    assert noise[0] < 20


@few
@given(
    x=st.floats(41, 44),
    y=st.floats(41, 44),
    radii=st.lists(st.floats(0.1, 40), min_size=1, max_size=6, unique=True),
)
def test_a_flat_image_of_ones_gives_the_area_of_the_circle(
    x: float, y: float, radii: list[float]
) -> None:
    sums, areas = aperture_sums(np.ones((1, 85, 85)), [x], [y], sorted(radii))
    # Demanded are 1e-9; left is the rounding of sums of up to 5000 terms.
    np.testing.assert_allclose(sums[0], pi * np.square(sorted(radii)), rtol=1e-12)
    np.testing.assert_allclose(areas[0], pi * np.square(sorted(radii)), rtol=1e-15)


@few
@given(x=st.floats(-20, 60), y=st.floats(-20, 60), seed=st.integers(0, 99))
def test_pixels_missing_or_outside_are_ignored_and_reduce_the_area(
    x: float, y: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image, mask = rng.normal(100, 10, (40, 40)), rng.random((40, 40)) < 0.05
    image[rng.random((40, 40)) < 0.02] = np.nan
    image[0, 0] = np.inf
    radii = np.array([3.0, 8.5, 17.0])
    sums, areas = aperture_sums(image[np.newaxis], [x], [y], radii, mask)
    good = np.isfinite(image) & ~mask
    for k, radius in enumerate(radii):
        inside = np.where(good, circle_overlap((40, 40), x, y, radius), 0.0)
        assert areas[0, k] == pytest.approx(
            inside.sum(), abs=2e-9
        )  # areas below 1e-9 are taken as none
        expected = (inside * np.where(good, image, 0.0)).sum() if areas[0, k] else np.nan
        assert sums[0, k] == pytest.approx(expected, rel=1e-12, nan_ok=True)  # rounding


def test_the_masked_fraction_is_the_part_of_the_area_that_is_missing() -> None:
    image = np.ones((1, 100, 100))
    image[:, :, 50:] = np.nan
    sums, areas = aperture_sums(image, [50.0], [50.0], [10.0, 20.0])
    np.testing.assert_allclose(masked_fraction(areas, [10.0, 20.0]), 0.5, rtol=1e-12)  # rounding
    np.testing.assert_allclose(sums, areas, rtol=1e-12)


def test_each_image_may_have_its_own_mask_and_position() -> None:
    images, mask = np.ones((2, 60, 60)), np.zeros((2, 60, 60), dtype=bool)
    mask[1, 30, 30] = True
    sums, _ = aperture_sums(images, [30.5, 30.5], [30.5, 30.5], [5.0], mask)
    np.testing.assert_allclose(sums[:, 0] - 25 * pi, [0, -1], rtol=0, atol=1e-12)  # rounding


def test_the_circular_window_leaves_a_centred_star_whole_and_cuts_one_at_its_rim() -> None:
    outside = ~window_mask(200, 200, 100, "circular")
    _, areas = aperture_sums(np.ones((2, 200, 200)), [100.5, 30.0], [100.5, 50.0], [40.0], outside)
    fraction = masked_fraction(areas, [40.0])[:, 0]
    assert fraction[0] == 0
    # A straight rim 14 pixels from the centre would cut off (acos t - t sqrt(1 - t^2)) / pi = 28.5
    # % with t = 14 / 40; this one bends inwards and cuts more.
    assert 0.285 < fraction[1] < 0.40


def test_an_image_without_position_has_no_flux_and_no_area() -> None:
    sums, areas = aperture_sums(
        np.ones((3, 90, 90)), [np.nan, 45.0, 1e300], [45.0, np.inf, 45.0], [15.0]
    )
    assert np.isnan(sums).all()
    assert not areas.any()


def test_no_images_give_no_sums() -> None:
    sums, areas = aperture_sums(np.ones((0, 90, 90)), [], [], RADII)
    assert sums.shape == areas.shape == (0, len(RADII))


def test_the_radii_are_those_of_the_products() -> None:
    assert len(RADII) == 27
    assert {15.0, 22.5, 25.0, 40.0} <= set(RADII)


def test_images_as_they_lie_in_a_fits_file_are_refused() -> None:
    with pytest.raises(ValueError, match=r"native float64 or float32, not .* of >f8"):
        aperture_sums(np.ones((1, 9, 9), dtype=">f8"), [4.0], [4.0], RADII)


@pytest.mark.parametrize("radii", [[], [0.0], [20.0, 15.0], [15.0, 15.0], [np.nan]])
def test_radii_that_do_not_ascend_are_refused(radii: list[float]) -> None:
    with pytest.raises(ValueError, match="radii must be positive and ascending"):
        aperture_sums(np.ones((1, 9, 9)), [4.0], [4.0], radii)


def test_a_centre_is_wanted_for_each_image() -> None:
    with pytest.raises(ValueError, match="2 images need as many centres"):
        aperture_sums(np.ones((2, 9, 9)), [4.0], [4.0], RADII)


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the mask is \(8, 9\)"):
        aperture_sums(np.ones((1, 9, 9)), [4.0], [4.0], RADII, mask=np.zeros((8, 9), dtype=bool))


# ---- errors


@pytest.mark.skipif(not FLIGHT.is_dir(), reason="the real light curves are not here")
@pytest.mark.parametrize(
    ("name", "ron"),
    [("PR110047", 6.8104), ("PR130057", 6.8108), ("PR149000", 6.8105), ("PR300024", 6.7308)],
)
def test_the_error_of_real_light_curves_is_photons_and_read_out_noise(
    name: str, ron: float
) -> None:
    path = next(FLIGHT.glob(f"CH_{name}_*SCI_COR_Lightcurve-DEFAULT_V0300.fits"))
    with (
        warnings.catch_warnings(action="ignore"),
        fits.open(path) as file,
    ):  # units of the SOC are not FITS units
        table, exposures = file[1].data, file[1].header["NEXP"]
        flux, background, dark, error = (
            table[c].astype(float) for c in ("FLUX", "BACKGROUND", "DARK", "FLUXERR")
        )
    # 1e-4 e- is the last digit of the published read-out noise: 2 pi R^2 n RON dRON against a
    # variance of 4e6 and more.
    np.testing.assert_allclose(
        flux_error(flux, background, dark, 25.0, exposures, ron), error, rtol=1e-6
    )


def test_a_negative_sum_has_no_error() -> None:
    assert np.isnan(flux_error(-1e6, 0.0, 0.0, 25.0, 1, 6.8))


def variance(*arguments: Any) -> Floats:
    """Return the sum of all terms."""
    terms = flux_variances(Collected(*arguments[:5]), *arguments[5:])
    return np.asarray(sum(terms.values(), np.float64(0)))


def test_the_background_error_of_a_faint_star_adds_29_ppm() -> None:
    # Published: a ring mean of 0.11 e-/pixel error is 213 e- in R25, 29 ppm at G = 10.4 in 60 s
    # (7.37e6 e-).
    area = pi * 25**2
    without, with_level = (
        variance(7.37e6, 0.0, 0.0, 0.0, 0.0, area, 1, 6.81, error) for error in (0.0, 0.11)
    )
    added = float(np.sqrt(with_level - without))
    assert added == pytest.approx(213, rel=0.02)  # both inputs are given to two digits
    assert 1e6 * added / 7.37e6 == pytest.approx(29, rel=0.02)


@given(
    flux=st.floats(0, 1e9),
    background=st.floats(0, 1e7),
    dark=st.floats(0, 1e6),
    hot=st.floats(0, 1e9),
)
def test_the_variance_without_further_terms_is_that_of_the_operational_pipeline(
    flux: float, background: float, dark: float, hot: float
) -> None:
    named = flux_error(flux, background, dark, 25.0, 3, 6.81) ** 2
    own = variance(flux, background, dark, 0.0, 0.0, pi * 25.0**2, 3, 6.81, 0.0)
    np.testing.assert_allclose(own, named, rtol=1e-14)  # rounding of a root and its square
    more = variance(flux, background, dark, hot, hot, pi * 25.0**2, 3, 6.81, 0.0)
    np.testing.assert_allclose(more, own + 2 * hot, rtol=1e-14)


def test_variances_of_images_and_radii_broadcast_and_are_named() -> None:
    flux, areas = np.full((4, 2), 1e6), np.full((4, 2), 700.0)
    collected = Collected(flux, 1e3, 1e3, 0.0, 5.0)
    terms = flux_variances(collected, areas, 2, np.full((4, 1), 7.0), np.full((4, 1), 0.1))
    assert set(terms) == {"STAR", "SKY", "DARK", "HOT", "SMEARED", "READ_OUT", "BACKGROUND"}
    assert {v.shape for v in terms.values()} == {(4, 2)}
    assert terms["READ_OUT"][0, 0] == 700 * 2 * 49


def test_negative_signal_adds_no_variance() -> None:
    assert variance(-100.0, -5.0, 3.0, -1.0, -1.0, 2.0, 1, 1.0, 0.5) == 3.0 + 2.0 + 1.0


def test_errors_of_the_flat_field_count_only_where_the_star_moves_over_them() -> None:
    # a ramp of 100 e-/pixel, moving by 0.3 pixel over errors of 0.1 %: 0.03 e- in each of pi R^2
    # pixels
    ramp = np.tile(100.0 * np.arange(80.0), (80, 1))
    error = np.full((80, 80), 1e-3)
    assert flat_variance(ramp, error, 40.0, 40.0, (0.0, 0.0), [25.0]) == 0
    moved = flat_variance(ramp, error, 40.0, 40.0, (0.3, 5.0), [25.0])
    assert moved[0] == pytest.approx(
        pi * 25**2 * 0.03**2, rel=1e-9
    )  # a ramp along x does not change along y


def test_a_flat_field_of_another_shape_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"star is \(80, 80\) pixels, the error of the flat field \(80, 79\)"
    ):
        flat_variance(np.zeros((80, 80)), np.zeros((80, 79)), 40.0, 40.0, (0.3, 0.3), [25.0])
