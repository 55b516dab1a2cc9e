"""Code in the clothes of data: nothing is unpickled."""

from __future__ import annotations

import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas import ROOT
from tests.support.damage import (
    report_of,
)
from tests.support.faults import (
    Bench,
    replace,
)
from tests.support.runs import undrawn


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.mark), "w")


def test_what_lies_in_the_work_folder_is_never_unpickled(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(bench.work)  # the figures of the known report are drawn
    mark = tmp_path / "exploded"
    bomb = pickle.dumps(Bomb(mark))
    storage = tmp_path / "prefect" / "storage"
    storage.mkdir(parents=True)
    monkeypatch.setenv("PREFECT_HOME", str(storage.parent))
    first = bench.published().folder
    for path in [*bench.work.rglob("*.json"), *bench.work.rglob("*.fits"), storage / "result"]:
        replace(path, bomb)
        np.save(path.with_suffix(".npy"), np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    with undrawn():
        outcome = bench.run()
    assert outcome.code == 0, outcome.err
    assert outcome.folder == first  # all was made again, with the same bytes
    assert not mark.exists()
    pickle.loads(bomb).close()
    assert mark.exists()  # it would have


def test_a_replacement_that_is_a_pickle_or_an_array_of_objects_is_refused(
    bench: Bench, tmp_path: Path
) -> None:
    mark = tmp_path / "exploded"
    given = tmp_path / "flat.npy"
    np.save(given, np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    outcome = bench.refused(65, str(given), "is not a FITS file", more=("--replace", given))
    assert "replacement files, before the first step" in report_of(bench, outcome)
    assert not mark.exists()


def test_the_source_names_nothing_that_runs_data() -> None:
    forbidden = re.compile(
        r"\bpickle\b|allow_pickle\s*=\s*True|\beval\(|\bexec\(|yaml\.load\b|marshal|shelve|joblib"
    )
    sources = [
        p
        for folder in ("drp", "flows", "tasks", "schemas", "reference_data")
        for p in (ROOT / folder).rglob("*.py")
    ]
    assert len(sources) > 30
    hits = [
        f"{p.name}: {line.strip()}"
        for p in sources
        for line in p.read_text().splitlines()
        if forbidden.search(line)
    ]
    assert hits == []
