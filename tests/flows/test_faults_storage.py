"""A failing disk: all or nothing is published, older products stay, and the exit code is right."""

from __future__ import annotations

import copy
import ctypes
import errno
import hashlib
import os
import pickle
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import flows.command.main
import flows.command.progress
import flows.runs.reduction
from schemas import ROOT
from schemas.payloads import Inventory
from tasks.calibration import dark_scale
from tasks.delivery.report import report
from tasks.files import disk
from tasks.scene import field_fluxes, psf
from tasks.scene import psf_rounds as psf_first
from tasks.visit.inventory import take_inventory
from tests.support.faults import Bench, Outcome, fill_disk, tree
from tests.support.runs import STEPS
from tests.support.runs import Bench as Reduced

NOBODY = 65534

BECOME_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


@pytest.fixture(scope="module")
def warm(reduced: Reduced, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The reduced visit: all steps done in the work folder, a publication beside the older one."""
    bench = Bench(reduced.visit, tmp_path_factory.mktemp("warm"))
    shutil.copytree(reduced.work, bench.work)
    assert " done " not in bench.published().err
    return bench


@pytest.fixture
def bench(warm: Bench, tmp_path: Path) -> Bench:
    """The visit with a copy of that work folder, and an output folder of its own."""
    new = Bench(warm.visit, tmp_path)
    shutil.copytree(warm.work, new.work, copy_function=os.link)
    return new


def product(bench: Bench) -> dict[str, str]:
    """Return the digests of the published files, without the manifest, which contains durations."""
    return {k: v for k, v in tree(bench.output).items() if "_V0001" in k and "manifest" not in k}


@pytest.fixture(scope="module")
def right(warm: Bench) -> dict[str, str]:
    """What should have been published."""
    return product(warm)


# ---- 47, 48, 50: no room

MOUNT = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a small file system in memory, with options such as size=400k."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir()
        if MOUNT.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, options.encode()) != 0:
            pytest.skip(
                f"a file system cannot be mounted here ({os.strerror(ctypes.get_errno())}); "
                f"that needs root"
            )
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        assert MOUNT.umount2(bytes(folder), 2) == 0


def with_output(bench: Bench, folder: Path) -> Bench:
    """Move the output folder, with the older product, elsewhere."""
    shutil.move(bench.output, folder / "out")
    bench.output = folder / "out"
    return bench


@pytest.mark.parametrize("size", ["40k", "400k", "5m", "9m"])
def test_a_full_output_disk_leaves_what_was_there(
    bench: Bench, right: Any, small_disk: Any, size: str
) -> None:
    room = small_disk(f"size={size}")
    with_output(bench, room)
    outcome = bench.refused(74, str(bench.output), "No space left on device")
    assert "published" not in outcome.err
    if size == "400k":  # what was done is not lost
        with_output(bench, bench.root)
        outcome = bench.published()
        assert " done " not in outcome.err
        assert product(bench) == right


@pytest.mark.parametrize("size", ["100k", "4m"])
def test_a_full_work_disk_publishes_nothing_and_is_said(
    bench: Bench, small_disk: Any, size: str
) -> None:
    bench.work = small_disk(f"size={size}") / "work"
    bench.refused(74, str(bench.work), "No space left on device")


@pytest.mark.parametrize("limit", [10_000, 700_000, 3_000_000])
@pytest.mark.parametrize("place", ["work", "output"])
def test_a_file_that_may_not_grow_ends_the_run_cleanly(
    bench: Bench, limit: int, place: str
) -> None:
    # Python ignores SIGXFSZ, so that the write fails with EFBIG
    if place == "work":
        shutil.rmtree(bench.work)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        bench.refused(74, str(bench.work if place == "work" else bench.output), "File too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_without_free_inodes_leaves_what_was_there(bench: Bench, small_disk: Any) -> None:
    with_output(bench, small_disk("nr_inodes=20"))
    bench.refused(74, str(bench.output), "No space left on device")


def test_a_work_disk_without_free_inodes_publishes_nothing(bench: Bench, small_disk: Any) -> None:
    bench.work = small_disk("nr_inodes=30") / "work"
    bench.refused(74, str(bench.work), "No space left on device")


@pytest.mark.parametrize("ending", [".pdf", ".html"])
def test_without_room_for_report_or_viewer_nothing_is_published(
    bench: Bench, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(monkeypatch, ending=ending)
    bench.refused(74, "RPT_COR_DataReduction", "No space left on device")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_an_answer_that_nobody_can_read_harms_no_product(
    bench: Bench, right: Any, stream: str
) -> None:
    command = [sys.executable, "-m", "flows.command.main", *bench.arguments()]
    with open("/dev/full", "w") as full:
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: full}
        result = subprocess.run(command, cwd=ROOT, text=True, check=False, **pipes)
    assert product(bench) == right
    if stream == "stdout":
        assert result.returncode == 74
        bench.check_refusal(
            Outcome(74, "", result.stderr), 74, "standard output: write failed", str(bench.output)
        )
    else:
        assert result.returncode == 0
        assert result.stdout.strip() == str(bench.output / "CH_PR900001_TG000101_V0001")


def test_a_reader_that_goes_away_is_no_error(bench: Bench) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "flows.command.main", "references"]
    result = subprocess.run(
        command, cwd=ROOT, text=True, check=False, stdout=write, stderr=subprocess.PIPE
    )
    os.close(write)
    assert (result.returncode, result.stderr) == (0, "")


# ---- 64: not enough memory


def with_memory(bench: Bench, megabytes: int) -> subprocess.CompletedProcess[str]:
    """Reduce in a process that may have so much address space."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))

    command = [sys.executable, "-m", "flows.command.main", *bench.arguments()]
    return subprocess.run(
        command, cwd=ROOT, text=True, check=False, capture_output=True, preexec_fn=limit
    )


def test_without_the_memory_that_is_needed_a_run_does_not_begin(bench: Bench) -> None:
    shutil.rmtree(bench.work)
    before = tree(bench.output)
    result = with_memory(bench, 800)
    outcome = Outcome(result.returncode, "", result.stderr)
    bench.check_refusal(
        outcome,
        75,
        f"not enough memory: needs {flows.runs.reduction.NEEDED_MB} MB",
        "the limit is 800 MB",
    )
    assert tree(bench.output) == before
    assert not (bench.work / "reports").exists()


@pytest.mark.parametrize("megabytes", [600, 640])  # ends within dark, within the PSF
def test_where_memory_ends_in_mid_run_nothing_is_published_and_trying_again_may_help(
    bench: Bench, megabytes: int, right: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(bench.work)  # all steps run again
    before = tree(bench.output)
    code = (
        "import flows.runs.reduction, flows.command.main; "
        "flows.runs.reduction.check_memory = lambda: None; "
        "flows.command.main.main()"
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))

    command = [sys.executable, "-c", code, *bench.arguments()]
    result = subprocess.run(
        command, cwd=ROOT, text=True, check=False, capture_output=True, preexec_fn=limit
    )
    # how much is enough depends on the libraries; what is never seen is another code, or half a
    # product
    if result.returncode == 0:
        assert product(bench) == right
        return
    bench.check_refusal(Outcome(result.returncode, "", result.stderr), 75, "not enough memory")
    assert tree(bench.output) == before
    assert not (bench.work / "reports").exists()


def test_with_the_memory_that_is_needed_a_run_comes_to_its_end(bench: Bench, right: Any) -> None:
    shutil.rmtree(bench.work)
    result = with_memory(bench, flows.runs.reduction.NEEDED_MB)
    assert result.returncode == 0, result.stderr
    assert product(bench) == right


# ---- 52: a file system that does not answer

HANGING = """
import sys, time
from tasks.files import disk
from flows.command.main import main

action, part = sys.argv[1:3]
del sys.argv[1:3]
disk.fault_hook = lambda a, path: time.sleep(1000) if a == action and part in path else None
main()
"""


def hanging(
    bench: Bench, action: str, part: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run where one kind of disk call on some files never comes back."""
    command = [sys.executable, "-c", HANGING, action, part, *bench.arguments()]
    variables = {**os.environ, "DRP_STORAGE_TIMEOUT": "2", **environment}
    return subprocess.run(
        command, cwd=ROOT, text=True, check=False, capture_output=True, env=variables, timeout=120
    )


def test_an_input_on_a_file_system_that_hangs_ends_the_run(bench: Bench) -> None:
    shutil.rmtree(bench.work)  # the inputs are read again
    before = tree(bench.output)
    result = hanging(bench, "read", "SCI_RAW_SubArray")
    bench.check_refusal(
        Outcome(result.returncode, "", result.stderr),
        74,
        "SCI_RAW_SubArray",
        "read has not returned for 2 s, giving up",
    )
    assert tree(bench.output) == before


@pytest.mark.parametrize("action", ["fsync", "rename"])
def test_a_publication_that_hangs_is_not_seen_and_the_next_run_makes_up_for_it(
    bench: Bench, right: Any, action: str
) -> None:
    before = sorted(p.name for p in bench.output.glob("CH_*"))
    result = hanging(bench, action, str(bench.output))
    assert result.returncode == 74, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("ERROR ")]
    assert f"{action} has not returned for 2 s, giving up" in line
    assert "Traceback" not in result.stderr
    assert sorted(p.name for p in bench.output.glob("CH_*")) == before
    assert bench.run().code == 0
    assert product(bench) == right
    assert bench.scratch() == []


def test_a_time_that_is_none_is_refused(bench: Bench) -> None:
    result = hanging(bench, "none", "none", DRP_STORAGE_TIMEOUT="soon")
    assert result.returncode == 78
    assert "DRP_STORAGE_TIMEOUT is 'soon', expected seconds" in result.stderr


# ---- 49: an output folder that is none


@pytest.fixture
def nobodys(tiny_visit: Path) -> Iterator[Bench]:
    """The visit in a folder that any user may read, and nobody may write to the output."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root, by the command setpriv, can run a command as another user")
    importing = [*BECOME_NOBODY, sys.executable, "-c", "import flows.command.main"]
    if subprocess.run(importing, cwd=ROOT, capture_output=True, check=False).returncode:
        pytest.skip(f"{sys.executable} or {ROOT} lies where other users may not read")
    root = Path(tempfile.mkdtemp(prefix="drp-nobody-"))
    root.chmod(0o755)
    shutil.copytree(tiny_visit, root / "visit")
    bench = Bench(root / "visit", root)
    bench.work.mkdir(mode=0o777)
    for path in (root / "visit").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for path in (root / "visit", bench.work):
        path.chmod(0o777)
    yield bench
    shutil.rmtree(root)


def as_nobody(bench: Bench, *more: object) -> Outcome:
    """Run the command as a user who has nothing, not even a home."""
    environment = {**os.environ, "DRP_WORK": str(bench.work), "HOME": "/nonexistent"}
    for name in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):
        environment.pop(name, None)
    command = [*BECOME_NOBODY, sys.executable, "-m", "flows.command.main", *bench.arguments(*more)]
    result = subprocess.run(
        command, cwd=ROOT, env=environment, text=True, capture_output=True, check=False
    )
    return Outcome(result.returncode, result.stdout, result.stderr)


