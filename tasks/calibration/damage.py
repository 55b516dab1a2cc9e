"""Damage of raw images: pixels that are lost, impossible, repeated or saturated.

Nothing is learned from damaged images, so they are recognised by what no light can do, before
anything is estimated: pixels without data (0) or beyond the range of the converter; images and
rows that repeat others bit for bit; squares of equal pixels. Noise makes such coincidences as rare
as one in a million images. Where it does not (noise-free simulations, means of many exposures),
they occur in all images, and only an image with many more of them than usual is damaged.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from schemas.arrays import BoolArray, FloatArray, IntArray, WordArray
from tasks.calibration.repeated_times import row_numbers
from tasks.files.byte_order import from_big_endian
from tasks.numerics.inner import inner_njit
from tasks.numerics.robust import sort_values
from tasks.visit.raw import Exposures, by_image

FULL_SCALE = 65535  # ADU of one exposure

# of the pixels of the window, a row of 200 x 200; with more of them lost an image is not measured
MOST_LOST = 0.005

MOST_SATURATED = 0.5  # of the pixels of the window

CENTRE = 40.0  # pixel; radius around the middle of the window in which the target is expected

# of the fainter pixels, which hold little more than the bias; no pixel has less
LOWEST, FAINTER = 0.5, 0.1

# ADU of one exposure; below any bias of the instrument (566 and 628), where all pixels are bright
LEAST_BIAS = 250.0

RUN, LONG_RUN = 8, 16  # pixels that repeat those of the image before, of another row or column

RARE = 0.05  # of the images; fewer do not show what is usual
BY_CHANCE = 4  # coincidences in an image that are no damage

SAMPLED = 5  # images spread over the visit that show the window and its usual level

_BASIS, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)  # FNV-1a


class Limits(NamedTuple):
    """Values of a pixel [ADU]."""

    low: float  # with less it is impossible
    saturated: float  # from here on it is saturated
    high: float  # with more it is impossible


class Window(NamedTuple):
    """Pixels of the window, shape (ny, nx)."""

    inside: BoolArray  # they have data in some images
    centre: BoolArray  # the target is expected there


class Counts(NamedTuple):
    """What was counted in every image, shape (n,)."""

    lost: IntArray  # pixels without data, or with impossible values
    saturated: IntArray  # pixels
    saturated_centre: IntArray  # those of stars where the target is expected
    frozen: IntArray  # runs of pixels equal to those of the image before
    constant: IntArray  # squares of 3 x 3 equal pixels
    repeated: IntArray  # runs of pixels that occur in several rows or columns


class Damage(NamedTuple):
    """Damage of the images of a visit; arrays of shape (n,) unless stated otherwise."""

    causes: dict[str, BoolArray]  # which images are not measured, by the reason
    lost: BoolArray  # some pixels are lost or impossible
    saturated: IntArray  # saturated pixels of stars where the target is expected
    saturated_in: IntArray  # measured images in which a pixel of a star is saturated, (ny, nx)
    missing: int  # pixels of a full window without data in any image

    @property
    def unusable(self) -> BoolArray:
        """Which images are not measured."""
        return np.asarray(np.any(list(self.causes.values()), axis=0))

    @property
    def some_lost(self) -> BoolArray:
        """Which of the measured images lack some pixels."""
        return self.lost & ~self.unusable

    @property
    def star_saturated(self) -> BoolArray:
        """In which of the measured images the star is saturated."""
        return (self.saturated > 0) & ~self.unusable


@njit(cache=True, nogil=True)
def inspect_images(
    words: WordArray, before: WordArray, window: Window, limits: Limits, saturated_in: IntArray
) -> tuple[IntArray, npt.NDArray[np.uint64]]:
    """Count lost, saturated and repeated pixels of a block of images.

    Parameters
    ----------
    words : ndarray of uint32, shape (n, ny, nx)
        Raw images as big-endian words of 32-bit integers with the offset 2^31 not yet added.
    before : ndarray of uint32, shape (ny, nx)
        The image before the first.
    window, limits
        Which pixels are inspected, and by which limits.
    saturated_in : ndarray of int, shape (ny, nx)
        Number of images in which a pixel is saturated, to which those of the block are added.

    Returns
    -------
    counts : ndarray of int, shape (n, 6)
        Columns of `Counts`.
    digests : ndarray of uint64, shape (n,)
        Equal for equal images.
    """
    counts = np.zeros((words.shape[0], 6), np.int64)
    digests = np.zeros(words.shape[0], np.uint64)
    plain = np.zeros(words.shape[1:], np.bool_)
    for i in range(words.shape[0]):
        image, last = words[i], before if i == 0 else words[i - 1]
        digests[i] = _inspect_pixels(image, window, limits, plain, saturated_in, counts[i])
        counts[i, 3] = _count_frozen(image, last, plain)
        counts[i, 4] = _count_constant(image, plain)
        counts[i, 5] = _count_repeated(image, plain)
        counts[i, 5] += _count_repeated(image.T.copy(), plain.T.copy())
    return counts, digests


@inner_njit(cache=True, nogil=True)
def _inspect_pixels(
    image: WordArray,
    window: Window,
    limits: Limits,
    plain: BoolArray,
    saturated_in: IntArray,
    counts: IntArray,
) -> np.uint64:
    """Count lost and saturated pixels, mark the others as plain; return a digest of the image."""
    digest = _BASIS
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            digest = (digest ^ np.uint64(image[y, x])) * _PRIME
            plain[y, x] = False
            if not window.inside[y, x]:
                continue
            value = from_big_endian(image[y, x]) ^ np.uint32(0x80000000)
            if value == 0 or value < limits.low or value > limits.high:
                counts[0] += 1
            elif value >= limits.saturated:
                counts[1] += 1
                if _is_beside_light(image, y, x, limits.saturated / 2):
                    counts[2] += window.centre[y, x]
                    saturated_in[y, x] += 1
            else:
                plain[y, x] = True
    return digest


@inner_njit(cache=True, nogil=True)
def _is_beside_light(image: WordArray, y: int, x: int, least: float) -> bool:
    """Return whether a pixel beside this one in its row is bright, too.

    One of a star is, as the PSF is wide; one of a hot pixel is not. Charge of either bleeds along
    the column.
    """
    for beside in (x - 1, x + 1):
        if 0 <= beside < image.shape[1]:
            value = from_big_endian(image[y, beside]) ^ np.uint32(0x80000000)
            if value >= least:
                return True
    return False


@inner_njit(cache=True, nogil=True)
def _count_frozen(image: WordArray, last: WordArray, plain: BoolArray) -> int:
    """Count runs of RUN pixels that are equal in two images."""
    count = 0
    for y in range(image.shape[0]):
        for x in range(0, image.shape[1] - RUN + 1, RUN):
            k = 0
            while k < RUN and plain[y, x + k] and image[y, x + k] == last[y, x + k]:
                k += 1
            count += k == RUN
    return count


@inner_njit(cache=True, nogil=True)
def _count_constant(image: WordArray, plain: BoolArray) -> int:
    """Count squares of 3 x 3 equal pixels."""
    count = 0
    for y in range(image.shape[0] - 2):
        for x in range(image.shape[1] - 2):
            value, k = image[y, x], 0
            while k < 9 and plain[y + k // 3, x + k % 3] and image[y + k // 3, x + k % 3] == value:
                k += 1
            count += k == 9
    return count


@inner_njit(cache=True, nogil=True)
def _count_repeated(image: WordArray, plain: BoolArray) -> int:
    """Count runs of LONG_RUN pixels of a row that occur in another row at the same columns."""
    count = 0
    digests = np.empty(image.shape[0], np.uint64)
    for x in range(0, image.shape[1] - LONG_RUN + 1, LONG_RUN):
        rows = 0
        for y in range(image.shape[0]):
            digest, k = _BASIS, 0
            while k < LONG_RUN and plain[y, x + k]:
                digest = (digest ^ np.uint64(image[y, x + k])) * _PRIME
                k += 1
            if k == LONG_RUN:
                digests[rows] = digest
                rows += 1
        ordered = digests[:rows].copy()
        sort_values(ordered)
        for j in range(1, rows):
            count += ordered[j] == ordered[j - 1]
    return count


def more_than_usual(counts: IntArray) -> BoolArray:
    """Return which images have many more coincidences than the others, shape (n,).

    What is usual has to be so in all but a twentieth of the images: most may be damaged, but in a
    simulated visit without noise all coincide, except for those in which the star has moved far.
    """
    if not len(counts):
        return np.zeros(0, dtype=np.bool_)
    least = float(np.quantile(counts, RARE, method="lower"))
    usual = min(float(np.median(counts)), 8.0 + 4.0 * least)
    return np.asarray(counts > BY_CHANCE + 3.0 * usual)


def find_damage(counts: Counts, copied: BoolArray, pixels: int) -> dict[str, BoolArray]:
    """Return which images are not measured, by the reason.

    Parameters
    ----------
    counts : Counts
        Of every image.
    copied : ndarray of bool, shape (n,)
        Images that are equal to an earlier one.
    pixels : int
        Pixels of the window.
    """
    most = MOST_LOST * pixels
    lost = counts.lost > most
    frozen = np.zeros(len(lost), dtype=np.bool_)
    frozen[1:] = more_than_usual(counts.frozen[1:])  # before the first there is none to repeat
    usual = float(np.median(counts.saturated[~lost])) if not lost.all() else 0.0
    return {
        f"more than {MOST_LOST:.1%} of the pixels are lost or impossible": lost,
        "all pixels repeat those of an earlier image": copied & ~lost,
        "pixels repeat those of the image before": frozen & ~copied,
        "pixels repeat others of the image": more_than_usual(counts.repeated)
        | more_than_usual(counts.constant),
        "far more pixels are saturated than usual": counts.saturated
        > min(2.0 * usual + most, MOST_SATURATED * pixels),
    }


def assess_images(raw: Exposures, exposures: FloatArray, saturation: float) -> Damage:
    """Assess all images of a raw product in one pass.

    Parameters
    ----------
    raw : Exposures
        Stacks or imagettes.
    exposures : ndarray, shape (n,)
        Exposures that a pixel is the sum of.
    saturation : float
        From here on a pixel is saturated [ADU per exposure].
    """
    most = float(exposures.max())
    inside, low = sample_window(raw)
    low = min(low, LEAST_BIAS * float(exposures.min()))
    limits = Limits(low, saturation * float(exposures.min()), FULL_SCALE * most)
    saturated_in = np.zeros(raw.shape, np.int64)
    window, before = Window(inside, near_middle(raw.shape)), ~raw.words(0, 1)[0]
    parts = []

    def inspect(words: WordArray) -> None:
        nonlocal before
        parts.append(inspect_images(words, before, window, limits, saturated_in))
        before = words[-1]

    by_image(raw, inspect)
    counts = Counts(*np.concatenate([part[0] for part in parts]).T)
    digests = np.concatenate([part[1] for part in parts])
    copied = np.ones(raw.count, dtype=np.bool_)
    copied[np.unique(digests, return_index=True)[1]] = False
    causes = find_damage(counts, copied, int(inside.sum()))
    # pixels are not saturated because an image is damaged
    for i in np.flatnonzero(np.any(list(causes.values()), axis=0) & (counts.saturated > 0)):
        words, again = raw.words(int(i), int(i) + 1), np.zeros_like(saturated_in)
        inspect_images(words, words[0], window, limits, again)
        saturated_in -= again
    circular = raw.image.header.get("SHAPE") == "circular"
    missing = 0 if circular else int((~inside).sum())
    return Damage(causes, counts.lost > 0, counts.saturated_centre, saturated_in, missing)


def adu_of(raw: Exposures, i: int) -> WordArray:
    """Return a raw image, shape (ny, nx) [ADU]."""
    return np.asarray(raw.words(i, i + 1)[0].byteswap() ^ np.uint32(0x80000000))


def near_middle(shape: tuple[int, int]) -> BoolArray:
    """Return the pixels around the middle of the window, shape (ny, nx)."""
    y, x = np.indices(shape)
    return np.asarray(np.hypot(x - (shape[1] - 1) / 2, y - (shape[0] - 1) / 2) < CENTRE)


def sample_window(raw: Exposures) -> tuple[BoolArray, float]:
    """Return the pixels of the window, shape (ny, nx), and the least possible value of one.

    A pixel that is 0 in each of a few images spread over the visit is outside of the window. If all
    are, these images are empty.
    """
    outside, levels = np.ones(raw.shape, dtype=np.bool_), []
    for i in np.unique(np.linspace(0, raw.count - 1, SAMPLED).astype(int)):
        adu = adu_of(raw, int(i))
        outside &= adu == 0
        if adu.any():
            levels.append(float(np.quantile(adu[adu > 0], FAINTER)))
    inside = ~outside if not outside.all() else np.ones(raw.shape, dtype=np.bool_)
    return inside, LOWEST * min(levels, default=0.0)


def cause_warnings(damage: Damage) -> list[str]:
    """Return a warning for each reason for which images are not measured."""
    return [
        f"{images.sum()} of {len(images)} images are not measured: {cause} (image "
        f"{row_numbers(images, 1)})"
        for cause, images in damage.causes.items()
        if images.any()
    ]


def damage_warnings(damage: Damage, saturation: float) -> list[str]:
    """Return a warning for each kind of damage; pixels reach `saturation` [ADU per exposure]."""
    count, warnings = len(damage.lost), cause_warnings(damage)
    if (lost := damage.some_lost).any():
        warnings.append(
            f"{lost.sum()} of {count} images have lost or impossible pixels: masked and flagged "
            f"(image {row_numbers(lost, 1)})"
        )
    if (saturated := damage.star_saturated).any():
        warnings.append(
            f"the star is saturated in {saturated.sum()} of {count} images: flagged; up to "
            f"{damage.saturated[saturated].max()} pixels hold {saturation:.0f} ADU per exposure or "
            f"more, which the linearity curve does not restore"
        )
    if damage.missing:
        warnings.append(f"{damage.missing} pixels of the window have no data in any image")
    return warnings
