"""Commands about the command itself: the settings in force, completion in a shell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.command.console import Console, command, say
from flows.command.group import Choice
from flows.command.options import FOLDER, read_settings, set_option

if TYPE_CHECKING:
    from flows.runs.site import SettingInForce

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.option("--settings", "settings_file", type=FOLDER, help="TOML file with settings.")
@set_option("Change a setting (repeatable).")
@click.option("--changed", is_flag=True, help="Only the settings that differ from the defaults.")
@command
def config(
    console: Console, settings_file: Path | None, assignments: tuple[str, ...], changed: bool
) -> None:
    """Show every setting with its value and where the value comes from.

    A value comes from `--set`, else from the file of `--settings`, else from the site file that
    DRP_SETTINGS names, else it is the default. The answer is a TOML file that `--settings` and
    DRP_SETTINGS accept.
    """
    from flows.runs.site import settings_in_force

    known = read_settings((), settings_file)
    rows = settings_in_force(known, read_settings(assignments), settings_file)
    shown = [row for row in rows if row.changed or not changed]
    console.answer([row.model_dump(mode="json") for row in shown], config_lines(shown))


def config_lines(rows: list[SettingInForce]) -> list[str]:
    """Return settings as the lines of a TOML file, with sources and meanings as comments."""
    lines: list[str] = []
    for row in rows:
        section, _, name = row.setting.partition(".")
        if f"[{section}]" not in lines:
            lines += ["", f"[{section}]"] if lines else [f"[{section}]"]
        source = (
            "default"
            if row.source == "default"
            else f"{row.source}; default {default_text(row.default)}"
        )
        value = f"# {name} is not set" if row.value is None else f"{name} = {toml_value(row.value)}"
        lines.append(f"{value:28s}  # {source}; {row.meaning}")
    return lines


def default_text(value: Any) -> str:
    """Return a default for the eye."""
    return toml_value(value) if isinstance(value, tuple) else str(value)


def toml_value(value: Any) -> str:
    """Return a setting's value as TOML."""
    return json.dumps(value, ensure_ascii=False)


@click.command()
@click.argument("shell", type=Choice(SHELLS))
def completion(shell: str) -> None:
    """Write the script that completes commands, options, steps, settings and cases in a shell.

    \b
    drp completion bash > ~/.local/share/bash-completion/completions/drp
    drp completion zsh > ~/.zfunc/_drp           # with that folder in fpath
    drp completion fish > ~/.config/fish/completions/drp.fish
    """  # noqa: D301
    from click.shell_completion import get_completion_class

    from flows.command.main import main

    kind = get_completion_class(shell)
    assert kind is not None  # all three are built in
    complete = kind(main, {}, "drp", "_DRP_COMPLETE")
    # source() would run the shell to ask for its version
    say((complete.source_template % complete.source_vars()).strip())
