"""Fluxes of field stars: factors against drawings that are known, outliers, priors, and a
refusal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse

from schemas.arrays import FloatArray
from tasks.scene.field_fluxes import enter_fluxes, fit_factors

SIDE, SIGMA = 40, 5.0


def drawing(places: list[tuple[float, float]], flux: FloatArray) -> scipy.sparse.csc_matrix:
    """Return round stars of three pixels' sigma, a column each."""
    j, i = np.mgrid[:SIDE, :SIDE]
    stars = [np.exp(-((i - x) ** 2 + (j - y) ** 2) / 18.0) / (18.0 * np.pi) for x, y in places]
    return scipy.sparse.csc_matrix(
        np.stack([f * s.ravel() for f, s in zip(flux, stars, strict=True)], axis=1)
    )


def sample(
    truth: FloatArray, flux: FloatArray, images: int = 12, rays: bool = False
) -> tuple[list[FloatArray], list[scipy.sparse.csc_matrix]]:
    rng = np.random.default_rng(1)
    residuals, drawings = [], []
    for _ in range(images):
        shift = rng.uniform(-4, 4, (3, 2))
        places = (
            [(12 + a, 14 + b) for a, b in shift[:1]]
            + [(17 + a, 16 + b) for a, b in shift[1:2]]
            + [(30 + a, 30 + b) for a, b in shift[2:]]
        )
        stars = drawing(places, flux)
        image = stars @ truth + rng.normal(0, SIGMA, SIDE * SIDE)
        if rays:
            image[rng.choice(SIDE * SIDE, 8, replace=False)] += 2000.0
        residuals.append(image)
        drawings.append(stars)
    return residuals, drawings


@pytest.mark.parametrize("rays", [False, True], ids=["clean", "with cosmic rays"])
def test_factors_of_overlapping_stars_are_found(rays: bool) -> None:
    truth, flux = np.array([1.2, 0.9, 1.05]), np.array([2e4, 1e4, 5e3])
    residuals, drawings = sample(truth, flux, rays=rays)
    factors, errors = fit_factors(residuals, drawings, [np.full(SIDE * SIDE, SIGMA**2)] * 12, 0.3)
    # eight rays of 400 sigma in 1600 pixels, held to 3 sigma each, add their own scatter
    assert (np.abs(factors - truth) < (4 if not rays else 6) * errors).all()
    # a lone star: sigma / (F sqrt(12 sum p^2)) with sum p^2 = 1 / (4 pi 9); how much twelve images
    # disagree is known to a fifth
    formal = SIGMA / 5e3 / np.sqrt(12 / (36 * np.pi))
    assert 0.95 * formal < errors[2] < 1.6 * formal


def test_a_star_that_is_not_seen_keeps_the_flux_that_is_expected() -> None:
    residuals, drawings = sample(np.array([1.0, 1.0, 1.0]), np.array([2e4, 1e4, 1e-3]))
    factors, errors = fit_factors(residuals, drawings, [np.full(SIDE * SIDE, SIGMA**2)] * 12, 0.3)
    assert factors[2] == pytest.approx(1.0, abs=1e-3)
    assert errors[2] == pytest.approx(0.3, rel=1e-6)


def test_pixels_without_a_number_do_not_count() -> None:
    truth, flux = np.array([1.2, 0.9, 1.05]), np.array([2e4, 1e4, 5e3])
    residuals, drawings = sample(truth, flux)
    for image in residuals:
        image[::7] = np.nan
    factors, errors = fit_factors(residuals, drawings, [np.full(SIDE * SIDE, SIGMA**2)] * 12, 0.3)
    assert (np.abs(factors - truth) < 4 * errors).all()


def test_samples_of_different_length_are_refused() -> None:
    residuals, drawings = sample(np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="12 residuals, 12 drawings, 1 variances"):
        fit_factors(residuals, drawings, [np.ones(SIDE * SIDE)], 0.3)


def test_errors_include_stars_missing_from_the_model() -> None:
    # a star beside the first one, as faint as the error of its flux would be, that comes and goes
    truth, flux = np.array([1.0, 1.0, 1.0]), np.array([2e4, 1e4, 5e3])
    rng = np.random.default_rng(2)
    pulls = []
    for _ in range(20):
        residuals, drawings = sample(truth, flux)
        for image, stars in zip(residuals, drawings, strict=True):
            image += rng.normal() * 0.2 * np.roll(stars[:, [0]].toarray().ravel(), 2)
        factors, errors = fit_factors(
            residuals, drawings, [np.full(SIDE * SIDE, SIGMA**2)] * 12, 0.3
        )
        pulls.append((factors[0] - 1.0) / errors[0])
    # with the variances alone pulls scatter by 23; an rms of 20 is known to 0.16, how 12 images
    # disagree to 0.2
    assert np.sqrt(np.mean(np.square(pulls))) < 1.6


def test_unmeasured_stars_have_the_usual_factor_of_their_colour() -> None:
    """Cool stars are 20 % brighter than the catalogue says, hot ones are not, one is unlike any."""
    teff = np.array([5000.0, *[3850.0] * 8, *[6500.0] * 6, 12000.0])
    table: dict[str, Any] = {
        "T_EFF": teff,
        "FLUX": np.full(16, 1000.0),
        "FLUXERR": np.full(16, 100.0),
        "TARGET": np.arange(16) == 0,
    }
    rows = np.array([1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13])
    factors = np.array([1.18, 1.19, 1.2, 1.21, 1.22, 3.0, 0.99, 1.0, 1.0, 1.01, 1.0])
    # a star that is known to 20 % only has no say
    errors = np.where(factors > 2, 0.2, 0.01)
    used = enter_fluxes(table, rows, factors, errors)
    assert used["STAR_FIT"] == len(rows)
    np.testing.assert_allclose(table["FLUX"][rows], 1000.0 * factors)
    np.testing.assert_allclose(table["FLUXERR"][rows], 1000.0 * errors)
    assert table["FLUX"][[7, 8, 14]].tolist() == [1200.0, 1200.0, 1000.0]
    # scatters of 0.015 and 0: what is not measured is not known better than to 5 %
    assert table["FLUXERR"][[7, 8, 14]].tolist() == [50.0, 50.0, 50.0]
    assert (table["FLUX"][15], table["FLUXERR"][15]) == (1000.0, 100.0)  # too few alike
    assert (table["FLUX"][0], table["FLUXERR"][0]) == (1000.0, 100.0)  # the target
