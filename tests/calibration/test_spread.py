"""Motion within a stack: estimated variances against those of the exposures themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.calibration.motion import (
    POINTS,
    Imagettes,
    imagette_variances,
    motion_variances,
    stack_variances,
)
from tasks.calibration.spread import offsets_of
from tasks.visit.attitude import mean_between
from tasks.visit.linearity_curve import bend
from tests.support.motion import variances

Array = np.ndarray[Any, Any]


def words(adu: Array) -> Array:
    """Return raw values as the words of a file: big-endian, 2^31 subtracted."""
    return (adu.astype(np.uint32) ^ np.uint32(1 << 31)).byteswap()


def star(x: float, y: float, peak: float = 20_000.0, size: int = 61, sigma: float = 4.0) -> Array:
    rows, columns = np.mgrid[:size, :size]
    return np.asarray(peak * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)) + 3.0)


def test_the_mean_of_a_series_between_its_samples() -> None:
    # worked by hand: values 0, 2, 0 at 0, 1, 2 are a roof; a slice from 0.5 to 1 has the mean of 1
    # and 2
    time, values = np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0, 0.0])
    start, stop = np.array([0.0, 0.5, 0.9, -5.0, 3.0]), np.array([2.0, 1.0, 1.1, 1.0, 4.0])
    np.testing.assert_allclose(
        mean_between(time, values, start, stop), [1.0, 1.5, 1.9, 1.0, np.nan], atol=1e-12
    )


@given(st.integers(2, 60), st.integers(0, 99))
def test_offsets_have_the_covariance_of_the_exposures(k: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    x, y = 500 + draw.normal(0, 0.7, (3, k)), 400 + draw.normal(0, 0.3, (3, k))
    y += 0.5 * (x - 500)
    for offsets, one, other in zip(offsets_of(x, y), x, y, strict=True):
        used = offsets[:, np.isfinite(offsets[0])]
        assert used.shape[1] == min(k, POINTS)
        np.testing.assert_allclose(
            np.cov(used, bias=True), np.cov(one, other, bias=True), atol=1e-10
        )
        np.testing.assert_allclose(used.mean(axis=1), 0.0, atol=1e-12)


def test_an_unknown_position_counts_as_no_motion() -> None:
    offsets = offsets_of(np.array([[1.0, np.nan, 2.0]]), np.array([[1.0, 1.0, 2.0]]))
    np.testing.assert_array_equal(offsets[0, 0, :3], 0.0)
    assert not variances(star(30.0, 30.0), np.where(np.isfinite(offsets[0]), 0.0, np.nan)).any()


def test_a_moving_star_varies_as_its_exposures_do() -> None:
    # cubic convolution of a star with sigma 4 pixels errs by 1e-3 of its peak, of which the
    # variance holds twice as much
    draw = np.random.default_rng(3)
    places = draw.normal(0, 0.7, (2, 6))
    exposures = np.stack([star(30.0 + x, 30.0 + y) for x, y in places.T])
    found = variances(exposures.mean(axis=0), offsets_of(places[:1], places[1:])[0])
    truth = exposures.var(axis=0)
    seen = found > 0
    assert seen.sum() > 200
    assert np.abs(found - truth)[seen].max() < 0.03 * truth.max()
    assert abs(found[seen].sum() / truth[seen].sum() - 1) < 0.01


def test_pixels_without_a_star_do_not_vary() -> None:
    offsets = offsets_of(np.array([[0.0, 1.0, 2.0]]), np.array([[0.0, 0.5, 0.0]]))[0]
    image = np.full((41, 41), 5.0)
    image[20, 20] = 50_000.0  # a hot pixel
    assert not variances(image, offsets).any()
    assert not variances(star(30.0, 30.0, peak=900.0), offsets).any()
    missing = star(30.0, 30.0)
    missing[30, 30] = np.nan
    found = variances(missing, offsets)
    assert found[30, 30] == 0.0
    assert np.isfinite(found).all()
    assert found.max() > 0


def test_a_variance_is_never_more_than_the_signal_squared() -> None:
    image = star(30.0, 30.0, sigma=0.8)  # far too sharp for so much motion
    found = variances(image, offsets_of(np.array([[-2.0, 0.0, 2.0]]), np.zeros((1, 3)))[0])
    assert found.max() > 0
    assert (found <= image**2).all()
    assert (found == image**2).any()


def test_imagettes_give_the_variance_of_the_core() -> None:
    draw = np.random.default_rng(5)
    exposures = draw.integers(600, 30_000, (2, 3, 20, 20))
    stacks = exposures.sum(axis=1)
    x0, y0 = np.array([4, 4, 5, 6, 6, 6]), np.array([7, 7, 7, 7, 7, 7])
    imagettes = np.stack(
        [
            e[y : y + 8, x : x + 8]
            for e, x, y in zip(exposures.reshape(6, 20, 20), x0, y0, strict=True)
        ]
    )
    stacks[1, 10, 10] += 5  # not the sum of these exposures
    imagettes[4, 1, 1] = 0  # no data
    out = np.empty((2, 8, 10))
    raw = Imagettes(words(imagettes), x0, y0)
    imagette_variances(words(stacks), np.array([0, 3]), raw, 3, 3, (4, 7), out)
    truth = exposures.var(axis=1)[:, 7:15, 4:14]
    known = np.zeros(out.shape, bool)
    known[0, :, 1:8], known[1, :, 2:10] = True, True
    known[1, 10 - 7, 10 - 4] = known[1, 1, 6 + 1 - 4] = False
    np.testing.assert_array_equal(np.isfinite(out), known)
    np.testing.assert_allclose(out[known], truth[known], rtol=1e-9)


def test_imagettes_come_before_the_motion() -> None:
    image, offsets = star(30.0, 30.0), offsets_of(np.array([[0.0, 1.0, 2.0]]), np.zeros((1, 3)))[0]
    core = np.full((3, 4), np.nan)
    core[1, 2] = 7.0
    out = np.empty(image.shape)
    stack_variances(image, offsets, core, (26, 28), 0.5, out)
    motion = variances(image, offsets)
    assert out[29, 28] == 7.0 / 0.25
    out[29, 28] = motion[29, 28]
    np.testing.assert_array_equal(out, motion)


def test_the_bend_of_the_curve_is_its_second_derivative() -> None:
    boundary = np.array([0.0, 1000.0, 5000.0])
    cubic = np.array(
        [[0.0, 1.0, 2e-6, 1e-10], [1010.0, 1.0, -3e-6, 2e-10], [5000.0, 1.0, 0.0, 0.0]]
    )
    assert [bend(v, boundary, cubic) for v in (-10.0, 500.0, 2000.0, 9000.0)] == pytest.approx(
        [0.0, 2 * 2e-6 + 6 * 1e-10 * 500, -2 * 3e-6 + 6 * 2e-10 * 1000, 0.0]
    )


@pytest.mark.parametrize("far", [61.0, 1e9, 1e30, -1e30, 1e308])
def test_motion_beyond_the_image_has_no_variance_and_no_index(far: float) -> None:
    signal, variance = star(30.0, 30.0), np.full((61, 61), -1.0)
    offsets = np.full((2, POINTS), np.nan)
    offsets[0, :2] = -far, far
    offsets[1, :2] = 0.0, 0.1
    motion_variances(signal, offsets, variance)
    assert (variance == 0.0).all()
