"""Margins of the CCD without a bias: the bias of the neighbours, or of the reference, is used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from schemas.flags import Quality
from tests.support.damage import (
    BAD,
    MARGINS,
    SUBARRAY,
    alike,
    change_pixels,
    flagged,
    one,
)
from tests.support.faults import (
    Bench,
    put_together,
    take_apart,
)


@pytest.mark.parametrize(
    "value", [np.inf, 0.0, 3 * 65535.0, np.nan], ids=["inf", "zero", "full scale", "nan"]
)
def test_an_image_whose_margins_show_no_bias_is_flagged_and_measured(
    bench: Bench, sound: Any, value: float
) -> None:
    change_pixels(bench, one(value), *MARGINS)
    outcome = bench.run("--until", "bias")
    assert "bias interpolated for 1 of 12 images" in outcome.err
    bias = bench.term("bias")
    assert flagged(bias, Quality.MARGIN) == [BAD]
    between = (bias["LEVEL"][BAD - 1] + bias["LEVEL"][BAD + 1]) / 2
    assert bias["LEVEL"][BAD] == pytest.approx(between, abs=bias["LEVEL_ERR"].max())
    if np.isnan(value):  # once for all of them, as they have the same bias
        rows, _ = bench.measured()
        assert flagged(rows, Quality.MARGIN) == [BAD]
        alike(rows, sound, [])


def test_some_garbled_pixels_of_a_margin_are_left_out(bench: Bench, sound: Any) -> None:
    def change(pixels: Any) -> Any:
        pixels[BAD, :5, 0] = np.nan
        pixels[BAD, 5:9, 0] = 1e9
        pixels[BAD + 2, :, 1] = np.nan
        return pixels

    change_pixels(bench, change, "SCI_RAW_OverscanLeft")
    rows, said = bench.measured()
    # an image without a whole column is measured by the others, and flagged
    assert flagged(rows, Quality.MARGIN) == [BAD + 2]
    assert "whole columns of the margins have no data in 1 of 12 images" in said
    alike(rows, sound, [])


def test_without_any_usable_margin_the_nominal_bias_is_used_and_said(bench: Bench) -> None:
    change_pixels(bench, lambda pixels: np.full_like(pixels, np.nan), *MARGINS)
    rows, said = bench.measured()
    assert len(flagged(rows, Quality.MARGIN)) == 12
    assert "no usable margins: using the nominal bias of the reference" in said


def test_a_visit_without_margins_is_reduced_with_the_nominal_bias(bench: Bench) -> None:
    path = bench.raw(SUBARRAY)
    put_together(path, [p for p in take_apart(path) if p.extname not in MARGINS])
    outcome = bench.run("--until", "calibrate")
    assert outcome.code == 0
    assert "nominal bias" in outcome.err


def test_constant_margins_throughout_give_the_noise_of_the_reference(
    bench: Bench, sound: Any
) -> None:
    change_pixels(bench, lambda pixels: np.full_like(pixels, 3 * 630), *MARGINS)
    rows, said = bench.measured()
    assert "the read-out noise of the margins is" in said
    assert rows["FLUXERR"][:, 10] == pytest.approx(sound["FLUXERR"][:, 10], rel=0.02)
