"""Circles of further radii: the setting, the axis of the terms, and a visit reduced with it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from photutils.aperture import CircularAperture

from drp import Visit, open_visit
from schemas.errors import BadInputError, ConfigurationError
from schemas.forms import ReduceForm
from schemas.inputs import term_input
from schemas.light_curves import LIGHT_CURVES, RADII, added_radii, circles, radii_with
from schemas.payloads import Apertures, Product
from schemas.requests import make_settings
from schemas.settings import ApertureSettings
from schemas.terms import TERMS
from tasks.files import disk
from tasks.files.reader import open_declared
from tasks.files.writer import NewHdu, write_fits
from tasks.photometry.apertures import aperture_sums, cut_warnings, forget_cut
from tasks.photometry.psf_fit import light_shares
from tasks.photometry.quality import light_lost
from tasks.visit.terms import columns_by_radius, read_radii
from tests.support.faults import run_in_process
from tests.support.outside import outside
from tests.support.runs import Bench, executed

ADDED = (3.0, 12.5, 45.0, 50.0)
NAMES = ("R3", "R12.5", "R45", "R50")
FROM_APERTURES = [
    *("apertures", "psf_fit", "contamination", "quality", "light_curves"),
    *("imagette_photometry", "viewer", "report"),
]


def test_radii_of_a_visit_are_those_of_every_visit_and_its_own_in_rising_order() -> None:
    radii = radii_with([45.0, 12.5])
    assert radii == tuple(sorted([*RADII, 12.5, 45.0]))
    assert added_radii(radii) == (12.5, 45.0)
    assert set(circles(radii)) - set(LIGHT_CURVES) == {"R12.5", "R45"}
    assert circles(RADII) == LIGHT_CURVES
    assert "R22.5" not in circles(radii)  # it is RINF


def test_setting_is_a_list_or_a_single_number_and_has_one_order() -> None:
    made = [make_settings({"apertures": {"radii": r}}) for r in ([45, 12.5], (12.5, 45.0))]
    assert made[0] == made[1]
    assert made[0].apertures.radii == (12.5, 45.0)
    assert make_settings({"apertures": {"radii": 12.5}}).apertures.all_radii == radii_with([12.5])
    assert ApertureSettings().all_radii == RADII
    form = ReduceForm(visit="/a/visit", settings={"apertures": {"radii": [45, 12.5]}})
    assert form.how()["settings"] == {"apertures": {"radii": [12.5, 45.0]}}


@pytest.mark.parametrize(
    ("radii", "match"),
    [
        ([2.9], "2.9 is not from 3 to 50 pixels"),
        ([1e9], "1000000000.0 is not from 3 to 50"),
        ([float("nan")], "nan is not from 3 to 50 pixels"),
        ([float("inf")], "inf is not from 3 to 50 pixels"),
        ([10**400], "1000.* is not from 3 to 50 pixels"),
        (25, "every visit has a circle of 25 pixels: the light curve R25"),
        ([12.5, 22.5], "every visit has a circle of 22.5 pixels: the light curve RINF"),
        ([12.5, 13.0, 12.5], "12.5 occurs 2 times"),
        ([12.345], "12.345 has more than 2 decimals; the nearest is 12.3"),
        ([*np.arange(3.0, 14.0)], "has 11 radii, expected at most 10"),
        ("12,5", r"'12,5' is not a number, expected radii such as \[12.5, 45\]"),
        ([True], "'True' is not a number"),
        ([[12.5]], r"'\[12.5\]' is not a number"),
        ({"a": 1}, r".* is not a number"),
        (None, "'None' is not a number"),
    ],
)
def test_radii_that_cannot_be_are_refused_with_what_is_wrong(radii: Any, match: str) -> None:
    with pytest.raises(ConfigurationError, match=f"setting apertures.radii: {match}"):
        make_settings({"apertures": {"radii": radii}})


def test_command_shows_the_radii_and_refuses_wrong_ones_with_78() -> None:
    shown = run_in_process("config", "--changed", "--set", "apertures.radii=[45, 12.5]")
    assert "radii = [12.5, 45.0]          # --set; default [];" in shown.out
    wrong = run_in_process("config", "--set", "apertures.radii=[60]")
    assert wrong.code == 78
    assert "60 is not from 3 to 50 pixels" in wrong.err
    wrong = run_in_process("config", "--set", "apertures.radius=12.5")
    assert "did you mean apertures.radii?" in wrong.err


# the axis of the terms


def apertures(path: Path, radii: Any, count: int) -> Apertures:
    """Write the term of two images with sums within `count` radii, and a list of radii."""
    cells = {
        c.name: np.ones((2, count)) if c.per else np.ones(2)
        for c in TERMS["TERM_APERTURES"].columns
    }
    axis = NewHdu(TERMS["TERM_APERTURES_RADII"], columns={"RADIUS": np.array(radii)})
    write_fits(path, [NewHdu(TERMS["TERM_APERTURES"], columns=cells), axis])
    product = Product(path=str(path), sha256=disk.sha256(path), extname="TERM_APERTURES")
    return Apertures(step="apertures", products={"TERM_APERTURES": product})


def test_radii_are_read_from_the_term(tmp_path: Path) -> None:
    radii = radii_with([12.5])
    term = apertures(tmp_path / "term.fits", radii, len(radii))
    assert read_radii(term) == radii
    (flux,) = columns_by_radius(term.product, "TERM_APERTURES", radii, "FLUX")
    assert flux.shape == (2, 28)
    with pytest.raises(BadInputError, match=r"column FLUX of TERM_APERTURES holds 28 radii, .* 29"):
        columns_by_radius(term.product, "TERM_APERTURES", radii_with([12.5, 45.0]), "FLUX")


@pytest.mark.parametrize(
    ("radii", "count", "match"),
    [
        (radii_with([12.5]), 27, "holds 27 radii, the visit has 28"),
        (RADII[1:], 27, "expected rising values, among them 15, 16"),
        (RADII[::-1], 27, "expected rising values"),
        ((*RADII, RADII[-1]), 28, "expected rising values"),
        (RADII[:2], 2, "column FLUX has TFORM 2D .*, expected TFORM 27D"),
    ],
    ids=["fewer sums", "R15 missing", "falling", "twice", "two"],
)
def test_sums_that_are_not_those_of_the_radii_are_refused(
    radii: Any, count: int, match: str, tmp_path: Path
) -> None:
    term = apertures(tmp_path / "term.fits", radii, count)
    with pytest.raises(BadInputError, match=match):
        read_radii(term)


def test_columns_of_one_table_have_the_same_radii(tmp_path: Path) -> None:
    cells = {"MJD_TIME": np.ones(2), "RATIO": np.ones((2, 28)), "ERROR": np.ones((2, 27))}
    declared = TERMS["TERM_CONTAMINATION"]
    with pytest.raises(ValueError, match=r"TERM_CONTAMINATION: .*expected \(rows, radii\)"):
        NewHdu(declared, columns=cells)
    time, ratio, error = declared.columns
    columns = (time, replace(ratio, size=28), replace(error, size=27))
    path = tmp_path / "term.fits"
    hdu = NewHdu(replace(declared, columns=columns), {"CONTA_25": 0.0}, columns=cells)
    write_fits(path, [hdu])
    with (
        pytest.raises(BadInputError, match=r"column ERROR has TFORM 27D .*, expected TFORM 28D"),
        open_declared(path, term_input("TERM_CONTAMINATION")),
    ):
        pass


# circles that leave the image, and circles without light


def test_circle_that_leaves_the_image_is_named_in_a_warning_unless_every_visit_has_it() -> None:
    radii = radii_with([3.0, 50.0])
    images = np.ones((3, 90, 90))
    sums, areas = aperture_sums(images, np.full(3, 45.0), np.full(3, 45.0), radii)
    assert np.isfinite(sums).all()
    (warning,) = cut_warnings(areas, radii)
    assert "R50 of 3 images misses more than 0.1% of its area" in warning
    assert warning.endswith("no flux")
    before = sums.copy()
    forget_cut(sums, areas, radii)
    assert np.isnan(sums[:, -1]).all()
    np.testing.assert_array_equal(sums[:, :-1], before[:, :-1])
    # R40 leaves the image too, where R25 does not
    _, areas = aperture_sums(images, np.full(3, 30.0), np.full(3, 45.0), radii)
    assert ["R50" in warning for warning in cut_warnings(areas, radii)] == [True]
    # all pixels of the smallest circle are lost: no flux there, and no word about images without
    images[0, 41:50, 41:50] = np.nan
    images[1] = np.nan
    sums, areas = aperture_sums(images, np.full(3, 45.0), np.full(3, 45.0), radii)
    assert np.isnan(sums[0]).sum() == 1
    assert np.isnan(sums[1]).all()
    assert [w.split(" misses")[0] for w in cut_warnings(areas, radii)] == [
        "the aperture R25 of 1 images",
        "the aperture R3 of 1 images",
        "the aperture R50 of 2 images",
    ]


def test_light_beyond_the_stamp_of_the_model_is_unknown_in_added_circles_only() -> None:
    radii = radii_with([3.0, 45.0])
    shares = light_shares(np.full((64, 64), 1e-4), (32.0, 32.0), radii)
    assert np.isnan(shares).nonzero()[0].tolist() == [radii.index(45.0)]
    np.testing.assert_allclose(shares[0], np.pi * 9e-4, rtol=1e-12)


def test_loss_is_unknown_only_in_the_circles_without_a_share() -> None:
    share = np.array([[0.1, 0.5, 0.9, np.nan], [0.2, 0.5, 0.9, np.nan], [-0.1, 0.5, 0.9, np.nan]])
    good = np.ones(3, dtype=np.bool_)
    loss = light_lost(share, good, always=[1, 2])
    np.testing.assert_allclose(loss[:2, 0], [1 / 3, -1 / 3], rtol=1e-12)
    assert np.isnan(loss[2, 0])
    assert np.isnan(loss[:, 3]).all()
    assert not loss[:, 1:3].any()
    # those of every visit are known together or not at all
    share[0, 1] = np.nan
    assert np.isnan(light_lost(share, good, always=[1, 2])[0]).all()


# a visit


@pytest.fixture(scope="module")
def more(reduced: Bench, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, list[str]]:
    """The tiny visit with four more radii, beside its publication without, and the steps done."""
    bench = reduced.copy(tmp_path_factory.mktemp("radii"))
    _, run = bench.reduce(settings={"apertures": {"radii": ADDED}})
    return bench, executed(run)


@pytest.fixture(scope="module")
def folders(more: tuple[Bench, list[str]]) -> tuple[Path, Path]:
    """The published folders without and with the radii."""
    without, with_them = more[0].published()
    return without, with_them


@pytest.fixture(scope="module")
def visit(folders: tuple[Path, Path]) -> Visit:
    return open_visit(folders[1])


def test_only_steps_from_the_apertures_on_are_done(more: tuple[Bench, list[str]]) -> None:
    bench, done = more
    assert done == FROM_APERTURES
    # the order of the list is no other setting, and another list is one
    assert bench.steps(settings={"apertures": {"radii": ADDED[::-1]}}) == []
    _, run = bench.reduce(dry_run=True, settings={"apertures": {"radii": [12.5]}})
    why = {r.step: r.why for r in run.reports if r.outcome == "would run"}
    assert next(iter(why)) == "apertures"
    assert why["apertures"].startswith("setting radii [")
    assert why["apertures"].endswith(" is now [12.5]")
    # without the setting there is nothing to do
    assert bench.steps() == []


def test_published_folder_keeps_its_radii(
    more: tuple[Bench, list[str]], folders: tuple[Path, Path], tmp_path: Path
) -> None:
    bench = more[0].fresh(tmp_path)
    bench.visit = folders[1]
    _, run = bench.reduce()
    assert executed(run) == ["viewer", "report"]  # which are not restored
    (folder,) = bench.published()
    assert open_visit(folder).light_curves == open_visit(folders[1]).light_curves


def test_other_light_curves_are_the_same(folders: tuple[Path, Path]) -> None:
    curves = [
        {p.name.split("Lightcurve-")[1].split("_V")[0]: p for p in f.glob("*_SCI_COR_Lightcurve-*")}
        for f in folders
    ]
    assert curves[1].keys() - curves[0].keys() == set(NAMES)
    changing = {"BASELINE", "CHECKSUM", "PROC_NUM", "ARCH_REV", "DATE"}
    for name, path in curves[0].items():
        with fits.open(path) as one, fits.open(curves[1][name]) as two:
            assert one[1].data.tobytes() == two[1].data.tobytes(), name
            assert one[1].columns.names == two[1].columns.names
            cards = [{c: h[1].header[c] for c in h[1].header} for h in (one, two)]
        assert {c for c in cards[0] if cards[0][c] != cards[1].get(c)} <= changing, name
    # no step from the corrected images back has other products
    for path in folders[0].glob("*_SCI_COR_SubArray_*"):
        again = next(folders[1].glob("*_SCI_COR_SubArray_*"))
        assert fits.getdata(path).tobytes() == fits.getdata(again).tobytes()


def test_flux_is_that_of_exact_apertures_of_photutils(folders: tuple[Path, Path]) -> None:
    visit = open_visit(folders[1])
    images = visit.images("COR")
    # places as they were used; those of the light curves are in single precision
    sums = fits.getdata(folders[1] / "terms" / "apertures.fits", "TERM_APERTURES")
    x, y = (sums[c] - images.corner[:, i] for i, c in enumerate("XY"))
    for name, radius in zip(NAMES, ADDED, strict=True):
        flux = visit.light_curve(name, flagged="keep")["flux"].value
        expected = [
            CircularAperture((a - 0.5, b - 0.5), radius).do_photometry(
                np.nan_to_num(image), method="exact"
            )[0][0]
            for image, a, b in zip(images, x, y, strict=True)
        ]
        # both are exact but for the rounding of some thousand terms
        np.testing.assert_allclose(flux, expected, rtol=1e-11)


@pytest.mark.parametrize(("name", "radius"), list(zip(NAMES, ADDED, strict=True)))
def test_light_curve_has_everything_that_the_others_have(
    visit: Visit, name: str, radius: float
) -> None:
    curve, usual = (visit.light_curve(n, flagged="keep") for n in (name, "R25"))
    assert curve.colnames == usual.colnames
    assert (curve.meta["DATANAME"], curve.meta["AP_RADI"]) == (name, radius)
    inside = {c: np.asarray(curve[c], np.float64) for c in curve.colnames[1:] if c != "utc_time"}
    for column in ("conta_lc", "conta_lc_err", "background", "dark", "smearing_lc"):
        # each grows with the radius, as all are sums of light within it
        larger = np.median(inside[column]) > np.median(np.asarray(usual[column], np.float64))
        assert larger == (radius > 25.0), column
    clean = inside["flux"] / (1 + inside["conta_lc"])
    assert np.all((clean > 0) & (clean <= inside["flux"]))
    # there is at least the noise of the photons, and in circles of so bright a star little else
    photons = np.sqrt(inside["flux"])
    assert np.all((inside["flux_err"] > photons) & (inside["flux_err"] < 1.15 * photons))
    # the loss is small, and unknown only where the circle leaves the stamp of the PSF
    loss = inside["loss"]
    assert np.isnan(loss).all() if name == "R50" else (np.abs(loss) < 0.01).all()
    noise = visit.noise(name)
    assert noise.points == 12
    assert noise.photon is not None
    assert noise.formal is not None
    assert noise.photon < noise.formal < 1.15 * noise.photon
    budget = visit.explain(3, name)
    assert budget.radius == radius
    assert budget.errors_note == ""
    assert budget.errors_sum == pytest.approx(budget.error, rel=1e-6)


def test_optimal_is_chosen_as_before(folders: tuple[Path, Path]) -> None:
    one, two = (fits.getdata(f / "terms" / "quality.fits", "TERM_CANDIDATES") for f in folders)
    assert one["RADIUS"].tolist() == two["RADIUS"].tolist()
    np.testing.assert_array_equal(one["NOISE"], two["NOISE"])


def test_report_and_viewer_have_the_radii(more: tuple[Bench, list[str]]) -> None:
    products = more[0].work / "products"
    newest = max(products.rglob("*report*.json"), key=lambda p: p.stat().st_mtime_ns)
    report = json.loads(newest.read_text())
    for table in ("curves", "contamination"):
        rows = [row[0] for row in report["tables"][table]["rows"]]
        assert set(NAMES) <= set(rows), table
    assert "31 circles, radii 3 to 50 pixels" in newest.read_text()


def test_commands_know_the_radii(folders: tuple[Path, Path], tmp_path: Path) -> None:
    drawn = tmp_path / "a.png"
    outcome = run_in_process("plot", folders[1], "--light-curve", "R12.5", "--output", drawn)
    assert outcome.code == 0, outcome.err
    assert drawn.read_bytes()[:4] == b"\x89PNG"
    wrong = run_in_process("explain", folders[1], "--image", 1, "--aperture", "R12.6")
    assert wrong.code == 2
    assert "did you mean R12.5?" in wrong.err
    path = next(folders[1].glob("*Lightcurve-R12.5_*"))
    assert run_in_process("check", path, folders[1] / "terms" / "quality.fits").code == 0
    assert run_in_process("show", folders[1] / "terms" / "quality.fits").code == 0
    answer = json.loads(run_in_process("diff", *folders, "--json").out)
    assert answer["settings"]["apertures.radii"] == [[], list(ADDED)]


def test_products_follow_the_soc_definitions(folders: tuple[Path, Path]) -> None:
    checker = outside("datamodel/check_product.py")
    paths = [p for name in NAMES for p in folders[1].glob(f"*Lightcurve-{name}_*.fits")]
    assert len(paths) == len(NAMES)
    outcome = subprocess.run(
        [sys.executable, checker, "--quiet", checker.with_name("data_model.json"), *paths],
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "ERROR" not in outcome.stdout
