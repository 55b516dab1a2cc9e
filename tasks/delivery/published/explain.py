"""The flux of one image, step by step, and the terms of its error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from schemas.errors import BadInputError, UsageError
from schemas.flags import Quality
from schemas.light_curves import (
    CALIBRATION_STAGES,
    CORRECTION_STAGES,
    DEFAULT_RADIUS,
    FIXED,
    OPTIMAL,
    PSF,
)
from schemas.nearest import not_a_curve
from schemas.terms import TERMS
from tasks.delivery.published.answer import number
from tasks.delivery.published.visit import Columns, PublishedVisit
from tasks.delivery.report.tables import BIT_WORDS, EVENT_DIGITS, bit_name

_NOT_SUMMED = ("DRP",)  # in TERM_ERRORS for comparison only

# the term of TERM_ERRORS that is the error of a stage
_ERROR_OF_STAGE = {
    "GAIN": "GAIN",
    "DARK": "DARK",
    "FLAT": "FLAT",
    "SMEARING": "SMEARING",
    "TELEGRAPHIC": "STATES",
    "BACKGROUND": "BACKGROUND",
}

# columns with the other light in the flux, and with the light that was subtracted
_WITHIN = (
    "FLUX",
    "CONTA_LC",
    "CONTA_LC_ERR",
    "BACKGROUND",
    "DARK",
    "SMEARING_LC",
    "SMEARING_LC_ERR",
)


@dataclass(frozen=True)
class Stage:
    """The flux in the circle of the stages after one operation [electron]."""

    part: str
    stage: str
    meaning: str
    electrons: float | None
    change: float | None
    error: float | None


@dataclass(frozen=True)
class Share:
    """Light in the aperture that is not the target's [electron]."""

    column: str
    meaning: str
    electrons: float | None
    error: float | None


@dataclass(frozen=True)
class ErrorTerm:
    """A term of the error [electron], and its share of the variance."""

    term: str
    meaning: str
    electrons: float | None
    share: float | None


@dataclass(frozen=True)
class Explanation:
    """The flux budget of one image in one aperture [electron]."""

    visit: str
    version: str
    image: int
    images: int
    aperture: str
    radius: float
    type: str
    utc: str
    bjd: float
    roll_angle: float | None
    centroid: tuple[float | None, float | None]
    event: int
    event_words: list[str]
    quality: int
    quality_words: list[str]
    stages_radius: float
    stages: list[Stage]
    flux: float | None
    error: float | None
    error_ppm: float | None
    within: list[Share]
    errors: list[ErrorTerm]
    errors_sum: float | None
    errors_note: str