@pytest.mark.slow  # an interpreter each
@pytest.mark.parametrize("case", ["not ours", "read-only", "cannot be made"])
def test_an_output_folder_that_cannot_be_written_to_is_said_at_once(
    nobodys: Bench, case: str
) -> None:
    if case == "read-only":
        for path in (nobodys.output, *nobodys.output.iterdir()):
            os.chown(path, NOBODY, NOBODY)
        nobodys.output.chmod(0o555)
    if case == "cannot be made":
        nobodys.output = nobodys.output / "deeper" / "still"
    before = tree(nobodys.root / "out")
    outcome = as_nobody(nobodys)
    nobodys.check_refusal(outcome, 73, str(nobodys.output))
    assert "events" not in outcome.err
    assert tree(nobodys.root / "out") == before
    check_report_of_the_output(nobodys, outcome)


def check_report_of_the_output(bench: Bench, outcome: Outcome) -> None:
    """Assert that the ERROR line points to a report about the output folder."""
    text = bench.work / "reports" / "PR900001_TG000101.txt"
    error, report = outcome.error.removeprefix("ERROR ").split("; report: ")
    assert report.startswith(f"{text}; ")
    for word in (
        "a file or folder cannot be created",
        f"Why\n  {error}\n",
        "  output folder, before the first step; nothing was",
        f"  requested: {bench.visit}\n",
        "the account running drp may write there",
    ):
        assert word in text.read_text(), word


