"""Who may read what is published."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tasks.delivery.publication import MODES
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
