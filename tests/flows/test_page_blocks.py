"""Every block of code in README and pages runs here or in another test, or it is listed why not."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from astropy import units
from astropy.io import fits
from astropy.units import UnitsWarning

from schemas import ROOT
from tasks.files.toml import read_toml
from tasks.simulation.case import case_of
from tests.conftest import raw_file
from tests.support.runs import Bench
from tests.support.shell import run_shell

PAGES = [
    *sorted(ROOT.glob("*.md")),
    ROOT / "deploy" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]

LANGUAGES = ("sh", "python", "pycon", "toml")


class Block(NamedTuple):
    page: str
    language: str
    text: str


def blocks() -> list[Block]:
    """Return the blocks of code of all pages."""
    found = []
    for page in PAGES:
        name = page.relative_to(ROOT).as_posix()
        text = page.read_text(encoding="utf-8")
        for language, body in re.findall(r"^```(\w+)\n(.*?)^```", text, re.M | re.S):
            found.append(Block(name, language, body))
    return found


# blocks that other tests run: page and language, and the test
ELSEWHERE = {
    ("README.md", "sh"): "test_pages_run.py",
    ("docs/tutorial.md", "sh"): "test_pages_run.py",
    ("docs/tutorial.md", "python"): "test_docs.py",
    ("docs/python.md", "pycon"): "drp/test_python.py",
    ("docs/scientist.md", "python"): "test_pages_run.py",
    ("docs/operations.md", "python"): "test_deployments.py",
}

# blocks that no test can run: page and first words, and the reason
NOT_RUN = {
    ("CONTRIBUTING.md", "make check"): "builds an environment and installs hooks of git",
    ("CONTRIBUTING.md", "pytest tests/numerics"): "runs the tests, of which this is one",
    ("CONTRIBUTING.md", "make soak"): "takes an hour; tests/test_soak.py runs some of its trials",
    ("CONTRIBUTING.md", "@step("): "a decorator without its function",
    ("deploy/README.md", "docker build"): "needs Docker",
    (
        "deploy/README.md",
        "cat >deploy/.env",
    ): "needs Docker; check_deploy.py reads its files",
    ("deploy/README.md", "python3 -m venv /opt/drp"): "needs root and systemd",
    ("deploy/README.md", "helm repo add"): "needs Kubernetes",
    ("deploy/README.md", "ls -d /data/visits"): "needs SLURM",
    ("deploy/README.md", "cp deploy/slurm/jobqueue.yaml"): "needs SLURM",
    ("docs/clients.md", "from astropy import units"): "needs lightkurve; tests/clients has it",
    ("docs/operations.md", "drp up [--database"): "the syntax; test_up.py runs both commands",
    ("docs/operations.md", "DRP_DATABASE="): "needs PostgreSQL; test_deployments.py starts one",
    ("docs/operations.md", "api=http"): "needs a server; test_deployments.py runs it beside one",
    ("docs/operator.md", "drp up "): "leaves a server; test_up.py runs both commands",
    ("docs/several_machines.md", "dask scheduler"): "servers; test_campaign_cluster.py has them",
    ("docs/validation.md", "drp validate"): "takes hours; test_validation.py runs small cases",
}

# page and language of the blocks that tests in this file run
HERE = {
    ("CONTRIBUTING.md", "sh"),
    ("docs/clients.md", "python"),
    ("docs/operations.md", "sh"),
    ("docs/operator.md", "sh"),
    ("docs/output.md", "sh"),
    ("docs/real_visits.md", "sh"),
    ("docs/reference/settings.md", "toml"),
    ("docs/scientist.md", "sh"),
    ("docs/simulator.md", "toml"),
}


def not_run(block: Block) -> list[tuple[str, str]]:
    """Return the entries of `NOT_RUN` that name a block."""
    return [key for key in NOT_RUN if key[0] == block.page and block.text.startswith(key[1])]


def run_here(page: str, language: str) -> list[str]:
    """Return the blocks of a page that run here."""
    assert (page, language) in HERE
    return [b.text for b in blocks() if b[:2] == (page, language) and not not_run(b)]


def test_every_block_runs_in_a_test_or_is_listed_with_the_reason() -> None:
    code = [block for block in blocks() if block.language in LANGUAGES]
    assert len(code) > 50
    kinds = ELSEWHERE.keys() | HERE
    lost = [b for b in code if b[:2] not in kinds and not not_run(b)]
    assert lost == []
    listed = {key for block in code for key in not_run(block)}
    assert listed == set(NOT_RUN)
    assert kinds <= {block[:2] for block in code}


def test_blocks_without_one_of_these_languages_are_no_code() -> None:
    others = {block.language for block in blocks()} - set(LANGUAGES)
    assert others == set()


def test_the_tests_named_here_exist() -> None:
    named = {
        f"tests/flows/{name}" if "/" not in name else f"tests/{name}" for name in ELSEWHERE.values()
    }
    assert [name for name in named if not (ROOT / name).is_file()] == []


@pytest.fixture(scope="module")
def place(reduced: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the pages name by words in capitals, and two versions of a visit."""
    folder = tmp_path_factory.mktemp("blocks")
    own = reduced.copy(folder)
    (published,) = own.published()
    (folder / "VISIT").symlink_to(reduced.visit)
    (folder / "visits").mkdir()
    (folder / "visits" / "tiny").symlink_to(reduced.visit)
    (folder / "REFERENCES").symlink_to(reduced.references[0])
    for name in ("FOLDER", "FOLDER_A", "FOLDER_B"):
        (folder / name).symlink_to(published)
    (folder / "OUT").mkdir()
    (folder / "OUT" / "CH_PR..._V0001").symlink_to(published)
    shutil.copy(published / "terms" / "dark.fits", folder / "my_dark.fits")
    (folder / "bin").mkdir()
    command = folder / "bin" / "drp"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m flows.command.main "$@"\n')
    command.chmod(0o755)
    (folder / ".local/share/bash-completion/completions").mkdir(parents=True)
    return folder