# compiles the kernels of a step, for there is no cache that this user could read and write
@pytest.mark.slow
def test_a_user_without_a_home_who_may_not_write_to_the_program_can_reduce_what_may_be_opened(
    nobodys: Bench,
) -> None:
    nobodys.output.chmod(0o777)
    (nobodys.visit / "lost").mkdir(mode=0o700)
    outcome = as_nobody(nobodys, "--until", "events")
    assert outcome.code == 0, outcome.err
    assert "stopped after events without publishing" in outcome.err
    assert any((nobodys.work / "numba").rglob("*inspect_images*"))
    nobodys.visit.chmod(0o700)
    outcome = as_nobody(nobodys)
    nobodys.check_refusal(
        outcome, 66, f"{nobodys.visit}: cannot be opened, Permission denied; the account that "
    )


@pytest.mark.parametrize("where", ["itself", "its parent"])
def test_a_file_in_place_of_the_output_folder_is_named(bench: Bench, where: str) -> None:
    path = bench.root / "file"
    path.write_text("not a folder")
    bench.output = path if where == "itself" else path / "out"
    outcome = bench.run()
    bench.check_refusal(outcome, 73, str(path))
    assert path.read_text() == "not a folder"
    check_report_of_the_output(bench, outcome)
    pdf = bench.work / "reports" / "PR900001_TG000101.pdf"
    assert outcome.error.endswith(f"; as PDF: {pdf}")
    assert pdf.read_bytes().startswith(b"%PDF")
    path.unlink()
    assert bench.run().code == 0
    assert list((bench.work / "reports").iterdir()) == []


