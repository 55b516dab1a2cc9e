"""Tests of the far wings of the PSF."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from schemas.arrays import FloatArray
from tasks.scene.far_wings import far_field, with_far_wings
from tasks.scene.optics import FINE
from tasks.scene.stars import Field
from tasks.scene.track import Track

SIZE, SMALL = 200, 128  # pixels of the reference, and of the stamp of the visit


def rings(size: int) -> FloatArray:
    """Return the distance of the samples of a fine grid from its centre [pixel]."""
    samples = np.arange(FINE * size) - size
    return np.asarray(np.hypot(samples[:, None], samples) / FINE)


def true_psf() -> FloatArray:
    """Return a PSF on the fine grid with wings beyond the stamp of a visit, sum 1."""
    away = rings(SIZE)
    wide = 0.05 * np.exp(-(away**2) / (2 * 22.0**2)) + 0.01 / (1 + (away / 20) ** 2)
    psf = np.exp(-(away**2) / (2 * 5.0**2)) + wide
    return np.asarray(psf / psf.sum())


def by_pixels(psf: FloatArray, concentration: float = 0.0) -> FloatArray:
    """Return a PSF as the reference file has it: by whole pixels, with more light in the core."""
    away = rings(SIZE)
    core = np.exp(-(away**2) / (2 * 4.0**2))
    # the pixels that are centred on even samples of the fine grid
    return np.asarray(FINE**2 * (psf + concentration * core / core.sum())[::FINE, ::FINE])


def of_visit(psf: FloatArray) -> FloatArray:
    """Return what the images of a visit show of a PSF: without a pedestal and far wings, sum 1."""
    inner = slice(SIZE - SMALL, SIZE + SMALL)
    seen = psf[inner, inner] - 2e-3 / (np.pi * (25.0 * FINE) ** 2)
    return np.asarray(seen / seen.sum())


@pytest.mark.parametrize("concentration", [0.0, 0.02])
def test_far_wings_are_those_of_the_reference(concentration: float) -> None:
    """A reference of another temperature or colour has more light in the core."""
    truth, away = true_psf(), rings(SIZE)
    visit = of_visit(truth)
    whole = with_far_wings(visit, by_pixels(truth, concentration))
    assert whole.shape == truth.shape
    core = away < 24  # the centre of light of the plane is known to a hundredth of a pixel
    np.testing.assert_allclose(whole[core], visit[rings(SMALL) < 24], rtol=1e-12)
    unit = truth[core].sum() / whole[core].sum()
    # what the reference has more within 25 pixels, relative to the light there; the pedestal
    error = concentration / truth[core].sum() + 3e-3
    for inside, outside in ((36, 45), (45, 60), (60, 80), (80, 98)):
        ring = (away > inside) & (away < outside)
        assert unit * whole[ring].sum() == pytest.approx(truth[ring].sum(), rel=error)
    assert not whole[away >= SIZE / 2].any()


@pytest.mark.parametrize("concentration", [1.0, 1e6, -2.0])
def test_wings_of_another_telescope_are_not_used(concentration: float) -> None:
    truth = true_psf()
    visit = of_visit(truth)
    assert with_far_wings(visit, by_pixels(truth, concentration)) is visit


@pytest.mark.parametrize(
    "plane", [None, np.zeros((1, 1)), np.zeros((SIZE, SIZE)), np.ones((SMALL, SMALL))]
)
def test_a_reference_that_is_dark_or_no_larger_is_not_used(plane: Any) -> None:
    visit = of_visit(true_psf())
    assert with_far_wings(visit, plane) is visit


def test_stars_are_drawn_to_the_end_of_the_far_wings() -> None:
    truth = true_psf()
    track = Track(np.array([-60.0, 60.0]), *np.zeros((3, 2)), 0.0)
    faint = Field(
        *np.zeros((2, 1)), np.array([1e4]), np.array([20.0]), of_visit(truth), 1.0, 0.0, track, 0.0
    )
    far = far_field(faint, by_pixels(truth))
    before, after = (f.image((190, 190), 95.0, 95.0, 0.0, 10.0) for f in (faint, far))
    assert before[95, 95 + 60] == 0.0
    # pixels 94 and 95 are centred half a pixel, or a sample, before and behind the star; a pedestal
    # of 0.2 % within 25 pixels is missing in the core
    expected = truth[SIZE + 1, SIZE + 2 * 60 + 1] / truth[SIZE - 1, SIZE - 1]
    assert after[95, 95 + 60] / after[94, 94] == pytest.approx(expected, rel=3e-3)
