"""What the shell, notebook or folder in which the command was started may change in it.

Of the operator's folder only the files that are named count. It is not searched for code
(`search_path`), and the command works in the root folder, since packages read settings where they
work: matplotlibrc, prefect.toml, .env, .numba_config.yaml.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from schemas.errors import BadInputError, StorageError, UsageError

# the compiler's other variables change speed, output and the last digits of numbers; these are
# settled by `tasks.kernels`
_OF_THE_COMPILER = ("NUMBA_NUM_THREADS", "NUMBA_CACHE_DIR", "NUMBA_DISABLE_JIT")

# variables with paths, which may be relative to the working folder
_PATHS = ("DRP_WORK", "DRP_OUTPUT", "DRP_INTAKE", "DRP_SETTINGS", "PREFECT_HOME", "TMPDIR")


def settle_process() -> None:
    """Complete the standard streams and reset warnings."""
    complete_streams()
    reset_warnings()


def complete_streams() -> None:
    """Open the standard streams that are closed on the null device.

    Otherwise the next file to be opened, such as a product, would receive what is written to them.
    Characters that the terminal cannot show are escaped.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            os.dup2(opened, number)
            if opened != number:
                os.close(opened)
        if getattr(sys, name) is None:
            opened_stream = open(number, "w" if number else "r", closefd=False)  # noqa: SIM115
            setattr(sys, name, opened_stream)
            setattr(sys, f"__{name}__", opened_stream)
    for stream in (sys.stdout, sys.stderr):
        if stream in (sys.__stdout__, sys.__stderr__) and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def reset_warnings() -> None:
    """Ignore PYTHONWARNINGS, by which a warning within a package could become an error."""
    if os.environ.pop("PYTHONWARNINGS", None) is not None:
        warnings.resetwarnings()
        for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", kind)


def settle_variables() -> None:
    """Set the environment variables of packages, whatever a shell or notebook has set."""
    for name in [n for n in os.environ if n.startswith("NUMBA_")]:
        if name not in _OF_THE_COMPILER:
            del os.environ[name]
    for name in _PATHS:
        if (value := os.environ.get(name)) and not os.path.isabs(value):
            with contextlib.suppress(OSError):
                os.environ[name] = os.path.abspath(value)


def absolute_paths(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a command with absolute paths.

    Raises
    ------
    UsageError
        If a path contains a NUL byte, or other text is not UTF-8.
    BadInputError
        If a path is not UTF-8: it could not be written to JSON and headers.
    StorageError
        If the working folder, to which a path is relative, was deleted.
    """

    def absolute(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(absolute, value))
        if isinstance(value, str) and not is_utf8(value):
            raise UsageError(f"{value}: is not UTF-8")
        return absolute_path(value) if isinstance(value, Path) else value

    return {name: absolute(value) for name, value in options.items()}


def absolute_path(path: Path) -> Path:
    """Return an absolute path; see `absolute_paths`."""
    if "\0" in str(path):
        raise UsageError("a path contains a NUL byte")
    try:
        path = path.absolute()
    except FileNotFoundError as error:
        raise StorageError(f"{path}: the working folder was deleted; use absolute paths") from error
    if not is_utf8(str(path)):
        raise BadInputError(f"{path}: is not UTF-8; rename the folder or file")
    return path


def is_utf8(text: str) -> bool:
    """Return whether a text can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextlib.contextmanager
def elsewhere() -> Iterator[None]:
    """Work in the root folder."""
    # a descriptor returns to a folder whose name is gone or cannot be read
    here = os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        os.chdir("/")
        yield
    finally:
        with contextlib.suppress(OSError):
            os.fchdir(here)
        os.close(here)
