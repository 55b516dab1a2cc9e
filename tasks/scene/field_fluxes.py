"""Fluxes of field stars, measured in a sample of the visit's own images.

Magnitudes from another band are off by ten or twenty per cent for stars of other colours, and stars
vary. Each bright star is drawn in every sampled image with its catalogue flux, and the factors that
best fit these drawings to the residuals of the target's model are solved for together: linear least
squares with robust weights (Huber 1964, Ann. Math. Stat. 35, 73) and a prior about 1. Static
structure (hot pixels, the target's far wings) is subtracted from pixels by which the stars of the
rotating field merely pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from schemas.arrays import AnyArray, BoolArray, Float32Array, FloatArray, IntArray
from schemas.inputs import term_input
from schemas.payloads import Product, ReadOut, Removed, Scene, Stars
from schemas.settings import StarSettings
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.disk import require
from tasks.files.reader import open_declared
from tasks.files.writer import NewHdu
from tasks.numerics.robust import median_of_known, robust_scatter
from tasks.numerics.sample import spread_evenly
from tasks.scene.optics import FINE
from tasks.scene.residuals import Residuals
from tasks.scene.stars import COLOUR_ERROR, Field
from tasks.visit.images import Images, open_images
from tasks.visit.terms import LookTerm, read_look, read_roll

CONVERGED = 1e-3  # largest change of a factor
HUBER = 3.0  # sigma; residuals further off lose weight
ROUNDS = 5  # of weights
PASSES = 3  # of static structure, each with the fluxes of the one before
MODEL_ERROR = 0.003  # of the light of its brighter star, by which the PSF of a blend is wrong
# relative error of the flux of a star that saturates: its core is not seen, and not all of its
# charge is. Of a star 20 arcsec from the target and 2 mag brighter, 0.6 % were missing
SATURATED_ERROR = 0.01
SEPARATED = 0.03  # largest relative error of the flux of a companion that is measured well
INSIDE = 0.1  # least mean share of a star's light in the window for its flux to be measured
FEWEST = 3  # images needed for a measurement
MANY = 8  # images; with fewer, moving stars and static structure cannot be separated
PASSES_BY = 40.0  # pixel; a star that moves further does not affect the median of a pixel


# Stars whose fluxes are not measured have the usual factor of those of their colour: at least
# FEWEST_ALIKE, measured to WELL, with temperatures that differ by less than the share ALIKE.
FEWEST_ALIKE, WELL, ALIKE = 5, 0.05, 0.06


def fit_factors(
    residuals: Sequence[FloatArray],
    drawings: Sequence[scipy.sparse.csc_matrix],
    variances: Sequence[FloatArray],
    prior: float,
    start: FloatArray | None = None,
    target: Sequence[FloatArray] | None = None,
    model_error: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Return the factors by which drawings of stars fit residuals best, and their errors.

    The target's flux and place, and the level, are fitted together with the factors, separately in
    each image: a companion within the PSF of the target is otherwise absorbed by it.

    Parameters
    ----------
    residuals : sequence of ndarray, shape (pixels,)
        Sampled images without anything but field stars; NaN is ignored [electron].
    drawings : sequence of sparse matrix, shape (pixels, k)
        Every star in each of these images, with its expected flux [electron].
    variances : sequence of ndarray, shape (pixels,)
        Variances of the residuals [electron^2].
    prior : float
        Relative error of the expected fluxes.
    start : ndarray, shape (k,), optional
        Initial factors; the closer they are, the faster the fit converges.
    target : sequence of ndarray, shape (pixels, p), optional
        How the light changes with the target's own parameters and the level, in each image.
    model_error : ndarray, shape (k,), optional
        Error of the target's model, as a factor of each star that covers all of the target's light.
        It counts as often as the target's parameters inflate the error of the star.

    Returns
    -------
    factors, errors : ndarray, shape (k,)
        Errors are the larger of those from the variances and those from the disagreement of the
        images (the sandwich estimator of Liang & Zeger 1986, Biometrika 73, 13, with an image as
        cluster): deficiencies of the model affect many pixels of an image at once.

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
    alone = np.ones(k)
    own = [np.zeros((len(r), 0)) for r in residuals] if target is None else target
    steps = [np.zeros(slopes.shape[1]) for slopes in own]  # of the target's parameters
    for _ in range(ROUNDS):
        normal, right, spread = np.eye(k) / prior**2, np.zeros(k), np.zeros((k, k))
        alone = np.zeros(k)
        for n, (residual, drawing, variance) in enumerate(
            zip(residuals, drawings, variances, strict=True)
        ):
            known = np.isfinite(residual)
            away = np.where(known, residual - drawing @ factors, 0.0)
            weight = np.where(known, _huber(away - own[n] @ steps[n], variance), 0.0)
            left, pulled, steps[n], seen = _without_target(drawing, own[n], weight, away)
            normal += left
            alone += seen
            right += pulled
            spread += np.outer(pulled, pulled)
        # the prior pulls towards 1
        move = np.linalg.solve(normal, right - (factors - 1.0) / prior**2)
        factors = factors + move
        if np.abs(move).max() < CONVERGED:
            break
    covariance = np.linalg.inv(normal)
    # a single image, or exact drawings, cannot disagree
    disagree = covariance @ spread @ covariance
    errors = np.sqrt(np.maximum(np.diag(covariance), np.diag(disagree)))
    if model_error is None:
        return factors, errors
    inflation = np.sqrt(np.maximum(np.diag(covariance) * (alone + 1.0 / prior**2), 1.0))
    return factors, np.hypot(errors, model_error * inflation)


def _without_target(
    drawing: scipy.sparse.csc_matrix, own: FloatArray, weight: FloatArray, away: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return the normal equations of an image, with the target's parameters eliminated.

    These are left side, right side, the target's parameters for unchanged factors (the Schur
    complement of the joint equations), and the diagonal of the left side without the target.
    """
    weighted = drawing.copy()
    weighted.data *= weight[drawing.indices]
    left, right = (drawing.T @ weighted).toarray(), np.asarray(weighted.T @ away)
    diagonal = np.diag(left).copy()
    if not own.shape[1]:
        return left, right, np.zeros(0), diagonal
    shared, seen = np.asarray(weighted.T @ own), own * weight[:, None]
    inverse = np.linalg.pinv(own.T @ seen, hermitian=True)
    step = inverse @ (seen.T @ away)
    return left - shared @ inverse @ shared.T, right - shared @ step, step, diagonal


