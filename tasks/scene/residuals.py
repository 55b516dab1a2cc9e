"""Residuals of single images to the model of the scene: target, field stars, and known effects."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
import scipy.ndimage

from schemas.arrays import BoolArray, ComplexArray, FloatArray, IntArray
from schemas.light_curves import DEFAULT_RADIUS
from schemas.payloads import ReadOut, Removed, Scene
from tasks.scene.optics import Shift, render, render_with_slopes, to_grid
from tasks.scene.psf import pixel_floor
from tasks.scene.star_model import FURTHEST, Star, StarModel, circle, read_psf, unlike
from tasks.scene.stars import CORE, Field, light_within, read_field
from tasks.scene.track import Track, read_track
from tasks.visit.clean import Effects, clean_block, read_effects
from tasks.visit.images import Images
from tasks.visit.terms import LookTerm, read_image_flags, read_look, read_position

MOST_HIDDEN = 0.2  # of the core's pixels; with more the target is saturated
CORRECTED = 0.98  # of a saturated pixel's value is kept by all corrections
BLEEDS = 2  # pixel; reach of bleeding charge about the pixels that are known to be saturated
ROUNDS = 2  # of the fit of the target in one image


def corrected_look(scene: Scene) -> LookTerm:
    """Return the first look at every image, as the PSF of the first round corrects it."""
    look, used = read_look(scene.look), scene.psf.used
    x, y, light = (float(used[name]) for name in ("PSF_DX", "PSF_DY", "PSF_LIT"))
    return look._replace(x=look.x + x, y=look.y + y, flux=look.flux * light)


def hide_core(saturated: BoolArray, x: float, y: float) -> bool:
    """Return whether saturated pixels, (ny, nx), hide much of the core of a star at (x, y)."""
    rows, columns = np.nonzero(saturated)
    away = np.hypot(columns + 0.5 - x, rows + 0.5 - y)
    return bool(np.count_nonzero(away < CORE) > MOST_HIDDEN * np.pi * CORE**2)


class Target(NamedTuple):
    """The target in every image, arrays of shape (n,)."""

    x: FloatArray  # place on the CCD, edge based; refined by a fit [pixel]
    y: FloatArray
    flux: FloatArray  # [electron per stack]
    floor: FloatArray  # variance of a pixel without stars [electron^2]
    fitted: BoolArray | None = None  # whether place and flux are those of a fitted PSF


class Residuals:
    """Cleaned images and models of the scene, image by image.

    Parameters
    ----------
    images : Images
        Calibrated images.
    track : Track
        Motion of the satellite.
    target : Target
        The target in every image.
    effects : Effects
        Known effects, which are subtracted.
    model : StarModel, optional
        PSF of the visit; without one the target is dark.
    field : Field, optional
        Field stars; without them the field is dark.
    """

    def __init__(
        self,
        images: Images,
        track: Track,
        target: Target,
        effects: Effects,
        model: StarModel | None = None,
        field: Field | None = None,
    ) -> None:
        self.images, self.track, self.effects = images, track, effects
        self.model, self.field = model, field
        # edge based in the images [pixel]; `settle` moves them
        self.x, self.y = target.x - images.x_offset, target.y - images.y_offset
        self.flux, self.floor, self.fitted = target.flux, target.floor, target.fitted
        # exposure time; the stack spans a longer time
        self.duration = images.nexp * images.exposure_time
        self.span = track.span(images.nexp, images.exposure_time)
        # errors x, y of places that were fitted together with companions, else NaN
        self.place_error = np.full((images.count, 2), np.nan)
        # values from which on pixels are saturated, shape (ny, nx), or None if none of them is
        self.limit: FloatArray | None = None
        # images whose motion is not known, which the model of a star does not match
        self.uncertain = np.zeros(images.count, dtype=np.bool_)
        usual = target.flux[np.isfinite(target.flux)]
        self.companions = (
            field.companions(float(np.median(usual)))
            if model is not None and field is not None and usual.size
            else np.zeros(0, np.int64)
        )
        self.far = None if field is None else field.without(self.companions)
        self.warmth = np.zeros(images.count) if model is None else model.warm.parameter(images)

    @classmethod
    def of(
        cls,
        images: Images,
        scene: Scene,
        readout: ReadOut,
        removed: Removed,
        place: tuple[FloatArray, FloatArray] | None = None,
        corrected: bool = False,
    ) -> Residuals:
        """Read the scene of some images.

        Parameters
        ----------
        images : Images
            Calibrated images.
        scene : Scene
            Target and field are drawn only if the visit has a PSF.
        readout : ReadOut
            Noise of the read-out.
        removed : Removed
            Effects to subtract.
        place : tuple of ndarray, shape (n,), optional
            Place of the target on the CCD [pixel]. The default is the position in the scene or,
            without one, the place of the first look.
        corrected : bool
            Whether the images are corrected already, so that no effects are subtracted.
        """
        look, track = corrected_look(scene), read_track(scene.pointing)
        model = read_psf(scene.psf, scene.psf_use.radius) if scene.has_psf else None
        flux, fitted = look.flux, None
        if place is None:
            place = look.x, look.y
            if scene.position is not None:
                position = read_position(scene.position)
                place, fitted = (position.x, position.y), np.isfinite(position.flux)
                flux = np.where(fitted, position.flux, flux)
        floor = pixel_floor(removed.background, readout, images.nexp)
        effects = (
            Effects(np.zeros(images.count))
            if corrected
            else read_effects(images, removed.background, removed.smearing, removed.defects)
        )
        field = read_field(scene.stars, model, track) if model is not None else None
        target = Target(*place, flux, floor, fitted)
        residuals = cls(images, track, target, effects, model, field)
        residuals.note_saturation(look)
        residuals.uncertain = read_image_flags(scene.pointing) != 0
        return residuals

    def cleaned(self, i: int) -> FloatArray:
        """Return image `i` without the known effects, shape (ny, nx); saturated ones are NaN."""
        image = self.images.take(i)[None]
        blind = self.blind(i, image[0])
        clean_block(image, slice(i, i + 1), self.effects)
        cleaned: FloatArray = image[0]
        if blind is not None:
            cleaned[blind] = np.nan
        return cleaned

    def note_saturation(self, look: LookTerm) -> None:
        """Note from which values on pixels are saturated."""
        self.limit = CORRECTED * look.limit if np.isfinite(look.limit).any() else None

    def blind(self, i: int, image: FloatArray) -> BoolArray | None:
        """Return which pixels of calibrated image `i` do not show the stars as they are, if any.

        From saturated pixels charge bleeds to those beside them. If the target is saturated itself
        over much of its core, all pixels are used: charge that bled shows its place better than
        its wings do.
        """
        if self.limit is None or not (saturated := image >= self.limit).any():
            return None
        if hide_core(saturated, float(self.x[i]), float(self.y[i])):
            return None
        return np.asarray(scipy.ndimage.binary_dilation(saturated, iterations=BLEEDS))

    def field_image(self, i: int) -> FloatArray:
        """Return the field stars in image `i`, shape (ny, nx)."""
        return self.far_field(i) + self.companion_image(i, self.companions)

    def far_field(self, i: int) -> FloatArray:
        """Return the field stars that do not blend with the target in image `i`, (ny, nx)."""
        if self.far is None:
            return np.zeros(self.images.shape)
        place = float(self.x[i]), float(self.y[i])
        return self.far.image(self.images.shape, *place, float(self.images.mjd[i]), self.span)

    def companion_image(self, i: int, which: IntArray) -> FloatArray:
        """Return some of the companions in image `i`, shape (ny, nx).

        In the stamp around the target they are as exact as the target.
        """
        whole = np.zeros(self.images.shape)
        if self.model is None or not len(which) or not np.isfinite(self.x[i] + self.y[i]):
            return whole
        assert self.field is not None
        x, y, mjd = float(self.x[i]), float(self.y[i]), float(self.images.mjd[i])
        whole = self.field.only(which).image(whole.shape, x, y, mjd, self.span)
        where, psf = self.model.where, self.model.psf.at(float(self.warmth[i]))
        place, stamp = where.index(x, y), np.zeros((where.size, where.size))
        for k in which:
            one = np.array([k])
            drawn = render(psf, self.companion_light(i, one), Shift.by(*place, where.size))
            # spectra are periodic: the opposite edge of the stamp shows the star again
            away = self.field.offsets(one, mjd, self.span)[0]
            stamp += drawn * circle(
                where.size, place[0] + away[0], place[1] + away[1], where.size / 2
            )
        where.replace(stamp, whole)
        return whole

    def companion_light(self, i: int, which: IntArray) -> ComplexArray:
        """Return the light of companions about the target in image `i`; see `Field.transfer`."""
        assert self.field is not None
        assert self.model is not None
        mjd = float(self.images.mjd[i])
        return self.field.transfer(which, mjd, self.span, self.model.where.size)

    def without_field(self, i: int) -> FloatArray:
        """Return image `i` without the known effects and the field stars, shape (ny, nx)."""
        image, field = self.taken_apart(i)
        return image - field

    def taken_apart(self, i: int) -> tuple[FloatArray, FloatArray]:
        """Return image `i` without the known effects, and its field stars, shape (ny, nx) each."""
        image = self.cleaned(i)
        self.settle(i, image)
        return image, self.field_image(i)

    def settle(self, i: int, image: FloatArray) -> None:
        """Move the target with its companions to where they fit image `i` best together.

        Unless the position is from a fit already; without companions, `place` does it. `image` is
        the image without the known effects.
        """
        fitted = self.fitted is not None and self.fitted[i]
        seen = np.isfinite(self.x[i]) and np.isfinite(self.y[i]) and self.flux[i] > 0
        if fitted or not seen or not len(self.companions):
            return
        star = self.blend(i, image - self.far_field(i))
        x, y = star.x, star.y
        assert self.model is not None
        _, errors = self.model.fit(star)
        if star.flux > 0 and np.hypot(star.x - x, star.y - y) < FURTHEST:
            self.x[i], self.y[i] = self.x[i] + star.x - x, self.y[i] + star.y - y
            self.place_error[i] = errors[1:3]

    def blend(self, i: int, image: FloatArray) -> Star:
        """Return the target with its companions; `image` is the image without anything else."""
        star = self.star(i, image)
        star.drift = None
        self.join(i, star)
        return star

    def join(self, i: int, star: Star) -> None:
        """Let the model of the target in image `i` include its companions, in place.

        Pixels of the stamp in which that model does not hold become NaN.
        """
        assert self.field is not None
        star.join(self.companion_light(i, self.companions) / self.total(i))
        about = self.field.offsets(self.companions, float(self.images.mjd[i]), self.span)
        star.stamp[unlike(star.stamp.shape[0], (star.x, star.y), about)] = np.nan

    def motion(self, i: int) -> tuple[FloatArray, FloatArray]:
        """Return the places of the target during image `i` relative to their mean [pixel]."""
        lag = 0.0 if self.model is None else self.model.lag
        return self.track.during(float(self.images.mjd[i]), self.span, lag)

    def star(
        self,
        i: int,
        image: FloatArray,
        field: FloatArray | None = None,
        model: StarModel | None = None,
    ) -> Star:
        """Return the target in image `i`.

        `image` is the image without anything else, and `field` the subtracted field stars, whose
        light adds to the noise. `model` is the one to be fitted, if not that of the visit.
        """
        model = model or self.model
        assert model is not None
        x, y, warmth = float(self.x[i]), float(self.y[i]), float(self.warmth[i])
        flux, floor, size = self.total(i), float(self.floor[i]), model.where.size
        star = model.star(image, x, y, flux, floor, self.motion(i), warmth)
        if self.blended(i):
            light, shift = self.companion_light(i, self.companions), Shift.by(star.x, star.y, size)
            star.drift = render_with_slopes(model.psf.at(warmth), light, shift)[1:]
        if field is not None and field.any():
            star.others = np.nan_to_num(model.where.cut(field))
        return star

    def place(self, i: int, image: FloatArray, guess: FloatArray, field: FloatArray) -> FloatArray:
        """Fit the target in image `i`: return x, y, their errors, 1, flux and level, or the guess.

        The guess is x, y, and five values that are kept if the fit diverges. With companions, the
        place is where `settle` put it. Other parameters are those of `star`.
        """
        blended = self.blended(i)
        if not blended:
            self.x[i], self.y[i] = guess[0], guess[1]
        model = self.compact
        assert model is not None
        star = self.star(i, image, field, model)
        _, errors = model.fit(star)
        corner = model.where.corner
        x, y = star.x + corner[0] + 0.5, star.y + corner[1] + 0.5
        strayed = not blended and np.hypot(x - guess[0], y - guess[1]) > FURTHEST
        if star.flux <= 0 or strayed:
            return guess
        doubt = self.place_error[i] if blended else errors[1:3]
        return np.array([x, y, *doubt, 1.0, star.flux, star.level])

    @cached_property
    def compact(self) -> StarModel | None:
        """The model for fits: on small stamps, unless companions need all of its stamp."""
        return self.model if self.model is None or len(self.companions) else self.model.narrow

    def total(self, i: int) -> float:
        """Return the light of the target in image `i`, also outside of any aperture [electron]."""
        if self.model is None or (self.fitted is not None and self.fitted[i]):
            return float(self.flux[i])
        return float(self.flux[i]) / self._within

    @cached_property
    def _within(self) -> float:
        """The light of the PSF within the default aperture."""
        assert self.model is not None
        return light_within(to_grid(self.model.psf.mean), DEFAULT_RADIUS)

    def blended(self, i: int) -> bool:
        """Return whether the place in image `i` is that of a fit together with companions."""
        fitted = self.fitted is not None and bool(self.fitted[i])
        return len(self.companions) > 0 and (fitted or bool(np.isfinite(self.place_error[i, 0])))

    def target(self, i: int, image: FloatArray, field: FloatArray | None = None) -> FloatArray:
        """Return the target's model in image `i`, shape (ny, nx).

        It is fitted, unless the position is from a fit already. Parameters are those of `star`.
        """
        whole = np.zeros(self.images.shape)
        seen = np.isfinite(self.x[i]) and np.isfinite(self.y[i]) and self.flux[i] > 0
        if self.model is None or not seen:
            return whole
        star = self.star(i, image, field)
        if self.fitted is not None and self.fitted[i]:
            stamp = star.drawn(self.model.psf)
        else:
            stamp, _ = self.model.fit(star, rounds=ROUNDS)
        self.model.where.paste(stamp, whole)
        return whole

    def target_with_slopes(
        self, i: int, image: FloatArray, field: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Fit the target in image `i`; return its model, and how it changes with its parameters.

        The changes are those with flux and place, shape (3, ny, nx); companions move with the
        target. Parameters are those of `star`.
        """
        model, changes = np.zeros(self.images.shape), np.zeros((3, *self.images.shape))
        seen = np.isfinite(self.x[i]) and np.isfinite(self.y[i]) and self.flux[i] > 0
        if self.model is not None and seen:
            star = self.star(i, image, field)
            fitted, _ = self.model.fit(star, rounds=ROUNDS)
            self.model.where.paste(fitted, model)
            slopes = star.slopes(self.model.psf)
            if len(self.companions):
                slopes[1:] = self.blend(i, image).slopes(self.model.psf)[1:]
            for change, stamp in zip(changes, slopes, strict=True):
                self.model.where.paste(stamp, change)
        return model, changes

    def take(self, i: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return image `i` without the known effects, and the models of target and field.

        Each has the shape (ny, nx).
        """
        image, field = self.taken_apart(i)
        return image, self.target(i, image - field, field), field
