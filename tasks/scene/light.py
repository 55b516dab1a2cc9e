"""Centre of light: a circular window is moved until it is centred on the light within it.

The window starts at a first guess and follows the centre of light until it comes to rest. Pixels at
its edge count by the area inside.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from schemas.arrays import FloatArray
from tasks.numerics.geometry import pixel_overlap

RESTS = 1e-5  # pixel; a window that moves less is at rest


@njit(cache=True, nogil=True, error_model="numpy")
def centre_of_light(
    images: FloatArray,
    x: FloatArray,
    y: FloatArray,
    radius: float,
    iterations: int,
    floor: FloatArray,
    out: FloatArray,
) -> None:
    """Find the centre of light of every image.

    Parameters
    ----------
    images : ndarray, shape (n, ny, nx)
        Images without background [electron]; NaN pixels are ignored.
    x, y : ndarray, shape (n,)
        First guess in the image, pixel i spans [i, i+1) [pixel].
    radius : float
        Radius of the window [pixel].
    iterations : int
        Maximum number of moves.
    floor : ndarray, shape (n,)
        Variance of a pixel without the star [electron^2].
    out : ndarray, shape (n, 5)
        Output: x, y, their errors, and 1 if the window came to rest inside the image, else 0.
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
                    share = (
                        1.0
                        if dx * dx + dy * dy < (radius - 0.71) ** 2
                        else pixel_overlap(dx - 0.5, dy - 0.5, radius)
                    )
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