def _huber(away: FloatArray, variance: FloatArray) -> FloatArray:
    """Return the inverse variances of residuals, reduced beyond HUBER sigma."""
    pull = np.abs(away) / np.sqrt(variance)
    return np.asarray(np.minimum(1.0, HUBER / np.maximum(pull, 1e-9)) / variance)


def draw_each(rest: Residuals, field: Field, i: int, which: IntArray) -> scipy.sparse.csc_matrix:
    """Draw stars of the field one by one in image `i`, shape (pixels, k)."""
    shape, mjd = rest.images.shape, float(rest.images.mjd[i])
    columns = []
    for k in which:
        one = np.array([k])
        drawn = (
            rest.companion_image(i, one)
            if k in rest.companions
            else field.only(one).image(shape, float(rest.x[i]), float(rest.y[i]), mjd, rest.span)
        )
        columns.append(scipy.sparse.csc_matrix(drawn.reshape(-1, 1)))
    return scipy.sparse.csc_matrix(scipy.sparse.hstack(columns))


def bright_enough(field: Field, images: Images, noise: float, most: int) -> IntArray:
    """Return the stars in the window with a pixel above a third of the noise, brightest first."""
    peak = field.flux * float(field.psf.max()) * 4.0
    corner = float(np.hypot(*images.shape)) / 2
    near = np.hypot(field.xi, field.eta) / field.scale < corner + field.radius / 2
    chosen = np.flatnonzero(near & (peak > noise / 3))
    return np.asarray(chosen[np.argsort(-field.flux[chosen], kind="stable")][:most])


