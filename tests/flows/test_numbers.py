"""Numbers of thousands of digits, and others that no type holds: rejected wherever they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.orders.job import Wishes, _take_parameter
from flows.orders.trigger import read_trigger
from schemas.errors import BadInputError, ConfigurationError
from schemas.orders import Parameter
from tests.support.faults import run_in_process

DIGITS = "1" * 5000  # Python refuses to convert more than 4300
HEX = "0x" + "f" * 5000  # which it does convert, but not write

NUMBERS = {
    "digits": DIGITS,
    "negative": f"-{DIGITS}",
    "hexadecimal": HEX,
    "below the limit": "9" * 4000,
    "real": f"{DIGITS}.5",
    "infinite": "1e400",
    "not a number": "nan",
    "nested": "[" * 3000,
}


@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS.keys())
def test_a_setting_is_rejected(number: str, tiny_visit: Path, tmp_path: Path) -> None:
    folders = ("--output", tmp_path / "out", "--work", tmp_path / "work", "--engine", "plain")
    for setting in ("bias.clip", "report.points", "dark.skip", "look.sample"):
        outcome = run_in_process("reduce", tiny_visit, *folders, "--set", f"{setting}={number}")
        assert outcome.code == 78, (setting, outcome.err)
        assert setting in outcome.error
    file = tmp_path / "settings.toml"
    file.write_text(f"[bias]\nclip = {number}\n")
    outcome = run_in_process("reduce", tiny_visit, *folders, "--settings", file)
    assert outcome.code == 78, outcome.err


@pytest.mark.parametrize("number", [DIGITS, HEX, "9" * 4000, "-1", "nan", "inf", "1e400"])
def test_an_option_is_rejected(number: str, tmp_path: Path) -> None:
    case = tmp_path / "case.toml"
    case.write_text(f"images = {number}\nexptime = {number}\n")
    for arguments, code in (
        (("clean", "--work", tmp_path, "--older", number), 2),
        (("clean", "--work", tmp_path, "--quota", f"{number}G"), 2),
        (("clean", "--work", tmp_path, "--quota", f"{'9' * 400}G"), 2),
        (("explain", tmp_path, "--image", number), None),
        (("references", tmp_path, "--at", number), 2),
        (("simulate", tmp_path / "new", "--case", "tiny", "--images", number), None),
        (("simulate", tmp_path / "new", "--case", case), 78),
        (("validate", "--case", case, "--output", tmp_path / "new"), 2),
        (("intake", tmp_path, "--once", "--settle", number), 2),
        (("intake", tmp_path, "--every", number), 2),
    ):
        outcome = run_in_process(*arguments)
        assert outcome.code in (2, 66, 78), (arguments, outcome.err)
        assert code in (None, outcome.code), (arguments, outcome.err)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "value", [DIGITS, "0" * 5000, "1234567890", "000000000100", "²", "1.0", ""]
)
def test_a_version_in_an_order_is_rejected(value: str) -> None:
    for name in ("arch_rev", "proc_num"):
        with pytest.raises(ConfigurationError, match="expected a number up to 99"):
            _take_parameter(Parameter(name=name, value=value, line=1), Wishes({}))


@pytest.mark.parametrize("value", [DIGITS, "0" * 5000, "0000000000001234567890", "²"])
def test_a_number_in_a_trigger_file_is_rejected(value: str, tmp_path: Path) -> None:
    path = tmp_path / "trigger.xml"
    path.write_text(
        '<?xml version="1.0"?>\n<Earth_Explorer_Header><Fixed_Header><Validity_Period>'
        "<Validity_Start>UTC=2021-03-10T08:00:00</Validity_Start>"
        "<Validity_Stop>UTC=2021-03-10T09:00:00</Validity_Stop></Validity_Period></Fixed_Header>"
        f"<Variable_Header><PROC_NUM>{value}</PROC_NUM></Variable_Header></Earth_Explorer_Header>"
    )
    with pytest.raises(BadInputError, match="PROC_NUM is "):
        read_trigger(path)
