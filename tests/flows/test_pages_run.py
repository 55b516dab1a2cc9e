"""What README and pages tell a reader to type: it exists, and that of the first hour runs."""

from __future__ import annotations

import os
import re
import shlex
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from flows.command.main import main
from schemas import ROOT
from tests.support.runs import Bench
from tests.support.shell import run_shell

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "deploy/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]

PICTURES = ("light_curve.png", "report.png", "viewer.png", "viewer_dark.png")

LARGEST = 200_000  # bytes of a picture in the repository


def shell_blocks(page: Path) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def commands_of(page: Path) -> Iterator[list[str]]:
    """Yield the words of each command `drp` in the shell blocks of a page."""
    for block in shell_blocks(page):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.replace("...", ""), comments=True)
            # lines with brackets show the syntax of a command
            if "drp" in words and not re.search(r"\$\(|\||\[-", line):
                start = words.index("drp")
                if all("=" in word for word in words[:start]):
                    redirected = words.index(">") if ">" in words else len(words)
                    yield words[start + 1 : redirected]


def parse(words: list[str], group: click.Group = main) -> None:
    """Parse a command line without running the command."""
    name, *rest = words
    if name.startswith("-") or name == "COMMAND":
        return
    command = group.commands.get(name)
    if isinstance(command, click.Group) and rest and rest[0] in command.commands:
        parse(rest, command)
    elif isinstance(command, click.Group):
        parse(["run", *rest], command)
    else:
        assert command is not None, name
        command.make_context(name, rest)


def test_every_command_in_the_pages_is_one() -> None:
    commands = [(page, words) for page in PAGES for words in commands_of(page)]
    assert len(commands) > 35
    wrong = []
    for page, words in commands:
        try:
            parse(words)
        except click.exceptions.Exit:
            pass
        except (click.ClickException, AssertionError) as error:
            wrong.append(f"{page.name}: drp {shlex.join(words)}: {error}")
    assert wrong == []


def test_every_page_that_is_linked_exists() -> None:
    missing = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        for target in re.findall(r"\]\(([^)#\s]+)", text):
            if re.match(r"[a-z]+:", target):
                continue
            path = ROOT / "docs" / target[1:] if target.startswith("/") else page.parent / target
            if not path.exists():
                missing.append(f"{page.name}: {target}")
    assert missing == []


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_checked_in_and_small(name: str) -> None:
    path = ROOT / "docs" / "pictures" / name
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size < LARGEST


@pytest.fixture(scope="module")
def first_hour(reduced: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the repository after `make demo`, with a small visit as the demo's."""
    folder = tmp_path_factory.mktemp("first_hour")
    demo = folder / "demo"
    demo.mkdir()
    own = reduced.copy(demo)
    (published,) = own.published()
    (demo / "visit").symlink_to(reduced.visit)
    (demo / "latest").symlink_to(published)
    (folder / "REFERENCES").symlink_to(reduced.references[0])
    (folder / "VISIT").symlink_to(reduced.visit)
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    drp = f'#!/bin/sh\nexec {sys.executable} -P -m flows.command.main "$@"\n'
    for name, text in (("drp", drp), ("make", "#!/bin/sh\n")):  # the demo is there already
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (programs / "activate").write_text(f'PATH="{programs}:$PATH"\n')
    return folder


def run_blocks(folder: Path, blocks: list[str]) -> str:
    """Run shell blocks of a page in one shell, with the environment of `folder`."""
    environment = {
        "PATH": f"{folder / '.venv' / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "DRP_WORK": str(folder / "demo" / "work"),
    }
    return run_shell("\n".join(blocks), environment, folder)


@pytest.mark.slow
def test_the_commands_of_the_readme_run(first_hour: Path) -> None:
    page = ROOT / "README.md"
    assert "Lightcurve-OPTIMAL" in run_blocks(first_hour, shell_blocks(page))


@pytest.mark.slow
def test_the_commands_of_the_tutorial_run(first_hour: Path) -> None:
    page = ROOT / "docs" / "tutorial.md"
    output = run_blocks(first_hour, shell_blocks(page))
    assert (first_hour / "mine").is_dir()
    assert "background.inner" in output


def test_the_python_of_the_page_for_scientists_runs(reduced: Bench) -> None:
    (block,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/scientist.md").read_text(encoding="utf-8"), re.S
    )
    (folder,) = reduced.published()
    (path,) = folder.glob("*Lightcurve-OPTIMAL*")
    names: dict[str, Any] = {"path": path}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # units of the SOC that are not those of FITS
        exec(compile(block, "scientist.md", "exec"), names)
    flux: Any = names["flux"]
    assert len(flux) == 12
    assert float(flux.std() / flux.mean()) < 1e-3
