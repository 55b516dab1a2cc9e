"""Visits and references changed in one place, and questions to the outcome."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from schemas.flags import Quality
from tests.support.faults import (
    Bench,
    Outcome,
    Part,
    edited,
    put_together,
    take_apart,
)
from tests.support.runs import Bench as Reduced

SUBARRAY, METADATA = "SCI_RAW_SubArray", "SCI_RAW_ImageMetadata"


BAD = 4  # the image that is damaged, of 12


MARGINS = tuple(
    f"SCI_RAW_{m}" for m in ("BlankLeft", "BlankRight", "DarkLeft", "DarkRight", "OverscanLeft")
)


HIT = [1, 2, 3, 6, 10]  # images of the tiny visit with a cosmic ray within 25 pixels of the target


def know_steps(bench: Bench, reduced: Reduced) -> None:
    """Put every step of the undamaged visit into the work folder of a bench.

    Products are copies: another link to a file that a step reads is a change of that file.
    """
    for folder in ("records", "products"):
        shutil.copytree(reduced.work / folder, bench.work / folder)


def manifest(outcome: Outcome) -> dict[str, Any]:
    """Return the manifest of what was published."""
    return dict(json.loads((outcome.folder / "manifest.json").read_text()))


def flagged(rows: Any, bit: Quality) -> list[int]:
    """Return the images with a bit of QUALITY."""
    return np.flatnonzero(rows["QUALITY"] & int(bit)).tolist()


def alike(rows: Any, sound: Any, but: list[int]) -> None:
    """Assert that the other images have the flux that they have in the undamaged visit."""
    others = np.setdiff1d(np.arange(len(rows["FLUX"])), but)
    # the damaged image is missing from the means over the visit (bias level, place of the ring,
    # PSF), which moves these by less than a sixth of the error of a flux (200 ppm); where a cosmic
    # ray fell within the aperture, pixels at the limit of 2.5 sigma are judged otherwise by another
    # PSF, which may move the flux by its error
    whole = np.setdiff1d(others, HIT)
    assert np.allclose(rows["FLUX"][whole], sound["FLUX"][whole], rtol=3e-5, atol=0)
    assert np.allclose(rows["FLUX"][others], sound["FLUX"][others], rtol=2e-4, atol=0)


def change_pixels(bench: Bench, change: Callable[[Any], Any], *extnames: str) -> None:
    """Change the images of some HDUs of the raw sub-array."""
    path = bench.raw(SUBARRAY)
    parts = take_apart(path)
    for part in parts:
        if part.extname in extnames:
            part.pixels = change(part.pixels.copy())
    put_together(path, parts)


def change_rows(path: Path, extname: str, change: Callable[[Any], Any]) -> None:
    """Change the rows of a table."""
    with edited(path, extname) as part:
        table = part.rows
        part.rows = table if (changed := change(table)) is None else changed


def postpone(rows: Any, from_row: int, days: int) -> None:
    """Shift all times of a table's rows, from one row on."""
    rows["MJD_TIME"][from_row:] += days
    rows["OBT_TIME"][from_row:] += days * 86_400 * 65_536
    utc = np.char.decode(rows["UTC_TIME"][from_row:]).astype("datetime64[us]")
    rows["UTC_TIME"][from_row:] = np.char.encode(
        np.datetime_as_string(utc + np.timedelta64(days, "D"))
    )


def one(value: float, image: int = BAD) -> Callable[[Any], Any]:
    """Return a change that fills one image with a value."""

    def change(pixels: Any) -> Any:
        pixels[image] = value
        return pixels

    return change


def report_of(bench: Bench, outcome: Outcome, visit: str = "PR900001_TG000101") -> str:
    """Return the text of the report in the work folder; assert that the ERROR line points to it."""
    text = bench.work / "reports" / f"{visit}.txt"
    assert outcome.error.endswith(f"; report: {text}; as PDF: {text.with_suffix('.pdf')}"), (
        outcome.error
    )
    assert text.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    return text.read_text()


def pdf_of(bench: Bench, visit: str = "PR900001_TG000101") -> tuple[str, dict[str, str]]:
    """Return the text of the report's PDF, white space normalised, and the output of `pdfinfo`."""
    path = bench.work / "reports" / f"{visit}.pdf"
    text, facts = (
        subprocess.run([*command, path, *more], capture_output=True, text=True, check=True).stdout
        for command, more in ((["pdftotext", "-layout"], ["-"]), (["pdfinfo"], []))
    )
    return " ".join(text.split()), {
        k: v.strip() for k, _, v in (line.partition(":") for line in facts.splitlines())
    }


def check_report(bench: Bench, outcome: Outcome, step: str, *words: str) -> None:
    """Assert the content of the report on a visit without science data."""
    text = report_of(bench, outcome)
    for word in ("no usable science data", f"step {step}", "What to do", *words):
        assert word in text, text


def no_star(pixels: Any, images: slice = slice(None)) -> Any:
    """Fill the place of the target with sky taken from further out."""
    rng = np.random.default_rng(1)
    y, x = np.indices(pixels.shape[1:]) - 99.5
    near, ring = np.hypot(x, y) < 60, (np.hypot(x, y) > 70) & (np.hypot(x, y) < 95)
    for image in pixels[images]:
        sky = np.sort(image[ring])
        image[near] = rng.choice(sky[: int(0.9 * sky.size)], near.sum())
    return pixels


def spoil(part: Part, column: str | None, value: float) -> None:
    """Put a value into all planes of an image, or into the first row of a column."""
    if column is None:
        pixels = part.pixels
        pixels[:, 500, 0 if pixels.shape[2] < 1024 else 500] = value
        part.pixels = pixels
    else:
        table = part.rows
        table[column][0] = value
        part.rows = table
