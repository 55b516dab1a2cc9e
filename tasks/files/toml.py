"""Settings and cases in TOML files."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path
from typing import Any

from schemas.errors import ConfigurationError, plain

MOST = 1 << 20  # bytes


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises
    ------
    ConfigurationError
        If it is not a regular file, too large, nested too deeply, or not TOML.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"{path}: is not a regular file")
        if status.st_size > MOST:
            raise ConfigurationError(f"{path}: is larger than {MOST} bytes")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path}: {plain(error)}") from error
