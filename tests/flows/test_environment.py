"""Products do not depend on the user's environment: home, time zone, language, umask, hash seed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from schemas import ROOT
from tests.support.runs import Bench, differing

pytestmark = pytest.mark.slow

# a folder in which nobody can make another, root neither
READ_ONLY = "/proc/1"

CASES: dict[str, dict[str, str | None]] = {
    "no home": {"HOME": None, "XDG_CACHE_HOME": None, "DRP_WORK": None},
    "read-only home": {"HOME": READ_ONLY, "XDG_CACHE_HOME": None, "DRP_WORK": None},
    "half an hour off, with Turkish letters": {
        "TZ": "Asia/Kathmandu",
        "LANG": "tr_TR.UTF-8",
        "LC_ALL": "tr_TR.UTF-8",
    },
    "a notebook": {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MATPLOTLIBRC": str(ROOT / "LICENSE"),
        "PYTHONWARNINGS": "error",
        "PYTHONSTARTUP": str(ROOT / "LICENSE"),
        "NUMBA_OPT": "fast",
        "NUMBA_CACHE_DIR": READ_ONLY,
        "NUMBA_NUM_THREADS": "many",
        "OMP_NUM_THREADS": "many",
        "PREFECT_PROFILE": "of another",
    },
    "plain C locale, umask 077 and another hash seed": {
        "LANG": None,
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONHASHSEED": "4711",
    },
}


@pytest.mark.parametrize("case", CASES)
def test_the_environment_changes_no_byte(case: str, reduced: Bench, tmp_path: Path) -> None:
    bench = reduced.fresh(tmp_path)
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    for name, value in CASES[case].items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    arguments = bench.arguments("--engine", "plain")
    if "home" in case:
        at = arguments.index("--work")
        del arguments[at : at + 2]
    umask = 0o077 if "umask" in case else -1
    done = subprocess.run(
        [sys.executable, "-m", "flows.command.main", *arguments],
        cwd=ROOT,
        env=environment,
        umask=umask,
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert differing(Path(done.stdout.splitlines()[-1]), *reduced.published()) == []
    # where there is no home, that is said
    assert ("folder for intermediate products is not writable" in done.stderr) == ("home" in case)


def test_no_network_is_needed(reduced: Bench, tmp_path: Path) -> None:
    bench = reduced.fresh(tmp_path)
    alone = [shutil.which("unshare") or "", "--net", "--map-root-user"]
    if (
        not alone[0]
        or subprocess.run([*alone, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("a process cannot be taken off the network here")
    command = [
        *alone,
        sys.executable,
        "-m",
        "flows.command.main",
        *bench.arguments("--engine", "auto", "-q"),
    ]
    done = subprocess.run(
        command, cwd=ROOT, text=True, capture_output=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert differing(Path(done.stdout.splitlines()[-1]), *reduced.published()) == []


HEAVY = (
    "astropy",
    "matplotlib",
    "numba",
    "numpy",
    "photutils",
    "prefect",
    "pydantic",
    "scipy",
    "typst",
)

IMPORTS = """
import resource, sys
from flows.command.main import main
try:
    main(sys.argv[2:], prog_name="drp")
except SystemExit as end:
    code = end.code
seconds = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
with open(sys.argv[1], "w") as file:
    print(code, seconds, *(name for name in sys.modules if "." not in name), file=file)
"""


def imported(note: Path, *arguments: str, **environment: str) -> tuple[float, set[str]]:
    """Return processor seconds and imported packages of a run of `drp` that must end well."""
    command = [sys.executable, "-c", IMPORTS, str(note), *arguments]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    code, seconds, *names = note.read_text().split()
    assert code in ("0", "None"), done.stderr
    return float(seconds), set(names)


@pytest.mark.parametrize("command", [(), ("reduce",), ("simulate",), ("references",)])
def test_help_comes_at_once_and_imports_no_heavy_package(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    seconds, names = imported(tmp_path / "note", *command, "--help")
    assert names.isdisjoint(HEAVY)
    # processor time, so that other work on the machine does not count; a fifth of a second here
    assert seconds < 0.5


@pytest.mark.parametrize(
    "url", [None, "http://127.0.0.1:9/api"], ids=["no server named", "server does not answer"]
)
def test_without_a_server_prefect_is_never_imported(
    reduced: Bench, tmp_path: Path, url: str | None
) -> None:
    bench = reduced.copy(tmp_path)
    environment = {} if url is None else {"PREFECT_API_URL": url}
    _, names = imported(
        tmp_path / "note",
        *bench.arguments("-q", "--engine", "auto", "--from", "apertures"),
        **environment,
    )
    assert "astropy" in names
    assert "prefect" not in names
