"""Programs of other people, each run by its own Python."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from schemas import ROOT

CLIENTS = ROOT / "tests" / "clients"


def client(name: str) -> Path:
    """Return the Python of a client; skip the test if `make clients` did not install it."""
    python = ROOT / ".clients" / name / "bin" / "python"
    if not (python.parent.parent / ".installed").is_file():
        reason = f"{name} is not installed (make clients)"
        if os.environ.get("DRP_CLIENTS") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    return python


def last_line(
    name: str, script: str, *arguments: object, cwd: Path | None = None, **environment: str
) -> dict[str, Any]:
    """Run a script with a client's Python and return its last line as JSON."""
    command = [str(client(name)), str(CLIENTS / script), *map(str, arguments)]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
