"""Simulate visits; the output folder appears complete or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import (
    BadInputError,
    CannotCreateError,
    ConfigurationError,
    MissingInputError,
    plain,
)
from schemas.nearest import did_you_mean
from schemas.words import fault_of
from tasks.files import disk
from tasks.files.toml import read_toml

if TYPE_CHECKING:
    from tasks.simulation.case import Case


def simulate_into(
    output: Path,
    case_name: str,
    images: int | None,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Simulate a visit into the new folder `output`.

    Parameters
    ----------
    output : Path
        The folder, which must be empty or not exist.
    case_name : str
        Name of a case, or path of a TOML file.
    images : int or None
        Number of stacked images; by default the case's own.
    seed : int
        Seed of the noise; the same seed gives the same bytes.
    progress : callable or None
        Called with (done, total).

    Raises
    ------
    CannotCreateError
        If `output` exists and is not empty.
    ConfigurationError
        If the case is unknown or invalid.
    MissingInputError, BadInputError
        If a file of the case does not exist or is invalid.
    """
    simulate_case(output, read_case(case_name, images), seed, progress, case_name)


def simulate_case(
    output: Path,
    case: Case,
    seed: int,
    progress: Callable[[int, int], None] | None,
    case_name: str = "",
) -> None:
    """Simulate a visit of a loaded case into the new folder `output`; see `simulate_into`."""
    from tasks.simulation.case import ImpossibleCase

    output = disk.absolute(output)
    there = disk.is_taken(output, output=True)
    if there and (not disk.is_folder(output, output=True) or disk.entries(output)):
        raise CannotCreateError(f"{output}: exists and is not an empty folder")
    disk.make_folder(output.parent)
    stage = output.with_name(f".{output.name[:150]}.{disk.process_label()}.stage")
    disk.make_folder(stage)
    try:
        from tasks.simulation.visit import simulate_visit

        def report_progress(done: int, count: int) -> None:
            disk.moves_on()
            if progress is not None:
                progress(done, count)

        with disk.guarded("write", output):
            simulate_visit(stage, case, seed, report_progress)
        if there:
            disk.remove_folder(output)
        disk.rename(stage, output)
    except ImpossibleCase as error:
        raise ConfigurationError(f"case {case_name}: {error}") from error
    except ValueError as error:
        # the simulator's own errors about a file begin with its path; any other is a bug
        key = next(
            (key for key, path in files_of(case).items() if str(error).startswith(f"{path}: ")),
            None,
        )
        if key is None:
            raise
        raise BadInputError(f"{key} of case {case_name}: {error}") from error
    finally:
        disk.remove(stage)


def read_case(name: str, images: int | None) -> Case:
    """Return a case by its name, or from a TOML file."""
    from pydantic import ValidationError

    from tasks.simulation.case import FILES, case_names, case_of, load_case

    values: dict[str, Any] = {} if images is None else {"images": images}
    try:
        if name in case_names():
            case = load_case(name)
            case = case.model_validate({**case.model_dump(), **values})
        elif "/" not in name and not name.endswith(".toml"):
            raise ConfigurationError(
                f"{plain(name)}: unknown case; the cases are {', '.join(case_names())}, or use a "
                f"file NAME.toml{did_you_mean(name, case_names())}"
            )
        else:
            case = case_of({**read_toml(Path(name)), **values}, Path(name).parent)
    except ValidationError as error:
        wrong = [
            (
                ".".join(map(str, e["loc"])),
                "unknown key" if e["type"] == "extra_forbidden" else fault_of(e),
            )
            for e in error.errors()
        ]
        text = "; ".join(f"{key}: {why}" if key else why for key, why in wrong)
        kind = (
            MissingInputError
            if all(key in FILES and "no such file" in why for key, why in wrong)
            else ConfigurationError
        )
        raise kind(f"case {plain(name)}: {text}") from error
    for path in files_of(case).values():
        os.close(disk.open_to_read(path))
    return case


def list_cases() -> dict[str, str]:
    """Return the shipped cases by name, with what each of them is."""
    from tasks.simulation.case import case_names, describe_case

    return {name: describe_case(name) for name in case_names()}


def files_of(case: Case) -> dict[str, Path]:
    """Return the files of a case, by their keys."""
    from tasks.simulation.case import FILES

    return {key: path for key in FILES if (path := getattr(case, key)) is not None}