def event_words(event: int) -> list[str]:
    """Return the meaning of each non-zero digit of EVENT."""
    digits = [(name, event // place % 10, words) for place, name, words in EVENT_DIGITS]
    return [
        f"{name}: {words.get(digit, f'digit {digit}')}" for name, digit, words in digits if digit
    ]


def quality_words(quality: int) -> list[str]:
    """Return the meaning of each bit set in QUALITY; undeclared bits are listed as unknown."""
    known = [f"{bit_name(bit)}: {BIT_WORDS.get(bit, 'set')}" for bit in Quality if quality & bit]
    unknown = quality & ~sum(int(bit) for bit in Quality)
    return [*known, *([f"unknown bits {unknown:#x}"] if unknown else [])]


def explain(visit: PublishedVisit, image: int, aperture: str) -> Explanation:
    """Return the flux budget of one image in one aperture.

    Parameters
    ----------
    visit : PublishedVisit
        The published reduction.
    image : int
        Index of the image, from 0.
    aperture : str
        Name of a light curve, such as DEFAULT, OPTIMAL, R25 or PSF.

    Raises
    ------
    UsageError
        If the visit has no such image or light curve.
    """
    names = visit.curve_names()
    if aperture not in names:
        raise UsageError(not_a_curve("aperture", aperture, names))
    curve = visit.curve(aperture)
    count = len(curve["FLUX"])
    if not 0 <= image < count:
        raise UsageError(f"image {image}: the visit has images 0 to {count - 1}")
    header = visit.keywords(aperture, "AP_RADI", "AP_TYPE", "NEXP")
    radius = float(header["AP_RADI"])
    flux, error = float(curve["FLUX"][image]), float(curve["FLUXERR"][image])
    event = int(curve["EVENT"][image])
    quality = int(curve["QUALITY"][image]) if "QUALITY" in curve else 0
    budget = _error_budget(visit, image, radius)
    return Explanation(
        visit=visit.manifest.visit,
        version=visit.manifest.version,
        image=image,
        images=count,
        aperture=aperture,
        radius=radius,
        type=str(header["AP_TYPE"]),
        utc=str(curve["UTC_TIME"][image]),
        bjd=float(curve["BJD_TIME"][image]),
        roll_angle=number(curve["ROLL_ANGLE"][image]),
        centroid=(number(curve["CENTROID_X"][image]), number(curve["CENTROID_Y"][image])),
        event=event,
        event_words=event_words(event),
        quality=quality,
        quality_words=quality_words(quality),
        stages_radius=DEFAULT_RADIUS,
        stages=_stages(visit, image, int(header["NEXP"])),
        flux=number(flux),
        error=number(error),
        error_ppm=number(1e6 * error / flux) if flux else None,
        within=_within(curve, image),
        errors=budget.terms,
        errors_sum=number(budget.total),
        errors_note=_note(aperture, radius, budget.total, error),
    )


def _stages(visit: PublishedVisit, image: int, exposures: int) -> list[Stage]:
    """Return the flux in the circle of the stages after each operation, and its change."""
    errors = _errors_of_stages(visit, image, exposures)
    rows: list[Stage] = []
    before = None
    for part, meanings, step, extname in (
        ("calibration", CALIBRATION_STAGES, "calibration_stages", "TERM_CAL_STAGES"),
        ("correction", CORRECTION_STAGES, "correction_stages", "TERM_COR_STAGES"),
    ):
        term = visit.term(step, extname)
        for name, meaning in meanings.items():
            after = float(term[name][image])
            change = None if before is None else number(after - before)
            error = number(errors[name]) if name in errors else None
            rows.append(Stage(part, name, meaning, number(after), change, error))
            before = after
    return rows


def _errors_of_stages(visit: PublishedVisit, image: int, exposures: int) -> dict[str, float]:
    """Return the error of the change at each stage that has a term of its own [electron]."""
    errors = _errors_within(visit, image, DEFAULT_RADIUS)
    level, gain = visit.term("bias", "TERM_BIAS"), visit.term("gain", "TERM_GAIN")
    # an error of the bias level is common to all pixels of the circle and all exposures
    pixels = math.pi * DEFAULT_RADIUS**2
    bias = pixels * exposures * float(level["LEVEL_ERR"][image]) / float(gain["GAIN"][image])
    stages = {stage: math.sqrt(errors[term]) for stage, term in _ERROR_OF_STAGE.items()}
    return {**stages, "BIAS": bias}


def _within(curve: Columns, image: int) -> list[Share]:
    """Return the light of field stars, still in the flux, and the light that was subtracted."""
    here = {name: float(curve[name][image]) for name in curve if name in _WITHIN}
    target = here["FLUX"] / (1 + here["CONTA_LC"])
    rows = [
        (
            "CONTA_LC",
            "light of field stars, still in FLUX",
            target * here["CONTA_LC"],
            target * here["CONTA_LC_ERR"],
        ),
        ("BACKGROUND", "background, subtracted", here["BACKGROUND"], math.nan),
        ("DARK", "thermal charge, subtracted", here["DARK"], math.nan),
        (
            "SMEARING_LC",
            "smeared light, subtracted",
            here["SMEARING_LC"],
            here["SMEARING_LC"] * here["SMEARING_LC_ERR"],
        ),
    ]
    return [Share(column, meaning, number(v), number(e)) for column, meaning, v, e in rows]


class _ErrorBudget(NamedTuple):
    terms: list[ErrorTerm]
    total: float  # quadratic sum [electron]


def _errors_within(visit: PublishedVisit, image: int, radius: float) -> dict[str, float]:
    """Return the variance of the flux of an image within a radius, by term [electron^2]."""
    radii, variances = visit.radii, visit.term("quality", "TERM_QUALITY", "TERM_ERRORS")
    times = variances.pop("MJD_TIME")
    for name, values in variances.items():
        if values.shape != (len(times), len(radii)) or radius not in radii:
            raise BadInputError(
                f"{visit.folder}: column {name} of TERM_ERRORS holds {values.shape[1]} radii, "
                f"TERM_APERTURES {len(radii)}, expected the same and {radius:g} among them"
            )
    return {name: float(values[image, radii.index(radius)]) for name, values in variances.items()}


def _error_budget(visit: PublishedVisit, image: int, radius: float) -> _ErrorBudget:
    """Return the terms of the error within a radius, and their quadratic sum."""
    values = _errors_within(visit, image, radius)
    total = sum(v for n, v in values.items() if n not in _NOT_SUMMED)
    meanings = {c.name: c.meaning for c in TERMS["TERM_ERRORS"].columns}
    terms = [
        ErrorTerm(
            name,
            meanings[name],
            number(np.sqrt(v)),
            None if name in _NOT_SUMMED or not total > 0 else number(v / total),
        )
        for name, v in values.items()
    ]
    return _ErrorBudget(terms, math.sqrt(total) if total >= 0 else math.nan)


def _note(aperture: str, radius: float, total: float, error: float) -> str:
    """Return a note on the terms, if they are not those of this light curve or miss its error."""
    notes = {
        OPTIMAL: f"terms are those of the {radius:g} pixel circle, before any correction for the "
        f"light outside it; OPT_WAY in the header says how FLUX was measured",
        FIXED: f"terms are those of the {radius:g} pixel circle that moves with the star",
        PSF: f"FLUXERR is the error of the fit; terms are those of the {radius:g} pixel circle, "
        f"for comparison",
    }
    if aperture in notes:
        return notes[aperture]
    if math.isfinite(error) and not math.isclose(total, error, rel_tol=1e-6):
        return "the terms do not add up to FLUXERR: the files are from different reductions"
    return ""
