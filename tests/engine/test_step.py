"""The step machine on small steps of its own: what runs, what is found again, what is tried again,
what is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from schemas.errors import BadInputError, BusyError, StorageError, UsageError
from schemas.payloads import Product, Reference, Status
from tasks.engine import source
from tasks.engine import step as machine
from tasks.engine.by_hand import replacement
from tasks.engine.run import STEPS, Run, WorkToDo, new_file, running
from tasks.engine.source import recorded_source, source_digest
from tasks.engine.step import Leaves, step
from tasks.engine.store import Workspace
from tasks.files import disk
from tests.support.step_bench import (
    VISIT,
    Bench,
    Doubled,
    Summed,
    SumSettings,
    fault_once,
    outcomes,
    own_flat,
    permanent,
    product_of_first,
    reasons,
    tree,
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    # steps enter a table when they are declared: here it holds those of the test only
    with patch.dict(STEPS, clear=True):
        yield Bench(tmp_path)


def test_a_run_executes_each_step_once_and_the_next_run_none(bench: Bench) -> None:
    first, run = bench.run()
    assert bench.calls == ["double", "sum"]
    assert outcomes(run) == ["double done", "sum done"]
    again, run = bench.run()
    assert bench.calls == []
    assert outcomes(run) == ["double cached", "sum cached"]
    assert again == first
    assert run.warnings == []


def test_what_a_step_leaves_says_how_it_ended_and_what_it_used(bench: Bench) -> None:
    both, _ = bench.run()
    assert both is not None
    assert both.doubled.status == {"DARK": Status.COMPLETED}
    assert both.doubled.used == {"DARK_AVG": 42.0}
    assert Path(both.doubled.product.path).read_text() == "42"


def test_changed_settings_version_or_input_run_what_depends_on_them_and_nothing_else(
    bench: Bench,
) -> None:
    bench.run()
    bench.run(weight=2.0)
    assert bench.calls == ["sum"]
    bench.version = "2"
    bench.declare()
    bench.run()
    assert bench.calls == ["sum"]
    bench.source.write_text("22")
    bench.run()
    assert bench.calls == ["double", "sum"]
    # and what was made before is still known
    bench.source.write_text("21")
    bench.run(weight=2.0)
    assert bench.calls == ["sum"], "version 2 was not yet run with this weight"
    bench.run()
    assert bench.calls == []


def test_an_input_that_makes_no_difference_stops_the_changes_there(bench: Bench) -> None:
    bench.run()
    bench.source.write_text("21\n")
    _, run = bench.run()
    assert outcomes(run) == ["double done", "sum cached"]


def test_a_moved_input_runs_nothing(bench: Bench) -> None:
    bench.run()
    bench.source = bench.source.rename(bench.root / "moved.txt")
    bench.run()
    assert bench.calls == []


@pytest.mark.parametrize("spoil", ["delete", "truncate", "alter", "record"])
def test_what_was_spoiled_is_made_again_with_the_same_bytes(bench: Bench, spoil: str) -> None:
    both, _ = bench.run()
    assert both is not None
    whole = tree(bench.root / "work/products")
    path = Path(both.summed.product.path)
    if spoil == "delete":
        path.unlink()
    elif spoil == "truncate":
        path.write_bytes(path.read_bytes()[:-1])
    elif spoil == "alter":
        path.write_bytes(path.read_bytes()[:-1] + b"\1")
    else:
        next(iter((bench.root / "work/records" / VISIT).glob("sum-*.json"))).write_text("{")
    _, run = bench.run()
    assert outcomes(run) == ["double cached", "sum done"]
    assert len(run.warnings) == 1
    assert "the step runs again" in run.warnings[0]
    assert tree(bench.root / "work/products") == whole


def test_a_step_that_failed_leaves_no_record(bench: Bench) -> None:
    def fail() -> None:
        raise ValueError("no such luck")

    bench.before = fail
    with pytest.raises(ValueError, match="no such luck"):
        bench.run()
    assert [p.name[:6] for p in (bench.root / "work/records" / VISIT).iterdir()] == ["double"]
    bench.before = lambda: None
    bench.run()
    assert bench.calls == ["sum"]


def test_a_step_that_reads_a_synthetic_reference_says_so_and_has_another_key(bench: Bench) -> None:
    @step("scaled", "JITTER", version="1", payload=Doubled, leaves=[])
    def scaled(reference: Reference, more: tuple[Reference, ...]) -> Leaves:
        return Leaves(used={"DARK_AVG": 1.0 + len(more) + len(reference.kind)})

    bench.source.write_text("21")
    product = Product(
        path=str(bench.source), sha256=disk.sha256(bench.source), extname="REF_APP_DarkFrame"
    )
    real = Reference(kind="dark frame", product=product, valid_from="2021", version=(1, 0))
    synthetic = real.model_copy(update={"kind": "bias frame", "synthetic": True})
    with running(Run(Workspace(bench.root / "work", VISIT))) as run:
        quiet, loud = scaled(real, (real,)), scaled(real, (real, synthetic))
        scaled(real.model_copy(update={"version": (1, 1)}), (real,))
    assert [r.outcome for r in run.reports] == ["done", "done", "cached"]
    assert quiet.warnings == ()
    assert loud.warnings == ("synthetic reference, not of this instrument: bias frame",)
    assert loud.used["SYN_REF"] is True
    assert str(loud.status["JITTER"]) == "warning"
    assert run.reports[0].key != run.reports[1].key


def test_a_used_value_that_is_not_declared_is_an_error(bench: Bench) -> None:
    @step("odd", version="1", payload=Doubled, leaves=[])
    def odd() -> Leaves:
        return Leaves(used={"NOT_DECL": 1})

    run = Run(Workspace(bench.root / "work", VISIT))
    with running(run), pytest.raises(KeyError, match="NOT_DECL, which is not declared"):
        odd()


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (Leaves(), Status.COMPLETED),
        (Leaves(skipped=True), Status.SKIPPED),
        (Leaves(warnings=["a fall-back was used"]), Status.WARNING),
        (Leaves(status={"DARK": Status.NOT_APPLICABLE}), Status.NOT_APPLICABLE),
    ],
)
def test_a_step_ends_as_completed_skipped_or_with_a_warning(
    bench: Bench, made: Leaves, wanted: Status
) -> None:
    @step("ending", "DARK", version="1", payload=Doubled, leaves=[])
    def ending() -> Leaves:
        return made

    with running(Run(Workspace(bench.root / "work", VISIT))):
        assert ending().status == {"DARK": wanted}


def test_a_step_outside_of_a_run_is_an_error_and_its_function_is_not(bench: Bench) -> None:
    with pytest.raises(RuntimeError, match="outside of a run"):
        bench.double(bench.raw)
    with pytest.raises(RuntimeError, match="no step is running"):
        new_file("cube")
    assert bench.double.fn(bench.raw).used == {"DARK_AVG": 42.0}


def test_a_product_that_the_step_streams_is_found_under_its_name(bench: Bench) -> None:
    @step("stream", version="1", payload=Doubled, leaves=["TERM_DARK"])
    def stream() -> Leaves:
        new_file("cube").write_bytes(b"pixels")
        return Leaves(written={"cube": "TERM_DARK"})

    with running(Run(Workspace(bench.root / "work", VISIT))):
        leaf = stream()
    assert Path(leaf.product.path).read_bytes() == b"pixels"
    assert leaf.product.extname == "TERM_DARK"


def test_a_forgotten_step_runs_again_and_what_depends_on_it_only_where_it_differs(
    bench: Bench,
) -> None:
    bench.run()
    _, run = bench.run(forget={"double"})
    assert outcomes(run) == ["double done", "sum cached"]


def test_a_forgotten_step_that_fails_for_a_moment_is_not_taken_from_its_old_record(
    bench: Bench,
) -> None:
    bench.run()
    bench.before = fault_once(StorageError("a read error"))
    _, run = bench.run(forget={"sum"})
    assert bench.calls == ["sum", "sum"]
    assert outcomes(run) == ["double cached", "sum done"]


def test_every_call_of_a_forgotten_step_runs_again_and_each_once(bench: Bench) -> None:
    """The calibration steps run twice in a visit, for the sub-array and for the full array."""
    other = bench.root / "other.txt"
    other.write_text("1")
    full = Product(path=str(other), sha256=machine.disk.sha256(other), extname="text")
    for forget, expected in ((set(), 2), (set(), 0), ({"double"}, 2)):
        bench.calls.clear()
        with running(Run(Workspace(bench.root / "work", VISIT), forget=forget)):
            for raw in (bench.raw, full, bench.raw):
                bench.double(raw)
        assert len(bench.calls) == expected


def test_a_run_stops_behind_the_step_it_is_told_and_the_next_goes_on(bench: Bench) -> None:
    both, run = bench.run(until="double")
    assert both is None
    assert bench.calls == ["double"]
    assert outcomes(run) == ["double done"]
    both, _ = bench.run(until="double")
    assert both is None
    assert bench.calls == []
    bench.run()
    assert bench.calls == ["sum"]


def test_a_dry_run_executes_and_leaves_nothing_and_says_what_it_would_run(bench: Bench) -> None:
    _, run = bench.run(dry=True)
    assert bench.calls == []
    assert outcomes(run) == ["double would run", "sum would run"]
    assert tree(bench.root / "work") == {}
    bench.run()
    before = tree(bench.root / "work")
    _, run = bench.run(dry=True, weight=2.0)
    assert outcomes(run) == ["double cached", "sum would run"]
    _, run = bench.run(dry=True, forget={"double"})
    assert outcomes(run) == ["double would run", "sum would run"]
    assert bench.calls == []
    assert tree(bench.root / "work") == before


def test_a_run_is_told_when_each_step_begins_and_ends(bench: Bench) -> None:
    events: list[tuple[str, str | None]] = []
    bench.run(
        report_progress=lambda name, report: events.append(
            (name, report.outcome if report else None)
        )
    )
    assert events == [("double", None), ("double", "done"), ("sum", None), ("sum", "done")]


def test_a_disk_error_that_passes_is_tried_again_and_said(bench: Bench) -> None:
    bench.before = fault_once(StorageError("in.fits: read failed"), times=2)
    _, run = bench.run()
    assert bench.calls == ["double", "sum", "sum", "sum"]
    assert run.warnings == ["sum: in.fits: read failed; retrying"] * 2
    assert outcomes(run) == ["double done", "sum done"]


def test_a_disk_error_that_stays_ends_the_run_after_three_attempts(bench: Bench) -> None:
    bench.before = fault_once(StorageError("in.fits: read failed"), times=99)
    with pytest.raises(StorageError, match="read failed"):
        bench.run()
    assert bench.calls == ["double", "sum", "sum", "sum"]


@pytest.mark.parametrize(
    ("met", "raised"),
    [
        (permanent("out.fits: write failed, No space left on device"), StorageError),
        (BadInputError("in.fits: is no FITS file"), BadInputError),
        (MemoryError(), BusyError),
        (ZeroDivisionError(), ZeroDivisionError),
    ],
    ids=["disk full", "bad input", "memory", "our own fault"],
)
def test_what_would_only_happen_again_is_not_tried_again(
    bench: Bench, met: Exception, raised: type[Exception]
) -> None:
    bench.before = fault_once(met)
    with pytest.raises(raised):
        bench.run()
    assert bench.calls == ["double", "sum"]


def test_an_input_that_changes_while_a_step_reads_it_ends_the_run(bench: Bench) -> None:
    bench.before = lambda: product_of_first(bench).write_text("430") and None
    with pytest.raises(BadInputError, match=r"double\.txt: changed while sum read it"):
        bench.run()
    assert list((bench.root / "work/records" / VISIT).glob("sum-*")) == []


def test_an_input_that_vanishes_while_a_step_reads_it_ends_the_run(bench: Bench) -> None:
    path: list[Path] = []

    def remove() -> None:
        path.append(product_of_first(bench))
        text = path[0].read_text()
        path[0].unlink()
        path[0].with_name("other.txt").write_text(text)

    bench.before = remove
    with pytest.raises(BadInputError, match=r"double\.txt: changed while sum read it"):
        bench.run()


def test_what_a_step_meets_in_a_file_that_is_being_written_is_not_called_its_own_fault(
    bench: Bench,
) -> None:
    bench.before = lambda: product_of_first(bench).write_text("half a num") and None
    with pytest.raises(BadInputError, match=r"double\.txt: changed while sum read it") as caught:
        bench.run()
    assert isinstance(caught.value.__context__, ValueError)


def test_an_input_that_changed_between_inventory_and_step_is_refused(bench: Bench) -> None:
    raw = bench.raw
    bench.source.write_text("22")
    run = Run(Workspace(bench.root / "work", VISIT))
    with running(run), pytest.raises(BadInputError, match="changed since this run began"):
        bench.double(raw)
    assert bench.calls == []


def test_a_product_given_by_hand_stands_in_for_its_step_and_says_so(bench: Bench) -> None:
    own = own_flat(bench.root / "own.fits")
    both, run = bench.run(replacements={"TERM_FLAT": own})
    assert both is not None
    assert bench.calls == ["double"]
    assert outcomes(run) == ["double done", "sum by hand"]
    assert both.summed.by_hand == ("TERM_FLAT",)
    assert both.summed.used == {"FLAT_T": 6000.0, "FLAT_STD": 0.0}
    assert both.summed.warnings == ("sum: TERM_FLAT replaced by the user",)
    assert both.summed.status == {"FFIELD": Status.COMPLETED}
    assert Path(both.summed.product.path).read_bytes() == own.read_bytes()
    assert Path(both.summed.product.path) != own
    assert run.replacements == {}


def test_a_product_given_by_hand_gives_the_same_whether_its_step_ran_before_or_not(
    bench: Bench,
) -> None:
    own = own_flat(bench.root / "own.fits")
    fresh, _ = bench.run(replacements={"TERM_FLAT": own})
    bench.run()
    later, _ = bench.run(replacements={"TERM_FLAT": own})
    assert later == fresh


def test_a_product_given_by_hand_is_not_remembered_as_the_steps_own(bench: Bench) -> None:
    bench.run(replacements={"TERM_FLAT": own_flat(bench.root / "own.fits")})
    both, run = bench.run()
    assert both is not None
    assert outcomes(run) == ["double cached", "sum done"]
    assert both.summed.by_hand == ()


def test_a_product_given_by_hand_takes_the_place_of_the_first_call_only(bench: Bench) -> None:
    """The second call of a calibration step is that of the full array, which has another window."""
    own = own_flat(bench.root / "own.fits")
    run = Run(Workspace(bench.root / "work", VISIT), replacements={"TERM_FLAT": own})
    with running(run):
        first = bench.sum(bench.double(bench.raw), SumSettings())
        second = bench.sum(bench.double(bench.raw), SumSettings())
    assert first.by_hand == ("TERM_FLAT",)
    assert second.by_hand == ()


def test_a_dry_run_knows_that_a_product_given_by_hand_changes_what_follows(bench: Bench) -> None:
    @step("after", version="1", payload=Doubled, leaves=["TERM_DARK"])
    def after(summed: Summed) -> Leaves:
        return Leaves(blobs={"after.txt": b"after"})

    def run(**options: object) -> list[str]:
        run = Run(Workspace(bench.root / "work", VISIT), **options)  # type: ignore[arg-type]
        with running(run):
            after(bench.sum(bench.double(bench.raw), SumSettings()))
        return outcomes(run)

    run()
    own = own_flat(bench.root / "own.fits")
    before = tree(bench.root / "work")
    assert run(dry=True, replacements={"TERM_FLAT": own}) == [
        "double cached",
        "sum by hand",
        "after would run",
    ]
    assert tree(bench.root / "work") == before


def test_our_own_copy_of_a_product_given_by_hand_may_be_given_again(bench: Bench) -> None:
    first, _ = bench.run(replacements={"TERM_FLAT": own_flat(bench.root / "own.fits")})
    assert first is not None
    again, _ = bench.run(replacements={"TERM_FLAT": Path(first.summed.product.path)})
    assert again == first


def test_a_replacement_is_known_by_its_extname(bench: Bench) -> None:
    own = own_flat(bench.root / "own.fits")
    assert replacement(own) == ("TERM_FLAT", own)


def test_a_replacement_that_no_step_leaves_is_refused(bench: Bench) -> None:
    own = own_flat(bench.root / "own.fits")
    STEPS.pop("sum")
    with pytest.raises(
        UsageError, match="no step has the product TERM_FLAT; replaceable are TERM_DARK"
    ):
        replacement(own)


def test_a_replacement_with_pixels_that_are_no_numbers_is_refused(bench: Bench) -> None:
    with pytest.raises(BadInputError, match="TERM_FLAT: 4 of 4 pixels are NaN or infinite"):
        replacement(own_flat(bench.root / "own.fits", value=np.nan))


def test_a_replacement_that_deviates_from_its_definition_is_refused_now_and_not_at_publication(
    bench: Bench,
) -> None:
    own = own_flat(bench.root / "own.fits")
    data = own.read_bytes()
    own.write_bytes(data.replace(b"CHECKSUM", b"CHECKSUN"))
    with pytest.raises(BadInputError, match=r"a replacement must match its definition: .*CHECKSUM"):
        replacement(own)


def test_a_record_tells_a_person_how_long_the_step_took(bench: Bench) -> None:
    bench.run()
    (record,) = (bench.root / "work/records" / VISIT).glob("sum-*.json")
    facts = json.loads(record.read_text())["facts"]
    assert facts["engine"] == "plain"
    assert facts["seconds"] >= 0


def test_a_dry_run_says_why_a_step_would_run(bench: Bench) -> None:
    assert reasons(bench.run(dry=True)[1]) == {
        "double": "there is no record",
        "sum": "depends on doubled, to be computed again",
    }
    bench.run()
    assert reasons(bench.run(dry=True)[1]) == {}
    assert reasons(bench.run(dry=True, weight=2.0)[1]) == {"sum": "setting weight 1.0 is now 2.0"}
    assert reasons(bench.run(dry=True, forget={"sum"})[1]) == {"sum": "requested"}
    bench.source.write_text("22")
    assert reasons(bench.run(dry=True)[1])["double"] == "raw has changed"
    bench.source.write_text("21")
    bench.version = "2"
    bench.declare()
    assert reasons(bench.run(dry=True)[1]) == {"sum": "version 1 is now 2"}


def test_why_tells_of_a_product_that_is_gone_and_of_a_record_that_was_changed(bench: Bench) -> None:
    bench.run()
    (product,) = (bench.root / "work" / "products").glob(f"{VISIT}/sum-*/TERM_FLAT.fits")
    product.unlink()
    assert reasons(bench.run(dry=True)[1]) == {
        "sum": "sum: product TERM_FLAT is missing: the step runs again"
    }
    (record,) = (bench.root / "work" / "records" / VISIT).glob("double-*.json")
    record.write_text(record.read_text().replace("42.0", "43.0"))
    assert reasons(bench.run(dry=True)[1])["double"].startswith("record of double was changed")


def test_the_record_that_is_most_alike_is_told_of(bench: Bench) -> None:
    bench.run(weight=1.0)
    bench.source.write_text("22")
    bench.run(weight=3.0)
    assert reasons(bench.run(dry=True, weight=5.0)[1]) == {"sum": "setting weight 3.0 is now 5.0"}


def test_a_run_from_the_records_alone_stops_at_the_first_step_that_is_not_in_them(
    bench: Bench,
) -> None:
    with pytest.raises(WorkToDo, match="double"):
        bench.run(records_only=True)
    bench.run()
    again, run = bench.run(records_only=True)
    assert again is not None
    assert [(r.step, r.outcome) for r in run.reports] == [("double", "cached"), ("sum", "cached")]
    with pytest.raises(WorkToDo, match="sum"):
        bench.run(records_only=True, weight=2.0)
    with pytest.raises(WorkToDo, match="sum"):
        bench.run(records_only=True, forget={"sum"})
    with pytest.raises(WorkToDo, match="sum"):
        bench.run(records_only=True, replacements={"TERM_FLAT": bench.root})
    assert bench.calls == []


def test_a_record_knows_the_source_that_made_it(bench: Bench) -> None:
    bench.run()
    (record,) = (bench.root / "work/records" / VISIT).glob("double-*.json")
    assert recorded_source(record) == source_digest(bench.double.fn) != ""
    record.write_text("{}")
    assert recorded_source(record) == ""


def test_the_source_of_a_step_is_its_file_and_the_modules_it_imports_but_not_the_machinery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "ROOT", tmp_path)
    files = {
        "tasks/a/step.py": "from tasks.a import kernel\nfrom tasks.engine.step import step",
        "tasks/a/kernel.py": "import tasks.b.shared",
        "tasks/b/shared.py": "import numpy",
        "tasks/b/other.py": "",
        "tasks/engine/step.py": "",
    }
    digests = []
    for changed in (None, *files):
        source._imports.cache_clear()
        source._source.cache_clear()
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n# changed" if name == changed else text)
        monkeypatch.setattr(source.inspect, "getfile", lambda _: str(tmp_path / "tasks/a/step.py"))
        digests.append(source_digest(lambda: None))
    first, *others = digests
    assert [digest != first for digest in others] == [True, True, True, False, False]
