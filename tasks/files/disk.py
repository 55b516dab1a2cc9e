"""Access to the disk: every look, open, read, write, rename, link, unlink and mkdir passes here.

System errors become errors of `schemas.errors` that name the file. If a call does not return within
the limit of `watch` because the file system is stuck, the process ends: nothing in Python can
interrupt the call. Tests inject a fault into any single call by `fault_hook`, and kill the process
at a named point by the environment variable DRP_CRASH_AT.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from schemas.errors import (
    BadInputError,
    BusyError,
    CannotCreateError,
    ConfigurationError,
    DrpError,
    MissingInputError,
    StorageError,
    UsageError,
    shortage,
)

fault_hook: Callable[[str, str], None] | None = None

_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}

_REFUSED = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
}

_READING = ("read", "stat")

_PERMANENT = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

_SHORT = {errno.ENOMEM, errno.EMFILE, errno.ENFILE}

_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}

_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}

LOCK_ADVICE = (
    "mount the file system so that flock holds between machines (Lustre: -o flock, not localflock "
    "or noflock; NFS: local_lock=none, without nolock)"
)

CHUNK = 1 << 22


def crash_point(name: str) -> None:
    """Kill the process, without any clean-up, if a test asks for it at this point."""
    if os.environ.get("DRP_CRASH_AT") == name:
        os.kill(os.getpid(), signal.SIGKILL)


def explain(error: OSError, action: str, path: Path) -> DrpError:
    """Return the error to raise for a system error in `action` on `path`."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    denied = error.errno in (errno.EACCES, errno.EPERM)
    if error.errno in _SHORT:
        return BusyError(f"{path}: {action} failed, {shortage(error)}")
    if action in _READING and error.errno == errno.ENOENT:
        return MissingInputError(f"{path}: no such file")
    if action in _READING and error.errno in _REFUSED:
        hint = "; the account that runs drp must be able to read it" if denied else ""
        return MissingInputError(f"{path}: cannot be opened, {reason}{hint}")
    if action in ("create", "rename") and error.errno in _REFUSED:
        return CannotCreateError(f"{path}: cannot be created, {reason}")
    if action == "create" and error.errno == errno.ENOENT:
        return CannotCreateError(f"{path}: cannot be created, its folder does not exist")
    failure = StorageError(f"{path}: {action} failed, {reason}")
    failure.permanent = error.errno in _PERMANENT
    return failure


@contextlib.contextmanager
def guarded(action: str, path: Path) -> Iterator[None]:
    """Run one disk call: inject the fault of a test, translate errors, and let `watch` time it."""
    me = threading.get_ident()
    outer = _waiting.get(me)
    _waiting[me] = Waiting(action, path, time.monotonic())
    try:
        if fault_hook is not None:
            fault_hook(action, str(path))
        yield
    except OSError as error:
        raise explain(error, action, path) from error
    finally:
        if outer is None:
            _waiting.pop(me, None)
        else:
            _waiting[me] = outer._replace(since=time.monotonic())


class Waiting(NamedTuple):
    """A disk call that has not returned yet."""

    action: str
    path: Path
    since: float


_waiting: dict[int, Waiting] = {}  # by thread


def moves_on() -> None:
    """Restart the clock of `watch` for the call of this thread, after a part of it is done."""
    if (waiting := _waiting.get(threading.get_ident())) is not None:
        _waiting[threading.get_ident()] = waiting._replace(since=time.monotonic())


def watch(limit: float, give_up: Callable[[StorageError], None]) -> Callable[[], None]:
    """Watch all disk calls of this process in a thread, and return a function that stops it.

    Parameters
    ----------
    limit : float
        How long a call may take without progress [s].
    give_up : callable
        Called once, in the watching thread, with an error that names the hanging call; it should
        end the process.
    """
    over = threading.Event()

    def look() -> None:
        while not over.wait(min(limit / 4, 5.0)):
            now = time.monotonic()
            for waiting in list(_waiting.values()):
                if now - waiting.since > limit:
                    give_up(
                        StorageError(
                            f"{waiting.path}: {waiting.action} has not returned for {limit:g} s, "
                            f"giving up"
                        )
                    )
                    return

    threading.Thread(target=look, name="disk-watch", daemon=True).start()
    return over.set


def status(path: Path, output: bool = False, follow: bool = True) -> os.stat_result | None:
    """Return the status of a file or folder, None if there is none.

    There is none either behind a path through a file, a name that is too long, a link that leads
    nowhere, or a loop of links. Without `follow` the status is that of a link itself.

    Raises
    ------
    MissingInputError
        If the folder that holds it cannot be entered.
    CannotCreateError
        The same, for a place of `output`.
    """
    with guarded("stat", path):
        try:
            return os.stat(path, follow_symlinks=follow)
        except ValueError:  # a NUL byte, or a name that the file system's encoding does not have
            return None
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            if output:
                raise explain(error, "create", path) from error
            raise explain(error, "stat", _barred(path)) from error


