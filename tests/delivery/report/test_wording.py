"""Words and numbers as the report shows them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.payloads import Scalar
from tasks.delivery.report.wording import (
    format_ppm,
    format_value,
    format_with_error,
    make_row,
    printable,
)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (610.15068, "610.2"),
        (0.04807265, "0.04807"),
        (121460.487946, "121460"),
        (1.5, "1.5"),
        (0.0, "0"),
        (-3.0, "-3"),
        (1e12, "1.000e+12"),
        (1e-9, "1.000e-09"),
        (241, "241"),
        (True, "yes"),
        (False, "no"),
        ("main", "main"),
    ],
)
def test_numbers_are_written_as_a_person_would(value: Scalar, shown: str) -> None:
    assert format_value(value) == shown


@pytest.mark.parametrize("nothing", [None, float("nan"), float("inf"), ""])
def test_an_unknown_value_is_a_dash_with_a_reason(nothing: float | str | None) -> None:
    unknown = make_row("CDPP", nothing, "ppm", "visit too short")
    assert (unknown.value, unknown.shown, unknown.reason) == (None, "–", "visit too short")


@given(st.text())
def test_any_text_becomes_one_line_of_printable_characters(text: str) -> None:
    shown = printable(text)
    assert len(shown) <= 80
    assert shown.isprintable()
    assert shown.encode("utf-16", "strict")  # no lone surrogates


def test_printable_text_is_unchanged_and_long_text_is_cut() -> None:
    assert printable("55 Cnc e – 3 × 20 s, Zürich") == "55 Cnc e – 3 × 20 s, Zürich"
    assert printable("a\nb\u202e\u4e00") == "a\\nb\\u202e\\u4e00"
    assert printable("x" * 90) == "x" * 79 + "…"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (319.4, "319"),
        (45.04, "45.0"),
        (0.1478, "0.148"),
        (-272526.3, "−272526"),
        (3e-10, "0"),
        (np.nan, "–"),
    ],
)
def test_parts_per_million_have_as_many_digits_as_are_significant(value: float, text: str) -> None:
    assert format_ppm(value) == text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (144.2, 103.4, "140 ± 100"),
        (-19.44, 21.3, "−19 ± 21"),
        (1.2649, 3.412, "1.3 ± 3.4"),
        (5.0, 0.0, "5.000 ± 0.000"),
        (np.nan, np.nan, "–"),
        (2e12, 3e11, "2e+12 ± 3e+11"),
    ],
)
def test_a_slope_has_the_digits_that_its_error_leaves(
    value: float, error: float, text: str
) -> None:
    assert format_with_error(value, error) == text
