"""Rerun: only what is missing or changed is done, it gives the same bytes, and a published folder
is enough to go on from.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from schemas import ROOT
from schemas.errors import BadInputError, CannotCreateError, MissingInputError, UsageError
from tasks.engine import step as machine
from tests.conftest import Drp, raw_file
from tests.support.manifests import write_manifest
from tests.support.runs import CALIBRATION, STEPS, Bench, comparable, differing, executed, tree

# the steps that see images of electrons, all but pointing
PAGES = ["viewer", "report"]

AFTER_CALIBRATE = STEPS[STEPS.index("look") :]

# cosmic rays are looked for where the target is
AFTER_POSITION = STEPS[STEPS.index("imagette_hits") :]

# the second round begins with what the first found; the sample does not change where the target is
AFTER_DEFECTS = STEPS[STEPS.index("defects_1") :]

# attitude, references, star catalogue, top margin and raw images are not published
NEED_RAW = [*CALIBRATION, "pointing", "prior", "calibration_stages", "smearing"]


@pytest.fixture
def bench(reduced: Bench, tmp_path: Path) -> Bench:
    """A copy of the reduced visit's folders, that a test may change."""
    return reduced.copy(tmp_path)


@pytest.fixture
def published(bench: Bench) -> Path:
    """The published folder."""
    (folder,) = bench.output.iterdir()
    return folder