def run_lines(text: str, folder: Path) -> str:
    """Run lines of a page in `folder`, with its `drp`."""
    environment = {
        "HOME": str(folder),
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "DRP_WORK": str(folder / "work"),
    }
    return run_shell(text, environment, folder)


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(page for page, language in HERE if language == "sh"))
def test_the_commands_of_a_page_run(page: str, place: Path) -> None:
    (path,) = (place / "FOLDER").glob("*Lightcurve-OPTIMAL*")
    places = {
        "/tmp/": f"{place}/tmp_",
        "FILE...": str(path),
        " FILE ": f" {path} ",
        "/etc/drp/settings.toml": "site.toml",
        "--case demo": "--case tiny",  # the same in less time
    }
    texts = run_here(page, "sh")
    assert texts
    for text in texts:
        for old, new in places.items():
            text = text.replace(old, new)
        lines = [line for line in text.splitlines() if "--on slurm" not in line]
        run_lines("\n".join(lines), place)


def test_the_settings_of_a_file_are_in_force(place: Path) -> None:
    (text,) = run_here("docs/reference/settings.md", "toml")
    (place / "mine.toml").write_text(text)
    shown = json.loads(run_lines("drp config --settings mine.toml --changed --json", place))
    assert "background.inner" in json.dumps(shown)


def test_the_case_of_the_page_about_the_simulator_is_one(tmp_path: Path) -> None:
    (text,) = run_here("docs/simulator.md", "toml")
    (tmp_path / "mine.toml").write_text(text)
    (tmp_path / "mine.csv").write_text("time,flux\n0,1\n1,0.99\n")
    y, x = np.mgrid[-30:31, -30:31]
    fits.writeto(tmp_path / "psf.fits", np.exp(-(x**2 + y**2) / 100.0))
    case = case_of(read_toml(tmp_path / "mine.toml"), tmp_path)
    assert (case.images, case.teff, len(case.more_stars)) == (200, 4900, 1)


def test_astropy_reads_a_file_as_the_page_about_clients_says(reduced: Bench) -> None:
    (folder,) = reduced.published()
    names: dict[str, Any] = {"file": raw_file(folder, "Lightcurve-DEFAULT"), "folder": folder}
    from_file, from_visit = run_here("docs/clients.md", "python")
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        exec(compile(from_file, "clients.md", "exec"), names)
    messages = [str(r.message) for r in remarks if r.category is UnitsWarning]
    assert {message.split("'")[1] for message in messages} == {
        *("electrons", "day", "ratio", "Flux_cont/Flux_target", "TIMESYS=UTC")
    }
    with units.add_enabled_aliases({"day": units.day}), pytest.warns(UnitsWarning, match="'day'"):
        units.Unit("day", format="fits", parse_strict="warn")
    raw = names["table"]
    assert len(names["series"]) == len(raw) == 12
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(compile(from_visit, "clients.md", "exec"), names)
    assert names["table"]["flux"].unit == units.electron
    assert names["table"]["flux"].value.tolist() == raw["FLUX"].tolist()


@pytest.mark.slow
def test_the_notebook_about_two_reductions_runs(place: Path) -> None:
    """`make docs` runs both; the other needs the transit and the points of the demo."""
    notebook = json.loads((ROOT / "docs/notebooks/compare_reductions.ipynb").read_text())
    code = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    (place / "demo").mkdir()
    (place / "demo" / "visit").symlink_to(place / "VISIT")
    shutil.copytree(place / "work", place / "demo" / "work", dirs_exist_ok=True)
    (place / "notebook.py").write_text("\n".join(code))
    assert "background" in run_lines(f"MPLBACKEND=Agg {sys.executable} notebook.py", place)
