"""Manifests: a manifest is read completely, or rejected by the name of the field."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.errors import BadInputError, MissingInputError
from schemas.manifest import FileEntry, Manifest, first_fault
from tasks.delivery.folder import published_file, published_inventory, read_manifest
from tasks.delivery.report.verdict import Evidence, verdict
from tests.support.manifests import (
    changed,
    listed_step,
    places,
    removed,
    small_manifest,
    write_manifest,
)

MANIFEST = small_manifest()

RATIO = "Point-to-point scatter / formal error"

# texts for people, in which any printable text is allowed
TEXT = re.compile(
    r"inventory\.target|warnings\.0|steps\.\d\.payload\.(warnings\.0|used\..*)"
    r"|settings\.\w+\.\w+|verdict\.(sentence|rules\.0\.(name|found|goal|limit)|rules\.1\.(?!word).*)"
)

# any plain value: settings are checked against their declarations where they are used
PLAIN = re.compile(r"settings\.\w+\.\w+|steps\.\d\.payload\.used\.\w+")

# entries of which there may be fewer
FEWER = re.compile(
    r"warnings\.\d|inventory\..*\.(version|synthetic)|inventory\.simulated|software\.numpy"
    r"|(settings|settings\.\w+)\.\w+"
    r"|inventory\.(references\.[\w ]+|dark_frames\.0)"
    r"|steps\.\d\.payload\.((status|used)\.\w+|(warnings|by_hand)\.0)|steps\.2\.payload\.products\..*"
    r"|verdict\.rules\.\d"
)

# entries that earlier manifests do not have
EARLIER = re.compile(r"\.(version|synthetic|simulated)$")

HOSTILE = (
    "/../../../victim",
    "../../victim",
    "\x1b]0;title\x07",
    "a\0b",
    "V0000\n",
    "x" * 100_000,
    "",
)


def name_of(at: tuple[str | int, ...]) -> str:
    return ".".join(map(str, at))


def fault(manifest: object) -> str:
    """Return the error of a manifest; empty if it is read."""
    try:
        Manifest.model_validate_json(json.dumps(manifest), strict=True)
    except ValidationError as error:
        return first_fault(error)
    return ""


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    # earlier manifests lack a baseline
    assert read_manifest(tmp_path).model_dump(mode="json") == {**MANIFEST, "baseline": None}


@pytest.mark.parametrize("at", list(places(MANIFEST)), ids=name_of)
def test_every_damaged_entry_is_rejected_by_its_name(at: tuple[str | int, ...]) -> None:
    name = name_of(at)
    old: Any = MANIFEST
    for key in at:
        old = old[key]
    values: list[object] = [[[old]], {"nested": {"deep": [old]}}, 10**400, -(10**30)]
    if not PLAIN.fullmatch(name):
        values += [1e308, -0.5]
        values += [] if isinstance(old, bool) else [True]
        values += [] if EARLIER.search(name) else [None]
    for value in (v for v in values if (type(v), v) != (type(old), old)):
        found = fault(changed(MANIFEST, at, value))
        assert str(at[0]) in found, (name, value, found)
    for text in HOSTILE:
        found = fault(changed(MANIFEST, at, text))
        allowed = TEXT.fullmatch(name) and text.isprintable() and len(text) < 1000
        if not (allowed or PLAIN.fullmatch(name) or text == ""):
            assert str(at[0]) in found, (name, text, found)
        elif allowed:
            assert found == ""
    if old is not None and not FEWER.fullmatch(name):
        assert str(at[0]) in fault(removed(MANIFEST, at)), name


def test_unknown_entries_are_rejected() -> None:
    assert fault({**MANIFEST, "more": 1}).startswith("more: Extra inputs")
    for at in (("inventory",), ("steps", 0), ("files", 0), ("verdict",), ("verdict", "rules", 0)):
        found = fault(changed(MANIFEST, (*at, "more"), 1))
        assert found.startswith(f"{name_of(at)}.more: Extra inputs"), found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        "{",
        "[" * 100_000,
        '{"a":' * 100_000,
        f'{{"manifest": {"1" * 5000}}}',
        json.dumps(MANIFEST)[:-100],
        json.dumps(MANIFEST).replace('"manifest": 1', '"manifest": 2'),
        json.dumps(MANIFEST).replace("0.5", "NaN"),
        json.dumps(MANIFEST).replace("2880", "1" * 5000),
        "\udcff\ud800",
    ],
    ids=lambda text: text[:12] or "empty",
)
def test_what_is_no_manifest_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(BadInputError, match=r"manifest\.json: "):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (("version",), "V0001", r"files\.1\.name: .* is not of version V0001"),
        (("visit",), "PR900001_TG000102", r"inventory\.visit is PR900001_TG000101"),
        (("published",), "2023-13-14T22:13:20", "published: "),
        (("steps", 1, "step"), "flat", r"steps\.1: payload\.step is light_curves"),
        (("files", 1, "name"), "terms/flat.fits", r"files\.1: terms/flat\.fits occurs twice"),
        (("files", 0, "name"), "terms/../flat.fits", r"files\.0\.name: .* is outside the folder"),
        (("inventory", "dark_frames", 0, "kind"), "bias frame", "is no bias frame"),
        (("notes",), [], "notes differ from those of the inventory"),
        (("files", 0, "sha256"), "0" * 64, r"files\.0\.sha256: is not that of the product"),
        (("files", 0, "key"), "0" * 64, r"files\.0: none of the steps has .* TERM_FLAT"),
        (("steps", 1, "key"), "0" * 64, r"files\.1: none of the steps has .*-DEFAULT"),
        (("files", 0, "key"), "", r"files\.0\.key: only pages have no key"),
    ],
)
def test_entries_that_contradict_each_other_are_rejected(
    at: tuple[str | int, ...], value: object, message: str
) -> None:
    assert re.search(message, fault(changed(MANIFEST, at, value)))


def test_a_verdict_that_does_not_follow_from_its_rules_is_rejected() -> None:
    assert fault(changed(MANIFEST, ("verdict", "word"), "good")) == (
        "verdict: word is 'good', but the rules give 'usable with care'"
    )
    found = fault(changed(MANIFEST, ("verdict", "reasons"), ["it is good"]))
    assert found == "verdict: reasons are not those of the rules"


def test_a_light_curve_is_not_good_if_a_step_was_not_completed() -> None:
    listed = MANIFEST["verdict"]
    rules = [{**rule, "word": "good"} for rule in listed["rules"]]
    good = {**MANIFEST, "verdict": {**listed, "word": "good", "rules": rules}}
    assert fault(good) == "verdict: word is 'good', but step flat was supplied by hand"
    good = changed(good, ("steps", 0, "payload", "by_hand"), [])
    assert fault(good) == "verdict: word is 'good', but the bias frame is synthetic"
    good = changed(good, ("inventory", "references", "bias frame", "synthetic"), False)
    assert fault(good) == ""
    full_array = {"status": {"FFIELD": "warning"}, "warnings": ["the full array has no margins"]}
    of_both = [*good["steps"][:1], listed_step("flat", **full_array), *good["steps"][1:]]
    assert fault({**good, "steps": of_both}) == ""
    for state, text in (("skipped", "was skipped"), ("warning", "has a warning")):
        found = fault(changed(good, ("steps", 0, "payload", "status", "FFIELD"), state))
        assert found == f"verdict: word is 'good', but step flat {text}"


def test_a_verdict_that_does_not_follow_from_the_numbers_of_its_manifest_is_rejected(
    tmp_path: Path,
) -> None:
    def refused(manifest: dict[str, Any]) -> str:
        write_manifest(tmp_path, manifest)
        try:
            read_manifest(tmp_path)
        except BadInputError as error:
            return str(error).partition("manifest.json: ")[2]
        return ""

    good = whole_manifest()
    assert refused(good) == ""
    rules = good["verdict"]["rules"]
    of = {rule["name"]: ("verdict", "rules", i) for i, rule in enumerate(rules)}
    share, noise = of["Good fraction, star in sight"], of[RATIO]
    for at, value, field in (
        ((*of["Good points"], "found"), "39", "verdict.rules.0.found: is '39', expected '40'"),
        ((*share, "found"), "99.0%", "verdict.rules.1.found: is '99.0%', expected '80.0%'"),
        ((*noise, "found"), "1.60", "verdict.rules.2.word: is 'good', expected 'usable"),
        ((*noise, "found"), "one", "verdict.rules: rule 'Point-to-point scatter / formal error'"),
        (("inventory", "images"), 49, "verdict.rules: 40 of 50 points are good, but the visit"),
        (("steps", 1, "payload", "used", "CONTA_25"), 0.06, "verdict.rules.3.found: is '1.00%'"),
        (("steps", 0, "payload", "used", "GAIN_SRC"), "nominal", "verdict.rules.5.found: is '0'"),
    ):
        assert refused(changed(good, at, value)).startswith(field), at
    # other bounds are those of another version
    assert refused(changed(good, (*noise, "goal"), "0.7 to 1.2")) == ""
    better = changed(good, (*share, "word"), "good")
    better["verdict"] |= {"word": "good", "reasons": ["80%"]}
    assert refused(better).startswith("verdict.rules.1.word: is 'good', expected 'usable with")
    warned = changed(good, ("steps", 0, "payload", "status"), {"ADU_CONV": "warning"})
    assert refused(warned).startswith("verdict.rules.6.found: is '0', expected '1: gain'")


def test_a_ratio_near_a_bound_is_within_it_or_not(tmp_path: Path) -> None:
    for scatter in (149.9, 150.1, 49.9, 50.1, 299.9, 300.1):
        write_manifest(tmp_path, whole_manifest(scatter))
        assert read_manifest(tmp_path).verdict is not None


def whole_manifest(scatter: float = 120.0) -> dict[str, Any]:
    """Return a manifest with all rules, whose points are usable with care."""
    manifest = small_manifest(verdict="good")
    done = {"status": {"CONTAMIN": "completed"}}
    conta = listed_step("contamination", used={"CONTA_25": 0.01}, **done)
    manifest["steps"][:0] = [
        listed_step("gain", used={"GAIN_SRC": "measured"}, status={"ADU_CONV": "completed"}),
        conta,
        listed_step("stars", **done),
        # of the full array, with which the light curve has nothing to do
        listed_step("gain", used={"GAIN_SRC": "nominal"}, status={"ADU_CONV": "warning"}),
    ]
    for step in manifest["steps"]:
        step["payload"]["warnings"] = []
    found = verdict(Evidence(visible=50, good=40, scatter=scatter, error=100.0, contamination=0.01))
    manifest["verdict"] = found.model_dump(mode="json")
    return manifest


def test_settings_of_a_manifest_are_checked_against_their_declarations(tmp_path: Path) -> None:
    for at, value in (
        (("settings", "flat", "skip"), "yes"),
        (("settings", "flat", "skip"), 1),
        (("settings", "bias", "smooth"), -1.0),
        (("settings", "bias", "smooth"), "30"),
        (("settings", "bias", "unknown"), 1),
        (("settings", "unknown"), {"skip": True}),
    ):
        write_manifest(tmp_path, changed(MANIFEST, at, value))
        with pytest.raises(BadInputError, match=rf"manifest\.json: {re.escape(name_of(at))}: "):
            published_inventory(tmp_path)


def test_a_published_file_is_not_a_link_out_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "published"
    (folder / "terms").mkdir(parents=True)
    entry = FileEntry.model_validate(MANIFEST["files"][0])
    with pytest.raises(MissingInputError, match=r"flat\.fits: is missing"):
        published_file(folder, entry)
    (tmp_path / "outside.fits").write_bytes(b"x")
    (folder / "terms" / "flat.fits").symlink_to(tmp_path / "outside.fits")
    with pytest.raises(BadInputError, match=r"flat\.fits: is a link to a file outside the folder"):
        published_file(folder, entry)
    (folder / "terms" / "flat.fits").unlink()
    (folder / "other.fits").write_bytes(b"x")
    (folder / "terms" / "flat.fits").symlink_to(folder / "other.fits")
    assert published_file(folder, entry) == folder / "terms" / "flat.fits"
