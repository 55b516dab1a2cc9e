"""The table of metrics: noise, losses and defects, next to the keywords of the SOC's header."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from schemas.arrays import BoolArray
from schemas.flags import Quality
from schemas.payloads import Inventory, Leaf, Scalar
from tasks.delivery.report.findings import Findings
from tasks.delivery.report.summary import (
    NO_POINTS,
    photon_noise,
    unfinished_steps,
    unknown_losses,
)
from tasks.delivery.report.wording import Row, format_ppm, make_ppm, make_row
from tasks.photometry.noise import cdpp


class Metric(Row):
    """One number of the light curve, and the corresponding keyword of the operational pipeline."""

    keyword: str = ""
    header: str = ""


def metrics_rows(
    inventory: Inventory, findings: Findings, leaves: Sequence[Leaf]
) -> tuple[Metric, ...]:
    """Tabulate all metrics."""
    metrics, good = findings.metrics["DEFAULT"], findings.points.good
    share = 100 * float(good.mean()) if good.size else math.nan
    return (
        *flux_rows(findings, leaves),
        *noise_rows(findings),
        *cdpp_rows(findings),
        _with_keyword("Good points", share, "%", "VALIDPTS", metrics),
        *(Metric(**row.model_dump()) for row in lost_rows(inventory, findings)),
        *(Metric(**row.model_dump()) for row in defect_rows(leaves)),
    )


def _with_keyword(
    label: str, value: float, unit: str, keyword: str, metrics: Mapping[str, float]
) -> Metric:
    """Make a row with the value of a header keyword."""
    row = _make(label, value, unit, NO_POINTS)
    return Metric(**row.model_dump(), keyword=keyword, header=format_ppm(metrics[keyword]))


def _without_keyword(label: str, value: float, unit: str, reason: str = NO_POINTS) -> Metric:
    """Make a row without a corresponding header keyword."""
    return Metric(**_make(label, value, unit, reason).model_dump())


def _make(label: str, value: float, unit: str, reason: str) -> Row:
    """Make a row; a noise has the digits of a noise."""
    return make_ppm(label, value, reason) if unit == "ppm" else make_row(label, value, unit, reason)


def flux_rows(findings: Findings, leaves: Sequence[Leaf]) -> tuple[Metric, ...]:
    """Tabulate the flux of the target, and that of field stars in its aperture."""
    metrics, good = findings.metrics["DEFAULT"], findings.points.good
    middle = _median_flux(findings)
    unfinished = unfinished_steps(leaves, "contamination", "stars")
    values = findings.quantities["contamination"].values[good]
    ratio = 1e-6 * float(np.median(values)) if values.size and not unfinished else math.nan
    reason = f"see {unfinished} in the table of steps" if unfinished else "not measured"
    return (
        _with_keyword("Median flux", metrics["MEDIAN"], "electron/s", "MEDIAN", metrics),
        _without_keyword("Median flux per image", middle, "electron"),
        _with_keyword("Robust mean flux", metrics["ROBMEAN"], "electron/s", "ROBMEAN", metrics),
        _without_keyword("Field-star flux in the aperture", ratio * middle, "electron", reason),
        Metric(
            **make_row("Contamination (fraction)", ratio, reason=reason, style=".2g").model_dump()
        ),
    )


def _median_flux(findings: Findings) -> float:
    flux = findings.points.flux[findings.points.good]
    return float(np.median(flux)) if flux.size else math.nan


def noise_rows(findings: Findings) -> tuple[Metric, ...]:
    """Tabulate the scatter of the good points, and their formal error."""
    metrics, flux = findings.metrics["DEFAULT"], findings.points.flux[findings.points.good]
    middle = _median_flux(findings)
    factor = 1e6 / middle if middle > 0 else math.nan
    spread = factor * float(np.median(np.abs(flux - middle))) if flux.size else math.nan
    differences = factor * float(np.std(np.diff(flux))) if flux.size > 2 else math.nan
    noise, formal = metrics["P2P_PPM"], metrics["FORM_PPM"]
    return (
        _without_keyword("Photon noise of the star", photon_noise(findings.points), "ppm"),
        _with_keyword("Robust scatter", metrics["ROB_PPM"], "ppm", "ROBSTD", metrics),
        _without_keyword("MAD (median absolute deviation)", spread, "ppm"),
        _with_keyword("Robust point-to-point scatter", noise, "ppm", "MAD", metrics),
        _with_keyword(
            "Standard deviation of successive differences",
            differences,
            "ppm",
            "P2PSTD",
            metrics,
        ),
        _without_keyword("Median formal error", formal, "ppm"),
        Metric(
            **make_row(
                "Point-to-point scatter / formal error",
                noise / formal if formal > 0 else math.nan,
                reason=NO_POINTS,
                style=".2f",
            ).model_dump()
        ),
    )


def cdpp_rows(findings: Findings) -> tuple[Metric, ...]:
    """Tabulate the noise of means over some windows."""
    points = findings.points
    keywords = {0.5: "", 2.5: "", 3.0: "CDPP2_5", 6.0: "CDPP6_5", 6.5: ""}
    rows = []
    for hours, keyword in keywords.items():
        name = "30 min" if hours == 0.5 else f"{hours:g} h"
        reason = NO_POINTS if points.duration >= hours else "visit too short"
        noise = cdpp(findings.mjd[points.good], points.flux[points.good], hours)
        row = make_ppm(f"CDPP in {name}", noise, reason)
        header = format_ppm(findings.metrics["DEFAULT"][keyword]) if keyword else ""
        rows.append(Metric(**row.model_dump(), keyword=keyword, header=header))
    return tuple(rows)


def lost_rows(inventory: Inventory, findings: Findings) -> tuple[Row, ...]:
    """Tabulate the fraction of images lost to SAA, occultation and stray light."""
    points, unknown = findings.points, unknown_losses(inventory)

    def share(label: str, event: BoolArray, bit: Quality, reason: str) -> Row:
        flags = event | (points.quality & int(bit) != 0)
        value = None if reason and not flags.any() else float(flags.mean())
        return make_row(label, value, "of all images", reason, ".4f")

    return (
        share("Lost to the SAA (fraction)", points.in_saa, Quality.SAA, unknown.saa),
        share("Lost to occultation (fraction)", points.occulted, Quality.OCCULTED, ""),
        share(
            "Lost to stray light (fraction)",
            points.stray_light,
            Quality.STRAY_LIGHT,
            unknown.stray_light,
        ),
    )


def defect_rows(leaves: Sequence[Leaf]) -> tuple[Row, ...]:
    """Tabulate cosmic rays and defective pixels inside and outside the aperture R25."""
    used: Mapping[str, Scalar] = next((leaf.used for leaf in leaves if leaf.step == "defects"), {})
    unfinished = unfinished_steps(leaves, "defects")
    reason = f"see {unfinished} in the table of steps" if unfinished else "not measured in this run"
    kinds = (
        ("Cosmic rays", "CR", "ppm/pixel/s"),
        ("Hot pixels", "HOT", ""),
        ("Dead pixels", "DEAD", ""),
        ("Telegraphic pixels", "TELE", ""),
    )
    asked = [
        (f"{label} {where} the target aperture", f"{name}_{suffix}", unit)
        for label, name, unit in kinds
        for where, suffix in (("inside", "IN"), ("outside", "OUT"))
    ]
    if any(leaf.step == "imagette_hits" for leaf in leaves):
        asked.insert(2, ("Pixels whose cosmic rays only imagettes show", "CR_ADD", ""))
    rows = []
    for label, name, unit in asked:
        value = None if unfinished else used.get(name)
        number = None if value is None or isinstance(value, str) else float(value)
        rows.append(make_row(label, number, unit, reason))
    return tuple(rows)
