"""Keys, records, digests and locks: a result is found again exactly where nothing that it depends
on has changed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from schemas import ROOT
from schemas.errors import BadInputError, BusyError, MissingInputError
from schemas.payloads import Leaf, Payload, Product
from schemas.settings import Settings
from tasks.engine import digests, store
from tasks.engine.digests import Digests
from tasks.engine.folders import default_work_folder
from tasks.engine.keys import canonical, content, make_key, sha256_of
from tasks.engine.reasons import why
from tasks.engine.store import Workspace
from tasks.files.disk import require

VISIT = "PR900001_TG000001"

A, B = "a" * 64, "b" * 64


class Sum(Leaf):
    """What the step of these tests leaves."""


class SumSettings(Settings):
    """Settings of the step of these tests."""

    weight: float = Field(1.0, ge=0, le=10)
    label: str = "x"


def product(path: str = "/here/in.fits", sha256: str = A, extname: str = "TERM_DARK") -> Product:
    return Product(path=path, sha256=sha256, extname=extname)


def key(name: str = "sum", version: str = "1", declared: str = A, **arguments: object) -> str:
    return make_key(
        name,
        version,
        {"TERM_DARK": declared},
        arguments or {"raw": product(), "settings": SumSettings()},
    )


def test_a_key_is_the_content_and_not_the_place_of_the_inputs() -> None:
    moved = key(raw=product("/there/renamed.fits"), settings=SumSettings())
    assert moved == key()
    assert len(moved) == 64


@pytest.mark.parametrize(
    "changed",
    [
        key("product"),
        key(version="2"),
        key(declared=B),
        key(raw=product(sha256=B), settings=SumSettings()),
        key(raw=product(extname="TERM_FLAT"), settings=SumSettings()),
        key(raw=product(), settings=SumSettings(weight=2.0)),
        key(raw=product(), settings=SumSettings(label="y")),
        key(raw=product(), other=SumSettings()),
        key(raw=(product(),), settings=SumSettings()),
        key(raw=None, settings=SumSettings()),
    ],
    ids=[
        "name",
        "version",
        "declared",
        "digest",
        "extname",
        "number",
        "text",
        "argument",
        "shape",
        "absent",
    ],
)
def test_whatever_decides_a_result_changes_its_key(changed: str) -> None:
    assert changed != key()


def test_the_order_of_names_is_irrelevant() -> None:
    one = {"raw": product(), "settings": {"a": 1, "b": [1.5, None, True]}}
    two = {"settings": {"b": [1.5, None, True], "a": 1}, "raw": product()}
    assert make_key("sum", "1", {}, one) == make_key("sum", "1", {}, two)


def test_the_order_of_inputs_in_a_list_is_relevant() -> None:
    assert key(raw=(product(sha256=A), product(sha256=B))) != key(
        raw=(product(sha256=B), product(sha256=A))
    )


def test_a_key_knows_what_an_earlier_step_used_and_how_it_ended() -> None:
    leaf = Sum(step="sum", products={"sum": product()}, used={"BIAS_LVL": 1.0})
    same_content = leaf.model_copy(update={"products": {"sum": product("/elsewhere.fits")}})
    assert key(leaf=leaf) == key(leaf=same_content)
    assert key(leaf=leaf) != key(leaf=leaf.model_copy(update={"used": {"BIAS_LVL": 2.0}}))
    assert key(leaf=leaf) != key(leaf=leaf.model_copy(update={"by_hand": ("sum",)}))


def test_settings_of_another_class_with_equal_values_are_other_settings() -> None:
    class OtherSettings(SumSettings):
        """The same fields under another name."""

    assert key(settings=SumSettings()) != key(settings=OtherSettings())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_none_makes_no_key(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        key(value=value)


@pytest.mark.parametrize("value", [Path("/here"), b"bytes", {1, 2}, object(), 1j, len, Sum])
def test_an_argument_without_content_is_an_error(value: object) -> None:
    with pytest.raises(TypeError, match="cannot be part of a key"):
        key(value=[value])


def test_a_mapping_with_names_that_are_no_text_is_an_error() -> None:
    with pytest.raises(TypeError, match="cannot be part of a key"):
        content({1: "a", "1": "b"})


def test_canonical_text_is_one_for_equal_values() -> None:
    assert canonical({"b": 1, "a": "é"}) == '{"a":"\\u00e9","b":1}'


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "work", VISIT)


@pytest.fixture
def warnings() -> list[str]:
    return []


def remembered(workspace: Workspace, data: bytes = b"0123456789") -> tuple[str, Path]:
    """Leave a product and its record as a step does; return the key and the product's path."""
    own = key()
    folder = workspace.folder("sum", own)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "sum.fits"
    path.write_bytes(data)
    made = Product(path=str(path), sha256=workspace.digests.of(path), extname="TERM_DARK")
    workspace.remember(
        "sum", own, Sum(step="sum", products={"sum": made}, used={"BIAS_LVL": 1.5}), {"seconds": 1}
    )
    return own, path


