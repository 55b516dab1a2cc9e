"""Data and references that say what cannot be: what is refused, what is flagged, and what a person
is told.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from astropy.io import fits

from flows.runs.failure import failed_visit
from schemas import ROOT
from schemas.errors import BadInputError
from schemas.flags import EVENT_COSMIC_RAYS, UNUSABLE, Quality
from schemas.payloads import Inventory, Leaf, Reference, Status
from schemas.settings import PipelineSettings
from schemas.used import USED
from tasks.delivery.report.failed import typeset_failed
from tasks.engine.run import Run, StepReport
from tasks.engine.store import Workspace
from tasks.numerics.times import utc_to_mjd
from tests.support.faults import (
    Bench,
    Outcome,
    Part,
    edited,
    fill_disk,
    light_curve,
    put_together,
    raw_product,
    replace,
    take_apart,
)
from tests.support.outside import needs_poppler
from tests.support.runs import STEPS, undrawn
from tests.support.runs import Bench as Reduced

SUBARRAY, METADATA = "SCI_RAW_SubArray", "SCI_RAW_ImageMetadata"

BAD = 4  # the image that is damaged, of 12

MARGINS = tuple(
    f"SCI_RAW_{m}" for m in ("BlankLeft", "BlankRight", "DarkLeft", "DarkRight", "OverscanLeft")
)


@pytest.fixture
def bench(visit: Path, library: Path, tmp_path: Path) -> Bench:
    """A visit that may be damaged, reduced with the default library."""
    return Bench(visit, tmp_path)


@pytest.fixture
def own(visit: Path, references: Path, tmp_path: Path) -> Bench:
    """A visit and references that may be damaged."""
    return Bench(visit, tmp_path, references)


HIT = [1, 2, 3, 6, 10]  # images of the tiny visit with a cosmic ray within 25 pixels of the target


@pytest.fixture(scope="session")
def sound(reduced: Reduced, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The measurements of the visit as it is."""
    bench = Bench(reduced.visit, tmp_path_factory.mktemp("sound"))
    know_steps(bench, reduced)
    return bench.measured()[0]


def know_steps(bench: Bench, reduced: Reduced) -> None:
    """Put every step of the undamaged visit into the work folder of a bench."""
    shutil.copytree(reduced.work, bench.work, dirs_exist_ok=True)


def manifest(outcome: Outcome) -> dict[str, Any]:
    """Return the manifest of what was published."""
    return dict(json.loads((outcome.folder / "manifest.json").read_text()))


def flagged(rows: Any, bit: Quality) -> list[int]:
    """Return the images with a bit of QUALITY."""
    return np.flatnonzero(rows["QUALITY"] & int(bit)).tolist()


def alike(rows: Any, sound: Any, but: list[int]) -> None:
    """Assert that the other images have the flux that they have in the undamaged visit."""
    others = np.setdiff1d(np.arange(len(rows["FLUX"])), but)
    # the damaged image is missing from the means over the visit (bias level, place of the ring,
    # PSF), which moves these by less than a sixth of the error of a flux (200 ppm); where a cosmic
    # ray fell within the aperture, pixels at the limit of 2.5 sigma are judged otherwise by another
    # PSF, which may move the flux by its error
    whole = np.setdiff1d(others, HIT)
    assert np.allclose(rows["FLUX"][whole], sound["FLUX"][whole], rtol=3e-5, atol=0)
    assert np.allclose(rows["FLUX"][others], sound["FLUX"][others], rtol=2e-4, atol=0)


def change_pixels(bench: Bench, change: Callable[[Any], Any], *extnames: str) -> None:
    """Change the images of some HDUs of the raw sub-array."""
    path = bench.raw(SUBARRAY)
    parts = take_apart(path)
    for part in parts:
        if part.extname in extnames:
            part.pixels = change(part.pixels.copy())
    put_together(path, parts)


def change_rows(path: Path, extname: str, change: Callable[[Any], Any]) -> None:
    """Change the rows of a table."""
    with edited(path, extname) as part:
        table = part.rows
        part.rows = table if (changed := change(table)) is None else changed


def one(value: float, image: int = BAD) -> Callable[[Any], Any]:
    """Return a change that fills one image with a value."""

    def change(pixels: Any) -> Any:
        pixels[image] = value
        return pixels

    return change


# ---- 19: one bad image


@pytest.mark.parametrize("value", [0, 3 * 65535], ids=["zero", "full scale"])
@pytest.mark.parametrize("margins", [False, True], ids=["alone", "with its margins"])
def test_an_image_without_data_is_flagged_and_harms_no_other(
    bench: Bench, sound: Any, value: int, margins: bool
) -> None:
    change_pixels(bench, one(value), SUBARRAY, *(MARGINS if margins else ()))
    rows, _ = bench.measured()
    assert flagged(rows, Quality.UNUSABLE_IMAGE) == [BAD]
    assert flagged(rows, Quality.MARGIN) == ([BAD] if margins else [])
    alike(rows, sound, [BAD])


def test_a_visit_with_an_image_without_data_is_published(bench: Bench, sound: Any) -> None:
    change_pixels(bench, one(0), SUBARRAY, *MARGINS)
    outcome = bench.published()
    rows = light_curve(outcome.folder)
    assert flagged(rows, Quality.UNUSABLE_IMAGE) == [BAD]
    alike(rows, sound, [BAD])
    assert manifest(outcome)["steps"][0]["payload"]["used"]["N_BADIMG"] == 1
    assert any("margins of 1 images show no bias" in w for w in manifest(outcome)["warnings"])


def test_an_image_that_the_camera_marked_as_damaged_is_flagged(bench: Bench, sound: Any) -> None:
    def change(rows: Any) -> None:
        rows["CE_INTEGRITY"][BAD] = 1

    change_rows(bench.raw(SUBARRAY), METADATA, change)
    rows, _ = bench.measured()
    assert flagged(rows, Quality.UNUSABLE_IMAGE) == [BAD]
    alike(rows, sound, [BAD])


@pytest.mark.parametrize(
    "value", [np.nan, np.inf, 0.0, 3 * 65535.0], ids=["nan", "inf", "zero", "full scale"]
)
def test_an_image_whose_margins_show_no_bias_is_flagged_and_measured(
    bench: Bench, sound: Any, value: float
) -> None:
    change_pixels(bench, one(value), *MARGINS)
    rows, said = bench.measured()
    assert flagged(rows, Quality.MARGIN) == [BAD]
    # its bias comes from its neighbours
    alike(rows, sound, [])
    assert "margins of 1 images show no bias" in said


def test_some_garbled_pixels_of_a_margin_are_left_out(bench: Bench, sound: Any) -> None:
    def change(pixels: Any) -> Any:
        pixels[BAD, :5, 0] = np.nan
        pixels[BAD, 5:9, 0] = 1e9
        return pixels

    change_pixels(bench, change, "SCI_RAW_OverscanLeft")
    rows, _ = bench.measured()
    assert flagged(rows, Quality.MARGIN) == []
    alike(rows, sound, [])


