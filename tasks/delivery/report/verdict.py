"""The verdict: whether a light curve is good, by rules that are defined here and nowhere else.

Each rule compares one finding with two bounds: up to its *goal* a light curve is good, up to its
*limit* usable with care, and beyond it not usable. The worst rule decides. The report shows every
rule with its finding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from schemas.inputs import REFERENCES
from schemas.manifest import WORDS, Word
from schemas.payloads import Payload, Scalar, Status
from schemas.words import counted

UNKNOWN = "unknown"  # a finding that could not be measured: its rule is not met

# Of the points outside the SAA with the star in sight; if more are missing, a transit of some hours
# is at risk.
GOOD_SHARE = 0.90

# With fewer, conditions rather than the star decide which points remain.
CARE_SHARE = 0.50

# Effects that the formal error does not include (jitter on the flat field, granulation) give
# sqrt(2) = 1.41 if they are as large as it is.
GOOD_RATIO = 1.5

# Nine times the formal variance: the errors in the file no longer describe the points.
CARE_RATIO = 3.0

# Half the formal error: the errors are far too large, or the points were smoothed.
LOW_RATIO = 0.5

# The scatter of 30 points has an error of 1 / sqrt(60) = 13 %; that of fewer is too uncertain.
CARE_POINTS = 30

# Fewer have no measurable scatter.
FEWEST_POINTS = 3

# Without a reference of one of these kinds there is no reduction: they describe the detector, and
# with those of another one the light curve is not that of the star.
DETECTOR = frozenset(declared.kind for declared in REFERENCES if declared.mandatory)

# Transits are shallower by this fraction: half of the 10 % in depth that correspond to 5 % in
# radius. CONTA_LC corrects for it.
GOOD_CONTAMINATION = 0.05

# used values that say where a quantity comes from, if it was not measured
NOMINAL = {
    ("GAIN_SRC", "nominal"): "gain",
    ("BIAS_SRC", "reference"): "bias level",
    ("RON_SRC", "reference"): "read-out noise",
}


@dataclass(frozen=True)
class Evidence:
    """The evidence for a verdict.

    `visible` counts the points outside the SAA and not behind the Earth, `good` the unflagged ones.
    `scatter` and `error` are the point-to-point scatter and the median formal error [ppm], None if
    unknown; `contamination` is the light of field stars relative to the target's, None if not
    measured. `commonest` describes the most common flag of the points that are not good; it is
    empty if there is none. `nominal` names quantities of the detector that could not be measured
    in this visit. The other fields name steps.
    """

    visible: int
    good: int
    scatter: float | None
    error: float | None
    contamination: float | None = None
    commonest: str = ""
    warned: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    by_hand: tuple[str, ...] = ()
    nominal: tuple[str, ...] = ()
    synthetic: tuple[str, ...] = ()  # kinds of reference


class Rule(Payload):
    """One rule: the finding, its bounds, the resulting word, and the finding as a reason."""

    name: str
    found: str
    goal: str
    limit: str
    word: Word
    reason: str


class Verdict(Payload):
    """The verdict on a light curve, with its reasons."""

    word: Word
    sentence: str
    reasons: tuple[str, ...]
    rules: tuple[Rule, ...]


def verdict(evidence: Evidence) -> Verdict:
    """Judge a light curve.

    Parameters
    ----------
    evidence : Evidence
        Counts of points, scatter and error, contamination, and the steps that did not complete.

    Returns
    -------
    Verdict
        The worst word of all rules, with the reasons of the rules that are not met, worst first; or
        the reasons in favour if all are met. A rule whose finding is unknown is not met.
    """
    return conclude(judge(evidence))


def judge(evidence: Evidence) -> tuple[Rule, ...]:
    """Return all rules; one whose finding is unknown is not met."""
    judged = (
        points_rule(evidence),
        share_rule(evidence),
        noise_rule(evidence),
        contamination_rule(evidence),
        synthetic_rule(evidence),
        steps_rule("Nominal values", "nominal values in place of measured ones", evidence.nominal),
        steps_rule("Steps with a warning", "steps with a warning", evidence.warned),
        steps_rule("Steps skipped", "steps skipped by a setting", evidence.skipped),
        steps_rule("Steps supplied by hand", "steps supplied by hand", evidence.by_hand),
    )
    return tuple(map(doubt_unknown, judged))


def conclude(rules: tuple[Rule, ...]) -> Verdict:
    """Return the verdict that follows from rules."""
    against = sorted(
        (rule for rule in rules if rule.word != "good"), key=lambda rule: -WORDS.index(rule.word)
    )
    if not against:
        reasons = (*(rule.reason for rule in rules if rule.reason), "all steps completed")
        return Verdict(
            word="good", sentence=f"all {len(rules)} rules are met", reasons=reasons, rules=rules
        )
    word = against[0].word
    how_many = (
        f"{len(against)} of {len(rules)} rules {'is' if len(against) == 1 else 'are'} not met"
    )
    return Verdict(
        word=word, sentence=how_many, reasons=tuple(rule.reason for rule in against), rules=rules
    )


def worst_state(status: Mapping[str, Status], warnings: Sequence[str]) -> Status:
    """Return the state of a step: the worst of its keywords or, without any, by its warnings."""
    order = (Status.NOT_APPLICABLE, Status.COMPLETED, Status.SKIPPED, Status.WARNING)
    return max(
        status.values(),
        key=order.index,
        default=Status.WARNING if warnings else Status.COMPLETED,
    )


def nominal_values(used: Iterable[Mapping[str, Scalar]]) -> tuple[str, ...]:
    """Return the quantities of the detector for which steps used a nominal value."""
    items = {item for of_step in used for item in of_step.items()}
    return tuple(words for source, words in NOMINAL.items() if source in items)


def doubt_unknown(rule: Rule) -> Rule:
    """Return a rule whose finding is unknown as not met; any other as it is."""
    if rule.found != UNKNOWN or rule.word != "good":
        return rule
    reason = rule.reason or f"{rule.name[:1].lower()}{rule.name[1:]}: unknown"
    return rule.model_copy(update={"word": "usable with care", "reason": reason})


def is_known(value: float | None) -> TypeGuard[float]:
    """Whether a finding is a number."""
    return value is not None and math.isfinite(value)


def points_rule(evidence: Evidence) -> Rule:
    """Judge the number of good points."""
    word: Word = "good"
    reason = ""
    if evidence.good < FEWEST_POINTS:
        word = "not usable"
        reason = (
            f"{counted(evidence.good, 'good point')}: at least {FEWEST_POINTS} are needed to "
            "measure a scatter"
        )
    elif evidence.good < CARE_POINTS:
        word = "usable with care"
        reason = (
            f"{counted(evidence.good, 'good point')}: at least {CARE_POINTS} are needed for a "
            "reliable scatter"
        )
    if reason and evidence.commonest:
        reason = f"{reason}; most common flag: {evidence.commonest}"
    bounds = {"goal": f"≥ {CARE_POINTS}", "limit": f"≥ {FEWEST_POINTS}"}
    return Rule(name="Good points", found=str(evidence.good), word=word, reason=reason, **bounds)


def share_rule(evidence: Evidence) -> Rule:
    """Judge the fraction of good points among those with the star in sight."""
    share = evidence.good / evidence.visible if evidence.visible else 0.0
    reason = (
        f"{evidence.good} of {evidence.visible} points with the star in sight are good "
        f"({share:.0%})"
    )
    word: Word = "good"
    if share < CARE_SHARE:
        word, reason = "not usable", f"{reason}, less than {CARE_SHARE:.0%}"
    elif share < GOOD_SHARE:
        word, reason = "usable with care", f"{reason}, less than {GOOD_SHARE:.0%}"
    if word != "good" and evidence.commonest:
        reason = f"{reason}; most common flag: {evidence.commonest}"
    bounds = {"goal": f"≥ {GOOD_SHARE:.0%}", "limit": f"≥ {CARE_SHARE:.0%}"}
    return Rule(
        name="Good fraction, star in sight",
        found=f"{share:.1%}",
        word=word,
        reason=reason,
        **bounds,
    )


def noise_rule(evidence: Evidence) -> Rule:
    """Judge the point-to-point scatter against the formal error."""
    scatter, error = evidence.scatter, evidence.error
    word: Word
    if not is_known(scatter) or not is_known(error) or not error > 0:
        text, word = UNKNOWN, "usable with care"
        reason = "the scatter cannot be compared with the formal error: one of them is unknown"
    else:
        ratio = scatter / error
        text, (word, reason) = f"{ratio:.2f}", judge_ratio(ratio)
    return Rule(
        name="Point-to-point scatter / formal error",
        found=text,
        goal=f"{LOW_RATIO:g} to {GOOD_RATIO:g}",
        limit=f"≤ {CARE_RATIO:g}",
        word=word,
        reason=reason,
    )


def judge_ratio(ratio: float) -> tuple[Word, str]:
    """Return word and reason for a scatter in units of the formal error."""
    reason = f"the point-to-point scatter is {ratio:.2f} times the formal error"
    if ratio > CARE_RATIO:
        return "not usable", f"{reason}, more than {CARE_RATIO:g}"
    if ratio > GOOD_RATIO:
        return "usable with care", f"{reason}, more than {GOOD_RATIO:g}"
    if ratio < LOW_RATIO:
        return "usable with care", f"{reason}, less than {LOW_RATIO:g}"
    return "good", reason


def contamination_rule(evidence: Evidence) -> Rule:
    """Judge the light of field stars in the aperture."""
    name, bounds = (
        "Contamination by field stars",
        {"goal": f"≤ {GOOD_CONTAMINATION:.0%}", "limit": "none"},
    )
    if not is_known(evidence.contamination):
        reason = "the light of field stars in the aperture is unknown"
        return Rule(name=name, found=UNKNOWN, word="usable with care", reason=reason, **bounds)
    text = f"{evidence.contamination:.2%}"
    if evidence.contamination > GOOD_CONTAMINATION:
        reason = (
            f"field stars contribute {text} of the target's light, more than "
            f"{GOOD_CONTAMINATION:.0%}: see column CONTA_LC"
        )
        return Rule(name=name, found=text, word="usable with care", reason=reason, **bounds)
    return Rule(name=name, found=text, word="good", reason="", **bounds)


def synthetic_rule(evidence: Evidence) -> Rule:
    """Judge the references that belong to the simulator, although the visit does not."""
    kinds = evidence.synthetic
    word: Word = "good"
    if kinds:
        word = "not usable" if DETECTOR & set(kinds) else "usable with care"
    return Rule(
        name="Synthetic references",
        found=f"{len(kinds)}: {', '.join(kinds)}" if kinds else "0",
        goal="0",
        limit="none of the detector",
        word=word,
        reason=f"calibrated with synthetic references of another instrument: {', '.join(kinds)}"
        if kinds
        else "",
    )


def steps_rule(name: str, words: str, steps: tuple[str, ...]) -> Rule:
    """Judge the steps with one kind of ending: none should have it."""
    found = f"{len(steps)}: {', '.join(steps)}" if steps else "0"
    word: Word = "usable with care" if steps else "good"
    reason = f"{words}: {', '.join(steps)}" if steps else ""
    return Rule(name=name, found=found, goal="0", limit="none", word=word, reason=reason)
