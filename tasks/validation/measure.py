"""All measurements of one reduced visit against its truth, as JSON."""

from __future__ import annotations

from typing import Any

from tasks.validation import estimates, light_curves
from tasks.validation.claims import Measure
from tasks.validation.files import AbsentError, Part
from tasks.validation.light_curves import CURVES, curve_points, noise_ratio


def measure_part(part: Part, quiet: Part | None = None) -> dict[str, Any]:
    """Measure everything that the settings of the case call for.

    Parameters
    ----------
    part : Part
        A reduced visit and its truth.
    quiet : Part, optional
        The same visit without telegraphic pixels.

    Returns
    -------
    dict
        ``measures``, ``averaging`` (noise of means, by light curve) and ``notes``, the reasons why
        something could not be measured.
    """
    if part.contradiction:
        return {
            "measures": [],
            "averaging": [],
            "notes": [f"nothing was measured: {part.contradiction}"],
        }
    measures: list[Measure] = []
    averaging: list[dict[str, Any]] = []
    notes: list[str] = []
    for name, score in {**light_curves.scores(part.case), **estimates.scores(part.case)}.items():
        try:
            measures += score(part)
        except (AbsentError, ValueError) as error:
            notes.append(f"{name}: {error}")
    for name in CURVES:
        try:
            averaging.append(curve_points(part, name))
            measures += noise_ratio(part, quiet, name) if quiet is not None else []
        except AbsentError as error:
            notes.append(f"noise of {name} over hours: {error}")
    return {
        "measures": [m.as_json() for m in measures],
        "averaging": averaging,
        "notes": list(dict.fromkeys(notes)),
    }


def telegraphic_share(part: Part) -> float:
    """Return the share of the window's pixels that are telegraphic; 0 if the truth lists none."""
    try:
        pixels = estimates.pixels_of(part, estimates.TELEGRAPHIC)
        return len(pixels.entry) / part.pixel_noise.size
    except AbsentError:
        return 0.0