def test_what_was_remembered_is_found_again(workspace: Workspace, warnings: list[str]) -> None:
    own, path = remembered(workspace)
    leaf = workspace.believe("sum", own, Sum, warnings.append)
    assert leaf is not None
    assert Path(leaf.product.path) == path
    assert leaf.used == {"BIAS_LVL": 1.5}
    assert workspace.believe("sum", key(version="2"), Sum, warnings.append) is None
    assert warnings == []


def test_a_record_names_its_products_below_the_work_folder_so_that_it_may_be_moved(
    workspace: Workspace, warnings: list[str], tmp_path: Path
) -> None:
    own, _ = remembered(workspace)
    assert str(tmp_path) not in workspace.record_path("sum", own).read_text()
    moved = workspace.root.rename(tmp_path / "moved")
    leaf = Workspace(moved, VISIT).believe("sum", own, Sum, warnings.append)
    assert leaf is not None
    assert Path(leaf.product.path).is_relative_to(moved)


def test_a_record_of_another_key_with_the_same_first_digits_is_not_believed(
    workspace: Workspace, warnings: list[str]
) -> None:
    own, _ = remembered(workspace)
    other = own[:24] + ("0" * 40 if own[24:] != "0" * 40 else "1" * 40)
    assert workspace.believe("sum", other, Sum, warnings.append) is None
    assert "is of another version" in warnings[0]