def test_without_any_usable_margin_the_nominal_bias_is_used_and_said(bench: Bench) -> None:
    change_pixels(bench, lambda pixels: np.full_like(pixels, np.nan), *MARGINS)
    rows, said = bench.measured()
    assert len(flagged(rows, Quality.MARGIN)) == 12
    assert "no usable margins: the nominal bias of the reference is used" in said


def test_a_visit_without_margins_is_reduced_with_the_nominal_bias(bench: Bench) -> None:
    path = bench.raw(SUBARRAY)
    put_together(path, [p for p in take_apart(path) if p.extname not in MARGINS])
    assert "nominal bias" in bench.measured()[1]


@pytest.mark.parametrize("column", ["HK_TEMP_FEE_CCD", "HK_VOLT_FEE_VOD"])
@pytest.mark.parametrize("value", [np.nan, np.inf], ids=["nan", "inf"])
def test_missing_housekeeping_of_one_image_is_bridged_and_flagged(
    bench: Bench, sound: Any, column: str, value: float
) -> None:
    def change(rows: Any) -> None:
        rows[column][BAD] = value

    change_rows(bench.raw(SUBARRAY), METADATA, change)
    rows, _ = bench.measured()
    assert flagged(rows, Quality.HOUSEKEEPING) == [BAD]
    # housekeeping drifts slowly: between neighbours the gain is that of the image to some ppm
    alike(rows, sound, [])


def test_housekeeping_without_any_number_gives_the_nominal_gain_and_a_warning(bench: Bench) -> None:
    def change(rows: Any) -> None:
        for name in rows.dtype.names:
            if name.startswith(("HK_VOLT", "HK_TEMP")):
                rows[name] = np.nan

    change_rows(bench.raw(SUBARRAY), METADATA, change)
    rows, said = bench.measured()
    assert "the nominal gain is used" in said
    assert len(flagged(rows, Quality.HOUSEKEEPING)) == 12


def test_places_and_angles_without_numbers_do_not_stop_a_visit(bench: Bench) -> None:
    def change(rows: Any) -> None:
        for name in (
            "LOS_TO_SUN_ANGLE",
            "LOS_TO_MOON_ANGLE",
            "LOS_TO_EARTH_ANGLE",
            "LATITUDE",
            "LONGITUDE",
        ):
            rows[name][BAD:] = np.nan

    change_rows(bench.raw(SUBARRAY), METADATA, change)
    assert (bench.measured()[0]["EVENT"] % EVENT_COSMIC_RAYS == 0).all()


def test_zero_pixels_and_cosmic_rays_leave_an_image_usable(bench: Bench) -> None:
    def change(pixels: Any) -> Any:
        pixels[BAD, 100, 100:103] = 0
        pixels[BAD, 60, 60] = 2**32 - 1
        return pixels

    change_pixels(bench, change, SUBARRAY)
    rows, _ = bench.measured()
    assert flagged(rows, Quality.UNUSABLE_IMAGE) == []
    assert np.isfinite(rows["FLUX"]).all()


# ---- 20, 28, 29: nothing left


def report_of(bench: Bench, outcome: Outcome, visit: str = "PR900001_TG000101") -> str:
    """Return the text of the report that the ERROR line names, below the work folder; the PDF
    beside it is named too.
    """
    text = bench.work / "reports" / f"{visit}.txt"
    assert outcome.error.endswith(f"; the report is {text}; as PDF {text.with_suffix('.pdf')}"), (
        outcome.error
    )
    assert text.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    return text.read_text()


def pdf_of(bench: Bench, visit: str = "PR900001_TG000101") -> tuple[str, dict[str, str]]:
    """Return the text of the report's PDF, runs of white space as one blank, and what `pdfinfo`
    says of it.
    """
    path = bench.work / "reports" / f"{visit}.pdf"
    text, facts = (
        subprocess.run([*command, path, *more], capture_output=True, text=True, check=True).stdout
        for command, more in ((["pdftotext", "-layout"], ["-"]), (["pdfinfo"], []))
    )
    return " ".join(text.split()), {
        k: v.strip() for k, _, v in (line.partition(":") for line in facts.splitlines())
    }


def check_report(bench: Bench, outcome: Outcome, step: str, *words: str) -> None:
    """Assert what stands in the report on a visit without science data."""
    text = report_of(bench, outcome)
    for word in ("there are no science data", f"step {step}", "What to do", *words):
        assert word in text, text


@pytest.mark.parametrize("value", [0, 3 * 65535], ids=["zero", "full scale"])
def test_a_visit_of_empty_images_ends_with_a_report_and_no_products(
    bench: Bench, value: int
) -> None:
    change_pixels(bench, lambda pixels: np.full_like(pixels, value), SUBARRAY)
    outcome = bench.refused(69, "none of 12 images can be used", "12 are all zero, saturated")
    check_report(
        bench,
        outcome,
        "events",
        "none of 12 images can be used",
        "Steps completed\n  none",
        "CCDLinearisation",
    )


def no_star(pixels: Any, images: slice = slice(None)) -> Any:
    """Fill the place of the target with sky taken from further out."""
    rng = np.random.default_rng(1)
    y, x = np.indices(pixels.shape[1:]) - 99.5
    near, ring = np.hypot(x, y) < 60, (np.hypot(x, y) > 70) & (np.hypot(x, y) < 95)
    for image in pixels[images]:
        sky = np.sort(image[ring])
        image[near] = rng.choice(sky[: int(0.9 * sky.size)], near.sum())
    return pixels


def test_a_window_without_a_star_ends_with_a_report_that_lists_the_steps(bench: Bench) -> None:
    change_pixels(bench, no_star, SUBARRAY)
    outcome = bench.refused(
        69, "no star stands out within 40 pixels of the intended place", "in any of 12 images"
    )
    check_report(bench, outcome, "look", "calibrate ", "pointing", "completed", "TARGET_LOCATION_X")


def test_images_without_the_star_are_flagged(bench: Bench, sound: Any) -> None:
    change_pixels(bench, lambda pixels: no_star(pixels, slice(0, 3)), SUBARRAY)
    outcome = bench.published()
    rows = light_curve(outcome.folder)
    assert flagged(rows, Quality.UNUSABLE_IMAGE) == [0, 1, 2]
    assert any("no star stands out in 3 images" in w for w in manifest(outcome)["warnings"])
    alike(rows, sound, [0, 1, 2])


def test_a_target_outside_of_the_window_ends_with_a_report(bench: Bench) -> None:
    change_pixels(bench, lambda pixels: np.roll(no_star(pixels), 0, axis=2), SUBARRAY)
    change_rows(
        bench.raw("MPS_PRE_Visits"),
        "MPS_PRE_Visits",
        lambda rows: rows["TARGET_LOCATION_X"].__setitem__(0, 60.0),
    )
    outcome = bench.refused(69, "no star stands out", "(512.0, 512.0)")
    check_report(bench, outcome, "look")


def test_a_target_away_from_its_intended_place_is_measured_with_a_warning(
    bench: Bench, sound: Any
) -> None:
    change_pixels(bench, lambda pixels: np.roll(pixels, 15, axis=2), SUBARRAY)
    rows, said = bench.measured()
    shift = rows["CENTROID_X"] - sound["CENTROID_X"]
    # the dark, flat and edge of the window do not move with the star: some hundredths of a pixel
    assert np.allclose(shift, 15, atol=0.1)
    assert "pixels from its intended place" in said


