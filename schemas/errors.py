"""Everything that can go wrong for a user, as one tree; each branch carries the exit code of `drp`.

Messages name the file, HDU, column, keyword or setting, say what was met and what was wanted, and
never hold control characters: text from outside (headers, paths, orders) passes through `plain`.
"""

from __future__ import annotations

import errno


def plain(text: object, limit: int = 300) -> str:
    """Return `text` on one line, control characters escaped, at most `limit` characters long."""
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text)
    )
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


class DrpError(Exception):
    """Base of all errors that are shown to a user in one line. `exit_code` is what `drp` ends
    with.
    """

    exit_code = 70

    def __init__(self, message: str) -> None:
        super().__init__(plain(message, limit=2000))


class UsageError(DrpError):
    """The command line asks for something that does not exist."""

    exit_code = 2


class BadInputError(DrpError):
    """An input file is damaged or says what cannot be."""

    exit_code = 65


class MissingInputError(DrpError):
    """A file or reference that the visit needs is not there (yet)."""

    exit_code = 66


class NoScienceDataError(DrpError):
    """Nothing is left to measure: every image is occulted, in the SAA or unusable."""

    exit_code = 69


class CannotCreateError(DrpError):
    """The place for the products cannot be written to, or is taken."""

    exit_code = 73


class StorageError(DrpError):
    """Reading or writing failed: disk full, device error, stuck file system. A `permanent` one is
    not tried again.
    """

    exit_code = 74
    permanent = False


class BusyError(DrpError):
    """Another run holds the visit, or a resource (memory, server) is missing for now."""

    exit_code = 75


class SelfCheckError(DrpError):
    """A product that was just written does not read back as it was meant."""

    exit_code = 76


class ConfigurationError(DrpError):
    """A setting, settings file or job order is wrong."""

    exit_code = 78


class Interrupted(BaseException):
    """The run was asked to stop. No error, so that nothing that deals with errors takes it for one
    and goes on.

    The exit code is 128 + the signal's number.
    """

    def __init__(self, signal_number: int, name: str) -> None:
        super().__init__(
            f"stopped by {name}; nothing partial was published, the same command goes on from here"
        )
        self.exit_code = 128 + signal_number


def short_of_memory(error: BaseException) -> bool:
    """Return whether an error only says that there is not enough memory: a library that cannot be
    loaded for it says so too.
    """
    text = str(error).lower()
    if isinstance(error, ImportError):
        return "failed to map segment" in text or "cannot allocate memory" in text
    return isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno == errno.ENOMEM
    )


def wanted_memory(error: BaseException) -> str:
    """Return what a want of memory is told as, with its size where the error knows it."""
    # numpy's own says so: bytes of the array that could not be made
    size = getattr(error, "_total_size", None)
    return (
        f"not enough memory, needs {size / 1e6:.0f} MB more"
        if isinstance(size, int)
        else "not enough memory"
    )
