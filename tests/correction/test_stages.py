"""Stages: what each step does to the light curve in one circle is what was done to it, and ends at
the images' own sums.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.light_curves import CORRECTION_STAGES
from schemas.payloads import (
    Bias,
    Dark,
    Detector,
    Flat,
    Gain,
    Linearity,
    Look,
    Product,
    ReadOut,
    Spread,
)
from schemas.terms import TERMS
from tasks.calibration.detector import PerImage, Response
from tasks.calibration.stages import Circle, measure_calibration_stages, sum_stages
from tasks.correction.hits import COSMIC, FROM_MODEL, HIGH_STATE, IN_IMAGETTE, POSSIBLE
from tasks.correction.stages import KINDS, ORDER, one_by_one, stages
from tasks.files import disk
from tasks.files.writer import NewHdu, write_fits
from tasks.numerics.geometry import circle_sums
from tasks.visit.clean import Effects, hits_of
from tasks.visit.terms import Curve, look_places
from tests.conftest import raw_file
from tests.support.motion import at_rest
from tests.support.runs import Bench

Array = np.ndarray[Any, Any]

STRAIGHT = np.zeros(1), np.array([[0.0, 1.0, 0.0, 0.0]])


def words(adu: Array) -> Array:
    """Return raw values as the words of a file: big-endian, 2^31 subtracted."""
    return (adu.astype(np.uint32) ^ np.uint32(1 << 31)).byteswap()


def sums_of(
    adu: Array,
    n: int,
    level: float,
    gain: float,
    usual: float,
    terms: tuple[Array, ...],
    radius: float,
) -> Array:
    count, ny, nx = adu.shape
    x, y = np.full(count, nx / 2 + 0.2), np.full(count, ny / 2 - 0.4)
    one, zero = np.ones(count), np.zeros(count, np.int64)
    images = PerImage(n * one, n * one, level * one, gain * one, one, zero, zero)
    structure, dark, flat, boundary, coefficients = terms
    return sum_stages(
        words(adu),
        images,
        usual,
        Response(structure, dark, flat),
        Curve(boundary, coefficients),
        at_rest(count),
        Circle(x, y, radius),
    )


def test_one_image_gives_the_sums_worked_by_hand() -> None:
    same = np.ones((9, 9))
    curve = np.zeros(1), np.array([[0.0, 1.5, 0.0, 0.0]])
    terms = 0.5 * same, 1.0 * same, 0.8 * same, *curve
    found = sums_of(
        np.full((1, 9, 9), 10), n=2, level=1.0, gain=0.5, usual=0.4, terms=terms, radius=2.0
    )
    # 2 exposures of 5 ADU: 2 x 5 / 0.4; 2 x 3.5 / 0.4; 2 x 3.5 / 0.5; x 1.5; 2 x (10.5 - 1); / 0.8;
    # on 4 pi pixels
    np.testing.assert_allclose(
        found[0] / (4 * np.pi), [25.0, 17.5, 14.0, 21.0, 19.0, 23.75], rtol=1e-12
    )


@settings(deadline=None)  # the first call may compile
@given(
    st.integers(1, 40),
    st.floats(500, 700),
    st.floats(0.4, 0.6),
    st.floats(0, 50),
    st.floats(0.9, 1.1),
    st.floats(100, 50_000),
    st.integers(0, 99),
)
def test_the_stages_undo_the_detector_step_by_step(
    n: int, level: float, gain: float, thermal: float, slope: float, light: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    structure, dark = random.normal(0, 2, (24, 24)), random.uniform(0, 1, (24, 24)) * thermal
    flat = random.normal(1, 0.01, (24, 24))
    charge = light * flat + dark
    signal = charge / slope * gain
    adu = np.round(n * (signal + level + structure))[None]
    curve = np.zeros(1), np.array([[0.0, slope, 0.0, 0.0]])
    (found,) = sums_of(adu, n, level, gain, 0.5, (structure, dark, flat, *curve), 8.0)
    wanted = [
        n * circle_sums(image[None], np.array([12.2]), np.array([11.6]), 8.0)[0]
        for image in (
            (signal + level + structure) / 0.5,
            signal / 0.5,
            signal / gain,
            charge,
            charge - dark,
            light + 0 * flat,
        )
    ]
    # a raw value is a whole number: half an ADU on each of 201 pixels, at 0.4 ADU/electron, is 250
    # electrons at worst
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=300)


def test_pixels_without_data_are_left_out_of_every_stage() -> None:
    adu = np.full((1, 12, 12), 100)
    adu[0, 5, 5] = 0
    terms = np.zeros((12, 12)), np.zeros((12, 12)), np.ones((12, 12)), *STRAIGHT
    found = sums_of(adu, n=1, level=0.0, gain=1.0, usual=1.0, terms=terms, radius=4.0)
    np.testing.assert_allclose(found, 100 * (16 * np.pi - 1), rtol=1e-12)


def test_each_effect_is_subtracted_once_and_in_order() -> None:
    random = np.random.default_rng(5)
    star = random.uniform(0, 1e4, (20, 20))
    smearing, static = random.uniform(0, 9, (3, 20)), np.zeros((20, 20))
    static[9, 10] = 70.0
    background, slope = np.array([30.0, 40.0, 50.0]), random.normal(0, 1, (3, 2))
    # image, x, y, amount: a cosmic ray, a high state and a dead pixel, each in one image
    entries = {
        "COSMIC_RAYS": (1, 10, 10, 500.0),
        "TELEGRAPHIC": (0, 9, 11, 60.0),
        "DEAD": (2, 11, 9, -800.0),
    }
    hits = {
        s: hits_of(3, (20, 20), *(np.array([v]) for v in place), np.array([a]))
        for s, (*place, a) in entries.items()
    }
    dy, dx = np.mgrid[:20, :20] - 9.5
    sky = background[:, None, None] + slope[:, 0, None, None] * dx + slope[:, 1, None, None] * dy
    images = star + sky + smearing[:, None, :] + static
    for i, px, py, amount in entries.values():
        images[i, py, px] += amount
    x = y = np.full(3, 10.0)
    effects = Effects(background, smearing, static, None, slope, (9.5, 9.5))
    found = stages(images.copy(), slice(0, 3), one_by_one(effects, hits), x, y, 5.0)
    truth = circle_sums(star[None], x[:1], y[:1], 5.0)[0]
    smeared = [circle_sums(np.tile(row, (20, 1))[None], x[:1], y[:1], 5.0)[0] for row in smearing]
    # the circle lies about the place where the background has its level: slopes cancel in it
    taken = np.transpose(
        [smeared, [70] * 3, [60, 0, 0], [0, 0, -800], [0, 500, 0], 25 * np.pi * background]
    )
    np.testing.assert_allclose(-np.diff(found, axis=1), taken, atol=1e-7)
    np.testing.assert_allclose(found[:, -1], truth, rtol=1e-12)


def test_every_effect_has_its_stage() -> None:
    """A new effect in the images needs a column, or the report would not show it."""
    assert {f.name for f in fields(Effects)} == {part for parts in ORDER.values() for part in parts}
    assert list(CORRECTION_STAGES) == ["CALIBRATED", *ORDER]
    kinds = sorted(kind for of_stage in KINDS.values() for kind in of_stage)
    assert kinds == [COSMIC, HIGH_STATE, FROM_MODEL, POSSIBLE, IN_IMAGETTE]
    assert [stage for stage, parts in ORDER.items() if "hits" in parts] == list(KINDS)


def test_effects_that_are_not_known_change_nothing() -> None:
    images = np.random.default_rng(1).uniform(0, 9, (2, 12, 12))
    effects = one_by_one(Effects(np.zeros(2)), {})
    found = stages(images.copy(), slice(0, 2), effects, np.full(2, 6.0), np.full(2, 6.0), 4.0)
    assert (found == found[:, :1]).all()


def test_a_circle_has_its_area_and_ignores_nan() -> None:
    images = np.ones((3, 30, 30))
    images[1, 15, 15] = np.nan
    found = circle_sums(images, np.array([15.3, 15.3, np.nan]), np.array([14.9, 14.9, 15.0]), 7.0)
    np.testing.assert_allclose(found, [49 * np.pi, 49 * np.pi - 1, np.nan], rtol=1e-12)


@pytest.mark.parametrize("radius", [0.0, -1.0, np.nan, np.inf])
def test_a_circle_without_a_radius_is_refused(radius: float) -> None:
    with pytest.raises(ValueError, match="expected a positive number"):
        circle_sums(np.ones((1, 5, 5)), np.ones(1), np.ones(1), radius)


def test_images_without_a_centre_each_are_refused() -> None:
    with pytest.raises(ValueError, match=r"centres have shapes .* expected 2 of each"):
        circle_sums(np.ones((2, 5, 5)), np.ones(1), np.ones(1), 1.0)


def test_where_the_star_was_not_seen_its_place_lies_between_its_neighbours(tmp_path: Path) -> None:
    nothing = np.zeros(4)
    columns = {
        "MJD_TIME": np.array([0.0, 1.0, 2.0, 3.0]),
        "CENTROID_X": np.array([np.nan, 10.0, np.nan, 14.0]),
        "CENTROID_Y": np.array([np.nan, 5.0, np.nan, 4.0]),
        "RING": nothing,
        "FLUX": nothing,
        "SAMPLED": nothing > 0,
        "QUALITY": nothing,
    }
    path = tmp_path / "look.fits"
    planes = [
        NewHdu(TERMS[name], {"X_WINOFF": 0, "Y_WINOFF": 0}, pixels=np.zeros((2, 2)))
        for name in ("TERM_LOOK_STATIC", "TERM_LOOK_LIMIT")
    ]
    write_fits(path, [NewHdu(TERMS["TERM_LOOK"], columns=columns), *planes])
    product = Product(path=str(path), sha256=disk.sha256(path), extname="TERM_LOOK")
    x, y = look_places(Look(step="look", products={"TERM_LOOK": product}))
    np.testing.assert_array_equal(x, [10.0, 10.0, 12.0, 14.0])
    np.testing.assert_array_equal(y, [5.0, 5.0, 4.5, 4.0])


def test_the_stages_of_a_visit_meet_at_the_images_of_each_level(reduced: Bench) -> None:
    (folder,) = reduced.published()
    before, after = (
        fits.getdata(folder / f"terms/{step}_stages.fits", 1)
        for step in ("calibration", "correction")
    )
    # the same pixels in the same order of work; float64 sums of 2000 pixels leave 1e-12
    np.testing.assert_allclose(before["FLAT"], after["CALIBRATED"], rtol=1e-11)
    look = fits.getdata(folder / "terms/look.fits", 1)
    with fits.open(raw_file(folder, "SCI_COR_SubArray")) as hdus:
        cube, head = hdus[1].data.astype(np.float64), hdus[1].header
    image = fits.getdata(folder / "terms/calibration_stages.fits", "TERM_RAW_IMAGE")
    raw = fits.getdata(raw_file(reduced.visit, "SCI_RAW_SubArray"), "SCI_RAW_SubArray")
    np.testing.assert_array_equal(image, raw[np.argmax(look["SAMPLED"])])
    x, y = look["CENTROID_X"] - head["X_WINOFF"], look["CENTROID_Y"] - head["Y_WINOFF"]
    np.testing.assert_allclose(after["BACKGROUND"], circle_sums(cube, x, y, 25.0), rtol=1e-11)
    for table in (before, after):
        assert (np.diff([np.median(table[name]) for name in table.names[1:]]) != 0).any()


def test_terms_of_another_window_are_refused(reduced: Bench) -> None:
    (folder,) = reduced.published()

    def term(step: str) -> dict[str, Product]:
        path = folder / f"terms/{step}.fits"
        extname = fits.getheader(path, 1)["EXTNAME"]
        return {extname: Product(path=str(path), sha256=disk.sha256(path), extname=extname)}

    whole = raw_file(reduced.visit, "SCI_RAW_Imagette")
    raw = Product(path=str(whole), sha256=disk.sha256(whole), extname="SCI_RAW_Imagette")
    look = Look(step="look", products=term("look"))
    detector = Detector(
        readout=ReadOut(
            bias=Bias(step="bias", products=term("bias")),
            gain=Gain(step="gain", products=term("gain")),
        ),
        linearity=Linearity(step="linearity", products=term("linearity")),
        spread=Spread(step="spread", products=term("spread")),
        dark=Dark(step="dark", products=term("dark")),
        flat=Flat(step="flat", products=term("flat")),
    )
    with pytest.raises(ValueError, match="the terms do not match"):
        measure_calibration_stages.fn(raw, None, look, detector)
