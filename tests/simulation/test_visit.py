"""The simulator's products: contents, truth, repeatability, and rejected cases."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from pydantic import ValidationError

from schemas import ROOT
from tasks.simulation import bias, layout, spacecraft, truth
from tasks.simulation.case import Case, case_names, load_case
from tasks.simulation.plan import PIXEL_SCALE, Plan
from tasks.simulation.psf import flight_like_psf
from tasks.simulation.visit import simulate_visit
from tests.support.outside import outside

SMALL = {
    "images": 3,
    "nexp": 2,
    "width": 64,
    "height": 64,
    "window_x": 480,
    "window_y": 480,
    "saa": "never",
}


def small(**settings: object) -> Case:
    return Case.model_validate({**SMALL, **settings})


def one(folder: Path, extname: str) -> Path:
    (path,) = folder.rglob(f"*_{extname}[-_]*.fits")
    return path


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("visit")
    simulate_visit(folder, small(imagettes=True, full_frame=True), seed=5)
    return folder


def test_stars_of_the_catalogue_are_where_the_attitude_puts_them(visit: Path) -> None:
    attitude = fits.getdata(one(visit, "SCI_RAW_Attitude"))
    roll = np.unwrap(attitude["SC_ROLL_ANGLE"], period=360)
    assert np.all(np.diff(roll) < 0)
    assert np.diff(roll).mean() == pytest.approx(
        -360 / spacecraft.PERIOD, rel=0.15
    )  # it swings by 12 % along the orbit
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
        # SC_RA is a float32: 0.055 arcsec steps at 170 deg, here averaged; jitter in the exposure's
        # ends adds some 0.02
        assert (512 + x, 512 + y) == pytest.approx((row["CENTROID_X"], row["CENTROID_Y"]), abs=0.08)


def test_margins_are_transmitted_in_three_forms_of_the_same_pixels(tmp_path: Path) -> None:
    for mode in ("image", "reduced", "total collapsed"):
        simulate_visit(tmp_path / mode, small(margins=mode))
    image, reduced, total = (
        fits.open(one(tmp_path / mode, "SCI_RAW_SubArray"))
        for mode in ("image", "reduced", "total collapsed")
    )
    with image, reduced, total:
        order = [hdu.name for hdu in image[1:]]
        assert order[1:8] == [
            f"SCI_RAW_{n}"
            for n in (
                "BlankLeft",
                "BlankRight",
                "DarkLeft",
                "DarkRight",
                "DarkTop",
                "OverscanLeft",
                "OverscanTop",
            )
        ]
        blank = image["SCI_RAW_BlankLeft"].data[1].astype(float)
        four = (
            blank.mean(),
            blank.std(ddof=1),
            np.median(blank),
            np.median(np.abs(blank - np.median(blank))),
        )
        np.testing.assert_allclose(
            reduced["SCI_RAW_BlankLeft"].data[1], [four], rtol=1e-6
        )  # float32
        np.testing.assert_allclose(total["SCI_RAW_BlankLeft"].data[1], [four], rtol=1e-6)
        assert reduced["SCI_RAW_DarkRight"].data.shape == (3, 64, 3)
        rows = image["SCI_RAW_DarkRight"].data[2].astype(float)
        np.testing.assert_allclose(
            reduced["SCI_RAW_DarkRight"].data[2][:, 0], rows.mean(axis=1), rtol=1e-6
        )
        assert (
            reduced["SCI_RAW_OverscanTop"].data.shape
            == image["SCI_RAW_OverscanTop"].data.shape
            == (3, 6, 64)
        )
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


def test_the_same_seed_gives_the_same_bytes_on_one_thread_and_on_two_and_another_seed_does_not(
    tmp_path: Path,
) -> None:
    case = small(imagettes=True, streaks=100.0)
    for name, seed, threads in (("a", 3, 1), ("b", 3, 2), ("c", 4, 2)):
        simulate_visit(tmp_path / name, case, seed, threads=threads)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert set(digests(tmp_path / "a").values()).isdisjoint(
        {
            digest
            for name, digest in digests(tmp_path / "c").items()
            if "Orbit" not in name and "Visits" not in name
        }
    )


def test_imagettes_add_up_to_the_stack(visit: Path) -> None:
    with (
        fits.open(one(visit, "SCI_RAW_Imagette")) as imagettes,
        fits.open(one(visit, "SCI_RAW_SubArray")) as stacks,
    ):
        row = imagettes[2].data[0]
        cut = (
            slice(row["Y_OFF_SUB_ARRAY"], row["Y_OFF_SUB_ARRAY"] + 35),
            slice(row["X_OFF_SUB_ARRAY"], row["X_OFF_SUB_ARRAY"] + 35),
        )
        pair = imagettes[1].data[:2].astype(int).sum(axis=0)
        assert row["X_OFF_FULL_ARRAY"] == 480 + row["X_OFF_SUB_ARRAY"]
        assert np.array_equal(pair[pair > 0], stacks[1].data[0][cut][pair > 0])
        assert np.mean(pair == 0) == pytest.approx(
            0.264, abs=0.002
        )  # corners outside a radius of 17 of 35 pixels


def test_imagettes_of_four_exposures_add_up_to_the_stack(tmp_path: Path) -> None:
    simulate_visit(
        tmp_path, small(nexp=8, exptime=0.5, magnitude=6.0, imagettes=True, imagette_nexp=4)
    )
    with (
        fits.open(one(tmp_path, "SCI_RAW_Imagette")) as imagettes,
        fits.open(one(tmp_path, "SCI_RAW_SubArray")) as stacks,
    ):
        assert imagettes[1].header["NEXP"] == 4
        assert imagettes[1].data.shape == (6, 35, 35)
        assert list(imagettes[2].data["CE_COUNTER"]) == [1, 1, 2, 2, 3, 3]
        row = imagettes[2].data[2]
        y, x = row["Y_OFF_SUB_ARRAY"], row["X_OFF_SUB_ARRAY"]
        pair = imagettes[1].data[2:4].astype(int).sum(axis=0)
        assert np.array_equal(pair[pair > 0], stacks[1].data[1][y : y + 35, x : x + 35][pair > 0])
        # the middles of the two halves of a stack lie round its own
        middle = imagettes[2].data["MJD_TIME"][:2].mean()
        resolution = 1e-6 / 86400  # of a double of MJD
        assert middle == pytest.approx(
            stacks["SCI_RAW_ImageMetadata"].data["MJD_TIME"][0], abs=resolution
        )


def test_stacks_are_lost_and_damaged_as_the_truth_says(tmp_path: Path) -> None:
    case = small(
        images=60, nexp=1, width=16, height=16, near_stars=0, stars=0, missing=0.3, damaged=0.3
    )
    simulate_visit(tmp_path, case)
    truth = fits.getdata(tmp_path / "truth/truth.fits", "TRUTH_STACKS")
    with fits.open(one(tmp_path, "SCI_RAW_SubArray")) as stacks:
        image, table = stacks[1].data, stacks["SCI_RAW_ImageMetadata"].data
        zeros = (image[:, 5:8] == 0).all(axis=(1, 2))
        assert np.array_equal(zeros, truth["DAMAGED"])
        assert np.array_equal(table["CE_INTEGRITY"] != 0, truth["DAMAGED"])
        assert np.array_equal(table["CE_COUNTER"], truth["CE_COUNTER"])
    # binomial: 60 of about 86 slots are kept; five standard deviations
    assert truth["DAMAGED"].mean() == pytest.approx(0.3, abs=5 * np.sqrt(0.21 / 60))
    slots = int(truth["CE_COUNTER"][-1]) - int(truth["CE_COUNTER"][0]) + 1
    assert 60 / slots == pytest.approx(0.7, abs=5 * np.sqrt(0.21 / slots))


def test_a_clean_stack_has_the_charge_given_by_the_truth(tmp_path: Path) -> None:
    off = (
        "cosmic_rays",
        "smearing",
        "dark",
        "hot",
        "telegraphic",
        "cti",
        "flat",
        "nonlinearity",
        "near_stars",
        "stars",
    )
    more = ("jitter", "stray_light", "halo", "ghost", "breathing", "psf_position")
    case = small(**dict.fromkeys((*off, *more), 0), noise=False, transit=False, shape="rectangular")
    simulate_visit(tmp_path, case)
    truth = fits.getdata(tmp_path / "truth/truth.fits", "TRUTH_STACKS")
    offset = bias.BIAS[100_000] + bias.structure(100_000)[480:544, layout.EXPOSED][:, 480:544]
    raw = fits.getdata(one(tmp_path, "SCI_RAW_SubArray"))[0].astype(float)
    charge = (raw - 2 * offset) / truth["GAIN"][0] - truth["BACKGROUND"][0]
    inside = flight_like_psf().image(512.0, 512.0, 1.0, 480, 480, 64, 64).sum()
    # 4096 pixels, each rounded twice: 0.41 ADU a pixel, 51 electrons in the sum of 6e6; five of
    # these
    assert charge.sum() == pytest.approx(truth["TARGET"][0] * inside, abs=260)
    assert truth["BACKGROUND"][0] == pytest.approx(2 * 20 * Plan(case, 1).zodiacal, rel=1e-12)


def test_stacks_in_the_anomaly_are_not_written_unless_they_are_kept(tmp_path: Path) -> None:
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
    omitted, kept = (
        fits.getdata(tmp_path / name / "truth/truth.fits", 1) for name in ("omitted", "kept")
    )
    assert not omitted["SAA"].any()
    assert not omitted["OCCULTED"].any()
    assert np.diff(omitted["CE_COUNTER"].astype(int)).max() > 5  # a gap of some minutes
    assert np.all(np.diff(kept["CE_COUNTER"].astype(int)) == 1)
    assert kept["OCCULTED"].any()
    assert np.all(kept["TARGET"][kept["OCCULTED"]] == 0)
    always = small(saa="always", kept_flagged=1.0, images=2)
    simulate_visit(tmp_path / "always", always)
    assert fits.getdata(one(tmp_path / "always", "MPS_PRE_Visits"), 2)["SAA_FLAG"].all()


def test_a_case_with_an_unknown_key_is_rejected() -> None:
    with pytest.raises(ValidationError, match="imges"):
        Case.model_validate({"imges": 3})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_x": 1000}, "extends beyond the exposed area"),
        ({"imagettes": True, "nexp": 1}, "nexp must be at least 2"),
        ({"saa": "always"}, "kept_flagged"),
        ({"exptime": float("nan")}, "finite number"),
    ],
)
def test_an_impossible_case_is_rejected(settings: dict[str, object], message: str) -> None:
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
        with fits.open(
            path, checksum=True
        ) as file:  # a wrong sum is a warning, and warnings are errors here
            assert len(file) > 1


@pytest.mark.parametrize(
    "settings",
    [
        {"margins": "reduced", "nexp": 1, "start": "2016-12-31T23:58:00"},
        {
            "magnitude": 6.0,
            "exptime": 0.5,
            "nexp": 4,
            "imagettes": True,
            "imagette_nexp": 2,
            "full_frame": True,
        },
        {
            "magnitude": 12.0,
            "exptime": 60.0,
            "nexp": 1,
            "margins": "total collapsed",
            "start": "2024-03-10T08:00:00",
        },
        {
            "damaged": 0.5,
            "missing": 0.3,
            "kept_flagged": 0.5,
            "saa": "orbit",
            "tilt": 30.0,
            "streaks": 100.0,
        },
    ],
    ids=["leap second, reduced margins", "bright", "faint and aged", "damaged"],
)
def test_raw_products_pass_the_checker_of_the_definitions(
    settings: dict[str, object], tmp_path: Path
) -> None:
    checker = outside("datamodel/check_product.py")
    simulate_visit(tmp_path, small(**settings))
    paths = list(tmp_path.rglob("CH_*.fits"))
    result = subprocess.run(
        [
            sys.executable,
            str(checker),
            "--strict",
            str(checker.with_name("data_model.json")),
            *map(str, paths),
        ],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout


def test_the_manual_names_every_setting_case_and_truth_column() -> None:
    text = (ROOT / "docs/simulator.md").read_text()
    words = set(re.findall(r"`([a-z_0-9]+)`", text))
    assert words >= set(Case.model_fields)
    assert words >= set(case_names())
    for structure in (truth.stacks(8), truth.EXPOSURES, truth.STARS, truth.PIXELS, truth.COSMICS):
        row = next(line for line in text.splitlines() if line.startswith(f"| {structure.extname} "))
        for column in structure.columns:
            name = column.name.replace("CENTROID_Y", "CENTROID_X/Y")
            assert name in row, (structure.extname, column.name)
    assert all(extname in text for extname in truth.CUBES)