@pytest.mark.parametrize(
    ("column", "words"),
    [("SAA_FLAG", "12 were taken in the SAA"), ("EARTH_OCCULTATION", "12 are occulted")],
)
def test_a_visit_in_the_saa_or_behind_the_earth_ends_with_a_report(
    bench: Bench, column: str, words: str
) -> None:
    def change(rows: Any) -> None:
        rows[column] = b"T"

    change_rows(bench.raw("MPS_PRE_Visits"), "MPS_PRE_VisitConstraints", change)
    outcome = bench.refused(69, "none of 12 images can be used", words)
    check_report(bench, outcome, "events", words)


def test_a_visit_that_ends_at_the_last_judgement_lists_all_steps_and_their_warnings(
    bench: Bench,
) -> None:
    # half of the images are in the SAA, and in the others there is no star
    def change(rows: Any) -> None:
        rows["SAA_FLAG"] = np.where(np.arange(len(rows)) < 7, b"T", b"F")

    change_rows(bench.raw("MPS_PRE_Visits"), "MPS_PRE_VisitConstraints", change)
    change_pixels(bench, lambda pixels: no_star(pixels, slice(4, 12)), SUBARRAY)
    outcome = bench.refused(69, "every one of 12 images is occulted, in the SAA or unusable")
    check_report(
        bench, outcome, "quality", "apertures", "! no star stands out in", "TERM_LOOK", "QUALITY"
    )


def test_a_visit_with_a_damaged_reference_has_a_report_that_goes_when_it_is_mended(
    own: Bench, reduced: Reduced
) -> None:
    path = own.reference("FlatFieldTeff")
    sound = path.read_bytes()
    with edited(path, "REF_APP_FlatFieldTeff") as part:
        spoil(part, None, np.nan)
    text = report_of(own, own.refused(65, "not finite"))
    for word in (
        "was not reduced: an input is damaged",
        f"Why\n  {path}",
        "step flat; nothing was published",
        "dark ",
        "TERM_DARK",
        "What to do\n  The error names the file",
        "Put a sound copy in its place",
    ):
        assert word in text, text
    path.write_bytes(sound)
    know_steps(own, reduced)
    own.published()
    assert list((own.work / "reports").iterdir()) == []


@needs_poppler
def test_the_pdf_of_a_report_says_why_where_what_to_do_and_what_was_done(own: Bench) -> None:
    path = own.reference("FlatFieldTeff")
    with edited(path, "REF_APP_FlatFieldTeff") as part:
        spoil(part, None, np.nan)
    own.refused(65, "not finite", more=("--set", "dark.scale=1.0"))
    pdf, facts = pdf_of(own)
    for word in (
        "Not reduced: an input is damaged",
        "Stopped: step flat. Nothing was published.",
        "not finite",
        "Put a sound copy",
        "PR900001_TG000101",
        "dark done",
        "DARK_AVG",
        "electron/s",
        "bias done",
        "CCDLinearisation",
        path.name,
        "Files read",
        "dark.scale = 1.0",
        "stopped 2023-11-14T22:13:20 UTC",
    ):
        assert word in pdf, word
    assert int(facts["Pages"]) <= 2
    assert (facts["Tagged"], facts["JavaScript"], facts["PDF version"]) == ("yes", "no", "1.7")
    assert facts["Title"] == "CHEOPS data reduction: PR900001_TG000101 was not reduced"
    raw = (own.work / "reports" / "PR900001_TG000101.pdf").read_bytes()
    assert b"<pdfaid:part>2</pdfaid:part>" in raw
    own.refused(65, "not finite", more=("--set", "dark.scale=1.0"))
    # the steps are cached now, and that is said; the same end once more gives the same bytes
    again = (own.work / "reports" / "PR900001_TG000101.pdf").read_bytes()
    assert again != raw
    own.refused(65, "not finite", more=("--set", "dark.scale=1.0"))
    assert (own.work / "reports" / "PR900001_TG000101.pdf").read_bytes() == again


# ---- the inventory


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        (SUBARRAY, 65, ("an input is damaged", "empty (0 bytes)", "Files read\n  none")),
        ("SCI_RAW_Attitude", 65, ("an input is damaged", "empty (0 bytes)")),
        ("BiasFrame", 65, ("checksum", "raw sub-array: CH_PR900001_TG000101_TU2021-03-10T")),
        (
            "GainCorrection",
            66,
            ("an input is missing", "gain correction", "Put the file that the error names"),
        ),
    ],
)
def test_a_visit_whose_inventory_fails_has_a_report_that_goes_when_it_is_published(
    own: Bench, reduced: Reduced, kind: str, code: int, words: tuple[str, ...]
) -> None:
    is_raw = kind.startswith("SCI")
    path = own.raw(kind) if is_raw else own.reference(kind)
    sound = path.read_bytes()
    if code == 66:
        path.unlink()
    elif is_raw:
        replace(path, b"")
    else:
        with edited(path, "REF_APP_BiasFrame", sums=False) as part:
            part.data = bytes([part.data[0] ^ 1]) + part.data[1:]
    text = report_of(own, own.refused(code))
    for word in (
        "PR900001_TG000101 was not reduced: ",
        "inventory of the files, before the first step",
        f"requested: {own.visit}",
        "Steps completed\n  none",
        *words,
    ):
        assert word in text, text
    replace(path, sound)
    know_steps(own, reduced)
    own.published()
    assert list((own.work / "reports").iterdir()) == []


@needs_poppler
def test_a_folder_that_names_no_visit_has_a_report_under_its_own_name_as_text(
    tmp_path: Path, library: Path, references: Path
) -> None:
    folder = tmp_path / '#read("x") <b> *a*'
    folder.mkdir()
    bench = Bench(folder, tmp_path / "x", references)
    outcome = bench.refused(66, "no raw sub-array (SCI_RAW_SubArray) below this folder")
    (text,) = (bench.work / "reports").glob("*.txt")
    assert re.fullmatch(r"_read__x____b___a_-[0-9a-f]{8}", text.stem), text
    assert report_of(bench, outcome, text.stem).startswith(
        '#read("x") <b> *a* was not reduced: an input is missing'
    )
    assert '#read("x") <b> *a*' in pdf_of(bench, text.stem)[0]


def test_a_dry_run_leaves_no_report_of_an_inventory(bench: Bench) -> None:
    replace(bench.raw(SUBARRAY), b"")
    bench.refused(65, "empty (0 bytes)", more=("--dry-run",))
    assert not (bench.work / "reports").exists()


def test_a_visit_that_another_run_holds_has_no_report(bench: Bench) -> None:
    with Workspace(bench.work, "PR900001_TG000101").lock(False, lambda _: None):
        bench.refused(75, "PR900001_TG000101")
    assert not (bench.work / "reports").exists()


# ---- the report itself fails


def damaged_visit(bench: Bench) -> Path:
    """Damage the visit, and leave a PDF of an earlier failure; return where it is."""
    change_pixels(bench, np.zeros_like, SUBARRAY)
    (bench.work / "reports").mkdir(parents=True)
    pdf = bench.work / "reports" / "PR900001_TG000101.pdf"
    pdf.write_bytes(b"of an earlier failure")
    return pdf


