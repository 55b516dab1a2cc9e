"""Why a step would run: its present ingredients compared with those of its last result.

The facts in a record list the ingredients of a result. They are for people: the key alone decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from schemas.errors import DrpError
from schemas.payloads import Bundle, Scalar
from schemas.settings import Settings
from tasks.engine.keys import canonical, content
from tasks.engine.store import Workspace, read_record
from tasks.files import disk

Ingredients = Mapping[str, Scalar | None]

NOT_YET = "0" * 64  # digest of a product that a dry run does not compute

_WAITS = "not computed yet"


def ingredients(
    version: str, declared: Mapping[str, str], arguments: Mapping[str, object]
) -> dict[str, Scalar | None]:
    """Return the ingredients of a result.

    These are the version, the digests of the structures written, the settings, and the digests of
    all other arguments. The members of a bundle count one by one, under their own names.
    """
    parts: dict[str, Scalar | None] = {"version": version}
    parts |= {f"declaration of {extname}": digest for extname, digest in declared.items()}
    for name, value in _unbundled(arguments.items()):
        if isinstance(value, Settings):
            parts |= {
                f"{name}.{key}": canonical(setting) if isinstance(setting, list) else setting
                for key, setting in value.model_dump(mode="json").items()
            }
            continue
        text = canonical(content(value))
        parts[name] = _WAITS if NOT_YET in text else hashlib.sha256(text.encode()).hexdigest()[:16]
    return parts


def _unbundled(arguments: Iterable[tuple[str, object]]) -> Iterator[tuple[str, object]]:
    for name, value in arguments:
        if isinstance(value, Bundle):
            members = type(value).model_fields
            yield from _unbundled((member, getattr(value, member)) for member in members)
        else:
            yield name, value


def why(workspace: Workspace, step: str, now: Ingredients) -> str:
    """Return why there is no record of a step with these ingredients.

    The most similar record is compared, the newest of equally similar ones.
    """
    waits = [name for name, value in now.items() if value == _WAITS]
    if waits:
        return f"depends on {', '.join(waits)}, to be computed again"
    paths = sorted(
        (p for p in disk.entries(workspace.records) if p.match(f"{step}-*.json")),
        key=_time_of_change,
        reverse=True,
    )
    recorded = [parts for parts in map(_recorded, paths) if parts is not None]
    if not paths:
        return "there is no record"
    if not recorded:
        return "the records do not list their ingredients"
    closest: list[str] = min([_differences(then, now) for then in recorded], key=len)
    return "; ".join(closest) or "the record has another key"


def _time_of_change(path: Path) -> int:
    found = disk.status(path)
    return found.st_mtime_ns if found is not None else 0


def _recorded(path: Path) -> Ingredients | None:
    try:
        return read_record(path).facts.made_from
    except (DrpError, ValueError):
        return None


def _differences(then: Ingredients, now: Ingredients) -> list[str]:
    lines = []
    for name in sorted({*then, *now}, key=lambda n: (n != "version", n)):
        before, after = then.get(name), now.get(name)
        if before == after:
            continue
        if name == "version" or "." in name:
            lines.append(
                f"{'' if name == 'version' else 'setting '}{name.removeprefix('settings.')} "
                f"{before} is now {after}"
            )
        else:
            lines.append(f"{name} has changed")
    return lines
