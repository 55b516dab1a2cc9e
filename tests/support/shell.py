"""Lines of a shell, as the pages show them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path


def run_shell(
    text: str, environment: Mapping[str, str], folder: Path | None = None, seconds: float = 500
) -> str:
    """Run lines in a shell that stops at the first error; return their output.

    `environment` is added to that of the tests.
    """
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{text}\n{done.stderr[-2000:]}"
    return done.stdout
