"""Who may read what is published, and how long publications wait for each other."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.delivery import publication
from tasks.delivery.publication import MODES
from tasks.engine.folders import folder_lock
from tests.support.runs import Bench


def modes(folder: Path) -> set[tuple[bool, int]]:
    """Return the permissions of a folder and all in it, and whether they are those of folders."""
    return {(p.is_dir(), stat.S_IMODE(p.stat().st_mode)) for p in (folder, *folder.rglob("*"))}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("access", "umask", "expected"),
    [
        ("umask", 0o022, (0o750, 0o640)),
        ("umask", 0o077, (0o700, 0o600)),
        ("owner", 0o022, MODES["owner"]),
        ("all", 0o077, MODES["all"]),
    ],
)
def test_the_setting_decides_who_may_read_products_archive_and_new_output_folder(
    reduced: Bench, tmp_path: Path, access: str, umask: int, expected: tuple[int, int]
) -> None:
    bench = reduced.known(tmp_path)
    before = os.umask(umask)
    try:
        bench.reduce(settings={"publication": {"access": access}}, archive=True)
    finally:
        os.umask(before)
    assert modes(bench.output) == {(True, expected[0]), (False, expected[1])}
    assert len(list(bench.output.glob("*.tgz"))) == 1


@pytest.mark.slow
def test_the_lock_of_the_output_folder_is_held_for_the_name_only(
    reduced: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[tuple[float, list[str]]] = []

    @contextmanager
    def timed(folder: Path) -> Iterator[None]:
        with folder_lock(folder):
            began = time.process_time()
            stages = [p.name.split(".")[1] for p in folder.iterdir()]
            yield
            held.append((time.process_time() - began, stages))

    monkeypatch.setattr(publication, "folder_lock", timed)
    bench = reduced.known(tmp_path)
    # another visit is being published by another machine
    other = bench.output / ".CH_PR900001_TG000999.elsewhere.1.0123abcd.stage"
    other.mkdir(parents=True)
    bench.reduce(archive=True)
    ((seconds, stages),) = held
    assert seconds < 0.05  # of a publication that takes a second
    assert sorted(stages) == ["CH_PR900001_TG000101", "CH_PR900001_TG000999"]
    assert bench.hidden() == [other.name]
