"""Simulated visits: the folder appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import CannotCreateError
from tasks import disk

if TYPE_CHECKING:
    from tasks.simulation.case import Case


def simulate_into(
    output: Path, case_name: str, images: int | None, seed: int, progress: Callable[[int, int], None] | None
) -> None:
    """Simulate a visit into the new folder `output`.

    Parameters
    ----------
    output : Path
        Must not exist, or be empty.
    case_name : str
        Name of a case, or the path of a TOML file.
    images : int or None
        Number of stacked images in place of the case's own.
    seed : int
        The same seed gives the same bytes.
    progress : callable or None
        Is told (done, all).

    Raises
    ------
    CannotCreateError
        If `output` is there already.
    """
    from tasks.simulation.case import load_case

    case = load_case(case_name)
    if images is not None:
        case = case.model_validate({**case.model_dump(), "images": images})
    simulate_case(output, case, seed, progress)


def simulate_case(output: Path, case: Case, seed: int, progress: Callable[[int, int], None] | None) -> None:
    """Simulate a visit of given settings into the new folder `output`, as `simulate_into` does."""
    from tasks.simulation.visit import simulate_visit

    output = output.absolute()
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise CannotCreateError(f"{output}: exists and is not an empty folder")
    disk.make_folder(output.parent)
    stage = output.with_name(f".{output.name}.{os.getpid()}.stage")
    disk.remove(stage)
    disk.make_folder(stage)
    try:
        with disk.guarded("write", stage):
            simulate_visit(stage, case, seed, progress)
        if output.exists():
            output.rmdir()
        disk.rename(stage, output)
    finally:
        disk.remove(stage)
