"""A folder in which the operator works, with files that must not act on the command."""

from __future__ import annotations

from pathlib import Path

MODULES = ("click", "flows", "json", "numpy", "prefect", "schemas", "tasks", "typst")

# written by a planted module that is imported
TRACE = """
import os
os.close(os.open({trace!r}, os.O_CREAT | os.O_WRONLY))
raise ImportError("planted")
"""

# settings that packages read where they work; each would make them fail
SETTINGS = {
    "matplotlibrc": b"backend: \xe9\n",
    "prefect.toml": b"[",
    ".env": b"PREFECT_API_REQUEST_TIMEOUT=never\n",
    ".numba_config.yaml": b"{",
}


def plant(folder: Path, *without: str) -> Path:
    """Make a folder with planted modules and settings."""
    folder.mkdir(parents=True)
    trace = f"{folder}/ran"
    for name in set(MODULES) - set(without):
        (folder / f"{name}.py").write_text(TRACE.format(trace=f"{trace}-{name}"))
    for name, content in SETTINGS.items():
        (folder / name).write_bytes(content)
    return folder


def planted_that_ran(folder: Path) -> list[str]:
    """Return the names of the planted modules that were imported."""
    return sorted(p.name.removeprefix("ran-") for p in folder.glob("ran-*"))
