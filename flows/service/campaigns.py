"""A campaign as a flow: the visits of a form on the pool, with its progress as an artifact."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from prefect import runtime
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)

from flows.campaign.engines import Engine
from flows.campaign.page import write_page
from flows.campaign.places import check_inputs, read_list
from flows.campaign.run import Campaign, run_campaign
from flows.campaign.state import options_digest, read_history, state_path
from flows.service.executor import RunExecutor
from schemas.campaigns import Outcome
from schemas.errors import UsageError
from schemas.forms import CampaignForm
from tasks.files import disk

EVERY = 10.0  # shortest time between two updates of the progress [s]


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
    progress = create_progress_artifact(0.0, description=f"campaign {form.name}")
    assert isinstance(progress, UUID)
    shown = [time.monotonic()]

    def report(outcome: Outcome, done: int, total: int) -> None:
        if outcome.code:
            log(f"{outcome.visit}: exit code {outcome.code}, {outcome.text}")
        if time.monotonic() - shown[0] >= EVERY or done == total:
            shown[0] = time.monotonic()
            update_progress_artifact(progress, 100.0 * done / total)

    tag = f"campaign:{form.name}"
    executor = RunExecutor("reduce-lean/reduce-lean", request, key, tag)
    try:
        results = run_campaign(campaign, Engine(executor, executor.lost), report)
    finally:
        executor.shutdown()
    path = state_path(output, form.name)
    page = path.with_suffix(".html")
    write_page(read_history(path), page)
    counts = f"{sum(o.code == 0 for o in results)} of {len(results)} visits are done"
    create_markdown_artifact(
        f"# Campaign {form.name}\n\n{counts}\n\n[report](file://{page})\n",
        description=f"run {runtime.flow_run.id}",
    )
    return results, page
