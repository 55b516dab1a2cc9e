"""Fluxes of field stars, measured in a sample of the visit's own images.

A magnitude in another band is wrong for a star of another colour by a tenth or two, and stars vary.
Each star that stands out is drawn for every image of the sample with the flux that the catalogue
gives, and the factors by which these drawings fit the residuals to the target's model best are
solved for together: linear least squares, with weights that outliers lose (Huber 1964, Ann. Math.
Stat. 35, 73), and with a prior about 1. What stands still while the field turns (hot pixels, the
target's far wings) is taken away where stars pass by and do not stay.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.sparse

from schemas.arrays import FloatArray, IntArray
from schemas.inputs import term_input
from schemas.payloads import Background, Bias, Gain, Look, Pointing, Product, Psf, Smearing, Stars
from schemas.settings import StarSettings
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.disk import require
from tasks.files.reader import open_declared
from tasks.files.writer import NewHdu
from tasks.scene.psf import pixel_floor
from tasks.scene.residuals import Residuals
from tasks.scene.star_model import read_psf
from tasks.scene.stars import COLOUR_ERROR, Field, read_field
from tasks.scene.track import read_track
from tasks.visit.clean import read_effects
from tasks.visit.images import Images, open_images
from tasks.visit.terms import term_column

ENOUGH = 1e-3  # factors that move by less are found
HUBER = 3.0  # sigma; residuals further off lose weight
ROUNDS = 5  # of weights
PASSES = 3  # of what stands still, with the fluxes of the one before
INSIDE = 0.1  # of a star's light must fall into the window, on average, for its flux to be measured
SKY = 45.0  # pixel; nearer pixels hold the target's light
PASSES_BY = 40.0  # pixel; a star that moves further leaves no trace in the median of a pixel


def fit_factors(
    residuals: Sequence[FloatArray],
    drawings: Sequence[scipy.sparse.csc_matrix],
    variances: Sequence[FloatArray],
    prior: float,
    start: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Return the factors by which drawings of stars fit residuals best, and their errors.

    Parameters
    ----------
    residuals : sequence of ndarray, shape (pixels,)
        Images of the sample without anything but field stars; NaN is left out [electron].
    drawings : sequence of sparse matrix, shape (pixels, k)
        Every star in each of these images, with the flux that is expected [electron].
    variances : sequence of ndarray, shape (pixels,)
        Of the residuals [electron^2].
    prior : float
        Relative error of the expected fluxes.
    start : ndarray, shape (k,), optional
        Factors to begin with; the closer they are the sooner it ends.

    Returns
    -------
    factors, errors : ndarray, shape (k,)
        Errors are those of the variances, or of how much the images disagree (the sandwich of Liang
        & Zeger 1986, Biometrika 73, 13, each image a cluster) where that is more: what is not in
        the model errs for many pixels of an image at once.

    Raises
    ------
    ValueError
        If the sequences differ in length.
    """
    if not len(residuals) == len(drawings) == len(variances):
        raise ValueError(
            f"{len(residuals)} residuals, {len(drawings)} drawings, {len(variances)} variances"
        )
    k = drawings[0].shape[1]
    factors, normal, spread = (np.ones(k) if start is None else start), np.eye(k), np.zeros((k, k))
    for _ in range(ROUNDS):
        normal, right, spread = np.eye(k) / prior**2, np.zeros(k), np.zeros((k, k))
        for residual, drawing, variance in zip(residuals, drawings, variances, strict=True):
            away = np.where(np.isfinite(residual), residual - drawing @ factors, 0.0)
            pull = np.abs(away) / np.sqrt(variance)
            weight = np.where(
                np.isfinite(residual),
                np.minimum(1.0, HUBER / np.maximum(pull, 1e-9)) / variance,
                0.0,
            )
            weighted = scipy.sparse.diags_array(weight) @ drawing
            normal += (drawing.T @ weighted).toarray()
            pulled = weighted.T @ away
            right += pulled
            spread += np.outer(pulled, pulled)
        # the prior pulls towards 1
        move = np.linalg.solve(normal, right - (factors - 1.0) / prior**2)
        factors = factors + move
        if np.abs(move).max() < ENOUGH:
            break
    covariance = np.linalg.inv(normal)
    # as many images as there are; with one alone, or exact drawings, they cannot disagree
    disagree = covariance @ spread @ covariance
    return factors, np.sqrt(np.maximum(np.diag(covariance), np.diag(disagree)))


