"""The commands explain, diff, check and show, also on wrong input and hostile header text."""

from __future__ import annotations

import json
import math
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner, Result

from flows.command.main import main
from schemas.flags import PixelFlag, Quality
from schemas.light_curves import CALIBRATION_STAGES, CORRECTION_STAGES, RADII
from tasks.delivery.published.check import check
from tasks.delivery.published.diff import compare_curves
from tasks.delivery.published.explain import event_words, quality_words
from tests.conftest import raw_file
from tests.support.outside import outside
from tests.support.runs import Bench


def drp(*arguments: object) -> Result:
    """Run a command in this process; any exception other than its exit fails the test."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    for number, handler in handlers.items():  # the command does not restore them, as it exits
        signal.signal(number, handler)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def answer(*arguments: object) -> Any:
    """Return the answer of a command in JSON, which must be standard JSON, without NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not valid JSON")

    result = drp(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout, parse_constant=refuse)


@pytest.fixture(scope="module")
def folder(reduced: Bench) -> Path:
    """The published folder of the tiny visit."""
    return reduced.published()[0]


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A copy of the published folder for a test to modify."""
    return Path(shutil.copytree(folder, tmp_path / folder.name))


def test_the_stages_lead_from_the_raw_sum_to_the_flux_without_a_gap(folder: Path) -> None:
    reply = answer("explain", folder, "--image", 3)
    stages = reply["stages"]
    assert [s["stage"] for s in stages] == [*CALIBRATION_STAGES, *CORRECTION_STAGES]
    left = stages[0]["electrons"] + sum(s["change"] for s in stages[1:])
    assert left == pytest.approx(stages[-1]["electrons"], rel=1e-12)
    curve = fits.getdata(raw_file(folder, "Lightcurve-DEFAULT"), 1)
    assert reply["flux"] == curve["FLUX"][3]
    # the circle of the stages is that of DEFAULT, about the first position, which is within 0.02
    # pixels of the final one
    assert stages[-1]["electrons"] == pytest.approx(reply["flux"], rel=1e-4)


@pytest.mark.parametrize("aperture", ["DEFAULT", "R15", "R40"])
def test_the_terms_of_the_error_add_up_to_the_error_of_the_light_curve(
    folder: Path, aperture: str
) -> None:
    reply = answer("explain", folder, "--image", 0, "--aperture", aperture)
    summed = math.sqrt(sum(e["electrons"] ** 2 for e in reply["errors"] if e["term"] != "DRP"))
    assert summed == pytest.approx(reply["error"], rel=1e-9)
    assert reply["errors_note"] == ""
    assert sum(e["share"] for e in reply["errors"] if e["share"] is not None) == pytest.approx(1)


def test_light_of_field_stars_is_given_relative_to_the_target(folder: Path) -> None:
    reply = answer("explain", folder, "--image", 5)
    conta = next(w["electrons"] for w in reply["within"] if w["column"] == "CONTA_LC")
    ratio = fits.getdata(raw_file(folder, "Lightcurve-DEFAULT"), 1)["CONTA_LC"][5]
    assert conta / (reply["flux"] - conta) == pytest.approx(ratio, rel=1e-9)


@pytest.mark.parametrize("aperture", ["PSF", "OPTIMAL", "R25_Fixed"])
def test_a_note_explains_the_terms_of_light_curves_that_are_no_simple_sum(
    folder: Path, aperture: str
) -> None:
    reply = answer("explain", folder, "--image", 0, "--aperture", aperture)
    assert "terms are those of the" in reply["errors_note"]
    assert reply["radius"] in RADII


def test_terms_from_another_reduction_are_detected(copy: Path) -> None:
    path = copy / "terms" / "quality.fits"
    with fits.open(path) as file:
        file["TERM_ERRORS"].data["STAR"] *= 1.1
        file.writeto(path, overwrite=True, checksum=True)
    assert "from different reductions" in answer("explain", copy, "--image", 0)["errors_note"]


def test_flags_are_put_into_words() -> None:
    assert event_words(0) == []
    assert event_words(200_901) == [
        "SAA: in the South Atlantic Anomaly",
        "Earth: behind the Earth",
        "cosmic rays: hits on more than 5% of the image",
    ]
    assert event_words(3_000) == ["Moon: digit 3"]
    assert quality_words(int(Quality.SAA | Quality.MARGIN)) == [
        "SAA: in the SAA",
        "margin: bias could not be measured in the margins",
    ]
    assert quality_words(1 << 20) == ["unknown bits 0x100000"]


def test_the_corrections_of_a_pixel_add_up(folder: Path) -> None:
    cube = fits.getdata(raw_file(folder, "SCI_CAL_SubArray"), "SCI_CAL_SubArray")
    header = fits.getheader(raw_file(folder, "SCI_CAL_SubArray"), "SCI_CAL_SubArray")
    y, x = np.unravel_index(int(np.nanargmax(cube[4])), cube.shape[1:])
    reply = answer(
        "explain", folder, "--image", 4, "--pixel", x + header["X_WINOFF"], y + header["Y_WINOFF"]
    )
    values = {v["name"]: v["value"] for v in reply["values"]}
    errors = {e["term"]: e["electrons"] for e in reply["errors"]}
    assert values["calibrated"] == cube[4, y, x]
    assert (
        values["corrected"]
        == fits.getdata(raw_file(folder, "SCI_COR_SubArray"), "SCI_COR_SubArray")[4, y, x]
    )
    # no pixel was replaced by the model, so the corrections lead from one image to the other
    subtracted = sum(values[name] for name in ("background", "smearing", "static", "hit"))
    assert values["calibrated"] - subtracted == pytest.approx(values["corrected"], rel=1e-9)
    # in the brightest pixel photon noise dominates
    assert errors["PHOTONS"] == pytest.approx(math.sqrt(values["calibrated"]), rel=0.05)
    assert max(errors, key=lambda name: errors[name]) == "PHOTONS"
    assert reply["error"] == pytest.approx(math.sqrt(sum(e**2 for e in errors.values())))
    response = fits.getdata(folder / "terms/flat.fits", "TERM_FLAT_ERROR")[y, x]
    assert errors["FLAT"] == pytest.approx(values["calibrated"] * response / values["response"])


def test_the_amount_of_a_hit_is_given_for_its_pixel(folder: Path) -> None:
    with fits.open(folder / "terms/defects.fits") as file:
        hits, dead = (
            file["TERM_DEFECTS"].data,
            file["TERM_DEFECTS_FLAGS"].data.astype(int) & int(PixelFlag.DEAD),
        )
        header = fits.getheader(raw_file(folder, "SCI_CAL_SubArray"), "SCI_CAL_SubArray")
        hit = next(h for h in hits if h["AMOUNT"] > 1000 and not dead[h["Y"], h["X"]])
    place = int(hit["X"]) + header["X_WINOFF"], int(hit["Y"]) + header["Y_WINOFF"]
    reply = answer("explain", folder, "--image", int(hit["IMAGE_INDEX"]), "--pixel", *place)
    values = {v["name"]: v["value"] for v in reply["values"]}
    assert values["hit"] == pytest.approx(hit["AMOUNT"])
    subtracted = sum(values[name] for name in ("background", "smearing", "static", "hit"))
    assert values["calibrated"] - subtracted == pytest.approx(
        values["corrected"], rel=1e-9, abs=1e-6
    )


def test_a_pixel_outside_the_window_is_refused_with_the_extent_of_the_window(folder: Path) -> None:
    result = drp("explain", folder, "--image", 0, "--pixel", 5, 500)
    assert result.exit_code == 2
    assert (
        "pixel (5, 500): the window spans x from 412 to 611 and y from 412 to 611" in result.stderr
    )
    assert drp("explain", folder, "--image", 12, "--pixel", 500, 500).exit_code == 2


def test_a_pixel_is_explained_as_text(folder: Path) -> None:
    result = drp("explain", folder, "--image", 0, "--pixel", 512, 512)
    assert result.exit_code == 0
    for word in ("PHOTONS", "READ_OUT", "pixel response", "pixel flags:"):
        assert word in result.stdout


def test_explain_finds_the_single_visit_in_a_folder_and_answers_as_text(reduced: Bench) -> None:
    result = drp("explain", reduced.output, "--image", 0)
    assert result.exit_code == 0
    assert "COSMIC_RAYS" in result.stdout
    assert "READ_OUT" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--image", 12), 2, "image 12: the visit has images 0 to 11"),
        (("--image", -1), 2, "image -1"),
        (("--image", 0, "--aperture", "R99"), 2, "aperture R99: this visit has DEFAULT"),
    ],
)
def test_explain_lists_the_available_images_and_apertures(
    folder: Path, arguments: Any, code: int, said: str
) -> None:
    result = drp("explain", folder, *arguments)
    assert (result.exit_code, said in result.stderr) == (code, True), result.stderr


def test_a_visit_must_be_a_published_folder(
    folder: Path, tiny_visit: Path, copy: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "CH_PR900001_TG000101_V0009")
    for place, code, said in (
        (tmp_path / "nothing", 66, "no such"),
        (tiny_visit, 66, "holds no published visit"),
        (copy / "manifest.json", 2, "is a file"),
        (tmp_path, 2, "holds 2 published visits"),
    ):
        result = drp("explain", place, "--image", 0)
        assert (result.exit_code, said in result.stderr) == (code, True), result.stderr


def test_a_missing_or_damaged_term_is_named(copy: Path) -> None:
    term = copy / "terms" / "bias.fits"
    whole = term.read_bytes()
    term.write_bytes(whole[:-2880])
    result = drp("explain", copy, "--image", 0)
    assert (result.exit_code, "bias.fits" in result.stderr, "truncated" in result.stderr) == (
        65,
        True,
        True,
    )
    term.unlink()
    result = drp("explain", copy, "--image", 0)
    assert (result.exit_code, "bias.fits: is missing" in result.stderr) == (66, True)


def test_a_manifest_cannot_point_outside_its_folder(copy: Path) -> None:
    path = copy / "manifest.json"
    path.write_text(path.read_text().replace("terms/bias.fits", "../../bias.fits"))
    result = drp("explain", copy, "--image", 0)
    assert (result.exit_code, "is outside the folder" in result.stderr) == (65, True)
    path.write_text(path.read_text().replace("../../bias.fits", "terms/bias.fits"))
    (copy / "terms" / "bias.fits").rename(copy.parent / "bias.fits")
    (copy / "terms" / "bias.fits").symlink_to(copy.parent / "bias.fits")
    result = drp("explain", copy, "--image", 0)
    assert (result.exit_code, "a link to a file outside" in result.stderr) == (65, True)


def test_a_reduction_does_not_differ_from_itself(folder: Path) -> None:
    reply = answer("diff", folder, folder)
    assert reply["same_result"]
    assert not any(c["rows"] for curve in reply["curves"].values() for c in curve["columns"])
    result = drp("diff", folder, folder)
    assert "light curves: identical" in result.stdout


def test_a_flux_that_is_ten_ppm_higher_differs_by_ten_ppm(copy: Path, folder: Path) -> None:
    path = raw_file(copy, "Lightcurve-R30")
    with fits.open(path) as file:
        file[1].data["FLUX"] *= 1 + 1e-5
        file.writeto(path, overwrite=True, checksum=True)
    reply = answer("diff", folder, copy)["curves"]
    flux = next(c for c in reply["R30"]["columns"] if c["column"] == "FLUX")
    assert flux["unit"] == "ppm of flux"
    # relative to the median flux, from which each point differs by some 100 ppm
    assert flux["median"] == pytest.approx(10, rel=1e-3)
    assert {n for n, curve in reply.items() if any(c["rows"] for c in curve["columns"])} == {"R30"}


def test_inputs_settings_and_versions_are_compared(copy: Path, folder: Path) -> None:
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["settings"]["dark"]["skip"] = True
    manifest["inventory"]["references"]["flat field"]["product"]["sha256"] = "0" * 64
    manifest["inventory"]["attitude"]["path"] = (
        "CH_PR900001_TG000101_TU2021-03-10T08-00-00_SCI_RAW_Attitude_V0009.fits"
    )
    next(step for step in manifest["steps"] if step["step"] == "bias")["version"] = "99"
    manifest["software"]["numpy"] = "1.0"
    manifest["identity"] = "0" * 64
    del manifest["baseline"]
    path.write_text(json.dumps(manifest))
    reply = answer("diff", folder, copy)
    assert not reply["same_result"]
    assert reply["settings"] == {"dark.skip": [False, True]}
    assert list(reply["references"]) == ["flat field"]
    assert list(reply["inputs"]) == ["attitude"]
    assert list(reply["step_versions"]) == ["bias"]
    assert reply["step_versions"]["bias"][1] == "99"
    assert list(reply["software"]) == ["numpy"]
    assert "dark.skip" in drp("diff", folder, copy).stdout


def test_reductions_of_different_visits_are_not_compared(copy: Path, folder: Path) -> None:
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest).replace("PR900001_TG000101", "PR100001_TG000101"))
    result = drp("diff", folder, copy)
    assert (result.exit_code, "different visits" in result.stderr) == (2, True)
    path.write_text(json.dumps({k: v for k, v in manifest.items() if k != "steps"}))
    result = drp("diff", folder, copy)
    assert (result.exit_code, "steps: Field required" in result.stderr) == (65, True)


def test_reductions_without_a_common_image_are_not_called_identical(
    copy: Path, folder: Path
) -> None:
    for path in copy.glob("*TU2021-03-10T08-00-40_SCI_COR_Lightcurve-*.fits"):
        with fits.open(path) as file:
            file[1].data["MJD_TIME"] += 10
            file.writeto(path, overwrite=True, checksum=True)
    shown = drp("diff", folder, copy).stdout
    assert "DEFAULT: 12 images only in A" in shown
    assert "no common image" in shown


def test_images_are_matched_by_time_and_angles_across_zero() -> None:
    def curve(times: list[float], flux: list[float], roll: list[float]) -> dict[str, Any]:
        columns = {"MJD_TIME": times, "FLUX": flux, "ROLL_ANGLE": roll}
        return {**{k: np.array(v) for k, v in columns.items()}, "EVENT": np.zeros(len(times), int)}

    a = curve([1.0, 2.0, 3.0], [100.0, math.nan, 100.0], [359.9, 10.0, 20.0])
    b = curve([1.0, 2.0, 4.0], [101.0, 100.0, 100.0], [0.1, 10.0, 20.0])
    difference = compare_curves(a, b)
    assert (difference.images, difference.only_in_a, difference.only_in_b) == (2, 1, 1)
    columns = {c.column: c for c in difference.columns}
    roll, flux = columns["ROLL_ANGLE"].spread, columns["FLUX"].spread
    assert roll is not None
    assert roll.largest == pytest.approx(0.2)
    assert columns["FLUX"].rows == 2  # one differs by 1 %, one is finite in b only
    assert flux is not None
    assert flux.largest == pytest.approx(1e4)
    assert columns["EVENT"].rows == 0


def test_all_published_and_simulated_files_conform(folder: Path, tiny_visit: Path) -> None:
    reply = answer("check", folder, tiny_visit / "data", tiny_visit / "aux")
    assert len(reply) > 70
    assert [t for t in reply if t["state"] != "conforms"] == []


def change(path: Path, hdu: int, **cards: Any) -> None:
    """Change cards of a file, with new checksums."""
    with fits.open(path) as file:
        for name, value in cards.items():
            if value is None:
                del file[hdu].header[name]
            else:
                file[hdu].header[name] = value
        file.writeto(path, overwrite=True, checksum=True)


@pytest.mark.parametrize(
    ("cards", "said"),
    [
        ({"TUNIT4": "km"}, "column FLUX is in km"),
        ({"TTYPE4": "LIGHT"}, "column FLUX is missing"),
        ({"TARGNAME": None}, "keyword TARGNAME is missing"),
        ({"NEXP": "three"}, "keyword NEXP is 'three'"),
        ({"TIMESYS": "UTC"}, "keyword TIMESYS is 'UTC', expected 'TT'"),
    ],
)
def test_a_light_curve_that_is_not_as_defined_fails(
    folder: Path, tmp_path: Path, cards: dict[str, Any], said: str
) -> None:
    path = Path(shutil.copy(raw_file(folder, "Lightcurve-DEFAULT"), tmp_path))
    assert check(path).state == "conforms"
    change(path, 1, **cards)
    result = drp("check", path)
    assert (result.exit_code, said in result.stdout) == (65, True), result.stdout
    assert path.name in result.stderr


def test_all_faults_of_a_file_are_reported_not_only_the_first(folder: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(raw_file(folder, "Lightcurve-DEFAULT"), tmp_path))
    change(path, 1, TARGNAME=None, TIMESYS="UTC", TTYPE4="LIGHT")
    assert len(check(path).faults) >= 3


@pytest.mark.parametrize("sums", [True, False])
def test_absent_checksums_and_another_version_are_tolerated_even_in_our_own_products(
    folder: Path, tmp_path: Path, sums: bool
) -> None:
    path = Path(shutil.copy(raw_file(folder, "Lightcurve-DEFAULT"), tmp_path))
    with fits.open(path) as file:
        if sums:
            file[1].header["EXT_VER"] = "99.9"
        else:
            del file[1].header["CHECKSUM"], file[1].header["DATASUM"]
        file.writeto(path, overwrite=True, checksum=sums)
    checked = check(path)
    assert (checked.state, checked.faults) == ("deviates", []), checked


def test_a_flipped_bit_is_found_by_the_sums(folder: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(raw_file(folder, "Lightcurve-DEFAULT"), tmp_path))
    data = bytearray(path.read_bytes())
    data[-2000] ^= 1
    path.write_bytes(bytes(data))
    verdict = check(path)
    assert verdict.state == "fails"
    assert "checksum" in verdict.faults[0]


def test_a_modified_published_file_is_detected_by_its_digest(copy: Path) -> None:
    path = raw_file(copy, "Lightcurve-DEFAULT")
    change(path, 1, TARGNAME="another")
    assert check(path).faults == [
        "was modified after publication: its SHA-256 differs from the manifest.json"
    ]


def test_a_name_that_contradicts_the_header_deviates(folder: Path, tmp_path: Path) -> None:
    source = raw_file(folder, "Lightcurve-DEFAULT")
    for name, said in (
        (source.name.replace("V0000", "V0001"), "version is 0001, in the header 0000"),
        (source.name.replace("DEFAULT", "R15"), "data is R15, in the header DEFAULT"),
        (source.name.replace("TG000101", "TG000201"), "target is"),
        ("curve.fits", "name: expected CH"),
    ):
        path = tmp_path / name
        shutil.copy(source, path)
        verdict = check(path)
        assert (verdict.state, said in verdict.deviations[0]) == ("deviates", True), verdict
        assert drp("check", path).exit_code == 0
        assert drp("check", "--strict", path).exit_code == 65


def test_a_file_that_is_no_product_fails_or_is_missing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.fits").touch()
    other = tmp_path / "page.fits"
    shutil.copy(raw_like(folder, ".pdf"), other)
    result = drp("check", tmp_path / "empty.fits", other, tmp_path / "nothing.fits")
    assert result.exit_code == 65
    assert "is empty" in result.stdout
    assert "looks like a PDF" in result.stdout
    assert "nothing.fits: no such file" in result.stdout
    assert drp("check", tmp_path / "nothing.fits").exit_code == 66
    assert drp("check").exit_code == 2


def test_pages_of_a_published_folder_conform_and_the_viewer_is_marked_as_not_from_the_soc(
    folder: Path,
) -> None:
    reply = {Path(t["file"]).suffix: (t["state"], t["type"]) for t in answer("check", folder)}
    assert reply[".pdf"] == ("conforms", "RPT_COR_DataReduction")
    assert reply[".html"] == ("conforms", "viewer, not a SOC product")


@pytest.mark.parametrize(
    ("suffix", "old", "new", "said"),
    [
        (".html", "default-src 'none'", "default-src *", "lacks default-src 'none'"),
        (
            ".html",
            '<meta http-equiv="Content-Security-Policy"',
            "<meta",
            "has no Content-Security-Policy",
        ),
        (
            ".html",
            "</title>",
            '</title><link rel="stylesheet" href="https://x.org/a.css">',
            "<link> fetches 'https://x.org/a.css'",
        ),
        (
            ".html",
            "</title>",
            '</title><script src="//x.org/a.js"></script>',
            "<script> fetches '//x.org/a.js'",
        ),
        (
            ".html",
            "</title>",
            '</title><img src="x" onerror="alert(1)">',
            "has the attribute onerror",
        ),
        (
            ".html",
            "</title>",
            "</title><script>alert(1)</script>",
            "does not list exactly the digests of its <script>",
        ),
        (
            ".html",
            "</title>",
            "</title><style>a {background: url(http://x.org)}</style>",
            "<style> fetches from an address",
        ),
        (".html", "</html>", "", "is not a complete HTML page"),
        (".pdf", "%PDF-", "%PDX-", "is not a PDF"),
        (".pdf", "%%EOF", "", "the end of the PDF is missing"),
        (".pdf", "<pdfaid:part>2<", "<pdfaid:part>9<", "does not declare itself PDF/A-2"),
        (".pdf", "/Type/Catalog", "/Type/Catalog/OpenAction<</S/JavaScript>>", "JavaScript"),
    ],
)
def test_a_damaged_or_unsafe_page_fails(
    folder: Path, tmp_path: Path, suffix: str, old: str, new: str, said: str
) -> None:
    path = Path(shutil.copy(raw_like(folder, suffix), tmp_path))
    assert check(path).state == "conforms"
    whole = path.read_bytes()
    changed = new.encode().join(whole.rsplit(old.encode(), 1))
    assert changed != whole
    path.write_bytes(changed)
    result = drp("check", path)
    assert (result.exit_code, said in result.stdout) == (65, True), result.stdout


def test_a_modified_page_is_detected_by_its_digest(copy: Path) -> None:
    path = raw_like(copy, ".html")
    path.write_text(path.read_text().replace("light curves</title>", "Light curves</title>"))
    assert check(path).faults == [
        "was modified after publication: its SHA-256 differs from the manifest.json"
    ]


def raw_like(folder: Path, suffix: str) -> Path:
    """Return the only file with a suffix in a published folder."""
    (found,) = folder.glob(f"*{suffix}")
    return found


def test_files_of_the_operational_pipeline_are_read_to_the_end() -> None:
    # they deviate in many ways; the check must report all deviations and not stop at one
    for path in sorted(outside("real/flight").glob("*.fits")):
        verdict = check(path)
        assert verdict.type in path.name
        assert not any("checksum" in f for f in verdict.faults), verdict.faults


def test_show_lists_meanings_numbers_and_used_values(folder: Path) -> None:
    reply = answer("show", folder / "terms" / "bias.fits")
    first = reply["hdus"][0]
    assert (first["extname"], first["meaning"]) == (
        "TERM_BIAS",
        "bias level and read-out noise of every image",
    )
    assert "BIAS_LVL" in [u["name"] for u in first["used"]]
    level = next(c for c in first["columns"] if c["name"] == "LEVEL")
    data = fits.getdata(folder / "terms" / "bias.fits", "TERM_BIAS")["LEVEL"]
    assert (level["least"], level["median"], level["largest"]) == (
        data.min(),
        np.median(data),
        data.max(),
    )
    assert reply["hdus"][1]["kind"] == "image"
    assert reply["hdus"][1]["pixels"]["values"] == 200 * 200


def test_show_counts_the_nan_pixels_of_a_cube(folder: Path) -> None:
    path = raw_file(folder, "SCI_COR_SubArray")
    pixels = answer("show", path)["hdus"][0]["pixels"]
    data = fits.getdata(path, 1)
    assert pixels["not_numbers"] == np.count_nonzero(~np.isfinite(data))
    assert (pixels["least"], pixels["largest"]) == (np.nanmin(data), np.nanmax(data))


def test_every_kind_of_file_can_be_shown(folder: Path, tiny_visit: Path, library: Path) -> None:
    for path in [
        *sorted(tiny_visit.rglob("*.fits")),
        *sorted(library.glob("*.fits")),
        *sorted(folder.glob("terms/*.fits")),
    ]:
        result = drp("show", path)
        assert result.exit_code == 0, (path, result.stderr)
        assert path.name in result.stdout.splitlines()[0]


@pytest.mark.parametrize("name", ["\x1b[31mred", "a\u202eb", "two\nlines", "bell\x07"])
def test_hostile_text_stays_text(folder: Path, tmp_path: Path, name: str) -> None:
    path = Path(shutil.copy(folder / "terms" / "bias.fits", tmp_path / f"{name}.fits"))
    for command in ("show", "check"):
        for option in ((), ("--json",)):
            shown = drp(command, *option, path).stdout
            assert all(c.isprintable() for line in shown.split("\n") for c in line), repr(shown)


def test_markup_in_a_header_is_shown_verbatim(folder: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(raw_file(folder, "Lightcurve-DEFAULT"), tmp_path))
    change(path, 1, TARGNAME="<script>$(rm) ;=cmd()")
    assert "<script>$(rm) ;=cmd()" in drp("show", path).stdout


def test_show_refuses_folders_missing_files_and_other_formats(folder: Path, tmp_path: Path) -> None:
    for place, code, said in (
        (folder, 2, "is a folder"),
        (tmp_path / "nothing", 66, "no such"),
        (folder / "manifest.json", 65, "is not a FITS file"),
    ):
        result = drp("show", place)
        assert (result.exit_code, said in result.stderr) == (code, True), result.stderr
