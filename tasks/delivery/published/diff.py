"""The differences between two reductions of one visit: light curves, inputs and versions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schemas.arrays import AnyArray, FloatArray
from schemas.errors import UsageError
from schemas.manifest import ListedInventory, ListedProduct, Manifest, StepEntry
from schemas.payloads import Status
from schemas.products import Column, soc_structure
from schemas.terms import LIGHT_TIME
from tasks.delivery.light_curves import OWN_COLUMNS
from tasks.delivery.published.answer import MERGED
from tasks.delivery.published.visit import CURVE, Columns, PublishedVisit

_SAME_TIME = 1e-8  # day; a millisecond, far shorter than any exposure


Steps = Mapping[str, StepEntry]

Changes = dict[str, list[Any]]  # the value in a and in b, by name


@dataclass(frozen=True)
class Provenance:
    """Differences between the inputs, settings, versions and step results of two reductions."""

    inputs: Changes
    references: Changes
    settings: Changes
    software: Changes
    fallbacks: Changes
    step_versions: Changes
    step_status: Changes
    by_hand: Changes
    steps_with_other_products: list[str]


@dataclass(frozen=True)
class Spread:
    """Size of the differences in a column, over rows finite in both; None without such rows."""

    median: float | None
    scatter: float | None
    largest: float | None


@dataclass(frozen=True)
class ColumnDifference:
    """Number of rows of a column that differ, and by how much; a column of flags has no spread."""

    column: str
    unit: str
    rows: int
    spread: Spread | None = field(metadata=MERGED)


@dataclass(frozen=True)
class CurveDifference:
    """Differences between two light curves over their common images."""

    images: int
    only_in_a: int
    only_in_b: int
    columns: list[ColumnDifference]


@dataclass(frozen=True)
class Difference:
    """Differences between two reductions of a visit, as b minus a."""

    visit: str
    a: str
    b: str
    same_result: bool
    provenance: Provenance = field(metadata=MERGED)
    only_in_a: list[str]
    only_in_b: list[str]
    curves: dict[str, CurveDifference]


def differences(a: PublishedVisit, b: PublishedVisit) -> Difference:
    """Return the differences between two reductions of a visit, as b minus a.

    Raises
    ------
    UsageError
        If they are of different visits.
    """
    if a.manifest.visit != b.manifest.visit:
        raise UsageError(
            f"reductions of different visits: {a.manifest.visit} and {b.manifest.visit}"
        )
    of_a, of_b = a.curve_names(), b.curve_names()
    return Difference(
        visit=a.manifest.visit,
        a=a.folder.name,
        b=b.folder.name,
        same_result=a.manifest.identity == b.manifest.identity,
        provenance=_provenance(a.manifest, b.manifest),
        only_in_a=[n for n in of_a if n not in of_b],
        only_in_b=[n for n in of_b if n not in of_a],
        curves={
            name: compare_curves(a.curve(name), b.curve(name)) for name in of_a if name in of_b
        },
    )


def _provenance(a: Manifest, b: Manifest) -> Provenance:
    """Return the differences between two manifests."""
    one, two = a.inventory, b.inventory
    steps_a, steps_b = _steps(a), _steps(b)
    return Provenance(
        inputs=_unequal(_files(one), _files(two)),
        references=_unequal(_references(one), _references(two)),
        settings=_unequal(_settings(a), _settings(b)),
        software=_unequal(a.software, b.software),
        fallbacks=_unequal(a.fallbacks, b.fallbacks),
        step_versions=_unequal(_versions(steps_a), _versions(steps_b)),
        step_status=_unequal(_states(steps_a), _states(steps_b)),
        by_hand=_unequal(_by_hand(steps_a), _by_hand(steps_b)),
        steps_with_other_products=[
            k for k in steps_a if k in steps_b and _digests(steps_a[k]) != _digests(steps_b[k])
        ],
    )


def _unequal(a: Mapping[str, Any], b: Mapping[str, Any]) -> Changes:
    return {
        k: [a.get(k), b.get(k)] for k in [*a, *(k for k in b if k not in a)] if a.get(k) != b.get(k)
    }


def _steps(manifest: Manifest) -> Steps:
    """Return the steps by name; repetitions of a step (for the full array) are numbered."""
    steps: dict[str, StepEntry] = {}
    for entry in manifest.steps:
        name, n = entry.step, 2
        while name in steps:
            name, n = f"{entry.step} ({n})", n + 1
        steps[name] = entry
    return steps


def _versions(steps: Steps) -> dict[str, str]:
    return {name: step.version for name, step in steps.items()}


def _states(steps: Steps) -> dict[str, dict[str, Status]]:
    return {name: step.payload.status for name, step in steps.items()}


def _by_hand(steps: Steps) -> dict[str, list[str]]:
    return {
        name: list(step.payload.by_hand) for name, step in steps.items() if step.payload.by_hand
    }


def _digests(step: StepEntry) -> dict[str, str]:
    return {name: product.sha256 for name, product in step.payload.products.items()}


def _file(product: ListedProduct) -> str:
    return f"{product.path} sha256 {product.sha256[:16]}"


def _files(inventory: ListedInventory) -> dict[str, str]:
    values = {name: getattr(inventory, name) for name in type(inventory).model_fields}
    return {name: _file(v) for name, v in values.items() if isinstance(v, ListedProduct)}


def _references(inventory: ListedInventory) -> dict[str, str]:
    chosen = {kind: _file(r.product) for kind, r in inventory.references.items()}
    return {
        **chosen,
        **{f"dark frame {i}": _file(r.product) for i, r in enumerate(inventory.dark_frames, 1)},
    }


def _settings(manifest: Manifest) -> dict[str, Any]:
    return {
        f"{step}.{name}": list(value) if isinstance(value, tuple) else value
        for step, values in manifest.settings.items()
        for name, value in values.items()
    }


def compare_curves(a: Columns, b: Columns) -> CurveDifference:
    """Return the differences between two light curves over their common images.

    Columns in electrons are compared in ppm of the median flux of `a`, other columns in their own
    unit, and flags by the number of rows that differ. A value that is NaN in only one of them
    counts as a differing row, but does not enter the spread.
    """
    rows_a, rows_b = _common_rows(a["MJD_TIME"], b["MJD_TIME"])
    flux = a["FLUX"][np.isfinite(a["FLUX"])]
    median = float(np.median(flux)) if flux.size else math.nan
    return CurveDifference(
        images=len(rows_a),
        only_in_a=len(a["MJD_TIME"]) - len(rows_a),
        only_in_b=len(b["MJD_TIME"]) - len(rows_b),
        columns=[
            _compare_column(c, a[c.name][rows_a], b[c.name][rows_b], median)
            for c in _compared_columns()
            if c.name in a and c.name in b
        ],
    )


def _compared_columns() -> list[Column]:
    """Return the columns of a light curve to compare: no text, and no copy of another column."""
    own = (c for c in OWN_COLUMNS if c.name in ("QUALITY", LIGHT_TIME.name))
    return [c for c in (*soc_structure(CURVE).columns, *own) if c.letter != "A"]


def _compare_column(column: Column, a: AnyArray, b: AnyArray, flux: float) -> ColumnDifference:
    """Return the differences in a column, row by row; `flux` is the median flux [electron]."""
    if column.letter == "J":
        return ColumnDifference(column.name, "", int(np.count_nonzero(a != b)), None)
    in_ppm = column.unit == "electrons"
    shift = (b.astype(np.float64) - a) * (1e6 / flux if in_ppm else 1.0)
    if column.unit == "deg":
        shift = (shift + 180) % 360 - 180
    finite = shift[np.isfinite(shift)]
    in_one_only = int(np.count_nonzero(np.isfinite(a) != np.isfinite(b)))
    spread = (
        Spread(float(np.median(finite)), float(np.std(finite)), float(np.abs(finite).max()))
        if finite.size
        else Spread(None, None, None)
    )
    rows = int(np.count_nonzero(finite != 0)) + in_one_only
    return ColumnDifference(column.name, "ppm of flux" if in_ppm else column.unit, rows, spread)


def _common_rows(a: FloatArray, b: FloatArray) -> tuple[list[int], list[int]]:
    """Return the rows of both tables that hold the same images.

    Times never decrease within a visit, but two may be equal.
    """
    one, two = [], []
    i = j = 0
    while i < len(a) and j < len(b):
        if abs(a[i] - b[j]) <= _SAME_TIME:
            one.append(i)
            two.append(j)
            i, j = i + 1, j + 1
        elif a[i] < b[j]:
            i += 1
        else:
            j += 1
    return one, two