def draw_each(
    field: Field, images: Images, x: float, y: float, mjd: float, which: IntArray
) -> scipy.sparse.csc_matrix:
    """Return single stars of the field in one image, shape (pixels, k)."""
    duration = field.track.span(images.nexp, images.exposure_time)
    columns = []
    for k in which:
        one = field.only(np.array([k]))
        columns.append(
            scipy.sparse.csc_matrix(one.image(images.shape, x, y, mjd, duration).reshape(-1, 1))
        )
    return scipy.sparse.csc_matrix(scipy.sparse.hstack(columns))


def bright_enough(field: Field, images: Images, noise: float, most: int) -> IntArray:
    """Return the stars that touch the window and of which a pixel shows at least a third of its
    noise; the brightest first.
    """
    peak = field.flux * float(field.psf.max()) * 4.0
    corner = float(np.hypot(*images.shape)) / 2
    near = np.hypot(field.xi, field.eta) / field.scale < corner + field.radius / 2
    chosen = np.flatnonzero(near & (peak > noise / 3))
    return np.asarray(chosen[np.argsort(-field.flux[chosen], kind="stable")][:most])


@step("stars", "CONTAMIN", version="6", payload=Stars, leaves=["TERM_STARS"])
def measure_stars(
    calibrated: Product,
    look: Look,
    pointing: Pointing,
    background: Background,
    bias: Bias,
    gain: Gain,
    psf: Psf,
    first: Stars,
    smearing: Smearing,
    settings: StarSettings,
) -> Leaves:
    """Measure the fluxes of field stars that stand out, in a sample of images."""
    names = [c.name for c in TERMS["TERM_STARS"].columns]
    with open_declared(require(first.product.path), term_input(first.product.extname)) as file:
        table = {name: file[first.product.extname].column(name).copy() for name in names}
    x, y, flux, sampled = term_column(
        look.product, "TERM_LOOK", "CENTROID_X", "CENTROID_Y", "FLUX", "SAMPLED"
    )
    (roll,) = term_column(pointing.product, "TERM_POINTING", "ROLL_ANGLE")
    used = {**first.used, "STAR_FIT": 0, "STAR_AMP": 1.0, "STAR_AMS": 0.0}
    good = np.flatnonzero(
        sampled & np.isfinite(x) & np.isfinite(y) & (flux > 0) & np.isfinite(roll)
    )
    chosen = (
        good[np.unique(np.linspace(0, max(len(good) - 1, 0), settings.sample).round().astype(int))]
        if len(good)
        else good
    )
    model = read_psf(psf) if int(psf.used.get("PSF_N", 0)) >= 3 else None
    if model is not None and len(chosen) >= 3 and settings.fit:
        track = read_track(pointing)
        field = read_field(first, model, track)
        with open_images(calibrated) as images:
            floor = pixel_floor(background, bias, gain, images.nexp)
            effects = read_effects(images, background, smearing)
            which = bright_enough(field, images, float(np.sqrt(np.median(floor))), settings.most)
            if len(which):
                rest = Residuals(images, model, track, x, y, flux, effects, floor, None)
                factors, errors, inside = _measure(rest, field, which, chosen, roll, settings.prior)
                # the wings of a star that shines from outside tell errors of the PSF rather than
                # its flux
                told = (errors < settings.prior / 2) & (inside > INSIDE)
                rows = np.flatnonzero(~table["TARGET"].astype(bool))[which[told]]
                table["FLUXERR"][rows] = errors[told] * table["FLUX"][rows]
                table["FLUX"][rows] *= factors[told]
                used["STAR_FIT"] = int(told.sum())
                if told.any():
                    used |= {
                        "STAR_AMP": float(np.median(factors[told])),
                        "STAR_AMS": float(np.std(factors[told])),
                    }
    return Leaves(
        {"TERM_STARS": [NewHdu(TERMS["TERM_STARS"], used, columns=table)]},
        used=used,
        warnings=list(first.warnings),
    )


