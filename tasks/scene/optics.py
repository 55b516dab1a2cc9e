"""Image formation: a super-resolved PSF, shifted and blurred by the satellite, sampled by pixels.

The PSF P is sampled at half a pixel and includes the integration over a pixel. The image of a star
in a stack is P convolved with the distribution of the star's places during the exposures: in
Fourier space, P times the mean of exp(-2 pi i (kx x + ky y)) over the attitude samples. Sampling by
whole pixels aliases four frequencies of the fine grid onto one. Many images at different places
separate them again: for each frequency of the pixel grid, a 4 x 4 least-squares system over the
images gives all four frequencies of the fine grid (Lauer 1999, PASP 111, 1434, for dithered images;
here every image has its own transfer function).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import scipy.fft

from schemas.arrays import ComplexArray, FloatArray

FINE = 2  # samples of the fine grid per pixel, along either axis

NO_POWER = 1e-8  # of the power at frequency 0; keeps the prior finite


def frequencies(size: int) -> FloatArray:
    """Return the frequencies of the fine grid of a stamp [cycles per pixel], shape (2 size,)."""
    return np.asarray(np.fft.fftfreq(FINE * size, d=1.0 / FINE), np.float64)


def motion_transfer(x: FloatArray, y: FloatArray, size: int) -> ComplexArray:
    """Return the transfer function of a star that spent equal times at some places.

    Parameters
    ----------
    x, y : ndarray, shape (m,)
        Places relative to the PSF's centre [pixel].
    size : int
        Side of the stamp [pixel].

    Returns
    -------
    ndarray of complex, shape (2 size, 2 size)
    """
    k = frequencies(size)
    rows, columns = np.exp(-2j * np.pi * np.outer(k, y)), np.exp(-2j * np.pi * np.outer(x, k))
    transfer: ComplexArray = rows @ columns / len(x)
    return transfer


def shifted(transfer: ComplexArray, x: float, y: float) -> ComplexArray:
    """Return the transfer function of the same motion, shifted by (x, y) [pixel]."""
    k = frequencies(transfer.shape[0] // FINE)
    return np.asarray(
        transfer * np.exp(-2j * np.pi * k * y)[:, None] * np.exp(-2j * np.pi * k * x)[None, :]
    )


def _aliases(spectrum: ComplexArray) -> ComplexArray:
    """Return the four fine frequencies aliased onto each of the pixel grid, (size, size, 4)."""
    s = spectrum.shape[0] // FINE
    parts = [spectrum[p : p + s, q : q + s] for p in (0, s) for q in (0, s)]
    return np.stack(parts, axis=-1)


def _folded(spectrum: ComplexArray) -> FloatArray:
    """Return the image of a fine spectrum, sampled by whole pixels."""
    s = spectrum.shape[0] // FINE
    image: FloatArray = scipy.fft.ifft2(
        spectrum[:s, :s] + spectrum[s:, :s] + spectrum[:s, s:] + spectrum[s:, s:]
    ).real
    return image


def render(psf: ComplexArray, transfer: ComplexArray) -> FloatArray:
    """Return the image of a star of one electron, shape (size, size)."""
    return _folded(psf * transfer)


def render_with_slopes(
    psf: ComplexArray, transfer: ComplexArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the image of a star of one electron, and its derivatives along x and y [1/pixel].

    Each has the shape (size, size).
    """
    spectrum = psf * transfer
    turn = -2j * np.pi * frequencies(psf.shape[0] // FINE)
    return _folded(spectrum), _folded(spectrum * turn[None, :]), _folded(spectrum * turn[:, None])


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
        Side of the stamps [pixel].
    smoothness : float
        Strength of the prior, which increases with frequency and dominates where the images are
        uninformative.
    prior : ndarray of complex, shape (2 size, 2 size), optional
        Spectrum of the expected PSF; None means zero: high frequencies are weak.
    stiffness : float or None
        Strength of the prior on zero change, which increases with frequency in the same way.
        With None, the PSF does not change.

    Returns
    -------
    mean, change : ndarray of complex, shape (2 size, 2 size)
        Spectra with the totals 1 and 0; the change is None if `stiffness` is.
    """
    blocks, sums, total = _moments(images, size, 1 if stiffness is None else 3)
    growth = total * _growth(size)
    diagonal = np.arange(4)
    blocks[0][..., diagonal, diagonal] += smoothness * growth
    if prior is not None:
        sums[0] += smoothness * growth * _aliases(prior)
    if stiffness is None:
        spectrum = _spectrum(np.linalg.solve(blocks[0], sums[0][..., None])[..., 0], size)
        return np.asarray(spectrum / spectrum[0, 0].real), None
    blocks[2][..., diagonal, diagonal] += stiffness * growth
    normal = np.concatenate(
        [np.concatenate(blocks[:2], axis=-1), np.concatenate(blocks[1:], axis=-1)], axis=-2
    )
    right = np.concatenate(sums, axis=-1)[..., None]
    solved = np.asarray(np.linalg.solve(normal, right)[..., 0], np.complex128)
    mean, change = _spectrum(solved[..., :4], size), _spectrum(solved[..., 4:], size)
    scale = mean[0, 0].real
    # a change of the total belongs to the star's flux, not to the PSF
    return mean / scale, np.asarray((change - mean * (change[0, 0].real / scale)) / scale)


def _moments(
    images: Iterable[tuple[FloatArray, ComplexArray, float, float, float]], size: int, moments: int
) -> tuple[ComplexArray, ComplexArray, float]:
    """Return left and right sides of the normal equations, and the total weight.

    Sides are sums weighted by 1, t and t^2; the left one has a 4 x 4 block for each frequency.
    """
    blocks = np.zeros((moments, size, size, 4, 4), complex)
    sums = np.zeros((min(moments, 2), size, size, 4), complex)
    total = 0.0
    for stamp, transfer, flux, weight, t in images:
        known = _aliases(transfer)
        square = weight * np.conj(known)[..., :, None] * known[..., None, :]
        seen = weight * np.conj(known) * (np.fft.fft2(stamp) / flux)[..., None]
        for m in range(moments):
            blocks[m] += t**m * square
        for m in range(len(sums)):
            sums[m] += t**m * seen
        total += weight
    return blocks, sums, total


def _growth(size: int) -> FloatArray:
    """Return the strength of the priors at each frequency relative to that at frequency 0.

    Light that is integrated over square pixels has the power sinc^2 kx sinc^2 ky at most, and
    none at one cycle per pixel. The images do not constrain this frequency, as pixels alias it
    onto the total of a stamp: without the prior, errors of the sky and of neighbours would go into
    it, and the light within an aperture would depend on the star's place within its pixel.
    """
    k = frequencies(size)
    radial = _aliases(np.hypot(k[:, None], k[None, :]).astype(complex)).real
    pixel = np.sinc(k) ** 2
    power = _aliases(np.maximum(pixel[:, None] * pixel[None, :], NO_POWER).astype(complex)).real
    growth: FloatArray = (1.0 + (radial / 0.5) ** 4) / power
    return growth


def _spectrum(aliases: ComplexArray, size: int) -> ComplexArray:
    """Undo `_aliases`, and keep the spectrum of a real image: the rest at Nyquist is noise."""
    spectrum = np.empty((FINE * size, FINE * size), complex)
    for c, (p, q) in enumerate((p, q) for p in (0, size) for q in (0, size)):
        spectrum[p : p + size, q : q + size] = aliases[..., c]
    return np.asarray(scipy.fft.fft2(scipy.fft.ifft2(spectrum).real))


def to_grid(spectrum: ComplexArray) -> FloatArray:
    """Return the PSF on the fine grid with its centre in the middle, shape (2 size, 2 size)."""
    grid: FloatArray = np.fft.fftshift(np.fft.ifft2(spectrum).real)
    return grid


def to_spectrum(grid: FloatArray) -> ComplexArray:
    """Undo `to_grid`."""
    spectrum: ComplexArray = np.fft.fft2(np.fft.ifftshift(grid))
    return spectrum


def fit_star(
    stamp: FloatArray,
    image: FloatArray,
    dx: FloatArray,
    dy: FloatArray,
    weight: FloatArray,
    level_error: float = np.inf,
) -> tuple[FloatArray, FloatArray]:
    """Fit flux, shift and level of one star image by linear least squares.

    Parameters
    ----------
    stamp : ndarray, shape (ny, nx)
        Measured image without background [electron].
    image, dx, dy : ndarray, shape (ny, nx)
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
    used = weight > 0
    root = np.sqrt(weight[used])
    design = np.stack([image[used], dx[used], dy[used], np.ones(root.size)], axis=1) * root[:, None]
    normal = design.T @ design
    normal[3, 3] += 1.0 / level_error**2
    try:
        covariance = np.linalg.inv(normal)
    except np.linalg.LinAlgError:
        covariance = np.zeros((4, 4))
    variances = np.diag(covariance)
    if root.size < len(normal) or not (variances > 0).all():
        return np.zeros(4), np.full(4, np.inf)
    values: FloatArray = covariance @ (design.T @ (stamp[used] * root))
    return values, np.sqrt(variances)
