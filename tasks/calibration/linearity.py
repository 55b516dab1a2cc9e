"""Non-linearity: the collected signal of one exposure as a function of the measured one [electron].

For each read-out frequency the reference has a cubic spline (value and derivatives at each
BOUNDARY), or a look-up table, which is a spline of straight pieces.

A setting, off by default, divides charges below 800 electrons by q(e) = 1 - s (800 - e) / 700; s =
0.04 has been reported in flight. The quotient becomes part of the curve, as cubics with its values
and slopes at nodes 25 electrons apart.
"""

from __future__ import annotations

import numpy as np

from schemas.arrays import BoolArray, FloatArray
from schemas.inputs import LINEARISATION
from schemas.payloads import Linearity, Product, Reference
from schemas.settings import LinearitySettings
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.disk import require
from tasks.files.reader import Hdu, open_declared
from tasks.files.writer import NewHdu
from tasks.visit.raw import open_exposures
from tasks.visit.terms import Curve

FULL_SIGNAL, LOW_SIGNAL, NODES = 800.0, 100.0, 25.0  # [electron]
FAR = 0.1  # share of the signal that no correction exceeds
NOT_FAR = 0.03  # the same up to `FULL`
FULL = 100_000.0  # electron; the detector saturates at 1.1e5 to 1.2e5
STEP = 0.01  # share of the signal by which pieces never differ where they meet
FEW_ELECTRONS = 20.0  # differences that never count [electron]


