"""The kernels that turn telemetry into electrons.

Each undoes its effect, reproduces a hand-worked number, and rejects impossible input.
"""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from schemas.errors import BadInputError
from tasks.calibration.apply import calibrate_images
from tasks.calibration.bias import (
    BiasReference,
    MarginLevels,
    clipped_mean,
    margin_levels,
    margin_mean,
    read_bias_reference,
)
from tasks.calibration.dark import ROW_PIXELS, ROW_SHIFT, dark_charge, read_times
from tasks.calibration.dark_frames import interpolate_frames
from tasks.calibration.detector import PerImage, Response, pixel_charge
from tasks.calibration.drift import smooth_in_time
from tasks.calibration.flat import between, bracket
from tasks.calibration.gain import GainFormula, gain_of, read_gain_formula
from tasks.calibration.linearity import read_curve, with_low_signal
from tasks.correction.smearing import margin_rows
from tasks.files.byte_order import to_big_endian
from tasks.files.writer import write_fits
from tasks.numerics.robust import MAD_TO_SIGMA, ring_statistics, robust_scatter
from tasks.numerics.series import fill_gaps
from tasks.scene.look import sample_indices
from tasks.scene.position import centre_of_light
from tasks.simulation.linearity import linearisation
from tasks.visit.attitude import interval_moments
from tasks.visit.clean import Effects, Hits, Sky, clean, clean_block
from tasks.visit.linearity_curve import linearise
from tasks.visit.raw import open_exposures
from tasks.visit.terms import Curve
from tests.support.any_product import RAW_VALUES, some_image, some_table
from tests.support.faults import edited, put_together, raw_product, take_apart
from tests.support.motion import at_rest


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


# ---- bias


def test_a_clipped_mean_leaves_out_outliers_and_nan() -> None:
    rows = np.array([[9.0, 10.0, 11.0, 10.0, 1e6, np.nan], [np.nan] * 6, [5.0, *[np.nan] * 5]])
    mean, sigma, number = clipped_mean(rows, 4.0)
    # by hand: mean of 9, 10, 11, 10 is 10, their variance 2/3
    assert mean[0] == 10
    assert sigma[0] == pytest.approx(np.sqrt(2 / 3), rel=1e-15)
    assert number.tolist() == [4, 0, 1]
    assert np.isnan(mean[1])
    assert np.isnan(sigma[1])
    assert (mean[2], np.isnan(sigma[2])) == (5, True)


def test_a_clipped_mean_of_noise_is_its_mean() -> None:
    rows = rng().normal(300.0, 7.0, (50, 2000))
    mean, sigma, number = clipped_mean(rows, 4.0)
    # the error of a mean is 7 / sqrt(2000) = 0.157; 50 draws stay within 4 of it
    assert np.abs(mean - 300).max() < 4 * 0.157
    # 4 sigma cut off 6e-5 of the points: sigma is 0.1 % low; its own error is 7 / sqrt(4000) = 1.6
    # %
    assert np.abs(sigma / 7 - 1).max() < 4 * 0.016 + 0.001
    assert (number > 1990).all()


def test_smoothing_leaves_a_constant_alone_and_lowers_its_error() -> None:
    time = np.arange(100) / 1440
    level, error = smooth_in_time(time, np.full(100, 301.5), np.full(100, 0.2), 10.5 / 1440)
    assert np.array_equal(level, np.full(100, 301.5))
    # eleven minutes lie within half a window of 5.25 minutes on either side
    assert error[50] == pytest.approx(0.2 / np.sqrt(11), rel=1e-12)
    assert error[0] == pytest.approx(0.2 / np.sqrt(6), rel=1e-12)


def test_smoothing_with_a_window_of_nothing_gives_the_values_back() -> None:
    time = np.sort(rng().uniform(0, 1, 50))
    values, errors = rng(2).normal(300, 1, 50), rng(3).uniform(0.1, 0.3, 50)
    level, error = smooth_in_time(time, values, errors, 0.0)
    # sums over all values are differenced: their rounding is some 1e-13 of the sum of weights
    assert np.allclose(level, values, rtol=0, atol=1e-10)
    assert np.allclose(error, errors, rtol=1e-10)


def test_smoothing_bridges_gaps_by_a_straight_line() -> None:
    time = np.arange(5.0)
    values = np.array([10.0, np.nan, np.nan, np.nan, 14.0])
    level, error = smooth_in_time(time, values, np.full(5, 0.5), 0.5)
    assert np.allclose(level, [10, 11, 12, 13, 14], rtol=1e-15)
    assert np.allclose(error, 0.5, rtol=1e-15)


def test_smoothing_weighs_by_errors_and_keeps_the_digits_of_large_offsets() -> None:
    time, values = np.array([0.0, 1e-9]), 1e9 + np.array([0.0, 3.0])
    level, _ = smooth_in_time(time, values, np.array([1.0, 2.0]), 1.0)
    # weights 1 and 1/4: (0 + 3/4) / (5/4) = 0.6; a double near 1e9 resolves 1e-7
    assert np.allclose(level - 1e9, 0.6, atol=3e-7)


def test_smoothing_only_nan_gives_nan() -> None:
    level, error = smooth_in_time(np.arange(3.0), np.full(3, np.nan), np.ones(3), 1.0)
    assert np.isnan(level).all()
    assert np.isnan(error).all()


