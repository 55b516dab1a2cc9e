"""Spread: the motion of the star from exposure to exposure of a stack.

Stacks are linearised as a whole, but the mean of the curve f is not the curve of the mean: with
charges n_k of the exposures of a stack,

    mean f(n_k) = f(mean n_k) + 1/2 f''(mean n_k) Var n_k

to second order. This step derives the position of the star in every exposure from the attitude, and
finds the imagettes that are the exposures of a stack; `motion` turns both into the variance.
"""

from __future__ import annotations

import numpy as np

from schemas.arrays import FloatArray, IntArray
from schemas.constants import DAY
from schemas.payloads import Product, Reference, Spread
from schemas.settings import SpreadSettings
from schemas.terms import TERMS
from tasks.calibration.motion import POINTS
from tasks.engine.step import Leaves, step
from tasks.files.writer import NewHdu
from tasks.visit.attitude import mean_between, pixel_scale, read_attitude, target_track
from tasks.visit.raw import Exposures, maybe_exposures, open_exposures
from tasks.visit.terms import SpreadTerm

Track = tuple[FloatArray, FloatArray, FloatArray]  # times [MJD] and positions x, y [pixel]


def offsets_of(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return offsets that represent the motion within stacks.

    Parameters
    ----------
    x, y : ndarray, shape (n, k)
        Positions of the star in the k exposures of n stacks [pixel].

    Returns
    -------
    ndarray, shape (n, 2, 8)
        Offsets from the mean position along x and y, of equal weight: those of the exposures,
        padded with NaN, or for more than eight exposures eight points on an ellipse with the same
        covariance. 0 where a position is unknown [pixel].
    """
    count, k = x.shape
    offsets = np.full((count, 2, POINTS), np.nan)
    dx, dy = (np.nan_to_num(v - v.mean(axis=1, keepdims=True)) for v in (x, y))
    if k <= POINTS:
        offsets[:, 0, :k], offsets[:, 1, :k] = dx, dy
        return offsets
    xx, xy, yy = (np.mean(v, axis=1)[:, None] for v in (dx * dx, dx * dy, dy * dy))
    angle = 2 * np.pi * np.arange(POINTS) / POINTS
    along = np.sqrt(xx)
    across = np.divide(xy, along, out=np.zeros_like(xy), where=along > 0)
    offsets[:, 0] = np.sqrt(2) * along * np.cos(angle)
    offsets[:, 1] = np.sqrt(2) * (
        across * np.cos(angle) + np.sqrt(np.maximum(yy - across**2, 0)) * np.sin(angle)
    )
    return offsets


def exposure_positions(raw: Exposures, track: Track) -> tuple[FloatArray, FloatArray]:
    """Return the mean position of the target in every exposure, x and y, shape (n, NEXP) [pixel].

    NaN outside of the track.
    """
    first = raw.mjd - raw.span / 2 / DAY
    start = first[:, None] + np.arange(raw.nexp) * max(raw.repetition, raw.exposure_time) / DAY
    stop = start + raw.exposure_time / DAY
    time, x, y = track
    return mean_between(time, x, start, stop), mean_between(time, y, start, stop)


def match_imagettes(raw: Exposures, imagettes: Exposures) -> IntArray:
    """Return the index of the first imagette of every stack, shape (n,); -1 unless it has them all.

    Imagettes are used only if each is a single exposure, and for stacks during which there are as
    many of them as exposures.
    """
    none = np.full(raw.count, -1, np.int64)
    single = imagettes.metadata.column("NEXP").astype(np.int64) == 1
    if raw.nexp < 2 or not single.all() or (np.diff(imagettes.mjd) <= 0).any():
        return none
    half = raw.span / 2 / DAY
    first, last = (np.searchsorted(imagettes.mjd, raw.mjd + side * half) for side in (-1, 1))
    return np.where(last - first == raw.nexp, first, none)


def _measure_motion(raw: Exposures, track: Track, warnings: list[str]) -> FloatArray:
    """Return the offsets of the exposures of every stack, shape (n, 2, 8) [pixel]."""
    if raw.nexp < 2:
        return np.zeros((raw.count, 2, POINTS))
    positions = exposure_positions(raw, track)
    if unknown := int(np.isnan(positions).any(axis=(0, 2)).sum()):
        warnings.append(
            f"no attitude for {unknown} of {raw.count} images: the star's motion is ignored"
        )
    return offsets_of(*positions)


def _tabulate(name: str, mjd: FloatArray, term: SpreadTerm, used: dict[str, float]) -> NewHdu:
    offset_x, offset_y = term.offsets[:, 0], term.offsets[:, 1]
    columns = {"MJD_TIME": mjd, "OFFSET_X": offset_x, "OFFSET_Y": offset_y, "FIRST": term.first}
    return NewHdu(TERMS[name], used, columns=columns)


@step("spread", "ADU_CONV", version="3", payload=Spread, leaves=["TERM_SPREAD"])
def estimate_spread(
    raw: Product,
    imagettes: Product | None,
    attitude: Product,
    scale: Reference | None,
    settings: SpreadSettings,
) -> Leaves:
    """Estimate the star's motion within stacks, and find the imagettes of their exposures."""
    warnings: list[str] = []
    pointing = read_attitude(attitude)
    with open_exposures(raw) as stacks, maybe_exposures(imagettes) as small:
        target = stacks.image.number("RA_TARG"), stacks.image.number("DEC_TARG")
        track = pointing.time, *target_track(pointing, target, pixel_scale(scale))
        times, terms = [], []
        for exposures in (stacks, small):
            count = exposures.count if exposures is not None else 0
            offsets, first = np.zeros((count, 2, POINTS)), np.full(count, -1)
            if exposures is not None and not settings.skip:
                offsets = _measure_motion(exposures, track, warnings)
            if small is not None and exposures is stacks and not settings.skip:
                first = match_imagettes(stacks, small)
            times.append(exposures.mjd if exposures is not None else np.zeros(0))
            terms.append(SpreadTerm(offsets, first))
    of_stacks, of_imagettes = terms
    along_x, along_y = (np.nanvar(of_stacks.offsets[:, axis], axis=1) for axis in (0, 1))
    used = {
        "SPR_PIX": float(np.sqrt(np.median(along_x + along_y) / 2)),
        "SPR_IMG": float(np.mean(of_stacks.first >= 0)),
    }
    hdus = [
        _tabulate("TERM_SPREAD", times[0], of_stacks, used),
        _tabulate("TERM_SPREAD_IMAGETTES", times[1], of_imagettes, {}),
    ]
    return Leaves({"TERM_SPREAD": hdus}, used=used, warnings=warnings, skipped=settings.skip)
