"""Damaged files in place of intermediate products."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.damage import (
    change_rows,
)
from tests.support.faults import (
    Bench,
    edited,
)
from tests.support.runs import Bench as Reduced


@pytest.fixture(scope="session")
def products(reduced: Reduced) -> Path:
    """A published folder, of which products are taken and changed."""
    return reduced.published()[0]


def given(products: Path, name: str, tmp_path: Path) -> Path:
    """Return a copy of a published product."""
    (source,) = products.rglob(name)
    path = tmp_path / "given.fits"
    path.write_bytes(source.read_bytes())
    return path


def test_a_term_given_by_hand_with_pixels_that_are_no_numbers_is_refused(
    bench: Bench, products: Path, tmp_path: Path
) -> None:
    path = given(products, "flat.fits", tmp_path)
    with edited(path, "TERM_FLAT") as part:
        pixels = part.pixels
        pixels[7, :4] = np.nan
        part.pixels = pixels
    bench.refused(
        65, str(path), "TERM_FLAT", "4 of", "pixels are NaN or infinite", more=("--replace", path)
    )


@pytest.mark.parametrize(
    ("step", "column", "rows"),
    [
        ("bias", "LEVEL", 12),
        ("gain", "GAIN", 12),
        ("background", "LEVEL", 12),
        ("linearity", "COEF_1", 6),  # pieces of the curve, not images
    ],
)
def test_a_term_given_by_hand_with_rows_that_are_no_numbers_is_refused(
    bench: Bench, products: Path, tmp_path: Path, step: str, column: str, rows: int
) -> None:
    path = given(products, f"{step}.fits", tmp_path)
    change_rows(path, f"TERM_{step.upper()}", lambda table: table[column].__setitem__(0, np.inf))
    bench.refused(
        65,
        str(path),
        f"TERM_{step.upper()}",
        f"column {column}: 1 of {rows} values are NaN or infinite",
        more=("--replace", path),
    )


def test_a_track_given_by_hand_whose_times_do_not_increase_is_refused(
    bench: Bench, products: Path, tmp_path: Path
) -> None:
    path = given(products, "pointing.fits", tmp_path)
    change_rows(path, "TERM_TRACK", lambda rows: rows["MJD_TIME"].__setitem__(5, 0.0))
    bench.refused(
        65,
        str(path),
        "TERM_TRACK: column MJD_TIME: row 6 is not after the one before",
        more=("--replace", path),
    )


@pytest.mark.parametrize("value", [np.inf, 1e30, -1e300])
def test_calibrated_images_given_by_hand_with_absurd_pixels_are_refused(
    bench: Bench, products: Path, tmp_path: Path, value: float
) -> None:
    path = given(products, "*SCI_CAL_SubArray*", tmp_path)
    with edited(path, "SCI_CAL_SubArray") as part:
        pixels = part.pixels
        pixels[3, 100, 100:105] = value
        part.pixels = pixels
    bench.refused(
        65, str(path), "SCI_CAL_SubArray", "5 pixels are infinite or", more=("--replace", path)
    )


def test_a_term_of_another_number_of_images_is_refused(
    bench: Bench, products: Path, tmp_path: Path
) -> None:
    path = given(products, "gain.fits", tmp_path)
    change_rows(path, "TERM_GAIN", lambda rows: rows[:-1])
    bench.refused(65, "TERM_GAIN", "11", "12", more=("--replace", path))
