"""Cosmic rays seen in imagettes: what the search of a stack accepts, and what is no hit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from schemas.arrays import FloatArray
from schemas.settings import DefectSettings
from tasks.correction.hits import COSMIC, IN_IMAGETTE, Found, InImagettes, Search
from tasks.correction.imagette_hits import (
    Box,
    Excess,
    Finder,
    box_around,
    limit_for,
    usual_residuals,
)
from tasks.correction.steady import Sample

SIDE, EXPOSURES, NOISE = 31, 3, 100.0
BOX = Box(85, 84, (SIDE, SIDE))
Keys = set[tuple[int, int, int]]


def residuals(pixels: FloatArray, first: int = 0) -> list[Excess]:
    noise = np.full((SIDE, SIDE), NOISE)
    return [Excess(first + i, 1.0, image.copy(), noise) for i, image in enumerate(pixels)]


def find(pixels: FloatArray) -> dict[str, Any]:
    """Return the hits of imagettes of one exposure each, three of which make a stack."""
    every = residuals(pixels)
    usual = usual_residuals(every)
    assert usual is not None
    limits = DefectSettings()
    finder = Finder(usual, limit_for(limits.seed, 1 / EXPOSURES), limits.neighbour)
    for one in every:
        finder.add(one)
    finder.add(None)
    return finder.table(len(every), np.arange(len(every)) // EXPOSURES, BOX)


def stacked(pixels: FloatArray, table: dict[str, Any] | None) -> tuple[Found, int]:
    """Search the stacks of imagettes; return the list, and the hits that only imagettes show."""
    stacks = pixels.reshape(-1, EXPOSURES, SIDE, SIDE).sum(axis=1)
    whole = np.zeros((len(stacks), 200, 200))
    whole[:, 84 : 84 + SIDE, 85 : 85 + SIDE] = stacks
    nothing, never = np.zeros((200, 200)), np.zeros((200, 200), bool)
    noise = np.full((200, 200), NOISE * np.sqrt(EXPOSURES))
    count = len(stacks)
    rest: Any = SimpleNamespace(
        take=lambda i: (whole[i], nothing, nothing),
        floor=np.full(count, EXPOSURES * NOISE**2),
        uncertain=np.zeros(count, bool),
    )
    seen = InImagettes.none()
    if table is not None:
        names = ("STACK", "Y", "X", "AMOUNT", "SHARE")
        seen = InImagettes.of(*(table[n] for n in names))
    sample, found = Sample(nothing, noise, noise, nothing, noise, never, never), Found(count)
    every = np.arange(count)
    near = never.copy()
    near[84 : 84 + SIDE, 85 : 85 + SIDE] = True
    search = Search(rest, sample, nothing, never, near, DefectSettings(), every, found, never, seen)
    for k in range(count):
        search.image(k)
    return found, search.added


def keys(found: Found) -> Keys:
    return {
        (i, int(y), int(x))
        for i, rows, columns, _, kind in found.entries
        if kind in (COSMIC, IN_IMAGETTE)
        for y, x in zip(rows, columns, strict=True)
    }


def seeded(seed: int) -> tuple[FloatArray, dict[tuple[int, int, int], float]]:
    """Return noise with a hit of 3 to 10 sigma of a stack in one exposure of each of 60 stacks."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(0, NOISE, (180, SIDE, SIDE))
    truth = {}
    for stack in range(60):
        y, x = rng.integers(0, SIDE, 2)
        charge = rng.uniform(3, 10) * NOISE * np.sqrt(EXPOSURES)
        pixels[EXPOSURES * stack + rng.integers(EXPOSURES), y, x] += charge
        truth[stack, int(y) + 84, int(x) + 85] = charge
    return pixels, truth


def test_imagettes_show_hits_that_their_stacks_hide() -> None:
    pixels, truth = seeded(1)
    without, _ = stacked(pixels, None)
    found, added = stacked(pixels, find(pixels))
    before, after = keys(without) & set(truth), keys(found) & set(truth)
    # of charges between 3 and 10 sigma, 1.5 / 7 are below the limit of 4.5; 5.2 in an imagette
    assert len(before) < 0.88 * len(truth)
    assert len(after) > 0.93 * len(truth)
    new = keys(found) - keys(without)
    assert len(new & set(truth)) >= 0.9 * len(new) > 0
    assert added == len(new)


