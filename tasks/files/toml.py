"""Settings and cases in TOML files."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from schemas.errors import BadInputError, ConfigurationError, MissingInputError, plain
from tasks.files import disk

MOST = 1 << 20  # bytes


def parse_toml(text: str) -> dict[str, Any]:
    """Return the content of a TOML text; ValueError if it is not TOML, or nested too deeply."""
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises
    ------
    ConfigurationError
        If it is not a regular file, too large, nested too deeply, or not TOML.
    """
    try:
        return parse_toml(disk.read_text(path, limit=MOST))
    except (BadInputError, MissingInputError) as error:
        raise ConfigurationError(f"{error}; expected a TOML file") from error
    except ValueError as error:
        raise ConfigurationError(f"{path}: {plain(error)}") from error
