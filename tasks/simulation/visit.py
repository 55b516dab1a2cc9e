"""A simulated visit: exposures are taken and stacked, and the raw products written with the truth beside.

Positions: pixel i spans [i, i+1) in the exposed area of the CCD. During an exposure stars are drawn where the
attitude puts them in the middle of every second. Smearing: in the frame transfer each column passes every row for 25
microseconds, before and after the exposure; the two trails add up to one value a column but for the motion between
first and last second, of which the mean is taken. Telemetry of a stack in the SAA shows a hundred times more cosmic
rays, of an occulted one no stars.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.simulation import detector
from tasks.simulation.camera import Camera, Exposure
from tasks.simulation.case import Case, case_names, load_case
from tasks.simulation.cubes import Cubes, write_full_frame
from tasks.simulation.plan import LEAD, PIXEL_SCALE, Plan
from tasks.simulation.raw import write_tables
from tasks.simulation.spacecraft import draw_housekeeping, on_ccd
from tasks.simulation.truth import Truth

__all__ = ["Case", "case_names", "load_case", "simulate_visit"]

Floats = NDArray[np.float64]

SAA_COSMIC_FACTOR = 100.0
FAINTEST_TRAIL = 0.05  # stars that smear less charge than this over all columns are left out [electron]


def simulate_visit(folder: Path, case: Case, seed: int = 1, progress: Callable[[int, int], None] | None = None) -> None:
    """Write the raw products of a visit below `folder`: data/, aux/ and, for tests only, truth/.

    The same case and seed give the same bytes. Cubes are written image by image, in flat memory.

    Parameters
    ----------
    folder : Path
        Where to write; files that exist are not overwritten.
    case : Case
        What to simulate.
    seed : int
        Seed of stars, pointing, housekeeping and noise.
    progress : callable, optional
        Called with the number of stacks done and to do.

    Raises
    ------
    FileExistsError
        If a product exists already.
    ValueError
        If the case leaves nothing to write.
    """
    plan = Plan(case, seed)
    write_tables(folder, plan)
    if case.full_frame:
        take_full_frame(folder, plan)
    camera = Camera(case, plan.mode, case.window_x, case.window_y, case.width, case.height, plan.dark_weight)
    conditions = all_conditions(plan)
    truth = Truth(plan)
    with Cubes(folder, plan, camera) as cubes:
        for n, slot in enumerate(plan.schedule.slots):
            rng, exposures = plan.rng(4, int(slot)), []
            for e in range(n * case.nexp, (n + 1) * case.nexp):
                exposure = expose(plan, camera, rng, Conditions(*conditions[e]))
                cubes.add_exposure(e, exposure)
                truth.add_exposure(e, exposure)
                exposures.append(exposure)
            cubes.add_stack(n, exposures)
            truth.add_stack(n, exposures)
            if progress is not None:
                progress(n + 1, case.images)
    truth.write(folder / "truth")


class Conditions(NamedTuple):
    """Under which one exposure is taken."""

    start: float  # [s]
    light: float  # relative flux of the target; zero hides all stars (occultation)
    background: float  # sky and stray light [electron/s/pixel]
    cosmic_factor: float  # rate of cosmic rays relative to the usual one
    gain: float  # [ADU/electron]
    bias_drift: float  # from the nominal bias [ADU]


def all_conditions(plan: Plan) -> Floats:
    """Return the conditions of every exposure of the stacks, one a row."""
    nexp, middle = plan.case.nexp, plan.exposure_middle
    hidden, saa = (np.repeat(flags, nexp) for flags in (plan.schedule.occulted, plan.schedule.saa))
    columns = (
        plan.exposure_start,
        np.where(hidden, 0.0, plan.light_curve(middle)),
        plan.background(middle),
        np.where(saa, SAA_COSMIC_FACTOR, 1.0),
        plan.housekeeping.gain,
        plan.bias_drift(middle),
    )
    return np.stack(columns, axis=1)


def take_full_frame(folder: Path, plan: Plan) -> None:
    """Take and write one exposure of the whole CCD before the first stack."""
    camera = Camera(plan.case, detector.FULL_FRAME, 0, 0, detector.SIZE, detector.SIZE, plan.dark_weight)
    middle = np.array([LEAD + plan.case.exptime / 2])
    housekeeping = draw_housekeeping(plan.rng(7), middle)
    light, background, drift = (float(f(middle)[0]) for f in (plan.light_curve, plan.background, plan.bias_drift))
    conditions = Conditions(LEAD, light, background, 1.0, float(housekeeping.gain[0]), drift)
    write_full_frame(folder, plan, expose(plan, camera, plan.rng(8), conditions), housekeeping)


def expose(plan: Plan, camera: Camera, rng: np.random.Generator, conditions: Conditions) -> Exposure:
    """Take one exposure with the window of `camera`."""
    case, seconds = plan.case, plan.case.exptime
    flux = plan.star_flux(conditions.start + seconds / 2) * (conditions.light > 0)
    steps = max(1, int(np.ceil(seconds)))
    x, y = star_tracks(plan, conditions.start, steps)
    target_x, target_y = x[0], y[0]
    charge = np.full((camera.height, camera.width), seconds * conditions.background)
    if flux[0]:
        charge += camera.draw(target_x, target_y, float(flux[0]) * seconds)
    coarse_x, coarse_y = star_tracks(plan, conditions.start, min(steps, 7))
    for star in np.flatnonzero(flux[1:]) + 1:
        if camera.sees(float(coarse_x[star].mean()), float(coarse_y[star].mean())):
            charge += camera.draw(coarse_x[star], coarse_y[star], float(flux[star]) * seconds)
    smearing = np.zeros(camera.width)
    if case.smearing:
        bright = flux * detector.TRANSFER_TIME > FAINTEST_TRAIL
        ends_x, ends_y = (np.stack([track[bright, 0], track[bright, -1]], axis=1).ravel() for track in (x, y))
        rate = camera.columns(ends_x, ends_y, np.repeat(flux[bright] / 2, 2))
        smearing = detector.TRANSFER_TIME * (rate + detector.SIZE * conditions.background)
    cosmics = np.zeros_like(charge)
    if case.cosmic_rays:
        cosmics = detector.cosmic_rays(rng, seconds, camera.height, camera.width, conditions.cosmic_factor)
    image, sides, top = camera.read(rng, charge, smearing, cosmics, conditions.gain, conditions.bias_drift)
    return Exposure(
        image=image,
        sides=sides,
        top=top,
        target=float(flux[0]) * seconds,
        light=conditions.light,
        x=float(target_x.mean()),
        y=float(target_y.mean()),
        background=seconds * conditions.background,
        smearing=smearing,
        cosmics=cosmics,
    )


def star_tracks(plan: Plan, start: float, steps: int) -> tuple[Floats, Floats]:
    """Return where each star is in the middle of `steps` equal parts of an exposure, shape (stars, steps) [pixel]."""
    time = start + (np.arange(steps) + 0.5) * plan.case.exptime / steps
    roll, shift_x, shift_y = plan.attitude.at(time)
    x, y = on_ccd(plan.field.xi[:, None], plan.field.eta[:, None], roll, PIXEL_SCALE)
    return x + (plan.case.place[0] + shift_x), y + (plan.case.place[1] + shift_y)
