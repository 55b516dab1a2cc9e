"""The default reference library: complete, valid, repeatable, and as wrong as it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from reference_data import build
from tasks.simulation import detector, optics
from tasks.simulation.spacecraft import in_saa

SHARED = Path(__file__).parents[2] / "shared"
KINDS = {
    "REF_APP_BiasFrame": 1,
    "REF_APP_GainCorrection": 1,
    "REF_APP_CCDLinearisationLUT100": 1,
    "REF_APP_FlatFieldTeff": 1,
    "REF_APP_DarkFrame": 2,
    "REF_APP_BadPixelMap": 1,
    "REF_APP_WhitePSF": 1,
    "REF_APP_PixelScale": 1,
    "REF_APP_QE": 1,
    "REF_APP_Throughput": 1,
    "REF_APP_SEDTeff": 1,
    "REF_APP_FluxConversion": 1,
    "REF_APP_ReadOut": 1,
    "REF_APP_VisitConstraints": 1,
    "REF_APP_Limits": 1,
    "EXT_APP_SAAMap": 1,
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    build.build_library(folder)
    return folder


def find(library: Path, extname: str) -> Path:
    (path,) = library.glob(f"*_{extname}[-_]*.fits")
    return path


def test_every_kind_is_there_and_the_whole_is_small(library: Path) -> None:
    found: dict[str, int] = {}
    for path in library.iterdir():
        name = fits.getval(path, "EXTNAME", 1)
        found[name] = found.get(name, 0) + 1
    assert found == KINDS
    assert sum(path.stat().st_size for path in library.iterdir()) < 200e6


def test_references_pass_the_checker_of_the_definitions(library: Path) -> None:
    checker, model = SHARED / "datamodel/check_product.py", SHARED / "datamodel/data_model.json"
    if not checker.exists():
        pytest.skip("the checker of the SOC's definitions is not in ../shared")
    paths = sorted(map(str, library.iterdir()))
    result = subprocess.run([sys.executable, str(checker), "--strict", str(model), *paths], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_building_again_gives_the_same_bytes(library: Path, tmp_path: Path) -> None:
    for path in build.build_library(tmp_path):
        assert path.read_bytes() == (library / path.name).read_bytes(), path.name


def test_files_that_exist_are_kept(library: Path) -> None:
    with pytest.raises(FileExistsError, match="REF_APP_BiasFrame"):
        build.build_library(library)


def test_all_but_dark_frames_hold_for_decades(library: Path) -> None:
    for path in library.iterdir():
        header = fits.getheader(path, 1)
        if header["EXTNAME"] != "REF_APP_DarkFrame":
            assert header["V_STRT_U"] <= "2016-12-31T23:59:60" < "2031-06-01T00:00:00" <= header["V_STOP_U"]


def test_dark_frames_bracket_the_default_visit_and_err_as_they_say(library: Path) -> None:
    paths = sorted(library.glob("*REF_APP_DarkFrame*"))
    starts = [fits.getval(path, "V_STRT_U", 1) for path in paths]
    assert starts[0] < "2024-03-10T08:00:00" < starts[1]
    for path, truth in zip(paths, detector.truth_maps().dark, strict=True):
        rate, error = fits.getdata(path)
        pull = (rate - truth[:1024, detector.EXPOSED]) / error
        assert pull.std() == pytest.approx(1.0, abs=0.004)  # 1e6 pixels: 0.0007, five of these


def test_bias_flat_and_gain_differ_from_the_truth_by_their_errors(library: Path) -> None:
    maps = detector.truth_maps()
    bias = fits.getdata(find(library, "REF_APP_BiasFrame"))
    for first, frequency in ((0, 230_000), (3, 100_000)):
        truth = maps.bias[frequency][:1024, detector.EXPOSED] + detector.BIAS[frequency]
        assert (bias[first] - truth).std() == pytest.approx(0.05, rel=0.004)  # 1e6 pixels: 0.0007, five of these
        assert bias[first + 1].max() == pytest.approx(0.05, rel=1e-6)  # float32
    with fits.open(find(library, "REF_APP_FlatFieldTeff")) as file:
        teff, kind = file[2].data["T_EFF"], file[2].data["DATA_TYPE"]
        assert list(kind) == ["FLAT FIELD"] * 8 + ["FLAT FIELD ERROR"] * 8
        error = file[1].data[3] / maps.flat(float(teff[3])) - 1
        assert error.std() == pytest.approx(0.0005, rel=0.004)
    factor = fits.getdata(find(library, "REF_APP_GainCorrection"))
    truth = np.array(detector.GAIN_TERMS)[:, 0]
    assert np.all(np.abs(factor["FACTOR"] - truth) < 4 * factor["FACTOR_ERR"])  # nine draws from a Gaussian
    assert np.any(factor["FACTOR"] != truth)


def test_flats_between_two_temperatures_are_nearly_linear() -> None:
    maps = detector.truth_maps()
    between = (maps.flat(6000) + maps.flat(7000)) / 2
    # the colour map of 0.15 % follows log T, which bends by (500 / 6500)^2 / 2 = 0.3 % of it
    assert np.std(between - maps.flat(6500)) < 1e-5


def test_the_linearisation_ends_with_a_row_without_coefficients(library: Path) -> None:
    with fits.open(find(library, "REF_APP_CCDLinearisationLUT100")) as file:
        for name, frequency in (("100", 100_000), ("230", 230_000)):
            table = file[f"REF_APP_CCDLinearisation{name}"].data
            assert np.isnan([table[f"COEF_{i}"][-1] for i in range(4)]).all()
            assert np.isfinite(table["COEF_0"][:-1]).all()
            assert table["BOUNDARY"][-1] == detector.linearisation(frequency).end
            lut = file[f"REF_APP_CCDLinearisationLUT{name}"].data
            low = lut["NON_LINEAR"] < 100_000
            truth = detector.linearisation(frequency).correct(lut["NON_LINEAR"][low].astype(float))
            # one per cent of the curvature: 1e-9 (1e5)^2 / electron, some ten electrons of 1e5
            np.testing.assert_allclose(lut["CORRECTED"][low], truth, rtol=2e-4, atol=0.1)


def test_the_bad_pixel_map_knows_hot_and_dead_pixels(library: Path) -> None:
    maps = detector.truth_maps()
    with fits.open(find(library, "REF_APP_BadPixelMap")) as file:
        code, usable = file[1].data, file["REF_APP_PhotPixelMap"].data == 0
    hot = maps.dark[0][:1024, detector.EXPOSED] > 3
    assert np.array_equal(code == 1, hot & ~maps.dead)
    assert np.array_equal(code < 0, maps.dead)
    assert np.array_equal(usable, code == 0)


def test_the_reference_psf_is_normalised_centred_and_slightly_wrong(library: Path) -> None:
    planes = fits.getdata(find(library, "REF_APP_WhitePSF"))
    y, x = np.mgrid[:200, :200] + 0.5
    truth = optics.flight_like_psf().image(np.array([100.0]), np.array([100.0]), 1.0, 0, 0, 200, 200)
    for plane in planes:
        assert plane.sum() == pytest.approx(1.0, abs=1e-12)
        # the halo is cut at 100 pixels, three of its sigma, all round
        assert ((plane * x).sum(), (plane * y).sum()) == pytest.approx((100, 100), abs=1e-3)
        assert 1e-4 < np.abs(plane - truth).sum() < 2e-2


def test_the_map_of_the_anomaly_is_that_of_the_simulated_orbit(library: Path) -> None:
    table = fits.getdata(find(library, "EXT_APP_SAAMap"))
    assert len(table) == 90 * 121
    assert np.array_equal(table["SAA_FLAG"], in_saa(table["LATITUDE"], table["LONGITUDE"]))
    assert table["SAA_FLAG"].sum() > 500
