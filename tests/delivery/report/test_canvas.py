"""The canvas of the figures: round ticks, limits, points as paths and as pixels, valid SVG."""

from __future__ import annotations

import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.arrays import FloatArray
from tasks.delivery.report.canvas import Axis, Canvas, Line, log_ticks, nice_ticks, tick_labels
from tasks.delivery.report.raster import Dots, coloured_png, draw_dots


@pytest.mark.parametrize(
    ("limits", "ticks", "labels"),
    [
        ((0.0, 6.4), [0, 2, 4, 6], ["0", "2", "4", "6"]),
        (
            (-1.0, 1.0),
            [-1, -0.5, 0, 0.5, 1],
            ["\N{MINUS SIGN}1.0", "\N{MINUS SIGN}0.5", "0.0", "0.5", "1.0"],
        ),
        ((627.45, 627.85), [627.5, 627.6, 627.7, 627.8], ["627.5", "627.6", "627.7", "627.8"]),
        ((0.0, 8e4), [0, 20000, 40000, 60000, 80000], ["0", "20000", "40000", "60000", "80000"]),
        ((0.0, 1.0), [0, 0.25, 0.5, 0.75, 1], ["0.00", "0.25", "0.50", "0.75", "1.00"]),
    ],
)
def test_ticks_are_round_numbers(
    limits: tuple[float, float], ticks: list[float], labels: list[str]
) -> None:
    found = nice_ticks(*limits, 4)
    np.testing.assert_allclose(found, ticks, atol=1e-12)
    assert tick_labels(found) == labels


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-2, 1e12), most=st.integers(1, 10))
def test_ticks_lie_within_the_limits_and_are_few(low: float, span: float, most: int) -> None:
    ticks = nice_ticks(low, low + span, most)
    assert len(ticks) <= most + 1
    assert all(low - 1e-6 * span <= t <= low + span * (1 + 1e-6) for t in ticks)
    labels = tick_labels(ticks)
    # neighbours can be distinguished, unless they share their first six digits
    assert len(set(labels)) == len(labels) or abs(low) > 1e4 * span


def test_a_logarithmic_axis_has_ticks_at_1_2_and_5_and_ignores_what_is_not_positive() -> None:
    assert log_ticks(0.9, 25.0) == [1.0, 2.0, 5.0, 10.0, 20.0]
    axis = Axis(logarithmic=True)
    axis.include(np.array([-3.0, 0.0, np.nan, 1.0, 100.0]))
    low, high = axis.ends()
    assert 0.5 < low < 1.0
    assert 100.0 < high < 200.0
    assert axis.fractions(np.array([10.0])) == pytest.approx(0.5)
    assert np.isnan(axis.fractions(np.array([-1.0]))).all()


def test_a_line_breaks_where_a_value_is_missing() -> None:
    canvas = Canvas(1.0, 1.0)
    panel = canvas.panel((0.0, 0.0, 1.0, 1.0))
    panel.x.limits = panel.y.limits = 0.0, 4.0
    panel.line(np.arange(5.0), np.array([0.0, 1.0, np.nan, 3.0, 4.0]), Line("#123456"))
    assert b'd="M0.00 72.00L18.00 54.00M54.00 18.00L72.00 0.00"' in canvas.svg()


def test_text_from_outside_stays_text() -> None:
    canvas = Canvas(1.0, 1.0)
    canvas.panel((0.0, 0.0, 1.0, 1.0)).text(0.5, 0.5, '<script>&"')
    texts = [t.text for t in ElementTree.fromstring(canvas.svg()).iter() if t.tag.endswith("text")]
    assert '<script>&"' in texts


def pixels_of(png: bytes, width: int) -> FloatArray:
    """Return the pixels of a PNG of ours, shape (ny, nx, 4)."""
    start = png.index(b"IDAT") + 4
    size = int.from_bytes(png[start - 8 : start - 4], "big")
    rows = np.frombuffer(zlib.decompress(png[start : start + size]), np.uint8)
    return rows.reshape(-1, 4 * width + 1)[:, 1:].reshape(-1, width, 4).astype(np.float64)


def test_points_cover_their_area_and_the_later_style_lies_above() -> None:
    # a circle of 3.6 points has a radius of 5.5 pixels at 220 dpi
    where, both = np.array([36.0]), np.ones(1, dtype=bool)
    circle = Dots(both, "o", "#0072B2", 3.6)
    cross = Dots(both, "x", "#D55E00", 3.6, 0.5)
    shown = pixels_of(draw_dots((where, where), (72.0, 72.0), [cross, circle]), 220)
    assert shown[110, 110].tolist() == [0, 0x72, 0xB2, 255]
    assert shown[0].sum() == 0
    alone = pixels_of(draw_dots((where, where), (72.0, 72.0), [circle]), 220)
    # its edge, of partly covered pixels, is one pixel wide
    assert alone[..., 3].sum() / 255 == pytest.approx(np.pi * 5.5**2, rel=0.03)
    beyond = draw_dots((np.array([-5.0]), where), (72.0, 72.0), [circle])
    assert pixels_of(beyond, 220).sum() == 0


@pytest.mark.parametrize("marker", ["o", "x", "+", "|", "^", "v", "s"])
def test_every_marker_is_centred_on_its_point(marker: str) -> None:
    drawn = Dots(np.array([True, False]), marker, "#000000", 4.0, 0.5).path(
        np.array([10.0, 90.0]), np.array([20.0, 90.0])
    )
    assert "90." not in drawn
    assert drawn.startswith("<path")
    assert ElementTree.fromstring(drawn).attrib["d"][0] == "M"


def test_small_images_are_enlarged_by_whole_pixels() -> None:
    image = np.zeros((2, 3, 4))
    image[1, 2] = 1.0
    shown = pixels_of(coloured_png(image, smallest=9), 9)
    assert shown.shape == (6, 9, 4)
    assert (shown[3:, 6:] == 255).all()
    assert shown.sum() == 255 * 4 * 9