def collapse(path: Path, form: str) -> None:
    """Collapse the margins as on board: per row, or in total."""
    parts = take_apart(path)
    for part in parts:
        if part.extname in ("SCI_RAW_BlankLeft", "SCI_RAW_BlankRight", "SCI_RAW_OverscanLeft"):
            pixels = part.pixels.astype(np.float64)
            axis: Any = 2 if form == "row collapsed" else (1, 2)
            columns = [pixels.mean(axis), np.median(pixels, axis), pixels.std(axis, ddof=1)]
            kinds = ["mean", "median", "stdev", "N/A"]
            if form == "total collapsed":
                middle = np.median(pixels, axis=(1, 2), keepdims=True)
                columns.append(np.median(np.abs(pixels - middle), axis=(1, 2)))
                kinds[3] = "MAD"
            collapsed = np.stack(columns, axis=-1).astype(np.float32)
            part.pixels = collapsed if form == "row collapsed" else collapsed[:, None, :]
            part.set("MRG_PROC", form)
            for i, kind in enumerate(kinds, 1):
                part.set(f"MRG_DTY{i}", kind)
        elif part.extname.startswith(("SCI_RAW_Dark", "SCI_RAW_OverscanTop")):
            part.set("EXTNAME", "NOT_USED")
    put_together(path, parts)


def levels(visit: Path, library: Path) -> MarginLevels:
    (frame,) = library.rglob("*_BiasFrame_*")
    reference = read_bias_reference(raw_product(frame), 100_000, "main")
    (path,) = visit.rglob("*SubArray*")
    with open_exposures(raw_product(path)) as raw:
        return margin_levels(raw, reference, 4.0)


def truth(visit: Path, column: str) -> Any:
    with fits.open(visit / "truth" / "truth.fits", memmap=False) as hdus:
        return np.asarray(hdus["TRUTH_STACKS"].data[column], dtype=float)


@pytest.mark.parametrize("form", ["image", "row collapsed", "total collapsed"])
def test_margins_of_each_form_give_the_true_level_within_their_noise(
    visit: Path, library: Path, form: str
) -> None:
    if form != "image":
        (path,) = visit.rglob("*SubArray*")
        collapse(path, form)
    level, error, ron, source, *_ = levels(visit, library)
    assert source == "OverscanLeft+BlankLeft+BlankRight"
    # 20 columns of 200 rows, stacks of 3 exposures: RON 7 ADU / sqrt(3 x 4000) is 0.06 ADU
    assert np.all((error > 0.02) & (error < 0.2))
    # the reference's structure of these columns is itself a mean with an error of about that size
    assert np.abs(level - truth(visit, "BIAS")).max() < 6 * error.max()
    # the noise of 4000 pixels is known to 1.1 %; clipping and means of small rows make some per
    # cent
    assert np.ptp(ron) / ron.mean() < 0.1


def test_the_read_out_noise_is_that_of_one_exposure_in_all_forms(
    visit: Path, library: Path
) -> None:
    found = [levels(visit, library)[2].mean()]
    (path,) = visit.rglob("*SubArray*")
    whole = path.read_bytes()
    for form in ("row collapsed", "total collapsed"):
        collapse(path, form)
        found.append(levels(visit, library)[2].mean())
        path.write_bytes(whole)
    # the difference is the structure of the columns, which can be subtracted only from pixels
    assert np.ptp(found) / np.mean(found) < 0.05


def test_collapsed_margins_without_a_mean_are_refused(visit: Path, library: Path) -> None:
    (path,) = visit.rglob("*SubArray*")
    collapse(path, "row collapsed")
    with edited(path, "SCI_RAW_BlankLeft") as part:
        part.set("MRG_DTY1", "mode")
    with pytest.raises(
        BadInputError,
        match="SCI_RAW_BlankLeft: keywords MRG_DTY1 to MRG_DTY4 are mode, median, stdev, N/A, "
        "without mean",
    ):
        levels(visit, library)


def set_margin(visit: Path, side: str, value: float, images: slice = slice(None)) -> None:
    """Fill a margin of some images with a value of one exposure."""
    (path,) = visit.rglob("*SubArray*")
    with edited(path, f"SCI_RAW_{side}") as part:
        pixels = part.pixels
        pixels[images] = 3 * value
        part.pixels = pixels


@pytest.mark.parametrize("value", [5000.0, 600.0, 2.0, 1e6])
def test_a_constant_margin_does_not_enter_level_and_noise(
    visit: Path, library: Path, value: float
) -> None:
    sound = levels(visit, library)
    set_margin(visit, "BlankLeft", value)
    found = levels(visit, library)
    assert found.source == "OverscanLeft+BlankRight"
    (warning,) = found.warnings
    assert "BlankLeft: level or noise of 12 of 12 images cannot be right" in warning
    assert not found.partial.any()
    # 12 of 20 columns are left: errors of 0.06 ADU become 0.08
    assert np.abs(found.level - sound.level).max() < 5 * 0.08
    assert found.ron == pytest.approx(sound.ron, rel=0.1)


def test_a_margin_that_is_wrong_or_incomplete_in_one_image_flags_that_image(
    visit: Path, library: Path
) -> None:
    sound = levels(visit, library)
    set_margin(visit, "BlankRight", 3000.0, slice(4, 5))
    (path,) = visit.rglob("*SubArray*")
    with edited(path, "SCI_RAW_OverscanLeft") as part:
        pixels = part.pixels
        pixels[7, :, 1] = 0  # no data
        part.pixels = pixels
    found = levels(visit, library)
    assert np.flatnonzero(found.partial).tolist() == [4, 7]
    assert "BlankRight: level or noise of 1 of 12" in found.warnings[0]
    assert np.abs(found.level - sound.level).max() < 5 * 0.08


