"""Times of images that repeat, run back or are missing; visits of one image, or with a gap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from schemas.flags import Quality
from tests.support.damage import (
    BAD,
    METADATA,
    SUBARRAY,
    change_rows,
    flagged,
    postpone,
)
from tests.support.faults import (
    Bench,
    Outcome,
    light_curve,
    put_together,
    take_apart,
)


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
    assert "1 of 12 images flagged: same time as the image before" in outcome.err


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


def test_times_of_a_table_that_run_back_are_refused_with_their_row(bench: Bench) -> None:
    def change(rows: Any) -> None:
        rows["MJD_TIME"][[5, 6]] = rows["MJD_TIME"][[6, 5]]

    path = bench.raw("MPS_PRE_Visits")
    change_rows(path, "MPS_PRE_VisitConstraints", change)
    bench.refused(65, str(path), "MPS_PRE_VisitConstraints", "row 7")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_without_time_is_refused(bench: Bench, value: float) -> None:
    def change(rows: Any) -> None:
        rows["MJD_TIME"][BAD] = value

    path = bench.raw(SUBARRAY)
    change_rows(path, METADATA, change)
    bench.refused(65, str(path), METADATA, "column MJD_TIME: 1 of 12 values are NaN or infinite")


def test_times_in_utc_instead_of_tt_are_refused_with_both(bench: Bench) -> None:
    def change(rows: Any) -> None:
        rows["MJD_TIME"] -= 69.184 / 86_400

    path = bench.raw(SUBARRAY)
    change_rows(path, METADATA, change)
    bench.refused(65, str(path), METADATA, "MJD_TIME", "UTC_TIME is 2021-03-10T08", "-69.184 s")


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
    change_rows(bench.raw(SUBARRAY), METADATA, lambda rows: postpone(rows, 6, days))
    attitude = bench.raw("SCI_RAW_Attitude")
    change_rows(attitude, "SCI_RAW_Attitude", lambda rows: postpone(rows, 390, days))
    outcome = bench.published()
    rows = light_curve(outcome.folder)
    assert abs(np.diff(rows["MJD_TIME"]).max() - days) < 0.01
    assert np.isfinite(rows["FLUX"]).all()
    assert (metrics(outcome)["ROB_PPM"] > 0).all()
