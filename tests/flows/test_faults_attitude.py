"""Attitude and orbit that are short, run back or are in another unit."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from schemas.flags import Quality
from tasks.numerics.times import utc_to_mjd
from tests.support.damage import (
    SUBARRAY,
    change_rows,
    flagged,
    manifest,
)
from tests.support.faults import (
    Bench,
    edited,
    light_curve,
    put_together,
    take_apart,
)

# tables of a visit with many rows, of which some can be spared
TABLES = (
    ("AUX_RES_Orbit", "AUX_RES_Orbit"),
    ("SCI_RAW_Attitude", "SCI_RAW_Attitude"),
    ("MPS_PRE_Visits", "MPS_PRE_VisitConstraints"),
    ("EXT_PRE_StarCatalogue", "EXT_PRE_StarCatalogue"),
    (SUBARRAY, "SCI_RAW_ImageMetadata"),
)

# the same moment as other columns of the row: a contradiction is rejected with both values
TIED = {"MJD_TIME", "OBT_TIME"}


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


@pytest.mark.parametrize("value", [1e30, np.nan, -1e6])
@pytest.mark.parametrize(("kind", "extname"), TABLES, ids=[name for _, name in TABLES])
def test_an_absurd_cell_in_every_column_of_a_table_never_loses_the_visit(
    bench: Bench, kind: str, extname: str, value: float
) -> None:
    """Each in a row of its own, if there are enough."""
    changed = []

    def change(rows: Any) -> None:
        names = [n for n in rows.dtype.names if rows.dtype[n].base.kind == "f"]
        changed.extend(set(names) - TIED)
        for k, name in enumerate(changed):
            rows[name][(k + 1) * len(rows) // (len(changed) + 2)] = value

    change_rows(bench.raw(kind), extname, change)
    assert changed
    outcome = bench.run("--until", "prior")
    assert outcome.code == 0, outcome.err


def test_without_an_orbit_the_light_time_of_the_satellite_is_no_number_and_that_is_told(
    bench: Bench,
) -> None:
    bench.raw("AUX_RES_Orbit").unlink()
    outcome = bench.published()
    assert np.isnan(light_curve(outcome.folder)["SAT_LIGHT_TIME"]).all()
    assert np.isnan(light_curve(outcome.folder, "IMAGETTE")["SAT_LIGHT_TIME"]).all()
    assert (
        "the satellite's light time is unknown"
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
        f"the orbit does not cover {left.sum()} of {len(left)} images: the satellite's own light "
        f"time is unknown for them" in said
    )
    np.testing.assert_array_equal(np.isnan(rows["SAT_LIGHT_TIME"]), left)
    # a cubic piece depends on its two rows alone
    np.testing.assert_array_equal(rows["SAT_LIGHT_TIME"][~left], times["SAT_LIGHT_TIME"][~left])


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
    path = bench.raw(SUBARRAY)
    parts = take_apart(path)
    for part in parts:
        for name, seconds in (("EXPTIME", 0.05), ("TEXPTIME", 0.15)):  # stacks of 3
            if name in part:
                part.set(name, seconds)
    put_together(path, parts)
    rows, _ = bench.measured()
    assert flagged(rows, Quality.POINTING) == []
    assert np.isfinite(bench.term("pointing")["ROLL_ANGLE"]).all()


@pytest.mark.parametrize("kind", ["SCI_RAW_Attitude", "AUX_RES_Orbit"])
def test_a_table_without_rows_is_refused(bench: Bench, kind: str) -> None:
    path = bench.raw(kind)
    change_rows(path, kind, lambda rows: rows[:0])
    bench.refused(65, str(path), f"HDU 1 {kind}", "no rows")


def test_a_gap_in_the_attitude_is_named_and_its_images_are_flagged(
    bench: Bench, sound: Any
) -> None:
    path = bench.raw("SCI_RAW_Attitude")
    with fits.open(path, memmap=False) as hdus:
        time = hdus[1].data["MJD_TIME"]
    middle = int(np.searchsorted(time, sound["MJD_TIME"][5]))
    change_rows(
        path, "SCI_RAW_Attitude", lambda rows: np.delete(rows, slice(middle - 50, middle + 30))
    )
    rows, said = bench.measured()
    start, stop = time[middle - 51], time[middle + 30]
    assert f"81 s from MJD {start:.5f} to {stop:.5f}: interpolated" in said
    assert flagged(rows, Quality.POINTING) == [4, 5]
    assert flagged(rows, Quality.COSMIC_RAYS) == flagged(sound, Quality.COSMIC_RAYS)
    # the roll angle is interpolated; without the jitter, the models of star and field differ a
    # little, which moves the flux by less than its error (200 ppm)
    assert rows["FLUX"] == pytest.approx(sound["FLUX"], rel=2e-4)


def test_an_attitude_that_is_all_wrong_is_refused(bench: Bench) -> None:
    path = bench.raw("SCI_RAW_Attitude")

    def change(rows: Any) -> None:
        rows["SC_DEC"] = 1e30

    change_rows(path, "SCI_RAW_Attitude", change)
    bench.refused(65, str(path), "of 751 rows, 751 missing or out of range")


def test_a_frozen_attitude_flags_all_images(bench: Bench) -> None:
    def change(rows: Any) -> None:
        for name in ("SC_RA", "SC_DEC", "SC_ROLL_ANGLE"):
            rows[name] = rows[name][0]

    change_rows(bench.raw("SCI_RAW_Attitude"), "SCI_RAW_Attitude", change)
    rows, said = bench.measured()
    assert "the attitude does not change at all: all images are flagged" in said
    assert flagged(rows, Quality.POINTING) == list(range(12))
    assert np.isfinite(rows["FLUX"]).all()
