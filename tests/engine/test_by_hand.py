"""Replacements made by hand: values that cannot be are refused, with their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.errors import BadInputError
from schemas.inputs import term_input
from schemas.ranges import unit_range
from schemas.terms import TERMS
from schemas.used import USED
from tasks.engine.by_hand import check_pixels, check_ranges
from tasks.files.reader import open_declared
from tasks.files.writer import NewHdu, write_fits

NUMBERS = ("integer", "unsigned", "real")


def checked(path: Path, columns: dict[str, Any], used: dict[str, Any] | None = None) -> None:
    """Check a TERM_POINTING of two images with some values changed."""
    hdus = []
    for name in ("TERM_POINTING", "TERM_TRACK"):
        declared = TERMS[name]
        rows = {c.name: np.full(2, 1.0) for c in declared.columns}
        words = {
            n: 1.0 if k.type == "real" else 1 for n, k in declared.keywords.items() if n in USED
        }
        if name == "TERM_POINTING":
            rows |= {n: np.array(values) for n, values in columns.items()}
            words |= used or {}
        hdus.append(NewHdu(declared, words, columns=rows))
    write_fits(path, hdus)
    with open_declared(path, term_input("TERM_POINTING"), sums=True) as file:
        for hdu in file.hdus[1:]:
            check_ranges(hdu)


def test_a_replacement_may_hold_any_value_of_its_unit(tmp_path: Path) -> None:
    checked(tmp_path / "term.fits", {"BLUR": [0.0, np.nan], "ROLL_ANGLE": [-180.0, 360.0]})


@pytest.mark.parametrize(
    ("columns", "used", "match"),
    [
        ({"SC_DEC": [0.0, 1e30]}, {}, "column SC_DEC: 1 of 2 values are out of range, .* in row 2"),
        ({"BLUR": [-1e30, 0.0]}, {}, r"column BLUR: .* expected -100000 to 100000; .* in row 1"),
        ({}, {"LOC_X": 1e30}, r"keyword LOC_X is 1e\+30, expected -100000 to 100000"),
    ],
)
def test_a_replacement_with_an_absurd_value_is_refused(
    columns: dict[str, Any], used: dict[str, Any], match: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInputError, match=match):
        checked(tmp_path / "term.fits", columns, used)


@pytest.mark.parametrize(
    ("extname", "value"),
    [
        ("TERM_DEFECTS_FLAGS", -1.0),
        ("TERM_DEFECTS_FLAGS", 0.5),
        ("TERM_DEFECTS_FLAGS", 65536.0),
        ("TERM_DEFECTS_FLAGS", 1e30),
        ("TERM_PRIOR", -3.0),
        ("TERM_PRIOR", 1.5),
        ("TERM_PRIOR", 4.0),
        ("TERM_DEFECTS_STATIC", 1e21),
        ("TERM_FLAT", -1e21),
    ],
)
def test_an_image_with_an_absurd_pixel_is_refused(extname: str, value: float) -> None:
    # whatever the file, one HDU is enough
    pixels = np.ones((4, 5))

    class Image:
        def image(self) -> np.ndarray:
            return pixels

        def refuse(self, text: str) -> BadInputError:
            return BadInputError(text)

    hdu: Any = Image()
    hdu.extname, hdu.header = extname, {}
    check_pixels(hdu)
    pixels[2, 3] = value
    with pytest.raises(BadInputError, match=r"1 of 20 pixels are .* or the like, expected"):
        check_pixels(hdu)


def test_every_unit_of_a_term_has_a_finite_range() -> None:
    units = {c.unit for term in TERMS.values() for c in term.columns}
    units |= {k.unit for k in USED.values() if k.type in NUMBERS}
    for unit in units:
        assert np.isfinite([unit_range(unit).low, unit_range(unit).high]).all(), unit
