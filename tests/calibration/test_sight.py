"""The line of sight: flags that a file leaves undefined are unknown, and said to be."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from schemas.payloads import Product, Reference
from tasks.calibration.sight import Sight, possible_rows, sight_of
from tasks.files.writer import write_fits
from tests.support.any_product import set_logical, some_table

MINUTE = 1 / 1440
MJD = 59_000 + MINUTE * np.arange(10)


def as_product(path: Path, extname: str) -> Product:
    return Product(path=str(path), sha256="0" * 64, extname=extname)


def constraints(folder: Path, **columns: Any) -> Product:
    """Write constraints of 10 minutes: in the SAA in the first 3, occulted in the last 3."""
    path = folder / "constraints.fits"
    minutes = np.arange(10)
    table = {"MJD_TIME": MJD, "SAA_FLAG": minutes < 3, "EARTH_OCCULTATION": minutes > 6}
    write_fits(path, [some_table("AUX_RES_VisitConstraints", 10, **table | columns)])
    return as_product(path, "AUX_RES_VisitConstraints")


def saa_map(folder: Path, inside: bool) -> Reference:
    """Write a map of 4 x 2 cells with one value."""
    path = folder / "map.fits"
    places = {"LATITUDE": [-45, 45] * 4, "LONGITUDE": np.repeat([-180, -90, 0, 90], 2)}
    write_fits(path, [some_table("EXT_APP_SAAMap", 8, **places, SAA_FLAG=[inside] * 8)])
    product = as_product(path, "EXT_APP_SAAMap")
    return Reference(kind="SAA map", product=product, valid_from="")


def seen(tables: tuple[Product, ...], place: Reference | None = None) -> tuple[Sight, list[str]]:
    """Return the sight of ten images of 20 s that are above the limb, at 50 N, 0 E."""
    values = {"LOS_TO_EARTH_ANGLE": 30.0, "LATITUDE": 50.0, "LONGITUDE": 0.0}
    metadata = SimpleNamespace(column=lambda name: np.full(10, values[name]))
    raw: Any = SimpleNamespace(count=10, mjd=MJD, span=20.0, metadata=metadata)
    warnings: list[str] = []
    return sight_of(raw, tables, np.full(10, np.nan), place, warnings), warnings


def test_defined_flags_are_followed_without_a_word(tmp_path: Path) -> None:
    sight, warnings = seen((constraints(tmp_path),))
    assert np.flatnonzero(sight.saa).tolist() == [0, 1, 2]
    assert np.flatnonzero(sight.occulted).tolist() == [7, 8, 9]
    assert warnings == []


def test_a_row_with_an_undefined_flag_is_bridged_with_a_warning(tmp_path: Path) -> None:
    product = constraints(tmp_path)
    set_logical(Path(product.path), "SAA_FLAG", [1])
    sight, (said,) = seen((product,))
    assert np.flatnonzero(sight.saa).tolist() == [0, 1, 2]
    assert said == (
        "AUX_RES_VisitConstraints: SAA_FLAG or EARTH_OCCULTATION is undefined in 1 of 10 rows, "
        "which are not used"
    )


def test_a_table_of_undefined_flags_leaves_the_map_to_decide(tmp_path: Path) -> None:
    product = constraints(tmp_path)
    set_logical(Path(product.path), "EARTH_OCCULTATION", range(10))
    sight, (said,) = seen((product,), saa_map(tmp_path, inside=True))
    assert sight.saa.all()
    assert "undefined in 10 of 10 rows" in said


def test_an_undefined_map_is_not_outside_without_a_word(tmp_path: Path) -> None:
    place = saa_map(tmp_path, inside=True)
    set_logical(Path(place.product.path), "SAA_FLAG", [5])  # 45 N, 0 E
    sight, (said,) = seen((), place)
    assert not sight.saa.any()
    assert said == (
        "the SAA map is undefined at the position of 10 of 10 images: treated as outside the SAA"
    )


def test_rows_of_an_orbit_that_are_unlike_the_others_are_left_out() -> None:
    turn = np.linspace(0, 6, 24)
    position = 7080.0 * np.stack([np.cos(turn), np.sin(turn), 0 * turn], axis=1)
    velocity = 7.5 * np.stack([-np.sin(turn), np.cos(turn), 0 * turn], axis=1)
    assert possible_rows(position, velocity).all()
    for column, odd in ((0, np.nan), (1, 9000.0), (2, 0.0), (5, np.inf), (4, -12.0), (3, 0.0)):
        rows = np.hstack([position, velocity])
        rows[7, column] = odd
        wrong = np.flatnonzero(~possible_rows(rows[:, :3], rows[:, 3:])).tolist()
        # a component that is 0 by nature may be 0
        assert wrong == ([] if column == 2 else [7]), column
