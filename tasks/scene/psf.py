"""Estimation of the visit's PSF from a sample of its own images.

During an exposure the star is at its mean place in the image plus the attitude's motion about its
mean. Alternating least squares estimate the PSF from the images, and the flux and shift of every
image from the PSF. Pixels that deviate strongly from the model (cosmic rays) are replaced by it,
and used again if the next model explains them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from schemas.arrays import ComplexArray, FloatArray
from schemas.light_curves import DEFAULT_RADIUS
from schemas.payloads import Background, ReadOut, Scalar
from schemas.settings import PsfSettings
from schemas.terms import TERMS
from tasks.engine.step import Leaves
from tasks.files.writer import NewHdu
from tasks.numerics.robust import MAD_TO_SIGMA
from tasks.numerics.squares import median_of_squares
from tasks.scene.optics import (
    FINE,
    frequencies,
    frequencies_x,
    solve_changing_psf,
    to_grid,
    to_spectrum,
)
from tasks.scene.star_model import EDGE, Shape, Stamps, Star, StarModel, circle, filled
from tasks.visit.terms import read_background, read_bias, read_gain

WORST_LAG_ERROR = 0.25  # s; a lag with a larger error is not applied

ALIKE = 5  # pixel; side of the squares that share their scatter about the PSF

MAD_ERROR = 1.17  # relative error of a scatter by the median deviation, times sqrt(images)

FEW = 6  # images; over fewer, the scatter of a pixel is mostly chance

WINGS = (26.0, 34.0)  # pixel; between these radii the PSF blends into smooth wings

CORE = 15.0  # pixel; radius of the core of the PSF

# of the light; a PSF whose core differs by more from the reference's has failed. The tube's
# temperature, the place in the field and the age of the telescope change it by less than 0.03
UNLIKE = 0.1

DETAIL = 4  # pixel; finer structure is removed from the wings

# cycles per pixel; width of the taper to 0 at the frequency of the pixels. One of 0.1 removes
# power that single exposures have at 0.9 cycles per pixel
TAPER = 0.04


Others = Callable[[Shape], None]  # subtracts other stars, drawn with a PSF, from the stamps


def prior_scale(stars: list[Star], models: list[FloatArray], sigma_clip: float = 1.0) -> FloatArray:
    """Return the scatter of each pixel about the model in units of its noise, at least 1.

    Errors of the model extend over some pixels, which therefore share the median of their scatter:
    that of a single one would depend on every image of a small sample. A pixel that scatters more
    by two errors begins to have its own, and by five it has, such as one whose hot state varies.
    """
    pulls = np.empty((len(stars), *models[0].shape))
    for pull, s, m in zip(pulls, stars, models, strict=True):
        pull[:] = np.abs((s.stamp - m - s.level) / np.sqrt(np.maximum(m, 0) + s.floor))
    pulls[~np.isfinite(pulls)] = 0.0
    # a copy of the pulls would be a tenth of the memory of a reduction
    own: FloatArray = MAD_TO_SIGMA * np.median(pulls, axis=0, overwrite_input=True)
    around = median_of_squares(own, ALIKE)
    excess = (own / np.maximum(around, 1e-9) - 1.0) * np.sqrt(len(stars)) / MAD_ERROR
    share = np.clip((excess - 2.0) / 3.0, 0.0, 1.0)
    return np.asarray(np.maximum(around + share * (own - around), sigma_clip))


def psf_leaves(
    extname: str,
    psf: Shape,
    scale: FloatArray,
    where: Stamps,
    used: Mapping[str, Scalar],
    warnings: list[str],
) -> Leaves:
    """Return the term of a PSF, with its change and the scatter about it."""
    corner = {"X_WINOFF": where.corner[0], "Y_WINOFF": where.corner[1]}
    grid = to_grid(psf.mean)
    image = NewHdu(TERMS[extname], {**corner, **used}, pixels=grid)
    change = np.zeros_like(grid) if psf.change is None else to_grid(psf.change)
    others = [
        NewHdu(TERMS["TERM_PSF_CHANGE"], corner, pixels=change),
        NewHdu(TERMS["TERM_PSF_SCALE"], corner, pixels=scale),
    ]
    return Leaves({extname: [image, *others]}, used=used, warnings=warnings)


def reference_psf(plane: FloatArray | None, size: int) -> ComplexArray | None:
    """Return the spectrum of the reference PSF with its centre of light in the middle.

    The reference is sampled by whole pixels, so the spectrum is 0 beyond their Nyquist frequency.
    Return None without a reference, or if it is dark.
    """
    centre = None if plane is None else centre_of_plane(plane)
    if plane is None or centre is None:
        return None
    stamp, place = cut_plane(plane, centre, size)
    coarse = np.fft.rfft2(stamp)
    kx, ky = np.fft.rfftfreq(size), np.fft.fftfreq(size)
    coarse *= (
        np.exp(2j * np.pi * kx * place[0])[None, :] * np.exp(2j * np.pi * ky * place[1])[:, None]
    )
    spectrum = np.zeros((FINE * size, size + 1), complex)
    spectrum[np.rint(ky * size).astype(int), : len(kx)] = coarse
    return np.asarray(spectrum / spectrum[0, 0].real)


def centre_of_plane(plane: FloatArray) -> tuple[float, float] | None:
    """Return the centre of light of the reference PSF, index (x, y), or None if it is dark."""
    ny, nx = plane.shape
    j, i = np.mgrid[:ny, :nx]
    x, y = (nx - 1) / 2, (ny - 1) / 2
    for _ in range(5):
        near = np.where(np.hypot(i - x, j - y) < DEFAULT_RADIUS, plane, 0.0)
        if not near.sum() > 0:
            return None
        x, y = float((near * i).sum() / near.sum()), float((near * j).sum() / near.sum())
    return x, y


def cut_plane(
    plane: FloatArray, centre: tuple[float, float], size: int
) -> tuple[FloatArray, tuple[float, float]]:
    """Return a stamp of the reference PSF, and the place of its centre of light in the stamp.

    The middle of the stamp is at index `size` of the fine grid, and `size` / 2 of the pixels.
    """
    ny, nx = plane.shape
    stamp = np.zeros((size, size))
    left, low = round(centre[0]) - size // 2, round(centre[1]) - size // 2
    a, b = slice(max(left, 0), min(left + size, nx)), slice(max(low, 0), min(low + size, ny))
    stamp[b.start - low : b.stop - low, a.start - left : a.stop - left] = plane[b, a]
    return stamp, (centre[0] - left, centre[1] - low)


def alternate(
    stars: list[Star],
    middle: tuple[float, float],
    settings: PsfSettings,
    prior: ComplexArray | None,
    begin: StarModel | None,
    breathing: bool,
    others: Others | None = None,
) -> tuple[Shape, FloatArray, int]:
    """Alternate between the PSF and the stars' fluxes and places.

    Parameters
    ----------
    stars : list of Star
        The target in some images; fitted in place.
    middle : tuple of float
        Stamp index (x, y) of the centre of the pixels that are fitted.
    settings : PsfSettings
        Radius, priors and rounds.
    prior : ndarray of complex, optional
        Spectrum of the reference PSF, which determines the finer frequencies if there are few
        images.
    begin : StarModel, optional
        PSF of the first round. With it cosmic rays are recognised from the beginning, and half
        the rounds are enough.
    breathing : bool
        Whether the PSF changes with the telescope's temperature.
    others : callable, optional
        Subtracts the neighbours from the stars' stamps; called with each new PSF.

    Returns
    -------
    psf, scale, rounds
        The PSF, the scatter of each pixel about it in units of noise, and the number of rounds.
    """
    size = stars[0].stamp.shape[0]
    inside = circle(size, *middle, settings.radius)
    scale = np.ones((size, size)) if begin is None else begin.scale
    models: list[FloatArray | None] = [None] * len(stars)
    if begin is not None:
        models = [s.refine(begin.psf, scale, inside)[0] for s in stars]
    psf = begin.psf if begin is not None else Shape(to_spectrum(point_source(size)))
    stiffness = settings.stiffness if breathing else None
    # with too few images to separate the four aliased frequencies, the prior weighs as much as
    # one image
    strength = settings.smoothness + max(1.0 / len(stars) - 1.0 / settings.enough, 0.0)
    rounds = settings.rounds if begin is None else max(settings.rounds // 2, 1)

    def solve(models: list[FloatArray | None]) -> Shape:
        images = fitted_images(stars, models, scale, None if prior is None else Shape(prior))
        solved = solve_changing_psf(images, size, strength, prior, stiffness)
        return tapered(tidied(*solved, settings.radius))

    for _ in range(rounds):
        if not weigh(stars).any():
            break  # no star has light: the PSF stays as it is
        psf = solve(models)
        if others is not None:
            others(psf)
        models = [s.refine(psf, scale, inside)[0] for s in stars]
        if len(stars) >= FEW:
            scale = prior_scale(stars, [m for m in models if m is not None])
    return psf, scale, rounds


def doubts(psf: Shape, prior: ComplexArray, stars: list[Star]) -> str:
    """Return why a PSF of the visit cannot be trusted, or nothing.

    Saturated companions are brighter than the target: hardly an image shows the core of the PSF
    alone, and errors of what they hide return in the wings.
    """
    if any(s.saturated is not None and s.companions is not None for s in stars):
        return "stars that blend with the target are saturated"
    shares = [share_within(to_grid(spectrum), CORE) for spectrum in (psf.mean, prior)]
    if not abs(shares[0] - shares[1]) < UNLIKE:
        return (
            f"{shares[0]:.1%} of the light are within {CORE:g} pixels, of the reference PSF "
            f"{shares[1]:.1%}"
        )
    return ""


def share_within(psf: FloatArray, radius: float) -> float:
    """Return the share of a PSF on the fine grid within a radius [pixel]."""
    half = psf.shape[0] // 2
    j, i = np.mgrid[-half:half, -half:half]
    return float(psf[np.hypot(i, j) < FINE * radius].sum() / psf.sum())


def adopt(
    prior: ComplexArray, stars: list[Star], middle: tuple[float, float], radius: float
) -> tuple[Shape, FloatArray, int]:
    """Return the reference PSF, the scatter of each pixel about it, and 0 rounds.

    The stars are fitted with it, in place. Other parameters are those of `alternate`.
    """
    size = stars[0].stamp.shape[0]
    inside, psf = circle(size, *middle, radius), Shape(prior)
    flat = np.ones((size, size))
    models = [s.refine(psf, flat, inside)[0] for s in stars]
    return psf, prior_scale(stars, models) if len(stars) >= FEW else flat, 0


def fitted_images(
    stars: list[Star], models: list[FloatArray | None], scale: FloatArray, prior: Shape | None
) -> Iterator[tuple[FloatArray, ComplexArray, float, float, float]]:
    """Yield stamp, transfer function, flux, weight and warmth of each star, for a PSF to fit.

    Missing pixels are filled with the model; only the `prior` knows what saturated pixels show.
    """
    weights = weigh(stars)
    for star, model, weight in zip(stars, models, weights / weights.max(), strict=True):
        if weight > 0:
            transfer = star.transfer(star.stamp.shape[0])
            image = filled(star, model, scale)
            if prior is not None and star.saturated is not None:
                image[star.saturated] = star.drawn(prior)[star.saturated]
            yield image, transfer, star.flux, float(weight), star.warmth


def weigh(stars: list[Star]) -> FloatArray:
    """Return the weights of stars in the fit of a PSF, shape (n,); 0 without light or pixels."""
    return np.array(
        [
            max(s.flux, 0.0) / (1.0 + s.floor / max(s.flux, 1.0)) * bool(np.isfinite(s.stamp).any())
            for s in stars
        ]
    )


def point_source(size: int) -> FloatArray:
    """Return a PSF without extent on the fine grid for stamps of `size` pixels."""
    grid = np.zeros((FINE * size,) * 2)
    grid[size, size] = 1.0
    return grid


def tidied(mean: ComplexArray, change: ComplexArray | None, radius: float) -> Shape:
    """Smooth the wings of a PSF, and confine its change with temperature to `radius` [pixel].

    If the star hardly moves, a hot pixel beside it cannot be distinguished from its own light; but
    the wings have no detail as fine as a pixel. Changes of hot pixels far from the star must not
    be mistaken for a change of the PSF. As the telescope warms, the core loses some light to
    distances beyond any image, so the total is unconstrained: the light within the default aperture
    is assumed to be constant.
    """
    half = mean.shape[0] // 2
    j, i = np.mgrid[-half:half, -half:half]
    away: FloatArray = np.hypot(i, j) / FINE
    wing: FloatArray = np.clip((away - WINGS[0]) / (WINGS[1] - WINGS[0]), 0.0, 1.0)

    def smooth(grid: FloatArray) -> FloatArray:
        around = median_of_squares(grid, DETAIL * FINE + 1)
        return np.asarray((1.0 - wing) * grid + wing * around)

    # the corners of the stamp, which are unconstrained, are dark
    shape = smooth(to_grid(mean)) * np.clip((half / FINE - away) / EDGE, 0.0, 1.0)
    shape /= shape.sum()
    if change is None:
        return Shape(to_spectrum(shape))
    moved, default = smooth(to_grid(change)), away < DEFAULT_RADIUS
    moved -= shape * (moved[default].sum() / shape[default].sum())
    return Shape(to_spectrum(shape), to_spectrum(np.where(away < radius, moved, 0.0)))


def tapered(psf: Shape) -> Shape:
    """Remove the frequency of the pixels, along either axis, from a PSF and its change.

    Light that is integrated over square pixels has no power there. The fit suppresses it already
    (see `optics.py`); smoothing the wings brings some of it back.
    """
    size = psf.mean.shape[0] // FINE
    rows, columns = (
        np.clip((1.0 - np.abs(k)) / TAPER, 0.0, 1.0)
        for k in (frequencies(size), frequencies_x(size))
    )
    kept = rows[:, None] * columns[None, :]
    return Shape(psf.mean * kept, None if psf.change is None else psf.change * kept)


def pixel_floor(background: Background, readout: ReadOut, nexp: int) -> FloatArray:
    """Return the variance of a pixel without stars in every image [electron^2], shape (n,)."""
    level = read_background(background).level
    floor: FloatArray = np.maximum(level, 0.0) + nexp * read_out_noise(readout) ** 2
    return floor


def read_out_noise(readout: ReadOut) -> FloatArray:
    """Return the read-out noise of one exposure in every image [electron], shape (n,)."""
    return np.asarray(read_bias(readout.bias).ron / read_gain(readout.gain).gain)