@pytest.fixture
def alone(reduced: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A published folder alone, in a work folder that knows nothing; raw files and references are
    not there.
    """
    (folder,) = reduced.output.iterdir()
    visit = shutil.copytree(folder, tmp_path / "elsewhere" / folder.name)
    monkeypatch.chdir(tmp_path)
    return Bench(Path(visit), (), tmp_path / "fresh", tmp_path / "again")


def rewritten(path: Path, change: Callable[[Any], None]) -> None:
    """Change a FITS file's content, sums made anew; the file is a new one, since a link may lead to
    it.
    """
    part = path.with_name("rewritten.fits")
    with fits.open(path) as hdus:
        change(hdus)
        hdus.writeto(part, checksum=True)
    os.replace(part, path)


def brighten(hdus: Any) -> None:
    """Make every pixel of the first image a thousandth larger."""
    hdus[1].data = hdus[1].data * 1.001


def test_an_unchanged_rerun_executes_and_publishes_nothing_and_names_the_folder(
    bench: Bench, published: Path
) -> None:
    before = tree(bench.output)
    again, run = bench.reduce()
    assert again is not None
    assert [(r.step, r.outcome) for r in run.reports] == [(step, "cached") for step in STEPS]
    assert not again.new
    assert again.folder == str(published)
    assert tree(bench.output) == before
    assert run.warnings == []


def test_two_reductions_of_a_visit_have_the_same_bytes(reduced: Bench, tmp_path: Path) -> None:
    fresh = Bench(reduced.visit, reduced.references, tmp_path / "work", tmp_path / "products")
    again, _ = fresh.reduce()
    assert again is not None
    (first,) = reduced.output.iterdir()
    assert differing(Path(again.folder), first) == []
    assert tree(fresh.work / "products") == tree(reduced.work / "products")


def test_the_manifest_names_no_folder_of_the_machine(reduced: Bench) -> None:
    manifest = (reduced.published()[0] / "manifest.json").read_text()
    assert json.loads(manifest)["steps"]
    for folder in (reduced.visit, reduced.work, reduced.output, *reduced.references):
        assert str(folder) not in manifest


def test_touched_and_moved_files_run_nothing(
    bench: Bench, visit: Path, references: Path, tmp_path: Path
) -> None:
    bench.visit, bench.references = visit, (references,)
    for path in visit.rglob("*.fits"):
        os.utime(path, (1e9, 1e9))
    assert bench.steps() == []
    bench.visit = visit.rename(tmp_path / "moved visit")
    bench.references = (references.rename(tmp_path / "moved references"),)
    assert bench.steps() == []
    again, _ = bench.reduce()
    assert again is not None
    assert not again.new


def test_a_moved_work_folder_is_as_good_as_before(bench: Bench, tmp_path: Path) -> None:
    bench.work = bench.work.rename(tmp_path / "moved")
    assert bench.steps() == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # flat is a factor on every pixel, so everything that sees an image follows
        (
            {"flat": {"skip": True}},
            ["flat", "flat_field", "calibrate", "calibrate_imagettes", *AFTER_CALIBRATE],
        ),
        # the level stands still: one parameter tells it, whatever the window of what is left
        ({"bias": {"smooth": 0.0}}, ["bias"]),
        (
            {"bias": {"clip": 2.0}},
            ["bias", "dark", "calibrate", "calibrate_imagettes", *AFTER_CALIBRATE],
        ),
        # the look's ring is the background's
        ({"background": {"inner": 50.0}}, AFTER_CALIBRATE),
        ({"position": {"radius": 20.0}}, ["position", *AFTER_POSITION]),
        # cosmic rays are taken out of the images, which changes all that is measured in them
        ({"defects": {"seed": 10.0}}, AFTER_DEFECTS),
        # twelve images are fewer than either sample: the same bytes, so nothing follows
        ({"look": {"sample": 64}}, ["look"]),
        # the attitude covers the visit
        ({"pointing": {"partial": True}}, ["pointing"]),
        ({"report": {"points": 1000}}, ["report"]),
        ({"viewer": {"points": 1000}}, ["viewer"]),
        ({"look": {"sample": 128}}, []),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) and value else "",
)
def test_a_changed_setting_runs_what_depends_on_it(
    bench: Bench, settings: dict[str, Any], expected: list[str]
) -> None:
    assert bench.steps(settings=settings) == expected


def test_a_setting_changed_back_runs_nothing(bench: Bench) -> None:
    assert bench.steps(settings={"position": {"iterations": 3}}) != []
    assert bench.steps() == []


def test_changed_content_of_a_reference_runs_what_depends_on_it_and_is_reported(
    bench: Bench, references: Path, published: Path
) -> None:
    bench.references = (references,)
    flat = raw_file(references, "REF_APP_FlatFieldTeff")
    rewritten(flat, brighten)
    before = tree(published)
    again, run = bench.reduce()
    assert again is not None
    assert executed(run) == [
        "flat",
        "flat_field",
        "calibrate",
        "calibrate_imagettes",
        *AFTER_CALIBRATE,
    ]
    assert run.warnings == [f"{flat.name}: changed since {published.name} was published"]
    assert again.new
    assert again.folder == str(published.with_name(published.name[:-4] + "0001"))
    assert tree(published) == before


def test_a_changed_reference_that_only_one_step_reads_runs_that_step(
    bench: Bench, references: Path
) -> None:
    bench.references = (references,)
    conversion = raw_file(references, "REF_APP_FluxConversion")

    def brighter(hdus: Any) -> None:
        values = hdus[1].data
        values[values.names[-1]] *= 1.01

    rewritten(conversion, brighter)
    executed_steps = bench.steps()
    assert executed_steps[0] == "prior"
    assert set(executed_steps).isdisjoint([*CALIBRATION, "pointing"])


def test_a_changed_scale_of_the_pixels_runs_what_tells_motion_by_it(
    bench: Bench, references: Path
) -> None:
    bench.references = (references,)
    scale = raw_file(references, "REF_APP_PixelScale")

    def widen(hdus: Any) -> None:
        hdus[1].data["PIXEL_SCALE"] *= 1.01

    rewritten(scale, widen)
    executed_steps = bench.steps()
    assert executed_steps[:4] == ["spread", "calibrate", "calibrate_imagettes", "pointing"]


def test_a_reference_that_says_the_same_as_before_runs_its_reader_viewer_and_report_only(
    bench: Bench, references: Path
) -> None:
    bench.references = (references,)
    rewritten(
        raw_file(references, "TU2015-01-01T00-00-00_REF_APP_BadPixelMap"),
        lambda hdus: hdus[1].header.set("EXT_VER", "12.3.4"),
    )
    assert bench.steps() == ["prior", *PAGES]


def test_a_changed_raw_image_runs_everything(bench: Bench, visit: Path) -> None:
    bench.visit = visit

    def hit(hdus: Any) -> None:
        cube = hdus["SCI_RAW_SubArray"].data
        cube[3, 100, 100] += np.uint32(1000)

    rewritten(raw_file(visit, "SCI_RAW_SubArray"), hit)
    assert bench.steps() == STEPS


def test_a_changed_attitude_runs_nothing_of_the_detector(bench: Bench, visit: Path) -> None:
    bench.visit = visit

    def roll(hdus: Any) -> None:
        angle = hdus["SCI_RAW_Attitude"].data["SC_ROLL_ANGLE"]
        angle[:] = (angle + 1.0) % 360.0

    rewritten(raw_file(visit, "SCI_RAW_Attitude"), roll)
    steps = bench.steps()
    assert steps[0] == "spread"
    assert steps[-3:] == ["imagette_light_curves", *PAGES]
    assert set(steps) & set(CALIBRATION) <= {"spread", "calibrate", "calibrate_imagettes"}


@pytest.mark.parametrize(
    "step", ["bias", "calibrate", "position", "light_curves", "viewer", "report"]
)
def test_a_new_version_of_a_step_that_gives_the_same_bytes_runs_that_step_only(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(machine.STEPS[step], "version", "next")
    again, run = bench.reduce()
    assert again is not None
    assert executed(run) == [step]
    assert not again.new


def term(bench: Bench, step: str) -> Path:
    """Return the file that a step left in the work folder."""
    (folder,) = (bench.work / "products" / visit_of(bench)).glob(f"{step}-*")
    (path,) = folder.glob("*.fits")
    return path


def visit_of(bench: Bench) -> str:
    (folder,) = (bench.work / "products").iterdir()
    return folder.name


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def altered(path: Path) -> None:
    """Flip a bit of the data and put the date back."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[-2880] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("step", ["dark", "calibrate", "position"])
@pytest.mark.parametrize("spoil", [Path.unlink, truncated, altered])
def test_a_lost_or_spoiled_intermediate_product_is_made_again_with_the_same_bytes(
    bench: Bench, spoil: Callable[[Path], None], step: str
) -> None:
    before = tree(bench.work / "products")
    spoil(term(bench, step))
    _, run = bench.reduce(until="report")
    assert executed(run) == [step]
    assert len(run.warnings) == 1
    assert run.warnings[0].startswith(f"{step}: product ")
    assert tree(bench.work / "products") == before


def test_when_all_products_or_all_records_are_gone_everything_is_made_again_with_the_same_bytes(
    bench: Bench,
) -> None:
    before = tree(bench.work / "products")
    shutil.rmtree(bench.work / "products")
    assert bench.steps(draw=True) == STEPS
    assert tree(bench.work / "products") == before
    for record in (bench.work / "records").rglob("*-*.json"):
        record.write_bytes(record.read_bytes()[:-9])
    assert bench.steps(draw=True) == STEPS
    assert tree(bench.work / "products") == before


@pytest.mark.parametrize("spoil", [Path.unlink, altered])
def test_a_spoiled_publication_is_left_alone_and_the_result_published_anew(
    bench: Bench, published: Path, spoil: Callable[[Path], None]
) -> None:
    whole = comparable(published)
    spoil(raw_file(published, "Lightcurve-DEFAULT"))
    before = tree(published)
    again, run = bench.reduce()
    assert again is not None
    assert executed(run) == []
    assert again.new
    assert again.folder != str(published)
    assert tree(published) == before
    assert any("Lightcurve-DEFAULT" in w and "is missing or modified" in w for w in again.warnings)
    assert set(comparable(Path(again.folder))) == {n.replace("V0000", "V0001") for n in whole}
    third, _ = bench.reduce()
    assert third is not None
    assert (third.new, third.folder) == (False, again.folder)


def test_from_runs_the_step_again_and_nothing_that_has_the_same_input(
    bench: Bench, published: Path
) -> None:
    for step in ("events", "background", "light_curves"):
        again, run = bench.reduce(from_step=step)
        assert again is not None
        assert executed(run) == [step]
        assert (again.new, again.folder) == (False, str(published))


def test_until_stops_behind_the_step_and_publishes_nothing(bench: Bench, tmp_path: Path) -> None:
    bench.work, bench.output = tmp_path / "fresh", tmp_path / "none"
    nothing, run = bench.reduce(until="dark")
    assert nothing is None
    assert executed(run) == STEPS[: STEPS.index("dark") + 1]
    assert not bench.output.exists()
    _, run = bench.reduce(until="calibrate")
    assert executed(run) == ["flat", "flat_field", "calibrate"]


@pytest.mark.parametrize("option", ["from_step", "until"])
def test_a_step_that_does_not_exist_is_named_with_those_that_do(bench: Bench, option: str) -> None:
    with pytest.raises(UsageError, match=r"unknown step 'darks'; did you mean dark\?"):
        bench.reduce(**{option: "darks"})


def test_a_rerun_with_nothing_to_do_asks_for_no_engine(bench: Bench, published: Path) -> None:
    asked = []

    @contextmanager
    def engine() -> Iterator[str]:
        asked.append("asked")
        yield "plain"

    again, run = bench.reduce(engine=engine)
    assert again is not None
    assert (again.folder, again.new, run.engine, asked) == (str(published), False, "plain", [])
    assert [r.outcome for r in run.reports] == ["cached"] * len(STEPS)
    # one step to do is enough, and what the first look said is not said twice
    _, run = bench.reduce(engine=engine, until="gain", from_step="gain")
    assert asked == ["asked"]
    assert [(r.step, r.outcome) for r in run.reports] == [
        *((step, "cached") for step in ("events", "housekeeping", "bias")),
        ("gain", "done"),
    ]
    shutil.rmtree(next(bench.work.glob("products/*/bias-*")))
    _, run = bench.reduce(engine=engine, until="bias")
    assert len(run.warnings) == len(set(run.warnings)) == 1


@pytest.mark.slow
def test_a_rerun_with_nothing_to_do_loads_nothing_that_takes_long(
    bench: Bench, published: Path
) -> None:
    # the default library, since a look at it must not load the simulator that builds it
    arguments = [
        "reduce",
        bench.visit,
        "--work",
        bench.work,
        "--output",
        bench.output,
        "--engine",
        "prefect",
    ]
    code = (
        "import sys\nfrom flows.command.main import main\ntry:\n    main()\nfinally:\n    "
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    folder, modules = done.stdout.splitlines()
    assert folder == str(published)
    heavy = {
        "prefect",
        "tasks.simulation",
        "scipy.signal",
        "scipy.stats",
        "matplotlib",
        "photutils",
        "typst",
    }
    assert heavy & set(modules.split()) == set()


def test_a_version_that_the_scheduler_wants_is_taken_or_refused(
    bench: Bench, published: Path
) -> None:
    again, _ = bench.reduce(arch_rev=3, proc_num=7)
    assert again is not None
    assert again.new
    assert Path(again.folder).name == f"{published.name[:-4]}0307"
    assert not bench.reduce(arch_rev=3, proc_num=7)[0].new  # type: ignore[union-attr]
    before = tree(bench.output)
    with pytest.raises(CannotCreateError, match="V0307: already exists, with a different result"):
        bench.reduce(arch_rev=3, proc_num=7, settings={"imagettes": {"radius": 10.0}})
    assert tree(bench.output) == before


def test_what_a_publication_holds_is_used_where_the_work_folder_is_gone(
    bench: Bench, published: Path
) -> None:
    shutil.rmtree(bench.work)
    again, run = bench.reduce(resume=True)
    assert again is not None
    assert (again.folder, again.new) == (str(published), False)
    assert executed(run) == ["viewer", "report"]


def test_a_dry_run_says_what_would_run_and_changes_nothing(bench: Bench) -> None:
    kept = [bench.work / "products", bench.work / "records" / visit_of(bench), bench.output]
    before = [tree(folder) for folder in kept]
    published, run = bench.reduce(dry_run=True, settings={"position": {"radius": 20.0}})
    assert published is not None
    assert published.folder == ""
    assert [r.step for r in run.reports if r.outcome == "would run"] == [
        "position",
        *AFTER_POSITION,
    ]
    assert [tree(folder) for folder in kept] == before


@pytest.mark.slow
def test_settings_of_a_file_give_way_to_those_of_the_command_line(
    bench: Bench, drp: Drp, tmp_path: Path
) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("[position]\nradius = 20.0\n[look]\nsample = 64\n")
    common = ["--references", bench.references[0], "--work", bench.work, "--dry-run", "--json"]
    done = drp(
        "reduce", bench.visit, *common, "--settings", settings, "--set", "position.radius=25"
    )
    assert done.returncode == 0, done.stderr
    steps = {s["step"]: s["outcome"] for s in json.loads(done.stdout)["steps"]}
    assert steps["look"] == "would run"
    _, run = bench.reduce(
        dry_run=True, settings={"position": {"radius": 25}, "look": {"sample": 64}}
    )
    assert steps == {r.step: r.outcome for r in run.reports}


def test_a_term_given_by_hand_runs_what_depends_on_it_and_is_published_as_such(
    bench: Bench, published: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copy(published / "terms/flat.fits", tmp_path / "my flat.fits"))
    rewritten(own, brighten)
    again, run = bench.reduce(replace=(own,))
    assert again is not None
    assert again.new
    assert {r.step for r in run.reports if r.outcome == "by hand"} == {"flat"}
    assert executed(run) == ["flat_field", "calibrate", "calibrate_imagettes", *AFTER_CALIBRATE]
    folder = Path(again.folder)
    assert (folder / "terms/flat.fits").read_bytes() == own.read_bytes()
    manifest = json.loads((folder / "manifest.json").read_text())
    (flat,) = (s for s in manifest["steps"] if s["step"] == "flat")
    assert flat["payload"]["by_hand"] == ["TERM_FLAT"]
    assert "flat: TERM_FLAT replaced by the user" in manifest["warnings"]
    with (
        fits.open(raw_file(published, "SCI_CAL_SubArray")) as before,
        fits.open(raw_file(folder, "SCI_CAL_SubArray")) as after,
    ):
        # the signal is divided by a flat field a thousandth larger; float64 leaves 1e-16 of it
        np.testing.assert_allclose(after[1].data * 1.001, before[1].data, rtol=1e-12)
    # the same again is nothing new, and without it the first result holds
    again, run = bench.reduce(replace=(own,))
    assert again is not None
    assert (executed(run), again.new, again.folder) == ([], False, str(folder))
    again, run = bench.reduce()
    assert again is not None
    assert (executed(run), again.new, again.folder) == ([], False, str(published))


def test_a_corrected_cube_given_by_hand_is_measured(
    bench: Bench, published: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copy(raw_file(published, "SCI_COR_SubArray"), tmp_path / "mine.fits"))
    rewritten(own, brighten)
    again, run = bench.reduce(replace=(own,))
    assert again is not None
    assert {r.step for r in run.reports if r.outcome == "by hand"} == {"correct"}
    assert executed(run) == STEPS[STEPS.index("apertures") :]
    before, after = (
        fits.getdata(raw_file(folder, "Lightcurve-DEFAULT"), 1)["FLUX"]
        for folder in (published, Path(again.folder))
    )
    # sums of pixels that are all a thousandth larger; float64 sums of 2000 pixels leave 1e-13 of it
    np.testing.assert_allclose(after, before * 1.001, rtol=1e-10)


def test_a_product_given_by_hand_unchanged_changes_no_number(bench: Bench, published: Path) -> None:
    """What publication wrote into its header (date, version, references) is taken out again."""
    cube = raw_file(published, "SCI_COR_SubArray")
    again, _ = bench.reduce(replace=(cube,))
    assert again is not None
    (folder,) = (bench.work / "products" / visit_of(bench)).glob("correct-*")
    (hand,) = (bench.work / "products" / visit_of(bench)).glob("hand-*")
    assert tree(folder) == tree(hand)


def test_a_replacement_of_another_visit_is_refused_before_any_step(
    bench: Bench, published: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copy(published / "terms/gain.fits", tmp_path / "gain.fits"))

    def shorten(hdus: Any) -> None:
        hdus[1].data = hdus[1].data[:-1]

    rewritten(own, shorten)
    with pytest.raises(
        BadInputError, match=r"gain\.fits: HDU 1 TERM_GAIN: has 11 images, the visit has 12"
    ):
        bench.reduce(replace=(own,))
    own = Path(shutil.copy(published / "terms/flat.fits", tmp_path / "flat.fits"))

    def shift(hdus: Any) -> None:
        for hdu in hdus[1:3]:
            hdu.header["X_WINOFF"] += 1

    rewritten(own, shift)
    with pytest.raises(BadInputError, match=r"flat\.fits: HDU 1 TERM_FLAT: has the window"):
        bench.reduce(replace=(own,))


def test_a_replacement_that_takes_no_place_is_refused(
    bench: Bench, published: Path, tmp_path: Path
) -> None:
    term = published / "terms/flat.fits"
    with pytest.raises(UsageError, match=r"flat\.fits already replaces TERM_FLAT"):
        bench.reduce(replace=(term, Path(shutil.copy(term, tmp_path))))
    before = tree(bench.output)
    bare = Path(shutil.copytree(bench.visit, tmp_path / "no imagettes"))
    raw_file(bare, "SCI_RAW_Imagette").unlink()
    bench.visit = bare
    with pytest.raises(
        UsageError,
        match=r"SCI_CAL_Imagette.*: no step of this visit creates the product it should replace",
    ):
        bench.reduce(replace=(raw_file(published, "SCI_CAL_Imagette"),))
    assert tree(bench.output) == before


def test_a_published_folder_alone_gives_itself_again(alone: Bench) -> None:
    again, run = alone.reduce()
    assert again is not None
    # the data of viewer and report are not published; they are collected from what is
    assert executed(run) == PAGES
    assert run.warnings == []
    assert differing(Path(again.folder), alone.visit) == []


def test_each_step_after_the_calibration_is_done_again_from_a_published_folder_alone(
    alone: Bench, reduced: Bench
) -> None:
    alone.steps(draw=True)
    whole = tree(alone.work / "products")
    assert whole == tree(reduced.work / "products")
    for step in STEPS:
        if step in NEED_RAW:
            continue
        assert alone.steps(draw=True, from_step=step) == [step]
        assert tree(alone.work / "products") == whole


def test_a_step_that_needs_a_raw_input_says_so(alone: Bench) -> None:
    alone.steps()
    for step in NEED_RAW:
        with pytest.raises(
            MissingInputError,
            match=r"_(SCI_RAW|REF_APP|MPS_PRE|EXT_PRE)_[\w-]+_V\d{4}\.fits: no longer exists",
        ) as caught:
            alone.reduce(until="report", from_step=step)
        assert caught.value.exit_code == 66
    assert not alone.output.exists()


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        ("SCI_COR_", ["correct", "correct_imagettes", "light_curves", "imagette_light_curves"]),
        ("terms/look", ["look"]),
        ("terms/quality", ["quality"]),
    ],
)
def test_what_is_missing_in_a_published_folder_is_made_again_from_the_rest(
    alone: Bench, lost: str, expected: list[str]
) -> None:
    whole = Path(shutil.copytree(alone.visit, alone.output.with_name("whole")))
    for path in [
        p for p in alone.visit.rglob("*.fits") if str(p.relative_to(alone.visit)).find(lost) >= 0
    ]:
        path.unlink()
    again, run = alone.reduce()
    assert again is not None
    assert executed(run) == [*expected, *PAGES]
    assert len(run.warnings) == len(expected)
    assert differing(Path(again.folder), whole) == []


