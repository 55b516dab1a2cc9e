"""What an operator installs: the files of deploy/ are checked and their scripts run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from schemas import ROOT

DEPLOY = ROOT / "deploy"


def test_all_files_pass_their_check() -> None:
    done = subprocess.run(
        [sys.executable, DEPLOY / "check_deploy.py"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_readme_names_every_file_and_every_variable() -> None:
    text = (DEPLOY / "README.md").read_text()
    files = [p.name for p in DEPLOY.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert [name for name in files if name not in text and name != "README.md"] == []
    variables = set(re.findall(r"\$\{(DRP_\w+)", (DEPLOY / "compose.yaml").read_text()))
    assert [name for name in sorted(variables) if f"`{name}`" not in text] == []


def test_containers_do_not_run_as_root_and_cannot_write_to_their_image() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    ours = {name: s for name, s in services.items() if name != "postgres"}
    assert set(ours) == {"server", "services", "deploy", "control", "worker"}
    for service in ours.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
    assert "\nUSER 1001:1001\n" in (DEPLOY / "Dockerfile").read_text()


def test_a_container_starts_with_what_its_image_has_compiled(tmp_path: Path) -> None:
    seed, work = tmp_path / "seed", tmp_path / "work"
    (seed / "numba").mkdir(parents=True)
    (seed / "numba" / "kernel").write_text("compiled")
    work.mkdir()
    script = (DEPLOY / "entrypoint.sh").read_text().replace("/opt/seed", str(seed))
    (tmp_path / "entrypoint").write_text(script)
    for _ in range(2):  # the second container finds it there
        done = subprocess.run(
            ["sh", tmp_path / "entrypoint", "echo", "a b"],
            env={**os.environ, "DRP_WORK": str(work)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "a b\n", "")
        assert [p.relative_to(work).as_posix() for p in sorted(work.rglob("*"))] == [
            "numba",
            "numba/kernel",
        ]


@pytest.mark.parametrize(
    ("line", "code", "restarts", "said"),
    [
        (1, 0, 0, "reduce /data/one --output /out"),
        (2, 75, 0, "requeue 7_2"),
        (2, 75, 3, ""),
        (1, 65, 0, ""),
        (9, 0, 0, "line 9 of"),
    ],
)
def test_a_job_of_the_array_reduces_its_line_and_is_queued_again_if_that_may_help(
    tmp_path: Path, line: int, code: int, restarts: int, said: str
) -> None:
    (tmp_path / "visits").write_text("/data/one\n/data/two words\n")
    for name, text in (("drp", f'echo "$@"\nexit {code}'), ("scontrol", 'echo "$@"')):
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o700)
    script = DEPLOY / "slurm" / "array.sbatch"
    done = subprocess.run(
        ["bash", script, tmp_path / "visits", "/out", "--set", "flat.skip=true"],
        env={
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "SLURM_ARRAY_TASK_ID": str(line),
            "SLURM_ARRAY_JOB_ID": "7",
            "SLURM_RESTART_COUNT": str(restarts),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert said in done.stdout
    assert ("requeue" in done.stdout) == said.startswith("requeue")
    if line < 9:
        assert "--engine plain --wait -q --set flat.skip=true" in done.stdout
