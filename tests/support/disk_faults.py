"""Disk calls that fail, one after the other."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import (
    StorageError,
)
from tasks.files import disk


def listing(folder: Path) -> dict[str, bytes]:
    """Return names and contents of all files of a folder, hidden ones included."""
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def failing(number: int, code: int, for_good: bool) -> Callable[[str, str], None]:
    """Return a hook that fails the disk call of that number, or all from it on."""
    count = 0

    def hook(action: str, path: str) -> None:
        nonlocal count
        count += 1
        if count == number or (for_good and count > number):
            raise OSError(code, os.strerror(code))

    return hook


def fail_every_call(work: Callable[[], None], folder: Path, code: int, for_good: bool) -> int:
    """Fail one disk call of `work` after the other until a run has no failure; return how many
    calls there were.

    After a failure the folder holds what it held before, and the error is a StorageError that names
    a file.
    """
    before = listing(folder)
    descriptors = len(os.listdir("/proc/self/fd"))
    for number in range(1, 200):
        disk.fault_hook = failing(number, code, for_good)
        try:
            work()
            failure = None
        except StorageError as error:
            failure = error
        finally:
            disk.fault_hook = None
        if failure is None:
            assert listing(folder) != before
            return number - 1
        assert listing(folder) == before
        assert folder.name in str(failure)
        assert failure.permanent == (code == errno.ENOSPC)
        assert len(os.listdir("/proc/self/fd")) == descriptors
    raise AssertionError("there is no end of failures")


faults = pytest.mark.parametrize(
    ("code", "for_good"), [(c, g) for c in (errno.EIO, errno.ENOSPC) for g in (False, True)]
)