def test_a_published_folder_goes_on_with_other_settings(alone: Bench, bench: Bench) -> None:
    settings = {"defects": {"seed": 10.0}}
    from_raw, _ = bench.reduce(settings=settings)
    again, run = alone.reduce(settings=settings)
    assert from_raw is not None
    assert again is not None
    assert executed(run) == AFTER_DEFECTS
    # numbered V0001 there, beside the first result, and V0000 here: header and names differ in that
    # only
    raw, own = (
        fits.getdata(raw_file(Path(p.folder), "Lightcurve-DEFAULT"), 1).tobytes()
        for p in (from_raw, again)
    )
    assert raw == own
    assert (
        json.loads((Path(again.folder) / "manifest.json").read_text())["settings"]["defects"][
            "seed"
        ]
        == 10.0
    )


def test_a_published_folder_goes_on_from_a_cube_given_by_hand_and_remains_so(
    alone: Bench, tiny_visit: Path, library: Path, tmp_path: Path
) -> None:
    alone.references = (tiny_visit, library)  # star catalogue with its colours, and top margin
    own = Path(shutil.copy(raw_file(alone.visit, "SCI_CAL_SubArray"), tmp_path / "mine.fits"))
    rewritten(own, brighten)
    again, run = alone.reduce(replace=(own,))
    assert again is not None
    assert {r.step for r in run.reports if r.outcome == "by hand"} == {"calibrate"}
    assert executed(run) == AFTER_CALIBRATE
    # what was given by hand is published, and so need not be given again
    third = Bench(Path(again.folder), (), tmp_path / "third", tmp_path / "thrice")
    once_more, run = third.reduce()
    assert once_more is not None
    assert {r.step for r in run.reports if r.outcome == "by hand"} == {"calibrate"}
    assert executed(run) == PAGES
    assert differing(Path(once_more.folder), Path(again.folder)) == []


@pytest.fixture(scope="module")
def gain_by_hand(reduced: Bench, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The visit, published with another gain given by hand; read-only."""
    folder = tmp_path_factory.mktemp("gain")
    bench = reduced.copy(folder)
    own = Path(shutil.copy(bench.published()[0] / "terms/gain.fits", folder / "gain.fits"))

    def rise(hdus: Any) -> None:
        hdus[1].data["GAIN"] *= 1.01

    rewritten(own, rise)
    by_hand, _ = bench.reduce(replace=(own,))
    assert by_hand is not None
    assert by_hand.new
    return bench


def test_what_was_given_by_hand_in_a_published_folder_is_no_result_of_the_step(
    gain_by_hand: Bench, tmp_path: Path
) -> None:
    bench = gain_by_hand.copy(tmp_path)
    fresh = Bench(bench.published()[-1], (), tmp_path / "fresh", tmp_path / "again")
    _, run = fresh.reduce(until="gain")
    assert [r.outcome for r in run.reports if r.step == "gain"] == ["by hand"]
    bench.work = fresh.work
    _, run = bench.reduce(until="gain")
    assert [r.outcome for r in run.reports] == ["cached", "cached", "cached", "done"]


def test_a_product_by_hand_that_was_changed_after_publication_is_refused(
    gain_by_hand: Bench, tmp_path: Path
) -> None:
    folder = gain_by_hand.copy(tmp_path).published()[-1]
    altered(folder / "terms/gain.fits")
    fresh = Bench(folder, (), tmp_path / "fresh", tmp_path / "again")
    with pytest.raises(
        BadInputError, match=r"gain\.fits: was supplied by hand and modified after publication"
    ):
        fresh.reduce()


def test_a_work_folder_that_lost_a_product_gets_it_back_from_the_published_folder(
    alone: Bench,
) -> None:
    alone.steps()
    before = tree(alone.work / "products")
    for path in (alone.work / "products").rglob("*.fits"):
        path.unlink()
    assert alone.steps() == []
    assert tree(alone.work / "products") == before


def test_inputs_of_a_published_folder_are_found_again_by_name_and_content(
    alone: Bench, tiny_visit: Path, references: Path
) -> None:
    alone.references = (tiny_visit, references)
    assert alone.steps(from_step="flat") == ["flat", *PAGES]


def test_a_reference_that_changed_since_the_manifest_is_reported_and_what_depends_on_it_done_again(
    alone: Bench, tiny_visit: Path, references: Path
) -> None:
    flat = raw_file(references, "REF_APP_FlatFieldTeff")
    rewritten(flat, brighten)
    alone.references = (references,)
    with pytest.raises(MissingInputError, match=r"SCI_RAW_SubArray_V\d{4}\.fits: no longer exists"):
        alone.reduce()
    alone.references = (references, tiny_visit)
    again, run = alone.reduce()
    assert again is not None
    assert run.warnings == [f"{flat.name}: changed since {alone.visit.name} was published"]
    assert executed(run) == [
        "flat",
        "flat_field",
        "calibrate",
        "calibrate_imagettes",
        *AFTER_CALIBRATE,
    ]


def test_a_raw_file_that_changed_since_the_manifest_is_refused(alone: Bench, visit: Path) -> None:
    rewritten(
        raw_file(visit, "SCI_RAW_Attitude"), lambda hdus: hdus[1].header.set("EXT_VER", "12.3.4")
    )
    alone.references = (visit,)
    with pytest.raises(
        BadInputError,
        match=r"SCI_RAW_Attitude_V\d{4}\.fits: is not the file from which the visit was reduced",
    ):
        alone.reduce()


def test_a_manifest_that_cannot_be_read_is_named(alone: Bench) -> None:
    manifest = alone.visit / "manifest.json"
    whole = manifest.read_text()
    for text in ("", "[]", "{}", whole[:-100], whole.replace('"manifest": 1', '"manifest": 2')):
        manifest.write_text(text)
        with pytest.raises(BadInputError, match=r"manifest\.json: "):
            alone.reduce()


def test_the_key_of_a_step_in_a_manifest_leads_nowhere(alone: Bench, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").write_text("x")
    manifest = json.loads((alone.visit / "manifest.json").read_text())
    (flat,) = (s for s in manifest["steps"] if s["step"] == "flat")
    key = flat["key"]
    flat["key"] = "/../../../../victim"
    write_manifest(alone.visit, manifest)
    with pytest.raises(BadInputError, match=r"manifest\.json: steps\.\d+\.key: "):
        alone.reduce()
    # nor does a link in the place of its products
    flat["key"] = key
    write_manifest(alone.visit, manifest)
    place = alone.work / "products" / manifest["visit"] / f"flat-{key[:24]}"
    place.parent.mkdir(parents=True)
    place.symlink_to(victim)
    (victim / "TERM_FLAT.fits").write_text("precious too")
    _, run = alone.reduce(until="flat")
    assert executed(run) == []
    assert tree(victim) == {"TERM_FLAT.fits": b"precious too", "precious": b"x"}
    assert (place / "TERM_FLAT.fits").is_file()
    assert not place.is_symlink()


def test_a_forged_verdict_is_reached_again(bench: Bench, published: Path) -> None:
    manifest = json.loads((published / "manifest.json").read_text())
    verdict = manifest["verdict"]
    assert verdict["word"] != "not usable"
    first, *others = verdict["rules"]
    rules = [{**first, "word": "not usable", "reason": "forged"}, *others]
    reasons = [rule["reason"] for rule in rules if rule["word"] != "good"]
    forged = {**verdict, "word": "not usable", "rules": rules, "reasons": reasons}
    write_manifest(published, {**manifest, "verdict": forged})
    again, _ = bench.reduce()
    assert again is not None
    assert again.new
    assert again.verdict == verdict["word"]
    assert "manifest.json: verdict.rules.0" in again.warnings[0]
