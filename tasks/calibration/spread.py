"""What a star that moves from exposure to exposure does to a stack that is linearised as a whole.

The mean of the curve f is not the curve of the mean: with charges n_k of the exposures of a stack,

    mean f(n_k) = f(mean n_k) + 1/2 f''(mean n_k) Var n_k

to second order. In the core unstacked imagettes tell the variance of each pixel, where the
telemetry has them. Elsewhere it follows from the offsets d_k of the exposures from their mean
place, known from the attitude: the stack S is sharpened by what the motion has smoothed, in two
steps of Van Cittert (1931),

    P <- P + S - mean_k P(x - d_k)    from P = S,

and the variance is that of P(x - d_k), between pixels by cubic convolution (Keys 1981).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from schemas.arrays import FloatArray
from schemas.constants import DAY
from schemas.payloads import Product, Reference, Spread
from schemas.settings import SpreadSettings
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.byte_order import from_big_endian
from tasks.files.writer import NewHdu
from tasks.visit.attitude import mean_between, pixel_scale, read_attitude, target_track
from tasks.visit.raw import Exposures, maybe_exposures, open_exposures
from tasks.visit.terms import term_column

POINTS = 8  # offsets that stand for a stack
# Signals below hold too little of the curve's bend to matter.
FAINT = 1000.0  # electron
SHARPENED = 2  # times
KERNEL = 2  # pixels that cubic convolution reaches beyond the offset


def offsets_of(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return offsets that stand for the motion within stacks.

    Parameters
    ----------
    x, y : ndarray, shape (n, k)
        Places of the star in the k exposures of n stacks [pixel].

    Returns
    -------
    ndarray, shape (n, 2, 8)
        Offsets from the mean place along x and y, all of one weight: those of the exposures, then
        NaN, or for more than eight exposures eight points on the ellipse that has their covariance.
        0 where a place is not known [pixel].
    """
    count, k = x.shape
    found = np.full((count, 2, POINTS), np.nan)
    dx, dy = (np.nan_to_num(v - v.mean(axis=1, keepdims=True)) for v in (x, y))
    if k <= POINTS:
        found[:, 0, :k], found[:, 1, :k] = dx, dy
        return found
    xx, xy, yy = (np.mean(v, axis=1)[:, None] for v in (dx * dx, dx * dy, dy * dy))
    angle = 2 * np.pi * np.arange(POINTS) / POINTS
    along = np.sqrt(xx)
    across = np.divide(xy, along, out=np.zeros_like(xy), where=along > 0)
    found[:, 0] = np.sqrt(2) * along * np.cos(angle)
    found[:, 1] = np.sqrt(2) * (
        across * np.cos(angle) + np.sqrt(np.maximum(yy - across**2, 0)) * np.sin(angle)
    )
    return found


