"""PSF, lag of the attitude, field stars: kernels against a star that is known in closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import erf

from schemas.arrays import FloatArray
from tasks.numerics.geometry import circle_overlap
from tasks.scene.optics import (
    FINE,
    Shift,
    fit_star,
    frequencies,
    frequencies_x,
    motion_transfer,
    render,
    render_with_slopes,
    shifted,
    solve_changing_psf,
    to_grid,
    to_spectrum,
)
from tasks.scene.prior import without_outliers
from tasks.scene.psf import reference_psf, tapered, tidied
from tasks.scene.star_model import Shape, Warmth, telescope_temperature
from tasks.scene.stars import LITTLE, draw_stars, field_places, light_radius, phases
from tasks.scene.track import Track, estimate_lag
from tasks.visit.attitude import Attitude, target_track
from tests.support.lobed_star import LOBES, SIZE, moved, noisy_visit, solve_psf, star, visit


def test_a_psf_from_moved_and_blurred_images_predicts_another_one() -> None:
    psf = solve_psf(visit(40), SIZE, 1e-8)
    x, y = np.array([32.11, 32.5]), np.array([31.8, 32.3])
    truth = moved(x, y)
    model = render(psf, motion_transfer(x, y, SIZE))
    # noise-free images: what is left is the prior (1e-8) and the lobes' tails beyond the stamp
    # (1e-9)
    assert np.abs(model - truth).max() < 1e-7 * truth.max()
    assert model.sum() == pytest.approx(1.0, abs=1e-6)


def test_the_slopes_of_a_star_are_those_of_finite_differences() -> None:
    psf = solve_psf(visit(40), SIZE, 1e-8)
    transfer = motion_transfer(np.array([32.2]), np.array([31.7]), SIZE)
    _, dx, dy = render_with_slopes(psf, transfer)
    h = 1e-3
    for slope, (a, b) in ((dx, (h, 0.0)), (dy, (0.0, h))):
        numeric = (star(32.2 + a, 31.7 + b) - star(32.2 - a, 31.7 - b)) / (2 * h)
        # central differences of step 1e-3 are good to 1e-6 of the largest slope
        assert np.abs(slope - numeric).max() < 3e-6 * np.abs(numeric).max()


def test_shifting_a_transfer_function_is_moving_all_places() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(0, 1, (2, 20))
    direct = motion_transfer(x + 0.3, y - 1.2, SIZE)
    # single precision, in sums of 20 places
    assert np.abs(shifted(motion_transfer(x, y, SIZE), 0.3, -1.2) - direct).max() < 1e-6


def test_a_grid_and_its_spectrum_are_the_same_psf() -> None:
    psf = solve_psf(visit(10), SIZE, 1e-4)
    assert np.abs(to_spectrum(to_grid(psf)) - psf).max() < 1e-12  # rounding
    assert frequencies(SIZE).shape == (FINE * SIZE,)


def test_a_fit_finds_flux_shift_and_level() -> None:
    psf = solve_psf(visit(40), SIZE, 1e-8)
    images = render_with_slopes(psf, motion_transfer(np.array([32.0]), np.array([32.0]), SIZE))
    stamp = 5e5 * star(32.0, 32.0) + 7.0
    values, errors = fit_star(stamp, images, np.full((SIZE, SIZE), 1 / 100.0))
    # the prior of 1e-8 limits the flux to about as much
    assert values[0] == pytest.approx(5e5, rel=1e-6)
    assert values[3] == pytest.approx(7.0, abs=1e-3)
    assert np.abs(values[1:3]).max() < 1.0  # electron pixel: a shift of 2e-6 pixel
    assert (errors > 0).all()


def test_the_lag_of_the_attitude_is_recovered() -> None:
    rng = np.random.default_rng(2)
    time = np.arange(0.0, 4000.0)
    x, y = np.cumsum(rng.normal(0, 0.05, (2, time.size)), axis=1)
    track = Track(time, x, y, np.zeros_like(time), 59000.0)
    fine = np.arange(0.0, 3999.0, 0.05)
    middle = np.arange(60.0, 3900.0, 60.0)
    lag = 0.5
    means = [
        np.array([np.interp(fine[np.abs(fine - m - lag) < 30], time, v).mean() for m in middle])
        for v in (x, y)
    ]
    noise = 0.002
    measured = [m + 10.0 + rng.normal(0, noise, m.size) for m in means]
    found, error = estimate_lag(track, 59000.0 + middle / 86400.0, 60.0, *measured)
    assert abs(found - lag) < 4 * error
    assert error == pytest.approx(
        0.027, rel=0.4
    )  # noise of 0.002 pixel over a motion of 0.0065 pixel/s, 126 values


def test_without_motion_there_is_no_lag() -> None:
    time = np.arange(0.0, 1000.0)
    still = Track(time, np.zeros_like(time), np.zeros_like(time), np.zeros_like(time), 59000.0)
    middle = 59000.0 + np.arange(60.0, 900.0, 60.0) / 86400.0
    assert estimate_lag(still, middle, 60.0, np.zeros(middle.size), np.zeros(middle.size)) == (
        0.0,
        float("inf"),
    )


def test_north_is_up_and_east_to_the_left_at_roll_zero_and_north_turns_right() -> None:
    x, y = field_places(
        np.array([0.0, 10.0]),
        np.array([10.0, 0.0]),
        np.array([0.0, 90.0]),
        np.zeros(2),
        np.zeros(2),
        1.0,
    )
    # hand-worked: at roll 0 North is +y, East is -x; at 90 deg North is +x, East is +y
    np.testing.assert_allclose(x, [[0, 10], [-10, 0]], atol=1e-12)
    np.testing.assert_allclose(y, [[10, 0], [0, 10]], atol=1e-12)


def test_the_target_moves_against_the_line_of_sight() -> None:
    # the line of sight goes 1 arcsec North: the target falls 1 pixel at roll 0
    right, up = np.array([10.0, 10.0]), np.array([20.0, 20.0 + 1 / 3600])
    x, y = target_track(
        Attitude(np.arange(2.0), right, up, np.zeros(2), Path("attitude.fits")), (10.0, 20.0), 1.0
    )
    assert x[1] - x[0] == pytest.approx(0.0, abs=1e-9)
    assert y[1] - y[0] == pytest.approx(-1.0, abs=1e-6)  # rounding of degrees to arcsec


def test_drawn_stars_keep_their_flux_and_place() -> None:
    psf = to_grid(solve_psf(visit(40), SIZE, 1e-8))
    image = np.zeros((SIZE, SIZE))
    draw_stars(
        image,
        np.array([[30.3]]),
        np.array([[33.6]]),
        np.array([1000.0]),
        phases(psf),
        np.array([31.0]),
    )
    truth = 1000.0 * star(30.3, 33.6)
    # bilinear interpolation between samples half a pixel apart smooths the sharpest lobe (sigma
    # 2.5) by 0.6 %
    assert np.abs(image - truth).max() < 0.01 * truth.max()
    assert image.sum() == pytest.approx(1000.0, rel=2e-3)


def test_a_psf_that_breathes_is_found_with_its_change() -> None:
    rng = np.random.default_rng(5)
    images, warmth = [], rng.normal(0, 1, 60)
    wide = star(
        SIZE / 2, SIZE / 2
    )  # stands for the change: more light in the middle of the lobes than the mean has
    for t in warmth:
        x, y = (SIZE / 2 + rng.normal(0, 0.3) + rng.normal(0, 0.4, 30) for _ in range(2))
        # two per cent of the light goes from the lobes to one broad lobe as the telescope warms by
        # its scatter
        edges = np.arange(SIZE + 1) - 0.5
        broad = np.mean(
            [
                np.outer(*(np.diff(0.5 * erf((edges - c) / 7.0 / np.sqrt(2))) for c in (b, a)))
                for a, b in zip(x, y, strict=True)
            ],
            axis=0,
        )
        images.append(
            (
                1e6 * ((1 - 0.02 * t) * moved(x, y) + 0.02 * t * broad),
                motion_transfer(x, y, SIZE),
                1e6,
                1.0,
                float(t),
            )
        )
    mean, change = solve_changing_psf(images, SIZE, 1e-8, None, 1e-8)
    assert change is not None
    assert abs(to_grid(change).sum()) < 1e-9  # the light only moves
    transfer = motion_transfer(np.array([SIZE / 2]), np.array([SIZE / 2]), SIZE)
    model = render(mean + 1.5 * change, transfer)
    edges = np.arange(SIZE + 1) - 0.5
    profile = np.diff(0.5 * erf((edges - SIZE / 2) / 7.0 / np.sqrt(2)))
    truth = 0.97 * wide + 0.03 * np.outer(profile, profile)
    # the broad lobe reaches beyond the stamp by 5e-6 of the light, which the totals make up for
    assert np.abs(model - truth).max() < 1e-4 * truth.max()


def test_a_reference_psf_stands_with_its_centre_of_light_in_the_middle() -> None:
    plane = 3.0 * star(90.3, 104.6, 200)
    spectrum = reference_psf(plane, SIZE)
    assert spectrum is not None
    model = render(spectrum, motion_transfer(np.array([SIZE / 2]), np.array([SIZE / 2]), SIZE))
    # the lobes' centre of light within 25 pixels, of which the widest lobe leaves 1e-9 outside
    shares = np.array([(x, y, share) for x, y, _, share in LOBES])
    centre = shares[:, 2] @ shares[:, :2] / shares[:, 2].sum()
    truth = star(SIZE / 2 - centre[0], SIZE / 2 - centre[1])
    # sharp lobes (sigma 2.5) hold next to nothing beyond the pixels' Nyquist frequency; the centre
    # rests within 1e-3 pixel
    assert np.abs(model - truth).max() < 1e-3 * truth.max()


def test_a_reference_without_light_is_no_prior() -> None:
    assert reference_psf(np.zeros((200, 200)), SIZE) is None
    assert reference_psf(None, SIZE) is None


def test_a_level_that_is_known_is_not_fitted() -> None:
    psf = solve_psf(visit(40), SIZE, 1e-8)
    images = render_with_slopes(psf, motion_transfer(np.array([32.0]), np.array([32.0]), SIZE))
    weight = np.full((SIZE, SIZE), 1 / 100.0)
    stamp = 5e5 * star(32.0, 32.0)
    free, free_error = fit_star(stamp + 1.0, images, weight)
    held, held_error = fit_star(stamp + 1.0, images, weight, 1e-6)
    assert free[3] == pytest.approx(1.0, abs=1e-3)
    assert abs(held[3]) < 1e-6
    assert held_error[0] < free_error[0]


def test_images_far_from_the_sample_s_temperature_are_held_at_its_edge() -> None:
    class Metadata:
        declared = None

        def column(self, name: str) -> FloatArray:
            return np.array([-10.0, np.nan, -8.0, 50.0])

    class Images:
        count, metadata, mjd = 4, Metadata(), np.arange(4.0)

    # a missing temperature is interpolated
    np.testing.assert_array_equal(Warmth(-10.0, 0.5).parameter(Images()), [0.0, 2.0, 4.0, 4.0])  # type: ignore[arg-type]
    np.testing.assert_array_equal(Warmth(0.0, 0.0).parameter(Images()), np.zeros(4))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1.0, -1.0, 1e30, -1e30])
def test_one_absurd_pixel_of_the_reference_psf_has_the_light_of_those_around_it(
    value: float,
) -> None:
    j, i = np.mgrid[:60, :60] - 30.0
    psf = np.exp(-np.abs(np.hypot(i, j) - 10) / 2)
    psf /= psf.sum()
    spoilt, warnings = psf.copy(), []  # type: tuple[FloatArray, list[str]]
    assert without_outliers(psf, warnings) is psf
    spoilt[30, 41] = value
    found = without_outliers(spoilt, warnings)
    assert "reference PSF: 1 of 3600 pixels" in warnings[0]
    assert found[30, 41] == pytest.approx(psf[30, 41], rel=0.3)  # the ring is two pixels wide
    assert (found == psf).sum() == 3599


def test_a_glitch_of_the_telescope_s_temperature_changes_neither_its_scatter_nor_an_image() -> None:
    values = -11.0 + 0.3 * np.sin(np.arange(60) / 9)
    spoilt = values.copy()
    spoilt[20] = 40.0

    class Metadata:
        declared = None

        def __init__(self, values: FloatArray) -> None:
            self.column = lambda _: values.copy()

        def present(self) -> dict[str, int]:
            return {"thermFront_2": 1}

    class Images:
        count, mjd = 60, np.arange(60.0)

        def __init__(self, values: FloatArray) -> None:
            self.metadata = Metadata(values)

    warnings: list[str] = []
    chosen = np.arange(60)
    sound = telescope_temperature(Images(values), chosen, warnings)  # type: ignore[arg-type]
    assert warnings == []
    warmth = telescope_temperature(Images(spoilt), chosen, warnings)  # type: ignore[arg-type]
    assert warnings == [
        "thermFront_2: of 60 values, 1 far from their neighbours (first at MJD 20.00000): "
        "interpolated in time"
    ]
    # the neighbours give the temperature to 0.01 degrees
    assert (warmth.middle, warmth.spread) == pytest.approx((sound.middle, sound.spread), abs=0.01)
    found = warmth.parameter(Images(spoilt))  # type: ignore[arg-type]
    assert found == pytest.approx(sound.parameter(Images(values)), abs=0.05)  # type: ignore[arg-type]


def test_a_bright_star_is_drawn_further_out_than_a_faint_one_and_none_without_light() -> None:
    # a PSF that falls as exp(-r / 4 pixel), 1e-3 of the light in the pixel at its centre
    j, i = np.mgrid[: 2 * SIZE, : 2 * SIZE] - SIZE
    psf = 1e-3 / FINE**2 * np.exp(-np.hypot(i, j) / FINE / 4)
    radius = light_radius(np.array([1e6, 1e3, 100.0, 1e12]), psf)
    # hand-worked: r = 4 ln(1e-3 F / LITTLE), counted in whole pixels
    assert radius[0] == np.ceil(4 * np.log(1e3 / LITTLE))
    assert radius[1] == np.ceil(4 * np.log(1.0 / LITTLE))
    assert radius[2] == 0
    assert radius[3] == SIZE / 2 - 1  # the PSF is known no further


@pytest.mark.parametrize(
    ("repetition", "span"),
    [
        (0.94, 39 * 0.94 + 0.5),  # the read-out takes longer than the exposure
        (0.5, 20.0),  # one exposure after the other
        (0.0, 20.0),  # nothing tells
    ],
)
def test_a_stack_lasts_from_its_first_exposure_to_its_last(repetition: float, span: float) -> None:
    time = np.arange(100.0)
    track = Track(time, time, 0 * time, 0 * time, 59000.0, repetition)
    assert track.span(40, 0.5) == pytest.approx(span)
    x, _ = track.during(59000.0 + 50 / 86400, track.span(40, 0.5), 0.0)
    assert np.ptp(x) == pytest.approx(span, abs=2.0)  # samples of a second at both ends


def test_places_at_a_time_are_those_between_the_samples_and_the_roll_does_not_jump() -> None:
    time = np.arange(100.0)
    track = Track(time, 0.1 * time, -0.2 * time, (359.0 + 0.1 * time) % 360.0, 59000.0)
    seconds = np.array([-10.0, 0.0, 9.5])
    x, y, roll = track.at(seconds, 59000.0 + 50 / 86400, 20.0, 0.0)
    # samples 40 to 59 make the mean: 49.5 s
    np.testing.assert_allclose(x, 0.1 * (seconds + 0.5), atol=1e-6)
    np.testing.assert_allclose(y, -0.2 * (seconds + 0.5), atol=1e-6)
    np.testing.assert_allclose(roll % 360.0, (359.0 + 0.1 * (50 + seconds)) % 360.0, atol=1e-5)


def test_light_within_the_default_aperture_does_not_change_with_the_temperature() -> None:
    j, i = np.mgrid[-128:128, -128:128] / 2.0
    away = np.hypot(i, j)
    mean, change = np.exp(-((away / 12) ** 2) / 2), 0.1 * np.exp(-((away / 20) ** 2) / 2)
    shape = tidied(to_spectrum(mean / mean.sum()), to_spectrum(change / mean.sum()), 40.0)
    assert shape.change is not None
    moved = to_grid(shape.change)
    assert abs(moved[away < 25].sum()) < 1e-9
    assert moved[(away > 25) & (away < 40)].sum() > 1e-3  # the wings gain
    assert np.abs(moved[away >= 40.5]).max() < 1e-12


def scatter_with_place(psf: Shape, radius: float) -> float:
    """Return the relative scatter of the light in a circle over places within a pixel."""
    light = []
    for y, x in np.ndindex(4, 4):
        place = SIZE / 2 + x / 4, SIZE / 2 + y / 4
        image = render(psf.mean, motion_transfer(*(np.array([c]) for c in place), SIZE))
        share = circle_overlap(image.shape, place[0] + 0.5, place[1] + 0.5, radius)
        light.append(float((image * share).sum()))
    return float(np.std(light) / np.mean(light))


@pytest.mark.parametrize("sky_error", [0.0, 5.0])
def test_light_in_an_aperture_does_not_depend_on_the_place_within_a_pixel(sky_error: float) -> None:
    # errors of the sky, of neighbours and of the level are aliased onto one cycle per pixel
    images = noisy_visit(40, sky_error)
    mean, _ = solve_changing_psf(images, SIZE, 1e-4, None, None)
    psf = tapered(tidied(mean, None, 25.0))
    assert scatter_with_place(psf, 20.0) < 20e-6
    # no light is lost: photons and floor, at most doubled as four frequencies are separated
    model = render(psf.mean, motion_transfer(np.array([32.3]), np.array([31.8]), SIZE))
    noise = np.sqrt((1e6 + 100 * SIZE**2) / len(images)) / 1e6
    assert np.sqrt(((model - star(32.3, 31.8)) ** 2).sum()) < 2 * noise


def test_one_cycle_per_pixel_holds_no_light() -> None:
    grid = np.random.default_rng(5).random((2 * SIZE, 2 * SIZE))
    psf = tapered(Shape(to_spectrum(grid), to_spectrum(grid)))
    assert psf.change is not None
    rows, columns = (np.abs(k) for k in (frequencies(SIZE), frequencies_x(SIZE)))
    for spectrum in (psf.mean, psf.change):
        assert not spectrum[rows == 1.0].any()
        assert not spectrum[:, columns == 1.0].any()
    kept = np.ix_(rows < 0.95, columns < 0.95)
    np.testing.assert_array_equal(psf.mean[kept], to_spectrum(grid)[kept])


def test_a_fit_without_information_has_no_result() -> None:
    images, nothing = np.zeros((3, SIZE, SIZE)), np.zeros((SIZE, SIZE))
    for weight in (nothing, nothing + 1.0):  # no pixel, or no light
        values, errors = fit_star(nothing, images, weight)
        assert not values.any()
        assert np.isinf(errors).all()


def test_a_shift_is_the_transfer_function_of_a_place() -> None:
    psf, blur = solve_psf(visit(10), SIZE, 1e-4), motion_transfer(*np.ones((2, 1)), SIZE)
    direct = render_with_slopes(psf, motion_transfer(np.array([32.3]), np.array([31.1]), SIZE))
    moved_there = render_with_slopes(psf, blur, Shift.by(31.3, 30.1, SIZE))
    # transfer functions in single precision, in which a shift is a part of them or not
    assert np.abs(direct - moved_there).max() < 1e-7 * direct.max()
