"""All errors that a user may see, as one tree; each branch has an exit code of `drp`.

Messages name the file, HDU, column, keyword or setting, and say what was found and what was
expected. They never contain control characters: text from outside (headers, paths, orders) passes
through `plain`.
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
    """Base of all errors that are shown to a user in one line; `exit_code` is that of `drp`."""

    exit_code = 70

    def __init__(self, message: str) -> None:
        super().__init__(plain(message, limit=2000))


class UsageError(DrpError):
    """The command line asks for something that does not exist."""

    exit_code = 2


class BadInputError(DrpError):
    """An input file is damaged or contradicts itself."""

    exit_code = 65


class MissingInputError(DrpError):
    """A file or reference that the visit needs is missing, perhaps only for now."""

    exit_code = 66


class NoScienceDataError(DrpError):
    """Nothing can be measured: every image is occulted, in the SAA or unusable."""

    exit_code = 69


class CannotCreateError(DrpError):
    """The products cannot be written to their place, or it is taken."""

    exit_code = 73


class StorageError(DrpError):
    """Reading or writing failed: disk full, device error, stuck file system.

    A `permanent` error is not retried.
    """

    exit_code = 74
    permanent = False


class BusyError(DrpError):
    """Another run holds the visit, or a resource (memory, server) is not available now."""

    exit_code = 75


class SelfCheckError(DrpError):
    """A product that was just written does not read back unchanged."""

    exit_code = 76


class ConfigurationError(DrpError):
    """A setting, settings file or job order is wrong."""

    exit_code = 78


class Interrupted(BaseException):
    """The run was asked to stop; the exit code is 128 plus the signal's number.

    It is not an Exception, so that no handler of errors catches it and continues.
    """

    def __init__(self, signal_number: int, name: str) -> None:
        super().__init__(
            f"stopped by {name}; nothing partial was published, the same command goes on from here"
        )
        self.exit_code = 128 + signal_number


def short_of_memory(error: BaseException) -> bool:
    """Whether an error means only that memory is short, also while a library was loaded."""
    text = str(error).lower()
    if isinstance(error, ImportError):
        return "failed to map segment" in text or "cannot allocate memory" in text
    return isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno == errno.ENOMEM
    )


def wanted_memory(error: BaseException) -> str:
    """Return the message for a lack of memory, with the size if the error has it."""
    # of numpy's own error: bytes of the array that could not be allocated
    size = getattr(error, "_total_size", None)
    return (
        f"not enough memory, needs {size / 1e6:.0f} MB more"
        if isinstance(size, int)
        else "not enough memory"
    )
