"""The PSF of the visit, from a sample of its own images, and how every image moved while it was
taken.

The place of the star during an exposure is its mean place in the image plus the attitude's motion
about its mean. Attitude may be stamped a fraction of a second off: the lag that makes its means
follow the measured places best is estimated, with its error. Alternating least squares: PSF from
images, flux and shift of every image from the PSF; pixels far off the model (cosmic rays) are
replaced by it and come back if the next model explains them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from schemas.arrays import ComplexArray, FloatArray
from schemas.light_curves import DEFAULT_RADIUS
from schemas.payloads import Background, Bias, Gain, Scalar
from schemas.settings import PsfSettings
from schemas.terms import TERMS
from tasks.engine.step import Leaves
from tasks.files.writer import NewHdu
from tasks.numerics.robust import MAD_TO_SIGMA
from tasks.scene.optics import FINE, solve_changing_psf, to_grid, to_spectrum
from tasks.scene.star_model import Shape, Stamps, Star, StarModel, circle, filled
from tasks.scene.track import Track
from tasks.visit.images import Images
from tasks.visit.terms import term_column

WORST_LAG_ERROR = 0.25  # s; a lag that is known worse than this is not applied

FEW = 6  # images; the scatter of a pixel over fewer says more of chance than of the pixel

WINGS = (
    26.0,
    34.0,
)  # pixel; from the first to the second radius the PSF passes over to its smooth wings

DETAIL = 4  # pixel; finer structure is taken out of the wings

EDGE = 4.0  # pixel within which the PSF falls to nothing at the edge of its stamp


def prior_scale(stars: list[Star], models: list[FloatArray], sigma_clip: float = 1.0) -> FloatArray:
    """Return by how much each pixel of the stamp scatters more than its noise about the model; at
    least 1.
    """
    pairs = zip(stars, models, strict=True)
    pulls = np.stack(
        [(s.stamp - m - s.level) / np.sqrt(np.maximum(m, 0) + s.floor) for s, m in pairs]
    )
    missing = ~np.isfinite(pulls)
    pulls = np.where(missing, 0.0, pulls)
    spread: FloatArray = MAD_TO_SIGMA * np.median(np.abs(pulls), axis=0)
    return np.maximum(spread, sigma_clip)


def make_stars(
    images: Images,
    chosen: npt.NDArray[np.int64],
    where: Stamps,
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
    cleaned: Callable[[int], FloatArray],
    floor: FloatArray,
    track: Track,
    lag: float,
    warmth: FloatArray,
) -> list[Star]:
    """Return the stars of some images, which `cleaned` gives without all but the target; places as
    stamp indices.
    """
    stars = []
    duration = track.span(images.nexp, images.exposure_time)
    for i in chosen:
        px, py = where.index(float(x[i]) - images.x_offset, float(y[i]) - images.y_offset)
        motion = track.during(float(images.mjd[i]), duration, lag)
        stars.append(
            Star(
                where.cut(cleaned(int(i))),
                float(floor[i]),
                px,
                py,
                float(flux[i]),
                motion,
                float(warmth[i]),
            )
        )
    return stars


def psf_leaves(
    extname: str,
    psf: Shape,
    scale: FloatArray,
    where: Stamps,
    used: Mapping[str, Scalar],
    warnings: list[str],
) -> Leaves:
    """Return the term of a PSF."""
    corner = {"X_WINOFF": where.corner[0], "Y_WINOFF": where.corner[1]}
    image = NewHdu(TERMS[extname], {**corner, **used}, pixels=to_grid(psf.mean))
    change = np.zeros(psf.mean.shape) if psf.change is None else to_grid(psf.change)
    others = [
        NewHdu(TERMS["TERM_PSF_CHANGE"], corner, pixels=change),
        NewHdu(TERMS["TERM_PSF_SCALE"], corner, pixels=scale),
    ]
    return Leaves({extname: [image, *others]}, used=used, warnings=warnings)


def reference_psf(plane: FloatArray | None, size: int) -> ComplexArray | None:
    """Return the spectrum of the reference's PSF with its centre of light in the middle; None where
    it holds no light.

    The reference is sampled by whole pixels: beyond their Nyquist frequency it says nothing.
    """
    if plane is None:
        return None
    ny, nx = plane.shape
    j, i = np.mgrid[:ny, :nx]
    x, y = (nx - 1) / 2, (ny - 1) / 2
    for _ in range(5):
        near = np.where(np.hypot(i - x, j - y) < 25, plane, 0.0)
        if not near.sum() > 0:
            return None
        x, y = float((near * i).sum() / near.sum()), float((near * j).sum() / near.sum())
    # stamp and spectrum have the middle at index `size` of the fine grid, index size / 2 of the
    # pixels
    stamp = np.zeros((size, size))
    left, low = round(x) - size // 2, round(y) - size // 2
    a, b = slice(max(left, 0), min(left + size, nx)), slice(max(low, 0), min(low + size, ny))
    stamp[b.start - low : b.stop - low, a.start - left : a.stop - left] = plane[b, a]
    coarse = np.fft.fft2(stamp)
    k = np.fft.fftfreq(size)
    place = (x - left, y - low)
    coarse *= (
        np.exp(2j * np.pi * k * place[0])[None, :] * np.exp(2j * np.pi * k * place[1])[:, None]
    )
    spectrum = np.zeros((FINE * size,) * 2, complex)
    index = np.rint(k * size).astype(int) % (FINE * size)
    spectrum[np.ix_(index, index)] = coarse
    return np.asarray(spectrum / spectrum[0, 0].real)


def alternate(
    stars: list[Star],
    where: Stamps,
    middle: tuple[float, float],
    settings: PsfSettings,
    prior: ComplexArray | None,
    begin: StarModel | None,
    breathing: bool,
    others: Callable[[Shape], None] | None = None,
) -> tuple[Shape, FloatArray, int]:
    """Alternate between the PSF and the stars' fluxes and places; return the PSF, the excess
    scatter, and the rounds made.

    Few images tell little of the finer frequencies: there a prior PSF decides, or none. With
    `begin`, the PSF of the first round, cosmic rays stand out from the beginning and half the
    rounds are enough. `others` takes the neighbours out of the stars' stamps as a PSF shows them;
    it is called with each PSF that is found.
    """
    size = where.size
    inside = circle(size, *where.index(*middle), settings.radius)
    scale = np.ones((size, size)) if begin is None else begin.scale
    models: list[FloatArray | None] = [None] * len(stars)
    if begin is not None:
        models = [s.refine(begin.psf, scale, inside)[0] for s in stars]
    psf = Shape(to_spectrum(np.zeros((2 * size, 2 * size))))
    stiffness = settings.stiffness if breathing else None
    # below the number of images that tell the four fine frequencies of each coarse one, the prior
    # has the say of one image
    strength = settings.smoothness + max(1.0 / len(stars) - 1.0 / settings.enough, 0.0)
    rounds = settings.rounds if begin is None else max(settings.rounds // 2, 1)
    for _ in range(rounds):
        weights = [s.flux / (1.0 + s.floor / max(s.flux, 1.0)) for s in stars]
        top = max(weights)
        parts = zip(stars, models, weights, strict=True)
        fitted = (
            (filled(s, m, scale), s.transfer(size), s.flux, w / top, s.warmth) for s, m, w in parts
        )
        psf = tidied(*solve_changing_psf(fitted, size, strength, prior, stiffness), settings.radius)
        if others is not None:
            others(psf)
        models = [s.refine(psf, scale, inside)[0] for s in stars]
        scale = (
            prior_scale(stars, [m for m in models if m is not None]) if len(stars) >= FEW else scale
        )
    return psf, scale, rounds


def tidied(mean: ComplexArray, change: ComplexArray | None, radius: float) -> Shape:
    """Return a PSF that is smooth in its wings, and does not change with the temperature further
    out than `radius` [pixel].

    A star that hardly moves leaves no way to tell a hot pixel beside it from its own light, but its
    wings hold no detail as fine as a pixel. And what hot pixels far out do with time must not pass
    for light that comes and goes. Some of the light that the inner part loses as the telescope
    warms goes further than any image shows, so that nothing tells what all of it does: the light
    within the default aperture is taken not to change.
    """
    half = mean.shape[0] // 2
    j, i = np.mgrid[-half:half, -half:half]
    away: FloatArray = np.hypot(i, j) / FINE
    wing: FloatArray = np.clip((away - WINGS[0]) / (WINGS[1] - WINGS[0]), 0.0, 1.0)

    def smooth(grid: FloatArray) -> FloatArray:
        smoothed: FloatArray = scipy.ndimage.median_filter(grid, DETAIL * FINE + 1, mode="nearest")
        return np.asarray((1.0 - wing) * grid + wing * smoothed)

    # the corners of the stamp, where nothing tells, are dark
    shape = smooth(to_grid(mean)) * np.clip((half / FINE - away) / EDGE, 0.0, 1.0)
    shape /= shape.sum()
    if change is None:
        return Shape(to_spectrum(shape))
    moved, default = smooth(to_grid(change)), away < DEFAULT_RADIUS
    moved -= shape * (moved[default].sum() / shape[default].sum())
    return Shape(to_spectrum(shape), to_spectrum(np.where(away < radius, moved, 0.0)))


def pixel_floor(background: Background, bias: Bias, gain: Gain, nexp: int) -> FloatArray:
    """Return the variance of a pixel without the star in every image [electron^2]."""
    (level,) = term_column(background.product, background.product.extname, "LEVEL")
    (ron,) = term_column(bias.product, "TERM_BIAS", "RON")
    (gains,) = term_column(gain.product, "TERM_GAIN", "GAIN")
    floor: FloatArray = np.maximum(level, 0.0) + nexp * (ron / gains) ** 2
    return floor
