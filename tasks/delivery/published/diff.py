"""Two reductions of one visit side by side: in ppm of flux, column by column, and what they were
made from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schemas.arrays import AnyArray, FloatArray
from schemas.errors import BadInputError, UsageError
from schemas.products import Column, soc_structure
from schemas.terms import LIGHT_TIME
from tasks.delivery.light_curves import OWN_COLUMNS
from tasks.delivery.published.answer import MERGED
from tasks.delivery.published.visit import CURVE, Columns, PublishedVisit

_SAME_TIME = 1e-8  # day; a millisecond, far below any exposure


Changes = dict[str, list[Any]]  # both values, by name


@dataclass(frozen=True)
class MadeFrom:
    """What two reductions were made from, as far as it differs."""

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
    """Differences of a column, over the rows where both have a number; None where there is none."""

    median: float | None
    scatter: float | None
    largest: float | None


@dataclass(frozen=True)
class ColumnDifference:
    """How a column differs: in how many rows, and by how much if it is no column of flags."""

    column: str
    unit: str
    rows: int
    spread: Spread | None = field(metadata=MERGED)


@dataclass(frozen=True)
class CurveDifference:
    """How two light curves differ over the images that both have."""

    images: int
    only_in_a: int
    only_in_b: int
    columns: list[ColumnDifference]


@dataclass(frozen=True)
class Difference:
    """How two reductions of a visit differ; values are b minus a."""

    visit: str
    a: str
    b: str
    same_result: bool
    made_from: MadeFrom = field(metadata=MERGED)
    only_in_a: list[str]
    only_in_b: list[str]
    curves: dict[str, CurveDifference]


def differences(a: PublishedVisit, b: PublishedVisit) -> Difference:
    """Return how two reductions of a visit differ; values are b minus a.

    Raises
    ------
    UsageError
        If they are of different visits.
    """
    if a.manifest["visit"] != b.manifest["visit"]:
        raise UsageError(
            f"reductions of different visits: {a.manifest['visit']} and {b.manifest['visit']}"
        )
    try:
        made_from = _made_from(a.manifest, b.manifest)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadInputError(
            f"a manifest lacks what is compared ({type(error).__name__}: {error})"
        ) from error
    of_a, of_b = a.curve_names(), b.curve_names()
    return Difference(
        visit=a.manifest["visit"],
        a=a.folder.name,
        b=b.folder.name,
        same_result=a.manifest["identity"] == b.manifest["identity"],
        made_from=made_from,
        only_in_a=[n for n in of_a if n not in of_b],
        only_in_b=[n for n in of_b if n not in of_a],
        curves={
            name: compare_curves(a.curve(name), b.curve(name)) for name in of_a if name in of_b
        },
    )


def _made_from(a: Mapping[str, Any], b: Mapping[str, Any]) -> MadeFrom:
    """Return which inputs, references, settings, versions and products of steps differ, each with
    both values.
    """
    one, two = a["inventory"], b["inventory"]
    steps_a, steps_b = _steps(a), _steps(b)
    return MadeFrom(
        inputs=_unequal(_files(one), _files(two)),
        references=_unequal(_references(one), _references(two)),
        settings=_unequal(_settings(a), _settings(b)),
        software=_unequal(a["software"], b["software"]),
        fallbacks=_unequal(a.get("fallbacks", {}), b.get("fallbacks", {})),
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


def _steps(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the steps by name; one that was done more than once (for the full array) gets a
    number.
    """
    steps: dict[str, Any] = {}
    for entry in manifest["steps"]:
        name, n = str(entry["step"]), 2
        while name in steps:
            name, n = f"{entry['step']} ({n})", n + 1
        steps[name] = entry
    return steps


def _versions(steps: Mapping[str, Any]) -> dict[str, str]:
    return {name: step["version"] for name, step in steps.items()}


def _states(steps: Mapping[str, Any]) -> dict[str, Any]:
    return {name: step["payload"].get("status", {}) for name, step in steps.items()}


def _by_hand(steps: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: step["payload"].get("by_hand") for name, step in steps.items()}
    return {name: products for name, products in given.items() if products}


def _digests(step: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: str(product["sha256"])
        for name, product in step["payload"].get("products", {}).items()
    }


def _file(product: Mapping[str, Any]) -> str:
    return f"{product['path']} sha256 {str(product['sha256'])[:16]}"


def _files(inventory: Mapping[str, Any]) -> dict[str, str]:
    return {k: _file(v) for k, v in inventory.items() if isinstance(v, Mapping) and "sha256" in v}


def _references(inventory: Mapping[str, Any]) -> dict[str, str]:
    chosen = {kind: _file(r["product"]) for kind, r in inventory["references"].items()}
    return {
        **chosen,
        **{
            f"dark frame {i}": _file(r["product"])
            for i, r in enumerate(inventory["dark_frames"], 1)
        },
    }


def _settings(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{step}.{name}": value
        for step, values in manifest["settings"].items()
        for name, value in values.items()
    }


def compare_curves(a: Columns, b: Columns) -> CurveDifference:
    """Return the differences of two light curves, over the images that both have.

    Columns in electrons are given in ppm of the median flux of `a`, the others in their own unit;
    flags by the number of rows that differ. A value that only one of them has counts as differing,
    and does not enter the numbers.
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
    """Return the columns of a light curve that are compared: all but texts, and those for clients
    that repeat another one.
    """
    own = (c for c in OWN_COLUMNS if c.name in ("QUALITY", LIGHT_TIME.name))
    return [c for c in (*soc_structure(CURVE).columns, *own) if c.letter != "A"]


def _compare_column(column: Column, a: AnyArray, b: AnyArray, flux: float) -> ColumnDifference:
    """Return how the same rows of a column differ; `flux` is the median flux [electron]."""
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
    """Return the rows of both tables that belong to one image; times of a visit rise, but two may
    be equal.
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
