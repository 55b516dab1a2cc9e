"""Images in the SAA, behind the Earth, or in stray light."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from schemas.flags import EVENT_COSMIC_RAYS, Quality
from tests.support.damage import (
    change_rows,
    check_report,
    flagged,
)
from tests.support.faults import (
    Bench,
)


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


def test_planned_constraints_without_rows_leave_the_word_to_orbit_and_map(bench: Bench) -> None:
    change_rows(bench.raw("MPS_PRE_Visits"), "MPS_PRE_VisitConstraints", lambda rows: rows[:0])
    rows, said = bench.measured()
    assert (rows["EVENT"] % EVENT_COSMIC_RAYS == 0).all()  # the simulated orbit is far from both
    assert "treated as" not in said