def _evaluate(curve: Curve, signal: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return charge and slope of a curve at some measured signals, shape (n,)."""
    boundary, coefficients = curve
    piece = np.clip(np.searchsorted(boundary, signal, "right") - 1, 0, None)
    d, c = signal - boundary[piece], coefficients[piece].T
    charge = c[0] + d * (c[1] + d * (c[2] + d * c[3]))
    return charge, c[1] + d * (2 * c[2] + 3 * d * c[3])


def _find_full_signal(curve: Curve, slope: float) -> float:
    """Return the measured signal that corresponds to a charge of 800 electrons [electron]."""
    low, high = 0.0, 2 * FULL_SIGNAL
    for _ in range(80):
        middle = 0.5 * (low + high)
        charge = _raise_low_signal(curve, slope, np.array([middle]))[0][0]
        low, high = (middle, high) if charge < FULL_SIGNAL else (low, middle)
    return high


def _raise_low_signal(
    curve: Curve, slope: float, signal: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return charge and slope of the quotient of a curve and 1 - slope (800 - charge)."""
    charge, rise = _evaluate(curve, signal)
    share = 1 - slope * (FULL_SIGNAL - charge)
    return charge / share, rise * (share - charge * slope) / share**2


def _fit_cubics(nodes: FloatArray, values: FloatArray, slopes: FloatArray) -> FloatArray:
    """Return the coefficients (m - 1, 4) of cubics with the values and slopes of m nodes."""
    h = np.diff(nodes)
    change = np.diff(values) / h
    quadratic = (3 * change - 2 * slopes[:-1] - slopes[1:]) / h
    cubic = (slopes[:-1] + slopes[1:] - 2 * change) / h**2
    return np.stack([values[:-1], slopes[:-1], quadratic, cubic], axis=1)


def _cut(curve: Curve, signal: float) -> Curve:
    """Return the part of a curve above a measured signal."""
    boundary, coefficients = curve
    piece = int(np.searchsorted(boundary, signal, "right")) - 1
    d, c = signal - boundary[piece], coefficients[piece]
    rise = c[1] + d * (2 * c[2] + 3 * d * c[3])
    first = np.array([[c[0] + d * (c[1] + d * (c[2] + d * c[3])), rise, c[2] + 3 * d * c[3], c[3]]])
    return Curve(
        np.concatenate([[signal], boundary[piece + 1 :]]),
        np.concatenate([first, coefficients[piece + 1 :]]),
    )


def with_low_signal(curve: Curve, missing: float) -> Curve:
    """Return a curve with charges e below 800 electrons divided by 1 - missing (800 - e) / 700.

    Parameters
    ----------
    curve : Curve
        An increasing curve.
    missing : float
        Share of the charge that is missing at 100 electrons.
    """
    slope = missing / (FULL_SIGNAL - LOW_SIGNAL)
    full = _find_full_signal(curve, slope)
    inside = curve.boundary[(curve.boundary > 0) & (curve.boundary < full)]
    nodes = np.unique(np.concatenate([np.arange(0.0, full, NODES), inside, [full]]))
    cubics = _fit_cubics(nodes, *_raise_low_signal(curve, slope, nodes))
    above = _cut(curve, full)
    return Curve(
        np.concatenate([nodes[:-1], above.boundary]),
        np.concatenate([cubics, above.coefficients]),
    )


def read_curve(product: Product, frequency: int) -> tuple[Curve, float]:
    """Return the curve for a read-out frequency, and the largest signal it covers [electron]."""
    kilohertz = frequency // 1000
    with open_declared(require(product.path), LINEARISATION) as file:
        if (name := f"REF_APP_CCDLinearisation{kilohertz}") in file:
            return _read_spline(file[name])
        if (name := f"REF_APP_CCDLinearisationLUT{kilohertz}") in file:
            return _read_table(file[name])
        raise file.hdus[1].refuse(f"has no curve for the read-out frequency {frequency} Hz")


def _read_spline(hdu: Hdu) -> tuple[Curve, float]:
    boundary = hdu.finite_column("BOUNDARY")
    if not boundary.size:
        raise hdu.refuse("has no rows")
    coefficients = np.stack([hdu.column(f"COEF_{i}").astype(np.float64) for i in range(4)], axis=1)
    # the last boundary may only say where the last piece ends
    pieces = len(boundary) - 1 if np.isnan(coefficients[-1]).all() else len(boundary)
    for i, bad in enumerate(np.count_nonzero(~np.isfinite(coefficients[:pieces]), axis=0)):
        if bad:
            raise hdu.refuse(f"column COEF_{i}: {bad} of {pieces} values are NaN or infinite")
    if pieces < 1 or (np.diff(boundary) <= 0).any():
        raise hdu.refuse("column BOUNDARY does not increase")
    return Curve(boundary[:pieces], coefficients[:pieces]), float(boundary[-1])


def _read_table(hdu: Hdu) -> tuple[Curve, float]:
    measured, corrected = hdu.finite_column("NON_LINEAR"), hdu.finite_column("CORRECTED")
    if len(measured) < 2 or (np.diff(measured) <= 0).any():
        raise hdu.refuse("column NON_LINEAR does not increase")
    slope = np.diff(corrected) / np.diff(measured)
    zero = np.zeros_like(slope)
    coefficients = np.stack([corrected[:-1], slope, zero, zero], axis=1)
    return Curve(measured[:-1], coefficients), float(measured[-1])


def plausible_curve(curve: Curve, top: float, warnings: list[str]) -> Curve:
    """Return a curve without impossible pieces, which are replaced by straight lines.

    A piece is impossible if it deviates from the measured signal by more than 3 %, or 10 % near
    saturation, or does not end where the next one begins. In flight, the two differ by 1 % up to
    saturation, and by 5 % there.
    """
    boundary, coefficients = curve
    ends = np.append(boundary[1:], max(top, boundary[-1] + 1.0))
    wrong = np.zeros(len(boundary), dtype=np.bool_)
    for share in (0.0, 0.5, 1.0):
        d = share * (ends - boundary)
        charge = np.sum(coefficients * d[:, None] ** np.arange(4), axis=1)
        most = np.where(boundary + d < FULL, NOT_FAR, FAR)
        wrong |= ~_near(charge, boundary + d, most)
    wrong[:-1] |= ~_near(charge[:-1], coefficients[1:, 0], STEP)
    if not wrong.any():
        return curve
    warnings.append(
        f"{wrong.sum()} of {len(boundary)} pieces of the linearity curve cannot be right (the "
        f"first from {boundary[wrong][0]:.6g} electrons on): replaced by straight lines"
    )
    sound = _near(coefficients[:, 0], boundary, np.where(boundary < FULL, NOT_FAR, FAR))
    if (below := boundary < FULL).any():
        # near saturation, where more is allowed, the curve goes on from there
        sound[~below] &= sound[below][-1]
        wrong |= ~sound
    away = np.where(sound, coefficients[:, 0] - boundary, 0.0)
    away = np.interp(boundary, boundary[sound], away[sound]) if sound.any() else away
    straight = np.zeros_like(coefficients)
    straight[:, 0], straight[:, 1] = boundary + away, 1.0
    straight[:-1, 1] = np.diff(straight[:, 0]) / np.diff(boundary)
    return Curve(boundary, np.where(wrong[:, None], straight, coefficients))


def _near(charge: FloatArray, expected: FloatArray, share: float | FloatArray) -> BoolArray:
    """Return where two charges agree to a share of the expected one, or to some electrons."""
    return np.asarray(np.abs(charge - expected) <= share * np.abs(expected) + FEW_ELECTRONS)


@step("linearity", "ADU_CONV", version="6", payload=Linearity, leaves=["TERM_LINEARITY"])
def estimate_linearity(
    raw: Product, reference: Reference | None, settings: LinearitySettings
) -> Leaves:
    """Select the linearity curve of the visit's read-out mode."""
    with open_exposures(raw) as exposures:
        on_board = bool(exposures.image.keyword("NLIN_COR"))
        frequency = exposures.frequency
    warnings: list[str] = []
    curve, top = Curve(np.zeros(1), np.array([[0.0, 1.0, 0.0, 0.0]])), 65535.0 * 10
    if reference is not None and not (on_board or settings.skip):
        curve, top = read_curve(reference.product, frequency)
        curve = plausible_curve(curve, top, warnings)
    if settings.low_signal and not settings.skip:
        curve = with_low_signal(curve, settings.low_signal)
    used = {"LIN_MAX": top, "LIN_DONE": on_board}
    cubics = {f"COEF_{i}": curve.coefficients[:, i] for i in range(4)}
    columns = {"BOUNDARY": curve.boundary, **cubics}
    table = NewHdu(TERMS["TERM_LINEARITY"], used, columns=columns)
    skipped = settings.skip and not on_board
    return Leaves({"TERM_LINEARITY": [table]}, used=used, warnings=warnings, skipped=skipped)
