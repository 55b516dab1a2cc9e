"""Ranges of input values: every number that a step reads has one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from schemas.inputs import LEVEL1, REFERENCES, VISIT_INPUTS, Use, level1_input
from schemas.ranges import Allowed

USES = [
    pytest.param(use, id=f"{declared.kind}-{extname}".replace(" ", "_"))
    for declared in (*VISIT_INPUTS, *REFERENCES, *map(level1_input, LEVEL1))
    for extname, use in declared.hdus.items()
]
NUMBERS = ("integer", "unsigned", "real", "mjd", "bjd", "obt")


def bounded(allowed: Allowed | None) -> bool:
    """Whether a range excludes numbers on either side."""
    return allowed is not None and (
        bool(allowed.choices) or (math.isfinite(allowed.low) and math.isfinite(allowed.high))
    )


@pytest.mark.parametrize("use", USES)
def test_every_numeric_keyword_and_column_of_an_input_has_a_range(use: Use) -> None:
    keywords = [
        name
        for name, allowed in use.keywords.items()
        if use.structure.keywords[name].type in NUMBERS and not bounded(allowed)
    ]
    columns = [
        name
        for name in use.columns
        if use.structure.column(name).letter not in "AL" and not bounded(use.ranges.get(name))
    ]
    assert (keywords, columns) == ([], [])


@pytest.mark.parametrize("use", USES)
def test_only_real_numbers_can_count_as_missing(use: Use) -> None:
    columns = {c.name: c for c in use.structure.columns}
    for name, allowed in use.ranges.items():
        assert not allowed.missing or name not in columns or columns[name].letter in "ED", name
    assert not any(allowed and allowed.missing for allowed in use.keywords.values())


def test_ends_belong_to_a_range_and_nan_is_never_outside() -> None:
    values = np.array([-1.0, 0.0, 1.0, 2.0, np.nan, np.inf, -np.inf])
    outside = [True, False, False, True, False, True, True]
    assert Allowed(0, 1).outside(values).tolist() == outside
    assert Allowed(0, 1, above=True).outside(values).tolist() == [True, True, *outside[2:]]
    assert Allowed(choices=(1, 2)).outside(np.array([1, 3])).tolist() == [False, True]
