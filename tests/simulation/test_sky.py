"""The simulated sky: stars, their light and its changes, and the light between them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from tasks.simulation import (
    field,
    granulation,
    light_curve,
    main_sequence,
    spectrum,
    stray_light,
    transit,
    zodiacal,
)
from tasks.simulation.case import Case
from tasks.simulation.plan import Plan
from tasks.simulation.raw import MAGNITUDE_ERROR, POSITION_ERROR, UNMOVED, write_catalogue
from tasks.simulation.spacecraft import PERIOD
from tests.support.outside import outside


def case(**settings: object) -> Case:
    return Case.model_validate({"saa": "never", **settings})


def test_a_star_of_magnitude_zero_gives_the_published_flux() -> None:
    colour = float(spectrum.cheops_magnitude(0.0, 5900))
    observed = 0.94604 - 2.0074e-6 * 5900
    assert float(spectrum.star_flux(-colour, 5900)) == pytest.approx(observed * 1.8347e9, rel=1e-12)
    assert float(spectrum.star_flux(5 - colour, 5900)) == pytest.approx(
        observed * 1.8347e7, rel=1e-12
    )


def test_the_telescope_counts_the_electrons_of_vega_given_by_its_zero_point() -> None:
    light = spectrum.star_spectrum(spectrum.WAVELENGTH, 9600.0)
    light *= 3.6e-9 / float(spectrum.star_spectrum(550.0, 9600.0))  # Vega at 550 nm [erg/s/cm^2/A]
    counted = spectrum.detected(spectrum.WAVELENGTH, light)
    # Vega has Balmer lines and a jump that a black body lacks: 11 % are found, a wrong area or unit
    # gives far more
    assert counted == pytest.approx(spectrum.ELECTRONS_AT_ZERO_MAGNITUDE, rel=0.15)


def test_the_electrons_of_a_flat_photon_spectrum_are_those_worked_by_hand() -> None:
    wavelength = np.array([600.0, 601.0])
    photon = 6.62607015e-34 * 299792458.0 / (wavelength * 1e-9) * 1e7
    efficiency = np.mean(spectrum.throughput(wavelength) * spectrum.quantum_efficiency(wavelength))
    # one photon/s/cm^2/A over 10 A
    assert spectrum.detected(wavelength, photon) == pytest.approx(
        706.86 * 10 * efficiency, rel=1e-12
    )


def test_weights_add_up_to_one_and_do_not_depend_on_the_grid() -> None:
    fine, coarse = (
        np.arange(330.0, 1101.0),
        np.concatenate([np.arange(330.0, 700.0, 10), np.arange(700.0, 1101.0, 20)]),
    )
    means = [float(spectrum.weights(5900, grid) @ grid) for grid in (fine, coarse)]
    assert spectrum.weights(5900, coarse).sum() == pytest.approx(1.0, rel=1e-12)
    assert means[0] == pytest.approx(
        means[1], abs=1.0
    )  # trapezia of 20 nm on curves that bend in 50 nm
    assert float(spectrum.weights(3000, fine) @ fine) > means[0] + 100  # an M dwarf is red
    assert spectrum.weights(5900, np.array([600.0])) == pytest.approx(1.0)


def test_cool_stars_are_brighter_than_catalogued_unless_that_is_off() -> None:
    ratio = [
        spectrum.star_flux(12.0, teff, 1.0) / spectrum.star_flux(12.0, teff, 0.0)
        for teff in (3200.0, 4100.0, 5900.0)
    ]
    assert ratio == pytest.approx([1.18, 1.0, 1.0], rel=1e-12)


def test_spectra_have_the_mean_wavelength_of_library_spectra() -> None:
    library = fits.getdata(
        outside("real/instrument/CH_TU2015-01-01T00-00-00_REF_APP_SEDTeff_V0101.fits")
    )
    wave = spectrum.WAVELENGTH
    seen = spectrum.throughput(wave) * spectrum.quantum_efficiency(wave) * wave
    checked = 0
    for row in library:
        teff = float(row["TEMPERATUR"])
        real = np.interp(wave, row["WAVELENGTH"], row["FLUX"]) * seen
        ours = float(spectrum.weights(teff, wave) @ wave)
        if teff >= 2900:
            checked += 1
            assert ours == pytest.approx(float(real @ wave / real.sum()), abs=10.0), (
                teff
            )  # [nm]; as the module says
    assert checked > 30


def test_colours_are_those_of_the_reference_file() -> None:
    table = fits.getdata(
        outside("real/instrument/CH_TU2020-01-29T00-00-00_REF_APP_FluxConversion_V0104.fits")
    )
    ours = spectrum.cheops_magnitude(0.0, table["T_EFF"].astype(float))
    # rounded to a millimagnitude at 14 points, linear between them: below 3500 K the real curve
    # bends by 4 more
    np.testing.assert_allclose(ours, table["CHEOPSMAG_MINUS_GMAG"], rtol=0, atol=0.005)


def test_the_sun_is_a_dwarf_of_its_own_mass_and_radius() -> None:
    assert float(main_sequence.log_gravity(5770)) == pytest.approx(4.438, abs=1e-9)
    assert float(main_sequence.density(5770)) == pytest.approx(1.41, rel=1e-9)


@pytest.mark.parametrize(
    ("text", "teff"), [("G", 5930), ("G2V", 5770), ("k5", 4440), ("M0.0V", 3850), ("A2.5", 8900)]
)
def test_a_spectral_type_has_a_temperature(text: str, teff: float) -> None:
    assert main_sequence.temperature(text) == pytest.approx(teff, abs=0.5)


@pytest.mark.parametrize("text", ["", "X3", "7G", "G1.2.3"])
def test_an_invalid_spectral_type_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="spectral type is"):
        main_sequence.temperature(text)


def test_a_dark_planet_hides_its_area_of_a_uniform_star() -> None:
    hidden = transit.hidden_light(np.array([0.0, 0.4, 0.85, 1.2]), 0.1, 0.0, 0.0)
    np.testing.assert_allclose(
        hidden, [0.01, 0.01, 0.01, 0.0], rtol=1e-6, atol=0
    )  # 60 nodes: 1e-6 of the depth


def test_a_transit_is_as_deep_as_the_brightness_behind_the_planet() -> None:
    planet = transit.Planet(radius_ratio=0.01, impact=0.0)
    mean = 1 - planet.u1 / 3 - planet.u2 / 6
    # the disc's centre has brightness 1 and, for a planet this small, varies by k^2 u1 / 4 = 1e-5
    # across it
    assert 1 - planet.light_curve(0.0)[0] == pytest.approx(1e-4 / mean, rel=5e-5)
    assert planet.light_curve([0.5, 1.0, 1.5]) == pytest.approx(
        1.0, abs=0
    )  # and nothing when it is behind the star


@pytest.mark.parametrize("radius_ratio", [0.01, 0.0354, 0.1, 0.3])
@pytest.mark.parametrize("impact", [0.0, 0.3, 0.7, 0.95, 1.02])
@pytest.mark.parametrize("limb", [(0.0, 0.0), (0.36, 0.22), (0.64, 0.09), (0.28, 0.39)])
def test_transits_are_those_of_batman(
    radius_ratio: float, impact: float, limb: tuple[float, float]
) -> None:
    batman = pytest.importorskip("batman")
    planet = transit.Planet(radius_ratio, 2.0, impact, 1.41, *limb)
    wanted = batman.TransitParams()
    wanted.t0, wanted.per, wanted.rp, wanted.a = 0.0, planet.period, radius_ratio, planet.distance
    wanted.inc, wanted.ecc, wanted.w = (
        float(np.degrees(np.arccos(impact / planet.distance))),
        0.0,
        90.0,
    )
    wanted.u, wanted.limb_dark = list(limb), "quadratic"
    time = np.linspace(-0.12, 0.12, 801)
    theirs = batman.TransitModel(wanted, time).light_curve(wanted)
    np.testing.assert_allclose(
        planet.light_curve(time), theirs, rtol=0, atol=1e-7
    )  # 0.1 ppm; 0.02 are found


def test_limb_darkening_is_smooth_and_that_of_the_published_table() -> None:
    temperatures = np.arange(2300.0, 12000.0, 20.0)
    ours = np.array([transit.limb_darkening(teff) for teff in temperatures])
    assert np.abs(np.diff(ours, axis=0)).max() < 0.015  # 20 K are a two-hundredth of the range
    rows = [
        line.split()
        for line in outside("real/instrument/limb_darkening_apr2018.dat").read_text().splitlines()
    ]
    table = {name: (float(u1), float(u2)) for name, u1, u2 in rows}
    for name in (name for name in table if name[0] in "AFGKM"):
        u1, u2 = transit.limb_darkening(main_sequence.temperature(name))
        # 0.03 where the table steps from one model to the next; it jumps by 0.16 at K7 and by 0.13
        # at M0
        assert (u1, u2) == pytest.approx(table[name], abs=0.065 if name[0] in "KM" else 0.03), name


def test_granulation_has_the_stated_power_spectrum() -> None:
    star, step, length = granulation.granulation(5777.0), 5.0, 2**20
    _, series = granulation.draw(np.random.default_rng(1), star, 0.0, step * (length - 2), step)
    assert series.size == length
    fine = np.linspace(0, 0.1, 200_001)
    density = star.power(fine)
    variance = np.trapezoid(density, fine)
    assert variance == pytest.approx(
        2 * star.rms**2, rel=1e-4
    )  # the tail beyond 0.1 Hz is (b / f)^3 / 3
    # variance of the variance of Gaussian noise: the integral of P^2 over frequency, divided by the
    # time; five sigma
    scatter = np.sqrt(np.trapezoid(density**2, fine) / (length * step))
    assert series.var() == pytest.approx(variance, abs=5 * scatter)
    window = np.hanning(length)
    periodogram = 2 * step * np.abs(np.fft.rfft(window * series)) ** 2 / np.sum(window**2)
    frequency = np.fft.rfftfreq(length, step)
    for low, high in ((1e-4, 2e-4), (5e-4, 1e-3), (2e-3, 3e-3), (5e-3, 6e-3), (1e-2, 1.2e-2)):
        band = (frequency > low) & (frequency < high)
        ratio = np.mean(periodogram[band] / star.power(frequency[band]))
        # each value is exponential; a Hann window makes 1.94 neighbours one; five sigma
        assert ratio == pytest.approx(1.0, abs=5 * np.sqrt(1.94 / band.sum())), (low, high)


def test_granulation_follows_the_star() -> None:
    sun, dwarf, hot = (granulation.granulation(teff) for teff in (5777.0, 3500.0, 9000.0))
    # 3382 x 3100^-0.609 = 25.3 ppm, 0.317 x 3100^0.97 = 772 uHz by hand; 5777 K is 7 K from the
    # table's Sun
    assert sun.rms == pytest.approx(25.3e-6, rel=0.01)
    assert sun.bends[0] == pytest.approx(772e-6, rel=0.01)
    assert dwarf.rms < sun.rms
    assert dwarf.bends[0] > sun.bends[0]
    assert hot.rms == 0.0


def test_granulation_is_within_a_factor_of_two_of_the_mission_simulator() -> None:
    path = outside("visits/V9_G0_transit/truth/incidentNormalizedLightCurve.fits")
    real = fits.getdata(path)["FLUX"][:300].astype(
        float
    )  # before the transit, every 20 s; G0, 5920 K
    time, change = granulation.draw(
        np.random.default_rng(2), granulation.granulation(5920.0), 0.0, 80_000.0
    )
    ours = light_curve.mean_over_exposure(
        lambda t: np.interp(t, time, change), np.arange(10.0, 79_000.0, 20.0), 20.0
    )
    # another law: 53 against 38 ppm, and 13 against 15 from one exposure to the next
    assert 0.5 < ours.std() / real.std() < 2
    assert 0.5 < np.diff(ours).std() / np.diff(real).std() < 2


def test_an_exposure_sees_the_mean_and_not_the_middle() -> None:
    mean = light_curve.mean_over_exposure(
        lambda t: (t > 100).astype(float), np.array([50.0, 100.0, 106.0, 150.0]), 20.0
    )
    # a step at 100 s: five parts, whose middles lie 4 s apart
    assert mean == pytest.approx([0.0, 0.4, 0.8, 1.0])
    bent = light_curve.mean_over_exposure(lambda t: t**2, np.array([0.0]), 600.0)
    assert bent[0] == pytest.approx(
        600**2 / 12, rel=1 / 60**2
    )  # the mid-point rule errs by 1 / n^2, of 60 parts


def test_transit_and_granulation_multiply_and_can_be_switched_off() -> None:
    settings = {"images": 40, "nexp": 1, "exptime": 60.0, "transit_period": 1.0}
    quiet, planet, star, both = (
        Plan(case(**settings, transit=t, granulation=g), 1)
        for t, g in ((False, 0), (True, 0), (False, 5), (True, 5))
    )
    time = quiet.exposure_middle
    assert np.all(quiet.light_curve(time) == 1.0)
    assert planet.light_curve(time).min() < 1 - 0.001
    expected = planet.light_curve(time) * star.light_curve(time)
    # means of products and products of means differ by the change within an exposure, 1e-3 x 1e-4
    # at most
    np.testing.assert_allclose(both.light_curve(time), expected, rtol=0, atol=1e-7)
    assert both.star_flux(float(time[20]), float(both.light_curve(time)[20]))[0] == pytest.approx(
        both.field.flux[0] * both.light_curve(time)[20], rel=1e-12
    )


@pytest.mark.parametrize("kind", ["csv", "ecsv", "fits", "mjd.csv"])
def test_the_user_s_light_curve_is_read(tmp_path: Path, kind: str) -> None:
    days, flux = np.linspace(0, 0.5, 101), np.linspace(1.0, 0.9, 101)
    path = tmp_path / f"curve.{kind}"
    start = 60379.0
    if kind == "fits":
        columns = [
            fits.Column("TIME", "D", array=days),
            fits.Column("Flux", "D", array=flux),
            fits.Column("S", "3A"),
        ]
        fits.BinTableHDU.from_columns(columns).writeto(path)
    else:
        mark, head, shift = (
            (",", "MJD_TIME,flux", start) if kind == "mjd.csv" else (",", "time,flux", 0.0)
        )
        if kind == "ecsv":
            mark, head = " ", "# %ECSV 1.0\n# ---\ntime flux"
        rows = [
            f"{day + shift:.12f}{mark}{value:.12f}" for day, value in zip(days, flux, strict=True)
        ]
        path.write_text("\n".join([head, *rows]) + "\n")
    time, values = light_curve.read_light_curve(path, start, 0.0, 40_000.0)
    # the text has 12 digits after the point, but a double of MJD 60379 resolves 7e-12 day, 0.6 us
    np.testing.assert_allclose(time, days * 86400, rtol=0, atol=2e-6)
    np.testing.assert_allclose(values, flux, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no table"),
        ("time,light\n0,1\n1,1\n", "columns are time, light; expected flux"),
        ("flux\n1\n1\n", "expected flux, and time"),
        ("time,flux\n0,1\n", "at least two rows"),
        ("time,flux\n0,1\n0.5,nan\n1,1\n", "flux in row 2 is not a finite number"),
        ("time,flux\n0,1\n0.5,\n1,1\n", "flux in row 2 is not a finite number"),
        ("time,flux\n0,1\n0.5,one\n1,1\n", "flux in row 2 is 'one', expected a number"),
        ("time,flux\n0,1\n0.5\n1,1\n", "row 2 has 1 values"),
        ("time,flux\n0,1\n0.5,1\n0.5,1\n1,1\n", "time does not increase after row 2"),
        ("time,flux\n0,1\n0.5,0\n1,1\n", "flux in row 2 is 0, expected more than 0"),
        ("time,flux\n0.1,1\n1,1\n", "covers days 0.10000 to 1.00000"),
        ("time,flux\n0,1\n0.2,1\n", "covers days 0.00000 to 0.20000"),
    ],
)
def test_a_file_that_is_not_a_light_curve_of_the_visit_is_rejected(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "curve.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        light_curve.read_light_curve(path, 60379.0, 10.0, 40_000.0)
    assert str(path) in str(caught.value)


def test_a_fits_file_without_a_table_and_a_broken_one_are_rejected(tmp_path: Path) -> None:
    fits.PrimaryHDU(np.zeros(3)).writeto(tmp_path / "image.fits")
    (tmp_path / "text.fits").write_text("time,flux\n0,1\n1,1\n")
    (tmp_path / "binary.csv").write_bytes(bytes(range(128, 256)))
    for name, message in (
        ("image.fits", "has no table"),
        ("text.fits", "is not a FITS file"),
        ("binary.csv", "is not a text file"),
    ):
        with pytest.raises(ValueError, match=message):
            light_curve.read_light_curve(tmp_path / name, 60379.0, 10.0, 40_000.0)


def test_the_user_s_light_curve_replaces_the_simulated_one(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text("time,flux\n0,1.0\n1,0.5\n")
    plan = Plan(case(images=5, light_curve=path, transit=True, granulation=3.0), 1)
    np.testing.assert_allclose(
        plan.light_curve(plan.exposure_middle), 1 - plan.exposure_middle / 86400 / 2, rtol=1e-12
    )


def test_the_field_has_the_requested_number_of_stars() -> None:
    wanted = case(stars=200.0, near_stars=7, faintest=17.0, count_slope=0.35)
    fields = [field.draw(np.random.default_rng(seed), wanted) for seed in range(20)]
    magnitude = np.concatenate([stars.g_magnitude[8:] for stars in fields])
    # 20 draws of a Poisson variable; five of its sigmas
    assert (magnitude < 15).sum() == pytest.approx(4000, abs=5 * np.sqrt(4000))
    fainter = 4000 * 10 ** (0.35 * 2)
    assert magnitude.size == pytest.approx(
        fainter, abs=5 * np.sqrt(fainter) + 0.001 * fainter
    )  # none is brighter than 5
    assert magnitude.max() <= 17.0
    distance = np.concatenate([np.hypot(stars.xi, stars.eta)[8:] for stars in fields])
    assert distance.max() <= field.RADIUS
    # even over the disc: the squares of the distances are even, with a mean that scatters by 0.29 /
    # sqrt(n)
    assert np.mean((distance / field.RADIUS) ** 2) == pytest.approx(
        0.5, abs=5 * 0.29 / np.sqrt(distance.size)
    )
    near = np.hypot(fields[0].xi, fields[0].eta)[1:8]
    assert ((near >= 30) & (near <= 110)).all()
    assert (fields[0].xi[0], fields[0].eta[0], fields[0].g_magnitude[0]) == (0.0, 0.0, 9.0)


def test_counts_without_a_slope_are_uniform_in_magnitude() -> None:
    share = np.linspace(0, 1, 11)
    np.testing.assert_allclose(field.magnitudes(share, 15.0, 0.0), 5 + 10 * share)
    np.testing.assert_allclose(field.magnitudes(share, 15.0, 1e-9), 5 + 10 * share, atol=1e-6)
    assert field.counts(15.0, 1e-9) == pytest.approx(field.counts(15.0, 0.0), rel=1e-6)


def test_faint_stars_are_cool() -> None:
    rng = np.random.default_rng(1)
    teff = [
        np.median(field.draw_temperatures(rng, np.full(5000, magnitude)))
        for magnitude in (12.0, 15.0, 18.0)
    ]
    assert teff[0] > teff[1] > teff[2]
    assert 5000 < teff[0] < 6500
    assert teff[2] < 4500


def test_proper_motions_and_variable_stars_are_scaled_by_the_case() -> None:
    def drawn(**settings: object) -> field.Field:
        return field.draw(np.random.default_rng(1), case(stars=300.0, near_stars=0, **settings))

    one, three, still = drawn(), drawn(proper_motion=3.0), drawn(proper_motion=0.0)
    np.testing.assert_allclose(three.motion_xi, 3 * one.motion_xi)
    assert not still.motion_xi.any()
    bright = one.g_magnitude < 15
    assert (
        0.002 < np.median(np.hypot(one.motion_xi, one.motion_eta)[bright]) < 0.1
    )  # some 10 mas a year
    share = np.mean(drawn(variable_stars=0.3).amplitude > 0)
    assert share == pytest.approx(0.3, abs=5 * np.sqrt(0.3 * 0.7 / one.xi.size))
    assert not drawn(variable_stars=0.0).amplitude.any()


def test_variable_stars_vary_by_their_amplitude_with_their_period() -> None:
    stars = field.draw(np.random.default_rng(3), case(stars=300.0, variable_stars=1.0))
    time = np.linspace(0, 10 * 86400.0, 4001)
    relative = stars.flux_at(time) / stars.flux[:, None]
    assert np.all(relative[0] == 1.0)  # the target varies by its light curve only
    assert relative.shape == (stars.xi.size, 4001)
    sine = np.flatnonzero(~stars.eclipsing & (stars.amplitude > 0))[0]
    eclipse = np.flatnonzero(stars.eclipsing & (stars.amplitude > 0))[0]
    later = stars.flux_at(time + 86400 * stars.period[sine])[sine] / stars.flux[sine]
    np.testing.assert_allclose(later, relative[sine], rtol=0, atol=1e-9)
    assert relative[eclipse].max() == 1.0
    middle = 86400 * stars.period[eclipse] * (1 - stars.phase[eclipse])
    depth = 1 - stars.flux_at(np.array([middle]))[eclipse, 0] / stars.flux[eclipse]
    assert depth == pytest.approx(stars.amplitude[eclipse], rel=1e-9)


def test_explicit_stars_are_where_they_are_put() -> None:
    stars = field.draw(
        np.random.default_rng(1),
        case(stars=0, near_stars=0, more_stars=[[30.0, -12.5, 11.0, 3300.0]]),
    )
    assert (stars.xi[1], stars.eta[1], stars.g_magnitude[1], stars.teff[1]) == (
        30.0,
        -12.5,
        11.0,
        3300.0,
    )
    assert stars.xi.size == 2
    assert stars.flux[1] == pytest.approx(float(spectrum.star_flux(11.0, 3300.0)) * 1.18)


FIELD = """# a comment
17:04:28.000 -28:50:00.00 6.60 K
17:04:29.000 -28:50:00.00 12.0 M

