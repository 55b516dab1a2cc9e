"""The verdict: what a light curve is worth, from rules that each have a reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schemas.payloads import Payload

Word = Literal["good", "usable with care", "not usable"]

# Outside of the SAA and with the star in sight; that much may be missing before a transit of some hours is at risk.
GOOD_SHARE = 0.90
# With fewer, conditions rather than the star decide which points are left.
CARE_SHARE = 0.50
# Effects outside of the formal error (jitter on the flat field, granulation) as large as it give sqrt(2) = 1.41.
GOOD_RATIO = 1.5
# Nine times the formal variance: the errors in the file say nothing about the points any more.
CARE_RATIO = 3.0
# Half the formal error: the errors are far too large, or the points were smoothed.
LOW_RATIO = 0.5
# A scatter from 30 points is known to 1 / sqrt(60) = 13 %, not good enough to judge by from fewer.
CARE_POINTS = 30
# No scatter can be measured from fewer.
FEWEST_POINTS = 3


@dataclass(frozen=True)
class Evidence:
    """What a verdict rests on. `visible` counts points outside of the SAA and not behind the Earth, `good` those not flagged.

    `scatter` and `error` are the measured point-to-point scatter and the median formal error [ppm], None where unknown.
    """

    visible: int
    good: int
    scatter: float | None
    error: float | None
    warned: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    by_hand: tuple[str, ...] = ()


class Verdict(Payload):
    """What the light curve is worth, and why."""

    word: Word
    reasons: tuple[str, ...]


def verdict(found: Evidence) -> Verdict:
    """Judge a light curve.

    Parameters
    ----------
    found : Evidence
        Counts of points, scatter and error, and the steps that ended otherwise than completed.

    Returns
    -------
    Verdict
        The worst word that any rule gives, with the reasons of all rules that speak against the light curve; what speaks for
        it where none does.
    """
    bad, care, fine = [], [], []
    share = found.good / found.visible if found.visible else 0.0
    kept = f"{found.good} of {found.visible} points with the star in sight are good ({share:.0%})"
    if found.good < FEWEST_POINTS:
        bad.append(f"{counted(found.good, 'good ')}: no scatter can be measured from fewer than {FEWEST_POINTS}")
    elif found.good < CARE_POINTS:
        care.append(f"{counted(found.good, 'good ')}: fewer than {CARE_POINTS} do not measure the scatter well")
    if share < CARE_SHARE:
        bad.append(f"{kept}, fewer than {CARE_SHARE:.0%}")
    elif share < GOOD_SHARE:
        care.append(f"{kept}, fewer than {GOOD_SHARE:.0%}")
    else:
        fine.append(kept)
    if found.scatter is None or found.error is None or not found.error > 0:
        if found.good >= FEWEST_POINTS:
            care.append("the scatter cannot be compared with the formal error: one of them is not known")
    else:
        ratio = found.scatter / found.error
        compared = f"the scatter from point to point is {ratio:.2f} times the formal error"
        if ratio > CARE_RATIO:
            bad.append(f"{compared}, more than {CARE_RATIO:g}")
        elif ratio > GOOD_RATIO:
            care.append(f"{compared}, more than {GOOD_RATIO:g}")
        elif ratio < LOW_RATIO:
            care.append(f"{compared}, less than {LOW_RATIO:g}")
        else:
            fine.append(compared)
    steps = {"with a warning": found.warned, "skipped by a setting": found.skipped, "given by hand": found.by_hand}
    care += [f"steps {how}: {', '.join(names)}" for how, names in steps.items() if names]
    if bad:
        return Verdict(word="not usable", reasons=(*bad, *care))
    if care:
        return Verdict(word="usable with care", reasons=tuple(care))
    return Verdict(word="good", reasons=(*fine, "every step completed"))


def counted(points: int, kind: str = "") -> str:
    """Return a number of points in words that agree with it."""
    return f"{points} {kind}point{'' if points == 1 else 's'}"
