"""Hidden folders being written: only those of processes that have ended are removed."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from tasks.engine.folders import ABANDONED_SECONDS, is_abandoned, remove_abandoned, staging
from tasks.files import disk

HOST = disk.host()


@pytest.fixture(scope="module")
def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def stage(folder: Path, label: str, age: float = 0.0, name: str = "CH_X") -> Path:
    path = folder / f".{name}.{label}.0123abcd.stage"
    path.mkdir()
    (path / "file").write_text("content")
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_a_stage_has_a_name_of_its_own_and_is_gone_unless_it_was_renamed(tmp_path: Path) -> None:
    with staging(tmp_path, "CH_X") as one, staging(tmp_path, "CH_X") as other:
        assert one != other
        assert one.name.startswith(f".CH_X.{HOST}.{os.getpid()}.")
        (one / "file").write_text("content")
        one.rename(tmp_path / "published")
    assert [p.name for p in tmp_path.iterdir()] == ["published"]
    assert (tmp_path / "published" / "file").read_text() == "content"


def test_what_a_process_may_still_be_writing_is_left_alone(tmp_path: Path, gone: int) -> None:
    kept = [
        stage(tmp_path, f"{HOST}.{os.getpid()}"),
        stage(tmp_path, f"elsewhere.{gone}"),
        stage(tmp_path, f"elsewhere.{gone}", ABANDONED_SECONDS - 60, "CH_X.Y"),
        stage(tmp_path, f"{HOST}.{gone}", 10 * ABANDONED_SECONDS, "CH_Y"),
        tmp_path / ".CH_X.stage",
    ]
    kept[-1].mkdir()
    remove_abandoned(tmp_path, "CH_X")
    assert sorted(tmp_path.iterdir()) == sorted(kept)


@pytest.mark.parametrize(("host", "age"), [(HOST, 0.0), ("elsewhere", ABANDONED_SECONDS + 60)])
def test_what_a_killed_process_left_is_removed(
    tmp_path: Path, gone: int, host: str, age: float
) -> None:
    stage(tmp_path, f"{host}.{gone}", age)
    remove_abandoned(tmp_path, "CH_X")
    assert list(tmp_path.iterdir()) == []


def test_a_stage_that_is_locked_belongs_to_another_container(tmp_path: Path, gone: int) -> None:
    path = stage(tmp_path, f"{HOST}.{gone}")
    lock = "import fcntl, os, sys, time; f = os.open(sys.argv[1], os.O_RDONLY); "
    lock += "fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); time.sleep(60)"
    with subprocess.Popen(["python3", "-c", lock, path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert not is_abandoned(path)
        process.kill()
    assert is_abandoned(path)
