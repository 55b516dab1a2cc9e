"""Reprocessing: which published visits a new reference or step version touches, what that costs,
and doing it.

A plan is a dry run of the recipe on what each manifest says, with the new references put in: steps,
keys and payloads stand there, so that no product and no raw file is opened for it. Doing it is a
reduction from the published folder.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flows.reduce import reduce_visit
from flows.runs.reduction import Tell, merged, run_reduce
from schemas.errors import BadInputError, DrpError, UsageError, plain
from schemas.names import read_published_name
from schemas.payloads import Inventory
from schemas.requests import ReduceRequest, make_settings
from tasks.delivery.published.folder import (
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
from tasks.visit.inventory import renew_references


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
    found: Inventory
    manifest: dict[str, Any]
    changes: list[str]


def replayed(request: ReduceRequest) -> Replay:
    """Return what a reduction from a published folder would do.

    Raises
    ------
    BadInputError
        If the manifest, or a reference that would be taken, is damaged.
    """
    manifest = read_manifest(request.visit)
    found, base = published_inventory(request.visit)
    digests = Digests(
        (request.work or default_work_folder(lambda _: None))
        / "records"
        / f"{found.visit}.digests.json"
    )
    settings = make_settings(merged(base, request.settings))
    before = {
        r.product.path: r.product.sha256 for r in (*found.references.values(), *found.dark_frames)
    }
    found = relocated(found, request.references, digests.of)
    changes = [
        f"{r.kind}: {Path(r.product.path).name} has other content"
        for r in (*found.references.values(), *found.dark_frames)
        if before[Path(r.product.path).name] != r.product.sha256
    ]
    if request.renew:
        found, newer = renew_references(found, request.references, settings, digests)
        changes += newer
    try:
        run = Run(ManifestRecords(request.visit, manifest, digests), dry=True)
    except (KeyError, TypeError) as error:
        raise BadInputError(
            f"{request.visit}: its manifest does not tell its steps ({plain(error)})"
        ) from error
    versions = {s["step"]: s["version"] for s in manifest["steps"]}
    with running(run):
        reduce_visit(request, found, settings)
    for report in run.reports:
        now, then = STEPS[report.step].version, versions.get(report.step)
        if report.outcome == "would run" and report.why == "there is no record":
            report.why = (
                f"version {then} is now {now}"
                if then not in (now, None)
                else "it is made from something else"
            )
    return Replay(run, found, manifest, changes)


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


def request_for(
    folder: Path, output: Path, places: Sequence[Path], work: Path | None, dry: bool
) -> ReduceRequest:
    """Return the request to reduce a visit again from its published folder."""
    return ReduceRequest(
        visit=folder, references=tuple(places), output=output, work=work, renew=True, dry_run=dry
    )


def plan(
    output: Path, places: Sequence[Path], work: Path | None, warn: Callable[[str], None]
) -> list[Planned]:
    """Return the visits below `output` that references in `places`, or versions of steps, touch; of
    each the newest version.

    `places` are folders with references, and with raw files where steps need them. A visit of which
    the manifest cannot be read is told of by `warn`, and left out.

    Raises
    ------
    UsageError
        If a folder is not there.
    """
    for folder in (output, *places):
        if not folder.is_dir():
            raise UsageError(f"{folder}: is not a folder")
    names = [read_published_name(p.name) for p in output.iterdir()]
    visits = sorted({name[0] for name in names if name is not None})
    planned = []
    for visit in visits:
        folders = published_folders(output, visit)
        try:
            replay = replayed(request_for(folders[-1], output, places, work, dry=True))
        except (DrpError, IndexError) as error:
            warn(f"{visit}: cannot be planned, {error}")
            continue
        todo = [r for r in replay.run.reports if r.outcome == "would run"]
        if not todo:
            continue
        versions = [f"{r.step}: {r.why}" for r in todo if r.why.startswith("version ")]
        seconds, unknown = cost([r.step for r in todo], folders)
        planned.append(
            Planned(
                visit,
                str(folders[-1]),
                [*replay.changes, *versions],
                [r.step for r in todo],
                seconds,
                unknown,
                Path(replay.found.subarray.path).is_file(),
            )
        )
    return planned


def cost(steps: Sequence[str], folders: Sequence[Path]) -> tuple[float, list[str]]:
    """Return what steps took when they were last done, and those of which no manifest tells."""
    took: dict[str, list[float]] = {}
    for folder in folders:
        try:
            entries = read_manifest(folder)["steps"]
        except (DrpError, KeyError):
            continue
        here: defaultdict[str, list[float]] = defaultdict(list)
        for entry in entries:
            if entry["outcome"] == "done":
                here[entry["step"]].append(float(entry["seconds"]))
        took |= here
    left = {step: list(seconds) for step, seconds in took.items()}
    total, unknown = 0.0, []
    for step in steps:
        if left.get(step):
            total += left[step].pop(0)
        else:
            unknown.append(step)
    return round(total, 3), unknown


def reprocess(
    planned: Sequence[Planned],
    output: Path,
    places: Sequence[Path],
    work: Path | None,
    engine: Any,
    tell: Tell,
    ended: Callable[[Done], None],
) -> list[Done]:
    """Reduce planned visits again; one that fails leaves the others alone."""
    results = []
    for each in planned:
        request = request_for(Path(each.folder), output, places, work, dry=False)
        try:
            published, _ = run_reduce(request, engine, tell)
            result = Done(each.visit, 0, published.folder if published is not None else "")
        except DrpError as error:
            result = Done(each.visit, error.exit_code, str(error))
        results.append(result)
        ended(result)
    return results
