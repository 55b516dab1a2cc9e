"""Files of one test, and the small product as this project writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.files import disk
from tasks.files.writer import write_fits
from tests.support.small_product import (
    new_hdus,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "small.fits"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gate") / "ours.fits"
    write_fits(path, new_hdus())
    return path


@pytest.fixture(autouse=True)
def no_fault_stays() -> Iterator[None]:
    yield
    disk.fault_hook = None


@pytest.fixture
def calls() -> list[tuple[str, str]]:
    """The disk calls of the test so far: what was done, and the name of the file."""
    made: list[tuple[str, str]] = []
    disk.fault_hook = lambda action, path: made.append((action, Path(path).name))
    return made
