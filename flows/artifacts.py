"""Artifacts of a run in Prefect: progress, steps, verdict, light curve, links to the products.

A run that failed has the text of the report on its failure instead.

Their keys contain the visit, so that the server keeps their history by visit. They are for display
only: if the server does not accept them, the run continues without.
"""

from __future__ import annotations

import base64
import contextlib
import html
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

from schemas.errors import plain
from schemas.names import VISIT
from schemas.payloads import Inventory, Published, ReportData
from tasks.delivery.report.report import DATA, LIGHT_CURVE, svg
from tasks.engine.run import STEPS, Run, StepReport, Stopped, current_run
from tasks.files import disk

EVERY = 1.0  # shortest time between two updates [s]

PATIENCE = 3.0  # timeout of a request [s]: artifacts must not delay a visit

LARGEST_PICTURE = 300_000  # bytes; a server accepts half a megabyte

LONGEST_TEXT = 100_000  # characters of a report

Show = Callable[[Published, ReportData], None]


@contextmanager
def run_shown(inventory: Inventory) -> Iterator[Show]:
    """Show the current run in Prefect; yield a function that shows the outcome.

    Under the plain engine nothing is shown.
    """
    run = current_run()
    if run.engine != "prefect" or run.dry:
        yield lambda _published, _report: None
        return
    board = Board(run, inventory.visit)
    report_progress = run.report_progress

    def show_step(step: str, report: StepReport | None) -> None:
        report_progress(step, report)
        board.step(step, report)

    run.report_progress = show_step
    try:
        yield board.published
    except Stopped:
        board.ended("stopped")
        raise
    except BaseException as error:
        board.failed(error)
        raise
    finally:
        run.report_progress = report_progress
        board.close()


class Board:
    """The artifacts of one flow run."""

    def __init__(self, run: Run, visit: str) -> None:
        self.run = run
        self.visit = visit
        self.slug = slug(visit)
        self.lost = False
        self.client: Any = None
        self.made: dict[str, Any] = {}
        self.updated = time.monotonic()
        self._try(self._open)

    def step(self, name: str, report: StepReport | None) -> None:
        """Show that a step begins (`report` is None) or has ended."""
        if time.monotonic() - self.updated >= EVERY:
            self.updated = time.monotonic()
            doing = f"{name} ..." if report is None else f"{name} {report.outcome}"
            self._try(
                lambda: self._update(100.0 * min(len(self.run.reports) / len(STEPS), 0.99), doing)
            )

    def published(self, published: Published, report: ReportData) -> None:
        """Show the verdict, the light curve and links to the products."""
        self._try(lambda: self._verdict(published, report))
        self.ended("published" if published.new else "already up to date")

    def ended(self, how: str) -> None:
        """Show the final state of progress and steps."""
        self._try(lambda: self._update(100.0, how))

    def failed(self, error: BaseException) -> None:
        """Show why the run failed, and how far it came."""
        text = f"# Failed\n\n{literal(f'{type(error).__name__}: {error}')}\n"
        self._try(lambda: self._update(100.0 * len(self.run.reports) / len(STEPS), "failed"))
        self._try(lambda: self._make("verdict", "markdown", text, f"verdict of {self.visit}"))

    def close(self) -> None:
        """Close the connection."""
        if self.client is not None:
            self.lost = True
            self.client.__exit__(None, None, None)

    def _try(self, action: Callable[[], None]) -> None:
        if self.lost or self.run.engine != "prefect":
            return
        try:
            action()
        except Exception as error:  # the run must continue whatever the server replies
            self.lost = True
            self.run.warn(f"Prefect no longer shows this run: {type(error).__name__}")

    def _open(self) -> None:
        from prefect.client.orchestration import get_client
        from prefect.runtime import flow_run

        self.flow_run = flow_run.id
        self.run.flow_run = str(flow_run.id or "")
        self.client = get_client(httpx_settings={"timeout": PATIENCE}, sync_client=True).__enter__()
        # a run of a deployment is created before its visit is known
        name = f"reduce {self.visit}"
        if flow_run.name != name:
            self.client.update_flow_run(
                self.flow_run, name=name, tags=sorted({*flow_run.tags, self.visit})
            )
        self._make("progress", "progress", 0.0, f"progress of {self.visit}")
        self._make("steps", "table", "[]", f"steps of {self.visit}")

    def _make(self, name: str, kind: str, data: Any, description: str) -> None:
        from prefect.client.schemas.actions import ArtifactCreate

        artifact = ArtifactCreate(
            key=f"{self.slug}-{name}",
            type=kind,
            data=data,
            description=description,
            flow_run_id=self.flow_run,
        )
        self.made[name] = self.client.create_artifact(artifact).id

    def _update(self, percent: float, doing: str) -> None:
        from prefect.client.schemas.actions import ArtifactUpdate

        description = f"progress of {self.visit}: {doing}"
        self.client.update_artifact(
            self.made["progress"], ArtifactUpdate(data=round(percent, 1), description=description)
        )
        table = json.dumps([row(report) for report in self.run.reports])
        self.client.update_artifact(self.made["steps"], ArtifactUpdate(data=table))

    def _verdict(self, published: Published, report: ReportData) -> None:
        data = json.loads(disk.read_bytes(Path(report.products[DATA].path)))
        picture = disk.read_bytes(Path(report.products[svg(LIGHT_CURVE)].path))
        self._make(
            "verdict",
            "markdown",
            verdict_page(data, published, self.run.warnings),
            f"verdict of {self.visit}",
        )
        if len(picture) <= LARGEST_PICTURE:
            inline = base64.b64encode(picture).decode()
            caption = literal(data["figures"][LIGHT_CURVE].get("caption", ""))
            page = (
                f"![light curve of {self.visit}](data:image/svg+xml;base64,{inline})\n\n{caption}\n"
            )
            self._make("light-curve", "markdown", page, f"light curve of {self.visit}")
        page = "".join(
            f"- [{file.name}]({link(file)})\n" for file in worth_reading(Path(published.folder))
        )
        self._make("links", "markdown", page, f"report and products of {self.visit}")


