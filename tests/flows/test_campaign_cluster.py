"""Campaigns on Dask and SLURM: workers, the scheduler and single visits are killed."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.campaign import engines
from flows.campaign.engines import engine_on
from flows.campaign.state import read_history, state_path
from schemas import ROOT
from schemas.errors import BusyError, ConfigurationError, UsageError
from tests.support.cluster import CLIENT, Cluster, children, ended, kill, wait_until_gone
from tests.support.runs import Bench, differing, simulate_tiny

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
pytestmark = pytest.mark.slow

# a stand-in for `drp reduce`, which publishes like it: once, by renaming
STUB = """
import json, os, pathlib, signal, sys, time
visit = pathlib.Path(sys.argv[-1])
with open(visit.parent / "began", "a") as log:
    log.write(f"{visit.name}\\n")
if visit.name == "bad":
    sys.stderr.write("ERROR it is damaged\\n")
    sys.exit(65)
if visit.name == "poison":
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(20)
time.sleep(0.5)
out = visit.parent / "products" / visit.name
new = not out.exists()
if new:
    stage = out.with_name(f".{visit.name}.{os.getpid()}")
    stage.mkdir(parents=True)
    stage.rename(out)
    with open(visit.parent / "published", "a") as log:
        log.write(f"{visit.name}\\n")
print(json.dumps({"published": {"verdict": "good", "folder": str(out), "new": new}}))
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.close()


def asked(
    folder: Path, names: list[str], command: tuple[str, ...] = ("-c", STUB)
) -> dict[str, Any]:
    """Return a campaign of stand-ins."""
    return {
        "name": "test",
        "visits": [str(folder / name) for name in names],
        "output": folder / "products",
        "work": folder / "work",
        "command": command,
    }


