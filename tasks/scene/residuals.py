"""Residuals of single images to the model of the scene: target, field stars, and known effects."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from schemas.arrays import BoolArray, ComplexArray, FloatArray, IntArray
from schemas.payloads import ReadOut, Removed, Scene
from tasks.scene.optics import Shift, render
from tasks.scene.psf import pixel_floor
from tasks.scene.star_model import Star, StarModel, read_psf
from tasks.scene.stars import Field, read_field
from tasks.scene.track import Track, read_track
from tasks.visit.clean import Effects, clean_block, read_effects
from tasks.visit.images import Images
from tasks.visit.terms import read_image_flags, read_look, read_position

ROUNDS = 2  # of the fit of the target in one image


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
        self.x, self.y = target.x - images.x_offset, target.y - images.y_offset
        self.flux, self.floor, self.fitted = target.flux, target.floor, target.fitted
        # exposure time; the stack spans a longer time
        self.duration = images.nexp * images.exposure_time
        self.span = track.span(images.nexp, images.exposure_time)
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
        look, track = read_look(scene.look), read_track(scene.pointing)
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
        residuals.uncertain = read_image_flags(scene.pointing) != 0
        return residuals

    def cleaned(self, i: int) -> FloatArray:
        """Return image `i` without the known effects, shape (ny, nx)."""
        image = self.images.take(i)[None]
        clean_block(image, slice(i, i + 1), self.effects)
        cleaned: FloatArray = image[0]
        return cleaned

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
        """Return some of the companions in image `i`, as exact as the target, shape (ny, nx)."""
        whole = np.zeros(self.images.shape)
        if self.model is None or not len(which) or not np.isfinite(self.x[i] + self.y[i]):
            return whole
        where, psf = self.model.where, self.model.psf.at(float(self.warmth[i]))
        place = where.index(float(self.x[i]), float(self.y[i]))
        shift = Shift.by(*place, where.size)
        where.paste(render(psf, self.companion_light(i, which), shift), whole)
        return whole

    def companion_light(self, i: int, which: IntArray) -> ComplexArray:
        """Return the light of companions about the target in image `i`; see `Field.transfer`."""
        assert self.field is not None
        assert self.model is not None
        mjd = float(self.images.mjd[i])
        return self.field.transfer(which, mjd, self.span, self.model.where.size)

    def without_field(self, i: int) -> FloatArray:
        """Return image `i` without the known effects and the field stars, shape (ny, nx)."""
        return self.cleaned(i) - self.field_image(i)

    def motion(self, i: int) -> tuple[FloatArray, FloatArray]:
        """Return the places of the target during image `i` relative to their mean [pixel]."""
        lag = 0.0 if self.model is None else self.model.lag
        return self.track.during(float(self.images.mjd[i]), self.span, lag)

    def star(self, i: int, image: FloatArray) -> Star:
        """Return the target in image `i`; `image` is the image without anything else."""
        assert self.model is not None
        x, y, warmth = float(self.x[i]), float(self.y[i]), float(self.warmth[i])
        flux, floor = float(self.flux[i]), float(self.floor[i])
        return self.model.star(image, x, y, flux, floor, self.motion(i), warmth)

    def place(self, i: int, image: FloatArray, guess: FloatArray) -> FloatArray:
        """Fit the target in image `i`: return x, y, their errors, 1, flux and level, or the guess.

        `image` is the image without anything but the target; see `StarModel.place`.
        """
        assert self.model is not None
        flux, floor, warmth = float(self.flux[i]), float(self.floor[i]), float(self.warmth[i])
        return self.model.place(image, guess, flux, floor, self.motion(i), warmth)

    def target(self, i: int, image: FloatArray, rounds: int = ROUNDS) -> FloatArray:
        """Return the target's model in image `i`, shape (ny, nx).

        `image` is the image without anything but the target. The target is fitted to it, unless
        the position is from a fit already.
        """
        whole = np.zeros(self.images.shape)
        seen = np.isfinite(self.x[i]) and np.isfinite(self.y[i]) and self.flux[i] > 0
        if self.model is None or not seen:
            return whole
        star = self.star(i, image)
        if self.fitted is not None and self.fitted[i]:
            stamp = star.drawn(self.model.psf)
        else:
            stamp, _ = self.model.fit(star, rounds=rounds)
        self.model.where.paste(stamp, whole)
        return whole

    def target_with_slopes(self, i: int, image: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Fit the target in image `i`; return its model, and how it changes with its parameters.

        The changes are those with flux and place, shape (3, ny, nx). `image` is the image without
        anything but the target.
        """
        model, changes = np.zeros(self.images.shape), np.zeros((3, *self.images.shape))
        seen = np.isfinite(self.x[i]) and np.isfinite(self.y[i]) and self.flux[i] > 0
        if self.model is not None and seen:
            star = self.star(i, image)
            fitted, _ = self.model.fit(star, rounds=ROUNDS)
            self.model.where.paste(fitted, model)
            for change, stamp in zip(changes, star.slopes(self.model.psf), strict=True):
                self.model.where.paste(stamp, change)
        return model, changes

    def take(self, i: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return image `i` without the known effects, and the models of target and field.

        Each has the shape (ny, nx).
        """
        image, field = self.cleaned(i), self.field_image(i)
        return image, self.target(i, image - field), field
