"""Choice of the reference files that are valid for a visit."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.errors import BadInputError, plain
from schemas.inputs import (
    BY_WAVELENGTH,
    DARK_FRAME,
    FLAT_FIELD,
    LINEARISATION,
    REFERENCES,
    Input,
)
from schemas.names import version_label
from schemas.settings import PipelineSettings
from tasks.visit.search import Found, sortable


def needed_references(settings: PipelineSettings) -> list[Input]:
    """Return the kinds of reference that these settings require."""
    built = settings.flat.source == "wavelengths"
    skipped = {
        DARK_FRAME.kind: settings.dark.skip,
        FLAT_FIELD.kind: settings.flat.skip or built,
        LINEARISATION.kind: settings.linearity.skip,
        **{declared.kind: settings.flat.skip or not built for declared in BY_WAVELENGTH},
    }
    return [declared for declared in REFERENCES if not skipped.get(declared.kind, False)]


def choose_references(candidates: Sequence[Found], declared: Input, when: str) -> list[Found]:
    """Return the files of one kind to use at the time `when`; empty if none is valid.

    Of most kinds there is one at most, of dark frames one or two.

    Raises
    ------
    BadInputError
        If two valid files have the same version.
    """
    if declared is DARK_FRAME:
        return choose_dark_frames(candidates, when)
    for extname in declared.first:
        chosen = choose([c for c in candidates if c.extname == extname], when, declared.kind)
        if chosen is not None:
            return [chosen]
    return []


def choose(candidates: Sequence[Found], when: str, kind: str) -> Found | None:
    """Return the valid candidate with the highest version, or None if none covers `when`.

    Both ends of a validity belong to it.

    Raises
    ------
    BadInputError
        If two of them have the same version.
    """
    valid = [c for c in candidates if c.is_valid(when)]
    return choose_newest(valid, f"references of the kind {kind}")


def choose_dark_frames(candidates: Sequence[Found], when: str) -> list[Found]:
    """Return the dark frames that bracket `when`, so far as they exist.

    These are the last one before it and the first one after it in V_STRT_U. The version decides
    only between frames of the same date.
    """
    by_date: dict[str, list[Found]] = {}
    for c in candidates:
        by_date.setdefault(sortable(c.valid_from), []).append(c)
    newest = [
        choose_newest(same, f"dark frames of {date}") for date, same in sorted(by_date.items())
    ]
    before = [c for c in newest if c is not None and sortable(c.valid_from) <= sortable(when)][-1:]
    after = [c for c in newest if c is not None and sortable(c.valid_from) > sortable(when)][:1]
    return before + after


def choose_newest(candidates: Sequence[Found], group: str) -> Found | None:
    """Return the candidate with the highest version, or None if there is none.

    `group` names the candidates in the error.

    Raises
    ------
    BadInputError
        If two candidates have this version.
    """
    best = max((c.version for c in candidates), default=None)
    chosen = [c for c in candidates if c.version == best]
    if best is not None and len(chosen) > 1:
        names = " and ".join(sorted(plain(c.path) for c in chosen[:2]))
        raise BadInputError(
            f"two {group} have the version {best[0]:02d}{best[1]:02d} in their headers: {names}"
        )
    return chosen[0] if chosen else None


def unused_reason(candidate: Found, chosen: Sequence[Found], declared: Input, when: str) -> str:
    """Return why a candidate is not among the chosen references of its kind, in words."""
    if not candidate.is_valid(when) and declared is not DARK_FRAME:
        reason = f"valid from {candidate.valid_from} to {candidate.valid_to}, not at {when}"
    elif not chosen:
        reason = "no file of the kind could be chosen"
    else:
        reason = _outranked(candidate, chosen, declared, when)
    return "; ".join(text for text in (reason, candidate.version_note) if text)


def _outranked(candidate: Found, chosen: Sequence[Found], declared: Input, when: str) -> str:
    """Return in words what puts chosen files before a candidate that is valid, too."""
    if declared is DARK_FRAME:
        same = [c for c in chosen if c.valid_from == candidate.valid_from]
        if not same:
            dates = " and ".join(c.valid_from for c in chosen)
            return f"the dark frames of {dates} are nearer to {when}"
        chosen = same
    best = chosen[0]
    if best.extname != candidate.extname:
        return f"{best.extname} goes before {candidate.extname}: {plain(best.path.name)}"
    return (
        f"version {version_label(candidate.version)} is lower than "
        f"{version_label(best.version)} of {plain(best.path.name)}"
    )
