"""Nothing in the folder where the operator works is run, nor read if it is not named."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.orders.intake import intake
from schemas import ROOT
from tasks.delivery.report.typeset import make_pdf
from tasks.engine.child import child_environment
from tests.support.installation import drp
from tests.support.planted import plant, planted_that_ran
from tests.support.runs import Bench

STARTING = ("exec", "spawn", "posix_spawn", "fork", "system", "popen")


def process_calls(path: Path) -> Iterator[str]:
    """Yield the imports and calls in a module by which it could start a process."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [n.name for n in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{n.name}" for n in node.names]
        elif isinstance(node, ast.Attribute) and getattr(node.value, "id", "") in ("os", "pty"):
            yield from (f"os.{node.attr}" for start in STARTING if node.attr.startswith(start))
            continue
        else:
            continue
        starting = {"subprocess", "multiprocessing", "ProcessPoolExecutor", "pty", "runpy"}
        yield from (name for name in names if starting & set(name.split(".")))


def test_only_one_module_starts_processes() -> None:
    packages = ("drp", "flows", "tasks", "schemas", "reference_data", "docs", "benchmarks")
    found = {
        path.relative_to(ROOT).as_posix(): list(process_calls(path))
        for package in packages
        for path in (ROOT / package).rglob("*.py")
    }
    assert {name: calls for name, calls in found.items() if calls} == {
        "tasks/engine/child.py": ["subprocess"]
    }


def test_children_search_no_relative_folder_and_ignore_how_the_user_s_python_behaves() -> None:
    given = {"PYTHONPATH": f":/usr/lib/x:.:{ROOT}:a", "PYTHONWARNINGS": "error", "HOME": "/h"}
    assert child_environment(given) == {
        "PYTHONPATH": f"{ROOT}:/usr/lib/x",
        "PYTHONSAFEPATH": "1",
        "HOME": "/h",
    }


@pytest.mark.slow
def test_a_campaign_under_prefect_runs_and_reads_nothing_of_the_working_folder(
    reduced: Bench, tmp_path: Path
) -> None:
    bench, folder = reduced.copy(tmp_path), plant(tmp_path / "operator")
    _, visit, *places = bench.arguments("--engine", "prefect", "--set", "report.points=101")
    done = drp("campaign", visit, *places, "--json", folder=folder, PREFECT_PROFILE="of another")
    assert planted_that_ran(folder) == []
    (result,) = json.loads(done.stdout)
    assert result["code"] == 0, result["text"] + done.stderr
    assert (bench.work / "prefect" / "server.log").exists()


def test_a_module_named_as_one_of_ours_is_not_run_by_the_module_form(tmp_path: Path) -> None:
    folder = plant(tmp_path / "operator", "flows")  # which Python itself runs
    command = [sys.executable, "-m", "flows.command.main", "check", str(tmp_path / "none")]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert planted_that_ran(folder) == []
    assert done.returncode == 66, done.stderr


def test_orders_and_typesetting_run_nothing_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = plant(tmp_path / "operator")
    orders = tmp_path / "orders"
    orders.mkdir()
    (orders / "a.xml").write_text("<Ipf_Job_Order></Ipf_Job_Order>")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:")
    (outcome,) = intake(orders, settle=0)
    assert make_pdf({"main.typ": b'#set document(title: "t")\n= t'}).startswith(b"%PDF")
    assert planted_that_ran(folder) == []
    assert (outcome.state, outcome.code) == ("failed", 78)