@step("stars", "CONTAMIN", version="15", payload=Stars, leaves=["TERM_STARS"])
def measure_stars(
    calibrated: Product, scene: Scene, readout: ReadOut, removed: Removed, settings: StarSettings
) -> Leaves:
    """Measure the fluxes of the brighter field stars in a sample of images."""
    table, warnings = read_table(scene.stars), list(scene.stars.warnings)
    used = {**scene.stars.used, "STAR_FIT": 0, "STAR_AMP": 1.0, "STAR_AMS": 0.0}
    roll = read_roll(scene.pointing)
    chosen = choose_images(read_look(scene.look), roll, settings.sample)
    if scene.has_psf and len(chosen) >= FEWEST and settings.fit:
        with open_images(calibrated) as images:
            rest = Residuals.of(images, scene, readout, removed)
            noise = float(np.sqrt(np.median(rest.floor)))
            assert rest.field is not None
            which = bright_enough(rest.field, images, noise, settings.most)
            if len(which):
                sample = take_sample(rest, rest.field, which, chosen)
                pixels = passing_by(rest, chosen, roll, float(removed.background.used["RING_IN"]))
                factors, errors = fit_fluxes(sample, pixels, settings.prior)
                bright = saturated_stars(rest, which)
                errors[bright] = np.hypot(errors[bright], SATURATED_ERROR)
                # for a star outside of the window, errors of the PSF's wings would dominate
                measured = (errors < settings.prior / 2) & (sample.inside > INSIDE)
                rows = np.flatnonzero(~table["TARGET"].astype(bool))[which[measured]]
                used |= enter_fluxes(table, rows, factors[measured], errors[measured])
                warnings += blend_warnings(rest, which[measured], errors[measured])
    return Leaves(
        {"TERM_STARS": [NewHdu(TERMS["TERM_STARS"], used, columns=table)]},
        used=used,
        warnings=warnings,
    )


def saturated_stars(rest: Residuals, which: IntArray) -> BoolArray:
    """Return which of some field stars saturate pixels."""
    assert rest.field is not None
    if rest.limit is None:
        return np.zeros(len(which), np.bool_)
    peaks = rest.field.flux[which] * float(rest.field.psf.max()) * FINE**2
    return np.asarray(peaks > float(rest.limit.min()))


def blend_warnings(rest: Residuals, measured: IntArray, errors: FloatArray) -> list[str]:
    """Return a warning for each companion that images cannot separate from the target.

    `measured` stars have relative `errors`; of others the catalogue gives the flux.
    """
    assert rest.field is not None
    field, warnings, known = rest.field, [], dict(zip(measured.tolist(), errors, strict=True))
    for k in map(int, rest.companions):
        error = known.get(k, COLOUR_ERROR)
        if error > SEPARATED:
            share = field.flux[k] / rest.total(int(np.flatnonzero(rest.flux > 0)[0]))
            warnings.append(
                f"a star {np.hypot(field.xi[k], field.eta[k]):.1f} arcsec from the target, with "
                f"{share:.3g} of its light, cannot be separated from it: "
                f"its light is {'measured' if k in known else 'taken from the catalogue'} to "
                f"{error:.0%}"
            )
    return warnings


def read_table(stars: Stars) -> dict[str, AnyArray]:
    """Read the table of the stars of the first round."""
    names, extname = [c.name for c in TERMS["TERM_STARS"].columns], stars.product.extname
    with open_declared(require(stars.product.path), term_input(extname)) as file:
        return {name: file[extname].column(name).copy() for name in names}


