"""The detrended companion of a light curve: its columns and keywords."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from schemas.arrays import AnyArray, FloatArray
from schemas.inputs import Input, Use
from schemas.payloads import Product
from schemas.products import Column, Keyword, soc_structure
from tasks.files.disk import require
from tasks.files.reader import Value, open_declared
from tasks.numerics.series import fill_gaps
from tasks.photometry.detrend import (
    BACKGROUND,
    CONTAMINATION,
    PLACE,
    ROLL,
    SMEARING,
    TEMPERATURE,
    Conditions,
    Trend,
    estimate_trend,
)
from tasks.photometry.noise import PPM, point_to_point, robust_std
from tasks.scene.star_model import TELESCOPE
from tasks.visit.housekeeping import repair
from tasks.visit.images import Images

Columns = dict[str, AnyArray]

FLUX_DETRENDED = Column(
    "FLUX_DETRENDED", "double", "electrons", "FLUX minus all columns TAKEN; error: FLUXERR"
)
TAKEN = {
    term: Column(f"TAKEN_{term.upper()}", "double", "electrons", meaning)
    for term, meaning in {
        TEMPERATURE: "part of FLUX that follows the telescope's temperature",
        ROLL: "part of FLUX that follows the roll angle",
        BACKGROUND: "part of FLUX that follows the background",
        PLACE: "part of FLUX that follows the star's place",
        SMEARING: "part of FLUX that follows the smeared light",
        CONTAMINATION: "change of the light of field stars, from CONTA_LC",
    }.items()
}
COLUMNS = (FLUX_DETRENDED, *TAKEN.values())

# keyword, name of the slope, unit, meaning; those in ppm are scaled
_SLOPES = (
    ("DET_TEMP", "temperature", "ppm/degC", "telescope temperature"),
    ("DET_COS1", "cos 1", "ppm", "with cosine of the roll angle"),
    ("DET_SIN1", "sin 1", "ppm", "with sine of the roll angle"),
    ("DET_COS2", "cos 2", "ppm", "with cosine of twice the angle"),
    ("DET_SIN2", "sin 2", "ppm", "with sine of twice the angle"),
    ("DET_BKG", "background", "ppm/electron", "slope with BACKGROUND"),
    ("DET_X", "x", "ppm/pixel", "slope with CENTROID_X"),
    ("DET_Y", "y", "ppm/pixel", "slope with CENTROID_Y"),
    ("DET_SMR", "smearing", "ppm/electron", "slope with SMEARING_LC"),
)
KEYWORDS = {
    k.name: k
    for k in (
        Keyword("DET_TERM", "string", "", "what FLUX_DETRENDED is free of"),
        *(Keyword(name, "real", unit, meaning) for name, _, unit, meaning in _SLOPES),
        Keyword("DET_CON", "boolean", "", "T: changes of CONTA_LC were taken"),
        Keyword("DET_OUT", "integer", "", "good points in transits or dips"),
        Keyword("DET_TRAN", "integer", "", "transits of the setting detrend.transit"),
        Keyword("DET_PPM", "real", "ppm", "robust scatter of FLUX_DETRENDED"),
        Keyword("DET_P2P", "real", "ppm", "point-to-point scatter of FLUX_DETRENDED"),
    )
}


def read_temperature(images: Images) -> FloatArray:
    """Return the temperature of the telescope in every image [deg C]; NaN if it is unknown."""
    if TELESCOPE not in images.metadata.present():
        return np.full(images.count, np.nan)
    return repair(images.metadata, TELESCOPE, images.mjd, []).values  # psf warns of replaced ones


def at_times(mjd: FloatArray, values: FloatArray, wanted: FloatArray) -> FloatArray:
    """Return values interpolated at other times, NaN if none is known."""
    order = np.argsort(mjd, kind="stable")
    known = fill_gaps(mjd[order], values[order])
    return np.asarray(np.interp(wanted, mjd[order], known))


def detrended(
    columns: Mapping[str, AnyArray],
    temperature: FloatArray,
    transits: Sequence[tuple[float, float]],
) -> tuple[Columns, dict[str, Value]]:
    """Return the columns of the companion of a light curve, and its keywords.

    Parameters
    ----------
    columns : mapping of ndarray, shape (n,)
        Those of the light curve.
    temperature : ndarray, shape (n,)
        Of the telescope [deg C].
    transits : sequence of (float, float)
        Middle (BJD_TIME) [day] and duration [h] of known transits.
    """
    flux, bjd = columns["FLUX"], columns["BJD_TIME"]
    good = (columns["EVENT"] == 0) & (columns["QUALITY"] == 0)
    start = float(np.nanmin(bjd)) if np.isfinite(bjd).any() else 0.0
    middles = [(24.0 * (middle - start), duration) for middle, duration in transits]
    conditions = Conditions(
        temperature=temperature,
        roll=columns["ROLL_ANGLE"],
        background=columns["BACKGROUND"],
        x=columns["CENTROID_X"],
        y=columns["CENTROID_Y"],
        smearing=columns["SMEARING_LC"],
        contamination=columns["CONTA_LC"],
    )
    known = [(m - d / 2, m + d / 2) for m, d in middles]
    trend = estimate_trend(24.0 * (bjd - start), flux, good, conditions, known)
    without = flux / (1.0 + sum(trend.taken.values(), np.zeros(len(flux))))
    nothing = np.zeros(len(flux))
    taken = {c.name: without * trend.taken.get(term, nothing) for term, c in TAKEN.items()}
    return {FLUX_DETRENDED.name: without, **taken}, {
        **trend_keywords(trend, without[good]),
        "DET_TRAN": len(transits),
    }


def trend_keywords(trend: Trend, flux: FloatArray) -> dict[str, Value]:
    """Return the keywords of a trend; `flux` are the good points without it.

    A slope that is not used is 0, and so is a noise that cannot be computed.
    """
    terms = ", ".join(term for term in TAKEN if term in trend.taken)
    known = flux[np.isfinite(flux)]
    middle = float(np.median(known)) if known.size else 0.0
    noise = {"DET_PPM": robust_std(known), "DET_P2P": point_to_point(known)}
    return {
        "DET_TERM": terms or f"none: {trend.reason}",
        **{key: PPM * trend.slopes.get(name, 0.0) for key, name, _, _ in _SLOPES},
        "DET_CON": CONTAMINATION in trend.taken,
        "DET_OUT": trend.left_out,
        **{
            key: float(np.nan_to_num(PPM * value / middle)) if middle > 0 else 0.0
            for key, value in noise.items()
        },
    }


def read_detrended(product: Product) -> FloatArray | None:
    """Return FLUX_DETRENDED of a light curve, None if a user's own one does not have it."""
    soc = soc_structure("SCI_COR_Lightcurve")
    use = Use(replace(soc, columns=(*soc.columns, FLUX_DETRENDED)))
    declared = Input(soc.extname, (soc.extname,), {soc.extname: use}, soc.meaning)
    with open_declared(Path(require(product.path)), declared) as file:
        curve = file[soc.extname]
        if FLUX_DETRENDED.name not in curve.present():
            return None
        return np.asarray(curve.column(FLUX_DETRENDED.name), np.float64)
