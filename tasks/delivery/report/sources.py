"""The sources of a report, known at publication: file names with their digests, and settings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from schemas.payloads import Inventory, Product, Reference
from schemas.settings import PipelineSettings
from tasks.delivery.report.wording import printable

MOST_DEVIATIONS = 60  # lines

_KEPT = 16  # hexadecimal digits of a digest in the report


class Deviations(TypedDict):
    """Deviations of input files: file and texts, and the number of those omitted."""

    deviations: list[tuple[str, list[str]]]
    more_deviations: int


class Sources(Deviations):
    """The sources of a report as texts, one list per line."""

    inputs: list[list[str]]  # kind, name, digest
    references: list[list[str]]  # kind, name, digest, first day
    absent: list[list[str]]  # kind, substitute
    settings: list[list[str]]  # name, value, default
    notes: list[str]
    software: list[list[str]]  # name, version


def sources(
    inventory: Inventory, settings: Mapping[str, Any], software: Mapping[str, str]
) -> Sources:
    """List inputs, references, non-default settings, deviations and versions as texts."""
    chosen: list[Reference] = [*inventory.references.values(), *inventory.dark_frames]
    return {
        "inputs": [_file(kind, product) for kind, product in visit_files(inventory)],
        "references": sorted(
            ([*_file(r.kind, r.product), printable(r.valid_from[:10])] for r in chosen),
            key=lambda line: (line[0], line[1]),
        ),
        "absent": [
            [printable(kind), printable(text, 200)]
            for kind, text in sorted(inventory.fallbacks.items())
        ],
        "settings": changed_settings(settings),
        **group_deviations(inventory.deviations),
        "notes": [printable(text, 200) for text in inventory.notes],
        "software": [[printable(name), printable(version)] for name, version in software.items()],
    }


def visit_files(inventory: Inventory) -> list[tuple[str, Product]]:
    """List kind and product of the files of the visit itself."""
    files = {
        "raw sub-array": inventory.subarray,
        "attitude": inventory.attitude,
        "raw full array": inventory.full_array,
        "raw imagettes": inventory.imagettes,
        "planned visit": inventory.planned,
        "visit constraints": inventory.constraints,
        "orbit": inventory.orbit,
        "star catalogue": inventory.stars,
    }
    return [(kind, product) for kind, product in files.items() if product is not None]


def inputs_of(inventory: Inventory) -> list[tuple[str, Product]]:
    """List kind and product of all inputs: the visit's files, then the references, sorted."""
    chosen = [(r.kind, r.product) for r in (*inventory.references.values(), *inventory.dark_frames)]
    return [
        *visit_files(inventory),
        *sorted(chosen, key=lambda pair: (pair[0], Path(pair[1].path).name)),
    ]


def group_deviations(deviations: Sequence[str]) -> Deviations:
    """Group deviations by file, with one line for all HDUs that deviate in the same way."""
    files: dict[str, dict[str, list[str]]] = {}
    for text in deviations:
        match = re.fullmatch(r"(.+?): HDU (\d+) [^:]*: (.+)", text, re.DOTALL)
        file, text, hdu = (match[1], match[3], match[2]) if match else ("", text, "")
        files.setdefault(file, {}).setdefault(text, []).append(hdu)
    lines = [
        (file, printable(f"HDU {', '.join(hdus)}: {text}" if file else text, 200))
        for file, texts in files.items()
        for text, hdus in texts.items()
    ]
    kept = lines[:MOST_DEVIATIONS]
    by_file = {file: [line for f, line in kept if f == file] for file, _ in kept}
    return {
        "deviations": [(printable(file, 120), texts) for file, texts in by_file.items()],
        "more_deviations": len(lines) - len(kept),
    }


def _file(kind: str, product: Product) -> list[str]:
    return [printable(kind), printable(Path(product.path).name, 120), product.sha256[:_KEPT]]


def changed_settings(settings: Mapping[str, Any]) -> list[list[str]]:
    """List name, value and default of the settings that differ from their defaults."""
    default = PipelineSettings().model_dump(mode="json")
    return [
        [f"{step}.{name}", printable(value), printable(default.get(step, {}).get(name, "–"))]
        for step, values in settings.items()
        if isinstance(values, Mapping)
        for name, value in values.items()
        if value != default.get(step, {}).get(name)
    ]