def test_an_output_folder_that_is_not_there_is_made(bench: Bench) -> None:
    bench.output = bench.root / "a" / "new" / "folder"
    assert bench.run().folder.parent == bench.output


def test_when_all_processing_numbers_are_taken_that_is_said(bench: Bench) -> None:
    for number in range(100):
        (bench.output / f"CH_PR900001_TG000101_V00{number:02d}").mkdir(exist_ok=True)
    bench.refused(73, str(bench.output), "no free processing number")


# ---- 51: any single call of the disk


@dataclass
class Fault:
    """Fails calls of the disk layer within one phase of a run: the `at`-th, or from it on all."""

    phase: str = ""
    at: int = -1
    lasting: bool = False
    error: int = errno.EIO
    now: str = "inventory"
    counts: dict[str, int] = field(default_factory=dict)
    calls: list[tuple[str, int, str]] = field(default_factory=list)

    def __call__(self, action: str, path: str) -> None:
        """Take the place of `disk.fault_hook`."""
        if path.endswith(".lock"):
            self.now = "start"
        if action == "stat":  # looks at places: their number depends on what other runs have left
            return
        count = self.counts[self.now] = self.counts.get(self.now, 0) + 1
        self.calls.append((self.now, count, action))
        if self.met:
            raise OSError(self.error, os.strerror(self.error))

    @property
    def met(self) -> bool:
        """Whether the fault is on now."""
        here = self.counts.get(self.phase, 0)
        return here >= self.at > 0 if self.lasting else self.now == self.phase and here == self.at


