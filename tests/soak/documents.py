"""Manifests and job orders spoiled at random, and the commands that read them."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from tests.soak.mutants import Random
from tests.soak.stage import Ended, Stage, run
from tests.support.faults import replace
from tests.support.orders import order_of

HOSTILE: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    10**30,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "x" * 100_000,
    "\0",
    "\ud800",
    "../../../etc/passwd",
    "/dev/zero",
    [],
    {},
    [[]],
    {"path": "x"},
    ["a"] * 1000,
)
TEXTS = (
    "",
    " ",
    "x" * 10_000,
    "-1",
    "99999999999999999999",
    "1e999",
    "../../etc/passwd",
    "/dev/zero",
    "/proc/self/mem",
    "${HOME}",
    "${NOTHING",
    "a\tb",
    "&amp;",
    "]]&gt;",
    "é",
    "false",
    "SCI_RAW_SubArray",
    "REF_APP_NoSuchKind",
    "/nowhere/at/all",
    "19000101_000000000000",
)
RAW = (
    "",
    "<",
    "<?xml version='1.0'?><a/>",
    "\0" * 100,
    "<Ipf_Job_Order>" * 100_000,
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>',
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    '<?xml version="1.0" encoding="UTF-7"?><Ipf_Job_Order/>',
)


def spoil_json(text: str, rng: Random) -> tuple[bytes, str]:
    """Return a manifest that is damaged in one place, and how."""
    way = int(rng.integers(6))
    if way == 0:
        at = int(rng.integers(len(text)))
        return text[:at].encode(), f"cut at {at}"
    if way == 1:
        whole = (b"", b"[]", b"null", b"{}", b"[" * 100_000, b"\xff\xfe", b'{"manifest": 1}')
        number = int(rng.integers(len(whole)))
        return whole[number], f"replaced {number}"
    content = json.loads(text)
    place = content
    names: list[object] = []
    while True:
        keys: list[Any] = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = keys[rng.integers(len(keys))]
        names.append(key)
        inner = place[key]
        if not (isinstance(inner, dict | list) and inner) or rng.random() < 0.3:
            break
        place = inner
    if way == 2:
        del place[key]
        new: Any = "removed"
    else:
        new = HOSTILE[rng.integers(len(HOSTILE))]
        place[key] = new
    return json.dumps(content).encode(), f"{'.'.join(map(str, names))}: {new!r:.40}"


def try_manifest(stage: Stage, case: Stage, rng: Random, log: Path) -> tuple[str, Ended]:
    """Spoil the manifest of a published folder and run a command that reads it."""
    folder = case.output / stage.published.name
    shutil.copytree(stage.published, folder, copy_function=os.link)
    text = (folder / "manifest.json").read_text()
    spoiled, how = spoil_json(text, rng)
    replace(folder / "manifest.json", spoiled)
    places = ("--work", case.work)
    references = ("--references", case.references)
    commands: tuple[tuple[object, ...], ...] = (
        ("status", "--output", case.output, *places),
        ("status", folder, "--output", case.output, *places),
        ("reduce", folder, "--dry-run", "--output", case.output, *places, *references),
        ("reduce", folder, "--until", "quality", "--output", case.output, *places, *references),
        ("reduce", case.visit, "--until", "quality", "--output", case.output, *places, *references),
        ("reprocess", case.output, "--dry-run", *places, *references),
        ("diff", folder, stage.published),
        ("explain", folder, "--image", "1"),
        ("check", folder),
    )
    chosen = [str(word) for word in commands[rng.integers(len(commands))]]
    return f"{how} | drp {chosen[0]}", run(chosen, log, draw=False)


def spoil_order(text: str, rng: Random) -> tuple[bytes, str]:
    """Return a job order that is damaged in one place, and how."""
    lines = text.splitlines()
    at = int(rng.integers(len(lines)))
    way = int(rng.integers(6))
    if way == 0:
        del lines[at]
    elif way == 1:
        lines.insert(int(rng.integers(len(lines))), lines[at])
    elif way == 2:
        number = int(rng.integers(len(RAW)))
        return RAW[number].encode(), f"replaced {number}"
    elif way == 3:
        content = bytearray(text.encode())
        for place in rng.integers(len(content), size=int(rng.integers(1, 6))):
            content[place] = int(rng.integers(256))
        return bytes(content), "bytes"
    else:
        values = list(re.finditer(r">([^<>\n]+)<|\"([^\"]*)\"", text))
        match = values[rng.integers(len(values))]
        new = TEXTS[rng.integers(len(TEXTS))]
        group = 1 if match[1] is not None else 2
        start, end = match.span(group)
        return (text[:start] + new + text[end:]).encode(), f"{match[group]:.40} -> {new:.20}"
    return "\n".join(lines).encode(), f"line {at} {('removed', 'repeated')[way]}"


def try_order(case: Stage, rng: Random, log: Path) -> tuple[str, Ended]:
    """Spoil a job order and run it."""
    order = order_of(case.root / "order", case.visit, [case.references])
    order.out.mkdir(parents=True)
    order.tmp.mkdir()
    path = order.write()
    spoiled, how = spoil_order(order.text(), rng)
    path.write_bytes(spoiled)
    return how, run(["job", str(path), "--engine", "plain"], log, draw=False)