def choose_images(look: LookTerm, roll: FloatArray, size: int) -> IntArray:
    """Return at most `size` sampled images that show the target and whose roll is known."""
    seen = np.isfinite(look.x) & np.isfinite(look.y) & (look.flux > 0) & np.isfinite(roll)
    good = np.flatnonzero(look.sampled & seen)
    return np.asarray(good[spread_evenly(len(good), size)])


def enter_fluxes(
    table: dict[str, AnyArray], rows: IntArray, factors: FloatArray, errors: FloatArray
) -> dict[str, int | float]:
    """Enter measured fluxes into rows of the table; return the used values.

    All other field stars are scaled by the usual factor of their colour, if that is known.
    """
    scale, scatter = usual_factors(table["T_EFF"], rows, factors, errors)
    doubt = np.clip(scatter, WELL, COLOUR_ERROR)
    scale[rows], doubt[rows] = factors, errors
    known = ~table["TARGET"].astype(bool) & np.isfinite(scale)
    table["FLUXERR"][known] = (doubt * table["FLUX"])[known]
    table["FLUX"][known] *= scale[known]
    used: dict[str, int | float] = {"STAR_FIT": len(rows)}
    if len(rows):
        used |= {"STAR_AMP": float(np.median(factors)), "STAR_AMS": float(np.std(factors))}
    return used


