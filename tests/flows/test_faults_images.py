"""Damaged raw images: flagged where others can be measured, refused where none can."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from schemas.flags import UNUSABLE, Quality
from tests.support.damage import (
    BAD,
    MARGINS,
    METADATA,
    SUBARRAY,
    alike,
    change_pixels,
    change_rows,
    check_report,
    flagged,
    manifest,
    no_star,
    one,
)
from tests.support.faults import (
    Bench,
    light_curve,
    put_together,
    take_apart,
)


@pytest.mark.parametrize("value", [0, 3 * 65535], ids=["zero", "full scale"])
def test_an_image_without_data_is_flagged_and_harms_no_other(
    bench: Bench, sound: Any, value: int
) -> None:
    change_pixels(bench, one(value), SUBARRAY)
    rows, _ = bench.measured()
    assert flagged(rows, Quality.UNUSABLE_IMAGE) == [BAD]
    assert flagged(rows, Quality.MARGIN) == []
    alike(rows, sound, [BAD])


def test_a_visit_with_an_image_without_data_and_margins_is_published(
    bench: Bench, sound: Any
) -> None:
    change_pixels(bench, one(0), SUBARRAY, *MARGINS)
    outcome = bench.published()
    rows = light_curve(outcome.folder)
    assert flagged(rows, Quality.UNUSABLE_IMAGE) == flagged(rows, Quality.MARGIN) == [BAD]
    alike(rows, sound, [BAD])
    assert manifest(outcome)["steps"][0]["payload"]["used"]["N_BADIMG"] == 1
    assert any("bias interpolated for 1 of 12 images" in w for w in manifest(outcome)["warnings"])


def test_an_image_that_the_camera_marked_as_damaged_is_flagged(bench: Bench, sound: Any) -> None:
    def change(rows: Any) -> None:
        rows["CE_INTEGRITY"][BAD] = 1

    change_rows(bench.raw(SUBARRAY), METADATA, change)
    rows, _ = bench.measured()
    assert flagged(rows, Quality.UNUSABLE_IMAGE) == [BAD]
    alike(rows, sound, [BAD])


def test_an_image_that_is_partly_lost_harms_no_other(bench: Bench, sound: Any) -> None:
    def change(pixels: Any) -> Any:
        pixels[BAD, 100:] = 0
        return pixels

    change_pixels(bench, change, SUBARRAY)
    rows, said = bench.measured()
    assert (
        f"not measured: more than 0.5% of the pixels are lost or impossible (image {BAD + 1})"
        in said
    )
    assert flagged(rows, Quality.UNUSABLE_IMAGE) == [BAD]
    assert rows["STATUS"][BAD] == 1
    assert not np.isfinite(rows["FLUX"][BAD])
    alike(rows, sound, [BAD])


def test_zero_pixels_and_cosmic_rays_leave_an_image_usable(bench: Bench) -> None:
    def change(pixels: Any) -> Any:
        pixels[BAD, 100, 100:103] = 0
        pixels[BAD, 60, 60] = 2**32 - 1
        return pixels

    change_pixels(bench, change, SUBARRAY)
    rows, _ = bench.measured()
    assert flagged(rows, Quality.UNUSABLE_IMAGE) == []
    assert flagged(rows, Quality.LOST_PIXELS) == flagged(rows, Quality.APERTURE) == [BAD]
    assert np.isfinite(rows["FLUX"]).all()


@pytest.mark.parametrize("value", [0, 3 * 65535], ids=["zero", "full scale"])
def test_a_visit_of_empty_images_ends_with_a_report_and_no_products(
    bench: Bench, value: int
) -> None:
    change_pixels(bench, lambda pixels: np.full_like(pixels, value), SUBARRAY)
    outcome = bench.refused(69, "none of 12 images can be used", "12 are damaged (pixels lost")
    check_report(
        bench,
        outcome,
        "events",
        "none of 12 images can be used",
        "Steps completed\n  none",
        "CCDLinearisation",
    )


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
    outcome = bench.refused(69, "no star stands out", "(512.0, 512.0)", "outside of the window")
    planned = "! the planned place of the target (60.0,"
    check_report(bench, outcome, "look", planned)


def test_a_target_away_from_its_intended_place_is_measured_with_a_warning(
    bench: Bench, sound: Any
) -> None:
    change_pixels(bench, lambda pixels: np.roll(pixels, 15, axis=2), SUBARRAY)
    rows, said = bench.measured()
    shift = rows["CENTROID_X"] - sound["CENTROID_X"]
    # the dark, flat and edge of the window do not move with the star: some hundredths of a pixel
    assert np.allclose(shift, 15, atol=0.1)
    assert "pixels from its intended place" in said


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


def test_a_sky_below_zero_is_published(bench: Bench, sound: Any) -> None:
    # 60 ADU below the bias of 3 exposures: no sky is that dark, but a wrong bias looks like this
    change_pixels(bench, lambda pixels: np.where(pixels > 200, pixels - 100, pixels), SUBARRAY)
    rows, _ = bench.measured()
    assert (rows["BACKGROUND"] < sound["BACKGROUND"]).all()
    # the ring takes the shift away again; the curve of the gain makes the rest
    assert np.allclose(rows["FLUX"], sound["FLUX"], rtol=1e-3)


def test_unusable_is_what_no_measurement_survives() -> None:
    assert Quality.SAA | Quality.OCCULTED | Quality.UNUSABLE_IMAGE == UNUSABLE


def test_a_visit_of_which_no_imagette_can_be_measured_is_published(
    bench: Bench,
) -> None:
    path = bench.raw("SCI_RAW_Imagette")
    parts = take_apart(path)
    for part in parts:
        if part.extname == "SCI_RAW_Imagette":
            part.pixels = np.zeros_like(part.pixels)
    put_together(path, parts)
    outcome = bench.published()
    rules = {rule["name"]: rule["found"] for rule in manifest(outcome)["verdict"]["rules"]}
    assert "imagette_photometry" in rules["Steps with a warning"]
    assert not list(outcome.folder.glob("*IMAGETTE*"))
