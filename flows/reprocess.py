"""Reprocessing: which published visits a new reference or step version touches, what that costs,
and doing it.

A plan is a dry run of the recipe on what each manifest says, with the new references put in: steps,
keys and payloads stand there, so that no product and no raw file is opened for it. Doing it is a
reduction from the published folder.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flows.reduce import reduce_visit
from flows.runs.reduction import Tell, merge_settings, run_reduce
from schemas.errors import BadInputError, DrpError, UsageError, plain
from schemas.names import PUBLISHED
from schemas.payloads import Inventory, Reference
from schemas.requests import ReduceRequest, make_settings
from tasks.delivery.published.folder import (
    published_folders,
    published_inventory,
    read_manifest,
    relocated,
)
from tasks.engine.digests import Digests
from tasks.engine.folders import default_work_folder
from tasks.engine.run import STEPS, Run, running
from tasks.engine.store import L, Warn, Workspace
from tasks.visit.inventory import renewed


class ManifestRecords(Workspace):
    """What a manifest says of the results of a published folder, in place of records. For dry runs:
    nothing is written.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], digests: Digests) -> None:
        self.root = self.records = self.products = folder
        self.visit = str(manifest["visit"])
        self.digests = digests
        self._known = {(s["step"], s["key"]): s["payload"] for s in manifest["steps"]}
        self._by_hand = {
            s["step"]: s["payload"] for s in manifest["steps"] if s["payload"]["by_hand"]
        }

    def believe(self, step: str, key: str, payload: type[L], warn: Warn) -> L | None:
        """Return what the manifest says under this key; what was given by hand is given again,
        whatever the key.
        """
        known = self._known.get((step, key), self._by_hand.get(step))
        try:
            return None if known is None else payload.model_validate(known)
        except ValidationError:
            warn(f"the result of {step} is of another version: the step is done again")
            return None


@dataclass
class Replay:
    """A dry run on a manifest: what every step would do, and which references are not those of the
    manifest.
    """

    run: Run
    inventory: Inventory
    manifest: dict[str, Any]
    changes: list[str]


def replay(request: ReduceRequest) -> Replay:
    """Return what a reduction from a published folder would do.

    Raises
    ------
    BadInputError
        If the manifest, or a reference that would be taken, is damaged.
    """
    manifest = read_manifest(request.visit)
    published, base = published_inventory(request.visit)
    work = request.work or default_work_folder(lambda _: None)
    digests = Digests(work / "records" / f"{published.visit}.digests.json")
    settings = make_settings(merge_settings(base, request.settings))
    inventory = relocated(published, request.references, digests.of)
    changes = changed_references(published, inventory)
    if request.renew:
        inventory, newer = renewed(inventory, request.references, settings, digests)
        changes += newer
    try:
        run = Run(ManifestRecords(request.visit, manifest, digests), dry=True)
    except (KeyError, TypeError) as error:
        raise BadInputError(
            f"{request.visit}: its manifest does not tell its steps ({plain(error)})"
        ) from error
    with running(run):
        reduce_visit(request, inventory, settings)
    explain_reports(run, manifest)
    return Replay(run, inventory, manifest, changes)


def changed_references(published: Inventory, relocated: Inventory) -> list[str]:
    """Return which references of a published folder have other content where they are now."""

    def references(inventory: Inventory) -> Iterator[Reference]:
        yield from inventory.references.values()
        yield from inventory.dark_frames

    before = {r.product.path: r.product.sha256 for r in references(published)}
    names = ((r, Path(r.product.path).name) for r in references(relocated))
    return [
        f"{r.kind}: {name} has other content"
        for r, name in names
        if before[name] != r.product.sha256
    ]


def explain_reports(run: Run, manifest: dict[str, Any]) -> None:
    """Say of steps of which the manifest has no result why that is so."""
    versions = {s["step"]: s["version"] for s in manifest["steps"]}
    for report in run.reports:
        if report.outcome == "would run" and report.why == "there is no record":
            now, then = STEPS[report.step].version, versions.get(report.step)
            report.why = (
                f"version {then} is now {now}"
                if then not in (now, None)
                else "it is made from something else"
            )


@dataclass
class Planned:
    """A visit that would be reduced again. `seconds` is what its steps took; `unknown` of them did
    not tell.
    """

    visit: str
    folder: str
    reasons: list[str]
    steps: list[str]
    seconds: float
    unknown: list[str] = field(default_factory=list)
    raw: bool = True  # its raw files are in the given folders


@dataclass
class Done:
    """What became of a visit: exit code, published folder or error."""

    visit: str
    code: int
    text: str


@dataclass(frozen=True)
class Reprocessing:
    """Published visits, and the folders from which they are reduced again.

    `places` are folders with references, and with raw files where steps need them.
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

    def plan(self, warn: Callable[[str], None]) -> list[Planned]:
        """Return the visits that references in the places, or versions of steps, touch; of each
        the newest version.

        A visit of which the manifest cannot be read is told of by `warn`, and left out.

        Raises
        ------
        UsageError
            If a folder is not there.
        """
        for folder in (self.output, *self.places):
            if not folder.is_dir():
                raise UsageError(f"{folder}: is not a folder")
        names = (path.name for path in self.output.iterdir())
        visits = sorted({m[1] for name in names if (m := PUBLISHED.fullmatch(name))})
        planned = []
        for visit in visits:
            try:
                each = self.plan_visit(visit)
            except (DrpError, IndexError) as error:
                warn(f"{visit}: cannot be planned, {error}")
                continue
            if each is not None:
                planned.append(each)
        return planned

    def plan_visit(self, visit: str) -> Planned | None:
        """Return what would be done for a visit, None if nothing would."""
        folders = published_folders(self.output, visit)
        outcome = replay(self.request(folders[-1], dry=True))
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
            Path(outcome.inventory.subarray.path).is_file(),
        )

    def reduce(
        self,
        planned: Sequence[Planned],
        engine: Any,
        tell: Tell,
        report_end: Callable[[Done], None],
    ) -> list[Done]:
        """Reduce planned visits again; one that fails leaves the others alone."""
        results = []
        for each in planned:
            try:
                published, _ = run_reduce(self.request(Path(each.folder), dry=False), engine, tell)
                result = Done(each.visit, 0, published.folder if published is not None else "")
            except DrpError as error:
                result = Done(each.visit, error.exit_code, str(error))
            results.append(result)
            report_end(result)
        return results


def estimate_cost(steps: Sequence[str], folders: Sequence[Path]) -> tuple[float, list[str]]:
    """Return what steps took when they were last done, and those of which no manifest tells."""
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
    """Return what the steps that were done for a published folder took, one number for each call.

    Empty if its manifest cannot be read.
    """
    try:
        entries = read_manifest(folder)["steps"]
    except (DrpError, KeyError):
        return {}
    took: defaultdict[str, list[float]] = defaultdict(list)
    for entry in entries:
        if entry["outcome"] == "done":
            took[entry["step"]].append(float(entry["seconds"]))
    return took
