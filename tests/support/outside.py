"""Outside data and programs, without which some tests are skipped."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from schemas import ROOT

SHARED = ROOT.parent / "shared"

needs_poppler = pytest.mark.skipif(
    shutil.which("pdftotext") is None or shutil.which("pdfinfo") is None,
    reason="pdftotext and pdfinfo (poppler) are not installed",
)


def outside(name: str = ".") -> Path:
    """Return a file or folder of the outside data, in a folder `shared` beside the repository.

    If it does not exist, the test is skipped; with DRP_OUTSIDE=required in the environment it
    fails.
    """
    path = SHARED / name
    if not path.exists():
        reason = f"the outside data (shared/{name} beside the repository) do not exist"
        if os.environ.get("DRP_OUTSIDE") == "required":
            pytest.fail(f"{reason}, but DRP_OUTSIDE requires them")
        pytest.skip(reason)
    return path
