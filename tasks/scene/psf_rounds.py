"""The two rounds of the visit's PSF.

The first round uses a sample of calibrated images without background. Catalogued neighbours, which
rotate about the target, are subtracted: they are drawn with the reference PSF at first and with the
latest PSF afterwards, and their fluxes are fitted each time. The second round uses the same images
without anything but the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import scipy.sparse

from schemas.arrays import BoolArray, Complex64Array, ComplexArray, FloatArray, IntArray
from schemas.light_curves import DEFAULT_RADIUS
from schemas.payloads import (
    Background,
    FirstScene,
    Product,
    Psf,
    ReadOut,
    Removed,
    Scene,
)
from schemas.settings import PsfSettings
from tasks.engine.step import Leaves, step
from tasks.numerics.sample import spread_evenly
from tasks.scene.field_fluxes import fit_factors
from tasks.scene.hot_pixels import alternate_without_hot, is_harmed
from tasks.scene.optics import Shift, render, to_grid, to_spectrum
from tasks.scene.prior import read_catalogue_stars, read_reference_psf
from tasks.scene.psf import (
    WORST_LAG_ERROR,
    Others,
    adopt,
    alternate,
    doubts,
    pixel_floor,
    point_source,
    psf_leaves,
    reference_psf,
    weigh,
)
from tasks.scene.residuals import Residuals, Target, hide_core
from tasks.scene.star_model import (
    Shape,
    Stamps,
    Star,
    circle,
    read_psf,
    stamps_around,
    telescope_temperature,
    unlike,
)
from tasks.scene.stars import Field, light_radius, light_within, neighbours
from tasks.scene.track import Track, estimate_lag, read_track
from tasks.visit.clean import read_effects
from tasks.visit.images import Images, open_images
from tasks.visit.terms import LookTerm, read_background, read_image_flags, read_look

BRIGHTEST = 8  # neighbours whose fluxes are fitted; others keep their catalogue fluxes

SHARED = 32  # images in which they are fitted


@dataclass(frozen=True)
class Sample:
    """The target in the sampled images."""

    stars: list[Star]
    where: Stamps
    mjd: FloatArray  # mid-times of the images
    span: float  # of an image [s]


def sampled_images(look: LookTerm) -> IntArray:
    """Return the indices of the sampled images in which the target is seen."""
    seen = np.isfinite(look.x) & np.isfinite(look.y) & np.isfinite(look.flux)
    return np.flatnonzero(look.sampled & seen)


def cut_stars(
    residuals: Residuals, chosen: IntArray, where: Stamps, lag: float, warmth: FloatArray
) -> Sample:
    """Cut stamps of the target from some images, without known effects and field stars.

    Companions stay, as part of the model: without an exact PSF they cannot be subtracted.
    """
    stars = []
    for i in map(int, chosen):
        x, y = where.index(float(residuals.x[i]), float(residuals.y[i]))
        motion = residuals.track.during(float(residuals.images.mjd[i]), residuals.span, lag)
        star = Star(
            where.cut(residuals.cleaned(i) - residuals.far_field(i)),
            float(residuals.floor[i]),
            x,
            y,
            float(residuals.flux[i]),
            motion,
            float(warmth[i]),
        )
        if (blind := residuals.blind(i, residuals.images.take(i))) is not None:
            star.saturated = where.cut(blind.astype(np.float64)) == 1
        if len(residuals.companions) and star.flux > 0:
            residuals.join(i, star)
        stars.append(star)
    return Sample(stars, where, residuals.images.mjd[chosen], residuals.span)


@step("psf_1", version="17", payload=Psf, leaves=["TERM_PSF_1"])
def estimate_psf_1(
    calibrated: Product,
    first: FirstScene,
    background: Background,
    readout: ReadOut,
    settings: PsfSettings,
    catalogue_error: float,
) -> Leaves:
    """Estimate the super-resolved PSF of the visit from a sample of its images.

    `catalogue_error` is the relative error of the fluxes that the catalogue gives.
    """
    look, track = read_look(first.look), read_track(first.pointing)
    warnings: list[str] = []
    with open_images(calibrated) as images:
        known = read_image_flags(first.pointing) == 0
        lag, lag_error = first_lag(track, images, look, known, settings, warnings)
        floor = pixel_floor(background, readout, images.nexp)
        target = Target(look.x, look.y, look.flux, floor)
        residuals = Residuals(images, track, target, read_effects(images, background))
        residuals.note_saturation(look)
        chosen = sampled_images(look)
        middle = usual_place(residuals, chosen)
        warm = telescope_temperature(images, chosen, warnings)
        where = stamps_around(*middle, settings.size)
        sample = cut_stars(residuals, chosen, where, lag, warm.parameter(images))
    count = int(np.count_nonzero(weigh(sample.stars)))
    if count < settings.fewest:
        warnings.append(f"only {count} images show the star clearly: the PSF is not super-resolved")
    solved = Solved(*no_psf(settings.size))
    if sample.stars:
        prior = reference_psf(read_reference_psf(first.prior), settings.size)
        others = None
        field = nearby_stars(first, sample, prior, track, lag) if prior is not None else None
        if prior is not None and field is not None:
            others = Neighbours(sample, field, float(background.used["RING_IN"]), catalogue_error)
            others(Shape(prior))
        place, breathing = where.index(*middle), warm.spread > 0
        # pixels of a star that saturate are no hot ones
        clear = residuals.limit is None or not hide_core(np.isfinite(residuals.limit), *middle)
        if prior is not None and clear and is_harmed(sample.stars, prior, place, settings.radius):
            solved = solve_without_hot(sample.stars, place, settings, prior, others)
            warnings.append(
                "hot pixels that the dark frame lacks are as bright as the star: the PSF is solved "
                "for without them, and does not change with temperature"
            )
        else:
            solved = Solved(
                *alternate(sample.stars, place, settings, prior, None, breathing, others)
            )
        if prior is not None and (doubt := doubts(solved.psf, prior, sample.stars)):
            warnings.append(f"{doubt}: the PSF is that of the reference")
            psf, scale, rounds = adopt(prior, sample.stars, place, settings.radius)
            solved = solved._replace(psf=psf, scale=scale, rounds=rounds, breathes=False)
        if others is not None and settings.lag is None:
            lag, lag_error = lag_again(track, sample, (lag, lag_error))
    used = {
        "PSF_TEMP": warm.middle,
        "PSF_TSTD": warm.spread if solved.breathes else 0.0,
        "PSF_LAG": lag,
        "PSF_LAGE": min(lag_error, 99.0),
        "PSF_N": count,
        "PSF_ITER": solved.rounds,
        "PSF_DX": solved.moved[0],
        "PSF_DY": solved.moved[1],
        "PSF_LIT": solved.moved[2],
        "PSF_EXC": float(np.median(solved.scale)),
    }
    return psf_leaves("TERM_PSF_1", solved.psf, solved.scale, where, used, warnings)


class Solved(NamedTuple):
    """The PSF of the first round."""

    psf: Shape
    scale: FloatArray  # scatter of each pixel about it, in units of the noise
    rounds: int  # 0: the PSF is that of the reference, or none
    moved: tuple[float, float, float] = (0.0, 0.0, 1.0)  # see `correction`
    breathes: bool = True  # whether it may change with the telescope's temperature


def solve_without_hot(
    stars: list[Star],
    middle: tuple[float, float],
    settings: PsfSettings,
    prior: ComplexArray,
    others: Others | None,
) -> Solved:
    """Solve for the PSF without hot pixels; parameters are those of `alternate`."""
    before = places_and_fluxes(stars)
    psf, scale, rounds = alternate_without_hot(stars, middle, settings, prior, others)
    moved = correction(before, places_and_fluxes(stars), psf)
    return Solved(psf, scale, rounds, moved, False)


def places_and_fluxes(stars: list[Star]) -> FloatArray:
    """Return places x, y and fluxes of stars, shape (n, 3)."""
    return np.array([(s.x, s.y, s.flux) for s in stars])


def correction(before: FloatArray, after: FloatArray, psf: Shape) -> tuple[float, float, float]:
    """Return what corrects the first look: shifts along x and y [pixel], and a factor of the light.

    `before` holds places and light within the default aperture, `after` those of a fit.
    """
    x, y = np.median(after[:, :2] - before[:, :2], axis=0)
    within = light_within(to_grid(psf.mean), DEFAULT_RADIUS)
    light = float(np.median(after[:, 2] * within / np.maximum(before[:, 2], 1.0)))
    return float(x), float(y), light if light > 0 else 1.0


def first_lag(
    track: Track,
    images: Images,
    look: LookTerm,
    known: BoolArray,
    settings: PsfSettings,
    warnings: list[str],
) -> tuple[float, float]:
    """Return the lag of the attitude and its error [s]: as set, as estimated, or 0.

    Only images are used whose motion is `known`.
    """
    seen = np.isfinite(look.x) & np.isfinite(look.y) & np.isfinite(look.flux) & known
    duration = track.span(images.nexp, images.exposure_time)
    lag, error = estimate_lag(track, images.mjd[seen], duration, look.x[seen], look.y[seen])
    if settings.lag is not None:
        return settings.lag, 0.0
    if error > WORST_LAG_ERROR:
        warnings.append(
            "the lag of the attitude cannot be measured in so few or so steady images: 0 s is used"
        )
        return 0.0, error
    return lag, error


def lag_again(track: Track, sample: Sample, first: tuple[float, float]) -> tuple[float, float]:
    """Return the lag from the fitted places, and its error [s]; the `first` one if that is better.

    Unlike the places of the first look, the fitted ones do not follow the attitude.
    """
    x, y = np.array([(s.x, s.y) for s in sample.stars]).T
    lag, error = estimate_lag(track, sample.mjd, sample.span, x, y)
    return (lag, error) if error <= WORST_LAG_ERROR else first


def usual_place(residuals: Residuals, chosen: IntArray) -> tuple[float, float]:
    """Return the median place of the target in some images [pixel]; (0, 0) without images."""
    if not len(chosen):
        return 0.0, 0.0
    return float(np.median(residuals.x[chosen])), float(np.median(residuals.y[chosen]))


def no_psf(size: int) -> tuple[Shape, FloatArray, int]:
    """Return a PSF without extent for stamps of `size` pixels, its scatter, and 0 rounds."""
    return Shape(to_spectrum(point_source(size))), np.ones((size,) * 2), 0


def nearby_stars(
    first: FirstScene, sample: Sample, prior: ComplexArray, track: Track, lag: float
) -> Field | None:
    """Return the target's neighbours, to be drawn with the reference PSF, or None without any."""
    usual = float(np.median([s.flux for s in sample.stars]))
    scale = float(first.pointing.used["PIX_SCAL"])
    return neighbours(read_catalogue_stars(first.prior), prior, usual, scale, track, lag)


