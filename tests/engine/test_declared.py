"""A changed declaration of a product reruns the step that writes it, and no other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from schemas import ROOT
from schemas.products import Column, Keyword, Structure, soc_structure
from schemas.terms import TERMS
from tasks.engine import declared
from tasks.engine.declared import declarations
from tasks.engine.run import STEPS
from tasks.files.reader import scan
from tests.support.runs import Bench as Reduced
from tests.support.step_bench import Bench, outcomes, reasons

NEW = Column("NEW", "double", "", "a new column")


def widened(structure: Structure) -> Structure:
    """Return a structure with one more column or keyword."""
    if structure.is_table:
        return replace(structure, columns=(*structure.columns, NEW))
    return replace(
        structure, keywords={**structure.keywords, "NEW": Keyword("NEW", "real", default=0.0)}
    )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with patch.dict(STEPS, clear=True):
        yield Bench(tmp_path)


def test_a_changed_declaration_runs_the_step_that_writes_it_and_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.run()
    monkeypatch.setitem(TERMS, "TERM_DARK_SCALE", widened(TERMS["TERM_DARK_SCALE"]))
    _, run = bench.run(dry=True)
    assert reasons(run)["double"] == "declaration of TERM_DARK_SCALE has changed"
    _, run = bench.run()
    assert outcomes(run) == ["double done", "sum cached"]
    monkeypatch.setitem(TERMS, "TERM_BIAS", widened(TERMS["TERM_BIAS"]))
    bench.run()
    assert bench.calls == []


@pytest.mark.parametrize(
    "change",
    [
        {"columns": (*TERMS["TERM_APERTURES"].columns, NEW)},
        {"columns": TERMS["TERM_APERTURES"].columns[1:]},
        {"columns": tuple(replace(c, meaning="other") for c in TERMS["TERM_APERTURES"].columns)},
        {"columns": tuple(replace(c, per=(41.0,)) for c in TERMS["TERM_APERTURES"].columns)},
        {"keywords": {}},
        {"associated": {"TERM_DARK": True}},
        {"image": "double", "axes": (0, 0)},
    ],
    ids=["column", "no column", "meaning", "radii", "keyword", "companion", "image"],
)
def test_every_part_of_a_declaration_that_reaches_the_file_counts(
    change: dict[str, object],
) -> None:
    before = TERMS["TERM_APERTURES"]
    assert declarations([replace(before, **change)]) != declarations([before])  # type: ignore[arg-type]
    # a meaning of the whole HDU is for the pages only
    assert declarations([replace(before, meaning="other")]) == declarations([before])


@pytest.mark.parametrize(
    ("extname", "steps"),
    [
        ("TERM_BIAS_STRUCTURE", {"bias"}),
        ("TERM_FLAT_WEIGHTS", {"flat"}),
        ("TERM_DEFECTS_STATIC", {"defects_1", "defects"}),
        ("TERM_METRICS", {"quality", "imagette_photometry"}),
        ("SCI_CAL_ImageMetadata", {"calibrate"}),
        ("SCI_COR_SmearingRow", {"correct"}),
        ("SCI_COR_Lightcurve", {"light_curves", "imagette_light_curves"}),
        ("PIP_REP_DetectedCosmics", {"corrections"}),
    ],
)
def test_a_visit_runs_again_from_the_steps_that_write_a_changed_structure(
    reduced: Reduced, monkeypatch: pytest.MonkeyPatch, extname: str, steps: set[str]
) -> None:
    if extname in TERMS:
        monkeypatch.setitem(TERMS, extname, widened(TERMS[extname]))
    else:
        changed = {extname: widened(soc_structure(extname))}
        monkeypatch.setattr(
            declared, "soc_structure", lambda name: changed.get(name) or soc_structure(name)
        )
    _, run = reduced.reduce(dry_run=True)
    why = {r.step: r.why for r in run.reports if r.outcome == "would run"}
    assert steps <= why.keys()
    text = f"declaration of {extname} has changed"
    assert text in why[next(r.step for r in run.reports if r.step in steps)]
    # and others only if they depend on these
    assert all(w.startswith("depends on") for step, w in why.items() if step not in steps)


def test_a_step_declares_every_hdu_that_it_writes(reduced: Reduced) -> None:
    _, run = reduced.reduce(dry_run=True)
    for report in run.reports:
        known = declarations((*STEPS[report.step].leaves, *STEPS[report.step].writes))
        for product in report.leaf.products.values():
            if product.path.endswith(".fits"):
                with scan(Path(product.path)) as file:
                    assert {hdu.extname for hdu in file.hdus[1:]} <= known.keys(), report.step


ONE_MORE = """
import sys
import schemas.light_curves as curves
curves.RADII = (*curves.RADII, 41.0)
from flows.command.main import main
from tests.support.runs import undrawn
sys.argv[0] = "drp"
with undrawn():
    main()
"""


@pytest.mark.slow
def test_an_old_work_folder_is_good_for_a_new_aperture(reduced: Reduced, tmp_path: Path) -> None:
    bench = reduced.copy(tmp_path)
    outcome = subprocess.run(
        [sys.executable, "-c", ONE_MORE, *bench.arguments("--engine", "plain", "-q")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert list(Path(outcome.stdout.strip()).glob("*Lightcurve-R41_*.fits"))
