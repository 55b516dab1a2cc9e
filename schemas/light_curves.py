"""The light curves of a visit: their names, radii and stages."""

from __future__ import annotations

from enum import StrEnum

# Radii of the circular apertures [pixel]: R15 to R40 and the 22.5 of RINF, in rising order.
RADII = tuple(sorted([*(float(r) for r in range(15, 41)), 22.5]))

DEFAULT_RADIUS, RINF_RADIUS, RSUP_RADIUS = 25.0, 22.5, 30.0

LIGHT_CURVES = {
    "DEFAULT": DEFAULT_RADIUS,
    "RINF": RINF_RADIUS,
    "RSUP": RSUP_RADIUS,
    **{f"R{r}": float(r) for r in range(15, 41)},
}

# Light curves that are more than a sum within a circle.
OPTIMAL, PSF, FIXED = "OPTIMAL", "PSF", "R25_Fixed"

IMAGETTE, IMAGETTE_PSF = "IMAGETTE", "IMAGETTE_PSF"


class Way(StrEnum):
    """Ways to measure the target, of which the light curve OPTIMAL takes one."""

    CIRCLE = "circle"
    CORRECTED = "circle, losses corrected"
    PSF = "PSF"


CURVES = (*LIGHT_CURVES, OPTIMAL, PSF, FIXED, IMAGETTE, IMAGETTE_PSF)

# Stages of the light curve in one circle of DEFAULT_RADIUS: the sum after each operation, in order.
CALIBRATION_STAGES = {
    "RAW": "as read out, bias included, at the median gain",
    "BIAS": "without bias, at the median gain",
    "GAIN": "with the gain of each image",
    "LINEARITY": "linearised",
    "DARK": "without thermal charge",
    "FLAT": "at uniform response",
}

CORRECTION_STAGES = {
    "CALIBRATED": "as calibrated",
    "SMEARING": "without smeared light",
    "STATIC": "without steady excess of pixels",
    "TELEGRAPHIC": "without high states of telegraphic pixels",
    "DEAD": "dead pixels replaced by the model",
    "COSMIC_RAYS": "without cosmic rays",
    "BACKGROUND": "without background",
}