@contextmanager
def faulty(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inject a fault into a run, in a phase: a step, or the time before, between or after steps."""
    report_step = flows.command.progress.Progress.__call__

    def follow(self: Any, step: str, report: Any) -> None:
        fault.now = step if report is None else "publication" if step == "report" else "between"
        report_step(self, step, report)

    with monkeypatch.context() as patch:
        patch.setattr(flows.command.progress.Progress, "__call__", follow)
        patch.setattr(disk, "fault_hook", fault)
        yield


@pytest.fixture(scope="module")
def known(warm: Bench) -> Inventory:
    """The inventory of the visit, so that runs that fail later need not take it."""
    taken: list[Inventory] = []

    def take(*given: Any) -> Inventory:
        taken.append(take_inventory(*given))
        return taken[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flows.runs.reduction, "take_inventory", take)
        assert warm.run().code == 0
    return taken[0]


def calls_of(
    run: Callable[[], Outcome], monkeypatch: pytest.MonkeyPatch
) -> list[tuple[str, int, str]]:
    """Return the calls of an undisturbed run: phase, number in it, action."""
    listen = Fault()
    with faulty(listen, monkeypatch):
        assert run().code == 0
    return listen.calls


def some(
    calls: list[tuple[str, int, str]], phase: str, reads: int, others: int
) -> list[tuple[int, str]]:
    """Return a sample of the calls of a phase, with the first and last call of each action."""
    chosen: dict[int, str] = {}
    for action in dict.fromkeys(a for p, _, a in calls if p == phase):
        numbers = [n for p, n, a in calls if (p, a) == (phase, action)]
        stride = reads if action == "read" else others
        chosen |= dict.fromkeys([*numbers[::stride], numbers[-1]], action)
    return sorted(chosen.items())


# steps read and write by the same functions: of this one many calls fail, of the others a few
CLOSELY = "bias"


def trials(calls: list[tuple[str, int, str]], step: str) -> list[tuple[int, str, bool]]:
    """Return which calls of a step fail: number, action, and whether for good.

    Of each action the first call fails for once and the last for good.
    """
    if step == CLOSELY:
        chosen = some(calls, step, 20, 3)
        return [(n, action, lasting) for n, action in chosen for lasting in (False, True)]
    numbers: dict[str, list[int]] = {}
    for phase, number, action in calls:
        if phase == step:
            numbers.setdefault(action, []).append(number)
    return [
        trial
        for action, made in numbers.items()
        for trial in ((made[0], action, False), (made[-1], action, True))
    ]


def check(bench: Bench, outcome: Outcome, before: dict[str, str], right: Any) -> None:
    """Assert that a run left nothing or everything, and said which."""
    new = bench.output / "CH_PR900001_TG000101_V0001"
    if outcome.code != 0:
        bench.check_refusal(outcome, outcome.code)
        assert outcome.code in (73, 74), outcome.err
    if new.exists():  # also if something failed after the publication
        assert product(bench) == right
        assert (new / "manifest.json").is_file()
        shutil.rmtree(new)
    assert tree(bench.output) == before
    assert bench.scratch() == []


@pytest.mark.slow
@pytest.mark.parametrize("lasting", [False, True], ids=["for once", "for good"])
def test_no_single_call_of_the_inventory_can_fail_unnoticed(
    bench: Bench, right: Any, lasting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> Outcome:
        return bench.run("--dry-run")

    calls = calls_of(run, monkeypatch)
    before = tree(bench.output)
    for number, action in some(calls, "inventory", 200, 4):
        with faulty(Fault("inventory", number, lasting), monkeypatch):
            outcome = run()
        check(bench, Outcome(outcome.code, "", outcome.err), before, right)
        if lasting:
            assert outcome.code == 74, (number, action, outcome.err)
        elif action == "read":
            assert outcome.code == 0, (number, outcome.err)  # tried again


def remembered(work: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that knows the result where it has been given the same before."""
    known: dict[bytes, Any] = {}

    def done(*given: Any, **named: Any) -> Any:
        key = hashlib.sha256(pickle.dumps((given, named))).digest()
        if key not in known:
            known[key] = work(*given, **named)
        return copy.deepcopy(known[key])

    return done


# what takes long and makes no call of the disk, by step: the step's many runs need not do it again
LONG = {
    "dark": [(dark_scale, "clipped_mean")],
    "psf_1": [(psf, "tidied"), (psf_first, "fit_factors")],
    "stars": [(field_fluxes, "fit_factors")],
    "psf": [(psf, "tidied")],
    "report": [
        (report, f"draw_{name}") for name in ("light_curve", "all", "levels", "scene", "maps")
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_no_single_call_of_a_step_can_fail_unnoticed(
    bench: Bench, right: Any, known: Inventory, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows.runs.reduction, "take_inventory", lambda *_: known)
    for module, name in LONG.get(step, []):
        monkeypatch.setattr(module, name, remembered(getattr(module, name)))
    (record,) = (bench.work / "records").rglob(f"{step}-*.json")
    content = record.read_bytes()

    def run() -> Outcome:
        record.unlink(missing_ok=True)
        return bench.run("--until", step)

    calls = calls_of(run, monkeypatch)
    if step in LONG:  # no call is left out where that is not done again
        one, other = (
            [c for c in each if c[0] == step] for each in (calls, calls_of(run, monkeypatch))
        )
        assert one == other
    made = record.read_bytes()
    before = tree(bench.output)
    assert {a for p, _, a in calls if p == step} >= {"read", "create", "write", "fsync", "rename"}
    for number, action, lasting in trials(calls, step):
        with faulty(Fault(step, number, lasting), monkeypatch):
            outcome = run()
        check(bench, outcome, before, right)
        if lasting:
            assert outcome.code == 74, (number, action, outcome.err)
            assert not record.exists()
        elif action == "read":
            assert outcome.code == 0, (number, outcome.err)  # tried again
    assert run().code == 0
    for text in (content, made):  # the same result, whatever came between
        assert text[: text.index(b'"facts"')] == record.read_bytes()[: text.index(b'"facts"')]


@pytest.mark.slow
@pytest.mark.parametrize("lasting", [False, True], ids=["for once", "for good"])
def test_no_single_call_of_the_publication_can_fail_unnoticed(
    bench: Bench, right: Any, known: Inventory, lasting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows.runs.reduction, "take_inventory", lambda *_: known)

    def run() -> Outcome:
        return bench.run()

    before = tree(bench.output)
    calls = calls_of(run, monkeypatch)
    assert product(bench) == right
    shutil.rmtree(bench.output / "CH_PR900001_TG000101_V0001")
    for number, action in some(calls, "publication", 1000, 90):
        fault = Fault(
            "publication", number, lasting, errno.ENOSPC if action == "write" else errno.EIO
        )
        with faulty(fault, monkeypatch):
            outcome = run()
        check(bench, outcome, before, right)
        if lasting:
            assert outcome.code == 74, (number, action, outcome.err)
    bench.published()
    assert product(bench) == right
