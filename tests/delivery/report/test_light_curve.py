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
    assert b"#d55e00" not in without.lower()
    assert with_flags.lower().count(b"#d55e00") >= 20
    shapes = {line for line in with_flags.splitlines() if b"<path id=" in line}
    assert len(shapes) > len({line for line in without.splitlines() if b"<path id=" in line})


def test_no_more_points_are_drawn_than_the_setting_allows() -> None:
    flux = 1e7 * (1 + 1e-4 * np.random.default_rng(2).normal(size=5000))

    def drawn(most: int) -> int:
        return draw_light_curve(points(flux), most).count(b"<use")

    axes = drawn(1)
    assert drawn(401) - axes == pytest.approx(400, abs=5)  # ticks are drawn the same way


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


def test_the_figure_does_not_know_the_users_settings_of_matplotlib_nor_change_them() -> None:
    import matplotlib

    flux = 1e7 * (1 + 1e-4 * np.random.default_rng(2).normal(size=50))
    normal = draw_light_curve(points(flux), 100)
    with matplotlib.rc_context(
        {"axes.facecolor": "red", "lines.markersize": 40, "svg.hashsalt": "other", "font.size": 30}
    ):
        assert draw_light_curve(points(flux), 100) == normal
        assert matplotlib.rcParams["font.size"] == 30
