"""The environment of kernels: a cache for each state of the sources, and none where none can be."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from schemas import ROOT
from tasks import kernels

# a folder in which nobody can make another, root neither
READ_ONLY = "/proc/1"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sources, at which `kernels` looks."""
    for house in ("tasks", "schemas"):
        shutil.copytree(
            ROOT / house, tmp_path / house, ignore=shutil.ignore_patterns("__pycache__")
        )
    monkeypatch.setattr(kernels, "ROOT", tmp_path)
    monkeypatch.delenv(kernels.CACHE, raising=False)
    return tmp_path


def test_a_changed_kernel_has_another_cache_and_other_changes_have_not(checkout: Path) -> None:
    before = kernels.cache_folder()
    assert before is not None
    assert before.parent == checkout / "tasks" / "__pycache__"
    step = checkout / "tasks" / "calibration" / "bias.py"
    step.write_text(step.read_text() + "\n# a step without kernels\n")
    assert kernels.cache_folder() == before
    # `calibrate_images`, in another file, calls it
    called = checkout / "tasks" / "visit" / "linearity_curve.py"
    called.write_text(called.read_text().replace("6.0 *", "7.0 *"))
    assert kernels.cache_folder() != before


def test_a_named_cache_is_used_and_not_nested_by_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(kernels.CACHE, str(tmp_path))
    folder = kernels.cache_folder()
    assert folder is not None
    assert folder.parent == tmp_path
    monkeypatch.setenv(kernels.CACHE, str(folder))
    assert kernels.cache_folder() == folder


def test_what_nobody_can_write_gives_way_to_the_work_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(kernels.CACHE, READ_ONLY)
    monkeypatch.setenv("DRP_WORK", str(tmp_path / "work"))
    monkeypatch.setattr(kernels, "_can_be_written", lambda f: f.is_relative_to(tmp_path / "work"))
    folder = kernels.cache_folder()
    assert folder is not None
    assert folder.parent == tmp_path / "work" / "numba"
    monkeypatch.setattr(kernels, "_can_be_written", lambda _: False)
    assert kernels.cache_folder() is None


WITHOUT_CACHE = """
import os
os.access = lambda *_, **__: False
from tasks.numerics.geometry import circle_overlap
print(os.environ.get("NUMBA_CACHE_DIR"), os.environ["OPENBLAS_NUM_THREADS"])
print(circle_overlap((4, 4), 2.0, 2.0, 1.0).sum())
"""


def run_python(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter of its own, as a notebook does."""
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=ROOT, env=environment, text=True, capture_output=True, check=False
    )


@pytest.mark.slow  # an interpreter that compiles
def test_a_notebook_without_any_folder_compiles_in_memory() -> None:
    environment = {**os.environ, "HOME": READ_ONLY, "DRP_WORK": f"{READ_ONLY}/work"}
    environment |= {kernels.CACHE: READ_ONLY, "OPENBLAS_NUM_THREADS": "4"}
    done = run_python(WITHOUT_CACHE, environment)
    assert done.returncode == 0, done.stderr
    first, area = done.stdout.splitlines()
    assert first == "None 1"
    assert float(area) == pytest.approx(np.pi, rel=1e-12)


NUMPY_FIRST = """
import numpy  # reads OPENBLAS_NUM_THREADS
import tasks
from threadpoolctl import threadpool_info
print(*(pool["num_threads"] for pool in threadpool_info()))
"""


def test_a_notebook_that_imports_numpy_first_has_one_thread_too() -> None:
    """Sums of matrix products depend on the number of threads, and results on them."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        environment.pop(name, None)
    done = run_python(NUMPY_FIRST, environment)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {"1"}


DAMAGED_CACHE = """
import os, sys
from tasks.numerics.geometry import circle_overlap
def full(*_):
    raise OSError(28, os.strerror(28))
if "full" in sys.argv:
    os.replace = full  # the last call of numba that can meet a full disk
print(circle_overlap((4, 4), 2.0, 2.0, 1.0).sum())
"""


@pytest.mark.slow  # interpreters that compile
def test_a_full_disk_or_a_damaged_cache_costs_time_only(tmp_path: Path) -> None:
    environment = {**os.environ, kernels.CACHE: str(tmp_path)}

    def area(*how: str) -> tuple[float, list[Path]]:
        done = subprocess.run(
            [sys.executable, "-c", DAMAGED_CACHE, *how],
            cwd=ROOT,
            env=environment,
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        indices = [p for p in tmp_path.rglob("*.nbi") if p.stat().st_size]
        return float(done.stdout), indices

    assert area("full") == (pytest.approx(np.pi, rel=1e-12), [])
    wanted = area()
    assert wanted[1] != []
    for path in wanted[1]:
        path.write_bytes(b"")  # as after a power cut
    assert area() == wanted


def imported_from(tree: ast.Module) -> dict[str, str]:
    """Return the files of the house from which names are imported."""
    return {
        alias.asname or alias.name: f"{node.module.replace('.', '/')}.py"
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
        if node.module.startswith(("tasks.", "schemas."))
    }


def used_by_kernels(tree: ast.Module) -> set[str]:
    """Return the names in the bodies of kernels, annotations excepted."""
    return {
        node.id
        for function in tree.body
        if isinstance(function, ast.FunctionDef)
        and any("njit" in ast.unparse(d) for d in function.decorator_list)
        for statement in function.body
        for node in ast.walk(statement)
        if isinstance(node, ast.Name)
    }


def test_all_that_kernels_use_from_other_files_is_part_of_the_digest() -> None:
    known = {p.relative_to(ROOT).as_posix() for p in kernels.kernel_sources()}
    known |= set(kernels.CONSTANTS)
    assert len(known) > 15
    for path in kernels.kernel_sources():
        tree = ast.parse(path.read_text())
        used, imported = used_by_kernels(tree), imported_from(tree)
        outside = {imported[name] for name in used & imported.keys()} - known
        assert outside == set(), path


def inner_kernels() -> set[str]:
    """Return the names of kernels that have no entry from Python."""
    return {
        function.name
        for path in kernels.kernel_sources()
        for function in ast.parse(path.read_text()).body
        if isinstance(function, ast.FunctionDef)
        and any("inner_njit" in ast.unparse(d) for d in function.decorator_list)
    }


def test_a_kernel_without_entry_is_called_by_kernels_only() -> None:
    inner = inner_kernels()
    assert "_sum_stamp" in inner
    folders = ("tasks", "flows", "reference_data", "tests", "benchmarks", "docs")
    for path in (p for folder in folders for p in (ROOT / folder).rglob("*.py")):
        for part in ast.parse(path.read_text()).body:
            if isinstance(part, ast.FunctionDef) and any(
                "njit" in ast.unparse(d) for d in part.decorator_list
            ):
                continue
            named = {n.id for n in ast.walk(part) if isinstance(n, ast.Name)}
            named |= {n.attr for n in ast.walk(part) if isinstance(n, ast.Attribute)}
            assert named & inner == set(), path
