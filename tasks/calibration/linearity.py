"""Non-linearity: the signal that was collected as a function of the one that was measured, for one
exposure, in electrons.

The reference gives a cubic spline by read-out frequency (value and derivatives at each BOUNDARY) or
a look-up table, which is a spline of straight pieces.

By a setting, off as a rule, charge below 800 electrons is divided by q(e) = 1 - s (800 - e) / 700:
some find s = 0.04 in flight. It becomes part of the curve, by cubics that have value and slope of
the quotient at nodes 25 electrons apart.
"""

from __future__ import annotations

import numpy as np

from schemas.arrays import FloatArray
from schemas.inputs import LINEARISATION
from schemas.payloads import Linearity, Product, Reference
from schemas.settings import LinearitySettings
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.disk import require
from tasks.files.reader import FitsFile, open_declared
from tasks.files.writer import NewHdu
from tasks.visit.raw import open_exposures

FULL_SIGNAL, LOW_SIGNAL, NODES = 800.0, 100.0, 25.0  # [electron]


def with_low_signal(
    boundary: FloatArray, coefficients: FloatArray, missing: float
) -> tuple[FloatArray, FloatArray]:
    """Return a curve whose corrected charge e below 800 electrons is divided by 1 - missing (800 -
    e) / 700.

    Parameters
    ----------
    boundary, coefficients : ndarray, shape (m,) and (m, 4)
        The curve: see `tasks.amplifier.linearised`. It rises.
    missing : float
        Share of the charge that is missing at 100 electrons.
    """
    slope = missing / (FULL_SIGNAL - LOW_SIGNAL)

    def value(signal: FloatArray) -> tuple[FloatArray, FloatArray]:
        piece = np.clip(np.searchsorted(boundary, signal, "right") - 1, 0, None)
        d, c = signal - boundary[piece], coefficients[piece].T
        charge, rise = (
            c[0] + d * (c[1] + d * (c[2] + d * c[3])),
            c[1] + d * (2 * c[2] + 3 * d * c[3]),
        )
        held = 1 - slope * (FULL_SIGNAL - charge)
        return charge / held, rise * (held - charge * slope) / held**2

    low, high = 0.0, 2 * FULL_SIGNAL  # measured signal of a corrected one of 800 electrons
    for _ in range(80):
        middle = 0.5 * (low + high)
        charge = value(np.array([middle]))[0][0]
        low, high = (middle, high) if charge < FULL_SIGNAL else (low, middle)
    inside = boundary[(boundary > 0) & (boundary < high)]
    nodes = np.unique(np.concatenate([np.arange(0.0, high, NODES), inside, [high]]))
    (v, s), h = value(nodes), np.diff(nodes)
    change = np.diff(v) / h
    cubic = np.stack(
        [
            v[:-1],
            s[:-1],
            (3 * change - 2 * s[:-1] - s[1:]) / h,
            (s[:-1] + s[1:] - 2 * change) / h**2,
        ],
        axis=1,
    )
    piece = int(np.searchsorted(boundary, high, "right")) - 1
    d, c = high - boundary[piece], coefficients[piece]
    rise = c[1] + d * (2 * c[2] + 3 * d * c[3])
    rest = np.array([[c[0] + d * (c[1] + d * (c[2] + d * c[3])), rise, c[2] + 3 * d * c[3], c[3]]])
    return (
        np.concatenate([nodes, boundary[piece + 1 :]]),
        np.concatenate([cubic, rest, coefficients[piece + 1 :]]),
    )


def read_curve(product: Product, frequency: int) -> tuple[FloatArray, FloatArray, float]:
    """Return boundaries (m,), coefficients (m, 4) and the largest signal covered [electron] for a
    read-out frequency.
    """
    kilohertz = frequency // 1000
    with open_declared(require(product.path), LINEARISATION) as file:
        if (name := f"REF_APP_CCDLinearisation{kilohertz}") in file:
            return _spline(file, name)
        if (name := f"REF_APP_CCDLinearisationLUT{kilohertz}") in file:
            return _table(file, name)
        raise file.hdus[1].refuse(f"has no curve for the read-out frequency {frequency} Hz")


def _spline(file: FitsFile, name: str) -> tuple[FloatArray, FloatArray, float]:
    hdu = file[name]
    boundary = hdu.finite_column("BOUNDARY")
    coefficients = np.stack([hdu.column(f"COEF_{i}").astype(np.float64) for i in range(4)], axis=1)
    # the last boundary may only say where the last piece ends
    pieces = len(boundary) - 1 if np.isnan(coefficients[-1]).all() else len(boundary)
    for i, bad in enumerate(np.count_nonzero(~np.isfinite(coefficients[:pieces]), axis=0)):
        if bad:
            raise hdu.refuse(f"column COEF_{i}: {bad} values are not finite numbers")
    if pieces < 1 or (np.diff(boundary) <= 0).any():
        raise hdu.refuse("column BOUNDARY does not rise")
    return boundary[:pieces], coefficients[:pieces], float(boundary[-1])


def _table(file: FitsFile, name: str) -> tuple[FloatArray, FloatArray, float]:
    hdu = file[name]
    measured, corrected = hdu.finite_column("NON_LINEAR"), hdu.finite_column("CORRECTED")
    if len(measured) < 2 or (np.diff(measured) <= 0).any():
        raise hdu.refuse("column NON_LINEAR does not rise")
    slope = np.diff(corrected) / np.diff(measured)
    zero = np.zeros_like(slope)
    return measured[:-1], np.stack([corrected[:-1], slope, zero, zero], axis=1), float(measured[-1])


@step("linearity", "ADU_CONV", version="2", payload=Linearity, leaves=["TERM_LINEARITY"])
def estimate_linearity(
    raw: Product, reference: Reference | None, settings: LinearitySettings
) -> Leaves:
    """Choose the linearity curve of the visit's read-out mode."""
    with open_exposures(raw) as exposures:
        on_board = bool(exposures.image.keyword("NLIN_COR"))
        frequency = exposures.frequency
    skip = on_board or settings.skip or reference is None
    if skip or reference is None:
        boundary, coefficients, top = np.zeros(1), np.array([[0.0, 1.0, 0.0, 0.0]]), 65535.0 * 10
    else:
        boundary, coefficients, top = read_curve(reference.product, frequency)
    if settings.low_signal and not settings.skip:
        boundary, coefficients = with_low_signal(boundary, coefficients, settings.low_signal)
    used = {"LIN_MAX": top, "LIN_DONE": on_board}
    columns = {"BOUNDARY": boundary, **{f"COEF_{i}": coefficients[:, i] for i in range(4)}}
    table = NewHdu(TERMS["TERM_LINEARITY"], used, columns=columns)
    return Leaves({"TERM_LINEARITY": [table]}, used=used, skipped=settings.skip and not on_board)
