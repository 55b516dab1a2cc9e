"""What a report was made from, as only the publication knows it: names of files with their digests,
and settings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from schemas.payloads import Inventory, Product, Reference
from schemas.settings import PipelineSettings
from tasks.delivery.report.wording import printable

MOST_DEVIATIONS = 60  # lines

_KEPT = 16  # hexadecimal digits of a digest that are shown


def sources(
    found: Inventory, settings: Mapping[str, Any], software: Mapping[str, str]
) -> dict[str, Any]:
    """Return inputs, references, settings that are not the default ones, deviations and versions,
    as texts.
    """
    chosen: list[Reference] = [*found.references.values(), *found.dark_frames]
    return {
        "inputs": [_file(kind, product) for kind, product in visit_files(found)],
        "references": sorted(
            ([*_file(r.kind, r.product), printable(r.valid_from[:10])] for r in chosen),
            key=lambda line: (line[0], line[1]),
        ),
        "absent": [
            [printable(kind), printable(text, 200)]
            for kind, text in sorted(found.fallbacks.items())
        ],
        "settings": changed_settings(settings),
        **gathered(found.deviations),
        "notes": [printable(text, 200) for text in found.notes],
        "software": [[printable(name), printable(version)] for name, version in software.items()],
    }


def visit_files(found: Inventory) -> list[tuple[str, Product]]:
    """Return kind and product of the files of a visit itself."""
    given = {
        "raw sub-array": found.subarray,
        "attitude": found.attitude,
        "raw full array": found.full_array,
        "raw imagettes": found.imagettes,
        "planned visit": found.planned,
        "visit constraints": found.constraints,
        "orbit": found.orbit,
        "star catalogue": found.stars,
    }
    return [(kind, product) for kind, product in given.items() if product is not None]


def inputs_of(found: Inventory) -> list[tuple[str, Product]]:
    """Return kind and product of all that a visit is reduced from: its own files, then the
    references by kind and name.
    """
    chosen = [(r.kind, r.product) for r in (*found.references.values(), *found.dark_frames)]
    return [
        *visit_files(found),
        *sorted(chosen, key=lambda pair: (pair[0], Path(pair[1].path).name)),
    ]


def gathered(deviations: Sequence[str]) -> dict[str, Any]:
    """Return deviations by file, with the HDUs that deviate in the same way in one line, and how
    many were left out.
    """
    files: dict[str, dict[str, list[str]]] = {}
    for text in deviations:
        of_hdu = re.fullmatch(r"(.+?): HDU (\d+) [^:]*: (.+)", text, re.DOTALL)
        file, what, hdu = (of_hdu[1], of_hdu[3], of_hdu[2]) if of_hdu else ("", text, "")
        files.setdefault(file, {}).setdefault(what, []).append(hdu)
    lines = [
        (file, printable(f"HDU {', '.join(hdus)}: {what}" if file else what, 200))
        for file, texts in files.items()
        for what, hdus in texts.items()
    ]
    kept = lines[:MOST_DEVIATIONS]
    by_file = {file: [line for f, line in kept if f == file] for file, _ in kept}
    return {
        "deviations": [[printable(file, 120), texts] for file, texts in by_file.items()],
        "more_deviations": len(lines) - len(kept),
    }


def _file(kind: str, product: Product) -> list[str]:
    return [printable(kind), printable(Path(product.path).name, 120), product.sha256[:_KEPT]]


def changed_settings(settings: Mapping[str, Any]) -> list[list[str]]:
    """Return name, value and default of the settings that differ from their defaults."""
    default = PipelineSettings().model_dump(mode="json")
    return [
        [f"{step}.{name}", printable(value), printable(default.get(step, {}).get(name, "–"))]
        for step, values in settings.items()
        if isinstance(values, Mapping)
        for name, value in values.items()
        if value != default.get(step, {}).get(name)
    ]
