"""The end of a reduction in some lines: verdict, reasons, noise, and the pages to open."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.runs.reduction import Reduction
from schemas.payloads import Payload
from tasks.delivery.report.report import DATA
from tasks.delivery.report.summary import FILTERED
from tasks.files import disk

# key numbers of the report
NOISE = (
    "Point-to-point scatter",
    "Median formal error",
    "Robust scatter",
    FILTERED,
    "CDPP in 3 h",
)


class Noise(Payload):
    """A key number of the light curve, None with a reason if it is unknown."""

    label: str
    value: float | None
    shown: str
    unit: str
    reason: str


@dataclass(frozen=True)
class Summary:
    """The outcome of a reduction: verdict, reasons, key noise figures, and paths of the pages.

    `magnitude` is that in Gaia's G, `photon_limit` the photon noise of the star in an image [ppm].
    """

    verdict: str
    reasons: tuple[str, ...]
    noise: tuple[Noise, ...]
    report: str
    viewer: str
    magnitude: float | None
    photon_limit: float | None

    def lines(self) -> list[str]:
        """Return the summary as text."""
        floor = self.photon_limit
        measured = next((n.value for n in self.noise if n.label == NOISE[0]), None)
        against = (
            [
                f"  noise {measured:.0f} ppm per image, {measured / floor:.2f} times the photon "
                f"noise of the star ({floor:.0f} ppm)"
            ]
            if measured is not None and floor is not None
            else []
        )
        known = [f"{n.label} {n.shown} {n.unit}".rstrip() for n in self.noise if not n.reason]
        unknown = [f"{n.label} unknown ({n.reason})" for n in self.noise if n.reason]
        return [
            f"the light curve is {self.verdict}",
            *(f"  - {reason}" for reason in self.reasons),
            *against,
            *(f"  {text}" for text in (*known, *unknown)),
            f"report: {self.report}",
            f"viewer: {self.viewer}",
        ]


def summarize(reduction: Reduction) -> Summary | None:
    """Return the summary of a reduction, or None if it did not publish."""
    published, run = reduction
    if published is None or not published.folder:
        return None
    leaf = next(r.leaf for r in reversed(run.reports) if DATA in r.leaf.products)
    data = json.loads(disk.read_bytes(Path(leaf.products[DATA].path), limit=64 << 20))
    numbers = {number["label"]: number for number in data["metrics"]}
    fields = Noise.model_fields
    noise = (Noise(**{k: numbers[label][k] for k in fields}) for label in NOISE)
    files = disk.entries(Path(published.folder))
    pages = ([p for p in files if p.match(f"*_RPT_*.{end}")] for end in ("pdf", "html"))
    report, viewer = (str(found[0]) if found else "" for found in pages)
    verdict = data["verdict"]
    flux = _number(data["whole_metrics"], "Median flux per image")
    return Summary(
        verdict["word"],
        tuple(verdict["reasons"]),
        tuple(noise),
        report,
        viewer,
        magnitude=_number(data["run"], "G magnitude"),
        photon_limit=1e6 / math.sqrt(flux) if flux is not None and flux > 0 else None,
    )


def _number(rows: Sequence[Mapping[str, Any]], label: str) -> float | None:
    """Return the value of the row with a label, or None without such a row or a number in it."""
    value = next((row["value"] for row in rows if row["label"] == label), None)
    return float(value) if isinstance(value, int | float) else None
