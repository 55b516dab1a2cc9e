"""The figures behind the first page."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

from schemas.flags import PixelFlag
from schemas.products import soc_structure
from tasks.delivery.report.canvas import Canvas
from tasks.delivery.report.curve_figures import about_trend, changing_stages
from tasks.delivery.report.findings import Stage
from tasks.delivery.report.noise_figure import time_scales
from tasks.delivery.report.pictures import draw_picture, stretch, thinned
from tasks.delivery.report.report import collect_report, svg
from tasks.delivery.report.shown_images import FLAG_MAP, Picture
from tasks.files.writer import NewHdu
from tests.support.visit_report import Array, Visit, neutral, write_product


def test_a_flag_map_is_shown_with_its_codes_if_a_step_wrote_one(tmp_path: Path) -> None:
    arguments = Visit().arguments(tmp_path)
    declared, flags = soc_structure(FLAG_MAP), np.zeros((20, 30), dtype=np.uint16)
    flags[3, 4:7], flags[9, 9] = (
        int(PixelFlag.TELEGRAPHIC),
        int(PixelFlag.MAP_DEAD | PixelFlag.OUTSIDE),
    )
    product = write_product(tmp_path, NewHdu(declared, neutral(declared), pixels=flags))
    before = arguments[2]
    corrections = before.corrections.model_copy(update={"products": {FLAG_MAP: product}})
    made = collect_report.fn(
        *arguments[:2], before.model_copy(update={"corrections": corrections}), *arguments[3:]
    )
    shown = made.blobs[svg("maps")]
    assert b"flag map" in shown
    assert b"telegraphic: 3" in shown
    assert b"map dead: 1" in shown
    assert b"flag map" not in collect_report.fn(*arguments).blobs[svg("maps")]


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((4, 5), np.nan),
        np.zeros((4, 5)),
        np.full((4, 5), 7.0),
        -np.ones((1, 1)),
        np.array([[1e-30, 1e30]]),
    ],
    ids=["no number", "zeros", "constant", "one pixel", "wide"],
)
def test_an_image_without_much_to_show_is_drawn_too(pixels: Array) -> None:
    picture = Picture("static", "electron", pixels, (2.0, 2.0, 25.0))
    low, high, width = stretch(pixels)
    assert low < high
    assert width > 0
    canvas = Canvas(2.0, 2.0)
    draw_picture(canvas.panel((0, 0, 0.9, 1)), picture, bar=canvas.panel((0.9, 0, 0.1, 1)))
    assert ElementTree.fromstring(canvas.svg()).tag.endswith("svg")


def test_the_scale_of_an_image_shows_the_sky_and_the_brightest_pixel() -> None:
    sky = np.random.default_rng(4).normal(100, 5, (50, 50))
    sky[20, 20] = 9e4
    low, high, width = stretch(sky)
    assert 70 < low < 90
    assert high == 9e4
    assert width == pytest.approx(5, rel=0.1)  # a scatter of 2500 pixels is known to 2 percent


def test_the_whole_ccd_is_shown_in_groups_of_pixels_and_the_window_with_it() -> None:
    pixels = np.arange(1024 * 1024, dtype=float).reshape(1024, 1024)
    small = thinned(Picture("ccd", "electron", pixels, frame=(412, 400, 200, 200)))
    assert small.pixels.shape == (256, 256)
    assert small.pixels[0, 0] == pixels[:4, :4].mean()
    assert small.frame == (103, 100, 50, 50)
    window = Picture("window", "electron", pixels[:200, :200])
    assert thinned(window) is window


def test_windows_of_noise_reach_from_two_steps_to_half_of_the_visit() -> None:
    found = time_scales(1 / 60, 10.0)
    assert found[0] == pytest.approx(2 / 60)
    assert found[-1] == pytest.approx(5.0)
    assert (np.diff(found) > 0).all()
    assert time_scales(0.0, 10.0).size == time_scales(1.0, 3.0).size == 0


def test_only_steps_that_change_the_light_curve_are_drawn() -> None:
    hours = np.arange(60) / 60
    good = np.ones(60, dtype=bool)
    before = np.full(60, 1e6)
    wave = before + 100 * np.sin(6 * hours)
    points = SimpleNamespace(hours=hours, good=good, duration=1.0)
    findings = SimpleNamespace(
        points=points,
        levels=[SimpleNamespace(values=before)],
        stages=[
            Stage("GAIN", "", before, before),
            Stage("DARK", "", before, before - 7.0),
            Stage("FLAT", "", before, wave),
            Stage("BACKGROUND", "", wave, before),
        ],
    )
    assert [stage.name for stage in changing_stages(findings)] == ["FLAT", "BACKGROUND"]
    # a trend does not hide what a step removed
    slope = before + 5000 * hours
    noisy = slope + 50 * np.cos(3 * np.arange(60))
    first, second = about_trend(Stage("SMEARING", "", noisy, slope), points, 1e6)
    assert np.ptp(5000 * hours) > 4900
    assert np.std(second[15:-15]) < 1
    assert np.std(first[15:-15]) == pytest.approx(50 / math.sqrt(2), rel=0.1)
