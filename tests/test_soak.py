"""The soak itself: the same seed spoils in the same way, and nothing that escapes is missed."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tasks.files import disk
from tests.soak.documents import spoil_json, spoil_order
from tests.soak.mutants import ABSURD, DAMAGE, spoil
from tests.soak.stage import Ended, begin, escapes, finish
from tests.support.small_product import astropy_hdus, write_astropy


@pytest.mark.parametrize("ways", [DAMAGE, ABSURD], ids=["damage", "absurd"])
def test_a_file_is_spoiled_by_the_seed_alone(tmp_path: Path, ways: tuple[object, ...]) -> None:
    path = tmp_path / "whole.fits"
    write_astropy(path, astropy_hdus())
    for seed in range(12):
        one, other = tmp_path / "one" / path.name, tmp_path / "other" / path.name
        done = []
        for copy in (one, other):
            shutil.rmtree(copy.parent, ignore_errors=True)
            copy.parent.mkdir()
            shutil.copyfile(path, copy)
            done.append(spoil(copy, np.random.default_rng(seed), ways))  # type: ignore[arg-type]
        assert done[0] == done[1]
        if one.is_file():
            assert one.read_bytes() == other.read_bytes()


def test_documents_are_spoiled_by_the_seed_alone() -> None:
    text = json.dumps({"manifest": 1, "steps": [{"step": "bias", "key": "0"}]}, indent=1)
    order = '<a>\n<b>one</b>\n<c count="2">two</c>\n</a>'
    for spoiled, whole in ((spoil_json, text), (spoil_order, order)):
        first = [spoiled(whole, np.random.default_rng(seed)) for seed in range(40)]
        assert first == [spoiled(whole, np.random.default_rng(seed)) for seed in range(40)]
        assert len({content for content, _ in first}) > 10


def fail() -> int:
    """Fail as only a defect of ours does."""
    raise ValueError("ours")


def kill_itself() -> int:
    """Die of a signal."""
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


@pytest.mark.parametrize(
    ("work", "wrong"),
    [
        (lambda: 0, []),
        (lambda: 65, []),
        (lambda: 143, []),
        (lambda: 70, ["exit code 70"]),
        (lambda: 1, ["exit code 1"]),
        (kill_itself, ["exit code -9"]),
        (fail, ["exit code 70", "traceback"]),
    ],
)
def test_every_end_that_is_not_documented_escapes(
    tmp_path: Path, work: Callable[[], int], wrong: list[str]
) -> None:
    log = tmp_path / "log"
    assert escapes(finish(begin(work, log), log)) == wrong


def test_partial_publications_and_leftovers_escape(tmp_path: Path) -> None:
    folder = tmp_path / "CH_PR900001_TG000101_V0000"
    folder.mkdir()
    fine = Ended(0, "")
    assert "has no manifest" in escapes(fine, tmp_path)[0]
    (folder / "a.fits").write_text("a")
    entry = {"name": "a.fits", "sha256": disk.sha256(folder / "a.fits")}
    (folder / "manifest.json").write_text(json.dumps({"files": [entry]}))
    assert escapes(fine, tmp_path) == []
    (folder / "a.fits").write_text("b")
    (folder / "b.fits").touch()
    (tmp_path / ".x.part").touch()
    assert escapes(fine, tmp_path) == [
        "leftover .x.part",
        f"partial publication: {folder.name}/b.fits",
        f"partial publication: {folder.name}/a.fits",
    ]
