"""Deployments on a real server and worker: forms, artifacts, and recovery when a part dies."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.artifacts import literal
from flows.campaign.state import read_history
from schemas import ROOT
from schemas.errors import ConfigurationError
from schemas.forms import ReduceForm, SimulateForm
from tests.conftest import raw_file
from tests.support.browser import CHROMIUM, Browser
from tests.support.installation import Installation, drp, installed
from tests.support.orders import order_of
from tests.support.processes import children, command, until
from tests.support.runs import STEPS, Bench, differing, newer
from tests.support.shell import run_shell

pytestmark = pytest.mark.slow

VISIT = "PR900001_TG000101"

STAGES = ["calibrate", "correct", "photometry"]

LOST_SECONDS = 35.0  # more than the 30 s between two heartbeats


class Told(http.server.BaseHTTPRequestHandler):
    """A web hook of the site."""

    heard: list[dict[str, Any]] = []  # noqa: RUF012

    def do_POST(self) -> None:
        """Take a notice."""
        self.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def heard() -> Iterator[list[dict[str, Any]]]:
    """The notifications sent to the web hook of the site, whose address is in the environment."""
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), Told) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        patch.setenv(
            "DRP_NOTIFY_URL", f"http://127.0.0.1:{server.server_address[1]}/secret-of-the-site"
        )
        yield Told.heard
        server.shutdown()


@pytest.fixture(scope="module")
def here(
    heard: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """What `drp up` starts."""
    with installed(
        tmp_path_factory.mktemp("up"), DRP_LOST_SECONDS=str(LOST_SECONDS)
    ) as installation:
        yield installation


def form(bench: Bench, **more: object) -> dict[str, Any]:
    """Return a filled-in form."""
    references = [str(folder) for folder in bench.references]
    return {
        "visit": str(bench.visit),
        "references": references,
        "work": str(bench.work),
        "output": str(bench.output),
        **more,
    }


def recorded(bench: Bench, step: str) -> bool:
    """Return whether a step was done."""
    return any(bench.work.glob(f"records/*/{step}-*.json"))


def test_what_is_up_is_found_and_keeps_its_password_to_itself(
    here: Installation, reduced: Bench, tmp_path: Path
) -> None:
    again = drp("up")
    assert again.returncode == 0
    assert again.stderr.startswith("already running")
    assert again.stdout.strip() == here.state.api.removesuffix("/api")
    # a later command finds the server by itself
    bench = reduced.fresh(tmp_path)
    answer = drp(*bench.arguments("--until", "bias", "--json"))
    assert (answer.returncode, answer.stderr) == (0, "")
    assert json.loads(answer.stdout)["engine"] == "prefect"
    assert here.ask("flow_runs/count", {"flow_runs": {"name": {"any_": [f"reduce {VISIT}"]}}}) == 1

    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{here.state.api}/admin/settings", timeout=30)
    secret = here.state.auth.partition(":")[2]
    assert stat.S_IMODE((here.home / "up.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(here.home.stat().st_mode) == 0o700
    for text in [
        *map(command, here.processes()),
        *(p.read_text() for p in here.home.glob("*.log")),
        again.stdout + again.stderr,
    ]:
        assert secret not in text
        assert "secret-of-the-site" not in text
    settings = here.ask("admin/settings")["server"]
    assert (
        settings["api"]["host"],
        settings["api"]["csrf_protection_enabled"],
        settings["analytics_enabled"],
    ) == (
        "127.0.0.1",
        True,
        False,
    )
    # the newer pages would ask a host outside
    assert not settings["ui"]["v2_enabled"]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"visit": "../x"}, "request.visit"),
        ({"visit": "/data/../../etc"}, "request.visit"),
        ({"visit": "/data", "from_step": "backgruond"}, "request.from_step"),
        ({"visit": "/data", "settings": {"flat": {"teff": 5.0}}}, "request.settings.flat.teff"),
        ({"visit": "/data", "settings": {"flat": {"colour": 1}}}, "colour"),
        ({"visits": "/data"}, "visit"),
    ],
)
def test_a_form_that_is_filled_in_wrongly_is_refused(
    here: Installation, wrong: dict[str, Any], named: str
) -> None:
    with pytest.raises(urllib.error.HTTPError, match="409") as refused:
        here.create("reduce", **wrong)
    assert named in refused.value.read().decode()


@pytest.fixture(scope="module")
def by_form(
    here: Installation, reduced: Bench, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Bench, str]:
    """A visit that was reduced by form, and its run."""
    bench = reduced.fresh(tmp_path_factory.mktemp("form"))
    first = here.create("reduce", **form(bench))
    # while it runs its progress is to be seen
    until(lambda: 0 < here.artifacts(first).get("progress", 0) < 100, 90)
    here.end(first)
    return bench, first


def test_a_visit_is_reduced_by_form_and_found_again(
    here: Installation, reduced: Bench, by_form: tuple[Bench, str]
) -> None:
    bench, first = by_form
    run = here.run(first)
    assert (run["state_name"], run["name"]) == ("Completed", f"reduce {VISIT}"), run["state"][
        "message"
    ]
    assert {VISIT, "drp"} <= set(run["tags"])
    (folder,) = bench.published()
    assert run["state"]["message"] == f"published {folder}"
    assert differing(folder, *reduced.published()) == []

    assert [(p["name"], p["state_name"]) for p in here.parts(first)] == [
        (f"{s} {VISIT}", "Completed") for s in STAGES
    ]
    until(lambda: [t["state_name"] for t in here.tasks(first)] == ["Completed"] * len(STEPS))
    assert [t["name"] for t in here.tasks(first)] == [f"{step} {VISIT}" for step in STEPS]
    shown = here.artifacts(first)
    assert sorted(shown) == ["light-curve", "links", "progress", "steps", "verdict"]
    assert shown["progress"] == 100
    table = json.loads(shown["steps"])
    assert [(row["step"], row["outcome"]) for row in table] == [(step, "done") for step in STEPS]
    assert shown["verdict"].startswith("# usable with care\n")
    assert f"Published in `{folder}`" in shown["verdict"]
    assert "](data:image/svg+xml;base64," in shown["light-curve"]
    assert f"](file://{folder}/" in shown["links"]

    again = here.create("reduce", **form(bench))
    run = here.end(again)
    assert (run["state_name"], run["state"]["message"]) == (
        "Cached",
        f"already up to date: {folder}",
    )
    until(lambda: [t["state_name"] for t in here.tasks(again)] == ["Cached"] * len(STEPS))
    assert {row["outcome"] for row in json.loads(here.artifacts(again)["steps"])} == {"cached"}
    assert bench.published() == [folder]


def test_a_visit_that_fails_is_told(
    here: Installation, heard: list[dict[str, Any]], tmp_path: Path
) -> None:
    failed = here.create("reduce", visit=f"{tmp_path}/nothing", output=f"{tmp_path}/products")
    run = here.end(failed)
    assert run["state_name"] == "Failed"
    notice = until(lambda: next((n for n in heard if n["id"] == failed), None))
    text = f"{tmp_path}/nothing: no such folder; name the folder of a visit, or a published folder"
    assert notice == {
        "event": "drp.run.failed",
        "run": "reduce nothing",
        "id": failed,
        "exit_code": 2,
        "error": f"UsageError: {text}",
    }
    assert text in run["state"]["message"]
    assert here.failure(failed) == f"# Failed\n\n{literal(text)}\n\nexit code 2\n"
    # one line in the log, not a traceback
    lines = until(lambda: [line for line in here.log(failed) if text in line])
    assert lines[0] == f"{text} (exit code 2)"
    assert not any("Traceback" in line for line in here.log(failed))
    # a campaign, too, ends with one line for the operator
    failed = here.create("campaign", name="x", list=f"{tmp_path}/list", output=f"{tmp_path}/out")
    run = here.end(failed)
    assert run["state_name"] == "Failed"
    text = (
        f"{tmp_path}/list: no such file; expected a text file with the path of a visit on each line"
    )
    assert run["state"]["message"].endswith(f"MissingInputError: {text}")
    assert here.failure(failed) == f"# Failed\n\n{literal(text)}\n\nexit code 66\n"


def test_a_visit_that_fails_for_its_files_names_its_report_in_the_notice_and_in_the_state(
    here: Installation, heard: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    failed = here.create("reduce", visit=f"{tmp_path}/empty", output=f"{tmp_path}/products")
    run = here.end(failed)
    notice = until(lambda: next((n for n in heard if n["id"] == failed), None))
    pattern = r"no raw sub-array .*; report: (\S+/reports/empty-[0-9a-f]{8})\.txt; as PDF: \1\.pdf"
    assert notice["exit_code"] == 66
    for text in (notice["error"], run["state"]["message"]):
        assert re.search(pattern, text), text
    report = re.search(pattern, notice["error"])
    assert report is not None
    text = Path(f"{report[1]}.txt").read_text()
    shown = f"# Failed\n\nexit code 66\n\n```\n{text.rstrip()}\n```\n"
    assert here.failure(failed) == shown


def test_a_visit_that_fails_shows_its_report_under_its_tag(
    here: Installation, visit: Path, library: Path, tmp_path: Path
) -> None:
    attitude = raw_file(visit, "SCI_RAW_Attitude")
    attitude.write_bytes(attitude.read_bytes()[:-2880])
    bench = Bench(visit, (library,), tmp_path / "work", tmp_path / "products")
    failed = here.create("reduce", **form(bench))
    run = here.end(failed)
    assert run["state_name"] == "Failed"
    name = "PR900001_TG000101"
    assert name in run["tags"]
    text = (bench.work / "reports" / f"{name}.txt").read_text()
    assert text.rstrip() in here.artifacts(failed)["failure"]


def test_a_form_whose_paths_leave_the_allowed_roots_fails_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.service.deployments import stay_within_roots

    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to("/etc")
    asked = ReduceForm(visit=f"{inside}/visit", references=(f"{inside}/a", f"{inside}/link/b"))
    stay_within_roots(asked)  # no roots are set
    monkeypatch.setenv("DRP_ROOTS", str(inside))
    with pytest.raises(
        ConfigurationError,
        match=f"references: the path {inside}/link/b is outside the allowed roots",
    ):
        stay_within_roots(asked)
    with pytest.raises(ConfigurationError, match="output: the path /elsewhere is outside"):
        stay_within_roots(SimulateForm(output="/elsewhere"))
    stay_within_roots(ReduceForm(visit=f"{inside}/visit"))


def test_job_orders_are_taken_in_by_the_deployment(
    here: Installation, reduced: Bench, tmp_path: Path
) -> None:
    folder = tmp_path / "drop"
    order = order_of(folder, reduced.visit, reduced.references)
    order.out.mkdir(parents=True)
    order.tmp.mkdir()
    order.write()
    (folder / "broken.xml").write_text("<Ipf_Job_Order></Ipf_Job_Order>")
    run = here.end(here.create("intake", folder=str(folder)), 240)
    said = "".join(path.read_text() for path in sorted(folder.rglob("*.log")))
    assert (run["state_name"], run["state"]["message"]) == (
        "Completed",
        "2 orders: 1 done, 1 failed, 0 again",
    ), said
    assert [p.name for p in folder.glob("*.xml")] == []
    (product,) = (p for p in order.out.glob("CH_*") if p.is_dir())
    (wanted,) = reduced.published()
    assert sorted(p.name for p in product.glob("*.fits")) == sorted(
        p.name for p in wanted.glob("*.fits")
    )
    assert (product / "manifest.json").is_file()
    assert len(list(order.out.glob("*TRIGGER*.xml"))) == 1


def test_published_visits_are_planned_and_reprocessed_by_form(
    here: Installation, reduced: Bench, tmp_path: Path
) -> None:
    bench = reduced.copy(tmp_path)
    (folder,) = bench.published()
    newer(bench, tmp_path / "new", "BadPixelMap")
    places = {
        "output": str(bench.output),
        "work": str(bench.work),
        "references": [str(tmp_path / "new"), str(bench.references[0])],
        "visits": [str(bench.visit)],
    }
    planned = here.create("reprocess", **places)
    run = here.end(planned)
    assert (run["state_name"], run["state"]["message"]) == (
        "Planned",
        "visits to reduce again: 1",
    )
    (shown,) = here.ask("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [planned]}}})
    (row,) = json.loads(shown["data"])
    assert (row["visit"], row["from"]) == (VISIT, "prior")
    assert bench.published() == [folder]
    run = here.end(here.create("reprocess", **places, do=True), 240)
    assert (run["state_name"], run["state"]["message"]) == (
        "Completed",
        "visits reduced again: 1, failed: 0",
    )
    assert len(bench.published()) == 2


def example(language: str) -> str:
    """Return the example of requests to the REST API in a language."""
    text = (ROOT / "docs" / "operations.md").read_text()
    section = text.partition("## From scripts: the REST API\n")[2].partition("\n## ")[0]
    (block,) = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return str(block)


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_examples_of_requests_do_what_they_say(here: Installation, reduced: Bench) -> None:
    """Both name the published visit, in place of one of an operator."""
    (visit,) = reduced.published()
    places = {
        "http://127.0.0.1:4200/api": here.state.api,
        "/data/visits/PR100001_TG000101": str(visit),
        "/data/references": str(reduced.references[0]),
    }
    shell, python = example("sh"), example("python")
    for text, place in places.items():
        assert text in shell + python
        shell, python = shell.replace(text, place), python.replace(text, place)
    environment = {"DRP_WORK": str(here.home.parent), "no_proxy": "127.0.0.1"}
    answer = run_shell(shell, environment, seconds=60)
    run = here.end(json.loads(answer), 120)
    assert run["parameters"] == {"request": {"visit": str(visit)}}
    assert run["state_name"] == "Completed", run["state"]["message"]
    environment = {
        **os.environ,
        **environment,
        "PREFECT_API_URL": here.state.api,
        "PREFECT_API_AUTH_STRING": here.state.auth,
    }
    done = subprocess.run(
        [sys.executable, "-P", "-c", python],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Cached already up to date: "), done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_pages_show_runs_forms_and_artifacts(
    here: Installation, by_form: tuple[Bench, str], tmp_path: Path
) -> None:
    _, run = by_form
    assert here.run(run)["state_name"] == "Completed"
    deployment = here.ask("deployments/name/reduce/reduce")["id"]
    address = here.state.api.removesuffix("/api")
    browser = Browser(tmp_path)
    try:
        browser.go(f"{address}/login")
        browser.ask(
            f"localStorage.setItem('prefect-password', btoa({json.dumps(here.state.auth)}))"
        )
        wanted = {
            f"runs/flow-run/{run}": [
                f"reduce {VISIT}",
                "Completed",
                "Artifacts",
                "Subflow Runs",
                "Retry",
            ],
            "artifacts": [
                f"{VISIT.lower().replace('_', '-')}-{name}"
                for name in ("progress", "verdict", "light-curve")
            ],
            f"deployments/deployment/{deployment}/run": [
                "folder of the visit, or a published folder",
                "From Step",
                "Strict",
            ],
            "deployments": ["reduce", "reduce-lean", "campaign", "reprocess", "intake", "recover"],
        }
        for page, words in wanted.items():
            browser.go(f"{address}/{page}")
            shown = until(
                lambda words=words: all(w in browser.ask("document.body.innerText") for w in words),
                60,
            )  # type: ignore[misc]
            assert shown, page
            # nothing comes from anywhere else, and no script of the pages fails
            asked = [
                c.removeprefix("asked for ")
                for c in browser.complaints
                if c.startswith("asked for ")
            ]
            assert [c for c in asked if not c.startswith((f"{address}/", "data:", "ws:"))] == []
            assert [c for c in browser.complaints if "Uncaught" in c] == []
    finally:
        browser.close()


def test_a_visit_whose_worker_is_killed_within_a_step_is_finished(
    here: Installation, reduced: Bench, tmp_path: Path
) -> None:
    bench = reduced.fresh(tmp_path)
    visit = here.create("reduce", **form(bench))
    until(lambda: recorded(bench, "pointing"), 90)
    worker = here.process("prefect worker start --pool drp ")
    flow = [pid for pid in children(worker) if "prefect.engine" in command(pid)]
    assert len(flow) == 1
    for pid in (worker, *flow):
        os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    assert bench.published() == []
    until(lambda: here.run(visit)["state_name"] != "Running", LOST_SECONDS + 60)
    # with the 90 s of an installation: below two minutes
    assert time.monotonic() - killed < LOST_SECONDS + 30
    run = here.end(visit, 150)
    assert (run["state_name"], run["run_count"]) == ("Completed", 2), run["state"]["message"]
    (folder,) = bench.published()
    assert differing(folder, *reduced.published()) == []
    # what had been done was found again
    outcomes = {
        step["step"]: step["outcome"]
        for step in json.loads((folder / "manifest.json").read_text())["steps"]
    }
    assert outcomes["events"] == outcomes["pointing"] == "cached"
    assert outcomes["report"] == "done"


def test_a_visit_that_loses_its_process_again_and_again_is_left_to_a_person(
    here: Installation, heard: list[dict[str, Any]], tmp_path: Path
) -> None:
    deployment = here.ask("deployments/name/reduce/reduce")["id"]
    late = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2100-01-01T00:00:00Z"}}
    asked = {"parameters": {"request": {"visit": "/data/poisoned"}}, "state": late}
    visit = here.ask(f"deployments/{deployment}/create_flow_run", asked)["id"]
    for state in [*["PENDING", "RUNNING"] * 4, "CRASHED"]:
        here.ask(f"flow_runs/{visit}/set_state", {"state": {"type": state}, "force": True})
    assert here.run(visit)["run_count"] == 4
    run = here.end(visit, 90)
    assert (run["state_type"], run["state_name"]) == ("FAILED", "NeedsPerson")
    assert run["state"]["message"] == "the process died 4 times; operator needed"
    notice = until(lambda: next((n for n in heard if n["id"] == visit), None))
    assert (notice["event"], notice["exit_code"]) == ("drp.run.needs-person", 70)


def test_a_visit_whose_server_is_killed_is_published_and_told_to_the_next_server(
    here: Installation, reduced: Bench, tmp_path: Path
) -> None:
    bench = reduced.fresh(tmp_path)
    visit = here.create("reduce", **form(bench))
    until(lambda: recorded(bench, "pointing"), 90)
    os.kill(here.process("prefect server start"), signal.SIGKILL)
    folder = until(bench.published, 90)[0]
    run = here.end(visit, 120)
    assert run["state_name"] in ("Completed", "Cached")
    assert str(folder) in run["state"]["message"]
    assert differing(folder, *reduced.published()) == []
    # on a busy machine the next server may be up before the run misses the first one, and an
    # artifact may be the first to miss it
    lost = {
        "the Prefect server does not answer: continuing without it",
        "Prefect no longer shows this run: ConnectError",
    }
    assert set(json.loads((folder / "manifest.json").read_text())["warnings"]) <= lost


def test_a_campaign_by_form_runs_each_visit_as_one_lean_run_and_goes_on(
    here: Installation, reduced: Bench, tmp_path: Path
) -> None:
    bench = reduced.known(tmp_path)
    visits = tmp_path / "visits"
    (visits / "empty").mkdir(parents=True)
    (visits / "good").symlink_to(bench.visit)
    request = form(bench, name="spring", folder=str(visits))
    del request["visit"]
    run = here.end(here.create("campaign", **request), 240)
    page = bench.output / "campaigns" / "spring.html"
    assert (run["state_name"], run["state"]["message"]) == (
        "Completed",
        f"visits: 2, failed: 1; report: {page}",
    )
    state = read_history(page.with_suffix(".jsonl"))
    failed, done = state.reached()
    (folder,) = bench.published()[:1]
    assert (done.code, done.text, done.attempts) == (0, str(folder), 1)
    assert done.verdict == "usable with care"
    assert (failed.code, failed.attempts) == (66, 1)
    assert "no raw sub-array" in failed.text
    assert differing(folder, *reduced.published()) == []
    # a visit is one run, with its steps as one table, in the queue of campaigns
    lean = here.ask(
        "flow_runs/filter", {"flow_runs": {"tags": {"all_": ["drp", "campaign:spring"]}}}
    )
    assert len(lean) == 2
    assert run["name"] == "campaign spring"
    assert {r["work_queue_name"] for r in lean} == {"campaign"}
    (good,) = (r for r in lean if r["state_type"] == "COMPLETED")
    assert here.parts(good["id"]) == []
    assert here.tasks(good["id"]) == []
    assert [row["step"] for row in json.loads(here.artifacts(good["id"])["steps"])] == STEPS
    # the same campaign has nothing left to do
    again = here.end(here.create("campaign", **request), 120)
    assert again["state"]["message"] == run["state"]["message"]
    found = here.ask("flow_runs/count", {"flow_runs": {"tags": {"all_": ["campaign:spring"]}}})
    assert found == 2
