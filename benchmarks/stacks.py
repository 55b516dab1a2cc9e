"""The cost of linearising stacks: the mean of a curve is not the curve of the mean.

Prints the flux that is missing within 25 pixels, for bright stars and various pointings: its mean,
which changes the scale of a light curve, and its scatter, which is noise. The last columns are the
remainder after a correction for the variance of each pixel over the exposures: the true variance,
as unstacked imagettes give it in the core, and that of the motion, as the pipeline derives it from
the attitude.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.calibration.motion import motion_variances
from tasks.calibration.spread import offsets_of
from tasks.simulation.case import Case
from tasks.simulation.linearity import Spline, linearisation
from tasks.simulation.observatory import Observatory
from tasks.simulation.plan import Plan

RADIUS = 25.0
QUIET: dict[str, Any] = {
    "transit": False,
    "noise": False,
    "rounding": False,
    "cosmic_rays": 0.0,
    "saa": "never",
    "occultation": "never",
    "tilt": 20.0,
    "near_stars": 0,
    "stars": 0.0,
}
CASES: dict[str, dict[str, Any]] = {
    "G = 9, 3 x 20 s, 0.3 pixel": {"magnitude": 9.0, "nexp": 3, "exptime": 20.0, "jitter": 0.3},
    "G = 9, 3 x 20 s, 0.9 pixel": {"magnitude": 9.0, "nexp": 3, "exptime": 20.0, "jitter": 0.9},
    "G = 8, 6 x 10 s, 0.9 pixel": {"magnitude": 8.0, "nexp": 6, "exptime": 10.0, "jitter": 0.9},
    "G = 6, 40 x 0.5 s, 0.3 pixel": {"magnitude": 6.0, "nexp": 40, "exptime": 0.5, "jitter": 0.3},
    "G = 6, 40 x 0.5 s, 0.9 pixel": {"magnitude": 6.0, "nexp": 40, "exptime": 0.5, "jitter": 0.9},
}


def missing_flux(case: Case) -> tuple[float, np.ndarray]:
    """Return the highest signal [electron] and the missing flux of each stack [ppm].

    The flux has shape (n, 3): uncorrected, with the true variance, with that of the motion.
    """
    plan = Plan(case, 1)
    observatory = Observatory(plan, case.window, plan.mode)
    observatory.prepare()
    bias = observatory.camera.parts[0].bias
    gains, peak, missing = plan.housekeeping.gain.reshape(-1, case.nexp), 0.0, []
    for n in range(case.images):
        exposures = observatory.stack(n)
        each = np.stack(
            [(e.image - bias) / gain for e, gain in zip(exposures, gains[n], strict=True)]
        )
        place = np.array([[e.x, e.y] for e in exposures])
        missing.append(missing_in_stack(each, place, case, linearisation(plan.mode.frequency)))
        peak = max(peak, float(each.max()))
    return peak, np.array(missing)


def missing_in_stack(each: np.ndarray, place: np.ndarray, case: Case, curve: Spline) -> list[float]:
    """Return the missing flux of one stack [ppm].

    Parameters
    ----------
    each : ndarray, shape (nexp, ny, nx)
        Measured charge in the exposures [electron].
    place : ndarray, shape (nexp, 2)
        Position of the star in each exposure [pixel].
    case : Case
        The window and the number of exposures.
    curve : Spline
        Linearisation.
    """
    y, x = np.mgrid[: case.height, : case.width] + 0.5
    mean = each.mean(axis=0)
    true, whole = curve.correct(each).sum(axis=0), case.nexp * curve.correct(mean)
    moved = np.empty_like(mean)
    motion_variances(mean, offsets_of(place[None, :, 0], place[None, :, 1])[0], moved)
    centre_x, centre_y = place.mean(axis=0)
    near = np.hypot(x + case.window_x - centre_x, y + case.window_y - centre_y) < RADIUS
    residuals = [true - whole]
    for variance in (each.var(axis=0), moved):
        sigma = np.sqrt(variance)  # two exposures of this scatter have the second-order term of all
        two = (curve.correct(mean + sigma) + curve.correct(mean - sigma)) / 2
        residuals.append(true - case.nexp * two)
    return [1e6 * residual[near].sum() / true[near].sum() for residual in residuals]


def main() -> None:
    """Print the table."""
    print(
        "star and pointing               peak [e-]    missing in 25 pixels [ppm]: mean, "
        "scatter; with true variance; with that of the motion"
    )
    for name, values in CASES.items():
        images = 40 if values["nexp"] < 40 else 15
        peak, missing = missing_flux(Case(**{**QUIET, "images": images, **values}))
        columns = "   ".join(
            f"{mean:6.1f} {scatter:5.2f}"
            for mean, scatter in zip(missing.mean(axis=0), missing.std(axis=0), strict=True)
        )
        print(f"{name:30s}  {peak:8.0f}    {columns}", flush=True)


if __name__ == "__main__":
    main()
