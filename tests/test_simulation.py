"""The simulator makes what it says: its physics, its products and its repeatability."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time
from pydantic import ValidationError

from tasks.simulation import detector, optics, spacecraft
from tasks.simulation.camera import Camera
from tasks.simulation.plan import PIXEL_SCALE, Plan
from tasks.simulation.visit import Case, case_names, load_case, simulate_visit

SHARED = Path(__file__).parents[2] / "shared"
SMALL = {"images": 3, "nexp": 2, "width": 64, "height": 64, "window_x": 480, "window_y": 480, "saa": "never"}


def small(**settings: object) -> Case:
    return Case.model_validate({**SMALL, **settings})


def one(folder: Path, extname: str) -> Path:
    (path,) = folder.rglob(f"*_{extname}[-_]*.fits")
    return path


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("visit")
    simulate_visit(folder, small(imagettes=True, full_frame=True), seed=5)
    return folder


def test_photons_and_read_out_have_the_noise_of_poisson_and_of_the_amplifier() -> None:
    case = small(dark=False, flat=False, nonlinearity=False)
    camera = Camera(case, detector.read_out_mode(20.0), 480, 480, 64, 64, 0.0)
    rng, light, gain = np.random.default_rng(1), 5000.0, 0.514
    dark = np.zeros((64, 64))
    frames = [camera.read(rng, dark + light, dark[0], dark, gain, 0.0)[0] - camera.bias[0] for _ in range(20)]
    electrons = np.stack(frames) / gain
    variance = light + (detector.READ_OUT_NOISE[100_000] / gain) ** 2 + 1 / 12 / gain**2  # the last is rounding
    # 81 920 values: mean and variance scatter by sqrt(v / n) and v sqrt(2 / n); five of these
    assert electrons.mean() == pytest.approx(light, abs=5 * np.sqrt(variance / electrons.size))
    assert electrons.var() == pytest.approx(variance, rel=5 * np.sqrt(2 / electrons.size))


def test_no_light_is_lost_between_psf_and_pixels() -> None:
    picture = optics.flight_like_psf().image(np.array([512.3]), np.array([511.8]), 1.0, 0, 0, 1024, 1024)
    y, x = np.mgrid[:1024, :1024] + 0.5
    # the window reaches 16 sigma of the widest Gaussian: rounding is all that is left
    assert picture.sum() == pytest.approx(1.0, abs=1e-12)
    assert (picture * x).sum() == pytest.approx(512.3, abs=1e-9)
    assert (picture * y).sum() == pytest.approx(511.8, abs=1e-9)
    assert 0.88 < picture[np.hypot(x - 512.3, y - 511.8) < 16.3].sum() < 0.92  # R90 of the flight PSF is 16.2


def test_pixel_integrals_are_exact() -> None:
    psf = optics.flight_like_psf()
    x, y = np.array([10.37, 10.61]), np.array([9.82, 9.5])
    fine = np.arange(4, 5, 0.01) + 0.005
    points = [
        psf.weight * np.exp(-((fx - x[:, None] - psf.x) ** 2 + (fy - y[:, None] - psf.y) ** 2) / 2 / psf.sigma**2)
        for fx in fine
        for fy in fine
    ]
    sampled = np.sum(np.stack(points) / (2 * np.pi * psf.sigma**2)) * 0.01**2 / 2
    # the mid-point rule with 100 steps a pixel errs by (0.01 / sigma)^2 / 24 at most; the halo stands at the mean place
    assert psf.image(x, y, 1.0, 4, 4, 1, 1)[0, 0] == pytest.approx(sampled, rel=1e-5)


def test_light_in_the_columns_is_that_of_the_whole_image() -> None:
    psf = optics.flight_like_psf()
    x, y = np.array([500.2]), np.array([300.9])
    whole = psf.image(x, y, 7.0, 400, 0, 200, 1024).sum(axis=0)
    np.testing.assert_allclose(psf.columns(x, y, np.array([7.0]), 400, 200, 1024), whole, rtol=0, atol=1e-12)


def test_reading_the_whole_ccd_takes_eleven_seconds_and_a_window_takes_two() -> None:
    whole = detector.read_time(detector.read_out_mode(20.0), 412, 200)
    window = detector.read_time(detector.read_out_mode(5.0), 412, 200)
    # 1033 rows of 1076 pixels at 10 microseconds and a shift of 30
    assert whole.max() == pytest.approx(1033 * (1076 * 10e-6 + 30e-6), abs=1e-12)
    assert np.diff(whole[:, 100]) == pytest.approx(0.01079, abs=1e-9)
    # 412 rows are dumped in 12 ms before the window, which takes 2.16 s
    assert window[411, -1] == pytest.approx(412 * 30e-6, abs=1e-9)
    assert window[611, -1] - window[411, -1] == pytest.approx(2.158, abs=1e-3)


def test_dark_charge_grows_from_the_bottom_to_the_top() -> None:
    camera = Camera(small(exptime=60.0), detector.read_out_mode(60.0), 0, 0, 1024, 1024, 0.0)
    rows = np.median(camera.dark[0], axis=1)
    # 11.05 s of read-out on 60 s; a median of 1024 pixels that differ by 20 % errs by 0.8 %, these means by 0.1 %
    assert rows[-64:].mean() / rows[:64].mean() == pytest.approx((60 + 10.7) / (60 + 0.35), rel=0.006)


@pytest.mark.parametrize("frequency", [100_000, 230_000])
def test_the_detector_undoes_its_own_linearisation(frequency: int) -> None:
    curve = detector.linearisation(frequency)
    true = np.linspace(0, 120_000, 5001)
    # closed formulas both ways: rounding of float64 on 1e5 electrons
    np.testing.assert_allclose(curve.correct(curve.measure(true)), true, rtol=0, atol=1e-9)
    assert curve.measure(np.array([1e6]))[0] == curve.end


def test_the_gain_of_flight_housekeeping_is_that_of_flight() -> None:
    volts = detector.VOLTAGES
    gain = detector.gain(volts["VSS"], volts["VOD"], volts["VRD"], volts["VOG"], detector.CCD_TEMPERATURE)
    assert 1 / float(gain) == pytest.approx(1.946, abs=0.001)  # electron/ADU, as published to four digits


@pytest.mark.filterwarnings("ignore:.*dubious year")
@pytest.mark.parametrize("start", ["2016-12-31T23:59:55.25", "2024-03-10T08:00:00", "2031-06-01T00:00:00"])
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
    delay = time.light_travel_time(SkyCoord(170.0 * units.deg, 20.0 * units.deg), "barycentric").to_value("s")
    ours = (float(clock.barycentric(0.0, 170.0, 20.0)) - 2400000.5 - float(clock.mjd(0.0))) * 86400
    assert ours == pytest.approx(delay, abs=1e-4)  # a double of a Julian date resolves 4e-5 s


def test_stars_of_the_catalogue_stand_where_the_attitude_puts_them(visit: Path) -> None:
    attitude = fits.getdata(one(visit, "SCI_RAW_Attitude"))
    roll = np.unwrap(attitude["SC_ROLL_ANGLE"], period=360)
    assert np.all(np.diff(roll) < 0)
    assert np.diff(roll).mean() == pytest.approx(-360 / spacecraft.PERIOD, rel=0.15)  # it swings by 12 % along the orbit
    truth = fits.getdata(visit / "truth/truth.fits", "TRUTH_EXPOSURES")
    target = fits.getdata(one(visit, "EXT_PRE_StarCatalogue"))[0]
    assert target["TARGET"]
    for row in truth[:2]:
        seconds = (attitude["MJD_TIME"] - row["MJD_TIME"]) * 86400
        near = np.abs(seconds) < 9.6
        cosine = np.cos(np.deg2rad(target["DEC"]))
        xi = 3600 * np.mean(target["RA"] - attitude["SC_RA"][near].astype(float)) * cosine
        eta = 3600 * np.mean(target["DEC"] - attitude["SC_DEC"][near].astype(float))
        x, y = spacecraft.on_ccd(xi, eta, roll[near].mean(), PIXEL_SCALE)
        # SC_RA is a float32: 0.055 arcsec steps at 170 deg, here averaged; jitter in the exposure's ends adds some 0.02
        assert (512 + x, 512 + y) == pytest.approx((row["CENTROID_X"], row["CENTROID_Y"]), abs=0.08)


def test_margins_are_told_in_three_forms_of_the_same_pixels(tmp_path: Path) -> None:
    for mode in ("image", "reduced", "total collapsed"):
        simulate_visit(tmp_path / mode, small(margins=mode))
    image, reduced, total = (
        fits.open(one(tmp_path / mode, "SCI_RAW_SubArray")) for mode in ("image", "reduced", "total collapsed")
    )
    with image, reduced, total:
        order = [hdu.name for hdu in image[1:]]
        assert order[1:8] == [
            f"SCI_RAW_{n}"
            for n in ("BlankLeft", "BlankRight", "DarkLeft", "DarkRight", "DarkTop", "OverscanLeft", "OverscanTop")
        ]
        blank = image["SCI_RAW_BlankLeft"].data[1].astype(float)
        four = blank.mean(), blank.std(ddof=1), np.median(blank), np.median(np.abs(blank - np.median(blank)))
        np.testing.assert_allclose(reduced["SCI_RAW_BlankLeft"].data[1], [four], rtol=1e-6)  # float32
        np.testing.assert_allclose(total["SCI_RAW_BlankLeft"].data[1], [four], rtol=1e-6)
        assert reduced["SCI_RAW_DarkRight"].data.shape == (3, 64, 3)
        rows = image["SCI_RAW_DarkRight"].data[2].astype(float)
        np.testing.assert_allclose(reduced["SCI_RAW_DarkRight"].data[2][:, 0], rows.mean(axis=1), rtol=1e-6)
        assert reduced["SCI_RAW_OverscanTop"].data.shape == image["SCI_RAW_OverscanTop"].data.shape == (3, 6, 64)
        assert total["SCI_RAW_DarkTop"].data.shape == (3, 4, 1)
        assert total["SCI_RAW_DarkLeft"].data.shape == (3, 1, 4)
        assert [f[3].header["MRG_PROC"] for f in (image, reduced, total)] == [
            "image",
            "total collapsed",
            "total collapsed",
        ]
        assert [f[5].header["MRG_PROC"] for f in (image, reduced, total)] == [
            "image",
            "row collapsed",
            "total collapsed",
        ]
        assert np.array_equal(image[1].data, total[1].data)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    case = small(imagettes=True)
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        simulate_visit(tmp_path / name, case, seed)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert set(digests(tmp_path / "a").values()).isdisjoint(
        {digest for name, digest in digests(tmp_path / "c").items() if "Orbit" not in name and "Visits" not in name}
    )


def test_imagettes_add_up_to_the_stack(visit: Path) -> None:
    with fits.open(one(visit, "SCI_RAW_Imagette")) as imagettes, fits.open(one(visit, "SCI_RAW_SubArray")) as stacks:
        row = imagettes[2].data[0]
        cut = (
            slice(row["Y_OFF_SUB_ARRAY"], row["Y_OFF_SUB_ARRAY"] + 35),
            slice(row["X_OFF_SUB_ARRAY"], row["X_OFF_SUB_ARRAY"] + 35),
        )
        pair = imagettes[1].data[:2].astype(int).sum(axis=0)
        assert row["X_OFF_FULL_ARRAY"] == 480 + row["X_OFF_SUB_ARRAY"]
        assert np.array_equal(pair[pair > 0], stacks[1].data[0][cut][pair > 0])
        assert np.mean(pair == 0) == pytest.approx(0.264, abs=0.002)  # corners outside a radius of 17 of 35 pixels


def test_a_clean_stack_holds_the_charge_that_the_truth_tells(tmp_path: Path) -> None:
    effects = dict.fromkeys(("noise", "cosmic_rays", "smearing", "dark", "flat", "nonlinearity", "transit"), False)
    case = small(**effects, shape="rectangular", near_stars=0, stars=0, jitter=0.0, stray_light=0.0)
    simulate_visit(tmp_path, case)
    truth = fits.getdata(tmp_path / "truth/truth.fits", "TRUTH_STACKS")
    bias = detector.truth_maps().bias[100_000][:1024, detector.EXPOSED][480:544, 480:544] + detector.BIAS[100_000]
    raw = fits.getdata(one(tmp_path, "SCI_RAW_SubArray"))[0].astype(float)
    charge = (raw - 2 * bias) / truth["GAIN"][0] - truth["BACKGROUND"][0]
    inside = optics.flight_like_psf().image(np.array([512.0]), np.array([512.0]), 1.0, 480, 480, 64, 64).sum()
    # 4096 pixels, each rounded twice: 0.41 ADU a pixel, 51 electrons in the sum of 6e6; five of these
    assert charge.sum() == pytest.approx(truth["TARGET"][0] * inside, abs=260)
    assert truth["BACKGROUND"][0] == pytest.approx(2 * 20 * Plan(case, 1).zodiacal, rel=1e-12)


def test_stacks_in_the_anomaly_are_left_out_unless_they_are_kept(tmp_path: Path) -> None:
    common = {
        "nexp": 1,
        "exptime": 60.0,
        "width": 16,
        "height": 16,
        "images": 120,
        "tilt": 30.0,
        "near_stars": 0,
        "stars": 0,
    }
    simulate_visit(tmp_path / "omitted", small(**{**common, "saa": "orbit"}))
    simulate_visit(tmp_path / "kept", small(**{**common, "saa": "orbit", "kept_flagged": 1.0}))
    omitted, kept = (fits.getdata(tmp_path / name / "truth/truth.fits", 1) for name in ("omitted", "kept"))
    assert not omitted["SAA"].any()
    assert not omitted["OCCULTED"].any()
    assert np.diff(omitted["CE_COUNTER"].astype(int)).max() > 5  # a gap of some minutes
    assert np.all(np.diff(kept["CE_COUNTER"].astype(int)) == 1)
    assert kept["OCCULTED"].any()
    assert np.all(kept["TARGET"][kept["OCCULTED"]] == 0)
    always = small(saa="always", kept_flagged=1.0, images=2)
    simulate_visit(tmp_path / "always", always)
    assert fits.getdata(one(tmp_path / "always", "MPS_PRE_Visits"), 2)["SAA_FLAG"].all()


def test_a_case_with_an_unknown_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="imges"):
        Case.model_validate({"imges": 3})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_x": 1000}, "leaves the exposed area"),
        ({"imagettes": True, "nexp": 1}, "nexp must be at least 2"),
        ({"saa": "always"}, "kept_flagged"),
        ({"exptime": float("nan")}, "finite number"),
    ],
)
def test_an_impossible_case_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        small(**settings)


def test_shipped_cases_are_valid() -> None:
    assert {"demo", "tiny"} <= set(case_names())
    assert [load_case(name).images for name in ("demo", "tiny")] == [300, 12]


def test_products_are_never_overwritten(visit: Path) -> None:
    with pytest.raises(FileExistsError, match="SCI_RAW_Attitude"):
        simulate_visit(visit, small(imagettes=True, full_frame=True), seed=5)


def test_progress_counts_every_stack(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    simulate_visit(tmp_path, small(), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_checksums_are_those_of_astropy(visit: Path) -> None:
    for path in visit.rglob("*.fits"):
        with fits.open(path, checksum=True) as file:  # a wrong sum is a warning, and warnings are errors here
            assert len(file) > 1


def test_raw_products_pass_the_checker_of_the_definitions(visit: Path, tmp_path: Path) -> None:
    checker, model = SHARED / "datamodel/check_product.py", SHARED / "datamodel/data_model.json"
    if not checker.exists():
        pytest.skip("the checker of the SOC's definitions is not in ../shared")
    simulate_visit(tmp_path, small(margins="reduced", nexp=1, start="2016-12-31T23:58:00"))
    paths = [path for folder in (visit, tmp_path) for path in folder.rglob("CH_*.fits")]
    result = subprocess.run(
        [sys.executable, str(checker), "--strict", str(model), *map(str, paths)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout
