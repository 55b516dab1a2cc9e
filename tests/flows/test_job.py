"""Jobs of the scheduler: products, log and trigger file, and the exit codes of invalid orders."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from flows.orders.job import Job, scratch
from flows.orders.log import LEVELS, SocHandler
from flows.orders.order import Rules, allowed_path, read_order
from flows.orders.trigger import read_trigger, visit_of
from schemas import ROOT
from schemas.errors import ConfigurationError
from schemas.logs import logger_of
from schemas.orders import Level
from tests.support.faults import run_in_process, tree
from tests.support.orders import Order, order_of
from tests.support.runs import Bench

LINE = re.compile(
    r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6} \S+ data_reduction \S+ \[\d{10}\]: \[([DIPWEA])\] "
    r"(.*)$"
)

TRIGGER_IN = """<?xml version="1.0" encoding="UTF-8"?>
<Earth_Explorer_Header xmlns="cheops:gs">
<Fixed_Header><File_Name>CH_TRIGGER</File_Name><File_Class>TEST</File_Class><File_Type>TRIGGER</File_Type>
<Validity_Period><Validity_Start>UTC=2021-03-10T08:00:00</Validity_Start><Validity_Stop>UTC=2021-03-10T09:00:00</Validity_Stop>
</Validity_Period></Fixed_Header>
<Variable_Header><PASS_ID>21031007</PASS_ID><PREV_PASS_ID>21031001</PREV_PASS_ID><PROGTYPE>90</PROGTYPE><PROG_ID>1</PROG_ID>
<REQ_ID>1</REQ_ID><VISITCTR>1</VISITCTR><OBSID>101</OBSID><PROC_NUM>0</PROC_NUM><PROC_NUM_OUT>4</PROC_NUM_OUT></Variable_Header>
</Earth_Explorer_Header>
"""


def lines(text: str) -> list[tuple[str, str]]:
    """Return (level, text) of log lines; every line must be one."""
    matches = [LINE.match(line) for line in text.splitlines()]
    assert all(matches), text
    return [(m[1], m[2]) for m in matches if m is not None]


@pytest.fixture
def order(tmp_path: Path) -> Order:
    """An order whose files do not exist; enough for faults found before the files are opened."""
    files = [
        ("SCI_RAW_SubArray", tmp_path / "raw.fits"),
        ("REF_APP_BiasFrame", tmp_path / "bias.fits"),
    ]
    return Order(tmp_path / "job", inputs=files)


@pytest.fixture(scope="module")
def done(
    tiny_visit: Path, library: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Order, str, str]:
    """A finished job with a trigger file among its inputs, and what it said on its streams."""
    order = order_of(tmp_path_factory.mktemp("job"), tiny_visit, [library])
    trigger = order.folder / "trigger.xml"
    trigger.write_text(TRIGGER_IN)
    order.inputs.append(("TRIGGER", trigger))
    before = tree(tiny_visit)
    outcome = order.run()
    assert outcome.code == 0, outcome.err
    assert tree(tiny_visit) == before
    return order, outcome.out, outcome.err


@pytest.fixture
def again(done: tuple[Order, str, str], tmp_path: Path) -> Order:
    """The order of the finished job with a copy of its products; its scratch is gone."""
    first = done[0]
    order = Order(tmp_path / "again", inputs=list(first.inputs))
    shutil.copytree(first.out, order.out)
    return order


@pytest.mark.slow
def test_a_job_publishes_what_the_scheduler_wants_and_leaves_no_scratch(
    done: tuple[Order, str, str], reduced: Bench
) -> None:
    order, _, _ = done
    folder, trigger = sorted(order.out.iterdir(), key=lambda p: p.is_file())
    assert folder.name == "CH_PR900001_TG000101_V0004"
    assert list(order.tmp.iterdir()) == []
    # nothing but the version differs from what `drp reduce` makes of the same files
    (other,) = reduced.published()
    assert {p.name.replace("V0004", "V0000") for p in folder.rglob("*")} == {
        p.name for p in other.rglob("*")
    }
    assert tree(folder / "terms") == tree(other / "terms")
    root = ElementTree.fromstring(trigger.read_text())
    values = {e.tag.removeprefix("{cheops:gs}"): e.text for e in root.iter()}
    name = "CH_PR900001_TG000101_TU2021-03-10T08-00-00_TRIGGER-data_reduction_V0004"
    assert (trigger.name, values["File_Name"]) == (f"{name}.xml", name)
    passed = (
        "PASS_ID",
        "PREV_PASS_ID",
        "OBSID",
        "PROC_NUM",
        "PROC_NUM_OUT",
        "File_Class",
        "Validity_Stop",
    )
    assert [values[k] for k in passed] == [
        "21031007",
        "21031001",
        "101",
        "0",
        "4",
        "TEST",
        "UTC=2021-03-10T09:00:00",
    ]
    # the last thing that was written
    assert trigger.stat().st_mtime_ns >= max(p.stat().st_mtime_ns for p in folder.rglob("*"))


@pytest.mark.slow
def test_log_lines_have_the_socs_form_and_go_to_their_streams_and_all_to_the_log(
    done: tuple[Order, str, str],
) -> None:
    order, out, err = done
    assert {level for level, _ in lines(out)} == {"I"}
    assert {level for level, _ in lines(err)} == {"P"}
    kept = lines(order.log.read_text())
    assert {level for level, _ in kept} == {
        "D",
        "I",
        "P",
    }  # debug too, which the order keeps off the stream
    assert set(lines(out)) | set(lines(err)) <= set(kept)
    assert ("I", f"published {order.out}/CH_PR900001_TG000101_V0004") in kept
    assert any(text.startswith("calibrate done") for level, text in kept if level == "P")


@pytest.mark.slow
def test_a_job_that_fails_within_the_program_leaves_its_report_beside_the_order(
    tiny_visit: Path, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.calibration import gain

    def broken(*_: object) -> None:
        raise ZeroDivisionError("made to fail")

    monkeypatch.setattr(gain, "gain_of", broken)
    order = order_of(tmp_path / "job", tiny_visit, [library])
    outcome = order.run()
    assert outcome.code == 70, outcome.err
    report = order.path.with_suffix(".report.txt")
    (error,) = [text for level, text in lines(outcome.err) if level == "E"]
    assert error.endswith(f"; report: {report}; as PDF: {report.with_suffix('.pdf')}")
    assert report.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    page = report.read_text()
    assert "the program failed" in page
    assert "gain" in page
    assert list(order.tmp.iterdir()) == []


@pytest.mark.slow
def test_the_same_order_again_publishes_nothing_and_takes_its_results_from_the_published_folder(
    again: Order,
) -> None:
    before = tree(again.out)
    outcome = again.run()
    assert outcome.code == 0, outcome.err
    assert tree(again.out) == before
    steps = [text.split(",")[0] for level, text in lines(outcome.err) if level == "P"]
    assert [s for s in steps if not s.endswith("cached")] == ["viewer done", "report done"]
    assert any(text.startswith("already up to date: ") for _, text in lines(outcome.out))


@pytest.mark.slow
def test_from_replace_and_settings_are_parameters_and_a_taken_version_is_refused(
    again: Order,
) -> None:
    term = next(again.out.glob("CH_*/terms/psf_fit.fits"))
    again.parameters = [("from", "apertures"), ("replace", term), ("imagettes.radius", 10.0)]
    before = tree(again.out)
    refused = again.run()
    assert refused.code == 73
    assert "V0004: already exists, with a different result" in refused.err
    assert tree(again.out) == before
    assert list(again.tmp.iterdir()) == []
    again.parameters += [("proc_num", 5), ("arch_rev", 2)]
    outcome = again.run()
    assert outcome.code == 0, outcome.err
    steps = dict(
        text.split(",")[0].rsplit(" ", 1) for level, text in lines(outcome.err) if level == "P"
    )
    said = {
        name: steps.get(name)
        for name in ("calibrate", "position", "apertures", "psf_fit by", "imagette_photometry")
    }
    assert said == {
        "calibrate": "cached",
        "position": "cached",
        "apertures": "done",
        "psf_fit by": "hand",
        "imagette_photometry": "done",
    }
    assert {k: v for k, v in tree(again.out).items() if k in before} == before
    assert (again.out / "CH_PR900001_TG000101_V0205" / "manifest.json").is_file()
    assert len(list(again.out.glob("*_TRIGGER-data_reduction_V0205.xml"))) == 1


@pytest.mark.slow
def test_a_published_folder_alone_is_enough_for_a_job(again: Order) -> None:
    (folder,) = again.out.glob("CH_*_V0004")
    again.inputs = []
    again.parameters = [("published", folder), ("from", "quality")]
    outcome = again.run()
    assert outcome.code == 0, outcome.err
    assert "quality done" in outcome.err
    assert any(text.startswith("already up to date: ") for _, text in lines(outcome.out))


@pytest.mark.slow
def test_a_job_that_is_killed_is_taken_up_where_it_was(
    done: tuple[Order, str, str], tmp_path: Path
) -> None:
    order = Order(tmp_path / "killed", inputs=list(done[0].inputs))
    command = [
        sys.executable,
        "-m",
        "flows.command.main",
        "job",
        str(order.write()),
        "--engine",
        "plain",
    ]
    killed = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "DRP_CRASH_AT": "after look"},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert killed.returncode == -9
    assert not list(order.out.iterdir())
    outcome = order.run()
    assert outcome.code == 0, outcome.err
    assert {"look cached", "psf_1 done"} <= {
        t.split(",")[0] for level, t in lines(outcome.err) if level == "P"
    }
    assert list(order.tmp.iterdir()) == []


def refused(order: Order, code: int, *words: str) -> str:
    """Process an order; assert exit code and ERROR line, and that only log and report remain."""
    before = tree(order.out) if order.out.exists() else {}
    outcome = order.run()
    assert outcome.code == code, outcome.err
    errors = [text for level, text in lines(outcome.err) if level == "E"]
    assert len(errors) == 1
    missing = [word for word in words if word not in errors[0]]
    assert not missing, f"{missing} not in: {errors[0]}"
    assert (tree(order.out) if order.out.exists() else {}) == before
    assert not order.tmp.is_dir() or list(order.tmp.iterdir()) == []
    assert ("E", errors[0]) in lines(order.log.read_text())
    report = order.path.with_suffix(".report.txt")
    assert errors[0].endswith(f"; report: {report}; as PDF: {report.with_suffix('.pdf')}")
    assert report.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    page = report.read_text()
    assert f"Why\n  {errors[0].split('; report: ')[0]}\n" in page
    assert f"requested: {order.path.name}\n" in page
    assert "submit the order again" in page
    assert "/inputs/" not in page  # no file has the name that it had in scratch only
    return errors[0]


def test_the_report_on_an_order_tells_what_is_known_of_its_visit_and_goes_with_the_next_try(
    order: Order, tiny_visit: Path, library: Path
) -> None:
    text, pdf = (order.path.with_suffix(ending) for ending in (".report.txt", ".report.pdf"))
    order.changes = {"<Version>01.00": "<Version>02.00"}
    refused(order, 78, "Version is 02.00")
    assert text.read_text().startswith("order.xml was not done: the job order is invalid\n")
    order.changes = {}
    order.inputs = order_of(order.folder, tiny_visit, [library]).inputs
    right = dict(order.inputs)["REF_APP_BiasFrame"]
    order.inputs = [
        (kind, tiny_visit / "absent.fits" if path == right else path) for kind, path in order.inputs
    ]
    refused(order, 66, "absent.fits: does not exist")
    assert text.read_text().startswith(
        "PR900001_TG000101 was not reduced: a file of the order is missing\n"
    )
    order.inputs = [i for i in order.inputs if i[0] != "REF_APP_BiasFrame"]
    refused(order, 66, "in the files of order.xml")
    assert "  raw sub-array: CH_PR900001" in text.read_text()
    # what another process does with the order is no failure of it: the report on the last try stays
    before = text.read_bytes(), pdf.read_bytes()
    with scratch(
        Job(
            order.path,
            read_order(order.path, Rules({})),
            lambda: None,
        )
    ):
        busy = order.run()
    assert (busy.code, "report:" in busy.err) == (75, False)
    assert (text.read_bytes(), pdf.read_bytes()) == before


def test_no_report_is_left_beside_an_order_that_is_not_there(tmp_path: Path) -> None:
    outcome = run_in_process("job", tmp_path / "absent.xml", "--engine", "plain")
    assert (outcome.code, "absent.xml: no such file" in outcome.err) == (78, True), outcome.err
    assert list(tmp_path.iterdir()) == []


BILLION = (
    "<!DOCTYPE a ["
    + '<!ENTITY a0 "ha">'
    + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
    + "]><Ipf_Job_Order>&a9;</Ipf_Job_Order>"
)

ATTACKS = {
    "billion laughs": BILLION,
    "external entity": "<!DOCTYPE a [<!ENTITY x SYSTEM "
    '"file:///etc/passwd">]><Ipf_Job_Order>&x;</Ipf_Job_Order>',
    "external DTD": '<!DOCTYPE Ipf_Job_Order SYSTEM "http://127.0.0.1:1/x.dtd"><Ipf_Job_Order/>',
    "quadratic": f"<!DOCTYPE a [<!ENTITY a "
    f'"{"x" * 100_000}">]><Ipf_Job_Order>{"&a;" * 1000}</Ipf_Job_Order>',
    "deep": "<a>" * 200_000 + "</a>" * 200_000,
    "large": "<Ipf_Job_Order>" + " " * (2 << 20) + "</Ipf_Job_Order>",
    "undeclared entity": "<Ipf_Job_Order>&x;</Ipf_Job_Order>",
    "no XML": "SIMPLE  = T",
    "empty": "",
    "bad encoding": '<?xml version="1.0" encoding="klingon"?><Ipf_Job_Order/>',
    "cut": "<Ipf_Job_Order><Ipf_Conf>",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_hostile_xml_is_refused_at_once_and_in_little_memory(name: str, tmp_path: Path) -> None:
    path = tmp_path / "order.xml"
    path.write_text(ATTACKS[name])
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(ConfigurationError, match=r"order\.xml"):
        read_order(path, Rules({}))
    assert time.monotonic() - began < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_an_order_that_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.xml")
    for path in (tmp_path / "fifo.xml", tmp_path, tmp_path / "absent.xml", Path("/dev/zero")):
        with pytest.raises(ConfigurationError, match=str(path)):
            read_order(path, Rules({}))


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("<Version>01.00", "<Version>02.00", "<Version>", "Version is 02.00, expected 01.00"),
        (
            "<Processor_Name>data_reduction",
            "<Processor_Name>other",
            "<Processor_Name>",
            "Processor_Name is other",
        ),
        (
            "<Task_Name>data_reduction",
            "<Task_Name>other",
            "<List_of_Ipf_Procs",
            "0 Ipf_Proc with Task_Name data_reduction",
        ),
        ("<Task_Version>01.00", "<Task_Version>01.01", "<Task_Version>", "Task_Version is 01.01"),
        (
            "<Task_Version>01.00",
            "<Task_Version>1",
            "<Task_Version>",
            "Task_Version is '1', expected",
        ),
        (
            '<List_of_Outputs count="2">',
            '<List_of_Outputs count="3">',
            "<List_of_Outputs",
            "count '3', but contains 2",
        ),
        (
            '<List_of_Outputs count="2">',
            '<List_of_Outputs count="two">',
            "<List_of_Outputs",
            "count 'two'",
        ),
        (
            '<List_of_Outputs count="2">',
            '<List_of_Outputs size="2">',
            "<List_of_Outputs",
            "attribute 'size'",
        ),
        ("<Test>false</Test>", "", "<Ipf_Conf>", "Breakpoint_Enable where Test is expected"),
        ("<Test>false</Test>", "<Test>perhaps</Test>", "<Test>", "'perhaps'"),
        (
            "<Test>false</Test>",
            "<Test>false</Test><Test>false</Test>",
            "<Ipf_Conf>",
            "Test where Breakpoint_Enable is expected",
        ),
        (
            "</Ipf_Job_Order>",
            "<More/></Ipf_Job_Order>",
            "<More/>",
            "is unknown, misplaced or repeated",
        ),
        ("<Test>false</Test>", "<Test><b/></Test>", "<Test>", "contains b, expected text"),
        ("<Ipf_Proc>", "<Ipf_Proc>words", "<Ipf_Proc>", "contains the text 'words'"),
        ("<Stdout_Log_Level>INFO", "<Stdout_Log_Level>LOUD", "<Stdout_Log_Level>", "LOUD"),
        ("<File_Type>TMP", "<File_Type>SCRATCH", "<List_of_Outputs", "no output TMP"),
        ("<File_Type>TMP", "<File_Type>OUT", "<File_Type>OUT", "output OUT occurs twice"),
    ],
)
def test_an_order_of_another_structure_is_refused_with_its_line(
    order: Order, old: str, new: str, line: str, words: str
) -> None:
    order.changes = {old: new}
    error = refused(order, 78, words)
    named = int(re.search(r"line (\d+)", error)[1])  # type: ignore[index]
    assert line in order.text().splitlines()[named - 1]


def test_only_the_proc_of_our_task_and_only_physical_files_count(order: Order) -> None:
    other = (
        "<Task_Name>other</Task_Name><Task_Version>07.00</Task_Version>"
        "<List_of_Inputs/><List_of_Outputs/>"
    )
    names = '<List_of_File_Names count="1"><File_Name>x</File_Name></List_of_File_Names>'
    logical = (
        "<Input><File_Type>REF_APP_DarkFrame</File_Type>"
        f"<File_Name_Type>Logical</File_Name_Type>{names}</Input>"
    )
    order.changes = {
        '<List_of_Ipf_Procs count="1">': f"<List_of_Ipf_Procs "
        f'count="2"><Ipf_Proc>{other}</Ipf_Proc>',
        '<List_of_Inputs count="2">': f'<List_of_Inputs count="3">{logical}',
    }
    read = read_order(order.write(), Rules({}))
    assert [i.file_type for i in read.inputs] == ["SCI_RAW_SubArray", "REF_APP_BiasFrame"]
    assert (read.output, read.scratch) == (order.out, order.tmp)
    assert len(read.ignored) == 1
    assert "REF_APP_DarkFrame is Logical" in read.ignored[0]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("from", "nowhere", "unknown step 'nowhere'"),
        ("form", "gain", "is unknown"),
        ("strict", "perhaps", "expected true or false"),
        ("proc_num", "100", "expected a number up to 99"),
        ("flat.skop", "true", "unknown setting flat.skop"),
        ("bias.clip", "nan", "setting bias.clip"),
        ("replace", "../own.fits", "must be absolute"),
        ("replace", "/x/${HOME}/own.fits", "${HOME} is not allowed"),
    ],
)
def test_a_parameter_that_is_not_possible_is_refused(
    order: Order, tiny_visit: Path, library: Path, name: str, value: str, words: str
) -> None:
    order.inputs = order_of(order.folder, tiny_visit, [library]).inputs
    order.parameters = [(name, value)]
    refused(order, 78, words)


def test_variables_stand_for_something_only_where_they_are_allowed(
    monkeypatch: pytest.MonkeyPatch, order: Order
) -> None:
    order.inputs = [("SCI_RAW_SubArray", "${HOME}/raw.fits")]
    refused(order, 78, "line 19", "${HOME} is not allowed")
    monkeypatch.setenv("DRP_JOB_VARIABLES", "OTHER, DRP_TEST_PLACE")
    monkeypatch.setenv("DRP_TEST_PLACE", str(order.folder))
    order.inputs = [("SCI_RAW_SubArray", "${DRP_TEST_PLACE}/raw.fits")]
    refused(order, 66, f"{order.folder}/raw.fits: does not exist")


def test_paths_outside_of_the_allowed_roots_are_refused(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root, outside):
        folder.mkdir()
        (folder / "raw.fits").touch()
    (root / "link").symlink_to(outside)
    (root / "raw link.fits").symlink_to(outside / "raw.fits")
    (root / "inner").symlink_to(root)
    rules = Rules({"UP": "/..", "HERE": str(root)}, (root,))
    for good in (root / "raw.fits", root / "inner/raw.fits", root / "new/OUT"):
        assert allowed_path(str(good), rules) == good
    assert allowed_path("${HERE}/raw.fits", rules) == root / "raw.fits"
    for bad in (
        outside / "raw.fits",
        f"{root}x/raw.fits",
        root / "link/raw.fits",
        root / "raw link.fits",
        "/etc/passwd",
    ):
        with pytest.raises(ConfigurationError, match="outside the allowed roots"):
            allowed_path(str(bad), rules)
    for bad in (
        f"{root}/../outside/raw.fits",
        f"{root}${{UP}}/outside/raw.fits",
        "raw.fits",
        f"{root}/a\nb",
        "/x" * 3000,
    ):
        with pytest.raises(
            ConfigurationError, match=r"must be absolute and must not contain|control characters"
        ):
            allowed_path(str(bad), rules)
    for text in ("${HOME}/x", "/x/${", "${HERE${HERE}}/x"):
        with pytest.raises(ConfigurationError, match="is not allowed"):
            allowed_path(text, rules)


def test_files_that_are_absent_or_of_another_type_are_refused(
    order: Order, tiny_visit: Path, library: Path
) -> None:
    good = order_of(order.folder, tiny_visit, [library]).inputs
    order.inputs = [i for i in good if i[0] != "SCI_RAW_SubArray"]
    refused(order, 66, "has no input SCI_RAW_SubArray")
    order.inputs = [i for i in good if i[0] != "REF_APP_BiasFrame"]
    refused(order, 66, "bias frame")
    order.inputs = [*good, ("REF_APP_DarkFrame", tiny_visit / "absent.fits")]
    refused(order, 66, "absent.fits: does not exist")
    order.inputs = [
        ("REF_APP_DarkFrame" if i[0] == "REF_APP_BiasFrame" else i[0], i[1]) for i in good
    ]
    refused(order, 65, "HDU 1 is REF_APP_BiasFrame", "says REF_APP_DarkFrame")


def test_damage_is_told_with_the_name_that_the_order_has_for_the_file(
    order: Order, visit: Path, library: Path
) -> None:
    order.inputs = order_of(order.folder, visit, [library]).inputs
    raw = next(Path(str(p)) for kind, p in order.inputs if kind == "SCI_RAW_SubArray")
    data = bytearray(raw.read_bytes())
    data[-5000] ^= 1
    raw.write_bytes(data)
    assert refused(order, 65, str(raw), "checksum").startswith(str(raw))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.replace("<PROG_ID>1<", "<PROG_ID>2<"), "PROG_ID is 2, but 1"),
        (
            lambda t: t.replace("<PROC_NUM_OUT>4<", "<PROC_NUM_OUT>400<"),
            "PROC_NUM_OUT is '400', expected a number up to 99",
        ),
        (
            lambda t: t.replace("<PASS_ID>21031007<", "<PASS_ID>x<"),
            "PASS_ID is 'x', expected 8 digits",
        ),
        (lambda t: t.replace("UTC=2021-03-10T08:00:00", "today"), "Validity_Start is 'today'"),
        (lambda t: t.replace("Variable_Header>", "Other>"), "Variable_Header is missing"),
        (lambda t: t[:-40], "is not well-formed XML"),
        (lambda t: BILLION, "a DTD or an entity is not allowed"),
    ],
)
def test_a_trigger_file_that_cannot_be_is_refused(
    order: Order, tiny_visit: Path, library: Path, change: Callable[[str], str], words: str
) -> None:
    order.inputs = order_of(order.folder, tiny_visit, [library]).inputs
    order.folder.mkdir()
    trigger = order.folder / "trigger_in.xml"
    trigger.write_text(change(TRIGGER_IN))
    order.inputs.append(("TRIGGER", trigger))
    refused(order, 65, str(trigger), words)


def test_a_second_trigger_file_is_refused(order: Order) -> None:
    order.folder.mkdir()
    trigger = order.folder / "trigger_in.xml"
    trigger.write_text(TRIGGER_IN)
    assert read_trigger(trigger).number("PROC_NUM_OUT") == 4
    order.inputs += [("TRIGGER", trigger), ("TRIGGER", trigger)]
    refused(order, 65, "second trigger file")


def test_an_output_that_cannot_be_made_is_refused(
    order: Order, tiny_visit: Path, library: Path
) -> None:
    order.inputs = order_of(order.folder, tiny_visit, [library]).inputs
    order.folder.mkdir()
    order.out.write_text("a file")
    assert refused(order, 73).startswith(f"{order.out}: is a file, not a folder; ")
    assert (
        "the account running drp may write there"
        in order.path.with_suffix(".report.txt").read_text()
    )
    order.out.unlink()
    order.tmp.rmdir()
    order.tmp.write_text("a file")
    assert f"{order.tmp}/" in refused(order, 73)


def test_a_line_goes_to_its_stream_from_the_wanted_level_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    handler = SocHandler("data_reduction", "1.0")
    with handler.attached():
        handler.open(tmp_path / "x.log")
        handler.levels(Level.WARNING, Level.WARNING)
        for level in Level:
            logger_of("tests").log(
                LEVELS[level],
                f"{level.name.lower()} line\n2026-01-01T00:00:00.000000 host prog 1.0 "
                f"[0000000001]: [E] forged",
            )
    out, err = capsys.readouterr()
    assert [level for level, _ in lines(out)] == ["A"]
    assert [level for level, _ in lines(err)] == ["W", "E"]
    kept = lines((tmp_path / "x.log").read_text())
    assert [level for level, _ in kept] == ["D", "I", "P", "W", "E", "A"]
    assert "\\n2026" in kept[0][1]


def test_a_log_file_that_cannot_be_written_does_not_stop_the_job(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    handler = SocHandler("data_reduction", "1.0")
    with handler.attached():
        handler.open(tmp_path / "absent" / "x.log")
        logger_of("tests").info("goes on")
    out, err = capsys.readouterr()
    assert "log file cannot be opened" in err
    assert "goes on" in out


def test_the_sample_order_and_its_trigger_are_read() -> None:
    samples = ROOT / "docs" / "examples"
    order = read_order(samples / "order.xml", Rules({}, ()))
    assert [entry.file_type for entry in order.inputs] == [
        "TRIGGER",
        "SCI_RAW_SubArray",
        "REF_APP_BiasFrame",
    ]
    assert visit_of(read_trigger(samples / "trigger.xml")) == "PR100001_TG000101"
