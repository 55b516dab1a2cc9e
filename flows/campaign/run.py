"""A campaign: visits are submitted to an engine, a bounded number at a time, and outcomes kept."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from flows.campaign.engines import Engine
from flows.campaign.locks import held_locks
from flows.campaign.places import prepare_places
from flows.campaign.state import opened, options_digest, state_path
from flows.campaign.visit import Task, WorkerUnfit, reduce_in_process
from flows.runs.ending import exit_code
from schemas import VERSION
from schemas.campaigns import Begin, Outcome
from schemas.errors import BusyError, plain
from tasks.engine.child import COMMAND
from tasks.engine.folders import default_work_folder

LOOK_SECONDS = 1.0  # between two looks whether the engine is still there

KILLED = (
    "the worker died with this visit each time it was tried: the visit needs more memory than the "
    "worker has, or the machine fails"
)


@dataclass(frozen=True)
class Campaign:
    """What is to be reduced, and how.

    `options` are arguments of `drp reduce`; `settings` is the content of the settings file that
    they name. With `again`, visits that are done or have failed are reduced again. `delay` is the
    time before a visit is tried again [s].
    """

    name: str
    visits: Sequence[str]
    output: Path
    work: Path | None = None
    options: tuple[str, ...] = ()
    settings: bytes = b""
    engine: str = "here"
    most_open: int = 200
    memory: int = 0
    again: bool = False
    delay: float = 10.0
    command: tuple[str, ...] = field(default=(*COMMAND, "reduce"))


Report = Callable[[Outcome, int, int], None]


def run_campaign(campaign: Campaign, engine: Engine, report: Report) -> list[Outcome]:
    """Reduce the visits of a campaign that have no final outcome yet.

    Parameters
    ----------
    campaign : Campaign
        What is to be reduced.
    engine : Engine
        Where.
    report : callable
        Called with each outcome as soon as it is known, and the numbers of visits done and of all.

    Returns
    -------
    list of Outcome
        Those of all visits, in their order.

    Raises
    ------
    BusyError
        If the campaign is running elsewhere, or its engine is lost.
    CannotCreateError
        If nothing can be written to its output folder or work folder.
    ConfigurationError
        If a machine cannot take part, such as one that locks do not exclude.
    """
    visits = list(dict.fromkeys(campaign.visits))
    digest = options_digest(campaign.options, campaign.settings)
    work = campaign.work or default_work_folder(lambda _: None)
    prepare_places(campaign.output, work)
    with (
        opened(state_path(campaign.output, campaign.name)) as state,
        held_locks(campaign.output, work) as locks,
    ):
        known = {} if campaign.again else state.history.final(digest)
        known = {visit: known[visit] for visit in visits if visit in known}
        state.write(begin=begin_line(campaign, visits, digest))
        usual = Task("", campaign.options, campaign.delay, campaign.memory, locks)
        tasks = [
            replace(
                usual,
                visit=visit,
                command=campaign.command,
                earlier=state.history.earlier.get(visit, 0),
            )
            for visit in visits
            if visit not in known
        ]
        with closing(outcomes(engine, tasks, campaign.most_open)) as ended:
            for outcome in ended:
                state.write(outcome=outcome)
                known[outcome.visit] = outcome
                report(outcome, len(known), len(visits))
    return [known[visit] for visit in visits]


def begin_line(campaign: Campaign, visits: Sequence[str], digest: str) -> Begin:
    """Return the line that a call of a campaign writes first."""
    return Begin(
        name=campaign.name,
        digest=digest,
        visits=tuple(visits),
        options=campaign.options,
        engine=campaign.engine,
        version=VERSION,
        began=time.time(),
    )


def outcomes(
    engine: Engine, tasks: Sequence[Task], most_open: int
) -> Generator[Outcome, None, None]:
    """Yield the outcome of each task as soon as it has ended; at most `most_open` are submitted.

    An engine blames each visit that a dying worker had, also those that were still to begin there.
    Suspects are therefore tried again at the end, one at a time.
    """
    waiting = deque(tasks)
    suspects: deque[Task] = deque()
    submitted: dict[Future[Outcome], Task] = {}
    try:
        while waiting or submitted or suspects:
            if not (waiting or submitted):
                waiting.append(suspects.popleft())
            while waiting and len(submitted) < most_open:
                task = waiting.popleft()
                submitted[engine.executor.submit(reduce_in_process, task)] = task
            done, _ = wait(submitted, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
            if why := engine.lost():
                raise BusyError(f"{why}; the same command goes on from here")
            # a set has no order of its own: visits that ended together come in that of submission
            for future in [each for each in submitted if each in done]:
                task = submitted.pop(future)
                if was_killed(future, engine) and not task.alone:
                    suspects.append(replace(task, alone=True))
                else:
                    yield outcome_of(future, task, engine)
    finally:
        for future in submitted:
            future.cancel()


def was_killed(future: Future[Outcome], engine: Engine) -> bool:
    """Return whether a visit has ended its worker, or was to begin on one that ended."""
    error = None if future.cancelled() else future.exception()
    return error is not None and engine.killed(error)


def outcome_of(future: Future[Outcome], task: Task, engine: Engine) -> Outcome:
    """Return the outcome of a visit that has ended.

    Raises
    ------
    WorkerUnfit
        If a machine cannot take part in the campaign.
    BusyError
        If the engine has dropped the visit.
    """
    try:
        return future.result()
    except WorkerUnfit:
        raise
    except CancelledError as error:
        raise BusyError("the engine dropped a visit; the same command goes on from here") from error
    except Exception as error:
        code, text = exit_code(error), f"{type(error).__name__}: {plain(error)}"
        if engine.killed(error):
            code, text = 137, KILLED
        return Outcome(visit=task.visit, code=code, text=text, ended=time.time())
