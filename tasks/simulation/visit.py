"""A simulated visit: exposures are taken and stacked, and the raw products written with the truth
beside.

Positions: pixel i spans [i, i+1) in the exposed area of the CCD. During an exposure stars are drawn
where the attitude puts them in the middle of every second. Telemetry of a stack in the SAA shows a
hundred times more cosmic rays, of an occulted one no stars. Every stack has random numbers of its
own, so that stacks may be made side by side.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.simulation import layout
from tasks.simulation.camera import Exposure, whole_ccd
from tasks.simulation.case import Case, case_names, load_case
from tasks.simulation.cubes import Cubes, write_full_frame
from tasks.simulation.light import Window
from tasks.simulation.observatory import Conditions, Studio
from tasks.simulation.plan import LEAD, Plan
from tasks.simulation.raw import write_tables
from tasks.simulation.spacecraft import TELESCOPE_TEMPERATURE, draw_housekeeping
from tasks.simulation.truth import Truth

__all__ = ["Case", "case_names", "load_case", "simulate_visit"]

Floats = NDArray[np.float64]


def simulate_visit(
    folder: Path,
    case: Case,
    seed: int = 1,
    progress: Callable[[int, int], None] | None = None,
    threads: int | None = None,
) -> None:
    """Write the raw products of a visit below `folder`: data/, aux/ and, for tests only, truth/.

    The same case and seed give the same bytes, whatever the number of threads. Cubes are written
    image by image, in flat memory.

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
    threads : int, optional
        Stacks that are made at a time; as a rule as many as there are processors, at most four.

    Raises
    ------
    FileExistsError
        If a product exists already.
    ValueError
        If the case leaves nothing to write, or a file that it names is not what it should be.
    """
    plan = Plan(case, seed)
    studio = Studio(plan, Window(case.window_x, case.window_y, case.width, case.height), plan.mode)
    write_tables(folder, plan)
    if case.full_frame:
        take_full_frame(folder, plan)
    truth = Truth(plan, studio)
    studio.prepare()
    with Cubes(folder, plan, studio.camera.window) as cubes:
        for n, exposures in enumerate(
            in_order(studio.stack, case.images, threads or min(4, os.cpu_count() or 1))
        ):
            cubes.add_stack(n, exposures, bool(plan.damaged[n]))
            truth.add_stack(n, exposures)
            if progress is not None:
                progress(n + 1, case.images)
    truth.write(folder / "truth")


def in_order(
    make: Callable[[int], list[Exposure]], count: int, threads: int
) -> Iterator[list[Exposure]]:
    """Yield make(0), make(1) ..., a few of them made ahead in threads."""
    if threads == 1:
        yield from map(make, range(count))
        return
    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[list[Exposure]]] = deque()
        try:
            for n in range(count):
                ahead.append(pool.submit(make, n))
                if len(ahead) > threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def take_full_frame(folder: Path, plan: Plan) -> None:
    """Take and write one exposure of the whole CCD before the first stack."""
    studio = Studio(plan, whole_ccd(), layout.FULL_FRAME)
    middle = np.array([LEAD + plan.case.exptime / 2])
    housekeeping = draw_housekeeping(
        plan.rng(7), middle, plan.case.gain_drift, plan.case.ccd_warmer
    )
    conditions = Conditions(
        start=LEAD,
        light=float(plan.light_curve(middle)[0]),
        hidden=False,
        zodiacal=float(np.ravel(plan.zodiacal)[0]),
        stray=float(plan.stray_light(middle)[0]),
        cosmic_factor=1.0,
        gain=float(housekeeping.gain[0]),
        bias_drift=float(plan.bias_drift(middle)[0]),
        telescope=float(housekeeping.true["thermFront_2"][0]) - TELESCOPE_TEMPERATURE,
    )
    write_full_frame(folder, plan, studio.expose(plan.rng(8), conditions), housekeeping)
