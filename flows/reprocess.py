"""Reprocessing: find published visits affected by new references or steps, and reduce them again.

The plan is a dry run of the recipe on each manifest, with the new references filled in. A manifest
holds the steps with their keys and payloads, so no product or raw file is opened. The visits are
then reduced from their published folders.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.reduce import reduce_visit
from flows.runs.logged import ReportProgress
from flows.runs.reduction import run_reduce
from flows.runs.site import merge_settings
from schemas.errors import DrpError
from schemas.manifest import Manifest
from schemas.names import PUBLISHED
from schemas.payloads import Inventory, Reference, Unused
from schemas.requests import ReduceRequest, make_settings
from tasks.delivery.folder import (
    published_folders,
    published_inventory,
    read_manifest,
    relocated,
)
from tasks.engine.digests import Digests
from tasks.engine.folders import default_work_folder
from tasks.engine.generic import L
from tasks.engine.run import STEPS, Run, running
from tasks.engine.store import Warn, Workspace
from tasks.files import disk
from tasks.visit.inventory import renew_references

ReportUnused = Callable[[str, Unused], None]


class ManifestRecords(Workspace):
    """The results listed in a manifest, in place of records; read-only, for dry runs."""

    def __init__(self, folder: Path, manifest: Manifest, digests: Digests) -> None:
        self.root = self.records = self.products = folder
        self.visit = manifest.visit
        self.digests = digests
        self._known = {(s.step, s.key): s.payload for s in manifest.steps}
        self._by_hand = {s.step: s.payload for s in manifest.steps if s.payload.by_hand}

    def believe(
        self,
        step: str,
        key: str,
        payload: type[L],
        warn: Warn,  # noqa: ARG002 (no doubts here)
    ) -> L | None:
        """Return the payload of a key.

        A product that was the user's own is used again, whatever the key.
        """
        known = self._known.get((step, key), self._by_hand.get(step))
        return None if known is None else known.as_leaf(payload)


@dataclass
class Replay:
    """A dry run on a manifest, and the references that differ from those in the manifest."""

    run: Run
    inventory: Inventory
    manifest: Manifest
    changes: list[str]
    unused: list[Unused]


def replay(request: ReduceRequest) -> Replay:
    """Return what a reduction from a published folder would do.

    Raises
    ------
    BadInputError
        If the manifest or a reference is damaged.
    """
    manifest = read_manifest(request.visit)
    published, base = published_inventory(request.visit)
    work = request.work or default_work_folder(lambda _: None)
    digests = Digests(work / "records" / f"{published.visit}.digests.json")
    settings = make_settings(merge_settings(base, request.settings))
    inventory = relocated(published, request.references, digests.of)
    changes = changed_references(published, inventory)
    unused: list[Unused] = []
    if request.renew:
        inventory, newer, unused = renew_references(
            inventory, request.references, settings, digests
        )
        changes += newer
    run = Run(ManifestRecords(request.visit, manifest, digests), dry=True)
    with running(run):
        reduce_visit(request, inventory, settings)
    explain_reports(run, manifest)
    return Replay(run, inventory, manifest, changes, unused)


def changed_references(published: Inventory, relocated: Inventory) -> list[str]:
    """Return a line for each reference whose content has changed since publication."""

    def references(inventory: Inventory) -> Iterator[Reference]:
        yield from inventory.references.values()
        yield from inventory.dark_frames

    before = {r.product.path: r.product.sha256 for r in references(published)}
    names = ((r, Path(r.product.path).name) for r in references(relocated))
    return [
        f"{r.kind}: {name} has changed" for r, name in names if before[name] != r.product.sha256
    ]


def explain_reports(run: Run, manifest: Manifest) -> None:
    """Explain why steps in the manifest have no valid result."""
    versions = {s.step: s.version for s in manifest.steps}
    for report in run.reports:
        if report.outcome == "would run" and report.why == "there is no record":
            now, then = STEPS[report.step].version, versions.get(report.step)
            report.why = (
                f"version {then} is now {now}"
                if then not in (now, None)
                else "its inputs have changed"
            )


@dataclass
class Planned:
    """A visit to reduce again.

    `seconds` is the time its steps took before; it is not known for the steps `unknown`.
    """

    visit: str
    folder: str
    reasons: list[str]
    steps: list[str]
    seconds: float
    unknown: list[str] = field(default_factory=list)
    raw: bool = True  # whether its raw files are available


@dataclass
class Done:
    """The outcome of a visit: exit code, and published folder or error message."""

    visit: str
    code: int
    text: str


@dataclass(frozen=True)
class Reprocessing:
    """Published visits and the folders for reducing them again.

    `places` are folders with reference files, and with raw files for steps that need them.
    """

    output: Path
    places: tuple[Path, ...]
    work: Path | None = None

    def request(self, folder: Path, dry: bool) -> ReduceRequest:
        """Return the request to reduce a visit again from its published folder."""
        return ReduceRequest(
            visit=folder,
            references=self.places,
            output=self.output,
            work=self.work,
            renew=True,
            dry_run=dry,
        )

    def plan(
        self,
        warn: Callable[[str], None],
        report_unused: ReportUnused = lambda _visit, _unused: None,
    ) -> list[Planned]:
        """Return the visits affected by references in `places` or by new versions of steps.

        Of each visit, the newest version is considered. If its manifest cannot be read, the visit
        is left out, with a warning. `report_unused` is called with each visit and each file in
        `places` that is a reference but not used for it.

        Raises
        ------
        UsageError
            If a folder does not exist.
        """
        disk.require_folder(self.output, "the folder of the published products")
        for folder in self.places:
            disk.require_folder(folder, "a folder of raw files or references")
        names = (path.name for path in disk.entries(self.output))
        visits = sorted({m["visit"] for name in names if (m := PUBLISHED.fullmatch(name))})
        planned = []
        for visit in visits:
            try:
                each = self.plan_visit(visit, report_unused)
            except (DrpError, IndexError) as error:
                warn(f"{visit}: cannot be planned, {error}")
                continue
            if each is not None:
                planned.append(each)
        return planned

    def plan_visit(
        self, visit: str, report_unused: ReportUnused = lambda _visit, _unused: None
    ) -> Planned | None:
        """Return the plan for a visit, or None if it is not affected."""
        folders = published_folders(self.output, visit)
        outcome = replay(self.request(folders[-1], dry=True))
        for unused in outcome.unused:
            report_unused(visit, unused)
        steps = [r for r in outcome.run.reports if r.outcome == "would run"]
        if not steps:
            return None
        versions = [f"{r.step}: {r.why}" for r in steps if r.why.startswith("version ")]
        seconds, unknown = estimate_cost([r.step for r in steps], folders)
        return Planned(
            visit,
            str(folders[-1]),
            [*outcome.changes, *versions],
            [r.step for r in steps],
            seconds,
            unknown,
            disk.is_file(Path(outcome.inventory.subarray.path)),
        )

    def reduce(
        self,
        planned: Sequence[Planned],
        engine: Any,
        report_progress: ReportProgress,
        report_end: Callable[[Done], None],
    ) -> list[Done]:
        """Reduce planned visits again; a failure does not stop the others."""
        results = []
        for each in planned:
            try:
                published, _ = run_reduce(
                    self.request(Path(each.folder), dry=False), engine, report_progress
                )
                result = Done(each.visit, 0, published.folder if published is not None else "")
            except DrpError as error:
                result = Done(each.visit, error.exit_code, str(error))
            results.append(result)
            report_end(result)
        return results


def estimate_cost(steps: Sequence[str], folders: Sequence[Path]) -> tuple[float, list[str]]:
    """Return the time that steps took when last run, and the steps without a recorded time."""
    took: dict[str, list[float]] = {}
    for folder in folders:
        took |= durations(folder)
    total, unknown = 0.0, []
    for step in steps:
        if took.get(step):
            total += took[step].pop(0)
        else:
            unknown.append(step)
    return round(total, 3), unknown


def durations(folder: Path) -> dict[str, list[float]]:
    """Return the times that the steps of a published folder took, one for each call [s].

    Empty if the manifest cannot be read.
    """
    try:
        entries = read_manifest(folder).steps
    except DrpError:
        return {}
    took: defaultdict[str, list[float]] = defaultdict(list)
    for entry in entries:
        if entry.outcome == "done":
            took[entry.step].append(entry.seconds)
    return took
