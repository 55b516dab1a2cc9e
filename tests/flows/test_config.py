"""Settings in force and their sources, completion in shells, and hints for mistyped names."""

from __future__ import annotations

import json
import subprocess
import tomllib
from pathlib import Path

import pytest

from flows.command.config import SHELLS
from flows.command.main import SECTIONS, main
from schemas.nearest import did_you_mean
from schemas.requests import make_settings
from schemas.settings import PipelineSettings
from tests.support.faults import run_in_process
from tests.support.runs import Bench


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "site.toml"
    path.write_text("[background]\ninner = 50\nouter = 90\n[flat]\nskip = true\n")
    monkeypatch.setenv("DRP_SETTINGS", str(path))
    return path


def test_every_setting_is_shown_with_its_source(site: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text("[background]\nouter = 80\ninner = 51\n")
    arguments = ("config", "--settings", own, "--set", "background.inner=52", "--json")
    rows = {row["setting"]: row for row in json.loads(run_in_process(*arguments).out)}
    groups = PipelineSettings().model_dump().items()
    assert list(rows) == [f"{section}.{name}" for section, group in groups for name in group]
    found = {name: (row["value"], row["source"]) for name, row in rows.items()}
    assert found["background.inner"] == (52.0, "--set")
    assert found["background.outer"] == (80.0, str(own))
    assert found["flat.skip"] == (True, str(site))
    assert found["background.clip"] == (3.0, "default")
    assert rows["flat.skip"]["default"] is False


def test_the_answer_is_a_settings_file(site: Path) -> None:
    text = run_in_process("config").out
    expected = make_settings(tomllib.loads(site.read_text()))
    assert make_settings(tomllib.loads(text)) == expected
    assert run_in_process("config", "--changed").out.count("default") == 3


def test_a_reduction_takes_the_settings_of_the_site(site: Path, reduced: Bench) -> None:
    arguments = reduced.arguments("--dry-run", "--json")
    run = json.loads(run_in_process(*arguments).out)
    steps = {step["step"]: step["outcome"] for step in run["steps"]}
    assert (steps["bias"], steps["flat"]) == ("cached", "would run")
    kept = run_in_process(*arguments, "--set", "flat.skip=false")
    steps = {step["step"]: step["outcome"] for step in json.loads(kept.out)["steps"]}
    assert (steps["flat"], steps["background_1"]) == ("cached", "would run")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[flat]\nskop = true", "unknown setting flat.skop; did you mean flat.skip?"),
        ("[flat", "site.toml: "),
        (None, "site.toml: no such file"),
    ],
)
def test_a_wrong_site_file_is_named(
    site: Path, reduced: Bench, text: str | None, error: str
) -> None:
    site.unlink() if text is None else site.write_text(text)
    for arguments in (["config"], reduced.arguments("--dry-run")):
        outcome = run_in_process(*arguments)
        assert outcome.code == 78
        assert "DRP_SETTINGS, " in outcome.err
        assert error in outcome.err


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_its_completion(shell: str) -> None:
    text = run_in_process("completion", shell).out
    assert f"_DRP_COMPLETE={shell}_complete" in text


def test_bash_completes_commands_steps_settings_and_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    script = run_in_process("completion", "bash").out
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0

    def complete(words: str) -> list[str]:
        from click.shell_completion import BashComplete

        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
        lines = BashComplete(main, {}, "drp", "_DRP_COMPLETE").complete().splitlines()
        return [line.partition(",")[2] for line in lines]

    assert complete("drp re") == ["reduce", "reprocess", "references"]
    assert complete("drp reduce visit --from psf") == ["psf_1", "psf", "psf_fit"]
    assert "background.inner=" in complete("drp reduce visit --set background.")
    assert complete("drp simulate --case de") == ["demo"]


def test_the_help_has_every_command_with_its_whole_summary() -> None:
    text = run_in_process("--help").out
    assert {str(c.name) for group in SECTIONS.values() for c in group} == set(main.commands)
    words = " ".join(text.split())
    for command in main.commands.values():
        assert " ".join((command.help or "").partition("\n\n")[0].split()) in words
    assert text.index("Examples:") > text.index("Other:")


def test_cases_are_listed_with_what_they_are() -> None:
    outcome = run_in_process("simulate", "--list")
    assert "demo        Five hours of a G = 9 star" in outcome.out
    assert run_in_process("simulate").code == 2


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("reduse",), "Did you mean reduce?"),
        (("simulate", "new", "--case", "demmo"), "did you mean demo?"),
        (("reduce", ".", "--set", "psf.lagg=1"), "did you mean psf.lag?"),
        (("reduce", ".", "--set", "backgruond.inner=1"), "did you mean background?"),
        (("reduce", ".", "--until", "psff"), "did you mean psf?"),
        (("reduce", ".", "--engine", "prefct"), "did you mean prefect?"),
        (("plot", ".", "--against", "temprature"), "did you mean temperature?"),
        (("completion", "fsh"), "did you mean fish?"),
        (("validate", "--case", "budgett"), "did you mean budget?"),
    ],
)
def test_the_nearest_name_is_suggested(arguments: tuple[str, ...], hint: str) -> None:
    assert hint in run_in_process(*arguments).err


def test_nothing_is_suggested_where_nothing_is_near() -> None:
    assert did_you_mean("zzz", ["bias", "dark"]) == ""
    assert did_you_mean("OPTIMUM", ["Optimal", "PSF"]) == "; did you mean Optimal?"
