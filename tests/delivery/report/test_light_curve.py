"""The light curve of the first page."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.flags import Quality
from tasks.delivery.report.light_curve import draw_light_curve
from tasks.delivery.report.series import Points
from tests.support.visit_report import Array


def points(flux: Array, event: Array | None = None, quality: Array | None = None) -> Points:
    none = np.zeros(len(flux), dtype=np.int64)
    return Points(
        np.arange(len(flux)) / 60,
        flux,
        none if event is None else event,
        none if quality is None else quality,
    )


def test_flagged_points_have_another_shape_and_another_colour() -> None:
    flags = np.zeros(200, dtype=np.int64)
    flags[::10] = int(Quality.BACKGROUND)
    flux = 1e7 * (1 + 1e-4 * np.random.default_rng(2).normal(size=200))
    without, with_flags = (
        draw_light_curve(points(flux), 1000),
        draw_light_curve(points(flux, quality=flags), 1000),
    )
    assert b"#D55E00" not in without
    crosses = next(line for line in with_flags.split(b"<path") if b"#D55E00" in line)
    assert crosses.count(b"M") == 2 * 20  # two strokes each
    assert b"linecap" not in crosses


def test_no_more_points_are_drawn_than_the_setting_allows() -> None:
    flux = 1e7 * (1 + 1e-4 * np.random.default_rng(2).normal(size=5000))

    def drawn(most: int) -> int:
        return draw_light_curve(points(flux), most).count(b"h.01")

    assert drawn(1) <= 1
    assert drawn(401) == pytest.approx(401, abs=5)  # some lie beyond the axis


@pytest.mark.parametrize(
    "flux",
    [
        np.full(5, np.nan),
        np.array([1.0]),
        np.array([1.0, 2.0]),
        -np.ones(9),
        np.ones(9),
        np.full(9, np.inf),
    ],
    ids=["no number", "one point", "two points", "negative", "constant", "infinite"],
)
def test_a_light_curve_without_much_to_show_is_drawn_too(flux: Array) -> None:
    assert draw_light_curve(points(flux), 100).startswith(b"<?xml")