def check_text_alone(bench: Bench, outcome: Outcome, pdf: Path, why: str) -> None:
    """Assert that there is a text and no PDF, and that the ERROR line says why."""
    text = pdf.with_suffix(".txt")
    assert f"; the report is {text}; it could not be made a PDF: " in outcome.error
    assert why in outcome.error.split("it could not be made a PDF: ")[1]
    assert "there are no science data" in text.read_text()
    assert [p.name for p in pdf.parent.iterdir()] == [text.name]


@pytest.mark.parametrize(
    ("end", "why"),
    [
        ("echo no such font >&2; exit 1", "the report cannot be typeset: no such font"),
        (
            "echo memory allocation failed >&2; kill -ABRT $$",
            "not enough memory: typesetting ended with -6",
        ),
    ],
)
def test_where_typst_fails_the_text_stands_and_the_error_is_the_same(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, why: str
) -> None:
    pdf = damaged_visit(bench)
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{end}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    check_text_alone(bench, bench.refused(69, "none of 12 images can be used"), pdf, why)


@pytest.mark.parametrize("action", ["create", "write", "fsync", "rename"])
def test_where_the_disk_is_full_for_the_pdf_the_text_stands_and_the_error_is_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    pdf = damaged_visit(bench)
    fill_disk(monkeypatch, action, pdf.name)
    check_text_alone(
        bench, bench.refused(69, "none of 12 images can be used"), pdf, "No space left on device"
    )


def test_a_fault_in_making_the_report_does_not_take_the_place_of_the_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_pixels(bench, np.zeros_like, SUBARRAY)

    def fault(*_: object) -> None:
        raise KeyError("a keyword that nobody declared")

    monkeypatch.setattr("flows.runs.failure.step_row", fault)
    monkeypatch.setattr("flows.runs.failure.inputs_of", fault)
    bench.refused(
        69,
        "none of 12 images can be used",
        "its report could not be written: 'a keyword that nobody declared'",
    )
    assert not (bench.work / "reports").exists()


@pytest.mark.parametrize(
    ("fails", "where", "before"),
    [
        ("tasks.calibration.gain.gain_of", "step gain", "bias "),
        ("flows.reduce.publish", "publication", "report "),
    ],
    ids=["in a step", "publishing"],
)
def test_a_visit_that_met_a_fault_of_the_program_has_a_report_beside_the_crash_file(
    bench: Bench,
    reduced: Reduced,
    monkeypatch: pytest.MonkeyPatch,
    fails: str,
    where: str,
    before: str,
) -> None:
    if where == "publication":
        know_steps(bench, reduced)

    def fault(*_: object, **__: object) -> None:
        raise ZeroDivisionError("what nobody\nthought of")

    monkeypatch.setattr(fails, fault)
    outcome = bench.refused(
        70, "please report it with", "ZeroDivisionError: what nobody\\nthought of; the report is"
    )
    text = report_of(bench, outcome)
    for word in (
        "was not reduced: the program failed",
        "Why\n  ZeroDivisionError: what nobody\\nthought of\n",
        f"  {where}; nothing was",
        f"\n  {before}",
        "What to do\n  This is a fault of the program and not of the visit",
    ):
        assert word in text, text
    assert "SCI_RAW_SubArray" in text.split("\nFiles read\n")[1]


@needs_poppler
def test_names_from_outside_stand_in_a_report_as_text_on_one_line(bench: Bench) -> None:
    hostile = '\x1b[31m#read("/etc/passwd")\nERROR 2026 \u202e'
    raw = raw_product(bench.raw(SUBARRAY))
    found = Inventory(
        visit="PR900001_TG000101",
        obsid=7,
        target=hostile,
        arch_rev=0,
        proc_num=0,
        start="2020-05-31T00:00:00",
        images=12,
        subarray=raw,
        attitude=raw,
        deviations=(hostile,),
        notes=(hostile,),
        fallbacks={hostile: hostile},
    )
    odd = '*b* $x$ @a <b> #x("y")'
    leaf = Leaf(
        step="dark", used={"BIAS_SRC": odd}, warnings=(hostile,), status={"DARK": Status.WARNING}
    )
    run = SimpleNamespace(reports=[StepReport("dark", "done", 0.1, "", leaf)], warnings=[hostile])
    for error in (BadInputError(hostile), KeyError(hostile)):
        failed = failed_visit(error, "", bench.visit, cast("Run", run), found, PipelineSettings())
        text = failed.as_text()
        assert all(line.isprintable() for line in text.splitlines())
        assert not any(line.startswith("ERROR") for line in text.splitlines())
        assert (
            text.count('#read("/etc/passwd")') == 8
        )  # target, error, warnings of step and run, deviation, note, fallback
        (bench.work / "reports").mkdir(parents=True, exist_ok=True)
        typeset_failed(failed, bench.work / "reports" / "PR900001_TG000101.pdf")
        pdf, _ = pdf_of(bench)
        assert pdf.count('#read("/etc/passwd")\\nERROR 2026 \\u202e') == 8
        assert odd in pdf
        assert "root:" not in pdf


@needs_poppler
def test_a_report_with_more_to_say_than_any_visit_has_two_pages(bench: Bench) -> None:
    used = dict.fromkeys(list(USED)[:3], "word" * 17)
    leaves = [
        Leaf(
            step=name,
            used=used,
            warnings=("much to say, " * 40,) * 5,
            status={"DARK": Status.WARNING},
        )
        for name in STEPS
    ]
    raw, long = raw_product(bench.raw(SUBARRAY)), ("many_words_" * 60,) * 50
    found = Inventory(
        visit="PR900001_TG000101",
        obsid=7,
        target="@" * 68,
        arch_rev=0,
        proc_num=0,
        start="2020-05-31T00:00:00",
        images=12,
        subarray=raw,
        attitude=raw,
        deviations=long,
        notes=long,
        fallbacks={f"kind {i}": long[0] for i in range(30)},
        dark_frames=(Reference(kind="dark frame", product=raw, valid_from="2020-01-01T00:00:00"),)
        * 90,
    )
    run = SimpleNamespace(
        reports=[StepReport(leaf.step, "done", 0.1, "", leaf) for leaf in leaves],
        warnings=list(long),
    )
    (bench.work / "reports").mkdir(parents=True)
    failed = failed_visit(
        BadInputError("x" * 1900),
        "quality",
        Path("/visits" * 40),
        cast("Run", run),
        found,
        PipelineSettings(),
    )
    typeset_failed(failed, bench.work / "reports" / "PR900001_TG000101.pdf")
    pdf, facts = pdf_of(bench)
    assert int(facts["Pages"]) == 2
    assert "... and 45 more in the text file next to this one" in pdf
    assert "viewer done" in pdf