def edited(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def flip(path: Path, offset: int, bit: int = 0) -> None:
    """Flip one bit of a file in place."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


def test_a_record_that_was_cut_is_ignored_with_a_warning(
    workspace: Workspace, warnings: list[str]
) -> None:
    own, _ = remembered(workspace)
    record = workspace.record_path("sum", own)
    whole = record.read_bytes()
    for length in range(len(whole)):
        record.write_bytes(whole[:length])
        assert workspace.believe("sum", own, Sum, warnings.append) is None, length
    assert len(warnings) == len(whole)
    assert set(warnings) == {"record of sum cannot be read: the step runs again"}


def test_a_flipped_bit_in_a_record_never_gives_another_result(
    workspace: Workspace, warnings: list[str]
) -> None:
    own, _ = remembered(workspace)
    record = workspace.record_path("sum", own)
    whole = record.read_bytes()
    honest = workspace.believe("sum", own, Sum, warnings.append)
    refused = 0
    for offset in range(len(whole)):
        for bit in range(8):
            flip(record, offset, bit)
            found = workspace.believe("sum", own, Sum, warnings.append)
            # white space, `facts` and the name of the step are not part of the result, and may
            # change
            assert found is None or found == honest, (offset, bit)
            refused += found is None
            record.write_bytes(whole)
    # the payload and its digest are more than half of this record
    assert refused > len(whole) * 8 / 2
    assert len(warnings) == refused


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 0},
        {"version": 2},
        {"version": None},
        {"key": A},
        {"digest": A},
        {"payload": {}},
        {"payload": []},
    ],
)
def test_a_record_that_is_not_ours_is_ignored_with_a_warning(
    workspace: Workspace, warnings: list[str], changes: dict[str, Any]
) -> None:
    own, _ = remembered(workspace)
    edited(workspace.record_path("sum", own), **changes)
    assert workspace.believe("sum", own, Sum, warnings.append) is None
    assert warnings[0].startswith("record of sum")
    assert warnings[0].endswith("the step runs again")


def test_a_product_elsewhere_is_not_believed_even_if_it_has_the_digest(
    workspace: Workspace, warnings: list[str], tmp_path: Path
) -> None:
    own, path = remembered(workspace)
    record = workspace.record_path("sum", own)
    payload = json.loads(record.read_text())["payload"]
    outside = tmp_path / "outside.fits"
    outside.write_bytes(path.read_bytes())
    below = payload["products"]["sum"]["path"]
    hostile = [
        str(outside),
        "../outside.fits",
        below.replace("sum.fits", "../../../../outside.fits"),
        f"records/{workspace.visit}/{record.stem}/sum.fits",
        "/".join(["products", workspace.visit, "sum.fits"]),
        "",
        "\0",
        7,
        None,
    ]
    for place in hostile:
        payload["products"]["sum"]["path"] = place
        edited(record, payload=payload, digest=sha256_of(payload))
        assert workspace.believe("sum", own, Sum, warnings.append) is None, place
    assert len(warnings) == len(hostile)
    payload["products"]["sum"]["path"] = below
    edited(record, payload=payload, digest=sha256_of(payload))
    assert workspace.believe("sum", own, Sum, warnings.append) is not None


def test_a_hostile_record_is_ignored_with_a_warning(
    workspace: Workspace, warnings: list[str]
) -> None:
    own, _ = remembered(workspace)
    record = workspace.record_path("sum", own)
    digits = "1" * 5000
    for text in (
        "",
        "[" * 100_000,
        digits,
        f'{{"version": {digits}}}',
        '{"version": NaN}',
        "\udcff",
    ):
        record.write_bytes(text.encode("utf-8", "surrogateescape"))
        assert workspace.believe("sum", own, Sum, warnings.append) is None
        assert warnings.pop().endswith("the step runs again")
        reason = why(workspace, "sum", {"version": "1"})
        assert reason == "the records do not list their ingredients"


@pytest.mark.parametrize("at", ["step", "key", "digest", "version", "payload", "facts"])
def test_a_record_with_a_wrong_entry_is_ignored_with_a_warning(
    workspace: Workspace, warnings: list[str], at: str
) -> None:
    own, _ = remembered(workspace)
    record = workspace.record_path("sum", own)
    whole = record.read_bytes()
    for value in (None, [], {}, "../../x", 10**400, 1.5, [[{}]], True):
        record.write_bytes(whole)
        edited(record, **{at: value})
        found = workspace.believe("sum", own, Sum, warnings.append)
        assert (found is None) == bool(warnings)
        assert found is None or (at, value) == ("facts", {})  # facts are for people only
        warnings.clear()
        why(workspace, "sum", {"version": "1"})


def test_a_payload_that_the_step_no_longer_has_is_ignored_with_a_warning(
    workspace: Workspace, warnings: list[str]
) -> None:
    class Longer(Sum):
        """A later version of the payload, with a field more."""

        points: int

    own, _ = remembered(workspace)
    assert workspace.believe("sum", own, Longer, warnings.append) is None
    assert warnings == ["record of sum cannot be read: the step runs again"]


def test_a_record_that_is_no_file_or_too_long_is_ignored_with_a_warning(
    workspace: Workspace, warnings: list[str]
) -> None:
    own, _ = remembered(workspace)
    record = workspace.record_path("sum", own)
    with open(record, "ab") as file:
        file.truncate(5 << 20)  # a payload is some kB; the limit is 4 MB
    assert workspace.believe("sum", own, Sum, warnings.append) is None
    record.unlink()
    record.mkdir()
    assert workspace.believe("sum", own, Sum, warnings.append) is None
    assert set(warnings) == {"record of sum cannot be read: the step runs again"}


def test_a_product_that_is_gone_is_made_again(workspace: Workspace, warnings: list[str]) -> None:
    own, path = remembered(workspace)
    path.unlink()
    assert workspace.believe("sum", own, Sum, warnings.append) is None
    assert warnings == ["sum: product sum is missing: the step runs again"]


@pytest.mark.parametrize("size", [10, (8 << 20) + 1], ids=["small", "big"])
def test_a_product_that_was_truncated_or_altered_is_made_again(
    workspace: Workspace, warnings: list[str], size: int
) -> None:
    own, path = remembered(workspace, b"0" * size)
    before = path.stat()
    os.truncate(path, size - 1)
    assert workspace.believe("sum", own, Sum, warnings.append) is None
    path.write_bytes(b"0" * (size - 1) + b"1")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_size == size
    assert workspace.believe("sum", own, Sum, warnings.append) is None
    path.write_bytes(b"0" * size)
    assert workspace.believe("sum", own, Sum, warnings.append) is not None
    assert warnings == ["sum: product sum was changed: the step runs again"] * 2


def test_a_product_that_cannot_be_read_is_made_again(
    workspace: Workspace, warnings: list[str]
) -> None:
    own, path = remembered(workspace)
    path.unlink()
    path.mkdir()
    assert workspace.believe("sum", own, Sum, warnings.append) is None
    assert warnings == ["sum: product sum cannot be read: the step runs again"]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the list of files that are digested in full from now on."""
    done: list[Path] = []
    real = store.disk.sha256

    def sha256(path: Path) -> str:
        done.append(path)
        return real(path)

    monkeypatch.setattr(store.disk, "sha256", sha256)
    return done


def aged(path: Path) -> None:
    """Wait until the clock of the file system has moved on since the last change of `path`."""
    while time.time_ns() - path.stat().st_ctime_ns < 2 * digests.TICK:
        time.sleep(0.005)


def test_the_digest_of_a_big_file_is_remembered_and_that_of_a_small_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = counted(monkeypatch)
    big, small = tmp_path / "big", tmp_path / "small"
    big.write_bytes(b"0" * ((8 << 20) + 1))
    small.write_bytes(b"0" * (8 << 20))
    aged(small)
    memory = Digests(tmp_path / "records/visit.digests.json")
    first = [memory.of(p) for p in (big, small, big, small)]
    assert done == [big, small, small]
    assert first[:2] == first[2:]
    memory.save()
    again = Digests(tmp_path / "records/visit.digests.json")
    assert again.of(big) == first[0]
    assert done == [big, small, small]


def test_changed_content_of_the_same_size_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "BIG", 10)
    path = tmp_path / "big"
    path.write_bytes(b"0" * 1000)
    aged(path)
    memory = Digests(tmp_path / "memory.json")
    first = memory.of(path)
    before = path.stat()
    with open(path, "r+b") as file:
        file.write(b"1")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert memory.known(path) is None
    assert memory.of(path) != first


