"""Visits and references that tests may damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.damage import (
    know_steps,
)
from tests.support.faults import (
    Bench,
)
from tests.support.runs import Bench as Reduced


@pytest.fixture
def bench(visit: Path, reduced: Reduced, tmp_path: Path) -> Bench:
    """A visit that may be damaged, reduced with the default library.

    The steps of the undamaged visit are known: only those that the damage concerns are done.
    """
    bench = Bench(visit, tmp_path)
    know_steps(bench, reduced)
    return bench


@pytest.fixture
def own(visit: Path, references: Path, reduced: Reduced, tmp_path: Path) -> Bench:
    """As `bench`, with references that may be damaged as well."""
    bench = Bench(visit, tmp_path, references)
    know_steps(bench, reduced)
    return bench


@pytest.fixture(scope="session")
def sound(reduced: Reduced, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The measurements of the visit as it is."""
    bench = Bench(reduced.visit, tmp_path_factory.mktemp("sound"))
    know_steps(bench, reduced)
    return bench.measured()[0]
