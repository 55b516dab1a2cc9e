"""The star catalogue: its target, and a magnitude of the target that it does not give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.errors import BadInputError
from schemas.payloads import Product
from tasks.files.writer import write_fits
from tasks.scene.catalogue import Catalogue, read_catalogue, unknown_stars
from tasks.scene.plate import bright_stars
from tests.support.any_product import set_logical, some_table

NAN = float("nan")


def written(folder: Path, header: float = 0.0, **columns: Any) -> Product:
    """Write a catalogue of the target, G = 9, and stars of G = 11.5, 12 and 14 to the North."""
    table = some_table(
        "EXT_PRE_StarCatalogue",
        4,
        **{
            "TARGET": [1, 0, 0, 0],
            "RA": [10.0] * 4,
            "DEC": [20.0, 20.01, 20.02, 20.03],
            "MAG_GAIA": [9.0, 11.5, 12.0, 14.0],
            "T_EFF": [5900.0, 5000.0, NAN, 4000.0],
        }
        | columns,
    )
    path = folder / "catalogue.fits"
    write_fits(path, [replace(table, keywords={**table.keywords, "MAG_G": header})])
    return Product(path=str(path), sha256="0" * 64, extname="EXT_PRE_StarCatalogue")


def stars(product: Product, of_raw: float = NAN) -> tuple[Catalogue, list[str]]:
    warnings: list[str] = []
    catalogue = read_catalogue(product, None, 59000.0, of_raw, warnings)
    assert catalogue is not None
    return catalogue, warnings


SHARES = [1.0, 0.1, 10**-1.2, 0.01]  # of 9, 11.5, 12 and 14 mag


@pytest.mark.parametrize("unknown", [NAN, 99.0, -99.0, 1e30])
@pytest.mark.parametrize(
    ("header", "of_raw", "place"),
    [(9.0, 8.0, "its header"), (0.0, 9.0, "the raw images"), (99.0, 9.0, "the raw images")],
)
def test_the_magnitude_of_the_target_may_come_from_a_header(
    unknown: float, header: float, of_raw: float, place: str, tmp_path: Path
) -> None:
    product = written(tmp_path, header, MAG_GAIA=[unknown, 11.5, 12.0, 14.0])
    catalogue, warnings = stars(product, of_raw)
    np.testing.assert_allclose(catalogue.share, SHARES, rtol=1e-12)
    assert catalogue.mag.tolist() == [9.0, 11.5, 12.0, 14.0]
    assert (
        f"MAG_GAIA of the target is not known in the star catalogue: MAG_G of {place}, 9 mag, is "
        f"used"
    ) in warnings


def test_without_any_magnitude_of_the_target_only_the_target_is_left(tmp_path: Path) -> None:
    catalogue, (said,) = stars(written(tmp_path, MAG_GAIA=[NAN, 11.5, 12.0, 14.0]))
    assert (catalogue.target.tolist(), catalogue.share.tolist()) == ([True], [1.0])
    assert "the magnitude of the target is not known" in said
    assert "there is no star catalogue" not in said


def test_a_field_star_without_magnitude_is_left_out(tmp_path: Path) -> None:
    catalogue, warnings = stars(written(tmp_path, MAG_GAIA=[9.0, 99.0, 12.0, NAN]))
    np.testing.assert_allclose(catalogue.share, [1.0, 10**-1.2], rtol=1e-12)
    assert len(warnings) == 2
    assert "MAG_GAIA: 1 of 4 values are out of range" in warnings[0]
    assert warnings[1] == (
        "star catalogue: 2 of 3 field stars have no magnitude or no place: they are left out"
    )


@pytest.mark.parametrize("missing", [0, 2, 3, 20])
def test_many_field_stars_without_a_magnitude_are_named(missing: int) -> None:
    warnings = unknown_stars(np.arange(20) >= missing)
    assert len(warnings) == (missing > 2)


def test_an_undefined_target_is_a_field_star_with_a_warning(tmp_path: Path) -> None:
    product = written(tmp_path)
    set_logical(Path(product.path), "TARGET", [2])
    catalogue, (said,) = stars(product)
    assert catalogue.target.tolist() == [True, False, False, False]
    assert "column TARGET is undefined for 1 of 4 stars" in said
    set_logical(Path(product.path), "TARGET", [0])
    with pytest.raises(BadInputError, match=r"marks 0 stars, expected one \(2 are undefined\)"):
        stars(product)


def test_a_target_without_a_place_is_refused(tmp_path: Path) -> None:
    product = written(tmp_path, DEC=[NAN, 20.0, 20.0, 20.0])
    with pytest.raises(BadInputError, match="RA and DEC are not known for the target"):
        stars(product)


def test_the_plate_keeps_a_target_without_magnitude(tmp_path: Path) -> None:
    xi, eta, _ = bright_stars(written(tmp_path, MAG_GAIA=[NAN, 11.5, 12.0, 14.0]), 3)
    assert (xi[0], eta[0]) == (0.0, 0.0)
    assert eta.round(4).tolist() == [0.0, 36.0, 72.0]


def test_magnitudes_that_contradict_each_other_are_a_warning(tmp_path: Path) -> None:
    catalogue, (said,) = stars(written(tmp_path, 9.2), 12.0)
    assert catalogue.mag[0] == 9.0
    assert said == (
        "MAG_GAIA of the target is 9 in the star catalogue, but MAG_G is 12 in the raw images: "
        "the former is used"
    )
