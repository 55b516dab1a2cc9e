"""The paths that a campaign names: looked at before its first visit, not once for each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from schemas.errors import BadInputError, MissingInputError
from tasks.files import disk
from tasks.visit.inventory import OF_REFERENCES

MOST_BYTES = 64 << 20  # of a list of visits

A_LIST = "expected a text file with the path of a visit on each line"


def read_list(path: Path) -> list[str]:
    """Return the lines of a list of visits, without blank ones and those that begin with #.

    Raises
    ------
    MissingInputError, BadInputError
        If it cannot be read.
    """
    try:
        return listed(disk.read_text(path, MOST_BYTES))
    except (MissingInputError, BadInputError) as error:
        raise type(error)(f"{error}; {A_LIST}") from error


def listed(text: str) -> list[str]:
    """Return the paths in the text of a list of visits."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and line[0] != "#"]


def check_inputs(references: Iterable[Path], replace: Iterable[Path]) -> None:
    """Check that the inputs that all visits of a campaign share are there.

    Raises
    ------
    UsageError
        If one of `references` is not a folder.
    MissingInputError
        If one cannot be read, or one of the files in `replace` does not exist.
    """
    for folder in references:
        disk.require_folder(folder, OF_REFERENCES)
        disk.entries(folder)
    for path in replace:
        disk.close(disk.open_to_read(path))


def prepare_places(output: Path, work: Path) -> None:
    """Create the output folder and the work folder of a campaign, unless they exist.

    Raises
    ------
    CannotCreateError
        If nothing can be written to one of them.
    """
    disk.prepare_folder(output, "choose another folder for the products")
    disk.prepare_folder(work, "choose another folder for intermediate products")
