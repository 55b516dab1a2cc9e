"""The viewer: a self-contained HTML page to browse every light curve of a visit offline.

`collect_viewer` collects the data of the page as JSON; it knows neither the version nor the date of
the publication. `write_viewer` builds the page from it. A strict Content-Security-Policy allows
only the two scripts whose digests it lists. Text from outside, such as names in headers, is
confined to a JSON block without `<`, and the page inserts it as text only.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from schemas.payloads import CalibratedVisit, CorrectedVisit, Inventory, MeasuredVisit, ViewerData
from schemas.settings import ViewerSettings
from tasks.delivery.report import summary
from tasks.delivery.report.findings import read_findings
from tasks.delivery.report.report import evidence
from tasks.delivery.report.verdict import verdict
from tasks.delivery.report.wording import Row, printable
from tasks.delivery.viewer.data import flags, image_points, imagette_points
from tasks.engine.step import Leaves, step
from tasks.files import disk
from tasks.visit.images import Images, open_images

DATA = "viewer.json"

UPLOT = "1.6.32"  # see web/uplot/README.md

# labels of the key numbers that have a tile
TILES = (
    "Median flux",
    "Photon noise of the star",
    "Point-to-point scatter",
    "Median formal error",
    "CDPP in 3 h",
    "Contamination within 25 pixels",
)

_SLOT = re.compile(r"\{\{(\w+)\}\}")


@step("viewer", version="8", payload=ViewerData, leaves=[DATA])
def collect_viewer(
    inventory: Inventory,
    calibrated: CalibratedVisit,
    corrected: CorrectedVisit,
    measured: MeasuredVisit,
    settings: ViewerSettings,
) -> Leaves:
    """Collect the light curves, conditions, flags and budgets that the viewer shows."""
    leaves = [*calibrated.leaves(), *corrected.leaves(), *measured.leaves()]
    with open_images(corrected.subarray.products["SCI_COR_SubArray"]) as images:
        findings = read_findings(calibrated, corrected, measured, images)
        run = summary.run_table(inventory, images)
        metrics = findings.metrics["DEFAULT"]
        heading = heading_of(run, images)
        numbers = summary.key_numbers(inventory, metrics, findings.points, leaves, images)
    sets = [image_points(findings, measured, settings.points)]
    if measured.imagettes is not None:
        sets.append(imagette_points(measured.imagettes.product, settings.points))
    page = {
        "visit": inventory.visit,
        "heading": heading,
        "tiles": TILES,
        "verdict": verdict(evidence(findings.points, metrics, leaves)).model_dump(mode="json"),
        "run": [row.model_dump(mode="json") for row in run],
        "metrics": [row.model_dump(mode="json") for row in numbers],
        "flags": flags(),
        "sets": sets,
    }
    return Leaves(blobs={DATA: as_json(page)})


def heading_of(run: Iterable[Row], images: Images) -> dict[str, Any]:
    """Return the facts in the heading of the page: target, period and exposures."""
    by_label = {row.label: row.shown for row in run}
    return {
        "target": by_label["Target name"],
        "start": by_label["Data start (UTC)"],
        "stop": by_label["Data stop (UTC)"],
        "images": images.count,
        "exposures": f"{images.nexp} × {images.exposure_time:g} s",
    }


def as_json(value: Any) -> bytes:
    """Return ASCII JSON that is safe inside an HTML element: it holds no <, > or &."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("ascii")


def write_viewer(data: Path, facts: Mapping[str, Any], target: Path) -> None:
    """Write the viewer.

    Parameters
    ----------
    data : Path
        Folder with the output of `collect_viewer`.
    facts : mapping
        Facts of the publication: ``version`` such as V0000, ``date`` (UTC), ``software`` and
        ``folder``.
    target : Path
        The HTML file, written atomically.

    Raises
    ------
    StorageError
        If reading or writing fails.
    MissingInputError
        If there are no data.
    """
    names = ("version", "date", "software", "folder")
    printed = {name: printable(facts.get(name, "–")) for name in names}
    disk.write_file(target, make_page(disk.read_bytes(data / DATA, limit=256 << 20), printed))


def make_page(data: bytes, facts: Mapping[str, str]) -> bytes:
    """Return the page as HTML, with all styles, scripts and data inline."""
    styles = [asset("uplot/uPlot.min.css"), asset("viewer.css")]
    licence = f"/* uPlot {UPLOT}\n\n{asset('uplot/LICENSE').strip()} */\n"
    scripts = [licence + asset("uplot/uPlot.iife.min.js"), asset("viewer.js")]
    policy = {
        "default-src": "'none'",
        "script-src": " ".join(map(csp_source, scripts)),
        "style-src": " ".join(map(csp_source, styles)),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    slots = {
        "policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "title": html.escape(f"{facts['folder']}: light curves"),
        "styles": "\n".join(f"<style>{style}</style>" for style in styles),
        "facts": as_json(facts).decode("ascii"),
        "data": data.decode("ascii"),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    return _SLOT.sub(lambda slot: slots[slot[1]], asset("viewer.html")).encode()


def asset(name: str) -> str:
    """Return the text of a file in the folder web."""
    return files("tasks.delivery.viewer").joinpath("web", name).read_text("utf-8")


def csp_source(text: str) -> str:
    """Return the Content-Security-Policy source of an inline style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