def test_a_change_at_once_after_the_digest_is_noticed_whatever_the_clock_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time stamps of files move on in ticks: within one, a change may leave every part of the
    fingerprint as it was.
    """
    monkeypatch.setattr(digests, "BIG", 10)
    path = tmp_path / "big"
    path.write_bytes(b"0" * 1000)
    now = path.stat().st_ctime_ns
    monkeypatch.setattr(store.time, "time_ns", lambda: now + digests.TICK // 2)
    memory = Digests(tmp_path / "memory.json")
    memory.of(path)
    assert memory.known(path) is None
    monkeypatch.setattr(store.time, "time_ns", lambda: now + 2 * digests.TICK)
    memory.of(path)
    assert memory.known(path) is not None


def test_a_file_that_changes_while_it_is_digested_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0" * 1000)
    real = store.disk.sha256

    def sha256(path: Path) -> str:
        with open(path, "ab") as file:
            file.write(b"1")
        return real(path)

    monkeypatch.setattr(store.disk, "sha256", sha256)
    with pytest.raises(BadInputError, match="changed while it was read"):
        Digests(tmp_path / "memory.json").of(path)


def test_a_damaged_memory_of_digests_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong digest taken from it would be a wrong key."""
    monkeypatch.setattr(digests, "BIG", 10)
    path, at = tmp_path / "big", tmp_path / "memory.json"
    path.write_bytes(b"0" * 1000)
    aged(path)
    memory = Digests(at)
    right = memory.of(path)
    memory.save()
    whole = at.read_bytes()
    assert Digests(at).known(path) == right
    kept = 0
    for offset in range(len(whole)):
        flip(at, offset)
        found = Digests(at).known(path)
        assert found in (None, right), offset
        kept += found is not None
        at.write_bytes(whole[:offset])
        assert Digests(at).known(path) is None
        at.write_bytes(whole)
    # a flipped bit in white space does no harm
    assert kept < len(whole) / 10


