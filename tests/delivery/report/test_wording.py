"""Words and numbers as the report shows them."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.command.texts import cell_text
from schemas.payloads import Scalar
from tasks.delivery.report.pictures import short
from tasks.delivery.report.wording import (
    format_digits,
    format_like,
    format_number,
    format_ppm,
    format_value,
    format_with_error,
    make_ppm,
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


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (format_value(-5.7e-20), "0"),
        (format_value(-0.0), "0"),
        (make_row("Mean", -5.7e-20, "electron").shown, "0"),
        (make_row("Mean", -0.0004, "electron", style=".3f").shown, "0.000"),
        (format_ppm(-0.0004), "0.000"),
        (format_number(-0.0004, "+.2f"), "0.00"),
        (format_number(-0.004, ".1%"), "−0.4%"),
        (format_like(-0.0004, 0.5), "0.000"),
        (format_with_error(-0.0004, 0.12), "0.00 ± 0.12"),
        (format_with_error(2.0, float("inf")), "–"),
        (format_like(2.0, float("inf")), "2"),
        (format_with_error(-5.7e-20, 1e-9), "0 ± 1e−09"),
        (format_digits(-3e-17, ".3g", scale=1e-17), "-3e-17"),
        (format_digits(float("-inf"), ".3g"), "-inf"),
        (cell_text(-5.7e-20), "0"),
        (cell_text(-0.04, "+.1f"), "0.0"),
        (cell_text(-0.06, "+.1f"), "-0.1"),
        (short(-1e-20), "0"),
        (format_value(2.16e-10), "2.160e-10"),
    ],
)
def test_rounding_is_zero_and_zero_has_no_sign(shown: str, wanted: str) -> None:
    assert shown == wanted


@given(st.floats(-1e12, 1e12), st.sampled_from([".3f", ".0f", "+.2f", ".4g", ".1%", ".2e"]))
def test_no_number_is_a_negative_zero_or_the_rounding_of_one(value: float, style: str) -> None:
    texts = [format_digits(value, style), format_value(value), format_ppm(value)]
    texts += [format_number(value, style), format_with_error(value, 0.02), cell_text(value, style)]
    for text in texts:
        assert not re.match(r"[-−+][0.]+($|%|e| )", text), text
        assert not re.search(r"e[-−](1[6-9]|[2-9]\d|\d{3})$", text), text


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


@pytest.mark.parametrize(
    ("value", "shown"), [(200.84, "201"), (51.77, "51.8"), (0.123, "0.123"), (math.nan, "–")]
)
def test_a_noise_has_the_digits_of_a_noise(value: float, shown: str) -> None:
    row = make_ppm("CDPP in 3 h", value, "visit too short")
    assert row.shown == shown
    assert (row.unit, row.reason) == (("", "visit too short") if shown == "–" else ("ppm", ""))
