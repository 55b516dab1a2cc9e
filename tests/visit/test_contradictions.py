"""Contradictions: values that files give twice and differently are refused with both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.errors import BadInputError
from schemas.inputs import ATTITUDE, RAW_SUBARRAY, STAR_CATALOGUE, Input
from schemas.payloads import Product
from tasks.files.reader import open_declared
from tasks.files.writer import write_fits
from tasks.visit.contradictions import (
    check_keywords,
    check_spacing,
    check_target,
    separation,
    usual_direction,
)
from tests.support.any_product import RAW_VALUES, some_image, some_table

RAW = RAW_VALUES | {"NEXP": 3, "EXPTIME": 20.0, "TEXPTIME": 60.0}


def raw_file(
    folder: Path, margin: dict[str, str | int | float | bool], **words: str | int | float | bool
) -> Path:
    path = folder / "raw.fits"
    hdus = [
        some_image("SCI_RAW_SubArray", (3, 20, 19), **RAW | words),
        some_table("SCI_RAW_ImageMetadata", 3),
        some_image("SCI_RAW_BlankLeft", (3, 20, 8), MRG_PROC="image", **RAW | margin),
    ]
    write_fits(path, hdus)
    return path


@pytest.mark.parametrize(
    ("margin", "words", "match"),
    [
        ({"NEXP": 5}, {}, r"SCI_RAW_BlankLeft: keyword NEXP is 5, but 3 in HDU 1 SCI_RAW_SubArray"),
        ({"STACKING": "mean"}, {}, "keyword STACKING is 'mean', but 'coadd' in HDU 1"),
        (
            {"EXPTIME": 10.0},
            {"EXPTIME": 10.0},
            r"keyword TEXPTIME is 60 s, but NEXP 3 times EXPTIME 10 s is 30 s",
        ),
    ],
)
def test_keywords_that_contradict_each_other_are_refused(
    margin: dict[str, str | int | float | bool],
    words: dict[str, str | int | float | bool],
    match: str,
    tmp_path: Path,
) -> None:
    with (
        open_declared(raw_file(tmp_path, margin, **words), RAW_SUBARRAY) as file,
        pytest.raises(BadInputError, match=match),
    ):
        check_keywords(file)


def test_keywords_that_agree_up_to_rounding_pass(tmp_path: Path) -> None:
    path = raw_file(tmp_path, {}, EXPTIME=20.000001)
    with open_declared(path, RAW_SUBARRAY) as file:
        check_keywords(file)


@pytest.mark.parametrize(
    ("seconds", "match"),
    [
        ([0, 60, 120, 180], None),
        ([0, 58.5, 117, 175.5], None),  # rounded
        ([0, 60, 120, 121, 122, 180, 240], None),  # times that are repeated
        ([0, 30, 60], None),  # too few
        ([0, 30, 60, 90], "TEXPTIME is 60 s, but the images of HDU .* are 30 s apart"),
        ([0, 55, 110, 165, 4e5], "TEXPTIME is 60 s, but the images of HDU .* are 55 s apart"),
    ],
)
def test_images_that_overlap_are_refused(
    seconds: list[float], match: str | None, tmp_path: Path
) -> None:
    n = len(seconds)
    table = some_table("SCI_RAW_ImageMetadata", n)
    table.columns["MJD_TIME"] = 59000.0 + np.array(seconds) / 86400
    hdus = [some_image("SCI_RAW_SubArray", (n, 20, 19), **RAW), table]
    write_fits(tmp_path / "raw.fits", hdus)
    with open_declared(tmp_path / "raw.fits", RAW_SUBARRAY) as file:
        if match is None:
            check_spacing(file)
            return
        with pytest.raises(BadInputError, match=match):
            check_spacing(file)


def visit(folder: Path, header: float, catalogue: float, attitude: float) -> dict[str, Product]:
    """Return a visit of a target at three declinations [deg], at a right ascension near 0."""
    tables: list[tuple[Input, dict[str, Any]]] = [
        (STAR_CATALOGUE, {"RA": [359.99, 1.0, 2.0], "DEC": [catalogue, 0, 0], "TARGET": [1, 0, 0]}),
        (
            ATTITUDE,
            {
                "SC_RA": [359.98, 0.0, 359.99],
                "SC_DEC": [attitude, attitude, 1e30],
                "UTC_TIME": ["2021-01-01T00:00:00"] * 3,
                "MJD_TIME": [59215.0, 59215.1, 59215.2],
            },
        ),
    ]
    inputs = {}
    for declared, columns in tables:
        path = folder / f"{declared.kind}.fits"
        table = some_table(declared.first[0], 3, **columns)
        keywords = {**table.keywords, "RA_TARG": 0.01, "DEC_TARG": header}
        write_fits(path, [replace(table, keywords=keywords)])
        inputs[declared.kind] = path
    inputs[RAW_SUBARRAY.kind] = raw_file(folder, {}, RA_TARG=0.01, DEC_TARG=header)
    return {
        kind: Product(path=str(path), sha256="0" * 64, extname="x") for kind, path in inputs.items()
    }


def test_a_target_that_files_place_alike_passes_across_right_ascension_0(tmp_path: Path) -> None:
    check_target(visit(tmp_path, 11.8, 11.81, 11.79))


@pytest.mark.parametrize(
    ("places", "match"),
    [
        (
            (5.0, 11.8, 11.8),
            r"RA_TARG and DEC_TARG are 0\.01000 and 5\.00000 deg, 408\.\d arcmin from 359\.99000 "
            r"and 11\.80000 deg, the target in star catalogue\.fits; expected at most 5 arcmin",
        ),
        ((11.8, 11.8, 12.3), r"30\.\d arcmin from .*, the usual line of sight in attitude\.fits"),
    ],
)
def test_a_target_elsewhere_is_refused_with_both_places(
    places: tuple[float, float, float], match: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInputError, match=match):
        check_target(visit(tmp_path, *places))


def test_directions_and_angles_between_them() -> None:
    assert separation((0.0, 90.0), (123.0, 90.0)) == pytest.approx(0, abs=1e-9)
    assert separation((0.0, 0.0), (1.0, 0.0)) == pytest.approx(60)
    ra, dec = usual_direction(np.array([359.0, 1.0, np.nan]), np.array([0.0, 0.0, 0.0]))
    assert (min(ra, 360 - ra), dec) == pytest.approx((0, 0), abs=1e-9)
    assert np.isnan(usual_direction(np.array([np.nan]), np.array([0.0]))).all()
