"""Where the visits of a campaign are reduced: engines that exist, behind `concurrent.futures`.

``here`` is a pool of threads, each waiting for a process. An address is that of a scheduler of
dask.distributed, or the file that one writes; ``slurm`` has dask-jobqueue submit its workers as
jobs. Any other `Executor` can be passed to `run_campaign` in an `Engine`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.campaign.visit import available_memory, start_again, stop_children
from schemas.errors import BusyError, ConfigurationError, UsageError
from tasks.files import disk

HERE, SLURM = "here", "slurm"

USUAL_MEMORY = 1000  # of a reduction with its libraries [MB], as measured; twice what is resident

START_SECONDS = 30.0  # a scheduler that is there answers sooner

MISSING = "needs dask: install the extra `cluster` (pip install 'cheops-drp[cluster]')"


@dataclass(frozen=True)
class Engine:
    """An executor, and what to know of it.

    `lost` returns why it will never give a further result; `killed`, whether an exception of a
    future means that the visit ended its worker.
    """

    executor: Executor
    lost: Callable[[], str] = lambda: ""
    killed: Callable[[BaseException], bool] = lambda _: False


@contextmanager
def engine_on(
    where: str, jobs: int, memory: int, report: Callable[[str], None]
) -> Iterator[Engine]:
    """Start or join an engine.

    Parameters
    ----------
    where : str
        ``here``, ``slurm``, or address or file of a Dask scheduler.
    jobs : int
        Number of visits at a time, or of jobs of a cluster.
    memory : int
        What a visit needs [MB].
    report : callable
        Called with progress messages.

    Raises
    ------
    UsageError
        If there is no such engine.
    ConfigurationError
        If Dask is missing, or dask-jobqueue is not configured.
    BusyError
        If the scheduler does not answer.
    """
    if where == HERE:
        engine = _here(jobs, memory, report)
    elif where == SLURM:
        engine = _slurm(jobs, memory, report)
    elif "://" in where or os.path.isabs(where):
        engine = _dask(where, report)
    else:
        raise UsageError(
            f"--on {where}: expected here, slurm, the address of a Dask scheduler such as "
            f"tcp://HOST:8786, or its file"
        )
    with engine as joined:
        yield joined


@contextmanager
def _here(jobs: int, memory: int, report: Callable[[str], None]) -> Iterator[Engine]:
    fitting = max(1, int(min(available_memory() / max(memory, 1), jobs)))
    if fitting < jobs:
        report(
            f"{fitting} visits at a time instead of {jobs}: each needs {memory} MB, "
            f"{available_memory():.0f} MB are available"
        )
    start_again()
    executor = ThreadPoolExecutor(fitting, thread_name_prefix="visit")
    try:
        yield Engine(executor)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        stop_children()
        executor.shutdown()


@contextmanager
def _dask(where: str, report: Callable[[str], None]) -> Iterator[Engine]:
    distributed = _imported("distributed")
    _silence()
    found = {"scheduler_file": where} if os.path.isabs(where) else {"address": where}
    if os.path.isabs(where) and not disk.is_file(Path(where)):
        raise UsageError(f"--on {where}: there is no such file")
    try:
        client = distributed.Client(**found, timeout=START_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise BusyError(f"--on {where}: the Dask scheduler does not answer: {error}") from error
    with _joined(client, distributed, report) as engine:
        yield engine


@contextmanager
def _slurm(jobs: int, memory: int, report: Callable[[str], None]) -> Iterator[Engine]:
    distributed, jobqueue = _imported("distributed"), _imported("dask_jobqueue")
    import dask

    _silence()
    chosen = {"cores": 1, "processes": 1, "memory": f"{memory}MB", "interface": None}
    usual = dask.config.get("jobqueue.slurm", {})
    # a worker whose visit keeps killing it is given up for that visit, not for all
    with dask.config.set({"distributed.scheduler.allowed-failures": 2}):
        options = {k: v for k, v in chosen.items() if usual.get(k) is None}
        try:
            cluster = jobqueue.SLURMCluster(**options)
        except (ValueError, TypeError, OSError) as error:
            raise ConfigurationError(
                f"dask-jobqueue: {error}; its settings are read from ~/.config/dask/jobqueue.yaml, "
                f"see deploy/slurm"
            ) from error
    with cluster:
        cluster.adapt(maximum_jobs=jobs)
        report(f"submitting up to {jobs} jobs with sbatch")
        with _joined(distributed.Client(cluster), distributed, report) as engine:
            yield engine


def _imported(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigurationError(f"this engine {MISSING}") from error


def _silence() -> None:
    """Keep the log lines of Dask off the terminal; what matters becomes an outcome."""
    for name in ("distributed", "tornado.application", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def _joined(client: Any, distributed: Any, report: Callable[[str], None]) -> Iterator[Engine]:
    def lost() -> str:
        return "" if client.status == "running" else "the Dask scheduler is gone"

    try:
        threads = sum(client.nthreads().values())
        report(f"visits at a time: {threads}" if threads else "waiting for the first worker")
        yield Engine(
            client.get_executor(pure=False),
            lost,
            lambda error: isinstance(error, distributed.KilledWorker),
        )
    finally:
        client.close(timeout=5)
