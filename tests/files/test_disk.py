"""The disk layer: every call can fail, and then nothing is lost and nothing partial stands
there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas import ROOT
from schemas.errors import (
    BadInputError,
    BusyError,
    CannotCreateError,
    ConfigurationError,
    DrpError,
    MissingInputError,
    StorageError,
)
from tasks.files import disk
from tests.support.disk_faults import fail_every_call, failing, faults, listing


@faults
@pytest.mark.parametrize("older", [True, False])
def test_a_file_is_written_whole_or_not_at_all(
    code: int, for_good: bool, older: bool, tmp_path: Path
) -> None:
    path = tmp_path / "record.json"
    if older:
        path.write_bytes(b"older")
    assert (
        fail_every_call(lambda: disk.write_file(path, b"newer"), tmp_path, code, for_good)
        == 5 + older
    )
    assert listing(tmp_path) == {"record.json": b"newer"}


@faults
def test_a_copy_is_whole_or_not_there(code: int, for_good: bool, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"content" * 1000)
    calls = fail_every_call(
        lambda: disk.copy_file(source, tmp_path / "target"), tmp_path, code, for_good
    )
    assert calls == 6
    assert (tmp_path / "target").read_bytes() == source.read_bytes()


def test_files_are_forced_to_the_disk_before_they_get_their_name_and_the_folder_after(
    tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    disk.write_file(tmp_path / "record.json", b"x")
    assert calls == [
        ("create", "record.json"),
        ("write", "record.json"),
        ("fsync", "record.json"),
        ("rename", "record.json"),
        ("fsync", tmp_path.name),
    ]


def test_a_system_without_hard_links_keeps_the_new_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*args: object, **options: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no hard links")

    path = tmp_path / "record.json"
    path.write_bytes(b"older")
    monkeypatch.setattr(os, "link", no_link)
    disk.fault_hook = lambda action, name: fail_folder(action, name, tmp_path)
    with pytest.raises(StorageError, match="fsync failed"):
        disk.write_file(path, b"newer")
    assert listing(tmp_path) == {"record.json": b"newer"}


def fail_folder(action: str, name: str, folder: Path) -> None:
    if action == "fsync" and name == str(folder):
        raise OSError(errno.EIO, "fsync")


def test_a_full_disk_in_the_middle_of_a_write_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(b"older")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (1000, hard)
    )  # Python ignores SIGXFSZ, so that the write fails
    try:
        with pytest.raises(StorageError, match="write failed, File too large") as caught:
            disk.write_file(path, bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.permanent
    assert listing(tmp_path) == {"record.json": b"older"}


def test_no_two_processes_share_the_name_of_a_temporary_file(tmp_path: Path) -> None:
    names = {disk.partial_name(tmp_path / "a").name for _ in range(100)}
    assert len(names) == 100  # processes on two machines may have the same number
    host = os.uname().nodename.split(".")[0][:32]
    assert all(n.startswith(f".a.{host}") and f".{os.getpid()}." in n for n in names)


def test_nothing_is_written_through_a_link_that_stands_in_the_place_of_a_new_file(
    tmp_path: Path,
) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "new").symlink_to(tmp_path / "victim")
    with pytest.raises(CannotCreateError, match="new: cannot be created, File exists"):
        disk.create(tmp_path / "new")
    disk.write_file(tmp_path / "new", b"x")  # replaces the link, not what it points to
    assert listing(tmp_path) == {"victim": b"precious", "new": b"x"}
    assert not (tmp_path / "new").is_symlink()


@pytest.mark.parametrize("place", ["file/x", "missing/x", "folder", "n" * 300])
def test_a_place_where_nothing_can_be_created_is_refused_as_such(
    place: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(CannotCreateError, match=f"{place[-9:]}: cannot be created") as caught:
        disk.write_file(tmp_path / place, b"x")
    assert caught.value.exit_code == 73
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_folders_are_made_with_their_parents_once_and_again(tmp_path: Path) -> None:
    disk.make_folder(tmp_path / "a" / "b")
    disk.make_folder(tmp_path / "a" / "b")
    (tmp_path / "a" / "file").touch()
    with pytest.raises(CannotCreateError, match="file: cannot be created, File exists"):
        disk.make_folder(tmp_path / "a" / "file")
    with pytest.raises(CannotCreateError, match="c: cannot be created, Not a directory"):
        disk.make_folder(tmp_path / "a" / "file" / "c")


def test_removing_takes_files_folders_and_links_but_not_what_links_point_to(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "x").touch()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "file").touch()
    for name in ("link", "tree", "file", "never there"):
        disk.remove(tmp_path / name)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["kept", "x"]


def test_a_folder_with_content_is_never_replaced(tmp_path: Path) -> None:
    for name in ("stage", "published"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text(name)
    with pytest.raises(
        CannotCreateError, match="published: cannot be created, Directory not empty"
    ):
        disk.rename(tmp_path / "stage", tmp_path / "published")
    assert (tmp_path / "published" / "x").read_text() == "published"


def test_a_failing_close_is_told_and_the_descriptor_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = disk.create(tmp_path / "a")
    close = os.close

    def bad_close(number: int) -> None:
        close(number)
        raise OSError(errno.EDQUOT, "quota")

    monkeypatch.setattr(os, "close", bad_close)
    with pytest.raises(StorageError, match="fsync failed, Disk quota exceeded") as caught:
        disk.sync_and_close(fd, tmp_path / "a")
    monkeypatch.undo()
    assert caught.value.permanent
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_writing_nothing_is_no_call(tmp_path: Path, calls: list[tuple[str, str]]) -> None:
    disk.write_at(-1, 0, b"", tmp_path)
    assert calls == []


@pytest.mark.parametrize("size", [0, 1, disk.CHUNK, disk.CHUNK + 1])
def test_what_was_written_is_read(size: int, tmp_path: Path) -> None:
    content = bytes(i % 251 for i in range(1000)) * (size // 1000 + 1)
    disk.write_file(tmp_path / "a", content[:size])
    disk.copy_file(tmp_path / "a", tmp_path / "b")
    assert disk.read_bytes(tmp_path / "b") == content[:size]
    assert disk.read_bytes(tmp_path / "b", limit=size) == content[:size]
    assert disk.sha256(tmp_path / "a") == disk.sha256(tmp_path / "b")


def test_the_digest_is_the_published_one(tmp_path: Path) -> None:
    disk.write_file(tmp_path / "a", b"abc")
    # FIPS 180-4, example of SHA-256
    assert (
        disk.sha256(tmp_path / "a")
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


@pytest.mark.timeout(20)
@pytest.mark.parametrize("read", [disk.read_bytes, disk.sha256, disk.open_to_read])
@pytest.mark.parametrize(
    "kind", ["fifo", "folder", "device", "absent", "loop", "below a file", "too long"]
)
def test_what_is_not_a_file_is_missing_and_never_hangs(
    kind: str, read: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / "x"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "below a file":
        path.touch()
        path = path / "y"
    elif kind == "too long":
        path = tmp_path / ("n" * 300)
    with pytest.raises(
        MissingInputError,
        match=rf"{path.name}: (is not a regular file|no such file|cannot be opened)",
    ) as caught:
        read(path)
    assert caught.value.exit_code == 66


def test_more_than_the_limit_is_refused_also_where_the_size_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(11))
    with pytest.raises(BadInputError, match="a: is larger than 10 bytes"):
        disk.read_bytes(tmp_path / "a", limit=10)
    with pytest.raises(BadInputError, match="status: is larger than 10 bytes"):
        disk.read_bytes(Path("/proc/self/status"), limit=10)  # a regular file of 0 bytes


def test_a_file_that_became_shorter_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(10))
    fd = disk.open_to_read(tmp_path / "a")
    with pytest.raises(StorageError, match="a: read failed, the file became shorter") as caught:
        disk.read_at(fd, 5, memoryview(bytearray(6)), tmp_path / "a")
    os.close(fd)
    assert not caught.value.permanent


@pytest.mark.parametrize("read", [disk.read_bytes, disk.sha256])
def test_a_transient_fault_passes_on_the_second_try(
    read: Callable[[Path], object], tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    for number in (1, 2):
        disk.fault_hook = failing(number, errno.EIO, for_good=False)
        with pytest.raises(StorageError, match="a: read failed, Input/output error") as caught:
            read(tmp_path / "a")
        assert not caught.value.permanent
        assert read(tmp_path / "a")


@pytest.mark.parametrize(
    ("code", "action", "kind", "exit_code"),
    [
        (errno.ENOENT, "read", MissingInputError, 66),
        (errno.EACCES, "read", MissingInputError, 66),
        (errno.EIO, "read", StorageError, 74),
        (errno.EMFILE, "read", BusyError, 75),
        (errno.ENFILE, "create", BusyError, 75),
        (errno.EROFS, "create", CannotCreateError, 73),
        (errno.EACCES, "create", CannotCreateError, 73),
        (errno.ENOENT, "create", CannotCreateError, 73),
        (errno.ENOSPC, "create", StorageError, 74),
        (errno.EDQUOT, "write", StorageError, 74),
        (errno.EROFS, "rename", CannotCreateError, 73),
        (errno.ENOENT, "rename", StorageError, 74),
        (errno.EIO, "rename", StorageError, 74),
        (errno.EIO, "unlink", StorageError, 74),
    ],
)
def test_system_errors_have_the_exit_code_of_what_was_done(
    code: int, action: str, kind: type[DrpError], exit_code: int
) -> None:
    error = disk.explain(OSError(code, "x"), action, Path("folder/name"))
    assert type(error) is kind
    assert error.exit_code == exit_code
    assert str(error).startswith("folder/name: ")


def test_an_error_without_a_number_says_what_it_has() -> None:
    assert (
        str(disk.explain(OSError("timed out"), "write", Path("a"))) == "a: write failed, timed out"
    )


@pytest.mark.parametrize(("name", "code"), [("here", -signal.SIGKILL), ("elsewhere", 0)])
def test_a_crash_point_kills_where_it_is_asked_for(name: str, code: int) -> None:
    command = [sys.executable, "-c", "from tasks.files import disk; disk.crash_point('here')"]
    assert (
        subprocess.run(
            command, cwd=ROOT, env={**os.environ, "DRP_CRASH_AT": name}, check=False
        ).returncode
        == code
    )


# ---- a call that does not come back


def watched(limit: float) -> tuple[list[str], threading.Event, Any]:
    """Watch the disk calls of this process.

    Return the errors it reports, an event set by the first of them, and how to end it.
    """
    errors: list[str] = []
    heard = threading.Event()

    def give_up(error: StorageError) -> None:
        errors.append(str(error))
        heard.set()

    return errors, heard, disk.watch(limit, give_up)


def test_a_call_that_hangs_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"some")
    errors, heard, end = watched(0.1)
    monkeypatch.setattr(disk, "fault_hook", lambda action, path: heard.wait(20))
    assert disk.read_bytes(tmp_path / "file") == b"some"  # it goes on once the error is reported
    end()
    assert errors == [f"{tmp_path / 'file'}: read has not returned for 0.1 s, giving up"]


def test_a_long_call_whose_parts_come_back_does_not_hang(tmp_path: Path) -> None:
    errors, heard, end = watched(1.0)
    with disk.guarded("write", tmp_path):
        for _ in range(30):
            time.sleep(0.05)
            disk.moves_on()
    end()
    assert not heard.is_set(), errors


def test_a_call_within_another_gives_it_a_new_start(tmp_path: Path) -> None:
    errors, heard, end = watched(1.0)
    with disk.guarded("write", tmp_path):
        for _ in range(30):
            time.sleep(0.05)
            with disk.guarded("read", tmp_path):
                pass
    end()
    assert not heard.is_set(), errors
    disk.moves_on()  # outside of any call it means nothing


def test_a_lock_is_for_one_alone_or_for_all_that_share_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    one, other = disk.open_lock(path), disk.open_lock(path)
    assert disk.try_lock(one, path)
    assert not disk.try_lock(other, path)
    assert not disk.try_lock(other, path, shared=True)
    disk.close(one)
    assert disk.try_lock(other, path, shared=True)
    one = disk.open_lock(path)
    assert disk.try_lock(one, path, shared=True)
    assert not disk.try_lock(one, path)
    disk.close(other)
    disk.wait_for_lock(one, path)
    disk.close(one)


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSYS, ConfigurationError, "flock fails, Function not implemented; mount the file"),
        (errno.ENOLCK, ConfigurationError, "flock fails, No locks available; mount the file"),
        (errno.EIO, StorageError, "lock failed, Input/output error"),
    ],
)
def test_a_file_system_without_locks_is_named_with_the_mount_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[DrpError], words: str
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    path = tmp_path / "lock"
    fd = disk.open_lock(path)
    try:
        with pytest.raises(kind, match=f"{path}: {words}"):
            disk.try_lock(fd, path)
    finally:
        disk.close(fd)
