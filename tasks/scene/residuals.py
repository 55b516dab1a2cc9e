"""What an image holds besides the scene: residuals to the star-and-PSF model, image by image."""

from __future__ import annotations

import numpy as np

from schemas.arrays import FloatArray
from tasks.scene.star_model import StarModel
from tasks.scene.stars import Field
from tasks.scene.track import Track
from tasks.visit.clean import Effects, clean_block
from tasks.visit.images import Images


class Residuals:
    """Makes cleaned images and models of the scene for single images.

    Parameters
    ----------
    images : Images
        Calibrated images.
    model : StarModel or None
        PSF of the visit; without one the scene is dark.
    track : Track
        Motion of the satellite.
    x, y, flux : ndarray, shape (n,)
        Place of the target on the CCD [pixel] and its flux [electron per stack]; the place is
        refined by a fit.
    effects : Effects
        What is known and taken away.
    floor : ndarray, shape (n,)
        Variance of a pixel without the star [electron^2].
    field : Field or None
        Stars of the field.
    """

    def __init__(
        self,
        images: Images,
        model: StarModel | None,
        track: Track,
        x: FloatArray,
        y: FloatArray,
        flux: FloatArray,
        effects: Effects,
        floor: FloatArray,
        field: Field | None,
    ) -> None:
        self.images, self.model, self.track = images, model, track
        self.x, self.y, self.flux = x - images.x_offset, y - images.y_offset, flux
        self.effects, self.floor, self.field = effects, floor, field
        self.duration = (
            images.nexp * images.exposure_time
        )  # of the light, which a stack takes longer to collect
        self.span = track.span(images.nexp, images.exposure_time)
        self.warmth = np.zeros(images.count) if model is None else model.warm.parameter(images)

    def cleaned(self, i: int) -> FloatArray:
        """Return image `i` without the known effects, shape (ny, nx)."""
        image = self.images.take(i)[None]
        clean_block(image, slice(i, i + 1), self.effects)
        cleaned: FloatArray = image[0]
        return cleaned

    def field_image(self, i: int) -> FloatArray:
        """Return the stars of the field in image `i`, shape (ny, nx)."""
        if self.field is None:
            return np.zeros(self.images.shape)
        place = float(self.x[i]), float(self.y[i])
        return self.field.image(self.images.shape, *place, float(self.images.mjd[i]), self.span)

    def without_field(self, i: int) -> FloatArray:
        """Return image `i` without the known effects and the stars of the field, shape (ny, nx)."""
        return self.cleaned(i) - self.field_image(i)

    def target(self, i: int, image: FloatArray, rounds: int = 1) -> FloatArray:
        """Return the target's model in image `i`, of which `image` holds nothing else, shape (ny,
        nx).
        """
        whole = np.zeros(self.images.shape)
        x, y = float(self.x[i]), float(self.y[i])
        if self.model is None or not (np.isfinite(x) and np.isfinite(y) and self.flux[i] > 0):
            return whole
        motion = self.track.during(float(self.images.mjd[i]), self.span, self.model.lag)
        star = self.model.star(
            image, x, y, float(self.flux[i]), float(self.floor[i]), motion, float(self.warmth[i])
        )
        stamp, _ = self.model.fit(star, rounds=rounds)
        size, (x0, y0), (ny, nx) = self.model.where.size, self.model.where.corner, self.images.shape
        left, right, low, high = max(x0, 0), min(x0 + size, nx), max(y0, 0), min(y0 + size, ny)
        whole[low:high, left:right] += stamp[low - y0 : high - y0, left - x0 : right - x0]
        return whole

    def take(self, i: int, rounds: int = 1) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return image `i` without the known effects, and the models of target and field, shape
        (ny, nx) each.
        """
        image, field = self.cleaned(i), self.field_image(i)
        return image, self.target(i, image - field, rounds), field
