"""What a run says to the loggers: each step to that of its own module."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from schemas.logs import PROGRESS, logger_of
from tasks.engine.run import STEPS, StepReport

ReportProgress = Callable[[str, StepReport | None], None]

log = logger_of(__name__)


def logged(report_progress: ReportProgress) -> ReportProgress:
    """Return a function that logs the progress of a run and then calls `report_progress`."""

    def report(step: str, ended: StepReport | None) -> None:
        log_step(step, ended)
        report_progress(step, ended)

    return report


def log_step(step: str, report: StepReport | None) -> None:
    """Log that a step begins (`report` is None) or has ended, with its warnings."""
    module = logger_of(STEPS[step].fn.__module__) if step in STEPS else log
    if report is None:
        module.debug("%s begins", step, extra={"data": {"step": step}})
        return
    data = {
        "step": step,
        "outcome": report.outcome,
        "seconds": round(report.seconds, 3),
        "key": report.key,
    }
    states = ", ".join(sorted({str(s) for s in report.leaf.status.values()})) or "completed"
    text = "%s %s, %s, %.2f s"
    module.log(PROGRESS, text, step, report.outcome, states, report.seconds, extra={"data": data})
    for warning in report.leaf.warnings:
        module.warning("%s: %s", step, warning, extra={"data": {"step": step}})


def log_warnings(warnings: Iterable[str], level: int = logging.WARNING) -> None:
    """Log the warnings of a run, each once."""
    for warning in dict.fromkeys(warnings):
        log.log(level, "%s", warning)
