"""Log lines: the loggers of the standard library, and the formats of the command."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import logs
from flows.command.console import Console, rate_bar
from schemas.errors import ConfigurationError
from schemas.logs import PROGRESS, TOP, logger_of
from tests.support.faults import run_in_process
from tests.support.runs import Bench


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """Leave the top logger as it was."""
    top = logging.getLogger(TOP)
    before = top.level, top.propagate, [*top.handlers]
    yield
    top.level, top.propagate, top.handlers = before


def record(level: int, text: str, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("drp.tasks.x", level, "x.py", 1, text, (), None)
    made.created = 1_700_000_000.25
    made.__dict__.update(extra)
    return made


def test_the_formats_say_time_level_logger_and_text() -> None:
    ended = record(PROGRESS, "bias done\n[E] forged", data={"step": "bias", "seconds": 0.5})
    assert logs.TextFormatter().format(ended) == (
        "2023-11-14T22:13:20.250000 PROGRESS drp.tasks.x: bias done\\n[E] forged"
    )
    assert json.loads(logs.JsonFormatter().format(ended)) == {
        "time": "2023-11-14T22:13:20.250000Z",
        "level": "PROGRESS",
        "logger": "drp.tasks.x",
        "message": "bias done\\n[E] forged",
        "step": "bias",
        "seconds": 0.5,
    }
    soc = logs.SocFormatter("prog", "1.0")
    line = r"2023-11-14T22:13:20\.250000 \S+ prog 1\.0 \[\d{10}\]: \[P\] bias done\\n\[E\] forged"
    assert re.fullmatch(line, soc.format(ended))
    letters = [soc.format(record(level, ""))[-3] for level in (10, 20, 25, 30, 40, 50)]
    assert letters == ["D", "I", "P", "W", "E", "A"]


@pytest.mark.parametrize(
    ("variable", "verbose", "form", "expected"),
    [
        ("", 0, None, None),
        ("", 1, None, (logging.INFO, "")),
        ("", 2, None, (logging.DEBUG, "")),
        ("", 0, "json", (logging.INFO, "json")),
        ("warning", 0, None, (logging.WARNING, "")),
        ("Debug:JSON", 0, None, (logging.DEBUG, "json")),
        ("json", 0, "soc", (logging.INFO, "soc")),
        ("warning", 1, None, (logging.INFO, "")),
        ("debug", 1, None, (logging.DEBUG, "")),
    ],
)
def test_options_come_before_the_variable(
    variable: str,
    verbose: int,
    form: str | None,
    expected: tuple[int, str] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DRP_LOG", variable)
    assert logs.wanted(verbose, form) == expected


def test_a_variable_that_is_neither_level_nor_format_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DRP_LOG", "loud")
    with pytest.raises(ConfigurationError, match="DRP_LOG: 'loud' is neither a level"):
        logs.wanted(0, None)


def test_a_reduction_logs_each_step_to_the_logger_of_its_module(
    reduced: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = reduced.copy(tmp_path)
    with caplog.at_level(logging.DEBUG, TOP):
        published, run = bench.reduce()
    assert published is not None
    lines = [(r.name, r.levelname, r.getMessage()) for r in caplog.records]
    assert ("drp.tasks.calibration.bias", "DEBUG", "bias begins") in lines
    ended = [r for r in caplog.records if r.levelno == PROGRESS]
    assert [r.__dict__["data"]["step"] for r in ended] == [r.step for r in run.reports]
    assert all(r.name.startswith("drp.tasks.") for r in ended)
    warned = [f"{r.step}: {w}" for r in run.reports for w in r.leaf.warnings]
    assert [t for n, level, t in lines if level == "WARNING"] == [*warned, *run.warnings]
    assert lines[-1][1:] == ("INFO", f"already up to date: {published.folder}")


def test_the_command_writes_json_lines_and_nothing_else_on_standard_error(
    reduced: Bench, tmp_path: Path
) -> None:
    bench = reduced.copy(tmp_path)
    done = run_in_process(*bench.arguments("--engine", "plain", "--log-format", "json"))
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in done.err.splitlines()]
    assert {"step": "bias", "outcome": "cached"}.items() <= next(
        line.items() for line in lines if line.get("step") == "bias"
    )
    assert any(line["message"].startswith("the light curve is ") for line in lines)
    wrong = run_in_process("show", tmp_path / "absent.fits", "--log-format", "json")
    (error,) = [json.loads(line) for line in wrong.err.splitlines()]
    assert (wrong.code, error["level"], error["code"]) == (66, "ERROR", 66)


def test_progress_through_many_visits_becomes_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    advance = rate_bar("visits", Console(logs=True))
    with caplog.at_level(logging.INFO, TOP):
        advance(1, 3)
        advance(2, 3, "PR1: failed")
    assert [r.getMessage() for r in caplog.records] == ["visits 1/3", "visits 2/3: PR1: failed"]


def test_a_library_says_nothing_unless_it_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    top = logging.getLogger(TOP)
    assert [type(handler) for handler in top.handlers] == [logging.NullHandler]
    top.propagate = False
    logger_of("tasks.x").warning("unheard")
    heard = logging.StreamHandler(sys.stdout)
    logging.getLogger("drp.tasks").addHandler(heard)
    logger_of("tasks.x").warning("heard")
    logging.getLogger("drp.tasks").removeHandler(heard)
    assert capsys.readouterr() == ("heard\n", "")