def test_without_margins_there_is_no_level(visit: Path) -> None:
    (path,) = visit.rglob("*SubArray*")
    put_together(
        path, [p for p in take_apart(path) if "Left" not in p.extname and "Right" not in p.extname]
    )
    with open_exposures(raw_product(path)) as raw:
        level, _, ron, source, *_ = margin_levels(
            raw, BiasReference(300.0, 0.1, 7.0, np.zeros((1024, 1024)), {}), 4.0
        )
    assert source == ""
    assert np.isnan(level).all()
    assert np.isnan(ron).all()


# blocks of one image, of some, and all at once: the largest margin of an image takes 25.6 kB, the
# smallest 24 bytes
SIZES = (1, 30, 70_000, 150_000, 1 << 30)


@pytest.mark.parametrize("form", ["image", "row collapsed", "total collapsed"])
def test_margins_that_are_read_in_blocks_give_the_same_bits_whatever_the_size(
    visit: Path, library: Path, form: str
) -> None:
    (path,) = visit.rglob("*SubArray*")
    if form != "image":
        collapse(path, form)
    (frame,) = library.rglob("*_BiasFrame_*")
    reference = read_bias_reference(raw_product(frame), 100_000, "main")
    with open_exposures(raw_product(path)) as raw:
        whole = margin_levels(raw, reference, 4.0, size=1 << 30)
        assert all(np.isfinite(values).all() for values in whole[:3])
        for size in SIZES:
            found = margin_levels(raw, reference, 4.0, size=size)
            assert (found.source, found.warnings) == (whole.source, ())
            for one, other in zip(found[:3], whole[:3], strict=True):
                np.testing.assert_array_equal(one, other)


def test_rows_at_the_top_that_are_read_in_blocks_give_the_same_bits_whatever_the_size(
    visit: Path,
) -> None:
    (path,) = visit.rglob("*SubArray*")
    curve = np.zeros(1), np.array([[0.0, 1.01, 1e-7, 0.0]])
    with open_exposures(raw_product(path)) as raw:
        level, gain = rng(1).normal(300, 1, raw.count), rng(2).normal(0.5, 0.01, raw.count)
        good = rng(3).random(raw.count) < 0.7
        whole = margin_rows(raw, level, gain, curve, good, size=1 << 30)
        assert whole is not None
        assert np.isfinite(whole).all()
        for size in SIZES:
            found = margin_rows(raw, level, gain, curve, good, size=size)
            assert found is not None
            np.testing.assert_array_equal(found, whole)


