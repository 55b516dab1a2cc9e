"""The target beside companions of any brightness: first look, PSF and fluxes."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

from schemas.arrays import FloatArray
from schemas.light_curves import DEFAULT_RADIUS
from schemas.settings import BackgroundSettings
from tasks.numerics.geometry import circle_overlap
from tasks.scene.blend import Blend
from tasks.scene.field_fluxes import fit_factors
from tasks.scene.look import Seen, separate
from tasks.scene.optics import motion_transfer, render, solve_changing_psf, to_grid, to_spectrum
from tasks.scene.star_model import Shape, Star
from tasks.scene.stars import Field
from tasks.scene.track import Track
from tests.support.lobed_star import SIZE, star

SHAPE = 200, 200
MINUTE = 60.0
TURN = 2.0  # deg a minute: half a turn of the field takes 90


def field(psf: FloatArray, track: Track, xi: float, flux: float) -> Field:
    one = np.ones(1)
    return Field(xi * one, 0 * one, flux * one, 60 * one, psf, 1.0, 0.0, track, 0.0)


def track_of(minutes: int) -> Track:
    """Return the track of a field that rotates about a resting target."""
    seconds = np.arange(0.0, minutes * MINUTE)
    still = np.zeros(seconds.size)
    return Track(seconds, still, still, seconds / MINUTE * TURN, 59000.0)


class Pictures:
    """Images of a blend, as the first look reads them."""

    nexp, exposure_time, shape, x_offset, y_offset = 1, MINUTE, SHAPE, 0, 0

    def __init__(self, blend: Blend, place: FloatArray, flux: float) -> None:
        self.mjd = 59000.0 + (np.arange(len(place)) + 0.5) * MINUTE / 86400.0
        factor = flux / float(blend.target.flux[0])
        self.pixels = np.array(
            [
                factor * (blend.target.image(*a) + blend.neighbours.image(*a))
                for a in ((SHAPE, *map(float, p), float(t), MINUTE) for p, t in self.all(place))
            ]
        )
        self.count = len(place)

    def all(self, place: FloatArray) -> list[tuple[FloatArray, float]]:
        return list(zip(place, self.mjd, strict=True))

    def blocks(self) -> list[tuple[slice, FloatArray]]:
        return [(slice(0, self.count), self.pixels.copy())]


@pytest.mark.parametrize(
    ("away", "share"), [(1.0, 1.0), (5.0, 1.0), (5.0, 6.3), (20.0, 6.3), (20.0, 0.01)]
)
def test_a_blend_is_divided_whatever_the_companion(away: float, share: float) -> None:
    psf = to_grid(to_spectrum(sampled()))
    track = track_of(12)
    blend = Blend(field(psf, track, 0.0, 1e6), field(psf, track, away, share * 1e6))
    places = np.array([[100.3, 99.6]]) + np.random.default_rng(1).normal(0, 0.3, (12, 2))
    images = Pictures(blend, places, 2.5e6)
    seen = first_centre(images)
    separate(blend, images, seen, BackgroundSettings())  # type: ignore[arg-type]
    # windows of the drawing and of the image differ by where they start
    assert np.abs(seen.places[:, :2] - places).max() < 0.02
    inside = circle_overlap(SHAPE, 100.3, 99.6, DEFAULT_RADIUS)
    own = float((blend.target.image(SHAPE, 100.3, 99.6, 59000.01, MINUTE) * inside).sum())
    # light beyond the ring's inner radius, which the ring takes for sky, is a part in a thousand
    np.testing.assert_allclose(seen.flux, 2.5 * own, rtol=2e-3 * (1 + share))


def sampled() -> FloatArray:
    """Return the star of three lobes on the fine grid, with its pixels."""
    images = [
        (star(SIZE / 2 + x, SIZE / 2 + y), motion_transfer(*places(x, y), SIZE), 1.0, 1.0, 0.0)
        for x in (0.0, 0.25, 0.5, 0.75)
        for y in (0.0, 0.25, 0.5, 0.75)
    ]
    return to_grid(solve_changing_psf(images, SIZE, 1e-6, None, None)[0])


def places(x: float, y: float) -> tuple[FloatArray, FloatArray]:
    return np.array([SIZE / 2 + x]), np.array([SIZE / 2 + y])


def first_centre(images: Pictures) -> Seen:
    """Return the centres of light of the blends."""
    from tasks.scene.light import centre_of_light

    n = images.count
    seen = Seen(
        (np.full(n, 100.0), np.full(n, 100.0)), np.zeros((n, 4)), np.zeros((n, 5)), np.zeros(n)
    )
    seen.places[:, :2] = 100.0
    for radius in (40.0, 25.0):
        x, y = seen.places[:, 0], seen.places[:, 1]
        centre_of_light(images.pixels, x, y, radius, 10, np.ones(n), seen.places)
    return seen


@pytest.mark.parametrize(("away", "share"), [(5.0, 1.0), (15.0, 6.3)])
def test_a_psf_is_found_beside_a_companion_in_the_model(away: float, share: float) -> None:
    rng = np.random.default_rng(2)
    stars = []
    for k in range(40):
        x, y = SIZE / 2 + rng.uniform(-0.6, 0.6, 2)
        angle = np.radians(3.0 * k)
        dx, dy = away * np.cos(angle), away * np.sin(angle)
        image = 1e6 * (star(x, y) + share * star(x + dx, y + dy))
        alone = Star(image + rng.normal(0, np.sqrt(image + 100)), 100.0, x, y, 1e6, still())
        alone.join(share * motion_transfer(np.array([dx]), np.array([dy]), SIZE))
        stars.append(alone)
    images = ((s.stamp, s.transfer(SIZE), s.flux, 1.0, 0.0) for s in stars)
    psf, _ = solve_changing_psf(images, SIZE, 1e-4, None, None)
    lone = render(psf, motion_transfer(*places(0.3, -0.2), SIZE))
    truth = star(SIZE / 2 + 0.3, SIZE / 2 - 0.2)
    # photons of all stars, at most doubled as four frequencies are separated
    noise = np.sqrt(((1 + share) * 1e6 + 100 * SIZE**2) / 40) / 1e6
    assert np.sqrt(((lone - truth) ** 2).sum()) < 2 * noise
    # the fit moves the star with its companion, and returns the flux of the star alone
    stars[3].flux = 0.9e6
    for _ in range(3):
        stars[3].refine(Shape(psf), np.ones((SIZE, SIZE)), np.ones((SIZE, SIZE), bool))
    # five times the noise of the photons within the stamp
    assert stars[3].flux == pytest.approx(1e6, rel=5 * np.sqrt(1 + share) * 1e-3)


def still() -> tuple[FloatArray, FloatArray]:
    return np.zeros(1), np.zeros(1)


def test_the_flux_of_a_companion_is_fitted_together_with_the_target() -> None:
    rng, truth, away = np.random.default_rng(3), 1.2, 5.0
    drawings, residuals, variances, slopes = [], [], [], []
    for k in range(20):
        angle = np.radians(6.0 * k)
        x, y = SIZE / 2 + rng.uniform(-0.5, 0.5, 2)
        target, h = 1e6 * star(x, y), 1e-3
        companion = 1e6 * star(x + away * np.cos(angle), y + away * np.sin(angle))
        image = target + truth * companion
        variances.append((image + 100.0).ravel())
        # the target was fitted to an image from which the companion as expected was subtracted, and
        # has absorbed a part of the rest, with a shift
        absorbed = 1.11e6 * star(x + 0.2 * np.cos(angle), y + 0.2 * np.sin(angle))
        residuals.append((image + rng.normal(0, np.sqrt(image)) - absorbed).ravel())
        drawings.append(scipy.sparse.csc_matrix(companion.reshape(-1, 1)))
        parts = [
            (star(x + h * a, y + h * b) - star(x - h * a, y - h * b)) / (2 * h)
            for a, b in ((1, 0), (0, 1))
        ]
        slopes.append(np.array([p.ravel() for p in (target / 1e6, *parts, np.ones_like(target))]).T)
    known = drawings, variances, 0.3
    alone, _ = fit_factors(residuals, *known)
    assert abs(alone[0] - truth) > 0.05
    factors, errors = fit_factors(residuals, *known, target=slopes)
    # a shift by a fifth of a pixel is not quite linear
    assert abs(factors[0] - truth) < 5e-3
    _, honest = fit_factors(residuals, *known, target=slopes, model_error=np.array([0.003]))
    assert 1.0 < np.sqrt(honest[0] ** 2 - errors[0] ** 2) / 0.003 < 3.0