def _measure(
    rest: Residuals, field: Field, which: IntArray, chosen: IntArray, roll: FloatArray, prior: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return factors and errors of the stars `which`, and the share of their light that falls into
    the window.
    """
    shape = rest.images.shape
    inside = np.zeros(len(which))
    others = field.only(
        np.setdiff1d(np.arange(len(field.flux)), which)
    )  # too faint or too far off to be measured
    seen, also = (np.zeros((len(chosen), *shape), np.float32) for _ in range(2))
    variances, drawings = [], []
    for j, i in enumerate(chosen):
        image = rest.cleaned(int(i))
        # the target's model is fitted to an image without its neighbours
        when = float(rest.x[i]), float(rest.y[i]), *_when(rest, int(i))
        model = rest.target(int(i), image - field.image(shape, *when), 2)
        also[j] = others.image(shape, *when)
        seen[j] = image - model - also[j]
        drawing = draw_each(
            field, rest.images, float(rest.x[i]), float(rest.y[i]), float(rest.images.mjd[i]), which
        )
        drawings.append(drawing)
        inside += (
            (drawing.T @ np.isfinite(image).ravel().astype(np.float64))
            / field.flux[which]
            / len(chosen)
        )
        # where the target is bright its model errs by a share of its light
        light = np.maximum(model, 0.0)
        variances.append(
            (light + rest.floor[i] + (0.01 * light) ** 2).ravel()
            + np.asarray(drawing.sum(axis=1)).ravel()
        )
    turned = np.radians(float(np.ptp(np.unwrap(roll[chosen], period=360.0))))
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    place = [float(np.median(v[chosen])) for v in (rest.x, rest.y)]
    away = np.hypot(columns + 0.5 - place[0], rows + 0.5 - place[1])
    passes, sky = (away * min(turned, 2 * np.pi) > PASSES_BY).ravel(), (away > SKY).ravel()

    def fitted(
        light: npt.NDArray[np.float32], factors: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        rests = [s.ravel() - d @ factors for s, d in zip(light, drawings, strict=True)]
        # the sky was measured with the stars in it
        levels = (
            [float(np.nanmedian(rest[sky])) for rest in rests] if sky.any() else [0.0] * len(rests)
        )
        rests = [rest - level for rest, level in zip(rests, levels, strict=True)]
        steady = (
            np.where(passes, np.median(rests, axis=0), 0.0)
            if len(chosen) >= 8
            else np.zeros(passes.size)
        )
        steady = np.where(np.isfinite(steady), steady, 0.0)
        moving = [
            s.ravel().astype(np.float64) - steady - level
            for s, level in zip(light, levels, strict=True)
        ]
        return fit_factors(moving, drawings, variances, prior, factors)

    factors, errors = np.ones(len(which)), np.ones(len(which))
    # where many stars pass by, some of their light is in the median of what they leave: found with
    # the fluxes known best
    for _ in range(PASSES if len(chosen) >= 8 else 1):
        factors, errors = fitted(seen, factors)
    if len(others.flux):
        # the fluxes of the others may all be wrong by a colour
        shaken, _ = fitted(seen - np.float32(COLOUR_ERROR) * also, factors)
        errors = np.hypot(errors, shaken - factors)
    return factors, errors, inside


def _when(rest: Residuals, i: int) -> tuple[float, float]:
    return float(rest.images.mjd[i]), rest.span