def test_of_dark_columns_only_the_chosen_images_are_read(
    visit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = visit.rglob("*SubArray*")
    nothing = BiasReference(300.0, 0.1, 7.0, np.zeros((1024, 1024)), {})
    chosen = np.array([0, 3, 7])
    with open_exposures(raw_product(path)) as raw:
        asked: list[int] = []
        read_at = raw.file.read_at

        def counted(offset: int, buffer: memoryview) -> None:
            asked.append(len(buffer))
            read_at(offset, buffer)

        monkeypatch.setattr(raw.file, "read_at", counted)
        found = margin_mean(raw, "DarkLeft", nothing, chosen)
    pixels = fits.getdata(path, "SCI_RAW_DarkLeft")[chosen].astype(np.float64)
    assert found is not None
    np.testing.assert_array_equal(found, pixels / 3)
    assert sum(asked) == pixels.size * 4


@pytest.mark.parametrize("reader", ["levels", "rows"])
def test_margins_take_no_more_memory_when_there_are_more_of_them(
    tmp_path: Path, reader: str
) -> None:
    """Of a margin of 13 MB, only some blocks of 130 kB and some numbers per image are held."""
    images, path = 1000, tmp_path / "raw.fits"
    name, shape = (
        ("BlankLeft", (images, 200, 8)) if reader == "levels" else ("OverscanTop", (images, 80, 20))
    )
    hdus = [
        some_image("SCI_RAW_SubArray", (images, 200, 20), **RAW_VALUES),
        some_table("SCI_RAW_ImageMetadata", images),
    ]
    write_fits(path, [*hdus, some_image(f"SCI_RAW_{name}", shape, MRG_PROC="image", **RAW_VALUES)])
    nothing = BiasReference(300.0, 0.1, 7.0, np.zeros((1024, 1024)), {})
    ones, size = np.ones(images), 1 << 17
    with open_exposures(raw_product(path)) as raw:
        tracemalloc.start()
        try:
            if reader == "levels":
                margin_levels(raw, nothing, 4.0, size)
            else:
                margin_rows(
                    raw, ones, ones, (np.zeros(1), np.array([[0.0, 1.0, 0.0, 0.0]])), ones > 0, size
                )
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    # seven arrays of a block at a time, and of the rows their mean of 160 bytes an image three
    # times; the whole is 13 MB
    assert peak < 7 * size + 3 * 160 * images + (1 << 19)


# ---- gain


def nominal(formula: GainFormula) -> tuple[Any, Any, Any, Any, Any]:
    """Return VOD, VRD, VOG, VSS and temperature at which no term of the formula counts."""
    vss, vod, vrd, vog, temperature = formula.offsets
    return (
        np.array([vod + vss]),
        np.array([vrd + vss]),
        np.array([vog + vss]),
        np.array([vss]),
        np.array([temperature]),
    )


def test_nominal_housekeeping_gives_the_nominal_gain_exactly(library: Path) -> None:
    (path,) = library.rglob("*GainCorrection*")
    formula = read_gain_formula(raw_product(path))
    assert formula.nominal == 0.5111
    assert gain_of(*nominal(formula), formula).tolist() == [0.5111]


def test_a_warmer_camera_has_the_gain_that_the_sign_of_its_factor_says() -> None:
    # one term: factor -1e-3 a degree, nominal temperature -40: at -38 the gain is 0.2 % lower
    exponents = np.array([[0, 0, 0, 0, 1]])
    formula = GainFormula(0.5, np.array([0.0, 0.0, 0.0, 0.0, -40.0]), np.array([-1e-3]), exponents)
    vod, vrd, vog, vss, _ = nominal(formula)
    gain = gain_of(vod, vrd, vog, vss, np.array([-38.0]), formula)
    assert gain[0] == pytest.approx(0.5 * (1 - 2e-3), rel=1e-15)


def test_voltages_count_by_their_difference_to_the_substrate() -> None:
    # by hand: VSS 1 V above its offset, VOD - VSS 2 V above its own: 1 + 0.01 * 1 + 0.03 * 2^2 =
    # 1.13
    formula = GainFormula(
        1.0,
        np.array([8.0, 20.0, 9.0, -5.0, -40.0]),
        np.array([0.01, 0.03]),
        np.array([[1, 0, 0, 0, 0], [0, 2, 0, 0, 0]]),
    )
    vss = 9.0
    vod, vrd, vog, substrate, temperature = (
        np.array([v]) for v in (22 + vss, 9 + vss, -5 + vss, vss, -40.0)
    )
    assert gain_of(vod, vrd, vog, substrate, temperature, formula)[0] == pytest.approx(
        1.13, rel=1e-14
    )


def test_gaps_in_housekeeping_are_interpolated_unless_all_is_missing() -> None:
    assert fill_gaps(np.array([0.0, 1.0, 3.0]), np.array([2.0, np.nan, 5.0])).tolist() == [2, 3, 5]
    assert np.isnan(fill_gaps(np.arange(2.0), np.full(2, np.nan))).all()


# ---- linearity

BOUNDARY = np.array([100.0, 1100.0])

# corrected = 101 + 1.1 d + 1e-5 d^2 + 1e-9 d^3 from 100 on; from 1100 on it goes on from there:
# 1212 + 1.123 d
CUBIC = np.array([[101.0, 1.1, 1e-5, 1e-9], [1212.0, 1.123, 0.0, 0.0]])


def test_a_hand_worked_spline() -> None:
    signal = np.array([100.0, 600.0, 1100.0, 2100.0])
    # 600: d = 500: 101 + 550 + 2.5 + 0.125
    wanted = [101.0, 653.625, 1212.0, 2335.0]
    assert np.allclose(linearise(signal, BOUNDARY, CUBIC), wanted, rtol=1e-15)


def test_below_its_first_boundary_the_curve_goes_on_straight() -> None:
    signal = np.array([99.0, 0.0, -50.0])
    assert np.allclose(linearise(signal, BOUNDARY, CUBIC), 101 + 1.1 * (signal - 100), rtol=1e-15)


@pytest.mark.parametrize("frequency", [100_000, 230_000])
def test_the_curve_undoes_what_the_detector_does(frequency: int) -> None:
    curve = linearisation(frequency)
    coefficients = np.stack([curve.c0, curve.c1, curve.c2, np.zeros_like(curve.c0)], axis=1)
    true = np.linspace(0, 0.99 * float(curve.correct(np.array([curve.end]))[0]), 5000)
    again = linearise(curve.measure(true), curve.boundary, coefficients)
    # a square root is inverted in doubles of some 1e5 electrons
    assert np.allclose(again, true, rtol=0, atol=1e-8)


@pytest.mark.parametrize("frequency", [100_000, 230_000])
def test_the_look_up_table_is_the_spline_within_its_steps(
    visit: Path, library: Path, frequency: int
) -> None:
    (path,) = library.rglob("*CCDLinearisation*")
    (boundary, cubic), end = read_curve(raw_product(path), frequency)
    table = visit / "table.fits"
    parts = take_apart(path)
    put_together(table, [p for p in parts if "LUT" in p.extname or not p.extname])
    (steps, straight), last = read_curve(raw_product(table), frequency)
    signal = rng().uniform(0, end, 20_000)
    apart = np.abs(linearise(signal, boundary, cubic) - linearise(signal, steps, straight))
    # a chord of width h leaves a parabola by at most c2 h^2 / 4
    piece = np.searchsorted(boundary, signal, "right") - 1
    bound = cubic[piece, 2] * np.diff(steps)[0] ** 2 / 4
    kink = np.min(np.abs(signal[:, None] - boundary[None, :]), axis=1) < np.diff(steps)[0]
    # the table holds single precision: 2^-24 of 1.2e5 electrons in each of its columns
    assert (apart <= bound + 0.02)[~kink].all()
    assert last == pytest.approx(end, rel=1e-12)


# ---- dark


@pytest.mark.parametrize("missing", [0.04, -0.1])
@pytest.mark.parametrize("curve", ["straight", "reference"])
def test_charge_that_is_missing_at_low_signal_is_restored(
    library: Path, curve: str, missing: float
) -> None:
    reference = Curve(np.zeros(1), np.array([[0.0, 1.0, 0.0, 0.0]]))
    if curve == "reference":
        (path,) = library.rglob("*REF_APP_CCDLinearisation*")
        reference, _ = read_curve(raw_product(path), 100_000)
    signal = np.linspace(-20.0, 1.2e5, 240_041)  # every half electron
    usual, found = (
        linearise(signal, *reference),
        linearise(signal, *with_low_signal(reference, missing)),
    )
    held = 1 - missing * np.clip(800 - usual, 0, None) / 700
    # a cubic over h = 25 electrons misses the quotient by h^4 / 384 times its fourth derivative 24
    # (missing / 700)^3: 7e-8; below 0 the curve goes on straight, which is 20^2 / 2 times its
    # second derivative, 0.03 electron
    charged = signal >= 0
    assert np.abs(found - usual / held)[charged].max() < 1e-6
    assert np.abs(found - usual / held)[~charged].max() < 0.1
    # by hand: 96 electrons of 100 are seen where 4 % are missing
    if (curve, missing) == ("straight", 0.04):
        assert linearise(
            np.array([100.0, 450.0, 800.0]), *with_low_signal(reference, missing)
        ) == pytest.approx([100 / 0.96, 450 / 0.98, 800.0], abs=1e-6)


def test_a_whole_frame_is_read_in_11_15_seconds() -> None:
    waits = read_times((1033, 1024), 0, 0, 100_000)
    # 1076 pixels at 100 kHz and one shift a row: 10.79 ms; 1033 rows: 11.146 s
    assert waits[1, 0] - waits[0, 0] == pytest.approx(0.01079, rel=1e-9)
    row = ROW_PIXELS / 100_000 + ROW_SHIFT
    assert 1033 * row == pytest.approx(
        11.15, abs=0.005
    )  # as it was published, to a hundredth of a second
    # the last exposed pixel goes 24 pixels (16 dark, 8 blank) before the end of the last row
    assert waits[-1, -1] == pytest.approx(
        1033 * row - 24 / 100_000, abs=1.1e-5
    )  # a pixel more or less: 10 microseconds


def test_the_first_pixel_waits_for_a_shift_and_the_columns_before_it() -> None:
    # 4 overscan, 8 blank, 16 dark columns are read before the first exposed one
    assert read_times((1, 1), 0, 0, 100_000)[0, 0] == pytest.approx(30e-6 + 28e-5, rel=1e-12)


def test_a_window_is_part_of_the_frame_it_is_cut_from() -> None:
    whole, window = read_times((1024, 1024), 0, 0, 230_000), read_times((20, 30), 400, 500, 230_000)
    assert np.allclose(window, whole[400:420, 500:530], rtol=1e-12)


def test_a_given_row_time_counts_in_place_of_the_nominal_one() -> None:
    assert np.allclose(
        np.diff(read_times((5, 1), 0, 0, 100_000, row_time=0.02)[:, 0]), 0.02, rtol=1e-12
    )


def test_dark_charge_is_collected_while_exposing_and_waiting() -> None:
    charge = dark_charge(np.array([[0.05, 2.0]]), 20.0, np.array([[0.0, 11.0]]))
    assert charge.tolist() == [[1.0, 62.0]]


def test_dark_current_of_another_shape_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"dark current has the shape \(200, 200\), read-out time \(200, 199\)"
    ):
        dark_charge(np.zeros((200, 200)), 1.0, np.zeros((200, 199)))