def test_the_charge_measured_in_imagettes_is_truer_than_that_of_the_stack() -> None:
    pixels, truth = seeded(2)

    def error(found: Found) -> float:
        away = [
            amount - truth[i, int(y), int(x)]
            for i, rows, columns, amounts, _ in found.entries
            for y, x, amount in zip(rows, columns, amounts, strict=True)
            if truth.get((i, int(y), int(x)), 0.0) > 6 * NOISE * np.sqrt(EXPOSURES)
        ]
        assert len(away) > 20
        return float(np.sqrt(np.mean(np.square(away))))

    # one exposure's noise instead of that of three; of some 30 hits each, known to 13 %
    assert error(stacked(pixels, find(pixels))[0]) < 0.8 * error(stacked(pixels, None)[0])


def test_many_imagettes_exceed_their_limit_by_chance_as_often_as_their_stack() -> None:
    assert limit_for(4.5, 1.0) == pytest.approx(4.5)
    # tables of the normal distribution: 3.398e-6 above 4.5 sigma, a tenth of it above 4.967
    assert limit_for(4.5, 0.1) == pytest.approx(4.967, abs=1e-3)


def test_noise_makes_few_hits() -> None:
    pixels = np.random.default_rng(3).normal(0, NOISE, (180, SIDE, SIDE))
    # 173 000 pixels, of which 3.4 in a million exceed 4.5 sigma, and as many groups
    assert np.count_nonzero(find(pixels)["SHARE"] >= 0.5) < 6


def test_excess_that_lasts_or_returns_is_no_hit() -> None:
    pixels = np.random.default_rng(4).normal(0, 1.0, (180, SIDE, SIDE))
    pixels[20:23, 5, 6] += 10 * NOISE  # high for three exposures
    pixels[30:180:20, 8, 9] += 10 * NOISE  # and for one, again and again
    pixels[50, 20, 21] += 10 * NOISE
    table = find(pixels)
    assert (table["IMAGETTE"].tolist(), table["STACK"].tolist()) == ([50], [16])
    assert (table["X"].tolist(), table["Y"].tolist()) == ([21 + 85], [20 + 84])
    assert table["AMOUNT"][0] == pytest.approx(10 * NOISE, rel=0.01)


def test_a_stack_decides_where_it_contradicts_its_imagettes() -> None:
    pixels = np.zeros((6, SIDE, SIDE))
    pixels[4, 10, 10] = 5000.0
    one = np.array([1])
    y, x = one * 94, one * 95
    less = InImagettes.of(one, y, x, np.array([900.0]), np.ones(1))
    nothing = InImagettes.of(0 * one, y, x, np.array([900.0]), np.ones(1))
    for seen, kinds in ((less, [COSMIC]), (nothing, [COSMIC])):
        table = {
            "STACK": seen.image,
            "Y": seen.row,
            "X": seen.column,
            "AMOUNT": seen.amount,
            "SHARE": seen.share,
        }
        found, added = stacked(pixels, table)
        assert [kind for *_, kind in found.entries] == kinds
        assert found.entries[0][3][0] == pytest.approx(5000.0)
        assert added == 0


def test_hits_in_several_imagettes_of_a_stack_add_up() -> None:
    same = np.array([2, 2, 1])
    seen = InImagettes.of(same, same, same, np.array([1.0, 2.0, 4.0]), np.array([0.4, 1.0, 0.7]))
    assert seen.of_image(2).amount.tolist() == [3.0]
    assert seen.of_image(2).share.tolist() == [1.0]
    assert not len(seen.of_image(0).amount)
    assert not len(InImagettes.none().of_image(0).amount)


def test_lost_pixels_and_lost_imagettes_are_never_hits() -> None:
    pixels = np.random.default_rng(5).normal(0, 1.0, (30, SIDE, SIDE))
    pixels[7], pixels[:, 0], pixels[9, 12, 12] = np.nan, np.nan, np.nan
    pixels[8, 12, 12] = 10 * NOISE
    assert find(pixels)["IMAGETTE"].tolist() == [8]
    assert not len(find(np.full((30, SIDE, SIDE), np.nan))["X"])
    assert usual_residuals(residuals(pixels[:3])) is None


def test_imagettes_at_different_places_share_a_box() -> None:
    box = box_around(np.array([[85, 84], [87, 83]]), (5, 5))
    assert box == Box(85, 83, (6, 7))
    whole = box.paste(np.ones((5, 5)), (87, 83))
    assert np.isfinite(whole[:5, 2:]).all()
    assert np.isnan(whole).sum() == 42 - 25
