"""The environment of compiled kernels: their cache, and one thread for each library.

`tasks/__init__.py` settles it, so that every way in passes here, before numba is imported: the
command, workers, notebooks, tests. numba compiles a kernel again if its own file changes, but not
if a kernel that it calls from another file does. The cache is therefore a folder for each state
of all files with kernels.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.machinery
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from threadpoolctl import threadpool_limits

from schemas import ROOT
from schemas.errors import DrpError

# visits, or blocks of images, run in parallel instead
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

CACHE = "NUMBA_CACHE_DIR"

KERNEL = re.compile(rb"^@(inner_)?njit\(", re.MULTILINE)

# constants that kernels import from files without kernels
CONSTANTS = ("schemas/flags.py",)


def settle() -> None:
    """Set the threads of libraries and the folder of compiled kernels."""
    imported = "numba" in sys.modules
    if imported:
        forgive_cache(sys.modules[CACHING])
    elif not any(isinstance(finder, AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, AfterImport())
    for name in THREADS:
        if name != "NUMBA_NUM_THREADS" or not imported:  # numba refuses another number later
            os.environ[name] = "1"
    if "numpy" in sys.modules:  # which has read the environment already, such as in a notebook
        threadpool_limits(1)
    folder = cache_folder()
    if folder is None:
        os.environ.pop(CACHE, None)
        do_without_cache()
        return
    os.environ[CACHE] = str(folder)
    if imported:
        sys.modules["numba"].config.CACHE_DIR = str(folder)


def cache_folder() -> Path | None:
    """Return the folder of compiled kernels; None if none is writable.

    It lies in NUMBA_CACHE_DIR, else beside the code, else in the default work folder.
    """
    name = f"kernels-{source_digest()}"
    if named := os.environ.get(CACHE):
        given = Path(os.path.abspath(named))
        folder = given if given.name == name else given / name
        if _can_be_written(folder):
            return folder
    beside = ROOT / "tasks" / "__pycache__" / name
    if _can_be_written(beside):
        return beside
    from tasks.engine.folders import default_work_folder

    with contextlib.suppress(DrpError):
        folder = default_work_folder(lambda _: None) / "numba" / name
        return folder if _can_be_written(folder) else None
    return None


def kernel_sources() -> list[Path]:
    """Return the files that hold kernels."""
    return [p for p in sorted((ROOT / "tasks").rglob("*.py")) if KERNEL.search(p.read_bytes())]


def source_digest() -> str:
    """Return a digest of all files with kernels."""
    digest = hashlib.sha256()
    for path in (*kernel_sources(), *(ROOT / name for name in CONSTANTS)):
        digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def is_cold() -> bool:
    """Return whether no kernel has been compiled yet."""
    folder = os.environ.get(CACHE)
    return not folder or not any(Path(folder).rglob("*.nbc"))


def do_without_cache() -> None:
    """Let numba compile in memory only: it raises an error where it cannot write a cache."""
    from numba.core.dispatcher import Dispatcher

    setattr(Dispatcher, "enable_caching", lambda _self: None)  # noqa: B010  it is a method


CACHING = "numba.core.caching"


class AfterImport:
    """Prepares numba's cache when it is imported; to import it for that would take too long."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of the module with the cache, None for all others."""
        if name != CACHING:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        loader: Any = spec.loader if spec is not None else None
        if loader is not None:
            execute = loader.exec_module

            def prepared(module: ModuleType) -> None:
                execute(module)
                forgive_cache(module)

            loader.exec_module = prepared
        return spec


def forgive_cache(caching: Any) -> None:
    """Let a kernel be compiled in memory if its cache is damaged, or the disk is full.

    Numba would raise the error, which would end the reduction. A damaged index is replaced.
    """
    cache = caching.Cache
    if getattr(cache, "is_forgiving", False):
        return
    load, save = cache.load_overload, cache.save_overload

    def load_or_compile(self: Any, *arguments: Any) -> Any:
        try:
            return load(self, *arguments)
        except Exception:  # of whatever kind damaged bytes cause
            with contextlib.suppress(Exception):
                self.flush()
            return None

    def save_if_possible(self: Any, *arguments: Any) -> None:
        with contextlib.suppress(Exception):
            save(self, *arguments)

    cache.load_overload, cache.save_overload = load_or_compile, save_if_possible
    cache.is_forgiving = True


def _can_be_written(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return os.access(folder, os.W_OK | os.X_OK)