def usual_factors(
    teff: FloatArray, rows: IntArray, factors: FloatArray, errors: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the usual factor of measured stars of each star's colour, and its scatter, (n,).

    A band converted by temperature is wrong in the same way for all stars of a temperature. NaN
    where too few stars of that temperature are measured well.

    Parameters
    ----------
    teff : ndarray, shape (n,)
        Temperatures of all stars [K]; 0 is unknown.
    rows, factors, errors : ndarray, shape (k,)
        The measured stars, their measured over their expected fluxes, and the errors of these.
    """
    scale, scatter = np.full((2, len(teff)), np.nan)
    good = errors < WELL
    measured, factors = teff[rows[good]], factors[good]
    for star, temperature in enumerate(teff):
        alike = factors[np.abs(measured - temperature) <= ALIKE * temperature]
        if len(alike) >= FEWEST_ALIKE:
            scale[star], scatter[star] = np.median(alike), robust_scatter(alike)
    return scale, scatter


@dataclass(frozen=True)
class Sample:
    """Sampled images without the target, and drawings of their field stars."""

    light: Float32Array  # (m, ny, nx) images without target and `others` [electron]
    others: Float32Array | None  # (m, ny, nx) stars that are not measured, if any [electron]
    drawings: list[scipy.sparse.csc_matrix]  # (pixels, k) measured stars as expected [electron]
    variances: list[FloatArray]  # (pixels,) [electron^2]
    slopes: list[FloatArray]  # (pixels, 4) changes with the target's flux and place, and the level
    model_error: FloatArray  # (k,) of the target's model, for companions, as a factor of the star
    inside: FloatArray  # (k,) share of each star's light that falls into the window


def take_sample(rest: Residuals, field: Field, which: IntArray, chosen: IntArray) -> Sample:
    """Subtract the target and all stars but `which` from the sampled images; draw the latter."""
    images = rest.images
    # too faint or too far away to be measured
    others = field.only(np.setdiff1d(np.arange(len(field.flux)), which))
    light, also = (np.zeros((len(chosen), *images.shape), np.float32) for _ in range(2))
    drawings, variances, slopes, inside = [], [], [], np.zeros(len(which))
    for j, i in enumerate(chosen):
        image, stars = rest.taken_apart(int(i))
        # the target's model is fitted to an image without its neighbours
        when = float(rest.x[i]), float(rest.y[i]), float(images.mjd[i]), rest.span
        model, change = rest.target_with_slopes(int(i), image - stars, stars)
        slopes.append(np.vstack([change.reshape(3, -1), np.ones(model.size)]).T)
        also[j] = others.image(images.shape, *when)
        light[j] = image - model - also[j]
        drawing = draw_each(rest, field, int(i), which)
        drawings.append(drawing)
        seen = np.isfinite(image).ravel().astype(np.float64)
        inside += (drawing.T @ seen) / field.flux[which] / len(chosen)
        # the error of the target's model is proportional to its light
        bright = np.maximum(model, 0.0)
        variance = (bright + rest.floor[i] + (0.01 * bright) ** 2).ravel()
        variances.append(variance + np.maximum(np.asarray(drawing.sum(axis=1)).ravel(), 0.0))
    also_seen = also if len(others.flux) else None
    close, usual = np.isin(which, rest.companions), float(np.median(rest.flux[chosen]))
    error = np.where(close, MODEL_ERROR * np.maximum(usual / field.flux[which], 1.0), 0.0)
    return Sample(light, also_seen, drawings, variances, slopes, error, inside)


@dataclass(frozen=True)
class Pixels:
    """Masks of the pixels, shape (pixels,)."""

    passed: BoolArray  # stars pass quickly
    sky: BoolArray  # without light of the target


def passing_by(rest: Residuals, chosen: IntArray, roll: FloatArray, ring: float) -> Pixels:
    """Return which pixels the stars of the rotating field pass quickly, and which show the sky.

    The target's light extends to `ring` [pixel].
    """
    turned = np.radians(float(np.ptp(np.unwrap(roll[chosen], period=360.0))))
    rows, columns = np.mgrid[: rest.images.shape[0], : rest.images.shape[1]]
    place = [float(np.median(v[chosen])) for v in (rest.x, rest.y)]
    away = np.hypot(columns + 0.5 - place[0], rows + 0.5 - place[1])
    passed, sky = (away * min(turned, 2 * np.pi) > PASSES_BY).ravel(), (away > ring).ravel()
    return Pixels(passed, sky)


def fit_fluxes(sample: Sample, pixels: Pixels, prior: float) -> tuple[FloatArray, FloatArray]:
    """Return the ratios of measured to expected fluxes, and their errors."""
    count = len(sample.inside)
    factors, errors = np.ones(count), np.ones(count)
    # in a crowded field the median of the residuals contains some starlight, and is updated with
    # the latest fluxes
    for _ in range(PASSES if len(sample.light) >= MANY else 1):
        factors, errors = _fit_moving(sample, sample.light, pixels, factors, prior)
    if sample.others is not None:
        # the fluxes of the others may all be wrong in the same way
        shaken_light = sample.light - np.float32(COLOUR_ERROR) * sample.others
        shaken, _ = _fit_moving(sample, shaken_light, pixels, factors, prior)
        errors = np.hypot(errors, shaken - factors)
    return factors, errors


def _fit_moving(
    sample: Sample, light: Float32Array, pixels: Pixels, factors: FloatArray, prior: float
) -> tuple[FloatArray, FloatArray]:
    """Fit the stars to images without the level of the sky and static structure."""
    rests = [s.ravel() - d @ factors for s, d in zip(light, sample.drawings, strict=True)]
    # the stars were included in the sky
    levels = [float(np.nanmedian(r[pixels.sky])) if pixels.sky.any() else 0.0 for r in rests]
    steady = np.zeros(pixels.passed.size)
    if len(light) >= MANY:
        above = [rest - level for rest, level in zip(rests, levels, strict=True)]
        steady = np.where(pixels.passed, median_of_known(np.array(above)), 0.0)
    steady = np.where(np.isfinite(steady), steady, 0.0)
    moving = [
        s.ravel().astype(np.float64) - steady - level
        for s, level in zip(light, levels, strict=True)
    ]
    known = sample.drawings, sample.variances, prior, factors
    return fit_factors(moving, *known, target=sample.slopes, model_error=sample.model_error)
