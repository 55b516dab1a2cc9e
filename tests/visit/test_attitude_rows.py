"""Wrong rows of the attitude are left out, and gaps are filled."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.constants import DAY
from tasks.visit.attitude_rows import Rows, check_rows, wrapped

COUNT = 600


def attitude(seed: int = 1) -> Rows:
    """Return ten minutes across right ascension 0 and roll 0, with a jitter of half a pixel."""
    rng = np.random.default_rng(seed)
    second = np.arange(float(COUNT))
    jitter = np.convolve(rng.normal(0, 1, COUNT + 9), np.full(10, 0.1 / 3600), "valid")
    orbit = 2 * np.pi * second / 5926
    roll = 18.0 - 360 * second / 5926 - 6 * np.sin(2 * orbit)  # 220 arcsec a second, varying
    values = (jitter % 360, 40.0 + jitter[::-1], roll % 360)
    stored = (v.astype(np.float32).astype(np.float64) for v in values)
    return Rows(59000 + second / DAY, *stored)


def changed(column: int, at: int | slice, value: float) -> Rows:
    columns = [values.copy() for values in attitude()]
    columns[column][at] = value
    return Rows(*columns)


def same(found: Rows, wanted: Rows, arcsec: float) -> None:
    assert np.abs(found.time - wanted.time).max() * DAY < 1e-3
    for one, other in zip(found[1:], wanted[1:], strict=True):
        assert np.abs(wrapped(one - other)).max() * 3600 < arcsec


def test_a_sound_attitude_stays_as_it_is() -> None:
    checked = check_rows(attitude())
    assert (checked.counts, len(checked.gaps), checked.frozen) == ({}, 0, False)
    for one, other in zip(checked.rows, attitude(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("at", [0, 1, 300, COUNT - 2])
@pytest.mark.parametrize(
    ("column", "value"),
    [
        *((0, v) for v in (np.nan, 59001.0, 58999.0, 59000 + 50.0 / DAY)),
        *((1, v) for v in (np.nan, 5.0, 355.0, 180.0, 0.02)),
        *((2, v) for v in (np.nan, 45.0, -40.0, 89.0, 40.02)),
        *((3, v) for v in (np.nan, 90.0, 270.0)),
    ],
)
def test_one_absurd_value_costs_its_row_and_is_interpolated(
    column: int, value: float, at: int
) -> None:
    checked = check_rows(changed(column, at, value))
    wanted = attitude()
    assert sum(checked.counts.values()) == 1
    if at == 0:  # the attitude begins a second later
        wanted = wanted.only(np.arange(COUNT) > 0)
        assert len(checked.gaps) == 0
    else:
        assert checked.left_out.tolist() == [True]
        assert checked.gaps[0, 0] < attitude().time[at] < checked.gaps[0, 1]
    same(checked.rows, wanted, 1.5)  # jitter from second to second is 0.15 arcsec, at most 0.5


@pytest.mark.parametrize("length", [2, 10, 80, 300])
def test_a_gap_is_filled_with_the_roll_of_the_rows_beside_it(length: int) -> None:
    kept = np.ones(COUNT, dtype=bool)
    kept[200 : 200 + length] = False
    checked = check_rows(attitude().only(kept))
    assert checked.counts == {}
    assert checked.left_out.tolist() == [False]
    start, stop = checked.gaps[0]
    assert (stop - start) * DAY == pytest.approx(length + 1, abs=1e-3)
    # the rate of the roll changes by a third over a quarter of an orbit; in 80 s the cubic is good
    # to some arcsec, where a straight line is 40 arcsec off
    same(checked.rows, attitude(), 5.0 if length <= 80 else 250.0)


def test_repeated_swapped_and_frozen_rows_are_left_out() -> None:
    repeats = np.ones(COUNT, dtype=int)
    repeats[100] = 3
    twice = check_rows(Rows(*(np.repeat(values, repeats) for values in attitude())))
    assert (twice.counts, len(twice.gaps)) == ({"out of order in time": 2}, 0)
    order = np.arange(COUNT)
    order[[100, 101]] = order[[101, 100]]
    swapped = check_rows(Rows(*(values[order] for values in attitude())))
    assert swapped.counts == {"out of order in time": 1}
    same(swapped.rows, attitude(), 1.5)
    still = [attitude().time, *(v.copy() for v in attitude()[1:])]
    for values in still[1:]:
        values[250:290] = values[250]
    frozen = check_rows(Rows(*still))
    assert frozen.counts == {"frozen": 39}
    assert frozen.left_out.tolist() == [True]
    same(frozen.rows, attitude(), 5.0)


def test_an_attitude_that_never_changes_is_frozen_and_one_that_does_not_roll_is_not() -> None:
    rows = attitude()
    assert check_rows(Rows(rows.time, *(np.full(COUNT, 7.0) for _ in range(3)))).frozen
    assert not check_rows(rows._replace(roll=np.full(COUNT, 7.0))).frozen


def test_a_gap_of_more_than_an_orbit_is_not_filled() -> None:
    rows = attitude()
    time = rows.time.copy()
    time[300:] += 4.0
    checked = check_rows(rows._replace(time=time))
    assert (checked.counts, len(checked.gaps), len(checked.rows.time)) == ({}, 1, COUNT)
