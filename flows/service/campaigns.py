"""A campaign as a flow: the visits of a form on the pool, with its progress as an artifact."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)

from flows.artifacts import link, literal, slug
from flows.campaign.engines import Engine
from flows.campaign.page import write_page
from flows.campaign.places import check_inputs, read_list
from flows.campaign.run import Campaign, Report, run_campaign
from flows.campaign.state import options_digest, read_history, state_path
from flows.service.executor import RunExecutor
from schemas.campaigns import Outcome
from schemas.errors import UsageError
from schemas.forms import CampaignForm
from tasks.files import disk

EVERY = 10.0  # shortest time between two updates of the progress [s]
LOG_EVERY = 60.0  # the same, of the log
MOST_FAILURES = 20  # shown one by one; the report has all


def visits_of(form: CampaignForm) -> list[str]:
    """Return the visits that a form names.

    Raises
    ------
    UsageError
        If it names none.
    MissingInputError, BadInputError
        If its list cannot be read.
    """
    visits: list[str] = []
    if form.list is not None:
        visits += read_list(Path(form.list))
        if relative := next((line for line in visits if not line.startswith("/")), None):
            raise UsageError(f"{form.list}: {relative}: expected an absolute path")
    if form.folder is not None:
        folder = Path(form.folder)
        disk.require_folder(folder, "a folder whose subfolders are the visits")
        visits += [str(p) for p in disk.entries(folder) if disk.is_folder(p)]
    if not visits:
        empty = " and ".join(filter(None, (form.list, form.folder)))
        found = f"{empty}: names no visit" if empty else "no visit"
        raise UsageError(f"{found}; name a folder whose subfolders are visits, or a list of them")
    return visits


def reduce_all(
    form: CampaignForm, usual_output: Path, log: Callable[[str], None]
) -> tuple[list[Outcome], Path]:
    """Reduce the visits of a form; return their outcomes, and the page on them."""
    output = Path(form.output) if form.output is not None else usual_output
    check_inputs(map(Path, form.references), map(Path, form.replace))
    request = form.form_of_visit(output)
    options = (json.dumps(request, sort_keys=True),)
    campaign = Campaign(
        form.name,
        visits_of(form),
        output,
        Path(form.work) if form.work is not None else None,
        options,
        engine="prefect",
        most_open=form.most_open,
        again=form.again,
    )
    key = f"{form.name}:{output}:{options_digest(options)}"
    report = shown_progress(form.name, log)
    log(f"campaign {form.name}: {len(campaign.visits)} visits; products: {output}")
    tag = f"campaign:{form.name}"
    executor = RunExecutor("reduce-lean/reduce-lean", request, key, tag)
    try:
        results = run_campaign(campaign, Engine(executor, executor.lost), report)
    finally:
        executor.shutdown()
    path = state_path(output, form.name)
    page = path.with_suffix(".html")
    write_page(read_history(path), page)
    create_markdown_artifact(
        summary_page(form.name, results, page),
        key=f"{slug(form.name)}-campaign",
        description=f"summary of the campaign {form.name}",
    )
    return results, page


def shown_progress(name: str, log: Callable[[str], None]) -> Report:
    """Return what shows the progress of a campaign: an artifact, and lines in the log."""
    key = f"{slug(name)}-progress"
    progress = create_progress_artifact(0.0, key, f"progress of the campaign {name}")
    assert isinstance(progress, UUID)
    shown, logged = [time.monotonic()], [time.monotonic()]

    def report(outcome: Outcome, done: int, total: int) -> None:
        now = time.monotonic()
        if outcome.code:
            log(f"{outcome.visit}: exit code {outcome.code}, {outcome.text}")
        if now - shown[0] >= EVERY or done == total:
            shown[0] = now
            update_progress_artifact(progress, 100.0 * done / total)
        if now - logged[0] >= LOG_EVERY or done == total:
            logged[0] = now
            log(f"{done} of {total} visits have ended")

    return report


def summary_page(name: str, results: Sequence[Outcome], page: Path) -> str:
    """Return the outcome of a campaign as Markdown: counts, the first failures, the report."""
    failed = [o for o in results if o.code]
    lines = [
        f"# Campaign {name}",
        "",
        f"{len(results) - len(failed)} of {len(results)} visits are done, {len(failed)} failed.",
        "",
        f"[Report on the campaign]({link(page)})",
    ]
    if failed:
        lines += ["", "| visit | exit code | error |", "| --- | --- | --- |"]
        lines += [
            f"| {literal(Path(o.visit).name)} | {o.code} | {literal(o.text)} |"
            for o in failed[:MOST_FAILURES]
        ]
    if len(failed) > MOST_FAILURES:
        lines += ["", f"{len(failed) - MOST_FAILURES} further failures are in the report."]
    return "\n".join((*lines, ""))