def test_between_two_dark_frames_the_current_changes_evenly() -> None:
    times, frames = np.array([10.0, 30.0]), np.stack([np.full((2, 2), 1.0), np.full((2, 2), 3.0)])
    errors = np.stack([np.full((2, 2), 0.3), np.full((2, 2), 0.4)])
    rate, error = interpolate_frames(20.0, times, frames, errors)
    assert np.allclose(rate, 2.0, rtol=1e-15)
    assert np.allclose(error, 0.25, rtol=1e-15)  # sqrt(0.15^2 + 0.2^2)
    for time, wanted in ((10.0, 1.0), (0.0, 1.0), (30.0, 3.0), (99.0, 3.0)):
        assert (interpolate_frames(time, times, frames, errors)[0] == wanted).all()


def test_one_dark_frame_holds_for_all_times() -> None:
    frame, error = rng().uniform(0, 1, (1, 3, 3)), rng(2).uniform(0, 1, (1, 3, 3))
    rate, sigma = interpolate_frames(123.0, np.array([50.0]), frame, error)
    assert (rate == frame[0]).all()
    assert (sigma == error[0]).all()


# ---- flat


@pytest.mark.parametrize(
    ("teff", "wanted"),
    [
        (3000.0, (0, 0, 0.0)),
        (2000.0, (0, 0, 0.0)),
        (3500.0, (0, 1, 0.25)),
        (5000.0, (1, 2, 0.0)),
        (9000.0, (2, 2, 0.0)),
    ],
)
def test_a_temperature_lies_between_two_entries_or_at_the_edge(
    teff: float, wanted: tuple[int, int, float]
) -> None:
    assert bracket(teff, np.array([3000.0, 5000.0, 8000.0])) == wanted


@given(
    st.floats(1000, 20000),
    arrays(float, st.integers(1, 8), elements=st.floats(2000, 10000), unique=True),
)
def test_the_interpolated_temperature_is_the_one_asked_for_within_the_grid(
    teff: float, grid: Any
) -> None:
    grid = np.sort(grid)
    if np.any(np.diff(grid) < 1e-3):
        return  # nobody makes flat fields a thousandth of a degree apart
    i, j, weight = bracket(teff, grid)
    # weights are quotients of differences: half a unit in the last place of temperatures up to 1e4,
    # over steps of 1e-3
    assert between(grid[i], grid[j], weight) == pytest.approx(
        np.clip(teff, grid[0], grid[-1]), abs=1e-5
    )


