"""The verdict: what a light curve is worth, from rules that each have a reason. They stand here and
nowhere else.

Each rule compares one finding with two bounds: up to its *goal* a light curve is good, up to its
*limit* usable with care, and beyond it not usable. The worst rule decides. The report shows every
rule with what was found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schemas.payloads import Payload

Word = Literal["good", "usable with care", "not usable"]

WORDS: tuple[Word, ...] = ("good", "usable with care", "not usable")

# Outside of the SAA and with the star in sight; that much may be missing before a transit of some
# hours is at risk.
GOOD_SHARE = 0.90

# With fewer, conditions rather than the star decide which points are left.
CARE_SHARE = 0.50

# Effects outside of the formal error (jitter on the flat field, granulation) as large as it give
# sqrt(2) = 1.41.
GOOD_RATIO = 1.5

# Nine times the formal variance: the errors in the file say nothing about the points any more.
CARE_RATIO = 3.0

# Half the formal error: the errors are far too large, or the points were smoothed.
LOW_RATIO = 0.5

# A scatter from 30 points is known to 1 / sqrt(60) = 13 %, not good enough to judge by from fewer.
CARE_POINTS = 30

# No scatter can be measured from fewer.
FEWEST_POINTS = 3

# Transits are shallower by this share: half of the 10 % of depth that a radius to 5 % allows for.
# It can be undone (CONTA_LC).
GOOD_CONTAMINATION = 0.05


@dataclass(frozen=True)
class Evidence:
    """What a verdict rests on. `visible` counts points outside of the SAA and not behind the Earth,
    `good` those not flagged.

    `scatter` and `error` are the measured point-to-point scatter and the median formal error [ppm],
    None where unknown; `contamination` is the light of field stars over the target's, None where it
    was not measured.
    """

    visible: int
    good: int
    scatter: float | None
    error: float | None
    contamination: float | None = None
    warned: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    by_hand: tuple[str, ...] = ()


class Rule(Payload):
    """One rule: what was found, what it should be, the word that follows, and the finding as a
    reason.
    """

    name: str
    found: str
    goal: str
    limit: str
    word: Word
    reason: str


class Verdict(Payload):
    """What the light curve is worth, and why."""

    word: Word
    sentence: str
    reasons: tuple[str, ...]
    rules: tuple[Rule, ...]


def verdict(found: Evidence) -> Verdict:
    """Judge a light curve.

    Parameters
    ----------
    found : Evidence
        Counts of points, scatter and error, contamination, and the steps that ended otherwise than
        completed.

    Returns
    -------
    Verdict
        The worst word that any rule gives, with the reasons of all rules that speak against the
        light curve, the worst first; what speaks for it where none does.
    """
    rules = (
        points_rule(found),
        share_rule(found),
        noise_rule(found),
        contamination_rule(found),
        steps_rule("Steps with a warning", "steps with a warning", found.warned),
        steps_rule("Steps skipped", "steps skipped by a setting", found.skipped),
        steps_rule("Steps given by hand", "steps given by hand", found.by_hand),
    )
    against = sorted(
        (rule for rule in rules if rule.word != "good"), key=lambda rule: -WORDS.index(rule.word)
    )
    if not against:
        reasons = (*(rule.reason for rule in rules if rule.reason), "every step completed")
        return Verdict(
            word="good", sentence=f"all of {len(rules)} rules are met", reasons=reasons, rules=rules
        )
    word = against[0].word
    how_many = (
        f"{len(against)} of {len(rules)} rules {'is' if len(against) == 1 else 'are'} not met"
    )
    return Verdict(
        word=word, sentence=how_many, reasons=tuple(rule.reason for rule in against), rules=rules
    )


def points_rule(found: Evidence) -> Rule:
    """Judge how many points there are."""
    word: Word = "good"
    reason = ""
    if found.good < FEWEST_POINTS:
        word = "not usable"
        reason = (
            f"{counted(found.good, 'good ')}: no scatter can be measured from fewer than "
            f"{FEWEST_POINTS}"
        )
    elif found.good < CARE_POINTS:
        word = "usable with care"
        reason = (
            f"{counted(found.good, 'good ')}: fewer than {CARE_POINTS} do not measure the "
            f"scatter well"
        )
    bounds = {"goal": f"≥ {CARE_POINTS}", "limit": f"≥ {FEWEST_POINTS}"}
    return Rule(name="Good points", found=str(found.good), word=word, reason=reason, **bounds)


def share_rule(found: Evidence) -> Rule:
    """Judge how many of the points with the star in sight are good."""
    share = found.good / found.visible if found.visible else 0.0
    reason = f"{found.good} of {found.visible} points with the star in sight are good ({share:.0%})"
    word: Word = "good"
    if share < CARE_SHARE:
        word, reason = "not usable", f"{reason}, fewer than {CARE_SHARE:.0%}"
    elif share < GOOD_SHARE:
        word, reason = "usable with care", f"{reason}, fewer than {GOOD_SHARE:.0%}"
    bounds = {"goal": f"≥ {GOOD_SHARE:.0%}", "limit": f"≥ {CARE_SHARE:.0%}"}
    return Rule(
        name="Good, of those with the star in sight",
        found=f"{share:.1%}",
        word=word,
        reason=reason,
        **bounds,
    )


def noise_rule(found: Evidence) -> Rule:
    """Judge whether the points scatter as their errors say."""
    if found.scatter is None or found.error is None or not found.error > 0:
        text, (word, reason) = "not known", judge_unknown_noise(found.good)
    else:
        ratio = found.scatter / found.error
        text, (word, reason) = f"{ratio:.2f}", judge_ratio(ratio)
    return Rule(
        name="Scatter from point to point, over formal error",
        found=text,
        goal=f"{LOW_RATIO:g} to {GOOD_RATIO:g}",
        limit=f"≤ {CARE_RATIO:g}",
        word=word,
        reason=reason,
    )


def judge_unknown_noise(good: int) -> tuple[Word, str]:
    """Return word and reason where the noise is not known, of that many good points."""
    if good < FEWEST_POINTS:  # a matter of another rule
        return "good", ""
    return (
        "usable with care",
        "the scatter cannot be compared with the formal error: one of them is not known",
    )


def judge_ratio(ratio: float) -> tuple[Word, str]:
    """Return word and reason for a scatter in units of the formal error."""
    reason = f"the scatter from point to point is {ratio:.2f} times the formal error"
    if ratio > CARE_RATIO:
        return "not usable", f"{reason}, more than {CARE_RATIO:g}"
    if ratio > GOOD_RATIO:
        return "usable with care", f"{reason}, more than {GOOD_RATIO:g}"
    if ratio < LOW_RATIO:
        return "usable with care", f"{reason}, less than {LOW_RATIO:g}"
    return "good", reason


def contamination_rule(found: Evidence) -> Rule:
    """Judge how much light of field stars the aperture holds. Where it is not known a step tells
    that by its warning.
    """
    name, bounds = (
        "Light of field stars, of the target's",
        {"goal": f"≤ {GOOD_CONTAMINATION:.0%}", "limit": "none"},
    )
    if found.contamination is None:
        return Rule(name=name, found="not known", word="good", reason="", **bounds)
    text = f"{found.contamination:.2%}"
    if found.contamination > GOOD_CONTAMINATION:
        reason = (
            f"field stars give {text} of the target's light, more than "
            f"{GOOD_CONTAMINATION:.0%}: see the column CONTA_LC"
        )
        return Rule(name=name, found=text, word="usable with care", reason=reason, **bounds)
    return Rule(name=name, found=text, word="good", reason="", **bounds)


def steps_rule(name: str, words: str, steps: tuple[str, ...]) -> Rule:
    """Judge how the steps ended."""
    found = f"{len(steps)}: {', '.join(steps)}" if steps else "0"
    word: Word = "usable with care" if steps else "good"
    reason = f"{words}: {', '.join(steps)}" if steps else ""
    return Rule(name=name, found=found, goal="0", limit="none", word=word, reason=reason)


def counted(points: int, kind: str = "") -> str:
    """Return a number of points in words that agree with it."""
    return f"{points} {kind}point{'' if points == 1 else 's'}"