def _barred(path: Path) -> Path:
    """Return the folder above `path` that cannot be entered, or `path` if all of them can."""
    return next((p for p in reversed(path.parents) if not os.access(p, os.X_OK)), path)


def exists(path: Path, output: bool = False) -> bool:
    """Return whether there is a file or folder; for a link, whether it leads to one."""
    return status(path, output) is not None


def is_file(path: Path, output: bool = False) -> bool:
    """Return whether there is a regular file."""
    found = status(path, output)
    return found is not None and stat.S_ISREG(found.st_mode)


def is_folder(path: Path, output: bool = False) -> bool:
    """Return whether there is a folder."""
    found = status(path, output)
    return found is not None and stat.S_ISDIR(found.st_mode)


def is_taken(path: Path, output: bool = False) -> bool:
    """Return whether there is anything of this name, be it a link that leads nowhere."""
    return status(path, output, follow=False) is not None


def is_link(path: Path) -> bool:
    """Return whether there is a symbolic link, whatever it leads to."""
    found = status(path, follow=False)
    return found is not None and stat.S_ISLNK(found.st_mode)


def is_writable(folder: Path) -> bool:
    """Return whether files can be created in a folder."""
    with guarded("stat", folder):
        return os.access(folder, os.W_OK | os.X_OK)


def status_of(path: Path) -> os.stat_result:
    """Return the status of a file that exists."""
    with guarded("read", path):
        return os.stat(path)


def size(path: Path) -> int:
    """Return the size of a file that exists [bytes]."""
    return status_of(path).st_size


def same_file(path: Path, other: Path) -> bool:
    """Return whether two paths lead to the same file or folder, which exists."""
    a, b = status(path), status(other)
    return a is not None and b is not None and (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)


def entries(folder: Path) -> list[Path]:
    """Return what is in a folder, sorted by name."""
    with guarded("read", folder):
        return sorted(folder / name for name in os.listdir(folder))


