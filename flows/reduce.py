"""The pipeline on one page: calibrate, correct, photometry, publish."""

from __future__ import annotations

from pathlib import Path

from flows.artifacts import run_shown
from flows.calibrate import calibrate_visit
from flows.correct import correct_visit
from flows.photometry import measure_visit
from schemas.errors import UsageError
from schemas.payloads import Inventory, Published
from schemas.requests import ReduceRequest
from schemas.settings import PipelineSettings
from tasks.delivery.folder import verdict_of
from tasks.delivery.publication import Content, publish
from tasks.delivery.report.report import collect_report, typeset_report
from tasks.delivery.tgz import write_archive
from tasks.delivery.viewer.page import collect_viewer, write_viewer
from tasks.engine.run import current_run
from tasks.engine.step import recipe
from tasks.files import disk
from tasks.numerics.times import now


@recipe(Published, "reduce")
def reduce_visit(
    request: ReduceRequest, inventory: Inventory, settings: PipelineSettings
) -> Published:
    """Reduce a visit: raw images to published light curves, viewer and report."""
    with run_shown(inventory) as show_outcome:
        calibrated = calibrate_visit(inventory, settings)
        corrected = correct_visit(inventory, calibrated, settings)
        measured = measure_visit(calibrated, corrected, settings)
        collect_viewer(inventory, calibrated, corrected, measured, settings.viewer)
        report = collect_report(inventory, calibrated, corrected, measured, settings.report)
        published = publish_visit(request, inventory, settings)
        show_outcome(published, report)
    return published


def reduce_to_products(
    request: ReduceRequest, inventory: Inventory, settings: PipelineSettings
) -> Published:
    """Reduce a visit to the products of `reduce_visit`, without viewer and report."""
    calibrated = calibrate_visit(inventory, settings)
    corrected = correct_visit(inventory, calibrated, settings)
    measure_visit(calibrated, corrected, settings)
    return publish_visit(request, inventory, settings)


def publish_visit(
    request: ReduceRequest, inventory: Inventory, settings: PipelineSettings
) -> Published:
    """Publish the products of the current run."""
    run = current_run()
    for path in run.replacements.values():
        raise UsageError(f"{path}: no step of this visit creates the product it should replace")
    if run.dry:
        return Published(visit=inventory.visit, folder="", new=False)
    run.workspace.digests.save()
    warnings = [*run.warnings, *(w for r in run.reports for w in r.leaf.warnings)]
    content = Content(inventory, run.reports, settings.model_dump(mode="json"), warnings)
    output, digest = disk.absolute(request.output), run.workspace.digests.of
    version = (request.arch_rev, request.proc_num)
    pages = {"report": ("pdf", typeset_report), "viewer": ("html", write_viewer)}
    folder, new = publish(output, content, now(), pages, digest, warnings.append, version)
    run.workspace.digests.save()
    if request.archive:
        raw = [Path(p.path) for p in (inventory.subarray, inventory.imagettes) if p is not None]
        write_archive(folder, [path for path in raw if disk.is_file(path)])
    return Published(
        visit=inventory.visit,
        folder=str(folder),
        new=new,
        warnings=tuple(dict.fromkeys(warnings)),
        verdict=verdict_of(folder),
    )
