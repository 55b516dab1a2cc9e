"""What tests share: a tiny simulated visit, the default library, a reduced visit, and the outside
data where they are.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.support.outside import outside
from tests.support.runs import STEPS, Bench, executed

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["SOURCE_DATE_EPOCH"] = "1700000000"
os.environ["DRP_RETRY_DELAY"] = "0.01"

# the first example may compile a kernel, and CI machines are noisy
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

Drp = Callable[..., "subprocess.CompletedProcess[str]"]
MadeOnce = Callable[[str, Callable[[Path], None]], Path]


# one worker begins with a file that does not need the reduced visit, which the other makes at that
# time
LONGEST_FILES = (
    "test_flight_visits.py",
    "test_faults_storage.py",
    "test_settings.py",
    "test_deployments.py",
    "test_faults_reports.py",
    "test_faults_references.py",
    "test_faults_images.py",
    "test_rerun.py",
    "test_prefect.py",
    "test_pages.py",
    "test_report.py",
    "test_crash.py",
    "test_faults.py",
    "test_job.py",
    "test_environment.py",
    "test_validation.py",
    "test_neighbours.py",
    "test_flat.py",
    "test_up.py",
    "test_intake.py",
    "test_reprocess.py",
)


WHOLE_VISITS = {"tiny_visit", "visit", "reduced", "bench", "shared"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no worker is left with one at the end.

    Where kernels run as plain Python, which is for `make coverage` only, whole visits would take
    for ever: they are left out.
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


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Let fsync return at once in this process: a reduction calls it 400 times, and no power is cut
    here.

    That it is called, on what and in which order, is seen by the disk's hook; processes of their
    own do wait.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            os, "fsync", lambda fd: os.fstat(fd) and None
        )  # a descriptor that is none is still an error
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """Outside data beside the repository; tests that need them are skipped where they are not."""
    return outside()


@pytest.fixture(scope="session")
def made_once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Give a folder that all workers share; the first who asks for it makes what is in it, and the
    others wait for that.
    """
    root = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):  # a worker's folder lies in that of the session
        root = root.parent

    def made(name: str, make: Callable[[Path], None]) -> Path:
        folder, done = root / name, root / f"{name}.done"
        with open(root / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def tiny_visit(made_once: MadeOnce) -> Path:
    """A simulated visit of some images; read-only: copy it to change it."""
    from flows.simulate import simulate_into

    return (
        made_once("visit", lambda folder: simulate_into(folder / "tiny", "tiny", None, 1, None))
        / "tiny"
    )


@pytest.fixture(scope="session")
def library(own_folders: Path) -> Path:
    """The default reference library."""
    from reference_data.library import library_folder

    return library_folder()


@pytest.fixture(scope="session")
def reduced(tiny_visit: Path, library: Path, made_once: MadeOnce) -> Bench:
    """The tiny visit, reduced once; read-only: copy it to change it."""
    bench = Bench(tiny_visit, (library,), Path(), Path())

    def reduce(folder: Path) -> None:
        published, run = bench.fresh(folder).reduce()
        assert published is not None
        assert published.new
        assert executed(run) == STEPS

    return bench.fresh(made_once("reduced", reduce))


@pytest.fixture
def visit(tiny_visit: Path, tmp_path: Path) -> Path:
    """A copy of the tiny visit that a test may change."""
    return Path(shutil.copytree(tiny_visit, tmp_path / "visit"))


@pytest.fixture
def references(library: Path, tmp_path: Path) -> Path:
    """A copy of the default library that a test may change; files are hard links, so replace, don't
    write into them.
    """
    return Path(shutil.copytree(library, tmp_path / "references", copy_function=os.link))


@pytest.fixture
def drp(tmp_path: Path) -> Drp:
    """The command `drp` as a process: returns code, output and errors."""

    def run(
        *arguments: object, timeout: float = 300, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flows.command.main", *map(str, arguments)]
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