def walk(
    folder: Path, unread: Callable[[OSError], None] | None = None
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield each folder at and below `folder`, with the names of the folders and files in it.

    Links to folders are not followed. `unread` is called with the error of each folder that cannot
    be read; without it such an error is raised, translated.
    """

    def refuse(error: OSError) -> None:
        raise explain(error, "read", Path(error.filename)) from error

    steps = os.walk(folder, onerror=unread or refuse)
    while True:
        with guarded("read", folder):
            step = next(steps, None)
        if step is None:
            return
        yield Path(step[0]), step[1], step[2]


def files_below(folder: Path) -> list[Path]:
    """Return the files at and below a folder, sorted by path."""
    return sorted(place / name for place, _, names in walk(folder) for name in names)


def resolved(path: Path) -> Path:
    """Return the absolute path without symbolic links, as far as they can be followed."""
    with guarded("stat", path):
        try:
            return Path(os.path.realpath(path))
        except ValueError as error:
            raise MissingInputError(f"{path}: cannot be opened, {error}") from error


def absolute(path: Path) -> Path:
    """Return the absolute path; MissingInputError if the working directory was removed."""
    with guarded("stat", path):
        return path.absolute()


def read_text(path: Path, limit: int) -> str:
    """Return the content of a text file in UTF-8.

    Raises
    ------
    BadInputError
        If it is longer than `limit` bytes, or not UTF-8.
    """
    try:
        return read_bytes(path, limit).decode()
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path}: is not text in UTF-8 ({error.reason})") from error


def read_bytes(path: Path, limit: int | None = None) -> bytes:
    """Return the content of the regular file `path`.

    Raises
    ------
    BadInputError
        If it holds more than `limit` bytes; at most one chunk more than that is read.
    """
    fd = open_to_read(path)
    parts, size = [], 0
    try:
        with guarded("read", path):
            while chunk := os.read(fd, CHUNK):
                moves_on()
                parts.append(chunk)
                size += len(chunk)
                if limit is not None and size > limit:
                    raise BadInputError(f"{path}: is larger than {limit} bytes")
    finally:
        os.close(fd)
    return b"".join(parts)


def read_system_file(path: Path) -> str:
    """Return the text of a file of /proc or /sys, whose size is not known in advance."""
    return read_bytes(path, 1 << 20).decode()


def read_at(fd: int, offset: int, buffer: memoryview, path: Path) -> None:
    """Fill `buffer` from `offset` of an open file."""
    with guarded("read", path):
        done = 0
        while done < len(buffer):
            count = os.preadv(fd, [buffer[done:]], offset + done)
            if count == 0:
                raise StorageError(
                    f"{path}: read failed, the file became shorter while it was read"
                )
            done += count
            moves_on()


def open_to_read(path: Path) -> int:
    """Open the regular file `path` and return its descriptor."""
    with guarded("read", path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise MissingInputError(f"{path}: is not a regular file")
        return fd


def open_folder(path: Path) -> int:
    """Open a folder to be locked, and return its descriptor; the path does not end in a link."""
    with guarded("create", path):
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def open_lock(path: Path, create: bool = True, mode: int = 0o640) -> int:
    """Open a file to be locked, by default created if necessary, and return its descriptor.

    It is open for writing, since NFS grants no exclusive lock otherwise.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    with guarded("create", path):
        return os.open(path, flags, mode)


def try_lock(fd: int, path: Path, shared: bool = False) -> bool:
    """Lock the open file or folder `path`; return whether no other process excludes that.

    The lock is for this process alone, or `shared` by those that ask for it in the same way. It is
    free again when the descriptor is closed, or its process ends.

    Raises
    ------
    ConfigurationError
        If the file system has no locks.
    """
    return _flock(fd, path, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


def wait_for_lock(fd: int, path: Path) -> None:
    """Lock the open file or folder `path` for this process alone, however long that takes.

    Raises
    ------
    ConfigurationError
        If the file system has no locks.
    """
    _flock(fd, path, fcntl.LOCK_EX)


def _flock(fd: int, path: Path, how: int) -> bool:
    # not `guarded`: to wait for another run is no failure of the disk
    try:
        fcntl.flock(fd, how)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            reason = os.strerror(error.errno or 0)
            raise ConfigurationError(f"{path}: flock fails, {reason}; {LOCK_ADVICE}") from error
        raise explain(error, "lock", path) from error
    return True


def open_log(path: Path, mode: int = 0o640) -> int:
    """Open a file to append to, which is created if necessary, and return its descriptor.

    A pipe without a reader is an error, not a reason to wait.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    with guarded("create", path):
        return os.open(path, flags, mode)


def create(path: Path, mode: int = 0o640) -> int:
    """Create `path`, which must not exist, and return its descriptor."""
    with guarded("create", path):
        return _create(path, mode)


def _create(path: Path, mode: int = 0o640) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def write_at(fd: int, offset: int, data: bytes | memoryview, path: Path) -> None:
    """Write all of `data` at `offset`."""
    view = memoryview(data)
    if not view.nbytes:
        return
    view = view.cast("B")
    with guarded("write", path):
        done = 0
        while done < len(view):
            done += os.pwrite(fd, view[done:], offset + done)
            moves_on()


def sync_and_close(fd: int, path: Path) -> None:
    """Force an open file to the disk and close it, even if the former fails."""
    still_open = True
    try:
        with guarded("fsync", path):
            os.fsync(fd)
            still_open = False  # close frees the descriptor even if it fails
            os.close(fd)
    finally:
        if still_open:
            close(fd)


def close(fd: int) -> None:
    """Close a file that is not needed any more, ignoring errors."""
    with contextlib.suppress(OSError):
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
    """Rename `source`, replacing a file `target` but not a folder with content."""
    with guarded("rename", target):
        os.rename(source, target)


def host() -> str:
    """Return the name of this machine as a part of a file name."""
    return "".join(c if c.isalnum() and c.isascii() else "-" for c in os.uname().nodename)[:32]


def process_label() -> str:
    """Return a new part for a file name that no other process uses, on whatever machine it runs."""
    return f"{host()}.{os.getpid()}.{os.urandom(4).hex()}"


def partial_name(path: Path) -> Path:
    """Return a new hidden name under which this process writes `path`."""
    return path.with_name(f".{path.name[:150]}.{process_label()}.part")


def create_partial(path: Path) -> tuple[int, Path]:
    """Create the file that becomes `path` when it is complete; return its descriptor and path.

    Errors name `path`, here and in the calls that write the file: the user does not know the other
    name.
    """
    partial = partial_name(path)
    with guarded("create", path):
        return _create(partial), partial


def put_in_place(partial: Path, path: Path) -> None:
    """Give the complete file `partial` its final name; if that fails the caller discards it.

    After a failure the older file of this name is restored, if there was one. (A file system
    without hard links can't restore it: there the new file, which is complete, stays if only the
    last step failed.)
    """
    older = partial.with_suffix(".old")
    existed, kept = os.path.lexists(path), False
    renamed = False
    try:
        kept = existed and _link(path, older)
        rename(partial, path)
        renamed = True
        sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            if renamed and kept:
                os.replace(older, path)
            elif renamed and not existed:
                os.unlink(path)
        raise
    finally:
        discard(older)


def _link(path: Path, other: Path) -> bool:
    discard(other)
    with guarded("link", path):
        try:
            os.link(path, other, follow_symlinks=False)
        except OSError as error:
            if error.errno in _NO_HARD_LINKS:
                return False
            raise
    return True


def require_folder(path: Path, wanted: str) -> None:
    """Check that a folder which the user has named is one; `wanted` says which to name.

    Raises
    ------
    UsageError
        If it is not a folder.
    """
    found = status(path)
    if found is None:
        raise UsageError(f"{path}: no such folder; name {wanted}")
    if not stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{path}: is a file, not a folder; name {wanted}")


def prepare_folder(path: Path, advice: str) -> bool:
    """Create a folder to write to unless it exists; return whether it is new.

    Raises
    ------
    CannotCreateError
        If this is not possible; `advice` says what to do about it.
    """
    there = exists(path, output=True)
    if there and not is_folder(path, output=True):
        raise CannotCreateError(f"{path}: is a file, not a folder; {advice}")
    if not there:
        try:
            make_folder(path)
        except CannotCreateError as error:
            raise CannotCreateError(f"{error}; {advice}") from error
    if not is_writable(path):
        raise CannotCreateError(f"{path}: is not writable; {advice}")
    return not there


def make_folder(path: Path) -> None:
    """Create a folder and its parents if they do not exist."""
    with guarded("create", path):
        os.makedirs(path, mode=0o750, exist_ok=True)


def create_folder(path: Path, mode: int = 0o750) -> None:
    """Create a folder that must not exist."""
    with guarded("create", path):
        os.mkdir(path, mode)


def set_mode(path: Path, mode: int) -> None:
    """Set the permissions of a file or folder, whatever the umask."""
    with guarded("create", path):
        os.chmod(path, mode)


def remove(path: Path) -> None:
    """Remove a file or a whole folder, if it exists."""
    with guarded("unlink", path):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def remove_folder(path: Path) -> None:
    """Remove an empty folder."""
    with guarded("unlink", path):
        os.rmdir(path)


def link(path: Path, target: Path) -> None:
    """Create a symbolic link to `target`."""
    with guarded("create", path):
        os.symlink(target, path)


def discard(path: Path) -> None:
    """Remove a file if possible, while another failure is handled."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def discard_folder(path: Path) -> None:
    """Remove a folder as far as possible, while another failure is handled."""
    shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def written(fd: int, path: Path) -> Iterator[None]:
    """Force an open file to the disk and close it on exit; after a failure only close it."""
    try:
        yield
    except BaseException:
        close(fd)
        raise
    sync_and_close(fd, path)


def write_file(path: Path, data: bytes) -> None:
    """Write `path` so that it appears whole or not at all, and force it to the disk."""
    fd, partial = create_partial(path)
    try:
        with written(fd, path):
            write_at(fd, 0, data, path)
        put_in_place(partial, path)
    except BaseException:
        discard(partial)
        raise


def write_note(path: Path, data: bytes) -> None:
    """Write a small file at once, without forcing it to the disk.

    After a power cut it may be empty, or the older one.
    """
    with guarded("write", path):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o640)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)