class Neighbours:
    """Subtracts the neighbours of the target from the stamps of a sample, drawn with a PSF.

    Companions, which blend with the target, are not subtracted but become part of its model: errors
    of their drawing would otherwise go into the PSF, and from there into the drawing.

    Parameters
    ----------
    sample : Sample
        The target in some images; their stamps are replaced by ones without neighbours.
    field : Field
        The neighbours, with their expected fluxes [electron].
    ring : float
        Distance from the target at which the sky begins [pixel].
    error : float
        Relative error of the expected fluxes.
    """

    def __init__(self, sample: Sample, field: Field, ring: float, error: float) -> None:
        self.sample, self.field, self.error = sample, field, error
        self.factors = np.ones(len(field.flux))
        self.usual = float(np.median([s.flux for s in sample.stars]))
        self.close = field.companions(self.usual)
        brightest = np.argsort(-field.flux, kind="stable")
        self.fitted = np.unique([*self.close, *brightest[:BRIGHTEST]]).astype(np.int64)
        size = sample.where.size
        self.ring = ~circle(size, size / 2, size / 2, ring) & circle(
            size, size / 2, size / 2, size / 2
        )
        self.motions = [[self._motion(k, c) for c in self.close] for k in range(len(sample.stars))]
        self.unlike = [
            unlike(size, (star.x, star.y), self._offsets(k)) for k, star in enumerate(sample.stars)
        ]
        for star in sample.stars:
            star.raw = star.stamp
        self.divided = False  # whether the blend is divided into target and companions
        self._join()

    def _motion(self, k: int, star: int) -> Complex64Array:
        """Return the transfer function of a star about the target in image `k` of the sample."""
        mjd, span, size = float(self.sample.mjd[k]), self.sample.span, self.sample.where.size
        return self.field.motion(star, mjd, span, size)

    def _offsets(self, k: int) -> FloatArray:
        """Return the places of the companions relative to the target, shape (c, 2) [pixel]."""
        return self.field.offsets(self.close, float(self.sample.mjd[k]), self.sample.span)

    def _join(self) -> None:
        """Make the companions part of the target's model, with the latest fluxes."""
        if not len(self.close):
            return
        flux, shares = self.field.flux[self.close], np.maximum(self.factors[self.close], 0.0)
        parts = list(zip(shares / self.usual, flux, strict=True))
        for star, motions in zip(self.sample.stars, self.motions, strict=True):
            lights = [s * (f * one) for (s, f), one in zip(parts, motions, strict=True)]
            star.join(np.sum(lights, axis=0))

    def __call__(self, psf: Shape) -> None:
        """Draw the neighbours with a PSF, fit their fluxes, and renew the stamps."""
        grid = to_grid(psf.mean)
        field = replace(
            self.field, psf=grid, radius=light_radius(self.field.flux, grid), transforms={}
        )
        factors, companions = self._fit(psf, field), np.isin(self.fitted, self.close)
        renewed = ~companions if self.divided else np.ones(len(factors), np.bool_)
        self.factors[self.fitted[renewed]] = factors[renewed]
        self.divided = True
        self._join()
        measured = replace(field, flux=field.flux * np.maximum(self.factors, 0.0))
        measured = measured.without(self.close)
        for k, star in enumerate(self.sample.stars):
            alone = np.asarray(star.raw) - self._draw(measured, k)
            # the background was measured with the neighbours
            sky = alone[self.ring & np.isfinite(alone)]
            star.stamp = alone - (float(np.median(sky)) if sky.size else 0.0)
            if len(self.close):
                star.stamp[self.unlike[k]] = np.nan

    def _fit(self, psf: Shape, field: Field) -> FloatArray:
        """Fit the brightest neighbours; return the ratios of their fluxes to the expected ones."""
        stars = self.sample.stars
        few = spread_evenly(len(stars), SHARED)
        faint = field.without(self.fitted)
        residuals, drawings, variances, slopes = [], [], [], []
        for k in few:
            star = stars[k]
            changes = star.slopes(psf)
            target = star.flux * changes[0]
            slopes.append(np.vstack([changes.reshape(3, -1), np.ones(changes[0].size)]).T)
            alone = np.array([self._alone(psf, field, k, n) for n in self.fitted])
            raw = np.asarray(star.raw)
            rest = raw - target - star.level - self._draw(faint, k)
            # companions are part of the target's model
            of = np.isin(self.fitted, self.close)
            rest += np.tensordot(np.maximum(self.factors[self.fitted[of]], 0.0), alone[of], 1)
            residuals.append(np.where(self.unlike[k], np.nan, rest).ravel())
            drawings.append(scipy.sparse.csc_matrix(alone.reshape(len(alone), -1).T))
            light = np.maximum(target, 0.0)
            variances.append((light + star.floor + (0.03 * light) ** 2).ravel())
        factors, _ = fit_factors(residuals, drawings, variances, self.error, target=slopes)
        return factors

    def _alone(self, psf: Shape, field: Field, k: int, n: int) -> FloatArray:
        """Draw one star into the stamp of image `k` of the sample."""
        if n not in self.close:
            return self._draw(field.only(np.array([n])), k)
        star, size = self.sample.stars[k], self.sample.where.size
        light = self.field.flux[n] * self.motions[k][int(np.flatnonzero(self.close == n)[0])]
        return render(psf.at(star.warmth), light, Shift.by(star.x, star.y, size))

    def _draw(self, field: Field, k: int) -> FloatArray:
        """Draw stars into the stamp of image `k` of the sample, at the place of its target."""
        star, sample = self.sample.stars[k], self.sample
        return field.image(
            star.stamp.shape, star.x + 0.5, star.y + 0.5, float(sample.mjd[k]), sample.span
        )


