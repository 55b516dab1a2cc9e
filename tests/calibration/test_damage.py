"""Damage of raw images: each kind is recognised in the image that has it, and in no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.arrays import FloatArray
from tasks.calibration import damage
from tasks.calibration.damage import (
    FULL_SCALE,
    Counts,
    Damage,
    damage_warnings,
    find_damage,
    more_than_usual,
)

NEXP, BAD, COUNT, SIDE = 3, 4, 8, 96
BIAS, RON, SATURATION = 600.0, 3.5, 60_000.0


class Raw:
    """The raw images that an assessment reads."""

    def __init__(self, pixels: Any, shape: str = "rectangular") -> None:
        self.pixels = np.asarray(pixels, np.uint32)
        self.count, self.shape = len(pixels), pixels.shape[1:]
        self.image = type("Hdu", (), {"header": {"SHAPE": shape}})

    def words(self, start: int, stop: int) -> Any:
        """Return images as the file holds them."""
        return (self.pixels[start:stop] ^ np.uint32(1 << 31)).byteswap()


def visit(noise: float = 1.0, peak: float = 9e4, count: int = COUNT) -> FloatArray:
    """Return stacks of a star in the middle of a noisy window [ADU]."""
    rng = np.random.default_rng(5)
    y, x = np.indices((SIDE, SIDE)) - SIDE / 2
    star = peak * np.exp(-(x**2 + y**2) / 2 / 8.0**2)
    light = np.maximum(star[None] + 30.0, 0.0) + np.zeros((count, 1, 1))
    noisy = light + noise * rng.normal(size=light.shape) * np.sqrt(light / 2 + NEXP * RON**2)
    return np.clip(np.round(NEXP * BIAS + noisy), 1, NEXP * FULL_SCALE)


def assess(pixels: Any, shape: str = "rectangular") -> Damage:
    """Assess stacks of three exposures, in blocks of three images."""
    raw: Any = Raw(pixels, shape)

    def by_three(raw: Any, make: Callable[[Any], Any]) -> list[Any]:
        return [make(raw.words(a, min(a + 3, raw.count))) for a in range(0, raw.count, 3)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(damage, "by_image", by_three)
        return damage.assess_images(raw, np.full(raw.count, float(NEXP)), SATURATION)


def quadrant(value: float) -> Callable[[Any], None]:
    """Return a change of a quarter of an image."""

    def change(images: Any) -> None:
        images[BAD, : SIDE // 2, SIDE // 2 :] = value

    return change


def freeze(images: Any) -> None:
    """Repeat the image before."""
    images[BAD] = images[BAD - 1]


def freeze_half(images: Any) -> None:
    """Repeat half of the image before."""
    images[BAD, SIDE // 2 :] = images[BAD - 1, SIDE // 2 :]


def repeat_row(images: Any) -> None:
    """Repeat a row once."""
    images[BAD, 20] = images[BAD, 19]


def repeat_columns(images: Any) -> None:
    """Repeat a column to the edge of the window."""
    images[BAD, :, 70:] = images[BAD, :, 70:71]


def repeat_packet(images: Any) -> None:
    """Repeat some rows in place of others."""
    images[BAD, 60:70] = images[BAD, 10:20]


def fill_block(images: Any) -> None:
    """Give a block one plausible value."""
    images[BAD, 20:40, 20:40] = 1900


def lose_two_rows(images: Any) -> None:
    """Lose two rows."""
    images[BAD, 50:52] = 0


DAMAGE: list[tuple[Callable[[Any], None], str]] = [
    (quadrant(0), "lost or impossible"),
    (quadrant(5), "lost or impossible"),
    (quadrant(2**32 - 1_000_000), "lost or impossible"),
    (quadrant(1_000_000_000), "lost or impossible"),
    (lose_two_rows, "lost or impossible"),
    (quadrant(1900), "pixels repeat others of the image"),
    (fill_block, "pixels repeat others of the image"),
    (repeat_row, "pixels repeat others of the image"),
    (repeat_columns, "pixels repeat others of the image"),
    (repeat_packet, "pixels repeat others of the image"),
    (freeze, "repeat those of an earlier image"),
    (freeze_half, "repeat those of the image before"),
    (quadrant(NEXP * FULL_SCALE), "far more pixels are saturated than usual"),
]


@pytest.mark.parametrize(("change", "cause"), DAMAGE, ids=lambda v: getattr(v, "__name__", None))
def test_a_damaged_image_is_recognised_and_no_other(
    change: Callable[[Any], None], cause: str
) -> None:
    images = visit()
    change(images)
    found = assess(images)
    assert np.flatnonzero(found.unusable).tolist() == [BAD]
    assert [c for c, where in found.causes.items() if where.any() and cause in c]
    assert not found.some_lost.any()
    assert not found.star_saturated.any()
    assert not found.saturated_in.any()
    assert any(f"(image {BAD + 1})" in text for text in damage_warnings(found, SATURATION))


def test_pixels_beside_a_bright_star_that_fills_the_window_are_not_lost() -> None:
    images = np.round(visit() + 20_000.0)
    images[:, :12] = NEXP * BIAS + np.round(visit()[:, :12] / 50)
    found = assess(images)
    assert not found.unusable.any()
    assert not found.some_lost.any()


def test_sound_images_are_not_damaged() -> None:
    found = assess(visit())
    assert not found.unusable.any()
    assert not found.some_lost.any()
    assert damage_warnings(found, SATURATION) == []


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_coincidences_in_all_images_are_natural_and_more_of_them_damage(noise: float) -> None:
    # without noise, equal pixels are no sign of damage: only copies of whole images are
    images = visit(noise) + np.arange(COUNT)[:, None, None]
    assert not assess(images).unusable.any()
    freeze(images)
    assert np.flatnonzero(assess(images).unusable).tolist() == [BAD]


@pytest.mark.parametrize("value", [0, 1, 2**32 - 1_000_000, 1_000_000_000])
def test_single_impossible_pixels_flag_an_image_that_is_measured(value: int) -> None:
    images = visit()
    images[BAD, 10, 12] = value
    found = assess(images)
    assert not found.unusable.any()
    assert np.flatnonzero(found.some_lost).tolist() == [BAD]
    assert damage_warnings(found, SATURATION) == [
        "1 of 8 images have lost or impossible pixels: masked and flagged (image 5)"
    ]


def test_a_saturated_star_is_counted_in_every_image_and_is_no_damage() -> None:
    images = visit()
    y, x = np.indices((SIDE, SIDE)) - SIDE / 2
    plateau = np.hypot(x, y) < 9
    images[1:, plateau] = NEXP * 63_000
    images[:, 0, 0] = images[:, 30, 48] = NEXP * 63_000  # a hot pixel is not the star
    images[:, 29:32:2, 48] = NEXP * 40_000  # nor is the charge that bleeds from it
    found = assess(images)
    assert not found.unusable.any()
    assert found.star_saturated.tolist() == [False, *[True] * (COUNT - 1)]
    assert found.saturated[1] == plateau.sum()
    assert np.array_equal(found.saturated_in, np.where(plateau, COUNT - 1, 0))
    (text,) = damage_warnings(found, SATURATION)
    assert text.startswith(
        f"the star is saturated in 7 of 8 images: flagged; up to {plateau.sum()}"
    )


@pytest.mark.parametrize("value", [0, NEXP * FULL_SCALE])
def test_a_visit_of_images_without_data_has_no_usable_one(value: int) -> None:
    assert assess(np.full((COUNT, SIDE, SIDE), value)).unusable.all()


def test_pixels_without_data_in_all_images_are_outside_of_the_window() -> None:
    images = visit()
    images[:, :, :3] = 0
    found = assess(images)
    assert not found.unusable.any()
    assert not found.some_lost.any()
    assert damage_warnings(found, SATURATION) == [
        f"{3 * SIDE} pixels of the window have no data in any image"
    ]
    assert damage_warnings(assess(images, "circular"), SATURATION) == []


@given(st.integers(1, 12), st.integers(0, 11))
def test_frozen_images_keep_their_first(frozen: int, first: int) -> None:
    images = visit(count=12)
    images[first : first + frozen] = images[first]
    unusable = np.flatnonzero(assess(images).unusable)
    assert unusable.tolist() == list(range(first + 1, min(first + frozen, 12)))


def test_counts_far_above_the_usual_ones_are_told_from_chance() -> None:
    assert more_than_usual(np.array([0, 0, 0, 4, 5])).tolist() == [*[False] * 4, True]
    # half of the images damaged: the least damaged one shows what is usual
    assert more_than_usual(np.array([0, 500, 500, 500])).tolist() == [False, True, True, True]
    assert not more_than_usual(np.array([900, 1000, 1100])).any()
    # without noise all images coincide, but for a star that moved far once in forty images
    assert not more_than_usual(np.array([0, *[500] * 39])).any()
    assert more_than_usual(np.array([*[0] * 4, *[500] * 36])).sum() == 36


def test_sky_without_noise_repeats_in_all_images_but_the_first() -> None:
    none, frozen = np.zeros(5, np.int64), np.array([0, 900, 1000, 1100, 4000])
    counts = Counts(none, none, none, frozen, none, none)
    causes = find_damage(counts, np.zeros(5, bool), 10_000)
    assert causes["pixels repeat those of the image before"].tolist() == [*[False] * 4, True]


def test_the_limit_of_lost_pixels_is_half_a_per_cent() -> None:
    none = np.zeros(2, np.int64)
    counts = Counts(np.array([50, 51]), none, none, none, none, none)
    causes = find_damage(counts, np.zeros(2, bool), 10_000)
    assert causes["more than 0.5% of the pixels are lost or impossible"].tolist() == [False, True]
