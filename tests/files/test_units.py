"""Units: converted where that is possible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits as afits
from hypothesis import given
from hypothesis import strategies as st

from schemas.inputs import Input, Use
from schemas.products import Column, Structure
from tasks.files.reader import open_declared
from tasks.files.units import unit_change
from tests.support.damaged_product import (
    PRINTABLE,
    many,
)


@pytest.mark.parametrize(
    ("found", "wanted", "values", "expected"),
    [
        ("K", "degC", [0.0, 273.15, 295.0], [-273.15, 0.0, 21.85]),
        ("deg_C", "K", [-273.15, 0.0], [0.0, 273.15]),
        ("mV", "V", [1500.0, -1.0], [1.5, -0.001]),
        ("days", "s", [0.5], [43200.0]),
        ("rad", "deg", [np.pi], [180.0]),
    ],
)
def test_units_that_convert_are_converted(
    found: str, wanted: str, values: list[float], expected: list[float], path: Path
) -> None:
    declared = Input(
        "x",
        ("X",),
        {"X": Use(Structure("X", columns=(Column("C", "double", wanted),)), {}, ("C",))},
        "",
    )
    column = afits.Column("C", "1D", unit=found, array=np.array(values))
    afits.HDUList([afits.PrimaryHDU(), afits.BinTableHDU.from_columns([column], name="X")]).writeto(
        path
    )
    with open_declared(path, declared) as file:
        # one multiplication and one addition of float64: 1e-12 is some thousand roundings
        np.testing.assert_allclose(
            file["X"].column("C"), expected, rtol=1e-12, atol=1e-12 * max(np.abs(values))
        )
        assert any("column C has the unit" in d for d in file.deviations)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ("m", "s"),
        ("furlong", "V"),
        ("mag", "electron"),
        ("dex(s)", "s"),
        ("1e400 V", "V"),
        ("0 V", "V"),
        ("V**(1/0)", "V"),
        ("((V", "V"),
        ("", "V"),
    ],
)
def test_units_that_do_not_convert_are_none(found: str, wanted: str) -> None:
    assert unit_change(found, wanted) is None


@many
@given(st.text(PRINTABLE, max_size=68), st.sampled_from(["V", "degC", "electron", "Hz"]))
def test_no_text_in_place_of_a_unit_breaks_the_gate(found: str, wanted: str) -> None:
    change = unit_change(found, wanted)
    assert change is None or np.isfinite(change).all()
