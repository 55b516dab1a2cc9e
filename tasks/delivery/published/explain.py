"""The flux of one point taken apart: what each step left in the aperture, what is in it still, and
where its error is from.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from schemas.errors import UsageError
from schemas.flags import PixelFlag, Quality
from schemas.light_curves import (
    CALIBRATION_STAGES,
    CORRECTION_STAGES,
    DEFAULT_RADIUS,
    FIXED,
    OPTIMAL,
    PSF,
    RADII,
)
from schemas.terms import TERMS
from tasks.delivery.published.uncertainty import (
    MEANINGS,
    FlatErrors,
    ReadOutErrors,
    ThermalErrors,
    calibrated_variances,
)
from tasks.delivery.published.visit import Columns, PublishedVisit
from tasks.delivery.report.tables import BIT_WORDS, EVENT_DIGITS, bit_name
from tasks.visit.images import open_images

_NOT_SUMMED = ("DRP",)  # stands in TERM_ERRORS for comparison only

# the term of TERM_ERRORS that says how well a stage is known
_KNOWN_TO = {
    "GAIN": "GAIN",
    "DARK": "DARK",
    "FLAT": "FLAT",
    "SMEARING": "SMEARING",
    "TELEGRAPHIC": "STATES",
    "BACKGROUND": "BACKGROUND",
}


def event_words(event: int) -> list[str]:
    """Return the digits of EVENT that are not 0 in words."""
    digits = [(name, event // place % 10, words) for place, name, words in EVENT_DIGITS]
    return [
        f"{name}: {words.get(digit, f'digit {digit}')}" for name, digit, words in digits if digit
    ]


def quality_words(quality: int) -> list[str]:
    """Return the bits of QUALITY in words; one that is not declared is told as such."""
    known = [f"{bit_name(bit)}: {BIT_WORDS.get(bit, 'set')}" for bit in Quality if quality & bit]
    rest = quality & ~sum(int(bit) for bit in Quality)
    return [*known, *([f"unknown bits {rest:#x}"] if rest else [])]


def explain(visit: PublishedVisit, image: int, aperture: str) -> dict[str, Any]:
    """Return the budget of one image in one aperture [electron].

    Parameters
    ----------
    visit : PublishedVisit
        The reduction.
    image : int
        The image, counted from 0.
    aperture : str
        Name of a light curve: DEFAULT, OPTIMAL, R25, PSF and so on.

    Raises
    ------
    UsageError
        If the visit has no such image or light curve.
    """
    names = visit.curve_names()
    if aperture not in names:
        raise UsageError(f"aperture {aperture}: this visit has {', '.join(names)}")
    curve = visit.curve(aperture)
    count = len(curve["FLUX"])
    if not 0 <= image < count:
        raise UsageError(f"image {image}: the visit has the images 0 to {count - 1}")
    header = visit.keywords(aperture, "AP_RADI", "AP_TYPE", "NEXP")
    radius = float(header["AP_RADI"])
    flux, error = float(curve["FLUX"][image]), float(curve["FLUXERR"][image])
    stages = _stages(visit, image, int(header["NEXP"]))
    quality = int(curve["QUALITY"][image]) if "QUALITY" in curve else 0
    return {
        "visit": visit.manifest["visit"],
        "version": visit.manifest["version"],
        "image": image,
        "images": count,
        "aperture": aperture,
        "radius": radius,
        "type": str(header["AP_TYPE"]),
        "utc": str(curve["UTC_TIME"][image]),
        "bjd": float(curve["BJD_TIME"][image]),
        "roll_angle": number(curve["ROLL_ANGLE"][image]),
        "centroid": [number(curve["CENTROID_X"][image]), number(curve["CENTROID_Y"][image])],
        "event": int(curve["EVENT"][image]),
        "event_words": event_words(int(curve["EVENT"][image])),
        "quality": quality,
        "quality_words": quality_words(quality),
        "stages_radius": DEFAULT_RADIUS,
        "stages": stages,
        "flux": number(flux),
        "error": number(error),
        "error_ppm": number(1e6 * error / flux) if flux else None,
        "within": _within(curve, image),
        **_errors(visit, image, aperture, radius, error),
    }


def explain_pixel(visit: PublishedVisit, image: int, x: int, y: int) -> dict[str, Any]:
    """Return what is known of one pixel in one image: its calibration, corrections and errors
    [electron].

    Parameters
    ----------
    visit : PublishedVisit
        The reduction.
    image : int
        The image, counted from 0.
    x, y : int
        The pixel of the CCD's exposed area, counted from 0.

    Raises
    ------
    UsageError
        If the visit has no such image, or the pixel is not in its window.
    """
    with open_images(visit.cube("calibrate", "SCI_CAL_SubArray")) as images:
        if not 0 <= image < images.count:
            raise UsageError(f"image {image}: the visit has the images 0 to {images.count - 1}")
        (ny, nx), left, bottom, exposures = (
            images.shape,
            images.x_offset,
            images.y_offset,
            images.nexp,
        )
        if not (left <= x < left + nx and bottom <= y < bottom + ny):
            raise UsageError(
                f"pixel ({x}, {y}): the window holds x from {left} to {left + nx - 1} and y "
                f"from {bottom} to {bottom + ny - 1}"
            )
        at = y - bottom, x - left
        calibrated = float(images.take(image)[at])
    with open_images(visit.cube("correct", "SCI_COR_SubArray")) as images:
        corrected = float(images.take(image)[at])
    level, gain, scale = (
        visit.term(s, t, h)
        for s, t, h in (
            ("bias", "TERM_BIAS", ""),
            ("gain", "TERM_GAIN", ""),
            ("dark", "TERM_DARK", "TERM_DARK_SCALE"),
        )
    )
    dark, flat, structure, dark_error, flat_error, static = (
        float(visit.image(*where)[at])
        for where in (
            ("dark", "TERM_DARK"),
            ("flat", "TERM_FLAT"),
            ("bias", "TERM_BIAS", "TERM_BIAS_STRUCTURE"),
            ("dark", "TERM_DARK", "TERM_DARK_ERROR"),
            ("flat", "TERM_FLAT", "TERM_FLAT_ERROR"),
            ("defects", "TERM_DEFECTS", "TERM_DEFECTS_STATIC"),
        )
    )
    warmth, per_adu = float(scale["SCALE"][image]), float(gain["GAIN"][image])
    variances = calibrated_variances(
        calibrated,
        exposures,
        ReadOutErrors(
            float(level["RON"][image]),
            float(level["LEVEL_ERR"][image]),
            per_adu,
            float(gain["GAIN_ERR"][image]),
        ),
        ThermalErrors(
            warmth * dark,
            warmth * dark_error,
            float(visit.used("dark", "TERM_DARK", "DARK_SCE")),
        ),
        FlatErrors(flat, flat_error),
    )
    flags = int(visit.image("defects", "TERM_DEFECTS", "TERM_DEFECTS_FLAGS")[at])
    sky, hits = visit.term("background", "TERM_BACKGROUND"), visit.term("defects", "TERM_DEFECTS")
    centre = (float(visit.used("background", "TERM_BACKGROUND", f"BKG_{c}")) - 0.5 for c in "XY")
    slopes = (
        float(sky[f"SLOPE_{c}"][image]) * (place - middle)
        for c, place, middle in zip("XY", (x, y), centre, strict=True)
    )
    here = (hits["IMAGE_INDEX"] == image) & (hits["X"] == at[1]) & (hits["Y"] == at[0])
    rows = [
        ("bias", "bias of an exposure [ADU]", float(level["LEVEL"][image]) + structure),
        ("gain", "ADU an electron", per_adu),
        ("thermal", "thermal charge of the stack, taken away", exposures * warmth * dark),
        ("response", "response of the pixel", flat),
        ("calibrated", "calibrated stack", calibrated),
        ("background", "background, taken away", float(sky["LEVEL"][image]) + sum(slopes)),
        (
            "smearing",
            "smeared light, taken away",
            float(visit.image("smearing", "TERM_SMEARING")[image, at[1]]),
        ),
        ("static", "steady excess, taken away", static),
        ("hit", "cosmic ray or state of this image, taken away", float(hits["AMOUNT"][here].sum())),
        ("corrected", "corrected stack", corrected),
    ]
    total = sum(float(v) for v in variances.values())
    return {
        "visit": visit.manifest["visit"],
        "version": visit.manifest["version"],
        "image": image,
        "pixel": [x, y],
        "exposures": exposures,
        "flags": flags,
        "flag_words": [str(b.name).lower().replace("_", " ") for b in PixelFlag if flags & b],
        "values": [{"name": n, "meaning": m, "value": number(v)} for n, m, v in rows],
        "errors": [
            {"term": n, "meaning": MEANINGS[n], "electrons": number(np.sqrt(v))}
            for n, v in variances.items()
        ],
        "error": number(np.sqrt(total)),
    }


def number(value: Any) -> float | None:
    """Return a float, None where it is no finite number: JSON has none."""
    return float(value) if math.isfinite(value) else None


def _stages(visit: PublishedVisit, image: int, exposures: int) -> list[dict[str, Any]]:
    """Return what each operation left in the circle of the stages, and by how much it changed
    it.
    """
    calibration = visit.term("calibration_stages", "TERM_CAL_STAGES")
    correction = visit.term("correction_stages", "TERM_COR_STAGES")
    errors = visit.term("quality", "TERM_QUALITY", "TERM_ERRORS")
    k = RADII.index(DEFAULT_RADIUS)
    known = {stage: math.sqrt(float(errors[term][image, k])) for stage, term in _KNOWN_TO.items()}
    level, gain = visit.term("bias", "TERM_BIAS"), visit.term("gain", "TERM_GAIN")
    # a level is wrong in all pixels of the circle alike, and in all exposures of the stack
    pixels = math.pi * DEFAULT_RADIUS**2
    known["BIAS"] = (
        pixels * exposures * float(level["LEVEL_ERR"][image]) / float(gain["GAIN"][image])
    )
    rows: list[dict[str, Any]] = []
    before = None
    for part, stages, term in (
        ("calibration", CALIBRATION_STAGES, calibration),
        ("correction", CORRECTION_STAGES, correction),
    ):
        for name, meaning in stages.items():
            after = float(term[name][image])
            change = None if before is None else number(after - before)
            rows.append(
                {
                    "part": part,
                    "stage": name,
                    "meaning": meaning,
                    "electrons": number(after),
                    "change": change,
                    "error": number(known[name]) if name in known else None,
                }
            )
            before = after
    return rows


def _within(curve: Columns, image: int) -> list[dict[str, Any]]:
    """Return what belongs to the flux but is not the target's (contamination), and what was taken
    away within the aperture.
    """
    flux, ratio = float(curve["FLUX"][image]), float(curve["CONTA_LC"][image])
    target = flux / (1 + ratio)
    smeared = float(curve["SMEARING_LC"][image])
    rows = [
        (
            "CONTA_LC",
            "light of field stars, still in FLUX",
            target * ratio,
            target * float(curve["CONTA_LC_ERR"][image]),
        ),
        ("BACKGROUND", "background, taken away", float(curve["BACKGROUND"][image]), math.nan),
        ("DARK", "thermal charge, taken away", float(curve["DARK"][image]), math.nan),
        (
            "SMEARING_LC",
            "smeared light, taken away",
            smeared,
            smeared * float(curve["SMEARING_LC_ERR"][image]),
        ),
    ]
    return [
        {"column": c, "meaning": m, "electrons": number(v), "error": number(e)}
        for c, m, v, e in rows
    ]


def _errors(
    visit: PublishedVisit, image: int, aperture: str, radius: float, error: float
) -> dict[str, Any]:
    """Return the terms of the error with their share of the variance, and what must be known of
    them.
    """
    terms = visit.term("quality", "TERM_QUALITY", "TERM_ERRORS")
    k = RADII.index(radius)
    values = {n: float(v[image, k]) for n, v in terms.items() if n != "MJD_TIME"}
    total = sum(v for n, v in values.items() if n not in _NOT_SUMMED)
    notes = {
        OPTIMAL: f"terms are those of the circle of {radius:g} pixels; FLUX and FLUXERR make "
        f"up for what it loses",
        FIXED: f"terms are those of the circle of {radius:g} pixels that moves with the star",
        PSF: f"FLUXERR is that of the fit; terms are those of the circle of {radius:g} pixels, "
        f"for comparison",
    }
    meanings = {c.name: c.meaning for c in TERMS["TERM_ERRORS"].columns}
    rows = [
        {
            "term": n,
            "meaning": meanings[n],
            "electrons": number(np.sqrt(v)),
            "share": None if n in _NOT_SUMMED or not total > 0 else number(v / total),
        }
        for n, v in values.items()
    ]
    summed = math.sqrt(total) if total >= 0 else math.nan
    note = notes.get(aperture, "")
    if not note and math.isfinite(error) and not math.isclose(summed, error, rel_tol=1e-6):
        note = "the terms do not add up to FLUXERR: the files are not of one reduction"
    return {"errors": rows, "errors_sum": number(summed), "errors_note": note}
