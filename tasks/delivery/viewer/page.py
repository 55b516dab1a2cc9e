"""The viewer: one HTML file, from disk and offline, in which every light curve of the visit can be
zoomed and taken apart.

`collect_viewer` puts everything that the page shows into JSON; it knows neither version nor date of
the publication. `write_viewer` sets the page from it. A strict Content-Security-Policy lets nothing
run but the two scripts whose digests it names; text from outside (names in headers) lies in a block
of JSON that holds no `<`, and the page shows it as text only.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from schemas.payloads import CalibratedVisit, CorrectedVisit, Inventory, MeasuredVisit, ViewerData
from schemas.settings import ViewerSettings
from tasks.delivery.report import summary
from tasks.delivery.report.findings import read_findings
from tasks.delivery.report.report import evidence
from tasks.delivery.report.verdict import verdict
from tasks.delivery.report.wording import printable
from tasks.delivery.viewer.data import flags, image_points, imagette_points
from tasks.engine.step import Leaves, step
from tasks.files import disk
from tasks.visit.images import open_images

DATA = "viewer.json"

UPLOT = "1.6.32"  # told with its digests in web/uplot/README.md

_SLOT = re.compile(r"\{\{(\w+)\}\}")


@step("viewer", version="3", payload=ViewerData, leaves=[DATA])
def collect_viewer(
    inventory: Inventory,
    calibrated: CalibratedVisit,
    corrected: CorrectedVisit,
    measured: MeasuredVisit,
    settings: ViewerSettings,
) -> Leaves:
    """Collect light curves, conditions, flags and budgets for the viewer."""
    leaves = [*calibrated.leaves(), *corrected.leaves(), *measured.leaves()]
    with open_images(corrected.subarray.products["SCI_COR_SubArray"]) as images:
        found = read_findings(calibrated, corrected, measured, images)
        run = summary.run_table(inventory, images)
        metrics = found.metrics["DEFAULT"]
        numbers = summary.key_numbers(inventory, metrics, found.points, leaves, images)
    sets = [image_points(found, measured, settings.points)]
    if measured.imagettes is not None:
        sets.append(imagette_points(measured.imagettes.product, settings.points))
    shown = {
        "visit": inventory.visit,
        "verdict": verdict(evidence(found.points, metrics, leaves)).model_dump(mode="json"),
        "run": [row.model_dump(mode="json") for row in run],
        "metrics": [row.model_dump(mode="json") for row in numbers],
        "flags": flags(),
        "sets": sets,
    }
    return Leaves(blobs={DATA: as_json(shown)})


def as_json(value: Any) -> bytes:
    """Return JSON in ASCII that may stand in an element of HTML: no character in it can end the
    element or begin a comment.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("ascii")


def write_viewer(data: Path, facts: Mapping[str, Any], target: Path) -> None:
    """Write the page.

    Parameters
    ----------
    data : Path
        Folder with what `collect_viewer` left.
    facts : mapping
        What only the publication knows: ``version`` such as V0000, ``date`` (UTC), ``software``,
        ``folder``.
    target : Path
        The HTML file; it appears whole or not at all.

    Raises
    ------
    StorageError
        If reading or writing fails.
    """
    told = {
        name: printable(facts.get(name, "–")) for name in ("version", "date", "software", "folder")
    }
    disk.write_file(target, make_page(disk.read_bytes(data / DATA, limit=256 << 20), told))


def make_page(data: bytes, told: Mapping[str, str]) -> bytes:
    """Return the page as HTML: styles, scripts and data inline, nothing of it fetched from
    anywhere.
    """
    styles = [asset("uplot/uPlot.min.css"), asset("viewer.css")]
    licence = f"/* uPlot {UPLOT}\n\n{asset('uplot/LICENSE').strip()} */\n"
    scripts = [licence + asset("uplot/uPlot.iife.min.js"), asset("viewer.js")]
    policy = {
        "default-src": "'none'",
        "script-src": " ".join(map(source, scripts)),
        "style-src": " ".join(map(source, styles)),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    slots = {
        "policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "title": html.escape(f"{told['folder']}: light curves"),
        "styles": "\n".join(f"<style>{style}</style>" for style in styles),
        "facts": as_json(told).decode("ascii"),
        "data": data.decode("ascii"),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    return _SLOT.sub(lambda slot: slots[slot[1]], asset("viewer.html")).encode()


def asset(name: str) -> str:
    """Return a file of the page."""
    return files("tasks.delivery.viewer").joinpath("web", name).read_text("utf-8")


def source(text: str) -> str:
    """Return how a Content-Security-Policy names an inline style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
