"""Which light curve becomes OPTIMAL."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.arrays import FloatArray
from schemas.errors import ConfigurationError
from schemas.light_curves import DEFAULT_RADIUS, RADII, Way
from schemas.requests import make_settings
from schemas.settings import OptimalSettings
from tasks.photometry.optimal import Candidate, choose, list_candidates, measure

N = 600
MJD = 60000.0 + np.arange(N) / 1440.0
GOOD = np.ones(N, dtype=bool)
USUAL = OptimalSettings()


def curves(
    noise: dict[tuple[Way, float], float],
    signal: FloatArray | None = None,
    settings: OptimalSettings = USUAL,
) -> list[Candidate]:
    """Return all candidates with common photon noise of 100 ppm, a signal, and noise of their own.

    Candidates that `noise` [ppm] leaves out have 300 ppm of their own.
    """
    rng = np.random.default_rng(3)
    common = 1.0 + rng.normal(0, 1e-4, N) + (0.0 if signal is None else signal)
    plain, corrected = (
        np.stack(
            [common + rng.normal(0, 1e-6 * noise.get((way, r), 300.0), N) for r in RADII], axis=1
        )
        for way in (Way.CIRCLE, Way.CORRECTED)
    )
    own = noise.get((Way.PSF, DEFAULT_RADIUS), 300.0)
    psf = 1e6 * (common + rng.normal(0, 1e-6 * own, N)), np.full(N, 100.0)
    error = np.full(plain.shape, 100.0)
    return list_candidates(1e6 * plain, 1e6 * corrected, error, np.zeros_like(error), psf, settings)


def chosen(candidates: list[Candidate]) -> tuple[Way, float]:
    """Return way and radius of the best."""
    best = choose(candidates, MJD, GOOD).best
    return best.way, best.radius


AROUND_28 = {(Way.CORRECTED, r): 30.0 for r in (27.0, 28.0, 29.0)}


@pytest.mark.parametrize(
    ("noise", "wanted"),
    [
        (AROUND_28, (Way.CORRECTED, 28.0)),
        ({(Way.CIRCLE, r): 30.0 for r in (28.0, 29.0, 30.0)}, (Way.CIRCLE, 29.0)),
        ({(Way.PSF, 25.0): 30.0}, (Way.PSF, 25.0)),
        # a single quiet radius among noisy ones is chance
        ({(Way.CORRECTED, 20.0): 10.0, **AROUND_28}, (Way.CORRECTED, 28.0)),
    ],
)
def test_the_quietest_is_chosen(
    noise: dict[tuple[Way, float], float], wanted: tuple[Way, float]
) -> None:
    assert chosen(curves(noise)) == wanted


def test_the_circle_of_default_is_never_quieter_than_the_best() -> None:
    noise = {(Way.CIRCLE, 25.0): 0.0, **AROUND_28}
    assert chosen(curves(noise)) == (Way.CIRCLE, 25.0)


def test_transits_trends_and_outliers_do_not_decide() -> None:
    """Neither a transit of 5000 ppm nor a trend of 2000 nor wild points change the noise."""
    hours = 24.0 * (MJD - MJD.mean())
    signal = -5e-3 * (np.abs(hours) < 1.0) + 2e-3 * hours / np.ptp(hours)
    quiet = choose(curves(AROUND_28), MJD, GOOD)
    changed = curves(AROUND_28, signal)
    for one in changed:
        one.alone[::100] *= 1.05
    seen = choose(changed, MJD, GOOD)
    assert seen.best[:2] == quiet.best[:2]
    # the two edges of the transit are smoothed away over less than an hour of the ten
    np.testing.assert_allclose(seen.noise, quiet.noise, rtol=0.1)


def test_noise_is_measured_in_white_noise() -> None:
    """The error of a standard deviation of N points is 3 %; 5 sigma."""
    rng = np.random.default_rng(5)
    flux = 1.0 + np.array([[1e-4], [3e-4]]) * rng.normal(size=(2, N))
    np.testing.assert_allclose(measure(flux, np.zeros(2, bool), MJD), [1e-4, 3e-4], rtol=0.15)


def test_errors_that_all_circles_share_are_seen_by_the_psf() -> None:
    """Light of field stars changes all circles with the roll; there are 34 of them, and one PSF."""
    rolled = 2e-4 * np.sin(2 * np.pi * (MJD - MJD[0]) * 24 / 1.65)
    candidates = curves({(Way.PSF, 25.0): 80.0, **dict.fromkeys(AROUND_28, 0.0)})
    assert chosen(candidates)[0] is Way.CORRECTED
    for one in candidates[:-1]:
        one.alone[:] *= 1.0 + rolled
    assert chosen(candidates) == (Way.PSF, 25.0)


def test_field_stars_are_taken_out_before_noise_is_compared() -> None:
    candidates = curves(AROUND_28)
    flux = np.stack([c.flux for c in candidates if c.way is Way.CIRCLE], axis=1)
    assert flux.shape[1] == sum(22.0 <= r <= 35.0 for r in RADII)
    ratio = np.broadcast_to(0.05 * np.sin(np.arange(N))[:, None], (N, len(RADII)))
    clean = np.full((N, len(RADII)), 1e6)
    none = np.full(N, np.nan)
    for one in list_candidates(
        clean * (1.0 + ratio), clean, clean, ratio, (none, none), OptimalSettings()
    ):
        if one.way is Way.CIRCLE:
            np.testing.assert_allclose(one.alone, 1e6)


def test_few_points_are_measured_by_the_circle_of_least_formal_error() -> None:
    candidates = curves(AROUND_28)
    for one in candidates:
        one.error[:] = 100.0 + abs(one.radius - 31.0)
    best, noise = choose(candidates, MJD, np.arange(N) < 5)
    assert (best.way, best.radius) == (Way.CIRCLE, 31.0)
    assert np.isnan(noise).all()


def test_a_light_curve_of_few_points_is_no_candidate() -> None:
    candidates = curves({(Way.PSF, 25.0): 0.0, **AROUND_28})
    candidates[-1].alone[: N // 2] = np.nan
    best, noise = choose(candidates, MJD, GOOD)
    assert best.way is Way.CORRECTED
    assert np.isnan(noise[-1])


def test_settings_limit_the_radii() -> None:
    noise = {**AROUND_28, (Way.CIRCLE, 20.0): 60.0, (Way.PSF, 25.0): 5.0}
    only_20 = OptimalSettings(smallest=20, corrected=40, largest=20, psf=False)
    assert chosen(curves(noise, settings=only_20)) == (Way.CIRCLE, 20.0)
    no_psf = OptimalSettings(psf=False)
    assert chosen(curves(noise, settings=no_psf)) == (Way.CORRECTED, 28.0)
    assert chosen(curves(noise)) == (Way.PSF, 25.0)


@pytest.mark.parametrize("limits", [(30, 20), (20.2, 20.8)])
def test_limits_without_a_circle_are_rejected(limits: tuple[float, float]) -> None:
    with pytest.raises(ConfigurationError, match=r"no circle has a radius from .* the radii are"):
        make_settings({"optimal": dict(zip(("smallest", "largest"), limits, strict=True))})