def show_failure(flow_run: str, visit: str, code: int, text: str) -> None:
    """Show in Prefect why a run failed, and tag the run with its visit.

    Parameters
    ----------
    flow_run : str
        Id of the flow run; nothing is shown if it is empty.
    visit : str
        Name of the visit, or of what was requested if the visit is not known.
    code : int
        Exit code.
    text : str
        The text of the report on the failure, or the error message.
    """
    if not flow_run:
        return
    with contextlib.suppress(Exception):  # the error itself matters, whatever the server replies
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import ArtifactCreate

        artifact = ArtifactCreate(
            key=f"{slug(visit)}-failure",
            type="markdown",
            data=failure_page(code, text),
            description=f"failure of {plain(visit)}",
            flow_run_id=UUID(flow_run),
        )
        with get_client(httpx_settings={"timeout": PATIENCE}, sync_client=True) as client:
            client.create_artifact(artifact)
            if VISIT.fullmatch(visit):
                tags = {*client.read_flow_run(UUID(flow_run)).tags, visit}
                client.update_flow_run(UUID(flow_run), tags=sorted(tags))


def show_steps(run: Run) -> None:
    """Show the steps of a run that has ended as one table, and tag the flow run with its visit."""
    if not (flow_run := current_flow_run()):
        return
    visit = run.workspace.visit
    with contextlib.suppress(Exception):  # the visit is published, whatever the server replies
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import ArtifactCreate
        from prefect.runtime import flow_run as known

        artifact = ArtifactCreate(
            key=f"{slug(visit)}-steps",
            type="table",
            data=json.dumps([row(report) for report in run.reports]),
            description=f"steps of {visit}",
            flow_run_id=UUID(flow_run),
        )
        with get_client(httpx_settings={"timeout": PATIENCE}, sync_client=True) as client:
            client.create_artifact(artifact)
            client.update_flow_run(UUID(flow_run), tags=sorted({*known.tags, visit}))


def current_flow_run() -> str:
    """Return the id of the Prefect flow run that this code is part of; empty if there is none."""
    if "prefect" not in sys.modules:
        return ""
    from prefect.runtime import flow_run

    return str(flow_run.id or "")


def failure_page(code: int, text: str) -> str:
    """Return exit code and report as Markdown; a report is shown literally, line by line."""
    text = text[:LONGEST_TEXT].rstrip()
    if "\n" not in text:  # a mere message, for which a block of code would be too wide
        return f"# Failed\n\n{literal(text)}\n\nexit code {code}\n"
    fence = "`" * (1 + max((len(ticks) for ticks in re.findall("`+", text)), default=2))
    return f"# Failed\n\nexit code {code}\n\n{fence}\n{text}\n{fence}\n"


def slug(name: str) -> str:
    """Return a name as part of the key of an artifact: lower case, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run"


def row(report: StepReport) -> dict[str, Any]:
    """Return the row of a step in the table."""
    leaf = report.leaf
    states = ", ".join(sorted({str(state) for state in leaf.status.values()}))
    return {
        "step": report.step,
        "outcome": report.outcome,
        "state": states,
        "seconds": round(report.seconds, 2),
        "key": report.key[:12],
        "warnings": "; ".join(leaf.warnings),
    }


def verdict_page(data: dict[str, Any], published: Published, warnings: list[str]) -> str:
    """Return verdict, metrics and warnings as Markdown."""
    lines = [f"# {literal(data['verdict']['word'])}", ""]
    lines += [f"- {literal(reason)}" for reason in data["verdict"]["reasons"]]
    lines += [
        "",
        f"{literal(data['target'])}, {literal(data['observed'])}",
        "",
        "| metric | value |",
        "| --- | --- |",
    ]
    for metric in data["metrics"]:
        value = " ".join(part for part in (metric["shown"], metric["unit"]) if part)
        reason = f" ({metric['reason']})" if metric["reason"] else ""
        lines.append(f"| {literal(metric['label'])} | {literal(value + reason)} |")
    all_warnings = dict.fromkeys([*warnings, *data["all_warnings"]])
    if all_warnings:
        lines += ["", "## Warnings", ""]
        lines += [f"- {literal(warning)}" for warning in all_warnings]
    lines += [
        "",
        f"Published in `{published.folder}`" + ("" if published.new else " (already up to date)"),
        "",
    ]
    return "\n".join(lines)


def literal(text: object) -> str:
    """Return text escaped for Markdown, on one line: no markup, no HTML."""
    line = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]()#+!|~:-])", r"\\\1", html.escape(line, quote=False))


def worth_reading(folder: Path) -> list[Path]:
    """Return the most important files of a published folder."""
    return [
        *(p for p in disk.entries(folder) if p.match("*_RPT_*")),
        *(p for p in disk.entries(folder) if p.match("*Lightcurve-DEFAULT*")),
        folder / "manifest.json",
    ]


def link(path: Path) -> str:
    """Return the address of a published file: below DRP_PRODUCTS_URL if set, else a file URL."""
    if base := os.environ.get("DRP_PRODUCTS_URL"):
        return f"{base.rstrip('/')}/{quote(f'{path.parent.name}/{path.name}')}"
    return f"file://{quote(str(path))}"
