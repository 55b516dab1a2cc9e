"""Variance of the charge within a stack whose star moves from exposure to exposure.

Where the telemetry has unstacked imagettes, they give the variance of each pixel of the core.
Elsewhere it follows from the offsets d_k of the exposures from their mean position: the smoothing
of the stack S by the motion is undone in two steps of Van Cittert (1931),

    P <- P + S - mean_k P(x - d_k)    from P = S,

and the variance is that of P(x - d_k), between pixels by cubic convolution (Keys 1981).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from schemas.arrays import BoolArray, FloatArray, IntArray, WordArray
from schemas.errors import BadInputError
from schemas.payloads import Spread
from tasks.files.byte_order import from_big_endian
from tasks.numerics.inner import inner_njit
from tasks.visit.raw import Exposures
from tasks.visit.terms import read_spread

POINTS = 8  # offsets that represent a stack
FAINT = 1000.0  # the curve's bend does not matter for fainter signals [electron]
STEPS = 2  # of sharpening
KERNEL = 2  # reach of cubic convolution beyond the offset [pixel]


class Imagettes(NamedTuple):
    """Raw imagettes."""

    words: WordArray  # raw values as big-endian words, shape (m, my, mx)
    x0: IntArray  # position of the index [0, 0] in the sub-array, shape (m,)
    y0: IntArray


class BlockMotion(NamedTuple):
    """Motion within a block of n stacks."""

    offsets: FloatArray  # of the exposures, shape (n, 2, 8), see `spread.offsets_of` [pixel]
    core: FloatArray  # variance from imagettes, shape (n, cy, cx), NaN where unknown [ADU^2]
    corner: tuple[int, int]  # position of the core's index [0, 0] in the images, x and y


@inner_njit(cache=True, nogil=True, error_model="numpy")
def _pixel_sums(
    words: WordArray, x0: IntArray, y0: IntArray, first: int, exposures: int, x: int, y: int
) -> tuple[float, float]:
    """Sum a pixel of the sub-array, and its square, over the imagettes of a stack.

    NaN unless each of the imagettes has the pixel.
    """
    total, squares = 0.0, 0.0
    for k in range(first, first + exposures):
        column, row = x - x0[k], y - y0[k]
        if not (0 <= column < words.shape[2] and 0 <= row < words.shape[1]):
            return np.nan, np.nan
        value = from_big_endian(words[k, row, column]) ^ np.uint32(0x80000000)
        if value == 0:
            return np.nan, np.nan
        total += value
        squares += float(value) * float(value)
    return total, squares


@njit(cache=True, nogil=True, error_model="numpy")
def imagette_variances(
    stacks: WordArray,
    first: IntArray,
    imagettes: Imagettes,
    exposures: int,
    stacked: int,
    corner: tuple[int, int],
    out: FloatArray,
) -> None:
    """Measure the variance of each pixel over the exposures of a stack in their imagettes.

    Parameters
    ----------
    stacks : ndarray of uint32, shape (n, ny, nx)
        Raw stacks as big-endian words of 32-bit integers, offset 2^31 not yet added [ADU].
    first : ndarray of int, shape (n,)
        Index in `imagettes` of each stack's first exposure; negative for a stack without.
    imagettes : Imagettes
        Single exposures.
    exposures, stacked : int
        Exposures of a stack; how many of them a pixel's value is the sum of.
    corner : tuple of int
        Position of `out` in the stack, x and y.
    out : ndarray, shape (n, cy, cx)
        Receives the variance [ADU^2]; NaN where an imagette lacks the pixel, or the sum of the
        imagettes differs from the stack by more than the rounding of a mean.
    """
    words, x0, y0 = imagettes
    for i in range(out.shape[0]):
        for row in range(out.shape[1]):
            for column in range(out.shape[2]):
                out[i, row, column] = np.nan
                if first[i] < 0:
                    continue
                x, y = column + corner[0], row + corner[1]
                total, squares = _pixel_sums(words, x0, y0, first[i], exposures, x, y)
                whole = float(from_big_endian(stacks[i, y, x]) ^ np.uint32(0x80000000))
                if abs(total * stacked / exposures - whole) <= 1.0:
                    mean = total / exposures
                    out[i, row, column] = max(squares / exposures - mean * mean, 0.0)


@inner_njit(cache=True, nogil=True, error_model="numpy")
def _shift(
    image: FloatArray, dx: float, dy: float, reach: int, rows: FloatArray, out: FloatArray
) -> None:
    """Shift an image by cubic convolution.

    Pixels of `out` within `reach` of the edge are not written.
    """
    ny, nx = image.shape
    first_x, first_y = np.floor(-dx), np.floor(-dy)
    i, j = int(first_x) - 1, int(first_y) - 1
    u, v = _cubic(-dx - first_x), _cubic(-dy - first_y)
    for y in range(ny):
        for x in range(reach, nx - reach):
            rows[y, x] = (
                u[0] * image[y, x + i]
                + u[1] * image[y, x + i + 1]
                + u[2] * image[y, x + i + 2]
                + u[3] * image[y, x + i + 3]
            )
    for y in range(reach, ny - reach):
        for x in range(reach, nx - reach):
            out[y, x] = (
                v[0] * rows[y + j, x]
                + v[1] * rows[y + j + 1, x]
                + v[2] * rows[y + j + 2, x]
                + v[3] * rows[y + j + 3, x]
            )


@njit(cache=True, inline="always", error_model="numpy")
def _cubic(f: float) -> tuple[float, float, float, float]:
    """Return the weights of four samples at a position `f` after the second one."""
    return (
        f * (-0.5 + f * (1.0 - 0.5 * f)),
        1.0 + f * f * (-2.5 + 1.5 * f),
        f * (0.5 + f * (2.0 - 1.5 * f)),
        f * f * (-0.5 + 0.5 * f),
    )


@inner_njit(cache=True, nogil=True, error_model="numpy")
def _measure_offsets(offsets: FloatArray) -> tuple[int, float]:
    """Return the number of offsets, shape (2, 8), and the largest of them along either axis."""
    points, farthest = 0, 0.0
    while points < offsets.shape[1] and np.isfinite(offsets[0, points]):
        farthest = max(farthest, abs(offsets[0, points]), abs(offsets[1, points]))
        points += 1
    return points, farthest


@inner_njit(cache=True, nogil=True, error_model="numpy")
def _find_bright(
    signal: FloatArray, reach: int
) -> tuple[BoolArray, tuple[int, int], tuple[int, int]]:
    """Flag bright pixels that have a bright neighbour: a lone one is not a star.

    Returns
    -------
    bright : ndarray of bool, shape (ny, nx)
        The flags.
    rows, columns : tuple of int
        First and last plus one of those with bright pixels.
    """
    ny, nx = signal.shape
    bright = np.zeros((ny, nx), np.bool_)
    bottom, top, left, right = ny, 0, nx, 0
    for y in range(reach, ny - reach):
        for x in range(reach, nx - reach):
            if (
                signal[y, x] > FAINT
                and max(signal[y, x - 1], signal[y, x + 1], signal[y - 1, x], signal[y + 1, x])
                > FAINT
            ):
                bright[y, x] = True
                bottom, top = min(bottom, y), max(top, y + 1)
                left, right = min(left, x), max(right, x + 1)
    return bright, (bottom, top), (left, right)


@inner_njit(cache=True, nogil=True, error_model="numpy")
def _sum_shifted(
    stack: FloatArray, offsets: FloatArray, points: int, reach: int
) -> tuple[FloatArray, FloatArray]:
    """Sharpen a stack, and sum over its exposures.

    Returns
    -------
    total, squares : ndarray, shape of `stack`
        Sums of the sharp image shifted by each offset minus the stack, and of its square.
    """
    sharp, shifted, rows = stack.copy(), stack.copy(), stack.copy()
    total, squares = stack.copy(), stack.copy()
    for iteration in range(STEPS + 1):
        total[:], squares[:] = 0.0, 0.0
        for k in range(points):
            _shift(sharp, offsets[0, k], offsets[1, k], reach, rows, shifted)
            for y in range(reach, stack.shape[0] - reach):
                for x in range(reach, stack.shape[1] - reach):
                    value = shifted[y, x] - stack[y, x]
                    total[y, x] += value
                    squares[y, x] += value * value
        if iteration < STEPS:
            sharp -= total / points
    return total, squares


@njit(cache=True, nogil=True, error_model="numpy")
def motion_variances(signal: FloatArray, offsets: FloatArray, out: FloatArray) -> None:
    """Estimate the variance of the charge over the exposures of a stack from the star's motion.

    Parameters
    ----------
    signal : ndarray, shape (ny, nx)
        Mean exposure of the stack, above its bias [electron].
    offsets : ndarray, shape (2, 8)
        See `spread.offsets_of`.
    out : ndarray, shape (ny, nx)
        Receives the variance, at most the squared signal, which no star exceeds. 0 for faint
        signals, lone bright pixels, and pixels near the edge or a NaN [electron^2].
    """
    ny, nx = signal.shape
    out[:] = 0.0
    points, farthest = _measure_offsets(offsets)
    # a shift beyond the image leaves nothing of it, and may be too large for an integer
    if points < 2 or not 0.0 < farthest < max(ny, nx):
        return
    reach = int(np.ceil(farthest)) + KERNEL
    bright, (bottom, top), (left, right) = _find_bright(signal, reach)
    if bottom >= top:
        return
    wide = reach * (STEPS + 1)  # surroundings that affect the bright pixels
    y0, y1 = max(bottom - wide, 0), min(top + wide, ny)
    x0, x1 = max(left - wide, 0), min(right + wide, nx)
    stack = signal[y0:y1, x0:x1].copy()
    total, squares = _sum_shifted(stack, offsets, points, reach)
    for y in range(reach, stack.shape[0] - reach):
        for x in range(reach, stack.shape[1] - reach):
            if bright[y + y0, x + x0]:
                variance = squares[y, x] / points - (total[y, x] / points) ** 2
                if np.isfinite(variance):
                    out[y + y0, x + x0] = min(max(variance, 0.0), stack[y, x] ** 2)


@njit(cache=True, nogil=True, error_model="numpy")
def stack_variances(
    signal: FloatArray,
    offsets: FloatArray,
    core: FloatArray,
    corner: tuple[int, int],
    gain: float,
    out: FloatArray,
) -> None:
    """Estimate the variance of the charge over the exposures of a stack.

    Imagettes give it where there are any, the motion elsewhere.

    Parameters
    ----------
    signal, offsets, out
        As for `motion_variances`.
    core, corner
        Of one stack, as in `BlockMotion`.
    gain : float
        [ADU/electron].
    """
    motion_variances(signal, offsets, out)
    for y in range(core.shape[0]):
        for x in range(core.shape[1]):
            if np.isfinite(core[y, x]):
                out[y + corner[1], x + corner[0]] = core[y, x] / gain**2


class Motion:
    """Motion within the stacks of a visit, block by block.

    Without a term there is no motion; without unstacked imagettes the core has no pixels.
    """

    def __init__(
        self,
        spread: Spread | None,
        raw: Exposures,
        imagettes: Exposures | None,
        extname: str = "TERM_SPREAD",
    ) -> None:
        if spread is None:
            self.offsets, self.first = np.zeros((raw.count, 2, POINTS)), np.full(raw.count, -1)
        else:
            self.offsets, self.first = read_spread(spread, extname)
        self.raw, self.imagettes = raw, imagettes
        self.corner, self.size = (0, 0), (0, 0)
        if imagettes is not None and (self.first >= 0).any():
            if (last := int(self.first.max()) + raw.nexp) > imagettes.count:
                raise BadInputError(
                    f"{extname}: column FIRST leads to imagette {last} of {imagettes.count}"
                )
            x, y, _ = imagette_corners(imagettes, raw)
            my, mx = imagettes.shape
            self.corner = int(x.min()), int(y.min())
            self.size = int(y.max()) - self.corner[1] + my, int(x.max()) - self.corner[0] + mx
            self.x, self.y = x, y

    def block(self, start: int, stop: int, stacks: WordArray) -> BlockMotion:
        """Return the motion within stacks `start` to `stop`, whose raw values are `stacks`."""
        first = self.first[start:stop]
        core = np.full((stop - start, *self.size), np.nan)
        has_imagettes = first >= 0
        if self.imagettes is not None and has_imagettes.any():
            a, b = int(first[has_imagettes].min()), int(first.max()) + self.raw.nexp
            imagette_variances(
                stacks,
                np.where(has_imagettes, first - a, -1),
                Imagettes(self.imagettes.words(a, b), self.x[a:b], self.y[a:b]),
                self.raw.nexp,
                self.raw.coadded,
                self.corner,
                core,
            )
        return BlockMotion(self.offsets[start:stop], core, self.corner)


class Corners(NamedTuple):
    """Position of each imagette's index [0, 0] in the sub-array, arrays of shape (m,)."""

    x: IntArray
    y: IntArray
    outside: BoolArray  # by their metadata they extend beyond it; moved to the nearest position


def imagette_corners(imagettes: Exposures, stacks: Exposures) -> Corners:
    """Return the positions of imagettes in the sub-array.

    Raises
    ------
    BadInputError
        If the imagettes are larger than the sub-array.
    """
    meta = imagettes.metadata
    (my, mx), (ny, nx) = imagettes.shape, stacks.shape
    if mx > nx or my > ny:
        raise imagettes.image.refuse(
            f"has imagettes of {mx} x {my} pixels, larger than the sub-array of {nx} x {ny}"
        )
    x = meta.column("X_OFF_FULL_ARRAY").astype(np.int64) - stacks.x_offset
    y = meta.column("Y_OFF_FULL_ARRAY").astype(np.int64) - stacks.y_offset
    outside = (x < 0) | (y < 0) | (x + mx > nx) | (y + my > ny)
    return Corners(np.clip(x, 0, nx - mx), np.clip(y, 0, ny - my), outside)
