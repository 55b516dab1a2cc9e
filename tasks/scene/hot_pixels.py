"""The PSF of a visit whose CCD has hot pixels as bright as the star.

Steady hot pixels that the dark frame lacks and a star that hardly moves look alike to a fit of the
PSF. But hot pixels have no neighbours of their kind, and the reference PSF is right to some per
cent: with it as the beginning, pixels far above model and surroundings are left out, the PSF is
solved for without them, and with the better PSF fainter ones are found. In the end each keeps its
light of the star: its median residual is subtracted from all images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.arrays import BoolArray, ComplexArray, FloatArray
from schemas.settings import PsfSettings
from tasks.numerics.robust import median_of_known
from tasks.numerics.squares import median_of_squares
from tasks.scene.psf import Others, alternate
from tasks.scene.star_model import Shape, Stamps, Star, StarModel, Warmth, circle

SIGMA = 3.0  # of a pixel's median residual; fainter ones are not hot

# of the model's light, by round: what a pixel must exceed besides. The model is wrong by that much,
# and strict limits in the first round would destroy the PSF
LIMITS = (0.5, 0.2, 0.1, 0.05, 0.04, 0.03)

PLACINGS = 4  # fits of the stars with the reference PSF, each with new hot pixels

SQUARE = 5  # pixel; side of the surroundings

# of the star's light within the fitted pixels; hot pixels that add more spoil a PSF that does not
# know of them
HARMFUL = 0.01


@dataclass(frozen=True)
class Hot:
    """Hot pixels of the stamps of a sample, shape (ny, nx)."""

    excess: FloatArray  # median residual of the hot ones, 0 elsewhere [electron]
    share: float  # sum within the fitted pixels, over the star's light

    @property
    def pixels(self) -> BoolArray:
        """Which pixels are hot."""
        return np.asarray(self.excess > 0)


def find_hot(stars: list[Star], psf: Shape, inside: BoolArray, limit: float) -> Hot:
    """Find pixels that are hot in all images of a sample.

    Parameters
    ----------
    stars : list of Star
        The target in some images, with stamps that hold the hot pixels.
    psf : Shape
        Its PSF.
    inside : ndarray of bool, shape (ny, nx)
        Pixels that are fitted.
    limit : float
        Share of the model's light that is exceeded by hot pixels.
    """
    models = np.array([s.drawn(psf) for s in stars])
    stamps = np.array([s.stamp - s.level for s in stars])
    median = median_of_known((stamps - models).astype(np.float32)).astype(np.float64)
    median = np.where(np.isfinite(median), median, 0.0)
    light, floor = np.maximum(models.mean(axis=0), 0.0), float(np.median([s.floor for s in stars]))
    around = median_of_squares(median, SQUARE)
    above = median - around
    error = 1.2533 * np.sqrt((light + floor + np.maximum(median, 0.0)) / len(stars))
    excess = np.where(above > SIGMA * error + limit * light, above, 0.0)
    flux = float(np.median([s.flux for s in stars]))
    return Hot(excess, float(excess[inside].sum()) / flux if flux > 0 else 0.0)


def hide(stars: list[Star], stamps: list[FloatArray], hot: Hot | None = None) -> None:
    """Give the stars their stamps, without the pixels that are hot."""
    for star, stamp in zip(stars, stamps, strict=True):
        star.stamp = stamp if hot is None else np.where(hot.pixels, np.nan, stamp)


def is_harmed(
    stars: list[Star], prior: ComplexArray, middle: tuple[float, float], radius: float
) -> bool:
    """Return whether hot pixels spoil a fit of the PSF; parameters are those of `alternate`."""
    inside = circle(stars[0].stamp.shape[0], *middle, radius)
    return find_hot(stars, Shape(prior), inside, LIMITS[0]).share > HARMFUL


def alternate_without_hot(
    stars: list[Star],
    middle: tuple[float, float],
    settings: PsfSettings,
    prior: ComplexArray,
    others: Others | None,
) -> tuple[Shape, FloatArray, int]:
    """Alternate between hot pixels, the PSF, and the stars' fluxes and places.

    Parameters and results are those of `alternate`. The PSF does not change with temperature: hot
    pixels change with it, too, and the flux would follow.
    """
    size = stars[0].stamp.shape[0]
    inside, flat = circle(size, *middle, settings.radius), np.ones((size, size))
    once, psf, scale = settings.model_copy(update={"rounds": 2}), Shape(prior), flat
    seen = [s.stamp for s in stars]

    def model() -> StarModel:
        return StarModel(psf, Warmth(0.0, 0.0), Stamps((0, 0), size), scale, 0.0, settings.radius)

    # the first look takes the light of hot pixels for the star's
    for _ in range(PLACINGS):
        hide(stars, seen, find_hot(stars, psf, inside, LIMITS[0]))
        for star in stars:
            model().fit(star)
        hide(stars, seen)
    for limit in LIMITS:
        hide(stars, seen, find_hot(stars, psf, inside, limit))
        psf, scale, _ = alternate(stars, middle, once, prior, model(), False, None)
        hide(stars, seen)
    hot = find_hot(stars, psf, inside, LIMITS[-1])
    for star in stars:
        star.stamp = star.stamp - hot.excess
        star.others = hot.excess
        if star.raw is not None:
            star.raw = star.raw - hot.excess
    begin = model()
    psf, scale, _ = alternate(stars, middle, settings, prior, begin, False, others)
    return psf, scale, len(LIMITS) + settings.rounds // 2
