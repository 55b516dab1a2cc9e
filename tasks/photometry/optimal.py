"""The light curve OPTIMAL: of all ways to measure the target, the one with the least noise.

The noise of a candidate is measured about the consensus of the quiet ones: a transit, a trend or
the star's own variability are in all of them, and cancel. Circles and PSF have the same weight in
it, since errors of all circles are alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from schemas.arrays import BoolArray, FloatArray
from schemas.light_curves import DEFAULT_RADIUS, RADII, Way
from schemas.settings import OptimalSettings
from tasks.numerics.robust import MAD_TO_SIGMA
from tasks.photometry.noise import PPM

FEWEST = 12  # good points; with fewer, the least formal error decides
QUIET = 1.3  # of the least point-to-point scatter; candidates below it form the consensus
SMOOTH = 1.0 / 24.0  # days; the consensus is smoothed by a running median of this width
ORBIT = 1.6 / 24.0  # days; a slow error of one candidate changes with the roll, in each orbit
CLIP = 4.0  # robust sigma; points further out, such as hits that were missed, do not decide


class Candidate(NamedTuple):
    """A way to measure the target, arrays of shape (n,)."""

    way: Way
    radius: float  # [pixel]
    flux: FloatArray  # [electron]
    error: FloatArray
    alone: FloatArray  # without the light of field stars


def list_candidates(
    flux: FloatArray,
    corrected: FloatArray,
    error: FloatArray,
    ratio: FloatArray,
    psf: tuple[FloatArray, FloatArray],
    settings: OptimalSettings,
) -> list[Candidate]:
    """Return all candidates, the plain circles first.

    Parameters
    ----------
    flux, corrected, error : ndarray, shape (n, radii)
        Flux in each circle as it is, and corrected for losses, and their error [electron].
    ratio : ndarray, shape (n, radii)
        Light of field stars relative to the target's.
    psf : tuple of ndarray, shape (n,)
        Flux by the PSF and its error [electron]; NaN without a PSF.
    settings : OptimalSettings
        The radii of the candidates; there is a plain circle within any limits.
    """
    candidates = []
    for way, values, first in (
        (Way.CIRCLE, flux, settings.smallest),
        (Way.CORRECTED, corrected, settings.corrected),
    ):
        for k, radius in enumerate(RADII):
            if first <= radius <= settings.largest:
                alone = values[:, k] / (1.0 + ratio[:, k])
                candidates.append(Candidate(way, radius, values[:, k], error[:, k], alone))
    if settings.psf and np.isfinite(psf[0]).any():
        candidates.append(Candidate(Way.PSF, DEFAULT_RADIUS, *psf, psf[0]))
    return candidates


class Choice(NamedTuple):
    """The best candidate, and the noise of each [ppm], NaN where it is unknown."""

    best: Candidate
    noise: FloatArray


def choose(candidates: Sequence[Candidate], mjd: FloatArray, good: BoolArray) -> Choice:
    """Return the candidate with the least noise over good points.

    A circle counts with the largest noise of itself and its two neighbours, as the least of many
    similar values is low by chance. If the circle of DEFAULT, or the one nearest to it among the
    candidates, has less noise than the best of these, it is chosen.
    """
    alone = np.array([c.alone for c in candidates])
    plain = [k for k, c in enumerate(candidates) if c.way is Way.CIRCLE]
    usual = min(plain, key=lambda k: abs(candidates[k].radius - DEFAULT_RADIUS))
    known = np.isfinite(alone)
    # a candidate without values for most points is no light curve; the others share their points
    complete = (known & good).sum(axis=1) >= max(0.9 * float((known[usual] & good).sum()), FEWEST)
    used = good & known[complete].all(axis=0)
    noise = np.full(len(candidates), np.nan)
    if not complete[usual] or used.sum() < FEWEST:
        return Choice(candidates[_least_error(candidates, good, usual)], noise)
    of_psf = np.array([c.way is Way.PSF for c in candidates])
    noise[complete] = PPM * measure(alone[np.ix_(complete, used)], of_psf[complete], mjd[used])
    counted = np.where(np.isfinite(noise), noise, np.inf)
    for k, one in enumerate(candidates):
        near = [j for j in (k - 1, k + 1) if 0 <= j < len(candidates)]
        beside = [noise[j] for j in near if candidates[j].way is one.way]
        counted[k] = max(counted[k], *(b for b in beside if np.isfinite(b)), 0.0)
    best = int(np.argmin(counted))
    return Choice(candidates[best if noise[best] < noise[usual] else usual], noise)


def _least_error(candidates: Sequence[Candidate], good: BoolArray, usual: int) -> int:
    """Return the plain circle with the least formal error, or that of DEFAULT if it is unknown."""
    formal = np.full(len(candidates), np.inf)
    for k, one in enumerate(candidates):
        seen = good & np.isfinite(one.flux) & np.isfinite(one.error) & (one.flux > 0)
        if one.way is Way.CIRCLE and seen.any():
            formal[k] = float(np.median(one.error[seen] / one.flux[seen]))
    return int(np.argmin(formal)) if np.isfinite(formal).any() else usual


def measure(flux: FloatArray, of_psf: BoolArray, mjd: FloatArray) -> FloatArray:
    """Return the relative noise of some light curves, shape (k,).

    It is the root mean square of three scatters: from point to point, about the consensus, and
    about the running median over an orbit.

    Parameters
    ----------
    flux : ndarray, shape (k, n)
        Fluxes at the same times, finite.
    of_psf : ndarray of bool, shape (k,)
        Which of them are those of the PSF.
    mjd : ndarray, shape (n,)
        Times [day].
    """
    order = np.argsort(mjd, kind="stable")
    middle = np.median(flux, axis=1, keepdims=True)
    relative = np.where(middle > 0, flux[:, order] / np.where(middle > 0, middle, 1.0), np.nan)
    rough = np.array([clipped_scatter(np.diff(v)) / np.sqrt(2.0) for v in relative])
    if not np.isfinite(rough).any():
        return rough
    time, quiet = mjd[order], rough <= QUIET * np.nanmin(rough)
    families = [quiet & ~of_psf, quiet & of_psf]
    consensus = np.mean([np.median(relative[f], axis=0) for f in families if f.any()], axis=0)
    smooth = running_median(time, consensus[None], SMOOTH)[0]
    slow = np.array([clipped_scatter(v - smooth) for v in relative])
    changes = relative - running_median(time, relative, ORBIT)
    by_orbit = np.array([clipped_scatter(v) for v in changes])
    return np.asarray(np.sqrt((rough**2 + slow**2 + by_orbit**2) / 3.0))


def clipped_scatter(values: FloatArray) -> float:
    """Return the standard deviation of the values within CLIP robust sigma of their median.

    NaN if one of the values is.
    """
    away = values - np.median(values)
    limit = CLIP * MAD_TO_SIGMA * float(np.median(np.abs(away)))
    kept = values[np.abs(away) <= limit]
    return float(kept.std()) if kept.size else float("nan")


def running_median(time: FloatArray, values: FloatArray, width: float) -> FloatArray:
    """Return the medians of series, shape (k, n), within half of `width` about each time, (n,)."""
    first = np.searchsorted(time, time - width / 2, "left")
    last = np.searchsorted(time, time + width / 2, "right")
    medians = [np.median(values[:, a:b], axis=1) for a, b in zip(first, last, strict=True)]
    return np.stack(medians, axis=1)
