"""The report: the verdict on the light curve, followed by an account of how it was made.

`collect_report` writes the contents of the pages as JSON and draws the figures. It does not know
the version of the publication, the date of processing or the names of files, so that the same input
gives the same bytes. `typeset_report` adds these facts and makes the PDF. Text from outside (names
in headers) reaches the typesetter only as JSON strings and is never read as markup.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from schemas.flags import Quality
from schemas.payloads import (
    CalibratedVisit,
    CorrectedVisit,
    Inventory,
    Leaf,
    MeasuredVisit,
    Payload,
    ReportData,
    Status,
)
from schemas.settings import ReportSettings
from schemas.words import counted
from tasks.delivery.report import field_tables, noise_tables, observation, summary, tables
from tasks.delivery.report.condition_figures import CORRELATED, OVER_TIME
from tasks.delivery.report.drawing import FigureText
from tasks.delivery.report.figures import captions, draw_all
from tasks.delivery.report.findings import Findings, for_report, read_findings
from tasks.delivery.report.light_curve import describe_light_curve, draw_light_curve
from tasks.delivery.report.metrics import Metric, metrics_rows
from tasks.delivery.report.pdf import moment, templates, write_pdf
from tasks.delivery.report.pictures import draw_levels, draw_maps, draw_scene, picture_captions
from tasks.delivery.report.series import Points
from tasks.delivery.report.tables import Table
from tasks.delivery.report.verdict import Evidence, Verdict, nominal_values, verdict
from tasks.delivery.report.wording import Row, printable
from tasks.engine.step import Leaves, step
from tasks.files import disk
from tasks.visit.images import Images, open_images

DATA = "report.json"

LIGHT_CURVE = "light_curve"

FIGURES = (
    LIGHT_CURVE,
    "curves",
    "noise",
    "stages",
    "correlations",
    "levels",
    "scene",
    "maps",
    "contamination",
    "conditions",
    "timeline",
)

TEMPLATES = ("look.typ", "report.typ", "pages.typ")

MOST_WARNINGS = 6


class Report(Payload):
    """The contents of the pages."""

    visit: str
    target: str
    observed: str
    verdict: Verdict
    figures: dict[str, FigureText]
    run: tuple[Row, ...]
    whole_run: tuple[observation.Group, ...]
    metrics: tuple[summary.KeyNumber, ...]
    whole_metrics: tuple[Metric, ...]
    tables: dict[str, Table]
    steps: tuple[summary.StepRow, ...]
    absent_steps: tuple[str, ...]
    warnings: tuple[str, ...]
    all_warnings: tuple[str, ...]
    more_warnings: int
    references: tuple[str, ...]
    fallbacks: tuple[str, ...]
    deviations: int

    def as_json(self) -> bytes:
        """Encode the report as JSON with sorted keys."""
        return (
            json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1, allow_nan=False)
            + "\n"
        ).encode("ascii")


@step("report", version="14", payload=ReportData, leaves=[DATA])
def collect_report(
    inventory: Inventory,
    calibrated: CalibratedVisit,
    corrected: CorrectedVisit,
    measured: MeasuredVisit,
    settings: ReportSettings,
) -> Leaves:
    """Collect the contents of the report, and draw its figures."""
    leaves = [*calibrated.leaves(), *corrected.leaves(), *measured.leaves()]
    with open_images(corrected.subarray.products["SCI_COR_SubArray"]) as images:
        findings = read_findings(calibrated, corrected, measured, images)
        findings = for_report(findings, calibrated, corrected, images)
        first = printable(str(images.image.header.get("T_STRT_U", "an unknown time"))[:19])
        light_curve = describe_light_curve(findings.points, f"{first} UTC", settings.points)
        report = compose(inventory, leaves, findings, images, light_curve)
    figures = {
        LIGHT_CURVE: draw_light_curve(findings.points, settings.points),
        **draw_all(findings, settings.points),
        "levels": draw_levels(findings, settings.points),
        "scene": draw_scene(findings),
        "maps": draw_maps(findings),
    }
    return Leaves(blobs={DATA: report.as_json(), **{svg(name): figures[name] for name in FIGURES}})


def svg(name: str) -> str:
    """Return the file name of a figure."""
    return f"{name}.svg"


def compose(
    inventory: Inventory,
    leaves: list[Leaf],
    findings: Findings,
    images: Images,
    light_curve: FigureText,
) -> Report:
    """Compose the contents of the pages."""
    points, metrics = findings.points, findings.metrics["DEFAULT"]
    run = summary.run_table(inventory, images)
    by_label = {row.label: row for row in run}
    start, stop = (by_label[f"Data {end} (UTC)"].shown for end in ("start", "stop"))
    warnings = [*summary.synthetic_lines(inventory), *summary.warning_lines(leaves)]
    return Report(
        visit=inventory.visit,
        target=by_label["Target name"].shown,
        observed=f"{start} to {stop} UTC",
        verdict=verdict(replace(evidence(points, metrics, leaves), synthetic=inventory.synthetic)),
        figures={LIGHT_CURVE: light_curve, **captions(findings), **picture_captions(findings)},
        run=run,
        whole_run=observation.run_groups(inventory, images, points, findings.radii),
        metrics=summary.key_numbers(inventory, metrics, points, leaves, images),
        whole_metrics=metrics_rows(inventory, findings, leaves),
        tables=make_tables(findings),
        steps=tuple(summary.step_row(leaf) for leaf in leaves),
        absent_steps=summary.absent_steps(leaves),
        warnings=tuple(warnings[:MOST_WARNINGS]),
        all_warnings=tuple(warnings),
        more_warnings=max(len(warnings) - MOST_WARNINGS, 0),
        references=summary.reference_names(inventory),
        fallbacks=summary.fallback_lines(inventory),
        deviations=len(inventory.deviations),
    )


def make_tables(findings: Findings) -> dict[str, Table]:
    """Make the tables after the first page, by name."""
    return {
        "curves": noise_tables.curves_table(findings),
        "budget": noise_tables.budget_table(findings),
        "stages": noise_tables.stages_table(findings),
        "contamination": field_tables.contamination_table(findings),
        "neighbours": field_tables.neighbours_table(findings),
        "housekeeping": tables.housekeeping_table(findings),
        "correlations": tables.correlations_table(findings, CORRELATED),
        "conditions": tables.conditions_table(findings, OVER_TIME),
        "events": tables.events_table(findings),
        "quality": tables.quality_table(findings),
    }


def evidence(points: Points, metrics: Mapping[str, float], leaves: Sequence[Leaf]) -> Evidence:
    """Collect the evidence for the verdict."""
    states = [(leaf.step, summary.state_of(leaf)) for leaf in leaves]
    scatter, error = (
        v if math.isfinite(v) else None for v in (metrics["P2P_PPM"], metrics["FORM_PPM"])
    )
    contamination, _ = summary.used_value(leaves, "CONTA_25", "contamination", "stars")
    return Evidence(
        visible=int((~points.in_saa & ~points.occulted).sum()),
        good=int(points.good.sum()),
        scatter=scatter,
        error=error,
        contamination=contamination if isinstance(contamination, float) else None,
        commonest=commonest_flag(points),
        warned=_once(step for step, state in states if state is Status.WARNING),
        skipped=_once(step for step, state in states if state is Status.SKIPPED),
        by_hand=_once(leaf.step for leaf in leaves if leaf.by_hand),
        nominal=nominal_values(leaf.used for leaf in leaves),
    )


def commonest_flag(points: Points) -> str:
    """Describe the most common flag of the points in sight that are not good, or of all such."""
    bad = ~points.good
    seen = bad & ~points.in_saa & ~points.occulted
    quality = points.quality[seen if seen.any() else bad]
    counts = {bit: int((quality & int(bit) != 0).sum()) for bit in Quality}
    commonest = max(counts, key=lambda bit: counts[bit])
    if not counts[commonest]:
        return ""
    words = tables.BIT_WORDS.get(commonest, tables.bit_name(commonest))
    return f"{words} ({counted(counts[commonest], 'point')})"


def _once(steps: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(steps))


def typeset_report(data: Path, facts: Mapping[str, Any], target: Path) -> None:
    """Typeset the report as PDF; raises the errors of `write_pdf`.

    Parameters
    ----------
    data : Path
        Folder with the output of `collect_report`.
    facts : mapping
        Facts known at publication: ``version`` such as V0000, ``date`` (UTC,
        yyyy-mm-ddThh:mm:ss), ``software``, ``folder``, and ``sources`` from
        `tasks.delivery.report.sources`.
    target : Path
        The PDF; it is written completely or not at all.
    """
    texts = {
        name: printable(facts.get(name, "–")) for name in ("version", "date", "software", "folder")
    }
    inside: dict[str, bytes] = {
        "main.typ": b'#include "report.typ"\n#include "pages.typ"\n',
        "facts.json": json.dumps(
            {**texts, "moment": moment(facts["date"]), "sources": facts.get("sources", {})},
            sort_keys=True,
        ).encode(),
        **templates(*TEMPLATES),
        **{
            name: disk.read_bytes(data / name, limit=64 << 20)
            for name in (DATA, *map(svg, FIGURES))
        },
    }
    write_pdf(inside, target)
