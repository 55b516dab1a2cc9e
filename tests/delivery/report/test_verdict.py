"""The verdict: every rule, and how they are joined."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.delivery.report.verdict import UNKNOWN, Evidence, Rule, doubt_unknown, verdict

GOOD = Evidence(visible=1000, good=990, scatter=110.0, error=100.0, contamination=0.01)


def test_an_uneventful_light_curve_is_good_and_the_reasons_say_why() -> None:
    found = verdict(GOOD)
    assert found.word == "good"
    assert "990 of 1000" in found.reasons[0]
    assert "1.10 times the formal error" in found.reasons[1]


@pytest.mark.parametrize(
    ("change", "word", "reason"),
    [
        ({"good": 900}, "good", "90%"),
        ({"good": 899}, "usable with care", "less than 90%"),
        ({"good": 500}, "usable with care", "less than 90%"),
        ({"good": 499}, "not usable", "less than 50%"),
        ({"visible": 30, "good": 30}, "good", "30 of 30"),
        ({"visible": 29, "good": 29}, "usable with care", "29 good points: at least 30 are needed"),
        ({"visible": 2, "good": 2}, "not usable", "2 good points: at least 3 are needed"),
        ({"visible": 1, "good": 1}, "not usable", "1 good point: at least 3 are needed"),
        ({"visible": 0, "good": 0}, "not usable", "0 of 0 points"),
        ({"scatter": 150.0}, "good", "1.50 times"),
        ({"scatter": 151.0}, "usable with care", "more than 1.5"),
        ({"scatter": 300.0}, "usable with care", "more than 1.5"),
        ({"scatter": 301.0}, "not usable", "more than 3"),
        ({"scatter": 49.0}, "usable with care", "less than 0.5"),
        ({"scatter": None}, "usable with care", "one of them is unknown"),
        ({"scatter": math.nan}, "usable with care", "one of them is unknown"),
        ({"error": math.nan}, "usable with care", "one of them is unknown"),
        (
            {"contamination": None},
            "usable with care",
            "light of field stars in the aperture is unkn",
        ),
        ({"contamination": math.nan}, "usable with care", "in the aperture is unknown"),
        (
            {"good": 499, "commonest": "many cosmic rays (501 points)"},
            "not usable",
            "less than 50%; most common flag: many cosmic rays (501 points)",
        ),
        (
            {"good": 29, "visible": 29, "commonest": "in the SAA (9 points)"},
            "usable with care",
            "reliable scatter; most common flag: in the SAA (9 points)",
        ),
        ({"error": None}, "usable with care", "one of them is unknown"),
        ({"error": 0.0}, "usable with care", "one of them is unknown"),
        ({"warned": ("dark", "flat")}, "usable with care", "steps with a warning: dark, flat"),
        ({"skipped": ("dark",)}, "usable with care", "steps skipped by a setting: dark"),
        ({"by_hand": ("flat",)}, "usable with care", "steps supplied by hand: flat"),
        (
            {"synthetic": ("SAA map",)},
            "usable with care",
            "synthetic references of another instrument: SAA map",
        ),
        ({"synthetic": ("SAA map", "flat field")}, "not usable", "SAA map, flat field"),
        (
            {"nominal": ("gain", "bias level")},
            "usable with care",
            "nominal values in place of measured ones: gain, bias level",
        ),
        ({"contamination": 0.05}, "good", "90"),
        (
            {"contamination": 0.051},
            "usable with care",
            "field stars contribute 5.10% of the target's light, more than 5%",
        ),
    ],
)
def test_each_rule_of_the_verdict_can_fail(change: dict[str, Any], word: str, reason: str) -> None:
    found = verdict(replace(GOOD, **change))
    assert found.word == word
    assert any(reason in r for r in found.reasons), found.reasons


@pytest.mark.parametrize("reason", ["", "could not be measured"])
def test_a_rule_whose_finding_is_unknown_is_never_met(reason: str) -> None:
    rule = Rule(
        name="Some Number", found=UNKNOWN, goal="0", limit="none", word="good", reason=reason
    )
    doubted = doubt_unknown(rule)
    assert doubted.word == "usable with care"
    assert doubted.reason == (reason or "some Number: unknown")
    bad = rule.model_copy(update={"word": "not usable"})
    assert doubt_unknown(bad) == bad
    nothing = verdict(Evidence(visible=0, good=0, scatter=None, error=None))
    assert [r.name for r in nothing.rules if r.found == UNKNOWN and r.word == "good"] == []


def test_the_worst_rule_decides_and_all_reasons_against_are_listed() -> None:
    found = verdict(replace(GOOD, good=950, scatter=400.0, warned=("dark",)))
    assert found.word == "not usable"
    assert len(found.reasons) == 2
    assert "more than 3" in found.reasons[0]


def test_every_rule_is_shown_with_its_bounds_and_the_worst_word_is_the_verdict() -> None:
    found = verdict(replace(GOOD, scatter=160.0, contamination=0.2, skipped=("dark", "flat")))
    assert [rule.name for rule in found.rules] == [
        "Good points",
        "Good fraction, star in sight",
        "Point-to-point scatter / formal error",
        "Contamination by field stars",
        "Synthetic references",
        "Nominal values",
        "Steps with a warning",
        "Steps skipped",
        "Steps supplied by hand",
    ]
    against = [rule.name for rule in found.rules if rule.word != "good"]
    assert against == [found.rules[2].name, found.rules[3].name, "Steps skipped"]
    assert all(rule.goal and rule.limit and rule.found for rule in found.rules)
    assert found.sentence == "3 of 9 rules are not met"
    assert len(found.reasons) == 3
    assert verdict(GOOD).sentence == "all 9 rules are met"
    assert verdict(replace(GOOD, scatter=160.0)).sentence == "1 of 9 rules is not met"


@given(
    st.builds(
        Evidence,
        visible=st.integers(0, 5000),
        good=st.integers(0, 5000),
        scatter=st.none() | st.floats(0, 1e6),
        error=st.none() | st.floats(0, 1e6),
        warned=st.lists(st.sampled_from(["dark", "flat"]), unique=True).map(tuple),
    )
)
def test_more_scatter_and_more_warnings_never_make_a_verdict_better(found: Evidence) -> None:
    order = ("good", "usable with care", "not usable")
    before = order.index(verdict(found).word)
    assert order.index(verdict(replace(found, warned=(*found.warned, "bias"))).word) >= before
    if found.scatter is not None and found.error and found.scatter > found.error:
        assert order.index(verdict(replace(found, scatter=10 * found.scatter)).word) >= before