def exposure_places(
    raw: Exposures, time: FloatArray, x: FloatArray, y: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the mean place of the target in every exposure of every stack, shape (n, NEXP)
    [pixel].

    `time`, `x` and `y`, shape (m,), are its track by the attitude. NaN outside of it.
    """
    first = raw.mjd - raw.span / 2 / DAY
    start = first[:, None] + np.arange(raw.nexp) * max(raw.repetition, raw.exposure_time) / DAY
    stop = start + raw.exposure_time / DAY
    return mean_between(time, x, start, stop), mean_between(time, y, start, stop)


def unstacked(raw: Exposures, imagettes: Exposures) -> npt.NDArray[np.int64]:
    """Return, for every stack, the index of the first of the imagettes that are its exposures, -1
    where not all are there.

    Imagettes count where each is one exposure, and as many follow each other within the time of the
    stack as it has exposures.
    """
    none = np.full(raw.count, -1, np.int64)
    single = imagettes.metadata.column("NEXP").astype(np.int64) == 1
    if raw.nexp < 2 or not single.all() or (np.diff(imagettes.mjd) <= 0).any():
        return none
    half = raw.span / 2 / DAY
    first, last = (np.searchsorted(imagettes.mjd, raw.mjd + side * half) for side in (-1, 1))
    return np.where(last - first == raw.nexp, first, none)


@njit(cache=True, nogil=True, error_model="numpy")
def imagette_variances(
    stacks: npt.NDArray[np.uint32],
    first: npt.NDArray[np.int64],
    imagettes: npt.NDArray[np.uint32],
    x0: npt.NDArray[np.int64],
    y0: npt.NDArray[np.int64],
    exposures: int,
    stacked: int,
    corner: tuple[int, int],
    out: FloatArray,
) -> None:
    """Find how much each pixel varies over the exposures of a stack, by their imagettes.

    Parameters
    ----------
    stacks : ndarray of uint32, shape (n, ny, nx)
        Raw stacks as big-endian words of 32-bit integers, offset 2^31 not yet added [ADU].
    first : ndarray of int, shape (n,)
        Index in `imagettes` of each stack's first exposure; below 0 for a stack without.
    imagettes : ndarray of uint32, shape (m, my, mx)
        Raw imagettes, in the same words.
    x0, y0 : ndarray of int, shape (m,)
        Where each imagette's index [0, 0] lies in the stack.
    exposures, stacked : int
        Exposures of a stack; how many of them a pixel's value is the sum of.
    corner : tuple of int
        Where `out` begins in the stack, x and y.
    out : ndarray, shape (n, cy, cx)
        Receives the variance [ADU^2]; NaN where not every exposure has the pixel, or where they are
        not the stack's own: where their sum differs from the stack by more than the rounding of a
        mean.
    """
    cy, cx = out.shape[1:]
    my, mx = imagettes.shape[1:]
    for i in range(out.shape[0]):
        for row in range(cy):
            for column in range(cx):
                out[i, row, column] = np.nan
                if first[i] < 0:
                    continue
                x, y = column + corner[0], row + corner[1]
                total, squares, known = 0.0, 0.0, True
                for k in range(first[i], first[i] + exposures):
                    ix, iy = x - x0[k], y - y0[k]
                    if not (0 <= ix < mx and 0 <= iy < my):
                        known = False
                        break
                    value = from_big_endian(imagettes[k, iy, ix]) ^ np.uint32(0x80000000)
                    if value == 0:
                        known = False
                        break
                    total += value
                    squares += float(value) * float(value)
                whole = float(from_big_endian(stacks[i, y, x]) ^ np.uint32(0x80000000))
                if known and abs(total * stacked / exposures - whole) <= 1.0:
                    mean = total / exposures
                    out[i, row, column] = max(squares / exposures - mean * mean, 0.0)


@njit(cache=True, nogil=True, error_model="numpy")
def _moved(
    image: FloatArray, dx: float, dy: float, reach: int, rows: FloatArray, out: FloatArray
) -> None:
    """Move an image by an offset, by cubic convolution; `out` is left as it is within `reach`
    pixels of the edge.
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
    """Return the weights of four samples for a place that lies `f` behind the second."""
    return (
        f * (-0.5 + f * (1.0 - 0.5 * f)),
        1.0 + f * f * (-2.5 + 1.5 * f),
        f * (0.5 + f * (2.0 - 1.5 * f)),
        f * f * (-0.5 + 0.5 * f),
    )


@njit(cache=True, nogil=True, error_model="numpy")
def motion_variances(signal: FloatArray, offsets: FloatArray, out: FloatArray) -> None:
    """Find how much the charge of pixels varies over the exposures of a stack because the star
    moves.

    Parameters
    ----------
    signal : ndarray, shape (ny, nx)
        Mean exposure of the stack, above its bias [electron].
    offsets : ndarray, shape (2, 8)
        See `offsets_of`.
    out : ndarray, shape (ny, nx)
        Receives the variance, at most the squared signal: more is no star. 0 where the signal is
        faint, a lone bright pixel, or near the edge or a pixel that is no number [electron^2].
    """
    ny, nx = signal.shape
    out[:] = 0.0
    points, farthest = 0, 0.0
    while points < offsets.shape[1] and np.isfinite(offsets[0, points]):
        farthest = max(farthest, abs(offsets[0, points]), abs(offsets[1, points]))
        points += 1
    if points < 2 or farthest == 0.0:
        return
    reach = int(np.ceil(farthest)) + KERNEL
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
                bottom, top, left, right = (
                    min(bottom, y),
                    max(top, y + 1),
                    min(left, x),
                    max(right, x + 1),
                )
    if bottom >= top:
        return
    # a cut that holds all that is needed of the bright pixels' surroundings
    wide = reach * (SHARPENED + 1)
    y0, y1, x0, x1 = (
        max(bottom - wide, 0),
        min(top + wide, ny),
        max(left - wide, 0),
        min(right + wide, nx),
    )
    given = signal[y0:y1, x0:x1].copy()
    sharp, moved, rows, total, squares = (
        given.copy(),
        given.copy(),
        given.copy(),
        given.copy(),
        given.copy(),
    )
    for again in range(SHARPENED + 1):
        total[:], squares[:] = 0.0, 0.0
        for k in range(points):
            _moved(sharp, offsets[0, k], offsets[1, k], reach, rows, moved)
            for y in range(reach, given.shape[0] - reach):
                for x in range(reach, given.shape[1] - reach):
                    value = moved[y, x] - given[y, x]
                    total[y, x] += value
                    squares[y, x] += value * value
        if again < SHARPENED:
            sharp -= total / points
    for y in range(reach, given.shape[0] - reach):
        for x in range(reach, given.shape[1] - reach):
            if bright[y + y0, x + x0]:
                variance = squares[y, x] / points - (total[y, x] / points) ** 2
                if np.isfinite(variance):
                    out[y + y0, x + x0] = min(max(variance, 0.0), given[y, x] ** 2)


@njit(cache=True, nogil=True, error_model="numpy")
def stack_variances(
    signal: FloatArray,
    offsets: FloatArray,
    core: FloatArray,
    corner: tuple[int, int],
    gain: float,
    out: FloatArray,
) -> None:
    """Find how much the charge of pixels varies over the exposures of a stack, by imagettes or else
    by the motion.

    Parameters
    ----------
    signal, offsets, out
        As for `motion_variances`.
    core : ndarray, shape (cy, cx)
        Variance by imagettes, NaN where they tell none [ADU^2].
    corner : tuple of int
        Where `core` begins in the image, x and y.
    gain : float
        [ADU/electron].
    """
    motion_variances(signal, offsets, out)
    for y in range(core.shape[0]):
        for x in range(core.shape[1]):
            if np.isfinite(core[y, x]):
                out[y + corner[1], x + corner[0]] = core[y, x] / gain**2


class Motion:
    """Motion within the stacks of a visit, block by block: offsets, and the variances that
    imagettes tell of the core.

    Without a term nothing moves.

    Attributes
    ----------
    corner : tuple of int
        Where the core begins in the images, x and y; the core has no pixels where there are no
        unstacked imagettes.
    """

    def __init__(
        self,
        spread: Spread | None,
        raw: Exposures,
        imagettes: Exposures | None,
        extname: str = "TERM_SPREAD",
    ) -> None:
        self.offsets, self.first = (
            np.zeros((raw.count, 2, POINTS)),
            np.full(raw.count, -1, np.int64),
        )
        if spread is not None:
            x, y, first = term_column(spread.product, extname, "OFFSET_X", "OFFSET_Y", "FIRST")
            self.offsets, self.first = (
                np.stack([x, y], axis=1).astype(np.float64),
                first.astype(np.int64),
            )
        self.raw, self.imagettes = raw, imagettes
        self.corner, self.size = (0, 0), (0, 0)
        if imagettes is not None and (self.first >= 0).any():
            x, y = imagette_corners(imagettes, raw)
            my, mx = imagettes.shape
            self.corner = int(x.min()), int(y.min())
            self.size = int(y.max()) - self.corner[1] + my, int(x.max()) - self.corner[0] + mx
            self.x, self.y = x, y

    def block(
        self, start: int, stop: int, stacks: npt.NDArray[np.uint32]
    ) -> tuple[FloatArray, FloatArray]:
        """Return offsets (n, 2, 8) and core variances (n, cy, cx) [ADU^2] of some stacks, given as
        raw words.
        """
        first = self.first[start:stop]
        core = np.full((stop - start, *self.size), np.nan)
        own = first >= 0
        if self.imagettes is not None and own.any():
            a, b = int(first[own].min()), int(first.max()) + self.raw.nexp
            imagette_variances(
                stacks,
                np.where(own, first - a, -1),
                self.imagettes.words(a, b),
                self.x[a:b],
                self.y[a:b],
                self.raw.nexp,
                self.raw.coadded,
                self.corner,
                core,
            )
        return self.offsets[start:stop], core


def imagette_corners(
    imagettes: Exposures, stacks: Exposures
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return where the index [0, 0] of each imagette lies in the images of the sub-array, x and y,
    shape (m,).

    Raises
    ------
    BadInputError
        If an imagette is not within the sub-array.
    """
    meta = imagettes.metadata
    x = meta.column("X_OFF_FULL_ARRAY").astype(np.int64) - stacks.x_offset
    y = meta.column("Y_OFF_FULL_ARRAY").astype(np.int64) - stacks.y_offset
    (my, mx), (ny, nx) = imagettes.shape, stacks.shape
    if (x < 0).any() or (y < 0).any() or (x + mx > nx).any() or (y + my > ny).any():
        raise meta.refuse(
            "columns X_OFF_FULL_ARRAY, Y_OFF_FULL_ARRAY place imagettes outside of the sub-array"
        )
    return x, y


@step("spread", "ADU_CONV", version="1", payload=Spread, leaves=["TERM_SPREAD"])
def estimate_spread(
    raw: Product,
    imagettes: Product | None,
    attitude: Product,
    scale: Reference | None,
    settings: SpreadSettings,
) -> Leaves:
    """Find how the star moves from exposure to exposure of a stack, and which imagettes are these
    exposures.
    """
    looked = read_attitude(attitude)
    with open_exposures(raw) as stacks, maybe_exposures(imagettes) as small:
        target = stacks.image.number("RA_TARG"), stacks.image.number("DEC_TARG")
        track = looked.time, *target_track(looked, target, pixel_scale(scale))
        tables: dict[str, dict[str, npt.NDArray[Any]]] = {}
        warnings: list[str] = []
        for name, exposures in (("TERM_SPREAD", stacks), ("TERM_SPREAD_IMAGETTES", small)):
            count = exposures.count if exposures is not None else 0
            offsets, first, mjd = (
                np.zeros((count, 2, POINTS)),
                np.full(count, -1, np.int64),
                np.zeros(0),
            )
            if exposures is not None:
                mjd = exposures.mjd
                if exposures.nexp > 1 and not settings.skip:
                    places = exposure_places(exposures, *track)
                    offsets = offsets_of(*places)
                    if unknown := int(np.isnan(places).any(axis=(0, 2)).sum()):
                        warnings.append(
                            f"{unknown} of {count} images have no attitude: linearised as if "
                            f"the star rested"
                        )
            if small is not None and exposures is stacks and not settings.skip:
                first = unstacked(stacks, small)
            tables[name] = {
                "MJD_TIME": mjd,
                "OFFSET_X": offsets[:, 0],
                "OFFSET_Y": offsets[:, 1],
                "FIRST": first,
            }
    own = tables["TERM_SPREAD"]
    motion = np.sqrt(
        np.median(np.nanvar(own["OFFSET_X"], axis=1) + np.nanvar(own["OFFSET_Y"], axis=1)) / 2
    )
    used = {"SPR_PIX": float(motion), "SPR_IMG": float(np.mean(own["FIRST"] >= 0))}
    hdus = [
        NewHdu(TERMS[name], used if name == "TERM_SPREAD" else {}, columns=c)
        for name, c in tables.items()
    ]
    return Leaves({"TERM_SPREAD": hdus}, used=used, warnings=warnings, skipped=settings.skip)
