"""The simulated physics: each effect against a formula, brute force or a number worked by hand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time
from scipy import ndimage, stats

from tasks.photometry.apertures import aperture_sums
from tasks.simulation import (
    bias,
    charge,
    cosmics,
    dark,
    drawing,
    flat,
    gain,
    layout,
    light,
    linearity,
    psf_file,
    spacecraft,
    spectrum,
    spikes,
    streaks,
)
from tasks.simulation.camera import Camera, Charges, MarginHits
from tasks.simulation.case import Case
from tasks.simulation.cosmics import NONE
from tasks.simulation.layout import Window
from tasks.simulation.light import Motion, Optics, Scene
from tasks.simulation.observatory import Observatory, all_conditions
from tasks.simulation.plan import Plan
from tasks.simulation.psf import WINGS, Psf, flight_like_psf, wings

Floats = np.ndarray

MIDDLE = Window(412, 412, 200, 200)

OFF: dict[str, object] = {
    **dict.fromkeys(
        (
            "cosmic_rays",
            "smearing",
            "dark",
            "hot",
            "warm",
            "telegraphic",
            "cti",
            "flat",
            "nonlinearity",
        ),
        0.0,
    ),
    **dict.fromkeys(
        ("halo", "ghost", "zodiacal", "stray_light", "breathing", "psf_position", "jitter", "blur"),
        0.0,
    ),
    **dict.fromkeys(("bias_structure", "bias_drift", "gain_drift", "stars", "variable_stars"), 0.0),
    **dict.fromkeys(("noise", "rounding", "saturation", "transit"), False),
    "near_stars": 0,
}

TINY: dict[str, object] = {
    "images": 1,
    "nexp": 1,
    "width": 48,
    "height": 48,
    "window_x": 480,
    "window_y": 480,
    "saa": "never",
    "occultation": "never",
    "start": "2024-03-10T08:00:00",
}


def expose(seed: int = 3, **settings: object) -> Floats:
    """Return the raw values of the first exposure of a visit with only these effects [ADU]."""
    plan = Plan(Case.model_validate({**TINY, **OFF, **settings}), seed)
    observatory = Observatory(plan, plan.case.window, plan.mode)
    return observatory.expose(plan.rng(4, 0), all_conditions(plan)[0]).image


@pytest.mark.parametrize(
    ("name", "once", "twice", "others", "tolerance"),
    [
        # the tolerance is 1e-6, rounding of sums, where the effect is linear
        ("dark", 1.0, 2.0, {}, 1e-6),
        ("hot", 1.0, 2.0, {}, 1e-6),
        ("telegraphic", 1.0, 2.0, {}, 1e-6),
        ("flat", 1.0, 2.0, {}, 1e-6),
        ("halo", 1.0, 2.0, {}, 1e-6),
        ("ghost", 1.0, 2.0, {}, 1e-6),
        ("zodiacal", 1.0, 2.0, {}, 1e-6),
        ("stray_light", 50.0, 100.0, {}, 1e-6),
        ("smearing", 1.0, 2.0, {}, 1e-6),
        ("bias_structure", 1.0, 2.0, {}, 1e-6),
        ("bias_drift", 1.0, 2.0, {}, 1e-6),
        ("gain_drift", 500.0, 1000.0, {}, 1e-4),  # 17 s after the start: second order of a voltage
        ("nonlinearity", 0.5, 1.0, {}, 0.02),  # the inverse of a curve that bends by 1 %
        ("cti", 1.0, 2.0, {}, 0.03),  # faint pixels are at the limit of the law
        (
            "psf_position",
            1.0,
            2.0,
            {"window_x": 100, "window_y": 900},
            0.05,
        ),  # a weight is a product of two slopes
        ("breathing", 1.0, 2.0, {}, 0.01),
        ("psf_error", 0.005, 0.01, {}, 0.05),  # second order of the size
        ("linearity_error", 0.1, 0.2, {"nonlinearity": 1.0}, 0.01),
        ("flat_error", 0.001, 0.002, {}, 1e-6),
        ("dark_error", 0.01, 0.02, {"dark": 1.0}, 1e-6),
        ("bias_error", 0.1, 0.2, {}, 1e-6),
    ],
)
def test_a_scale_of_zero_switches_an_effect_off_and_twice_the_scale_doubles_it(
    name: str, once: float, twice: float, others: dict[str, object], tolerance: float
) -> None:
    zero, single, double = (expose(**{**others, name: value}) for value in (0.0, once, twice))
    without = expose(**others)
    assert np.array_equal(zero, without)
    change = single - zero
    assert np.abs(change).max() > 0
    assert (change * (double - zero)).sum() / (change**2).sum() == pytest.approx(2.0, rel=tolerance)


@pytest.mark.parametrize(
    ("name", "off", "on", "others"),
    [
        ("noise", False, True, {}),
        ("rounding", False, True, {}),
        ("saturation", False, True, {"magnitude": 4.0}),
        ("cosmic_rays", 0.0, 100.0, {}),
        ("streaks", 0.0, 1000.0, {"images": 60}),
        ("spikes", 0.0, 1000.0, {"images": 60, "zodiacal": 1.0}),
        ("warm", 0.0, 0.02, {}),
        ("near_stars", 0, 20, {}),
        ("stars", 0.0, 3000.0, {"nearest": 0.0}),
        ("more_stars", (), ((5.0, 5.0, 10.0, 5000.0),), {}),
        ("transit", False, True, {}),
        ("granulation", 0.0, 1.0, {}),
        ("jitter", 0.0, 0.3, {}),
        ("blur", 0.0, 1.0, {"jitter": 0.3}),
    ],
)
def test_a_switch_switches(name: str, off: object, on: object, others: dict[str, object]) -> None:
    without, zero, with_it = (
        expose(**others),
        expose(**{**others, name: off}),
        expose(**{**others, name: on}),
    )
    assert np.array_equal(without, zero)
    assert np.abs(with_it - zero).max() > 1e-6


def test_photons_and_read_out_have_the_noise_of_poisson_and_of_the_amplifier() -> None:
    case = Case.model_validate(
        {**TINY, **OFF, "noise": True, "rounding": True, "width": 64, "height": 64}
    )
    camera = Camera(
        case,
        layout.read_out_mode(20.0),
        Window(480, 480, 64, 64),
        60000.0,
        np.random.default_rng(0),
    )
    rng, light_level, factor = np.random.default_rng(1), 5000.0, 0.514
    dark_ = np.zeros((64, 64))
    telegraphic = np.zeros(camera.telegraphs.level.size)
    charges = Charges(dark_ + light_level, dark_, NONE, MarginHits(), telegraphic)
    frames = [camera.read(rng, charges, factor, 0.0)[0] - camera.parts[0].bias for _ in range(20)]
    electrons = np.stack(frames) / factor
    variance = (
        light_level + (bias.READ_OUT_NOISE[100_000] / factor) ** 2 + 1 / 12 / factor**2
    )  # the last is rounding
    # 81 920 values: mean and variance scatter by sqrt(v / n) and v sqrt(2 / n); five of these
    assert electrons.mean() == pytest.approx(
        light_level, abs=5 * np.sqrt(variance / electrons.size)
    )
    assert electrons.var() == pytest.approx(variance, rel=5 * np.sqrt(2 / electrons.size))


def test_no_light_is_lost_between_psf_and_pixels() -> None:
    picture = flight_like_psf().image(512.3, 511.8, 1.0, 0, 0, 1024, 1024)
    y, x = np.mgrid[:1024, :1024] + 0.5
    # the widest Gaussian is cut at 6.8 sigma: 2e-11 of its 2.6 %
    assert picture.sum() == pytest.approx(1.0, abs=1e-11)
    assert picture[np.hypot(x - 512.3, y - 511.8) < 25].sum() == pytest.approx(
        0.920, abs=0.002
    )  # 8 % lie beyond


def test_pixel_integrals_are_exact() -> None:
    psf = flight_like_psf()
    fine = np.arange(4, 5, 0.01) + 0.005
    points = [
        psf.weight
        * np.exp(-((fx - 10.37 - psf.x) ** 2 + (fy - 9.82 - psf.y) ** 2) / 2 / psf.sigma**2)
        for fx in fine
        for fy in fine
    ]
    sampled = np.sum(np.stack(points) / (2 * np.pi * psf.sigma**2)) * 0.01**2
    # the mid-point rule with 100 steps a pixel errs by (0.01 / sigma)^2 / 24 at most
    assert psf.image(10.37, 9.82, 1.0, 4, 4, 1, 1)[0, 0] == pytest.approx(sampled, rel=1e-5)


@pytest.fixture(scope="module")
def core() -> tuple[Psf, drawing.Table]:
    psf = flight_like_psf().core
    return psf, drawing.tabulate(psf)


def test_the_table_draws_the_core_to_half_a_ppm_at_any_phase(
    core: tuple[Psf, drawing.Table],
) -> None:
    psf, table = core
    rng = np.random.default_rng(1)
    pictures, errors = [], []
    for x, y in rng.uniform(32, 33, (40, 2)):
        picture = np.zeros((64, 64))
        table.add(picture, x, y, 1.0, 0, 0)
        exact = psf.image(x, y, 1.0, 0, 0, 64, 64)
        pictures.append(picture)
        errors.append(np.abs(picture - exact).max())
        assert picture.sum() == pytest.approx(exact.sum(), abs=1e-12)  # a B-spline keeps the sum
        difference = (picture - exact)[None]
        sums, _ = aperture_sums(difference, np.array([x]), np.array([y]), [17.0, 25.0])
        assert abs(sums[0, 0]) < 1e-7
        assert abs(sums[0, 1]) < 1e-9
    assert max(errors) < 0.6e-6  # of the star's light in the worst pixel; 0.45e-6 are found


def test_a_moving_star_is_the_mean_of_stars_at_rest(core: tuple[Psf, drawing.Table]) -> None:
    _, table = core
    x, y = np.random.default_rng(2).normal(32, 1.5, (2, 20))
    moving, resting = np.zeros((64, 64)), np.zeros((64, 64))
    table.add(moving, x, y, 5.0, 0, 0)
    for one_x, one_y in zip(x, y, strict=True):
        table.add(resting, one_x, one_y, 5.0 / x.size, 0, 0)
    np.testing.assert_allclose(moving, resting, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("x", "y", "temperature"),
    [(512, 512, 1.0), (512, 512, -0.5), (600, 450, 0.0), (420, 600, -0.7)],
)
def test_the_psf_of_a_place_and_temperature_is_linear_to_some_ppm(
    x: float, y: float, temperature: float
) -> None:
    optics = Optics(MIDDLE, 1.0, 1.0, 1.0, None)
    picture = np.zeros((200, 200))
    optics.draw(picture, np.array([x + 0.3]), np.array([y + 0.2]), 1.0, temperature)
    place = 2 * (x + 0.3) / 1024 - 1, 2 * (y + 0.2) / 1024 - 1
    exact = flight_like_psf(place, temperature).image(x + 0.3, y + 0.2, 1.0, *MIDDLE)
    # the product of the changes with place and temperature, and the clip of faint knots, are left
    # out
    assert np.abs(picture - exact).max() < 3e-6
    assert abs((picture - exact).sum()) < 10e-6


@pytest.mark.parametrize(
    ("radius", "ramp"), [(22.5, 1.4e-4), (25.0, 2.0e-4), (30.0, 3.3e-4), (40.0, 4.0e-4)]
)
def test_a_warmer_telescope_loses_as_much_light_as_in_flight(radius: float, ramp: float) -> None:
    warm, cold = (
        flight_like_psf(temperature=t).image(100, 100, 1.0, 0, 0, 200, 200) for t in (0.5, -0.5)
    )
    sums, _ = aperture_sums(np.stack([warm, cold]), np.full(2, 100.0), np.full(2, 100.0), [radius])
    # the published slopes hold for the mean of many visits, which differ by more than a quarter
    assert (sums[1, 0] - sums[0, 0]) / sums.mean() == pytest.approx(ramp, rel=0.25)


def test_a_crowd_is_the_sum_of_its_stars() -> None:
    optics = Optics(MIDDLE, 1.0, 1.0, 1.0, None)
    rng = np.random.default_rng(4)
    x, y = rng.uniform(430, 590, (2, 100))
    flux = 10 ** rng.uniform(-3, 0, 100)
    drawn = optics.draw_crowd(x, y, flux, 0.4)
    psf = optics.psf(optics.middle, 0.4)
    exact = np.zeros((200, 200))
    column, row = np.meshgrid(np.arange(412, 612), np.arange(412, 612))
    for one_x, one_y, one in zip(x, y, flux, strict=True):
        star = psf.image(one_x, one_y, one, *MIDDLE)
        far = (np.abs(column + 0.5 - one_x) > drawing.AROUND) | (
            np.abs(row + 0.5 - one_y) > drawing.AROUND
        )
        star[far] = 0  # as the docstring says
        exact += star
    assert (
        np.abs(drawn - exact).max() < 1.5e-5 * flux.max()
    )  # two points a pixel; the brightest pixel holds 5e-3
    assert drawn.sum() == pytest.approx(
        exact.sum(), rel=2e-3
    )  # stars whose square is cut half a pixel off


def test_the_light_of_a_column_does_not_depend_on_how_it_is_computed() -> None:
    optics = Optics(MIDDLE, 1.0, 1.0, 1.0, None)
    x, flux = np.array([500.2, 431.77]), np.array([3.0, 5.0])
    psf, edges = optics.psf(optics.middle, 0.0), np.arange(412.0, 613.0)
    all_rows = np.array([-10_500.0, 9_500.0])
    exact = sum(f * psf.integral(edges - one, all_rows)[0] for one, f in zip(x, flux, strict=True))
    # an eighth of a pixel, linear; beyond 120 pixels of a star there is 1e-4 of its light a column
    np.testing.assert_allclose(optics.columns(x, flux), exact, rtol=0, atol=2e-4 * flux.max())


def transferred(first: Floats, last: Floats, time: float) -> Floats:
    """Return the charge of a frame transfer, moved row by row through the light, in and out."""
    charge_in = np.zeros_like(first)
    for _ in range(
        first.shape[0]
    ):  # before the exposure the old image is moved out, and rows come in from above
        charge_in = np.concatenate([charge_in[1:], np.zeros((1, first.shape[1]))]) + time * first
    total = charge_in.copy()
    moving = charge_in * 0
    for step in range(1, first.shape[0]):  # after it the row y passes y - 1, y - 2 ...
        moving[step:] += time * last[:-step]
    return total + moving


def test_smearing_is_that_of_a_transfer_row_by_row() -> None:
    window = Window(480, 400, 64, 100)
    optics = Optics(window, 0.0, 0.0, 1.0, None)
    # the target, a star above the window, one below it, and a faint one in it, off the rotation's
    # centre
    xi, eta = np.array([0.0, 10.0, -20.0, 20.0]), np.array([0.0, 300.0, -320.0, 15.0])
    flux = np.array([4e5, 4e6, 2e6, 3e4])
    scene = Scene(optics, xi, eta, flux, (512.0, 450.0), 1.0)
    roll = np.deg2rad(np.linspace(0.0, 3.0, 20))
    motion = Motion(roll, 0.2 * np.arange(20) / 20, -0.3 * np.arange(20) / 20)
    drawn = scene.smearing(flux, motion, 2.0, 0.0, 25e-6)
    rates = []
    for end in (0, -1):
        x, y = (places[:, end] for places in scene.tracks(np.arange(4), motion))
        psf = flight_like_psf()
        rates.append(2.0 + sum(psf.image(x[k], y[k], flux[k], 480, 0, 64, 1024) for k in range(4)))
    exact = transferred(rates[0], rates[1], 25e-6)[400:500]
    # wings of stars in the window are half above and half below, and columns are a table
    assert exact.max() > 5
    assert np.abs(drawn - exact).max() < 0.01 * exact.max()


def test_a_star_at_rest_smears_its_column_evenly() -> None:
    rates = np.random.default_rng(1).uniform(0, 100, (50, 8))
    above, below = np.full(8, 300.0), np.full(8, 500.0)
    smeared = charge.smear(rates, rates, above, below, 25e-6)
    expected = 25e-6 * (800 + rates.sum(axis=0))
    np.testing.assert_allclose(smeared, np.broadcast_to(expected, smeared.shape), rtol=1e-12)


def test_the_halo_has_a_twentieth_of_a_percent_of_the_light() -> None:
    halo = light._halo(Window(0, 0, 1024, 1024), (512.0, 512.0))
    y, x = np.mgrid[:1024, :1024] + 0.5
    disc = np.hypot(x - 512, y - 512) < 500
    radius = 500 * 0.013  # [mm]
    law = 395e-6 * np.pi / (19 * 0.135) * (1 - (1 + 19 * radius**2) ** -0.135)  # its integral
    assert halo[disc].sum() == pytest.approx(law, rel=1e-3)  # pixels at the edge of the disc
    assert 395e-6 * np.pi / (19 * 0.135) == pytest.approx(
        4.8e-4, rel=0.01
    )  # of all, as the module says


def test_the_ghost_has_three_to_six_parts_in_ten_thousand_of_the_light() -> None:
    for x, share in ((512.0, 3e-4), (1024.0, 6e-4)):
        scene = Scene(
            Optics(MIDDLE, 0.0, 0.0, 1.0, None),
            np.zeros(1),
            np.zeros(1),
            np.ones(1),
            (x, 512.0),
            1.0,
        )
        assert scene.ghost * np.pi * 150**2 == pytest.approx(share, rel=1e-12)


def test_stray_light_increases_towards_the_earth_which_keeps_its_direction_on_the_ccd() -> None:
    orbit = spacecraft.Orbit(spacecraft.Clock("2021-03-10T08:00:00"), 20.0)
    seconds = np.linspace(0, spacecraft.PERIOD, 7)
    towards = -orbit.at(seconds).position
    a, d = np.deg2rad(orbit.ra), np.deg2rad(orbit.dec)
    east = np.array([-np.sin(a), np.cos(a), 0.0])
    north = np.array([-np.sin(d) * np.cos(a), -np.sin(d) * np.sin(a), np.cos(d)])
    x, y = spacecraft.on_ccd(towards @ east, towards @ north, orbit.roll(seconds), 1.0)
    np.testing.assert_allclose(np.arctan2(y, x), spacecraft.NADIR, rtol=0, atol=1e-9)
    field = light.gradient(MIDDLE, (512.0, 512.0), spacecraft.NADIR)
    assert field[100, 199] - field[100, 99] == pytest.approx(0.03, rel=1e-9)  # 3 % in 100 pixels
    assert np.ptp(field[:, 50]) == pytest.approx(0.0, abs=1e-12)


def test_spikes_have_the_stated_lengths_and_are_uniform_in_the_logarithm_of_their_light() -> None:
    many = spikes.draw_spikes(np.random.default_rng(6), 30.0, 36_000.0, 2.0)
    assert len(many) == pytest.approx(300, abs=5 * np.sqrt(300))
    factor = np.log([1 + spike.light / 2.0 for spike in many])
    low, high = np.log(spikes.LEAST), np.log(spikes.MOST)
    assert factor.min() >= low - 1e-12
    assert factor.max() <= high + 1e-12
    # a mean of 300 evenly spread values is good to their range / sqrt(12 * 300)
    assert factor.mean() == pytest.approx((low + high) / 2, abs=5 * (high - low) / np.sqrt(3600))
    assert max(np.hypot(*spike.slope) for spike in many) <= spikes.STEEPEST / 100


def test_the_light_of_a_spike_is_shared_by_the_exposures_it_overlaps() -> None:
    one = spikes.Spike(50.0, 80.0, 6.0, (0.01, -0.02))
    # by hand: 10 of 60 seconds in the first exposure, 20 in the second, nothing in the third
    assert spikes.mean_light([one], 0.0, 60.0) == pytest.approx((1.0, 0.01, -0.02), rel=1e-12)
    assert spikes.mean_light([one, one], 60.0, 120.0) == pytest.approx(
        (4.0, 0.04, -0.08), rel=1e-12
    )
    assert spikes.mean_light([one], 120.0, 180.0) == (0.0, 0.0, 0.0)


def test_a_satellite_leaves_a_straight_line_as_wide_as_the_psf() -> None:
    rng = np.random.default_rng(5)
    many = streaks.draw_streaks(rng, 30.0, 36_000.0, (512.0, 512.0), 300.0)
    assert len(many) == pytest.approx(300, abs=5 * np.sqrt(300))
    light_of = np.log([streak.charge.sum() / 300 / streaks.CHARGE for streak in many])
    assert np.mean(light_of) == pytest.approx(0.0, abs=5 / np.sqrt(300))
    streak = many[0]
    distance = np.hypot(streak.x - 512, streak.y - 512).min()
    assert distance <= streaks.FURTHEST + 0.5
    drawn = Optics(MIDDLE, 0.0, 0.0, 1.0, None).draw_crowd(streak.x, streak.y, streak.charge, 0.0)
    y, x = np.mgrid[:200, :200] + 412.5
    step = np.array([streak.x[-1] - streak.x[0], streak.y[-1] - streak.y[0]])
    step /= np.hypot(*step)
    across = (x - streak.x[0]) * step[1] - (y - streak.y[0]) * step[0]
    assert drawn[np.abs(across) < 25].sum() / drawn.sum() > 0.9
    inside = (np.abs(streak.x - 512) < 100) & (np.abs(streak.y - 512) < 100)
    assert drawn.sum() == pytest.approx(
        streak.charge[inside].sum(), rel=0.1
    )  # 4 % beyond 46 pixels, and both ends


def test_reading_the_whole_ccd_takes_eleven_seconds_and_a_window_takes_two() -> None:
    whole = layout.read_time(layout.read_out_mode(20.0), 412, 200)
    window = layout.read_time(layout.read_out_mode(5.0), 412, 200)
    # 1033 rows of 1076 pixels at 10 microseconds and a shift of 30
    assert whole.max() == pytest.approx(1033 * (1076 * 10e-6 + 30e-6), abs=1e-12)
    assert np.diff(whole[:, 100]) == pytest.approx(0.01079, abs=1e-9)
    # 412 rows are dumped in 12 ms before the window, which takes 2.16 s
    assert window[411, -1] == pytest.approx(412 * 30e-6, abs=1e-9)
    assert window[611, -1] - window[411, -1] == pytest.approx(2.158, abs=1e-3)


def test_dark_charge_grows_from_the_bottom_to_the_top() -> None:
    case = Case.model_validate({**OFF, "dark": 1.0, "exptime": 60.0})
    whole = Window(0, 0, 1024, 1024)
    camera = Camera(case, layout.read_out_mode(60.0), whole, 59280.0, np.random.default_rng(0))
    rows = np.median(camera.parts[0].dark, axis=1)
    # 11.05 s of read-out on 60 s; a median of 1024 pixels that differ by 20 % errs by 0.8 %, these
    # means by 0.1 %
    assert rows[-64:].mean() / rows[:64].mean() == pytest.approx(
        (60 + 10.7) / (60 + 0.35), rel=0.006
    )
    top = camera.parts[2].dark
    assert np.median(top[:3]) == pytest.approx(
        np.median(rows[-9:]), rel=0.02
    )  # dark rows are exposed as long
    assert np.median(top[3:]) == pytest.approx(
        0.3 * 11.1, rel=0.02
    )  # overscan rows gather in the read-out only


def test_dark_current_follows_the_manufacturer_s_law() -> None:
    assert dark.temperature_factor(layout.CCD_TEMPERATURE) == 1.0
    # 233.15^3 exp(-9080 / 233.15) over 228.15^3 exp(-9080 / 228.15): 1.0672 exp(0.85351)
    assert dark.temperature_factor(-40.0) == pytest.approx(
        1.06721 * np.exp(9080 * (1 / 228.15 - 1 / 233.15)), rel=1e-4
    )


def test_a_warmer_ccd_has_more_dark_current_and_another_gain_and_reports_its_temperature() -> None:
    usual, warm = (
        Case.model_validate({**OFF, "dark": 1.0, "hot": 1.0, "ccd_warmer": t}) for t in (0.0, 3.0)
    )
    window, mode = Window(480, 480, 64, 64), layout.read_out_mode(20.0)
    charges = [
        Camera(c, mode, window, 59280.0, np.random.default_rng(0)).parts[0].dark
        for c in (usual, warm)
    ]
    factor = dark.temperature_factor(layout.CCD_TEMPERATURE + 3.0)
    assert factor > 1.5  # so that the ratio tells something
    np.testing.assert_allclose(charges[1] / charges[0], factor, rtol=1e-12)
    housekeeping = [Plan(c, 1).housekeeping for c in (usual, warm)]
    # the sensor's noise is 1.1 mK a value; gain falls by 1.1e-3 a degree
    assert np.mean(
        housekeeping[1].measured["CCD"] - housekeeping[0].measured["CCD"]
    ) == pytest.approx(3.0, abs=0.005)
    assert housekeeping[1].gain.mean() / housekeeping[0].gain.mean() == pytest.approx(
        1 - 3 * 0.0011, abs=2e-4
    )


def test_the_ccd_ages_as_flight_maps_do() -> None:
    day = [
        spacecraft.Clock(date).mjd(0.0) for date in ("2021-03-10T00:00:00", "2024-03-10T00:00:00")
    ]
    young, old = (dark.at(float(d)) for d in day)
    silicon = slice(0, 1024), layout.EXPOSED
    assert (young.hot[silicon] > 0).mean() == pytest.approx(0.005, rel=0.05)
    assert (old.hot[silicon] > 0).mean() == pytest.approx(0.09, rel=0.02)
    assert old.telegraphic == pytest.approx(0.02)
    assert np.all(old.hot[young.hot > 3] > 0)  # what is hot stays hot


def pixels(low: float, high: float, number: int) -> dark.Telegraphs:
    index = np.arange(number)
    return dark.Telegraphs(
        index, index, np.ones(number), np.full(number, low), np.full(number, high)
    )


def test_telegraphic_pixels_stay_for_exponential_times() -> None:
    jumps = dark.draw_jumps(np.random.default_rng(1), pixels(100.0, 300.0, 50), 0.0, 1e5)
    stays: dict[bool, list[Floats]] = {True: [], False: []}
    for k in range(50):
        times = jumps.time[jumps.first[k] : jumps.first[k + 1]]
        begins = jumps.high[k] ^ (
            np.arange(times.size - 1) % 2 == 0
        )  # state after the first jump, second ...
        stays[True].append(np.diff(times)[begins])
        stays[False].append(np.diff(times)[~begins])
    for state, mean in ((True, 300.0), (False, 100.0)):
        found = np.concatenate(stays[state])
        assert found.size > 5000
        assert found.mean() == pytest.approx(
            mean, rel=5 / np.sqrt(found.size)
        )  # an exponential's scatter is its mean
        assert stats.kstest(found, "expon", args=(0, mean)).pvalue > 1e-3
    assert jumps.high.mean() == pytest.approx(0.75, abs=5 * np.sqrt(0.1875 / 50))
    # mean of 50 pixels over 1e5 s: correlation time 75 s, variance 2 0.1875 75 / 1e5 / 50
    assert jumps.high_time(0.0, 1e5).mean() / 1e5 == pytest.approx(0.75, abs=5 * np.sqrt(5.6e-6))


def test_the_charge_of_telegraphic_pixels_adds_up_over_exposures() -> None:
    jumps = dark.draw_jumps(np.random.default_rng(2), pixels(10.0, 20.0, 40), 0.0, 2000.0)
    edges = np.concatenate(
        [[0.0], np.sort(np.random.default_rng(3).uniform(0, 2000, 30)), [2000.0]]
    )
    parts = sum(jumps.high_time(a, b) for a, b in pairwise(edges))
    np.testing.assert_allclose(parts, jumps.high_time(0.0, 2000.0), rtol=0, atol=1e-9)
    fine = np.arange(0, 2000, 0.01) + 0.005
    k = 7
    times = jumps.time[jumps.first[k] : jumps.first[k + 1]]
    state = jumps.high[k] ^ (np.searchsorted(times, fine) % 2 == 1)
    assert jumps.high_time(0.0, 2000.0)[k] == pytest.approx(
        state.sum() * 0.01, abs=0.01 * (times.size + 1)
    )


def test_a_dark_map_shows_the_mean_of_telegraphic_pixels() -> None:
    mean = dark.telegraphic_mean(0.001)
    found = dark.telegraphs(0.001)
    np.testing.assert_allclose(
        mean[found.row, found.column],
        found.level * found.high / (found.low + found.high),
        rtol=1e-6,
    )
    assert np.count_nonzero(mean) == found.level.size


def test_cosmic_rays_have_the_expected_number_and_length() -> None:
    rng, size, seconds = np.random.default_rng(6), 1000, 30.0
    number = charges = pixels_hit = 0.0
    for _ in range(60):
        hits = cosmics.draw_hits(rng, seconds, size, size)
        image = np.zeros((size, size), bool)
        image[hits.row, hits.column] = True
        number += ndimage.label(image, np.ones((3, 3)))[1]
        charges += hits.charge.sum()
        pixels_hit += hits.charge.size
    expected = 60 * 10.8 / 60 * seconds * (size / 200) ** 2
    # Poisson, five sigma; 1 % of the tracks touch another one
    assert number == pytest.approx(expected, abs=5 * np.sqrt(expected) + 0.01 * expected)
    steepest = np.arctan(60 * 13 / 15)  # tracks are cut at 60 pixels
    flat_part = (np.pi / 2 - steepest) / np.cos(steepest)
    charge_of_one = 650 * 2 / np.pi * (np.arcsinh(np.tan(steepest)) + flat_part) + 150 * (
        np.euler_gamma + np.log(2)
    )
    # long tracks make the scatter of one hit twice its mean: 1.6 % of 17 000 hits at a mean; they
    # leave the window, 0.5 %
    assert charges / expected == pytest.approx(charge_of_one, rel=5 * 0.016 + 0.005)
    assert pixels_hit / expected == pytest.approx(
        4.9, rel=0.05
    )  # measured with a CCD in orbit, to two digits


def test_a_perpendicular_passage_gives_the_published_charge() -> None:
    rng = np.random.default_rng(7)
    hits = [
        cosmics.draw_hits(rng, 1.0, 200, 200, 1 / cosmics.RATE / 40_000 / 10) for _ in range(30_000)
    ]
    single = np.array([hit.charge[0] for hit in hits if hit.charge.size == 1])
    # tracks within a pixel are short: 650 electrons and Moyal's mode on top, which is 0 at the most
    # frequent value
    assert np.median(single) == pytest.approx(650 * 1.06 + 150 * 0.79, rel=0.05)


def test_charges_of_cosmic_rays_are_within_their_limits() -> None:
    hits = cosmics.draw_hits(np.random.default_rng(8), 300.0, 1000, 1000)
    labels, count = ndimage.label(_mask(hits, 1000), np.ones((3, 3)))
    total = ndimage.sum(_filled(hits, 1000), labels, np.arange(1, count + 1))
    share = (np.arange(1000) + 0.5) / 1000
    law = 650 / np.cos(np.pi / 2 * share)[:, None] + 150 * stats.moyal.ppf(share)
    # 13 500 hits: the median scatters by some 0.8 %
    assert np.median(total) == pytest.approx(np.median(law), rel=0.04)
    assert total.max() < 2 * 50_000


def _mask(hits: cosmics.Hits, size: int) -> Floats:
    image = np.zeros((size, size), bool)
    image[hits.row, hits.column] = True
    return image


def _filled(hits: cosmics.Hits, size: int) -> Floats:
    image = np.zeros((size, size))
    hits.add_to(image)
    return image


def test_a_full_well_bleeds_along_its_column_and_keeps_its_charge() -> None:
    image = np.full((101, 3), 1000.0)
    image[50, 1] = 600_000.0
    before = image.sum()
    charge.bleed(image)
    assert image.sum() == pytest.approx(before, rel=1e-12)
    assert image.max() == charge.FULL_WELL
    assert np.all(image[:, [0, 2]] == 1000.0)
    np.testing.assert_allclose(image[:50, 1], image[:50:-1, 1], rtol=1e-12)  # half up, half down


def test_charge_that_leaves_the_window_is_lost() -> None:
    image = np.full((5, 1), charge.FULL_WELL)
    image[2, 0] += 5000.0
    charge.bleed(image)
    assert np.all(image == charge.FULL_WELL)


def test_a_flat_background_stays_in_balance() -> None:
    image = np.full((200, 4), 2000.0)
    strength = charge.cti_strength(60400.0)
    charge.transfer(image, 412, strength, 0.514)
    lost = 2000.0 * strength * (2000 * 0.514 / 1e4) ** -0.65 * 512 / 1024
    assert lost > 10
    # the loss grows by 1 / 1024 a row, and what comes free is that of 100 rows before
    assert np.abs(image - 2000.0).max() < lost * 100 / 412


def test_charge_of_a_point_is_trailed_and_not_lost() -> None:
    image = np.zeros((1500, 1))
    image[10, 0] = 1e4 / 0.514
    before = image.copy()
    strength = charge.cti_strength(60400.0)
    charge.transfer(image, 400, strength, 0.514)
    lost = before[10, 0] - image[10, 0]
    assert lost == pytest.approx(
        before[10, 0] * strength * 410.5 / 1024, rel=1e-9
    )  # 10^4 ADU: the law's unit
    assert np.all(image[:10] == 0)
    trail = image[11:, 0]
    assert trail[100] / trail[0] == pytest.approx(np.exp(-1), rel=1e-9)
    # the trail is caught again where it comes free, and comes free again; 1400 rows are 14
    # e-foldings of its reach
    assert image.sum() == pytest.approx(before.sum(), rel=1e-3 * strength)


@pytest.mark.parametrize("level", [1e5, 1e4, 1e3, 30.0, 1.0])
def test_the_lost_fraction_follows_the_law_of_flight_up_to_its_limit(level: float) -> None:
    image = np.zeros((1, 1))
    image[0, 0] = level / 0.5
    charge.transfer(image, 1023, 0.0016 * 4.0, 0.5)
    share = 1 - image[0, 0] / (level / 0.5)
    # in the first row of a window charge is in balance with the rows below
    assert share == pytest.approx(0.0, abs=1e-12)
    two = np.array([[0.0], [level / 0.5]])
    charge.transfer(two, 1022, 0.0016 * 4.0, 0.5)
    wanted = min(0.0016 * 4.0 * (level / 1e4) ** -0.65, 0.0333) * 1023.5 / 1024
    assert 1 - two[1, 0] / (level / 0.5) == pytest.approx(wanted, rel=1e-9)


def test_transfers_lose_nothing_before_launch_and_more_each_year() -> None:
    assert charge.cti_strength(58_000.0) == 0.0
    assert charge.cti_strength(58_830.0 + 4 * 365.25) == pytest.approx(0.0064)


def test_the_flat_field_of_a_star_is_the_mean_of_its_wavelengths() -> None:
    weight = spectrum.weights(4500, flat.WAVELENGTH)
    mean = sum(
        w * flat.monochromatic(wave).astype(float)
        for w, wave in zip(weight, flat.WAVELENGTH, strict=True)
    )
    star = flat.star_flat(4500)
    # each plane is normalised by itself: the patterns' means over the area, 1e-3 of their size, and
    # float32
    np.testing.assert_allclose(mean, star, rtol=0, atol=5e-6)
    assert star[100:-100, 100:-100].mean(dtype=float) == pytest.approx(1.0, abs=1e-7)
    assert (flat.patterns()[3]).sum() == 150
    assert star[flat.patterns()[3]].max() < 0.75


def test_red_light_has_fringes_and_blue_light_the_annealing_pattern() -> None:
    grey, annealing, fringes, _ = flat.patterns()
    area = slice(100, -100), slice(100, -100)
    for wavelength, pattern, strength in ((400.0, annealing, 0.006), (950.0, fringes, 0.008)):
        ratio = flat.monochromatic(wavelength)[area] / grey[area] - 1
        slope = np.polyfit(pattern[area].ravel(), ratio.ravel(), 1)[0]
        assert slope == pytest.approx(strength, rel=0.05)


def test_the_gain_is_nominal_at_its_offsets_and_that_of_flight_at_flight_voltages() -> None:
    at = gain.GAIN_OFFSETS
    values = (
        at["VSS"],
        at["VSS"] + at["VOD"],
        at["VSS"] + at["VRD"],
        at["VSS"] + at["VOG"],
        at["TEMP"],
    )
    assert float(gain.gain(*values)) == gain.GAIN_NOMINAL
    volts = gain.VOLTAGES
    flight = gain.gain(
        volts["VSS"], volts["VOD"], volts["VRD"], volts["VOG"], layout.CCD_TEMPERATURE
    )
    assert 1 / float(flight) == pytest.approx(
        1.946, abs=0.001
    )  # electron/ADU, as published to four digits


@pytest.mark.parametrize("frequency", [100_000, 230_000])
def test_the_detector_undoes_its_own_linearisation(frequency: int) -> None:
    curve = linearity.linearisation(frequency)
    true = np.linspace(0, 120_000, 5001)
    # closed formulas both ways: rounding of float64 on 1e5 electrons
    np.testing.assert_allclose(curve.correct(curve.measure(true)), true, rtol=0, atol=1e-9)
    assert curve.measure(np.array([1e6]))[0] == curve.end


@pytest.mark.parametrize("frequency", [100_000, 230_000])
def test_a_scaled_curve_has_a_scaled_deviation_from_a_straight_line(frequency: int) -> None:
    curve = linearity.linearisation(frequency)
    measured = np.linspace(0, curve.end, 1001)
    deviation = curve.correct(measured) - measured
    for factor in (0.0, 0.5, 1.0, 1.3):
        other = linearity.scaled(curve, factor)
        np.testing.assert_allclose(
            other.correct(measured) - measured, factor * deviation, rtol=0, atol=1e-9
        )
        assert other.end == curve.end
        np.testing.assert_allclose(
            other.correct(other.measure(np.linspace(0, 1e5, 501))),
            np.linspace(0, 1e5, 501),
            atol=1e-9,
        )


@pytest.mark.filterwarnings("ignore:.*dubious year")
@pytest.mark.parametrize(
    "start", ["2016-12-31T23:59:55.25", "2024-03-10T08:00:00", "2031-06-01T00:00:00"]
)
def test_times_agree_with_astropy_across_leap_seconds_and_beyond_the_table(start: str) -> None:
    clock = spacecraft.Clock(start)
    seconds = np.array([0.0, 4.5, 5.0, 5.5, 6.0, 3600.0])
    texts = [text.decode() for text in clock.text(seconds)]
    tt = Time(texts, format="isot", scale="utc").tt.mjd
    # texts have microseconds, a double of MJD resolves 0.6 microseconds
    np.testing.assert_allclose(clock.mjd(seconds), tt, rtol=0, atol=1.2e-6 / 86400)
    if start.startswith("2016"):
        assert texts[2] == "2016-12-31T23:59:60.250000"
        assert texts[4] == "2017-01-01T00:00:00.250000"


def test_the_barycentric_date_agrees_with_astropy() -> None:
    from astropy import units
    from astropy.coordinates import EarthLocation, SkyCoord

    clock = spacecraft.Clock("2024-03-10T08:00:00")
    centre = EarthLocation.from_geocentric(0, 0, 0, unit="m")
    time = Time("2024-03-10T08:00:00", scale="utc", location=centre)
    delay = time.light_travel_time(
        SkyCoord(170.0 * units.deg, 20.0 * units.deg), "barycentric"
    ).to_value("s")
    ours = (float(clock.barycentric(0.0, 170.0, 20.0)) - 2400000.5 - float(clock.mjd(0.0))) * 86400
    assert ours == pytest.approx(delay, abs=1e-4)  # a double of a Julian date resolves 4e-5 s


def psf_image(path: Path, image: Floats) -> Path:
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image)]).writeto(path)
    return path


def test_a_user_s_psf_is_drawn(tmp_path: Path) -> None:
    y, x = np.mgrid[:60, :60] + 0.5

    def gaussian(centre_x: float, centre_y: float) -> Floats:
        return np.exp(-((x - centre_x) ** 2 + (y - centre_y) ** 2) / 2 / 3.0**2) / (2 * np.pi * 9)

    path = psf_image(tmp_path / "psf.fits", 17.0 * gaussian(30.0, 30.0))
    optics = Optics(Window(0, 0, 60, 60), 1.0, 1.0, 1.0, path)
    picture = np.zeros((60, 60))
    optics.draw(picture, np.array([30.3]), np.array([29.8]), 5.0, 1.0)
    # cubic splines err by h^4 / 384 of the fourth derivative, = 1e-4 for samples a third of sigma
    # apart
    np.testing.assert_allclose(
        picture, 5 * gaussian(30.3, 29.8), rtol=0, atol=5 * 2e-4 * gaussian(30, 30).max()
    )
    assert picture.sum() == pytest.approx(5.0, rel=1e-6)
    crowd = optics.draw_crowd(np.array([30.3]), np.array([29.8]), np.array([5.0]), 1.0)
    np.testing.assert_allclose(crowd, picture, rtol=0, atol=1e-4 * picture.max())
    columns = optics.columns(np.array([30.3]), np.array([5.0]))
    np.testing.assert_allclose(
        columns, picture.sum(axis=0), rtol=0, atol=2e-3 * picture.sum(axis=0).max()
    )


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.ones((30, 40)), r"shape \(30, 40\), expected a square of at least 20 pixels"),
        (np.ones((10, 10)), "expected a square of at least 20 pixels"),
        (np.full((30, 30), np.nan), "900 of 900 values of the PSF are not finite"),
        (np.zeros((30, 30)), "no star at the centre"),
        (np.pad(np.ones((3, 3)), ((0, 27), (0, 27))), "no star at the centre"),
        (np.ones(50), "expected a square"),
    ],
)
def test_an_image_that_is_not_a_psf_is_rejected(
    tmp_path: Path, image: Floats, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        psf_file.read(psf_image(tmp_path / "psf.fits", image))


def test_a_file_without_an_image_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "text.fits").write_text("nothing")
    with pytest.raises(ValueError, match=r"text\.fits: is not a FITS file"):
        psf_file.read(tmp_path / "text.fits")
    fits.HDUList([fits.PrimaryHDU()]).writeto(tmp_path / "empty.fits")
    with pytest.raises(ValueError, match=r"empty\.fits: has no image"):
        psf_file.read(tmp_path / "empty.fits")


def test_wings_have_their_share_of_the_light() -> None:
    psf = flight_like_psf()
    assert wings().weight.sum() == pytest.approx(sum(share for share, _, _ in WINGS))
    assert psf.weight.sum() == pytest.approx(1.0, abs=1e-12)


def test_wings_of_a_moving_star_are_the_mean_of_wings_at_rest() -> None:
    psf = wings()
    x, y = np.random.default_rng(2).normal((100.0, 101.0), 1.0, (20, 2)).T
    moving, resting = np.zeros((200, 200)), np.zeros((200, 200))
    drawing.add_wings(moving, psf, x, y, 1.0, 0, 0)
    for one_x, one_y in zip(x, y, strict=True):
        drawing.add_wings(resting, psf, one_x, one_y, 1.0 / x.size, 0, 0)
    distance = np.hypot(*(np.mgrid[:200, :200] + 0.5 - 100))
    for radius in (17, 25, 40):
        difference = (moving - resting)[distance < radius].sum()
        assert (
            abs(difference) < 3e-6
        )  # the correlation of x and y, and the fourth power of motion over sigma
    assert moving.sum() == pytest.approx(resting.sum(), abs=1e-6)
