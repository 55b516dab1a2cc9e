"""All errors that a user may see, as one tree; each branch has an exit code of `drp`.

Messages name the file, HDU, column, keyword or setting, and say what was found and what was
expected. They never contain control characters: text from outside (headers, paths, orders) passes
through `plain`.
"""

from __future__ import annotations

import errno
import os
import resource


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
    """Another run holds the visit, or a resource (memory, files, server) is not available now."""

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


def shortage(error: BaseException) -> str:
    """Return what was short if an error means only that, else an empty string.

    Memory, files, processes or threads may run out also while a library is loaded, and cause an
    error of another kind.
    """
    return next(filter(None, map(_shortage, _and_causes(error))), "")


_OF_THE_DISK = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EROFS,
    errno.ESTALE,
}


def disk_failure(error: BaseException) -> str:
    """Return which file failed and why if the disk failed a library, else an empty string."""
    for each in _and_causes(error):
        if isinstance(each, OSError) and each.errno in _OF_THE_DISK:
            reason = os.strerror(each.errno)
            return f"{plain(each.filename)}: {reason}" if each.filename else reason
    return ""


def _and_causes(error: BaseException) -> list[BaseException]:
    """Return an error and those that caused it."""
    seen: list[BaseException] = []
    while error not in seen:
        seen.append(error)
        error = error.__cause__ or error.__context__ or error
    return seen


def _shortage(error: BaseException) -> str:
    number = error.errno if isinstance(error, OSError) else None
    text = str(error).lower()
    loading = text if isinstance(error, ImportError) else ""
    if isinstance(error, MemoryError):
        # of numpy's own error: bytes of the array that could not be allocated
        size = getattr(error, "_total_size", None)
        needed = f", needs {size / 1e6:.0f} MB more" if isinstance(size, int) else ""
        return f"not enough memory{needed}"
    if number == errno.ENOMEM or "failed to map" in loading or "cannot allocate memory" in loading:
        return "not enough memory"
    if number == errno.EMFILE or "too many open files" in loading:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return f"too many open files, the limit is {limit} (ulimit -n)"
    if number == errno.ENFILE:
        return "too many open files on this machine"
    if number == errno.EAGAIN or text == "can't start new thread":
        return "no further process or thread can be started"
    return ""
