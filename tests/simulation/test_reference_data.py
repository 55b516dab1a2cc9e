"""The default reference library: complete, valid, repeatable, with the stated errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from reference_data import build
from tasks.simulation import bias, dark, flat, gain, layout, linearity, spectrum
from tasks.simulation.case import Case
from tasks.simulation.psf import flight_like_psf
from tasks.simulation.spacecraft import in_saa
from tests.support.outside import outside

KINDS = {
    "REF_APP_BiasFrame": 1,
    "REF_APP_GainCorrection": 1,
    "REF_APP_CCDLinearisationLUT100": 1,
    "REF_APP_FlatFieldTeff": 1,
    "REF_APP_DarkFrame": 4,
    "REF_APP_BadPixelMap": 2,
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


def test_every_kind_of_reference_exists_and_the_library_is_small(library: Path) -> None:
    found: dict[str, int] = {}
    for path in library.iterdir():
        name = fits.getval(path, "EXTNAME", 1)
        found[name] = found.get(name, 0) + 1
    assert found == KINDS
    assert sum(path.stat().st_size for path in library.iterdir()) < 200e6


def test_references_pass_the_checker_of_the_definitions(library: Path) -> None:
    checker = outside("datamodel/check_product.py")
    model = checker.with_name("data_model.json")
    paths = sorted(map(str, library.iterdir()))
    result = subprocess.run(
        [sys.executable, str(checker), "--strict", str(model), *paths],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout


def test_building_again_gives_the_same_bytes(library: Path, tmp_path: Path) -> None:
    for path in build.build_library(tmp_path):
        assert path.read_bytes() == (library / path.name).read_bytes(), path.name


def test_existing_files_are_kept(library: Path) -> None:
    with pytest.raises(FileExistsError, match="REF_APP_BiasFrame"):
        build.build_library(library)


def test_all_but_dark_frames_and_bad_pixel_maps_are_valid_for_decades(library: Path) -> None:
    for path in library.iterdir():
        header = fits.getheader(path, 1)
        if header["EXTNAME"] not in ("REF_APP_DarkFrame", "REF_APP_BadPixelMap"):
            assert (
                header["V_STRT_U"]
                <= "2016-12-31T23:59:60"
                < "2031-06-01T00:00:00"
                <= header["V_STOP_U"]
            )


def test_exactly_one_bad_pixel_map_is_valid_at_any_time(library: Path) -> None:
    first, second = (
        fits.getheader(path, 1) for path in sorted(library.glob("*REF_APP_BadPixelMap*"))
    )
    assert first["V_STRT_U"] <= "2016-12-31T23:59:60"
    assert first["V_STOP_U"] == second["V_STRT_U"]
    assert second["V_STOP_U"] >= "2031-06-01T00:00:00"


def test_dark_frames_bracket_the_young_and_the_aged_visits_and_have_the_stated_errors(
    library: Path,
) -> None:
    paths = sorted(library.glob("*REF_APP_DarkFrame*"))
    starts = [fits.getval(path, "V_STRT_U", 1) for path in paths]
    assert starts[0] < Case.model_fields["start"].default < starts[1]
    assert starts[2] < "2024-03-10T08:00:00" < starts[3]
    for number, path in enumerate(paths):
        rate, error = fits.getdata(path)
        at = dark.at_epoch(number)
        truth = (at.smooth + at.hot + dark.telegraphic_mean(at.telegraphic))[:1024, layout.EXPOSED]
        pull = (rate - truth) / error
        assert pull.std() == pytest.approx(1.0, abs=0.004)  # 1e6 pixels: 0.0007, five of these
        np.testing.assert_allclose(error, np.hypot(0.02, 0.02 * truth), rtol=1e-5)  # float32


def test_bias_flat_and_gain_differ_from_the_truth_by_their_errors(library: Path) -> None:
    frame = fits.getdata(find(library, "REF_APP_BiasFrame"))
    for first, frequency in ((0, 230_000), (3, 100_000)):
        truth = bias.structure(frequency)[:1024, layout.EXPOSED] + bias.BIAS[frequency]
        assert (frame[first] - truth).std() == pytest.approx(
            0.05, rel=0.004
        )  # 1e6 pixels: 0.0007, five of these
        assert frame[first + 1].max() == pytest.approx(0.05, rel=1e-6)  # float32
    with fits.open(find(library, "REF_APP_FlatFieldTeff")) as file:
        teff, kind = file[2].data["T_EFF"], file[2].data["DATA_TYPE"]
        assert list(kind) == ["FLAT FIELD"] * 8 + ["FLAT FIELD ERROR"] * 8
        error = file[1].data[3] / flat.star_flat(float(teff[3])) - 1
        assert error.std() == pytest.approx(0.0005, rel=0.004)
    factor = fits.getdata(find(library, "REF_APP_GainCorrection"))
    truth = np.array(gain.GAIN_TERMS)[:, 0]
    assert np.all(
        np.abs(factor["FACTOR"] - truth) < 4 * factor["FACTOR_ERR"]
    )  # nine draws from a Gaussian
    assert np.any(factor["FACTOR"] != truth)


def test_flats_between_two_temperatures_are_nearly_linear() -> None:
    between = (flat.star_flat(6000) + flat.star_flat(7000)) / 2
    # the weights of blue and red light bend with temperature; less than a twentieth of the
    # reference's error of 5e-4
    assert np.std(between - flat.star_flat(6500)) < 2.5e-5


def test_the_linearisation_ends_with_a_row_without_coefficients(library: Path) -> None:
    with fits.open(find(library, "REF_APP_CCDLinearisationLUT100")) as file:
        for name, frequency in (("100", 100_000), ("230", 230_000)):
            table = file[f"REF_APP_CCDLinearisation{name}"].data
            assert np.isnan([table[f"COEF_{i}"][-1] for i in range(4)]).all()
            assert np.isfinite(table["COEF_0"][:-1]).all()
            assert table["BOUNDARY"][-1] == linearity.linearisation(frequency).end
            lut = file[f"REF_APP_CCDLinearisationLUT{name}"].data
            low = lut["NON_LINEAR"] < 100_000
            truth = linearity.linearisation(frequency).correct(lut["NON_LINEAR"][low].astype(float))
            # one per cent of the curvature: 1e-9 (1e5)^2 / electron, some ten electrons of 1e5
            np.testing.assert_allclose(lut["CORRECTED"][low], truth, rtol=2e-4, atol=0.1)


def test_the_bad_pixel_maps_list_hot_dead_and_most_telegraphic_pixels(library: Path) -> None:
    grey, _, _, dead = flat.patterns()
    for path, number, share in zip(
        sorted(library.glob("*REF_APP_BadPixelMap*")), (0, 2), (0.005, 0.09), strict=True
    ):
        with fits.open(path) as file:
            code, usable = file[1].data, file["REF_APP_PhotPixelMap"].data == 0
        assert np.array_equal(usable, code == 0)
        assert np.array_equal(code < 0, dead)
        assert np.array_equal(code == -2, dead & (grey < 0.2))
        at = dark.at_epoch(number)
        hot = (at.hot > 0)[:1024, layout.EXPOSED] & ~dead
        assert np.isin(code[hot], (1, 3)).all()
        assert hot.mean() == pytest.approx(share, rel=0.1)  # of 1e6 pixels: scatter 1.4 % at least
        of_ccd = dark.telegraphs(at.telegraphic)
        pixels = of_ccd.within(slice(0, 1024), layout.EXPOSED)
        known = code[pixels.row, pixels.column] == 3
        assert known.mean() == pytest.approx(
            build.KNOWN_TELEGRAPHIC, abs=5 * np.sqrt(0.24 / known.size)
        )


def test_the_reference_psf_is_normalised_centred_and_slightly_wrong(library: Path) -> None:
    planes = fits.getdata(find(library, "REF_APP_WhitePSF"))
    y, x = np.mgrid[:200, :200] + 0.5
    truth = flight_like_psf().image(100.0, 100.0, 1.0, 0, 0, 200, 200)
    truth /= truth.sum()
    core = np.hypot(x - 100, y - 100) < 10
    for plane in planes:
        assert plane.sum() == pytest.approx(1.0, abs=1e-12)
        # the photocentre is that of all knots, the wings lie round; breathing moves it by some
        # hundredths of a pixel
        assert ((plane * x).sum(), (plane * y).sum()) == pytest.approx((100, 100), abs=0.05)
        assert 1e-4 < np.abs(plane - truth).sum() < 2e-2
        assert plane[core].sum() == pytest.approx(truth[core].sum(), rel=0.02)


def test_the_flux_of_a_star_follows_from_the_library_s_conversion(library: Path) -> None:
    table, header = fits.getdata(find(library, "REF_APP_FluxConversion"), header=True)
    colour = np.interp(5900, table["T_EFF"], table["CHEOPSMAG_MINUS_GMAG"])
    expected = header["F0_X"] * 10 ** (-0.4 * (9.0 + colour))
    # the simulated telescope has 0.934 of the throughput that was expected before launch, as in
    # flight
    assert float(spectrum.star_flux(9.0, 5900.0)) / expected == pytest.approx(
        0.94604 - 2.0074e-6 * 5900, rel=1e-5
    )


def test_the_map_of_the_anomaly_is_that_of_the_simulated_orbit(library: Path) -> None:
    table = fits.getdata(find(library, "EXT_APP_SAAMap"))
    assert len(table) == 90 * 121
    assert np.array_equal(table["SAA_FLAG"], in_saa(table["LATITUDE"], table["LONGITUDE"]))
    assert table["SAA_FLAG"].sum() > 500