def test_between_two_flat_fields_the_weight_is_that_of_the_second() -> None:
    first, second = np.array([1.0, 0.9]), np.array([1.2, 1.0])
    assert np.allclose(between(first, second, 0.25), [1.05, 0.925], rtol=1e-15)
    assert between(first, second, 0.0) is first


# ---- all of it in one pass


def as_words(values: Any) -> Any:
    """Return unsigned integers as FITS stores them: big-endian words of the value minus 2^31."""
    return (values.astype(np.int64) - 2**31).astype(">i4").view(np.uint32)


def forward(
    electrons: Any,
    n: Any,
    level: Any,
    gain: Any,
    thermal: Any,
    structure: Any,
    dark: Any,
    flat: Any,
    nodes: Any,
    values: Any,
) -> Any:
    """Return the ADU of a stack from its calibrated electrons.

    The curve consists of straight pieces, so its inverse is exact.
    """
    each = electrons * flat / n[:, None, None] + dark * thermal[:, None, None]
    signal = np.interp(each, values, nodes)
    return n[:, None, None] * (signal * gain[:, None, None] + level[:, None, None] + structure)


def calibration(count: int = 6, ny: int = 9, nx: int = 7) -> dict[str, Any]:
    """Return invented terms for a few images."""
    draw = rng(5)
    nodes = np.array([-1e6, 1e4, 5e4, 2e6])
    slope = np.array([0.98, 1.0, 1.03])
    values = np.concatenate([[-1e6 * 0.98], -1e6 * 0.98 + np.cumsum(slope * np.diff(nodes))])
    return {
        "n": draw.integers(1, 60, count).astype(float),
        "level": draw.normal(300, 5, count),
        "gain": draw.normal(0.51, 0.01, count),
        "thermal": draw.normal(1.0, 0.1, count),
        "structure": draw.normal(0, 2, (ny, nx)),
        "dark": draw.uniform(0, 5, (ny, nx)),
        "flat": draw.normal(1, 0.01, (ny, nx)),
        "nodes": nodes,
        "values": values,
        "slope": slope,
    }


def calibrated(words: Any, t: dict[str, Any], scale: Any = None, x0: int = 0, y0: int = 0) -> Any:
    count = len(words)
    out = np.full(words.shape, -1.0)
    cubic = np.stack([t["values"][:-1], t["slope"], np.zeros(3), np.zeros(3)], axis=1)
    images = PerImage(
        t["n"],
        t["n"] if scale is None else scale,
        t["level"],
        t["gain"],
        t["thermal"],
        np.full(count, x0),
        np.full(count, y0),
    )
    response, curve = Response(t["structure"], t["dark"], t["flat"]), Curve(t["nodes"][:-1], cubic)
    calibrate_images(words, images, response, curve, at_rest(count), out)
    return out


def test_calibration_undoes_the_detector() -> None:
    t = calibration()
    n = t["n"].astype(np.uint64)[:, None, None]
    raw = rng(6).integers(1, 65535, (6, 9, 7), endpoint=True).astype(np.uint64) * n
    electrons = calibrated(as_words(raw), t)
    again = forward(
        electrons,
        *(
            t[k]
            for k in (
                "n",
                "level",
                "gain",
                "thermal",
                "structure",
                "dark",
                "flat",
                "nodes",
                "values",
            )
        ),
    )
    # a dozen operations in double precision, each 1e-16 of values up to 4e6
    assert np.allclose(again, raw, rtol=1e-12, atol=1e-8)


def test_values_beyond_the_range_of_the_converter_become_nan() -> None:
    t = calibration()
    full = 65535 * t["n"].astype(np.uint64)
    raw = np.tile(full[:, None, None], (1, 9, 7))
    raw[:, 2, 3] += 1
    raw[:, 4, 5] = 2**32 - 1_000_000
    lost = np.zeros((9, 7), dtype=bool)
    lost[2, 3] = lost[4, 5] = True
    assert np.array_equal(np.isnan(calibrated(as_words(raw), t)), np.tile(lost, (6, 1, 1)))


def test_the_second_order_of_the_curve_is_limited_to_a_hundredth_of_the_signal() -> None:
    boundary, cubic = np.array([0.0]), np.array([[0.0, 1.0, 2e-4, 0.0]])
    # 1/2 f'' V = 2e-4 V
    assert pixel_charge(1e4, 1e5, 0.0, boundary, cubic) == pytest.approx((3e4 + 20, 3e4 + 20))
    assert pixel_charge(1e4, 1e8, 0.0, boundary, cubic)[0] == pytest.approx(3e4 + 100)
    assert pixel_charge(1e4, 1e8, 0.0, boundary, -cubic)[0] == pytest.approx(-3e4 - 100)


def test_calibration_is_the_formula() -> None:
    t = calibration()
    raw = (
        rng(7).integers(1, 65535, (6, 9, 7)).astype(np.uint64)
        * t["n"].astype(np.uint64)[:, None, None]
    )
    n, level, gain = (t[k][:, None, None] for k in ("n", "level", "gain"))
    signal = (raw / n - level - t["structure"]) / gain
    thermal = t["thermal"][:, None, None] * t["dark"]
    wanted = n * (np.interp(signal, t["nodes"], t["values"]) - thermal) / t["flat"]
    # signals of some electrons are differences of some hundred ADU: 1e-12 of the whole, not of the
    # difference
    assert np.allclose(
        calibrated(as_words(raw), t), wanted, rtol=1e-12, atol=1e-12 * float(wanted.max())
    )


