"""Reports that several tests read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.runs import Bench
from tests.support.visit_report import Visit, typeset


@pytest.fixture(scope="session")
def plain_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the report of an uneventful visit."""
    folder = tmp_path_factory.mktemp("plain")
    typeset(Visit(), folder)
    return folder


@pytest.fixture(scope="session")
def whole_report(reduced: Bench) -> Path:
    """The report of the tiny visit as it was published."""
    (folder,) = reduced.published()
    (pdf,) = folder.glob("*.pdf")
    return pdf
