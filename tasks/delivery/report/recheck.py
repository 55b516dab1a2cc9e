"""The verdict in a manifest, compared with the numbers in the manifest from which it follows.

Steps, references and used values are in the manifest itself. Of the points and their scatter it
holds only what the rules say: counts, and a ratio with two decimals. All rules are made once more.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NamedTuple

from schemas.manifest import PAGE_STEPS, ListedLeaf, Manifest, RuleEntry, VerdictEntry
from schemas.payloads import Status
from tasks.delivery.report.verdict import (
    UNKNOWN,
    Evidence,
    judge,
    nominal_values,
    worst_state,
)

_NAMES = tuple(rule.name for rule in judge(Evidence(0, 0, None, None)))

_COUNTS = re.compile(r"(\d{1,9}) of (\d{1,9}) points with the star in sight are good")

HALF = 0.0049  # of the last digit of a ratio


class Counts(NamedTuple):
    """Numbers of points."""

    good: int
    visible: int


class ContradictionError(Exception):
    """Findings of rules that cannot be."""


def verdict_fault(manifest: Manifest) -> str:
    """Return the field of the verdict that contradicts the manifest, and how; empty if none does.

    Rules that this version does not have, or with other bounds, are left alone, and so is the
    wording of reasons: they are of another version.
    """
    verdict = manifest.verdict
    if verdict is None:
        return ""
    try:
        possible = [judge(evidence) for evidence in possible_evidence(manifest, verdict)]
    except ContradictionError as error:
        return f"verdict.rules: {error}"
    for i, rule in enumerate(verdict.rules):
        if rule.name not in _NAMES:
            continue
        made = [rules[_NAMES.index(rule.name)] for rules in possible]
        right = made[0]
        if (rule.goal, rule.limit) != (right.goal, right.limit):
            continue
        if sorted(_words(rule.found)) != sorted(_words(right.found)):
            return f"verdict.rules.{i}.found: is {rule.found!r}, expected {right.found!r}"
        if rule.word not in {each.word for each in made}:
            return f"verdict.rules.{i}.word: is {rule.word!r}, expected {right.word!r}"
    return ""


def _words(found: str) -> list[str]:
    """Return the parts of a finding: a number, or a number and the names of steps, in any order."""
    number, _, names = found.partition(": ")
    return [number, *names.split(", ")]


def possible_evidence(manifest: Manifest, verdict: VerdictEntry) -> list[Evidence]:
    """Return the evidence in a manifest; several ones if rounding leaves several.

    The first is that with the ratio as it is shown.
    """
    rules = {rule.name: rule for rule in verdict.rules}
    points, share, noise, *_ = _NAMES
    good, visible = _counts(manifest, rules.get(points), rules.get(share))
    ratio = _ratio(rules.get(noise))
    known = replace(_known_evidence(manifest), visible=visible, good=good)
    if ratio is None:
        return [known]
    ratios = (ratio, max(ratio - HALF, 0.0), ratio + HALF)
    return [replace(known, scatter=value, error=1.0) for value in ratios]


def _known_evidence(manifest: Manifest) -> Evidence:
    """Return the evidence that is not about the points: steps, used values, references."""
    leaves = _leaves(manifest)
    states = {leaf.step: worst_state(leaf.status, leaf.warnings) for leaf in leaves}
    complete = all(states.get(s) is Status.COMPLETED for s in ("contamination", "stars"))
    light = next((leaf.used.get("CONTA_25") for leaf in leaves if leaf.step == "contamination"), 0)
    return Evidence(
        visible=0,
        good=0,
        scatter=None,
        error=None,
        contamination=light if complete and isinstance(light, float) else None,
        warned=tuple(step for step, state in states.items() if state is Status.WARNING),
        skipped=tuple(step for step, state in states.items() if state is Status.SKIPPED),
        by_hand=tuple(leaf.step for leaf in leaves if leaf.by_hand),
        nominal=nominal_values(leaf.used for leaf in leaves),
        synthetic=manifest.inventory.as_inventory().synthetic,
    )


def _leaves(manifest: Manifest) -> list[ListedLeaf]:
    """Return the results that the report is about, without those of the full array's detector.

    These have the same names, and follow those of the sub-array.
    """
    leaves: dict[str, ListedLeaf] = {}
    for entry in manifest.steps:
        if entry.step not in PAGE_STEPS:
            leaves.setdefault(entry.step, entry.payload)
    return list(leaves.values())


def _counts(manifest: Manifest, points: RuleEntry | None, share: RuleEntry | None) -> Counts:
    """Return the numbers of good and of visible points, as the rules have them."""
    found = _COUNTS.match(share.reason) if share is not None else None
    images = manifest.inventory.images
    good, visible = (int(found[1]), int(found[2])) if found is not None else (0, images)
    if found is None and points is not None and re.fullmatch(r"[0-9]{1,9}", points.found):
        good = int(points.found)
    if not good <= visible <= images:
        raise ContradictionError(
            f"{good} of {visible} points are good, but the visit has {images} images"
        )
    return Counts(good, visible)


def _ratio(noise: RuleEntry | None) -> float | None:
    """Return the scatter in units of the error, as the rule has it; None if it is unknown."""
    if noise is None or noise.found == UNKNOWN:
        return None
    if not re.fullmatch(r"\d{1,30}\.\d\d", noise.found):
        raise ContradictionError(f"rule {noise.name!r}: found is {noise.found!r}, no ratio")
    return float(noise.found)
