"""The current run over one visit: its settings, reports and warnings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from pydantic import BaseModel

from schemas.payloads import Leaf
from tasks.engine.store import Workspace

if TYPE_CHECKING:
    from tasks.engine.step import Step

P = ParamSpec("P")

L = TypeVar("L", bound=Leaf)

R = TypeVar("R", bound=BaseModel)


@dataclass
class StepReport:
    """What happened to one step in a run, for progress, manifest and tests. `why` says why a step
    would run.
    """

    step: str
    outcome: str  # done, cached, by hand, would run
    seconds: float
    key: str
    leaf: Leaf
    why: str = ""


@dataclass
class Run:
    """One run over one visit.

    A replacement takes the place of what the first call of its step leaves, the sub-array's, and is
    then struck off.
    """

    workspace: Workspace
    engine: str = "plain"  # plain or prefect
    forget: set[str] = field(
        default_factory=set
    )  # steps that are done again whatever the records say
    made: set[str] = field(default_factory=set)  # keys of what was done in this run
    until: str | None = None
    replacements: dict[str, Path] = field(default_factory=dict)  # EXTNAME -> a person's own version
    dry: bool = False
    records_only: bool = False  # what is not in the records raises WorkToDo
    retries: int = 2
    retry_delay: float = 1.0
    reports: list[StepReport] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    tell: Callable[[str, StepReport | None], None] = lambda _step, _report: None

    def warn(self, text: str) -> None:
        """Note something that a person should know."""
        self.warnings.append(text)


class Stopped(Exception):
    """The run reached the step it was to stop behind."""


class WorkToDo(Exception):
    """A run from the records alone came to a step that is not in them."""


_run: ContextVar[Run | None] = ContextVar("drp_run", default=None)

product_folder: ContextVar[Path | None] = ContextVar("drp_folder", default=None)

STEPS: dict[str, Step[..., Any]] = {}


def current_run() -> Run:
    """Return the run in which a step is called."""
    run = _run.get()
    if run is None:
        raise RuntimeError("a step was called outside of a run; call its .fn for the bare function")
    return run


@contextmanager
def running(run: Run) -> Iterator[Run]:
    """Make `run` the one in which steps are called."""
    token = _run.set(run)
    try:
        yield run
    finally:
        _run.reset(token)


def new_file(name: str) -> Path:
    """Return where a step that streams its product writes the file `name`."""
    folder = product_folder.get()
    if folder is None:
        raise RuntimeError("no step is running")
    return folder / f"{name}.fits"
