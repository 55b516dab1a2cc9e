"""The figures after the first page, and their captions."""

from __future__ import annotations

from tasks.delivery.report.condition_figures import (
    describe_conditions,
    describe_contamination,
    describe_correlations,
    describe_timeline,
    draw_conditions,
    draw_contamination,
    draw_correlations,
    draw_timeline,
)
from tasks.delivery.report.curve_figures import (
    describe_curves,
    describe_stages,
    draw_curves,
    draw_stages,
)
from tasks.delivery.report.drawing import FigureText
from tasks.delivery.report.findings import Findings
from tasks.delivery.report.noise_figure import describe_noise, draw_noise


def draw_all(findings: Findings, most: int) -> dict[str, bytes]:
    """Draw all figures after the first page, by name."""
    few = min(most, 4000)  # a small panel has no room for more
    return {
        "curves": draw_curves(findings, few),
        "noise": draw_noise(findings),
        "stages": draw_stages(findings, few),
        "contamination": draw_contamination(findings, few),
        "conditions": draw_conditions(findings, few),
        "correlations": draw_correlations(findings, few),
        "timeline": draw_timeline(findings),
    }


def captions(findings: Findings) -> dict[str, FigureText]:
    """Write the captions of all figures after the first page, by name."""
    return {
        "curves": describe_curves(findings),
        "noise": describe_noise(),
        "stages": describe_stages(findings),
        "contamination": describe_contamination(),
        "conditions": describe_conditions(findings),
        "correlations": describe_correlations(findings),
        "timeline": describe_timeline(findings),
    }
