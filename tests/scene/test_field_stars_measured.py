"""Measured fluxes of field stars in a sample of images of a rotating, crowded field."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from tasks.scene.field_fluxes import fit_fluxes, passing_by, take_sample
from tasks.scene.stars import Field, light_radius
from tasks.scene.track import Track

SHAPE, IMAGES, MINUTE, NOISE = (120, 120), 16, 60.0, 8.0


def test_stars_too_faint_to_be_measured_are_subtracted_first() -> None:
    rng = np.random.default_rng(1)
    seconds = np.arange(0.0, IMAGES * MINUTE)
    roll = 360.0 * seconds / seconds[-1]
    still = np.zeros(seconds.size)
    track = Track(seconds, still, still, roll, 59000.0)
    j, i = np.mgrid[-48:48, -48:48] / 2.0
    psf = np.exp(-(i**2 + j**2) / 72.0)
    psf /= psf.sum()
    xi, eta = rng.uniform(-55, 55, (2, 203))
    flux = np.concatenate([[4e5, 3e5, 2e5], np.full(200, 2e4)])
    field = Field(xi, eta, flux, light_radius(flux, psf), psf, 1.0, 0.0, track, 0.0)
    middle = 59000.0 + (np.arange(IMAGES) + 0.5) * MINUTE / 86400.0
    place = np.full(IMAGES, 60.0)
    truth = np.array([1.1, 0.9, 1.0])

    def seen(k: int) -> np.ndarray:
        real = Field(
            xi,
            eta,
            flux * np.concatenate([truth, np.ones(200)]),
            field.radius,
            psf,
            1.0,
            0.0,
            track,
            0.0,
        )
        return np.asarray(
            real.image(SHAPE, 60.0, 60.0, float(middle[k]), MINUTE) + rng.normal(0, NOISE, SHAPE)
        )

    images = SimpleNamespace(shape=SHAPE, mjd=middle, nexp=1, exposure_time=MINUTE)
    rest: Any = SimpleNamespace(
        images=images,
        x=place,
        y=place,
        span=MINUTE,
        floor=np.full(IMAGES, NOISE**2),
        flux=np.ones(IMAGES),
        companions=np.zeros(0, np.int64),
        taken_apart=lambda k: (
            seen(k),
            field.image(SHAPE, 60.0, 60.0, float(middle[k]), MINUTE),
        ),
        target_with_slopes=lambda _i, image, _field: (
            np.zeros(image.shape),
            np.zeros((3, *image.shape)),
        ),
    )
    turned = np.interp((np.arange(IMAGES) + 0.5) * MINUTE, seconds, roll)
    sample = take_sample(rest, field, np.arange(3), np.arange(IMAGES))
    factors, errors = fit_fluxes(sample, passing_by(rest, np.arange(IMAGES), turned, 45.0), 0.3)
    # the faint ones have ten times the light of the brightest: unsubtracted, they bias factors by
    # tenths
    np.testing.assert_allclose(factors, truth, atol=0.02)  # 0.25 then; noise alone gives 0.001
    # the errors cover what the fit of the level leaves of the faint ones
    assert (np.abs(factors - truth) < 3 * errors).all()
