"""A small manifest of a published folder, with an entry of every kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VISIT = "PR900001_TG000101"

_DIGEST = "0123456789abcdef" * 4


def product(path: str, extname: str) -> dict[str, Any]:
    return {"path": path, "sha256": _DIGEST, "extname": extname}


def listed_step(name: str, *products: str, **payload: Any) -> dict[str, Any]:
    """Return the entry of a step."""
    return {
        "step": name,
        "version": "3",
        "key": _DIGEST,
        "outcome": "done",
        "seconds": 0.5,
        "payload": {
            "step": name,
            "products": {p: product(f"{p}.fits", p.split("-")[0]) for p in products},
            "status": {},
            "used": {},
            "warnings": [],
            "by_hand": [],
            **payload,
        },
    }


def listed_file(name: str, step: str, of: str, key: str = _DIGEST) -> dict[str, Any]:
    """Return the entry of a published file."""
    return {"name": name, "sha256": _DIGEST, "bytes": 2880, "step": step, "key": key, "product": of}


def listed_inventory(visit: str) -> dict[str, Any]:
    """Return the entry of the inputs."""
    own = f"CH_{visit}_TU2021-03-10T08-00-00"
    dark = {
        "kind": "dark frame",
        "product": product(
            "CH_TU2021-03-05T00-00-00_REF_APP_DarkFrame_V0100.fits", "REF_APP_DarkFrame"
        ),
        "valid_from": "2021-03-05T00:00:00.000000",
        "version": [1, 0],
        "synthetic": False,
    }
    bias = {
        "kind": "bias frame",
        "product": product(
            "CH_TU2015-01-01T00-00-00_REF_APP_BiasFrame_V0100.fits", "REF_APP_BiasFrame"
        ),
        "valid_from": "2015-01-01T00:00:00.000000",
        "version": None,
        "synthetic": True,
    }
    return {
        "visit": visit,
        "obsid": 101,
        "target": "Simulated",
        "arch_rev": 0,
        "proc_num": 0,
        "start": "2021-03-10T08:00:49.110261",
        "images": 50,
        "subarray": product(f"{own}_SCI_RAW_SubArray_V0000.fits", "SCI_RAW_SubArray"),
        "attitude": product(f"{own}_SCI_RAW_Attitude_V0000.fits", "SCI_RAW_Attitude"),
        **dict.fromkeys(
            ("full_array", "imagettes", "planned", "constraints", "orbit", "stars"), None
        ),
        "references": {"bias frame": bias},
        "dark_frames": [dark],
        "deviations": ["a file: deviates"],
        "notes": ["a file: ignored"],
        "fallbacks": {"raw full array": "no calibrated full array is made"},
        "simulated": True,
    }


def listed_verdict(word: str) -> dict[str, Any]:
    """Return a verdict with two rules, of which one gives `word`."""
    good, reason = {
        "good": (40, ""),
        "usable with care": (
            12,
            "12 good points: at least 30 are needed for a reliable scatter",
        ),
        "not usable": (2, "2 good points: at least 3 are needed to measure a scatter"),
    }[word]
    points = {"name": "Good points", "found": str(good), "goal": "≥ 30", "limit": "≥ 3"}
    skipped = {"name": "Steps skipped", "found": "0", "goal": "0", "limit": "none"}
    return {
        "word": word,
        "sentence": "1 of 2 rules is not met" if reason else "all 2 rules are met",
        "reasons": [reason or "all steps completed"],
        "rules": [
            {**points, "word": word, "reason": reason},
            {**skipped, "word": "good", "reason": ""},
        ],
    }


def small_manifest(
    visit: str = VISIT, version: str = "V0000", verdict: str = "usable with care"
) -> dict[str, Any]:
    """Return a manifest; without `verdict` it is that of a run without a report."""
    inventory = listed_inventory(visit)
    curve = f"CH_{visit}_TU2021-03-10T08-01-08_SCI_COR_Lightcurve-DEFAULT_{version}.fits"
    page = f"CH_{visit}_TU2021-03-10T08-00-49_RPT_COR_DataReduction_{version}.pdf"
    steps = [
        listed_step(
            "flat",
            "TERM_FLAT",
            status={"FFIELD": "completed"},
            used={"FLAT_T": 6300.0, "LIN_DONE": False, "N_SAA": 1, "BIAS_SRC": "OverscanLeft"},
            warnings=["a warning of the step"],
            by_hand=["TERM_FLAT"],
        ),
        listed_step("light_curves", "SCI_COR_Lightcurve-DEFAULT"),
    ]
    files = [
        listed_file("terms/flat.fits", "flat", "TERM_FLAT"),
        listed_file(curve, "light_curves", "SCI_COR_Lightcurve-DEFAULT"),
    ]
    manifest = {
        "manifest": 1,
        "visit": visit,
        "version": version,
        "identity": _DIGEST,
        "published": "2023-11-14T22:13:20",
        "software": {"drp": "0.1.0", "python": "3.11.7", "numpy": "2.4.6"},
        "settings": {"flat": {"skip": False}, "bias": {"smooth": 30.0}},
        "inventory": inventory,
        "steps": steps,
        "files": files,
        "warnings": ["a step: warns"],
        **{name: inventory[name] for name in ("deviations", "notes", "fallbacks")},
    }
    if verdict == "good":  # all steps are completed, and no reference is synthetic
        steps[0]["payload"]["by_hand"] = []
        inventory["references"]["bias frame"]["synthetic"] = False
    if verdict:
        steps.append(listed_step("report", "report.json"))
        files.append(listed_file(page, "report", "pdf", key=""))
        manifest["verdict"] = listed_verdict(verdict)
    return manifest


def write_manifest(folder: Path, manifest: object) -> Path:
    """Write a manifest to a folder and return its path."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(manifest))
    return path


def places(value: object, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the place of every entry of a manifest, also those that hold others."""
    if at:
        yield at
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, each in items:
        yield from places(each, (*at, key))


def changed(manifest: dict[str, Any], at: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """Return a copy of a manifest with another value at a place."""
    copy: Any = json.loads(json.dumps(manifest))
    inner = copy
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    return dict(copy)


def removed(manifest: dict[str, Any], at: tuple[str | int, ...]) -> dict[str, Any]:
    """Return a copy of a manifest without the entry at a place."""
    copy: Any = json.loads(json.dumps(manifest))
    inner = copy
    for key in at[:-1]:
        inner = inner[key]
    del inner[at[-1]]
    return dict(copy)
