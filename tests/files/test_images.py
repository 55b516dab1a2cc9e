"""Images: read as declared, or refused with their shape."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits as afits

from schemas.errors import BadInputError
from schemas.inputs import Input, Use
from schemas.products import Column, Structure
from tasks.files.reader import blocks, open_declared
from tasks.files.structure import BLOCK
from tasks.files.writer import NewHdu, write_fits
from tests.support.damaged_product import (
    refused,
)
from tests.support.small_product import (
    IMAGE,
    astropy_hdus,
    write_astropy,
)


@pytest.mark.parametrize("kind", ["uint8", "int16", "uint16", "int32", "uint32", "float", "double"])
def test_images_of_every_type_written_by_astropy_read_as_they_were(kind: str, path: Path) -> None:
    dtype = np.dtype({"float": "f4", "double": "f8"}.get(kind, kind))
    low, high = (0, 1) if dtype.kind == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    pixels = np.array([[[low, high, 3]], [[1, 0, 2]]], dtype)
    afits.HDUList([afits.PrimaryHDU(), afits.ImageHDU(pixels, name="X")]).writeto(path)
    declared = Input("x", ("X",), {"X": Use(Structure("X", image=kind, axes=(3, 1, 0)))}, "")
    with open_declared(path, declared) as file:
        hdu = file["X"]
        np.testing.assert_array_equal(hdu.image(), pixels)
        np.testing.assert_array_equal(hdu.finite_image(1, 2), pixels[1:])
        assert hdu.stored(1).shape == (1, 1, 3)
        assert hdu.rows == 2


def test_blocks_cover_all_planes_once() -> None:
    assert list(blocks(7, 100, 300)) == [(0, 3), (3, 6), (6, 7)]
    assert list(blocks(2, 1000, 300)) == [(0, 1), (1, 2)]
    assert list(blocks(0, 0)) == []


@pytest.mark.parametrize(
    ("pixels", "match"),
    [
        (
            np.zeros((2, 199, 200), np.uint16),
            r"has the shape \(200, 199, 2\) \(NAXIS1, .*\), expected \(200, 200, 0\)",
        ),
        (np.zeros((200, 200), np.uint16), r"has 2 axes \(200, 200\), expected 3"),
        (
            np.zeros((2, 200, 200), np.int16),
            r"pixels have BITPIX and BZERO \(16, 0\), expected uint16 \(16, 32768\)",
        ),
        (
            np.zeros((2, 200, 200), np.float32),
            r"pixels have BITPIX and BZERO \(-32, 0\), expected uint16",
        ),
        (np.zeros((0, 200, 200), np.uint16), "is empty, its shape is"),
    ],
)
def test_an_image_of_another_shape_or_type_is_refused(
    pixels: np.ndarray[Any, Any], match: str, path: Path
) -> None:
    hdu = (
        afits.ImageHDU(pixels, name="X")
        if pixels.size
        else afits.ImageHDU(np.zeros((1, 200, 200), np.uint16), name="X")
    )
    afits.HDUList([afits.PrimaryHDU(), hdu]).writeto(path)
    if not pixels.size:
        data = path.read_bytes().replace(
            b"NAXIS3  =                    1", b"NAXIS3  =                    0"
        )
        path.write_bytes(data[: 2 * BLOCK])
    structure = Structure("X", image="uint16", axes=(200, 200, 0))
    refused(path, f"HDU 1 X: {match}", Input("x", ("X",), {"X": Use(structure)}, ""))


def test_another_shape_is_a_deviation_where_it_does_not_matter(path: Path) -> None:
    write_astropy(path, astropy_hdus())
    use = Use(replace(IMAGE, axes=(5, 5, 0)), shape_matters=False)
    with open_declared(path, Input("x", ("TST_IMAGE",), {"TST_IMAGE": use}, "")) as file:
        assert "HDU 1 TST_IMAGE: shape (5, 4, 3), expected (5, 5, 0)" in file.deviations


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_counted_where_a_step_needs_them_finite(
    bad: float, path: Path
) -> None:
    structure = Structure("X", image="float", axes=(0, 0))
    table = Structure("Y", columns=(Column("C", "double"),))
    pixels, cells = np.ones((3, 4)), np.ones(5)
    pixels[1, 2:] = bad
    cells[3] = bad
    write_fits(path, [NewHdu(structure, pixels=pixels), NewHdu(table, columns={"C": cells})])
    declared = Input("x", ("X",), {"X": Use(structure), "Y": Use(table, {}, ("C",))}, "")
    with open_declared(path, declared, sums=True) as file:
        with pytest.raises(BadInputError, match=r"HDU 1 X: 2 of [0-9]+ pixels are NaN or infinite"):
            file["X"].finite_image()
        with pytest.raises(
            BadInputError, match="HDU 2 Y: column C: 1 of 5 values are NaN or infinite"
        ):
            file["Y"].finite_column("C")
        np.testing.assert_array_equal(file["Y"].column("C"), cells)
