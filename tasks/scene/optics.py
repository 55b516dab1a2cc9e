"""Image formation: a super-resolved PSF, shifted and blurred by the satellite, sampled by pixels.

The PSF P is sampled at half a pixel and includes the integration over a pixel. The image of a star
in a stack is P convolved with the distribution of the star's places during the exposures: in
Fourier space, P times the mean of exp(-2 pi i (kx x + ky y)) over the attitude samples. Sampling by
whole pixels aliases four frequencies of the fine grid onto one. Many images at different places
separate them again: for each frequency of the pixel grid, a 4 x 4 least-squares system over the
images gives all four frequencies of the fine grid (Lauer 1999, PASP 111, 1434, for dithered images;
here every image has its own transfer function).

Images are real, so half of a spectrum determines the other: spectra have the layout of
`numpy.fft.rfft2`, with all frequencies along y and those from 0 along x.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import scipy.fft
from numba import njit

from schemas.arrays import BoolArray, Complex64Array, ComplexArray, FloatArray

FINE = 2  # samples of the fine grid per pixel, along either axis

NO_POWER = 1e-8  # of the power at frequency 0; keeps the prior finite

# strength of the prior against power that pixels do not let pass: at 0.9 cycles per pixel, where
# single exposures still have some, it doubles the prior; at 0.99 that is a hundred times as strong
PIXELS = 0.01


def frequencies(size: int) -> FloatArray:
    """Return the frequencies along y of a stamp's spectrum [cycles per pixel], shape (2 size,)."""
    return np.asarray(np.fft.fftfreq(FINE * size, d=1.0 / FINE), np.float64)


def frequencies_x(size: int) -> FloatArray:
    """Return the frequencies along x of a stamp's spectrum [cycles per pixel], (size + 1,)."""
    return np.asarray(np.fft.rfftfreq(FINE * size, d=1.0 / FINE), np.float64)


def turns(places: FloatArray, size: int) -> ComplexArray:
    """Return exp(-2 pi i k p) for the frequencies k from 0 and places p, shape (m, size + 1)."""
    steps = np.empty((len(places), size + 1), complex)
    steps[:, 0] = 1.0
    steps[:, 1:] = np.exp(-2j * np.pi / size * places)[:, None]
    return np.asarray(np.multiply.accumulate(steps, axis=1))


def both_signs(half: ComplexArray) -> ComplexArray:
    """Return values at all frequencies, (..., 2 size), from those from 0, (..., size + 1).

    Values at negative frequencies are the complex conjugates.
    """
    return np.concatenate([half[..., :-1], np.conj(half[..., :0:-1])], axis=-1)


def motion_transfer(x: FloatArray, y: FloatArray, size: int) -> Complex64Array:
    """Return the transfer function of a star that spent equal times at some places.

    Single precision changes the flux of a star by 0.01 ppm.

    Parameters
    ----------
    x, y : ndarray, shape (m,)
        Places relative to the PSF's centre [pixel].
    size : int
        Side of the stamp [pixel].

    Returns
    -------
    ndarray of complex64, shape (2 size, size + 1)
    """
    along_x, along_y = (turns(v, size).astype(np.complex64) for v in (x, y))
    # real and imaginary parts, since frequencies of either sign along y have the same products
    right = np.concatenate([along_x.real, along_x.imag], axis=1)
    left = np.concatenate([along_y.real, along_y.imag], axis=1)
    products = (left.T @ right).reshape(2, size + 1, 2, size + 1)
    products /= np.float32(len(x))
    same = products[0, :, 0], products[1, :, 1]
    mixed = products[0, :, 1], products[1, :, 0]
    transfer = np.empty((FINE * size, size + 1), np.complex64)
    transfer[:size].real = (same[0] - same[1])[:size]
    transfer[:size].imag = (mixed[0] + mixed[1])[:size]
    transfer[size:].real = (same[0] + same[1])[:0:-1]
    transfer[size:].imag = (mixed[0] - mixed[1])[:0:-1]
    return transfer


