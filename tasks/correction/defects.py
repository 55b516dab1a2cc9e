"""Cosmic rays of every image, and what stands still on the detector: both on the residual to the star's model.

A temporal median would destroy the star as soon as it moves; so the star is modelled first, as it moved and blurred in each
image, and only the rest is looked at. What the rest shows in the median of a sample stands still (hot pixels, errors of the
dark frame); what a single image shows above the noise is a cosmic ray: a seed, and the pixels that touch it. The noise of a
pixel is that of model, sky and read-out, or its own scatter over the sample where that is larger, as under a telegraphic pixel
or the trail of a field star.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from schemas.inputs import term_input
from schemas.payloads import Background, Bias, Defects, Gain, Look, Pointing, Position, Product, Psf, Smearing, Stars
from schemas.settings import DefectSettings
from schemas.terms import DEFAULT_RADIUS, TERMS
from tasks.clean import Effects, Hits, clean_block, hits_of
from tasks.exposures import term_column, term_image
from tasks.fits import open_declared
from tasks.fits_writer import NewHdu
from tasks.level1 import Images, open_images
from tasks.robust import MAD_TO_SIGMA
from tasks.scene.psf import StarModel, Track, pixel_floor, read_psf, read_track
from tasks.scene.stars import Field, read_field
from tasks.step import Leaves, step
from tasks.store import require

FloatArray = npt.NDArray[np.float64]
MANY = 4  # images; the scatter of a pixel over fewer says more of chance than of the pixel


@njit(cache=True, nogil=True, error_model="numpy")
def find_hits(pull: FloatArray, seed: float, neighbour: float, hit: npt.NDArray[np.bool_]) -> int:
    """Mark seeds, and pixels that touch a marked one and stand out enough; return how many are marked.

    Parameters
    ----------
    pull : ndarray, shape (ny, nx)
        Residual over its noise; NaN is never marked.
    seed, neighbour : float
        Limits for a seed and for a pixel that touches a marked one, diagonals included.
    hit : ndarray of bool, shape (ny, nx)
        All False; receives the marks.
    """
    ny, nx = pull.shape
    stack = np.empty((ny * nx, 2), np.int64)
    count = 0
    for y in range(ny):
        for x in range(nx):
            if hit[y, x] or not pull[y, x] > seed:
                continue
            top = 1
            stack[0, 0], stack[0, 1] = y, x
            hit[y, x] = True
            while top > 0:
                top -= 1
                cy, cx = stack[top, 0], stack[top, 1]
                count += 1
                for j in range(max(cy - 1, 0), min(cy + 2, ny)):
                    for i in range(max(cx - 1, 0), min(cx + 2, nx)):
                        if not hit[j, i] and pull[j, i] > neighbour:
                            hit[j, i] = True
                            stack[top, 0], stack[top, 1] = j, i
                            top += 1
    return count


def static_excess(median: FloatArray, error: FloatArray, star: FloatArray, significance: float, share: float) -> FloatArray:
    """Return the steady excess that is taken away: where it is significant, and more than the star's model may err.

    Parameters
    ----------
    median, error : ndarray, shape (ny, nx)
        Median residual over the sample, and its error [electron].
    star : ndarray, shape (ny, nx)
        Mean of the star's model over the sample [electron].
    significance, share : float
        Smallest excess in units of its error, and of the star's light on the pixel.
    """
    taken = (median > significance * error) & (median > share * star)
    return np.where(taken, median, 0.0)


class Residuals:
    """Makes star models and residuals of single images."""

    def __init__(
        self, images: Images, model: StarModel | None, track: Track, x: FloatArray, y: FloatArray, flux: FloatArray,
        effects: Effects, floor: FloatArray, field: Field | None,
    ) -> None:  # fmt: skip
        self.field = field
        self.images, self.model, self.track = images, model, track
        self.x, self.y, self.flux = x - images.x_offset, y - images.y_offset, flux
        self.effects, self.floor = effects, floor

    def star(self, i: int, image: FloatArray) -> FloatArray:
        """Return the model of target and field in image `i`, of which `image` is without background, shape (ny, nx)."""
        whole = np.zeros(self.images.shape)
        x, y, mjd = float(self.x[i]), float(self.y[i]), float(self.images.mjd[i])
        if self.model is None or not (np.isfinite(x) and np.isfinite(y) and self.flux[i] > 0):
            return whole
        duration = self.images.nexp * self.images.exposure_time
        if self.field is not None:
            whole += self.field.image(self.images.shape, x, y, mjd, duration)
        motion = self.track.during(mjd, duration, self.model.lag)
        star = self.model.star(image - whole, x, y, float(self.flux[i]), float(self.floor[i]), motion)
        stamp, _ = self.model.fit(star, rounds=1)
        size, (x0, y0), (ny, nx) = self.model.where.size, self.model.where.corner, self.images.shape
        left, right, low, high = max(x0, 0), min(x0 + size, nx), max(y0, 0), min(y0 + size, ny)
        whole[low:high, left:right] += stamp[low - y0 : high - y0, left - x0 : right - x0]
        return whole

    def take(self, i: int) -> tuple[FloatArray, FloatArray]:
        """Return an image without background, and the star's model."""
        image = self.images.take(i)[None]
        clean_block(image, slice(i, i + 1), self.effects)
        return image[0], self.star(i, image[0])


