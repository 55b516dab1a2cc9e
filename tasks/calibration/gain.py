"""Gain: ADU per electron, from the voltages and the temperature of the read-out electronics.

gain = GAIN_NOM (1 + sum_i F_i (VSS-VSS0)^a (VOD-VSS-VOD0)^b (VRD-VSS-VRD0)^c (VOG-VSS-VOG0)^d
(T-T0)^e), in ADU/electron (REF_APP_GainCorrection). T0 is TEMP_OFF with the minus sign: nominal
housekeeping then gives GAIN_NOM exactly, and the real full frame 1.946 electron/ADU; with the plus
sign it would be 1.79. The voltages are steady, but their housekeeping is noisy: only the slow part
of the gain is used, which keeps that noise out of the light curve. A gain far from the nominal one
comes from wrong housekeeping or a wrong reference, and is not used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.arrays import BoolArray, FloatArray, IntArray
from schemas.flags import Quality
from schemas.inputs import GAIN_CORRECTION, HOUSEKEEPING
from schemas.payloads import Gain, Product, Reference
from schemas.settings import GainSettings
from schemas.terms import TERMS
from tasks.calibration.drift import slow
from tasks.engine.step import Leaves, step
from tasks.files.disk import require
from tasks.files.reader import Value, open_declared
from tasks.files.writer import NewHdu
from tasks.numerics.series import fill_gaps
from tasks.visit.housekeeping import repair
from tasks.visit.raw import Exposures, open_exposures

# [ADU/electron]; 0.5071 with the redundant electronics
INSTRUMENT = 0.5111


@dataclass(frozen=True)
class GainFormula:
    """The gain as a polynomial of m terms in four voltages and the temperature."""

    nominal: float  # [ADU/electron]
    offsets: FloatArray  # of VSS, VOD, VRD, VOG [V] and temperature [deg C], shape (5,)
    factors: FloatArray  # shape (m,)
    exponents: IntArray  # shape (m, 5)


def gain_of(
    vod: FloatArray,
    vrd: FloatArray,
    vog: FloatArray,
    vss: FloatArray,
    temperature: FloatArray,
    formula: GainFormula,
) -> FloatArray:
    """Evaluate the gain for some housekeeping.

    Parameters
    ----------
    vod, vrd, vog, vss : ndarray, shape (n,)
        Voltages of the CCD [V].
    temperature : ndarray, shape (n,)
        Temperature of the CCD [deg C].
    formula : GainFormula
        The formula of the reference.

    Returns
    -------
    ndarray, shape (n,)
        Gain [ADU/electron].
    """
    terms = np.stack([vss, vod - vss, vrd - vss, vog - vss, temperature]) - formula.offsets[:, None]
    powers = np.prod(terms[None, :, :] ** formula.exponents[:, :, None], axis=1)
    gain: FloatArray = formula.nominal * (1.0 + formula.factors @ powers)
    return gain


def read_gain_formula(product: Product) -> GainFormula:
    """Read the gain correction."""
    with open_declared(require(product.path), GAIN_CORRECTION) as file:
        hdu = file["REF_APP_GainCorrection"]
        offsets = np.array(
            [hdu.number(f"{name}_OFF") for name in ("VSS", "VOD", "VRD", "VOG", "TEMP")]
        )
        exponents = np.stack(
            [hdu.column(f"EXP_{n}") for n in ("VSS", "VOD", "VRD", "VOG", "TEMP")], axis=1
        )
        return GainFormula(
            hdu.number("GAIN_NOM"), offsets, hdu.finite_column("FACTOR"), exponents.astype(np.int64)
        )


def nominal_housekeeping(formula: GainFormula) -> dict[str, float]:
    """Return the voltages [V] and the temperature [deg C] of the nominal gain, by column."""
    vss, *others = (float(offset) for offset in formula.offsets[:4])
    vod, vrd, vog = (vss + other for other in others)
    values = vod, vrd, vog, vss, float(formula.offsets[4])
    return dict(zip(HOUSEKEEPING, values, strict=True))


def warn_of_nominal(nominal: float, share: float) -> list[str]:
    """Return a warning if the nominal gain of the reference is not that of the instrument.

    Parameters
    ----------
    nominal : float
        Of the reference [ADU/electron].
    share : float
        Largest relative deviation.
    """
    if not deviates(np.array([nominal]), INSTRUMENT, share)[0]:
        return []
    return [
        f"GAIN_NOM of the reference is {nominal:g} ADU/electron, more than {share:.2%} from the "
        f"{INSTRUMENT:g} of the instrument: fluxes and their errors rest on it"
    ]


def _read_housekeeping(
    raw: Exposures, formula: GainFormula, warnings: list[str]
) -> tuple[dict[str, FloatArray], BoolArray]:
    """Return voltages and temperature of every image, and the images with a replaced value.

    A column without any valid value has its nominal one.
    """
    columns, replaced, unknown = {}, np.zeros(raw.count, dtype=np.bool_), []
    for name, nominal in nominal_housekeeping(formula).items():
        column = repair(raw.metadata, name, raw.mjd, warnings)
        replaced |= column.replaced
        if column.unknown:
            unknown.append(f"{name} ({nominal:.6g})")
        columns[name] = np.full(raw.count, nominal) if column.unknown else column.values
    if len(unknown) == len(HOUSEKEEPING):
        warnings.append("no valid voltages and temperatures: the nominal gain is used")
    elif unknown:
        warnings.append(f"no valid {', '.join(unknown)}: nominal values are used in the gain")
    return columns, replaced


def deviates(gain: FloatArray, nominal: float, share: float) -> BoolArray:
    """Return which gains are further from the nominal one than a share of it, or no numbers."""
    return ~(np.abs(gain / nominal - 1.0) <= share)


def plausible_gain(
    mjd: FloatArray, gain: FloatArray, nominal: float, share: float, warnings: list[str]
) -> tuple[FloatArray, BoolArray]:
    """Replace gains that are far from the nominal one: interpolate, or use the nominal gain.

    Parameters
    ----------
    mjd, gain : ndarray, shape (n,)
        Times and gains of the images.
    nominal : float
        Nominal gain [ADU/electron].
    share : float
        Largest relative deviation of a valid gain.
    warnings : list of str
        Receives a warning about what was replaced.

    Returns
    -------
    gain : ndarray, shape (n,)
        Gain [ADU/electron].
    replaced : ndarray of bool, shape (n,)
        Images whose gain was replaced.
    """
    odd = deviates(gain, nominal, share)
    if not odd.any():
        return gain, odd
    first = int(np.argmax(odd))
    found = (
        f"gain of {odd.sum()} of {len(gain)} images is more than {share:.2%} from the nominal "
        f"{nominal:g} ADU/electron, the first {gain[first]:.4g} at MJD {mjd[first]:.5f}"
    )
    if odd.all():
        warnings.append(f"{found}: the nominal gain is used")
        return np.full_like(gain, nominal), odd
    warnings.append(f"{found}: interpolated in time")
    return fill_gaps(mjd, np.where(odd, np.nan, gain)), odd


@step("gain", "ADU_CONV", version="6", payload=Gain, leaves=["TERM_GAIN"])
def estimate_gain(raw: Product, correction: Reference, settings: GainSettings) -> Leaves:
    """Estimate the gain of every image from the housekeeping of the visit."""
    formula = read_gain_formula(correction.product)
    warnings = warn_of_nominal(formula.nominal, settings.deviation)
    doubted = bool(warnings)
    with open_exposures(raw) as exposures:
        mjd = exposures.mjd
        columns, missing = _read_housekeeping(exposures, formula, warnings)
    vod, vrd, vog, vss, temperature = (columns[name] for name in HOUSEKEEPING)
    with np.errstate(over="ignore", invalid="ignore"):
        measured = gain_of(vod, vrd, vog, vss, temperature, formula)
    share = settings.deviation
    measured, odd = plausible_gain(mjd, measured, formula.nominal, share, warnings)
    gain, error = slow(mjd, measured, settings.smooth / 1440.0)
    if deviates(gain, formula.nominal, 2 * share).any():
        warnings.append("the smooth curve through the gain leaves its range: gain as measured")
        gain, error = measured, np.zeros_like(measured)
    used: dict[str, Value] = {
        "GAIN_AVG": float(gain.mean()),
        "GAIN_STD": float(1e6 * gain.std() / gain.mean()),
        "GAIN_ERR": float(1e6 * np.sqrt(np.mean(error**2)) / gain.mean()),
        "GAIN_SRC": "nominal" if odd.all() or (gain == formula.nominal).all() else "housekeeping",
    }
    quality = np.where(missing | odd | doubted, int(Quality.HOUSEKEEPING), 0)
    columns_of_term = {"MJD_TIME": mjd, "GAIN": gain, "GAIN_ERR": error, "QUALITY": quality}
    table = NewHdu(TERMS["TERM_GAIN"], used, columns=columns_of_term)
    return Leaves({"TERM_GAIN": [table]}, used=used, warnings=warnings)