def shifted(transfer: ComplexArray | Complex64Array, x: float, y: float) -> ComplexArray:
    """Return the transfer function of the same motion, shifted by (x, y) [pixel]."""
    size = transfer.shape[0] // FINE
    along_x, along_y = (turns(np.array([p]), size)[0] for p in (x, y))
    return np.asarray(transfer * both_signs(along_y)[:, None] * along_x[None, :])


class Shift(NamedTuple):
    """A shift of a star, as factors at the frequencies along either axis."""

    rows: ComplexArray  # (2 size,)
    columns: ComplexArray  # (size + 1,)

    @classmethod
    def by(cls, x: float, y: float, size: int) -> Shift:
        """Return the factors of a shift by (x, y) [pixel]."""
        along_x, along_y = (turns(np.array([p]), size)[0] for p in (x, y))
        return cls(both_signs(along_y), along_x)


@njit(cache=True, nogil=True, error_model="numpy")
def _fold(
    psf: ComplexArray,
    transfer: Complex64Array,
    rows: ComplexArray,
    columns: ComplexArray,
    slopes: bool,
    out: ComplexArray,
) -> None:
    """Alias the spectrum of a star and, with `slopes`, of its derivatives onto the pixel grid.

    Parameters
    ----------
    psf : ndarray of complex, shape (2 s, s + 1)
        PSF.
    transfer : ndarray of complex64, shape (2 s, s + 1)
        Motion of the star.
    rows, columns : ndarray of complex, shape (2 s,) and (s + 1,)
        Shift of the star.
    slopes : bool
        Whether to return the derivatives along x and y [1/pixel].
    out : ndarray of complex, shape (1 or 3, s, s // 2 + 1)
        Output.
    """
    n, s = psf.shape[0], psf.shape[1] - 1
    unit = -2.0 * np.pi / s  # phase of a pixel at the lowest frequency
    for a in range(s):
        for b in range(s // 2 + 1):
            total = along_x = along_y = 0.0 + 0.0j
            for row in (a, a + s):
                ky = row if row < s else row - n
                value = psf[row, b] * transfer[row, b] * (rows[row] * columns[b])
                total += value
                if slopes:
                    along_x += b * value
                    along_y += ky * value
                # frequencies beyond the half that is held: conjugates of those at -k
                opposite, mirrored = (n - row) % n, s - b
                value = np.conj(
                    psf[opposite, mirrored]
                    * transfer[opposite, mirrored]
                    * (rows[opposite] * columns[mirrored])
                )
                total += value
                if slopes:
                    along_x -= mirrored * value
                    along_y += ky * value
            out[0, a, b] = total
            if slopes:
                out[1, a, b] = 1j * unit * along_x
                out[2, a, b] = 1j * unit * along_y


def _images(
    psf: ComplexArray,
    transfer: ComplexArray | Complex64Array,
    shift: Shift | None,
    slopes: bool,
) -> FloatArray:
    """Return the image of a star of one electron, and its derivatives, (1 or 3, size, size)."""
    size = psf.shape[1] - 1
    rows, columns = Shift.by(0.0, 0.0, size) if shift is None else shift
    folded = np.empty((3 if slopes else 1, size, size // 2 + 1), complex)
    _fold(psf, transfer.astype(np.complex64, copy=False), rows, columns, slopes, folded)
    images: FloatArray = scipy.fft.irfft2(folded, s=(size, size), overwrite_x=True)
    return images


def render(
    psf: ComplexArray, transfer: ComplexArray | Complex64Array, shift: Shift | None = None
) -> FloatArray:
    """Return the image of a star of one electron, shape (size, size)."""
    image: FloatArray = _images(psf, transfer, shift, False)[0]
    return image


def render_with_slopes(
    psf: ComplexArray, transfer: ComplexArray | Complex64Array, shift: Shift | None = None
) -> FloatArray:
    """Return the image of a star of one electron, and its derivatives along x and y [1/pixel].

    The shape is (3, size, size).
    """
    return _images(psf, transfer, shift, True)


def _aliases(spectrum: ComplexArray) -> ComplexArray:
    """Return the four fine frequencies aliased onto each of the pixel grid, (s, s // 2 + 1, 4).

    They are those at the rows a and a + s of the columns b and b + s.
    """
    n, s = spectrum.shape[0], spectrum.shape[1] - 1
    first, last = slice(0, s // 2 + 1), slice(s, s // 2 - 1, -1)
    mirrored = np.conj(spectrum[-np.arange(n) % n])
    parts = [
        part[p : p + s, columns]
        for p in (0, s)
        for part, columns in ((spectrum, first), (mirrored, last))
    ]
    return np.stack(parts, axis=-1)


def _spectrum(aliases: ComplexArray) -> ComplexArray:
    """Undo `_aliases`, and keep the spectrum of a real image: the rest at Nyquist is noise."""
    s = aliases.shape[0]
    n, half = FINE * s, s // 2 + 1
    spectrum, mirrored = np.empty((n, s + 1), complex), np.empty((n, half), complex)
    for p in (0, s):
        c = FINE * p // s
        spectrum[p : p + s, :half], mirrored[p : p + s] = aliases[..., c], aliases[..., c + 1]
    spectrum[:, half:] = np.conj(mirrored[-np.arange(n) % n])[:, half - 2 :: -1]
    return np.asarray(scipy.fft.rfft2(scipy.fft.irfft2(spectrum, s=(n, n))))


def solve_changing_psf(
    images: Iterable[tuple[FloatArray, ComplexArray, float, float, float]],
    size: int,
    smoothness: float,
    prior: ComplexArray | None,
    stiffness: float | None,
) -> tuple[ComplexArray, ComplexArray | None]:
    """Fit the spectra of a PSF P and of its change D with a parameter, P(t) = P + t D, to images.

    Parameters
    ----------
    images : iterable of (stamp, transfer, flux, weight, t)
        Stamps of `size` x `size` pixels without background and defects [electron], each with the
        transfer function, flux [electron], weight, and parameter of the star. Parameters are of
        order 1 and have a mean near 0.
    size : int
        Side of the stamps [pixel], even.
    smoothness : float
        Strength of the prior, which increases with frequency and dominates where the images are
        uninformative.
    prior : ndarray of complex, shape (2 size, size + 1), optional
        Spectrum of the expected PSF; None means zero: high frequencies are weak.
    stiffness : float or None
        Strength of the prior on zero change, which increases with frequency in the same way.
        With None, the PSF does not change.

    Returns
    -------
    mean, change : ndarray of complex, shape (2 size, size + 1)
        Spectra with the totals 1 and 0; the change is None if `stiffness` is.
    """
    blocks, sums, total = _moments(images, size, 1 if stiffness is None else 3)
    growth = total * _growth(size)
    diagonal = np.arange(4)
    blocks[0][..., diagonal, diagonal] += smoothness * growth
    if prior is not None:
        sums[0] += smoothness * growth * _aliases(prior)
    if stiffness is None:
        spectrum = _spectrum(np.linalg.solve(blocks[0], sums[0][..., None])[..., 0])
        return np.asarray(spectrum / spectrum[0, 0].real), None
    blocks[2][..., diagonal, diagonal] += stiffness * growth
    normal = np.concatenate(
        [np.concatenate(blocks[:2], axis=-1), np.concatenate(blocks[1:], axis=-1)], axis=-2
    )
    right = np.concatenate(sums, axis=-1)[..., None]
    solved = np.asarray(np.linalg.solve(normal, right)[..., 0], np.complex128)
    mean, change = _spectrum(solved[..., :4]), _spectrum(solved[..., 4:])
    scale = mean[0, 0].real
    # a change of the total belongs to the star's flux, not to the PSF
    return mean / scale, np.asarray((change - mean * (change[0, 0].real / scale)) / scale)


def _moments(
    images: Iterable[tuple[FloatArray, ComplexArray, float, float, float]], size: int, moments: int
) -> tuple[ComplexArray, ComplexArray, float]:
    """Return left and right sides of the normal equations, and the total weight.

    Sides are sums weighted by 1, t and t^2; the left one has a 4 x 4 block for each frequency.
    """
    blocks = np.zeros((moments, size, size // 2 + 1, 4, 4), complex)
    sums = np.zeros((min(moments, 2), size, size // 2 + 1, 4), complex)
    total = 0.0
    for stamp, transfer, flux, weight, t in images:
        _add_image(transfer, scipy.fft.rfft2(stamp / flux), weight, t, blocks, sums)
        total += weight
    for i in range(4):
        for j in range(i):
            blocks[..., i, j] = np.conj(blocks[..., j, i])
    return blocks, sums, total


@njit(cache=True, nogil=True, error_model="numpy")
def _add_image(
    transfer: ComplexArray,
    seen: ComplexArray,
    weight: float,
    t: float,
    blocks: ComplexArray,
    sums: ComplexArray,
) -> None:
    """Add an image to the normal equations; of the blocks, only the upper triangles are filled.

    Parameters
    ----------
    transfer : ndarray of complex, shape (2 s, s + 1)
        Transfer function of the star.
    seen : ndarray of complex, shape (s, s // 2 + 1)
        Spectrum of the image, of a flux of 1.
    weight, t : float
        Weight of the image, and parameter of the PSF.
    blocks, sums : ndarray of complex, shape (m, s, s // 2 + 1, 4, 4) and (m', s, s // 2 + 1, 4)
        Sides of the normal equations.
    """
    n, s = transfer.shape[0], transfer.shape[1] - 1
    known = np.empty(4, np.complex128)
    powers = np.empty(blocks.shape[0])  # within the loops they would take a third of the time
    for m in range(blocks.shape[0]):
        powers[m] = t**m
    for a in range(s):
        for b in range(s // 2 + 1):
            known[0], known[1] = transfer[a, b], np.conj(transfer[(n - a) % n, s - b])
            known[2], known[3] = transfer[a + s, b], np.conj(transfer[s - a, s - b])
            for i in range(4):
                part = weight * np.conj(known[i])
                for m in range(sums.shape[0]):
                    sums[m, a, b, i] += powers[m] * part * seen[a, b]
                for j in range(i, 4):
                    for m in range(blocks.shape[0]):
                        blocks[m, a, b, i, j] += powers[m] * part * known[j]


def _growth(size: int) -> FloatArray:
    """Return the strength of the priors at each frequency relative to that at frequency 0.

    Light that is integrated over square pixels has the power sinc^2 kx sinc^2 ky at most, and
    none at one cycle per pixel. The images do not constrain this frequency, as pixels alias it
    onto the total of a stamp: without the prior, errors of the sky and of neighbours would go into
    it, and the light within an aperture would depend on the star's place within its pixel.
    """
    ky, kx = frequencies(size)[:, None], frequencies_x(size)[None, :]
    power = np.maximum(np.sinc(ky) ** 2 * np.sinc(kx) ** 2, NO_POWER)
    growth = (1.0 + (np.hypot(ky, kx) / 0.5) ** 4) * (1.0 + PIXELS * (1.0 / power - 1.0))
    return np.asarray(_aliases(growth.astype(complex)).real)


def to_grid(spectrum: ComplexArray) -> FloatArray:
    """Return the PSF on the fine grid with its centre in the middle, shape (2 size, 2 size)."""
    n = spectrum.shape[0]
    grid: FloatArray = np.fft.fftshift(scipy.fft.irfft2(spectrum, s=(n, n)))
    return grid


def to_spectrum(grid: FloatArray) -> ComplexArray:
    """Undo `to_grid`."""
    spectrum: ComplexArray = scipy.fft.rfft2(np.fft.ifftshift(grid))
    return spectrum


def fit_star(
    stamp: FloatArray, images: FloatArray, weight: FloatArray, level_error: float = np.inf
) -> tuple[FloatArray, FloatArray]:
    """Fit flux, shift and level of one star image by linear least squares.

    Parameters
    ----------
    stamp : ndarray, shape (ny, nx)
        Measured image without background [electron].
    images : ndarray, shape (3, ny, nx)
        Model for one electron, and its derivatives along x and y [1/pixel].
    weight : ndarray, shape (ny, nx)
        Inverse variance [1/electron^2]; pixels of weight 0 are ignored.
    level_error : float
        Prior error of the level, which is expected to be 0 [electron].

    Returns
    -------
    values, errors : ndarray, shape (4,)
        Flux [electron], flux times x shift, flux times y shift [electron pixel], level [electron].
        0 with infinite errors if the pixels do not determine them.
    """
    normal, right = np.zeros((4, 4)), np.zeros(4)
    _add_pixels(stamp, images, weight, normal, right)
    normal[3, 3] += 1.0 / level_error**2
    try:
        covariance = np.linalg.inv(normal)
    except np.linalg.LinAlgError:
        return np.zeros(4), np.full(4, np.inf)
    variance = np.diag(covariance)
    if np.count_nonzero(weight) < len(normal) or not (variance > 0).all():
        return np.zeros(4), np.full(4, np.inf)
    return np.asarray(covariance @ right), np.sqrt(variance)


@njit(cache=True, nogil=True, error_model="numpy")
def _add_pixels(
    stamp: FloatArray, images: FloatArray, weight: FloatArray, normal: FloatArray, right: FloatArray
) -> None:
    """Sum the normal equations of `fit_star` over the pixels."""
    row = np.empty(4)
    row[3] = 1.0
    for j in range(stamp.shape[0]):
        for i in range(stamp.shape[1]):
            if not weight[j, i] > 0.0:
                continue
            for k in range(3):
                row[k] = images[k, j, i]
            for k in range(4):
                part = weight[j, i] * row[k]
                right[k] += part * stamp[j, i]
                for m in range(k + 1):
                    normal[k, m] += part * row[m]
    for k in range(4):
        for m in range(k):
            normal[m, k] = normal[k, m]


class Noise(NamedTuple):
    """A stamp without its star."""

    level: float  # [electron]
    floor: float  # variance of a pixel [electron^2]


@njit(cache=True, nogil=True, error_model="numpy")
def weigh_pixels(
    stamp: FloatArray,
    model: FloatArray,
    noise: Noise,
    scale: FloatArray,
    inside: BoolArray,
    limit: float,
    weight: FloatArray,
) -> int:
    """Write the inverse variances of the pixels to `weight`; return how many are not 0.

    Parameters
    ----------
    stamp, model : ndarray, shape (ny, nx)
        Measured image, and model without level [electron].
    noise : Noise
        Level and noise of the stamp.
    scale : ndarray, shape (ny, nx)
        Scatter about the model, in units of the noise.
    inside : ndarray of bool, shape (ny, nx)
        Pixels that are used, if they are known.
    limit : float
        Outliers are further off [sigma].
    weight : ndarray, shape (ny, nx)
        Output [1/electron^2].
    """
    count = 0
    for j in range(stamp.shape[0]):
        for i in range(stamp.shape[1]):
            weight[j, i] = 0.0
            if not (inside[j, i] and np.isfinite(stamp[j, i])):
                continue
            variance = (max(model[j, i], 0.0) + noise.floor) * scale[j, i] ** 2
            away = stamp[j, i] - model[j, i] - noise.level
            if away * away < limit * limit * variance:
                weight[j, i] = 1.0 / variance
                count += 1
    return count
