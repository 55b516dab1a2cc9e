"""Closed streams, deleted folders, odd names, few file handles: exit codes as documented."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import click
import pytest

from flows.command.options import Seconds
from flows.orders.intake import intake
from flows.references import read_time
from flows.runs.advice import explain
from flows.runs.ending import crash_file, describe_error, exit_code, read_seconds
from flows.runs.reduction import run_reduce
from schemas import ROOT
from schemas.errors import ConfigurationError, StorageError, shortage
from schemas.requests import ReduceRequest
from tasks.engine.folders import default_work_folder
from tasks.engine.run import StepReport
from tasks.files import disk
from tasks.numerics.times import now
from tests.support.faults import run_in_process
from tests.support.runs import Bench

COMMAND = [sys.executable, "-m", "flows.command.main"]


def started(
    folder: Path, *arguments: object, before: str = "", after: str = ""
) -> subprocess.CompletedProcess[str]:
    """Start the command from a shell in some folder, with shell commands before it."""
    line = f'{before} exec "$@" {after}'
    return subprocess.run(
        ["bash", "-c", line, "bash", *COMMAND, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        errors="surrogateescape",
        capture_output=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error_and_receive_nothing(closed: str, tmp_path: Path) -> None:
    done = started(tmp_path, "status", "--output", "none", "--work", "none", after=closed)
    assert done.returncode == 0
    assert "ERROR" not in done.stderr


@pytest.mark.slow
def test_a_daemon_without_streams_publishes(reduced: Bench, tmp_path: Path) -> None:
    bench = reduced.known(tmp_path)
    done = started(tmp_path, *bench.arguments("--engine", "plain"), after="<&- >&- 2>&-")
    assert done.returncode == 0
    assert len(bench.published()) == 1


@pytest.mark.slow
def test_from_a_deleted_folder_absolute_paths_work_and_relative_ones_are_refused(
    reduced: Bench, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    arguments = reduced.arguments("--engine", "plain", "--dry-run")
    done = started(gone, *arguments, before=f"rmdir {gone};")
    assert done.returncode == 0, done.stderr
    gone.mkdir()
    done = started(gone, "reduce", reduced.visit, before=f"rmdir {gone};")
    assert (done.returncode, done.stdout) == (74, "")
    assert done.stderr == "ERROR products: the working folder was deleted; use absolute paths\n"


@pytest.mark.parametrize("option", ["visit", "--output", "--work", "--references"])
def test_a_path_that_is_not_utf8_is_refused_in_ascii(option: str, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/latin_\xe9"))
    odd.mkdir()
    visit = odd if option == "visit" else tmp_path
    outcome = run_in_process("reduce", visit, *([] if option == "visit" else [option, odd]))
    assert outcome.code == 65
    assert outcome.error.endswith("/latin_\\udce9: is not UTF-8; rename the folder or file")


def test_a_command_in_a_folder_that_is_not_utf8_works_with_absolute_paths(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/latin_\xe9"
    os.mkdir(odd)
    folder = Path(os.fsdecode(odd))
    done = started(folder, "status", "--json", "--output", tmp_path, "--work", tmp_path)
    assert (done.returncode, json.loads(done.stdout)) == (0, []), done.stderr
    done = started(folder, "status", "--json", "--work", tmp_path)
    assert done.returncode == 65
    assert "latin_\\udce9/products: is not UTF-8" in done.stderr


@pytest.mark.slow
def test_with_too_few_file_handles_a_run_may_be_tried_again(reduced: Bench, tmp_path: Path) -> None:
    bench = reduced.fresh(tmp_path)
    done = started(tmp_path, *bench.arguments("--engine", "plain"), before="ulimit -n 6;")
    assert done.returncode == 75, done.stderr
    assert "too many open files, the limit is 6 (ulimit -n)" in done.stderr


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.EMFILE, "x"), "too many open files, the limit is"),
        (OSError(errno.ENFILE, "x"), "too many open files on this machine"),
        (ImportError("libx.so: cannot open shared object file: Too many open files"), "too many"),
        (BlockingIOError(errno.EAGAIN, "fork"), "no further process or thread can be started"),
        (RuntimeError("can't start new thread"), "no further process or thread can be started"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_what_runs_out_is_named_also_if_another_error_follows(error: Exception, text: str) -> None:
    assert shortage(error).startswith(text)
    assert describe_error(error, None)[0] == 75
    following = ValueError("this file has no content")
    following.__context__ = error
    assert shortage(following).startswith(text)
    assert shortage(ValueError("a bug")) == ""
    assert str(resource.getrlimit(resource.RLIMIT_NOFILE)[0]) in shortage(OSError(errno.EMFILE, ""))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_disk_that_fails_a_library_is_named_and_no_bug_of_ours(number: int) -> None:
    error = OSError(number, os.strerror(number), "/cache/kernel")
    text = f"reading or writing failed, /cache/kernel: {os.strerror(number)}"
    following = RuntimeError("cannot save")
    following.__context__ = error
    for each in (error, following):
        assert describe_error(each, None) == (74, text)
        assert exit_code(each) == 74
        assert explain(each, "")[0] == "reading or writing failed"
    assert describe_error(OSError(number, os.strerror(number)), None)[1].endswith(
        os.strerror(number)
    )


@pytest.mark.slow
@pytest.mark.parametrize("part", [".", "products"])
def test_a_work_folder_deleted_in_mid_run_is_named_and_no_input_blamed(
    reduced: Bench, tmp_path: Path, part: str
) -> None:
    bench = reduced.known(tmp_path)

    def delete(step: str, report: StepReport | None) -> None:
        if step == "apertures" and report is None:
            shutil.rmtree(bench.work / part)

    request = ReduceRequest(
        visit=bench.visit,
        references=bench.references,
        output=bench.output,
        work=bench.work,
        from_step="apertures",
    )
    with pytest.raises(StorageError, match="the work folder was deleted during the run") as caught:
        run_reduce(request, "plain", delete)
    assert str(caught.value).startswith(str(bench.work))
    assert list(bench.output.iterdir()) == []


def test_a_crash_file_is_new_private_and_below_the_work_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRP_WORK", str(tmp_path / "usual"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for folder, place in ((tmp_path / "work", "work"), (None, "usual"), (Path("/proc/1"), "usual")):
        path = Path(crash_file(ValueError("caf\udce9"), folder))
        assert path.parent == tmp_path / place
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "ValueError: caf\\udce9" in path.read_text()
    assert len({p.name for p in tmp_path.rglob("drp-crash-*")}) == 3

    def full(action: str, path: str) -> None:
        if action == "write" and path.startswith(str(tmp_path / "work")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(disk, "fault_hook", full)  # no empty file is left there
    path = Path(crash_file(ValueError("full"), tmp_path / "work"))
    assert path.parent == tmp_path / "usual"
    assert len({p.name for p in tmp_path.rglob("drp-crash-*")}) == 4


@pytest.mark.parametrize(
    "text",
    ["2020-13-45", "2020-02-30T00:00:00", "0000-00-00", "٢٠٢٠-01-01", "now", "2020-01-01T25"],
)
def test_a_day_that_does_not_exist_is_a_usage_error(text: str) -> None:
    assert run_in_process("references", "--at", text).code == 2
    assert read_time("2020-02-29") == "2020-02-29T00:00:00"
    assert read_time("2020-02-29T12:00:00.5") == "2020-02-29T12:00:00.5"


def test_numbers_of_options_and_variables_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("nan", "inf", "-1", "1e9", "x"):
        with pytest.raises(click.BadParameter):
            Seconds(0.0).convert(text, None, None)
        monkeypatch.setenv("DRP_RETRY_DELAY", text)
        with pytest.raises(ConfigurationError, match="DRP_RETRY_DELAY is "):
            read_seconds("DRP_RETRY_DELAY", 1.0)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "9" * 30)
    with pytest.raises(ConfigurationError, match="SOURCE_DATE_EPOCH is 9"):
        now()


def test_the_work_folder_of_a_home_that_is_not_utf8_is_a_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/latin_\xe9")
    os.mkdir(odd)
    monkeypatch.setenv("DRP_WORK", odd)
    with pytest.raises(
        ConfigurationError, match=r"DRP_WORK is .*latin_\\udce9, which is not UTF-8"
    ):
        default_work_folder(lambda _: None)
    monkeypatch.delenv("DRP_WORK")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", odd)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    warnings: list[str] = []
    assert default_work_folder(warnings.append).parent == tmp_path
    assert len(warnings) == 1


def test_an_order_whose_name_is_not_utf8_is_put_away_under_an_escaped_name(tmp_path: Path) -> None:
    order = os.fsdecode(os.fsencode(tmp_path) + b"/order_\xe9.xml")
    Path(order).write_text("<Ipf_Job_Order></Ipf_Job_Order>")
    (outcome,) = intake(tmp_path, lambda _order, _lock: 78, settle=0)
    assert (outcome.order, outcome.state) == ("order_\\udce9.xml", "failed")
    assert (tmp_path / "failed" / outcome.order).exists()
