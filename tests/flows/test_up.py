"""`drp up` and `drp down`: state files, rejected arguments, and PostgreSQL."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

import flows.reduce  # noqa: F401  (declares all steps)
from flows.artifacts import literal, verdict_page
from flows.service.keeper import Kept
from flows.service.state import State, keeper_lives, read_state, write_state
from flows.service.up import chosen_port, database_url, has_password
from schemas import ROOT
from schemas.errors import BusyError, UsageError
from schemas.forms import ReduceForm, StepName, ValidateForm
from schemas.payloads import Published
from tasks.engine.run import STEPS as DECLARED
from tests.conftest import Drp
from tests.support.installation import installed
from tests.support.postgresql import postgresql
from tests.support.runs import Bench, differing

STATE = State("up", 1, "http://127.0.0.1:1/api", "drp:very-secret", "sqlite")


def test_the_state_that_a_dead_keeper_left_is_not_believed(tmp_path: Path) -> None:
    write_state(tmp_path, STATE)
    (tmp_path / "up.lock").touch()
    assert not keeper_lives(tmp_path)
    assert read_state(tmp_path) is None
    code = (
        "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); "
        "print(flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "up.lock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    assert read_state(tmp_path) == STATE
    holder.kill()
    holder.communicate()
    assert read_state(tmp_path) is None


def test_the_state_is_for_its_owner_only_and_shows_no_password(tmp_path: Path) -> None:
    write_state(tmp_path, STATE)
    assert (tmp_path / "up.json").stat().st_mode & 0o777 == 0o600
    assert "very-secret" not in repr(STATE)


def test_with_a_stale_state_a_run_is_plain_and_down_has_nothing_to_do(
    drp: Drp, tmp_path: Path
) -> None:
    home = tmp_path / "work" / "prefect"
    home.mkdir(parents=True)
    write_state(home, STATE)
    answer = drp("down", "--json", DRP_WORK=str(home.parent))
    assert (answer.returncode, json.loads(answer.stdout)) == (0, {"ended": False})
    assert not (home / "up.json").exists()


def test_what_dies_is_started_again_and_not_too_often(tmp_path: Path) -> None:
    kept = Kept(["this"], dict(os.environ), tmp_path / "log")  # prints and ends
    kept.look()
    assert kept.process is not None
    kept.process.wait(60)
    kept.look()
    assert kept.process is None
    assert kept.pause == 2.0
    kept.next_start = 0.0
    kept.look()
    assert kept.process is not None
    kept.stop()
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_a_password_on_the_command_line_is_refused_and_not_repeated(drp: Drp) -> None:
    answer = drp("up", "--database", "postgresql://drp:hush@localhost/drp")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "DRP_DATABASE" in answer.stderr
    assert "hush" not in answer.stderr


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BusyError, match="is in use"):
            chosen_port(taken.getsockname()[1])


def test_only_postgresql_is_taken_for_a_data_base() -> None:
    assert database_url("postgresql://drp@db/drp") == "postgresql+asyncpg://drp@db/drp"
    assert not has_password("postgresql://drp@db/drp")
    assert has_password("postgresql://db/drp?user=drp&password=hush")
    with pytest.raises(UsageError, match="postgresql://") as refused:
        database_url("mysql://drp:hush@db/drp")
    assert "hush" not in str(refused.value)


def test_the_form_offers_every_step() -> None:
    assert set(typing.get_args(StepName)) == set(DECLARED)


def test_only_what_was_filled_in_is_asked_for() -> None:
    request = ReduceForm(
        visit="/visit", settings={"flat": {"skip": True}}, from_step="flat"
    ).request(Path("/products"))  # type: ignore[arg-type]
    assert request.model_dump(exclude_defaults=True) == {
        "visit": Path("/visit"),
        "output": Path("/products"),
        "settings": {"flat": {"skip": True}},
        "from_step": "flat",
    }
    assert ReduceForm(visit="/v", output="/other").request(Path("/products")).output == Path(
        "/other"
    )
    assert ValidateForm(output="/v", cases=("quiet",)).request().cases == ("quiet",)


@pytest.mark.parametrize(
    "folder",
    ["relative", "../x", "/a/../b", "/a/..", "/", "//a", "/a\nb", "/a\0b", "/" + 2000 * "a", ""],
)
def test_a_form_takes_plain_absolute_paths_only(folder: str) -> None:
    with pytest.raises(ValidationError, match="visit"):
        ReduceForm(visit=folder)


def test_every_deployment_has_a_module_entry_point_that_is_there() -> None:
    source = (ROOT / "flows" / "service" / "deployments.py").read_text()
    declared = yaml.safe_load((ROOT / "flows" / "service" / "prefect.yaml").read_text())
    assert declared["pull"] == []
    for deployment in declared["deployments"]:
        module, _, name = deployment["entrypoint"].rpartition(".")
        assert module == "flows.service.deployments"
        assert f"\ndef {name}(" in source


def test_what_comes_from_headers_is_no_markup() -> None:
    assert literal("a|b <script>\n# c [x](y)") == r"a\|b &lt;script&gt; \# c \[x\]\(y\)"
    data = {
        "verdict": {"word": "good", "reasons": ["12 points"]},
        "target": "<img src=x>",
        "observed": "then",
        "metrics": [{"label": "noise", "shown": "12.3", "unit": "ppm", "reason": ""}],
        "all_warnings": ["|"],
    }
    page = verdict_page(
        data, Published(visit="PR900001_TG000101", folder="/out/V0000", new=True), []
    )
    assert "<img" not in page
    assert "| noise | 12.3 ppm |" in page


def test_without_prefect_nothing_of_it_is_imported() -> None:
    code = (
        "import sys, flows.service.keeper, flows.service.up, flows.artifacts, flows.reduce, "
        "schemas.forms; sys.exit('prefect' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.slow
def test_the_same_on_postgresql(reduced: Bench, tmp_path: Path) -> None:
    bench = reduced.known(tmp_path)  # one step is to be done; all are reported to the server
    with postgresql() as data, installed(tmp_path / "up", DRP_DATABASE=data.url) as here:
        assert here.state.database == "postgresql"
        references = [str(folder) for folder in bench.references]
        visit = here.create(
            "reduce",
            visit=str(bench.visit),
            references=references,
            work=str(bench.work),
            output=str(bench.output),
            from_step="position",
        )
        run = here.end(visit)
        assert run["state_name"] == "Completed", run["state"]["message"]
        assert differing(bench.published()[0], *reduced.published()) == []
        assert sorted(here.artifacts(visit)) == [
            "light-curve",
            "links",
            "progress",
            "steps",
            "verdict",
        ]
        assert not list(here.home.glob("*.db*"))
