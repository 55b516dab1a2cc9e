"""Requests of a user or of the scheduler."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import ConfigurationError, UsageError
from schemas.nearest import did_you_mean
from schemas.settings import PipelineSettings
from schemas.words import fault_of


class ReduceRequest(BaseModel):
    """Reduce one visit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    visit: Path = Field(description="folder of the visit, or a published folder")
    references: tuple[Path, ...] = Field(
        (), description="folders with reference files; default: the library"
    )
    output: Path = Field(Path("products"), description="folder in which the products are published")
    work: Path | None = Field(None, description="folder of intermediate products")
    from_step: str | None = Field(None, description="repeat this step and those that depend on it")
    until: str | None = Field(None, description="stop after this step without publishing")
    replace: tuple[Path, ...] = Field((), description="files that replace intermediate products")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="settings that differ from the defaults, by step"
    )
    archive: bool = Field(False, description="also write the .tgz that pycheops opens")
    strict: bool = Field(False, description="reject inputs that deviate from their definitions")
    wait: bool = Field(False, description="wait until another run on the visit has finished")
    dry_run: bool = Field(False, description="only show what would be done")
    resume: bool = Field(
        False, description="start from the visit's newest publication in the output folder"
    )
    renew: bool = Field(
        False,
        description="with a published folder: use newer references from the reference folders",
    )
    arch_rev: int | None = Field(
        None, ge=0, le=99, description="archive revision; default: that of the raw data"
    )
    proc_num: int | None = Field(
        None, ge=0, le=99, description="processing number; default: the next free one"
    )


class ValidateRequest(BaseModel):
    """Validate the pipeline on simulated visits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cases: tuple[str, ...] = Field(
        (), description="names of cases, paths of TOML files, or budget; default: all"
    )
    seeds: int | None = Field(
        None, ge=1, description="visits of each case; default: as many as its noise requires"
    )
    images: int | None = Field(
        None, ge=1, description="stacks of each visit, in place of the case's own"
    )
    output: Path = Field(Path("validation"), description="folder of results and finished parts")
    again: bool = Field(False, description="repeat finished parts")
    jobs: int = Field(1, ge=1, description="parts at a time, each in a process")


def assign(settings: dict[str, Any], assignment: str) -> None:
    """Put ``step.name=value`` into nested settings; the value is TOML, or else text.

    Raises
    ------
    UsageError
        If the text is not such an assignment.
    ConfigurationError
        If the value has too many digits, or is nested too deeply.
    """
    key, sign, text = assignment.partition("=")
    parts = key.strip().split(".")
    if not sign or len(parts) != 2 or not all(p.isidentifier() for p in parts):
        raise UsageError(f"--set {assignment!r}: expected STEP.NAME=VALUE, such as flat.skip=true")
    try:
        value = tomllib.loads(f"v = {text.strip()}")["v"]
    except (tomllib.TOMLDecodeError, KeyError):
        value = text.strip()
    except (ValueError, RecursionError) as error:  # thousands of digits or brackets
        raise ConfigurationError(f"setting {key.strip()}: {error}") from error
    settings.setdefault(parts[0], {})[parts[1]] = value


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float | bool)


def shown(value: object) -> str:
    """Return a value as text; Python refuses to write integers of thousands of digits."""
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"
    return repr(value)


def _hint(key: str) -> str:
    """Return the setting or section nearest to an unknown one."""
    sections = PipelineSettings().model_dump()
    names = [f"{section}.{name}" for section, group in sections.items() for name in group]
    return did_you_mean(key, names if "." in key else sections)


def make_settings(changes: dict[str, Any]) -> PipelineSettings:
    """Return the default settings with some changes.

    Raises
    ------
    ConfigurationError
        If a name is unknown, or a value is of the wrong type or out of range; names the key.
    """
    try:
        settings = PipelineSettings.model_validate(changes)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(p) for p in first["loc"]) or "settings"
        given = f" (got {shown(first['input'])})" if _is_plain(first.get("input")) else ""
        text = (
            f"unknown setting {key}{_hint(key)}"
            if first["type"] == "extra_forbidden"
            else f"setting {key}: {fault_of(first)}{given}"
        )
        raise ConfigurationError(text) from error
    for group in changes.values():
        for value in group.values() if isinstance(group, dict) else ():
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigurationError(f"settings contain {value}, expected a finite number")
    return settings
