"""Options that several commands of `drp` share."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from flows.command.group import Choice

F = TypeVar("F", bound=Callable[..., Any])

# what cannot be read is no usage error: the command reports it like any other fault
FOLDER = click.Path(path_type=Path, readable=False)


class Seconds(click.FloatRange):
    """A time in seconds that a process can wait: no NaN, and at most a year."""

    def __init__(self, least: float) -> None:
        super().__init__(min=least, max=366 * 86400.0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number; NaN lies in no range, but compares with none either."""
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value} is not a number of seconds.", param, ctx)
        return seconds


class NameOrPath(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.2
    """A name, or the path of a file or folder, which becomes absolute if `is_path` says so."""

    def __init__(self, name: str, is_path: Callable[[str], bool]) -> None:
        self.name = name
        self.is_path = is_path

    def convert(self, value: str, _param: object, _context: object) -> str:
        """Return a path as an absolute path."""
        if not self.is_path(value):
            return value
        try:
            return os.path.abspath(value)
        except FileNotFoundError:
            self.fail(f"{value}: the working folder was deleted; use an absolute path")


CASE = NameOrPath("case", lambda text: "/" in text or text.endswith(".toml"))

VISIT_OR_NAME = NameOrPath("visit", os.path.isdir)


output_option = click.option(
    "--output",
    type=FOLDER,
    default=Path("products"),
    show_default=True,
    help="Folder for published products.",
)

work_option = click.option(
    "--work", type=FOLDER, help="Folder for intermediate products [DRP_WORK, or the user's cache]."
)


def complete_step(_context: object, _option: object, incomplete: str) -> list[str]:
    """Return the steps that begin with a text, for completion in a shell."""
    from schemas.forms import StepName

    return [name for name in get_args(StepName) if name.startswith(incomplete)]


def complete_setting(_context: object, _option: object, incomplete: str) -> list[str]:
    """Return the settings that begin with a text, for completion in a shell."""
    from schemas.settings import PipelineSettings

    groups = PipelineSettings().model_dump().items()
    names = (f"{section}.{name}=" for section, group in groups for name in group)
    return [name for name in names if name.startswith(incomplete)]


def complete_case(_context: object, _option: object, incomplete: str) -> list[str]:
    """Return the simulated cases that begin with a text, for completion in a shell."""
    from tasks.simulation.case import case_names

    return [name for name in case_names() if name.startswith(incomplete)]


def set_option(text: str) -> Callable[[F], F]:
    """Return the option --set with a help text."""
    return click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="STEP.NAME=VALUE",
        help=text,
        shell_complete=complete_setting,
    )


def references_option(text: str) -> Callable[[F], F]:
    """Return the option --references with a help text."""
    return click.option("--references", multiple=True, type=FOLDER, help=text)


def engine_option(usual: str = "auto") -> Callable[[F], F]:
    """Return the option --engine."""
    return click.option(
        "--engine",
        type=Choice(["auto", "prefect", "plain"]),
        default=usual,
        show_default=True,
        help="Run steps under Prefect or not; auto uses Prefect if a server is running.",
    )


_BEFORE_ENGINE: tuple[Callable[..., Any], ...] = (
    references_option("Folder with reference files (repeatable)."),
    output_option,
    work_option,
    click.option(
        "--from",
        "from_step",
        metavar="STEP",
        help="Redo STEP and every step that depends on it.",
        shell_complete=complete_step,
    ),
    click.option(
        "--until",
        metavar="STEP",
        help="Stop after STEP without publishing.",
        shell_complete=complete_step,
    ),
    click.option(
        "--replace",
        multiple=True,
        type=FOLDER,
        metavar="FILE",
        help="Use your own version of an intermediate product (repeatable).",
    ),
    set_option("Change a setting (repeatable)."),
    click.option("--settings", "settings_file", type=FOLDER, help="TOML file with settings."),
)

_AFTER_ENGINE: tuple[Callable[..., Any], ...] = (
    click.option("--archive", is_flag=True, help="Also write a .tgz archive for pycheops."),
    click.option(
        "--strict",
        is_flag=True,
        help="Reject deviating inputs; exit with 3 if a step ended with a warning.",
    ),
)


def reduction_options(usual_engine: str) -> Callable[[F], F]:
    """Return a decorator with the options that say how visits are reduced, one or many."""

    def decorate(body: F) -> F:
        for option in reversed((*_BEFORE_ENGINE, engine_option(usual_engine), *_AFTER_ENGINE)):
            body = option(body)
        return body

    return decorate


def reduction_arguments(options: Mapping[str, Any]) -> list[str]:
    """Return the values of `reduction_options` as arguments of `drp reduce`."""
    names = {"assignments": "set", "settings_file": "settings", "from_step": "from"}
    declared = [
        *("assignments", "settings_file", "from_step", "references", "output", "work", "until"),
        *("replace", "engine", "archive", "strict"),
    ]
    return as_arguments({f"--{names.get(name, name)}": options[name] for name in declared})


def read_settings(assignments: Iterable[str], file: Path | None = None) -> dict[str, Any]:
    """Return the settings of a TOML file, overridden by assignments ``STEP.NAME=VALUE``."""
    from schemas.requests import assign
    from tasks.files.toml import read_toml

    settings = read_toml(file) if file is not None else {}
    for assignment in assignments:
        assign(settings, assignment)
    return settings


def as_arguments(values: Mapping[str, object]) -> list[str]:
    """Return options as command line arguments; tuples become repeated options."""
    arguments: list[str] = []
    for name, value in values.items():
        if isinstance(value, bool):
            arguments += [name] if value else []
        else:
            for each in value if isinstance(value, tuple) else (value,):
                arguments += [name, str(each)] if each is not None else []
    return arguments