def test_stacks_that_are_means_are_scaled_to_sums() -> None:
    t = calibration()
    mean = rng(8).integers(500, 60000, (6, 9, 7)).astype(np.uint64)
    total = mean * t["n"].astype(np.uint64)[:, None, None]
    assert np.allclose(
        calibrated(as_words(mean), t, scale=np.ones(6)), calibrated(as_words(total), t), rtol=1e-12
    )


def test_a_raw_zero_is_no_data() -> None:
    t = calibration()
    raw = rng(9).integers(1, 60000, (6, 9, 7)).astype(np.uint64)
    raw[2, 3, 4] = 0
    out = calibrated(as_words(raw), t)
    assert np.argwhere(np.isnan(out)).tolist() == [[2, 3, 4]]


def test_every_word_is_decoded_as_the_unsigned_integer_it_is() -> None:
    t = calibration(1, 1, 5)
    t |= {
        "n": np.full(1, 2.0**17),  # no word is beyond the range of so many exposures
        "level": np.zeros(1),
        "gain": np.ones(1),
        "thermal": np.ones(1),
        "structure": np.zeros((1, 5)),
        "dark": np.zeros((1, 5)),
    }
    t |= {
        "flat": np.ones((1, 5)),
        "nodes": np.array([0.0, 1.0, 2.0, 3.0]),
        "values": np.array([0.0, 1.0, 2.0, 3.0]),
        "slope": np.ones(3),
    }
    raw = np.array([[[1, 258, 65535, 16909060, 2**32 - 1]]], dtype=np.uint64)
    assert calibrated(as_words(raw), t)[0, 0].tolist() == raw[0, 0].astype(float).tolist()


def test_imagettes_take_their_own_part_of_the_terms() -> None:
    t = calibration(2, 9, 7)
    raw = rng(10).integers(500, 60000, (2, 9, 7)).astype(np.uint64)
    whole = calibrated(as_words(raw), t)
    part = calibrated(as_words(np.ascontiguousarray(raw[:, 4:8, 2:5])), t, x0=2, y0=4)
    assert (part == whole[:, 4:8, 2:5]).all()


# ---- words


@given(
    arrays(
        np.float64,
        st.integers(0, 50),
        elements=st.floats(allow_nan=True, allow_infinity=True, width=64),
    )
)
def test_words_are_turned_as_numpy_turns_them_and_summed_as_fits_wants(values: Any) -> None:
    words = values.copy()
    total = int(to_big_endian(words.view(np.uint64)))
    assert words.tobytes() == values.astype(">f8").tobytes()
    # DATASUM is the sum of 32-bit words modulo 2^32 - 1
    assert (
        total % 0xFFFFFFFF
        == int(np.frombuffer(words.tobytes(), ">u4").astype(object).sum()) % 0xFFFFFFFF
    )


def test_the_sum_is_the_datasum_that_astropy_writes() -> None:
    image = rng().normal(
        1e5, 1e3, (3, 20, 36)
    )  # 17280 bytes: whole blocks of 2880, so that no padding counts
    hdu = fits.ImageHDU(image.copy())
    hdu.add_datasum()
    assert int(to_big_endian(image.view(np.uint64))) % 0xFFFFFFFF == int(hdu.header["DATASUM"])


# ---- scene and correction


@given(st.integers(0, 2**32 - 1))
def test_offsets_of_intervals_are_those_of_their_samples(seed: int) -> None:
    draw = rng(seed)
    time = np.sort(draw.uniform(0, 10, draw.integers(1, 60)))
    values = 170 + draw.normal(0, 1e-3, len(time))
    start = draw.uniform(-2, 11, 8)
    stop = start + draw.uniform(0, 4, 8)
    mean, variance = interval_moments(time, values, start, stop)
    for i in range(8):
        inside = values[(time >= start[i]) & (time < stop[i])]
        if not inside.size:
            assert np.isnan(mean[i])
            assert np.isnan(variance[i])
            continue
        assert mean[i] == pytest.approx(inside.mean(), abs=1e-12)
        # sums of squares of 1e-3 are differenced: 1e-16 of 1e-6 times 60
        assert variance[i] == pytest.approx(inside.var(), abs=1e-17 * 60)


def star(x: float, y: float, size: int = 200, sigma: float = 6.0, flux: float = 1e6) -> Any:
    """Return a star without noise, its light integrated over each pixel."""
    from scipy.special import erf

    def share(centre: float) -> Any:
        return np.diff(erf((np.arange(size + 1) - centre) / (np.sqrt(2) * sigma))) / 2

    return flux * np.outer(share(y), share(x))


@given(st.floats(92, 108), st.floats(92, 108))
def test_the_centre_of_light_is_that_of_a_star_without_noise(x: float, y: float) -> None:
    found = np.empty((1, 5))
    centre_of_light(
        star(x, y)[None], np.array([100.0]), np.array([100.0]), 25.0, 50, np.ones(1), found
    )
    assert found[0, 4] == 1
    # the window ends where the star has 2e-4 of its middle; it rests when it moves less than 1e-5
    assert np.hypot(found[0, 0] - x, found[0, 1] - y) < 1e-4


