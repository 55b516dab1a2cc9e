"""Derived quantities that cannot be right are replaced, with a warning; others stay as they are."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.calibration.dark import plausible_row_time
from tasks.calibration.gain import (
    GainFormula,
    gain_of,
    nominal_housekeeping,
    plausible_gain,
    warn_of_nominal,
)
from tasks.calibration.linearity import plausible_curve
from tasks.calibration.plausible import (
    STRUCTURE,
    like_columns,
    plausible_dark,
    plausible_mean,
    plausible_response,
    plausible_structure,
    replace_outside,
)
from tasks.numerics.series import far_from_neighbours
from tasks.scene.pointing import average
from tasks.visit.attitude import Attitude
from tasks.visit.attitude_rows import Rows, check_rows
from tasks.visit.linearity_curve import linearise
from tasks.visit.terms import Curve

ABSURD = (0.0, 1e6, -1e6, 1e30, -1e30)


def ten() -> np.ndarray:
    return np.random.default_rng(1).normal(0.5139, 1e-6, 10)


@pytest.mark.parametrize("value", [0.0, -4.03, 0.5, 1e30, np.nan, np.inf])
def test_one_gain_far_from_the_nominal_one_is_interpolated(value: float) -> None:
    gain, warnings = ten(), []
    gain[4] = value
    found, replaced = plausible_gain(np.arange(10.0), gain, 0.5111, 0.01, warnings)
    assert np.flatnonzero(replaced).tolist() == [4]
    assert found == pytest.approx(ten(), rel=2e-5)
    assert "gain of 1 of 10 images is more than 1.00% from the nominal" in warnings[0]
    assert "at MJD 4.00000: interpolated in time" in warnings[0]


def test_gains_that_are_all_far_from_the_nominal_one_give_that() -> None:
    warnings: list[str] = []
    found, replaced = plausible_gain(np.arange(10.0), 2.03 * ten(), 0.5111, 0.01, warnings)
    assert (found == 0.5111).all()
    assert replaced.all()
    assert warnings[0].endswith("the nominal gain is used")


@pytest.mark.parametrize("nominal", [0.31, 0.45, 0.505, 0.517, 0.6, 0.89])
def test_a_nominal_gain_that_is_not_the_instrument_s_is_named(nominal: float) -> None:
    (warning,) = warn_of_nominal(nominal, 0.01)
    assert f"GAIN_NOM of the reference is {nominal:g} ADU/electron, more than 1.00%" in warning


def test_the_nominal_gains_of_both_electronics_are_those_of_the_instrument() -> None:
    assert warn_of_nominal(0.5111, 0.01) == []
    assert warn_of_nominal(0.5071, 0.01) == []


def test_nominal_housekeeping_gives_the_nominal_gain() -> None:
    exponents = np.eye(5, dtype=np.int64)
    offsets = np.array([8.8, 22.0, 9.0, -5.75, -40.0])
    formula = GainFormula(0.5111, offsets, np.array([-0.03, 0.03, 0.005, -0.01, -0.001]), exponents)
    values = nominal_housekeeping(formula)
    vod, vrd, vog, vss, temperature = (np.array([v]) for v in values.values())
    # by hand: VOD is 22 V above VSS of 8.8 V
    assert values["HK_VOLT_FEE_VOD"] == pytest.approx(30.8)
    assert gain_of(vod, vrd, vog, vss, temperature, formula)[0] == pytest.approx(0.5111, rel=1e-12)


@pytest.mark.parametrize("value", [*ABSURD[1:], np.nan])
def test_one_impossible_pixel_of_a_map_is_replaced_and_named(value: float) -> None:
    rate = np.random.default_rng(2).normal(0.8, 0.05, (20, 20))
    rate[3, 5], warnings = value, []
    found, error = plausible_dark(rate, np.full((20, 20), 0.02), warnings)
    assert found[3, 5] == pytest.approx(0.8, abs=0.02)
    assert (found.ravel() == rate.ravel()).sum() == 399
    assert (error == 0.02).all()
    assert "1 of 400 pixels" in warnings[0]
    assert "at x = 5, y = 3" in warnings[0]
    structure = replace_outside(rate - 0.8, STRUCTURE, 0.0, "bias frame", warnings)
    assert structure[3, 5] == 0.0


@pytest.mark.parametrize("value", ABSURD)
def test_one_impossible_pixel_of_a_flat_field_has_the_mean_response(value: float) -> None:
    response = np.random.default_rng(3).normal(1.0, 0.01, (20, 20))
    response[7, 2], warnings = value, []
    found, _ = plausible_response(response, np.full((20, 20), 0.001), warnings)
    assert found[7, 2] == pytest.approx(1.0, abs=0.002)
    assert (found.ravel() == response.ravel()).sum() == 399
    assert len(warnings) == 1


@pytest.mark.parametrize("factor", [0.3, 0.9, 0.96, 1.04, 1.1, 3.0])
def test_a_flat_field_that_scales_the_light_is_divided_by_its_mean(factor: float) -> None:
    # in flight the mean is 0.9917; the corners of the CCD are darker
    response = np.linspace(0.9834, 1.0, 400).reshape(20, 20)
    error, warnings = np.full((20, 20), 0.001), []
    same, _ = plausible_mean(response, error, warnings)
    assert same is response
    assert warnings == []
    found, of_found = plausible_mean(factor * response, error, warnings)
    assert found.mean() == pytest.approx(1.0, rel=1e-12)
    assert of_found == pytest.approx(error / (factor * 0.9917), rel=1e-9)
    assert f"a mean of {factor * 0.9917:.4g} over the CCD" in warnings[0]


@pytest.mark.parametrize("level", [-600.0, -50.0, -6.0, 6.0, 50.0])
def test_a_bias_frame_with_another_level_loses_that(level: float) -> None:
    structure, warnings = np.random.default_rng(4).normal(0.0, 2.0, (40, 40)), []
    assert (plausible_structure(structure, warnings) == structure).all()
    assert warnings == []
    found = plausible_structure(structure + level, warnings)
    # the median of 1600 pixels of 2 ADU
    assert abs(np.median(found)) < 0.1
    assert len(warnings) == 1


def test_dark_frames_of_nothing_are_named() -> None:
    warnings: list[str] = []
    nothing = np.zeros((20, 20))
    assert (plausible_dark(nothing, nothing, warnings)[0] == 0).all()
    assert warnings == ["the dark frames are 0 throughout: no dark current is subtracted"]


@pytest.mark.parametrize("factor", [0.95, 1.05])
@pytest.mark.parametrize("pieces", [4, 5])
def test_a_curve_that_scales_the_light_is_replaced(factor: float, pieces: int) -> None:
    boundary, coefficients = real_curve()
    if pieces == 5:  # one begins near saturation, where the two differ by more
        boundary = np.append(boundary, 111_205.0)
        coefficients = np.vstack([coefficients, [111_349.0, 1.012, 0.0, 0.0]])
    warnings: list[str] = []
    found = plausible_curve(Curve(boundary, factor * coefficients), 117732.0, warnings)
    assert "pieces of the linearity curve cannot be right" in warnings[0]
    signal = np.linspace(5e3, 1.1e5, 100)
    # a straight line for a curve that deviates by 0.6 %
    assert linearise(signal, *found) == pytest.approx(linearise(signal, *real_curve()), rel=8e-3)


def test_maps_that_are_wrong_throughout_have_a_fallback() -> None:
    error, warnings = np.full((20, 20), 0.02), []
    assert (plausible_dark(np.full((20, 20), 1e4), error, warnings)[0] == 0).all()
    assert "no dark current is subtracted" in warnings[-1]
    found, of_found = plausible_response(np.full((20, 20), 2.0), error, warnings)
    assert (found == 1).all()
    assert (of_found == 0.01).all()
    assert "it is divided by its mean" in warnings[-1]
    assert (plausible_response(np.full((20, 20), -1.0), error, warnings)[0] == 1).all()
    assert "the images are not divided by it" in warnings[-1]
    assert len(warnings) == 3


def test_a_row_that_takes_ten_times_too_long_has_its_nominal_time() -> None:
    warnings: list[str] = []
    assert plausible_row_time(None, 1e5, warnings) is None
    assert plausible_row_time(0.0108, 1e5, warnings) == 0.0108
    assert warnings == []
    assert plausible_row_time(0.9, 1e5, warnings) is None
    # by hand: 1076 pixels at 10 microseconds and a shift of 30
    assert warnings[0].startswith("read-out timing: a row takes 900 ms, expected about 10.79 ms")


def real_curve() -> Curve:
    """Return the beginning of the curve at 100 kHz in flight."""
    boundary = np.array([0.0, 28266.655961, 62972.3354519, 97466.9096729])
    coefficients = np.zeros((4, 4))
    coefficients[:, 0] = 0.0, 28094.0339, 62775.1093, 97474.1141
    coefficients[:, 1] = 0.99206587, 0.9957203, 1.00286183, 1.00899108
    coefficients[:, 2] = 6.464e-08, 1.029e-07, 8.884e-08, 9.327e-08
    return Curve(boundary, coefficients)


def test_the_curve_in_flight_stays_as_it_is() -> None:
    warnings: list[str] = []
    curve = plausible_curve(real_curve(), 111205.0, warnings)
    assert warnings == []
    np.testing.assert_array_equal(curve.coefficients, real_curve().coefficients)


@pytest.mark.parametrize("value", [*ABSURD, "opposite"])
@pytest.mark.parametrize("column", [0, 1, 2, 3])
@pytest.mark.parametrize("piece", [0, 2, 3])
def test_one_impossible_coefficient_is_replaced_by_a_straight_line(
    piece: int, column: int, value: float | str
) -> None:
    curve, warnings = real_curve(), []
    sound = float(curve.coefficients[piece, column])
    odd = -sound if value == "opposite" else float(value)
    curve.coefficients[piece, column] = odd
    found = plausible_curve(curve, 111205.0, warnings)
    signal = np.linspace(0, 1.1e5, 500)
    was = linearise(signal, *real_curve())
    # a straight line between two nodes is off by the curvature, 1e-7 (17 000)^2 = 30 electrons;
    # where a node is lost, the correction of 0.3 % is that of its neighbours
    assert np.abs(linearise(signal, *found) - was).max() < 900
    changed = abs(odd - sound) * 15_000.0**column > 1000
    assert bool(warnings) or not changed


def absurd(rng: np.random.Generator) -> float:
    return float(rng.choice([np.nan, 0.0, 1e6, -1e6, 1e30, -1e30]))


@pytest.mark.parametrize("seed", range(8))
def test_one_absurd_value_anywhere_moves_nothing_else(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = 40
    time = 59000 + np.arange(count) / 1440
    for usual, scatter in ((30.8, 2e-5), (-45.0, 1e-3), (627.6, 0.06), (-11.5, 0.01)):
        values = rng.normal(usual, scatter, count)
        at = int(rng.integers(count))
        values[at] = absurd(rng)
        bad = far_from_neighbours(time, values, 0.0) | ~np.isfinite(values)
        assert np.flatnonzero(bad).tolist() == [at]
    seconds = np.arange(40 * 60.0)
    rows = [
        59000 - 0.5 / 1440 + seconds / 86400,
        120 + rng.normal(0, 1e-4, seconds.size),
        30 + rng.normal(0, 1e-4, seconds.size),
        (200 - 0.06 * seconds) % 360,
    ]

    def means(columns: list[np.ndarray]) -> np.ndarray:
        checked = check_rows(Rows(*columns))
        attitude = Attitude(*checked.rows, None, *checked[1:])  # type: ignore[arg-type]
        found = average(attitude, time, 60 / 86400, 1.0)
        assert not found.missing.any()
        return np.stack([found.ra, found.dec, found.roll, found.blur])

    sound = means(rows)
    column, at = int(rng.integers(4)), int(rng.integers(70, seconds.size - 70))
    spoilt = [values.copy() for values in rows]
    spoilt[column][at] = absurd(rng)
    moved = np.abs(means(spoilt) - sound).max(axis=0)
    # the row is one of sixty of its image, with a jitter of 0.36 arcsec
    assert np.delete(moved, at // 60).max() < 1e-6
    assert moved[at // 60] < 0.05


@pytest.mark.parametrize(
    ("factor", "applied", "words"),
    [
        (1.0, 1.0, ""),
        (1.9, 1.9, ""),
        (3.0, 1.0, "(ratio 3"),
        (0.33, 1.0, "(ratio 0.33"),
        (50.0, 50.0, "they are used as they are"),
    ],
)
def test_a_dark_map_unlike_the_dark_columns_of_its_frame_is_divided_by_their_ratio(
    factor: float, applied: float, words: str
) -> None:
    rng, warnings = np.random.default_rng(4), list[str]()
    right, error = rng.normal(0.3, 0.06, (200, 200)), np.full((200, 200), 0.02)
    columns = [rng.normal(0.3, 0.06, (200, 16)) for _ in range(2)]
    rate, errors = like_columns(factor * right, factor * error, columns, warnings)
    # the median of the columns is known to 0.4 %
    assert rate == pytest.approx(applied * right, rel=0.02)
    assert errors == pytest.approx(applied * error, rel=0.02)
    assert len(warnings) == bool(words)
    assert words in "".join(warnings)


def test_dark_columns_that_are_missing_or_hidden_by_noise_prove_nothing() -> None:
    rng, warnings = np.random.default_rng(5), list[str]()
    rate = rng.normal(0.3, 0.06, (50, 50))
    for columns in ([], [rng.normal(0.001, 0.1, (50, 16))]):
        assert like_columns(rate, rate, columns, warnings)[0] is rate
    assert warnings == []
