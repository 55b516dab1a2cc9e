"""The CPU that the engines of campaigns take beyond the reduction of the visits.

For Dask, visits are stand-ins that end at once: what scheduler, worker and campaign take is theirs.
For Prefect, `drp up` runs in a folder of its own, and a visit that is up to date is reduced by
`reduce-lean` again and again: the client's part is the worker with its processes less as many
`drp reduce`, the server's is that of the server, both less what they take while they are idle.
Run: python -m benchmarks.campaigns [VISITS]; DRP_DATABASE names a PostgreSQL database.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.reduce import timed
from flows.campaign.engines import engine_on
from flows.campaign.run import Campaign, run_campaign
from flows.service.keeper import ask
from flows.service.state import State, read_state
from tasks.engine.child import COMMAND, Process, start_python

STUB = ("-S", "-c", "print('{\"published\": null}')")
STUBS = 200
IDLE_SECONDS = 20.0
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def tree_cpu(root: int) -> float:
    """Return the CPU of a process, those below it, and those of them that have ended [s]."""
    parents: dict[int, int] = {}
    spent: dict[int, float] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(path.parent.name)] = int(fields[1])
        spent[int(path.parent.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    found = [root]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return sum(spent.get(process, 0.0) for process in found)


def command_line(process: int) -> str:
    """Return the command line of a process."""
    return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[Path, list[Process]]]:
    """Run a Dask scheduler and a worker with two threads."""
    file = folder / "scheduler.json"
    options = ["--no-dashboard", "--scheduler-file", str(file)]
    with open(folder / "log", "ab") as log:
        parts = [
            start_python(["-m", "dask", *part, *options], folder=folder, output=log, errors=log)
            for part in (
                ["scheduler", "--host", "127.0.0.1", "--port", "0"],
                ["worker", "--nthreads", "2", "--no-nanny"],
            )
        ]
    try:
        while not file.exists():
            time.sleep(0.1)
        yield file, parts
    finally:
        for part in parts:
            part.kill()
            part.wait()


def own_cpu() -> float:
    """Return the CPU of this process and of its children that have ended [s]."""
    both = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in both)


def dask_overhead(root: Path) -> None:
    """Print the CPU of a visit's passage through Dask, and here."""
    with cluster(root) as (file, parts):
        for name, where in (("here", "here"), ("Dask", str(file))):
            visits = [f"/stub/{number}" for number in range(STUBS)]
            campaign = Campaign(name, visits, root / "out", root / "work", command=STUB)
            before = own_cpu() + sum(tree_cpu(part.pid) for part in parts)
            with engine_on(where, 2, 100, lambda _: None) as engine:
                run_campaign(campaign, engine, lambda *_: None)
            spent = own_cpu() + sum(tree_cpu(part.pid) for part in parts) - before
            print(f"{name:8s} {spent / STUBS:6.3f} CPU-s a visit, start of a bare Python included")


def patient(server: State, path: str, data: object = None) -> Any:
    """Return the answer of a server that may be too busy at first."""
    for _ in range(20):
        try:
            return ask(server, path, data)
        except OSError:
            time.sleep(1.0)
    return ask(server, path, data)


def run_lean(server: State, request: dict[str, object], number: int) -> None:
    """Reduce a visit by form a number of times."""
    deployment = ask(server, "deployments/name/reduce-lean/reduce-lean")["id"]
    path = f"deployments/{deployment}/create_flow_run"
    asked = {"parameters": {"request": request}}
    runs = [patient(server, path, asked)["id"] for _ in range(number)]
    for run in runs:
        while (now := patient(server, f"flow_runs/{run}"))["state_type"] not in ENDED:
            time.sleep(1.0)
        if now["state_type"] != "COMPLETED":
            raise SystemExit(f"the run ended with {now['state_name']}: {now['state']['message']}")


def prefect_overhead(root: Path, environment: dict[str, str], number: int) -> None:
    """Print the CPU of a visit's passage through a Prefect pool, at client and server."""
    visit = str(root / "visit")
    timed(["simulate", visit, "--case", "tiny", "-q"], environment)
    places = {"output": str(root / "out"), "work": str(root / "work")}
    options = [word for name, place in places.items() for word in (f"--{name}", place)]
    line = ["reduce", visit, "--engine", "plain", "-q", *options]
    timed(line, environment)
    before = own_cpu()
    for _ in range(3):
        timed(line, environment)
    plain = (own_cpu() - before) / 3
    timed(["up", "--port", "0", "-q"], environment)
    try:
        server = read_state(Path(environment["DRP_WORK"]) / "prefect")
        assert server is not None
        request = {"visit": visit, **places}
        run_lean(server, request, 1)  # the first imports are compiled
        worker, web = (
            next(p for p in below_keeper(server.pid) if words in command_line(p))
            for words in ("worker start --pool drp ", "server start")
        )
        parts = (worker, web)
        idle = rates(parts, lambda: time.sleep(IDLE_SECONDS))
        busy = rates(parts, lambda: run_lean(server, request, number))
    finally:
        start_python([*COMMAND, "down", "-q"], environment).wait()
    client, at_server = (
        (b.spent - i.spent * b.seconds / i.seconds) / number
        for b, i in zip(busy, idle, strict=True)
    )
    print(f"plain    {plain:6.2f} CPU-s a visit that is up to date")
    print(f"Prefect  {client - plain:6.2f} CPU-s a visit beyond that at the client")
    print(f"         {at_server:6.2f} CPU-s a visit at the server ({server.database})")
    for name, part in zip(("worker", "server"), idle, strict=True):
        print(f"         {part.spent / part.seconds:6.3f} CPU-s a second of an idle {name}")


class Spent(NamedTuple):
    """The CPU that a process took in some time [s]."""

    spent: float
    seconds: float


def rates(processes: Sequence[int], work: Callable[[], None]) -> list[Spent]:
    """Return the CPU of processes, and those below them, during some work."""
    before, began = [tree_cpu(process) for process in processes], time.monotonic()
    work()
    seconds = time.monotonic() - began
    return [
        Spent(tree_cpu(process) - was, seconds)
        for process, was in zip(processes, before, strict=True)
    ]


def below_keeper(keeper: int) -> list[int]:
    """Return the processes that a keeper has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        if int(path.read_text().rpartition(")")[2].split()[1]) == keeper:
            found.append(int(path.parent.name))
    return found


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        dask_overhead(root)
        environment = {**os.environ, "DRP_WORK": str(root / "library")}
        environment.pop("PREFECT_API_URL", None)
        prefect_overhead(root, environment, number)


if __name__ == "__main__":
    main()
