"""The light curves of a visit: their names, radii and stages."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

# Radii of circular apertures [pixel], in rising order.
Radii = tuple[float, ...]

DEFAULT_RADIUS, RINF_RADIUS, RSUP_RADIUS = 25.0, 22.5, 30.0

LARGEST_RADIUS = 50  # that settings may add [pixel]

# Those of every visit: R15 to R40 and the 22.5 of RINF. Settings may add others.
RADII: Radii = tuple(sorted([*(float(r) for r in range(15, 41)), RINF_RADIUS]))


def radii_with(added: Iterable[float]) -> Radii:
    """Return the radii of a visit: those of every visit, and those that settings add."""
    return tuple(sorted({*RADII, *added}))


def added_radii(radii: Radii) -> Radii:
    """Return the radii of a visit that not every visit has."""
    return tuple(radius for radius in radii if radius not in RADII)


def circle_name(radius: float) -> str:
    """Return the name of the light curve in a circle that follows the target, such as R12.5."""
    return f"R{radius:g}"


def circles(radii: Radii) -> dict[str, float]:
    """Return the light curves in circles that follow the target, and their radii [pixel]."""
    return {
        "DEFAULT": DEFAULT_RADIUS,
        "RINF": RINF_RADIUS,
        "RSUP": RSUP_RADIUS,
        **{circle_name(radius): radius for radius in radii if radius != RINF_RADIUS},
    }


LIGHT_CURVES = circles(RADII)  # of every visit

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
