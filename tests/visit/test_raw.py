"""Raw and calibrated cubes: counts, shapes and windows that do not fit are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import BadInputError
from schemas.payloads import Product
from tasks.files.writer import write_fits
from tasks.visit.images import open_images
from tasks.visit.raw import open_exposures
from tests.support.any_product import RAW_VALUES, some_image, some_table


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "raw.fits"


def raw_file(path: Path, rows: int, margin: tuple[int, ...], x: int = 1) -> Product:
    hdus = [
        some_image("SCI_RAW_SubArray", (3, 20, 19), X_WINOFF=x, **RAW_VALUES),
        some_table("SCI_RAW_ImageMetadata", rows),
        some_image("SCI_RAW_BlankLeft", margin, MRG_PROC="image", **RAW_VALUES),
    ]
    write_fits(path, hdus)
    return Product(path=str(path), sha256="0" * 64, extname="SCI_RAW_SubArray")


def test_images_and_metadata_of_different_number_are_refused_with_both(path: Path) -> None:
    with open_exposures(raw_file(path, 3, (3, 20, 8))) as raw:
        assert raw.count == 3
    with pytest.raises(
        BadInputError, match="SCI_RAW_SubArray has 3 images, SCI_RAW_ImageMetadata has 2 rows"
    ):
        open_exposures(raw_file(path, 2, (3, 20, 8)))
    calibrated = some_image("SCI_CAL_SubArray", (3, 20, 19), SHAPE="circular")
    write_fits(path, [calibrated, some_table("SCI_CAL_ImageMetadata", 4)])
    product = Product(path=str(path), sha256="0" * 64, extname="SCI_CAL_SubArray")
    with (
        pytest.raises(
            BadInputError, match="SCI_CAL_SubArray has 3 images, SCI_CAL_ImageMetadata has 4 rows"
        ),
        open_images(product),
    ):
        raise AssertionError("it was opened")


@pytest.mark.parametrize(
    ("margin", "x", "match"),
    [
        (
            (3, 19, 8),
            1,
            r"BlankLeft: has the shape \(3, 19, 8\), expected \(3, 20, 8\) for images of 19 x "
            r"20 pixels",
        ),
        ((2, 20, 8), 1, r"BlankLeft: has the shape \(2, 20, 8\), expected \(3, 20, 8\)"),
        ((3, 20, 8), 1020, r"window of 19 x 20 pixels at \(1020, 1\) extends beyond the CCD"),
    ],
)
def test_margins_and_windows_that_do_not_fit_are_refused_with_shapes(
    margin: tuple[int, ...], x: int, match: str, path: Path
) -> None:
    with pytest.raises(BadInputError, match=match):
        open_exposures(raw_file(path, 3, margin, x))
