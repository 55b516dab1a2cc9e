"""Every form of the command on folders and files that cannot be used: an exit code and a line that
names the path, never an internal error.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas import ROOT
from tasks.files import disk
from tests.support.faults import Outcome, run_in_process
from tests.support.orders import Order


def link_to(path: Path, target: str) -> Path:
    path.symlink_to(target)
    return path


def make_fifo(root: Path) -> Path:
    os.mkfifo(root / "fifo")
    return root / "fifo"


def make_socket(root: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(root / "socket"))
    return root / "socket"


def make_file(root: Path) -> Path:
    (root / "file").write_text("x")
    return root / "file"


def make_loop(root: Path) -> Path:
    link_to(root / "loop", "pool")
    return link_to(root / "pool", "loop")


# places that cannot be used as a folder, nor as a file of any use
KINDS: dict[str, Callable[[Path], Path]] = {
    "a name of 300 characters": lambda root: root / ("x" * 300),
    "a path of 5000 characters": lambda root: root.joinpath(*["y" * 99] * 50),
    "a path through a file": lambda root: make_file(root) / "below",
    "a loop of links": make_loop,
    "a path through a loop of links": lambda root: make_loop(root) / "below",
    "a link that leads nowhere": lambda root: link_to(root / "dangling", "/nonexistent/place"),
    "a file": make_file,
    "a pipe": make_fifo,
    "a socket": make_socket,
    "a device": lambda _: Path("/dev/null"),
    "a name that is not text": lambda root: make_file(root).rename(root / "file\udcff") / "below",
}

# arguments of the command; BAD is the place, EMPTY a folder without files, VISIT a visit
FORMS = (
    "reduce BAD --output OUT --work WORK --engine plain",
    "reduce EMPTY --output BAD --work WORK --engine plain",
    "reduce EMPTY --output OUT --work BAD --engine plain",
    "reduce VISIT --output OUT --work BAD --engine plain --until events",
    "reduce VISIT --output OUT --work WORK --engine plain --references BAD",
    "reduce VISIT --output OUT --work WORK --engine plain --replace BAD",
    "reduce VISIT --output OUT --work WORK --engine plain --settings BAD",
    "reprocess BAD --work WORK --dry-run",
    "reprocess EMPTY --references BAD --work WORK --dry-run",
    "reprocess EMPTY --visits BAD --work WORK --dry-run",
    "check BAD",
    "show BAD",
    "diff BAD EMPTY",
    "diff BAD BAD",
    "explain BAD --image 0",
    "explain BAD --image 0 --pixel 1 1",
    "status BAD --output OUT --work WORK",
    "status --output BAD --work WORK",
    "status --output OUT --work BAD",
    "status VISIT --output OUT --work WORK --references BAD",
    "references BAD",
    "clean --work BAD --older 1d",
    "job BAD",
    "job ORDER --log BAD",
    "intake BAD --once --settle 0",
    "simulate BAD --case tiny --images 1",
    "simulate OUT --case BAD/case.toml",
    "validate --case BAD/case.toml --output OUT",
    "validate --case BAD --output OUT",
    "validate --case tiny --images 1 --output BAD",
)

# 0: nothing was asked of the place, or a folder that does not exist yet has nothing to report
CODES = (0, 2, 65, 66, 73, 74, 78)


@pytest.fixture
def places(tiny_visit: Path, tmp_path: Path) -> dict[str, Path]:
    """The places that are not bad."""
    (tmp_path / "empty").mkdir()
    order = Order(tmp_path)
    order.path.write_text("no order")
    return {
        "VISIT": tiny_visit,
        "EMPTY": tmp_path / "empty",
        "OUT": tmp_path / "out",
        "WORK": tmp_path / "work",
        "ORDER": order.path,
    }


def arguments(form: str, places: dict[str, Path], bad: Path) -> list[str]:
    """Return the arguments of a form of the command."""
    named = {**{name: str(path) for name, path in places.items()}, "BAD": str(bad)}
    words = []
    for word in form.split():
        head, slash, tail = word.partition("/")
        words.append(f"{named.get(head, head)}{slash}{tail}")
    return words


def check(form: str, outcome: Outcome) -> None:
    assert outcome.code in CODES, (form, outcome.code, outcome.err)
    assert "Traceback" not in outcome.err
    assert "internal error" not in outcome.err + outcome.out
    if outcome.code and not form.startswith("job"):  # whose lines have a form of their own
        assert outcome.error.isprintable()


@pytest.mark.parametrize("kind", KINDS)
def test_a_place_that_cannot_be_used_is_no_internal_error(
    kind: str, places: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "bad").mkdir()
    bad = KINDS[kind](tmp_path / "bad")
    for form in FORMS:
        check(form, run_in_process(*arguments(form, places, bad)))
        shutil.rmtree(places["WORK"], ignore_errors=True)
    assert not places["OUT"].exists() or list(places["OUT"].iterdir()) == []


@pytest.mark.parametrize("code", ["EACCES", "EIO", "ESTALE"])
def test_a_folder_that_cannot_be_entered_is_no_internal_error(
    code: str, places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    bad, number = tmp_path / "bad", getattr(errno, code)
    (bad / "below").mkdir(parents=True)

    def refuse(_action: str, path: str) -> None:
        if Path(path).is_relative_to(bad):
            raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(disk, "fault_hook", refuse)
    monkeypatch.setenv("DRP_RETRY_DELAY", "0")
    for form in FORMS:
        outcome = run_in_process(*arguments(form, places, bad / "below"))
        check(form, outcome)
        if outcome.code and code == "EIO":
            assert outcome.code in (2, 66, 74, 78), (form, outcome.err)
        shutil.rmtree(places["WORK"], ignore_errors=True)


NOBODY = 65534

_EACH_FORM = """
import json, sys
from tests.support.faults import run_in_process
outcomes = [run_in_process(*arguments) for arguments in json.loads(sys.argv[1])]
print(json.dumps([[o.code, o.out, o.err] for o in outcomes]))
"""


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder that only root may enter, within one that every user may read."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root, by the command setpriv, can run a command as another user")
    root = Path(tempfile.mkdtemp(prefix="drp-closed-"))
    root.chmod(0o777)
    (root / "closed" / "below").mkdir(parents=True)
    (root / "closed").chmod(0o700)
    yield root / "closed" / "below"
    shutil.rmtree(root)


@pytest.mark.slow  # an interpreter of its own
def test_a_folder_of_another_user_is_no_internal_error(closed: Path) -> None:
    root = closed.parent.parent
    (root / "empty").mkdir()
    places = {name: root / name.lower() for name in ("OUT", "WORK", "ORDER")}
    places |= {"VISIT": root / "empty", "EMPTY": root / "empty"}
    lists = [arguments(form, places, bad) for bad in (closed, closed.parent) for form in FORMS]
    lists = [a for a in lists if a[0] not in ("simulate", "validate") or a[1] != str(root / "out")]
    environment = {
        **os.environ,
        "HOME": "/nonexistent",
        "DRP_WORK": str(root / "work"),
        "NUMBA_CACHE_DIR": str(root / "numba"),
    }
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    result = subprocess.run(
        [*become, sys.executable, "-c", _EACH_FORM, json.dumps(lists)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if "PermissionError" in result.stderr or "No module named" in result.stderr:
        pytest.skip(f"{sys.executable} or {ROOT} lies where other users may not read")
    assert result.returncode == 0, result.stderr
    for words, (code, out, err) in zip(lists, json.loads(result.stdout), strict=True):
        check(" ".join(words), Outcome(code, out, err))
