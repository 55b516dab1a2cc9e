"""Reprocessing: exactly what a new reference or step version affects is planned and reduced."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from flows.reprocess import Planned, Reprocessing, replay
from tasks.engine.run import STEPS
from tests.support.faults import edited, run_in_process, tree
from tests.support.runs import STEPS as ORDER
from tests.support.runs import Bench, newer, used

pytestmark = pytest.mark.slow


@pytest.fixture
def bench(reduced: Bench, tmp_path: Path) -> Bench:
    """A copy of the reduced visit's folders, that a test may change."""
    return reduced.copy(tmp_path)


def planned(bench: Bench, *places: Path) -> list[Planned]:
    warnings: list[str] = []
    before = (tree(bench.output), tree(bench.work))
    found = Reprocessing(bench.output, places, bench.work).plan(warnings.append)
    assert warnings == []
    assert (tree(bench.output), tree(bench.work)) == before  # a plan leaves everything as it is
    return found


def test_nothing_is_planned_where_nothing_is_newer(bench: Bench, tmp_path: Path) -> None:
    assert planned(bench) == []
    assert planned(bench, bench.references[0], bench.visit) == []
    path = newer(bench, tmp_path / "new", "BadPixelMap")
    with edited(path, "REF_APP_BadPixelMap") as hdu:
        start = hdu.get("V_STRT_U")
        hdu.set("V_STRT_U", "2031-01-01T00:00:00.000000")  # not valid for the visit
    assert planned(bench, tmp_path / "new") == []
    with edited(path, "REF_APP_BadPixelMap") as hdu:
        hdu.set("V_STRT_U", start)
    assert len(planned(bench, tmp_path / "new")) == 1
    shutil.rmtree(tmp_path / "new")
    newer(bench, tmp_path / "new", "BadPixelMap", number=0)  # a lower version
    assert planned(bench, tmp_path / "new") == []


def test_a_new_reference_touches_what_reads_it_and_what_follows(
    bench: Bench, tmp_path: Path
) -> None:
    path = newer(bench, tmp_path / "new", "BadPixelMap")
    (visit,) = planned(bench, tmp_path / "new")
    assert visit.steps[0] == "prior"
    assert not {"events", "bias", "calibrate", "calibrate_imagettes", "pointing"} & set(visit.steps)
    assert visit.reasons == [
        f"bad pixel map: {path.name} instead of {used(bench, 'BadPixelMap').name}"
    ]
    assert not visit.raw
    # what it costs is what these steps took
    manifest = json.loads((Path(visit.folder) / "manifest.json").read_text())
    assert visit.seconds == pytest.approx(
        sum(s["seconds"] for s in manifest["steps"] if s["step"] in visit.steps), abs=1e-3
    )
    assert visit.unknown == []


def test_a_new_step_version_touches_that_step_and_what_follows(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(STEPS["quality"], "version", "99")
    (visit,) = planned(bench)
    assert visit.steps == [s for s in ORDER[ORDER.index("quality") :] if s in visit.steps]
    assert {"quality", "light_curves", "report"} <= set(visit.steps)
    assert len(visit.reasons) == 1
    assert visit.reasons[0].startswith("quality: version ")
    assert visit.reasons[0].endswith(" is now 99")


def test_what_was_planned_is_done_and_older_versions_stay(bench: Bench, tmp_path: Path) -> None:
    newer(bench, tmp_path / "new", "BadPixelMap")
    (visit,) = planned(bench, tmp_path / "new")
    shutil.rmtree(bench.work)  # the published folder is enough
    before = tree(bench.output)
    arguments = [
        "reprocess",
        bench.output,
        "--references",
        tmp_path / "new",
        "--visits",
        bench.visit,
        "--visits",
        bench.references[0],
        "--work",
        bench.work,
        "--engine",
        "plain",
    ]
    shown = run_in_process(*arguments)
    assert shown.code == 0
    assert "\n1 visit, " in shown.err
    assert "nothing was done; use --yes to reduce them" in shown.err
    assert tree(bench.output) == before
    done = run_in_process(*arguments, "--yes")
    assert done.code == 0, done.err
    new = bench.output / "CH_PR900001_TG000101_V0001"
    assert done.out.strip() == str(new)
    manifest = json.loads((new / "manifest.json").read_text())
    executed = [s["step"] for s in manifest["steps"] if s["outcome"] == "done"]
    assert executed[0] == visit.steps[0] == "prior"
    assert set(executed) <= set(
        visit.steps
    )  # a step that leaves the same bytes spares what follows
    assert {k: v for k, v in tree(bench.output).items() if k in before} == before
    assert manifest["inventory"]["references"]["bad pixel map"]["product"]["path"].endswith(
        "_V9001.fits"
    )
    assert run_in_process(*arguments, "--yes").err.endswith("0 visits, 0.0 s\n")


def test_a_visit_that_fails_leaves_the_others_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (folder,) = bench.output.iterdir()
    other = folder.with_name("CH_PR900001_TG000999_V0000")
    other.mkdir()
    (other / "manifest.json").write_text("{}")
    monkeypatch.setattr(STEPS["bias"], "version", "99")
    outcome = run_in_process(
        "reprocess", bench.output, "--work", tmp_path / "fresh", "--engine", "plain", "--yes"
    )
    assert outcome.code == 66
    assert "WARNING PR900001_TG000999: cannot be planned" in outcome.err
    assert "its raw files are not in any of the folders" in outcome.err
    assert "ERROR PR900001_TG000101: " in outcome.err
    assert "reduce from the visit's own folder" in outcome.err


def test_a_product_given_by_hand_stays_in_the_plan(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder,) = bench.output.iterdir()
    bench.reduce(replace=(folder / "terms" / "psf_fit.fits",))
    newest = bench.output / f"{folder.name[:-4]}0001"
    assert planned(bench) == []
    monkeypatch.setattr(STEPS["psf_fit"], "version", "99")
    assert planned(bench) == []  # nothing of that step is asked for
    request = Reprocessing(bench.output, (), bench.work).request(newest, dry=True)
    assert all(r.outcome == "cached" for r in replay(request).run.reports)