17:04:28.000 -28:49:00.00 13.0 G2V
17:04:28.000 -28:51:00.00 19.5 G
"""


def test_a_field_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "field.txt"
    path.write_text(FIELD)
    stars = field.draw(np.random.default_rng(1), case(field_file=path, magnitude=6.6, teff=5270))
    # a second of right ascension is 15 arcsec times cos(dec); over some arcsec tangents are angles
    np.testing.assert_allclose(stars.xi, [0, 15 * np.cos(np.deg2rad(28 + 50 / 60)), 0], atol=1e-4)
    np.testing.assert_allclose(stars.eta, [0, 0, 60], atol=1e-3)
    assert list(stars.teff) == [
        5270,
        3850,
        5770,
    ]  # the target is the case's; the fourth star is fainter than 18
    moved = field.draw(np.random.default_rng(1), case(field_file=path, field_offset=(0.0, 60.0)))
    # now the target stands on the third star, and the first is a field star 60 arcsec South
    np.testing.assert_allclose(moved.eta, [0, -60, -60], atol=1e-3)
    assert list(moved.g_magnitude) == [9.0, 6.6, 12.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# nothing\n", "lists no stars"),
        ("17:04:28 -28:50:00 6.6\n", "line 1: has 3 words"),
        (FIELD + "17:04:28 -28:50 6.6 K\n", "line 7: position is '-28:50'"),
        ("25:04:28 -28:50:00 6.6 K\n", "position is '25:04:28'"),
        ("17:04:28 -98:50:00 6.6 K\n", "position is '-98:50:00'"),
        ("17:04:28 -28:50:00 bright K\n", "magnitude is 'bright', expected a number"),
        ("17:04:28 -28:50:00 nan K\n", "magnitude is nan, expected a number between -2 and 30"),
        ("17:04:28 -28:50:00 6.6 Q\n", "spectral type is 'Q'"),
        ("17:04:28 -28:50:00 6.6 K\n05:04:28 -28:50:00 6.6 K\n", "star 2 is 12"),
    ],
)
def test_a_file_that_is_not_a_catalogue_is_rejected(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "field.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        field.read_catalogue(path, (0.0, 0.0), 18.0)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("name", "bright"), [("Low", 38), ("Medium", 39), ("Extreme", 2836)])
def test_the_published_fields_are_read(name: str, bright: int) -> None:
    stars = field.read_catalogue(outside(f"real/fields/{name}_field.txt"), (0.0, 0.0), 30.0)
    assert (
        stars[:, 2] < 15
    ).sum() + 1 == bright  # with the target, as the mission's list is described
    assert 730 < np.hypot(stars[:, 0], stars[:, 1]).max() < 765  # circles of 12.5 arcmin
    assert np.abs(stars[:, :2].mean(axis=0)).max() < 60  # about the first star


def test_the_catalogue_is_as_wrong_as_a_real_one(tmp_path: Path) -> None:
    plan = Plan(
        case(images=2, stars=300.0, near_stars=0, start="2024-03-10T08:00:00", proper_motion=5.0), 1
    )
    write_catalogue(tmp_path, plan)
    (path,) = tmp_path.glob("*StarCatalogue*")
    table, stars = fits.getdata(path, 1), plan.field
    header = fits.getheader(path, 1)
    assert header["OBSEPOCH"] == pytest.approx(2024.19, abs=0.01)
    number = np.array([int(text) for text in table["ID"]]) - 4_000_000_000
    assert table["TARGET"][0]
    assert table["TARGET"].sum() == 1
    assert (table["MAG_GAIA"][0], table["T_EFF"][0], table["RA_ERR"][0]) == (9.0, 5900.0, 0.0)
    assert (table["RA"][0], table["DEC"][0]) == pytest.approx(
        (plan.orbit.ra, plan.orbit.dec), abs=1e-12
    )
    xi, eta = field.standard(table["RA"], table["DEC"], plan.orbit.ra, plan.orbit.dec)
    off = np.hypot(xi - stars.xi[number], eta - stars.eta[number])[1:]
    moved = (np.hypot(stars.motion_xi, stars.motion_eta)[number] * (header["OBSEPOCH"] - 2016))[1:]
    n, late = off.size, off > 8 * POSITION_ERROR
    # two normal errors leave 8 sigma once in 8e13; those that stay behind did not all move as far
    assert 0.5 * UNMOVED < late.mean() < UNMOVED + 5 * np.sqrt(UNMOVED / n)
    np.testing.assert_allclose(off[late], moved[late], rtol=0, atol=8 * POSITION_ERROR)
    wrong = (table["MAG_GAIA"] - stars.g_magnitude[number])[1:]
    assert wrong.std() == pytest.approx(MAGNITUDE_ERROR, rel=5 / np.sqrt(2 * n))
    unknown = np.isnan(table["T_EFF"][1:])
    assert 0.1 < unknown.mean() < 0.35  # most stars are near 18, where three in ten have none
    cooler = (table["T_EFF"] - stars.teff[number])[1:][~unknown]
    assert np.median(np.abs(cooler)) == pytest.approx(67.45, rel=5 * 1.17 / np.sqrt(n))


def test_zodiacal_light_is_that_of_the_handbook() -> None:
    path = outside("real/instrument/zodiacal_vs_ecliptic_coords.txt")
    rows = [
        line.split() for line in path.read_text().splitlines() if line and not line.startswith("#")
    ]
    latitude = np.array(rows[0], float)
    for longitude, *values in rows[1:]:
        table = np.array(values, float)
        ours = zodiacal.surface_brightness(latitude, float(longitude))
        np.testing.assert_allclose(
            ours[table > 0], table[table > 0], rtol=0, atol=0.15
        )  # 0.12 are found


def test_zodiacal_light_is_bright_in_the_ecliptic_and_the_same_on_both_sides() -> None:
    bright = zodiacal.surface_brightness(np.array([0.0, 30.0, 60.0, 90.0]), 90.0)
    assert np.all(np.diff(bright) > 0.1)
    assert zodiacal.surface_brightness(-30.0, -75.0) == pytest.approx(
        zodiacal.surface_brightness(30.0, 75.0)
    )
    # the pole: 22.06 + 1.42 - 0.19 = 23.29 mag, whatever the longitude
    assert zodiacal.surface_brightness(90.0, np.array([0.0, 77.0])) == pytest.approx(
        23.29, abs=1e-9
    )


def test_a_visit_sees_some_electrons_of_sky_per_second() -> None:
    skies = []
    for month in (3, 6, 9, 12):
        plan = Plan(case(images=2, start=f"2024-{month:02d}-10T08:00:00"), 1)
        skies.append(plan.zodiacal)
        assert (
            Plan(case(images=2, start=f"2024-{month:02d}-10T08:00:00", zodiacal=0.0), 1).zodiacal
            == 0
        )
    assert 1 < min(skies) < max(skies) < 4
    assert (
        max(skies) / min(skies) > 1.1
    )  # the target's distance from the ecliptic goes with the seasons


def test_the_ecliptic_passes_through_the_sun_and_the_equinox() -> None:
    equinox = zodiacal.sun_direction(np.array([2460389.5]), np.array([0.13]))[
        0
    ]  # 2024-03-20T03:06 UTC
    longitude, latitude = zodiacal.to_ecliptic(equinox)
    # J2000's equinox, not that of the date: 24.2 years of precession, 0.338 deg; aberration of 20
    # arcsec
    assert float(longitude) == pytest.approx(-0.338, abs=0.02)
    assert float(latitude) == pytest.approx(0.0, abs=0.01)
    assert float(zodiacal.to_ecliptic(np.array([0.0, 0.0, 1.0]))[1]) == pytest.approx(
        90 - 23.4393, abs=1e-3
    )


def test_stray_light_falls_by_e_over_the_angle_of_the_case() -> None:
    target, sun = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])
    radius = 7078.0
    dip = np.arccos(stray_light.LIMB_RADIUS / radius)

    def at(angle: float, towards_sun: float) -> float:
        """Return the light at `angle` [deg] to the limb over the day or (-1) the night side."""
        below = np.deg2rad(angle) - dip  # of the target above the horizontal
        position = radius * np.array([[np.sin(below), 0.0, towards_sun * np.cos(below)]])
        return float(stray_light.stray_light(position, target, sun, 2.0, 6.0)[0])

    # the nearest limb is lit by a Sun 60 deg high in all three; what else is seen differs by little
    assert at(7.0, 1.0) / at(1.0, 1.0) == pytest.approx(np.exp(-1), rel=0.02)
    assert at(0.0, 1.0) == pytest.approx(2.0, rel=0.02)
    assert at(-5.0, 1.0) == pytest.approx(2.0, rel=0.02)
    assert at(1.0, -1.0) < 0.01 * at(1.0, 1.0)


def test_stray_light_rises_steeply_once_per_orbit() -> None:
    plan = Plan(case(images=2, tilt=26.0, start="2024-12-20T08:00:00", stray_light=100.0), 1)
    time = np.arange(0.0, 3 * PERIOD, 10.0)
    light = plan.stray_light(time)
    above = light > 5.0
    assert np.count_nonzero(above[1:] & ~above[:-1]) in (
        3,
        4,
    )  # three orbits hold three passages, or parts of four
    assert np.median(light) < 0.01 * light.max()
    assert np.abs(np.diff(light)).max() > 0.005 * light.max()  # in 10 s
    assert not Plan(case(images=2, stray_light=0.0), 1).stray_light(time).any()