def copy_file(source: Path, target: Path) -> None:
    """Copy the bytes of `source` to a new file `target`, which does not stay after a failure."""
    fd = create(target)
    try:
        with written(fd, target):
            copy_into(source, fd, target)
    except BaseException:
        discard(target)
        raise


def copy_into(source: Path, fd: int, target: Path) -> None:
    """Copy the bytes of `source` to the start of the open file `target`."""
    reader = open_to_read(source)
    try:
        with guarded("read", source):
            size = os.fstat(reader).st_size
        buffer = memoryview(bytearray(min(size, CHUNK)))
        for offset in range(0, size, CHUNK):
            part = buffer[: min(CHUNK, size - offset)]
            read_at(reader, offset, part, source)
            write_at(fd, offset, part, target)
    finally:
        os.close(reader)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    fd = open_to_read(path)
    try:
        with guarded("read", path):
            while chunk := os.read(fd, CHUNK):
                moves_on()
                digest.update(chunk)
    finally:
        os.close(fd)
    return digest.hexdigest()


def require(path: str) -> Path:
    """Return the path of an existing product.

    Raises
    ------
    MissingInputError
        If it does not exist, such as an input that a published folder knows by digest only.
    """
    if not path or not exists(Path(path)):
        raise MissingInputError(
            f"{path or 'an input of this step'}: no longer exists; reduce from the visit's own "
            f"folder"
        )
    return Path(path)
