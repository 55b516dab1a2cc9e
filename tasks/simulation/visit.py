"""A simulated visit: exposures are taken and stacked, and written as raw products with their truth.

Positions: pixel i spans [i, i+1) in the exposed area of the CCD. During an exposure, stars are
drawn where the attitude puts them in the middle of every second. A stack taken in the SAA has a
hundred times more cosmic rays, an occulted one has no stars. Every stack draws its own random
numbers, so stacks may be made in parallel.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tasks.simulation import layout
from tasks.simulation.camera import Exposure
from tasks.simulation.case import Case
from tasks.simulation.cubes import Cubes, write_full_frame
from tasks.simulation.observatory import Observatory, full_frame_conditions
from tasks.simulation.plan import LEAD, Plan
from tasks.simulation.raw import write_tables
from tasks.simulation.spacecraft import draw_housekeeping
from tasks.simulation.truth import Truth


def simulate_visit(
    folder: Path,
    case: Case,
    seed: int = 1,
    progress: Callable[[int, int], None] | None = None,
    threads: int | None = None,
) -> None:
    """Write the raw products of a visit to data/ and aux/ in `folder`, and its truth to truth/.

    The same case and seed give the same bytes for any number of threads. Cubes are written
    image by image, so memory does not grow with the length of the visit. Only tests may read the
    truth.

    Parameters
    ----------
    folder : Path
        Where to write; existing files are not overwritten.
    case : Case
        The visit to simulate.
    seed : int
        Seed of stars, pointing, housekeeping and noise.
    progress : callable, optional
        Called with the number of stacks done and the number of all stacks.
    threads : int, optional
        Number of stacks made in parallel; by default one per processor, at most four.

    Raises
    ------
    FileExistsError
        If a product already exists.
    ValueError
        If the case leaves nothing to write, or a file that it names is invalid.
    """
    plan = Plan(case, seed)
    observatory = Observatory(plan, case.window, plan.mode)
    write_tables(folder, plan)
    if case.full_frame:
        take_full_frame(folder, plan)
    truth = Truth(plan, observatory)
    observatory.prepare()
    workers = threads or min(4, os.cpu_count() or 1)
    with Cubes(folder, plan, case.window) as cubes:
        for n, exposures in enumerate(in_order(observatory.stack, case.images, workers)):
            cubes.add_stack(n, exposures, bool(plan.damaged[n]))
            truth.add_stack(n, exposures)
            if progress is not None:
                progress(n + 1, case.images)
    truth.write(folder / "truth")


def in_order(
    make: Callable[[int], list[Exposure]], count: int, threads: int
) -> Iterator[list[Exposure]]:
    """Yield make(0), make(1) ... in order, while threads work a few steps ahead."""
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
    """Take one exposure of the whole CCD before the first stack, and write it."""
    observatory = Observatory(plan, layout.WHOLE_CCD, layout.FULL_FRAME)
    middle = np.array([LEAD + plan.case.exptime / 2])
    housekeeping = draw_housekeeping(
        plan.rng(7), middle, plan.case.gain_drift, plan.case.ccd_warmer
    )
    exposure = observatory.expose(plan.rng(8), full_frame_conditions(plan, housekeeping))
    write_full_frame(folder, plan, exposure, housekeeping)
