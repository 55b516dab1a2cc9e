"""What tests share: a tiny simulated visit, the default library, a reduced visit, and the outside data where they are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.outside import outside
from tests.runs import STEPS, Bench, executed

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["SOURCE_DATE_EPOCH"] = "1700000000"
os.environ["DRP_RETRY_DELAY"] = "0.01"

# the first example may compile a kernel, and CI machines are noisy
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

Drp = Callable[..., "subprocess.CompletedProcess[str]"]


LONGEST_FILES = (
    "test_faults_storage.py", "test_deployments.py", "test_prefect.py", "test_flight_visits.py", "test_rerun.py",
    "test_faults_data.py",
)  # fmt: skip


WHOLE_VISITS = {"tiny_visit", "visit", "reduced", "bench", "shared"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no worker is left with one at the end.

    Where kernels run as plain Python, which is for `make coverage` only, whole visits would take for ever: they are left out.
    """
    rank = {name: i for i, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":
        whole = [item for item in items if WHOLE_VISITS & set(getattr(item, "fixturenames", ()))]
        config.hook.pytest_deselected(items=whole)
        items[:] = [item for item in items if item not in whole]


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the pipeline's and Prefect's folders of this session away from the user's."""
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRP_WORK", str(folder))
        patch.setenv("PREFECT_HOME", str(folder / "prefect"))
        patch.delenv("PREFECT_API_URL", raising=False)
        yield folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """Outside data beside the repository; tests that need them are skipped where they are not."""
    return outside()


@pytest.fixture(scope="session")
def tiny_visit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated visit of some images; read-only: copy it to change it."""
    from flows.simulate import simulate_into

    folder = tmp_path_factory.mktemp("visit") / "tiny"
    simulate_into(folder, "tiny", None, 1, None)
    return folder


@pytest.fixture(scope="session")
def library(own_folders: Path) -> Path:
    """The default reference library."""
    from reference_data.library import library_folder

    return library_folder()


@pytest.fixture(scope="session")
def reduced(tiny_visit: Path, library: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The tiny visit, reduced once; read-only: copy it to change it."""
    bench = Bench(tiny_visit, (library,), Path(), Path()).fresh(tmp_path_factory.mktemp("reduced"))
    published, run = bench.reduce()
    assert published is not None
    assert published.new
    assert executed(run) == STEPS
    return bench


@pytest.fixture
def visit(tiny_visit: Path, tmp_path: Path) -> Path:
    """A copy of the tiny visit that a test may change."""
    return Path(shutil.copytree(tiny_visit, tmp_path / "visit"))


@pytest.fixture
def references(library: Path, tmp_path: Path) -> Path:
    """A copy of the default library that a test may change; files are hard links, so replace, don't write into them."""
    return Path(shutil.copytree(library, tmp_path / "references", copy_function=os.link))


@pytest.fixture
def drp(tmp_path: Path) -> Drp:
    """The command `drp` as a process: returns code, output and errors."""

    def run(*arguments: object, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flows.cli", *map(str, arguments)]
        return subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, **environment},
            text=True,
            capture_output=True,
            timeout=timeout,
            check=False,
        )

    return run


def raw_file(folder: Path, kind: str) -> Path:
    """Return the only file of a kind below a folder, by part of its name."""
    found = sorted(folder.rglob(f"*{kind}*.fits"))
    assert len(found) == 1, found
    return found[0]
