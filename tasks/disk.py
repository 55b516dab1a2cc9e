"""The one layer that touches the disk: every open, read, write, fsync, rename, link, unlink and mkdir passes here.

System errors come out as errors of `schemas.errors` that name the file. Tests put a fault into any single call by
`fault_hook`, and end the process at a named point by the environment variable DRP_CRASH_AT.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from schemas.errors import CannotCreateError, DrpError, MissingInputError, StorageError

fault_hook: Callable[[str, str], None] | None = None

_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENOENT}
_PERMANENT = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
CHUNK = 1 << 22


def crash_point(name: str) -> None:
    """End the process without any clean-up if a test asks for it here."""
    if os.environ.get("DRP_CRASH_AT") == name:
        os.kill(os.getpid(), signal.SIGKILL)


def explain(error: OSError, action: str, path: Path) -> DrpError:
    """Return our error for a system error met while doing `action` on `path`."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    if action == "read" and error.errno in (errno.ENOENT, errno.ENOTDIR):
        return MissingInputError(f"{path}: no such file")
    if action == "read" and error.errno in (errno.EACCES, errno.EPERM):
        return MissingInputError(f"{path}: cannot be opened, {reason}")
    if action == "create" and error.errno in _REFUSED:
        return CannotCreateError(f"{path}: cannot be created, {reason}")
    failure = StorageError(f"{path}: {action} failed, {reason}")
    failure.permanent = error.errno in _PERMANENT
    return failure


@contextlib.contextmanager
def guarded(action: str, path: Path) -> Iterator[None]:
    """Run one disk call: let a test's fault in, and translate what the system says."""
    try:
        if fault_hook is not None:
            fault_hook(action, str(path))
        yield
    except OSError as error:
        raise explain(error, action, path) from error


def read_bytes(path: Path, limit: int | None = None) -> bytes:
    """Return the content of `path`; more than `limit` bytes are refused before they are read."""
    with guarded("read", path), open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if limit is not None and size > limit:
            raise OSError(errno.EFBIG, f"more than {limit} bytes")
        return file.read() if size == 0 else b"".join(iter(lambda: file.read(CHUNK), b""))


def read_at(fd: int, offset: int, buffer: memoryview, path: Path) -> None:
    """Fill `buffer` from `offset` of an open file."""
    with guarded("read", path):
        done = 0
        while done < len(buffer):
            count = os.preadv(fd, [buffer[done:]], offset + done)
            if count == 0:
                raise OSError(errno.EIO, "the file became shorter while it was read")
            done += count


def open_to_read(path: Path) -> int:
    """Return a file descriptor of the regular file `path`."""
    with guarded("read", path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise MissingInputError(f"{path}: is not a regular file")
        return fd


def create(path: Path) -> int:
    """Create `path`, which must not exist, and return its descriptor."""
    with guarded("create", path):
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)


def write_at(fd: int, offset: int, data: bytes | memoryview, path: Path) -> None:
    """Write all of `data` at `offset`."""
    view = memoryview(data).cast("B")
    with guarded("write", path):
        done = 0
        while done < len(view):
            done += os.pwrite(fd, view[done:], offset + done)


def sync_and_close(fd: int, path: Path) -> None:
    """Force an open file to the disk and close it."""
    try:
        with guarded("fsync", path):
            os.fsync(fd)
    finally:
        os.close(fd)


def sync_folder(path: Path) -> None:
    """Force the entries of a folder to the disk."""
    with guarded("fsync", path):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def rename(source: Path, target: Path) -> None:
    """Rename `source`; an existing file `target` is replaced, an existing folder with content is not."""
    with guarded("rename", target):
        os.rename(source, target)


def make_folder(path: Path) -> None:
    """Make a folder and its parents."""
    with guarded("create", path):
        os.makedirs(path, mode=0o750, exist_ok=True)


def remove(path: Path) -> None:
    """Remove a file or a whole folder, if it is there."""
    with guarded("unlink", path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def write_file(path: Path, data: bytes) -> None:
    """Write `path` so that it appears whole or not at all, and is on the disk when this returns."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    partial.unlink(missing_ok=True)
    fd = create(partial)
    try:
        try:
            write_at(fd, 0, data, partial)
        finally:
            sync_and_close(fd, partial)
        rename(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def copy_file(source: Path, target: Path) -> None:
    """Copy the bytes of `source` to a new file `target`."""
    reader = open_to_read(source)
    try:
        writer = create(target)
        try:
            with guarded("read", source):
                size = os.fstat(reader).st_size
            buffer = memoryview(bytearray(min(size, CHUNK)))
            for offset in range(0, size, CHUNK):
                part = buffer[: min(CHUNK, size - offset)]
                read_at(reader, offset, part, source)
                write_at(writer, offset, part, target)
        finally:
            sync_and_close(writer, target)
    finally:
        os.close(reader)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    fd = open_to_read(path)
    try:
        with guarded("read", path):
            while chunk := os.read(fd, CHUNK):
                digest.update(chunk)
    finally:
        os.close(fd)
    return digest.hexdigest()