@step("psf", "PSF_FIT", version="15", payload=Psf, leaves=["TERM_PSF"])
def estimate_psf(
    calibrated: Product,
    scene: Scene,
    readout: ReadOut,
    removed: Removed,
    settings: PsfSettings,
) -> Leaves:
    """Re-estimate the super-resolved PSF from sampled images with nothing but the target.

    The level of a stamp is 0 within the error of the background: a free level would absorb light
    of the wings that varies with the telescope's temperature.
    """
    model, chosen = read_psf(scene.psf, settings.radius), sampled_images(read_look(scene.look))
    used, warnings = {**scene.psf.used}, list(scene.psf.warnings)
    # a PSF of no rounds is that of the reference
    if not scene.has_psf or not len(chosen) or not used["PSF_ITER"]:
        return psf_leaves("TERM_PSF", model.psf, model.scale, model.where, used, warnings)
    with open_images(calibrated) as images:
        residuals = Residuals.of(images, scene, readout, removed)
        sample = cut_stars(residuals, chosen, model.where, model.lag, residuals.warmth)
        middle = usual_place(residuals, chosen)
    constrain_levels(sample.stars, read_background(removed.background).error[chosen])
    reference = reference_psf(read_reference_psf(scene.prior), settings.size)
    place, breathing = model.where.index(*middle), model.warm.spread > 0
    psf, scale, rounds = alternate(sample.stars, place, settings, reference, model, breathing)
    used |= {"PSF_ITER": int(used["PSF_ITER"]) + rounds, "PSF_EXC": float(np.median(scale))}
    return psf_leaves("TERM_PSF", psf, scale, model.where, used, warnings)


def constrain_levels(stars: Sequence[Star], errors: FloatArray) -> None:
    """Constrain the level of each star to 0 within the error of the background."""
    for star, error in zip(stars, errors, strict=True):
        star.level_error = float(error) if error > 0 else np.inf
