"""A run may be killed, stopped, raced or moved elsewhere at any point: nothing is lost, nothing partial is seen."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import Drp

STEPS = (
    "events", "bias", "gain", "linearity", "dark", "flat", "calibrate", "calibrate_imagettes", "pointing", "look",
    "calibration_stages", "background", "psf", "stars", "position", "smearing", "defects", "correction_stages", "correct",
    "apertures", "psf_fit", "contamination", "quality", "light_curves", "report",
)  # fmt: skip
PUBLICATION = ("before stage", "before manifest", "staged", "before rename", "after rename")


def contents(published: Path) -> dict[str, str]:
    """Return the digests of all files of a published folder but the manifest, which holds times."""
    files = (p for p in published.rglob("*") if p.is_file() and p.name != "manifest.json")
    return {str(p.relative_to(published)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start `drp reduce` under the plain engine."""
    command = [sys.executable, "-m", "flows.cli", "reduce", *map(str, arguments), "--engine", "plain"]
    return subprocess.Popen(
        command, env={**os.environ, **environment}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.fixture(scope="module")
def undisturbed(tiny_visit: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a run that nothing happens to publishes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    process = start(tiny_visit, "--output", folder / "out", "--work", folder / "work", "-q")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return contents(Path(output.splitlines()[-1]))


@pytest.mark.slow
def test_killed_in_every_step_the_visit_comes_out_as_if_nothing_had_happened(
    tiny_visit: Path, tmp_path: Path, drp: Drp, undisturbed: dict[str, str]
) -> None:
    options = ("reduce", tiny_visit, "--output", tmp_path / "out", "--work", tmp_path / "work", "--engine", "plain", "-q")
    for step in STEPS:
        run = drp(*options, DRP_CRASH_AT=f"within {step}")
        assert run.returncode == -signal.SIGKILL, (step, run.stderr)
        assert not any((tmp_path / "out").iterdir()), step
    run = drp(*options)
    assert run.returncode == 0, run.stderr
    assert contents(Path(run.stdout.splitlines()[-1])) == undisturbed


@pytest.mark.slow
def test_killed_while_it_publishes_a_result_is_invisible_or_complete(
    tiny_visit: Path, tmp_path: Path, drp: Drp, undisturbed: dict[str, str]
) -> None:
    work = tmp_path / "work"
    for number, point in enumerate(PUBLICATION):
        out = tmp_path / f"out{number}"
        options = ("reduce", tiny_visit, "--output", out, "--work", work, "--engine", "plain", "-q")
        run = drp(*options, DRP_CRASH_AT=point)
        assert run.returncode == -signal.SIGKILL, (point, run.stderr)
        visible = [p for p in out.iterdir() if not p.name.startswith(".")]
        assert [contents(p) for p in visible] == ([undisturbed] if point == "after rename" else []), point
        again = drp(*options)
        assert again.returncode == 0, again.stderr
        assert contents(Path(again.stdout.splitlines()[-1])) == undisturbed
        assert len(list(out.iterdir())) == 1, point  # the stage of the killed run is gone


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_a_run_cleanly(number: signal.Signals, code: int, tiny_visit: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(tiny_visit, "--output", out, "--work", tmp_path / "work")
    assert process.stderr is not None
    process.stderr.readline()  # the first step is done
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert sum(line.startswith("ERROR") for line in errors.splitlines()) == 1
    assert "Traceback" not in errors
    assert not any(out.iterdir())


@pytest.mark.slow
def test_of_two_runs_on_a_visit_one_works_and_the_other_is_told_so(tiny_visit: Path, tmp_path: Path) -> None:
    for number in range(4):
        options = (tiny_visit, "--output", tmp_path / f"out{number}", "--work", tmp_path / f"work{number}", "-q")
        racing = [start(*options) for _ in range(2)]
        answers = [process.communicate(timeout=120) for process in racing]
        codes = sorted(process.returncode for process in racing)
        # the second may come when the first is done: then it finds everything
        assert codes in ([0, 75], [0, 0]), answers
        assert len([p for p in (tmp_path / f"out{number}").iterdir() if p.name.startswith("CH_")]) == 1


@pytest.mark.slow
def test_a_run_that_waits_finds_everything_done(tiny_visit: Path, tmp_path: Path) -> None:
    options = (tiny_visit, "--output", tmp_path / "out", "--work", tmp_path / "work", "--wait")
    first = start(*options)
    assert first.stderr is not None
    first.stderr.readline()
    second = start(*options)
    folders = [process.communicate(timeout=120)[0].splitlines()[-1] for process in (first, second)]
    assert folders[0] == folders[1]
    assert [process.returncode for process in (first, second)] == [0, 0]


@pytest.mark.slow
def test_a_reader_sees_nothing_or_all(tiny_visit: Path, tmp_path: Path, undisturbed: dict[str, str]) -> None:
    out = tmp_path / "out"
    process = start(tiny_visit, "--output", out, "--work", tmp_path / "work", "-q")
    while process.poll() is None:
        for folder in out.glob("CH_*") if out.exists() else ():
            seen = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json"}
            assert seen == set(undisturbed)
            assert (folder / "manifest.json").is_file()
        time.sleep(0.005)
    process.communicate()
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "umask"),
    [({"HOME": ""}, None), ({"TZ": "Asia/Kathmandu", "LANG": "tr_TR.UTF-8"}, None), ({"LC_ALL": "C"}, 0o077)],
)
def test_the_environment_does_not_change_a_byte(
    environment: dict[str, str], umask: int | None, tiny_visit: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    before = os.umask(umask) if umask is not None else None
    try:
        process = start(tiny_visit, "--output", tmp_path / "out", "--work", tmp_path / "work", "-q", **environment)
        output, errors = process.communicate(timeout=120)
    finally:
        if before is not None:
            os.umask(before)
    assert process.returncode == 0, errors
    assert contents(Path(output.splitlines()[-1])) == undisturbed