def test_files_that_are_gone_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "BIG", 10)
    path, at = tmp_path / "big", tmp_path / "memory.json"
    path.write_bytes(b"0" * 1000)
    aged(path)
    memory = Digests(at)
    memory.of(path)
    path.unlink()
    memory.save()
    assert str(path) not in at.read_text()


HOLDER = """
import sys, time
from pathlib import Path
from tasks.engine.store import Workspace
with Workspace(Path(sys.argv[1]), sys.argv[2]).lock(False, print):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(workspace: Workspace) -> Any:
    """Another process that holds the visit."""
    root = ROOT
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(workspace.root), VISIT],
        cwd=root,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_run_on_a_visit_is_refused_at_once_and_free_when_the_first_is_killed(
    workspace: Workspace, holder: subprocess.Popen[str], warnings: list[str]
) -> None:
    started = time.monotonic()
    with (
        pytest.raises(BusyError, match=f"{VISIT} is being reduced by another run"),
        workspace.lock(False, warnings.append),
    ):
        pass
    # "at once": nothing is slept for; a second is what a busy machine may add
    assert time.monotonic() - started < 1
    with Workspace(workspace.root, "PR900001_TG000002").lock(False, warnings.append):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with workspace.lock(False, warnings.append):
        assert warnings == []


def test_a_run_that_waits_gets_its_turn_when_the_first_is_killed(
    workspace: Workspace, holder: subprocess.Popen[str], warnings: list[str]
) -> None:
    killer = threading.Timer(0.5, holder.kill)
    killer.start()
    started = time.monotonic()
    with workspace.lock(True, warnings.append):
        waited = time.monotonic() - started
    killer.join()
    assert warnings == [f"waiting for another run on {VISIT}"]
    # from the kill after 0.5 s on, it looks every 0.2 s; the rest is what a busy machine may add
    assert 0.4 < waited < 3


def test_two_runs_of_one_process_exclude_each_other(
    workspace: Workspace, warnings: list[str]
) -> None:
    with (
        workspace.lock(False, warnings.append),
        pytest.raises(BusyError, match="another run"),
        Workspace(workspace.root, VISIT).lock(False, warnings.append),
    ):
        pass


def test_what_a_killed_run_left_half_written_is_removed_by_the_next(
    workspace: Workspace, warnings: list[str]
) -> None:
    locks = workspace.root / "locks"
    locks.mkdir()
    half = workspace.records / ".sum-0.json.123.part"
    half.write_bytes(b"{")
    mark = locks / f".{VISIT}.run.123.part"
    mark.touch()
    other = locks / ".PR900001_TG000999.run.123.part"  # perhaps of a run that is under way
    other.touch()
    own, _ = remembered(workspace)
    with workspace.lock(False, warnings.append):
        assert not half.exists()
        assert not mark.exists()
        assert other.exists()
        assert workspace.believe("sum", own, Sum, warnings.append) is not None


def test_the_work_folder_is_the_one_that_is_named_or_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    monkeypatch.setenv("DRP_WORK", str(tmp_path / "named"))
    assert default_work_folder(warnings.append) == tmp_path / "named"
    monkeypatch.delenv("DRP_WORK")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_work_folder(warnings.append) == tmp_path / "cache/cheops-drp"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_work_folder(warnings.append) == tmp_path / "home/.cache/cheops-drp"
    assert warnings == []


@pytest.mark.parametrize("home", [None, "/dev/null/home", "/proc"])
def test_without_a_home_that_can_be_written_to_the_work_folder_is_temporary_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[str], home: str | None
) -> None:
    monkeypatch.delenv("DRP_WORK")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME")
    if home is not None:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = default_work_folder(warnings.append)
    assert folder.is_dir()
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o077 == 0
    assert len(warnings) == 1
    assert "another with --work" in warnings[0]


def test_an_input_that_is_not_there_any_more_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"gone\.fits: no longer exists"):
        require(str(tmp_path / "gone.fits"))
    with pytest.raises(MissingInputError, match="an input of this step"):
        require("")


def test_a_payload_refuses_what_it_does_not_know() -> None:
    class Own(Payload):
        value: float

    with pytest.raises(ValueError, match="finite number"):
        Own(value=float("nan"))