def wait_for(condition: Any, seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def go_through_kills(
    cluster: Cluster, folder: Path, campaign: dict[str, Any], count: Callable[[], int]
) -> dict[str, dict[str, Any]]:
    """Run a campaign whose workers and scheduler are killed; return the outcomes by visit."""
    client = cluster.client(**campaign)
    wait_for(lambda: count() >= 3)
    # a worker is killed: its visit ends with it, and is reduced by another
    wait_for(lambda: children(cluster.workers[0].pid))
    visits = children(cluster.workers[0].pid)
    kill(cluster.workers[0])
    wait_until_gone(visits)
    cluster.start_worker()
    # the scheduler is killed: the campaign says so, and the same command goes on
    wait_for(lambda: count() >= 6)
    kill(cluster.scheduler)
    code, _ = ended(client, 120)
    assert code == 75
    cluster.close()
    (folder / "second").mkdir()
    second = Cluster(folder / "second")
    try:
        client = second.client(**campaign)
        while client.poll() is None:  # as a batch system does, if its worker dies
            for worker in [w for w in second.workers if w.poll() is not None]:
                second.workers.remove(worker)
                second.workers.append(second.start_worker())
            time.sleep(0.1)
        code, outcomes = ended(client, 1800)
    finally:
        second.close()
    assert code == 0
    results = {Path(o["visit"]).name: o for o in outcomes}
    assert {n: results[n]["code"] for n in results if results[n]["code"]} == {
        "bad": 65,
        "poison": 137,
    }
    assert results["poison"]["text"].startswith("the worker died with this visit each time")
    history = read_history(state_path(folder / "products", "test"))
    assert (len(history.outcomes), history.calls, history.running) == (20, 2, False)
    return results


def test_killed_workers_and_a_killed_scheduler_cost_no_visit(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Of twenty visits, one is damaged and one kills its worker whenever it is tried."""
    names = [f"visit{i:02d}" for i in range(18)]
    campaign = asked(tmp_path, [*names[:2], "bad", *names[2:9], "poison", *names[9:]])
    published = tmp_path / "published"

    def count() -> int:
        return len(published.read_text().splitlines()) if published.exists() else 0

    results = go_through_kills(cluster, tmp_path, campaign, count)
    assert results["bad"]["text"] == "it is damaged"
    assert sorted(published.read_text().splitlines()) == names  # each once
    tried = (tmp_path / "began").read_text().splitlines()
    assert tried.count("bad") == 1
    # two calls, in each of which it is tried three times among others, and three times alone
    assert 2 <= tried.count("poison") <= 2 * 2 * 3


# `drp reduce`, except that one visit kills the worker that started it
REDUCE = """
import os, signal, sys
if sys.argv[-1].endswith("/poison"):
    os.kill(os.getppid(), signal.SIGKILL)
from flows.command.main import main
main(["reduce", *sys.argv[1:]])
"""


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_twenty_real_visits_go_through_killed_workers_and_a_killed_scheduler(
    cluster: Cluster, library: Path, tmp_path: Path
) -> None:
    names = [f"visit{i:02d}" for i in range(18)]
    for number, name in enumerate(["poison", "bad", *names]):
        simulate_tiny(tmp_path / name, number + 1)
    raw = next((tmp_path / "bad").rglob("*SCI_RAW_SubArray*.fits"))
    raw.write_bytes(raw.read_bytes()[:-2880])
    output = tmp_path / "products"
    places = (
        "--references",
        str(library),
        "--output",
        str(output),
        "--work",
        str(tmp_path / "work"),
    )
    campaign = asked(
        tmp_path, [*names[:2], "bad", *names[2:9], "poison", *names[9:]], ("-c", REDUCE)
    )
    campaign["options"] = [*places, "--engine", "plain", "--wait"]

    def published() -> list[Path]:
        return sorted(output.glob("CH_*")) if output.exists() else []

    go_through_kills(cluster, tmp_path, campaign, lambda: len(published()))
    assert [p.name[-6:] for p in published()] == ["_V0000"] * 18  # each once
    assert [p for p in output.iterdir() if p.name.startswith(".CH")] == []
    alone = Bench(tmp_path / names[3], (library,), tmp_path / "alone", tmp_path / "single")
    alone.reduce()
    (single,) = alone.published()
    assert differing(single, output / single.name) == []


def test_dask_costs_little_and_workers_of_other_locks_are_refused(
    cluster: Cluster, tmp_path: Path
) -> None:
    fast = ("-S", "-c", "print('{\"published\": null}')")
    names = [f"visit{i:03d}" for i in range(100)]
    code, outcomes = ended(cluster.client(**asked(tmp_path, names, fast)))
    assert (code, len(outcomes), {o["code"] for o in outcomes}) == (0, 100, {0})
    wall = max(o["ended"] for o in outcomes) - min(o["ended"] - o["seconds"] for o in outcomes)
    busy = sum(o["seconds"] for o in outcomes) / 2  # two workers
    assert (wall - busy) / 100 < 0.1  # of a visit that takes ten seconds

    # a worker for which the campaign's folder is another one
    other = {**asked(tmp_path, ["a"], fast), "output": "/proc/self/cwd/products"}
    client = cluster.client(**other)
    output, _ = client.communicate(timeout=60)
    assert client.returncode == 78, output
    assert "all machines must share it" in output


def test_a_scheduler_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "START_SECONDS", 1.0)
    for where, kind, words in (
        ("tcp://127.0.0.1:1", BusyError, "the Dask scheduler does not answer"),
        (str(tmp_path / "none.json"), UsageError, "there is no such file"),
    ):
        with pytest.raises(kind, match=words), engine_on(where, 1, 1, lambda _: None):
            pass


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(ConfigurationError, match="install the extra `cluster`"),
        engine_on("tcp://127.0.0.1:1", 1, 1, lambda _: None),
    ):
        pass


# a stand-in for SLURM: it keeps the script, which is gone once it was submitted, and runs it
SBATCH = """#!/bin/bash
number=$(date +%N)
cp "$1" "$FAKE_SLURM/job.$number"
setsid bash "$FAKE_SLURM/job.$number" >"$FAKE_SLURM/out.$number" 2>&1 &
echo $! >>"$FAKE_SLURM/jobs"
echo "Submitted batch job $number"
"""


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", "#!/bin/bash\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    yield folder
    for line in (folder / "jobs").read_text().split() if (folder / "jobs").exists() else ():
        subprocess.run(["kill", "-9", "--", f"-{line}"], check=False, stderr=subprocess.DEVNULL)


def test_slurm_runs_the_visits_in_jobs(fake_slurm: Path, tmp_path: Path) -> None:
    configuration = tmp_path / "dask"
    configuration.mkdir()
    (configuration / "jobqueue.yaml").write_text(
        (ROOT / "deploy/slurm/jobqueue.yaml").read_text().replace("/scratch/$USER", str(tmp_path))
    )
    environment = {**os.environ, "DASK_CONFIG": str(configuration), "PYTHONPATH": str(ROOT)}
    call = {**asked(tmp_path, ["a", "bad", "b"]), "engine": "slurm", "options": [], "delay": 0.1}
    done = subprocess.run(
        [sys.executable, "-P", "-c", CLIENT, json.dumps(call, default=str)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("end "))
    assert [o["code"] for o in json.loads(line[4:])] == [0, 65, 0]
    job = next(fake_slurm.glob("job.*")).read_text()
    assert "#SBATCH -J drp" in job
    assert "distributed.cli.dask_worker" in job or "dask worker" in job