def test_want_of_memory_says_nothing_of_the_visit_and_leaves_no_report(
    bench: Bench, reduced: Reduced, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("flows.reduce.publish", fault)
    know_steps(bench, reduced)
    bench.refused(75, "not enough memory")
    assert not (bench.work / "reports").exists()


def test_a_report_that_cannot_be_written_is_said_and_changes_nothing_else(bench: Bench) -> None:
    change_pixels(bench, np.zeros_like, SUBARRAY)
    bench.work.mkdir()
    (bench.work / "reports").write_text("in the way")
    bench.refused(
        69,
        "none of 12 images can be used",
        "its report could not be written",
        str(bench.work / "reports"),
    )


def test_stray_light_throughout_is_flagged_and_published(bench: Bench) -> None:
    # angles and temperature only flag: what can be measured is measured
    def change(rows: Any) -> None:
        rows["STRAY_LIGHT"] = 1e12  # the threshold of the simulated visit is 1e9

    change_rows(bench.raw("MPS_PRE_Visits"), "MPS_PRE_VisitConstraints", change)
    rows, _ = bench.measured()
    assert (rows["EVENT"] % EVENT_COSMIC_RAYS == 100).all()
    assert (rows["STATUS"] == 1).all()
    assert len(flagged(rows, Quality.STRAY_LIGHT)) == 12
    assert np.isfinite(rows["FLUX"]).all()


# ---- 21: numbers that are none

NOT_FINITE = [
    ("BiasFrame", "REF_APP_BiasFrame", None),
    ("BiasFrame", "REF_APP_BiasOverscanLeftFrame", None),
    ("BiasFrame", "REF_APP_BiasOffset", "BIAS_OFFSET"),
    ("BiasFrame", "REF_APP_BiasOffset", "RON"),
    ("GainCorrection", "REF_APP_GainCorrection", "FACTOR"),
    ("CCDLinearisation", "REF_APP_CCDLinearisation100", "BOUNDARY"),
    ("CCDLinearisation", "REF_APP_CCDLinearisation100", "COEF_1"),
    ("FlatFieldTeff", "REF_APP_FlatFieldTeff", None),
    ("FlatFieldTeff", "REF_APP_FlatFieldTeffMetadata", "T_EFF"),
    ("ReadOut", "REF_APP_ReadOut", "ROW_READ_OUT"),
    ("PixelScale", "REF_APP_PixelScale", "PIXEL_SCALE"),
    ("VisitConstraints", "REF_APP_VisitConstraints", "MIN_LOS_TO_SUN_ANGLE"),
]


def spoil(part: Part, column: str | None, value: float) -> None:
    """Put a value into all planes of an image, or into the first row of a column."""
    if column is None:
        pixels = part.pixels
        pixels[:, 500, 0 if pixels.shape[2] < 1024 else 500] = value
        part.pixels = pixels
    else:
        table = part.rows
        table[column][0] = value
        part.rows = table


@pytest.mark.parametrize("value", [np.nan, -np.inf], ids=["nan", "inf"])
@pytest.mark.parametrize(
    ("kind", "extname", "column"), NOT_FINITE, ids=lambda v: str(v).removeprefix("REF_APP_")
)
def test_a_reference_with_values_that_are_no_numbers_is_refused(
    own: Bench, kind: str, extname: str, column: str | None, value: float
) -> None:
    path = own.reference(kind)
    with edited(path, extname) as part:
        spoil(part, column, value)
    own.refused(65, str(path), extname, column or "1 pixels", "not finite")


def test_every_pixel_of_a_dark_frame_that_is_no_number_is_counted(own: Bench) -> None:
    path = sorted(own.references.rglob("*REF_APP_DarkFrame*"))[0] if own.references else Path()
    with edited(path, "REF_APP_DarkFrame") as part:
        pixels = part.pixels
        pixels[0, 500:502, 500:503] = np.nan
        part.pixels = pixels
    own.refused(65, str(path), "HDU 1 REF_APP_DarkFrame", "6 pixels are not finite numbers")


@pytest.mark.parametrize("side", ["Left", "Right"])
def test_dark_columns_that_are_no_numbers_are_refused(own: Bench, side: str) -> None:
    path = sorted(own.references.rglob("*REF_APP_DarkFrame*"))[0] if own.references else Path()
    with edited(path, f"REF_APP_DarkFrame{side}") as part:
        pixels = part.pixels
        pixels[0, 500:502, 3:6] = np.nan
        part.pixels = pixels
    own.refused(65, str(path), f"REF_APP_DarkFrame{side}", "6 pixels are not finite numbers")


@pytest.mark.parametrize(("key", "value"), [("BZERO", 1e308), ("BSCALE", 2.0)])
def test_an_offset_that_no_integer_type_has_is_refused(own: Bench, key: str, value: float) -> None:
    path = own.reference("BadPixelMap")
    with edited(path, "REF_APP_BadPixelMap") as part:
        part.set(key, value)
    own.refused(65, str(path), "HDU 1 REF_APP_BadPixelMap", key)


@pytest.fixture(scope="session")
def products(reduced: Reduced) -> Path:
    """A published folder, of which products are taken and changed."""
    return reduced.published()[0]


def given(products: Path, name: str, tmp_path: Path) -> Path:
    """Return a copy of a published product."""
    (source,) = products.rglob(name)
    path = tmp_path / "given.fits"
    path.write_bytes(source.read_bytes())
    return path


def test_a_term_given_by_hand_with_pixels_that_are_no_numbers_is_refused(
    bench: Bench, products: Path, tmp_path: Path
) -> None:
    path = given(products, "flat.fits", tmp_path)
    with edited(path, "TERM_FLAT") as part:
        pixels = part.pixels
        pixels[7, :4] = np.nan
        part.pixels = pixels
    bench.refused(
        65, str(path), "TERM_FLAT", "4 pixels are not finite numbers", more=("--replace", path)
    )


@pytest.mark.parametrize(
    ("step", "column"),
    [("bias", "LEVEL"), ("gain", "GAIN"), ("background", "LEVEL"), ("linearity", "COEF_1")],
)
def test_a_term_given_by_hand_with_rows_that_are_no_numbers_is_refused(
    bench: Bench, products: Path, tmp_path: Path, step: str, column: str
) -> None:
    path = given(products, f"{step}.fits", tmp_path)
    change_rows(path, f"TERM_{step.upper()}", lambda rows: rows[column].__setitem__(0, np.inf))
    bench.refused(
        65,
        str(path),
        f"TERM_{step.upper()}",
        f"column {column}: 1 values are not finite",
        more=("--replace", path),
    )


def test_calibrated_images_given_by_hand_with_infinite_pixels_are_refused(
    bench: Bench, products: Path, tmp_path: Path
) -> None:
    path = given(products, "*SCI_CAL_SubArray*", tmp_path)
    with edited(path, "SCI_CAL_SubArray") as part:
        pixels = part.pixels
        pixels[3, 100, 100:105] = np.inf
        part.pixels = pixels
    bench.refused(
        65, str(path), "SCI_CAL_SubArray", "5 pixels are infinite", more=("--replace", path)
    )


def test_a_term_of_another_number_of_images_is_refused(
    bench: Bench, products: Path, tmp_path: Path
) -> None:
    path = given(products, "gain.fits", tmp_path)
    change_rows(path, "TERM_GAIN", lambda rows: rows[:-1])
    bench.refused(65, "TERM_GAIN", "11", "12", more=("--replace", path))


# ---- 22 to 24: times


def test_images_with_one_time_are_published_with_a_flag_on_the_second(
    bench: Bench, sound: Any
) -> None:
    def change(rows: Any) -> None:
        for name in ("MJD_TIME", "UTC_TIME"):
            rows[name][BAD] = rows[name][BAD - 1]

    change_rows(bench.raw(SUBARRAY), METADATA, change)
    outcome = bench.published()
    rows = light_curve(outcome.folder)
    assert flagged(rows, Quality.DUPLICATE_TIME) == [BAD]
    unflagged = rows["MJD_TIME"][rows["QUALITY"] == 0]
    assert len(np.unique(unflagged)) == len(unflagged)
    assert "1 images repeat the time of another one" in outcome.err


def test_images_with_one_time_throughout_are_published_with_flags(bench: Bench) -> None:
    def change(rows: Any) -> None:
        for name in ("MJD_TIME", "UTC_TIME"):
            rows[name] = rows[name][0]

    change_rows(bench.raw(SUBARRAY), METADATA, change)
    assert flagged(bench.measured()[0], Quality.DUPLICATE_TIME) == list(range(1, 12))


def test_a_time_that_runs_back_is_refused_with_its_row(bench: Bench) -> None:
    def change(rows: Any) -> None:
        rows["MJD_TIME"][[BAD, BAD + 1]] = rows["MJD_TIME"][[BAD + 1, BAD]]

    path = bench.raw(SUBARRAY)
    change_rows(path, METADATA, change)
    bench.refused(65, str(path), METADATA, "MJD_TIME", f"row {BAD + 2}")


@pytest.mark.parametrize(
    ("kind", "extname"),
    [("SCI_RAW_Attitude", "SCI_RAW_Attitude"), ("MPS_PRE_Visits", "MPS_PRE_VisitConstraints")],
)
def test_times_of_a_table_that_run_back_are_refused_with_their_row(
    bench: Bench, kind: str, extname: str
) -> None:
    def change(rows: Any) -> None:
        rows["MJD_TIME"][[5, 6]] = rows["MJD_TIME"][[6, 5]]

    path = bench.raw(kind)
    change_rows(path, extname, change)
    bench.refused(65, str(path), extname, "row 7")


def test_an_orbit_that_runs_back_is_refused(bench: Bench) -> None:
    def change(rows: Any) -> None:
        rows["EPOCH"][[5, 6]] = rows["EPOCH"][[6, 5]]

    path = bench.raw("AUX_RES_Orbit")
    change_rows(path, "AUX_RES_Orbit", change)
    bench.refused(65, str(path), "orbit", "row 7")


def test_an_orbit_with_a_date_that_is_none_is_refused_with_its_row(bench: Bench) -> None:
    def change(rows: Any) -> None:
        rows["EPOCH"][5] = b"2024-02-30T00:00:00.000000"

    path = bench.raw("AUX_RES_Orbit")
    change_rows(path, "AUX_RES_Orbit", change)
    bench.refused(65, str(path), "column EPOCH", "row 6", "2024-02-30")


def test_an_orbit_in_metres_that_says_kilometres_is_refused(bench: Bench) -> None:
    def change(rows: Any) -> None:
        for axis in "XYZ":
            rows[axis] /= 1000

    path = bench.raw("AUX_RES_Orbit")
    change_rows(path, "AUX_RES_Orbit", change)
    bench.refused(65, str(path), "km from the geocentre, inside the atmosphere")


def test_without_an_orbit_the_light_time_of_the_satellite_is_no_number_and_that_is_told(
    bench: Bench, reduced: Reduced
) -> None:
    know_steps(bench, reduced)
    bench.raw("AUX_RES_Orbit").unlink()
    outcome = bench.published()
    assert np.isnan(light_curve(outcome.folder)["SAT_LIGHT_TIME"]).all()
    assert np.isnan(light_curve(outcome.folder, "IMAGETTE")["SAT_LIGHT_TIME"]).all()
    assert (
        "the satellite's own light time is not known"
        in manifest(outcome)["inventory"]["fallbacks"]["orbit"]
    )


def test_where_the_orbit_ends_the_light_time_of_the_satellite_ends_with_a_warning(
    bench: Bench, sound: Any
) -> None:
    path = bench.raw("AUX_RES_Orbit")
    times = sound
    with fits.open(path, memmap=False) as hdus:
        epoch = utc_to_mjd(hdus[1].data["EPOCH"])
    last = int(np.flatnonzero(epoch < times["MJD_TIME"][7])[-1])
    with edited(path, "AUX_RES_Orbit") as part:
        part.rows = part.rows[: last + 1]
    left = times["MJD_TIME"] > epoch[last]
    rows, said = bench.measured()
    assert (
        f"the orbit does not cover {left.sum()} images: the satellite's own light time is not "
        f"known for them" in said
    )
    np.testing.assert_array_equal(np.isnan(rows["SAT_LIGHT_TIME"]), left)
    # a cubic piece depends on its two rows alone
    np.testing.assert_array_equal(rows["SAT_LIGHT_TIME"][~left], times["SAT_LIGHT_TIME"][~left])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_without_time_is_refused(bench: Bench, value: float) -> None:
    def change(rows: Any) -> None:
        rows["MJD_TIME"][BAD] = value

    path = bench.raw(SUBARRAY)
    change_rows(path, METADATA, change)
    bench.refused(65, str(path), METADATA, "column MJD_TIME: 1 values are not finite")


def keep(bench: Bench, images: list[int]) -> None:
    """Leave only some images of a visit."""
    path = bench.raw(SUBARRAY)
    parts = take_apart(path)
    for part in parts:
        if part.extname == METADATA:
            part.rows = part.rows[images]
        elif part.get("NAXIS") == 3:
            part.pixels = part.pixels[images]
    put_together(path, parts)


def metrics(outcome: Outcome) -> Any:
    """Return the published table of metrics."""
    with fits.open(outcome.folder / "terms" / "quality.fits", memmap=False) as hdus:
        return hdus["TERM_METRICS"].data.copy()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_visit_of_some_images_is_published_and_what_needs_more_is_no_number(
    bench: Bench, count: int
) -> None:
    keep(bench, list(range(count)))
    outcome = bench.published()
    rows = light_curve(outcome.folder)
    assert len(rows) == count
    assert np.isfinite(rows["FLUX"]).all()
    table = metrics(outcome)
    assert (table["N_GOOD"] == count).all()
    assert np.isfinite(table["FORM_PPM"]).all()
    needs_three = ("ROB_PPM", "P2P_PPM", "ROBSTD")
    for name in needs_three if count < 3 else ():
        assert np.isnan(table[name]).all(), name
    assert np.isnan(table["CDPP_3H"]).all()


def test_a_gap_of_days_is_published_with_metrics(bench: Bench) -> None:
    days = 4

    def later(rows: Any, from_row: int) -> None:
        rows["MJD_TIME"][from_row:] += days

    change_rows(bench.raw(SUBARRAY), METADATA, lambda rows: later(rows, 6))
    change_rows(bench.raw("SCI_RAW_Attitude"), "SCI_RAW_Attitude", lambda rows: later(rows, 390))
    outcome = bench.published()
    rows = light_curve(outcome.folder)
    assert abs(np.diff(rows["MJD_TIME"]).max() - days) < 0.01
    assert np.isfinite(rows["FLUX"]).all()
    assert (metrics(outcome)["ROB_PPM"] > 0).all()


# ---- 30, 31


def test_an_attitude_of_half_the_visit_names_the_interval_that_is_missing(bench: Bench) -> None:
    path = bench.raw("SCI_RAW_Attitude")
    change_rows(path, "SCI_RAW_Attitude", lambda rows: rows[:375])
    outcome = bench.refused(
        66,
        str(path),
        "attitude covers MJD 59283.3",
        "of 12 images lie outside, MJD",
        "pointing.partial",
    )
    missing = int(re.search(r"; (\d+) of 12", outcome.error)[1])  # type: ignore[index]
    rows, _ = bench.measured("--set", "pointing.partial=true")
    assert flagged(rows, Quality.POINTING) == list(range(12 - missing, 12))
    assert np.isfinite(rows["FLUX"]).all()


def test_exposures_shorter_than_the_time_between_two_rows_of_the_attitude_have_a_pointing(
    bench: Bench,
) -> None:
    with edited(bench.raw(SUBARRAY), SUBARRAY) as part:
        part.set("EXPTIME", 0.05)
    rows, _ = bench.measured()
    assert flagged(rows, Quality.POINTING) == []
    assert np.isfinite(bench.term("pointing")["ROLL_ANGLE"]).all()


def test_planned_constraints_without_rows_leave_the_word_to_orbit_and_map(bench: Bench) -> None:
    change_rows(bench.raw("MPS_PRE_Visits"), "MPS_PRE_VisitConstraints", lambda rows: rows[:0])
    rows, said = bench.measured()
    assert (rows["EVENT"] % EVENT_COSMIC_RAYS == 0).all()  # the simulated orbit is far from both
    assert "taken as" not in said


@pytest.mark.parametrize("kind", ["SCI_RAW_Attitude", "AUX_RES_Orbit"])
def test_a_table_without_rows_is_refused(bench: Bench, kind: str) -> None:
    path = bench.raw(kind)
    change_rows(path, kind, lambda rows: rows[:0])
    bench.refused(65, str(path), f"HDU 1 {kind}", "no rows")


@pytest.mark.parametrize("kind", ["PixelScale", "GainCorrection", "VisitConstraints", "ReadOut"])
def test_a_reference_without_rows_is_refused(own: Bench, kind: str) -> None:
    path = own.reference(kind)
    change_rows(path, f"REF_APP_{kind}", lambda rows: rows[:0])
    own.refused(65, str(path), "no rows")


@pytest.mark.parametrize("value", [0.0, -0.5])
def test_a_gain_that_is_not_positive_is_refused(own: Bench, value: float) -> None:
    path = own.reference("GainCorrection")
    with edited(path, "REF_APP_GainCorrection") as part:
        part.set("GAIN_NOM", value)
    own.refused(65, str(path), "GAIN_NOM", f"{value:g}", "above 0")


def test_housekeeping_that_makes_the_gain_negative_is_named(bench: Bench) -> None:
    def change(rows: Any) -> None:
        rows["HK_VOLT_FEE_VOD"][BAD] = -5000

    path = bench.raw(SUBARRAY)
    change_rows(path, METADATA, change)
    bench.refused(65, str(path), f"gain of image {BAD}", "ADU/electron")


def test_a_sky_below_zero_is_published(bench: Bench, sound: Any) -> None:
    # 60 ADU below the bias of 3 exposures: no sky is that dark, but a wrong bias looks like this
    change_pixels(bench, lambda pixels: np.where(pixels > 200, pixels - 100, pixels), SUBARRAY)
    rows, _ = bench.measured()
    assert (rows["BACKGROUND"] < sound["BACKGROUND"]).all()
    # the ring takes the shift away again; the curve of the gain makes the rest
    assert np.allclose(rows["FLUX"], sound["FLUX"], rtol=1e-3)


# ---- 32 to 35: references

MANDATORY = {
    "bias frame": "BiasFrame",
    "gain correction": "GainCorrection",
    "linearisation": "CCDLinearisation",
    "dark frame": "DarkFrame",
    "flat field": "FlatFieldTeff",
}

OPTIONAL = {
    "SAA map": "SAAMap",
    "pixel scale": "PixelScale",
    "read-out timing": "ReadOut",
    "angle limits": "VisitConstraints",
    "housekeeping limits": "Limits",
    "bad pixel map": "BadPixelMap",
}


@pytest.mark.parametrize("kind", MANDATORY)
def test_a_missing_reference_is_named_with_the_time_before_any_step(own: Bench, kind: str) -> None:
    assert own.references is not None
    for path in own.references.rglob(f"*_{MANDATORY[kind]}*"):
        path.unlink()
    outcome = own.refused(
        66,
        f"reference {kind}",
        MANDATORY[kind],
        "there is none for 2021-03-10T08:00:10",
        str(own.references),
    )
    assert "events" not in outcome.err


def test_the_default_library_never_fills_a_gap(own: Bench) -> None:
    own.reference("GainCorrection").unlink()
    own.refused(66, "reference gain correction")


def test_without_optional_references_the_fall_backs_are_named(own: Bench, reduced: Reduced) -> None:
    assert own.references is not None
    know_steps(own, reduced)
    for kind in OPTIONAL.values():
        for path in own.references.rglob(f"*_{kind}*.fits"):
            path.unlink()
    outcome = own.published()
    assert manifest(outcome)["fallbacks"].keys() >= OPTIONAL.keys()
    for text in ("no limits of angles are given", "no limits of housekeeping are given"):
        assert text in outcome.err


@pytest.mark.parametrize("kind", [k for k in MANDATORY if k != "dark frame"])
@pytest.mark.parametrize(
    ("key", "value"),
    [("V_STOP_U", "2020-01-01T00:00:00.000000"), ("V_STRT_U", "2025-01-01T00:00:00.000000")],
)
def test_a_reference_of_another_time_is_named_with_its_validity(
    own: Bench, kind: str, key: str, value: str
) -> None:
    path = own.reference(MANDATORY[kind])
    parts = take_apart(path)
    for part in parts[1:]:
        part.set(key, value)
    put_together(path, parts)
    own.refused(
        66, f"reference {kind}", "none of 1 is valid at 2021-03-10T08:00:10", path.name, value
    )


@pytest.mark.parametrize("kind", MANDATORY)
def test_two_references_of_one_version_are_both_named(own: Bench, kind: str) -> None:
    assert own.references is not None
    path = sorted(own.references.rglob(f"*_{MANDATORY[kind]}*"))[0]
    twin = path.with_name(re.sub(r"TU\d{4}", "TU2019", path.name))
    os.link(path, twin)
    own.refused(65, path.name, twin.name, "have the version")


def test_of_two_versions_the_higher_one_is_used(own: Bench, reduced: Reduced) -> None:
    know_steps(own, reduced)
    path = own.reference("PixelScale")
    newer = path.with_name(re.sub(r"V\d{4}", "V0007", path.name))
    parts = take_apart(path)
    for part in parts[1:]:
        part.set("PROC_NUM", 7)
    put_together(newer, parts)
    outcome = own.published()
    assert (
        manifest(outcome)["inventory"]["references"]["pixel scale"]["product"]["path"] == newer.name
    )


def test_a_bias_of_another_read_out_frequency_is_refused(own: Bench) -> None:
    path = own.reference("BiasFrame")
    with edited(path, "REF_APP_BiasFrameMetadata") as part:
        offset = part.get(f"TZERO{part.number_of('RO_FREQU')}", 0)
        table = part.rows
        table["RO_FREQU"] = 230_000 - offset
        part.rows = table
    own.refused(65, str(path), "REF_APP_BiasFrame", "100000 Hz")


def test_a_bias_of_the_other_channel_stands_in_with_a_warning(own: Bench) -> None:
    path = own.reference("BiasFrame")
    parts = take_apart(path)
    for part in parts:
        if part.extname in ("REF_APP_BiasFrameMetadata", "REF_APP_BiasOffset"):
            table = part.rows
            table["RO_HW"] = b"redundant"
            part.rows = table
    put_together(path, parts)
    assert "has no read-out channel main: the other one is used" in own.measured()[1]


def test_a_linearisation_of_another_frequency_is_refused(own: Bench) -> None:
    path = own.reference("CCDLinearisation")
    put_together(path, [p for p in take_apart(path) if not p.extname.endswith("100")])
    own.refused(65, str(path), "no curve for the read-out frequency 100000 Hz")


@pytest.mark.parametrize("kind", ["DarkFrame", "FlatFieldTeff", "BiasFrame", "BadPixelMap"])
def test_a_reference_of_another_shape_is_refused(own: Bench, kind: str) -> None:
    assert own.references is not None
    path = sorted(own.references.rglob(f"*_{kind}*"))[0]
    with edited(path, f"REF_APP_{kind}") as part:
        part.pixels = part.pixels[..., :-1]
    own.refused(65, str(path), f"HDU 1 REF_APP_{kind}", "1023", "1024")


def test_a_flat_field_grid_that_does_not_reach_the_target_falls_back_to_its_edge(
    own: Bench,
) -> None:
    def change(rows: Any) -> None:
        rows["T_EFF"] = np.tile(np.linspace(3000, 4000, len(rows) // 2), 2)

    change_rows(own.reference("FlatFieldTeff"), "REF_APP_FlatFieldTeffMetadata", change)
    outcome = own.published()
    assert (
        "T_EFF 5900 K lies outside of those of the reference: the flat field of 4000 K is used"
        in outcome.err
    )
    with fits.open(next(outcome.folder.glob("*SCI_CAL_SubArray*"))) as hdus:
        assert hdus[1].header["FFIELD"] == "warning"


def test_a_flat_field_with_fewer_rows_than_planes_is_refused(own: Bench) -> None:
    path = own.reference("FlatFieldTeff")
    change_rows(path, "REF_APP_FlatFieldTeffMetadata", lambda rows: rows[:-1])
    own.refused(65, str(path), "REF_APP_FlatFieldTeffMetadata", "rows for", "planes")


def test_a_flat_field_with_two_planes_of_one_temperature_is_refused(own: Bench) -> None:
    def change(rows: Any) -> None:
        rows["T_EFF"][1] = rows["T_EFF"][0]

    path = own.reference("FlatFieldTeff")
    change_rows(path, "REF_APP_FlatFieldTeffMetadata", change)
    own.refused(65, str(path), "two planes FLAT FIELD of one T_EFF")


def test_a_flat_field_of_zero_is_refused(own: Bench) -> None:
    path = own.reference("FlatFieldTeff")
    with edited(path, "REF_APP_FlatFieldTeff") as part:
        pixels = part.pixels
        pixels[:, 500, 500:502] = 0
        part.pixels = pixels
    own.refused(65, str(path), "REF_APP_FlatFieldTeff", "2 pixels of the window are not positive")


def test_a_linearity_curve_that_does_not_rise_is_refused(own: Bench) -> None:
    path = own.reference("CCDLinearisation")

    def change(rows: Any) -> None:
        rows["BOUNDARY"][1] = rows["BOUNDARY"][0]

    change_rows(path, "REF_APP_CCDLinearisation100", change)
    own.refused(65, str(path), "REF_APP_CCDLinearisation100", "column BOUNDARY does not rise")


def test_limits_in_the_wrong_order_are_refused(own: Bench) -> None:
    path = own.reference("VisitConstraints")

    def change(rows: Any) -> None:
        rows["MIN_LOS_TO_SUN_ANGLE"][0] = (10.0, 120.0)

    change_rows(path, "REF_APP_VisitConstraints", change)
    own.refused(65, str(path), "limits are [10.0, 120.0]", "soft")


def test_an_saa_map_with_a_hole_is_refused(own: Bench) -> None:
    path, planned = own.reference("SAAMap"), own.raw("MPS_PRE_Visits")
    change_rows(path, "EXT_APP_SAAMap", lambda rows: rows[1:])
    # the map is looked at where no constraints tell
    put_together(
        planned, [p for p in take_apart(planned) if p.extname != "MPS_PRE_VisitConstraints"]
    )
    own.refused(65, str(path), "EXT_APP_SAAMap", "each of")


# ---- 61: code in the clothes of data


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.mark), "w")


def test_what_lies_in_the_work_folder_is_never_unpickled(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "exploded"
    bomb = pickle.dumps(Bomb(mark))
    storage = tmp_path / "prefect" / "storage"
    storage.mkdir(parents=True)
    monkeypatch.setenv("PREFECT_HOME", str(storage.parent))
    first = bench.published().folder
    for path in [*bench.work.rglob("*.json"), *bench.work.rglob("*.fits"), storage / "result"]:
        replace(path, bomb)
        np.save(path.with_suffix(".npy"), np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    with undrawn():
        outcome = bench.run()
    assert outcome.code == 0, outcome.err
    assert outcome.folder == first  # all was made again, with the same bytes
    assert not mark.exists()
    pickle.loads(bomb).close()
    assert mark.exists()  # it would have


def test_a_replacement_that_is_a_pickle_or_an_array_of_objects_is_refused(
    bench: Bench, tmp_path: Path
) -> None:
    mark = tmp_path / "exploded"
    given = tmp_path / "flat.npy"
    np.save(given, np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    outcome = bench.refused(65, str(given), "is not a FITS file", more=("--replace", given))
    assert "files that are to replace others, before the first step" in report_of(bench, outcome)
    assert not mark.exists()


def test_the_source_names_nothing_that_runs_data() -> None:
    forbidden = re.compile(
        r"\bpickle\b|allow_pickle\s*=\s*True|\beval\(|\bexec\(|yaml\.load\b|marshal|shelve|joblib"
    )
    sources = [
        p
        for folder in ("flows", "tasks", "schemas", "reference_data")
        for p in (ROOT / folder).rglob("*.py")
    ]
    assert len(sources) > 30
    hits = [
        f"{p.name}: {line.strip()}"
        for p in sources
        for line in p.read_text().splitlines()
        if forbidden.search(line)
    ]
    assert hits == []


def test_unusable_is_what_no_measurement_survives() -> None:
    assert Quality.SAA | Quality.OCCULTED | Quality.UNUSABLE_IMAGE == UNUSABLE
