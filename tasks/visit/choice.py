"""Which reference files are valid for a visit."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.errors import BadInputError
from schemas.inputs import (
    BY_WAVELENGTH,
    DARK_FRAME,
    FLAT_FIELD,
    LINEARISATION,
    REFERENCES,
    Input,
)
from schemas.settings import PipelineSettings
from tasks.visit.search import Found


def choose(candidates: Sequence[Found], when: str, kind: str) -> Found | None:
    """Return the candidate with the highest version whose validity covers `when` (both ends
    included), or None.

    Raises
    ------
    BadInputError
        If two of them have the same version.
    """
    valid = [c for c in candidates if c.valid_from <= when <= c.valid_to]
    if not valid:
        return None
    best = max(c.version for c in valid)
    chosen = [c for c in valid if c.version == best]
    if len(chosen) > 1:
        names = " and ".join(sorted(c.path.name for c in chosen[:2]))
        raise BadInputError(
            f"two references of the kind {kind} have the version {best[0]:02d}{best[1]:02d}: "
            f"{names}"
        )
    return chosen[0]


def choose_dark_frames(candidates: Sequence[Found], when: str) -> list[Found]:
    """Return the dark frames that bracket `when` in V_STRT_U: the last before it and the first
    after it, where they exist.
    """
    by_date: dict[str, list[Found]] = {}
    for c in candidates:
        by_date.setdefault(c.valid_from, []).append(c)
    newest = []
    for date, same in sorted(by_date.items()):
        best = max(c.version for c in same)
        chosen = [c for c in same if c.version == best]
        if len(chosen) > 1:
            names = " and ".join(sorted(c.path.name for c in chosen[:2]))
            raise BadInputError(
                f"two dark frames of {date} have the version {best[0]:02d}{best[1]:02d}: {names}"
            )
        newest.append(chosen[0])
    before = [c for c in newest if c.valid_from <= when][-1:]
    after = [c for c in newest if c.valid_from > when][:1]
    return before + after


def needed_references(settings: PipelineSettings) -> list[Input]:
    """Return the kinds of reference that these settings read."""
    built = settings.flat.source == "wavelengths"
    skipped = {
        DARK_FRAME.kind: settings.dark.skip,
        FLAT_FIELD.kind: settings.flat.skip or built,
        LINEARISATION.kind: settings.linearity.skip,
        **{declared.kind: settings.flat.skip or not built for declared in BY_WAVELENGTH},
    }
    return [declared for declared in REFERENCES if not skipped.get(declared.kind, False)]


def newest(candidates: Sequence[Found], declared: Input) -> Found | None:
    """Return the candidate of the highest version; two of one version are refused."""
    if not candidates:
        return None
    best = max(c.version for c in candidates)
    chosen = [c for c in candidates if c.version == best]
    if len(chosen) > 1:
        names = " and ".join(sorted(c.path.name for c in chosen[:2]))
        raise BadInputError(
            f"two files of the kind {declared.kind} have the version "
            f"{best[0]:02d}{best[1]:02d}: {names}"
        )
    return chosen[0]


def choose_kind(candidates: Sequence[Found], declared: Input, when: str) -> Found | None:
    """Return the file of a kind that is valid at `when`, of the first EXTNAME that has one."""
    for extname in declared.first:
        chosen = choose([c for c in candidates if c.extname == extname], when, declared.kind)
        if chosen is not None:
            return chosen
    return None
