"""What `drp status` says of visits and steps, and what `drp clean` takes away."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from flows.clean import clean, parse_age, parse_size, visits_kept
from flows.command.console import age_text
from flows.status import visit_states
from schemas.errors import UsageError
from tasks.engine.store import Workspace, run_mark
from tests.support.faults import run_in_process, tree
from tests.support.manifests import small_manifest, write_manifest
from tests.support.runs import STEPS, Bench

NAMES = ("PR900001_TG000101", "PR900001_TG000102", "PR900001_TG000103")


def publish(output: Path, visit: str, version: str, verdict: str | None = "good") -> Path:
    """Make what a status needs of a published folder."""
    folder = output / f"CH_{visit}_{version}"
    folder.mkdir(parents=True)
    write_manifest(folder, small_manifest(visit, version, verdict or ""))
    return folder


def record(work: Path, visit: str, step: str, ago: float = 0.0, size: int = 0) -> Path:
    """Make a record of a step, and a product of so many bytes, made so many seconds ago."""
    path = work / "records" / visit / f"{step}-0123456789abcdef01234567.json"
    product = work / "products" / visit / path.stem / "x.fits"
    for file, content in ((path, b"{}"), (product, bytes(size))):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        os.utime(file, (time.time() - ago,) * 2)
    return path


def test_every_visit_shows_with_its_newest_version_verdict_and_last_step(tmp_path: Path) -> None:
    output, work = tmp_path / "out", tmp_path / "work"
    record(work, NAMES[0], "gain", ago=500)
    publish(output, NAMES[0], "V0000", "not usable")
    publish(output, NAMES[0], "V0001", "usable with care")
    record(work, NAMES[1], "events", ago=7200)
    record(work, NAMES[1], "bias", ago=3600)
    publish(output, NAMES[2], "V0000", None)
    record(work, NAMES[2], "psf_1", ago=-5)  # done since
    (output / ".CH_PR900001_TG000104_V0000.stage").mkdir()
    (work / "records" / "other").mkdir()
    shown = [
        (s.visit, s.state, s.version, s.last_step, s.verdict) for s in visit_states(output, work)
    ]
    assert shown == [
        (NAMES[0], "published", "V0001", "publish", "usable with care"),
        (NAMES[1], "reduced", "", "bias", ""),
        (NAMES[2], "reduced", "V0000", "psf_1", ""),
    ]
    assert 3590 < visit_states(output, work)[1].age < 3700
    assert visit_states(tmp_path / "absent", tmp_path / "absent") == []


def test_a_visit_that_a_run_holds_is_running_and_asking_does_not_disturb_it(tmp_path: Path) -> None:
    work = tmp_path / "work"
    record(work, NAMES[0], "gain")
    workspace = Workspace(work, NAMES[0])
    with workspace.lock(wait=False, notify=print):
        assert [s.state for s in visit_states(tmp_path, work)] == ["running"]
    assert [s.state for s in visit_states(tmp_path, work)] == ["reduced"]


def test_a_manifest_that_cannot_be_read_shows_as_damaged(tmp_path: Path) -> None:
    (publish(tmp_path, NAMES[0], "V0000") / "manifest.json").write_text("{")
    assert [s.state for s in visit_states(tmp_path, tmp_path / "work")] == ["damaged"]


def failure(work: Path, visit: str, ago: float = 0.0, code: int = 65) -> None:
    """Leave the key facts of a failure, and its report."""
    report = work / "reports" / f"{visit}.txt"
    report.parent.mkdir(exist_ok=True)
    report.touch()
    facts = {
        "visit": visit,
        "code": code,
        "reason": "an input is damaged",
        "where": "step events",
        "why": "x.fits: is damaged",
        "report": str(report),
        "date": "2026-01-01T00:00:00",
    }
    path = report.with_suffix(".json")
    path.write_text(json.dumps(facts))
    os.utime(path, (time.time() - ago,) * 2)


def interrupted(work: Path, visit: str) -> None:
    """Interrupt a run as a signal does."""
    workspace = Workspace(work, visit)
    with (
        pytest.raises(KeyboardInterrupt),
        workspace.lock(wait=False, notify=print),
        workspace.marked(),
    ):
        raise KeyboardInterrupt


def test_a_visit_whose_last_run_failed_says_so_with_code_reason_and_report(tmp_path: Path) -> None:
    work = tmp_path / "work"
    record(work, NAMES[0], "gain", ago=8000)
    failure(work, NAMES[0], ago=7300)  # its age is the same whenever it is asked
    publish(tmp_path, NAMES[1], "V0000")
    failure(work, NAMES[1], ago=500)  # of an earlier run
    failure(work, "night", code=66)  # a folder that names no visit
    (work / "reports" / "odd.json").write_text("[]")
    places = ("--output", tmp_path, "--work", work)
    rows = json.loads(run_in_process("status", *places, "--json").out)
    assert [(r["visit"], r["state"], r["code"]) for r in rows] == [
        (NAMES[0], "failed", 65),
        (NAMES[1], "published", 0),
        ("night", "failed", 66),
    ]
    assert rows[0]["last_step"] == "gain"
    assert Path(rows[0]["report"]).is_file()
    lines = run_in_process("status", *places).out.splitlines()
    assert lines[0].split() == ["visit", "state", "version", "last", "step", "verdict", "age"]
    assert lines[2] == f"    exit code 65, an input is damaged: {work}/reports/{NAMES[0]}.txt"
    # by its name too, though it was never published
    shown = run_in_process("status", NAMES[0], *places)
    assert shown.out.splitlines()[1:] == lines[1:3]
    assert "use the visit's folder instead" in shown.err


def test_a_run_that_was_cut_short_is_interrupted_until_the_next_ends_by_itself(
    tmp_path: Path,
) -> None:
    def states() -> list[str]:
        return [s.state for s in visit_states(tmp_path, tmp_path)]

    record(tmp_path, NAMES[0], "gain")
    failure(tmp_path, NAMES[0], ago=50)
    interrupted(tmp_path, NAMES[0])
    assert states() == ["interrupted"]
    failure(tmp_path, NAMES[0], ago=-5)
    assert states() == ["failed"]
    (tmp_path / "reports" / f"{NAMES[0]}.json").unlink()
    workspace = Workspace(tmp_path, NAMES[0])
    with workspace.lock(wait=False, notify=print), workspace.marked():
        assert states() == ["running"]
    assert states() == ["reduced"]
    with pytest.raises(ValueError, match="its own end"), workspace.marked():
        raise ValueError("its own end")
    assert states() == ["reduced"]
    interrupted(tmp_path, NAMES[0])
    clean(tmp_path, 0, 0)
    assert states() == ["cleaned"]


def test_a_run_on_another_machine_is_elsewhere_and_not_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path, NAMES[0], "gain", ago=50)
    with monkeypatch.context() as other:
        other.setattr("tasks.files.disk.host", lambda: "node7")
        interrupted(tmp_path, NAMES[0])
        assert [s.state for s in visit_states(tmp_path, tmp_path)] == ["interrupted"]
    (state,) = visit_states(tmp_path, tmp_path)
    assert (state.state, state.host) == ("elsewhere", "node7")
    lines = run_in_process("status", "--output", tmp_path, "--work", tmp_path).out.splitlines()
    assert lines[1].split()[:2] == [NAMES[0], "elsewhere"]
    assert lines[2] == "    a run on node7 has not ended by itself: see there whether it lasts"
    # marks of earlier versions name no machine
    mark = run_mark(tmp_path, NAMES[0])
    mark.write_text('{"process": 1, "began": 2.0}')
    assert [s.state for s in visit_states(tmp_path, tmp_path)] == ["interrupted"]


def test_no_visit_is_not_a_table_without_rows(tmp_path: Path) -> None:
    shown = run_in_process("status", "--output", tmp_path, "--work", tmp_path)
    assert shown.out == ""
    assert f"no visit in {tmp_path} and {tmp_path}" in shown.err


def test_the_table_and_its_json_say_the_same(tmp_path: Path) -> None:
    publish(tmp_path / "out", NAMES[0], "V0003")
    places = ("--output", tmp_path / "out", "--work", tmp_path / "work")
    shown = run_in_process("status", *places)
    line = shown.out.splitlines()[1]
    assert line.split() == [NAMES[0], "published", "V0003", "publish", "good", "0", "s"]
    (row,) = json.loads(run_in_process("status", *places, "--json").out)
    assert [row[k] for k in ("visit", "state", "version", "last_step", "verdict")] == line.split()[
        :5
    ]
    assert (age_text(59), age_text(3599), age_text(90_000)) == ("59 s", "60 min", "1 d")


@pytest.mark.parametrize(
    "name",
    ["../x", "PR900001_TG00010", "PR900001_TG000101 ", "x" * 300, "РR900001_TG000101", "a\0b"],
)
def test_what_is_no_visit_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # beside which there is no folder x
    outcome = run_in_process("status", name, "--output", tmp_path, "--work", tmp_path)
    assert outcome.code == 2
    assert outcome.error.isprintable()


@pytest.mark.slow
def test_one_visit_shows_what_each_step_would_do_and_why(reduced: Bench, tmp_path: Path) -> None:
    bench = reduced.copy(tmp_path)

    def places() -> tuple[object, ...]:
        folders = ("--output", bench.output, "--work", bench.work)
        return (*folders, "--references", bench.references[0])

    def steps(*more: object, visit: object = bench.visit) -> dict[str, tuple[str, str]]:
        outcome = run_in_process("status", visit, *places(), "--json", *more)
        assert outcome.code == 0, outcome.err
        answer: dict[str, Any] = json.loads(outcome.out)
        assert answer["state"] == "published"
        assert answer["verdict"] in ("good", "usable with care", "not usable")
        return {s["step"]: (s["outcome"], s["why"]) for s in answer["steps"]}

    before = tree(bench.output)
    assert steps() == dict.fromkeys(STEPS, ("cached", ""))
    changed = steps("--set", "imagettes.radius=9.5")
    assert changed["imagette_photometry"] == ("would run", "setting radius None is now 9.5")
    assert changed["imagette_light_curves"] == (
        "would run",
        "depends on photometry, to be computed again",
    )
    assert changed["apertures"] == ("cached", "")
    # code that changed without a new version shows, with a version beside it
    (path,) = bench.work.glob("records/*/gain-*.json")
    facts = json.loads(path.read_text())
    facts["facts"]["source"] = "0123456789abcdef"
    when = path.stat()
    path.write_text(json.dumps(facts))
    os.utime(path, ns=(when.st_atime_ns, when.st_mtime_ns))  # not done since publication
    text = run_in_process("status", bench.visit, *places()).out
    remark = r"same version, but source \w{8} differs from that of the record, 01234567"
    assert re.search(rf"gain +cached +\d+ +{remark}\n", text)
    assert text.count("differs") == 1
    assert re.search(r"\n  step +outcome +version why\n  events +cached +\d+\n", text)
    shutil.rmtree(next(bench.work.glob("products/*/psf_fit-*")))
    assert steps()["psf_fit"] == (
        "would run",
        "psf_fit: product TERM_PSF_FIT is missing: the step runs again",
    )
    # by its name the visit is found in its published folder, of which the manifest alone is asked
    folders = (tree(bench.output), tree(bench.work))
    assert steps(visit=NAMES[0]) == dict.fromkeys(STEPS, ("cached", ""))
    assert steps("--set", "position.radius=24", visit=NAMES[0])["position"][0] == "would run"
    assert (tree(bench.output), tree(bench.work)) == folders
    assert folders[0] == before


def kept(work: Path) -> list[str]:
    return sorted(k.visit for k in visits_kept(work))


def test_clean_takes_what_is_old_then_the_oldest_above_the_quota(tmp_path: Path) -> None:
    for name, ago in zip(NAMES, (1000, 100, 10), strict=True):
        record(tmp_path, name, "gain", ago, size=100_000)
    before = tree(tmp_path)
    assert [k.action for k in clean(tmp_path, 500, None, dry=True)] == ["remove", "keep", "keep"]
    assert tree(tmp_path) == before
    assert [k.action for k in clean(tmp_path, 500, None)] == ["remove", "keep", "keep"]
    assert kept(tmp_path) == [NAMES[1], NAMES[2]]
    assert [k.action for k in clean(tmp_path, None, 250_000)] == ["keep", "keep"]
    assert [k.action for k in clean(tmp_path, None, 150_000)] == ["remove", "keep"]
    assert kept(tmp_path) == [NAMES[2]]
    assert list((tmp_path / "products" / NAMES[0]).iterdir()) == []


def test_clean_leaves_a_held_visit_and_everything_that_is_no_visit(tmp_path: Path) -> None:
    record(tmp_path, NAMES[0], "gain", 1000, size=100)
    record(tmp_path, NAMES[1], "gain", 1000, size=100)
    # the output folder may be the work folder's own `products`
    published = publish(tmp_path / "products", NAMES[0], "V0000")
    (tmp_path / "products" / "mine.txt").touch()
    outside = tmp_path / "outside"
    shutil.copytree(tmp_path / "products" / NAMES[0], outside)
    (tmp_path / "products" / NAMES[2]).symlink_to(outside)
    with Workspace(tmp_path, NAMES[1]).lock(wait=False, notify=print):
        assert [k.action for k in clean(tmp_path, 0, 0)] == ["remove", "in use"]
    assert kept(tmp_path) == [NAMES[1]]
    assert (published / "manifest.json").is_file()
    assert (tmp_path / "products" / "mine.txt").is_file()
    assert list(outside.iterdir())


def report(work: Path, name: str, ago: float) -> None:
    """Leave a report on a failure, as text and as PDF."""
    for ending in ("txt", "pdf", "json"):
        path = work / "reports" / f"{name}.{ending}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(5000))
        os.utime(path, (time.time() - ago,) * 2)


def test_clean_takes_reports_with_their_visits_and_those_of_no_visit_by_their_own_age(
    tmp_path: Path,
) -> None:
    record(tmp_path, NAMES[0], "gain", 1000, size=100_000)
    report(
        tmp_path, NAMES[0], 100
    )  # failed again since: the products are as young as the report on them
    record(tmp_path, NAMES[1], "gain", 1000, size=100_000)
    report(tmp_path, NAMES[1], 1000)
    report(tmp_path, NAMES[2], 1000)  # failed before anything else was left of it
    report(tmp_path, "night-0123abcd", 1000)
    report(tmp_path, "other-0123abcd", 10)
    (tmp_path / "reports" / "mine.csv").touch()
    before = tree(tmp_path)
    assert [k.action for k in clean(tmp_path, 500, None, dry=True)] == ["remove"] * 3 + ["keep"] * 2
    assert tree(tmp_path) == before
    with Workspace(tmp_path, NAMES[2]).lock(wait=False, notify=print):
        found = {k.visit: k.action for k in clean(tmp_path, 500, None)}
    assert found == {
        NAMES[0]: "keep",
        NAMES[1]: "remove",
        NAMES[2]: "in use",
        "night-0123abcd": "remove",
        "other-0123abcd": "keep",
    }
    stems = sorted({p.stem for p in (tmp_path / "reports").iterdir()})
    assert stems == [NAMES[0], NAMES[2], "mine", "other-0123abcd"]
    # by size: the oldest first, and room that a report takes counts
    assert [k.visit for k in clean(tmp_path, None, 30_000) if k.action == "remove"] == [
        NAMES[2],
        NAMES[0],
    ]
    assert kept(tmp_path) == ["other-0123abcd"]


def test_clean_takes_old_crash_files_of_the_work_folder_and_nothing_of_a_similar_name(
    tmp_path: Path,
) -> None:
    names = ("drp-crash-host.12.0a1b2c3d.txt", "drp-crash-host.13.0a1b2c3d.txt")
    for name, ago in zip(names, (1000, 10), strict=True):
        (tmp_path / name).write_text("trace")
        os.utime(tmp_path / name, (time.time() - ago,) * 2)
    (tmp_path / "drp-crash-folder.txt").mkdir()
    (tmp_path / "drp-crash-link.txt").symlink_to(tmp_path / names[1])
    (tmp_path / "my-drp-crash-1.txt").touch()
    assert [(k.visit, k.action) for k in clean(tmp_path, 500, None, dry=True)] == [
        (names[0], "remove"),
        (names[1], "keep"),
    ]
    clean(tmp_path, 500, None)
    assert not (tmp_path / names[0]).exists()
    clean(tmp_path, 0, 0)
    left = sorted(p.name for p in tmp_path.iterdir() if "crash" in p.name)
    assert left == ["drp-crash-folder.txt", "drp-crash-link.txt", "my-drp-crash-1.txt"]


def test_clean_takes_what_a_killed_process_left_among_the_reports_but_not_what_may_be_written_now(
    tmp_path: Path,
) -> None:
    report(tmp_path, NAMES[0], 10)
    reports = tmp_path / "reports"
    for name, ago in ((".typeset-old", 4000), (".typeset-now", 10)):
        (reports / name).mkdir()
        os.utime(reports / name, (time.time() - ago,) * 2)
    for name, ago in ((f".{NAMES[0]}.txt.17.part", 4000), (f".{NAMES[0]}.txt.18.part", 10)):
        (reports / name).write_text("half of a rep")
        os.utime(reports / name, (time.time() - ago,) * 2)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (reports / ".typeset-link").symlink_to(outside)
    os.utime(reports / ".typeset-link", (time.time() - 4000,) * 2, follow_symlinks=False)
    clean(tmp_path, 1e9, None)
    left = sorted(p.name for p in reports.iterdir() if p.name.startswith("."))
    assert left == [f".{NAMES[0]}.txt.18.part", ".typeset-now"]
    assert (outside / "kept").exists()
    assert {p.suffix for p in reports.iterdir() if not p.name.startswith(".")} == {
        ".txt",
        ".pdf",
        ".json",
    }


def test_clean_refuses_what_it_does_not_understand(tmp_path: Path) -> None:
    for text in ("", "1x", "-1d", "1e9999"):
        with pytest.raises(UsageError, match="expected an age"):
            parse_age(text)
    with pytest.raises(UsageError, match="expected a size"):
        parse_size("all")
    assert (
        parse_age("2d"),
        parse_age("3"),
        parse_age("1.5h"),
        parse_size("1.5G"),
        parse_size("10kB"),
    ) == (
        172800,
        259200,
        5400,
        1_500_000_000,
        10_000,
    )
    with pytest.raises(UsageError, match="give an age, a quota, or both"):
        clean(tmp_path, None, None)
    outcome = run_in_process("clean", "--work", tmp_path / "absent", "--older", "1d")
    assert outcome.code == 2
    assert "no such folder" in outcome.error


def test_the_command_says_what_it_takes_away(tmp_path: Path) -> None:
    record(tmp_path, NAMES[0], "gain", 1000, size=2_000_000)
    outcome = run_in_process("clean", "--work", tmp_path, "--older", "10min", "--dry-run")
    assert outcome.out.split() == [NAMES[0], "2.0", "MB", "17", "min", "would", "remove"]
    (row,) = json.loads(
        run_in_process("clean", "--work", tmp_path, "--older", "10min", "--json").out
    )
    assert (row["visit"], row["action"]) == (NAMES[0], "remove")
    assert kept(tmp_path) == []
