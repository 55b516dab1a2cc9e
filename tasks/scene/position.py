"""Position of the target: the centre of a circular window that is the centre of light within it.

The window starts at a first guess and follows the centre of light until it rests; pixels at its edge count with the share that
lies inside. Positions are on the exposed CCD area, pixel i spans [i, i+1).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from schemas.flags import Quality
from schemas.payloads import Background, Bias, Gain, Look, Position, Product
from schemas.settings import PositionSettings
from schemas.terms import TERMS
from tasks.clean import clean
from tasks.exposures import term_column
from tasks.fits import NewHdu
from tasks.geometry import pixel_overlap
from tasks.level1 import open_images
from tasks.robust import robust_scatter
from tasks.step import Leaves, step

FloatArray = npt.NDArray[np.float64]
RESTS = 1e-5  # pixel; the window rests when it moves less


@njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def centre_of_light(
    images: FloatArray, x: FloatArray, y: FloatArray, radius: float, iterations: int, floor: FloatArray, out: FloatArray
) -> None:
    """Find the resting centre of light of every image.

    Parameters
    ----------
    images : ndarray, shape (n, ny, nx)
        Images without background [electron]; pixels that are no numbers are left out.
    x, y : ndarray, shape (n,)
        First guess, in the image's own axes, pixel i spans [i, i+1) [pixel].
    radius : float
        Radius of the window [pixel].
    iterations : int
        Largest number of moves.
    floor : ndarray, shape (n,)
        Variance of a pixel without the star [electron^2].
    out : ndarray, shape (n, 5)
        Receives x, y, their errors, and 1 if the window came to rest inside the image, else 0.
    """
    ny, nx = images.shape[1:]
    for i in range(images.shape[0]):
        cx, cy = x[i], y[i]
        out[i, 4] = 0.0
        for _ in range(iterations):
            if not (0.0 <= cx <= nx and 0.0 <= cy <= ny):
                break
            total = sx = sy = vx = vy = 0.0
            for row in range(max(int(cy - radius) - 1, 0), min(int(cy + radius) + 2, ny)):
                for col in range(max(int(cx - radius) - 1, 0), min(int(cx + radius) + 2, nx)):
                    value = images[i, row, col]
                    dx, dy = col + 0.5 - cx, row + 0.5 - cy
                    if not np.isfinite(value) or dx * dx + dy * dy > (radius + 0.71) ** 2:
                        continue
                    share = 1.0 if dx * dx + dy * dy < (radius - 0.71) ** 2 else pixel_overlap(dx, dy, radius)
                    variance = share * share * (max(value, 0.0) + floor[i])
                    total += share * value
                    sx += share * value * dx
                    sy += share * value * dy
                    vx += variance * dx * dx
                    vy += variance * dy * dy
            if total <= 0.0:
                break
            move_x, move_y = sx / total, sy / total
            cx, cy = cx + move_x, cy + move_y
            out[i, 2], out[i, 3] = np.sqrt(vx) / total, np.sqrt(vy) / total
            if move_x * move_x + move_y * move_y < RESTS * RESTS:
                out[i, 4] = 1.0
                break
        out[i, 0], out[i, 1] = cx, cy


@step("position", "WCS", version="1", payload=Position, leaves=["TERM_POSITION"])
def estimate_position(
    calibrated: Product, look: Look, background: Background, bias: Bias, gain: Gain, settings: PositionSettings
) -> Leaves:
    """Estimate the position of the target in every image."""
    x0, y0 = term_column(look.product, "TERM_LOOK", "CENTROID_X", "CENTROID_Y")
    (level,) = term_column(background.product, "TERM_BACKGROUND", "LEVEL")
    (ron,) = term_column(bias.product, "TERM_BIAS", "RON")
    (gains,) = term_column(gain.product, "TERM_GAIN", "GAIN")
    with open_images(calibrated) as images:
        n = images.count
        found = np.empty((n, 5))
        floor = np.maximum(level, 0.0) + images.nexp * (ron / gains) ** 2
        guess_x = np.where(np.isfinite(x0), x0, np.nanmedian(x0)) - images.x_offset
        guess_y = np.where(np.isfinite(y0), y0, np.nanmedian(y0)) - images.y_offset
        for block, pixels in images.blocks():
            clean(pixels, level[block])
            centre_of_light(
                pixels, guess_x[block], guess_y[block], settings.radius, settings.iterations, floor[block], found[block]
            )
        mjd, offset = images.mjd, np.array([images.x_offset, images.y_offset])
    good = found[:, 4] == 1
    x, y = found[:, 0] + offset[0], found[:, 1] + offset[1]
    # a place far from where the target is in the other images is another thing: a cosmic ray, an empty image
    if good.any():
        for values in (x, y):
            spread = max(robust_scatter(values[good]), 0.05)
            good &= np.abs(values - np.median(values[good])) < 20 * spread
    warnings = []
    if not good.all():
        warnings.append(f"no position could be measured in {(~good).sum()} images: interpolated and flagged")
        for values in (x, y):
            values[~good] = np.interp(mjd[~good], mjd[good], values[good]) if good.any() else np.nan
    errors = np.where(good[:, None], found[:, 2:4], np.nan)
    used = {
        "POS_X": float(np.median(x)), "POS_Y": float(np.median(y)), "POS_STDX": robust_scatter(x), "POS_STDY": robust_scatter(y),
        "POS_RAD": settings.radius,
    }  # fmt: skip
    used = {k: v if np.isfinite(v) else 0.0 for k, v in used.items()}
    columns = {
        "MJD_TIME": mjd, "X": x, "Y": y, "X_ERR": errors[:, 0], "Y_ERR": errors[:, 1], "VALIDITY": (~good).astype(np.uint8),
        "QUALITY": np.where(good, 0, int(Quality.CENTROID)),
    }  # fmt: skip
    return Leaves({"TERM_POSITION": [NewHdu(TERMS["TERM_POSITION"], used, columns=columns)]}, used=used, warnings=warnings)
