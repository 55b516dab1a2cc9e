"""Gain: ADU per electron, from the voltages and the temperature of the read-out electronics.

gain = GAIN_NOM (1 + sum_i F_i (VSS-VSS0)^a (VOD-VSS-VOD0)^b (VRD-VSS-VRD0)^c (VOG-VSS-VOG0)^d
(T-T0)^e), in ADU/electron (REF_APP_GainCorrection). T0 is TEMP_OFF with the minus sign: nominal
housekeeping then gives GAIN_NOM exactly, and the real full frame 1.946 electron/ADU; with the plus
sign it would be 1.79. The voltages are steady, but their housekeeping is noisy: only the slow part
of the gain is used, which keeps that noise out of the light curve.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from schemas.arrays import BoolArray, FloatArray, IntArray
from schemas.errors import BadInputError
from schemas.flags import Quality
from schemas.inputs import GAIN_CORRECTION, HOUSEKEEPING
from schemas.payloads import Gain, Product, Reference
from schemas.settings import GainSettings
from schemas.terms import TERMS
from tasks.calibration.drift import slow
from tasks.engine.step import Leaves, step
from tasks.files.disk import require
from tasks.files.reader import open_declared
from tasks.files.writer import NewHdu
from tasks.visit.raw import Exposures, open_exposures


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


def fill_gaps(time: FloatArray, values: FloatArray) -> FloatArray:
    """Interpolate values that are not finite in time; if all are missing, they stay so."""
    good = np.isfinite(values)
    return values if good.all() or not good.any() else np.interp(time, time[good], values[good])


def _check(gain: FloatArray, path: Path) -> None:
    if not (gain > 0).all():
        bad = int(np.argmax(~(gain > 0)))
        raise BadInputError(
            f"{path}: gain of image {bad} is {gain[bad]:g} ADU/electron, expected more than 0"
        )


def _read_housekeeping(raw: Exposures) -> dict[str, FloatArray]:
    """Return the voltages [V] and the temperature [deg C] that the gain depends on, by name."""
    return {name: raw.metadata.column(name).astype(np.float64) for name in HOUSEKEEPING}


def _apply_formula(
    formula: GainFormula, mjd: FloatArray, values: dict[str, FloatArray], warnings: list[str]
) -> tuple[FloatArray, BoolArray]:
    """Return the gain of every image [ADU/electron], and the images that lack housekeeping."""
    missing = np.any([~np.isfinite(v) for v in values.values()], axis=0)
    filled = {name: fill_gaps(mjd, v) for name, v in values.items()}
    absent = [name for name, v in filled.items() if not np.isfinite(v).all()]
    if absent:
        warnings.append(f"no valid housekeeping for {', '.join(absent)}: the nominal gain is used")
        return np.full(len(mjd), formula.nominal), missing
    if missing.any():
        warnings.append(
            f"housekeeping interpolated for {missing.sum()} of {len(mjd)} images: no valid numbers"
        )
    vod, vrd, vog, vss, temperature = (filled[name] for name in HOUSEKEEPING)
    return gain_of(vod, vrd, vog, vss, temperature, formula), missing


@step("gain", "ADU_CONV", version="3", payload=Gain, leaves=["TERM_GAIN"])
def estimate_gain(raw: Product, correction: Reference, settings: GainSettings) -> Leaves:
    """Estimate the gain of every image from the housekeeping of the visit."""
    formula = read_gain_formula(correction.product)
    warnings: list[str] = []
    with open_exposures(raw) as exposures:
        mjd, path = exposures.mjd, exposures.file.path
        values = _read_housekeeping(exposures)
    gain, missing = _apply_formula(formula, mjd, values, warnings)
    _check(gain, path)  # smoothing would hide a single impossible value
    gain, error = slow(mjd, gain, settings.smooth / 1440.0)
    _check(gain, path)  # a curve through gains that jump can leave their range
    used = {
        "GAIN_AVG": float(gain.mean()),
        "GAIN_STD": float(1e6 * gain.std() / gain.mean()),
        "GAIN_ERR": float(1e6 * np.sqrt(np.mean(error**2)) / gain.mean()),
    }
    quality = np.where(missing, int(Quality.HOUSEKEEPING), 0)
    columns = {"MJD_TIME": mjd, "GAIN": gain, "GAIN_ERR": error, "QUALITY": quality}
    table = NewHdu(TERMS["TERM_GAIN"], used, columns=columns)
    return Leaves({"TERM_GAIN": [table]}, used=used, warnings=warnings)
