"""The current run over one visit: its options, reports and warnings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.payloads import Leaf, Unused
from tasks.engine.store import Workspace

if TYPE_CHECKING:
    from tasks.engine.step import Step


@dataclass
class StepReport:
    """What happened to one step in a run, for progress, manifest and tests.

    `why` gives the reason why a step would run; it is empty except in a dry run.
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

    A replacement takes the place of the product of the first call of its step, which is the
    sub-array's, and is then removed from `replacements`.
    """

    workspace: Workspace
    engine: str = "plain"  # plain or prefect
    forget: set[str] = field(default_factory=set)  # steps to repeat whatever the records say
    made: set[str] = field(default_factory=set)  # keys of the results computed in this run
    until: str | None = None
    replacements: dict[str, Path] = field(default_factory=dict)  # EXTNAME -> the user's own file
    dry: bool = False
    records_only: bool = False  # a step without a record raises WorkToDo
    retries: int = 2
    retry_delay: float = 1.0
    reports: list[StepReport] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unused: Sequence[Unused] = ()  # references that were found but not chosen
    expected: Sequence[tuple[str, str]] = ()  # the calls of steps foreseen: step and images
    flow_run: str = ""  # id of the Prefect flow run that shows this run
    report_progress: Callable[[str, StepReport | None], None] = lambda _step, _report: None

    def warn(self, text: str) -> None:
        """Record a warning for the user."""
        self.warnings.append(text)


class Stopped(Exception):
    """The run reached the step after which it was to stop."""


class WorkToDo(Exception):
    """A run restricted to the records came to a step that has none."""


_run: ContextVar[Run | None] = ContextVar("drp_run", default=None)

_product_folder: ContextVar[Path | None] = ContextVar("drp_folder", default=None)

STEPS: dict[str, Step[..., Any]] = {}


def ongoing_run() -> Run | None:
    """Return the run in which the caller is, or None outside of one."""
    return _run.get()


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


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Make `folder` the place of the files that the current step streams."""
    token = _product_folder.set(folder)
    try:
        yield
    finally:
        _product_folder.reset(token)


def new_file(name: str) -> Path:
    """Return the path under which the current step streams its product `name`."""
    folder = _product_folder.get()
    if folder is None:
        raise RuntimeError("no step is running")
    return folder / f"{name}.fits"