def test_pixels_without_data_far_from_the_star_do_not_move_it() -> None:
    image = star(100.3, 99.6)
    yy, xx = np.indices(image.shape) - 99.5
    image[np.hypot(xx, yy) > 60] = np.nan
    found = np.empty((1, 5))
    centre_of_light(image[None], np.array([100.0]), np.array([100.0]), 25.0, 50, np.ones(1), found)
    assert np.hypot(found[0, 0] - 100.3, found[0, 1] - 99.6) < 1e-4


@pytest.mark.parametrize("value", [0.0, -5.0, np.nan])
def test_an_image_without_light_has_no_centre(value: float) -> None:
    found = np.empty((1, 5))
    centre_of_light(
        np.full((1, 200, 200), value),
        np.array([100.0]),
        np.array([100.0]),
        25.0,
        50,
        np.ones(1),
        found,
    )
    assert found[0, 4] == 0


@given(st.integers(0, 2**32 - 1))
def test_ring_statistics_are_those_of_numpy(seed: int) -> None:
    draw = rng(seed)
    image = draw.normal(50, 5, (1, 40, 44))
    image[0, draw.integers(0, 40, 30), draw.integers(0, 44, 30)] = draw.choice(
        [1e5, np.nan, -1e4], 30
    )
    x, y, inner, outer = 20 + draw.uniform(-3, 3), 19 + draw.uniform(-3, 3), 5.0, 14.0
    out = np.empty((1, 4))
    ring_statistics(image, np.array([x]), np.array([y]), inner, outer, 3.0, out)
    yy, xx = np.indices((40, 44)) + 0.5
    distance = np.hypot(xx - x, yy - y)
    values = image[0][(distance >= inner) & (distance <= outer)]
    values = values[np.isfinite(values)]
    centre = np.median(values)
    assert out[0, 0] == pytest.approx(centre, rel=1e-14)
    limit = 3 * MAD_TO_SIGMA * np.median(np.abs(values - centre))
    for _ in range(200):
        kept = values[np.abs(values - centre) <= limit]
        centre = kept.mean()
    # the kernel rests when its centre moves less than 1e-4 of the limit of 15: a pixel at the edge
    # may make a difference
    assert out[0, 3] == pytest.approx(kept.size, abs=1)
    assert out[0, 1] == pytest.approx(kept.mean(), abs=15 / kept.size + 2e-3)
    if out[0, 3] == kept.size:
        assert out[0, 1] == pytest.approx(kept.mean(), rel=1e-12)
        assert out[0, 2] == pytest.approx(kept.std(), rel=1e-10)


def test_a_ring_without_pixels_has_no_level() -> None:
    out = np.empty((1, 4))
    ring_statistics(
        np.full((1, 9, 9), np.nan), np.array([4.0]), np.array([4.0]), 1.0, 4.0, 3.0, out
    )
    assert np.isnan(out[0, :3]).all()
    assert out[0, 3] == 0


def test_robust_scatter_of_noise_is_its_sigma_and_of_nothing_is_zero() -> None:
    values = rng().normal(0, 2, 100_000)
    # the MAD of 1e5 points is known to 0.4 %
    assert robust_scatter(values) == pytest.approx(2.0, rel=4 * 0.004)
    assert robust_scatter(np.array([np.nan, 1.0, 1.0])) == 0
    assert robust_scatter(np.empty(0)) == 0


def test_cleaning_takes_every_effect_out_once_and_leaves_no_data_alone() -> None:
    draw = rng()
    images, level, smear, static = (
        draw.normal(100, 3, (3, 5, 6)),
        draw.normal(10, 2, 3),
        draw.random((3, 6)),
        draw.random((5, 6)),
    )
    images[1, 2, 3] = np.nan
    hits = np.zeros((3, 5, 6))
    hits[0, 4, 5], hits[2, 0, 1], hits[2, 3, 3] = 50.0, 60.0, 70.0
    first, pixel, amount = (
        np.array([0, 1, 1, 3]),
        np.array([29, 1, 21]),
        np.array([50.0, 60.0, 70.0]),
    )
    wanted = images - (level[:, None, None] + smear[:, None, :] + static) - hits
    slope, centre = draw.normal(0, 0.1, (3, 2)), (2.5, 1.0)
    rows, columns = np.mgrid[:5, :6]
    wanted -= slope[:, 0, None, None] * (columns - 2.5) + slope[:, 1, None, None] * (rows - 1.0)
    clean(images, Sky(level, slope, centre), smear, static, Hits(first, pixel, amount))
    # rounding of sums in another order
    np.testing.assert_allclose(images, wanted, rtol=0, atol=1e-12)


def test_effects_of_another_window_are_refused() -> None:
    images = np.zeros((2, 5, 6))
    message = r"smearing \(2, 7\), static excess \(5, 6\): expected \(2, 6\) and \(5, 6\)"
    with pytest.raises(ValueError, match=message):
        clean_block(images, slice(0, 2), Effects(np.zeros(2), smearing=np.zeros((2, 7))))


@given(st.integers(1, 400), st.integers(1, 200))
def test_a_sample_is_evenly_spread_and_of_usable_images(count: int, size: int) -> None:
    usable = rng(count).random(count) < 0.7
    chosen = sample_indices(usable, size)
    assert usable[chosen].all()
    assert len(chosen) == min(size, int(usable.sum()))
    if len(chosen) > 1:
        place = np.searchsorted(np.flatnonzero(usable), chosen)
        assert (place[0], place[-1]) == (0, usable.sum() - 1) or len(chosen) == 1
        assert np.ptp(np.diff(place)) <= 1