@step("defects", "BDPIX_D1", "BDPIX_D3", version="1", payload=Defects, leaves=["TERM_DEFECTS"])
def find_defects(
    calibrated: Product, look: Look, pointing: Pointing, background: Background, bias: Bias, gain: Gain, psf: Psf,
    stars: Stars, position: Position, smearing: Smearing, settings: DefectSettings,
) -> Leaves:  # fmt: skip
    """Find cosmic rays and steady excesses in all images."""
    flux, sampled = term_column(look.product, "TERM_LOOK", "FLUX", "SAMPLED")
    x, y = term_column(position.product, "TERM_POSITION", "X", "Y")
    (level,) = term_column(background.product, "TERM_BACKGROUND", "LEVEL")
    model = read_psf(psf) if int(psf.used.get("PSF_N", 0)) >= 3 else None
    warnings = [] if model is not None else ["there is no PSF: cosmic rays and steady excesses cannot be told from the star"]
    with open_images(calibrated) as images:
        floor = pixel_floor(background, bias, gain, images.nexp)
        track = read_track(pointing)
        smeared = term_image(smearing.product, "TERM_SMEARING")
        field = read_field(stars, pointing, model, track) if model is not None else None
        rest = Residuals(images, model, track, x, y, flux, Effects(level, smeared), floor, field)
        chosen = np.flatnonzero(sampled)
        offsets = {"X_WINOFF": images.x_offset, "Y_WINOFF": images.y_offset}
        seconds = images.count * images.nexp * images.exposure_time
        inside, everywhere = np.zeros(images.count, np.int64), np.zeros(images.count, np.int64)
        lists: list[tuple[npt.NDArray[np.int64], ...]] = []
        amounts: list[FloatArray] = []
        static = np.zeros(images.shape)
        if model is not None and len(chosen) >= 3:
            median, scatter, mean_star = sample_statistics(rest, chosen)
            base = mean_star + float(np.median(floor[chosen]))
            static = static_excess(
                median, 1.2533 * np.maximum(scatter, np.sqrt(np.maximum(base, 0))) / np.sqrt(len(chosen)), mean_star,
                settings.static, settings.share,
            )  # fmt: skip
            for i in range(images.count):
                image, star = rest.take(i)
                noise = np.maximum(np.sqrt(np.maximum(star, 0.0) + floor[i] + np.maximum(median, 0.0)), scatter)
                excess = image - star - median
                hit = np.zeros(images.shape, dtype=bool)
                everywhere[i] = find_hits(excess / noise, settings.seed, settings.neighbour, hit)
                rows, columns = np.nonzero(hit)
                inside[i] = int((np.hypot(columns + 0.5 - rest.x[i], rows + 0.5 - rest.y[i]) < DEFAULT_RADIUS).sum())
                lists.append((np.full(len(rows), i), columns, rows))
                amounts.append(image[hit] - star[hit] - static[hit])
        mjd = images.mjd
    image_index, columns, rows = (
        np.concatenate([part[k] for part in lists]) if lists else np.zeros(0, np.int64) for k in range(3)
    )
    amount = np.concatenate(amounts) if amounts else np.zeros(0)
    used = {"CR_PIX": int(everywhere.sum()), "CR_RATE": float(everywhere.sum() / seconds), "HOT_PIX": int((static > 0).sum())}
    table = NewHdu(TERMS["TERM_DEFECTS"], used, columns={"IMAGE_INDEX": image_index, "X": columns, "Y": rows, "AMOUNT": amount})
    steady = NewHdu(TERMS["TERM_DEFECTS_STATIC"], offsets, pixels=static)
    counts = NewHdu(TERMS["TERM_DEFECTS_IMAGES"], columns={"MJD_TIME": mjd, "INSIDE": inside, "ALL": everywhere})
    return Leaves({"TERM_DEFECTS": [table, steady, counts]}, used=used, warnings=warnings)


def sample_statistics(rest: Residuals, chosen: npt.NDArray[np.int64]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return median and robust scatter of the residuals over the sample, and the mean star, shape (ny, nx) each."""
    residuals = np.empty((len(chosen), *rest.images.shape), np.float32)
    total = np.zeros(rest.images.shape)
    for k, i in enumerate(chosen):
        image, star = rest.take(int(i))
        residuals[k] = image - star
        total += star
    outside = ~np.isfinite(residuals).all(axis=0)
    residuals[:, outside] = 0.0
    median = np.median(residuals, axis=0).astype(np.float64)
    if len(chosen) < MANY:
        return median, np.zeros_like(median), total / len(chosen)
    scatter = MAD_TO_SIGMA * np.median(np.abs(residuals - median.astype(np.float32)), axis=0).astype(np.float64)
    return median, scatter, total / len(chosen)


def read_defects(term: Defects, count: int, shape: tuple[int, int]) -> tuple[FloatArray, Hits]:
    """Return what stands still, and the hits of every image."""
    with open_declared(require(term.product.path), term_input("TERM_DEFECTS")) as file:
        table = file["TERM_DEFECTS"]
        image, x, y = (table.column(c).astype(np.int64) for c in ("IMAGE_INDEX", "X", "Y"))
        amount = table.finite_column("AMOUNT")
        static = file["TERM_DEFECTS_STATIC"].finite_image()
    if static.shape != shape or (len(image) and (image.max() >= count or x.max() >= shape[1] or y.max() >= shape[0])):
        raise table.refuse(f"does not belong to {count} images of {shape[1]} x {shape[0]} pixels")
    return static, hits_of(count, shape, image, x, y, amount)
