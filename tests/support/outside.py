"""Where the outside data and programs are, and what a test does without them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from schemas import ROOT

SHARED = ROOT.parent / "shared"

needs_poppler = pytest.mark.skipif(
    shutil.which("pdftotext") is None or shutil.which("pdfinfo") is None,
    reason="pdftotext and pdfinfo (poppler) are not here",
)


def outside(name: str = ".") -> Path:
    """Return a file or folder of the outside data, a folder `shared` beside the repository.

    Where it is not, the test is skipped; with DRP_OUTSIDE=required in the environment it fails.
    """
    path = SHARED / name
    if not path.exists():
        reason = f"the outside data (shared/{name} beside the repository) are not here"
        if os.environ.get("DRP_OUTSIDE") == "required":
            pytest.fail(f"{reason}, and DRP_OUTSIDE says that they must be")
        pytest.skip(reason)
    return path
