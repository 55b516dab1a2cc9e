"""Reduce a visit from Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from drp.visit import Visit, open_visit
from tasks.files import disk

AnyPath = str | PathLike[str]


def reduce(
    visit: AnyPath,
    output: AnyPath = "products",
    references: Iterable[AnyPath] = (),
    settings: Mapping[str, Any] | None = None,
    work: AnyPath | None = None,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> Visit:
    """Reduce a visit in this process, without Prefect, and open what was published.

    Results of earlier runs are reused; if nothing changed, the visit is only opened.

    Parameters
    ----------
    visit : path
        Folder of the visit, or a published folder.
    output : path
        Folder in which the products are published.
    references : iterable of paths
        Folders with reference files; the default library if there is none.
    settings : mapping, optional
        Settings that differ from the defaults, as ``"STEP.NAME"`` or by step.
    work : path, optional
        Folder of intermediate products; DRP_WORK or the user's cache if it is not given.
    progress : callable, optional
        Called with the name of each step that has ended.
    **options
        Other fields of a request: `archive`, `strict`, `from_step`, `replace`, `wait`.

    Raises
    ------
    DrpError
        If the visit cannot be reduced; the message says why and what to do.

    Examples
    --------
    >>> import drp
    >>> visit = drp.reduce("visit", "short", settings={"report.points": 500})
    >>> visit.manifest.settings["report"]["points"]
    500
    """
    from flows.runs.reduction import run_reduce
    from schemas.requests import ReduceRequest

    request = ReduceRequest(
        visit=path_of(visit),
        output=path_of(output),
        references=tuple(map(path_of, references)),
        settings=nested(settings or {}),
        work=path_of(work) if work is not None else None,
        **options,
    )
    published, _ = run_reduce(
        request,
        "plain",
        lambda step, report: progress(step) if progress and report is not None else None,
    )
    assert published is not None  # no option of this function stops a run
    return open_visit(published.folder)


def path_of(path: AnyPath) -> Path:
    """Return an absolute path: notebooks change their folder."""
    return disk.absolute(Path(path))


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by step; a key may be the name of a step or ``"STEP.NAME"``.

    Examples
    --------
    >>> nested({"flat.skip": True, "psf": {"fewest": 20}})
    {'flat': {'skip': True}, 'psf': {'fewest': 20}}
    """
    by_step: dict[str, Any] = {}
    for key, value in settings.items():
        step, dot, name = key.partition(".")
        changes = {name: value} if dot else value
        if isinstance(changes, Mapping):
            by_step[step] = {**by_step.get(step, {}), **changes}
        else:
            by_step[step] = changes  # rejected with the name of the key
    return by_step
