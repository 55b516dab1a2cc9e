"""Contents of the scheduler's job orders and trigger files."""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict

PROCESSOR_VERSION = "01.00"
TRIGGER = "TRIGGER"


class Level(IntEnum):
    """Importance of a log line."""

    DEBUG = 0
    INFO = 1
    PROGRESS = 2
    WARNING = 3
    ERROR = 4
    ALERT = 5  # a person is needed


class Part(BaseModel):
    """Base of the parts of an order: immutable; unknown fields are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Parameter(Part):
    """A Processing_Parameter, with its line in the order."""

    name: str
    value: str
    line: int


class JobInput(Part):
    """A physical input file. `file_type` is the EXTNAME of its HDU 1, or TRIGGER."""

    file_type: str
    path: Path
    line: int


class JobOrder(Part):
    """A job order: inputs, folders of products and scratch, levels of the log, parameters."""

    stdout_level: Level
    stderr_level: Level
    inputs: tuple[JobInput, ...]
    output: Path
    scratch: Path
    parameters: tuple[Parameter, ...] = ()
    ignored: tuple[str, ...] = ()

    def of_type(self, file_type: str) -> list[JobInput]:
        """Return the inputs of a type."""
        return [i for i in self.inputs if i.file_type == file_type]


class Trigger(Part):
    """Contents of a trigger file; `values` are those of the Variable_Header, in order."""

    root: str = "Earth_Explorer_Header"
    file_class: str = "OPER"
    validity_start: str
    validity_stop: str
    values: dict[str, str]

    def number(self, name: str) -> int | None:
        """Return a value as a number, or None if there is none."""
        return int(self.values[name]) if name in self.values else None
