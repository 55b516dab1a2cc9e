"""What is lost because a stack is linearised as a whole: the mean of the curve is not the curve of
the mean.

Prints, for bright stars and some pointing, the flux within 25 pixels that is missing (its mean,
which changes the scale of a light curve, and its scatter, which is noise), and what is left with
the variance of each pixel over the exposures: the true one, as unstacked imagettes tell it in the
core, and the one that the motion tells, as the pipeline takes it from the attitude.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.calibration.motion import motion_variances
from tasks.calibration.spread import offsets_of
from tasks.simulation.case import Case
from tasks.simulation.light import Window
from tasks.simulation.linearity import linearisation
from tasks.simulation.observatory import Studio
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


def missing(case: Case) -> tuple[float, np.ndarray]:
    """Return the highest signal [electron], and what is missing in each stack [ppm] as it is, and
    with either variance.
    """
    plan = Plan(case, 1)
    studio = Studio(plan, Window(case.window_x, case.window_y, case.width, case.height), plan.mode)
    studio.prepare()
    curve, bias = linearisation(plan.mode.frequency), studio.camera.parts[0].bias
    y, x = np.mgrid[: case.height, : case.width] + 0.5
    gains, peak, found = plan.housekeeping.gain.reshape(-1, case.nexp), 0.0, []
    for n in range(case.images):
        exposures = studio.stack(n)
        each = np.stack(
            [(e.image - bias) / gain for e, gain in zip(exposures, gains[n], strict=True)]
        )
        mean, place = each.mean(axis=0), np.array([[e.x, e.y] for e in exposures])
        true, whole = curve.correct(each).sum(axis=0), case.nexp * curve.correct(mean)
        moved = np.empty_like(mean)
        motion_variances(mean, offsets_of(place[None, :, 0], place[None, :, 1])[0], moved)
        near = (
            np.hypot(x + case.window_x - place[:, 0].mean(), y + case.window_y - place[:, 1].mean())
            < RADIUS
        )
        rest = [true - whole]
        for variance in (each.var(axis=0), moved):
            sigma = np.sqrt(
                variance
            )  # two exposures of this scatter have the second-order term of all
            rest.append(
                true - case.nexp * (curve.correct(mean + sigma) + curve.correct(mean - sigma)) / 2
            )
        found.append([1e6 * r[near].sum() / true[near].sum() for r in rest])
        peak = max(peak, float(each.max()))
    return peak, np.array(found)


def main() -> None:
    """Print the table."""
    print(
        "star and pointing               peak [e-]    missing in 25 pixels [ppm]: mean, "
        "scatter; true variance; by motion"
    )
    for name, values in CASES.items():
        peak, found = missing(
            Case(**{**QUIET, "images": 40 if values["nexp"] < 40 else 15, **values})
        )
        columns = "   ".join(
            f"{mean:6.1f} {scatter:5.2f}"
            for mean, scatter in zip(found.mean(axis=0), found.std(axis=0), strict=True)
        )
        print(f"{name:30s}  {peak:8.0f}    {columns}", flush=True)


if __name__ == "__main__":
    main()
